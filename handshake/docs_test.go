package handshake_test

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
)

// TestDocumentedProgram builds the program of docs/HANDSHAKE.md and holds it to its promise of thirty lines.
func TestDocumentedProgram(t *testing.T) {
	text, err := os.ReadFile("../docs/HANDSHAKE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "```go\npackage main")
	program, _, closed := strings.Cut(after, "```")
	if !found || !closed {
		t.Fatal("the page has no program")
	}
	if lines := strings.Count(program, "\n"); lines >= 30 {
		t.Errorf("the program has %d lines", lines)
	}
	// Inside the module, in a directory that the go command does not see by itself.
	dir, err := os.MkdirTemp("testdata", "program-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main"+program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", "./"+dir).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// checkedDatabase is the beginning of the recipe for pgx in docs/HANDSHAKE.md, line by line.
func checkedDatabase(checker *handshake.Checker, config *pgxpool.Config) (err error) {
	config.ConnConfig.TLSConfig, err = checker.WrapClient(config.ConnConfig.TLSConfig)
	if err != nil {
		return err
	}
	for _, other := range config.ConnConfig.Fallbacks { // every further host, and every further way of sslmode=prefer, has a configuration of its own
		if other.TLSConfig == nil {
			return errors.New("without TLS there is nothing to check: want sslmode=verify-full")
		}
		other.TLSConfig, err = checker.WrapClient(other.TLSConfig)
	}
	return err
}

// TestDocumentedDatabase: the recipe for pgx leaves no host unchecked, and the page says what is tested here.
func TestDocumentedDatabase(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf revoked")
	leaf := p.Cert("leaf")
	roots := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Root().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	address := fmt.Sprintf("postgres://app@%s,%s/app?sslrootcert=%s&sslmode=", closed.Addr(), database(t, p.ServerConfig(leaf, nil)), roots)

	config, err := pgxpool.ParseConfig(address + "verify-full")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkedDatabase(p.Checker(nil), config); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	err = pool.Ping(t.Context())
	if _, revoked := errors.AsType[*handshake.RevokedError](err); !revoked {
		t.Errorf("the second host is revoked: %v", err)
	}

	plain, err := pgxpool.ParseConfig(address + "disable")
	if err != nil {
		t.Fatal(err)
	}
	plain.ConnConfig.TLSConfig = p.ClientConfig(leaf)
	if err := checkedDatabase(p.Checker(nil), plain); err == nil {
		t.Error("the second host is asked without TLS")
	}

	checkDocumented(t, "config.ConnConfig.TLSConfig, err =", "var stops")
}

// database begins TLS as PostgreSQL does, with every connection.
func database(t *testing.T, config *tls.Config) net.Addr {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := io.ReadFull(conn, make([]byte, 8)); err == nil { // SSLRequest
					conn.Write([]byte{'S'})
					tls.Server(conn, config).Handshake()
				}
			}()
		}
	}()
	return listener.Addr()
}

// checkDocumented demands every line of docs/HANDSHAKE.md from one text up to another in this file.
func checkDocumented(t *testing.T, from, to string) {
	t.Helper()
	page, err := os.ReadFile("../docs/HANDSHAKE.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("docs_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(page), from)
	part, _, ends := strings.Cut(after, to)
	if !found || !ends {
		t.Fatalf("the page has nothing from %q to %q", from, to)
	}
	for line := range strings.Lines(from + part) {
		if !strings.Contains(string(code), strings.TrimSpace(line)) {
			t.Errorf("the page has a line that is not tested: %s", line)
		}
	}
}
