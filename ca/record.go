package ca

import (
	"context"
	"sync"
	"time"

	"signet.example/signet/pki"
)

const (
	maxBatch   = 256                  // entries in one transaction
	maxQueued  = 8192                 // entries that wait for one
	maxCompany = 2 * time.Millisecond // how long an entry waits for others that are on their way
	recordTime = 30 * time.Second
)

// recorder commits many certificates in one transaction. Whoever comes while a transaction is under way is in the next
// one, and that one waits until as many are there as are still being checked and signed: a transaction has its price
// whatever it holds, and half of everybody is company enough for one half to commit while the other computes. Who is alone
// waits for nobody.
type recorder struct {
	store CertificateStore
	owner OwnerID

	mu      sync.Mutex
	queue   []*pending
	coming  int           // expected certificates that are not in the queue yet
	working bool          // somebody drains the queue
	enough  chan struct{} // closed when whoever drains need not wait any longer; nil: it does not wait
}

// pending is an entry on its way. done is closed when outcome and err are set.
type pending struct {
	entry   Entry
	outcome Outcome
	err     error
	done    chan struct{}
}

// expected is a certificate that is being made.
type expected struct {
	recorder *recorder
	over     bool // it came, or will not; guarded by recorder.mu
}

// expect announces a certificate. The caller calls end in any case.
func (r *recorder) expect() *expected {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.coming++
	return &expected{recorder: r}
}

// end says that nobody need wait for the certificate.
func (e *expected) end() {
	e.recorder.mu.Lock()
	defer e.recorder.mu.Unlock()
	e.arrived()
}

// arrived is end for whoever holds recorder.mu.
func (e *expected) arrived() {
	r := e.recorder
	if !e.over {
		e.over = true
		r.coming--
	}
	if r.enough != nil && !r.short() {
		close(r.enough)
		r.enough = nil
	}
}

// short reports whether the next batch would gain by waiting. r.mu is held.
func (r *recorder) short() bool { return len(r.queue) < min(r.coming, maxBatch) }

// record returns what became of the entry. When the context ends first, or on any other error, the certificate may be
// recorded or not; it must not be released.
func (r *recorder) record(ctx context.Context, e *expected, entry Entry) (Outcome, error) {
	p := &pending{entry: entry, done: make(chan struct{})}
	r.mu.Lock()
	if len(r.queue) >= maxQueued {
		r.mu.Unlock()
		return OutcomeNone, pki.Errorf(pki.KindExhausted, "record certificate", "%d certificates wait to be recorded", maxQueued).WithHint("try again later")
	}
	r.queue = append(r.queue, p)
	e.arrived()
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
		r.awaitCompany()
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

// awaitCompany returns when the batch is large enough, or has waited for long enough.
func (r *recorder) awaitCompany() {
	r.mu.Lock()
	if len(r.queue) == 0 || !r.short() {
		r.mu.Unlock()
		return
	}
	enough := make(chan struct{})
	r.enough = enough
	r.mu.Unlock()
	late := time.NewTimer(maxCompany)
	defer late.Stop()
	select {
	case <-enough:
		return
	case <-late.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enough = nil
}

// nextBatch takes entries off the queue, in order, as long as no two have the same request id: the database sees one
// of them first. r.mu is held.
func (r *recorder) nextBatch() []*pending {
	type request struct{ account, id string }
	seen := make(map[request]bool)
	n := 0
	for n < len(r.queue) && n < maxBatch {
		e := &r.queue[n].entry
		if e.RequestID != "" {
			key := request{e.Account, e.RequestID}
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
