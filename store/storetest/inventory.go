package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// testInventory holds a store to ca.Inventory: whatever is asked for, the pages of a list, put together, are what a
// plain loop over everything finds.
func testInventory(t *testing.T, open func(t *testing.T) store.Store) {
	b := newBooks(t, open(t))
	all := fillInventory(b)

	t.Run("every filter, in pages of every size", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, uint64(len(all))))
		for range 150 {
			f := randomFilter(b, random, all)
			want := make(map[pki.Serial]bool)
			for _, c := range all {
				if c.selectedBy(f) {
					want[c.Serial] = true
				}
			}
			found := listAll(t, b.s, f, 1+random.IntN(7))
			seen := make(map[pki.Serial]bool)
			for _, c := range found {
				if seen[c.Serial] || !want[c.Serial] {
					t.Errorf("%+v: %s listed twice, or against the filter", f, c.Subject)
				}
				seen[c.Serial] = true
			}
			if len(seen) != len(want) {
				t.Errorf("%+v: %d of %d listed", f, len(seen), len(want))
			}
			checkOrder(t, f, found)
			if count, err := b.s.CountCertificates(t.Context(), f); err != nil || !count.Exact || count.N != int64(len(want)) {
				t.Errorf("%+v: count %+v, %v; want %d", f, count, err, len(want))
			}
		}
	})

	t.Run("a page token belongs to its filter", func(t *testing.T) {
		page, err := b.s.ListCertificates(t.Context(), inventory.Filter{}, "", 1)
		if err != nil || page.Next == "" {
			t.Fatalf("first page: %+v, %v", page, err)
		}
		for _, attempt := range []struct {
			filter inventory.Filter
			token  string
		}{{inventory.Filter{Profile: "server"}, page.Next}, {inventory.Filter{}, "nonsense"}, {inventory.Filter{}, "!"}} {
			_, err := b.s.ListCertificates(t.Context(), attempt.filter, attempt.token, 1)
			if e, ok := err.(*pki.Error); !ok || e.Kind != pki.KindInvalid || e.Field != "page_token" {
				t.Errorf("token %q for %+v: %v", attempt.token, attempt.filter, err)
			}
		}
	})

	t.Run("a list that grows loses nothing", func(t *testing.T) {
		first, err := b.s.ListCertificates(t.Context(), inventory.Filter{}, "", 5)
		if err != nil {
			t.Fatal(err)
		}
		r := b.reserve(9, 16, time.Minute)
		late := b.entry(r, r.From)
		late.IssuedAt = b.at.Add(time.Hour)
		b.record(9, late)
		seen := len(first.Certificates)
		for next := first.Next; next != ""; {
			page, err := b.s.ListCertificates(t.Context(), inventory.Filter{}, next, 5)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page.Certificates {
				if c.Serial == late.Serial {
					t.Error("what is newer than the first page came behind it")
				}
			}
			seen, next = seen+len(page.Certificates), page.Next
		}
		if seen != len(all) {
			t.Errorf("%d listed, want %d", seen, len(all))
		}
	})

	t.Run("get asks for the serial too", func(t *testing.T) {
		c := all[0]
		forged := c.Serial
		forged[19] ^= 1
		if _, err := b.s.GetCertificate(t.Context(), c.Issuer, forged, c.Position); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("a forged serial with a good position: %v", err)
		}
		if got, err := b.s.GetCertificate(t.Context(), c.Issuer, c.Serial, c.Position); err != nil || got.Subject != c.Subject {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// stocked is a certificate with what the model knows of it.
type stocked struct {
	ca.Entry
	revoked bool
}

// fillInventory records certificates that differ in everything that can be asked for, and revokes some.
func fillInventory(b *books) (all []stocked) {
	b.t.Helper()
	const count = 48
	r := b.reserve(1, count, time.Hour)
	var entries []ca.Entry
	for i := range uint64(count) {
		e := b.entry(r, i)
		e.Profile = []string{"server", "client", "email"}[i%3]
		e.Account = []string{"web", "mail"}[i/2%2]
		e.Subject = fmt.Sprintf("CN=%d", i)
		e.KeyHash = pki.KeyHash{3, byte(i / 4)}
		e.IssuedAt = b.at.Add(time.Duration(i/5) * time.Minute)
		e.NotAfter = b.at.Add(time.Duration(i*7%count) * time.Hour)
		if i%2 == 0 {
			e.Names = append(e.Names, inventory.Name{Type: pki.DNS, Value: fmt.Sprintf("m%d.example.com", i%5)}, inventory.Name{Type: pki.Email, Value: "ops@example.com"})
			if i%3 == 0 { // a common name, which can be another's name
				e.Names = append(e.Names, inventory.Name{Value: fmt.Sprintf("m%d.example.com", i%4)})
			}
			e.DER = certificateWith(b.t, e.Names)
		}
		entries = append(entries, e)
	}
	for _, outcome := range b.record(1, entries...) {
		if outcome != ca.Recorded {
			b.t.Fatalf("outcome %v", outcome)
		}
	}
	for i, e := range entries {
		all = append(all, stocked{e, i%4 == 1})
	}
	for i, c := range all {
		if !c.revoked {
			continue
		}
		steps := []revocation.Kind{revocation.KindRevoke}
		if i%8 == 1 {
			steps = []revocation.Kind{revocation.KindHold, revocation.KindRelease}
			all[i].revoked = false
		}
		var last uint64
		for _, kind := range steps {
			seq, err := b.s.AppendLedger(b.t.Context(), 0, []revocation.NewEntry{{Expected: last, Entry: revocation.Entry{
				Issuer: c.Issuer, Serial: c.Serial, Position: c.Position, Kind: kind, RevokedAt: b.at, Actor: "token:web",
			}}}, []audit.Event{c.Event})
			if err != nil {
				b.t.Fatal(err)
			}
			last = seq
		}
	}
	return all
}

// randomFilter makes a filter of the values that exist, and some that do not.
func randomFilter(b *books, random *rand.Rand, all []stocked) inventory.Filter {
	some := all[random.IntN(len(all))]
	f := inventory.Filter{Now: b.at.Add(20 * time.Hour)}
	one := func(n int) bool { return random.IntN(n) == 0 }
	switch random.IntN(6) {
	case 0:
		f.Name, f.OfSubject = some.Names[random.IntN(len(some.Names))].Value, one(2)
	case 1:
		f.NameSuffix = []string{"example.com", "m1.example.com", "@example.com", "xample.com", "com"}[random.IntN(5)]
	case 2:
		f.Serial = some.Serial
	case 3:
		f.KeyHash = some.KeyHash
	}
	if one(3) {
		f.Issuer = some.Issuer
	}
	if one(3) {
		f.Profile = some.Profile
	}
	if one(3) {
		f.Account = some.Account
	}
	if one(5) {
		f.NotAccount = some.Account
	}
	if one(2) {
		f.Status = inventory.CertificateStatus(random.IntN(4))
	}
	if one(4) {
		f.ExpiresFrom, f.ExpiresUntil = some.NotAfter.Add(-5*time.Hour), some.NotAfter.Add(time.Hour)
	}
	if one(4) {
		f.IssuedFrom = some.IssuedAt
	}
	if one(6) {
		f.IssuedUntil = some.IssuedAt.Add(time.Minute)
	}
	return f
}

// selectedBy is the filter in plain words.
func (c stocked) selectedBy(f inventory.Filter) bool {
	named := f.Name == "" && f.NameSuffix == ""
	for _, name := range c.Names {
		switch {
		case f.Name != "":
			named = named || name.Value == f.Name && (name.Type == 0 || !f.OfSubject)
		case strings.HasPrefix(f.NameSuffix, "@"):
			named = named || strings.HasSuffix(name.Value, f.NameSuffix)
		case f.NameSuffix != "":
			named = named || name.Value == f.NameSuffix || strings.HasSuffix(name.Value, "."+f.NameSuffix)
		}
	}
	status := true
	switch f.Status {
	case inventory.StatusValid:
		status = !c.NotAfter.Before(f.Now) && !c.revoked
	case inventory.StatusRevoked:
		status = c.revoked
	case inventory.StatusExpired:
		status = c.NotAfter.Before(f.Now)
	}
	return named && status &&
		(f.Serial == pki.Serial{} || f.Serial == c.Serial) && (f.KeyHash == pki.KeyHash{} || f.KeyHash == c.KeyHash) &&
		(f.Issuer.IsZero() || f.Issuer == c.Issuer) && (f.Profile == "" || f.Profile == c.Profile) && (f.Account == "" || f.Account == c.Account) && (f.NotAccount == "" || f.NotAccount != c.Account) &&
		(f.ExpiresFrom.IsZero() || !c.NotAfter.Before(f.ExpiresFrom)) && (f.ExpiresUntil.IsZero() || c.NotAfter.Before(f.ExpiresUntil)) &&
		(f.IssuedFrom.IsZero() || !c.IssuedAt.Before(f.IssuedFrom)) && (f.IssuedUntil.IsZero() || c.IssuedAt.Before(f.IssuedUntil))
}

func listAll(t *testing.T, s store.Store, f inventory.Filter, size int) (all []inventory.Certificate) {
	t.Helper()
	for next, pages := "", 0; ; pages++ {
		page, err := s.ListCertificates(t.Context(), f, next, size)
		if err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
		if all = append(all, page.Certificates...); page.Next == "" {
			return all
		}
		if next = page.Next; pages > 1000 {
			t.Fatalf("%+v: the list does not end", f)
		}
	}
}

// checkOrder checks the orders that a caller can see.
func checkOrder(t *testing.T, f inventory.Filter, found []inventory.Certificate) {
	t.Helper()
	sorted := true
	switch f.Order() {
	case inventory.ByIssuance:
		sorted = slices.IsSortedFunc(found, func(x, y inventory.Certificate) int { return y.IssuedAt.Compare(x.IssuedAt) })
	case inventory.ByExpiry:
		sorted = slices.IsSortedFunc(found, func(x, y inventory.Certificate) int { return x.NotAfter.Compare(y.NotAfter) })
	case inventory.ByPosition:
		sorted = slices.IsSortedFunc(found, func(x, y inventory.Certificate) int { return int(y.Position.Index) - int(x.Position.Index) })
	}
	if !sorted {
		t.Errorf("%+v: out of order", f)
	}
}
