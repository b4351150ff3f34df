package server_test

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/invariant"
	"signet.example/signet/internal/server"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// TestDatabaseThatWentBack: the marks of what was seen refuse a database that shows less, and one that went back while
// it was in use, until it is moved on.
func TestDatabaseThatWentBack(t *testing.T) {
	t.Parallel()
	for name, marks := range map[string]string{
		"both":                       `{"ledger":1000,"audit":100000}`,
		"CRL numbers":                `{"ledger":0,"audit":0,"lists":1000}`,
		"another past":               `{"ledger":0,"audit":1,"head":"00"}`,
		"and its numbers grew since": `{"ledger":0,"audit":0,"went_back":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			config := found(t, "sqlite:signet.db").config(t)
			if err := os.WriteFile(config.State().HighWater(), []byte(marks), 0o600); err != nil {
				t.Fatal(err)
			}
			start := func() error {
				s, err := server.Open(t.Context(), config, server.Options{Passphrase: []byte("correct horse")})
				if err != nil {
					return err
				}
				return s.Close(t.Context())
			}
			if err := start(); pki.KindOf(err) != pki.KindFailedPrecondition {
				t.Fatalf("it was opened: %v", err)
			}
			if _, err := installation.Advance(t.Context(), config, false, time.Now()); err != nil {
				t.Fatal(err)
			}
			if err := start(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestDatabaseErrorsAreNoHistory: a database that refuses connections for a while, or shows another schema, has not
// gone back. Whatever its errors, the instance works again when the database does, and its next start is not refused.
func TestDatabaseErrorsAreNoHistory(t *testing.T) {
	t.Parallel()
	noticed := func(t *testing.T, p *process, code string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			text, err := os.ReadFile(p.log)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, "high water marks") && strings.Contains(line, code) {
					return
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("the marks were not compared while it said %s", code)
			}
		}
	}
	goesOn := func(t *testing.T, s *site, p *process) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			_, err := s.api.Issue(t.Context(), client.IssueRequest{CSR: request(t), Profile: "server", Identifiers: []string{"late.example"}})
			if err == nil && s.ready() {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("it works again, and nothing is issued: %v", err)
			}
		}
		p.stop(t)
		if marks, err := os.ReadFile(s.config(t).State().HighWater()); err != nil || strings.Contains(string(marks), "went_back") {
			t.Errorf("the marks are %s, %v", marks, err)
		}
		s.start(t)
	}
	t.Run("another schema", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(t *testing.T, database string) {
			s := found(t, database)
			p := s.start(t)
			alter(t, s, database, `ALTER TABLE audit_batches RENAME TO away`)
			noticed(t, p, "audit_batches")
			alter(t, s, database, `ALTER TABLE away RENAME TO audit_batches`)
			goesOn(t, s, p)
		})
	})
	t.Run("no login", func(t *testing.T) {
		t.Parallel()
		database, role := testdb.EmptyURL(t), "r"+strings.ToLower(rand.Text())
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		exec := func(statement string) {
			t.Helper()
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		exec(`CREATE ROLE ` + role + ` SUPERUSER LOGIN`)
		u.User = url.User(role)
		s := found(t, u.String())
		p := s.start(t)
		exec(`ALTER ROLE ` + role + ` NOLOGIN`)
		exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '` + role + `'`)
		noticed(t, p, "28000")
		exec(`ALTER ROLE ` + role + ` LOGIN`)
		goesOn(t, s, p)
	})
}

// Marks that cannot be read are refused, and stay as they are for examination.
func TestDamagedMarks(t *testing.T) {
	t.Parallel()
	const damaged = `{"ledger":"1000","audit":1}`
	config := found(t, "sqlite:signet.db").config(t)
	if err := os.WriteFile(config.State().HighWater(), []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Open(t.Context(), config, server.Options{Passphrase: []byte("correct horse")}); pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("it was opened: %v", err)
	}
	if left, err := os.ReadFile(config.State().HighWater()); err != nil || string(left) != damaged {
		t.Errorf("the marks are %s now, %v", left, err)
	}
}

