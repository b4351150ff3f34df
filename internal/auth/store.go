package auth

import (
	"context"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// Store stores credentials. Completed changes are durable. Each change and its audit event are one transaction.
type Store interface {
	// CreateCredential creates a credential. It refuses (KindConflict) a name that was ever used, and a certificate
	// that another credential in use is bound to.
	CreateCredential(ctx context.Context, credential Credential, event audit.Event) error
	// DisableCredential disables a credential and returns it. One that is already disabled is returned unchanged,
	// without an event. The error is KindNotFound if there is none.
	DisableCredential(ctx context.Context, name string, at time.Time, event audit.Event) (Credential, error)
	// Credential returns one credential. The error is KindNotFound if there is none.
	Credential(ctx context.Context, name string) (Credential, error)
	// Credentials returns at most limit credentials whose names come after a name, in the order of their octets.
	Credentials(ctx context.Context, after string, limit int) ([]Credential, error)
	// TokenCredential returns the credential of a token, usable or not. The error is KindNotFound if there is none.
	TokenCredential(ctx context.Context, digest Digest) (Credential, error)
	// CertificateCredentials returns every credential that is bound to a certificate of the issuer with this key or one
	// of these names, usable or not.
	CertificateCredentials(ctx context.Context, issuer pki.IssuerID, key pki.KeyHash, names []pki.Identifier) ([]Credential, error)
}
