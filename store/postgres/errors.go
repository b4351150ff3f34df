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

// raised are the SQLSTATEs that the functions of the migrations raise themselves. MESSAGE becomes the cause, HINT the
// hint and COLUMN the field of the *pki.Error.
var raised = map[string]pki.Kind{
	"SG400": pki.KindInvalid,
	"SG403": pki.KindRefused,
	"SG404": pki.KindNotFound,
	"SG409": pki.KindConflict,
	"SG412": pki.KindFailedPrecondition,
	"SG429": pki.KindExhausted,
}

// hints say what to do about the server's own SQLSTATEs that are the operator's to mend: a connection string, or what it leads to, is
// another than the database was set up with.
var hints = map[string]string{
	"28P01": "check the user and its password; the password belongs into ~/.pgpass or PGPASSFILE",
	"28000": "check the user of the connection string, and pg_hba.conf",
	"3D000": "make the database first: createdb",
	"42501": "give the user of the connection string what was taken from it: GRANT",
	"42703": store.OtherSchema, // undefined_column
	"42P01": store.OtherSchema, // undefined_table
	"42883": store.OtherSchema, // undefined_function
}

// notInState is what PostgreSQL says of a database that accepts no connections (object_not_in_prerequisite_state), and of much else to who has one: of
// a partition that cannot be detached while another is, for example.
const notInState = "55000"

// diskFull is what PostgreSQL says when a file cannot grow (disk_full).
const diskFull = "53100"

// isOfLimit reports whether temp_file_limit ended a statement (configuration_limit_exceeded), which says nothing about the disk.
func isOfLimit(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	return ok && server.Code == "53400"
}

// typed are raised SQLSTATEs that become a room's own error value, so that callers can act on it.
var typed = map[string]func(op string, server *pgconn.PgError) error{
	"SG911": func(op string, server *pgconn.PgError) error {
		return &pki.Error{Kind: pki.KindConflict, Op: op, Err: fmt.Errorf("%w: %s", crlserver.ErrFenced, server.Message)}
	},
	"SG910": func(op string, server *pgconn.PgError) error {
		return &pki.Error{Kind: pki.KindConflict, Op: op, Err: fmt.Errorf("%w: %s", revocation.ErrStale, server.Message)}
	},
}

// translateOpening is translate for what comes of opening a database. What the operator has to mend is of KindFailedPrecondition there:
// nobody has worked with it yet, and waiting mends nothing. Later it is of KindUnavailable, as somebody changes what was right, and changes it back.
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

// translatePreparing is translateOpening for what comes of making tables. From PostgreSQL 15 on only the owner of a database may, and what a
// superuser makes with createdb is the superuser's.
func translatePreparing(config *pgx.ConnConfig, err error) error {
	const insufficientPrivilege = "42501"
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == insufficientPrivilege {
		return pki.Errorf(pki.KindFailedPrecondition, "open database", "user %s may not make tables in database %s: %w", config.User, config.Database, err).
			WithHint("let it own the database: ALTER DATABASE %s OWNER TO %s", pgx.Identifier{config.Database}.Sanitize(), pgx.Identifier{config.User}.Sanitize())
	}
	return translateOpening("open database", err)
}

// translate turns what pgx returns into a *pki.Error; nil stays nil. It is the only place that looks at SQLSTATEs.
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

// unreached says in one line what pgx says in several: it tries a host with TLS and without, and both fail alike; or the server has no TLS, and what
// it says without is what matters.
type unreached struct{ *pgconn.ConnectError }

func (e unreached) Error() string {
	tried := strings.Split(e.Unwrap().Error(), "\n")
	if several, ok := e.Unwrap().(interface{ Unwrap() []error }); ok {
		tried = telling(several.Unwrap())
	}
	slices.Sort(tried)
	return fmt.Sprintf("connect to %s as %s: %s", e.Config.Database, e.Config.User, strings.Join(slices.Compact(tried), "; "))
}

// refusedTLS ends what pgx says of a server without TLS; it has no value for it (pgconn, startTLS).
const refusedTLS = "server refused TLS connection"

// telling are the attempts, without those at an address where the server has no TLS and answered another one. Whatever else TLS failed with is the
// cause, and what the server then says of a connection without it is not.
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

// addressOf is what pgx writes before what went wrong with an attempt.
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
		code == notInState, code == "55P03", code == "25P03", code == "25006", // gone, shut down, deadlock, out of resources, lock timeout, idle timeout, read-only
		hints[code] != "": // the operator's to mend
		return pki.KindUnavailable
	}
	return pki.KindInternal
}
