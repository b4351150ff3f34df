package crlserver

import (
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// listen reads what other instances publish, when woken and every second.
func (p *Publisher) listen(ctx context.Context) {
	wake := make(bell, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := p.config.Publications.ListenPublications(ctx, wake.ring)
			if ctx.Err() == nil {
				p.config.Log.Warn("cannot listen to publications", "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(tick):
			}
		}
	}()
	timer := time.NewTicker(tick)
	defer timer.Stop()
	woken, rested := wake, (<-chan time.Time)(nil)
	for {
		slack := commitUsual
		select {
		case <-ctx.Done():
			<-done
			return
		case <-rested:
			woken, rested = wake, nil
			continue
		case <-woken: // stop waking until the pause is over, so that one reading serves many publications
			woken = nil
		case <-timer.C:
			p.forget(ctx)
			p.lookAgain()
			slack = commitSlack
		}
		began := p.config.Now()
		if err := p.readHeads(ctx, slack); err != nil && ctx.Err() == nil {
			p.config.Log.Warn("cannot read publications", "error", err)
		}
		if woken == nil {
			rested = time.After(min(readPause, restFactor*p.config.Now().Sub(began)))
		}
	}
}

// readHeads reads the heads that any instance published since the last call, or up to slack before it. They wait to be
// rebuilt.
func (p *Publisher) readHeads(ctx context.Context, slack time.Duration) error {
	p.mu.RLock()
	last := p.headsAt
	p.mu.RUnlock()
	since := last
	if !last.IsZero() {
		since = last.Add(-slack)
	}
	asked := p.config.Now()
	heads, at, err := p.config.Publications.PublicationHeads(ctx, since)
	if err != nil {
		return err
	}
	p.measure(asked, at)
	p.mu.Lock()
	for _, h := range heads {
		b := p.books(h.List.Issuer)
		served, ok := b.lists[h.List]
		if (!ok || h.Number > served.head.Number) && h.Number > b.abandoned[h.List].Number {
			b.waiting[h.List] = h
		}
	}
	p.headsAt = notBack(last, at)
	p.mu.Unlock()
	p.shards.stale.ring()
	p.wholes.stale.ring()
	return nil
}

// adopt rebuilds the lists that other instances published, whenever it is woken.
func (p *Publisher) adopt(ctx context.Context, l *lane) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.stale:
		}
		_ = p.adoptWaiting(ctx, l) // ends with ctx
	}
}

// measure compares the clocks. The database gave its time at after asked and before now. A difference that the round
// trip may explain counts as none.
func (p *Publisher) measure(asked, at time.Time) {
	skew := max(0, asked.Sub(at))
	if now := p.config.Now(); now.Before(at) {
		skew = now.Sub(at)
	}
	p.skew.Store(int64(skew))
}

// notBack returns the time to read on from. If the database's clock was set back, rows written since then look old, so
// it returns the zero time, and everything is read again.
func notBack(last, at time.Time) time.Time {
	if at.Before(last) {
		return time.Time{}
	}
	return at
}

// adoptWaiting rebuilds and serves the waiting heads of a lane whose ledger entries are all here. The error is that of
// ctx.
func (p *Publisher) adoptWaiting(ctx context.Context, l *lane) error {
	type candidate struct {
		head     Head
		entries  crl.Entries
		template crl.Template
	}
	if err := l.adopting.take(ctx); err != nil {
		return err
	}
	defer l.adopting.free()
	var ready []candidate
	p.mu.Lock()
	for _, b := range p.issuers {
		if b.issuer.Key == (pki.KeyHash{}) {
			continue
		}
		for list, h := range b.waiting {
			if list.Sharded != l.sharded {
				continue
			}
			if served, ok := b.lists[list]; ok && served.head.Number >= h.Number {
				delete(b.waiting, list)
			} else if h.Seq <= p.seq {
				ready = append(ready, candidate{h, b.content(h).entries, b.template(h)})
			}
		}
	}
	p.mu.Unlock()
	slices.SortFunc(ready, func(x, y candidate) int { return cmp.Compare(x.head.Size, y.head.Size) }) // short lists first
	for _, c := range ready {
		if err := l.turn.take(ctx); err != nil {
			return err
		}
		began := p.config.Now()
		document, err := c.template.Assemble(c.entries, c.head.Signature)
		same := err == nil && document.Sum() == c.head.Sum
		p.charge(costOf(c.head.Size))
		l.turn.free()
		if !same { // the week has passed here but not where the list was made, or the issuer's configuration differs
			document, err = p.kept(ctx, c.head)
		}
		switch {
		case err == nil:
			p.serve(c.head, document)
		case ctx.Err() != nil:
			return ctx.Err()
		case pki.KindOf(err) == pki.KindUnavailable: // it keeps waiting
			p.config.Log.Warn("cannot read a list that another instance made", "list", c.head.List.String(), "number", c.head.Number, "error", err)
		default:
			p.abandon(c.head, began, err)
		}
	}
	return nil
}

