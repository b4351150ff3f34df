package handshake

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// Guard is a net.Conn under one TLS connection. It holds the Result of the check, and is closed when a certificate of
// the peer becomes revoked, as long as Checker.Run runs. Connections of NewListener, Transport and Dialer have a Guard:
// NetConn of the *tls.Conn returns it. For TLS connections that are made otherwise (after STARTTLS, in a framework),
// put one under them:
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

// NewGuard returns a Guard over conn, for one TLS connection.
func NewGuard(conn net.Conn) *Guard { return &Guard{Conn: conn} }

// Result returns the Result of the check of the peer. It is nil before the handshake got that far, and if the peer
// showed no certificate.
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

// found returns a function that stores the Result of the check and, if it has a Checker, has the connection closed when
// a certificate of the accepted chain becomes revoked.
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

// WrapClientConn is WrapClient for the single connection over a Guard: the Guard holds its Result, the connection is
// tracked, and ctx bounds the check too. Set config.ServerName to the name of the server.
func (c *Checker) WrapClientConn(ctx context.Context, guard *Guard, config *tls.Config) (*tls.Config, error) {
	return c.wrapClient(ctx, config, guard.found(c))
}
