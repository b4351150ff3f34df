//go:build go1.27

package crl

import (
	"crypto"
	"crypto/mldsa"
	"fmt"
)

// The AlgorithmIdentifiers of RFC 9881, without parameters.
const (
	mldsa44 Algorithm = "\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x11"
	mldsa65 Algorithm = "\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x12"
	mldsa87 Algorithm = "\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x13"
)

// schemeOf finds an algorithm.
func schemeOf(a Algorithm) (scheme, bool) {
	switch a {
	case mldsa44:
		return scheme{"ML-DSA-44", 0, verifyMLDSA(mldsa.MLDSA44())}, true
	case mldsa65:
		return scheme{"ML-DSA-65", 0, verifyMLDSA(mldsa.MLDSA65())}, true
	case mldsa87:
		return scheme{"ML-DSA-87", 0, verifyMLDSA(mldsa.MLDSA87())}, true
	}
	s, ok := schemes[a]
	return s, ok
}

func verifyMLDSA(params mldsa.Parameters) func(crypto.PublicKey, crypto.Hash, []byte, []byte) error {
	return func(pub crypto.PublicKey, _ crypto.Hash, message, signature []byte) error {
		key, ok := pub.(*mldsa.PublicKey)
		if !ok || key.Parameters() != params {
			return errWrongKey
		}
		if mldsa.Verify(key, message, signature, nil) != nil {
			return errBadSignature
		}
		return nil
	}
}

func postQuantumFor(pub crypto.PublicKey) (Algorithm, error) {
	if key, ok := pub.(*mldsa.PublicKey); ok {
		switch key.Parameters() {
		case mldsa.MLDSA44():
			return mldsa44, nil
		case mldsa.MLDSA65():
			return mldsa65, nil
		case mldsa.MLDSA87():
			return mldsa87, nil
		}
	}
	return "", fmt.Errorf("sign revocation list: a key of type %T is not supported", pub)
}
