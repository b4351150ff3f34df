// Package postgres stores Signet's data in PostgreSQL, for any number of instances at once. Mutations are single calls
// of functions that the migrations define, so a client stopped in the middle holds no lock. Errors are translated in
// one place, errors.go.
package postgres

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"signet.example/signet/migrations"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// Config says which database to open, and how.
type Config struct {
	// URL is a connection string or URL for libpq. It may name several hosts with target_session_attrs=read-write. It
	// must not lead to a transaction pooler, because of LISTEN and advisory locks. Required.
	URL string

	// MaxConns is the size of the pool. Zero: 16. There are two more connections: one reserved for a key compromise,
	// and one that listens.
	MaxConns int32

	// Unsafe accepts a server that can lose confirmed writes (fsync, full_page_writes or synchronous_commit off). For
	// tests.
	Unsafe bool
}

// Store is an open database. It is safe for concurrent use.
type Store struct {
	pool  *pgxpool.Pool
	keys  *pgxpool.Pool // one connection, for BlockKey
	ear   ear
	disk  store.Tried
	ahead lookahead
	now   func() time.Time // time.Now, for disk; everything else uses the database's clock
}

// Open connects, refuses a server that can lose confirmed writes, and migrates the schema to what this binary knows.
func Open(ctx context.Context, config Config) (*Store, error) {
	poolConfig, err := poolConfig(config)
	if err != nil {
		return nil, err
	}
	if err := prepare(ctx, poolConfig.ConnConfig, config.Unsafe); err != nil {
		return nil, err
	}
	keysConfig := poolConfig.Copy()
	keysConfig.MinConns, keysConfig.MaxConns, keysConfig.AfterConnect = 1, 1, meetKeys
	keysConfig.MaxConnLifetime = time.Minute   // its plans grow old: ANALYZE and new weeks invalidate them
	keysConfig.HealthCheckPeriod = time.Second // so that it is soon replaced
	poolConfig.AfterConnect = knowTypes
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, translateOpening("open database", err)
	}
	keys, err := pgxpool.NewWithConfig(ctx, keysConfig)
	if err != nil {
		pool.Close()
		return nil, translateOpening("open database", err)
	}
	return &Store{pool: pool, keys: keys, now: time.Now}, nil
}

// Status returns the state of a database's schema without migrating it.
func Status(ctx context.Context, config Config) (migrations.Status, error) {
	poolConfig, err := poolConfig(config)
	if err != nil {
		return migrations.Status{}, err
	}
	status, err := migrations.PostgresStatus(ctx, poolConfig.ConnConfig)
	return status, translateOpening("read schema version", err)
}

// Ping checks that the database answers and can be written.
func (s *Store) Ping(ctx context.Context) error {
	const op = "ping database"
	var readOnly bool
	// Data beyond work_mem goes into a temporary file on the disk of the tables. The tables themselves have room on
	// their pages long after the disk is full.
	try := &pgx.Batch{} // one implicit transaction, and one round trip
	try.Queue(`SELECT current_setting('transaction_read_only')::boolean, set_config('work_mem', '64kB', true), set_config('temp_tablespaces', '', true)`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&readOnly, nil, nil) })
	if !s.disk.Lately(s.now()) {
		try.Queue(`SELECT count(*) FROM generate_series(1, 8192)`)
	}
	if err := s.pool.SendBatch(ctx, try).Close(); err != nil && !isOfLimit(err) {
		return translate(op, err)
	}
	if readOnly {
		return pki.Errorf(pki.KindUnavailable, op, "it can only be read").WithHint("is it a standby, or was it made read-only?")
	}
	if try.Len() > 1 {
		s.disk.Well(s.now())
	}
	return nil
}

// Close waits for calls in progress and closes every connection.
func (s *Store) Close() error {
	s.pool.Close()
	s.keys.Close()
	return nil
}

