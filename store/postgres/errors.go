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

// hints say what to do about the server's own SQLSTATEs that a wrong connection string brings about.
var hints = map[string]string{
	"28P01": "check the user and its password; the password belongs into ~/.pgpass or PGPASSFILE",
	"28000": "check the user of the connection string, and pg_hba.conf",
	"3D000": "make the database first: createdb",
	"42703": store.OtherSchema, // undefined_column
	"42P01": store.OtherSchema, // undefined_table
	"42883": store.OtherSchema, // undefined_function
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

// translate turns what pgx returns into a *pki.Error; nil stays nil. It is the only place that looks at SQLSTATEs.
func translate(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*pki.Error](err); ok {
		return err
	}
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = unreached{failed}
	}
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		if typedError, ok := typed[server.Code]; ok {
			return typedError(op, server)
		}
		if kind, ok := raised[server.Code]; ok {
			return &pki.Error{Kind: kind, Op: op, Field: server.ColumnName, Hint: server.Hint, Err: errors.New(server.Message)}
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

// unreached says in one line what pgx says in several: it tries a host with TLS and without, and both fail alike.
type unreached struct{ *pgconn.ConnectError }

func (e unreached) Error() string {
	tried := strings.Split(e.Unwrap().Error(), "\n")
	slices.Sort(tried)
	return fmt.Sprintf("connect to %s as %s: %s", e.Config.Database, e.Config.User, strings.Join(slices.Compact(tried), "; "))
}

// kindOf classifies the server's own SQLSTATEs (PostgreSQL manual, appendix A).
func kindOf(code string) pki.Kind {
	switch {
	case code == "23505": // unique_violation
		return pki.KindConflict
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57"), strings.HasPrefix(code, "40"), strings.HasPrefix(code, "53"),
		code == "55P03", code == "25P03", code == "25006": // gone, shut down, deadlock, out of resources, lock timeout, idle timeout, read-only
		return pki.KindUnavailable
	case code == "28P01", code == "28000", code == "3D000", // wrong password, role, database: the operator's to mend
		code == "42703", code == "42P01", code == "42883": // a schema of another version
		return pki.KindFailedPrecondition
	}
	return pki.KindInternal
}
