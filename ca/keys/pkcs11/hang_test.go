//go:build cgo

package pkcs11_test

import (
	"crypto"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/keys/pkcs11"
	"signet.example/signet/pki"
)

// shim builds the module that hangs and fails on request, and returns the files that make it.
func shim(t *testing.T) (built, hang, fail string) {
	t.Helper()
	t.Cleanup(func() { awaitRelease(t) })
	dir := t.TempDir()
	built, hang, fail = filepath.Join(dir, "hang.so"), filepath.Join(dir, "hang"), filepath.Join(dir, "fail")
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", built, "testdata/hang.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv("SIGNET_TEST_MODULE", module(t))
	t.Setenv("SIGNET_TEST_HANG", hang)
	t.Setenv("SIGNET_TEST_FAIL", fail)
	return built, hang, fail
}

// A C_Sign that does not return is given up; what hangs is bounded, and the key works again when the call has
// returned. A key that fails says so until it signs again.
func TestAModuleThatHangs(t *testing.T) {
	path, hang, fail := shim(t)
	store, err := pkcs11.New(pkcs11.Config{Module: path, Token: "signet test", PIN: theirs, SecretsDir: t.TempDir(), Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	g := keys.NewGuard(keys.GuardConfig{Store: store, Deadline: 3 * time.Second, Places: 2})
	key, err := g.Create(t.Context(), "hangs", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	sign(t, key)

	digest := make([]byte, 32)
	try := func() error {
		_, err := key.For(keys.ForCertificate).Sign(rand.Reader, digest, crypto.SHA256)
		return err
	}
	touch(t, hang)
	for range 5 {
		if err := try(); pki.KindOf(err) != pki.KindUnavailable {
			t.Errorf("a call that hangs: %v", err)
		}
	}
	if u := g.Usage()[0]; u.Hanging != 2 || u.Abandoned != 2 || u.Purposes[keys.ForCertificate].Failures != 5 {
		t.Errorf("usage %+v", u)
	}
	letGo(t, hang, g)
	sign(t, key)

	touch(t, fail)
	if err := try(); err == nil {
		t.Error("a device error is no error")
	}
	if u := g.Usage()[0]; u.Failing == nil {
		t.Errorf("usage %+v", u)
	}
	remove(t, fail)
	sign(t, key)
	if u := g.Usage()[0]; u.Failing != nil || u.Hanging != 0 {
		t.Errorf("usage %+v", u)
	}
}

// A login that does not return, after sessions were lost, keeps nobody whose sessions work, and not Close; who needs it is given up at the
// deadline, and all goes on when it returns.
func TestALoginThatHangs(t *testing.T) {
	path, _, fail := shim(t)
	hang := filepath.Join(t.TempDir(), "login")
	t.Setenv("SIGNET_TEST_HANG_LOGIN", hang)
	store, err := pkcs11.New(pkcs11.Config{Module: path, Token: "signet test", PIN: theirs, SecretsDir: t.TempDir(), Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	g := keys.NewGuard(keys.GuardConfig{Store: store, Deadline: 3 * time.Second, Places: 2})
	guarded, err := g.Create(t.Context(), "lost", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := store.Create(t.Context(), "works", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	sign(t, bare)
	try := func() error {
		_, err := guarded.For(keys.ForCertificate).Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
		return err
	}
	loseSession := func() {
		t.Helper()
		touch(t, hang)
		touch(t, fail)
		if err := try(); pki.KindOf(err) != pki.KindUnavailable {
			t.Errorf("a login that hangs: %v", err)
		}
		remove(t, fail)
	}
	soon := func(what string, do func()) {
		t.Helper()
		done := make(chan struct{})
		go func() { defer close(done); do() }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("%s waits for the login", what)
		}
	}

	loseSession()
	soon("another key", func() { sign(t, bare) })
	soon("the same key", func() {
		if err := try(); err != nil {
			t.Errorf("the sessions work again: %v", err)
		}
	})
	letGo(t, hang, g)
	sign(t, guarded)
	sign(t, bare) // with handles of the new login

	loseSession()
	soon("Close", func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	letGo(t, hang, g)
}

// A PIN that is refused when sessions were lost is not tried again, which would lock the token, by nobody; one that was mended is, by
// itself. Nor does a store that is closed log in.
func TestARefusedPINIsNotTriedAgain(t *testing.T) {
	path, hang, fail := shim(t)
	refuse := filepath.Join(t.TempDir(), "refuse")
	t.Setenv("SIGNET_TEST_REFUSE", refuse)
	text := pin
	mended := pkcs11.NewPIN(func() ([]byte, error) {
		if text == "" {
			return nil, os.ErrNotExist
		}
		return []byte(text), nil
	})
	made := func(name string, pin *pkcs11.PIN) (*pkcs11.Store, *keys.Key, func() error) {
		store, err := pkcs11.New(pkcs11.Config{Module: path, Token: "signet test", PIN: pin, SecretsDir: t.TempDir(), Passphrase: []byte("correct horse")})
		if err != nil {
			t.Fatal(err)
		}
		key, err := store.Create(t.Context(), name, keys.ECDSAP256)
		if err != nil {
			t.Fatal(err)
		}
		sign(t, key)
		return store, key, func() error {
			_, err := key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
			return err
		}
	}
	refused, key, try := made("refused", mended)
	closed, other, tryClosed := made("closed", theirs)

	touch(t, fail)
	touch(t, refuse)
	wantPIN := func(when string, err error) {
		t.Helper()
		if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || e.Field != "pin" {
			t.Errorf("%s: %v", when, err)
		}
	}
	err := try()
	if wantPIN("a PIN that is refused", err); !strings.Contains(err.Error(), "refuses the PIN") {
		t.Error(err)
	}
	remove(t, refuse) // a login would succeed from here on, and the signature fail in the device
	wantPIN("after a PIN that was refused", try())
	_, err = pkcs11.New(pkcs11.Config{Module: path, Token: "signet test", PIN: mended, SecretsDir: t.TempDir(), Passphrase: []byte("correct horse")})
	wantPIN("by another store", err)
	text = ""
	wantPIN("while it cannot be read", try())
	text = pin + "0" // the token is logged in to, and takes any
	if e, ok := errors.AsType[*pki.Error](try()); ok {
		t.Errorf("another PIN: %v, want an error of the device", e)
	}
	remove(t, fail)
	sign(t, key) // the sessions that are left work
	if err := refused.Close(); err != nil {
		t.Error(err)
	}

	touch(t, hang)
	touch(t, fail)
	touch(t, refuse)
	signed, ended := make(chan error, 1), make(chan error, 1)
	go func() { signed <- tryClosed() }()
	until := func(what string, happened func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	until("it never signs", func() bool { info, err := os.Stat(hang); return err == nil && info.Size() > 0 })
	go func() { ended <- closed.Close() }()
	until("it never closes", func() bool { _, err := closed.Open(t.Context(), other.URI); return err != nil })
	remove(t, hang)
	if err := <-signed; err == nil || !strings.Contains(err.Error(), "closed") { // the PIN is refused: it logged in
		t.Errorf("a session that is lost when the store is closed: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A key says that it was not asked only of a call in which no signature was asked for: not of one whose first attempt came as far as the
// device, however it went on.
func TestAKeyThatWasNotAsked(t *testing.T) {
	path, _, fail := shim(t)
	refuse := filepath.Join(t.TempDir(), "refuse")
	t.Setenv("SIGNET_TEST_REFUSE", refuse)
	store, err := pkcs11.New(pkcs11.Config{Module: path, Token: "signet test", PIN: pkcs11.NewPIN(func() ([]byte, error) { return []byte(pin), nil }),
		SecretsDir: t.TempDir(), Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	key, err := store.Create(t.Context(), "asked", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	sign(t, key)
	want := func(when string, notAsked bool) {
		t.Helper()
		_, err := key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
		if err == nil || errors.Is(err, keys.ErrNotAsked) != notAsked {
			t.Errorf("%s: %v", when, err)
		}
	}
	touch(t, fail)
	want("a device error, twice", false)
	remove(t, fail)
	logout(t) // the token hides what it has, and does not say why
	sign(t, key)
	touch(t, fail)
	touch(t, refuse)
	want("a device error, and a login that is refused", false)
	closeSessions(t)
	want("no session, and no login", true)
	want("nor the next time", true)
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// awaitRelease waits until nobody uses SoftHSM. A store closes a login that it lost in the background, and SoftHSM, which is initialised through the
// shim until then, cannot be initialised by the tests that use it directly.
func awaitRelease(t *testing.T) {
	t.Helper()
	library := p11.New(module(t))
	defer library.Destroy()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		err := library.Initialize()
		if err == nil {
			err = library.Finalize()
		}
		if err == nil {
			return
		}
		if err != p11.Error(p11.CKR_CRYPTOKI_ALREADY_INITIALIZED) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// letGo ends the hanging of calls, and returns when all of them have.
func letGo(t *testing.T, hang string, g *keys.Guard) {
	t.Helper()
	remove(t, hang)
	for deadline := time.Now().Add(time.Minute); g.Usage()[0].Hanging > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the calls never return")
		}
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
