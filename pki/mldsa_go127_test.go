//go:build go1.27

package pki_test

import (
	"bytes"
	"crypto"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"testing"
	"time"

	"signet.example/signet/pki"
)

// TestMLDSAEncodings compares our identifiers with those that crypto/x509 writes, and the private key with the seed form
// of RFC 9881, Section 6.
func TestMLDSAEncodings(t *testing.T) {
	for _, set := range []pki.MLDSA{pki.MLDSA44, pki.MLDSA65, pki.MLDSA87} {
		t.Run(set.String(), func(t *testing.T) {
			key, err := set.Generate()
			if err != nil {
				t.Fatal(err)
			}
			of, octets := pki.MLDSAOf(key.Public())
			if of != set || len(octets) != set.PublicKeySize() || !pki.IsMLDSAPrivate(key) {
				t.Errorf("%s, %d octets", of, len(octets))
			}
			spki, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil {
				t.Fatal(err)
			}
			var info struct {
				Algorithm asn1.RawValue
				Key       asn1.BitString
			}
			if _, err := asn1.Unmarshal(spki, &info); err != nil || string(info.Algorithm.FullBytes) != set.AlgorithmIdentifier() || !bytes.Equal(info.Key.Bytes, octets) {
				t.Errorf("%v, identifier %x", err, info.Algorithm.FullBytes)
			}
			if pki.MLDSAOfSPKI(spki) != set {
				t.Error("not found by its SubjectPublicKeyInfo")
			}
			if pki.HashKeyMaterial(key.Public()) == (pki.KeyHash{}) {
				t.Error("no hash of the key's material: blocking it would block nothing")
			}
			der, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			seed := key.(*mldsa.PrivateKey).Bytes()
			if want := append([]byte{0x80, 0x20}, seed...); len(seed) != 32 || !bytes.HasSuffix(der, want) {
				t.Errorf("the private key is not kept as its seed: %x", der[:20])
			}
			message := []byte("message")
			signature, err := key.Sign(rand.Reader, message, crypto.Hash(0))
			if err != nil || !pki.VerifyMLDSA(key.Public(), message, signature) || pki.VerifyMLDSA(key.Public(), message[1:], signature) {
				t.Errorf("signature: %v", err)
			}
		})
	}
}

// A certificate with an ML-DSA key proves its own renewal.
func TestMLDSARenewal(t *testing.T) {
	key, err := pki.MLDSA44.Generate()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	old := &x509.Certificate{Raw: []byte("old"), PublicKey: key.Public()}
	renewal := pki.Renewal{Certificate: old.Raw, CSR: []byte("request"), At: now}
	proof, err := renewal.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := renewal.Verify(old, proof, now); err != nil {
		t.Error(err)
	}
	renewal.CSR = []byte("another request")
	if renewal.Verify(old, proof, now) == nil {
		t.Error("a proof for one request was taken for another")
	}
}
