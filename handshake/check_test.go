package handshake_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/pki"
)

// dial makes one connection with a Dialer and proves that both sides accept it.
func dial(t *testing.T, checker *handshake.Checker, config *tls.Config, address string) (*handshake.Result, error) {
	t.Helper()
	conn, result, err := (&handshake.Dialer{Checker: checker, TLS: config}).DialResult(context.Background(), "tcp", address)
	if err != nil {
		return result, err
	}
	defer conn.Close()
	return result, handshaketest.Echo(conn)
}

// TestSources: each source alone can tell good from revoked, and says which it was.
func TestSources(t *testing.T) {
	for _, tc := range []struct {
		name    string
		drawing string
		staple  bool
		source  handshake.Source
	}{
		{"CRL over the network", "root -> int -> leaf noaia", false, handshake.SourceCRL},
		{"OCSP over the network", "root -> int -> leaf nocdp", false, handshake.SourceOCSP},
		{"staple", "root -> int -> leaf nocdp noaia", true, handshake.SourceStaple},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := handshaketest.New(t, tc.drawing)
			leaf := p.Cert("leaf")
			serve := func() string {
				var staple []byte
				if tc.staple {
					staple = leaf.OCSP(handshaketest.OCSP{})
				}
				return p.Listen(p.ServerConfig(leaf, staple))
			}
			result, err := dial(t, p.Checker(nil), p.ClientConfig(leaf), serve())
			if err != nil {
				t.Fatal(err)
			}
			got := result.Certificates[0].Decisive
			if result.Decision() != handshake.Accepted || got.Source != tc.source || got.Status != pki.StatusGood {
				t.Fatalf("decision %s by %s, which says %s", result.Decision(), got.Source, got.Status)
			}
			leaf.Revoke(1)
			result, err = dial(t, p.Checker(nil), p.ClientConfig(leaf), serve())
			revoked, ok := errors.AsType[*handshake.RevokedError](err)
			if !ok || revoked.Evidence.Source != tc.source || revoked.Evidence.Reason != pki.KeyCompromise {
				t.Fatalf("error %v, result %+v", err, result)
			}
		})
	}
}

// TestWarm: what was fetched for one handshake serves the next without the network.
func TestWarm(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	leaf := p.Cert("leaf")
	address := p.Listen(p.ServerConfig(leaf, nil))
	checker := p.Checker(nil)
	for range 2 {
		if _, err := dial(t, checker, p.ClientConfig(leaf), address); err != nil {
			t.Fatal(err)
		}
		p.Off()
	}
}

// TestWholeChain: a revoked intermediate is found, and reported as what it is.
func TestWholeChain(t *testing.T) {
	p := handshaketest.New(t, "root -> int revoked -> leaf")
	leaf := p.Cert("leaf")
	_, err := dial(t, p.Checker(nil), p.ClientConfig(leaf), p.Listen(p.ServerConfig(leaf, leaf.OCSP(handshaketest.OCSP{}))))
	revoked, ok := errors.AsType[*handshake.RevokedError](err)
	if !ok || !revoked.Certificate.Equal(p.Cert("int").Certificate) {
		t.Fatalf("error %v", err)
	}
}

// TestClientCertificate: the server refuses a revoked client, and reads the client's staple.
func TestClientCertificate(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> server; int -> client")
	server, client := p.Cert("server"), p.Cert("client")
	var names []string
	checker := p.Checker(func(c *handshake.Config) {
		c.Observe = func(r *handshake.Result) { names = append(names, r.ServerName) }
	})
	config := p.ServerConfig(server, nil)
	config.ClientCAs, config.ClientAuth = server.Pool(), tls.RequireAndVerifyClientCert
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := checker.NewListener(inner, config)
	if err != nil {
		t.Fatal(err)
	}
	address := p.ServeEcho(listener)
	connect := func() error {
		clientConfig := p.ClientConfig(server)
		clientConfig.Certificates = []tls.Certificate{client.TLS(nil)}
		_, err := dial(t, p.Checker(nil), clientConfig, address)
		return err
	}
	if err := connect(); err != nil {
		t.Fatal(err)
	}
	client.Revoke(1)
	checker.Recheck(t.Context())
	p.Advance(25 * 60 * 60 * 1e9) // past the CRL that the server has kept
	if err := connect(); err == nil {
		t.Fatal("the server accepted a revoked client")
	}
	if len(names) != 2 || names[0]+names[1] != "" {
		t.Errorf("clients were checked for the names %q", names)
	}
}
