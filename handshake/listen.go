package handshake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"
)

// ErrUnverifiedClients is returned for a server's tls.Config that requests client certificates without verifying them.
var ErrUnverifiedClients = errors.New("handshake: ClientAuth asks for certificates and does not verify them: there is no verified chain to check")

// WrapServer returns a copy of a server's tls.Config whose handshakes fail unless the Checker accepts the chain of the
// client, if the client shows one; ClientAuth says whether it must. Hooks of the original are kept and run first,
// except as in WrapClient for a peer whose chain does not verify. The configuration that GetConfigForClient returns is
// wrapped as well. Connections over a Guard are tracked.
//
// A client learns of a refusal only with its first read, because in TLS 1.3 its handshake is complete before the server
// has checked its certificate.
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

// wrapServer wraps a configuration for all connections, or for the one over a Guard.
func (c *Checker) wrapServer(config *tls.Config, guard *Guard) (*tls.Config, error) {
	if config.ClientAuth == tls.RequestClientCert || config.ClientAuth == tls.RequireAnyClientCert {
		return nil, ErrUnverifiedClients
	}
	wrapped := config.Clone()
	hook := &hook{checker: c, ctx: context.Background(), inner: config.VerifyConnection}
	if c.config.Override != nil && config.VerifyPeerCertificate == nil {
		hook.trust = &trust{roots: config.ClientCAs, usage: x509.ExtKeyUsageClientAuth, now: c.clock(config)}
		// hook.trust verifies the same, and can consult the Override.
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

// clock returns the clock of a tls.Config, or else the Checker's.
func (c *Checker) clock(config *tls.Config) func() time.Time {
	if config.Time != nil {
		return config.Time
	}
	return c.config.Now
}

// NewListener wraps a listener. Every accepted connection is a *tls.Conn over a *Guard, which holds the Result; the
// Checker must accept the client's certificate, if it shows one. As with tls.NewListener the handshake runs with the
// first read or write. Connections of clients with certificates are tracked: they are closed when a certificate of the
// client becomes revoked, as long as Run runs.
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

// Accept waits for a connection. The handshake comes later, so that a slow client does not delay others.
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(NewGuard(raw), l.config), nil
}
