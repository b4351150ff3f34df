package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"signet.example/signet/pki"
)

// Proofs of possession, of a renewal and of a compromise.
func TestProofs(t *testing.T) {
	now := time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"P-256": p256, "P-384": p384, "P-521": p521, "RSA": rsaKey, "Ed25519": edKey} {
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		old, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		proof := pki.Renewal{Certificate: der, CSR: []byte("csr"), RequestID: "id", At: now}
		signature, err := proof.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.Verify(old, signature, now.Add(pki.ProofWindow)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, at := range []time.Time{now.Add(pki.ProofWindow + 1), now.Add(-pki.ProofWindow - 1)} { // the time is signed: only the verifier's clock moves
			if err := proof.Verify(old, signature, at); err == nil {
				t.Errorf("%s: a proof of %s is taken at %s", name, now, at)
			}
		}
		if err := proof.Verify(old, signature, now.Add(-pki.ProofWindow)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, change := range map[string]func(*pki.Renewal){
			"another CSR":  func(r *pki.Renewal) { r.CSR = []byte("csR") },
			"another id":   func(r *pki.Renewal) { r.RequestID = "" },
			"another time": func(r *pki.Renewal) { r.At = now.Add(time.Second) },
			"too old":      func(r *pki.Renewal) { r.At = now.Add(-pki.ProofWindow - time.Second) },
		} {
			other := proof
			change(&other)
			if err := other.Verify(old, signature, now); err == nil {
				t.Errorf("%s: %s is taken", name, what)
			}
		}

		lost := pki.Compromise{SPKI: old.RawSubjectPublicKeyInfo, At: now}
		if err := lost.Verify(key.Public(), signature, now); err == nil {
			t.Errorf("%s: a renewal is taken for a compromise", name)
		}
		if signature, err = lost.Sign(key); err != nil {
			t.Fatal(err)
		}
		if err := lost.Verify(key.Public(), signature, now.Add(pki.ProofWindow)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, change := range map[string]func(*pki.Compromise){
			"another key":  func(c *pki.Compromise) { c.SPKI = c.SPKI[1:] },
			"another time": func(c *pki.Compromise) { c.At = now.Add(time.Second) },
			"too old":      func(c *pki.Compromise) { c.At = now.Add(-pki.ProofWindow - time.Second) },
		} {
			other := lost
			change(&other)
			if err := other.Verify(key.Public(), signature, now); err == nil {
				t.Errorf("%s: %s is taken for a compromise", name, what)
			}
		}
	}
}

// A key of another kind than those that are certified signs no proof, and verifies none.
func TestProofsOfOtherKeys(t *testing.T) {
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := pki.Compromise{SPKI: []byte("spki"), At: time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)}
	if _, err := c.Sign(p224); err == nil {
		t.Error("it signs")
	}
	if err := c.Verify(p224.Public(), []byte("signature"), c.At); err == nil || !strings.Contains(err.Error(), "cannot sign a proof") {
		t.Errorf("it verifies: %v", err)
	}
}
