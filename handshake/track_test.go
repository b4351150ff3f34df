package handshake_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// closedSoon reports whether the peer, or our own side, ends the connection.
func closedSoon(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	_, err := conn.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return err != nil && !(ok && timeout.Timeout())
}

// TestTrackServer: the server cuts off a client whose certificate is revoked while it is connected, and no other.
func TestTrackServer(t *testing.T) {
	for _, source := range []string{"noaia", "nocdp"} {
		t.Run(source, func(t *testing.T) {
			p := handshaketest.New(t, "root -> int -> server; int -> bad "+source+"; int -> good "+source)
			checker := p.Checker(nil)
			config := p.ServerConfig(p.Cert("server"), nil)
			config.ClientCAs, config.ClientAuth = p.Cert("server").Pool(), tls.RequireAndVerifyClientCert
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			listener, err := checker.NewListener(inner, config)
			if err != nil {
				t.Fatal(err)
			}
			address := p.ServeEcho(listener)
			connect := func(name string) *tls.Conn {
				clientConfig := p.ClientConfig(p.Cert("server"))
				clientConfig.Certificates = []tls.Certificate{p.Cert(name).TLS(nil)}
				conn, err := tls.Dial("tcp", address, clientConfig)
				if err != nil {
					t.Fatal(err)
				}
				if err := handshaketest.Echo(conn); err != nil {
					t.Fatal(err)
				}
				return conn
			}
			bad, good := connect("bad"), connect("good")
			defer good.Close()
			defer bad.Close()
			p.Cert("bad").Revoke(1)
			checker.Recheck(t.Context())
			if !closedSoon(bad) {
				t.Error("the connection of the revoked client lives on")
			}
			if err := handshaketest.Echo(good); err != nil {
				t.Errorf("the connection of the other client: %v", err)
			}
		})
	}
}

