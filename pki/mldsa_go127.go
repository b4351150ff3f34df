//go:build go1.27

package pki

import (
	"crypto"
	"crypto/mldsa"
)

const mldsaCompiled = true

func (m MLDSA) parameters() (mldsa.Parameters, bool) {
	switch m {
	case MLDSA44:
		return mldsa.MLDSA44(), true
	case MLDSA65:
		return mldsa.MLDSA65(), true
	case MLDSA87:
		return mldsa.MLDSA87(), true
	}
	return mldsa.Parameters{}, false
}

// MLDSAOf returns the parameter set of a public key of crypto/mldsa and its encoding by FIPS 204. Other keys have none.
func MLDSAOf(pub crypto.PublicKey) (MLDSA, []byte) {
	key, ok := pub.(*mldsa.PublicKey)
	if !ok {
		return NoMLDSA, nil
	}
	for m := MLDSA44; m <= MLDSA87; m++ {
		if parameters, _ := m.parameters(); parameters == key.Parameters() {
			return m, key.Bytes()
		}
	}
	return NoMLDSA, nil
}

// Generate makes a key of the set in memory.
func (m MLDSA) Generate() (crypto.Signer, error) {
	parameters, ok := m.parameters()
	if !ok {
		return nil, Errorf(KindInvalid, "make key", "%d is no parameter set of ML-DSA", m)
	}
	return mldsa.GenerateKey(parameters)
}

// VerifyMLDSA reports whether a signature of the message itself, with an empty context as RFC 9881, Section 3 has it, is
// by a key of crypto/mldsa.
func VerifyMLDSA(pub crypto.PublicKey, message, signature []byte) bool {
	key, ok := pub.(*mldsa.PublicKey)
	return ok && mldsa.Verify(key, message, signature, nil) == nil
}

// IsMLDSAPrivate reports whether a signer is a key of crypto/mldsa in memory.
func IsMLDSAPrivate(signer crypto.Signer) bool {
	_, ok := signer.(*mldsa.PrivateKey)
	return ok
}
