package revocation

import (
	"context"

	"signet.example/signet/pki"
)

// Watch tells a publisher what happened since it last asked. Use it from one goroutine:
//
//	watch := universe.Watch(after)
//	defer watch.Close()
//	for {
//		select {
//		case <-watch.C: // something may have happened
//		case <-periodic:
//		}
//		change, err := watch.Take(ctx)
//		...
//	}
type Watch struct {
	// C receives after there may be something to take; one pending wake-up stands for any number.
	C <-chan struct{}
}

// Change is what a Watch has to tell: everything between two prefixes of the ledger.
type Change struct {
	After   uint64             // the prefix before
	Seq     uint64             // the prefix after
	Entries []Entry            // After < Seq <= Change.Seq, in order, of every issuer
	Shards  []Scope            // shards that came to exist, each told once
	Passed  map[pki.Epoch]bool // weeks that passed: their shards are no longer published
}

// Watch begins to watch after a prefix of the ledger: 0 tells everything. Shards that exist are not told.
func (u *Universe) Watch(after uint64) *Watch { return &Watch{C: make(chan struct{})} }

// Take returns what happened since the last Take, at most 50,000 entries at once; if there is more, C is ready again.
// It is empty (Seq == After) if nothing did.
func (w *Watch) Take(ctx context.Context) (Change, error) { return Change{}, nil }

// Close ends the watch.
func (w *Watch) Close() {}
