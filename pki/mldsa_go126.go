//go:build !go1.27

package pki

import "crypto"

const mldsaCompiled = false

// MLDSAOf returns none: crypto/x509 of this Go leaves keys of ML-DSA unread.
func MLDSAOf(crypto.PublicKey) (MLDSA, []byte) { return NoMLDSA, nil }

// Generate returns the error of Supported.
func (m MLDSA) Generate() (crypto.Signer, error) { return nil, m.Supported() }

// VerifyMLDSA reports false: there is no key to verify with.
func VerifyMLDSA(crypto.PublicKey, []byte, []byte) bool { return false }

// IsMLDSAPrivate reports false.
func IsMLDSAPrivate(crypto.Signer) bool { return false }
