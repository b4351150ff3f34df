package server_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/invariant"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/migrations"
	"signet.example/signet/pki"
)

// run runs the program with the site's configuration and returns its exit status and what it said.
func (s *site) run(t *testing.T, args ...string) (status int, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, append([]string{"--config", filepath.Join(s.dir, "signet.yaml")}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// TestDatabaseGone kills PostgreSQL under a running server: callers are told, status is served as before, nothing is
// half done, and the server recovers by itself.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	database := testdb.Durable(t)
	s := found(t, database.EmptyURL(t))
	s.start(t)
	good, revoked := s.issue(t, "good.example"), s.issue(t, "revoked.example")
	s.revoke(t, revoked, pki.KeyCompromise)
	files := t.TempDir()
	write := func(name string, c client.Certificate) string {
		path := filepath.Join(files, name)
		status, said := s.run(t, "show", "--pem", c.Serial.String())
		if status != 0 {
			t.Fatal(said)
		}
		if err := os.WriteFile(path, []byte(said), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	goodFile, revokedFile := write("good.pem", good), write("revoked.pem", revoked)

	database.Kill(t)
	csr := request(t)
	issue := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := s.api.Issue(ctx, client.IssueRequest{CSR: csr, Profile: "server", Identifiers: []string{"late.example"}, RequestID: "late"})
		return err
	}
	revoke := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := s.api.Revoke(ctx, client.RevokeRequest{Certificate: good.DER, Reason: pki.Superseded})
		return err
	}
	for what, call := range map[string]func() error{"issue": issue, "revoke": revoke} {
		err := call()
		e, ok := errors.AsType[*pki.Error](err)
		if !ok || e.Kind != pki.KindUnavailable || e.Hint == "" || strings.Contains(err.Error(), "PGSQL") {
			t.Errorf("%s without a database: %v", what, err)
		}
	}
	if status, said := s.run(t, "ocsp", "query", goodFile); status != 0 || !strings.Contains(said, "good") {
		t.Errorf("OCSP of the good one: %d, %s", status, said)
	}
	if status, said := s.run(t, "ocsp", "query", revokedFile); status != 10 || !strings.Contains(said, "keyCompromise") {
		t.Errorf("OCSP of the revoked one: %d, %s", status, said)
	}
	if status, said := s.run(t, "crl", "fetch", revokedFile, "--out", filepath.Join(files, "list.crl")); status != 0 || !strings.Contains(said, "revoked    1") {
		t.Errorf("CRL: %d, %s", status, said)
	}
	if answer, err := http.Get("http://" + s.addresses.Ops + "/livez"); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("it is not alive: %v, %v", answer, err)
	}

	database.Start(t)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := issue()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the database is back: %v", err)
		}
	}
	again, err := s.api.Issue(t.Context(), client.IssueRequest{CSR: csr, Profile: "server", Identifiers: []string{"late.example"}, RequestID: "late"})
	if err != nil || !again.Repeated {
		t.Errorf("the request that failed and then succeeded is not one: %+v, %v", again, err)
	}
	if check, err := s.api.CheckCertificate(t.Context(), good.DER, time.Time{}); err != nil || check.Revocation != nil {
		t.Errorf("a revocation that was refused is there: %+v, %v", check, err)
	}
	s.revoke(t, good, pki.Superseded)
	invariant.All(t, invariant.System{API: s.api, Issued: [][]byte{good.DER, revoked.DER, again.Certificate.DER}})
}

