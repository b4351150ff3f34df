package approval

import (
	"context"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
)

// Bounds are how many pending requests there may be.
type Bounds struct {
	PerAccount int
	Total      int
}

// Decision moves a request on.
type Decision struct {
	ID      ca.ApprovalID
	From    State // it must be in this state and not expired; else KindFailedPrecondition
	To      State
	By      string
	Comment string
	Expires time.Duration // of an approved one, from now: how long the attempt to issue goes on
	Claim   time.Duration // of an approved one, from now: how long nobody else issues it
	Event   audit.Event
}

// Credentials keeps the credentials of requesters.
type Credentials interface {
	// Credential returns one, in use or not, or KindNotFound.
	Credential(ctx context.Context, name string) (auth.Credential, error)
}

// Store keeps applications. Every method that changes something is one transaction, with its audit event; times are the
// database's clock.
type Store interface {
	// File keeps a new application for a while (its ExpiresAt is set by it). It refuses more pending ones than the bounds
	// allow (KindExhausted), and a request id that the account used within 24 hours (KindConflict in field request_id).
	File(ctx context.Context, a Application, expires time.Duration, bounds Bounds, event audit.Event) (Application, error)
	// Application returns one, or KindNotFound.
	Application(ctx context.Context, id ca.ApprovalID) (Application, error)
	// Applications returns at most limit of those that the filter selects, newest first, with an id smaller than before
	// (zero: from the newest).
	Applications(ctx context.Context, filter Filter, before ca.ApprovalID, limit int) ([]Application, error)
	// Decide moves one on and returns it as it is then.
	Decide(ctx context.Context, d Decision) (Application, error)
	// Postpone keeps why an approved application could not be issued, and that nobody tries again for a while. It does nothing to one
	// that is not approved.
	Postpone(ctx context.Context, id ca.ApprovalID, delay string, pause time.Duration) error
	// Claim returns at most limit applications that are approved and that nobody issues, oldest first, and keeps others
	// from them for a while.
	Claim(ctx context.Context, claim time.Duration, limit int) ([]Application, error)
}

// Archive is where what ended stays for a while.
type Archive interface {
	// Forget removes at most limit applications that ended, or were decided, longer ago than keep, and says how many.
	Forget(ctx context.Context, keep time.Duration, limit int) (int, error)
}

// Waiting is what is open.
type Waiting struct {
	Pending  int
	Approved int       // and not issued yet
	Oldest   time.Time // when the oldest pending one was filed; zero: there is none
}

// Queue counts what is open, for operators.
type Queue interface {
	// WaitingRequests counts by the database's clock.
	WaitingRequests(ctx context.Context) (Waiting, error)
}
