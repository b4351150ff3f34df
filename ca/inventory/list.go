package inventory

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"signet.example/signet/pki"
)

// Order is the order of a list, which determines the index that a database uses. It depends on the filter alone, so
// that all pages of one list have the same order.
type Order uint8

// The orders. Ties are broken by issuer, epoch and index.
const (
	ByIssuance Order = iota // newest first
	BySerial                // the few certificates that can have one serial
	ByName                  // by reversed name, so that names below a domain are adjacent
	ByLedger                // the last to be revoked first
	ByExpiry                // the first to expire first
	ByPosition              // of one issuer: the last week of expiry first
)

// Order returns the order of the list that the filter selects.
func (f Filter) Order() Order {
	switch {
	case f.Serial != pki.Serial{}:
		return BySerial
	case f.Name != "" || f.NameSuffix != "":
		return ByName
	case f.KeyHash != pki.KeyHash{}:
		return ByIssuance
	case f.Status == StatusRevoked:
		return ByLedger
	case !f.ExpiresFrom.IsZero() || !f.ExpiresUntil.IsZero() || f.Status == StatusExpired:
		return ByExpiry
	case !f.Issuer.IsZero() && f.Profile == "" && f.Account == "" && f.IssuedFrom.IsZero() && f.IssuedUntil.IsZero():
		return ByPosition
	}
	return ByIssuance
}

// Cursor is the position where a page ended: the sort key of the last certificate that was considered.
type Cursor struct {
	Micros int64              `json:"t,omitempty"` // of ByIssuance and ByExpiry: Unix microseconds
	Seq    uint64             `json:"s,omitempty"` // of ByLedger
	Name   string             `json:"n,omitempty"` // of ByName: reversed
	Kind   pki.IdentifierType `json:"k,omitempty"` // of ByName
	Issuer string             `json:"i,omitempty"` // hexadecimal
	Epoch  pki.Epoch          `json:"e,omitempty"`
	Index  uint64             `json:"x,omitempty"`
}

type sealedCursor struct {
	Cursor
	Filter string `json:"f"`
}

// At returns a page token for this filter: the cursor, completed with the issuer and position of its certificate.
func (f Filter) At(c Cursor, issuer pki.IssuerID, p pki.Position) string {
	c.Issuer, c.Epoch, c.Index = issuer.String(), p.Epoch, p.Index
	text, err := json.Marshal(sealedCursor{c, f.digest()})
	if err != nil {
		panic("inventory: a cursor of strings and numbers always encodes: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// From reads a page token. ok is false if the token is empty, which means the first page. A token of another filter,
// or one that At did not make, is an error of KindInvalid.
func (f Filter) From(token string) (c Cursor, issuer pki.IssuerID, ok bool, err error) {
	if token == "" {
		return Cursor{}, pki.IssuerID{}, false, nil
	}
	fail := func(format string, args ...any) (Cursor, pki.IssuerID, bool, error) {
		return Cursor{}, pki.IssuerID{}, false, pki.Errorf(pki.KindInvalid, "list certificates", format, args...).InField("page_token").
			WithHint("begin again without a page token")
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	var sealed sealedCursor
	if err != nil || len(text) > 2048 || json.Unmarshal(text, &sealed) != nil {
		return fail("this is no page token")
	}
	if sealed.Filter != f.digest() {
		return fail("the page token belongs to a list with another filter")
	}
	if issuer, err = pki.ParseIssuerID(sealed.Issuer); err != nil {
		return fail("this is no page token")
	}
	return sealed.Cursor, issuer, true, nil
}

// digest distinguishes filters. It leaves out Now, which changes from page to page.
func (f Filter) digest() string {
	text := fmt.Sprintf("%q %t %q %s %s %s %q %q %q %d",
		f.Name, f.OfSubject, f.NameSuffix, f.Serial, f.KeyHash, f.Issuer, f.Profile, f.Account, f.NotAccount, f.Status)
	for _, t := range []int64{f.ExpiresFrom.UnixMicro(), f.ExpiresUntil.UnixMicro(), f.IssuedFrom.UnixMicro(), f.IssuedUntil.UnixMicro()} {
		text += fmt.Sprintf(" %d", t)
	}
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}

// NameRange returns bounds of the reversed names that the filter selects: from <= name < to.
func (f Filter) NameRange() (from, to string) {
	if f.Name != "" {
		from = ReversedName(f.Name)
		return from, from + "\x01"
	}
	from = ReversedName(f.NameSuffix)
	return from, from + "\x7f" // all names are ASCII, except common names, but those of a domain are ASCII too
}

// matchesName reports whether the filter selects a certificate for this reversed name, of any kind. Among equal names,
// a common name comes first.
func (f Filter) matchesName(reversed string) bool {
	if f.Name != "" {
		return reversed == ReversedName(f.Name)
	}
	rest, ok := strings.CutPrefix(reversed, ReversedName(f.NameSuffix))
	// "@example.com" selects mailboxes, "example.com" that name and the names below it.
	return ok && (rest == "" || rest[0] == '.' || strings.HasPrefix(f.NameSuffix, "@"))
}

// isFirst reports whether a reversed name is the first, in the order of the list, of the names that the filter selects
// in a certificate. A certificate is in the index once for each of its names, but in a list only once.
func (f Filter) isFirst(reversed string, kind pki.IdentifierType, der []byte) bool {
	names, err := NamesOf(der)
	if err != nil {
		return true
	}
	return !slices.ContainsFunc(names, func(n Name) bool {
		other := ReversedName(n.Value)
		return f.matchesName(other) && (other < reversed || other == reversed && n.Type < kind)
	})
}

// NamesOf returns the names by which a certificate can be found: its subjectAltNames, and its common name with type
// zero.
func NamesOf(der []byte) ([]Name, error) {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	var names []Name
	if cn := certificate.Subject.CommonName; cn != "" {
		names = append(names, Name{Value: cn})
	}
	for t, value := range pki.CertificateNames(certificate) {
		names = append(names, Name{Type: t, Value: value})
	}
	return names, nil
}

// ReversedName returns the form in which names are indexed: lower case, with the characters in reverse order.
func ReversedName(name string) string {
	runes := []rune(strings.ToLower(name))
	slices.Reverse(runes)
	return string(runes)
}

// Listed is a row of a list: a certificate with its sort key.
type Listed struct {
	Certificate
	Seq  uint64             // of ByLedger
	Name string             // of ByName: reversed
	Kind pki.IdentifierType // of ByName
}

// Cut returns a page of the first limit rows that a database found. The database must have looked for limit + 1: if it
// found that many, there is a next page. A certificate that was found by several names is kept at its first only.
func Cut(f Filter, found []Listed, limit int) Page {
	var page Page
	for i, row := range found {
		if i == limit {
			last := found[i-1]
			page.Next = f.At(last.cursor(f.Order()), last.Issuer, last.Position)
			break
		}
		if f.Order() != ByName || f.isFirst(row.Name, row.Kind, row.DER) {
			page.Certificates = append(page.Certificates, row.Certificate)
		}
	}
	return page
}

func (l Listed) cursor(order Order) Cursor {
	switch order {
	case ByExpiry:
		return Cursor{Micros: l.NotAfter.UnixMicro()}
	case ByLedger:
		return Cursor{Seq: l.Seq}
	case ByName:
		return Cursor{Name: l.Name, Kind: l.Kind}
	}
	return Cursor{Micros: l.IssuedAt.UnixMicro()}
}
