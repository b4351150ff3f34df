package handshake

import (
	"crypto/tls"
	"net"
)

// NewListener wraps a listener: every accepted connection is a *tls.Conn whose client, if it shows a certificate, the
// Checker must accept. As with tls.NewListener the handshake runs with the first read or write.
func (c *Checker) NewListener(inner net.Listener, config *tls.Config) (net.Listener, error) {
	return nil, ErrInsecureSkipVerify
}
