package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// translate turns what the driver returns into a *pki.Error; nil stays nil. It is the only place that looks at result
// codes.
func translate(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*pki.Error](err); ok {
		return err
	}
	if errors.Is(err, sql.ErrNoRows) {
		return &pki.Error{Kind: pki.KindNotFound, Op: op, Err: err}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &pki.Error{Kind: pki.KindUnavailable, Op: op, Err: err}
	}
	driver, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
	}
	switch driver.Code() {
	case codes.SQLITE_CONSTRAINT_UNIQUE, codes.SQLITE_CONSTRAINT_PRIMARYKEY:
		return &pki.Error{Kind: pki.KindConflict, Op: op, Err: err}
	case codes.SQLITE_CONSTRAINT_TRIGGER: // the triggers that keep histories append-only
		return &pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Err: err}
	}
	switch driver.Code() & 0xff { // the extended codes refine the primary one in the low octet
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED, codes.SQLITE_INTERRUPT:
		return &pki.Error{Kind: pki.KindUnavailable, Op: op, Err: err}
	case codes.SQLITE_ERROR: // a table or column is missing: no statement is put together from input
		return &pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Hint: store.OtherSchema, Err: err}
	case codes.SQLITE_FULL:
		return &pki.Error{Kind: pki.KindUnavailable, Op: op, Hint: "the disk is full", Err: err}
	case codes.SQLITE_IOERR, codes.SQLITE_CANTOPEN, codes.SQLITE_READONLY:
		return &pki.Error{Kind: pki.KindUnavailable, Op: op, Hint: "is the disk there, and may this user write to the database file?", Err: err}
	case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		return &pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Hint: "the file is damaged or no Signet database: restore a backup", Err: err}
	}
	return &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
}
