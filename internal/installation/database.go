package installation

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"signet.example/signet/internal/settings"
	"signet.example/signet/migrations"
	"signet.example/signet/pki"
	"signet.example/signet/store"
	"signet.example/signet/store/postgres"
	"signet.example/signet/store/sqlite"
)

// OpenDatabase opens the database of the configuration and migrates it. purpose is what is told to whoever finds a
// SQLite file locked; unsafe accepts a PostgreSQL that can lose what it confirmed.
//
// A SQLite file that is not there is an error, and not made: one that was lost would be replaced by an empty one.
func OpenDatabase(ctx context.Context, c *settings.Config, purpose string, unsafe bool) (store.Store, error) {
	if path, ok := c.SQLitePath(); ok {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, pki.Errorf(pki.KindNotFound, "open database", "%s does not exist", path).InField("database").
				WithHint("bring the file back from where it is, or restore a backup (signet restore); for a new authority: signet init")
		}
	}
	return createDatabase(ctx, c, purpose, unsafe)
}

// createDatabase is OpenDatabase, and makes a SQLite file that is not there.
func createDatabase(ctx context.Context, c *settings.Config, purpose string, unsafe bool) (store.Store, error) {
	// Errors are returned apart: a nil *Store in an interface is not nil.
	if path, ok := c.SQLitePath(); ok {
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
func DatabaseStatus(ctx context.Context, c *settings.Config) (migrations.Status, error) {
	path, ok := c.SQLitePath()
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

// sqliteFiles are the SQLite file, its logs and its locks; none for another database.
func sqliteFiles(c *settings.Config) (files []string) {
	if path, ok := c.SQLitePath(); ok {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal", ".lock", ".migrate.lock"} {
			files = append(files, path+suffix)
		}
	}
	return files
}
