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

// translateOpening is translate for errors while a file is opened. What the operator has to remedy is of
// KindFailedPrecondition here: it has never worked, and waiting does not help. In a running server it is of
// KindUnavailable, as in store/postgres.
func translateOpening(op string, err error) error {
	if driver, ok := errors.AsType[*sqlite.Error](err); ok && hints[driver.Code()&0xff] != "" {
		return &pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Hint: hints[driver.Code()&0xff], Err: err}
	}
	return translate(op, err)
}

// hints are for the primary result codes that the operator can remedy.
var hints = map[int]string{
	codes.SQLITE_ERROR:   store.OtherSchema, // a table or column is missing: no statement is made from input
	codes.SQLITE_CORRUPT: damaged,
	codes.SQLITE_NOTADB:  damaged,
}

const (
	damaged  = "the file is damaged or no Signet database: restore a backup"
	mayWrite = "is the disk there, and may this user write to the database file?"
)

// translate turns an error of the driver into a *pki.Error; nil stays nil. Only this function looks at result codes.
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
	primary := driver.Code() & 0xff // the extended codes refine it
	switch primary {
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED, codes.SQLITE_INTERRUPT:
		return &pki.Error{Kind: pki.KindUnavailable, Op: op, Err: err}
	case codes.SQLITE_FULL:
		return store.DiskFull(op, err)
	case codes.SQLITE_IOERR, codes.SQLITE_CANTOPEN, codes.SQLITE_READONLY:
		return &pki.Error{Kind: pki.KindUnavailable, Op: op, Hint: mayWrite, Err: err}
	case codes.SQLITE_ERROR, codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		return &pki.Error{Kind: pki.KindUnavailable, Op: op, Hint: hints[primary], Err: err}
	}
	return &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
}