// kept reads the octets of a list from the database.
func (p *Publisher) kept(ctx context.Context, h Head) (crl.Document, error) {
	der, err := p.config.Publications.PublicationBytes(ctx, h.List, h.Number)
	if err != nil {
		return nil, err
	}
	document := crl.Document{der}
	if document.Sum() != h.Sum {
		return nil, pki.Errorf(pki.KindInternal, "read publication", "%s number %d is not what was published", h.List, h.Number)
	}
	return document, nil
}

// abandoned is a head that could not be served.
type abandoned struct {
	Head
	cause pki.Kind      // why
	pause time.Duration // until it is tried again; doubles from abandonRest to abandonMax
	at    time.Time     // when the last attempt began
}

// abandon gives up a head that cannot be served, and logs that unless it has already done so for this list and cause.
// The list counts as never published, so an instance with the key makes another. began is when the attempt began.
func (p *Publisher) abandon(h Head, began time.Time, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.books(h.List.Issuer)
	if b.waiting[h.List].Number != h.Number {
		return
	}
	delete(b.waiting, h.List)
	before, again := b.abandoned[h.List]
	now := abandoned{h, pki.KindOf(cause), abandonRest, began}
	if before.Number == h.Number {
		now.pause = min(2*before.pause, abandonMax)
	}
	b.abandoned[h.List] = now
	b.behind[h.List.Series] = true
	if !again || before.cause != now.cause {
		p.config.Log.Warn("cannot rebuild a list; an instance with its key makes another, and others try again",
			"list", h.List.String(), "number", h.Number, "error", cause)
	}
}

// lookAgain makes an instance without the key try abandoned heads again, because another list may not be published for
// hours, and the obstacle, such as a differing configuration, may be gone.
func (p *Publisher) lookAgain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.config.Now()
	for _, b := range p.issuers {
		for list, tried := range b.abandoned {
			if b.issuer.Signer == nil && b.waiting[list].Number < tried.Number && now.Sub(tried.at).Abs() >= tried.pause {
				b.waiting[list] = tried.Head
			}
		}
	}
}

// serve makes the handler serve a list, unless it already serves one with the same or a larger number.
func (p *Publisher) serve(h Head, document crl.Document) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.books(h.List.Issuer)
	if b.waiting[h.List].Number <= h.Number {
		delete(b.waiting, h.List)
	}
	served, ok := b.lists[h.List]
	if ok && served.head.Number >= h.Number {
		return
	}
	first := p.config.Now()
	if ok {
		first = served.first
	}
	b.lists[h.List] = &listState{head: h, document: document, etag: `"` + hex.EncodeToString(h.Sum[:16]) + `"`, first: first}
	delete(b.abandoned, h.List)
	// If the week has not passed here, the clock of the instance that made the list is ahead, and it will be made
	// again.
	if b.behind[h.List.Series] = true; h.Final && b.passed(h.List.Shard.Epoch, p.config.Now()) {
		delete(b.weeks, h.List.Shard)
		delete(b.names, h.List.Shard)
	}
	p.progressed()
}

// forget removes the lists of weeks that have passed, once their last list has ended or can no longer be made.
func (p *Publisher) forget(ctx context.Context) {
	now, _ := p.config.Span() // the earliest time, so that a clock that is ahead ends no list
	var gone []Head
	p.mu.Lock()
	for _, b := range p.issuers {
		for list, served := range b.lists {
			if !list.Sharded || !b.passed(list.Shard.Epoch, now) || !now.After(served.head.NextUpdate) {
				continue
			}
			if lastToCome := !served.head.Final && b.weeks[list.Shard] != nil && b.issuer.Signer != nil; !lastToCome {
				gone = append(gone, served.head)
				delete(b.lists, list)
				delete(b.series, list.Series)
				delete(b.weeks, list.Shard)
				delete(b.names, list.Shard)
			}
		}
	}
	p.mu.Unlock()
	for _, h := range gone {
		if !h.Final && p.keyless(h.List.Issuer) { // an instance with the key may still publish the last one
			continue
		}
		if err := p.config.Publications.ForgetPublication(ctx, h.List, h.Number); err != nil && ctx.Err() == nil {
			p.config.Log.Warn("cannot forget a list whose week has passed", "list", h.List.String(), "error", err)
		}
	}
}

// keyless reports whether this instance cannot sign for an issuer.
func (p *Publisher) keyless(issuer pki.IssuerID) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	b, ok := p.issuers[issuer]
	return !ok || b.issuer.Signer == nil
}