// TestTrackTransport: an idle HTTP connection does not outlive the certificate of the server.
func TestTrackTransport(t *testing.T) {
	// One source: of two, the one that is not waited for may see the revocation before anybody asks again.
	p := handshaketest.New(t, "root -> int -> leaf noaia")
	leaf := p.Cert("leaf")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	server.TLS = p.ServerConfig(leaf, nil)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	checker := p.Checker(nil)
	transport, err := checker.Transport(&tls.Config{RootCAs: leaf.Pool(), Time: p.Now})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	get := func() (string, error) {
		response, err := client.Get(server.URL)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	if proto, err := get(); err != nil || proto != "HTTP/2.0" {
		t.Fatal(proto, err)
	}
	leaf.Revoke(1)
	if _, err := get(); err != nil {
		t.Fatalf("before anybody asked again: %v", err)
	}
	checker.Recheck(t.Context())
	if proto, err := get(); err == nil {
		t.Fatalf("the server answered %s after its certificate was revoked", proto)
	}
}

// TestTrackByHand: a connection made with a wrapped configuration alone can be tracked, and untracked.
func TestTrackByHand(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	leaf, checker := p.Cert("leaf"), p.Checker(nil)
	address := p.Listen(p.ServerConfig(leaf, nil))
	wrapped, err := checker.WrapClient(p.ClientConfig(leaf))
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*tls.Conn
	for i := range conns {
		if conns[i], err = tls.Dial("tcp", address, wrapped); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	if _, err := checker.Track(conns[0]); err != nil {
		t.Fatal(err)
	}
	stop, err := checker.Track(conns[1])
	if err != nil {
		t.Fatal(err)
	}
	stop()
	leaf.Revoke(1)
	checker.Recheck(t.Context())
	if !closedSoon(conns[0]) {
		t.Error("the tracked connection lives on")
	}
	if err := handshaketest.Echo(conns[1]); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

// TestTrackAfterRevocation: what was learnt between the handshake and Track closes the connection without a round of Run, and no other one's.
func TestTrackAfterRevocation(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf; int -> other")
	checker := p.Checker(nil)
	connect := func(name string) *tls.Conn {
		cert := p.Cert(name)
		wrapped, err := checker.WrapClient(p.ClientConfig(cert))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", p.Listen(p.ServerConfig(cert, nil)), wrapped)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	leaf, other := connect("leaf"), connect("other")
	p.Cert("leaf").Revoke(1)
	_, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), p.Cert("leaf").OCSP(handshaketest.OCSP{}))
	if outcomeOf(t, err) != handshaketest.RevokedOutcome {
		t.Fatal(err)
	}
	for _, conn := range []*tls.Conn{leaf, other} {
		if _, err := checker.Track(conn); err != nil {
			t.Fatal(err)
		}
	}
	if !closedSoon(leaf) {
		t.Error("the connection lives on")
	}
	if err := handshaketest.Echo(other); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

// TestTrackUnverified: crypto/tls knows no verified chain of a connection that an Override may be asked about, and without a Guard there is
// nothing to track it by. That is said.
func TestTrackUnverified(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	leaf := p.Cert("leaf")
	checker := p.Checker(func(c *handshake.Config) {
		c.Override = func(*handshake.Result) handshake.Answer { return handshake.OverrideRefuse }
	})
	wrapped, err := checker.WrapClient(p.ClientConfig(leaf))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", p.Listen(p.ServerConfig(leaf, nil)), wrapped)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := checker.Track(conn); !errors.Is(err, handshake.ErrNoVerifiedChain) {
		t.Errorf("with an Override: %v", err)
	}
	if _, err := checker.Track(tls.Client(conn.NetConn(), wrapped)); !errors.Is(err, handshake.ErrNoVerifiedChain) {
		t.Errorf("before the handshake: %v", err)
	}
	guarded := tracked(t, p, checker, leaf, leaf.TLS(nil)).(*tls.Conn)
	if _, err := checker.Track(guarded); err != nil {
		t.Errorf("over a Guard: %v", err)
	}
}

// TestRun: Run asks again by itself.
func TestRun(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf noaia")
	leaf := p.Cert("leaf")
	checker := p.Checker(func(c *handshake.Config) { c.Recheck = 10 * time.Millisecond })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- checker.Run(ctx) }()
	conn, _, err := (&handshake.Dialer{Checker: checker, TLS: p.ClientConfig(leaf), Track: true}).DialResult(ctx, "tcp", p.Listen(p.ServerConfig(leaf, nil)))
	if err != nil {
		t.Fatal(err)
	}
	leaf.Revoke(1)
	if !closedSoon(conn) {
		t.Error("the connection lives on")
	}
	cancel()
	if err := <-done; err != context.Canceled {
		t.Error(err)
	}
}

// TestHoldIsNotForever: a hold is refused, is not remembered, and ends.
func TestHoldIsNotForever(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf noaia hold")
	leaf := p.Cert("leaf")
	checker := p.Checker(nil)
	address := p.Listen(p.ServerConfig(leaf, nil))
	if _, err := dial(t, checker, p.ClientConfig(leaf), address); err == nil {
		t.Fatal("a certificate on hold was accepted")
	}
	leaf.Release()
	p.Advance(25 * time.Hour)
	if _, err := dial(t, checker, p.ClientConfig(leaf), address); err != nil {
		t.Fatalf("after the release: %v", err)
	}
}

// TestRevocationIsForever: a revocation that was seen is remembered though every source says good afterwards.
func TestRevocationIsForever(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf revoked")
	leaf := p.Cert("leaf")
	checker := p.Checker(func(c *handshake.Config) { c.Policy = handshake.SoftFail })
	address := p.Listen(p.ServerConfig(leaf, nil))
	if _, err := dial(t, checker, p.ClientConfig(leaf), address); err == nil {
		t.Fatal("a revoked certificate was accepted")
	}
	leaf.Release()
	p.Advance(25 * time.Hour)
	result, err := dial(t, checker, p.ClientConfig(leaf), address)
	if err == nil || result.Certificates[0].Decisive.Source != handshake.SourceMemory {
		t.Fatalf("error %v", err)
	}
}

// TestSilentResponder: in one round a responder that cannot be reached is waited for once, however many connections there are.
func TestSilentResponder(t *testing.T) {
	p := handshaketest.New(t, "root -> int noaia -> a nocdp; int -> b nocdp; int -> c nocdp; int -> d nocdp; int -> e nocdp")
	checker := p.Checker(nil)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		for range 2 {
			address := p.Listen(p.ServerConfig(p.Cert(name), nil))
			conn, _, err := (&handshake.Dialer{Checker: checker, TLS: p.ClientConfig(p.Cert(name)), Track: true}).DialResult(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
	}
	before := p.Hits("/int.ocsp")
	checker.Recheck(t.Context())
	if asked := p.Hits("/int.ocsp") - before; asked != 5 {
		t.Errorf("a responder that answers was asked %d times about 5 certificates", asked)
	}
	p.Advance(40 * time.Minute) // past half the life of what is at hand: a handshake would ask about it
	before = p.Hits("/int.ocsp")
	p.Replace("/int.ocsp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = conn.Write([]byte("not HTTP\r\n\r\n")) // without an octet net/http would ask again by itself
			_ = conn.Close()
		}
	}))
	checker.Recheck(t.Context())
	if asked := p.Hits("/int.ocsp") - before; asked != 1 {
		t.Errorf("a responder that does not speak HTTP was asked %d times", asked)
	}
	p.Advance(2 * time.Hour) // what is at hand has ended too
	before = p.Hits("/int.ocsp")
	checker.Recheck(t.Context())
	if asked := p.Hits("/int.ocsp") - before; asked != 1 {
		t.Errorf("with nothing at hand, a responder that does not speak HTTP was asked %d times", asked)
	}
	p.On()
	p.Cert("c").Revoke(1)
	before = p.Hits("/int.ocsp")
	checker.Recheck(t.Context())
	if asked := p.Hits("/int.ocsp") - before; asked != 5 {
		t.Errorf("in the next round it was asked %d times", asked)
	}
	result, err := checker.Check(t.Context(), p.Cert("c").Chain(), nil)
	if err == nil || result.Certificates[0].Decisive.Source != handshake.SourceMemory {
		t.Errorf("a revocation that was heard in a round is not remembered: %v", err)
	}
}

// TestTrackNonce: where every question has to have an answer of its own, a round asks once too, and acts on what it hears: nothing of it is kept.
func TestTrackNonce(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp")
	leaf := p.Cert("leaf")
	checker := p.Checker(func(c *handshake.Config) {
		c.Policy = handshake.SoftFail
		c.Issuers = []handshake.Issuer{{Certificate: p.Cert("root").Certificate, DemandNonce: true}}
	})
	var hold atomic.Bool
	p.Replace("/root.ocsp", echoingNonce(t, p, leaf, &hold))
	conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
	before := p.Hits("/root.ocsp")
	checker.Recheck(t.Context())
	if asked := p.Hits("/root.ocsp") - before; asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	hold.Store(true)
	checker.Recheck(t.Context())
	if !closedSoon(conn) {
		t.Error("a hold did not close the connection")
	}
}

// echoingNonce is a responder that answers about one certificate, with the nonce of the question.
func echoingNonce(t *testing.T, p *handshaketest.PKI, about *handshaketest.Cert, hold *atomic.Bool) http.Handler {
	t.Helper()
	signer, err := ocsp.NewSigner(about.Issuer.Key, about.Issuer.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		request, err := ocsp.ParseRequest(body)
		if err != nil {
			t.Error(err)
			return
		}
		now := p.Now()
		answer := ocsp.SingleResponse{ID: request.Items[0].ID, Status: pki.StatusGood, ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
		if hold.Load() {
			answer.Status, answer.RevokedAt, answer.Reason = pki.StatusRevoked, now, pki.CertificateHold
		}
		response, err := signer.Sign(ocsp.ResponseData{ProducedAt: now, Answers: []ocsp.SingleResponse{answer}, Nonce: request.Nonce})
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = w.Write(response) // a client that went away is its own business
	})
}

