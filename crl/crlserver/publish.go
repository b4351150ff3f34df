package crlserver

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

const (
	tick        = time.Second           // in case a wake-up was lost; configuration and clock are looked at as often
	lookRest    = 16                    // looking for what is due rests this many times as long as a look took ...
	lookMax     = 25 * time.Millisecond // ... at most this long: every ledger entry wakes it, and there may be many shards
	leaseTime   = 10 * time.Second      // of one publication, from taking a number to storing the head
	busyPause   = 20 * time.Millisecond // a series rests at least: somebody may be at it, or was faster
	restFactor  = 10                    // a series rests this many times as long as its lists cost (costOf) ...
	restMax     = time.Second           // ... at most this long
	waitMax     = 3 * time.Second       // a series waits so long at most for what may be spent on lists
	failureMax  = 30 * time.Second      // longest pause after failures
	concurrency = 4                     // publications at work, apart from those that wait for a signature
	perIssuer   = 8                     // publications of one issuer, waiting ones included
	readPause   = 50 * time.Millisecond // between two readings of what others published, at most: ten times what one took
	commitSlack = time.Minute           // from the instant that a publication carries until it is visible, at most,
	commitUsual = 2 * time.Second       // and nearly always: the others are read with the next tick
	smallSize   = 64 << 10              // up to this size the octets of a list are always kept in the database
	skewMax     = time.Minute           // clocks of instances may differ by so much
	deltaRebase = 12 * time.Hour        // age of its base from which a delta takes a younger one, which is younger than that: no base is older than 24 h
	deltaShare  = 8                     // a delta that is longer than this part of the complete list takes a younger base too
)

// follow applies the ledger as it grows.
func (p *Publisher) follow(ctx context.Context) {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	defer p.watch.Close()
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
		if err := p.reread(ctx); err != nil && ctx.Err() == nil {
			p.config.Log.Warn("cannot read the ledger again after the clock was set back", "error", err)
		}
		taken, err := p.take(ctx)
		if err != nil && ctx.Err() == nil {
			p.config.Log.Warn("cannot follow the ledger", "error", err)
		}
		p.charge(time.Duration(taken) * entryCost)
		select {
		case p.adopt <- struct{}{}:
		default: // it is pending
		}
		p.wake()
	}
}

// Reload asks for the issuers again, now, and publishes what is missing of them.
func (p *Publisher) Reload() {
	p.readIssuers()
	p.wake()
}

// wake wakes the scheduler.
func (p *Publisher) wake() {
	select {
	case p.kick <- struct{}{}:
	default: // one is pending
	}
}

// schedule starts the publications that are due. The leading edge: a series that rested long enough starts at once.
func (p *Publisher) schedule(ctx context.Context) {
	var flying sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			flying.Wait()
			return
		case <-p.kick:
		case <-timer.C:
		}
		looked := p.config.Now()
		due, next := p.due()
		rest := min(lookMax, lookRest*p.config.Now().Sub(looked))
		for _, series := range due {
			p.slots <- struct{}{}
			flying.Go(func() {
				p.publish(ctx, series)
				p.wake()
			})
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
		case <-time.After(rest):
		}
	}
}

