package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

func TestWriteNew(t *testing.T) {
	for name, writeNew := range map[string]func(string, []byte, fs.FileMode) error{"links": durable.WriteNew, "no links": durable.WriteNewWithoutLinks} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "key")
			if err := writeNew(path, []byte("one"), 0o640); err != nil {
				t.Fatal(err)
			}
			err := writeNew(path, []byte("two"), 0o600)
			if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindConflict || e.Hint == "" {
				t.Errorf("overwriting gives %v", err)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != "one" {
				t.Errorf("the file now holds %q, %v", text, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("the directory holds %v, %v", entries, err)
			}
		})
	}
}

// TestWriteNewNowhere: the error names the file that was asked for, not one of this package's making.
func TestWriteNewNowhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "key")
	if err := durable.WriteNew(path, nil, 0o600); pki.KindOf(err) != pki.KindInvalid || !strings.Contains(err.Error(), " "+path+":") {
		t.Errorf("%v", err)
	}
}

func TestRename(t *testing.T) {
	for name, rename := range map[string]func(path, other string) error{"links": durable.Rename, "no links": durable.RenameWithoutLinks} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			one, other := filepath.Join(dir, "one"), filepath.Join(dir, "other")
			holds := func(want map[string]string) {
				t.Helper()
				entries, err := os.ReadDir(dir)
				if err != nil || len(entries) != len(want) {
					t.Errorf("the directory holds %v, %v", entries, err)
				}
				for path, content := range want {
					if text, err := os.ReadFile(path); err != nil || string(text) != content {
						t.Errorf("%s holds %q, %v", path, text, err)
					}
				}
			}
			if err := os.WriteFile(one, []byte("1"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := rename(one, other); err != nil {
				t.Fatal(err)
			}
			holds(map[string]string{other: "1"})
			if err := rename(one, filepath.Join(dir, "third")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what is not there: %v", err)
			}
			holds(map[string]string{other: "1"})
			if err := os.WriteFile(one, []byte("1"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := rename(one, other); !errors.Is(err, fs.ErrExist) {
				t.Errorf("in the place of another: %v", err)
			}
			holds(map[string]string{one: "1", other: "1"})
		})
	}
}
