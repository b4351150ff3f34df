package server_test

import (
	"encoding/base64"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// opensslReaders: what is verified with -x509_strict is also held to the letter of RFC 5280.
var opensslReaders = []reader{
	{name: "OpenSSL: verify, by shards", chain: true, ask: opensslVerify("-x509_strict", "-extended_crl", "-crl_check_all", "-CRLfile", "shards.pem")},
	{name: "OpenSSL: verify, by complete lists", chain: true, ask: opensslVerify("-x509_strict", "-crl_check_all", "-CRLfile", "completes.pem")},
	{name: "OpenSSL: verify, by a list from the beginning and the delta", chain: true,
		ask: opensslVerify("-x509_strict", "-extended_crl", "-use_deltas", "-crl_check_all", "-CRLfile", "first-and-delta.pem")},
	{name: "OpenSSL: verify, by a list from the hold and the delta", chain: true,
		ask: opensslVerify("-x509_strict", "-extended_crl", "-use_deltas", "-crl_check_all", "-CRLfile", "held-and-delta.pem")},
	{name: "OpenSSL: verify, downloads the shard", ask: opensslVerify("-extended_crl", "-crl_check", "-crl_download")},
	{name: "OpenSSL: crl -verify", ask: opensslLists},
	{name: "OpenSSL: ocsp, POST, SHA-1", ocsp: true, ask: opensslOCSP("-no_nonce")},
	{name: "OpenSSL: ocsp, POST, SHA-1, nonce", ocsp: true, ask: opensslOCSP("-nonce")},
	{name: "OpenSSL: ocsp, POST, SHA-256", ocsp: true, ask: opensslOCSP("-no_nonce", "-sha256")},
	{name: "OpenSSL: ocsp, POST, SHA-256, nonce", ocsp: true, ask: opensslOCSP("-nonce", "-sha256")},
	{name: "OpenSSL: ocsp, GET", ocsp: true, ask: opensslGet},
	{name: "OpenSSL: ocsp, several at once", ocsp: true, ask: opensslSeveral},
	{name: "OpenSSL: s_client -status", staples: true, believes: true, ask: opensslStatus},
	{name: "OpenSSL: s_client -crl_check_all", chain: true, ask: func(j *judge, s *subject) opinion {
		return opensslWord(j.run("openssl", "s_client", "-connect", s.bare, "-CAfile", "trust-and-lists.pem", "-crl_check_all", "-verify_return_error", "-verify_hostname", "localhost"))
	}},
}

func opensslWord(out string, ok bool) opinion {
	return opinion{said: wordIn(out, ok, "certificate revoked"), output: out}
}

func opensslVerify(options ...string) func(*judge, *subject) opinion {
	return func(j *judge, s *subject) opinion {
		args := append([]string{"verify", "-CAfile", "root.pem", "-untrusted", "issuing.pem", "-purpose", "sslserver", "-verify_hostname", "localhost"}, options...)
		return opensslWord(j.run("openssl", append(args, s.name+".pem")...))
	}
}

// opensslLists checks the signature of every list, and looks the certificate up in its shard.
func opensslLists(j *judge, s *subject) opinion {
	var all string
	for list, signer := range map[string]string{"shard": "issuing.pem", "complete": "issuing.pem", "delta": "issuing.pem", "root": "root.pem"} {
		out, ok := j.run("openssl", "crl", "-in", list+".crl", "-inform", "DER", "-CAfile", signer, "-noout")
		if all += out; !ok || !strings.Contains(out, "verify OK") {
			return opinion{said: nothing, output: all}
		}
	}
	text := j.must("openssl", "crl", "-in", "shard.crl", "-inform", "DER", "-text", "-noout")
	_, entry, listed := strings.Cut(text, strings.ToUpper(s.record.Serial.String()))
	if !listed {
		return opinion{said: good, output: text}
	}
	entry, _, _ = strings.Cut(entry, "Serial Number")
	said := opinion{said: revoked, output: text}
	if _, after, found := strings.Cut(entry, "X509v3 CRL Reason Code: \n"); found {
		said.reason, _, _ = strings.Cut(strings.TrimSpace(after), "\n")
	}
	return said
}

var opensslReason = regexp.MustCompile(`Reason: (\w+)`)

// opensslSaid reads what openssl ocsp prints of a certificate. It ends well whatever it prints.
func opensslSaid(s *subject, out string) opinion {
	said := opinion{said: nothing, output: out}
	switch {
	case !strings.Contains(out, "Response verify OK") || strings.Contains(out, "Nonce Verify error") || strings.Contains(out, "WARNING: no nonce"):
	case strings.Contains(out, s.name+".pem: good"):
		said.said = good
	case strings.Contains(out, s.name+".pem: revoked"):
		said.said = revoked
		if reason := opensslReason.FindStringSubmatch(out); reason != nil {
			said.reason = reason[1]
		}
	}
	return said
}

func opensslOCSP(options ...string) func(*judge, *subject) opinion {
	return func(j *judge, s *subject) opinion {
		args := append([]string{"ocsp", "-issuer", "issuing.pem", "-CAfile", "root.pem", "-verify_other", "issuing.pem", "-url", s.OCSPServer[0]}, options...)
		out, _ := j.run("openssl", append(args, "-cert", s.name+".pem")...)
		return opensslSaid(s, out)
	}
}

// opensslGet: OpenSSL makes the request and judges the answer; it knows no GET, so we carry both.
func opensslGet(j *judge, s *subject) opinion {
	j.must("openssl", "ocsp", "-issuer", "issuing.pem", "-cert", s.name+".pem", "-no_nonce", "-reqout", "request.der")
	j.write("answer.der", j.download(s.OCSPServer[0]+"/"+url.PathEscape(base64.StdEncoding.EncodeToString(j.read("request.der")))))
	out, _ := j.run("openssl", "ocsp", "-issuer", "issuing.pem", "-cert", s.name+".pem", "-no_nonce", "-respin", "answer.der", "-CAfile", "root.pem", "-verify_other", "issuing.pem")
	return opensslSaid(s, out)
}

// opensslSeveral asks about both certificates in one request, each by another hash.
func opensslSeveral(j *judge, s *subject) opinion {
	companion := "other"
	if s.name == companion {
		companion = "app"
	}
	out, _ := j.run("openssl", "ocsp", "-issuer", "issuing.pem", "-CAfile", "root.pem", "-verify_other", "issuing.pem", "-url", s.OCSPServer[0], "-nonce",
		"-sha256", "-cert", companion+".pem", "-sha1", "-cert", s.name+".pem")
	said := opensslSaid(s, out)
	if !strings.Contains(out, companion+".pem: ") {
		said.said = nothing
	}
	return said
}

func opensslStatus(j *judge, s *subject) opinion {
	out, ok := j.run("openssl", "s_client", "-connect", s.stapled, "-servername", "localhost", "-status", "-CAfile", "root.pem", "-verify_return_error")
	switch {
	case ok && strings.Contains(out, "OCSP Response Status: successful") && strings.Contains(out, "Cert Status: good"):
		return opinion{said: good, output: out}
	case strings.Contains(out, "Cert Status: revoked"):
		return opinion{said: revoked, output: out}
	}
	return opinion{said: nothing, output: out}
}

// opensslServer staples what openssl ocsp fetched.
func (j *judge) opensslServer(s *subject) string {
	j.staple(s)
	address := j.freeAddress()
	j.start(address, "openssl", "s_server", "-accept", address, "-cert", s.name+".pem", "-cert_chain", "issuing.pem", "-key", s.name+".key", "-status_file", "staple.der", "-quiet")
	return address
}

// staple writes the authority's present answer about a certificate to staple.der.
func (j *judge) staple(s *subject) {
	j.t.Helper()
	j.must("openssl", "ocsp", "-issuer", "issuing.pem", "-cert", s.name+".pem", "-no_nonce", "-reqout", "request.der")
	j.write("staple.der", j.download(s.OCSPServer[0]+"/"+url.PathEscape(base64.StdEncoding.EncodeToString(j.read("request.der")))))
}

func (j *judge) freeAddress() string { return freeAddress(j.t) }

// start runs a foreign server until the test that requested it ends, and waits until it listens.
func (j *judge) start(address, name string, args ...string) {
	j.t.Helper()
	cmd := j.program(name, args...)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	stdin, err := cmd.StdinPipe() // s_server ends when its input does
	if err != nil {
		j.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		j.t.Fatal(err)
	}
	t := j.t
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
		if t.Failed() {
			t.Logf("$ %s\n%s", strings.Join(slices.Insert(args, 0, name), " "), output.String())
		}
	})
	for range 2000 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	j.t.Fatalf("%s does not listen", name)
}
