package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/handshake/wire/laboratory"
)

// mailServer speaks just enough SMTP to be upgraded, with what it says to STARTTLS given, and greets again over TLS. It
// gives no tickets.
func mailServer(t *testing.T, cert tls.Certificate, answer string) (address string) {
	return listen(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		io.WriteString(conn, "220 mail.example ESMTP\r\n")
		in.ReadString('\n')
		io.WriteString(conn, "250-mail.example\r\n250 STARTTLS\r\n")
		in.ReadString('\n')
		if io.WriteString(conn, answer); !strings.HasPrefix(answer, "220") {
			return
		}
		secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, CurvePreferences: []tls.CurveID{tls.CurveP256}, SessionTicketsDisabled: true})
		defer secure.Close()
		in = bufio.NewReader(secure)
		if line, err := in.ReadString('\n'); err == nil {
			fmt.Fprintf(secure, "250 you said %s", line)
		}
	})
}

// listen gives connections to a function, one after the other, and closes them afterwards.
func listen(t *testing.T, each func(net.Conn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			each(conn)
			conn.Close()
		}
	}()
	return ln.Addr().String()
}

// certified is a certificate for a server, of an authority of its own.
func certified(t *testing.T, name string) (*laboratory.Authority, tls.Certificate) {
	t.Helper()
	authority, err := laboratory.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Server(name)
	if err != nil {
		t.Fatal(err)
	}
	return authority, cert
}

func TestConnectSTARTTLS(t *testing.T) {
	authority, cert := certified(t, "mail.example")
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	connect := func(more ...string) []string {
		return append([]string{"handshake", "connect", "--servername", "mail.example", "--roots", roots, "--offline"}, more...)
	}
	closing := listen(t, func(conn net.Conn) { conn.Read(make([]byte, 4096)) })
	upgraded := func(answer string) string { // what it says instead of TLS, after STARTTLS
		return listen(t, func(conn net.Conn) {
			in := bufio.NewReader(conn)
			for _, line := range []string{"220 mail.example ESMTP\r\n", "250-mail.example\r\n250 STARTTLS\r\n", "220 go ahead\r\n"} {
				io.WriteString(conn, line)
				if !strings.HasPrefix(line, "220 go") {
					in.ReadString('\n')
				}
			}
			in.Peek(16)
			in.Discard(in.Buffered())
			io.WriteString(conn, answer)
		})
	}
	newest := listen(t, func(conn net.Conn) {
		tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}).Handshake()
	})
	plain := listen(t, func(conn net.Conn) { io.WriteString(conn, "220 mail.example ESMTP\r\n"); conn.Read(make([]byte, 4096)) })
	silent := listen(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   []string // in what it printed
	}{
		{"upgraded", connect(mailServer(t, cert, "220 go ahead\r\n"), "--starttls", "smtp", "--again", "--data", `EHLO again\r\n`), 0, []string{" 0  In plain text: smtp", "→ STARTTLS", "← 220 go ahead", " 3  Certificate",
			"│ 250 you said EHLO again", "Again, with a full handshake: the server gave no ticket", "accepted: ", " over P-256"}},
		{"declined", connect(mailServer(t, cert, "454 no\r\n"), "--starttls", "smtp"), 1, []string{"← 454 no", `refused: `, `does not offer TLS: it says "454 no"`, "next: is it smtp that is spoken there?"}},
		{"injected", connect(mailServer(t, cert, "220 go ahead\r\n250 forged\r\n"), "--starttls", "smtp"), 1, []string{"refused: ", "injected by the peer or on the way"}},
		{"another protocol", connect(silent, "--starttls", "ldap", "--timeout", "50ms"), 2, []string{"deadline exceeded: read", "next: is it ldap that is spoken at 127.0.0.1:"}},
		{"closed", connect(closing), 1, []string{"refused: ", "closed the connection and did not answer our hello", "next: it may speak something else", "--starttls"}},
		{"closed after STARTTLS", connect(upgraded(""), "--starttls", "smtp"), 1, []string{"closed the connection and did not answer our hello", "next: it may speak something else; is it TLS that is spoken after STARTTLS?"}},
		{"another protocol after STARTTLS", connect(upgraded("500 what?\r\n"), "--starttls", "smtp"), 2, []string{"next: that port speaks something else; is it TLS that is spoken after STARTTLS?"}},
		{"not TLS", connect(plain), 2, []string{"next: that port speaks something else; a protocol that begins in plain text needs --starttls"}},
		{"classical, with a key that cannot", connect(listen(t, func(conn net.Conn) { tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake() }), "--tls1.2-rsa"), 1, []string{"handshake_failure", "next: few servers still take"}},
		{"survey, declined", []string{"handshake", "survey", mailServer(t, cert, "454 no\r\n"), "--starttls", "smtp"}, 2, []string{`it says "454 no"`, "next: is it smtp that is spoken there?"}},
		{"survey, closed", []string{"handshake", "survey", closing}, 0, []string{"TLS 1.3  not spoken  closed the connection", "- It took none of our hellos: it may speak something else"}},
		{"survey, not TLS after STARTTLS", []string{"handshake", "survey", upgraded("500 what?\r\n"), "--starttls", "smtp"}, 2, []string{"is it TLS that is spoken after STARTTLS?"}},
		{"survey, ended before TLS 1.2", []string{"handshake", "survey", newest, "--most", "1"}, 0, []string{"TLS 1.2  not asked", "- It took none of our hellos so far: not enough connections to tell (--most).\n- The survey is not complete"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if status := run(tt.args, strings.NewReader(""), &out, &out); status != tt.status {
				t.Errorf("exit status %d, want %d", status, tt.status)
			}
			for _, text := range tt.want {
				if !strings.Contains(out.String(), text) {
					t.Errorf("no %q in\n%s", text, out.String())
				}
			}
		})
	}
}

