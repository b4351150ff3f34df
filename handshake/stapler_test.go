package handshake_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/handshaketest"
)

// events records what a Stapler reports.
type events struct {
	mu   sync.Mutex
	list []handshake.StapleEvent
}

func (e *events) observe(event handshake.StapleEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

func (e *events) last() handshake.StapleEventKind {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.list) == 0 {
		return 0
	}
	return e.list[len(e.list)-1].Kind
}

// newStapler makes a Stapler for a leaf, with a directory unless that is empty.
func newStapler(t *testing.T, p *handshaketest.PKI, name, dir string) (*handshake.Stapler, *events) {
	t.Helper()
	fetcher, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback, Now: p.Now, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	seen := &events{}
	stapler, err := handshake.NewStapler(handshake.StaplerConfig{Certificate: p.Cert(name).TLS(nil), Issuer: p.Cert(name).Issuer.Certificate, Fetcher: fetcher, Now: p.Now, Observe: seen.observe})
	if err != nil {
		t.Fatal(err)
	}
	return stapler, seen
}

func stapleOf(t *testing.T, s *handshake.Stapler) []byte {
	t.Helper()
	certificate, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.OCSPStaple
}

// TestStaplerThroughAnOutage: a good staple survives failures to its end, and a restart, and is then taken away.
func TestStaplerThroughAnOutage(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	dir := t.TempDir()
	stapler, seen := newStapler(t, p, "leaf", dir)
	next := stapler.Refresh(t.Context())
	if seen.last() != handshake.StapleFresh || stapleOf(t, stapler) == nil {
		t.Fatalf("no staple: %+v", seen.list)
	}
	if wait := next.Sub(p.Now()); wait < 29*time.Minute || wait > 31*time.Minute {
		t.Errorf("of a staple of an hour, the next attempt is in %s, not at half its life", wait)
	}
	for name, answer := range map[string]http.Handler{
		"off": http.NotFoundHandler(), "garbage": handshaketest.Bytes([]byte("garbage")), "another certificate's": handshaketest.Bytes(p.Cert("int").OCSP(handshaketest.OCSP{})),
		"unsigned tryLater": handshaketest.Bytes([]byte{0x30, 3, 0x0a, 1, 3}),
	} {
		p.Replace("/int.ocsp", answer)
		p.Advance(time.Minute)
		stapler.Refresh(t.Context())
		if seen.last() != handshake.StapleFailed || stapleOf(t, stapler) == nil {
			t.Errorf("%s: last event %d, staple %d octets", name, seen.last(), len(stapleOf(t, stapler)))
		}
	}
	restarted, _ := newStapler(t, p, "leaf", dir)
	if stapleOf(t, restarted) == nil {
		t.Error("a restart lost the staple")
	}
	p.Advance(time.Hour)
	if stapleOf(t, stapler) != nil {
		t.Error("a staple that has ended is still served")
	}
	if again, _ := newStapler(t, p, "leaf", dir); stapleOf(t, again) != nil {
		t.Error("a staple that has ended came back with a restart")
	}
}

// TestStaplerRevoked: on revocation the staple goes, the event comes, and tickets from before resume nothing.
func TestStaplerRevoked(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		p := handshaketest.New(t, "root -> int -> leaf")
		leaf := p.Cert("leaf")
		stapler, seen := newStapler(t, p, "leaf", "")
		stapler.Refresh(t.Context())
		address := p.Listen(stapler.Configure(&tls.Config{Time: p.Now}))
		// A client that checks nothing, so that what is seen is the server's doing.
		config := p.ClientConfig(leaf)
		config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		config.MinVersion, config.MaxVersion = version, version
		connect := func() tls.ConnectionState {
			t.Helper()
			conn, err := tls.Dial("tcp", address, config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := handshaketest.Echo(conn); err != nil {
				t.Fatal(err)
			}
			return conn.ConnectionState()
		}
		if len(connect().OCSPResponse) == 0 {
			t.Error("no staple was sent")
		}
		if !connect().DidResume {
			t.Error("the session was not resumed")
		}
		leaf.Revoke(1)
		p.Advance(time.Minute)
		stapler.Refresh(t.Context())
		if seen.last() != handshake.StapleRevoked || stapleOf(t, stapler) != nil {
			t.Errorf("last event %d, staple %d octets", seen.last(), len(stapleOf(t, stapler)))
		}
		if connect().DidResume {
			t.Error("a session from before the revocation was resumed")
		}
		if !connect().DidResume {
			t.Error("a session from after it was not")
		}
	}
}

// TestStaplerRevokedRestart: a good staple on disk does not come back with the next process.
func TestStaplerRevokedRestart(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> int -> leaf"), t.TempDir()
	before, _ := newStapler(t, p, "leaf", dir)
	before.Refresh(t.Context())
	if again, _ := newStapler(t, p, "leaf", dir); stapleOf(t, again) == nil {
		t.Fatal("a good staple was not kept")
	}
	p.Cert("leaf").Revoke(1)
	p.Advance(time.Minute)
	before.Refresh(t.Context())
	if after, _ := newStapler(t, p, "leaf", dir); stapleOf(t, after) != nil {
		t.Error("the staple from before the revocation is back")
	}
}

