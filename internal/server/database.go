package server

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"signet.example/signet/migrations"
	"signet.example/signet/pki"
	"signet.example/signet/store"
	"signet.example/signet/store/postgres"
	"signet.example/signet/store/sqlite"
)

// OpenDatabase opens the database of the configuration and migrates it. purpose is what is told to whoever finds a
// SQLite file locked; unsafe accepts a PostgreSQL that can lose what it confirmed.
func (c *Config) OpenDatabase(ctx context.Context, purpose string, unsafe bool) (store.Store, error) {
	// Errors are returned apart: a nil *Store in an interface is not nil.
	if path, ok := c.sqlitePath(); ok {
		db, err := sqlite.Open(ctx, sqlite.Config{Path: path, Purpose: purpose})
		if err != nil {
			return nil, err
		}
		return db, nil
	}
	db, err := postgres.Open(ctx, postgres.Config{URL: c.Database, Unsafe: unsafe})
	if err != nil {
		return nil, err
	}
	return db, nil
}

// DatabaseStatus says where the schema stands, without migrating it. A SQLite file that is not there yet stands at 0.
func (c *Config) DatabaseStatus(ctx context.Context) (migrations.Status, error) {
	path, ok := c.sqlitePath()
	if !ok {
		return postgres.Status(ctx, postgres.Config{URL: c.Database})
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return migrations.Status{}, pki.Errorf(pki.KindNotFound, "read schema version", "%s does not exist", path).
			WithHint("run `signet init` first, or restore a backup")
	}
	return sqlite.Status(ctx, sqlite.Config{Path: path, Purpose: "signet migrate"})
}

// IsLocked reports whether an error says that another process has the SQLite file.
func IsLocked(err error) bool {
	_, locked := errors.AsType[*sqlite.LockedError](err)
	return locked
}

// DatabaseName names the database without any password, for people.
func (c *Config) DatabaseName() string {
	if path, ok := c.sqlitePath(); ok {
		return "SQLite, " + path
	}
	return "PostgreSQL"
}

// sqlitePath is the path of the SQLite file, if the database is one.
func (c *Config) sqlitePath() (string, bool) {
	name, ok := strings.CutPrefix(c.Database, "sqlite:")
	if !ok {
		return "", false
	}
	return c.Path(name), true
}

// sqliteFiles are the SQLite file, its logs and its locks; none for another database.
func (c *Config) sqliteFiles() (files []string) {
	if path, ok := c.sqlitePath(); ok {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal", ".lock", ".migrate.lock"} {
			files = append(files, path+suffix)
		}
	}
	return files
}
