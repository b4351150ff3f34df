package ca_test

import (
	"crypto/x509"
	"testing"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/store"
)

func TestACertificateIsWhatTheProfileSays(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		issued := w.mustIssue(server(t, "www.example.com", "example.com"))
		c, err := x509.ParseCertificate(issued.DER)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", c.CRLDistributionPoints)
		t.Logf("%x", issued.DER)
	})
}