// TestStaplerClient: a client's staple reaches the server and satisfies it without the network.
func TestStaplerClient(t *testing.T) {
	p := handshaketest.New(t, "root -> server; root -> client nocdp muststaple")
	stapler, _ := newStapler(t, p, "client", "")
	checker := p.Checker(func(c *handshake.Config) { c.Network = handshake.NetworkNever })
	config := p.ServerConfig(p.Cert("server"), nil)
	config.ClientCAs, config.ClientAuth = p.Cert("server").Pool(), tls.RequireAndVerifyClientCert
	wrapped, err := checker.WrapServer(config)
	if err != nil {
		t.Fatal(err)
	}
	address := p.Listen(wrapped)
	connect := func() error {
		clientConfig := p.ClientConfig(p.Cert("server"))
		clientConfig.GetClientCertificate = stapler.GetClientCertificate
		conn, err := tls.Dial("tcp", address, clientConfig)
		if err != nil {
			return err
		}
		defer conn.Close()
		return handshaketest.Echo(conn)
	}
	if connect() == nil {
		t.Error("a client that must staple was accepted without a staple")
	}
	stapler.Refresh(t.Context())
	if err := connect(); err != nil {
		t.Errorf("with a staple: %v", err)
	}
}

// TestStaplerChosenConfig: a configuration chosen per client serves the stapled certificate as well, and stops with it.
func TestStaplerChosenConfig(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	leaf := p.Cert("leaf")
	fetcher, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback, Now: p.Now})
	if err != nil {
		t.Fatal(err)
	}
	stapler, err := handshake.NewStapler(handshake.StaplerConfig{
		Certificate: leaf.TLS(nil), Issuer: leaf.Issuer.Certificate, Fetcher: fetcher, Now: p.Now, StopWhenRevoked: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	stapler.Refresh(t.Context())
	chosen := p.ServerConfig(leaf, nil)
	address := p.Listen(stapler.Configure(&tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }}))
	connect := func() ([]byte, error) {
		conn, err := tls.Dial("tcp", address, p.ClientConfig(leaf))
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return conn.ConnectionState().OCSPResponse, nil
	}
	if staple, err := connect(); err != nil || staple == nil {
		t.Errorf("staple of %d octets, %v", len(staple), err)
	}
	leaf.Revoke(1)
	p.Advance(time.Minute)
	stapler.Refresh(t.Context())
	if _, err := connect(); err == nil {
		t.Error("a server that stops when revoked goes on")
	}
}

// TestStaplerRun: Run asks at once and stops when told.
func TestStaplerRun(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	stapler, seen := newStapler(t, p, "leaf", "")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- stapler.Run(ctx) }()
	for seen.last() != handshake.StapleFresh && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestStaplerConfiguration: what cannot work is refused at once.
func TestStaplerConfiguration(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf; int -> silent noaia; root -> other")
	alone := p.Cert("leaf").TLS(nil)
	alone.Certificate = alone.Certificate[:1]
	stranger := p.Cert("leaf").TLS(nil)
	stranger.Certificate = [][]byte{stranger.Certificate[0], p.Cert("other").Raw}
	for name, certificate := range map[string]tls.Certificate{
		"without the issuer": alone, "with a stranger for an issuer": stranger, "without a responder": p.Cert("silent").TLS(nil), "nothing": {},
	} {
		if _, err := handshake.NewStapler(handshake.StaplerConfig{Certificate: certificate}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := handshake.NewStapler(handshake.StaplerConfig{Issuer: p.Cert("int").Certificate}); err == nil {
		t.Error("an issuer and nothing: no error")
	}
}

// TestStapleIsReadable: a staple names the certificate by SHA-1, the only way that Java, NSS and curl find it, unless the
// responder knows it by SHA-256 only.
func TestStapleIsReadable(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	hash := func() crypto.Hash {
		t.Helper()
		stapler, seen := newStapler(t, p, "leaf", "")
		stapler.Refresh(t.Context())
		if seen.last() != handshake.StapleFresh {
			t.Fatalf("no staple: %+v", seen.list)
		}
		response, err := ocsp.ParseResponse(stapleOf(t, stapler), nil)
		if err != nil {
			t.Fatal(err)
		}
		return response.IssuerHash
	}
	if got := hash(); got != crypto.SHA1 {
		t.Errorf("the staple names the certificate by %s", got)
	}
	p.Replace("/int.ocsp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		der, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.URL.Path, "/int.ocsp/"))
		if err != nil {
			t.Error(err)
		}
		if request, err := ocsp.ParseRequest(der); err != nil || request.HashAlgorithm == crypto.SHA1 {
			_, _ = w.Write(ocsp.UnauthorizedErrorResponse)
			return
		}
		_, _ = w.Write(p.Cert("leaf").OCSP(handshaketest.OCSP{Hash: crypto.SHA256}))
	}))
	if got := hash(); got != crypto.SHA256 {
		t.Errorf("of a responder that knows SHA-256 only, the staple names the certificate by %s", got)
	}
}
