package crlserver

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"signet.example/signet/pki"
)

// lane bounds the work on lists of one sort. Shards have one lane, complete lists and their deltas another. The latter
// take long, and so no shard waits for one, however many issuers there are.
type lane struct {
	sharded  bool
	kick     bell   // wakes schedule
	stale    bell   // wakes adopt
	slots    places // held by publications at work, except while a key signs
	turn     places // held while lists are built or rebuilt, which takes processors and memory; the rest is for requests
	adopting places // held while lists of others are rebuilt, so that none is rebuilt twice
}

func newLane(sharded bool, turns int) lane {
	return lane{sharded, make(bell, 1), make(bell, 1), make(places, concurrency), make(places, turns), make(places, 1)}
}

// newShards returns the lane of shards, which are built on half of the processors at most.
func newShards() lane { return newLane(true, max(1, runtime.GOMAXPROCS(0)/2)) }

// newWholes returns the lane of complete lists and deltas, which are built one at a time.
func newWholes() lane { return newLane(false, 1) }

// bell wakes a goroutine that waits for it now or later.
type bell chan struct{}

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default: // already ringing
	}
}

// places is a semaphore, first come first served.
type places chan struct{}

// take waits for a place until ctx ends.
func (p places) take(ctx context.Context) error {
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p places) free() { <-p }

// follow applies the ledger as it grows.
func (p *Publisher) follow(ctx context.Context) {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	defer func() { p.watch.Close() }() // a closure, because reread replaces p.watch
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.watch.C:
		case <-timer.C:
			p.readIssuers()
			if err := p.readBases(ctx); err != nil && ctx.Err() == nil {
				p.config.Log.Warn("cannot read the base URLs of shards", "error", err)
			}
		}
		if err := p.reread(ctx); err != nil {
			if ctx.Err() == nil {
				p.config.Log.Warn("cannot read the ledger again after the clock was set back", "error", err)
			}
			continue // incomplete arenas take no new entries; the next tick tries again
		}
		taken, err := p.take(ctx)
		if err != nil && ctx.Err() == nil {
			p.config.Log.Warn("cannot follow the ledger", "error", err)
		}
		p.charge(time.Duration(taken) * entryCost)
		p.shards.stale.ring()
		p.wholes.stale.ring()
		p.wake()
	}
}

// Reload reads the issuers again now, and starts publishing lists that they lack.
func (p *Publisher) Reload() {
	p.readIssuers()
	p.wake()
}

// wake makes both schedulers look for due series.
func (p *Publisher) wake() {
	p.shards.kick.ring()
	p.wholes.kick.ring()
}

// schedule starts the publications that are due. A series that has rested long enough starts at once (leading edge).
func (p *Publisher) schedule(ctx context.Context, l *lane) {
	var flying sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			flying.Wait()
			return
		case <-l.kick:
		case <-timer.C:
		}
		looked := p.config.Now()
		due, next := p.due(l)
		rest := min(lookMax, lookRest*p.config.Now().Sub(looked))
		for _, c := range due {
			if l.slots.take(ctx) != nil {
				break
			}
			flying.Go(func() {
				p.publish(ctx, l, c)
				l.kick.ring()
			})
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
		case <-time.After(rest):
		}
	}
}

// due returns the series of a lane to be published now, marked as running, and the longest time until the next look.
func (p *Publisher) due(l *lane) (due []contender, next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.config.Now()
	next = tick
	if p.halted != nil || p.gaveUp(now) || p.config.Universe.Check() != nil {
		return nil, next
	}
	running := make(map[*books]int)
	for _, b := range p.issuers {
		running[b] = b.running(l.sharded)
	}
	for _, c := range p.contenders(l, now) {
		if wait := c.state.earliest.Sub(now); wait > 0 && wait <= failureMax { // a longer wait means that the clock went back
			next = min(next, wait)
			continue
		}
		if wait := deference - now.Sub(c.state.due); c.books.newest(c.series) > c.state.ours && wait > 0 && wait <= deference {
			next = min(next, wait)
			continue
		}
		if wait := p.effort.wait(now); wait > 0 && now.Sub(c.state.due) < waitMax {
			next = min(next, wait)
			continue
		}
		if running[c.books] == perIssuer {
			continue
		}
		running[c.books]++
		c.state.running, c.state.due = true, time.Time{}
		due = append(due, c)
	}
	return due, next
}

// contender is a series with something to publish.
type contender struct {
	books  *books
	series Series
	state  *seriesState
}

// contenders returns the series of a lane that have something to publish and no running publication, the
// longest-waiting first. A series that does not wait is no longer behind. p.mu is held.
func (p *Publisher) contenders(l *lane, now time.Time) (all []contender) {
	for _, b := range p.issuers {
		if b.issuer.Key == (pki.KeyHash{}) || b.issuer.Offline {
			continue
		}
		if !p.looked {
			for _, series := range b.wanted(now) {
				b.behind[series] = true
			}
		}
		for series := range b.behind {
			if series.Sharded != l.sharded {
				continue
			}
			state := b.series[series]
			if !b.wants(series, now) || !b.lacks(p, series, now) {
				if delete(b.behind, series); state != nil { // another instance may have published it
					state.due, state.failure, state.failures = time.Time{}, nil, 0
				}
				continue
			}
			if state == nil {
				state = &seriesState{ours: b.newest(series)}
				b.series[series] = state
			}
			if state.running || b.issuer.Signer == nil {
				continue
			}
			if state.due.IsZero() || state.due.After(now) {
				state.due = now
			}
			all = append(all, contender{b, series, state})
		}
	}
	p.looked = true
	// To a tenth of a second, and in random order within it: instances that all began with the same series would
	// get in each other's way.
	slices.SortFunc(all, func(x, y contender) int {
		return x.state.due.Truncate(100 * time.Millisecond).Compare(y.state.due.Truncate(100 * time.Millisecond))
	})
	return all
}

// running counts the series of an issuer that are being published: its shards, or its complete list.
func (b *books) running(sharded bool) (n int) {
	for series, state := range b.series {
		if state.running && series.Sharded == sharded {
			n++
		}
	}
	return n
}
