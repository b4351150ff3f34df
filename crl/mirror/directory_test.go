package mirror_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"signet.example/signet/crl"
	"signet.example/signet/crl/mirror"
)

// list is a list with a number.
func list(t *testing.T, number uint64) crl.Document {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name, err := asn1.Marshal(pkix.Name{CommonName: "Shared CA"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	template := crl.Template{Issuer: name, KeyID: []byte("shared"), Number: number, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	document, _, err := template.Sign(nil, key)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// TestDirectoryIndex: an index is of what the folder has while nobody else writes, and a file that it is already stays.
func TestDirectoryIndex(t *testing.T) {
	dir := t.TempDir()
	d := mirror.NewDirectory(dir)
	if err := d.Put(t.Context(), "crl/x/a.crl", list(t, 1), 1); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), "crl/w/b.crl", list(t, 1), 1); err != nil { // of another issuer
		t.Fatal(err)
	}
	path := filepath.Join(dir, "crl", "x", "index.json")
	var first os.FileInfo
	for range 2 {
		if err := d.PutIndex(t.Context(), "crl/x/index.json", func(names []string) ([]byte, error) {
			if ok, err := flock.New(filepath.Join(dir, ".signet.lock")).TryLock(); ok || err != nil {
				t.Errorf("others may write meanwhile (%v)", err)
			}
			return []byte(names[0]), nil
		}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if data, readErr := os.ReadFile(path); err != nil || readErr != nil || string(data) != "crl/x/a.crl" {
			t.Fatalf("the index is %q: %v, %v", data, err, readErr)
		}
		if first != nil && !os.SameFile(first, info) {
			t.Error("what had not changed was written again")
		}
		first = info
	}
	if err := d.PutIndex(t.Context(), "crl/x/index.json", func([]string) ([]byte, error) { return nil, errors.New("no power") }); err == nil {
		t.Error("an index that could not be made is no error")
	}
	if err := d.PutIndex(t.Context(), "crl/x/index.json", func([]string) ([]byte, error) { return []byte("other"), nil }); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "other" {
		t.Errorf("the index is %q: %v", data, err)
	}
}

// TestSharedDirectory: of instances that write to one folder, none replaces a list by an older one, whether it wrote the
// newer one or finds it; what is no list is replaced.
func TestSharedDirectory(t *testing.T) {
	old, young := list(t, 1), list(t, 2)
	dir := t.TempDir()
	one, two := mirror.NewDirectory(dir), mirror.NewDirectory(dir)
	name := "crl/x.crl"
	for i, step := range []struct {
		to     *mirror.Directory
		doc    crl.Document
		number uint64
		want   crl.Document
	}{{one, young, 2, young}, {two, old, 1, young}, {one, old, 1, young}, {two, young, 2, young}} {
		if err := step.to.Put(t.Context(), name, step.doc, step.number); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != string(step.want.Bytes()) {
			t.Errorf("after step %d the file is another: %v", i, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("no list"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := two.Put(t.Context(), name, old, 1); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != string(old.Bytes()) {
		t.Errorf("what was no list is still there: %v", err)
	}
	held := flock.New(filepath.Join(dir, ".signet.lock"))
	if ok, err := held.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	defer held.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := one.Put(ctx, name, young, 2); err == nil {
		t.Error("it wrote while another instance was writing")
	}
}

// What an instance that was killed left on its way is gone after the next list of that name; what another is writing now stays.
func TestWhatAKilledInstanceLeft(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "crl")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	left, now := filepath.Join(folder, ".new-1-x.crl"), filepath.Join(folder, ".new-2-x.crl")
	for _, path := range []string{left, now} {
		if err := os.WriteFile(path, []byte("half a l"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(left, long, long); err != nil {
		t.Fatal(err)
	}
	if err := mirror.NewDirectory(dir).Put(t.Context(), "crl/x.crl", list(t, 1), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	if _, err := os.Stat(now); err != nil {
		t.Errorf("another's is gone: %v", err)
	}
}