// tracked connects to a server with a certificate, and tracks the connection.
func tracked(t *testing.T, p *handshaketest.PKI, checker *handshake.Checker, leaf *handshaketest.Cert, certificate tls.Certificate) net.Conn {
	t.Helper()
	config := p.ServerConfig(leaf, nil)
	config.Certificates = []tls.Certificate{certificate}
	conn, _, err := (&handshake.Dialer{Checker: checker, TLS: p.ClientConfig(leaf), Track: true}).DialResult(t.Context(), "tcp", p.Listen(config))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// trackedByHand is a connection to a server with the leaf's certificate that was opened without a check, and tracked.
func trackedByHand(t *testing.T, p *handshaketest.PKI, checker *handshake.Checker, leaf *handshaketest.Cert) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", p.Listen(p.ServerConfig(leaf, nil)), p.ClientConfig(leaf))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := checker.Track(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestTrackDelta: a delta that says more is asked for in every round, though the one at hand is of now.
func TestTrackDelta(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf noaia")
	leaf, int, checker := p.Cert("leaf"), p.Cert("int"), p.Checker(nil)
	freshest := handshaketest.Extensions(handshaketest.Freshest(p.URL + "/int-delta.crl"))
	p.Replace("/int.crl", handshaketest.Bytes(int.CRL(handshaketest.CRL{Number: 5, Extensions: freshest})))
	delta := func(number int64) {
		p.Replace("/int-delta.crl", handshaketest.Bytes(int.CRL(handshaketest.CRL{Number: number, Extensions: handshaketest.Extensions(handshaketest.DeltaOf(5))})))
	}
	delta(6)
	conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
	checker.Recheck(t.Context())
	if err := handshaketest.Echo(conn.(*tls.Conn)); err != nil {
		t.Fatal(err)
	}
	leaf.Revoke(1)
	delta(7)
	checker.Recheck(t.Context())
	if !closedSoon(conn) {
		t.Error("the connection lives on")
	}
}

// TestTrackTwoChains: of two connections with the same leaf, the one over a certificate of the intermediate that is revoked is closed, and
// the one over another certificate of the same authority is not.
func TestTrackTwoChains(t *testing.T) {
	p := handshaketest.New(t, "root -> int noaia -> leaf noaia")
	leaf, int, checker := p.Cert("leaf"), p.Cert("int"), p.Checker(nil)
	template := *int.Certificate
	template.SerialNumber = big.NewInt(4711)
	again, err := x509.CreateCertificate(rand.Reader, &template, int.Issuer.Certificate, int.Key.Public(), int.Issuer.Key)
	if err != nil {
		t.Fatal(err)
	}
	renewed := leaf.TLS(nil)
	renewed.Certificate = [][]byte{leaf.Raw, again}
	var old, fresh []net.Conn
	for range 4 {
		old, fresh = append(old, tracked(t, p, checker, leaf, leaf.TLS(nil))), append(fresh, tracked(t, p, checker, leaf, renewed))
	}
	int.Revoke(1)
	checker.Recheck(t.Context())
	for i := range old {
		if !closedSoon(old[i]) {
			t.Error("a connection over the revoked certificate lives on")
		}
		if err := handshaketest.Echo(fresh[i].(*tls.Conn)); err != nil {
			t.Errorf("a connection over the other: %v", err)
		}
	}
}

// TestTrackShards: of shards that are configured by hand each is asked for once a round, and taken in, whichever certificate asks first; a
// certificate that none of them is about has its responder asked.
func TestTrackShards(t *testing.T) {
	const most = 20 // in the first shard, one in each of the others: one of the first, nearly always, asks for both lists first
	drawing := "root -> int noaia -> b noaia cdp=http://127.0.0.1:1/2.crl; int -> c cdp=http://127.0.0.1:1/3.crl"
	for i := range most {
		drawing += fmt.Sprintf("; int -> a%d noaia cdp=http://127.0.0.1:1/1.crl", i)
	}
	p := handshaketest.New(t, drawing)
	authority := p.Cert("int")
	issuer := handshake.Issuer{Certificate: authority.Certificate}
	for _, shard := range []string{"1", "2"} {
		p.Replace("/s"+shard+".crl", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(authority.CRL(handshaketest.CRL{Extensions: handshaketest.Extensions(handshaketest.ScopeURL("http://127.0.0.1:1/" + shard + ".crl"))}))
		}))
		issuer.CRLs = append(issuer.CRLs, p.URL+"/s"+shard+".crl")
	}
	checker := p.Checker(func(c *handshake.Config) { c.Issuers = []handshake.Issuer{issuer} })
	conns := make(map[string]net.Conn)
	connect := func(name string) { conns[name] = tracked(t, p, checker, p.Cert(name), p.Cert(name).TLS(nil)) }
	for i := range most {
		connect(fmt.Sprintf("a%d", i))
	}
	connect("b")
	connect("c")
	for _, name := range []string{"a7", "b", "c"} {
		p.Cert(name).Revoke(1)
	}
	before := [2]int{p.Hits("/s1.crl"), p.Hits("/s2.crl")}
	checker.Recheck(t.Context())
	if after := [2]int{p.Hits("/s1.crl"), p.Hits("/s2.crl")}; after != [2]int{before[0] + 1, before[1] + 1} {
		t.Errorf("the lists were asked for %d and %d times", after[0]-before[0], after[1]-before[1])
	}
	for _, name := range []string{"a7", "b", "c"} {
		if !closedSoon(conns[name]) {
			t.Errorf("the connection of %s lives on", name)
		}
	}
	if err := handshaketest.Echo(conns["a8"].(*tls.Conn)); err != nil {
		t.Errorf("another connection: %v", err)
	}
}

