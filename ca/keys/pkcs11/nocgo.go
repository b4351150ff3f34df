//go:build !cgo

package pkcs11

import (
	"context"
	"crypto"

	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
)

// Store stands for a token that this build cannot open.
type Store struct{}

var errNoCgo = pki.Errorf(pki.KindFailedPrecondition, "open token", "this build of Signet has no PKCS #11").InField("keys").
	WithHint("build it with CGO_ENABLED=1")

// New returns an error: PKCS #11 modules are C libraries.
func New(config Config) (*Store, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	return nil, errNoCgo
}

// Close does nothing.
func (*Store) Close() error { return nil }

// URI returns the URI of an object, with an empty token.
func (*Store) URI(name string) string { return uriOf("", name) }

// Create returns an error.
func (*Store) Create(context.Context, string, keys.Algorithm) (*keys.Key, error) {
	return nil, errNoCgo
}

// Import returns an error.
func (*Store) Import(context.Context, string, func(crypto.PublicKey) error) (*keys.Key, error) {
	return nil, errNoCgo
}

// Open returns an error.
func (*Store) Open(context.Context, string) (*keys.Key, error) { return nil, errNoCgo }
