package crlserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"signet.example/signet/pki"
)

const (
	mirrorTimeout = time.Minute // of one copy
	mirrorRest    = time.Minute // longest pause after failures
	mirrorLook    = time.Hour   // between two searches of a mirror for lists that are over
	removals      = 32          // lists removed in one round, so that copies do not wait long
)

// mirrorState is what this process knows about a mirror. Publisher.mu guards the first part. The second belongs to the
// goroutine that copies.
type mirrorState struct {
	copied  map[List]uint64 // the ledger sequence of the copies that this process made
	lists   trouble         // with copying lists
	indexes trouble         // with storing indexes

	done      map[List]placed       // the lists in the mirror
	unindexed map[pki.IssuerID]bool // issuers whose index must be stored, because their lists or the URLs of these changed
	unnamed   []List                // lists to remove: they are over, and no index names them, or there is no room for the index
	missed    int                   // failures in a row to store an index
	tried     time.Time             // when the last of these was
}

// placed is the copy of a list.
type placed struct {
	number uint64 // 0 if another process made it
	url    string // by which an index names it; empty if another process made the copy
}

// trouble records the failures of a mirror.
type trouble struct {
	failure error     // the last since everything was copied; nil: none
	since   time.Time // when the first failed attempt began
}

// failed notes an attempt that failed. Publisher.mu is held.
func (t *trouble) failed(began time.Time, err error) {
	if t.failure == nil {
		t.since = began
	}
	t.failure = err
}

// pause returns how long to wait after a number of failures in a row.
func pause(failures int) time.Duration { return min(mirrorRest, tick<<min(failures, 6)) }

// mirror copies to one place until ctx ends. It copies lists first, then the indexes that name them and no longer name
// lists that are over, and then removes the lists that are over. It retries failures less and less often, and
// meanwhile newer lists replace waiting ones. No list waits for an index that fails.
func (p *Publisher) mirror(ctx context.Context, m Mirror, state *mirrorState) {
	var looked time.Time
	for failures := 0; ; {
		p.mu.RLock()
		changed := p.changed
		p.mu.RUnlock()
		err := p.copyLists(ctx, m, state)
		if ctx.Err() != nil {
			return
		}
		p.copyIndexes(ctx, m, state, changed)
		p.removeCopies(ctx, m, state)
		if now := p.config.Now(); now.Sub(looked).Abs() >= mirrorLook {
			if err := p.findCopies(ctx, m, state); err != nil && ctx.Err() == nil {
				p.config.Log.Warn("cannot look for copies of lists that are over", "in", m.String(), "error", err)
			}
			looked = now
		}
		if err != nil {
			failures++
			p.config.Log.Error("cannot copy lists", "to", m.String(), "error", err, "again", p.config.Now().Add(pause(failures)),
				"next", "the lists are still served here; check space, permissions and credentials there")
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause(failures)):
			}
			continue
		}
		failures = 0
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(tick):
		}
	}
}

// findCopies adds the lists that are in a mirror to those that this process copied there. The process that copied them
// may have ended before they were over, or before the index named them.
func (p *Publisher) findCopies(ctx context.Context, m Mirror, state *mirrorState) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	names, err := m.Names(ctx)
	for _, list := range listsNamed(names) {
		if _, known := state.done[list]; !known {
			state.done[list] = placed{}
		}
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for issuer := range p.issuers {
		state.unindexed[issuer] = true
	}
	return err
}

// listsNamed returns the lists among the names in a mirror.
func listsNamed(names []string) (lists []List) {
	for _, name := range names {
		if list, err := ParseList(strings.TrimPrefix(name, "crl/")); err == nil {
			lists = append(lists, list)
		}
	}
	return lists
}

// copyLists brings the lists of a mirror up to date. It goes on after a failure and returns all failures. It records
// progress and failures in state at once, because each copy may take long.
func (p *Publisher) copyLists(ctx context.Context, m Mirror, state *mirrorState) error {
	var waiting []List // without documents: each is read when its turn comes, which may be long after, during an outage
	p.mu.RLock()
	for _, b := range p.issuers {
		for list, l := range b.lists {
			if state.done[list].number < l.head.Number {
				waiting = append(waiting, list)
			}
		}
	}
	p.mu.RUnlock()
	var failed []error
	for _, list := range waiting {
		document, head, ok := p.Document(list)
		if !ok {
			continue
		}
		began := p.config.Now()
		attempt, cancel := context.WithTimeout(ctx, mirrorTimeout)
		err := m.Put(attempt, "crl/"+list.String(), document, head.Number)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.mu.Lock()
		if err != nil {
			failed = append(failed, err)
			state.lists.failed(began, err)
		} else {
			now := placed{head.Number, p.issuers[list.Issuer].indexed(list)}
			if last, known := state.done[list]; !known || last.url != now.url {
				state.unindexed[list.Issuer] = true
			}
			state.done[list], state.copied[list] = now, head.Seq
		}
		p.mu.Unlock()
	}
	if len(failed) == 0 {
		p.mu.Lock()
		state.lists = trouble{}
		p.mu.Unlock()
	}
	return few(failed)
}

