//go:build !cgo

package pkcs11_test

import (
	"crypto"
	"errors"
	"strings"
	"testing"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/keys/pkcs11"
	"signet.example/signet/pki"
)

// A build without cgo cannot load a module: it says so, and how to get a build that can.
func TestWithoutCgo(t *testing.T) {
	whole := pkcs11.Config{Module: "libhsm.so", Token: "ca", PIN: pkcs11.NewPIN(func() ([]byte, error) { return []byte("1234"), nil }), SecretsDir: t.TempDir(), Passphrase: []byte("correct horse")}
	opened, err := pkcs11.New(whole)
	if opened != nil {
		t.Errorf("opened %+v", opened)
	}
	wantNoCgo(t, "New", err)
	none := new(pkcs11.Store)
	_, err = none.Create(t.Context(), "root-1", keys.ECDSAP256)
	wantNoCgo(t, "Create", err)
	_, err = none.Import(t.Context(), "root-1", func(crypto.PublicKey) error { return nil })
	wantNoCgo(t, "Import", err)
	_, err = none.Open(t.Context(), whole.URI("root-1"))
	wantNoCgo(t, "Open", err)

	whole.Token = ""
	if _, err := pkcs11.New(whole); pki.KindOf(err) != pki.KindInvalid || err == nil {
		t.Errorf("a mistake in the settings is told as with cgo: %v", err)
	}
}

func wantNoCgo(t *testing.T, what string, err error) {
	t.Helper()
	e, ok := errors.AsType[*pki.Error](err)
	if !ok || e.Kind != pki.KindFailedPrecondition || e.Field != "keys" || !strings.Contains(e.Error(), "no PKCS #11") || !strings.Contains(e.Hint, "CGO_ENABLED=1") {
		t.Errorf("%s: %v", what, err)
	}
}
