package handshake_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
)

// TestResumption is the matrix of REVOCATION.md, section 9.3: once a revocation is known, no handshake is accepted, full
// or resumed, by neither side, whatever the source it became known from.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, side := range []string{"client", "server"} {
			for _, source := range []string{"staple", "CRL", "OCSP"} {
				for _, moment := range []string{"before", "between", "after"} {
					if source == "staple" && side == "server" && version == tls.VersionTLS12 {
						continue // a client's staple travels in TLS 1.3 only
					}
					t.Run(tls.VersionName(version)+"/"+side+"/"+source+"/"+moment, func(t *testing.T) {
						t.Parallel()
						newResumption(t, version, side, source).run(t, moment)
					})
				}
			}
		}
	}
}

// resumption is one cell: a client and a server that resume sessions, one of them checking the other.
type resumption struct {
	p       *handshaketest.PKI
	judged  *handshaketest.Cert // whose status is in question
	checker *handshake.Checker  // of the side that checks
	source  string
	side    string
	address string
	client  *tls.Config
	staple  func() []byte
}

func newResumption(t *testing.T, version uint16, side, source string) *resumption {
	words := map[string]string{"staple": "nocdp noaia", "CRL": "noaia", "OCSP": "nocdp", "staple and CRL": "noaia muststaple"}[source]
	p := handshaketest.New(t, "root -> int -> judged "+words+"; int -> peer")
	r := &resumption{p: p, judged: p.Cert("judged"), checker: p.Checker(nil), source: source, side: side}
	r.staple = func() []byte {
		if strings.HasPrefix(source, "staple") {
			return r.judged.OCSP(handshaketest.OCSP{})
		}
		return nil
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.client = p.ClientConfig(r.judged)
	r.client.MinVersion, r.client.MaxVersion = version, version
	r.client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	if side == "client" {
		config := p.ServerConfig(r.judged, nil)
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate := r.judged.TLS(r.staple())
			return &certificate, nil
		}
		r.address = p.ServeEcho(tls.NewListener(inner, config))
		return r
	}
	config := p.ServerConfig(p.Cert("peer"), nil)
	config.ClientCAs, config.ClientAuth = p.Cert("peer").Pool(), tls.RequireAndVerifyClientCert
	listener, err := r.checker.NewListener(inner, config)
	if err != nil {
		t.Fatal(err)
	}
	r.address = p.ServeEcho(listener)
	r.client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		certificate := r.judged.TLS(r.staple())
		return &certificate, nil
	}
	return r
}

// connect makes one connection and says whether both sides accepted it, and whether it was resumed.
func (r *resumption) connect(t *testing.T) (resumed bool, err error) {
	t.Helper()
	if r.side == "client" {
		conn, _, err := (&handshake.Dialer{Checker: r.checker, TLS: r.client}).DialResult(context.Background(), "tcp", r.address)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		return conn.ConnectionState().DidResume, handshaketest.Echo(conn)
	}
	conn, err := tls.Dial("tcp", r.address, r.client)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	return conn.ConnectionState().DidResume, handshaketest.Echo(conn)
}

// learn tells the side that checks of the revocation, in the way of its source.
func (r *resumption) learn(t *testing.T) {
	t.Helper()
	if r.source == "staple" {
		// The staple of the first connection has to end: it is the only evidence for this certificate.
		r.p.Advance(2 * time.Hour)
		return
	}
	r.p.Advance(25 * time.Hour) // cached status ends
}

func (r *resumption) run(t *testing.T, moment string) {
	if moment == "before" {
		r.judged.Revoke(1)
		if _, err := r.connect(t); err == nil {
			t.Fatal("a revoked peer was accepted")
		}
		return
	}
	if _, err := r.connect(t); err != nil {
		t.Fatalf("the first connection: %v", err)
	}
	resumed, err := r.connect(t)
	if err != nil || !resumed {
		t.Fatalf("the second connection: resumed %v, %v", resumed, err)
	}
	if moment == "between" {
		r.judged.Revoke(1)
		r.learn(t)
		if _, err := r.connect(t); err == nil {
			t.Fatal("a session was resumed after the revocation became known")
		}
	}
	// After: the revocation becomes known in a full handshake of another session, and the old session must not live on.
	if moment == "after" {
		r.judged.Revoke(1)
		r.learn(t)
		cache := r.client.ClientSessionCache
		r.client.ClientSessionCache = nil
		if _, err := r.connect(t); err == nil {
			t.Fatal("a revoked peer was accepted in a full handshake")
		}
		r.client.ClientSessionCache = cache
	}
	for range 3 {
		if _, err := r.connect(t); err == nil {
			t.Fatal("a session was resumed after the revocation became known")
		}
	}
}

