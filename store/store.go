// Package store is the contract of both databases: the union of the methods that the rooms of Signet need. Only the
// wiring uses it whole; each room declares the few methods that it needs in its own store.go.
//
// Every method that changes something is one transaction, durable when it returns nil, and safe for concurrent use. After
// an error the change may have happened all the same (the connection broke after COMMIT), so a caller that repeats must
// be able to recognise its own work. Errors are *pki.Error; an absent row is KindNotFound.
package store

import (
	"context"
	"iter"

	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/ca/profile/rollout"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/revocation"
)

// Store is a database of Signet: store/postgres for several instances, store/sqlite for one.
type Store interface {
	Audit
	auth.Store
	ca.IssuerStore
	ca.RangeStore
	ca.CertificateStore
	ca.Inventory
	approval.Store
	approval.Archive
	approval.Queue
	rollout.Store
	revocation.LedgerReader
	revocation.LedgerStore
	revocation.RangeReader
	revocation.KeyBlockStore
	revocation.JobStore
	revocation.JobRunner
	revocation.ProgressStore
	ocspserver.Responders
	crlserver.Publications
	crlserver.Bases
	crlserver.Imports
	Recovery

	// Ping checks that the database answers and can be written. If its disk has no space for a few hundred kilobytes,
	// the error is pki.ErrDiskFull, within seconds. After a successful write the disk is not tried again at once.
	Ping(ctx context.Context) error

	// Close releases every connection and lock. It waits for calls in flight.
	Close() error
}

// Audit is the log of every mutation and refusal. Events of mutations are written by the mutations themselves.
type Audit interface {
	// AppendAudit writes events that no mutation carries: refusals, failures, and reads worth recording. They are one
	// batch; without events it writes none.
	AppendAudit(ctx context.Context, events []audit.Event) error

	// AuditEvents reads at most limit events (1 to 1,000) with Seq > after that match the filter, in order.
	AuditEvents(ctx context.Context, filter audit.Filter, after uint64, limit int) ([]audit.Event, error)

	// AuditBatches reads the log in the batches in which it was written, each with the recorded head after it, as
	// audit.Chain verifies them. It begins with the first batch whose events follow after, which must be the end of a
	// batch, and ends at the batch that was last when the call began.
	AuditBatches(ctx context.Context, after uint64) iter.Seq2[audit.Batch, error]

	// AuditHead returns the end of the chain, to be kept elsewhere as a witness.
	AuditHead(ctx context.Context) (audit.Chain, error)
}

// OtherSchema is the hint for a database whose tables and functions are not those that the statements were written for.
const OtherSchema = "the schema is not the one this signet expects. `signet migrate --check` says whether it is older (then run `signet migrate`) or from another build. " +
	"If it finds nothing, somebody changed the tables: restore a backup."
