package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/pki"
)

// partitionsFile is the first file of a backup: the list of partitions.
const partitionsFile = "partitions.json"

// copySuffix is the suffix of the other files, one per table, in PostgreSQL's binary COPY format.
const copySuffix = ".copy"

// partition is a piece of a partitioned table.
type partition struct {
	Parent string `json:"parent"`
	Name   string `json:"name"`
	Bound  string `json:"bound"` // as pg_get_expr writes it
}

// What a backup may say about a partition. It becomes part of a statement, and a backup is foreign input.
var (
	partitionName  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	partitionBound = regexp.MustCompile(`^FOR VALUES IN \('?[0-9]{1,10}'?\)$`)
)

// Backup writes every table in one snapshot. Instances may be running. It calls put once per file, in the order in
// which Restore must read them.
func Backup(ctx context.Context, config Config, put func(name string, write func(io.Writer) error) error) error {
	const op = "back up database"
	return inSnapshot(ctx, op, config, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		partitions, err := collect[partition](ctx, tx, `SELECT p.relname::text, c.relname::text, pg_get_expr(c.relpartbound, c.oid)
			FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid JOIN pg_class p ON p.oid = i.inhparent
			WHERE c.relispartition AND c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace ORDER BY c.oid`)
		if err != nil {
			return err
		}
		if err := put(partitionsFile, func(w io.Writer) error { return json.NewEncoder(w).Encode(partitions) }); err != nil {
			return err
		}
		tables, err := tables(ctx, tx)
		if err != nil {
			return err
		}
		for _, table := range tables {
			err := put(table+copySuffix, func(w io.Writer) error {
				_, err := tx.Conn().PgConn().CopyTo(ctx, w, "COPY (SELECT * FROM "+quote(table)+") TO STDOUT (FORMAT binary)")
				return err
			})
			if err != nil {
				return fmt.Errorf("table %s: %w", table, err)
			}
		}
		return nil
	})
}

// Restore fills a database that Open has migrated and that is otherwise unused with the files of a backup. It restores
// all of it or nothing. next returns one file after the other, and io.EOF after the last.
func Restore(ctx context.Context, config Config, next func() (name string, r io.Reader, err error)) error {
	const op = "restore database"
	return inSnapshot(ctx, op, config, pgx.TxOptions{}, func(tx pgx.Tx) error {
		known, err := empty(ctx, tx, op)
		if err != nil {
			return err
		}
		for {
			name, r, err := next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			table, isTable := strings.CutSuffix(name, copySuffix)
			switch {
			case name == partitionsFile:
				err = attachPartitions(ctx, tx, r)
			case isTable && known[table]:
				_, err = tx.Conn().PgConn().CopyFrom(ctx, r, "COPY "+quote(table)+" FROM STDIN (FORMAT binary)")
			default:
				err = pki.Errorf(pki.KindInvalid, op, "the backup has %q, which is no table of this schema", name)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	})
}

// empty refuses a database that has been used, and removes the rows that the migrations left in a new one.
func empty(ctx context.Context, tx pgx.Tx, op string) (known map[string]bool, err error) {
	var used bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM audit_events)").Scan(&used); err != nil {
		return nil, err
	}
	if used {
		return nil, pki.Errorf(pki.KindConflict, op, "the database is in use").
			WithHint("restore into an empty database: createdb, and name it with --database")
	}
	names, err := tables(ctx, tx)
	if err != nil {
		return nil, err
	}
	known = make(map[string]bool)
	for _, name := range names {
		known[name] = true
		var filled bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+quote(name)+")").Scan(&filled); err != nil {
			return nil, err
		}
		if filled {
			if _, err := tx.Exec(ctx, "DELETE FROM "+quote(name)); err != nil {
				return nil, err
			}
		}
	}
	return known, nil
}

func attachPartitions(ctx context.Context, tx pgx.Tx, r io.Reader) error {
	var partitions []partition
	if err := json.NewDecoder(r).Decode(&partitions); err != nil {
		return err
	}
	for _, p := range partitions {
		if !partitionName.MatchString(p.Name) || !partitionName.MatchString(p.Parent) || !partitionBound.MatchString(p.Bound) {
			return pki.Errorf(pki.KindInvalid, "restore database", "a partition %.64q %.64q does not look like one", p.Name, p.Bound)
		}
		statement := "CREATE TABLE " + quote(p.Name) + " PARTITION OF " + quote(p.Parent) + " " + p.Bound
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// tables lists the tables in a backup, referenced tables first: all but partitions and the table of the schema version.
func tables(ctx context.Context, tx pgx.Tx) ([]string, error) {
	type table struct{ Name string }
	found, err := collect[table](ctx, tx, `SELECT relname::text FROM pg_class
		WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = current_schema()::regnamespace AND relname NOT IN ('schema_migrations', 'schema_files')
		ORDER BY oid`) // a table exists before a foreign key that points to it
	var names []string
	for _, t := range found {
		names = append(names, t.Name)
	}
	return names, err
}

// inSnapshot runs do in a transaction on a connection of its own, with no time limit.
func inSnapshot(ctx context.Context, op string, config Config, options pgx.TxOptions, do func(tx pgx.Tx) error) error {
	parsed, err := poolConfig(config)
	if err != nil {
		return err
	}
	for _, bound := range []string{"statement_timeout", "idle_in_transaction_session_timeout"} {
		parsed.ConnConfig.RuntimeParams[bound] = "0"
	}
	parsed.ConnConfig.Tracer = nil
	conn, err := pgx.ConnectConfig(ctx, parsed.ConnConfig)
	if err != nil {
		return translateOpening(op, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return translateOpening(op, pgx.BeginTxFunc(ctx, conn, options, do))
}

func collect[T any](ctx context.Context, tx pgx.Tx, query string) ([]T, error) {
	rows, err := tx.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
