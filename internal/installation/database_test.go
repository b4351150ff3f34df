package installation_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

// A database file that was lost is not replaced by an empty one, and books without an issuer are not moved on.
func TestLostDatabase(t *testing.T) {
	dir := t.TempDir()
	config, err := settings.Parse(filepath.Join(dir, "signet.yaml"), []byte("database: sqlite:lost.db\npublic_url: http://pki.example\n"), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := installation.OpenDatabase(t.Context(), config, "test", true); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := installation.Advance(t.Context(), config, true, time.Now()); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("moved on: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lost.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := installation.Advance(t.Context(), config, true, time.Now()); pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("empty books, moved on: %v", err)
	}
}
