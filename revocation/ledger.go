package revocation

import (
	"context"
	"time"

	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Request asks for a change of one certificate's status.
type Request struct {
	Key
	Reason       pki.Reason // of Revoke and Import; ignored elsewhere
	InvalidityAt time.Time  // since when the key must be doubted (RFC 5280, Section 5.3.2); zero: not stated
}

// Receipt says that a change is durable and that this instance's universe has applied it.
type Receipt struct {
	Entry    Entry
	Repeated bool // the same change had been made before: Entry is that one
}

// LedgerConfig says what a Ledger writes to.
type LedgerConfig struct {
	Books    Books     // required
	Universe *Universe // required: answers wait for it

	// Public tells whether an issuer serves the public: reasons 1, 3, 4, 5 and 9 only, no hold. Required.
	Public func(pki.IssuerID) bool

	// Now is the clock that gives revocation dates. Zero: time.Now.
	Now func() time.Time

	// Queue bounds the requests that wait for a commit; more are refused with KindExhausted. Zero: 4,096.
	Queue int
}

// Ledger changes the status of certificates. Concurrent calls are committed as a group. It is safe for concurrent use.
type Ledger struct{ config LedgerConfig }

// NewLedger makes a ledger. Close ends it.
func NewLedger(config LedgerConfig) (*Ledger, error) { return &Ledger{config}, nil }

// Close refuses new requests and returns when those in flight are answered.
func (l *Ledger) Close() error { return nil }

// Revoke revokes a certificate. The grant is for auth.ActionRevoke and must cover the certificate's account. It returns
// when the revocation is durable and this instance's universe has applied it; a repetition with the same facts
// succeeds. Errors: KindNotFound, KindDenied, KindConflict (revoked before, otherwise: the error names the first),
// KindRefused (reason not allowed), KindExhausted, KindUnavailable (it may have happened: repeat).
func (l *Ledger) Revoke(ctx context.Context, grant auth.Grant, request Request) (Receipt, error) {
	return Receipt{}, nil
}

// ChangeReason changes the reason of a revoked certificate to keyCompromise, the only change there is.
func (l *Ledger) ChangeReason(ctx context.Context, grant auth.Grant, request Request) (Receipt, error) {
	return Receipt{}, nil
}

// Hold suspends a certificate.
func (l *Ledger) Hold(ctx context.Context, grant auth.Grant, request Request) (Receipt, error) {
	return Receipt{}, nil
}

// Release takes a certificate from hold.
func (l *Ledger) Release(ctx context.Context, grant auth.Grant, request Request) (Receipt, error) {
	return Receipt{}, nil
}

// Import revokes a serial that Signet did not issue: of another CA's time, or forged. The grant is for
// auth.ActionManage.
func (l *Ledger) Import(ctx context.Context, grant auth.Grant, request Request) (Receipt, error) {
	return Receipt{}, nil
}
