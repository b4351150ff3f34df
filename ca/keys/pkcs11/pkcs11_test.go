//go:build cgo

package pkcs11_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ThalesGroup/crypto11"
	p11 "github.com/miekg/pkcs11"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/keys/pkcs11"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// TestMain gives the process one SoftHSM: the library reads its configuration once.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "softhsm")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		tokens := filepath.Join(dir, "tokens")
		config := filepath.Join(dir, "softhsm2.conf")
		if err := os.Mkdir(tokens, 0o700); err != nil {
			panic(err)
		}
		if err := os.WriteFile(config, []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
			panic(err)
		}
		os.Setenv("SOFTHSM2_CONF", config)
		out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "signet test", "--so-pin", "12345678", "--pin", pin).CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "install softhsm2: %v: %s\n", err, out)
			return 1
		}
		return m.Run()
	}())
}

const pin = "87654321"

var theirs = pkcs11.NewPIN(func() ([]byte, error) { return []byte(pin), nil })

// module finds SoftHSM where distributions put it.
func module(t *testing.T) string {
	t.Helper()
	paths := []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"}
	i := slices.IndexFunc(paths, func(path string) bool { _, err := os.Stat(path); return err == nil })
	if i < 0 {
		t.Fatal("install softhsm2")
	}
	return paths[i]
}

