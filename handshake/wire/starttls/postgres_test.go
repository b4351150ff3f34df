package starttls_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/handshake/wire/starttls"
	"signet.example/signet/internal/testport"
)

// TestRealPostgreSQL upgrades to TLS with a PostgreSQL server, one that does not speak TLS and one that does.
func TestRealPostgreSQL(t *testing.T) {
	cert, key, pool := selfSigned(t, "postgres.example")
	plain := startPostgres(t, nil)
	_, err := starttls.Upgrade(t.Context(), plain(), starttls.Postgres, "")
	if _, ok := errors.AsType[*starttls.DeclinedError](err); !ok {
		t.Errorf("without TLS: %v, want a DeclinedError", err)
	}
	conn := startPostgres(t, map[string]string{"server.crt": cert, "server.key": key}, "-c", "ssl=on")()
	if _, err := starttls.Upgrade(t.Context(), conn, starttls.Postgres, ""); err != nil {
		t.Fatal(err)
	}
	client := tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "postgres.example", NextProtos: []string{"postgresql"}})
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Errorf("handshake with PostgreSQL: %v", err)
	}
}

// startPostgres starts a server on a loopback port, as package testdb does on a socket in the file system, where
// PostgreSQL speaks no TLS. It returns how to connect to it.
func startPostgres(t *testing.T, files map[string]string, args ...string) (dial func() net.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgtls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data, attr := filepath.Join(dir, "data"), postgresUser(t, dir)
	run := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(postgresProgram(t, program), args...)
		cmd.SysProcAttr, cmd.Dir = attr, dir
		return cmd
	}
	if out, err := run("initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "--no-instructions").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	for name, text := range files {
		file := filepath.Join(data, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if attr.Credential != nil {
			if err := os.Chown(file, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	address := net.JoinHostPort("127.0.0.1", testport.Free(t))
	_, port, _ := net.SplitHostPort(address) // it was made by net
	server := run("postgres", append([]string{"-D", data, "-k", dir, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"}, args...)...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // it may be gone already
		_ = server.Wait()
	})
	return func() net.Conn {
		deadline := time.Now().Add(2 * time.Minute)
		for {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				t.Cleanup(func() { conn.Close() })
				return conn
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// postgresUser gives dir to the account that PostgreSQL runs under if we are root, which it refuses to be.
func postgresUser(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() != 0 {
		return attr
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("PostgreSQL refuses to run as root: %v: apt-get install postgresql", err)
	}
	uid, _ := strconv.Atoi(account.Uid) // numbers on every system that PostgreSQL refuses root on
	gid, _ := strconv.Atoi(account.Gid)
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return attr
}

func postgresProgram(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv("PG_BINDIR"); dir != "" {
		return filepath.Join(dir, name)
	}
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(found) > 0 { // the pattern is well-formed
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: apt-get install postgresql", err)
	}
	return path
}

func selfSigned(t *testing.T, name string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), pool
}
