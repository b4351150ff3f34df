package keys

import (
	"crypto"
	"crypto/x509"
	"errors"
)

// IsPrivate reports whether a PEM block of this type holds what ParsePrivate reads.
func IsPrivate(blockType string) bool {
	return blockType == "PRIVATE KEY" || blockType == "RSA PRIVATE KEY" || blockType == "EC PRIVATE KEY"
}

// ParsePrivate reads a private key that signs in PKCS #8, PKCS #1 or SEC 1, not encrypted. The text of an error could quote key material.
func ParsePrivate(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, errors.New("not a signing key")
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	return x509.ParseECPrivateKey(der)
}