// TestConnectInteractive talks to the page of `handshake serve` through standard input and output.
func TestConnectInteractive(t *testing.T) {
	dir := t.TempDir()
	authority, cert := certified(t, "app.example")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"roots.pem": {Type: "CERTIFICATE", Bytes: authority.Certificate.Raw}, "app.pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "app.key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listening, say := io.Pipe()
	served := make(chan int, 1)
	go func() {
		defer say.Close()
		served <- run([]string{"handshake", "serve", "127.0.0.1:0", "--cert", filepath.Join(dir, "app.pem"), "--key", filepath.Join(dir, "app.key"), "--count", "1", "--trace", "json"}, strings.NewReader(""), say, io.Discard)
	}()
	lines := bufio.NewReader(listening)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ready struct{ Listening string }
	if err := json.Unmarshal([]byte(first), &ready); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	status := run([]string{"handshake", "connect", ready.Listening, "--servername", "app.example", "--roots", filepath.Join(dir, "roots.pem"), "--offline", "-i", "--trace", "none"},
		strings.NewReader("GET / HTTP/1.1\r\nHost: app.example\r\nAccept: application/json\r\n\r\n"), &out, io.Discard)
	if status != 0 || !strings.Contains(out.String(), `"cipher_suite":"TLS_`) || !strings.Contains(out.String(), "accepted: ") {
		t.Errorf("exit status %d, said\n%s", status, out.String())
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(rest), `{"connection":1,"from":"127.0.0.1:`) || !strings.Contains(string(rest), `"step":"close"`) {
		t.Errorf("the server told\n%s", rest)
	}
	if status := <-served; status != 0 {
		t.Errorf("the server ended with %d", status)
	}
}

// TestVerdictIsVisible: what a terminal would obey in a reason, which a certificate may bring, is shown and not done.
func TestVerdictIsVisible(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	if err := a.narrator("text").verdict(verdict{Result: "refused", Server: "localhost", Reason: "\x1b[2J"}); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Contains(text, "\x1b") || !strings.Contains(text, `\x1b[2J`) {
		t.Errorf("%q", text)
	}
}

