// Package migrations carries the schema of both databases inside the binary and brings a database to it. Files go
// forward only: a database newer than the binary is refused, never walked back.
package migrations

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	pgxmigrate "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	sqlitemigrate "github.com/golang-migrate/migrate/v4/database/sqlite"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"signet.example/signet/pki"
)

//go:embed postgres/*.sql sqlite/*.sql
var files embed.FS

// lockTimeout is how long an instance waits for another that is migrating the same database.
const lockTimeout = 10 * time.Minute

// Status is where a database stands and where this binary wants it.
type Status struct {
	Version uint // of the database; 0: empty
	Latest  uint // that this binary knows
	Dirty   bool // a migration of an older program, which did not record with it, broke off in the middle of Version
	Differs bool // Version was made by the files of another build: before the first release they are edited in place
}

// Check explains why this binary must not use a database that stands there. Nil: it may, or may bring it up to date.
func (s Status) Check() error {
	if s.Dirty || s.Version > s.Latest || s.Differs {
		return refuse(s)
	}
	return nil
}

// SchemaError says that this binary must not use the database as it is. It is wrapped in a *pki.Error of
// KindFailedPrecondition whose hint says what to do.
type SchemaError struct{ Status }

// Error says what is wrong with the schema.
func (e *SchemaError) Error() string {
	if e.Dirty {
		return fmt.Sprintf("migration %d broke off half way", e.Version)
	}
	if e.Version <= e.Latest {
		return fmt.Sprintf("the schema was made by another build of signet, whose version %d is not the %d of this binary", e.Version, e.Version)
	}
	return fmt.Sprintf("the schema has version %d, newer than the %d that this binary knows", e.Version, e.Latest)
}

// Postgres migrates a PostgreSQL database to the latest version. Any number of instances may call it at once: a
// session advisory lock lets one through at a time. The connection must be direct, not through a transaction pooler.
func Postgres(ctx context.Context, config *pgx.ConnConfig) error {
	return withPostgres(config, func(s schema) error { return s.up(ctx) })
}

