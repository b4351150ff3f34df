package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// KeyHash is the SHA-256 of a DER SubjectPublicKeyInfo.
type KeyHash [sha256.Size]byte

// HashSPKI hashes a DER SubjectPublicKeyInfo.
func HashSPKI(spki []byte) KeyHash { return sha256.Sum256(spki) }

// HashPublicKey encodes a public key as SubjectPublicKeyInfo and hashes it.
func HashPublicKey(pub crypto.PublicKey) (KeyHash, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return KeyHash{}, fmt.Errorf("encode public key: %w", err)
	}
	return HashSPKI(spki), nil
}

// HashKeyMaterial hashes the key itself, however its SubjectPublicKeyInfo encodes it: the modulus of an RSA key, the
// curve and uncompressed point of an elliptic-curve key, the octets of an Ed25519 key, the parameter set and octets of
// an ML-DSA key. Other keys have the zero hash.
func HashKeyMaterial(pub crypto.PublicKey) KeyHash {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		return sha256.Sum256(append([]byte("rsa\x00"), key.N.Bytes()...))
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return KeyHash{}
		}
		return sha256.Sum256(append([]byte("ec\x00"+key.Curve.Params().Name+"\x00"), point...))
	case ed25519.PublicKey:
		return sha256.Sum256(append([]byte("ed25519\x00"), key...))
	}
	if set, octets := MLDSAOf(pub); set != NoMLDSA {
		return sha256.Sum256(append([]byte(set.String()+"\x00"), octets...))
	}
	return KeyHash{}
}

// String returns lower-case hexadecimal, 64 digits.
func (h KeyHash) String() string { return hex.EncodeToString(h[:]) }

// ParseKeyHash reads 64 hexadecimal digits.
func ParseKeyHash(text string) (KeyHash, error) {
	var h KeyHash
	if err := decodeHex(h[:], text); err != nil {
		return KeyHash{}, fmt.Errorf("key hash: %w", err)
	}
	return h, nil
}

// IssuerID names an issuer in URLs, in the API and in the database: the first 10 octets of the SHA-256 of its
// SubjectPublicKeyInfo, for ever. It is comparable; zero names no issuer.
type IssuerID [10]byte

// Issuer returns the identifier of the issuer that has this key.
func (h KeyHash) Issuer() IssuerID { return IssuerID(h[:len(IssuerID{})]) }

// ParseIssuerID reads 20 hexadecimal digits, as in URLs.
func ParseIssuerID(text string) (IssuerID, error) {
	var id IssuerID
	if err := decodeHex(id[:], text); err != nil {
		return IssuerID{}, fmt.Errorf("issuer: %w", err)
	}
	return id, nil
}

// String returns lower-case hexadecimal, 20 digits.
func (id IssuerID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id names no issuer.
func (id IssuerID) IsZero() bool { return id == IssuerID{} }

// decodeHex fills dst from exactly twice as many lower-case hexadecimal digits. Each value has one spelling, so that
// caches see one URL.
func decodeHex(dst []byte, text string) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("%q: want %d hexadecimal digits", clip(text), 2*len(dst))
	}
	if _, err := hex.Decode(dst, []byte(text)); err != nil || hex.EncodeToString(dst) != text {
		return fmt.Errorf("%q: want lower-case hexadecimal digits", clip(text))
	}
	return nil
}

// MarshalText is String, for JSON.
func (h KeyHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is ParseKeyHash, for JSON.
func (h *KeyHash) UnmarshalText(text []byte) (err error) {
	*h, err = ParseKeyHash(string(text))
	return err
}

// MarshalText is String, for JSON.
func (id IssuerID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseIssuerID, for JSON.
func (id *IssuerID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseIssuerID(string(text))
	return err
}
