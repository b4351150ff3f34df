package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// raised maps the SQLSTATEs that the functions of the migrations raise. MESSAGE becomes the cause, HINT the hint and
// COLUMN the field of the *pki.Error.
var raised = map[string]pki.Kind{
	"SG400": pki.KindInvalid,
	"SG403": pki.KindRefused,
	"SG404": pki.KindNotFound,
	"SG409": pki.KindConflict,
	"SG412": pki.KindFailedPrecondition,
	"SG429": pki.KindExhausted,
}

// hints are for the server's SQLSTATEs that the operator can remedy: the connection string, or the database behind it,
// is not what Signet was set up with.
var hints = map[string]string{
	"28P01": "check the user and its password; the password belongs into ~/.pgpass or PGPASSFILE",
	"28000": "check the user of the connection string, and pg_hba.conf",
	"3D000": "make the database first: createdb",
	"42501": "give the user of the connection string what was taken from it: GRANT",
	"42703": store.OtherSchema, // undefined_column
	"42P01": store.OtherSchema, // undefined_table
	"42883": store.OtherSchema, // undefined_function
}

// notInState is the SQLSTATE of a database that accepts no connections (object_not_in_prerequisite_state). On an open
// connection it has many other causes: for example, a partition cannot be detached while another is being detached.
const notInState = "55000"

// diskFull is the SQLSTATE if a file cannot grow (disk_full).
const diskFull = "53100"

// isOfLimit reports whether temp_file_limit ended a statement (configuration_limit_exceeded). That says nothing about
// the disk.
func isOfLimit(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	return ok && server.Code == "53400"
}

// typed maps raised SQLSTATEs to error values of other packages, so that callers can act on them.
var typed = map[string]func(op string, server *pgconn.PgError) error{
	"SG911": func(op string, server *pgconn.PgError) error {
		return &pki.Error{Kind: pki.KindConflict, Op: op, Err: fmt.Errorf("%w: %s", crlserver.ErrFenced, server.Message)}
	},
	"SG910": func(op string, server *pgconn.PgError) error {
		return &pki.Error{Kind: pki.KindConflict, Op: op, Err: fmt.Errorf("%w: %s", revocation.ErrStale, server.Message)}
	},
}

// translateOpening is translate for errors while a database is opened. What the operator has to remedy is of
// KindFailedPrecondition here: it has never worked, and waiting does not help. In a running server it is of
// KindUnavailable: it did work, and may be changed back.
func translateOpening(op string, err error) error {
	server, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && server.Code == notInState:
		return &pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Hint: "have the database accept connections again: ALTER DATABASE ... ALLOW_CONNECTIONS true", Err: oneLine(err)}
	case ok && hints[server.Code] != "":
		return &pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Hint: hints[server.Code], Err: oneLine(err)}
	}
	return translate(op, err)
}

// translatePreparing is translateOpening for errors while tables are created. From PostgreSQL 15 on only the owner of a
// database may create tables, and a database that a superuser creates with createdb belongs to the superuser.
func translatePreparing(config *pgx.ConnConfig, err error) error {
	const insufficientPrivilege = "42501"
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == insufficientPrivilege {
		return pki.Errorf(pki.KindFailedPrecondition, "open database", "user %s may not make tables in database %s: %w", config.User, config.Database, err).
			WithHint("let it own the database: ALTER DATABASE %s OWNER TO %s", pgx.Identifier{config.Database}.Sanitize(), pgx.Identifier{config.User}.Sanitize())
	}
	return translateOpening("open database", err)
}

// translate turns an error of pgx into a *pki.Error; nil stays nil. Only this function and its variants look at
// SQLSTATEs.
func translate(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*pki.Error](err); ok {
		return err
	}
	err = oneLine(err)
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		if typedError, ok := typed[server.Code]; ok {
			return typedError(op, server)
		}
		if kind, ok := raised[server.Code]; ok {
			return &pki.Error{Kind: kind, Op: op, Field: server.ColumnName, Hint: server.Hint, Err: errors.New(server.Message)}
		}
		if server.Code == diskFull {
			return store.DiskFull(op, err)
		}
		return &pki.Error{Kind: kindOf(server.Code), Op: op, Hint: hints[server.Code], Err: err}
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return &pki.Error{Kind: pki.KindNotFound, Op: op, Err: err}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &pki.Error{Kind: pki.KindUnavailable, Op: op, Err: err}
	}
	return &pki.Error{Kind: pki.KindUnavailable, Op: op, Hint: "is the database running and reachable?", Err: err}
}

func oneLine(err error) error {
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return unreached{failed}
	}
	return err
}

// unreached puts a connection error of pgx into one line. pgx tries a host with TLS and without: either both attempts
// fail alike, or the server has no TLS and the error without TLS is the one that matters.
type unreached struct{ *pgconn.ConnectError }

func (e unreached) Error() string {
	tried := strings.Split(e.Unwrap().Error(), "\n")
	if several, ok := e.Unwrap().(interface{ Unwrap() []error }); ok {
		tried = telling(several.Unwrap())
	}
	slices.Sort(tried)
	return fmt.Sprintf("connect to %s as %s: %s", e.Config.Database, e.Config.User, strings.Join(slices.Compact(tried), "; "))
}

// refusedTLS is the end of pgx's error about a server without TLS, for which it has no value (pgconn, startTLS).
const refusedTLS = "server refused TLS connection"

// telling returns the errors of the attempts that matter. An attempt that failed because the server has no TLS is left
// out if another attempt at that address got an answer. If TLS failed for any other reason, that is the cause, and the
// server's answer without TLS is not.
func telling(attempts []error) (tried []string) {
	answered := make(map[string]bool)
	for _, err := range attempts {
		if _, ok := errors.AsType[*pgconn.PgError](err); ok {
			answered[addressOf(err)] = true
		}
	}
	for _, err := range attempts {
		if !strings.HasSuffix(err.Error(), refusedTLS) || !answered[addressOf(err)] {
			tried = append(tried, err.Error())
		}
	}
	return tried
}

// addressOf returns the prefix that pgx writes before the error of an attempt.
func addressOf(attempt error) string {
	if wrong := errors.Unwrap(attempt); wrong != nil {
		return strings.TrimSuffix(attempt.Error(), wrong.Error())
	}
	return attempt.Error()
}

// kindOf classifies the server's own SQLSTATEs (PostgreSQL manual, appendix A).
func kindOf(code string) pki.Kind {
	switch {
	case code == "23505": // unique_violation
		return pki.KindConflict
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57"), strings.HasPrefix(code, "40"), strings.HasPrefix(code, "53"),
		// Gone, shut down, deadlock, out of resources, lock timeout, idle timeout, read-only.
		code == notInState, code == "55P03", code == "25P03", code == "25006",
		hints[code] != "": // the operator has to remedy it
		return pki.KindUnavailable
	}
	return pki.KindInternal
}