// copyIndexes stores the indexes that have changed, retrying failures less and less often. Once changed is closed,
// waiting lists go between two indexes.
func (p *Publisher) copyIndexes(ctx context.Context, m Mirror, state *mirrorState, changed <-chan struct{}) {
	if state.missed > 0 && p.config.Now().Sub(state.tried).Abs() < pause(state.missed) {
		return
	}
	var failed []error
	issuers, all := p.unindexed(state), true
	for i, issuer := range issuers {
		began := p.config.Now()
		err := p.copyIndex(ctx, m, state, issuer)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failed = append(failed, err)
			p.mu.Lock()
			state.indexes.failed(began, err)
			p.mu.Unlock()
		}
		if all = i+1 == len(issuers) || !closed(changed); !all {
			break
		}
	}
	switch {
	case len(failed) > 0:
		state.missed, state.tried = state.missed+1, p.config.Now()
		p.config.Log.Error("cannot store indexes", "in", m.String(), "error", few(failed), "again", state.tried.Add(pause(state.missed)),
			"next", "lists are still copied, but those that are over stay; check the permission to list the files or objects there")
	case all:
		state.missed = 0
		p.mu.Lock()
		state.indexes = trouble{}
		p.mu.Unlock()
	}
}

// closed reports whether a channel is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// unindexed returns the issuers whose index must be stored, which includes those with lists that are over by now.
func (p *Publisher) unindexed(state *mirrorState) (issuers []pki.IssuerID) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for list := range state.done {
		if p.over(list) {
			state.unindexed[list.Issuer] = true
		}
	}
	for issuer := range state.unindexed {
		if b, known := p.issuers[issuer]; known && b.issuer.Key != (pki.KeyHash{}) {
			issuers = append(issuers, issuer)
		}
	}
	return issuers
}

// copyIndex stores the index of an issuer. Afterwards lists that are over may be removed, and lists that should be
// there but are not are copied again.
func (p *Publisher) copyIndex(ctx context.Context, m Mirror, state *mirrorState, issuer pki.IssuerID) error {
	var over, wanted []List
	p.mu.RLock()
	for list := range state.done {
		switch {
		case list.Issuer != issuer || !list.Sharded:
		case p.over(list):
			over = append(over, list)
		default:
			wanted = append(wanted, list)
		}
	}
	p.mu.RUnlock()
	var lacking []List
	ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	if err := m.PutIndex(ctx, "crl/"+issuer.String()+"/index.json", func(names []string) ([]byte, error) {
		there := listsNamed(names)
		lacking = without(wanted, there)
		return p.indexOf(issuer, there)
	}); errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) { // removing lists that are over makes room for the index
		state.free(over, nil)
		return err
	} else if err != nil {
		return err
	}
	state.free(over, lacking)
	if len(lacking) > 0 { // they were removed, or the store lists names late
		return fmt.Errorf("the index of %s lacks %d lists that were there, such as %s", issuer, len(lacking), lacking[0])
	}
	delete(state.unindexed, issuer)
	return nil
}

// free forgets lists that are over, and notes them for removal, and lists that are lacking, so that they are copied
// again.
func (s *mirrorState) free(over, lacking []List) {
	for _, list := range slices.Concat(over, lacking) {
		delete(s.done, list)
	}
	s.unnamed = append(s.unnamed, over...)
}

// without returns the lists that are not among others.
func without(lists, others []List) []List {
	among := make(map[List]bool)
	for _, list := range others {
		among[list] = true
	}
	return slices.DeleteFunc(slices.Clone(lists), func(list List) bool { return among[list] })
}

// removeCopies removes some of the lists that are over and in no index.
func (p *Publisher) removeCopies(ctx context.Context, m Mirror, state *mirrorState) {
	now := state.unnamed[:min(len(state.unnamed), removals)]
	state.unnamed = state.unnamed[len(now):]
	for _, list := range now {
		ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
		if err := m.Remove(ctx, "crl/"+list.String()); err != nil && ctx.Err() == nil { // no retry here: findCopies finds the list again
			p.config.Log.Warn("cannot remove the copy of a list that is over", "list", list.String(), "in", m.String(), "error", err)
		}
		cancel()
		p.mu.Lock()
		delete(state.copied, list)
		p.mu.Unlock()
	}
}

// indexOf returns the index of an issuer for a place that has these lists: it names the shards of the issuer among
// them that are not over. Another process may have copied some that are unknown to this one.
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

// over reports whether a list is no longer needed: the week of its shard has passed, its last list has ended, and it is
// forgotten. Nothing is known of an issuer that is not configured here. Complete lists are never over. p.mu is held.
func (p *Publisher) over(list List) bool {
	b, known := p.issuers[list.Issuer]
	earliest, _ := p.config.Span() // so that a clock that is ahead does not remove lists that clients still fetch
	if !known || b.issuer.Key == (pki.KeyHash{}) || !list.Sharded || !b.passed(list.Shard.Epoch, earliest.Add(-p.config.Validity)) {
		return false
	}
	_, served := b.lists[list]
	_, waiting := b.waiting[list]
	return !served && !waiting && b.abandoned[list].Number == 0
}
