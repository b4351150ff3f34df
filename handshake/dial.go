package handshake

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
)

// Dialer dials TLS connections whose peer the Checker accepts. The zero values of NetDialer and TLS are usable.
type Dialer struct {
	Checker   *Checker
	NetDialer *net.Dialer // nil means a zero net.Dialer
	TLS       *tls.Config // nil means a zero tls.Config: the system's roots

	// Track closes connections when a certificate of theirs becomes revoked, as long as Checker.Run runs.
	Track bool
}

// DialContext connects and completes the handshake. The connection is a *tls.Conn.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, _, err := d.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Dial is DialContext for whoever wants to see the Result too. If the handshake got as far as the certificate, the Result is not nil, even when the
// error is not.
func (d *Dialer) Dial(ctx context.Context, network, address string) (*tls.Conn, *Result, error) {
	return nil, nil, errNoDecision
}

// Transport returns an http.Transport that speaks only to servers the Checker accepts. config is the client's TLS
// configuration; nil means the system's roots.
func (c *Checker) Transport(config *tls.Config) (*http.Transport, error) {
	return nil, ErrInsecureSkipVerify
}