// due returns the series to be published now, marked as running, and when to look again at the latest.
func (p *Publisher) due() (due []Series, next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.config.Now()
	next = tick
	if p.halted != nil || p.gaveUp(now) || p.config.Universe.Check() != nil {
		return nil, next
	}
	running := make(map[*books]int)
	for _, b := range p.issuers {
		running[b] = b.running()
	}
	for _, c := range p.contenders(now) {
		if wait := c.state.earliest.Sub(now); wait > 0 && wait <= failureMax { // a longer one is a clock that went back
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
		due = append(due, c.series)
	}
	return due, next
}

// contender is a series with something to publish.
type contender struct {
	books  *books
	series Series
	state  *seriesState
}

// contenders returns the series that have something to publish and of which no publication runs, the one that waits longest first.
// Whoever does not wait is no longer behind. p.mu is held.
func (p *Publisher) contenders(now time.Time) (all []contender) {
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
			state := b.series[series]
			if !b.wants(series, now) || !b.lacks(p, series, now) {
				if delete(b.behind, series); state != nil { // maybe another instance published it
					state.due = time.Time{}
				}
				continue
			}
			if state == nil {
				state = &seriesState{}
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
	// To a tenth of a second, and of those in any order: instances that all begin with the same one are in each other's way.
	slices.SortFunc(all, func(x, y contender) int {
		return x.state.due.Truncate(100 * time.Millisecond).Compare(y.state.due.Truncate(100 * time.Millisecond))
	})
	return all
}

// running counts the series that are being published.
func (b *books) running() (n int) {
	for _, state := range b.series {
		if state.running {
			n++
		}
	}
	return n
}

// waitingSigner gives to others what a publication holds while a key signs: a key that is slow, or hangs until its deadline,
// holds up the lists of its own issuer only.
type waitingSigner struct {
	crypto.Signer
	held []chan struct{} // while not signing; taken in this order, as everywhere
}

// Sign implements crypto.Signer.
func (s *waitingSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	for _, place := range s.held {
		<-place
	}
	defer func() {
		for _, place := range s.held {
			place <- struct{}{}
		}
	}()
	return s.Signer.Sign(random, digest, opts)
}

// plan returns the heads of the lists of a series that are to be made now, without what publishing adds. It is empty if
// nothing is due.
func (b *books) plan(p *Publisher, series Series, now time.Time) []Head {
	if series.Sharded {
		return b.planShard(p, series, now)
	}
	return b.planComplete(p, series, now)
}

// lacks reports whether plan would not be empty. It is asked of every shard that was touched, again and again.
func (b *books) lacks(p *Publisher, series Series, now time.Time) bool {
	if !series.Sharded {
		return len(b.planComplete(p, series, now)) > 0
	}
	list := List{series, KindShard}
	served, published := b.lists[list]
	return !published || b.touched(list) > served.head.Seq || b.anew[list] > 0 || b.passed(series.Shard.Epoch, now) || p.elapsed(served.head) || !b.named(served.head)
}

func (b *books) planShard(p *Publisher, series Series, now time.Time) []Head {
	if !b.lacks(p, series, now) {
		return nil
	}
	h := Head{List: List{series, KindShard}, Seq: p.seq, From: series.Shard.Epoch, Final: b.passed(series.Shard.Epoch, now)}
	if served, published := b.lists[h.List]; published {
		h.URLs = served.head.URLs
	}
	h.URLs = b.urls(series, h.URLs)
	return []Head{h}
}

func (b *books) planComplete(p *Publisher, series Series, now time.Time) (heads []Head) {
	complete, delta := List{series, KindComplete}, List{series, KindDelta}
	full := Head{List: complete, Seq: p.seq, From: b.first(now)}
	if b.issuer.Delta {
		full.Freshest = []string{URL(b.issuer.BaseURL, delta)}
	}
	served, published := b.lists[complete]
	changed := published && b.touched(complete) > served.head.Seq
	earliest, _ := p.config.Span()
	age := func(at time.Time) time.Duration { return earliest.Sub(at) }
	large := b.large()
	old, delivered := b.lists[delta]
	// Who has to fetch a delta again and again that is nearly as long as the complete list is better off with that: after a mass
	// revocation the delta begins anew.
	long := published && delivered && old.head.Size > max(largeSize, served.head.Size/deltaShare)
	switch {
	case !published, b.anew[complete] > 0, p.elapsed(served.head), !slices.Equal(full.Freshest, served.head.Freshest),
		changed && !large, changed && age(served.head.ThisUpdate) >= p.config.Large, b.issuer.Delta && (age(served.head.ThisUpdate) >= deltaRebase || long && old.head.Base == served.head.Number):
		heads = append(heads, full)
	}
	if !b.issuer.Delta || !published || long && len(heads) > 0 {
		return heads // a delta of this list follows it
	}
	rebase := delivered && (long || age(old.head.BaseUpdate) >= deltaRebase) && served.head.Number > old.head.Base
	if len(heads) > 0 || !delivered || rebase || b.anew[delta] > 0 || p.elapsed(old.head) || b.touched(delta) > old.head.Seq {
		h := Head{List: delta, Seq: p.seq, From: full.From}
		// Clients keep a complete list for hours: the delta of an older one serves them all.
		h.Base, h.BaseSeq, h.BaseUpdate = served.head.Number, served.head.Seq, served.head.ThisUpdate
		if delivered && !rebase {
			h.Base, h.BaseSeq, h.BaseUpdate = old.head.Base, old.head.BaseSeq, old.head.BaseUpdate
		}
		heads = append(heads, h)
	}
	return heads
}

// elapsed reports whether the periodic rebuild of a list is due: because of its age, or because a clock went back and
// clients would refuse a list from the future.
func (p *Publisher) elapsed(h Head) bool {
	earliest, latest := p.config.Span()
	return earliest.Sub(h.ThisUpdate) >= p.config.Interval || latest.Sub(h.ThisUpdate) < -2*skewMax // two clocks, each off by so much
}

// publish makes the lists of one series that are due, and ends its run. It is given a slot, and frees it; a complete list and its delta
// wait for their turn without one, and before they take a lease: long ones of several issuers would hold up every shard.
func (p *Publisher) publish(ctx context.Context, series Series) {
	place := p.slots
	if !series.Sharded {
		<-p.slots
		p.whole <- struct{}{}
		place = p.whole
	}
	defer func() { <-place }()
	began := p.config.Now()
	attempt, cancel := context.WithTimeout(ctx, leaseTime)
	defer cancel()
	rest, err := p.attempt(attempt, series)
	now := p.config.Now()

	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.books(series.Issuer).series[series]
	state.running = false
	if err != nil {
		state.failure, state.failAt = err, now
		state.failures++
		state.earliest = now.Add(min(failureMax, 100*time.Millisecond<<min(state.failures, 10)))
		if ctx.Err() != nil { // this process ends; another one publishes, or the next
			return
		}
		p.config.Log.Error("cannot publish", "list", List{series, KindShard}.series(), "error", err, "again", state.earliest)
		return
	}
	state.failure, state.failures = nil, 0
	state.earliest = began.Add(min(restMax, rest))
	if soon := now.Add(busyPause); state.earliest.Before(soon) {
		state.earliest = soon
	}
}

// series names a series for the log.
func (l List) series() string {
	if !l.Sharded {
		l.Kind = KindComplete
	}
	return l.String()
}

// attempt is one publication: number and lease, entries, signature, self-check, head. After a crash between any two
// steps a number is lost and nothing else; the series waits for the lease to end. It returns how long the series rests.
func (p *Publisher) attempt(ctx context.Context, series Series) (rest time.Duration, err error) {
	number, ok, err := p.config.Publications.BeginPublication(ctx, series, p.config.Instance, p.newest(series), leaseTime)
	if err != nil {
		return 0, err
	}
	if !ok { // somebody is at it, or was a moment ago; what it publishes will be adopted
		return 0, nil
	}
	if err := p.checkNumber(series, number); err != nil {
		return 0, err
	}
	var lists []built
	if series.Sharded {
		p.working <- struct{}{}
		lists, err = p.build(series, number, p.slots, p.working)
		<-p.working
	} else {
		lists, err = p.build(series, number, p.whole)
	}
	if err != nil || len(lists) == 0 {
		return 0, errors.Join(err, p.release(ctx, series, number))
	}
	heads, der := make([]Head, len(lists)), make(map[int][]byte)
	for i, l := range lists {
		heads[i] = l.head
		if l.kept() {
			der[i] = l.document.Bytes()
		}
	}
	err = p.config.Publications.FinishPublication(ctx, p.config.Instance, series, number, heads, der)
	if errors.Is(err, ErrFenced) {
		// Somebody else published something newer, or is about to.
		return 0, p.readHeads(ctx, commitSlack)
	}
	if err != nil {
		// It may have happened: then the head is read like another's.
		return 0, errors.Join(err, p.release(ctx, series, number))
	}
	for _, l := range lists {
		p.serve(l.head, l.document)
		rest += restFactor * costOf(l.head.Size)
	}
	return rest, nil
}

// charge takes from what may be spent on lists.
func (p *Publisher) charge(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.effort.spend(p.config.Now(), took)
}

// release gives a lease back, so that no other instance waits for its end: even while this one is being stopped.
func (p *Publisher) release(ctx context.Context, series Series, number uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := p.config.Publications.FinishPublication(ctx, p.config.Instance, series, number, nil, nil)
	if errors.Is(err, ErrFenced) { // somebody else has it already
		return nil
	}
	return err
}

// newest is the largest number of a series that this instance has seen published and dealt with.
func (p *Publisher) newest(series Series) (number uint64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	b := p.issuers[series.Issuer]
	for _, list := range []List{{series, KindShard}, {series, KindComplete}, {series, KindDelta}} {
		number = max(number, b.anew[list])
		if served, ok := b.lists[list]; ok {
			number = max(number, served.head.Number)
		}
	}
	return number
}

// checkNumber stops all publishing if a number comes that was published before: the database was restored, or a standby
// was promoted that had not received everything, and its other numbers and sequences would be used twice as well.
func (p *Publisher) checkNumber(series Series, number uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.books(series.Issuer)
	for _, list := range []List{{series, KindShard}, {series, KindComplete}, {series, KindDelta}} {
		if served, ok := b.lists[list]; ok && number <= served.head.Number {
			p.halted = (&pki.Error{Kind: pki.KindFailedPrecondition, Op: "publish revocation list",
				Err: fmt.Errorf("the database gives number %d for %s, and %d was published: it went back", number, list, served.head.Number)}).
				WithHint("stop every instance and run signet restore: numbers must not be used twice")
			return p.halted
		}
	}
	return nil
}

// built is a list that is signed and not yet published.
type built struct {
	head     Head
	document crl.Document
	periodic bool // not an event but the clock asked for it
}

// kept reports whether the octets go into the database. They are for an instance that cannot rebuild the list: after the
// week has passed, or with another configuration. Long lists are not written at every event: a thousand revocations would
// be a gigabyte.
func (l *built) kept() bool {
	return l.head.Final || l.head.Size <= smallSize || l.periodic && l.head.Size <= largeSize
}

// build makes and checks the lists of a series that are due. It gives what is held to others while a key signs.
func (p *Publisher) build(series Series, number uint64, held ...chan struct{}) ([]built, error) {
	p.mu.Lock() // not for reading: an arena sorts its endings when asked
	b := p.issuers[series.Issuer]
	now := p.config.Now()
	earliest, _ := p.config.Span()
	// Lists of one second, and the first complete list and its delta, share this time: consumers tell them apart by their numbers, and
	// HTTP by entity tags (see lastModified).
	thisUpdate := earliest.UTC().Truncate(time.Second)
	issuer, heads := b.issuer, b.plan(p, series, now)
	contents, templates, previous := make([]content, len(heads)), make([]crl.Template, len(heads)), make([]Head, len(heads))
	seen := &b.series[series].seen // one publication of a series at a time
	for i := range heads {
		h := &heads[i]
		h.Number, h.ThisUpdate = number, thisUpdate
		if served, ok := b.lists[h.List]; ok {
			previous[i] = served.head
			if at := served.head.ThisUpdate; at.After(thisUpdate) && !at.After(now) { // by a clock that is a little ahead: no list is older than the one before
				h.ThisUpdate = at
			}
		}
		h.NextUpdate = h.ThisUpdate.Add(p.config.Validity)
		contents[i], templates[i] = b.content(*h), b.template(*h)
	}
	gaveUp, doubtful := p.gaveUp(now), p.gaveUp(earliest)
	p.mu.Unlock()
	if issuer.Signer == nil || gaveUp {
		return nil, nil
	}
	if doubtful { // what was let go of by the later clock would be missing in a list of the earlier one
		return nil, pki.Errorf(pki.KindFailedPrecondition, "publish revocation list", "the time of this instance does not hold by the database's clock, and a week has passed by one of them only").
			WithHint("set the clocks right")
	}
	signer := &waitingSigner{issuer.Signer, held}
	lists := make([]built, len(heads))
	for i, h := range heads {
		periodic, seen := previous[i].Number == 0 || p.elapsed(previous[i]), &seen[h.List.Kind]
		if periodic { // everything is read back
			*seen = crl.Seen{}
		}
		if err := lintUnsigned(&templates[i], seen.Unseen(contents[i].entries), issuer.Public); err != nil {
			return nil, fmt.Errorf("%s: %w", h.List, err)
		}
		want := crl.Want{Template: templates[i], Key: issuer.Public, Previous: previous[i].Number, Count: contents[i].count, Now: p.config.Now()}
		if h.List.Kind != KindDelta {
			want.Digest = &contents[i].digest
		}
		issued, err := templates[i].Issue(contents[i].entries, signer, want, seen)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.List, err)
		}
		h.Signature, h.Sum, h.Size, h.Entries = issued.Signature, issued.Sum, issued.Document.Size(), issued.Entries
		lists[i] = built{h, issued.Document, periodic}
		p.charge(costOf(h.Size))
	}
	return lists, nil
}
