package wire_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"signet.example/signet/handshake/wire"
	"signet.example/signet/internal/testport"
)

// TestInteropForeignServers follows handshakes with OpenSSL and GnuTLS, which pick what crypto/tls would not.
func TestInteropForeignServers(t *testing.T) {
	ca := newCA(t)
	dir := t.TempDir()
	writePair(t, dir, "rsa", ca.leaf(t, "server.example", rsaKey(t)))
	writePair(t, dir, "ec", ca.leaf(t, "server.example", nil))
	staple := filepath.Join(dir, "staple.der")
	if err := os.WriteFile(staple, []byte("\x30\x03\x0a\x01\x06"), 0o600); err != nil { // an OCSP response that says "unauthorized"
		t.Fatal(err)
	}
	openssl := func(kind string, args ...string) []string {
		return append([]string{"openssl", "s_server", "-quiet", "-cert", filepath.Join(dir, kind+".pem"), "-key", filepath.Join(dir, kind+".key"), "-rev", "-accept"}, args...)
	}
	gnutls := func(kind, priority string) []string {
		return []string{"gnutls-serv", "--quiet", "--echo", "--x509certfile", filepath.Join(dir, kind+".pem"), "--x509keyfile", filepath.Join(dir, kind+".key"), "--priority", priority, "--port"}
	}
	plain := func(c *tls.Config) *tls.Config { return c }
	for _, tt := range []struct {
		name    string
		server  []string // the port is put behind the last word, or in the place of PORT
		client  func(*tls.Config) *tls.Config
		suite   string
		group   string
		method  string
		retried bool
		stapled bool
	}{
		{"OpenSSL, AES-256", openssl("ec", "PORT", "-ciphersuites", "TLS_AES_256_GCM_SHA384"), plain, "TLS_AES_256_GCM_SHA384", "X25519", "ECDHE", false, false},
		{"OpenSSL, ChaCha20, HelloRetryRequest", openssl("ec", "PORT", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256", "-groups", "P-384"), plain, "TLS_CHACHA20_POLY1305_SHA256", "P-384", "ECDHE", true, false},
		{"OpenSSL, staple", openssl("rsa", "PORT", "-status_file", staple), plain, "", "", "ECDHE", false, true},
		{"OpenSSL, TLS 1.2 and staple", openssl("rsa", "PORT", "-tls1_2", "-status_file", staple), plain, "", "", "ECDHE", false, true},
		{"OpenSSL, TLS 1.2, CBC", openssl("rsa", "PORT", "-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"), plain, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "X25519", "ECDHE", false, false},
		{"OpenSSL, classical, GCM", openssl("rsa", "PORT"), wire.Classical, "", "", "RSA", false, false},
		{"OpenSSL, classical, CBC and SHA-256", openssl("rsa", "PORT", "-cipher", "AES128-SHA256"), wire.Classical, "TLS_RSA_WITH_AES_128_CBC_SHA256", "", "RSA", false, false},
		{"OpenSSL, classical, CBC and SHA-1", openssl("rsa", "PORT", "-cipher", "AES256-SHA"), wire.Classical, "TLS_RSA_WITH_AES_256_CBC_SHA", "", "RSA", false, false},
		{"GnuTLS", gnutls("ec", "NORMAL"), plain, "", "", "ECDHE", false, false},
		{"GnuTLS, P-521, HelloRetryRequest", gnutls("ec", "NORMAL:-GROUP-ALL:+GROUP-SECP521R1:-VERS-ALL:+VERS-TLS1.3"), plain, "", "P-521", "ECDHE", true, false},
		{"GnuTLS, ChaCha20 in TLS 1.2", gnutls("rsa", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305"), plain, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "", "ECDHE", false, false},
		{"GnuTLS, classical", gnutls("rsa", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA:-CIPHER-ALL:+AES-128-GCM"), wire.Classical, "TLS_RSA_WITH_AES_128_GCM_SHA256", "", "RSA", false, false},
		{"GnuTLS, classical, CBC", gnutls("rsa", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA:-CIPHER-ALL:+AES-256-CBC"), wire.Classical, "TLS_RSA_WITH_AES_256_CBC_SHA", "", "RSA", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steps := visitForeign(t, startForeign(t, tt.server), tt.client(&tls.Config{RootCAs: ca.pool(), ServerName: "server.example"}))
			choice, exchange, finished := step(t, steps, "server-choice").ServerChoice, step(t, steps, "key-exchange").KeyExchange, step(t, steps, "finished").Finished
			if tt.suite != "" && choice.Suite.String() != tt.suite || tt.group != "" && exchange.Group.String() != tt.group || exchange.Method != tt.method || (choice.Retried != 0) != tt.retried {
				t.Errorf("chose %v, exchange %+v", choice, exchange)
			}
			if !finished.Client || !finished.Server {
				t.Errorf("Finished not recomputed: %+v", finished)
			}
			if sent := step(t, steps, "certificate").Certificate.Sent; sent[0].Stapled != tt.stapled {
				t.Errorf("sent %+v", sent)
			}
			if c := step(t, steps, "close").Close; c.NotFollows != "" || !c.ByClient {
				t.Errorf("close %+v", c)
			}
		})
	}
}

// visitForeign makes a connection, says something, hears something, and closes.
func visitForeign(t *testing.T, raw net.Conn, cfg *tls.Config) []wire.Step {
	t.Helper()
	var steps []wire.Step
	tap := wire.NewTap(raw, wire.Config{Step: func(s wire.Step) { steps = append(steps, s) }})
	conn := tls.Client(tap, tell(tap, cfg))
	err := conn.HandshakeContext(t.Context())
	tap.Done(err)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, message+"\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len(message)+1)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	return steps
}

// startForeign starts a server on a free port and connects to it.
func startForeign(t *testing.T, command []string) net.Conn {
	t.Helper()
	port := testport.Free(t)
	address := net.JoinHostPort("127.0.0.1", port)
	args := slices.Clone(command)
	if i := slices.Index(args, "PORT"); i >= 0 {
		args[i] = port
	} else {
		args = append(args, port)
	}
	var said bytes.Buffer
	server := exec.Command(args[0], args[1:]...)
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill() // it may be gone already
		_ = server.Wait()
		if t.Failed() {
			t.Logf("the server said: %s", said.String())
		}
	})
	deadline := time.Now().Add(2 * time.Minute)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			if err := conn.SetDeadline(deadline); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: %s", err, said.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestForeignClients follows from the server's side what OpenSSL and GnuTLS offer: suites that crypto/tls does not know,
// finite-field groups, GREASE and all.
func TestForeignClients(t *testing.T) {
	ca := newCA(t)
	dir := t.TempDir()
	cert := ca.leaf(t, "localhost", rsaKey(t))
	writePair(t, dir, "client", ca.leaf(t, "client.example", nil))
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, tt := range []struct {
		name   string
		client []string
		mutual bool
		suites int
	}{
		{"OpenSSL", []string{"openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile", file("root.pem"), "-servername", "localhost", "-status", "-connect", "PORT"}, false, 25},
		{"OpenSSL, mutual", []string{"openssl", "s_client", "-quiet", "-CAfile", file("root.pem"), "-cert", file("client.pem"), "-key", file("client.key"), "-connect", "PORT"}, true, 25},
		{"OpenSSL, TLS 1.2, mutual", []string{"openssl", "s_client", "-quiet", "-tls1_2", "-CAfile", file("root.pem"), "-cert", file("client.pem"), "-key", file("client.key"), "-connect", "PORT"}, true, 20},
		{"GnuTLS", []string{"gnutls-cli", "--x509cafile", file("root.pem"), "localhost", "--port"}, false, 15},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
			if tt.mutual {
				cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool()
			}
			steps := serveForeign(t, tt.client, cfg)
			hello := step(t, steps, "client-hello").ClientHello
			if len(hello.Suites) < tt.suites || len(hello.Groups) == 0 || len(hello.Schemes) == 0 || len(hello.Extensions) == 0 {
				t.Errorf("hello %+v", hello)
			}
			if f := step(t, steps, "finished").Finished; !f.Client || !f.Server {
				t.Errorf("Finished not recomputed: %+v", f)
			}
			if x := step(t, steps, "key-exchange").KeyExchange; x.ClientSent != tt.mutual {
				t.Errorf("key exchange %+v", x)
			}
			if d := step(t, steps, "application-data").ApplicationData; d.Received.Octets != len(message)+1 {
				t.Errorf("application data %+v", d)
			}
		})
	}
}

// TestKeyUpdate has OpenSSL change its keys in mid-session, and ask us to: what follows opens only with the next ones.
func TestKeyUpdate(t *testing.T) {
	ca := newCA(t)
	client := []string{"openssl", "s_client", "-tls1_3", "-servername", "server.example", "-connect", "PORT"}
	// Without -quiet, s_client takes a line with a single K for a command.
	steps := serveForeign(t, client, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, "server.example", nil)}}, "K\n")
	d, c := step(t, steps, "application-data").ApplicationData, step(t, steps, "close").Close
	if d.Received.Octets != len(message)+1 || d.KeyUpdates < 1 || c.NotFollows != "" || !c.ByServer {
		t.Errorf("application data %+v, close %+v", d, c)
	}
}