// TestTrackShardsSwapped: on the way to the list of one shard somebody answers with the genuine list of another, for whose certificates it
// counts. It does not take the place of the first, whose next list, of a smaller number, is taken in.
func TestTrackShardsSwapped(t *testing.T) {
	var answer [2]atomic.Pointer[[]byte]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(*answer[r.URL.Path[1]-'a'].Load())
	}))
	defer server.Close()
	p := handshaketest.New(t, "root -> int noaia -> a noaia cdp="+server.URL+"/a; int -> b noaia cdp="+server.URL+"/b")
	list := func(shard string, number int64) *[]byte {
		scope := handshaketest.Extensions(handshaketest.ScopeURL(server.URL + "/" + shard))
		return new(p.Cert("int").CRL(handshaketest.CRL{Number: number, Extensions: scope}))
	}
	answer[0].Store(list("a", 1))
	answer[1].Store(list("b", 100))
	checker := p.Checker(nil)
	conns := make(map[string]net.Conn)
	for _, name := range []string{"a", "b"} {
		conns[name] = tracked(t, p, checker, p.Cert(name), p.Cert(name).TLS(nil))
	}
	answer[0].Store(answer[1].Load())
	checker.Recheck(t.Context())
	p.Cert("a").Revoke(1)
	answer[0].Store(list("a", 2))
	checker.Recheck(t.Context())
	if !closedSoon(conns["a"]) {
		t.Error("the connection of the certificate that was revoked lives on")
	}
	if err := handshaketest.Echo(conns["b"].(*tls.Conn)); err != nil {
		t.Errorf("the other connection: %v", err)
	}
}

