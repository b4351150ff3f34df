package crlserver_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// TestTakeOver: the last list of a CA that something else ran is served until the first of ours, which has its entries and a larger number, and nobody
// publishes one before that has less.
func TestTakeOver(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a, other := newAuthority(t, s, "Old CA"), newAuthority(t, s, "Other CA")
		issuer := a.config()
		var issuers []crlserver.Issuer
		p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Issuers = func() []crlserver.Issuer { return issuers } })
		admin := must(auth.Principal{ID: "token:admin", Role: auth.RoleAdmin}.Authorize(auth.ActionManage, ""))
		last := func(signer *authority, number *big.Int, at time.Time) []byte {
			one := serial(epoch, 1)
			return must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: number, ThisUpdate: at, NextUpdate: at.Add(time.Hour),
				RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: new(big.Int).SetBytes(one[:]), RevocationTime: at, ReasonCode: 4}}}, signer.cert, signer.key))
		}
		ended := time.Now().AddDate(0, -1, 0)
		for what, der := range map[string][]byte{
			"no list": {0x30}, "another's": last(other, big.NewInt(41), ended), "from the future": last(a, big.NewInt(41), time.Now().Add(time.Hour)),
			"no number that counts": last(a, new(big.Int), ended), "no room": last(a, new(big.Int).Lsh(big.NewInt(5), 60), ended),
		} {
			if err := p.TakeOver(t.Context(), admin, issuer, der, 0); err == nil || pki.KindOf(err) != pki.KindRefused && pki.KindOf(err) != pki.KindInvalid {
				t.Errorf("%s: %v", what, err)
			}
		}
		narrow := crl.Template{Issuer: a.cert.RawSubject, KeyID: a.cert.SubjectKeyId, Number: 41, ThisUpdate: ended, NextUpdate: ended.Add(time.Hour), UserCerts: true, URLs: []string{"http://old.example/x.crl"}}
		document, _, err := narrow.Sign(nil, a.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.ExamineLast(issuer, document.Bytes()); pki.KindOf(err) != pki.KindRefused {
			t.Errorf("narrowed: %v", err)
		}
		good := last(a, big.NewInt(41), ended)
		if err := p.TakeOver(t.Context(), auth.Grant{}, issuer, good, 0); pki.KindOf(err) != pki.KindDenied {
			t.Errorf("without a grant: %v", err)
		}

		seq := a.append(t, a.event(epoch, 1, revocation.KindRevoke, pki.Superseded, 0))
		for range 2 { // a repetition changes nothing
			if err := p.TakeOver(t.Context(), admin, issuer, good, seq); err != nil {
				t.Fatal(err)
			}
		}
		for number, der := range map[int64][]byte{41: last(a, big.NewInt(41), ended.Add(time.Minute)), 40: last(a, big.NewInt(40), ended)} {
			if err := p.TakeOver(t.Context(), admin, issuer, der, seq); pki.KindOf(err) != pki.KindConflict {
				t.Errorf("another list of number %d: %v", number, err)
			}
		}
		early := a.config()
		number, ok, err := s.BeginPublication(t.Context(), a.complete().Series, revocation.InstanceID{9}, 41, time.Millisecond)
		if err != nil || !ok || number != 42 {
			t.Fatal(number, ok, err)
		}
		h := crlserver.Head{List: a.complete(), Number: number, Seq: seq - 1, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
		if err := s.FinishPublication(t.Context(), revocation.InstanceID{9}, h.List.Series, number, []crlserver.Head{h}, nil); err == nil {
			t.Error("a list of an earlier sequence is published")
		}
		p.stop()
		p = start(t, s, &clock{}, nil, early)
		eventually(t, "ours follows", func() bool { _, h, ok := p.Document(a.complete()); return ok && h.Number > 41 })
		if l := p.list(t, a, a.complete()); l.Len() != 1 {
			t.Errorf("%d entries", l.Len())
		}

		// The ordinary case: it was made a moment ago, and nothing but that it is another's has it replaced.
		p.stop()
		recent := other.config()
		other.reserve(t, epoch, 0, base)
		seq = other.append(t, other.event(epoch, 1, revocation.KindRevoke, pki.KeyCompromise, 0))
		if err := p.TakeOver(t.Context(), admin, recent, last(other, big.NewInt(7), time.Now().Add(-time.Minute)), seq); err != nil {
			t.Fatal(err)
		}
		// Whoever cannot make ours serves it as it is. That it gives another reason than the ledger, and another time, is no disagreement.
		keyless := recent
		keyless.Signer = nil
		p = start(t, s, &clock{}, nil, keyless)
		eventually(t, "it is served", func() bool { _, h, ok := p.Document(other.complete()); return ok && h.Number == 7 })
		for what, compare := range map[string]func(context.Context, crlserver.List) error{"ledger": p.Compare, "memory": p.CompareMemory} {
			if err := compare(t.Context(), other.complete()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		p.stop()
		p = start(t, s, &clock{}, nil, recent)
		eventually(t, "ours follows one of a minute ago", func() bool { _, h, ok := p.Document(other.complete()); return ok && h.Number > 7 })
	})
}
