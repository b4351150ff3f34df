package inventory_test

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/pki"
)

// A page token is of one filter: whatever differs, the next page of one list is none of the other. Only Now moves from page to page.
func TestAPageTokenIsOfItsFilter(t *testing.T) {
	issuer, position := pki.IssuerID{1, 2}, pki.Position{Epoch: 7, Index: 1 << 33}
	all := inventory.Filter{Name: "a", OfSubject: true, NameSuffix: "b", Serial: pki.Serial{1}, KeyHash: pki.KeyHash{2}, Issuer: pki.IssuerID{3}, Profile: "c", Account: "d", NotAccount: "e",
		Status: inventory.StatusRevoked, Now: time.Unix(1, 0), ExpiresFrom: time.Unix(2, 0), ExpiresUntil: time.Unix(3, 0), IssuedFrom: time.Unix(4, 0), IssuedUntil: time.Unix(5, 0)}
	cursor := inventory.Cursor{Micros: -1, Seq: 1 << 63, Name: "moc.elpmaxe", Kind: pki.Email}
	token := all.At(cursor, issuer, position)
	for field := range reflect.TypeFor[inventory.Filter]().Fields() {
		other := all
		changed := reflect.ValueOf(&other).Elem().FieldByName(field.Name)
		if changed.IsZero() {
			t.Fatalf("the test does not set %s", field.Name)
		}
		changed.SetZero()
		c, at, ok, err := other.From(token)
		if field.Name == "Now" {
			want := cursor
			want.Issuer, want.Epoch, want.Index = issuer.String(), position.Epoch, position.Index
			if err != nil || !ok || c != want || at != issuer {
				t.Errorf("a later page: %+v of %s, %t, %v", c, at, ok, err)
			}
			continue
		}
		if e, is := err.(*pki.Error); !is || e.Kind != pki.KindInvalid || e.Field != "page_token" || ok {
			t.Errorf("without %s: %v", field.Name, err)
		}
	}
	if _, _, ok, err := all.From(""); ok || err != nil {
		t.Errorf("the first page: %t, %v", ok, err)
	}
}

// What is no page token is refused, and not looked at further than one can be long.
func TestNoPageToken(t *testing.T) {
	f := inventory.Filter{Profile: "server"}
	text, err := base64.RawURLEncoding.DecodeString(f.At(inventory.Cursor{Seq: 1}, pki.IssuerID{0xab}, pki.Position{}))
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		text string
		good bool
	}{
		"as it was":        {string(text), true},
		"with blanks":      {string(text) + strings.Repeat(" ", 2048-len(text)), true},
		"too long":         {string(text) + strings.Repeat(" ", 2049-len(text)), false},
		"no JSON":          {string(text[1:]), false},
		"no issuer":        {strings.Replace(string(text), `"i":"ab`, `"i":"xx`, 1), false},
		"of other numbers": {strings.Replace(string(text), `"s":1`, `"s":-1`, 1), false},
	} {
		_, _, ok, err := f.From(base64.RawURLEncoding.EncodeToString([]byte(test.text)))
		if ok != test.good || (pki.KindOf(err) == pki.KindInvalid && err != nil) == test.good {
			t.Errorf("%s: %t, %v", what, ok, err)
		}
	}
}

// What is asked for decides which index leads, the most selective first: with the books of a million certificates, another one is a scan.
func TestTheNarrowestIndexLeads(t *testing.T) {
	at := time.Unix(1, 0)
	everything := inventory.Filter{Serial: pki.Serial{1}, Name: "a", KeyHash: pki.KeyHash{1}, Status: inventory.StatusRevoked, ExpiresFrom: at, Issuer: pki.IssuerID{1}}
	for _, test := range []struct {
		drop  func(*inventory.Filter) // from what was asked for in the row above
		order inventory.Order
	}{
		{func(*inventory.Filter) {}, inventory.BySerial},
		{func(f *inventory.Filter) { f.Serial = pki.Serial{} }, inventory.ByName},
		{func(f *inventory.Filter) { f.Name, f.NameSuffix = "", "a" }, inventory.ByName},
		{func(f *inventory.Filter) { f.NameSuffix = "" }, inventory.ByIssuance},
		{func(f *inventory.Filter) { f.KeyHash = pki.KeyHash{} }, inventory.ByLedger},
		{func(f *inventory.Filter) { f.Status = inventory.StatusExpired }, inventory.ByExpiry},
		{func(f *inventory.Filter) { f.ExpiresFrom = time.Time{} }, inventory.ByExpiry},
		{func(f *inventory.Filter) { f.Status, f.ExpiresUntil = inventory.StatusValid, at }, inventory.ByExpiry},
		{func(f *inventory.Filter) { f.ExpiresUntil = time.Time{} }, inventory.ByPosition},
		{func(f *inventory.Filter) { f.Issuer = pki.IssuerID{} }, inventory.ByIssuance},
	} {
		if test.drop(&everything); everything.Order() != test.order {
			t.Errorf("%+v: order %d, want %d", everything, everything.Order(), test.order)
		}
	}
	for field, f := range map[string]inventory.Filter{"profile": {Profile: "a"}, "account": {Account: "a"}, "issued from": {IssuedFrom: at}, "issued to": {IssuedUntil: at}} {
		if f.Issuer = (pki.IssuerID{1}); f.Order() != inventory.ByIssuance { // the latest of these, not the last to end
			t.Errorf("of an issuer, by %s: order %d", field, f.Order())
		}
	}
}