func open(t *testing.T, dir string) *pkcs11.Store {
	t.Helper()
	store, err := pkcs11.New(pkcs11.Config{Module: module(t), Token: "signet test", PIN: theirs, SecretsDir: dir, Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func sign(t *testing.T, key *keys.Key) {
	t.Helper()
	digest := sha256.Sum256([]byte("x"))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	ok := false
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(public, digest[:], signature)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
	}
	if !ok {
		t.Error("the signature does not verify")
	}
}

func TestKeysAreMadeFoundAndSign(t *testing.T) {
	dir := t.TempDir()
	store := open(t, dir)
	for _, algorithm := range []keys.Algorithm{keys.ECDSAP256, keys.ECDSAP384, keys.RSA2048} {
		t.Run(algorithm.String(), func(t *testing.T) {
			made, err := store.Create(t.Context(), algorithm.String(), algorithm)
			if err != nil {
				t.Fatal(err)
			}
			if want := "pkcs11:token=signet%20test;object=" + algorithm.String(); made.URI != want {
				t.Errorf("URI %s, want %s", made.URI, want)
			}
			found, err := open(t, dir).Open(t.Context(), made.URI)
			if err != nil {
				t.Fatal(err)
			}
			if !found.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(made.Public()) || found.Secret != made.Secret || keys.AlgorithmOf(found.Public()) != algorithm {
				t.Error("what was found is not what was made")
			}
			sign(t, made)
			sign(t, found)
			if _, err := store.Create(t.Context(), algorithm.String(), algorithm); pki.KindOf(err) != pki.KindConflict {
				t.Errorf("made twice: %v", err)
			}
		})
	}
}

// All sessions are closed behind the store's back, as a network HSM does when it restarts.
func TestASessionLossIsSurvived(t *testing.T) {
	store := open(t, t.TempDir())
	key, err := store.Create(t.Context(), "survivor", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	sign(t, key)
	for range 3 {
		closeSessions(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { sign(t, key) })
		}
		wg.Wait()
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	store := open(t, dir)
	key, err := store.Create(t.Context(), "alone", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	twin, err := store.Create(t.Context(), "twin", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	beside, err := crypto11.Configure(&crypto11.Config{Path: module(t), TokenLabel: "signet test", Pin: pin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := beside.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := beside.GenerateECDSAKeyPairWithLabel([]byte("another"), []byte("twin"), elliptic.P256()); err != nil {
		t.Fatal(err)
	}
	good := pkcs11.Config{Module: module(t), Token: "signet test", PIN: theirs, SecretsDir: dir, Passphrase: []byte("correct horse")}
	with := func(change func(*pkcs11.Config)) func() error {
		return func() error {
			config := good
			change(&config)
			_, err := pkcs11.New(config)
			return err
		}
	}
	uri := func(text string) func() error {
		return func() error { _, err := store.Open(t.Context(), text); return err }
	}
	tests := []struct {
		name string
		do   func() error
		kind pki.Kind
	}{
		{"no module", with(func(c *pkcs11.Config) { c.Module = "" }), pki.KindInvalid},
		{"a module that is not there", with(func(c *pkcs11.Config) { c.Module = "/nowhere.so" }), pki.KindFailedPrecondition},
		{"no PIN", with(func(c *pkcs11.Config) { c.PIN = nil }), pki.KindInvalid},
		{"another token", with(func(c *pkcs11.Config) { c.Token = "other" }), pki.KindUnavailable}, // it may come,
		{"one session", with(func(c *pkcs11.Config) { c.MaxSessions = 1 }), pki.KindInvalid},
		{"no such key", uri("pkcs11:token=signet%20test;object=nobody"), pki.KindNotFound},
		{"two keys of the name", uri(twin.URI), pki.KindFailedPrecondition},
		{"a key elsewhere", uri("pkcs11:token=other;object=alone"), pki.KindFailedPrecondition},
		{"a PIN in the URI", uri(key.URI + "?pin-value=" + pin), pki.KindInvalid},
		{"a module in the URI", uri(key.URI + "?module-path=/x.so"), pki.KindInvalid},
		{"an unknown attribute", uri(key.URI + ";serial=1"), pki.KindInvalid},
		{"a path", uri("pkcs11:token=signet%20test;object=..%2Fx"), pki.KindInvalid},
		{"another scheme", uri("softkey:alone"), pki.KindInvalid},
		{"Ed25519", func() error { _, err := store.Create(t.Context(), "ed", keys.Ed25519); return err }, pki.KindInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := test.do(); err == nil || pki.KindOf(err) != test.kind {
				t.Errorf("got %v, want kind %s", err, test.kind)
			}
		})
	}
	if err := os.Remove(filepath.Join(dir, "alone.serial")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), key.URI); pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("without its serial secret: %v", err)
	}
}

// An issuer whose key is in the token issues and signs its CRL, and goes on after the sessions are lost.
func TestATokenIssuesAndSignsACRL(t *testing.T) {
	db := testdb.SQLite(t)
	profiles, err := profile.Open("")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(t.Context(), ca.Config{Profiles: profiles, Keys: keys.Schemes{Default: "pkcs11", Stores: map[string]keys.Store{"pkcs11": open(t, t.TempDir())}},
		Issuers: db, Ranges: db, Certificates: db, Inventory: db, Audit: db})
	if err != nil {
		t.Fatal(err)
	}
	admin := auth.Principal{ID: "token:admin", Account: "admin", Role: auth.RoleAdmin}
	manage, err := admin.Authorize(auth.ActionManage, "")
	if err != nil {
		t.Fatal(err)
	}
	root, err := authority.CreateIssuer(t.Context(), manage, ca.NewIssuer{Label: "hsm-root", Subject: ca.Subject{CommonName: "Root in a Token"}, BaseURL: "http://pki.test"})
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := authority.CreateIssuer(t.Context(), manage, ca.NewIssuer{Label: "hsm-issuing", Subject: ca.Subject{CommonName: "Issuing in a Token"}, BaseURL: "http://pki.test", Parent: root.ID})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.example.com"}}, leaf)
	if err != nil {
		t.Fatal(err)
	}
	issue, err := admin.Authorize(auth.ActionIssue, "server")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		issued, err := authority.Issue(t.Context(), issue, ca.Request{Profile: "server", Issuer: issuing.ID, CSR: csr})
		if err != nil {
			t.Fatal(err)
		}
		certificate, signer, err := authority.IssuerSigner(t.Context(), issuing.ID)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(issued.DER)
		if err != nil {
			t.Fatal(err)
		}
		if err := parsed.CheckSignatureFrom(certificate); err != nil {
			t.Error(err)
		}
		if _, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), NextUpdate: parsed.NotAfter}, certificate, signer); err != nil {
			t.Error(err)
		}
		closeSessions(t)
	}
}

// logout ends the login of this process behind the store's back.
func logout(t *testing.T) {
	t.Helper()
	library := p11.New(module(t))
	slots, err := library.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		session, err := library.OpenSession(slot, p11.CKF_SERIAL_SESSION)
		if err == nil {
			_ = library.Logout(session) // of a slot that is not logged in to, there is nothing to end
			err = library.CloseSession(session)
		}
		if err != nil && err != p11.Error(p11.CKR_TOKEN_NOT_RECOGNIZED) {
			t.Fatal(err)
		}
	}
}

