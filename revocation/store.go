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

// ErrStale is returned by LedgerStore.AppendLedger when an entry's certificate has changed since Expected was read.
// Nothing was written: read and decide again.
var ErrStale = errors.New("the ledger has a newer entry for this certificate")

// LedgerReader is the ledger for readers. A reader that has applied every entry with Seq <= n and asks for those above
// n misses none: sequences become visible in order.
type LedgerReader interface {
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
	Seq    uint64 // unless Ranges: the new entries end here at most; UnknownSeq if that is not known
}

// UnknownSeq is the sequence of a wake-up that does not say what was appended.
const UnknownSeq = math.MaxUint64

// LedgerStore is the ledger for its writer.
type LedgerStore interface {
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

// RangeReader is what was issued, as package ca stores it. The Universe only reads it.
type RangeReader interface {
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

// KeyBlockStore stores blocked keys.
type KeyBlockStore interface {
	// BlockKey blocks both hashes and revokes all unexpired certificates with the key, of every issuer, in one
	// transaction that excludes the recording of certificates. If there are more than limit, it stores job, running, in
	// the same transaction instead. job.Principal is the actor of the key, the entries, the job and the audit event. A key
	// that is already blocked is swept again. If reading back what was appended costs a round trip, BlockKey returns the
	// first entries with Seq > after, in order, perhaps not all. ErrStale: try again.
	BlockKey(ctx context.Context, block KeyBlock, job Job, at time.Time, limit int, after uint64) (BlockReceipt, []Entry, error)

	// BlockedKeys returns those of the hashes that are blocked.
	BlockedKeys(ctx context.Context, hashes []pki.KeyHash) ([]pki.KeyHash, error)

	// ListBlockedKeys returns the first limit keys whose hash is greater, in the order of their hashes.
	ListBlockedKeys(ctx context.Context, after pki.KeyHash, limit int) ([]BlockedKey, error)
}

// JobStore keeps jobs.
type JobStore interface {
	// CreateJob stores a job, the certificates that it lists, the CA certificates among what it selects at this time,
	// and the audit event. It returns the job with their number and its time of creation by the database's clock, to
	// the microsecond.
	CreateJob(ctx context.Context, job Job, claims []Claim, at time.Time, event audit.Event) (Job, error)

	// MoveJob moves a job from one of the states in from to another, stores failure with it and returns it. If the job
	// is already in the other state, it is returned and nothing is written; if it is in none of them, the error is of
	// KindConflict.
	MoveJob(ctx context.Context, id JobID, from []JobState, to JobState, failure string, event audit.Event) (Job, error)

	// Jobs returns jobs, the newest first, at most limit (1 to 1,000), that follow the job after (zero: from the newest; one that is not
	// there: none).
	Jobs(ctx context.Context, filter JobFilter, after JobID, limit int) ([]Job, error)

	// Job returns one job.
	Job(ctx context.Context, id JobID) (Job, error)
}

// JobRunner counts what jobs select, and does it.
type JobRunner interface {
	// CountSelected counts what a selector selects, by shard. Of claims, which a selector of serials selects, it also
	// counts the unknown ones.
	CountSelected(ctx context.Context, selector Selector, claims []Claim, at time.Time) (Estimate, error)

	// StartJob counts the CA certificates that a planned job selects, including those recorded since it was planned,
	// and stores which they are. If their number is authorities, the job runs, with the audit event in the same
	// transaction. StartJob returns the job as it then stands. It leaves a job in another state as it is.
	StartJob(ctx context.Context, id JobID, authorities uint64, at time.Time, event audit.Event) (Job, error)

	// RunChunk does the next piece of a running job, at most limit certificates, and moves its cursor, in one
	// transaction. It does not revoke CA certificates that were recorded since they were counted, unless the job is
	// that of a blocked key. The runner then has the job for itself for a while. ErrStale: try again.
	RunChunk(ctx context.Context, job Job, runner InstanceID, limit int, at time.Time) (Chunk, error)

	// LeaveJobs releases the jobs of a runner that stops, so that another may go on at once. It waits for a chunk of
	// the runner that is under way. A chunk that comes later is done if no other runner has the job by then, and is
	// Busy otherwise.
	LeaveJobs(ctx context.Context, runner InstanceID) error
}

// ProgressStore stores what each product of each running instance has reached.
type ProgressStore interface {
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
