package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store/postgres"
)

// openBeside opens a store on a database of its own, and a connection to it that is not the store's.
func openBeside(t *testing.T, config postgres.Config) (*postgres.Store, *pgx.Conn) {
	t.Helper()
	config.URL = testdb.EmptyURL(t)
	s, err := postgres.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	conn, err := pgx.Connect(t.Context(), config.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return s, conn
}

// Tables and functions that are not those the statements were written for are the operator's to mend, and he is told
// how.
func TestOtherSchema(t *testing.T) {
	s, conn := openBeside(t, postgres.Config{Unsafe: true})
	for _, change := range []string{"ALTER TABLE credentials RENAME COLUMN role TO rank", "ALTER TABLE credentials RENAME TO passes"} {
		if _, err := conn.Exec(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		_, err := s.Credential(t.Context(), "admin")
		if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || !strings.Contains(e.Hint, "signet migrate") {
			t.Errorf("%s: %v (%s)", change, err, pki.KindOf(err))
		}
	}
}

// What a server in use says about logins, databases and schemas may change within a minute: no conclusion is drawn from
// it.
func TestErrorsOfTheServerWhileItIsInUse(t *testing.T) {
	for _, code := range []string{"28P01", "28000", "3D000", "42501", "42703", "42883", "42P01"} {
		server := &pgconn.PgError{Severity: "FATAL", Code: code, Message: "no"}
		err := postgres.TestingOnlyTranslate("do something", server)
		if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || e.Hint == "" || !errors.Is(err, server) {
			t.Errorf("%s: %s, %v", code, pki.KindOf(err), err)
		}
	}
	// It has many causes there, and only one of them when a database is opened.
	err := postgres.TestingOnlyTranslate("do something", &pgconn.PgError{Severity: "ERROR", Code: "55000", Message: "no"})
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || e.Hint != "" {
		t.Errorf("55000: %s, %v", pki.KindOf(err), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	url := testdb.EmptyURL(t)
	_, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if unsafe, ok := errors.AsType[*postgres.UnsafeError](err); !ok || unsafe.Setting == "" || pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("a server that can lose confirmed writes: %v", err)
	}
	if status, err := postgres.Status(t.Context(), postgres.Config{URL: url}); err != nil || status.Version != 0 {
		t.Errorf("a refused database was touched: %+v, %v", status, err)
	}
	const secret = "hunter2"
	for _, test := range []struct {
		url  string
		kind pki.Kind
	}{
		{"postgres://user:" + secret + "@host:port/db", pki.KindInvalid},
		{"host=/nowhere user=postgres password=" + secret + " connect_timeout=1", pki.KindUnavailable},
		{url + "&dbname=missing", pki.KindFailedPrecondition},
		{url + "&user=nobody&password=" + secret, pki.KindFailedPrecondition},
	} {
		_, err := postgres.Open(t.Context(), postgres.Config{URL: test.url, Unsafe: true})
		if err == nil || pki.KindOf(err) != test.kind || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v (%s); want %s, in one line", test.url, err, pki.KindOf(err), test.kind)
		}
		if _, err := postgres.Status(t.Context(), postgres.Config{URL: test.url}); pki.KindOf(err) != test.kind {
			t.Errorf("%s: the status of the schema: %v; want %s", test.url, err, test.kind)
		}
		if e, ok := errors.AsType[*pki.Error](err); test.kind == pki.KindFailedPrecondition && (!ok || e.Hint == "") {
			t.Errorf("%s: no hint in %v", test.url, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}

// From PostgreSQL 15 on, a database owned by another user has no room for our tables, and the operator is told what to
// do.
func TestOpenWhereNoTablesMayBeMade(t *testing.T) {
	url := testdb.EmptyURL(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	tenant := "Tenant of " + conn.Config().Database
	role := pgx.Identifier{tenant}.Sanitize()
	for _, statement := range []string{"CREATE ROLE " + role + " LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	theirs := postgres.Config{URL: url + "&user=" + strings.ReplaceAll(tenant, " ", "%20"), Unsafe: true}
	_, err = postgres.Open(t.Context(), theirs)
	e, ok := errors.AsType[*pki.Error](err)
	if !ok || e.Kind != pki.KindFailedPrecondition || !strings.Contains(err.Error(), "open database: user "+tenant+" may not make tables in database "+conn.Config().Database+": ") {
		t.Fatalf("%v (%s)", err, pki.KindOf(err))
	}
	if strings.Contains(err.Error(), "CREATE TABLE") || !strings.HasPrefix(e.Hint, "let it own the database: ALTER DATABASE ") || !strings.HasSuffix(e.Hint, " OWNER TO "+role) {
		t.Errorf("%v; next: %s", err, e.Hint)
	}
	if _, err := conn.Exec(t.Context(), strings.TrimPrefix(e.Hint, "let it own the database: ")+"; GRANT CREATE ON SCHEMA public TO pg_database_owner"); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Open(t.Context(), theirs)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// pgx tries a server with TLS first. That it has none is of no interest where it answered without, and all there is
// where it did not.
func TestWhatTheServerSaysCounts(t *testing.T) {
	one, two := testdb.NewProxy(t, testdb.EmptyURL(t)), testdb.NewProxy(t, testdb.EmptyURL(t))
	address := func(p *testdb.Proxy) string {
		config, err := pgx.ParseConfig(p.URL)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s:%d", config.Host, config.Port)
	}
	for _, test := range []struct {
		mode string
		want []string // in the error
		not  string
	}{
		{"prefer", []string{`role "nobody" does not exist`, address(one), address(two)}, "TLS"},
		{"require", []string{"refused TLS", address(one), address(two)}, "nobody\" does"},
	} {
		_, err := postgres.Open(t.Context(), postgres.Config{URL: "postgres://nobody@" + address(one) + "," + address(two) + "/db?sslmode=" + test.mode, Unsafe: true})
		if err == nil || strings.Contains(err.Error(), test.not) {
			t.Errorf("%s: %v", test.mode, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %s in %v", test.mode, want, err)
			}
		}
	}
}

// A server with which TLS fails may refuse connections without TLS. The cause is then why TLS failed.
func TestWhyTLSFailedIsTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go refuseHandshake(conn)
		}
	}()
	_, err = postgres.Open(t.Context(), postgres.Config{URL: "postgres://signet@" + l.Addr().String() + "/signet?sslmode=prefer", Unsafe: true})
	if err == nil {
		t.Fatal("opened")
	}
	for _, want := range []string{"handshake failure", "no encryption"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
}

// refuseHandshake is a server that has TLS, of a kind that the client has not, and wants it.
func refuseHandshake(conn net.Conn) {
	defer conn.Close()
	backend := pgproto3.NewBackend(conn, conn)
	message, err := backend.ReceiveStartupMessage()
	if err != nil {
		return
	}
	if _, ok := message.(*pgproto3.SSLRequest); !ok {
		backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "no pg_hba.conf entry for host, no encryption"})
		_ = backend.Flush() // the client says what it got
		return
	}
	hello := make([]byte, 1)
	if _, err := conn.Write([]byte{'S'}); err != nil {
		return
	}
	if _, err := io.ReadFull(conn, hello); err != nil {
		return
	}
	// RFC 5246, Section 7.2: a fatal alert, handshake_failure.
	if _, err := conn.Write([]byte{21, 3, 3, 0, 2, 2, 40}); err == nil {
		_, _ = io.Copy(io.Discard, conn) // until the client has read it and closes
	}
}

// A database that accepts no connections is the operator's to mend, and he is told how.
func TestOpenWhereNoConnectionsAreAllowed(t *testing.T) {
	url := testdb.EmptyURL(t)
	closed, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	_, conn := openBeside(t, postgres.Config{Unsafe: true})
	if _, err := conn.Exec(t.Context(), "ALTER DATABASE "+pgx.Identifier{closed.Database}.Sanitize()+" ALLOW_CONNECTIONS false"); err != nil {
		t.Fatal(err)
	}
	_, err = postgres.Open(t.Context(), postgres.Config{URL: url, Unsafe: true})
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindFailedPrecondition || !strings.Contains(e.Hint, "ALLOW_CONNECTIONS true") {
		t.Errorf("%v (%s)", err, pki.KindOf(err))
	}
}

// What waits for a lock looks again when it has it, on every database: under another isolation it would see what was
// before.
func TestIsolationIsReadCommitted(t *testing.T) {
	s, conn := openBeside(t, postgres.Config{Unsafe: true, MaxConns: 1})
	database := pgx.Identifier{conn.Config().Database}.Sanitize()
	if _, err := conn.Exec(t.Context(), "ALTER DATABASE "+database+" SET default_transaction_isolation = 'repeatable read'"); err != nil {
		t.Fatal(err)
	}
	s.TestingOnlyPool().Reset()
	var isolation string
	if err := s.TestingOnlyPool().QueryRow(t.Context(), "SHOW transaction_isolation").Scan(&isolation); err != nil || isolation != "read committed" {
		t.Errorf("%q, %v", isolation, err)
	}
}

// A connection that turns out to be read-only is not kept: it leads to a standby, or was made while the database was
// read-only. Nor does it make the database look healthy.
func TestReadOnlyConnectionsAreNotKept(t *testing.T) {
	s, conn := openBeside(t, postgres.Config{Unsafe: true, MaxConns: 1})
	readOnly := "ALTER DATABASE " + pgx.Identifier{conn.Config().Database}.Sanitize() + " SET default_transaction_read_only = "
	exec := func(statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec(readOnly + "on")
	exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	_ = s.Ping(t.Context()) // finds out that its connection is gone
	if err := s.Ping(t.Context()); pki.KindOf(err) != pki.KindUnavailable || err == nil {
		t.Errorf("a read-only database answers: %v", err)
	}
	event := []audit.Event{{Actor: "a", Action: "b.c", Outcome: audit.OK}}
	if err := s.AppendAudit(t.Context(), event); pki.KindOf(err) != pki.KindUnavailable || err == nil {
		t.Errorf("written to a read-only database: %v", err)
	}
	exec(readOnly + "off")
	if err := errors.Join(s.AppendAudit(t.Context(), event), s.Ping(t.Context())); err != nil {
		t.Errorf("the database can be written again: %v", err)
	}
}

// A limit of temporary files that is below what Ping writes says nothing about the disk.
func TestPingBelowALimitOfTemporaryFiles(t *testing.T) {
	s, conn := openBeside(t, postgres.Config{Unsafe: true, MaxConns: 1})
	database := pgx.Identifier{conn.Config().Database}.Sanitize()
	if _, err := conn.Exec(t.Context(), "ALTER DATABASE "+database+" SET temp_file_limit = '64kB'"); err != nil {
		t.Fatal(err)
	}
	s.TestingOnlyPool().Reset()
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exec(t.Context(), "ALTER DATABASE "+database+" SET default_transaction_read_only = on"); err != nil {
		t.Fatal(err)
	}
	s.TestingOnlyPool().Reset()
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a database that can only be read answers")
	}
}

// Probes and scrapes do not write a file each.
func TestPingWritesNowAndThen(t *testing.T) {
	s, _ := openBeside(t, postgres.Config{Unsafe: true, MaxConns: 1})
	const pings = 50
	for range pings {
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var files int
	_, err := s.TestingOnlyPool().Exec(t.Context(), `SELECT pg_stat_force_next_flush()`)
	if err = errors.Join(err, s.TestingOnlyPool().QueryRow(t.Context(), `SELECT temp_files FROM pg_stat_database WHERE datname = current_database()`).Scan(&files)); err != nil {
		t.Fatal(err)
	}
	if files == 0 || files >= pings {
		t.Errorf("%d files for %d pings", files, pings)
	}
}

// A disk without space has an error of its own, whichever file cannot grow.
func TestDiskFull(t *testing.T) {
	s, conn := openBeside(t, postgres.Config{Unsafe: true})
	if _, err := conn.Exec(t.Context(), `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
		CREATE TRIGGER full_disk BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION full_disk()`); err != nil {
		t.Fatal(err)
	}
	err := s.AppendAudit(t.Context(), []audit.Event{{Actor: "a", Action: "b.c", Outcome: audit.OK}})
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || !errors.Is(err, pki.ErrDiskFull) || e.Hint == "" {
		t.Errorf("written to a full disk: %v", err)
	}
}

// TestPagesOfAnUnknownLedger: a ledger that was never analysed is read once from its beginning to its end, and not once
// for each page.
func TestPagesOfAnUnknownLedger(t *testing.T) {
	// A connection tells what it counted when it likes, or is asked to.
	store, _ := openBeside(t, postgres.Config{Unsafe: true, MaxConns: 1})
	// Half of them of certificates, half of imported serials; pages are of 16,000.
	const entries = 100_000
	pool := store.TestingOnlyPool()
	_, err := pool.Exec(t.Context(), `DO $$ BEGIN
		ALTER TABLE ledger SET (autovacuum_enabled = off);
		INSERT INTO ledger (seq, epoch, idx, issuer, serial, kind, reason, revoked_at, recorded_at, actor)
			SELECT i, CASE WHEN i % 2 = 0 THEN 300 END, CASE WHEN i % 2 = 0 THEN i END, decode(repeat('01', 10), 'hex'), decode(lpad(to_hex(i), 40, '0'), 'hex'),
				1, 1, now(), now(), 'user:a' FROM generate_series(1, 100000) AS i;
	END $$`)
	if err != nil {
		t.Fatal(err)
	}
	fetched := func() (rows int) {
		_, err := pool.Exec(t.Context(), `SELECT pg_stat_force_next_flush()`)
		if err = errors.Join(err, pool.QueryRow(t.Context(), `SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'ledger'`).Scan(&rows)); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	issuer := pki.IssuerID(bytes.Repeat([]byte{1}, 10))
	for name, all := range map[string]iter.Seq2[revocation.Entry, error]{
		"a list":   store.LedgerScope(t.Context(), revocation.Whole(issuer), 0, entries),
		"start-up": store.LedgerLoad(t.Context(), 1, entries),
	} {
		before, read := fetched(), 0
		for _, err := range all {
			if err != nil {
				t.Fatal(err)
			}
			read++
		}
		if rows := fetched() - before; read != entries || rows > entries+10 {
			t.Errorf("%s: %d entries were read, and %d rows fetched for them; want %d", name, read, rows, entries)
		}
	}
}
