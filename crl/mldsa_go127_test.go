//go:build go1.27

package crl_test

import (
	"testing"

	"signet.example/signet/pki"
)

// TestMLDSA is TestRoundTrip with post-quantum keys.
func TestMLDSA(t *testing.T) {
	for _, set := range []pki.MLDSA{pki.MLDSA44, pki.MLDSA65, pki.MLDSA87} {
		key, err := set.Generate()
		if err != nil {
			t.Fatal(err)
		}
		ca := newAuthority(t, "Post-quantum CA", key)
		t.Run(set.String(), func(t *testing.T) { roundTrip(t, ca, 100) })
	}
}
