// Package keys defines the private key of an issuer: a signer behind a URI, with the secret that its serial numbers
// are derived from. The packages below it, softkey and pkcs11, store keys.
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

// Key is an open key of an issuer. It is safe for concurrent use.
type Key struct {
	crypto.Signer
	URI    string           // for Store.Open
	Secret pki.SerialSecret // K of the issuer; kept and backed up with the key, never in the database
}

// Store makes and opens keys of one scheme. It is safe for concurrent use.
type Store interface {
	// Create makes a key and its secret, durably, under a name of lower-case letters, digits, dots and hyphens. It
	// never overwrites a key: if the name is taken, the error is of KindConflict.
	Create(ctx context.Context, name string, algorithm Algorithm) (*Key, error)
	// URI returns the URI of the key that Create makes, or made, under this name.
	URI(name string) string
	// Open opens a key by its URI. If there is none, the error is of KindNotFound.
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

// URI returns the URI of a key in the default store, or "" if there is no default store.
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

// CheckName refuses names that are not valid file names on every system. The error is of KindInvalid.
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
	MLDSA44 // this and the next two only where built with Go 1.27
	MLDSA65
	MLDSA87
)

var algorithmNames = [...]string{
	"none", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87",
}

// String returns the name used in configuration, such as "ecdsa-p256".
func (a Algorithm) String() string {
	if int(a) < len(algorithmNames) {
		return algorithmNames[a]
	}
	return "none"
}

// ParseAlgorithm reads "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519" or, if
// built with Go 1.27, "ml-dsa-44", "ml-dsa-65" or "ml-dsa-87". If built with Go 1.26, the last three are an error of
// KindFailedPrecondition. Any other text is an error of KindInvalid.
func ParseAlgorithm(text string) (Algorithm, error) {
	known := algorithmNames[1:]
	for i, name := range known {
		if name == text {
			a := Algorithm(i + 1)
			return a, a.Supported()
		}
	}
	if pki.MLDSA44.Supported() != nil {
		known = algorithmNames[1:MLDSA44]
	}
	return NoAlgorithm, pki.Errorf(pki.KindInvalid, "read key algorithm", "%.32q: want one of %s", text, strings.Join(known, ", "))
}

// All returns the algorithms that this build can use.
func All() []Algorithm {
	var all []Algorithm
	for a := ECDSAP256; a <= MLDSA87; a++ {
		if a.Supported() == nil {
			all = append(all, a)
		}
	}
	return all
}

// Supported returns an error of KindFailedPrecondition if this build cannot use such keys.
func (a Algorithm) Supported() error {
	if set := a.mldsa(); set != pki.NoMLDSA {
		return set.Supported()
	}
	return nil
}

func (a Algorithm) mldsa() pki.MLDSA {
	switch a {
	case MLDSA44:
		return pki.MLDSA44
	case MLDSA65:
		return pki.MLDSA65
	case MLDSA87:
		return pki.MLDSA87
	}
	return pki.NoMLDSA
}

// AlgorithmOf returns the algorithm of a public key. It is NoAlgorithm for RSA keys of other sizes and for other kinds
// of key.
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
	switch set, _ := pki.MLDSAOf(pub); set {
	case pki.MLDSA44:
		return MLDSA44
	case pki.MLDSA65:
		return MLDSA65
	case pki.MLDSA87:
		return MLDSA87
	}
	return NoAlgorithm
}

// InMemory reports whether a key is in the memory of this process, so that signing does not depend on a device.
func InMemory(signer crypto.Signer) bool {
	switch signer := signer.(type) {
	case *guardedKey:
		return signer.inMemory
	case purposed:
		return signer.inMemory
	case *ecdsa.PrivateKey, *rsa.PrivateKey, ed25519.PrivateKey:
		return true
	}
	return pki.IsMLDSAPrivate(signer)
}

// Verify reports whether a key made a signature of a message. The signature is over the digest by hash, or over the
// message itself if hash is zero.
func Verify(pub crypto.PublicKey, hash crypto.Hash, message, digest, signature []byte) bool {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, hash, digest, signature) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(pub, message, signature)
	}
	return pki.VerifyMLDSA(pub, message, signature)
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
	if set := algorithm.mldsa(); set != pki.NoMLDSA {
		return set.Generate()
	}
	return nil, fmt.Errorf("cannot make a key of algorithm %s", algorithm)
}