// serveForeign lets a client program connect once, say something and leave.
func serveForeign(t *testing.T, command []string, cfg *tls.Config, first ...string) []wire.Step {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	args := slices.Clone(command)
	if i := slices.Index(args, "PORT"); i >= 0 {
		args[i] = ln.Addr().String()
	} else {
		_, port, _ := net.SplitHostPort(ln.Addr().String()) // it was made by net
		args = append(args, port)
	}
	var said bytes.Buffer
	client := exec.Command(args[0], args[1:]...)
	client.Stdout, client.Stderr = &said, &said
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer client.Wait()
	defer client.Process.Kill()
	var steps []wire.Step
	var wait sync.WaitGroup
	ready, arrived := make(chan struct{}), make(chan struct{}, 64)
	wait.Go(func() {
		defer close(arrived)
		readyOnce := sync.OnceFunc(func() { close(ready) })
		defer readyOnce()
		raw, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		raw = &bell{Conn: raw, rings: arrived}
		_ = raw.SetDeadline(time.Now().Add(2 * time.Minute)) // so that a hang is a failure
		tap := wire.NewTap(raw, wire.Config{Role: wire.Server, Step: func(s wire.Step) { steps = append(steps, s) }})
		conn := tls.Server(tap, tell(tap, cfg))
		err = conn.HandshakeContext(t.Context())
		tap.Done(err)
		readyOnce()
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, len(message)+1))
		}
		if err != nil {
			t.Errorf("serve: %v", err)
		}
		conn.Close()
	})
	<-ready
	for _, line := range append(first, message+"\n") {
		for len(arrived) > 0 {
			<-arrived
		}
		if _, err := io.WriteString(in, line); err != nil {
			t.Fatal(err)
		}
		<-arrived // s_client knows a command by its coming alone: the next line waits until this one has had its effect
	}
	wait.Wait()
	if t.Failed() {
		t.Logf("the client said: %s", said.String())
	}
	return steps
}

// bell rings when something has arrived.
type bell struct {
	net.Conn
	rings chan<- struct{}
}

func (b *bell) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if n > 0 {
		select {
		case b.rings <- struct{}{}:
		default: // it has rung enough
		}
	}
	return n, err
}

// writePair writes a chain and its key in PEM.
func writePair(t *testing.T, dir, name string, cert tls.Certificate) {
	t.Helper()
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{name + ".pem": chain, name + ".key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
