package keys

import (
	"crypto"
	"crypto/x509"
	"errors"
)

// IsPrivate reports whether ParsePrivate reads PEM blocks of this type.
func IsPrivate(blockType string) bool {
	return blockType == "PRIVATE KEY" || blockType == "RSA PRIVATE KEY" || blockType == "EC PRIVATE KEY"
}

// ParsePrivate reads an unencrypted signing key in PKCS #8, PKCS #1 or SEC 1. Do not show the error: its text could
// quote key material.
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
