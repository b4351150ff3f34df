package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/pki"
)

// quiet is the log of servers that others hang up on.
var quiet = log.New(io.Discard, "", 0)

// ourReaders give the results that all others are compared with.
var ourReaders = []reader{
	{name: "signet: handshake.Checker, over the network", chain: true, ask: func(j *judge, s *subject) opinion {
		checker := j.checker(handshake.Config{Policy: handshake.HardFail, Fetcher: j.fetcher()})
		_, err := checker.Check(j.t.Context(), []*x509.Certificate{s.Certificate, j.issuing, j.root}, nil)
		return ourOpinion(err)
	}},
	{name: "signet: verify chain, by shards", chain: true, ask: func(j *judge, s *subject) opinion {
		return j.verifyChain(s, "shard.crl")
	}},
	{name: "signet: verify chain, by the complete list", chain: true, ask: func(j *judge, s *subject) opinion {
		return j.verifyChain(s, "complete.crl")
	}},
	{name: "signet: Checker.WrapServer, of curl's certificate", chain: true, ask: ourServer},
}

// ourServer demands a certificate of curl, and looks at its status over the network.
func ourServer(j *judge, s *subject) opinion {
	seen := make(chan error, 1)
	checker := j.checker(handshake.Config{Policy: handshake.HardFail, Fetcher: j.fetcher(), Observe: func(r *handshake.Result) { seen <- r.Err() }})
	roots := x509.NewCertPool()
	roots.AddCert(j.root)
	config, err := checker.WrapServer(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{s.Raw, j.issuing.Raw}, PrivateKey: s.key}}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil {
		j.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(j.serve(config)) // it has one
	out, ok := j.run("curl", "-sS", "--cacert", "root.pem", "--cert", s.name+"-chain.pem", "--key", s.name+".key", "https://localhost:"+port+"/")
	said := ourOpinion(<-seen)
	if said.output += "\n" + out; ok != (said.said == good) {
		j.t.Errorf("our server says %s, and curl was let in: %t\n%s", said.said, ok, out)
	}
	return said
}

func (j *judge) checker(config handshake.Config) *handshake.Checker {
	j.t.Helper()
	checker, err := handshake.New(config)
	if err != nil {
		j.t.Fatal(err)
	}
	return checker
}

func ourOpinion(err error) opinion {
	output := fmt.Sprint(err)
	if refused, ok := errors.AsType[*handshake.RevokedError](err); ok {
		if refused.Evidence.Status == pki.StatusNotIssued {
			return opinion{revoked, "", output} // which says more than that
		}
		return opinion{revoked, refused.Evidence.Reason.String(), output}
	}
	if err != nil {
		return opinion{nothing, "", output}
	}
	return opinion{good, "", output}
}

func (j *judge) verifyChain(s *subject, list string) opinion {
	j.t.Helper()
	status, out := j.site.run(j.t, "verify", "chain", "--roots", j.path("root.pem"), "--intermediates", j.path("issuing.pem"), "--leaf", j.path(s.name+".pem"), "--dns", "localhost",
		"--time", time.Now().UTC().Format(time.RFC3339), "--crl", j.path(list), "--crl", j.path("root.crl"), "--revocation", "hard-chain", "--output", "json")
	return opinion{said: wordIn(out, status == 0, `"error_class": "revoked"`), output: out}
}

// foreignServer is a foreign server; our client examines what it staples.
type foreignServer struct {
	name string
	// start serves the certificate with its status and returns the address.
	start func(*judge, *subject) string
	// says is set for servers that staple whatever the authority said, revoked too.
	says bool
}

var foreignServers = []foreignServer{
	{name: "openssl s_server", start: (*judge).opensslServer, says: true},
	{name: "gnutls-serv", start: (*judge).gnutlsServer, says: true},
	{name: "Java", start: (*judge).javaServer, says: true},
	{name: "nginx", start: (*judge).nginxServer},
}

// judge lets our client, without any network, read the staple of a foreign server.
func (f foreignServer) judge(j *judge, s stage) {
	j.t.Helper()
	subject := j.subjects[s.of]
	address := f.start(j, subject)
	want := s.want
	if want == revoked && !f.says {
		want = nothing
	}
	if s.want.is(nothing) && !s.want.is(good) {
		want = anythingBut(good)
	}
	var got opinion
	var source handshake.Source
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got, source = j.dial(subject, address)
		// Some ask the responder after the first handshake only.
		if want.is(got.said) || time.Now().After(deadline) {
			break
		}
	}
	if !want.is(got.said) || (got.said == good || got.said == revoked) && source != handshake.SourceStaple {
		j.t.Errorf("our client says %s by %s, want %s: %s", got.said, source, want, got.output)
	}
	if want == revoked && got.reason != s.reason.String() {
		j.t.Errorf("our client says the reason is %s, want %s", got.reason, s.reason)
	}
}

// dial connects with a Checker that knows nothing but the list of the root, for the issuing authority, and has no
// network.
func (j *judge) dial(s *subject, address string) (opinion, handshake.Source) {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(j.t.Context(), time.Minute)
	defer cancel()
	roots := x509.NewCertPool()
	roots.AddCert(j.root)
	checker := j.checker(handshake.Config{Policy: handshake.HardFail, Network: handshake.NetworkNever, Fetcher: j.fetcher(),
		Issuers: []handshake.Issuer{{Certificate: j.root, CRLs: []string{j.path("kept-root.crl.pem")}}}})
	conn, result, err := (&handshake.Dialer{Checker: checker, TLS: &tls.Config{RootCAs: roots, ServerName: "localhost"}}).DialResult(ctx, "tcp", address)
	if conn != nil {
		conn.Close()
	}
	var source handshake.Source
	if result != nil && len(result.Certificates) > 0 && result.Certificates[0].Decisive != nil && result.Certificates[0].Status != pki.StatusUnreachable {
		source = result.Certificates[0].Decisive.Source
	}
	return ourOpinion(err), source
}
