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

// ErrStale is returned by Books.AppendLedger when an entry's certificate has changed since Expected was read. Nothing
// was written: read and decide again.
var ErrStale = errors.New("the ledger has a newer entry for this certificate")

// Log is the ledger for readers. A reader that has applied every entry with Seq <= n and asks for those above n misses
// none: sequences become visible in order.
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

	// ListenLedger calls wake when it has begun to listen, with Ranges set, and then whenever any instance may have
	// appended entries or reserved or closed ranges. wake must not block. ListenLedger returns when ctx ends or the
	// connection breaks.
	ListenLedger(ctx context.Context, wake func(WakeUp)) error
}

// WakeUp says what may be new.
type WakeUp struct {
	Ranges bool   // ranges, and entries with them
	Seq    uint64 // unless Ranges: the new entries end here at most; Everything if that is not known
}

// Everything is the sequence of a wake-up that does not say what was appended.
const Everything = math.MaxUint64

// Books is the ledger for its writer.
type Books interface {
	// CertificateFacts returns what decides about a change of each certificate, at most 10,000, in the order of claims.
	CertificateFacts(ctx context.Context, claims []Claim) ([]Facts, error)

	// AppendLedger adds entries (at most 10,000, no two of one certificate) and audit events in one transaction, and
	// wakes the listeners. The entries get consecutive sequences, in the order given, and AppendLedger returns the
	// last. ErrStale: an entry is not the successor of its Expected. read says that every Expected takes the ledger up
	// to there into account, so that only later entries are compared; 0 compares all.
	AppendLedger(ctx context.Context, read uint64, entries []NewEntry, events []audit.Event) (last uint64, err error)
}

// NewEntry is an entry to be appended. The database sets Seq and RecordedAt.
type NewEntry struct {
	Entry
	Expected uint64 // sequence of the last entry of the certificate, 0: none
}

// Facts is what is stored about one certificate.
type Facts struct {
	Recorded bool      // a certificate of this serial is recorded; the next two follow from it
	NotAfter time.Time //
	Account  string    //
	Last     Entry     // the last entry of the ledger; Last.Seq is 0 if there is none
}

// Ranges is what was issued, as package ca stores it. The Universe only reads it.
type Ranges interface {
	// IssuerKeys returns every issuer.
	IssuerKeys(ctx context.Context) ([]IssuerKey, error)

	// ChangedRanges yields the ranges of epochs from the given one on that were reserved or changed state after since,
	// by the database's clock. It looks back by as much as a transaction may take to commit, so a range may come again.
	// The zero time asks for all. An error ends it.
	ChangedRanges(ctx context.Context, from pki.Epoch, since time.Time) iter.Seq2[Range, error]

	// LookUpSerials looks up certificates of open or unknown ranges: for each position, at most 10,000, it returns, in
	// the order asked, the range that now holds it and the serial recorded there, if any.
	LookUpSerials(ctx context.Context, issuer pki.IssuerID, positions []pki.Position) ([]Recorded, error)
}

// IssuerKey describes an issuer to the Universe.
type IssuerKey struct {
	Key     pki.KeyHash
	Foreign bool // it signed outside the scheme of dense serials
	Public  bool // a public CA: five reasons, no hold

	// Retention is how long the issuer answers for its certificates after their week has passed.
	Retention pki.Retention
}

// RangeState is the state of a range of indices. Zero is no state.
type RangeState uint8

// The states, with the numbers that are stored.
const (
	RangeNone   RangeState = iota
	RangeOpen              // an instance issues from it
	RangeClosed            // every index is recorded or void
	RangeFree              // reserved earlier and given back unsigned; no certificate of it exists
	RangeLost              // skipped by a restore, or when the base URL changed; treated as never issued
)

// Range is a run of reserved indices [From, To) of one issuer and epoch. Ranges of one epoch do not overlap; if two
// that were read do, the one with the later At is right.
type Range struct {
	Issuer pki.IssuerID
	Epoch  pki.Epoch
	From   uint64
	To     uint64
	State  RangeState
	Key    pki.RangeKey // of RangeClosed
	At     time.Time    // of the last change of state, by the database's clock
}

// Recorded is the result of LookUpSerials for one position.
type Recorded struct {
	Range    Range // State is RangeNone if no range holds the position
	Recorded bool
	Serial   pki.Serial
}

// Progress stores what each product of each running instance has reached.
type Progress interface {
	// ReportProgress stores what the products of an instance have reached, by name, and the time.
	ReportProgress(ctx context.Context, instance InstanceID, reached map[string]uint64) error

	// ReadProgress returns the reports that are at most maxAge old, by the database's clock.
	ReadProgress(ctx context.Context, maxAge time.Duration) ([]ProductProgress, error)

	// ForgetProgress removes the reports of an instance that stops, so that AwaitPublished does not wait for it, and
	// all reports older than a day.
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
