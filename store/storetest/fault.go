package storetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/profile/rollout"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// Fault is how a mutation fails. Faults come in pairs: a caller cannot tell the two apart, and must be right in both.
type Fault uint8

// The faults.
const (
	NoFault    Fault = iota
	FailBefore       // the connection broke before COMMIT: nothing happened
	FailAfter        // it broke after COMMIT: it happened, and the caller is told that it did not
)

// Faults are both of the pair.
var Faults = []Fault{FailBefore, FailAfter}

// String names the fault.
func (f Fault) String() string {
	return [...]string{"no fault", "failed before it happened", "failed and happened"}[f]
}

// ErrFault is the cause of every error made here.
var ErrFault = errors.New("failed on purpose")

// Faulty is a store whose mutations fail on demand, with the real database behind it. It is safe for concurrent use.
type Faulty struct {
	store.Store

	mu   sync.Mutex
	next map[string]Fault // guarded by mu
}

// Fail makes the next call of a mutation fail: "AppendLedger", "Record", ...
func (f *Faulty) Fail(method string, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == nil {
		f.next = map[string]Fault{}
	}
	f.next[method] = fault
}

// Pending reports whether a fault was asked for that no call has met yet: then a test tests nothing.
func (f *Faulty) Pending() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.next) > 0
}

func (f *Faulty) take(method string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault := f.next[method]
	delete(f.next, method)
	return fault
}

// faulty runs a mutation under the fault that is due.
func faulty[T any](f *Faulty, method string, do func() (T, error)) (T, error) {
	var none T
	fault := f.take(method)
	broken := &pki.Error{Kind: pki.KindUnavailable, Op: method, Err: ErrFault}
	if fault == FailBefore {
		return none, broken
	}
	value, err := do()
	if err == nil && fault == FailAfter {
		return none, broken
	}
	return value, err
}

// faultyOnly is faulty for mutations that return nothing else.
func faultyOnly(f *Faulty, method string, do func() error) error {
	_, err := faulty(f, method, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// AppendAudit implements store.Audit.
func (f *Faulty) AppendAudit(ctx context.Context, events []audit.Event) error {
	return faultyOnly(f, "AppendAudit", func() error { return f.Store.AppendAudit(ctx, events) })
}

// AppendLedger implements revocation.LedgerStore.
func (f *Faulty) AppendLedger(ctx context.Context, read uint64, entries []revocation.NewEntry, events []audit.Event) (uint64, error) {
	return faulty(f, "AppendLedger", func() (uint64, error) { return f.Store.AppendLedger(ctx, read, entries, events) })
}

// BlockKey implements revocation.KeyBlockStore.
func (f *Faulty) BlockKey(ctx context.Context, block revocation.KeyBlock, job revocation.Job, at time.Time, limit int, after uint64) (receipt revocation.BlockReceipt, news []revocation.Entry, err error) {
	receipt, err = faulty(f, "BlockKey", func() (revocation.BlockReceipt, error) {
		receipt, news, err = f.Store.BlockKey(ctx, block, job, at, limit, after)
		return receipt, err
	})
	return receipt, news, err
}

// CreateJob implements revocation.JobStore.
func (f *Faulty) CreateJob(ctx context.Context, job revocation.Job, claims []revocation.Claim, at time.Time, event audit.Event) (revocation.Job, error) {
	return faulty(f, "CreateJob", func() (revocation.Job, error) { return f.Store.CreateJob(ctx, job, claims, at, event) })
}

// StartJob implements revocation.JobRunner.
func (f *Faulty) StartJob(ctx context.Context, id revocation.JobID, authorities uint64, at time.Time, event audit.Event) (revocation.Job, error) {
	return faulty(f, "StartJob", func() (revocation.Job, error) { return f.Store.StartJob(ctx, id, authorities, at, event) })
}

// MoveJob implements revocation.JobStore.
func (f *Faulty) MoveJob(ctx context.Context, id revocation.JobID, from []revocation.JobState, to revocation.JobState, failure string, event audit.Event) (revocation.Job, error) {
	return faulty(f, "MoveJob", func() (revocation.Job, error) { return f.Store.MoveJob(ctx, id, from, to, failure, event) })
}

// RunChunk implements revocation.JobRunner.
func (f *Faulty) RunChunk(ctx context.Context, job revocation.Job, runner revocation.InstanceID, limit int, at time.Time) (revocation.Chunk, error) {
	return faulty(f, "RunChunk", func() (revocation.Chunk, error) { return f.Store.RunChunk(ctx, job, runner, limit, at) })
}

// Reserve implements ca.RangeStore.
func (f *Faulty) Reserve(ctx context.Context, r ca.Reservation) (ca.Range, error) {
	return faulty(f, "Reserve", func() (ca.Range, error) { return f.Store.Reserve(ctx, r) })
}

// CloseRange implements ca.RangeStore.
func (f *Faulty) CloseRange(ctx context.Context, c ca.Closing) (int, error) {
	return faulty(f, "CloseRange", func() (int, error) { return f.Store.CloseRange(ctx, c) })
}

// Record implements ca.CertificateStore.
func (f *Faulty) Record(ctx context.Context, owner ca.OwnerID, entries []ca.Entry) ([]ca.Outcome, error) {
	return faulty(f, "Record", func() ([]ca.Outcome, error) { return f.Store.Record(ctx, owner, entries) })
}

// ReportProfiles implements rollout.Store.
func (f *Faulty) ReportProfiles(ctx context.Context, report rollout.Instance, ask bool, events []audit.Event) (uint64, error) {
	return faulty(f, "ReportProfiles", func() (uint64, error) { return f.Store.ReportProfiles(ctx, report, ask, events) })
}
