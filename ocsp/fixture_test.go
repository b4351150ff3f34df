package ocsp_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// now is the instant of every test.
var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "", "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "RSA":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no key of kind %s", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a certificate under parent; a nil parent makes an authority that is its own. change may be nil.
func issue(t testing.TB, parent *party, name string, key crypto.Signer, change func(*x509.Certificate)) *party {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 150))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	signer := &party{cert: template, key: key}
	if parent == nil {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	} else {
		signer = parent
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, key.Public(), signer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert, key}
}

// delegate is what makes a certificate one of a responder.
func delegate(c *x509.Certificate) {
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}})
}

// world is: ca -> leaf, sibling, responder (delegate of ca); other -> nothing.
type world struct {
	ca, leaf, sibling, responder, other *party
}

func newWorld(t testing.TB) world {
	t.Helper()
	ca := issue(t, nil, "Test CA", newKey(t, ""), nil)
	server := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	return world{
		ca:        ca,
		leaf:      issue(t, ca, "leaf.example", newKey(t, ""), server),
		sibling:   issue(t, ca, "sibling.example", newKey(t, ""), server),
		responder: issue(t, ca, "Test CA OCSP", newKey(t, ""), delegate),
		other:     issue(t, nil, "Other CA", newKey(t, ""), nil),
	}
}

// certID names leaf under issuer.
func certID(t testing.TB, issuer, leaf *x509.Certificate, hash crypto.Hash) ocsp.CertID {
	t.Helper()
	i, err := ocsp.IssuerOf(issuer)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := ocsp.SerialOf(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return i.CertID(hash, serial)
}

// good is the draft of a fresh good answer.
func (w world) good(t testing.TB) ocsp.ResponseData {
	return ocsp.ResponseData{ProducedAt: now, Answers: []ocsp.SingleResponse{{
		ID: certID(t, w.ca.cert, w.leaf.cert, crypto.SHA256), Status: pki.StatusGood,
		ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour),
	}}}
}

func sign(t testing.TB, by *party, draft ocsp.ResponseData) []byte {
	t.Helper()
	signer, err := ocsp.NewSigner(by.key, by.cert)
	if err != nil {
		t.Fatal(err)
	}
	der, err := signer.Sign(draft)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// query demands what a careful client demands.
func (w world) query() ocsp.Query {
	return ocsp.Query{Certificate: w.leaf.cert, Issuers: []*x509.Certificate{w.ca.cert}, Time: now}
}
