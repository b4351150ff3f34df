package installation_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/settings"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

func TestMain(m *testing.M) { testdb.Main(m) }

var passphrase = []byte("correct horse battery staple")

// databases returns, for each kind of database, the URLs of two empty ones.
func databases(t *testing.T) map[string][2]string {
	return map[string][2]string{
		"sqlite":   {"sqlite:signet.db", ""},
		"postgres": {testdb.EmptyURL(t), testdb.EmptyURL(t)},
	}
}

func initialize(t *testing.T, database string) (*installation.Initialized, *settings.Config) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	made, err := installation.Initialize(t.Context(), installation.InitConfig{Dir: dir, Database: database, PublicURL: "http://pki.example", Passphrase: passphrase, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	return made, load(t, made.Config)
}

func load(t *testing.T, path string) *settings.Config {
	t.Helper()
	c, err := settings.Load(path, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// open opens the database of a configuration for the length of the test.
func open(t *testing.T, c *settings.Config) store.Store {
	t.Helper()
	db, err := installation.OpenDatabase(t.Context(), c, "test", true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestInitializeMakesAnAuthority(t *testing.T) {
	t.Parallel()
	for name, urls := range databases(t) {
		t.Run(name, func(t *testing.T) {
			made, config := initialize(t, urls[0])
			db := open(t, config)
			issuers, err := db.Issuers(t.Context())
			if err != nil || len(issuers) != 2 {
				t.Fatalf("%d issuers, %v", len(issuers), err)
			}
			for i, issuer := range issuers {
				if issuer.State != ca.IssuerActive || issuer.ID != made.Issuers[i].ID || issuer.BaseURL != "http://pki.example" {
					t.Errorf("issuer %+v, want %+v", issuer, made.Issuers[i])
				}
			}
			if err := verifyAudit(t.Context(), db); err != nil {
				t.Error(err)
			}
			// A second authority in the same database would share its books by accident.
			if name == "postgres" {
				dir := filepath.Join(t.TempDir(), "second")
				_, err := installation.Initialize(t.Context(), installation.InitConfig{Dir: dir, Database: urls[0], PublicURL: "http://pki.example", Passphrase: passphrase, Unsafe: true})
				if pki.KindOf(err) != pki.KindConflict {
					t.Errorf("a second authority in the database gives %v", err)
				}
				if _, err := os.Stat(filepath.Join(dir, "keys")); err == nil {
					t.Error("a failed init left its keys behind")
				}
			}
		})
	}
}

func verifyAudit(ctx context.Context, db store.Store) error {
	var chain audit.Chain
	for batch, err := range db.AuditBatches(ctx, 0) {
		if err != nil {
			return err
		}
		if err := chain.Add(batch.Events, batch.Head); err != nil {
			return err
		}
	}
	return nil
}

// TestAPIName: an API that other machines can reach has a certificate for the name that they are likely to use.
func TestAPIName(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ listen, public, want string }{
		{":8443", "http://pki.example:8080/x", "pki.example"}, {"0.0.0.0:8443", "http://pki.example", "pki.example"}, {"192.0.2.1:8443", "http://pki.example", "pki.example"},
		{":8443", "http://pki.example.", "pki.example"}, {":8443", "http://signet_ca:8080", ""}, {":8443", "http://192.0.2.7:8080", "192.0.2.7"},
		{"127.0.0.1:8443", "http://pki.example", ""}, {"[::1]:8443", "http://pki.example", ""}, {"localhost:8443", "http://pki.example", ""},
	} {
		made, err := installation.Initialize(t.Context(), installation.InitConfig{
			Dir: filepath.Join(t.TempDir(), "state"), PublicURL: tc.public, APIListen: tc.listen, Passphrase: passphrase,
		})
		if err != nil {
			t.Fatal(err)
		}
		if names := load(t, made.Config).API.Names; strings.Join(names, " ") != tc.want {
			t.Errorf("%s, %s: %q, want %q", tc.listen, tc.public, names, tc.want)
		}
	}
}
