package agent_test

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/agent"
	"signet.example/signet/pki"
)

// Where the key cannot be written, the certificate stays too: a service that reads both goes on.
func TestBothFilesOrNone(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	pair(t, dir, time.Now())
	pair(t, other, time.Now())
	at := agent.Files{Certificate: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "a.key")}
	next, err := agent.Files{Certificate: filepath.Join(other, "a.pem"), Key: filepath.Join(other, "a.key")}.Read()
	if err != nil {
		t.Fatal(err)
	}
	chain, keyPEM, before := read(t, filepath.Join(other, "a.pem")), read(t, filepath.Join(other, "a.key")), read(t, at.Certificate)

	nowhere := agent.Files{Certificate: at.Certificate, Key: filepath.Join(dir, "taken")}
	if err := os.Mkdir(nowhere.Key, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := nowhere.Install(next.Key, keyPEM, chain); err == nil || !bytes.Equal(read(t, at.Certificate), before) {
		t.Errorf("the key could not be written (%v), and the certificate was", err)
	}
	if err := os.Remove(nowhere.Key); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{at.Certificate: 0o640, at.Key: 0o440} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := at.Install(next.Key, keyPEM, chain); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(at.Certificate, at.Key); err != nil || !bytes.Equal(read(t, at.Certificate), chain) {
		t.Errorf("the new pair: %v", err)
	}
	for path, want := range map[string]os.FileMode{at.Certificate: 0o640, at.Key: 0o440} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// unfinished leaves a pair in dir whose certificate was renewed but whose key was not replaced yet.
func unfinished(t *testing.T) (at agent.Files, wanted []byte) {
	t.Helper()
	dir, other := t.TempDir(), t.TempDir()
	pair(t, dir, time.Now())
	pair(t, other, time.Now())
	at = agent.Files{Certificate: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "a.key")}
	next, err := agent.Files{Certificate: filepath.Join(other, "a.pem"), Key: filepath.Join(other, "a.key")}.Read()
	if err != nil {
		t.Fatal(err)
	}
	if err := at.Begin(next.Key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at.Certificate, read(t, filepath.Join(other, "a.pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	return at, read(t, filepath.Join(other, "a.key"))
}

// A user who may write to the directory cannot get other text than the key into the key file.
func TestUnfinishedKeepsNothingBeforeTheKey(t *testing.T) {
	at, wanted := unfinished(t)
	foreign := append([]byte("* * * * * root id\n"), read(t, at.Key+".next")...)
	if err := os.WriteFile(at.Key+".next", foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if done, err := at.Complete(); !done || err != nil {
		t.Fatalf("it was not finished: %t, %v", done, err)
	}
	if key := read(t, at.Key); !bytes.Equal(key, wanted) {
		t.Errorf("the key file holds %q", key)
	}
}

// KEY.next counts only if no other user can have made it.
func TestUnfinishedOfOthers(t *testing.T) {
	for what, spoil := range map[string]func(next string) error{
		"readable by others": func(next string) error { return os.Chmod(next, 0o640) },
		"a link": func(next string) error {
			return errors.Join(os.Rename(next, next+".elsewhere"), os.Symlink(filepath.Base(next)+".elsewhere", next))
		},
		"a directory": func(next string) error { return errors.Join(os.Remove(next), os.Mkdir(next, 0o600)) },
	} {
		t.Run(what, func(t *testing.T) {
			at, _ := unfinished(t)
			before := read(t, at.Key)
			if err := spoil(at.Key + ".next"); err != nil {
				t.Fatal(err)
			}
			done, err := at.Complete()
			if e, ok := errors.AsType[*pki.Error](err); done || !ok || e.Kind != pki.KindInvalid || e.Hint == "" {
				t.Errorf("it was finished: %t, %v", done, err)
			}
			if !bytes.Equal(read(t, at.Key), before) {
				t.Error("the key was replaced")
			}
		})
	}
}

// A key that is there without a certificate is used, or is in the way; it is never replaced.
func TestAKeyWithoutACertificate(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	pair(t, dir, time.Now())
	pair(t, other, time.Now())
	at := agent.Files{Certificate: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "a.key")}
	chain := read(t, at.Certificate)
	own, err := at.Read()
	if err != nil {
		t.Fatal(err)
	}
	if first, err := at.FirstKey(keys.ECDSAP256, false); err != nil || first.Public().(*ecdsa.PublicKey).Equal(own.Key.Public()) {
		t.Errorf("beside its certificate the key is used again: %v", err)
	}
	if first, err := at.FirstKey(keys.ECDSAP256, true); err != nil || !first.Public().(*ecdsa.PublicKey).Equal(own.Key.Public()) {
		t.Errorf("beside its certificate, and to be used again, it is not: %v", err)
	}
	if err := os.Remove(at.Certificate); err != nil {
		t.Fatal(err)
	}
	before := append([]byte("# of the service\n"), read(t, at.Key)...)
	if err := os.WriteFile(at.Key, before, 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := at.FirstKey(keys.ECDSAP256, false)
	if err != nil || !first.Public().(*ecdsa.PublicKey).Equal(own.Key.Public()) {
		t.Fatalf("the key that is there is not used: %v", err)
	}
	if _, err := at.FirstKey(keys.NoAlgorithm, false); err != nil {
		t.Errorf("where any kind will do, the key is not used: %v", err)
	}
	if _, err := at.FirstKey(keys.RSA2048, false); pki.KindOf(err) != pki.KindConflict {
		t.Errorf("a key of another kind is used: %v", err)
	}
	stranger, err := agent.Files{Certificate: filepath.Join(other, "a.pem"), Key: filepath.Join(other, "a.key")}.Read()
	if err != nil {
		t.Fatal(err)
	}
	if err := at.Install(stranger.Key, read(t, filepath.Join(other, "a.key")), read(t, filepath.Join(other, "a.pem"))); pki.KindOf(err) != pki.KindConflict || !strings.HasSuffix(pki.Explain(err), "remove "+at.Key+".next") {
		t.Errorf("the key is replaced, or it is not said how to have it used: %v", err)
	}
	if _, err := os.Stat(at.Certificate); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a certificate of another key is beside it: %v", err)
	}
	if err := at.Install(first, []byte("another text"), chain); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, at.Key), before) || !bytes.Equal(read(t, at.Certificate), chain) {
		t.Errorf("the key file holds %q", read(t, at.Key))
	}

	// So it is after a crash between the two files.
	if err := os.Remove(at.Certificate); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(at.Begin(first), os.WriteFile(at.Certificate, chain, 0o600)); err != nil {
		t.Fatal(err)
	}
	if done, err := at.Complete(); !done || err != nil || !bytes.Equal(read(t, at.Key), before) {
		t.Errorf("finished: %t, %v; the key file holds %q", done, err, read(t, at.Key))
	}

	if err := errors.Join(os.Remove(at.Certificate), os.WriteFile(at.Key, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := at.FirstKey(keys.ECDSAP256, false); pki.KindOf(err) != pki.KindConflict {
		t.Errorf("a key that cannot be read: %v", err)
	}
	if err := at.Install(first, []byte("another text"), chain); pki.KindOf(err) != pki.KindConflict {
		t.Errorf("a key that cannot be read is replaced: %v", err)
	}
	if err := os.Remove(at.Key); err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []keys.Algorithm{keys.Ed25519, keys.NoAlgorithm} {
		if made, err := at.FirstKey(algorithm, false); err != nil || keys.AlgorithmOf(made.Public()) != cmp.Or(algorithm, keys.ECDSAP256) {
			t.Errorf("without a key the one for %s is %v", algorithm, err)
		}
	}
}

// An attempt is repeated with its request id, after any crash. Another attempt has another id, even if signature and so
// CSR are the same: otherwise its answer would be that of the one before, which may have been revoked since.
func TestAnotherAttempt(t *testing.T) {
	at := agent.Files{Certificate: filepath.Join(t.TempDir(), "a.pem")}
	at.Key = at.Certificate + ".key"
	key, err := keys.Generate(keys.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	begun := func() (id string) {
		t.Helper()
		if err := at.Begin(key); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			again, err := at.RequestID("server", "a.example")
			if err != nil || id != "" && again != id {
				t.Errorf("the same attempt has the names %q and %q, %v", id, again, err)
			}
			id = again
		}
		if other, err := at.RequestID("server", "b.example"); err != nil || other == id {
			t.Errorf("what asks for something else has the same name, %v", err)
		}
		return id
	}
	if first, second := begun(), begun(); first == second {
		t.Errorf("two attempts have the name %q", first)
	}
}

// installed returns the files of a new key and certificate, and what they hold.
func installed(t *testing.T) (agent.Files, *agent.Pair) {
	t.Helper()
	dir := t.TempDir()
	pair(t, dir, time.Now())
	at := agent.Files{Certificate: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "a.key")}
	old, err := at.Read()
	if err != nil {
		t.Fatal(err)
	}
	return at, old
}

// An answer that is the certificate to be replaced is refused, and its request is of no use any more.
func TestTheOldCertificateIsNoAnswer(t *testing.T) {
	at, old := installed(t)
	if err := at.Begin(old.Key); err != nil {
		t.Fatal(err)
	}
	if err := at.Settle(read(t, at.Certificate)); pki.KindOf(err) != pki.KindConflict {
		t.Errorf("the certificate that is to be replaced was installed: %v", err)
	}
	if _, err := os.Lstat(at.Key + ".next"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its request is kept: %v", err)
	}
}

// A request that is refused for good is removed, except one that replaces a lost key: another follows that one. Without
// any, the installed certificate would have the lost key used again.
func TestARefusalDoesNotBringBackALostKey(t *testing.T) {
	at, old := installed(t)
	begin := func() {
		t.Helper()
		if err := at.Begin(old.Key); err != nil {
			t.Fatal(err)
		}
	}
	refuse := func() crypto.Signer {
		t.Helper()
		if err := at.Refuse(pki.Errorf(pki.KindRefused, "issue certificate", "no")); err != nil {
			t.Fatal(err)
		}
		next, err := at.Next()
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	begin()
	if next := refuse(); next != nil {
		t.Errorf("a request that was refused is kept: %v", next.Public())
	}
	begin()
	if err := at.BeginAnew(); err != nil {
		t.Fatal(err)
	}
	seen := []crypto.Signer{old.Key}
	for range 3 {
		next := refuse()
		if next == nil || slices.ContainsFunc(seen, func(key crypto.Signer) bool { return reflect.DeepEqual(key.Public(), next.Public()) }) {
			t.Fatalf("after %d refusals the next is %v", len(seen), next)
		}
		seen = append(seen, next)
	}
}

// A new key is like the old one, if none is named.
func TestSuccessor(t *testing.T) {
	for _, algorithm := range []keys.Algorithm{keys.RSA2048, keys.ECDSAP384, keys.Ed25519} {
		old, err := keys.Generate(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		for named, want := range map[keys.Algorithm]keys.Algorithm{keys.NoAlgorithm: algorithm, keys.ECDSAP256: keys.ECDSAP256} {
			if next, err := agent.Successor(old, named); err != nil || keys.AlgorithmOf(next.Public()) != want {
				t.Errorf("after %s, with %s named: %v", algorithm, named, err)
			}
		}
	}
	odd, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = agent.Successor(odd, keys.NoAlgorithm)
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindInvalid || e.Hint == "" {
		t.Errorf("after a key of no kind that is made here: %v", err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
