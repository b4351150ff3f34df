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

// OpenDatabase opens the database of the configuration and migrates it. purpose is shown to other processes that find a
// SQLite file locked. unsafe accepts a PostgreSQL that can lose confirmed writes.
//
// A missing SQLite file is an error; it is not created, because an empty file would take the place of a lost one.
func OpenDatabase(ctx context.Context, c *settings.Config, purpose string, unsafe bool) (store.Store, error) {
	if path, ok := c.SQLitePath(); ok {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, pki.Errorf(pki.KindNotFound, "open database", "%s does not exist", path).InField("database").
				WithHint("bring the file back from where it is, or restore a backup (signet restore); for a new authority: signet init")
		}
	}
	return createDatabase(ctx, c, purpose, unsafe)
}

// createDatabase is OpenDatabase, but creates a missing SQLite file.
func createDatabase(ctx context.Context, c *settings.Config, purpose string, unsafe bool) (store.Store, error) {
	// Each error returns a literal nil: a nil *Store in an interface is not nil.
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

// DatabaseStatus returns the state of the schema without migrating it. The version of a missing SQLite file is 0.
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

// IsLocked reports whether an error says that another process has the SQLite file open.
func IsLocked(err error) bool {
	_, locked := errors.AsType[*sqlite.LockedError](err)
	return locked
}

// sqliteFiles returns the paths of the SQLite file, its logs and its locks; none for another database.
func sqliteFiles(c *settings.Config) (files []string) {
	if path, ok := c.SQLitePath(); ok {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal", ".lock", ".migrate.lock"} {
			files = append(files, path+suffix)
		}
	}
	return files
}
