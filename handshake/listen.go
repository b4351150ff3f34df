package handshake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"
)

// ErrUnverifiedClients is returned for a server's tls.Config that asks clients for certificates without verifying them.
var ErrUnverifiedClients = errors.New("handshake: ClientAuth asks for certificates and does not verify them: there is no verified chain to check")

// WrapServer returns a copy of a server's tls.Config whose handshakes fail unless the Checker accepts the chain of the
// client, if it shows one; ClientAuth says whether it must. Hooks of the original are kept and run first (but see WrapClient for a peer
// whose chain does not verify), and what its GetConfigForClient returns is wrapped as well. Connections over a Guard are tracked.
//
// A client learns of a refusal with its first read only, since in TLS 1.3 it is done before the server has looked at
// its certificate.
func (c *Checker) WrapServer(config *tls.Config) (*tls.Config, error) {
	if config == nil {
		return nil, errors.New("handshake: a server needs a configuration with a certificate")
	}
	wrapped, err := c.wrapServer(config, nil)
	if err != nil {
		return nil, err
	}
	choose := config.GetConfigForClient
	wrapped.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen := config
		if choose != nil {
			other, err := choose(hello)
			if err != nil {
				return nil, err
			}
			if other != nil {
				chosen = other
			}
		}
		guard, _ := hello.Conn.(*Guard)
		if guard == nil && chosen == config {
			return nil, nil // crypto/tls goes on with wrapped
		}
		return c.wrapServer(chosen, guard)
	}
	return wrapped, nil
}

// wrapServer wraps for all connections, or for the one over a Guard.
func (c *Checker) wrapServer(config *tls.Config, guard *Guard) (*tls.Config, error) {
	if config.ClientAuth == tls.RequestClientCert || config.ClientAuth == tls.RequireAnyClientCert {
		return nil, ErrUnverifiedClients
	}
	wrapped := config.Clone()
	hook := &hook{checker: c, ctx: context.Background(), inner: config.VerifyConnection}
	if c.config.Override != nil && config.VerifyPeerCertificate == nil {
		hook.trust = &trust{roots: config.ClientCAs, usage: x509.ExtKeyUsageClientAuth, now: c.clock(config)}
		// hook.trust verifies the same, and can ask.
		switch config.ClientAuth {
		case tls.VerifyClientCertIfGiven:
			wrapped.ClientAuth = tls.RequestClientCert
		case tls.RequireAndVerifyClientCert:
			wrapped.ClientAuth = tls.RequireAnyClientCert
		}
	}
	if guard != nil {
		hook.found = guard.found(c)
	}
	wrapped.VerifyConnection = hook.verifyClient
	return wrapped, nil
}

// clock is the clock of a tls.Config, or the Checker's.
func (c *Checker) clock(config *tls.Config) func() time.Time {
	if config.Time != nil {
		return config.Time
	}
	return c.config.Now
}

// NewListener wraps a listener: every accepted connection is a *tls.Conn whose client, if it shows a certificate, the
// Checker must accept. As with tls.NewListener the handshake runs with the first read or write. Connections of clients with
// certificates are tracked: they are closed when a certificate of theirs becomes revoked, as long as Run runs. Below each lies
// a *Guard, which knows the Result.
func (c *Checker) NewListener(inner net.Listener, config *tls.Config) (net.Listener, error) {
	wrapped, err := c.WrapServer(config)
	if err != nil {
		return nil, err
	}
	return &listener{inner, wrapped}, nil
}

type listener struct {
	net.Listener
	config *tls.Config
}

// Accept waits for a connection; the handshake comes later, so that a slow client holds up nobody.
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(NewGuard(raw), l.config), nil
}