// TestIssuersOfSources: --crl and --ocsp reach the root that a chain ends at, though no file of --roots names it.
func TestIssuersOfSources(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	l := &call{config: &tls.Config{RootCAs: p.Cert("leaf").Pool()}}
	state := tls.ConnectionState{PeerCertificates: p.Cert("leaf").Chain()[:2]}
	issuers := l.issuers(state)
	if len(issuers) != 3 || !issuers[2].Equal(p.Cert("root").Certificate) {
		t.Errorf("%d issuers", len(issuers))
	}
	l.config.RootCAs = x509.NewCertPool()
	if issuers := l.issuers(state); len(issuers) != 2 {
		t.Errorf("of a chain that does not verify, %d issuers", len(issuers))
	}
}

// TestListOfAStranger: a server is told that a file of --crl would have no effect. What is fetched, and what cannot
// be told whose it is, passes.
func TestListOfAStranger(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	root, int := p.Cert("root"), p.Cert("int")
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ofRoot, ofInt := write("root.crl", root.CRL(handshaketest.CRL{})), write("int.crl", int.CRL(handshaketest.CRL{}))
	indirect := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x84, 1, 0xff}}
	for _, tt := range []struct {
		name    string
		source  string
		issuers []*x509.Certificate
		refused bool
	}{
		{"the list of the root", ofRoot, []*x509.Certificate{root.Certificate}, false},
		{"the list of an authority below it", ofInt, []*x509.Certificate{root.Certificate}, true},
		{"which is known", ofInt, []*x509.Certificate{root.Certificate, int.Certificate}, false},
		{"an indirect list", write("indirect.crl", int.CRL(handshaketest.CRL{Extensions: handshaketest.Extensions(indirect)})), []*x509.Certificate{root.Certificate}, false},
		{"a URL", "http://127.0.0.1/int.crl", []*x509.Certificate{root.Certificate}, false},
		{"no list", write("no.crl", []byte("no list")), []*x509.Certificate{root.Certificate}, false},
	} {
		f := trustFlags{CRL: []string{tt.source}}
		if err := f.strangersList(tt.issuers); (err != nil) != tt.refused {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestListsOfTheirIssuers: the CRL of an issuer that is known is looked at for its certificates alone, what is fetched
// for all.
func TestListsOfTheirIssuers(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	dir, f := t.TempDir(), trustFlags{CRL: []string{"http://127.0.0.1/any.crl"}}
	issuers := []*x509.Certificate{p.Cert("root").Certificate, p.Cert("int").Certificate}
	for _, name := range []string{"root", "int"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, p.Cert(name).CRL(handshaketest.CRL{}), 0o600); err != nil {
			t.Fatal(err)
		}
		f.CRL = append(f.CRL, path)
	}
	config, err := f.config(issuers)
	if err != nil || len(config.Issuers) != len(issuers) {
		t.Fatal(config.Issuers, err)
	}
	for i, issuer := range config.Issuers {
		if want := []string{f.CRL[0], f.CRL[i+1]}; !slices.Equal(issuer.CRLs, want) || !issuer.Certificate.Equal(issuers[i]) {
			t.Errorf("%s has %q, want %q", issuer.Certificate.Subject, issuer.CRLs, want)
		}
	}
}

// TestIssuerTwice: an authority whose certificate was given twice is one issuer, with the sources of one.
func TestIssuerTwice(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf; other")
	root, other := p.Cert("root").Certificate, p.Cert("other").Certificate
	flags := &trustFlags{Policy: "hard", OCSP: []string{p.URL + "/root.ocsp"}}
	config, err := flags.config([]*x509.Certificate{root, other, root})
	if err != nil || len(config.Issuers) != 2 || config.Issuers[0].Certificate != root || config.Issuers[1].Certificate != other {
		t.Fatalf("issuers %+v, %v", config.Issuers, err)
	}
	if _, err := handshake.New(config); err != nil {
		t.Error(err)
	}
}
