package softkey_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/youmark/pkcs8"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/pki"
)

func open(t *testing.T, dir, passphrase string) *softkey.Store {
	t.Helper()
	store, err := softkey.New(softkey.Config{Dir: dir, Passphrase: []byte(passphrase)})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func privateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEveryAlgorithmIsMadeOpenedAndReadByOpenSSL(t *testing.T) {
	dir := privateDir(t)
	store := open(t, dir, "correct horse")
	for _, algorithm := range []keys.Algorithm{keys.ECDSAP256, keys.ECDSAP521, keys.RSA2048, keys.Ed25519} {
		t.Run(algorithm.String(), func(t *testing.T) {
			made, err := store.Create(t.Context(), algorithm.String(), algorithm)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := open(t, dir, "correct horse").Open(t.Context(), made.URI)
			if err != nil {
				t.Fatal(err)
			}
			if !opened.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(made.Public()) || opened.Secret != made.Secret {
				t.Fatal("what was opened is not what was made")
			}
			if got := keys.AlgorithmOf(opened.Public()); got != algorithm {
				t.Errorf("algorithm %s, want %s", got, algorithm)
			}
			digest, opts := sha256.Sum256([]byte("x")), crypto.SignerOpts(crypto.SHA256)
			message := digest[:]
			if _, ok := opened.Public().(ed25519.PublicKey); ok {
				opts = crypto.Hash(0)
			}
			if _, err := opened.Sign(rand.Reader, message, opts); err != nil {
				t.Error(err)
			}
			cmd := exec.Command("openssl", "pkey", "-in", filepath.Join(dir, algorithm.String()+".key"), "-passin", "stdin", "-pubout")
			cmd.Stdin = strings.NewReader("correct horse\n")
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("openssl: %v", err)
			}
			block, _ := pem.Decode(out)
			want, _ := x509.MarshalPKIXPublicKey(made.Public())
			if block == nil || string(block.Bytes) != string(want) {
				t.Error("openssl reads another public key")
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	dir := privateDir(t)
	store := open(t, dir, "correct horse")
	made, err := store.Create(t.Context(), "root", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(filepath.Join(dir, "root.key"))
	tests := []struct {
		name string
		do   func() error
		kind pki.Kind
	}{
		{"never overwritten", func() error { _, err := store.Create(t.Context(), "root", keys.ECDSAP256); return err }, pki.KindConflict},
		{"a name that leaves the directory", func() error { _, err := store.Create(t.Context(), "../root", keys.ECDSAP256); return err }, pki.KindInvalid},
		{"a URI that leaves the directory", func() error { _, err := store.Open(t.Context(), "softkey:../keys/root"); return err }, pki.KindInvalid},
		{"no algorithm", func() error { _, err := store.Create(t.Context(), "none", keys.NoAlgorithm); return err }, pki.KindInvalid},
		{"no such key", func() error { _, err := store.Open(t.Context(), "softkey:other"); return err }, pki.KindNotFound},
		{"another scheme", func() error { _, err := store.Open(t.Context(), "pkcs11:token=x"); return err }, pki.KindInvalid},
		{"wrong passphrase", func() error { _, err := open(t, dir, "wrong horse").Open(t.Context(), made.URI); return err }, pki.KindFailedPrecondition},
		{"short passphrase", func() error { _, err := softkey.New(softkey.Config{Dir: dir, Passphrase: []byte("short")}); return err }, pki.KindInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := test.do(); err == nil || pki.KindOf(err) != test.kind {
				t.Errorf("got %v, want kind %s", err, test.kind)
			}
		})
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "root.key")); string(after) != string(before) {
		t.Error("the key file changed")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files are left, want only the key", len(entries))
	}
	if err := os.Chmod(filepath.Join(dir, "root.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), made.URI); pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("a key that others can read: got %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := softkey.New(softkey.Config{Dir: dir, Passphrase: []byte("correct horse")}); err == nil {
		t.Error("a directory that others can enter was accepted")
	}
}

// A key that this build cannot read, such as one of ML-DSA in a build with Go 1.26, is not called a wrong passphrase. OpenSSL makes one
// of a kind that no Go reads.
func TestAKeyOfAKindThatThisBuildDoesNotKnow(t *testing.T) {
	dir := privateDir(t)
	store := open(t, dir, "correct horse")
	made, err := store.Create(t.Context(), "root", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "root.key")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", "openssl genpkey -algorithm X448 | openssl pkcs8 -topk8 -scrypt -passout 'pass:correct horse'").Output()
	if err != nil {
		t.Fatalf("openssl: %v", err)
	}
	secret := text[bytes.Index(text, []byte("-----BEGIN SIGNET")):]
	if err := os.WriteFile(path, append(out, secret...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), made.URI)
	e, ok := errors.AsType[*pki.Error](err)
	if !ok || e.Kind != pki.KindFailedPrecondition || !strings.Contains(e.Error(), "the passphrase is right") || strings.Contains(e.Hint, "passphrase") {
		t.Fatalf("got %v", err)
	}
	if needs := pki.MLDSA44.Supported() != nil; strings.Contains(e.Hint, "Go 1.27") != needs {
		t.Errorf("hint %q", e.Hint)
	}
	_, err = open(t, dir, "wrong horse").Open(t.Context(), made.URI)
	if e, ok := errors.AsType[*pki.Error](err); !ok || !strings.Contains(e.Hint, "passphrase") {
		t.Errorf("with the wrong passphrase: %v", err)
	}
}

// The hint about a key file that does not open depends on what is wrong with it.
func TestHintsAboutAKeyThatDoesNotOpen(t *testing.T) {
	dir := privateDir(t)
	made, err := open(t, dir, "correct horse").Create(t.Context(), "root", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "root.key")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, passphrase string
		text             []byte
		mode             os.FileMode
		says, hint       string
	}{
		{"another passphrase", "wrong horse", whole, 0o600, "root.key: the passphrase does not open it", "is this the passphrase that the key was made with?"},
		{"empty", "correct horse", nil, 0o600, "does not begin with a PEM block", "restore it from a backup"},
		{"garbage", "correct horse", []byte("garbage"), 0o600, "does not begin with a PEM block", "restore it from a backup"},
		{"without its secret", "correct horse", whole[:bytes.Index(whole, []byte("-----BEGIN SIGNET"))], 0o600, "has no PEM block", "restore it from a backup"},
		{"readable", "correct horse", whole, 0o644, "others can read it", "chmod 600 " + path + ", and consider whether somebody has read it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, c.text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := open(t, dir, c.passphrase).Open(t.Context(), made.URI)
			if e, ok := errors.AsType[*pki.Error](err); !ok || !strings.Contains(e.Error(), c.says) || e.Hint != c.hint {
				t.Errorf("got %v, next %q", err, e.Hint)
			}
		})
	}
}

func TestAKeyOfAnotherCAIsImported(t *testing.T) {
	store := open(t, privateDir(t), "correct horse")
	signer, err := keys.Generate(keys.ECDSAP384)
	if err != nil {
		t.Fatal(err)
	}
	first, err := store.Import(t.Context(), "old", signer)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := store.Open(t.Context(), store.URI("old"))
	if err != nil {
		t.Fatal(err)
	}
	if !opened.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(signer.Public()) || opened.Secret != first.Secret || opened.Secret == (pki.SerialSecret{}) {
		t.Error("what was opened is not what was imported")
	}
	if _, err := store.Import(t.Context(), "old", signer); pki.KindOf(err) != pki.KindConflict {
		t.Errorf("imported over another: %v", err)
	}
}

// Keys that other programs encrypted are read, whatever they stretch the passphrase with.
func TestDecrypt(t *testing.T) {
	signer, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	passphrase := []byte("theirs")
	for name, opts := range map[string]*pkcs8.Opts{
		"scrypt": {Cipher: pkcs8.AES256CBC, KDFOpts: pkcs8.ScryptOpts{SaltSize: 8, CostParameter: 1024, BlockSize: 8, ParallelizationParameter: 1}},
		"PBKDF2": {Cipher: pkcs8.AES128CBC, KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 8, IterationCount: 2048, HMACHash: crypto.SHA256}},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := pkcs8.MarshalPrivateKey(signer, passphrase, opts)
			if err != nil {
				t.Fatal(err)
			}
			read, err := softkey.Decrypt(der, passphrase)
			if err != nil || !read.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(signer.Public()) {
				t.Errorf("%v, %v", read, err)
			}
			if _, err := softkey.Decrypt(der, []byte("another")); err == nil {
				t.Error("another passphrase opens it")
			}
			if _, err := softkey.Decrypt(der[:len(der)-1], passphrase); err == nil {
				t.Error("half of it was read")
			}
		})
	}
	exchange, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := pkcs8.MarshalPrivateKey(exchange, passphrase, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := softkey.Decrypt(der, passphrase); err == nil {
		t.Error("a key that signs nothing was read as one that signs")
	}
}

// What is not understood to the last octet is not replaced: it would be lost.
func TestReseal(t *testing.T) {
	dir := privateDir(t)
	before, after := []byte("correct horse"), []byte("battery staple")
	made, err := open(t, dir, string(before)).Create(t.Context(), "ca", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ca.key")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key, rest := pem.Decode(text)
	secret, _ := pem.Decode(rest)
	one, other := string(pem.EncodeToMemory(key)), string(pem.EncodeToMemory(secret))
	damaged := strings.Replace(other, "\n", "\n!", 1)
	for name, bad := range map[string]string{
		"nothing": "", "text before": "x\n" + one + other, "text between": one + "x\n" + other, "text after": one + other + "x\n",
		"a damaged block after": one + other + damaged, "a damaged block between": one + damaged + other, "a block cut short": one + other[:len(other)/2],
		"a key without its secret": one, "the secret first": other + one, "two secrets": one + other + other, "another block": one + other + "-----BEGIN NOTE-----\n-----END NOTE-----\n",
	} {
		if sealed, err := softkey.Reseal([]byte(bad), before, after); err == nil {
			t.Errorf("%s: was made %q", name, sealed)
		}
	}
	sealed, err := softkey.Reseal([]byte(one+"\n"+other+"\n"), before, after)
	if err == nil {
		err = os.WriteFile(path, sealed, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	found, err := open(t, dir, string(after)).Open(t.Context(), made.URI)
	if err != nil || found.Secret != made.Secret || !found.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(made.Public()) {
		t.Errorf("what was sealed again: %v, %v", found, err)
	}
	if _, err := softkey.Reseal([]byte(other), before, after); err != nil {
		t.Errorf("the secret beside a key in a token: %v", err)
	}
}

// A key keeps its file under another name, never in the place of another; a rename that was cut short after its first step is completed.
func TestRename(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := softkey.New(softkey.Config{Dir: dir, Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := store.Create(t.Context(), name, keys.ECDSAP256); err != nil {
			t.Fatal(err)
		}
	}
	a, err := store.Open(t.Context(), store.URI("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Rename("a", "b"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("in the place of another: %v", err)
	}
	if err := os.Link(filepath.Join(dir, "a.key"), filepath.Join(dir, "c.key")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []struct{ from, to string }{{"a", "c"}, {"c", "d"}} {
		if err := store.Rename(name.from, name.to); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(t.Context(), store.URI(name.from)); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("the old name: %v", err)
		}
		if key, err := store.Open(t.Context(), store.URI(name.to)); err != nil || !bytes.Equal(key.Secret[:], a.Secret[:]) {
			t.Errorf("the new name: %v", err)
		}
	}
	for _, name := range []struct{ from, to string }{{"d", "../d"}, {"../d", "d"}} {
		if err := store.Rename(name.from, name.to); pki.KindOf(err) != pki.KindInvalid {
			t.Errorf("%v: %v", name, err)
		}
	}
	if err := store.Rename("nowhere", "e"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that is not there: %v", err)
	}
}
