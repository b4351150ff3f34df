// Package keys says what a private key of an issuer is to the rest of Signet: a signer behind a URI, with the secret
// that its serial numbers are derived from. Where keys live is the business of the packages below: softkey, pkcs11.
package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"

	"signet.example/signet/pki"
)

// Key is an issuer's key, opened. It is safe for concurrent use.
type Key struct {
	crypto.Signer
	URI    string           // opens it again
	Secret pki.SerialSecret // K of the issuer; kept and backed up with the key, never in the database
}

// Store makes and opens keys of one scheme. It is safe for concurrent use.
type Store interface {
	// Create makes a key and its secret, durably, under a name of lower-case letters, digits, dots and hyphens. It never
	// overwrites: a name that is taken is an error of KindConflict.
	Create(ctx context.Context, name string, algorithm Algorithm) (*Key, error)
	// URI is the URI of the key that Create makes, or made, under this name.
	URI(name string) string
	// Open opens a key by its URI; one that does not exist is an error of KindNotFound.
	Open(ctx context.Context, uri string) (*Key, error)
}

// Schemes opens each URI with the store of its scheme, and creates in the store named by Default.
type Schemes struct {
	Default string           // scheme in which Create makes keys
	Stores  map[string]Store // by scheme: "softkey", "pkcs11"
}

// Create makes a key in the default store.
func (s Schemes) Create(ctx context.Context, name string, algorithm Algorithm) (*Key, error) {
	store, err := s.store("create key", s.Default)
	if err != nil {
		return nil, err
	}
	return store.Create(ctx, name, algorithm)
}

// URI is that of the default store.
func (s Schemes) URI(name string) string {
	store, err := s.store("name key", s.Default)
	if err != nil {
		return ""
	}
	return store.URI(name)
}

// Open opens a key with the store of its scheme.
func (s Schemes) Open(ctx context.Context, uri string) (*Key, error) {
	scheme, _, _ := strings.Cut(uri, ":")
	store, err := s.store("open key", scheme)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, uri)
}

func (s Schemes) store(op, scheme string) (Store, error) {
	store, ok := s.Stores[scheme]
	if !ok {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "no key store is configured for %q", scheme).
			InField("key").WithHint("configure it under keys: in signet.yaml")
	}
	return store, nil
}

// CheckName refuses names that could not be file names everywhere.
func CheckName(op, name string) error {
	ok := name != "" && len(name) <= 64 && name[0] != '.' && name[0] != '-'
	for i := range len(name) {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.')
	}
	if !ok {
		return pki.Errorf(pki.KindInvalid, op, "%.64q: want 1 to 64 lower-case letters, digits, dots and hyphens", name).InField("name")
	}
	return nil
}

// Algorithm is a kind of key with its size. Zero is none.
type Algorithm uint8

// The algorithms.
const (
	NoAlgorithm Algorithm = iota
	ECDSAP256
	ECDSAP384
	ECDSAP521
	RSA2048
	RSA3072
	RSA4096
	Ed25519
)

var algorithmNames = [...]string{"none", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"}

// String is the name used in configuration, such as "ecdsa-p256".
func (a Algorithm) String() string {
	if int(a) < len(algorithmNames) {
		return algorithmNames[a]
	}
	return "none"
}

// ParseAlgorithm reads "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "rsa-4096" or "ed25519".
func ParseAlgorithm(text string) (Algorithm, error) {
	for i, name := range algorithmNames[1:] {
		if name == text {
			return Algorithm(i + 1), nil
		}
	}
	return NoAlgorithm, fmt.Errorf("key algorithm %.32q: want one of %s", text, strings.Join(algorithmNames[1:], ", "))
}

// AlgorithmOf classifies a public key; RSA keys of other sizes and other kinds of key are NoAlgorithm.
func AlgorithmOf(pub crypto.PublicKey) Algorithm {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return ECDSAP256
		case elliptic.P384():
			return ECDSAP384
		case elliptic.P521():
			return ECDSAP521
		}
	case *rsa.PublicKey:
		switch pub.N.BitLen() {
		case 2048:
			return RSA2048
		case 3072:
			return RSA3072
		case 4096:
			return RSA4096
		}
	case ed25519.PublicKey:
		return Ed25519
	}
	return NoAlgorithm
}

// Generate makes a key in memory.
func Generate(algorithm Algorithm) (crypto.Signer, error) {
	switch algorithm {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case ECDSAP521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("cannot make a key of algorithm %s", algorithm)
}
