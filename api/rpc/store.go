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

// AuditLog is the log as the API reads it, and where it records refusals.
type AuditLog interface {
	AppendAudit(ctx context.Context, events []audit.Event) error
	AuditEvents(ctx context.Context, filter audit.Filter, after uint64, limit int) ([]audit.Event, error)
	AuditBatches(ctx context.Context, after uint64) iter.Seq2[audit.Batch, error]
}

// CRLs returns published lists, and publishes lists signed elsewhere.
type CRLs interface {
	// CRL returns the complete list or that of a shard. The error is KindNotFound if there is no such list.
	CRL(ctx context.Context, scope revocation.Scope) ([]byte, error)
	// ImportCRL publishes the complete list of an off-line issuer. Everything revoked must be on it, unless it is among
	// expired. The grant must allow auth.ActionManage.
	ImportCRL(ctx context.Context, grant auth.Grant, issuer pki.IssuerID, der []byte, expired []pki.Serial) (ImportedCRL, error)
	// OfflineStatus returns what the published list of an off-line issuer says about a serial.
	OfflineStatus(issuer pki.IssuerID, serial pki.Serial) OfflineStatus
}

// Adoptions adopts CAs that signed lists elsewhere.
type Adoptions interface {
	// AdoptIssuer adopts a CA with its key and its last list. Everything that the list revokes or holds is in the
	// ledger, and on every list of the issuer, before anything is published for it under larger numbers. After a
	// failure, repeating the call continues. The grant must allow auth.ActionManage.
	AdoptIssuer(ctx context.Context, grant auth.Grant, adoption ca.Adoption, last []byte) (ca.Issuer, error)
}

// OfflineStatus is what the list of an off-line issuer says about a certificate. The zero value says nothing.
type OfflineStatus struct {
	Number     uint64 // of the list; 0: there is none
	NextUpdate time.Time
	Revoked    bool
}

// ImportedCRL is an imported list.
type ImportedCRL struct {
	Number     uint64
	ThisUpdate time.Time
	NextUpdate time.Time
	Revoked    int
	Sum        [sha256.Size]byte
	URL        string // the URL at which it is served
}

// Publication waits until every product of every live instance that includes entries of some issuers (nil: all) has
// reached a sequence, and returns when that was.
type Publication interface {
	AwaitPublished(ctx context.Context, issuers []pki.IssuerID, seq uint64) (time.Time, error)
}

// BlockedKeys returns the hashes that are blocked, and lists the first keys whose hash is greater.
type BlockedKeys interface {
	BlockedKeys(ctx context.Context, hashes []pki.KeyHash) ([]pki.KeyHash, error)
	ListBlockedKeys(ctx context.Context, after pki.KeyHash, limit int) ([]revocation.BlockedKey, error)
}

// ClientCertificates gives auth.Authenticator the facts about client certificates, from the authority and the universe.
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
