package crlserver

import (
	"context"
	"strings"
	"time"

	"signet.example/signet/pki"
)

const (
	mirrorTimeout = time.Minute // of one copy
	mirrorRest    = time.Minute // longest pause after failures
	mirrorLook    = time.Hour   // so often what is there is looked through
	removals      = 32          // at most, before what has changed meanwhile is copied
)

// mirrorState is what this process knows of a mirror. Publisher.mu guards it.
type mirrorState struct {
	copied  map[List]uint64 // the ledger sequence of the copies that this process made
	failure error           // the last one since everything was copied; nil: everything is, or nothing was tried
	since   time.Time       // when the first of these began
}

// failed notes an attempt that failed. Publisher.mu is held.
func (s *mirrorState) failed(began time.Time, err error) {
	if s.failure == nil {
		s.since = began
	}
	s.failure = err
}

// mirror copies lists to one place until ctx ends. What fails is tried again, less and less often; meanwhile newer lists
// take the place of those that waited.
func (p *Publisher) mirror(ctx context.Context, m Mirror, state *mirrorState) {
	done := make(map[List]uint64) // number of the copy
	var looked time.Time
	for failures := 0; ; {
		p.mu.RLock()
		changed := p.changed
		p.mu.RUnlock()
		if err := p.copyTo(ctx, m, done, state); err != nil && ctx.Err() == nil {
			failures++
			pause := min(mirrorRest, tick<<min(failures, 6))
			p.config.Log.Error("cannot copy lists", "to", m.String(), "error", err, "again", p.config.Now().Add(pause),
				"next", "what is published is served here all the same; see to the space, the permissions and the credentials there")
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			continue
		}
		failures = 0
		if now := p.config.Now(); now.Sub(looked).Abs() >= mirrorLook {
			if err := findCopies(ctx, m, done); err != nil && ctx.Err() == nil {
				p.config.Log.Warn("cannot look for copies of lists that are over", "in", m.String(), "error", err)
			}
			looked = now
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(tick):
		}
	}
}

// findCopies adds the lists that are in a mirror to those that were copied there by this process: whoever copied them may have ended
// before they were over.
func findCopies(ctx context.Context, m Mirror, done map[List]uint64) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	names, err := m.Names(ctx)
	for _, name := range names {
		list, err := ParseList(strings.TrimPrefix(name, "crl/"))
		if _, known := done[list]; err == nil && !known {
			done[list] = 0
		}
	}
	return err
}

// copyTo brings a mirror up to date. It goes on after a failure and returns the first of them. state is told how far each copy is, and of
// a failure at once: each may take its time.
func (p *Publisher) copyTo(ctx context.Context, m Mirror, done map[List]uint64, state *mirrorState) error {
	var waiting, over []List // what they are is seen when their turn comes: during an outage that is long after
	p.mu.RLock()
	for _, b := range p.issuers {
		for list, l := range b.lists {
			if done[list] < l.head.Number {
				waiting = append(waiting, list)
			}
		}
	}
	for list := range done {
		if p.over(list) {
			over = append(over, list)
		}
	}
	p.mu.RUnlock()
	var failed []error
	attempt := func(do func(ctx context.Context) error) bool {
		began := p.config.Now()
		attempt, cancel := context.WithTimeout(ctx, mirrorTimeout)
		defer cancel()
		err := do(attempt)
		if err != nil && ctx.Err() == nil {
			failed = append(failed, err)
			p.mu.Lock()
			state.failed(began, err)
			p.mu.Unlock()
		}
		return err == nil
	}
	for _, list := range waiting {
		document, head, ok := p.Document(list)
		if !ok {
			continue
		}
		if attempt(func(ctx context.Context) error { return m.Put(ctx, "crl/"+list.String(), document, head.Number) }) {
			p.mu.Lock()
			done[list], state.copied[list] = head.Number, head.Seq
			p.mu.Unlock()
		}
	}
	for _, list := range over[:min(len(over), removals)] {
		ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
		if err := m.Remove(ctx, "crl/"+list.String()); err != nil && ctx.Err() == nil { // no copy waits for that; it is found again
			p.config.Log.Warn("cannot remove the copy of a list that is over", "list", list.String(), "in", m.String(), "error", err)
		}
		cancel()
		delete(done, list)
		p.mu.Lock()
		delete(state.copied, list)
		p.mu.Unlock()
	}
	if len(failed) == 0 {
		p.mu.Lock()
		state.failure, state.since = nil, time.Time{}
		p.mu.Unlock()
	}
	return few(failed)
}

// over reports whether nobody needs a list any more: the week of its shard has passed, its last list has ended, and it is forgotten. Of
// an issuer that is not configured here nothing is known. Complete lists are never over. p.mu is held.
func (p *Publisher) over(list List) bool {
	b, known := p.issuers[list.Issuer]
	earliest, _ := p.config.Span() // no clock that is ahead removes what clients fetch
	if !known || b.issuer.Key == (pki.KeyHash{}) || !list.Sharded || !b.passed(list.Shard.Epoch, earliest.Add(-p.config.Validity)) {
		return false
	}
	_, served := b.lists[list]
	_, waiting := b.waiting[list]
	return !served && !waiting && b.anew[list].Number == 0
}
