package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/store/sqlite"
)

func open(path, purpose string) (*sqlite.Store, error) {
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path, Purpose: purpose, Unsafe: true})
	return s, err
}

// One process at a time opens a file; the second is told who the first is.
func TestOneProcessOpensAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signet.db")
	first, err := open(path, "signet serve")
	if err != nil {
		t.Fatal(err)
	}
	_, err = open(path, "signet serve")
	locked, ok := errors.AsType[*sqlite.LockedError](err)
	if want := fmt.Sprintf("signet serve (process %d)", os.Getpid()); !ok || pki.KindOf(err) != pki.KindFailedPrecondition || locked.Holder != want {
		t.Fatalf("second open: %v; want it to name %q", err, want)
	}
	if _, err := sqlite.Status(t.Context(), sqlite.Config{Path: path}); pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("status beside a running process: %v", err)
	}
	if err := first.AppendAudit(t.Context(), []audit.Event{{Actor: "a", Outcome: audit.OK}}); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if head, err := again.AuditHead(t.Context()); err != nil || head.Seq != 1 {
		t.Errorf("what was written: %+v, %v", head, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others may read it", info.Mode(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		kind pki.Kind
	}{
		{"", pki.KindInvalid},
		{filepath.Join(dir, "missing", "signet.db"), pki.KindFailedPrecondition},
		{garbage, pki.KindFailedPrecondition},
		{dir, pki.KindFailedPrecondition},
	} {
		s, err := open(test.path, "")
		if err == nil {
			s.Close()
		}
		if err == nil || pki.KindOf(err) != test.kind {
			t.Errorf("%q: %v; want %s", test.path, err, test.kind)
		}
	}
	odd := filepath.Join(dir, "odd ?name#%20.db")
	s, err := open(odd, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Stat(odd); err != nil {
		t.Errorf("a path with odd characters: %v", err)
	}
}
