//go:build go1.27

package server_test

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/crl"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/invariant"
	"signet.example/signet/pki"
)

// TestMLDSA is the life of certificates under an authority of ML-DSA, against a server that runs, on both databases:
// every product is signed with ML-DSA, agrees with the others after each action, and is judged by our readers and,
// lists and certificates, by those of crypto/x509.
func TestMLDSA(t *testing.T) {
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database, func(c *installation.InitConfig) { c.RootKey, c.IssuingKey = keys.MLDSA65, keys.MLDSA44 })
		s.start(t)
		system := invariant.System{API: s.api}

		var issued []client.Certificate
		for i, algorithm := range []keys.Algorithm{keys.MLDSA44, keys.MLDSA87, keys.ECDSAP256} {
			key, err := keys.Generate(algorithm)
			if err != nil {
				t.Fatal(err)
			}
			csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := s.api.Issue(t.Context(), client.IssueRequest{CSR: csr, Profile: "server", Identifiers: []string{fmt.Sprintf("host%d.example", i)}})
			if err != nil {
				t.Fatal(err)
			}
			issued, system.Issued = append(issued, answer.Certificate), append(system.Issued, answer.Certificate.DER)
		}
		invariant.All(t, system)
		judgeMLDSA(t, s, issued[0], pki.StatusGood)

		s.revoke(t, issued[0], pki.KeyCompromise)
		invariant.All(t, system)
		judgeMLDSA(t, s, issued[0], pki.StatusRevoked)
		judgeMLDSA(t, s, issued[1], pki.StatusGood)

		if _, err := os.Stat(filepath.Join(s.dir, "keys", "ocsp-responder-ml-dsa-44.key")); err != nil {
			t.Errorf("the responder has no ML-DSA key of its own: %v", err)
		}
	})
}

// judgeMLDSA asks the public listener as a relying party does.
func judgeMLDSA(t *testing.T, s *site, c client.Certificate, want pki.Status) {
	t.Helper()
	leaf, issuer := withIssuer(t, c.DER)
	between := x509.NewCertPool()
	between.AddCert(issuer)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: s.roots, Intermediates: between}); err != nil {
		t.Errorf("chain: %v", err)
	}

	der := get(t, leaf.CRLDistributionPoints[0])
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		t.Errorf("crypto/x509 refuses the list: %v", err)
	}
	ours, err := crl.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if ours.Algorithm.String() != "ML-DSA-44" {
		t.Errorf("the list is signed with %s", ours.Algorithm)
	}

	result := askOCSP(t, leaf, issuer)
	if result.Status != want {
		t.Errorf("OCSP says %s, want %s", result.Status, want)
	}
	if !result.Responder.Delegated || keys.AlgorithmOf(result.Responder.Certificate.PublicKey) != keys.MLDSA44 {
		t.Errorf("the responder's key is %s", keys.AlgorithmOf(result.Responder.Certificate.PublicKey))
	}
}