// TestShardsSwapped: the lists of two shards are configured by hand, at home there or in mirrors, and somebody on the way answers the question for
// one with another genuine list of the same authority. It takes no place that is not its own: neither from a list that is held, nor for
// longer than until the right one comes.
func TestShardsSwapped(t *testing.T) {
	delta := handshaketest.DeltaOf(1)
	for name, test := range map[string]struct {
		home    string // what the lists say where they are published, before /a and /b; empty is the truth
		with    func(place string) []pkix.Extension
		only    bool // only the first is configured
		atFirst bool // nothing is held yet
	}{
		"a list that is held, at home":     {with: scopeOf},
		"a list that is held, in a mirror": {home: "http://127.0.0.1:1", with: scopeOf},
		"a delta, against a list, mirrors": {home: "http://127.0.0.1:1", with: func(string) []pkix.Extension { return handshaketest.Extensions(delta) }},
		"a delta, against a list":          {with: func(string) []pkix.Extension { return handshaketest.Extensions(delta) }},
		"a delta at first":                 {with: func(string) []pkix.Extension { return handshaketest.Extensions(delta) }, atFirst: true},
		"both are configured":              {with: scopeOf, atFirst: true},
		"one is configured":                {with: scopeOf, atFirst: true, only: true},
	} {
		t.Run(name, func(t *testing.T) {
			var answer [2]atomic.Pointer[[]byte]
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"the same for ever"`)
				if r.Header.Get("If-None-Match") != "" && answer[r.URL.Path[1]-'a'].Load() == nil {
					w.WriteHeader(http.StatusNotModified)
				} else if list := answer[r.URL.Path[1]-'a'].Load(); list != nil {
					_, _ = w.Write(*list)
				} else {
					http.NotFound(w, r)
				}
			}))
			defer server.Close()
			home := cmp.Or(test.home, server.URL)
			p := handshaketest.New(t, "root -> int noaia -> a noaia cdp="+home+"/a; int -> b noaia cdp="+home+"/b")
			list := func(age time.Duration, number int64, extensions []pkix.Extension) *[]byte {
				return new(p.Cert("int").CRL(handshaketest.CRL{Age: age, Number: number, Extensions: extensions}))
			}
			dir, issuer := t.TempDir(), handshake.Issuer{Certificate: p.Cert("int").Certificate, CRLs: []string{server.URL + "/a", server.URL + "/b"}}
			if test.only {
				issuer.CRLs = issuer.CRLs[:1]
			}
			checker := func() *handshake.Checker {
				return p.Checker(func(c *handshake.Config) {
					onDisk(t, p, dir)(c)
					c.Issuers = []handshake.Issuer{issuer}
				})
			}
			right := list(time.Hour, 1, scopeOf(home+"/a"))
			wrong := list(0, 100, test.with(home+"/b"))
			answer[0].Store(right)
			answer[1].Store(list(0, 100, scopeOf(home+"/b")))
			running := checker()
			if test.atFirst {
				answer[0].Store(wrong)
				if _, err := running.Check(t.Context(), p.Cert("b").Chain(), nil); err != nil {
					t.Fatalf("the other shard: %v", err)
				}
				answer[0].Store(right)
			} else {
				tracked(t, p, running, p.Cert("a"), p.Cert("a").TLS(nil))
				tracked(t, p, running, p.Cert("b"), p.Cert("b").TLS(nil))
				answer[0].Store(wrong)
				running.Recheck(t.Context())
				answer[0].Store(nil)
				answer[1].Store(nil)
				p.Off()
			}
			if _, err := running.Check(t.Context(), p.Cert("a").Chain(), nil); err != nil {
				t.Errorf("this process: %v", err)
			}
			p.Off()
			server.Close()
			if _, err := checker().Check(t.Context(), p.Cert("a").Chain(), nil); err != nil {
				t.Errorf("a later one: %v", err)
			}
		})
	}
}

// TestShardOverCompleteList: somebody on the way answers with the genuine complete list, which is newer, and then with the shard of before a
// revocation, which has not ended. A shard that is newer than the complete list comes back to its place.
func TestShardOverCompleteList(t *testing.T) {
	for name, test := range map[string]struct {
		age   time.Duration // of the shard that comes after the complete list
		taken bool
	}{
		"an older shard": {3 * time.Hour, false},
		"a newer shard":  {0, true},
	} {
		t.Run(name, func(t *testing.T) {
			var answer atomic.Pointer[[]byte]
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(*answer.Load()) }))
			defer server.Close()
			p := handshaketest.New(t, "root -> int noaia -> a noaia cdp="+server.URL+"; int -> b noaia cdp="+server.URL)
			b, checker := p.Cert("b"), p.Checker(nil)
			publish := func(number int64, age time.Duration, revoked []handshaketest.Revocation, scope []pkix.Extension) {
				answer.Store(new(p.Cert("int").CRL(handshaketest.CRL{Number: number, Age: age, Only: revoked, Extensions: scope})))
			}
			withB, withoutB := []handshaketest.Revocation{{Serial: b.SerialNumber, At: p.Now(), Reason: 1}}, []handshaketest.Revocation{}
			publish(10, 2*time.Hour, withB, scopeOf(server.URL))
			tracked(t, p, checker, p.Cert("a"), p.Cert("a").TLS(nil))
			publish(7, time.Hour, withB, nil)
			checker.Recheck(t.Context())
			publish(5, test.age, withoutB, scopeOf(server.URL))
			checker.Recheck(t.Context())
			if _, err := checker.Check(t.Context(), b.Chain(), nil); (err == nil) != test.taken {
				t.Errorf("%v", err)
			}
		})
	}
}

func scopeOf(place string) []pkix.Extension {
	return handshaketest.Extensions(handshaketest.ScopeURL(place))
}

// TestTrackMany: responders are asked about many certificates side by side, each once a round, and about an intermediate that
// many share once.
func TestTrackMany(t *testing.T) {
	drawing := "root -> int nocdp"
	for i := range 20 {
		drawing += fmt.Sprintf("; int -> l%d nocdp", i)
	}
	p := handshaketest.New(t, drawing)
	checker := p.Checker(nil)
	for i := range 20 {
		leaf := p.Cert(fmt.Sprintf("l%d", i))
		tracked(t, p, checker, leaf, leaf.TLS(nil))
	}
	gate, waiting := make(chan struct{}), make(chan struct{}, 20)
	p.Before("/int.ocsp", func() {
		waiting <- struct{}{}
		<-gate
	})
	beforeRoot, before := p.Hits("/root.ocsp"), p.Hits("/int.ocsp")
	done := make(chan struct{})
	go func() { checker.Recheck(t.Context()); close(done) }()
	<-waiting
	gate <- struct{}{} // the first question goes alone
	<-waiting
	<-waiting // and two others are under way at once
	close(gate)
	<-done
	if asked := p.Hits("/int.ocsp") - before; asked != 20 {
		t.Errorf("asked %d times about 20 certificates", asked)
	}
	if asked := p.Hits("/root.ocsp") - beforeRoot; asked != 1 {
		t.Errorf("asked %d times about the intermediate", asked)
	}
}

// TestTrackAccepted: what is revoked and was accepted all the same is not cut off afterwards: under ReportOnly, or by an Override in as many
// words. A certificate that is revoked later is another matter for the Override, which was not asked about it.
func TestTrackAccepted(t *testing.T) {
	override := func(c *handshake.Config) {
		c.Override = func(*handshake.Result) handshake.Answer { return handshake.OverrideAcceptRevoked }
	}
	for _, tt := range []struct {
		name          string
		change        func(*handshake.Config)
		before, lives bool // revoked before the connection; it lives on
	}{
		{"ReportOnly, before", func(c *handshake.Config) { c.Policy = handshake.ReportOnly }, true, true},
		{"ReportOnly, after", func(c *handshake.Config) { c.Policy = handshake.ReportOnly }, false, true},
		{"Override, before", override, true, true},
		{"Override, after", override, false, false},
		{"SoftFail, after", func(c *handshake.Config) { c.Policy = handshake.SoftFail }, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf noaia")
			leaf, checker := p.Cert("leaf"), p.Checker(tt.change)
			if tt.before {
				leaf.Revoke(1)
			}
			conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
			if !tt.before {
				leaf.Revoke(1)
			}
			checker.Recheck(t.Context())
			if !tt.lives {
				if !closedSoon(conn) {
					t.Error("the connection lives on")
				}
			} else if err := handshaketest.Echo(conn.(*tls.Conn)); err != nil {
				t.Errorf("the connection was cut off: %v", err)
			}
		})
	}
}

// TestTrackHold: a hold closes a connection too, though it is not remembered.
func TestTrackHold(t *testing.T) {
	for _, source := range []string{"noaia", "nocdp"} {
		p := handshaketest.New(t, "root -> leaf "+source)
		leaf, checker := p.Cert("leaf"), p.Checker(nil)
		conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
		leaf.Revoke(6)
		checker.Recheck(t.Context())
		if !closedSoon(conn) {
			t.Errorf("%s: the connection lives on", source)
		}
	}
}

// TestTrackAsksNoMore: about a connection that a revocation closed nobody is asked any more, though whoever tracked it by hand has not ended that.
func TestTrackAsksNoMore(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp")
	leaf, checker := p.Cert("leaf"), p.Checker(nil)
	trackedByHand(t, p, checker, leaf)
	leaf.Revoke(1)
	checker.Recheck(t.Context())
	before := p.Hits("/root.ocsp")
	checker.Recheck(t.Context())
	if asked := p.Hits("/root.ocsp") - before; before != 1 || asked != 0 {
		t.Errorf("asked %d times, and %d times after it was closed", before, asked)
	}
}

// TestTrackListsFirst: a round asks a responder only about a certificate whose lists do not tell.
func TestTrackListsFirst(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	leaf, checker := p.Cert("leaf"), p.Checker(nil)
	conn := trackedByHand(t, p, checker, leaf)
	checker.Recheck(t.Context())
	if lists, answers := p.Hits("/root.crl"), p.Hits("/root.ocsp"); lists != 1 || answers != 0 {
		t.Errorf("the list was asked for %d times, the responder %d times", lists, answers)
	}
	p.Replace("/root.crl", http.NotFoundHandler())
	p.Advance(25 * time.Hour) // the list at hand ends
	leaf.Revoke(1)
	checker.Recheck(t.Context())
	if !closedSoon(conn) {
		t.Error("no list tells: the connection lives on")
	}
}

// TestTrackDeltaSwapped: somebody on the way answers the question for a delta with the genuine complete list. The delta that comes afterwards
// is taken in all the same.
func TestTrackDeltaSwapped(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf noaia")
	leaf, int, checker := p.Cert("leaf"), p.Cert("int"), p.Checker(nil)
	complete := handshaketest.Bytes(int.CRL(handshaketest.CRL{Number: 5, Extensions: handshaketest.Extensions(handshaketest.Freshest(p.URL + "/int-delta.crl"))}))
	p.Replace("/int.crl", complete)
	p.Replace("/int-delta.crl", complete)
	conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
	checker.Recheck(t.Context())
	leaf.Revoke(1)
	p.Replace("/int-delta.crl", handshaketest.Bytes(int.CRL(handshaketest.CRL{Number: 6, Extensions: handshaketest.Extensions(handshaketest.DeltaOf(5))})))
	checker.Recheck(t.Context())
	if !closedSoon(conn) {
		t.Error("the connection lives on")
	}
}

// TestTrackUnderAGuard: a connection of a Dialer, tracked by hand, is watched for what its Override was not asked about.
func TestTrackUnderAGuard(t *testing.T) {
	for name, test := range map[string]struct {
		drawing, later string
		lives          bool
	}{
		"accepted although revoked":                    {drawing: "root -> int -> leaf revoked", lives: true},
		"accepted although revoked, and another later": {drawing: "root -> int -> leaf revoked", later: "int"},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, test.drawing)
			leaf, checker := p.Cert("leaf"), acceptingAll(p)
			conn, _, err := (&handshake.Dialer{Checker: checker, TLS: p.ClientConfig(leaf)}).DialResult(t.Context(), "tcp", p.Listen(p.ServerConfig(leaf, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := checker.Track(conn); err != nil {
				t.Fatal(err)
			}
			if test.later != "" {
				p.Cert(test.later).Revoke(1)
				p.Advance(25 * time.Hour)
			}
			checker.Recheck(t.Context())
			if !test.lives {
				if !closedSoon(conn) {
					t.Error("the connection lives on")
				}
			} else if err := handshaketest.Echo(conn); err != nil {
				t.Errorf("the connection was cut off: %v", err)
			}
		})
	}
}

// acceptingAll is a Checker whose Override accepts whatever it is asked about.
func acceptingAll(p *handshaketest.PKI) *handshake.Checker {
	return p.Checker(func(c *handshake.Config) {
		c.Override = func(*handshake.Result) handshake.Answer { return handshake.OverrideAcceptRevoked }
	})
}

// TestTrackNotPinned: a peer that an Override accepted though its issuer is not pinned has a verified chain, and is cut off when that is revoked.
func TestTrackNotPinned(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia; elsewhere -> other")
	leaf, checker := p.Cert("leaf"), p.Checker(func(c *handshake.Config) {
		c.Pins = []*x509.Certificate{p.Cert("elsewhere").Certificate}
		c.Override = func(*handshake.Result) handshake.Answer { return handshake.OverrideAccept }
	})
	conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
	leaf.Revoke(1)
	checker.Recheck(t.Context())
	if !closedSoon(conn) {
		t.Error("the connection lives on")
	}
}

// TestTrackAnchor: a peer that is trusted as it stands rests on nothing that could be revoked, and can be tracked.
func TestTrackAnchor(t *testing.T) {
	p := handshaketest.New(t, "leaf")
	checker := p.Checker(nil)
	if _, err := checker.Track(tracked(t, p, checker, p.Cert("leaf"), p.Cert("leaf").TLS(nil)).(*tls.Conn)); err != nil {
		t.Error(err)
	}
}

// TestTrackUntrusted: of a peer that an Override accepted untrusted nobody asks, by hand or by itself: its certificates say what it likes.
func TestTrackUntrusted(t *testing.T) {
	p := handshaketest.New(t, "elsewhere -> int -> leaf revoked; root -> trusted")
	checker := acceptingAll(p)
	dialer := handshake.Dialer{Checker: checker, TLS: p.ClientConfig(p.Cert("trusted")), Track: true}
	conn, _, err := dialer.DialResult(t.Context(), "tcp", p.Listen(p.ServerConfig(p.Cert("leaf"), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := checker.Track(conn); !errors.Is(err, handshake.ErrNoVerifiedChain) {
		t.Errorf("tracked by hand: %v", err)
	}
	checker.Recheck(t.Context())
	for _, path := range []string{"/elsewhere.crl", "/elsewhere.ocsp", "/int.crl", "/int.ocsp"} {
		if hits := p.Hits(path); hits != 0 {
			t.Errorf("%s was asked for %d times", path, hits)
		}
	}
	if err := handshaketest.Echo(conn); err != nil {
		t.Errorf("the connection was cut off: %v", err)
	}
}

// TestTrackUntrustedPoison: a stranger that an Override accepts shows a certificate with the serial and the issuer's name of another's, the
// real certificate of that issuer, and one of its own in that name, which signs a list. Nothing is learned from it about the real certificate.
func TestTrackUntrustedPoison(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf noaia; root -> trusted; int -> stranger")
	leaf, key := p.Cert("leaf"), p.Cert("stranger").Key
	forge := func(template, parent *x509.Certificate) *x509.Certificate {
		template.NotBefore, template.NotAfter = leaf.NotBefore, leaf.NotAfter
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		forged, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return forged
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: p.Cert("int").Subject, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign,
	}
	own = forge(own, own)
	forged := forge(&x509.Certificate{SerialNumber: leaf.SerialNumber, DNSNames: leaf.DNSNames, CRLDistributionPoints: []string{p.URL + "/poison.crl"}}, own)
	p.Replace("/poison.crl", handshaketest.Bytes(p.Cert("int").CRL(handshaketest.CRL{
		Signer: &handshaketest.Cert{Certificate: own, Key: key}, Only: []handshaketest.Revocation{{Serial: leaf.SerialNumber, At: leaf.NotBefore, Reason: 1}},
	})))
	config := p.ServerConfig(leaf, nil)
	config.Certificates = []tls.Certificate{{Certificate: [][]byte{forged.Raw, p.Cert("int").Raw, own.Raw}, PrivateKey: key}}
	checker := acceptingAll(p)
	conn, _, err := (&handshake.Dialer{Checker: checker, TLS: p.ClientConfig(p.Cert("trusted")), Track: true}).DialResult(t.Context(), "tcp", p.Listen(config))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	checker.Recheck(t.Context())
	result, err := checker.Check(t.Context(), leaf.Chain(), nil)
	if err != nil || result.Decision() != handshake.Accepted {
		t.Errorf("the real certificate: %v, %v", result, err)
	}
}

// TestTrackNetworkNever: a round asks nobody if nobody may be asked, though a list that is kept on disk has passed half its life.
func TestTrackNetworkNever(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> leaf noaia"), t.TempDir()
	leaf := p.Cert("leaf")
	if _, err := p.Checker(onDisk(t, p, dir)).Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Fatal(err)
	}
	checker := p.Checker(func(c *handshake.Config) {
		onDisk(t, p, dir)(c)
		c.Network = handshake.NetworkNever
	})
	tracked(t, p, checker, leaf, leaf.TLS(nil))
	before := p.Hits("/root.crl")
	p.Advance(13 * time.Hour)
	checker.Recheck(t.Context())
	if asked := p.Hits("/root.crl") - before; asked != 0 {
		t.Errorf("asked %d times", asked)
	}
}

// elsewhere serves the lists of two authorities from a host of its own, until it is told not to.
type elsewhere struct {
	*handshaketest.PKI
	quiet    atomic.Bool // keeps whoever asks waiting
	deaf     atomic.Bool // does not speak HTTP
	torn     atomic.Bool // breaks off in the first list
	asked    atomic.Int64
	waiting  chan struct{} // one for each question that is kept waiting
	inFlight atomic.Int64
}

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	e := &elsewhere{waiting: make(chan struct{}, 100)}
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.asked.Add(1)
		if e.quiet.Load() {
			e.inFlight.Add(1)
			defer e.inFlight.Add(-1)
			e.waiting <- struct{}{}
			select {
			case <-r.Context().Done():
			case <-ended:
			}
			return
		}
		if e.deaf.Load() {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_, _ = conn.Write([]byte("not HTTP\r\n\r\n"))
				_ = conn.Close()
			}
			return
		}
		name := strings.Trim(r.URL.Path, "/")
		list := e.Cert(name).CRL(handshaketest.CRL{})
		if name == "first" && e.torn.Load() {
			_, _ = w.Write(list[:len(list)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(list)
	}))
	t.Cleanup(func() { close(ended); server.Close() })
	e.PKI = handshaketest.New(t, "root -> leaf noaia; first -> a noaia cdp="+server.URL+"/first; second -> b noaia cdp="+server.URL+"/second")
	return e
}

// TestRunBesideASilentHost: connections are watched while the lists of others are waited for.
func TestRunBesideASilentHost(t *testing.T) {
	e := newElsewhere(t)
	leaf := e.Cert("leaf")
	checker := e.Checker(func(c *handshake.Config) { c.Recheck = 10 * time.Millisecond })
	for _, name := range []string{"a", "b"} {
		if _, err := checker.Check(t.Context(), e.Cert(name).Chain(), nil); err != nil {
			t.Fatal(err)
		}
	}
	conn := tracked(t, e.PKI, checker, leaf, leaf.TLS(nil))
	e.quiet.Store(true)
	e.Advance(13 * time.Hour) // past half the life of every list
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- checker.Run(ctx) }()
	<-e.waiting
	for before := e.Hits("/root.crl"); e.Hits("/root.crl") < before+2; { // rounds come and go
		time.Sleep(time.Millisecond)
	}
	leaf.Revoke(1)
	if !closedSoon(conn) {
		t.Error("the connection lives on")
	}
	if open := e.inFlight.Load(); open > 1 {
		t.Errorf("%d questions to the silent host are open", open)
	}
	cancel()
	if err := <-done; err != context.Canceled {
		t.Error(err)
	}
}

// TestRunBesideASlowChain: rounds over the connections of others go on while a chain waits for its host.
func TestRunBesideASlowChain(t *testing.T) {
	e := newElsewhere(t)
	checker := e.Checker(func(c *handshake.Config) { c.Recheck = 10 * time.Millisecond })
	for _, name := range []string{"leaf", "a"} {
		tracked(t, e.PKI, checker, e.Cert(name), e.Cert(name).TLS(nil))
	}
	e.quiet.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- checker.Run(ctx) }()
	// While one question to the slow host is open, two others may belong to the rounds of that question and of the next.
	asked, before := int64(0), 0
	for until := time.Now().Add(2 * time.Minute); asked == 0 || e.Hits("/root.crl") < before+3; time.Sleep(time.Millisecond) {
		if now := e.asked.Load(); now != asked {
			asked, before = now, e.Hits("/root.crl")
		}
		if time.Now().After(until) {
			t.Fatal("the rounds wait for the slow chain")
		}
	}
	cancel()
	if err := <-done; err != context.Canceled {
		t.Error(err)
	}
}

// TestRunAsksSixteenAtOnce: the rounds of a Run together ask about sixteen chains at a time. What waits for its turn is in no
// later round, and holds up none.
func TestRunAsksSixteenAtOnce(t *testing.T) {
	const chains = 20
	var slow atomic.Bool
	var open, asked atomic.Int64
	gate := make(chan struct{})
	release := sync.OnceFunc(func() { close(gate) })
	var p *handshaketest.PKI
	var drawing []string
	for i := range chains {
		var first sync.Once
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if slow.Load() {
				first.Do(func() { asked.Add(1) })
				open.Add(1)
				defer open.Add(-1)
				select {
				case <-gate:
				case <-r.Context().Done():
				}
			}
			_, _ = w.Write(p.Cert(strings.Trim(r.URL.Path, "/")).CRL(handshaketest.CRL{}))
		}))
		t.Cleanup(server.Close)
		drawing = append(drawing, fmt.Sprintf("r%d -> l%d noaia cdp=%s/r%d", i, i, server.URL, i))
	}
	t.Cleanup(release)
	p = handshaketest.New(t, strings.Join(drawing, ";"))
	var rounds atomic.Int64 // that came to their end but for the refreshing of lists
	checker := p.Checker(func(c *handshake.Config) {
		c.Recheck = 10 * time.Millisecond
		c.Now = func() time.Time {
			if strings.Contains(string(debug.Stack()), ".refreshDue(") {
				rounds.Add(1)
			}
			return p.Now()
		}
	})
	for i := range chains {
		leaf := p.Cert(fmt.Sprintf("l%d", i))
		tracked(t, p, checker, leaf, leaf.TLS(nil))
	}
	slow.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- checker.Run(ctx) }()
	wait := func(what string, so func() bool) {
		t.Helper()
		for until := time.Now().Add(2 * time.Minute); !so(); time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Errorf("%s; %d chains are asked about", what, open.Load())
				return
			}
		}
	}
	wait("too few chains are asked about", func() bool { return open.Load() >= 16 })
	before := rounds.Load()
	wait("rounds wait for a turn", func() bool { return rounds.Load() >= before+5 })
	if n := open.Load(); n > 16 {
		t.Errorf("%d chains are asked about at once", n)
	}
	release()
	wait("not every chain had its turn", func() bool { return asked.Load() >= chains })
	cancel()
	if err := <-done; err != context.Canceled {
		t.Error(err)
	}
}

// TestTrackSilentHost: in one round a host that does not answer is asked for one list, and in the next one again.
func TestTrackSilentHost(t *testing.T) {
	e := newElsewhere(t)
	checker := e.Checker(nil)
	for _, name := range []string{"a", "b"} {
		tracked(t, e.PKI, checker, e.Cert(name), e.Cert(name).TLS(nil))
	}
	for round := range 2 {
		before := e.asked.Load()
		e.deaf.Store(true)
		checker.Recheck(t.Context())
		if asked := e.asked.Load() - before; asked != 1 {
			t.Errorf("round %d: asked %d times", round, asked)
		}
	}
}

// TestTrackBrokenList: a list that a host begins to send and does not send whole keeps no other list of the host from being asked for.
func TestTrackBrokenList(t *testing.T) {
	e := newElsewhere(t)
	checker := e.Checker(nil)
	for _, name := range []string{"a", "b"} {
		tracked(t, e.PKI, checker, e.Cert(name), e.Cert(name).TLS(nil))
	}
	e.torn.Store(true)
	for round := range 16 { // which list is asked for first is chance
		before := e.asked.Load()
		checker.Recheck(t.Context())
		if asked := e.asked.Load() - before; asked != 2 {
			t.Fatalf("round %d: asked for %d lists of 2", round, asked)
		}
	}
}

// TestAbandonedList: a list that has ended and that nobody uses is not asked for any more.
func TestAbandonedList(t *testing.T) {
	e := newElsewhere(t)
	checker := e.Checker(nil)
	check := func() {
		t.Helper()
		if _, err := checker.Check(t.Context(), e.Cert("a").Chain(), nil); err != nil {
			t.Fatal(err)
		}
	}
	check()
	e.Advance(72 * time.Hour)
	before := e.asked.Load()
	checker.Recheck(t.Context())
	if asked := e.asked.Load() - before; asked != 0 {
		t.Errorf("asked %d times", asked)
	}
	check()
	if asked := e.asked.Load() - before; asked != 1 {
		t.Errorf("asked %d times for who needs it again", asked)
	}
}

// TestRefreshPauses: a list that could not be refreshed is not asked for again in the next moment.
func TestRefreshPauses(t *testing.T) {
	e := newElsewhere(t)
	checker := e.Checker(nil)
	if _, err := checker.Check(t.Context(), e.Cert("a").Chain(), nil); err != nil {
		t.Fatal(err)
	}
	e.Advance(13 * time.Hour)
	e.deaf.Store(true)
	before := e.asked.Load()
	checker.Recheck(t.Context())
	e.Advance(time.Minute) // the Fetcher would ask again
	checker.Recheck(t.Context())
	if asked := e.asked.Load() - before; asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}
