// Package testdb gives tests real databases: a throw-away PostgreSQL server per test binary, a fresh database in it per
// test, and temporary SQLite files. A test binary that uses it has TestMain call Main.
package testdb

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"signet.example/signet/store"
	"signet.example/signet/store/postgres"
	"signet.example/signet/store/sqlite"
)

// Each runs a test on both databases, each time with a store of its own, closed when the test ends.
func Each(t *testing.T, test func(t *testing.T, s store.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t)) })
}

// SQLite opens a fresh SQLite file. It does not wait for the disk.
func SQLite(t testing.TB) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: filepath.Join(t.TempDir(), "signet.db"), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close SQLite: %v", err)
		}
	})
	return s
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
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close PostgreSQL: %v", err)
		}
	})
	return s
}