func poolConfig(config Config) (*pgxpool.Config, error) {
	parsed, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		// The cause may quote the URL with its password.
		return nil, pki.Errorf(pki.KindInvalid, "open database", "the database URL cannot be read").
			InField("database").WithHint("write postgres://user@host/database, the password in PGPASSWORD or a .pgpass file")
	}
	parsed.MaxConns = config.MaxConns
	parsed.MaxConns = cmp.Or(parsed.MaxConns, 16)
	parsed.ConnConfig.ConnectTimeout = cmp.Or(parsed.ConnConfig.ConnectTimeout, 10*time.Second)
	parsed.AfterRelease = writable
	parsed.PingTimeout = pingPatience
	parsed.ConnConfig.DialFunc = dial(parsed.ConnConfig.ConnectTimeout)
	params := parsed.ConnConfig.RuntimeParams
	for name, value := range map[string]string{
		"application_name":                    "signet",
		"timezone":                            "UTC",
		"idle_in_transaction_session_timeout": "2s",  // a stopped process must not hold a lock for ever
		"tcp_user_timeout":                    "10s", // nor must a machine that is gone
		"statement_timeout":                   strconv.FormatInt(statementTimeout.Milliseconds(), 10),
		"lock_timeout":                        "10s",
		"jit":                                 "off", // compiling a plan takes longer than any of our statements
		"max_parallel_workers_per_gather":     "0",   // starting workers takes longer too; the planner wants many for a table that has grown since it was analysed
	} {
		if _, set := params[name]; !set {
			params[name] = value
		}
	}
	// A transaction that waited for a lock must see the new data, whatever the database or the URL says.
	params["default_transaction_isolation"] = "read committed"
	parsed.ConnConfig.Tracer = boundOf(params["statement_timeout"])
	return parsed, nil
}

// writable keeps a connection in the pool unless its server has said that it is read-only: the server is a standby, or
// the database was made read-only. The next connection may reach another server under the same name. Servers before
// PostgreSQL 14 do not say.
func writable(conn *pgx.Conn) bool {
	server := conn.PgConn()
	return server.ParameterStatus("in_hot_standby") != "on" && server.ParameterStatus("default_transaction_read_only") != "on"
}

// prepare checks the server and migrates the schema, before there is a pool.
func prepare(ctx context.Context, config *pgx.ConnConfig, unsafe bool) error {
	const op = "open database"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return translateOpening(op, err)
	}
	defer conn.Close(ctx)
	if err := checkDurable(ctx, conn, unsafe); err != nil {
		return err
	}
	current, err := migrations.PostgresCurrent(ctx, conn)
	if err != nil || current {
		return translateOpening(op, err)
	}
	return translatePreparing(config, migrations.Postgres(ctx, config))
}

// checkDurable refuses a server on which COMMIT does not mean committed.
func checkDurable(ctx context.Context, conn *pgx.Conn, unsafe bool) error {
	const op = "open database"
	var version int
	var fsync, fullPageWrites, synchronousCommit string
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('fsync'),
		current_setting('full_page_writes'), current_setting('synchronous_commit')`).
		Scan(&version, &fsync, &fullPageWrites, &synchronousCommit)
	if err != nil {
		return translateOpening(op, err)
	}
	if version < 140000 { // weeks are detached concurrently
		return pki.Errorf(pki.KindFailedPrecondition, op, "PostgreSQL %d is too old", version/10000).WithHint("use PostgreSQL 14 or newer")
	}
	if unsafe {
		return nil
	}
	for name, value := range map[string]string{"fsync": fsync, "full_page_writes": fullPageWrites, "synchronous_commit": synchronousCommit} {
		if value == "off" {
			return (&pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Err: &UnsafeError{Setting: name}}).
				WithHint("set %s = on, or use --unsafe-database if losing certificates and revocations does not matter", name)
		}
	}
	return nil
}

// UnsafeError names a setting that lets the server lose confirmed writes.
type UnsafeError struct{ Setting string }

// Error returns a message with the setting.
func (e *UnsafeError) Error() string {
	return fmt.Sprintf("this PostgreSQL can lose confirmed writes: %s is off", e.Setting)
}
