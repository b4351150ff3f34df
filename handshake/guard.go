package handshake

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// Guard lies under one TLS connection. It knows what was found out of the peer, and it is what is closed when a certificate of
// the peer becomes revoked, as long as Checker.Run runs. Connections of NewListener, Transport and Dialer have one: NetConn of
// the *tls.Conn returns it. Whoever makes TLS connections otherwise (after STARTTLS, in a framework) puts one under them:
//
//	guard := handshake.NewGuard(raw)
//	conn := tls.Server(guard, wrapped)            // wrapped by Checker.WrapServer, once for all connections
//
//	wrapped, err := checker.WrapClientConn(ctx, guard, config)
//	conn := tls.Client(guard, wrapped)
type Guard struct {
	net.Conn

	mu     sync.Mutex
	result *Result // guarded by mu
	stop   func()  // ends the tracking; guarded by mu; nil if not tracked
	closed bool    // guarded by mu
}

// NewGuard stands between conn and the TLS connection that is made over it.
func NewGuard(conn net.Conn) *Guard { return &Guard{Conn: conn} }

// Result is what the check of the peer found out: nil before the handshake got as far, and if the peer showed no
// certificate.
func (g *Guard) Result() *Result {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.result
}

// Close ends the tracking and closes the connection.
func (g *Guard) Close() error {
	g.mu.Lock()
	stop := g.stop
	g.stop, g.closed = nil, true
	g.mu.Unlock()
	if stop != nil {
		stop()
	}
	return g.Conn.Close()
}

// found takes what the check found out, and has the connection closed when a certificate of the chain that was accepted becomes revoked. Without
// a Checker it is not tracked.
func (g *Guard) found(tracker *Checker) func(*Result, tls.ConnectionState) {
	return func(r *Result, state tls.ConnectionState) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.result = r
		if tracker != nil && !g.closed && g.stop == nil && r.Err() == nil {
			g.stop = tracker.track(g.Conn, tracker.acceptedChain(r, state), state.PeerCertificates, r)
		}
	}
}

// WrapClientConn is WrapClient for the one connection over a Guard: its Result is the Guard's, the connection is tracked, and ctx
// bounds the check too. Name the server in config.ServerName.
func (c *Checker) WrapClientConn(ctx context.Context, guard *Guard, config *tls.Config) (*tls.Config, error) {
	return c.wrapClient(ctx, config, guard.found(c))
}
