package handshake_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
)

// TestTampering flips one bit of each record of a connection in turn, in both directions, and cuts each record in two:
// the connection never gets as far as an answer.
func TestTampering(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		p := handshaketest.New(t, "root -> leaf")
		leaf := p.Cert("leaf")
		target := p.Listen(p.ServerConfig(leaf, leaf.OCSP(handshaketest.OCSP{})))
		checker := p.Checker(nil)
		// connect returns how many records have passed, from the server and to it, when the answer is there. A flipped length
		// makes the peer wait for what never comes: patience is what the caller's deadline says.
		connect := func(m *handshaketest.Tamperer, patience time.Duration) (records map[bool]int, err error) {
			m.Target = target
			m.Start(p)
			config := p.ClientConfig(leaf)
			config.MinVersion, config.MaxVersion = version, version
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			conn, _, err := (&handshake.Dialer{Checker: checker, TLS: config}).DialResult(ctx, "tcp", m.Address)
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			err = handshaketest.Echo(conn)
			return map[bool]int{false: m.Seen(false), true: m.Seen(true)}, err
		}
		records, err := connect(&handshaketest.Tamperer{Record: -1}, time.Minute)
		if err != nil {
			t.Fatalf("untouched: %v", err)
		}
		for toServer, count := range records {
			for n := range count {
				for _, do := range []handshaketest.Tamper{handshaketest.FlipBit, handshaketest.Truncate} {
					t.Run(fmt.Sprintf("%s/to server %v/record %d/%d", tls.VersionName(version), toServer, n, do), func(t *testing.T) {
						m := &handshaketest.Tamperer{ToServer: toServer, Record: n, Do: do}
						if _, err := connect(m, 300*time.Millisecond); err == nil {
							t.Error("nobody noticed")
						}
					})
				}
			}
		}
	}
}
