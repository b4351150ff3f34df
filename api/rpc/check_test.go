package rpc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"signet.example/signet/api/rpc"
	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// TestAuthorityOfUnknownStatus: nothing is in force below an authority whose status cannot be told.
func TestAuthorityOfUnknownStatus(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "below"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	db := testdb.SQLite(t)
	universe, err := revocation.NewUniverse(revocation.UniverseConfig{Log: db, Ranges: db})
	if err != nil {
		t.Fatal(err)
	}
	above := ca.Issuer{ID: pki.HashSPKI(spki).Issuer(), Subject: authority.RawIssuer, SPKI: spki} // no ledger knows it
	if got := rpc.AuthorityVerdict(t.Context(), universe, above, authority); got != signetv1.Verdict_VERDICT_CANNOT_TELL {
		t.Errorf("%s", got)
	}
}
