package handshake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
)

// Checker judges the certificates of peers. It is safe for concurrent use, and one Checker should serve a whole
// process: what it fetched for one connection it knows for all.
type Checker struct {
	config Config
}

// New validates a Config. The Checker starts nothing by itself; see Run.
func New(config Config) (*Checker, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Checker{config: config}, nil
}

// Check judges a chain that has been verified up to its trust anchor: leaf first, anchor last. The staple is the OCSP response
// that came with it, nil if none did. The Result is never nil; the error is Result.Err.
func (c *Checker) Check(ctx context.Context, chain []*x509.Certificate, staple []byte) (*Result, error) {
	r := &Result{Time: c.config.Now(), Chain: chain}
	return r, r.Err()
}

// WrapClient returns a copy of a client's tls.Config whose handshakes fail unless the Checker accepts the server's
// chain. Hooks of the original are kept and run first.
func (c *Checker) WrapClient(config *tls.Config) (*tls.Config, error) {
	return nil, ErrInsecureSkipVerify
}

// WrapServer returns a copy of a server's tls.Config whose handshakes fail unless the Checker accepts the client's
// chain, if the client shows one. What GetConfigForClient returns is wrapped as well.
func (c *Checker) WrapServer(config *tls.Config) (*tls.Config, error) {
	return nil, ErrInsecureSkipVerify
}

// Run keeps what is cached fresh and asks again about the certificates of tracked connections, until ctx ends.
func (c *Checker) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// worst returns the error to report for a chain: a revocation anywhere before everything else, then the fault nearest
// to the leaf.
func worst(certificates []CertificateResult) error {
	var first error
	for _, c := range certificates {
		if _, revoked := c.Err.(*RevokedError); revoked {
			return c.Err
		}
		if first == nil {
			first = c.Err
		}
	}
	return first
}
