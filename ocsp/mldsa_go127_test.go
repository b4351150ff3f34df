//go:build go1.27

package ocsp_test

import (
	"crypto"
	"crypto/x509"
	"errors"
	"testing"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// TestMLDSA signs and verifies with every parameter set: by the authority itself, by a delegate of the same set, and by
// a classical delegate under a post-quantum authority. One flipped bit, or a delegate that another authority certified,
// is not believed.
func TestMLDSA(t *testing.T) {
	for _, set := range []pki.MLDSA{pki.MLDSA44, pki.MLDSA65, pki.MLDSA87} {
		t.Run(set.String(), func(t *testing.T) {
			ca := issue(t, nil, "Post-quantum CA", newMLDSA(t, set), nil)
			w := world{ca: ca, leaf: issue(t, ca, "leaf.example", newMLDSA(t, set), nil), other: issue(t, nil, "Post-quantum CA", newMLDSA(t, set), nil)}
			for name, by := range map[string]*party{
				"authority": ca, "delegate": issue(t, ca, "OCSP", newMLDSA(t, set), delegate), "classical delegate": issue(t, ca, "OCSP", newKey(t, ""), delegate),
			} {
				der := sign(t, by, w.good(t))
				result, err := ocsp.Verify(der, w.query())
				if err != nil || result.Status != pki.StatusGood || result.Responder.Delegated != (by != ca) {
					t.Errorf("%s: %s, %v", name, result.Status, err)
				}
				if err := ocsp.Check(der, ocsp.Expected{Responder: by.cert, Answers: w.good(t).Answers}); err != nil {
					t.Errorf("%s: self-check: %v", name, err)
				}
				der[len(der)/3] ^= 1
				if _, err := ocsp.Verify(der, w.query()); err == nil {
					t.Errorf("%s: a flipped bit is believed", name)
				}
			}
			stranger := issue(t, w.other, "OCSP", newMLDSA(t, set), delegate)
			_, err := ocsp.Verify(sign(t, stranger, w.good(t)), w.query())
			if _, ok := errors.AsType[*ocsp.UnauthorizedError](err); !ok {
				t.Errorf("a delegate of another authority of the same name: %v", err)
			}
		})
	}
}

// A signature that names another parameter set than that of the key, or has parameters, is no signature.
func TestMLDSAIdentifier(t *testing.T) {
	ca := issue(t, nil, "Post-quantum CA", newMLDSA(t, pki.MLDSA44), nil)
	w := world{ca: ca, leaf: issue(t, ca, "leaf.example", newKey(t, ""), nil)}
	response, err := ocsp.ParseResponse(sign(t, ca, w.good(t)))
	if err != nil {
		t.Fatal(err)
	}
	if string(response.Algorithm) != pki.MLDSA44.AlgorithmIdentifier() {
		t.Fatalf("algorithm %x", response.Algorithm)
	}
	for name, algorithm := range map[string]string{
		"another set": pki.MLDSA65.AlgorithmIdentifier(), "parameters": "\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x11\x05\x00",
	} {
		response.Algorithm = []byte(algorithm)
		if _, err := response.VerifyResponder(ocsp.Query{Issuers: []*x509.Certificate{ca.cert}, Time: now}); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

func newMLDSA(t testing.TB, set pki.MLDSA) crypto.Signer {
	t.Helper()
	key, err := set.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
