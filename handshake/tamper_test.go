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
		// A flipped length makes the peer wait for what never comes: patience is what the caller's deadline says.
		connect := func(m *handshaketest.Tamperer, patience time.Duration) error {
			m.Target = target
			m.Start(p)
			config := p.ClientConfig(leaf)
			config.MinVersion, config.MaxVersion = version, version
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			conn, _, err := (&handshake.Dialer{Checker: checker, TLS: config}).Dial(ctx, "tcp", m.Address)
			if err != nil {
				return err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			return handshaketest.Echo(conn)
		}
		untouched := &handshaketest.Tamperer{Record: -1}
		if err := connect(untouched, time.Minute); err != nil {
			t.Fatalf("untouched: %v", err)
		}
		for _, toServer := range []bool{true, false} {
			// The last record of the server is the echo, that of the client may be its close_notify.
			for n := range untouched.Seen(false) {
				if toServer && n >= untouched.Seen(true) {
					break
				}
				for _, do := range []handshaketest.Tamper{handshaketest.FlipBit, handshaketest.Truncate} {
					t.Run(fmt.Sprintf("%s/to server %v/record %d/%d", tls.VersionName(version), toServer, n, do), func(t *testing.T) {
						m := &handshaketest.Tamperer{ToServer: toServer, Record: n, Do: do}
						if err := connect(m, 300*time.Millisecond); err == nil && m.Seen(toServer) > n && !closing(toServer, n, untouched) {
							t.Error("nobody noticed")
						}
					})
				}
			}
		}
	}
}

// closing reports whether a record is the client's close_notify: then the answer has come already.
func closing(toServer bool, n int, untouched *handshaketest.Tamperer) bool {
	return toServer && n == untouched.Seen(true)-1
}