// TestResumedStaple: on a resumed session crypto/tls hands over the staple of the first connection. When that has ended,
// there is a full handshake in place of a refusal, with a Dialer and with a wrapped configuration alone.
func TestResumedStaple(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r := newResumption(t, version, "client", "staple")
		wrapped, err := r.checker.WrapClient(r.client)
		if err != nil {
			t.Fatal(err)
		}
		for name, connect := range map[string]func() (bool, error){
			"Dialer": func() (bool, error) { return r.connect(t) },
			"WrapClient": func() (bool, error) {
				conn, err := tls.Dial("tcp", r.address, wrapped)
				if err != nil {
					return false, err
				}
				defer conn.Close()
				return conn.ConnectionState().DidResume, handshaketest.Echo(conn)
			},
		} {
			r.client.ClientSessionCache.Put("localhost", nil)
			for i, step := range []struct {
				later  time.Duration
				resume bool
			}{{0, false}, {0, true}, {2 * time.Hour, false}, {0, true}} {
				r.p.Advance(step.later)
				if resumed, err := connect(); err != nil || resumed != step.resume {
					t.Errorf("%s, %s, connection %d: resumed %v, %v", tls.VersionName(version), name, i, resumed, err)
				}
			}
		}
	}
}

// TestInsecure: a chain that crypto/tls did not verify cannot be checked, and is refused.
func TestInsecure(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	checker := p.Checker(func(c *handshake.Config) { c.Policy = handshake.ReportOnly })
	if _, err := checker.WrapClient(&tls.Config{InsecureSkipVerify: true}); !errors.Is(err, handshake.ErrInsecureSkipVerify) {
		t.Errorf("InsecureSkipVerify: %v", err)
	}
	for _, auth := range []tls.ClientAuthType{tls.RequestClientCert, tls.RequireAnyClientCert} {
		if _, err := checker.WrapServer(&tls.Config{ClientAuth: auth}); !errors.Is(err, handshake.ErrUnverifiedClients) {
			t.Errorf("%s: %v", auth, err)
		}
	}
	wrapped, err := checker.WrapClient(p.ClientConfig(p.Cert("leaf")))
	if err != nil {
		t.Fatal(err)
	}
	wrapped.InsecureSkipVerify = true // switched off behind our back
	if _, err := tls.Dial("tcp", p.Listen(p.ServerConfig(p.Cert("leaf"), nil)), wrapped); !errors.Is(err, handshake.ErrInsecureSkipVerify) {
		t.Errorf("InsecureSkipVerify set afterwards: %v", err)
	}
}

// TestGetConfigForClient: a configuration chosen per client is wrapped as well.
func TestGetConfigForClient(t *testing.T) {
	p := handshaketest.New(t, "root -> server; root -> client revoked")
	server, client := p.Cert("server"), p.Cert("client")
	inside := p.ServerConfig(server, nil)
	inside.ClientCAs, inside.ClientAuth = server.Pool(), tls.RequireAndVerifyClientCert
	outside := p.ServerConfig(server, nil)
	outside.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return inside, nil }
	wrapped, err := p.Checker(nil).WrapServer(outside)
	if err != nil {
		t.Fatal(err)
	}
	config := p.ClientConfig(server)
	config.Certificates = []tls.Certificate{client.TLS(nil)}
	conn, err := tls.Dial("tcp", p.Listen(wrapped), config)
	if err == nil {
		err = handshaketest.Echo(conn)
		conn.Close()
	}
	if err == nil {
		t.Fatal("a revoked client was accepted through GetConfigForClient")
	}
}
