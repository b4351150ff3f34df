package installation_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"signet.example/signet/internal/installation"
	"signet.example/signet/pki"
)

// A credential is made in the database of the server as it is, or not at all.
func TestCreateAdminWhereNoServerWas(t *testing.T) {
	t.Parallel()
	_, config := initialize(t, "sqlite:signet.db")
	refused := func(what string, want pki.Kind) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "token")
		if _, err := installation.CreateAdmin(t.Context(), config, "rescue", path, true); pki.KindOf(err) != want || err == nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a token was written", what)
		}
	}
	db, err := sql.Open("sqlite", config.Path("signet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE schema_migrations SET version = version - 1`); err != nil {
		t.Fatal(err)
	}
	before, err := installation.DatabaseStatus(t.Context(), config)
	if err != nil || before.Version+1 != before.Latest {
		t.Fatalf("%+v, %v", before, err)
	}
	refused("an older schema", pki.KindFailedPrecondition)
	if after, err := installation.DatabaseStatus(t.Context(), config); err != nil || after != before {
		t.Errorf("an older schema: now it is %+v, %v", after, err)
	}
	config.Database = "sqlite:elsewhere.db"
	refused("no database", pki.KindNotFound)
	if _, err := os.Stat(config.Path("elsewhere.db")); err == nil {
		t.Error("a database was made")
	}
	if err := os.WriteFile(config.Path("elsewhere.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("an empty database", pki.KindNotFound)
}
