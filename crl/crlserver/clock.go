package crlserver

import (
	"context"
	"sync/atomic"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// latest remembers the latest time that a clock told, in Unix seconds. Entries, names and lists of weeks that had
// passed by then were dropped. It is safe for concurrent use.
type latest struct{ seconds atomic.Int64 }

// watch returns a clock that tells the time of now and remembers it.
func (l *latest) watch(now func() time.Time) func() time.Time {
	return func() time.Time {
		at := now()
		for {
			was := l.seconds.Load()
			if at.Unix() <= was || l.seconds.CompareAndSwap(was, at.Unix()) {
				return at
			}
		}
	}
}

// gaveUp reports whether weeks were dropped that have not passed at now. Then no list may be made from the remaining
// entries. p.mu is held.
func (p *Publisher) gaveUp(now time.Time) bool {
	latest := time.Unix(p.latest.seconds.Load(), 0)
	for _, b := range p.issuers {
		if b.issuer.Key != (pki.KeyHash{}) && b.first(now) < b.first(latest) {
			return true
		}
	}
	return p.rereading
}

// final reports whether a list is the last of its week. A list from the future is not, because a clock that had leapt
// ahead made it.
func (p *Publisher) final(h Head) bool { return h.Final && !p.fromTheFuture(h) }

// fromTheFuture reports whether a list is dated so late that clients would refuse it, whichever clock is right.
func (p *Publisher) fromTheFuture(h Head) bool {
	_, latest := p.config.Span()
	return h.ThisUpdate.Sub(latest) > 2*skewMax // two clocks, each off by skewMax
}

// lastTooSoon reports whether the clock was set back and a last list that is served is now from the future. The
// entries of that list were dropped, and it must be made again although gaveUp may be false. p.mu is held.
func (p *Publisher) lastTooSoon(now time.Time) bool {
	if time.Unix(p.latest.seconds.Load(), 0).Sub(now) <= 2*skewMax {
		return false
	}
	for _, b := range p.issuers {
		for _, served := range b.lists {
			if served.head.Final && p.fromTheFuture(served.head) {
				return true
			}
		}
	}
	return false
}

// reread reads everything again if a clock leapt ahead and was set back.
func (p *Publisher) reread(ctx context.Context) error {
	p.mu.Lock()
	now := p.config.Now()
	if !p.gaveUp(now) && !p.lastTooSoon(now) {
		p.mu.Unlock()
		return nil
	}
	p.rereading = true
	p.latest.seconds.Store(now.Unix())
	p.seq, p.marks, p.basesAt = 0, nil, time.Time{}
	for _, b := range p.issuers {
		b.weeks, b.foreign, b.seq = make(map[pki.Shard]*crl.Arena), &crl.Arena{}, 0
		for _, served := range b.lists {
			served.head.Final = p.final(served.head)
		}
	}
	p.mu.Unlock()
	p.watch.Close()
	if err := p.readLedger(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rereading = false
	return nil
}
