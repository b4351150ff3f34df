package crlserver

import (
	"bytes"
	"context"
	"maps"
	"slices"
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

// mirrorState is what this process knows of a mirror. Publisher.mu guards the first part; the other is of the goroutine that copies.
type mirrorState struct {
	copied  map[List]uint64 // the ledger sequence of the copies that this process made
	failure error           // the last one since everything was copied; nil: everything is, or nothing was tried
	since   time.Time       // when the first of these began

	done      map[List]uint64         // what is there: number of the copy, 0 if another process made it
	indexed   map[pki.IssuerID][]byte // the index by done, when one was last stored
	unindexed bool                    // done has changed since, or storing one failed
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
	var looked time.Time
	for failures := 0; ; {
		p.mu.RLock()
		changed := p.changed
		p.mu.RUnlock()
		if err := p.copyTo(ctx, m, state); err != nil && ctx.Err() == nil {
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
			if err := state.findCopies(ctx, m); err != nil && ctx.Err() == nil {
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
// before they were over, or before the index was right.
func (s *mirrorState) findCopies(ctx context.Context, m Mirror) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	names, err := m.Names(ctx)
	for _, list := range listsNamed(names) {
		if _, known := s.done[list]; !known {
			s.done[list] = 0
		}
	}
	clear(s.indexed)
	s.unindexed = true
	return err
}

// listsNamed are the lists among what is in a mirror.
func listsNamed(names []string) (lists []List) {
	for _, name := range names {
		if list, err := ParseList(strings.TrimPrefix(name, "crl/")); err == nil {
			lists = append(lists, list)
		}
	}
	return lists
}

// copyTo brings a mirror up to date: what is new, then the indexes that name it and no more what is over, which goes last. It goes on after
// a failure and returns the first of them. state is told how far each copy is, and of a failure at once: each may take its time.
func (p *Publisher) copyTo(ctx context.Context, m Mirror, state *mirrorState) error {
	done := state.done
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
	if len(waiting)+len(over) > 0 {
		state.unindexed = true
	}
	if state.unindexed && !p.copyIndexes(m, state, attempt) {
		over = nil // what an index names stays
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

// copyIndexes stores the indexes of all issuers, where they are to be others than before, and reports whether none failed.
func (p *Publisher) copyIndexes(m Mirror, state *mirrorState, attempt func(func(context.Context) error) bool) bool {
	var issuers []pki.IssuerID
	p.mu.RLock()
	for id, b := range p.issuers {
		if b.issuer.Key != (pki.KeyHash{}) {
			issuers = append(issuers, id)
		}
	}
	p.mu.RUnlock()
	state.unindexed = false
	for _, issuer := range issuers {
		want, err := p.indexOf(issuer, slices.Collect(maps.Keys(state.done)))
		if err == nil && bytes.Equal(want, state.indexed[issuer]) {
			continue
		}
		if attempt(func(ctx context.Context) error {
			return m.PutIndex(ctx, "crl/"+issuer.String()+"/index.json", func(names []string) ([]byte, error) { return p.indexOf(issuer, listsNamed(names)) })
		}) {
			state.indexed[issuer] = want
		} else {
			state.unindexed = true
		}
	}
	return !state.unindexed
}

// indexOf is the index of an issuer at a place that has these lists: of them, the shards of the issuer that are not over. Another process may
// have brought some of which this one has not heard.
func (p *Publisher) indexOf(issuer pki.IssuerID, lists []List) ([]byte, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	b, urls := p.issuers[issuer], []string{}
	for _, list := range lists {
		if list.Issuer == issuer && list.Sharded && !p.over(list) {
			urls = append(urls, b.indexed(list))
		}
	}
	return encodeIndex(urls)
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
