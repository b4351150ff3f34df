// Package testdb gives tests real databases: a throw-away PostgreSQL server per test binary, a fresh database in it per
// test, and temporary SQLite files. A test binary that uses it has TestMain call Main.
package testdb

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/store"
	"signet.example/signet/store/postgres"
	"signet.example/signet/store/sqlite"
)

// Each runs a test on both databases at once, each with a store of its own, closed when the test ends.
func Each(t *testing.T, test func(t *testing.T, s store.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, Postgres(t)) })
}

// raw are the ways past the stores, for Exec.
var raw sync.Map // store.Store -> access

type access struct {
	exec  func(statement string, args []any) error
	close func()
}

// Exec runs a statement on the database of a store made here, past the store: for fixtures that no store makes, and
// for tests that damage things. Parameters are $1, $2 ...
func Exec(t testing.TB, s store.Store, statement string, args ...any) {
	t.Helper()
	if err := TryExec(s, statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// TryExec is Exec for statements that may fail.
func TryExec(s store.Store, statement string, args ...any) error {
	way, ok := raw.Load(s)
	if !ok {
		return fmt.Errorf("this store was not made by testdb")
	}
	return way.(access).exec(statement, args)
}

// SQLite opens a fresh SQLite file. It does not wait for the disk.
func SQLite(t testing.TB) *sqlite.Store {
	t.Helper()
	s := OpenSQLite(t, filepath.Join(t.TempDir(), "signet.db"))
	t.Cleanup(func() { Close(t, s) })
	return s
}

// OpenSQLite opens a file that the caller closes with Close: in a synctest bubble, before the bubble ends.
func OpenSQLite(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	return openSQLite(t, path, true)
}

// DurableSQLite opens a fresh SQLite file that waits for the disk: for benchmarks.
func DurableSQLite(t testing.TB) *sqlite.Store {
	t.Helper()
	s := openSQLite(t, filepath.Join(t.TempDir(), "signet.db"), false)
	t.Cleanup(func() { Close(t, s) })
	return s
}

func openSQLite(t testing.TB, path string, unsafe bool) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path, Unsafe: unsafe})
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	raw.Store(s, access{
		exec: func(statement string, args []any) error {
			_, err := db.Exec(strings.ReplaceAll(statement, "$", "?"), args...)
			return err
		},
		close: func() { db.Close() },
	})
	return s
}

// Close closes a store made here.
func Close(t testing.TB, s store.Store) {
	t.Helper()
	if way, ok := raw.LoadAndDelete(s); ok {
		way.(access).close()
	}
	if err := s.Close(); err != nil {
		t.Errorf("close database: %v", err)
	}
}

// Postgres opens a fresh database on the test binary's server, which does not wait for the disk.
func Postgres(t testing.TB) *postgres.Store {
	t.Helper()
	return Open(t, URL(t))
}

// Open opens another store on a database made by URL or (*Server).URL: another instance. It is closed when the test
// ends.
func Open(t testing.TB, url string) *postgres.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := postgres.Open(ctx, postgres.Config{URL: url, Unsafe: true, MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conn *pgx.Conn // opened by the first use
	raw.Store(s, access{
		exec: func(statement string, args []any) (err error) {
			mu.Lock()
			defer mu.Unlock()
			if conn == nil || conn.IsClosed() {
				if conn, err = pgx.Connect(context.Background(), url); err != nil {
					return err
				}
			}
			_, err = conn.Exec(context.Background(), statement, args...)
			return err
		},
		close: func() {
			if conn != nil {
				conn.Close(context.Background())
			}
		},
	})
	t.Cleanup(func() { Close(t, s) })
	return s
}
