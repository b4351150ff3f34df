package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// The town lives in 2021, the database today: everything of then has passed.
func TestPassedEpochsAreSweptUnlessRetained(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		real := w.clock.now
		w.clock.now = time.Date(2021, 3, 1, 12, 0, 0, 0, time.UTC)
		root := w.create(newIssuer("old-root", "Old Root", ca.Issuer{}))
		old, signs := w.create(newIssuer("old", "Old", root)), w.create(newIssuer("old-signer", "Old Signer", root))
		for range 3 {
			request := server(t, "old.example.com")
			request.Issuer = old.ID
			w.mustIssue(request)
		}
		signer := csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Signer"}})
		if _, err := w.Issue(t.Context(), w.grant(admin, auth.ActionIssue, "code-signing"), ca.Request{Profile: "code-signing", Issuer: signs.ID, CSR: signer}); err != nil {
			t.Fatal(err)
		}
		if kept, err := w.Issuer(signs.ID); err != nil || kept.Retention.Keep != 10*365*24*time.Hour {
			t.Errorf("the retention of the issuer is %+v, %v", kept.Retention, err)
		}
		if kept, err := w.Issuer(old.ID); err != nil || kept.Retention != (pki.Retention{}) {
			t.Errorf("the retention of the other is %+v, %v", kept.Retention, err)
		}
		count := func() int64 {
			total := int64(0)
			for _, issuer := range []ca.Issuer{root, old, signs} {
				c, err := s.CountCertificates(t.Context(), inventory.Filter{Issuer: issuer.ID})
				if err != nil {
					t.Fatal(err)
				}
				total += c.N
			}
			return total
		}
		w.clock.now = time.Date(2021, 9, 1, 0, 0, 0, 0, time.UTC) // a year after expiry has not gone by
		if err := w.Sweep(t.Context()); err != nil || count() != 7 {
			t.Fatalf("%d left, %v", count(), err)
		}
		w.clock.now = real
		if err := w.Sweep(t.Context()); err != nil || count() != 4 {
			t.Errorf("%d left, want the authorities and what is retained: %v", count(), err)
		}
		w.clock.now = real.Add(10 * 365 * 24 * time.Hour)
		if err := w.Sweep(t.Context()); err != nil || count() != 3 {
			t.Errorf("%d left, want the authorities: %v", count(), err)
		}
	})
}
