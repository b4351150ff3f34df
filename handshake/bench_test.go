package handshake_test

import (
	"context"
	"crypto/tls"
	"testing"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
)

// BenchmarkHandshake compares full TLS 1.3 handshakes on loopback, bare and checked, client and server in one process.
func BenchmarkHandshake(b *testing.B) {
	p := handshaketest.New(b, "root -> listed noaia; root -> stapled nocdp noaia")
	for _, bc := range []struct {
		name, leaf string
		staple     bool
		checker    func() *handshake.Checker // nil: bare crypto/tls
		afresh     bool                      // a new Checker for every handshake: nothing was seen before
	}{
		{name: "bare", leaf: "stapled", staple: true},
		{name: "warm-crl", leaf: "listed", checker: func() *handshake.Checker { return p.Checker(nil) }},
		{name: "staple-seen", leaf: "stapled", staple: true, checker: func() *handshake.Checker { return p.Checker(nil) }},
		{name: "staple-afresh", leaf: "stapled", staple: true, checker: func() *handshake.Checker { return p.Checker(nil) }, afresh: true},
	} {
		b.Run(bc.name, func(b *testing.B) {
			leaf := p.Cert(bc.leaf)
			var staple []byte
			if bc.staple {
				staple = leaf.OCSP(handshaketest.OCSP{})
			}
			address := p.Listen(p.ServerConfig(leaf, staple))
			config := p.ClientConfig(leaf)
			if bc.checker != nil {
				wrapped, err := bc.checker().WrapClient(config)
				if err != nil {
					b.Fatal(err)
				}
				config = wrapped
			}
			fresh := make([]*tls.Config, 0)
			if bc.afresh {
				for range b.N {
					wrapped, err := bc.checker().WrapClient(p.ClientConfig(leaf))
					if err != nil {
						b.Fatal(err)
					}
					fresh = append(fresh, wrapped)
				}
			}
			b.ResetTimer()
			for i := range b.N {
				if bc.afresh {
					config = fresh[i]
				}
				conn, err := tls.Dial("tcp", address, config)
				if err != nil {
					b.Fatal(err)
				}
				conn.Close()
			}
		})
	}
}

// BenchmarkCheck is the check itself, warm, without a handshake: a chain of two certificates below the root.
func BenchmarkCheck(b *testing.B) {
	for _, bc := range []struct {
		name, drawing string
		staple        bool
	}{
		{"crl", "root -> int -> leaf noaia", false},
		{"staple", "root -> int -> leaf nocdp noaia", true},
	} {
		b.Run(bc.name, func(b *testing.B) {
			p := handshaketest.New(b, bc.drawing)
			leaf := p.Cert("leaf")
			var staple []byte
			if bc.staple {
				staple = leaf.OCSP(handshaketest.OCSP{})
			}
			checker, chain := p.Checker(nil), leaf.Chain()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := checker.Check(context.Background(), chain, staple); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