// TestRestoredCopyThatWasUsed: a copy of before that was used by something else, until its numbers passed the marks, is
// noticed by its other past.
func TestRestoredCopyThatWasUsed(t *testing.T) {
	t.Parallel()
	config := found(t, "sqlite:signet.db").config(t)
	start := func() error {
		s, err := server.Open(t.Context(), config, server.Options{Passphrase: []byte("correct horse")})
		if err != nil {
			return err
		}
		return s.Close(t.Context())
	}
	use := func(events int, actor string) {
		t.Helper()
		db, err := installation.OpenDatabase(t.Context(), config, "test", false)
		if err != nil {
			t.Fatal(err)
		}
		for range events {
			if err := db.AppendAudit(t.Context(), []audit.Event{{At: time.Now(), Actor: actor, Action: "a.b", Target: "t", Outcome: audit.OK}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	file := config.Path("signet.db")
	copied, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	use(3, "test")
	if err := start(); err != nil {
		t.Fatal(err)
	}
	if err := start(); err != nil {
		t.Fatalf("again, with nothing lost: %v", err)
	}
	if err := os.WriteFile(file, copied, 0o600); err != nil {
		t.Fatal(err)
	}
	use(100, "other")
	if err := start(); pki.KindOf(err) != pki.KindFailedPrecondition || !strings.Contains(err.Error(), "another past") {
		t.Fatalf("it was opened: %v", err)
	}
	if _, err := installation.Advance(t.Context(), config, false, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
}

// TestDatabaseGoesBackWhileRunning changes the past under a running server, as a failover to a standby that was behind
// does: it stops issuing and revoking and says so, serves on what it knows, does not start again until the database was
// moved on, and then goes on without using anything twice.
func TestDatabaseGoesBackWhileRunning(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		p := s.start(t)
		good, revoked := s.issue(t, "good.example"), s.issue(t, "revoked.example")
		s.revoke(t, revoked, pki.KeyCompromise)
		file := filepath.Join(t.TempDir(), "revoked.pem")
		_, text := s.run(t, "show", "--pem", revoked.Serial.String())
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(database, "sqlite:") {
			alter(t, s, database, `CREATE TABLE kept AS SELECT last, head FROM audit_batches; DROP TRIGGER audit_batches_no_update; UPDATE audit_batches SET head = zeroblob(32)`)
		} else {
			alter(t, s, database, `CREATE TABLE kept AS SELECT last, head FROM audit_batches; ALTER TABLE audit_batches DISABLE TRIGGER USER; UPDATE audit_batches SET head = decode(repeat('00', 32), 'hex')`)
		}
		var said string
		for deadline := time.Now().Add(time.Minute); !strings.Contains(said, "another past"); time.Sleep(20 * time.Millisecond) {
			answer, err := http.Get("http://" + s.addresses.Ops + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if said = string(body); time.Now().After(deadline) {
				t.Fatalf("nobody noticed: %d, %s", answer.StatusCode, said)
			}
		}
		if s.ready() {
			t.Error("it is in rotation")
		}
		says := func(err error) bool { // what is the matter, and what to do
			return err != nil && strings.Contains(pki.Explain(err), "the database went back; tell the operators of the server") && strings.Contains(pki.Explain(err), "signet restore")
		}
		if _, err := s.api.Issue(t.Context(), client.IssueRequest{CSR: request(t), Profile: "server", Identifiers: []string{"late.example"}}); pki.KindOf(err) != pki.KindUnavailable || !says(err) {
			t.Errorf("it issues: %v", err)
		}
		if _, err := s.api.Revoke(t.Context(), client.RevokeRequest{Certificate: good.DER, Reason: pki.Superseded}); pki.KindOf(err) != pki.KindUnavailable || !says(err) {
			t.Errorf("it revokes: %v", err)
		}
		if status, said := s.run(t, "ocsp", "query", file); status != 10 || !strings.Contains(said, "keyCompromise") {
			t.Errorf("it does not answer any more: %d, %s", status, said)
		}
		p.stop(t)
		// Its numbers and its past are as they were; what happened in between is unknown.
		alter(t, s, database, `UPDATE audit_batches SET head = (SELECT head FROM kept WHERE kept.last = audit_batches.last) WHERE last IN (SELECT last FROM kept); DROP TABLE kept`)
		if status, said := s.run(t, "serve", "--unsafe-database"); status != 3 || !strings.Contains(said, "signet restore --in-place") {
			t.Errorf("it starts again: %d, %s", status, said)
		}
		if status, said := s.run(t, "restore", "--in-place", "--yes", "--unsafe-database"); status != 0 {
			t.Fatalf("restore --in-place: %d, %s", status, said)
		}
		s.start(t)
		after := s.issue(t, "after.example")
		invariant.All(t, invariant.System{API: s.api, Issued: [][]byte{good.DER, revoked.DER, after.DER}})
	})
}
