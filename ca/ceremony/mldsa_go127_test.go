//go:build go1.27

package ceremony_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"signet.example/signet/ca"
	"signet.example/signet/ca/ceremony"
	"signet.example/signet/ca/keys"
	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// TestMLDSACeremony has a root of each parameter set certify an authority of its own set, sign another root and be signed by it, and
// list what it revoked; crypto/x509 and the list's reader believe it, and each record verifies until an octet of it changes.
func TestMLDSACeremony(t *testing.T) {
	for _, algorithm := range []keys.Algorithm{keys.MLDSA44, keys.MLDSA65, keys.MLDSA87} {
		t.Run(algorithm.String(), func(t *testing.T) {
			r, classical := newRoom(t), newRoom(t)
			made := r.root(ca.NewIssuer{Algorithm: algorithm})
			root := certificates(t, made.Product)[0]
			if keys.AlgorithmOf(root.PublicKey) != algorithm || root.CheckSignatureFrom(root) != nil {
				t.Fatalf("root: %s", root.SignatureAlgorithm)
			}
			key, err := keys.Generate(algorithm)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := r.ceremony().Sign(t.Context(), requestOf(t, "Issuing CA", key), ca.NewIssuer{})
			if err != nil {
				t.Fatal(err)
			}
			issuing := certificates(t, signed.Product)[0]
			roots := x509.NewCertPool()
			roots.AddCert(root)
			if _, err := issuing.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: r.now}); err != nil || keys.AlgorithmOf(issuing.PublicKey) != algorithm {
				t.Errorf("issuing: %v", err)
			}

			classical.root(ca.NewIssuer{Subject: ca.Subject{CommonName: "Ceremony Root 2"}})
			crossed := func(by, of *room) *ceremony.Result {
				t.Helper()
				other, err := os.ReadFile(filepath.Join(of.dir, "root.pem"))
				if err != nil {
					t.Fatal(err)
				}
				result, err := by.ceremony().CrossSign(t.Context(), ceremony.Input{Name: "root.pem", Data: other}, 0)
				if err != nil {
					t.Fatal(err)
				}
				return result
			}
			there, back := crossed(r, classical), crossed(classical, r)
			if c := certificates(t, there.Product)[0]; c.CheckSignatureFrom(root) != nil {
				t.Error("the classical root is not signed by it")
			}
			if c := certificates(t, back.Product)[0]; issuing.CheckSignatureFrom(c) != nil {
				t.Error("what the classical root signed is not its key")
			}

			serial, err := pki.SerialFromBig(issuing.SerialNumber)
			if err != nil {
				t.Fatal(err)
			}
			listed, err := r.ceremony().List(t.Context(), ceremony.ListRequest{Revoke: []ceremony.Revocation{{Serial: serial, Reason: pki.Superseded}}})
			if err != nil {
				t.Fatal(err)
			}
			der, err := os.ReadFile(listed.Product)
			if err != nil {
				t.Fatal(err)
			}
			if block, _ := pem.Decode(der); block != nil {
				der = block.Bytes
			}
			list, err := x509.ParseRevocationList(der)
			if err != nil || list.CheckSignatureFrom(root) != nil || len(list.RevokedCertificateEntries) != 1 {
				t.Errorf("list: %v", err)
			}
			if _, err := crl.Parse(der); err != nil {
				t.Error(err)
			}
			for _, result := range []*ceremony.Result{made, signed, there, listed} {
				if v := r.verified(result); !v.Good || !v.Complete {
					t.Errorf("%s: %+v", result.Record, v)
				}
			}
			forged := certificates(t, signed.Product)[0].Raw
			forged[len(forged)-1] ^= 1
			if err := os.WriteFile(signed.Product, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: forged}), 0o600); err != nil {
				t.Fatal(err)
			}
			if v, err := ceremony.Verify(signed.Record); err != nil || v.Good {
				t.Errorf("a product with another signature verifies: %v", err)
			}
		})
	}
}
