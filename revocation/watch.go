package revocation

import (
	"context"
	"slices"
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
	// C receives when Take may have something to return; one pending wake-up stands for any number.
	C <-chan struct{}

	universe *Universe
	wake     chan<- struct{}
	seq      uint64 // told so far
	made     int    // how many of Universe.made are told
	gone     int    // how many of Universe.gone are told
}

// Change is what a Watch reports: everything between two prefixes of the ledger.
type Change struct {
	After   uint64  // the prefix before
	Seq     uint64  // the prefix after
	Entries []Entry // those with After < Seq of the entry <= Seq of the change, in order, of every issuer
	Made    []Scope // shards that came to exist, each reported once
	Gone    []Scope // shards whose week passed: they are no longer published
}

// Watch begins to watch after a prefix of the ledger that the publisher has; 0 reports everything. Shards that already
// exist or have passed are not reported.
func (u *Universe) Watch(after uint64) *Watch {
	wake := make(chan struct{}, 1)
	u.mu.Lock()
	defer u.mu.Unlock()
	w := &Watch{C: wake, universe: u, wake: wake, seq: after, made: len(u.made), gone: len(u.gone)}
	u.watches[w] = true
	if after < u.seq {
		wake <- struct{}{}
	}
	return w
}

// Take returns what happened since the last Take, at most 10,000 entries at once; if there is more, C is ready again.
// If nothing happened, Seq is After and the rest is empty. If Take fails, the next one returns the same.
func (w *Watch) Take(ctx context.Context) (Change, error) {
	u := w.universe
	u.mu.RLock()
	upTo := u.seq
	change := Change{After: w.seq, Seq: max(w.seq, upTo)}
	inMemory := w.seq >= u.recentOf
	if inMemory {
		change.Entries = u.recentAfter(w.seq)
	}
	change.Made, change.Gone = slices.Clone(u.made[w.made:]), slices.Clone(u.gone[w.gone:])
	u.mu.RUnlock()
	if !inMemory {
		entries, err := u.config.Log.LedgerEntries(ctx, w.seq, readSize)
		if err != nil {
			return Change{}, err
		}
		end, _ := slices.BinarySearchFunc(entries, upTo+1, bySeq)
		change.Entries = entries[:end]
	}
	if len(change.Entries) == readSize {
		change.Seq = change.Entries[readSize-1].Seq
	}
	w.seq, w.made, w.gone = change.Seq, w.made+len(change.Made), w.gone+len(change.Gone)
	if change.Seq < upTo {
		w.signal()
	}
	return change, nil
}

// Close ends the watch.
func (w *Watch) Close() {
	w.universe.mu.Lock()
	defer w.universe.mu.Unlock()
	delete(w.universe.watches, w)
}

func (w *Watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // one is pending
	}
}

// wakeWatches wakes every watch. Universe.mu is held.
func (u *Universe) wakeWatches() {
	for w := range u.watches {
		w.signal()
	}
}

// recentAfter returns the first entries kept in memory with Seq > after, at most readSize. Universe.mu is held, and after is not
// before recentOf.
func (u *Universe) recentAfter(after uint64) []Entry {
	begin, _ := slices.BinarySearchFunc(u.recent, after+1, bySeq)
	return slices.Clone(u.recent[begin:min(begin+readSize, len(u.recent))])
}

func bySeq(e Entry, seq uint64) int {
	if e.Seq < seq {
		return -1
	}
	if e.Seq > seq {
		return 1
	}
	return 0
}
