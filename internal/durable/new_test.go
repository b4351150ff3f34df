package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

func TestWriteNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := durable.WriteNew(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := durable.WriteNew(path, []byte("two"), 0o600)
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindConflict || e.Hint == "" {
		t.Errorf("overwriting gives %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "one" {
		t.Errorf("the file now holds %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
