// Package store is the contract that both databases keep: the union of what the rooms of Signet ask for. Nobody but the
// wiring sees it whole; each room declares the few methods that it needs in its own store.go.
//
// Every method that changes something is one transaction, durable when it returns nil, and safe for concurrent use. An
// error may mean that the change happened all the same (the connection broke after COMMIT): whoever repeats must be
// able to recognise its own work. Errors are *pki.Error; an absent row is KindNotFound.
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

	// Ping asks whether the database answers and can be written. Of a disk without space for a few hundred kilobytes it says pki.ErrDiskFull,
	// within seconds: a disk that could be written is not tried again at once.
	Ping(ctx context.Context) error

	// Close gives back every connection and lock. Calls in flight end first.
	Close() error
}

// Audit is the log of every mutation and refusal. Events of mutations are written by the mutations themselves.
type Audit interface {
	// AppendAudit writes events that no mutation carries: refusals, failures, reads worth a trace. They are one batch;
	// none is no batch.
	AppendAudit(ctx context.Context, events []audit.Event) error

	// AuditEvents reads at most limit events (1 to 1,000) with Seq > after that match the filter, in order.
	AuditEvents(ctx context.Context, filter audit.Filter, after uint64, limit int) ([]audit.Event, error)

	// AuditBatches reads the log in the batches that it was written in, from the first whose events follow after (which
	// must be the end of a batch), with the recorded head after each: what audit.Chain verifies. It ends at the batch
	// that was last when the call began.
	AuditBatches(ctx context.Context, after uint64) iter.Seq2[audit.Batch, error]

	// AuditHead returns the end of the chain, to be kept elsewhere as a witness.
	AuditHead(ctx context.Context) (audit.Chain, error)
}

// OtherSchema says what to do when tables and functions are not those that the statements were written for.
const OtherSchema = "the schema is not the one this signet expects. `signet migrate --check` says whether it is older (then run `signet migrate`) or from another build. " +
	"If it finds nothing, somebody changed the tables: restore a backup."
