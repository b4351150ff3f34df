package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/store"
)

// The town lives in 2021, the database today: everything of then has passed.
func TestPassedEpochsAreSweptUnlessRetained(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		real := w.clock.now
		w.clock.now = time.Date(2021, 3, 1, 12, 0, 0, 0, time.UTC)
		n := newIssuer("old-root", "Old Root", ca.Issuer{})
		old := w.create(n)
		for range 3 {
			request := server(t, "old.example.com")
			request.Issuer = old.ID
			w.mustIssue(request)
		}
		signer := csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Signer"}})
		if _, err := w.Issue(t.Context(), w.grant(admin, auth.ActionIssue, "code-signing"), ca.Request{Profile: "code-signing", Issuer: old.ID, CSR: signer}); err != nil {
			t.Fatal(err)
		}
		count := func() int64 {
			c, err := s.CountCertificates(t.Context(), ca.Filter{Issuer: old.ID})
			if err != nil {
				t.Fatal(err)
			}
			return c.N
		}
		w.clock.now = time.Date(2021, 9, 1, 0, 0, 0, 0, time.UTC) // a year after expiry has not gone by
		if err := w.Sweep(t.Context()); err != nil || count() != 5 {
			t.Fatalf("%d left, %v", count(), err)
		}
		w.clock.now = real
		if err := w.Sweep(t.Context()); err != nil || count() != 2 {
			t.Errorf("%d left, want the root and what is retained: %v", count(), err)
		}
		w.clock.now = real.Add(10 * 365 * 24 * time.Hour)
		if err := w.Sweep(t.Context()); err != nil || count() != 1 {
			t.Errorf("%d left, want the root: %v", count(), err)
		}
	})
}
