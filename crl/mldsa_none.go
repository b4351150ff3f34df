//go:build !go1.27

package crl

import (
	"crypto"
	"fmt"
)

// schemeOf finds an algorithm; ML-DSA needs Go 1.27.
func schemeOf(a Algorithm) (scheme, bool) {
	s, ok := schemes[a]
	return s, ok
}

func postQuantumFor(pub crypto.PublicKey) (Algorithm, error) {
	return "", fmt.Errorf("sign revocation list: a key of type %T is not supported", pub)
}