// PostgresCurrent reports whether a database has exactly the schema that this binary knows, so that nothing is to be
// done: a quick look, without the lock that Postgres takes.
func PostgresCurrent(ctx context.Context, conn *pgx.Conn) (bool, error) {
	latest, err := Latest("postgres")
	if err != nil {
		return false, err
	}
	var version int64
	var dirty bool
	err = conn.QueryRow(ctx, `SELECT version, dirty FROM schema_migrations`).Scan(&version, &dirty)
	const undefinedTable = "42P01"
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == undefinedTable || errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil || dirty || uint64(version) != uint64(latest) {
		return false, err
	}
	var there bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('schema_files') IS NOT NULL`).Scan(&there); err != nil || !there {
		return false, err
	}
	var made string
	if err := conn.QueryRow(ctx, madeBy, version).Scan(&made); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, err
	}
	digest, err := Digest("postgres", latest)
	return err == nil && made == digest, err
}

// PostgresStatus says where a PostgreSQL database stands. It changes nothing but creates the table of versions.
func PostgresStatus(_ context.Context, config *pgx.ConnConfig) (status Status, err error) {
	err = withPostgres(config, func(s schema) error {
		status, err = s.status()
		return err
	})
	return status, err
}

// SQLite migrates the file at path, opened as db, to the latest version. A lock file beside it lets one process
// through at a time: the driver's own lock holds within one process only.
func SQLite(ctx context.Context, path string, db *sql.DB) error {
	lock := flock.New(path + ".migrate.lock")
	waiting, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	if ok, err := lock.TryLockContext(waiting, 20*time.Millisecond); err != nil || !ok {
		return fmt.Errorf("lock %s for migration: %w", path, err)
	}
	defer lock.Close()
	return withSQLite(db, func(s schema) error { return s.up(ctx) })
}

// SQLiteStatus says where a SQLite database stands. It changes nothing but creates the table of versions.
func SQLiteStatus(_ context.Context, db *sql.DB) (status Status, err error) {
	err = withSQLite(db, func(s schema) error {
		status, err = s.status()
		return err
	})
	return status, err
}

// SQLiteInUse is SQLiteStatus of a database that another process has open: it only reads.
func SQLiteInUse(ctx context.Context, db *sql.DB) (Status, error) {
	latest, err := Latest("sqlite")
	if err != nil {
		return Status{}, err
	}
	status := Status{Latest: latest}
	if err := db.QueryRowContext(ctx, `SELECT version, dirty FROM schema_migrations`).Scan(&status.Version, &status.Dirty); err != nil {
		return Status{}, fmt.Errorf("read schema version: %w", err)
	}
	return schema{db: db, dialect: "sqlite"}.compared(status)
}

// schema is the schema of an open database.
type schema struct {
	*migrate.Migrate
	db      *sql.DB
	dialect string
}

func withPostgres(config *pgx.ConnConfig, do func(schema) error) error {
	config = config.Copy()
	delete(config.RuntimeParams, "statement_timeout") // waiting for the lock is one long statement
	delete(config.RuntimeParams, "lock_timeout")
	config.Tracer = nil // nor does whoever waits for it give up
	db := stdlib.OpenDB(*config)
	defer db.Close()
	driver, err := pgxmigrate.WithInstance(db, &pgxmigrate.Config{})
	if err != nil {
		return fmt.Errorf("prepare schema: %w", cause(err))
	}
	return with(db, "postgres", driver, do)
}

// cause is what the database said: the library's error shows the statement, and does not lead to it.
func cause(err error) error {
	if failed, ok := errors.AsType[*database.Error](err); ok {
		return failed.OrigErr
	}
	return err
}

func withSQLite(db *sql.DB, do func(schema) error) error {
	driver, err := sqlitemigrate.WithInstance(db, &sqlitemigrate.Config{})
	if err != nil {
		return fmt.Errorf("prepare schema: %w", err)
	}
	return with(db, "sqlite", keepOpen{driver}, do)
}

// keepOpen leaves the database open for its owner when the migration is done with it.
type keepOpen struct{ database.Driver }

func (keepOpen) Close() error { return nil }

// recording writes the version, and by which files it was made, in the transaction in which the file of that version runs, so that a crash
// leaves a schema and its version that agree. The library writes it as dirty before, and clean after, in transactions of their own.
type recording struct {
	database.Driver
	dialect string
	version uint // whose file runs next
}

// SetVersion implements database.Driver.
func (r *recording) SetVersion(version int, dirty bool) error {
	if dirty {
		r.version = uint(version)
		return nil
	}
	return r.Driver.SetVersion(version, false)
}

// Run implements database.Driver. Both drivers run a text as one transaction.
func (r *recording) Run(migration io.Reader) error {
	digest, err := Digest(r.dialect, r.version)
	if err != nil {
		return err
	}
	record := fmt.Sprintf(`
		CREATE TABLE IF NOT EXISTS schema_files (version bigint PRIMARY KEY, sha256 text NOT NULL);
		INSERT INTO schema_files (version, sha256) VALUES (%[1]d, '%[2]s');
		DELETE FROM schema_migrations;
		INSERT INTO schema_migrations (version, dirty) VALUES (%[1]d, false);`, r.version, digest)
	return r.Driver.Run(io.MultiReader(migration, strings.NewReader(record)))
}

// madeBy reads the digest of the files that made a version.
const madeBy = `SELECT sha256 FROM schema_files WHERE version = $1`

// comments and space change no schema.
var comments = regexp.MustCompile(`(?m)--.*$|\s+`)

// Digest is the hexadecimal SHA-256 of the files up to a version, without comments and space.
func Digest(dialect string, version uint) (string, error) {
	names, err := fs.Glob(files, dialect+"/*.up.sql")
	if err != nil || int(version) > len(names) {
		return "", fmt.Errorf("no migration %d for %s: %w", version, dialect, err)
	}
	h := sha256.New()
	for _, name := range names[:version] {
		text, err := files.ReadFile(name)
		if err != nil {
			return "", err
		}
		h.Write(comments.ReplaceAll(text, nil))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func with(db *sql.DB, dialect string, driver database.Driver, do func(schema) error) error {
	sub, err := fs.Sub(files, dialect)
	if err != nil {
		return err
	}
	source, err := iofs.New(sub, ".")
	if err != nil {
		return err
	}
	m, err := migrate.NewWithInstance("iofs", source, dialect, &recording{Driver: driver, dialect: dialect})
	if err != nil {
		return err
	}
	defer m.Close()
	m.LockTimeout = lockTimeout
	return do(schema{m, db, dialect})
}

func (s schema) up(ctx context.Context) error {
	status, err := s.status()
	if err != nil {
		return err
	}
	if status.Version > status.Latest || status.Differs { // dirty says nothing yet: another instance may be in the middle of it
		return refuse(status)
	}
	stop := context.AfterFunc(ctx, func() { s.GracefulStop <- true })
	defer stop()
	err = s.Up()
	// Another build may have migrated while this one waited for the lock.
	if status, statusErr := s.status(); statusErr == nil && status.Check() != nil {
		return status.Check()
	}
	if err != nil && !errors.Is(err, migrate.ErrNoChange) {
		return fmt.Errorf("migrate %s: %w", s.dialect, err)
	}
	return ctx.Err()
}

// refuse explains a schema that this binary cannot bring to its own version.
func refuse(status Status) error {
	err := &pki.Error{Kind: pki.KindFailedPrecondition, Op: "open database", Err: &SchemaError{status}}
	if status.Dirty {
		return err.WithHint("restore the backup made before the upgrade, or fix the schema by hand and set dirty to false in the table schema_migrations")
	}
	if status.Version <= status.Latest {
		return err.WithHint("continue with the signet that made this database: until the first release no build takes over the tables of another")
	}
	return err.WithHint("start the newer signet that wrote this database; schemas are never walked back")
}

func (s schema) status() (Status, error) {
	latest, err := Latest(s.dialect)
	if err != nil {
		return Status{}, err
	}
	version, dirty, err := s.Version()
	if errors.Is(err, migrate.ErrNilVersion) {
		return Status{Latest: latest}, nil
	}
	if err != nil {
		return Status{}, fmt.Errorf("read schema version: %w", err)
	}
	return s.compared(Status{Version: version, Latest: latest, Dirty: dirty})
}

// compared tells whether the files of another build made the version.
func (s schema) compared(status Status) (Status, error) {
	if status.Dirty || status.Version > status.Latest {
		return status, nil
	}
	made, err := s.madeBy(status.Version)
	if err != nil {
		return Status{}, fmt.Errorf("read schema version: %w", err)
	}
	digest, err := Digest(s.dialect, status.Version)
	status.Differs = made != digest
	return status, err
}

// madeBy is the digest of the files that made a version; empty: of a build that did not record it.
func (s schema) madeBy(version uint) (digest string, err error) {
	there := `SELECT to_regclass('schema_files') IS NOT NULL`
	if s.dialect == "sqlite" {
		there = `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'schema_files')`
	}
	var known bool
	if err := s.db.QueryRow(there).Scan(&known); err != nil || !known {
		return "", err
	}
	if err = s.db.QueryRow(madeBy, version).Scan(&digest); errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return digest, err
}

// Latest is the version that this binary knows, of "postgres" or "sqlite".
func Latest(dialect string) (uint, error) {
	names, err := fs.Glob(files, dialect+"/*.up.sql")
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("no migrations for %s: %w", dialect, err)
	}
	var version uint
	if _, err := fmt.Sscanf(names[len(names)-1], dialect+"/%d_", &version); err != nil {
		return 0, fmt.Errorf("number of %s: %w", names[len(names)-1], err)
	}
	return version, nil
}
