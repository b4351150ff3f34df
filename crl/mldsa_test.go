//go:build go1.27

package crl_test

import (
	"crypto/mldsa"
	"testing"
)

// TestMLDSA is TestRoundTrip with post-quantum keys.
func TestMLDSA(t *testing.T) {
	for _, params := range []mldsa.Parameters{mldsa.MLDSA44(), mldsa.MLDSA65(), mldsa.MLDSA87()} {
		key, err := mldsa.GenerateKey(params)
		if err != nil {
			t.Fatal(err)
		}
		ca := newAuthority(t, "Post-quantum CA", key)
		t.Run(params.String(), func(t *testing.T) { roundTrip(t, ca, 100) })
	}
}
