package ca

import (
	"context"
	"sync"
	"time"

	"signet.example/signet/pki"
)

const (
	maxBatch   = 256  // entries in one transaction
	maxQueued  = 8192 // entries that wait for one
	recordTime = 30 * time.Second
)

// recorder commits many certificates in one transaction. It does not wait to fill a batch: entries that arrive during
// a transaction go into the next one. It is safe for concurrent use.
type recorder struct {
	store CertificateStore
	owner OwnerID

	mu      sync.Mutex
	queue   []*pending
	working bool // a goroutine drains the queue
}

// pending is an entry on its way. done is closed when outcome and err are set.
type pending struct {
	entry   Entry
	outcome Outcome
	err     error
	done    chan struct{}
}

// record records the entry and returns the outcome. After an error, such as the end of ctx, the certificate may be
// recorded or not, and must not be released.
func (r *recorder) record(ctx context.Context, entry Entry) (Outcome, error) {
	p := &pending{entry: entry, done: make(chan struct{})}
	r.mu.Lock()
	if len(r.queue) >= maxQueued {
		r.mu.Unlock()
		return OutcomeNone, pki.Errorf(pki.KindExhausted, "record certificate", "%d certificates wait to be recorded", maxQueued).WithHint("try again later")
	}
	r.queue = append(r.queue, p)
	if !r.working {
		r.working = true
		go r.drain()
	}
	r.mu.Unlock()
	select {
	case <-p.done:
		return p.outcome, p.err
	case <-ctx.Done():
		return OutcomeNone, &pki.Error{Kind: pki.KindUnavailable, Op: "record certificate", Err: ctx.Err()}
	}
}

func (r *recorder) drain() {
	for {
		r.mu.Lock()
		batch := r.nextBatch()
		if len(batch) == 0 {
			r.working = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		r.commit(batch)
	}
}

// nextBatch takes entries off the queue, in order, as long as no two have the same request id or approval: the database
// sees one of them first. r.mu is held.
func (r *recorder) nextBatch() []*pending {
	type request struct {
		account, id string
		approval    ApprovalID
	}
	seen := make(map[request]bool)
	n := 0
	for n < len(r.queue) && n < maxBatch {
		e := &r.queue[n].entry
		if e.RequestID != "" || !e.Approval.IsZero() {
			key := request{e.Account, e.RequestID, e.Approval}
			if seen[key] {
				break
			}
			seen[key] = true
		}
		n++
	}
	batch := r.queue[:n:n]
	r.queue = r.queue[n:]
	if len(r.queue) == 0 {
		r.queue = nil
	}
	return batch
}

func (r *recorder) commit(batch []*pending) {
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	entries := make([]Entry, len(batch))
	for i, p := range batch {
		entries[i] = p.entry
	}
	outcomes, err := r.store.Record(ctx, r.owner, entries)
	for i, p := range batch {
		if p.err = err; err == nil {
			p.outcome = outcomes[i]
		}
		close(p.done)
	}
}
