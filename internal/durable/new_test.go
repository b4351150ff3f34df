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
