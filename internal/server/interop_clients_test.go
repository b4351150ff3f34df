package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"signet.example/signet/pki"
)

// clientReaders are programs that people use to fetch something, and what Go's libraries make of it.
var clientReaders = []reader{
	{name: "curl --cert-status", staples: true, ask: func(j *judge, s *subject) opinion {
		out, ok := j.run("curl", "-sS", "--cacert", "root.pem", "--cert-status", "https://localhost:"+s.port(s.stapled)+"/")
		return opinion{said: wordIn(out, ok && strings.Contains(out, "hello"), "revoked"), output: out}
	}},
	{name: "curl --crlfile", chain: true, ask: func(j *judge, s *subject) opinion {
		out, ok := j.run("curl", "-sS", "--cacert", "root.pem", "--crlfile", "completes.pem", "https://localhost:"+s.port(s.bare)+"/")
		return opinion{said: wordIn(out, ok && strings.Contains(out, "hello"), "revoked"), output: out}
	}},
	{name: "wget --crl-file", chain: true, believes: true, ask: func(j *judge, s *subject) opinion {
		out, ok := j.run("wget", "-nv", "-O", "-", "--ca-certificate", "root.pem", "--crl-file", "completes.pem", "https://localhost:"+s.port(s.bare)+"/")
		return opinion{said: wordIn(out, ok && strings.Contains(out, "hello"), "revoked"), output: out}
	}},
	{name: "Python: ssl.VERIFY_CRL_CHECK_CHAIN", chain: true, ask: func(j *judge, s *subject) opinion {
		out, ok := j.run("python3", "-c", python, s.port(s.bare))
		return opinion{said: wordIn(out, ok, "certificate revoked"), output: out}
	}},
	{name: "Node: https.get, crl", chain: true, ask: func(j *judge, s *subject) opinion {
		out, ok := j.run("node", "-e", nodeClient, s.port(s.bare))
		return opinion{said: wordIn(out, ok && strings.Contains(out, "hello"), "CERT_REVOKED"), output: out}
	}},
	{name: "Node: https.createServer, crl, of a client", chain: true, ask: nodeOfClient},
	{name: "nginx: ssl_crl, of a client", chain: true, ask: nginxOfClient},
	{name: "osslsigncode verify, downloads the shard", ask: osslsigncode()},
	{name: "osslsigncode verify -CRLfile", ask: osslsigncode("-ignore-cdp", "-CRLfile", "completes.pem")},
	{name: "Go: x509.RevocationList", ask: goList},
	{name: "Go: golang.org/x/crypto/ocsp", ocsp: true, ask: goOCSP},
}

const python = `
import socket, ssl, sys
context = ssl.create_default_context(cafile="root.pem")
context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
context.load_verify_locations("completes.pem")
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as plain:
    with context.wrap_socket(plain, server_hostname="localhost"):
        pass
`

func goList(j *judge, s *subject) opinion {
	list, err := x509.ParseRevocationList(j.read("shard.crl"))
	if err != nil {
		return opinion{said: nothing, output: err.Error()}
	}
	if err := list.CheckSignatureFrom(j.issuing); err != nil {
		return opinion{said: nothing, output: err.Error()}
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(s.SerialNumber) == 0 {
			return opinion{said: revoked, reason: pki.Reason(e.ReasonCode).String()}
		}
	}
	return opinion{said: good, output: fmt.Sprint(list.RevokedCertificateEntries)}
}

func goOCSP(j *judge, s *subject) opinion {
	j.staple(s)
	answer, err := xocsp.ParseResponseForCert(j.read("staple.der"), s.Certificate, j.issuing)
	switch {
	case err != nil:
		return opinion{said: nothing, output: err.Error()}
	case answer.Status == xocsp.Good:
		return opinion{said: good}
	case answer.Status == xocsp.Revoked:
		return opinion{said: revoked, reason: pki.Reason(answer.RevocationReason).String()}
	}
	return opinion{said: nothing, output: fmt.Sprint(answer.Status)}
}

// nginxServer runs nginx with the configuration of docs/HANDSHAKE.md.
func (j *judge) nginxServer(s *subject) string {
	j.t.Helper()
	address := j.freeAddress()
	j.write("nginx.conf", []byte(fmt.Sprintf(`daemon off; master_process off; pid %[1]s/nginx.pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  server {
    listen %[2]s ssl;
    location / { return 200 "$ssl_client_verify"; }
%[3]s
  }
}`, j.dir, address, j.documentedNginx(s))))
	j.start(address, "nginx", "-p", j.dir, "-c", j.path("nginx.conf"))
	return address
}

// documentedNginx is the configuration of docs/HANDSHAKE.md with our files in the place of the reader's. Our clients
// show no certificate where they are after nginx's own.
func (j *judge) documentedNginx(s *subject) string {
	j.t.Helper()
	page, err := os.ReadFile("../../docs/HANDSHAKE.md")
	if err != nil {
		j.t.Fatal(err)
	}
	_, after, found := strings.Cut(string(page), "```nginx\n")
	config, _, closed := strings.Cut(after, "```")
	if !found || !closed {
		j.t.Fatal("docs/HANDSHAKE.md has no configuration of nginx")
	}
	for theirs, ours := range map[string]string{
		"/etc/ssl/app.pem": s.name + "-chain.pem", "/etc/ssl/app.key": s.name + ".key", "/etc/ssl/ca.pem": "authorities.pem", "/etc/ssl/crls.pem": "completes.pem",
	} {
		if !strings.Contains(config, theirs) {
			j.t.Errorf("docs/HANDSHAKE.md does not name %s", theirs)
		}
		config = strings.ReplaceAll(config, theirs, j.path(ours))
	}
	// Our responder has an address.
	config = nginxResolver.ReplaceAllString(config, "")
	// For readers that look at the staple only.
	return strings.ReplaceAll(config, "ssl_verify_client        on;", "ssl_verify_client optional;")
}

