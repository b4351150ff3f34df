package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"iter"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// AuditLog is the log as the API reads it, and where it writes refusals.
type AuditLog interface {
	AppendAudit(ctx context.Context, events []audit.Event) error
	AuditEvents(ctx context.Context, filter audit.Filter, after uint64, limit int) ([]audit.Event, error)
	AuditBatches(ctx context.Context, after uint64) iter.Seq2[audit.Batch, error]
}

// CRLs gives what is published, and publishes what was signed elsewhere.
type CRLs interface {
	// CRL returns the complete list, or that of a shard. KindNotFound if there is no such list.
	CRL(ctx context.Context, scope revocation.Scope) ([]byte, error)
	// ImportCRL publishes the complete list of an off-line issuer, on which everything revoked must be that is not among expired. The
	// grant must allow auth.ActionManage.
	ImportCRL(ctx context.Context, grant auth.Grant, issuer pki.IssuerID, der []byte, expired []pki.Serial) (ImportedCRL, error)
	// OfflineStatus asks the list of an off-line issuer, as it is served.
	OfflineStatus(issuer pki.IssuerID, serial pki.Serial) OfflineStatus
}

// Adoptions takes over CAs that signed lists elsewhere.
type Adoptions interface {
	// AdoptIssuer takes over a CA with its key and its last list: what that revokes, or holds, is on the ledger and on every list of the issuer
	// before anything is published for it, under larger numbers. What broke off goes on when it is repeated. The grant must allow auth.ActionManage.
	AdoptIssuer(ctx context.Context, grant auth.Grant, adoption ca.Adoption, last []byte) (ca.Issuer, error)
}

// OfflineStatus is what the list of an off-line issuer says of a certificate. The zero value says nothing.
type OfflineStatus struct {
	Number     uint64 // of the list; 0: there is none
	NextUpdate time.Time
	Revoked    bool
}

// ImportedCRL is a list that was brought in.
type ImportedCRL struct {
	Number     uint64
	ThisUpdate time.Time
	NextUpdate time.Time
	Revoked    int
	Sum        [sha256.Size]byte
	URL        string // where it is served
}

// Publication waits until every product of every live instance that shows one of some issuers (nil: all) has reached a sequence, and returns when that was.
type Publication interface {
	AwaitPublished(ctx context.Context, issuers []pki.IssuerID, seq uint64) (time.Time, error)
}

// BlockedKeys returns those of the hashes that are blocked, and lists the first keys whose hash is greater.
type BlockedKeys interface {
	BlockedKeys(ctx context.Context, hashes []pki.KeyHash) ([]pki.KeyHash, error)
	ListBlockedKeys(ctx context.Context, after pki.KeyHash, limit int) ([]revocation.BlockedKey, error)
}

// ClientCertificates adapts the authority and the universe to what auth.Authenticator asks about client certificates.
type ClientCertificates struct {
	Authority *ca.Authority
	Universe  *revocation.Universe
}

// IssuerCertificates implements auth.Issuers.
func (c ClientCertificates) IssuerCertificates(ctx context.Context) ([]*x509.Certificate, error) {
	return c.Authority.CertificatesInForce(ctx)
}

// CertificateStatus implements auth.Status.
func (c ClientCertificates) CertificateStatus(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (pki.Status, error) {
	answer, err := c.Universe.Lookup(ctx, issuer, serial)
	return answer.Status, err
}
