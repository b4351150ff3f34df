package rpc

import (
	"bytes"
	"context"
	"crypto/x509"
	"iter"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// AuditLog is the log as the API reads it, and where it writes refusals.
type AuditLog interface {
	AppendAudit(ctx context.Context, events []audit.Event) error
	AuditEvents(ctx context.Context, filter audit.Filter, after uint64, limit int) ([]audit.Event, error)
	AuditBatches(ctx context.Context, after uint64) iter.Seq2[audit.Batch, error]
}

// CRLs gives what is published: the complete list, or that of a shard. KindNotFound if there is no such list.
type CRLs interface {
	CRL(ctx context.Context, scope revocation.Scope) ([]byte, error)
}

// Publication waits until every product of every live instance has reached a sequence, and returns when that was.
type Publication interface {
	AwaitPublished(ctx context.Context, seq uint64) (time.Time, error)
}

// BlockedKeys returns those of the hashes that are blocked.
type BlockedKeys interface {
	BlockedKeys(ctx context.Context, hashes []pki.KeyHash) ([]pki.KeyHash, error)
}

// ClientCertificates adapts the authority and the universe to what auth.Authenticator asks about client certificates.
type ClientCertificates struct {
	Authority *ca.Authority
	Universe  *revocation.Universe
}

// IssuerCertificates implements auth.Issuers.
func (c ClientCertificates) IssuerCertificates(ctx context.Context) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	issuers := c.Authority.Issuers()
	for _, issuer := range issuers {
		for _, certificate := range issuer.Certificates {
			for _, der := range append([][]byte{certificate.DER}, certificate.Chain...) {
				parsed, err := x509.ParseCertificate(der)
				if err != nil {
					return nil, pki.Errorf(pki.KindInternal, "read issuer certificate", "%w", err)
				}
				revoked, err := c.revoked(ctx, issuers, parsed)
				if err != nil {
					return nil, err
				}
				if !revoked {
					all = append(all, parsed)
				}
			}
		}
	}
	return all, nil
}

// revoked reports whether an issuer of ours has revoked the certificate of an authority. Whoever has the key of such an
// authority can give a client a serial number that is in force.
func (c ClientCertificates) revoked(ctx context.Context, issuers []ca.Issuer, authority *x509.Certificate) (bool, error) {
	if bytes.Equal(authority.RawIssuer, authority.RawSubject) {
		return false, nil // nobody can revoke a root
	}
	above, signed := signer(issuers, authority)
	serial, err := pki.SerialFromBig(authority.SerialNumber)
	if !signed || err != nil {
		return false, nil // another authority's to say
	}
	answer, err := c.Universe.Lookup(ctx, above.ID, serial)
	return answer.Status == pki.StatusRevoked, err
}

// CertificateStatus implements auth.Status.
func (c ClientCertificates) CertificateStatus(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (pki.Status, error) {
	answer, err := c.Universe.Lookup(ctx, issuer, serial)
	return answer.Status, err
}
