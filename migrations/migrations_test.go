package migrations_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/migrations"
	"signet.example/signet/pki"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// database is one empty database, of either kind.
type database struct {
	dialect string
	migrate func() error // as another instance would: on a connection of its own
	status  func() (migrations.Status, error)
	exec    func(statement string) error
}

func each(t *testing.T, test func(t *testing.T, d database)) {
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		open := func() *sql.DB {
			db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_txlock=immediate")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			return db
		}
		db := open()
		test(t, database{"sqlite",
			func() error { return migrations.SQLite(t.Context(), path, open()) },
			func() (migrations.Status, error) { return migrations.SQLiteStatus(t.Context(), db) },
			func(statement string) error { _, err := db.Exec(statement); return err },
		})
	})
	t.Run("postgres", func(t *testing.T) {
		config, err := pgx.ParseConfig(testdb.EmptyURL(t))
		if err != nil {
			t.Fatal(err)
		}
		test(t, database{"postgres",
			func() error { return migrations.Postgres(t.Context(), config) },
			func() (migrations.Status, error) { return migrations.PostgresStatus(t.Context(), config) },
			func(statement string) error {
				conn, err := pgx.ConnectConfig(t.Context(), config)
				if err != nil {
					return err
				}
				defer conn.Close(t.Context())
				_, err = conn.Exec(t.Context(), statement)
				return err
			},
		})
	})
}

func TestManyInstancesStartAtOnce(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if err := d.migrate(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		status, err := d.status()
		if err != nil || status.Dirty || status.Version != status.Latest || status.Latest == 0 {
			t.Errorf("%+v, %v", status, err)
		}
	})
}

func TestOlderSchemaIsMigrated(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		if status, err := d.status(); err != nil || status.Version != 0 || status.Dirty {
			t.Fatalf("an empty database: %+v, %v", status, err)
		}
		first, err := os.ReadFile(filepath.Join(d.dialect, "0001_base.up.sql"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.exec(string(first)); err != nil {
			t.Fatal(err)
		}
		digest, err := migrations.Digest(d.dialect, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.exec(`INSERT INTO schema_migrations (version, dirty) VALUES (1, false);
			CREATE TABLE schema_files (version bigint PRIMARY KEY, sha256 text NOT NULL); INSERT INTO schema_files VALUES (1, '` + digest + `')`); err != nil {
			t.Fatal(err)
		}
		if err := d.migrate(); err != nil {
			t.Fatal(err)
		}
		if status, err := d.status(); err != nil || status.Version != status.Latest {
			t.Errorf("%+v, %v", status, err)
		}
	})
}

// A migration that breaks off leaves the schema and the version of before, and the next start goes on from there.
func TestMigrationBreaksOff(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		if err := d.exec(`CREATE TABLE epochs (x int)`); err != nil { // in the way of the third, after it has made other tables
			t.Fatal(err)
		}
		if err := d.migrate(); err == nil {
			t.Fatal("nothing was in the way")
		}
		if status, err := d.status(); err != nil || status.Dirty || status.Version != 2 {
			t.Fatalf("after it broke off: %+v, %v", status, err)
		}
		if err := d.exec(`DROP TABLE epochs`); err != nil {
			t.Fatal(err)
		}
		if err := d.migrate(); err != nil {
			t.Fatal(err)
		}
		if status, err := d.status(); err != nil || status.Dirty || status.Version != status.Latest {
			t.Errorf("at last: %+v, %v", status, err)
		}
	})
}

// The version comes with what it is the version of: if it cannot be written, nothing of the migration is there.
func TestVersionIsRecordedWithItsSchema(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		if _, err := d.status(); err != nil { // makes the table
			t.Fatal(err)
		}
		if err := d.exec(`ALTER TABLE schema_migrations ADD COLUMN note text NOT NULL DEFAULT 'x' CHECK (version < 3)`); err != nil {
			t.Fatal(err)
		}
		if err := d.migrate(); err == nil {
			t.Fatal("version 3 was written")
		}
		if err := d.exec(`SELECT count(*) FROM issuers`); err == nil {
			t.Error("what the third migration makes is there, and its version is not")
		}
		if status, err := d.status(); err != nil || status.Dirty || status.Version != 2 {
			t.Errorf("%+v, %v", status, err)
		}
	})
}

// A build whose files are others is told apart, whether it said so or is older than that.
func TestSchemaOfAnotherBuildIsRefused(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		if err := d.migrate(); err != nil {
			t.Fatal(err)
		}
		if err := d.migrate(); err != nil {
			t.Fatal(err)
		}
		for _, change := range []string{`UPDATE schema_files SET sha256 = 'x'`, `DELETE FROM schema_files`, `DROP TABLE schema_files`} {
			if err := d.exec(change); err != nil {
				t.Fatal(err)
			}
			if status, err := d.status(); err != nil || !status.Differs || status.Dirty || status.Version != status.Latest {
				t.Errorf("%s: %+v, %v", change, status, err)
			}
			err := d.migrate()
			schema, ok := errors.AsType[*migrations.SchemaError](err)
			if !ok || !schema.Differs || !strings.Contains(err.Error(), "another build") {
				t.Errorf("%s: %v", change, err)
			}
		}
	})
}

func TestSchemaIsRefused(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		if err := d.migrate(); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name, set, hint string
			dirty           bool
		}{
			{"newer", `UPDATE schema_migrations SET version = 9999`, "newer signet", false},
			{"newer and half way", `UPDATE schema_migrations SET dirty = true`, "newer signet", true},
			{"half way", `UPDATE schema_migrations SET version = 2`, "backup", true},
		} {
			if err := d.exec(test.set); err != nil {
				t.Fatal(err)
			}
			err := d.migrate()
			schema, ok := errors.AsType[*migrations.SchemaError](err)
			if !ok || pki.KindOf(err) != pki.KindFailedPrecondition || schema.Dirty != test.dirty {
				t.Errorf("%s: %v", test.name, err)
				continue
			}
			if e, _ := errors.AsType[*pki.Error](err); test.name != "newer and half way" && !strings.Contains(e.Hint, test.hint) {
				t.Errorf("%s: the hint says %q", test.name, e.Hint)
			}
		}
	})
}

// Both databases have the same steps.
func TestNumbersAgree(t *testing.T) {
	names := map[string][]string{}
	for _, dialect := range []string{"postgres", "sqlite"} {
		files, err := filepath.Glob(filepath.Join(dialect, "*.sql"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			names[dialect] = append(names[dialect], filepath.Base(file))
		}
	}
	if fmt.Sprint(names["postgres"]) != fmt.Sprint(names["sqlite"]) || len(names["sqlite"]) == 0 {
		t.Errorf("PostgreSQL has %v, SQLite %v", names["postgres"], names["sqlite"])
	}
}