// TestOtherSchemas starts on the schema of a later signet, which is refused and left alone, and on that of an earlier
// one, which is brought up to date. How a schema stands can be asked beside an instance, which goes on.
func TestOtherSchemas(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		alter(t, s, database, `UPDATE schema_migrations SET version = version + 1000`)
		if status, said := s.run(t, "serve", "--unsafe-database"); status != 3 || !strings.Contains(said, "newer than") || !strings.Contains(said, "next: start the newer signet") {
			t.Errorf("serve on a newer schema: %d, %s", status, said)
		}
		if status, said := s.run(t, "migrate", "--check"); status != 3 || !strings.Contains(said, "next: ") {
			t.Errorf("migrate --check on a newer schema: %d, %s", status, said)
		}
		alter(t, s, database, `UPDATE schema_migrations SET version = version - 1000`)
		p := s.start(t)
		s.issue(t, "back.example")
		if status, said := s.run(t, "migrate", "--check"); status != 0 || !strings.Contains(said, "which is this binary's") {
			t.Errorf("migrate --check beside an instance: %d, %s", status, said)
		}
		alter(t, s, database, `UPDATE schema_migrations SET version = version - 1`)
		if status, said := s.run(t, "migrate", "--check"); status != 10 || !strings.Contains(said, "backup --out FILE, then ") {
			t.Errorf("migrate --check on an older schema, beside an instance: %d, %s", status, said)
		}
		alter(t, s, database, `UPDATE schema_migrations SET version = version + 1`)
		s.issue(t, "still.example")
		p.stop(t)
		alter(t, s, database, `UPDATE schema_files SET sha256 = ''`)
		for _, args := range [][]string{{"serve", "--unsafe-database"}, {"migrate", "--check"}} {
			if status, said := s.run(t, args...); status != 3 || !strings.Contains(said, "another build") || !strings.Contains(said, "next: continue with the signet that made this database") {
				t.Errorf("%v on the schema of another build: %d, %s", args, status, said)
			}
		}
	})
	t.Run("older", func(t *testing.T) {
		s := &site{dir: t.TempDir()}
		config := "public_url: http://pki.example\ndatabase: sqlite:signet.db\n"
		if err := os.WriteFile(filepath.Join(s.dir, "signet.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		first, err := os.ReadFile("../../migrations/sqlite/0001_base.up.sql")
		if err != nil {
			t.Fatal(err)
		}
		digest, err := migrations.Digest("sqlite", 1)
		if err != nil {
			t.Fatal(err)
		}
		alter(t, s, "sqlite:signet.db", string(first)+`;
			CREATE TABLE schema_migrations (version uint64, dirty bool);
			CREATE UNIQUE INDEX version_unique ON schema_migrations (version);
			INSERT INTO schema_migrations VALUES (1, false);
			CREATE TABLE schema_files (version bigint PRIMARY KEY, sha256 text NOT NULL);
			INSERT INTO schema_files VALUES (1, '`+digest+`')`)
		for _, step := range []struct {
			args   []string
			status int
		}{{[]string{"migrate", "--check"}, 10}, {[]string{"migrate"}, 0}, {[]string{"migrate", "--check"}, 0}} {
			if status, said := s.run(t, step.args...); status != step.status {
				t.Errorf("%v: %d, %s", step.args, status, said)
			}
		}
	})
}

// alter runs a statement on the database behind the program's back.
func alter(t *testing.T, s *site, database, statement string) {
	t.Helper()
	if name, ok := strings.CutPrefix(database, "sqlite:"); ok {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, name)+"?_pragma=busy_timeout(10000)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		return
	}
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// TestPublicWithoutKeys runs an instance that has no issuer's key and not even a place for keys: it answers OCSP with a
// key of its own that the others certify, serves their lists, and offers no API.
func TestPublicWithoutKeys(t *testing.T) {
	t.Parallel()
	one := found(t, testdb.EmptyURL(t))
	public := one.beside(t)
	for _, name := range []string{"keys", "admin.token"} {
		if err := os.RemoveAll(filepath.Join(public.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	one.start(t)
	c := one.issue(t, "app.example")
	p := public.start(t, "--role", "public")
	said, err := os.ReadFile(p.log)
	if err != nil || strings.Contains(string(said), "signet issue") || strings.Contains(string(said), "API (") {
		t.Errorf("it offers an API: %s, %v", said, err)
	}
	one.revoke(t, c, pki.KeyCompromise) // waits for every instance
	file := filepath.Join(t.TempDir(), "app.pem")
	_, text := one.run(t, "show", "--pem", c.Serial.String())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "http://" + public.addresses.Public + "/ocsp/" + c.Issuer.String()
	if status, said := public.run(t, "ocsp", "query", file, "--url", url); status != 10 || !strings.Contains(said, "keyCompromise") {
		t.Errorf("its OCSP: %d, %s", status, said)
	}
	if keys, err := filepath.Glob(filepath.Join(public.dir, "keys", "*.key")); err != nil || len(keys) != 1 {
		t.Errorf("it has the keys %v, %v; want its responder's alone", keys, err)
	}
}

// TestNewIssuerKeepsReady creates an issuer on a running server: until its responder is certified, the instance stays
// in rotation.
func TestNewIssuerKeepsReady(t *testing.T) {
	t.Parallel()
	s := found(t, "sqlite:signet.db")
	s.start(t)
	issuers, err := s.api.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.api.CreateIssuer(t.Context(), client.IssuerSpec{Label: "second", Subject: client.Subject{CommonName: "Second"}, BaseURL: "http://" + s.addresses.Public, Parent: issuers[0].ID})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/issuers/" + made.ID.String() + ".cer": "application/pkix-cert", "/crl/" + made.ID.String() + ".crl": "application/pkix-crl"} {
		answer, err := http.Get("http://" + s.addresses.Public + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != want {
			t.Errorf("%s of an issuer that was just made: %s", path, answer.Status)
		}
	}
	certified := regexp.MustCompile(`"ocsp/` + made.ID.String() + `",\s*"state": "ok"`)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		answer, err := http.Get("http://" + s.addresses.Ops + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("the instance is out of rotation: %d, %v, %s", answer.StatusCode, err, text)
		}
		if certified.Match(text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the responder of the new issuer is not certified: %s", text)
		}
	}
}
