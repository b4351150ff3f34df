package revocation

import (
	"context"
	"errors"
	"iter"
	"math"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// ErrStale is returned by Books.AppendLedger when an entry's certificate has changed since Expected was read: nothing
// was written; read again and decide again.
var ErrStale = errors.New("the ledger has a newer entry for this certificate")

// Log is the ledger as readers see it. A reader that has applied every entry with Seq <= n and asks for those above n
// misses none: sequences become visible in order.
type Log interface {
	// LedgerHead returns the last sequence, 0 if the ledger is empty.
	LedgerHead(ctx context.Context) (uint64, error)

	// LedgerEntries returns the first entries with Seq > after, in order, at most limit.
	LedgerEntries(ctx context.Context, after uint64, limit int) ([]Entry, error)

	// LedgerScope yields the entries of a scope with after < Seq <= upTo, in order. An error ends it.
	LedgerScope(ctx context.Context, scope Scope, after, upTo uint64) iter.Seq2[Entry, error]

	// LedgerLoad yields every entry with Seq <= upTo that is foreign, or whose epoch is at least from; no KindRestore. The foreign
	// ones come first, issuer by issuer, and then shard by shard. Entries of one certificate come in order; entries of different ones need not. An error ends it.
	LedgerLoad(ctx context.Context, from pki.Epoch, upTo uint64) iter.Seq2[Entry, error]

	// ListenLedger calls wake when it has begun to listen, with ranges, and then after any instance may have appended entries or
	// reserved or closed ranges; wake must not block. It returns when ctx ends or the connection breaks.
	ListenLedger(ctx context.Context, wake func(WakeUp)) error
}

// WakeUp says what may be new.
type WakeUp struct {
	Ranges bool   // ranges, and entries with them
	Seq    uint64 // unless Ranges: entries up to here at most that were appended before; Everything if that is not known
}

// Everything is the sequence of a wake-up that does not say what was appended.
const Everything = math.MaxUint64

// Books is the ledger as its writer sees it.
type Books interface {
	// CertificateFacts returns what decides about a change of each certificate, in the order asked, at most 10,000.
	CertificateFacts(ctx context.Context, claims []Claim) ([]Facts, error)

	// AppendLedger adds entries (at most 10,000, no two of one certificate) and audit events in one transaction, and
	// wakes the listeners. It returns the sequence of the last entry; they are consecutive, in the order given. An
	// entry that is not the successor of its Expected gives ErrStale: read says that every Expected takes the ledger up to there into
	// account, so that only what came afterwards is looked at; 0 promises nothing.
	AppendLedger(ctx context.Context, read uint64, entries []NewEntry, events []audit.Event) (last uint64, err error)
}

// NewEntry is an entry to be appended. The database sets Seq and RecordedAt.
type NewEntry struct {
	Entry
	Expected uint64 // sequence of the last entry of the certificate, 0: none
}

// Facts is what the books say of one certificate.
type Facts struct {
	Recorded bool      // a certificate of this serial is recorded; the next two follow from it
	NotAfter time.Time //
	Account  string    //
	Last     Entry     // the last entry of the ledger; Last.Seq is 0 if there is none
}

// Ranges is what was issued, as the ca keeps it. The universe reads it and never writes.
type Ranges interface {
	// IssuerKeys returns every issuer.
	IssuerKeys(ctx context.Context) ([]IssuerKey, error)

	// ChangedRanges yields the ranges of epochs from the given one on that were reserved or changed state after since,
	// by the database's clock, less what a transaction may take to commit: a range may come again. The zero time asks
	// for all. An error ends it.
	ChangedRanges(ctx context.Context, from pki.Epoch, since time.Time) iter.Seq2[Range, error]

	// LookUpSerials asks for certificates of open or unknown ranges: for each position the range that holds it now, if
	// any, and the serial recorded there, if any; in the order asked, at most 10,000.
	LookUpSerials(ctx context.Context, issuer pki.IssuerID, positions []pki.Position) ([]Recorded, error)
}

// IssuerKey tells the universe about an issuer.
type IssuerKey struct {
	Key     pki.KeyHash
	Foreign bool // it signed outside the scheme of dense serials
	Public  bool // it serves the public: five reasons, no hold

	// Retention is how long its certificates are answered for after their week has passed.
	Retention pki.Retention
}

// RangeState is where a range of indices stands. Zero is no state.
type RangeState uint8

// The states, with the numbers that are stored.
const (
	RangeNone   RangeState = iota
	RangeOpen              // somebody issues from it
	RangeClosed            // every index is recorded or void
	RangeFree              // reserved before, given back unsigned; nothing of it exists
	RangeLost              // skipped by a restore, or when the base URL changed; treated as never issued
)

// Range is a run of reserved indices [From, To) of one issuer and epoch. Ranges of one epoch do not overlap; where two
// readings do, the one with the later At holds.
type Range struct {
	Issuer pki.IssuerID
	Epoch  pki.Epoch
	From   uint64
	To     uint64
	State  RangeState
	Key    pki.RangeKey // of RangeClosed
	At     time.Time    // of the last change of state, by the database's clock
}

// Recorded is the answer of LookUpSerials for one position.
type Recorded struct {
	Range    Range // State is RangeNone if no range holds the position
	Recorded bool
	Serial   pki.Serial
}

// Progress keeps what each product of each running instance has reached.
type Progress interface {
	// ReportProgress stores what the products of an instance have reached, by name, and the time.
	ReportProgress(ctx context.Context, instance InstanceID, reached map[string]uint64) error

	// ReadProgress returns the reports that are at most maxAge old, by the database's clock.
	ReadProgress(ctx context.Context, maxAge time.Duration) ([]ProductProgress, error)

	// ForgetProgress removes the reports of an instance that stops, so that nobody waits for it, and reports older than
	// a day.
	ForgetProgress(ctx context.Context, instance InstanceID) error
}

// InstanceID names a running process: 16 octets drawn at start.
type InstanceID [16]byte

// ProductProgress is one report.
type ProductProgress struct {
	Instance InstanceID
	Product  string // see BoardConfig
	Seq      uint64
	At       time.Time
}
