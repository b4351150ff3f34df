package apicert

import (
	"bytes"
	"context"
	"crypto/x509"
	"net"
	"slices"

	"signet.example/signet/api/client"
	"signet.example/signet/ca"
	"signet.example/signet/pki"
)

// certifier is an issuer that may certify the API.
type certifier struct {
	ca.Issuer
	chain    [][]byte // sent with its certificates: everything up to a root that clients may have
	believed bool     // client.root holds such a root, or cannot be read, so that it is unknown what clients have
}

// certifiers returns the issuers below a root whose key is at this instance. Issuers that clients accept come first,
// then the one that init made.
func (a *Certificate) certifiers(ctx context.Context) (candidates []certifier, err error) {
	known, err := a.config.Authority.CertificatesInForce(ctx)
	if err != nil {
		return nil, err
	}
	var others []certifier // those that clients may not accept
	roots, unreadable := client.ReadRoots(a.config.Settings.Path(a.config.Settings.Client.Root))
	for _, issuer := range a.config.Authority.Issuers() {
		if issuer.KeyURI == "" || len(issuer.Certificates) == 0 || issuer.SelfSigned() {
			continue
		}
		candidate := certifier{Issuer: issuer, chain: issuer.Chain(), believed: unreadable != nil}
		if bundle := ca.BundleAt(ca.Paths(issuer, known), a.config.Now()); len(bundle.Chain) > 0 {
			candidate.chain = nil
			for _, c := range bundle.Chain {
				candidate.chain = append(candidate.chain, c.Raw)
			}
			candidate.believed = candidate.believed || a.verifies(roots, issuer, bundle.Chain)
		}
		if candidate.believed {
			candidates = append(candidates, candidate)
		} else {
			others = append(others, candidate)
		}
	}
	if candidates = append(candidates, others...); len(candidates) > 0 {
		return candidates, nil
	}
	for _, issuer := range a.config.Authority.Issuers() {
		if issuer.State == ca.IssuerPending && issuer.KeyURI != "" && !issuer.Foreign { // a pending foreign one is being adopted
			return nil, pki.Errorf(pki.KindFailedPrecondition, op, "issuer %s waits for its certificate", issuer.Label).
				WithHint("have its request signed (signet ceremony sign --dir DIR --csr issuing.csr --present WHO --out issuing.pem), then signet init --certificate FILE")
		}
	}
	return nil, pki.Errorf(pki.KindFailedPrecondition, op, "there is no issuing CA").
		WithHint("this database has no issuer whose key is here: run `signet init`, or restore a backup")
}

// verifies reports whether roots verify one of an issuer's certificates now.
func (a *Certificate) verifies(roots *x509.CertPool, issuer ca.Issuer, chain []*x509.Certificate) bool {
	above := x509.NewCertPool()
	for _, c := range chain {
		above.AddCert(c)
	}
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
		if !bytes.Equal(c.RawSubject, issuer.Subject) || !bytes.Equal(c.RawSubjectPublicKeyInfo, issuer.SPKI) {
			return false
		}
		_, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, CurrentTime: a.config.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err == nil
	})
}

// names returns the names by which clients may reach the API.
func (a *Certificate) names() ([]pki.Identifier, error) {
	texts := append([]string{"localhost", "127.0.0.1", "::1"}, a.config.Settings.API.Names...)
	if host, _, err := net.SplitHostPort(a.config.Settings.API.Listen); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			texts = append(texts, host)
		}
	}
	var names []pki.Identifier
	seen := make(map[pki.Identifier]bool)
	for _, text := range texts {
		name, err := pki.ParseIdentifier(text)
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).InField("api.names")
		}
		if !seen[name] {
			names, seen[name] = append(names, name), true
		}
	}
	return names, nil
}

// canIssue reports whether an issuer seems able to issue a certificate for the API that clients accept; with
// unbelieved, any certificate. An issuer that failed recently, or whose state is unknown, does not count.
func (a *Certificate) canIssue(ctx context.Context, unbelieved bool) bool {
	candidates, err := a.certifiers(ctx)
	return err == nil && slices.ContainsFunc(candidates, func(i certifier) bool {
		if i.State != ca.IssuerActive || !unbelieved && !i.believed ||
			a.config.Now().Before(a.failed[i.ID].until) || a.config.Authority.Standing(ctx, i.ID) != nil {
			return false
		}
		_, err := a.config.Authority.ReadySigner(ctx, i.ID)
		return err == nil
	})
}
