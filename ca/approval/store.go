package approval

import (
	"context"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
)

// Bounds limits the number of pending requests.
type Bounds struct {
	PerAccount int
	Total      int
}

// Decision moves an application from one state to another.
type Decision struct {
	ID      ca.ApprovalID
	From    State // the application must be in this state and not expired; else KindFailedPrecondition
	To      State
	By      string
	Comment string
	Expires time.Duration // if To is Approved: how long from now attempts to issue go on
	Claim   time.Duration // if To is Approved: how long from now no other instance issues it
	Event   audit.Event
}

// Credentials reads the credentials of requesters.
type Credentials interface {
	// Credential returns a credential, enabled or disabled, or KindNotFound.
	Credential(ctx context.Context, name string) (auth.Credential, error)
}

// Store keeps applications. Every method that changes something runs one transaction, which includes its audit event.
// Times are of the database's clock.
type Store interface {
	// File keeps a new application and sets its ExpiresAt to expires from now. It refuses an application beyond the
	// bounds (KindExhausted), and a request id that the account used within the last 24 hours (KindConflict in field
	// request_id).
	File(ctx context.Context, a Application, expires time.Duration, bounds Bounds, event audit.Event) (Application, error)
	// Application returns one application, or KindNotFound.
	Application(ctx context.Context, id ca.ApprovalID) (Application, error)
	// Applications returns at most limit applications that the filter selects and whose id is smaller than before
	// (zero: from the newest), newest first.
	Applications(ctx context.Context, filter Filter, before ca.ApprovalID, limit int) ([]Application, error)
	// Decide applies the decision and returns the application as it is afterwards.
	Decide(ctx context.Context, d Decision) (Application, error)
	// Postpone records why an approved application could not be issued, and keeps every instance from trying again for
	// the length of pause, or until an issuer becomes active, by its first certificate or again. The end of a hold does
	// not end the pause. If the application's Pause is no longer that of tried, which is the application as it was
	// claimed, an issuer became active during the attempt, or another instance postponed it: then only delay is kept.
	// Postpone does nothing if the application is not approved.
	Postpone(ctx context.Context, tried *Application, delay string, pause time.Duration) error
	// Claim returns at most limit applications that are approved and not claimed, oldest first, and claims them: for
	// the length of claim it returns them to no other caller.
	Claim(ctx context.Context, claim time.Duration, limit int) ([]Application, error)
}

// Archive removes old applications.
type Archive interface {
	// Forget removes at most limit applications that ended, or were decided, longer ago than keep. It returns their
	// number.
	Forget(ctx context.Context, keep time.Duration, limit int) (int, error)
}

// Waiting counts the open applications.
type Waiting struct {
	Pending  int
	Approved int       // and not issued yet
	Oldest   time.Time // when the oldest pending application was filed; zero: none is pending
}

// Queue counts the open applications, for operators.
type Queue interface {
	// WaitingRequests returns the counts by the database's clock.
	WaitingRequests(ctx context.Context) (Waiting, error)
}