// closeSessions closes every session of this process behind the store's back.
func closeSessions(t *testing.T) {
	t.Helper()
	library := p11.New(module(t))
	if err := library.Initialize(); err != nil && err != p11.Error(p11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		t.Fatal(err)
	}
	slots, err := library.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		if err := library.CloseAllSessions(slot); err != nil {
			t.Fatal(err)
		}
	}
}

// A key that another program made in the token gets a secret, if it can sign and nobody objects to it.
func TestAKeyOfTheTokenIsImported(t *testing.T) {
	dir := t.TempDir()
	store := open(t, dir)
	foreign := func(label string, make func(*crypto11.Context, []byte) error) {
		t.Helper()
		token, err := crypto11.Configure(&crypto11.Config{Path: module(t), TokenLabel: "signet test", Pin: pin})
		if err != nil {
			t.Fatal(err)
		}
		defer token.Close()
		if err := make(token, []byte(label)); err != nil {
			t.Fatal(err)
		}
	}
	ec := func(curve elliptic.Curve) func(*crypto11.Context, []byte) error {
		return func(token *crypto11.Context, label []byte) error {
			_, err := token.GenerateECDSAKeyPairWithLabel([]byte("another id of "+string(label)), label, curve)
			return err
		}
	}
	anything := func(crypto.PublicKey) error { return nil }
	secret := func(label string) string { return filepath.Join(dir, label+".serial") }

	foreign("foreign-ec", ec(elliptic.P384()))
	foreign("foreign-rsa", func(token *crypto11.Context, label []byte) error {
		_, err := token.GenerateRSAKeyPairWithLabel([]byte("rsa"), label, 2048)
		return err
	})
	for _, label := range []string{"foreign-ec", "foreign-rsa"} {
		if _, err := store.Open(t.Context(), store.URI(label)); pki.KindOf(err) != pki.KindFailedPrecondition {
			t.Fatalf("before: %v", err)
		}
		imported, err := store.Import(t.Context(), label, anything)
		if err != nil {
			t.Fatal(err)
		}
		found, err := open(t, dir).Open(t.Context(), imported.URI)
		if err != nil || found.Secret != imported.Secret || found.Secret == (pki.SerialSecret{}) {
			t.Fatalf("%s: another secret, or %v", label, err)
		}
		sign(t, found)
		before, err := os.ReadFile(secret(label))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Import(t.Context(), label, anything); pki.KindOf(err) != pki.KindConflict {
			t.Errorf("once more: %v", err)
		}
		if after, err := os.ReadFile(secret(label)); err != nil || string(after) != string(before) {
			t.Errorf("the secret was replaced: %v", err)
		}
	}

	foreign("unwanted", ec(elliptic.P256()))
	foreign("small", func(token *crypto11.Context, label []byte) error {
		_, err := token.GenerateRSAKeyPairWithLabel(label, label, 1024)
		return err
	})
	foreign("mute", func(token *crypto11.Context, label []byte) error {
		public, err := crypto11.NewAttributeSetWithIDAndLabel(label, label)
		if err != nil {
			return err
		}
		private := public.Copy()
		if err := errors.Join(public.Set(p11.CKA_VERIFY, true), private.Set(p11.CKA_SIGN, false), private.Set(p11.CKA_DERIVE, true)); err != nil {
			return err
		}
		_, err = token.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P256())
		return err
	})
	for label, test := range map[string]struct {
		check func(crypto.PublicKey) error
		kind  pki.Kind
	}{
		"unwanted": {func(crypto.PublicKey) error { return pki.Errorf(pki.KindRefused, "check", "no") }, pki.KindRefused},
		"small":    {anything, pki.KindInvalid},
		"mute":     {anything, pki.KindFailedPrecondition},
		"nothing":  {anything, pki.KindNotFound},
		"No Name":  {anything, pki.KindInvalid},
		"../other": {anything, pki.KindInvalid},
	} {
		if _, err := store.Import(t.Context(), label, test.check); pki.KindOf(err) != test.kind {
			t.Errorf("%s: %v, want %s", label, err, test.kind)
		}
		if _, err := os.Stat(secret(label)); err == nil {
			t.Errorf("%s: it left a secret", label)
		}
	}
}
