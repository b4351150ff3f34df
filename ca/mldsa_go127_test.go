//go:build go1.27

package ca_test

import (
	"crypto"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

var mldsa = []keys.Algorithm{keys.MLDSA44, keys.MLDSA65, keys.MLDSA87}

func generate(t testing.TB, algorithm keys.Algorithm) crypto.Signer {
	t.Helper()
	key, err := keys.Generate(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestMLDSA has each parameter set sign roots, authorities below them and end entities, from requests that prove
// possession of a key of each set and of classical ones.
func TestMLDSA(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	for _, algorithm := range mldsa {
		t.Run(algorithm.String(), func(t *testing.T) {
			name := algorithm.String()
			root := w.create(ca.NewIssuer{Label: "root-" + name, Subject: ca.Subject{CommonName: "Root " + name}, BaseURL: "http://pki.test", Algorithm: algorithm})
			issuing := w.create(ca.NewIssuer{Label: "issuing-" + name, Subject: ca.Subject{CommonName: "Issuing " + name}, BaseURL: "http://pki.test", Algorithm: algorithm, Parent: root.ID})
			roots := x509.NewCertPool()
			roots.AddCert(parse(t, root.Certificates[0].DER))
			between := x509.NewCertPool()
			between.AddCert(parse(t, issuing.Certificates[0].DER))
			for _, leaf := range append([]keys.Algorithm{keys.ECDSAP256, keys.RSA2048}, mldsa...) {
				issued := w.mustIssue(ca.Request{Profile: "server", Issuer: issuing.ID, CSR: csr(t, generate(t, leaf), "host.example")})
				c := parse(t, issued.DER)
				if _, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: "host.example"}); err != nil {
					t.Errorf("%s: %v", leaf, err)
				}
				// RFC 9881, Section 5: no key encipherment and no agreement, whatever the profile says.
				if keys.AlgorithmOf(c.PublicKey) >= keys.MLDSA44 && c.KeyUsage != x509.KeyUsageDigitalSignature {
					t.Errorf("%s: key usage %b", leaf, c.KeyUsage)
				}
			}
		})
	}
}

// TestMLDSARequests refuses a forged proof of possession and a key that was blocked, and answers for a profile with other rules.
func TestMLDSARequests(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	key := generate(t, keys.MLDSA65)
	good := csr(t, key, "host.example")
	w.mustIssue(ca.Request{Profile: "server", CSR: good})

	forged := append([]byte(nil), good...)
	forged[len(forged)-100] ^= 1
	_, err := w.issue(w.Authority, ca.Request{Profile: "server", CSR: forged})
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindInvalid || !strings.Contains(e.Error(), "not by the key inside") {
		t.Errorf("a forged proof of possession: %v", err)
	}
	material := pki.HashKeyMaterial(key.Public())
	spki, err := pki.HashPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if material == (pki.KeyHash{}) || material == spki {
		t.Fatal("no hash of the key's material")
	}
	if _, err := w.issue(w.Authority, ca.Request{Profile: "code-signing", CSR: csrOf(t, key, &x509.CertificateRequest{})}); pki.KindOf(err) == pki.KindInternal {
		t.Errorf("code signing: %v", err)
	}
	block := revocation.KeyBlock{SPKI: spki, Material: material, Proof: revocation.ProofOfficer}
	if _, _, err := w.store.BlockKey(t.Context(), block, revocation.Job{ID: revocation.JobID{1}, Principal: admin}, w.clock.Now(), 100, 0); err != nil {
		t.Fatal(err)
	}
	_, err = w.issue(w.instance(w.store), ca.Request{Profile: "server", CSR: csr(t, key, "other.example")})
	wantError(t, err, pki.KindRefused, "csr")
}

// TestMLDSAIssuerSigns is what publishers use.
func TestMLDSAIssuerSigns(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	root := w.create(ca.NewIssuer{Label: "pq", Subject: ca.Subject{CommonName: "PQ Root"}, BaseURL: "http://pki.test", Algorithm: keys.MLDSA44})
	certificate, signer, err := w.IssuerSigner(t.Context(), root.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(signer.Public()) {
		t.Error("the signer is of another key")
	}
	if _, err := w.CrossSign(t.Context(), w.grant(admin, auth.ActionManage, ""), root.ID, w.root.ID, 0); err != nil {
		t.Errorf("cross-sign by a classical root: %v", err)
	}
}
