package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"

	"signet.example/signet/pki"
)

// Backup writes a copy of the database at path to a new file, as of one moment. Another process may have the database
// open. This process must not have a Store of the file: see the package comment.
func Backup(ctx context.Context, path, to string) error {
	const op = "back up database"
	if _, err := os.Stat(path); err != nil {
		return pki.Errorf(pki.KindNotFound, op, "%w", err).InField("database")
	}
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return pki.Errorf(pki.KindConflict, op, "%s exists already", to)
	}
	db, err := sql.Open("sqlite", dsn(path, false, false))
	if err != nil {
		return translateOpening(op, err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return translateOpening(op, err)
	}
	return translateOpening(op, os.Chmod(to, 0o600))
}