var nginxResolver = regexp.MustCompile(`(?m)^resolver .*$`)

// nginxOfClient shows the certificate to nginx.
func nginxOfClient(j *judge, s *subject) opinion {
	status, body, err := j.showTo(j.nginxServer(s), s)
	switch {
	case err != nil:
		return opinion{said: nothing, output: err.Error()}
	case status == http.StatusOK && body == "SUCCESS":
		return opinion{said: good}
	case status == http.StatusBadRequest: // it says why in its log only
		return opinion{said: revoked, output: body}
	}
	return opinion{said: nothing, output: body}
}

const nodeClient = `
const fs = require("fs");
const options = {host: "localhost", family: 4, port: process.argv[1], ca: fs.readFileSync("root.pem"),
  crl: [fs.readFileSync("complete.crl.pem"), fs.readFileSync("root.crl.pem")]};
require("https").get(options, answer => answer.pipe(process.stdout)).on("error", e => { console.log(e.code, e.message); process.exit(1) });
`

const nodeServer = `
const fs = require("fs");
const options = {key: fs.readFileSync(process.argv[1] + ".key"), cert: fs.readFileSync(process.argv[1] + "-chain.pem"), requestCert: true, rejectUnauthorized: false,
  ca: fs.readFileSync("root.pem"), crl: [fs.readFileSync("complete.crl.pem"), fs.readFileSync("root.crl.pem")]};
require("https").createServer(options, (request, answer) => answer.end(request.socket.authorized ? "authorized" : request.socket.authorizationError))
  .listen(process.argv[2], "127.0.0.1");
`

// nodeOfClient shows the certificate to Node, which says what it makes of it.
func nodeOfClient(j *judge, s *subject) opinion {
	address := j.freeAddress()
	_, port, _ := net.SplitHostPort(address)
	j.start(address, "node", "-e", nodeServer, s.name, port)
	_, body, err := j.showTo(address, s)
	if err != nil {
		return opinion{said: nothing, output: err.Error()}
	}
	return opinion{said: wordIn(body, body == "authorized", "CERT_REVOKED"), output: body}
}

// showTo fetches the page of a server with the certificate as the client's.
func (j *judge) showTo(address string, s *subject) (status int, body string, err error) {
	j.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(j.root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost",
		Certificates: []tls.Certificate{{Certificate: [][]byte{s.Raw, j.issuing.Raw}, PrivateKey: s.key}}}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get("https://" + address + "/")
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil {
		j.t.Fatal(err)
	}
	return answer.StatusCode, string(page), nil
}

// osslsigncode verifies a program that is signed with the certificate, as Windows would.
func osslsigncode(options ...string) func(*judge, *subject) opinion {
	return func(j *judge, s *subject) opinion {
		signed := s.name + "-signed.exe"
		if !j.exists(signed) {
			j.write("program.exe", smallProgram())
			j.must("osslsigncode", "sign", "-certs", s.name+"-chain.pem", "-key", s.name+".key", "-in", "program.exe", "-out", signed)
		}
		out, ok := j.run("osslsigncode", append([]string{"verify", "-CAfile", "root.pem", "-in", signed}, options...)...)
		return opinion{said: wordIn(out, ok && strings.Contains(out, "Signature verification: ok"), "certificate revoked"), output: out}
	}
}

// smallProgram is an executable of Windows that returns at once.
func smallProgram() []byte {
	image := make([]byte, 1024)
	copy(image, "MZ")
	image[0x3c] = 64
	at := 64
	put := func(format string, values ...uint32) {
		for i, size := range format {
			switch size {
			case '2':
				binary.LittleEndian.PutUint16(image[at:], uint16(values[i]))
			case '4':
				binary.LittleEndian.PutUint32(image[at:], values[i])
			}
			at += int(size - '0')
		}
	}
	put("4", 0x4550)                                                        // PE
	put("2244422", 0x14c, 1, 0, 0, 0, 224, 0x102)                           // for i386, with one section
	put("224444444", 0x10b, 0, 512, 0, 0, 0x1000, 0x1000, 0x2000, 0x400000) // PE32, where code begins
	put("44222222", 0x1000, 512, 4, 0, 0, 0, 4, 0)                          // alignments, versions
	// Sizes; a console program; stack and heap.
	put("44442244444", 0, 0x2000, 512, 0, 3, 0, 0x100000, 0x1000, 0x100000, 0x1000, 0)
	put("4", 16) // empty data directories
	at += 128
	copy(image[at:], ".text")
	at += 8
	put("4444444", 1, 0x1000, 512, 512, 0, 0, 0)
	put("4", 0x60000020)
	image[512] = 0xc3
	return image
}
