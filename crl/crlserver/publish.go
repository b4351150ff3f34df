package crlserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

const (
	tick        = time.Second            // in case a wake-up was lost; configuration and clock are looked at as often
	lookRest    = 16                     // looking for what is due rests this many times as long as a look took ...
	lookMax     = 25 * time.Millisecond  // ... at most this long: every ledger entry wakes it, and there may be many shards
	leaseTime   = 10 * time.Second       // of one publication, from taking a number to storing the head
	busyPause   = 20 * time.Millisecond  // a series rests at least: somebody may be at it, or was faster
	restFactor  = 10                     // a series rests this many times as long as its lists cost (costOf) ...
	restMax     = time.Second            // ... at most this long
	waitMax     = 3 * time.Second        // a series waits so long at most for what may be spent on lists
	failureMax  = 30 * time.Second       // longest pause after failures
	concurrency = 4                      // publications at work, apart from those that wait for a signature
	perIssuer   = 8                      // publications of one issuer, waiting ones included
	readPause   = 50 * time.Millisecond  // between two readings of what others published, at most: ten times what one took
	commitSlack = time.Minute            // from the instant that a publication carries until it is visible, at most,
	commitUsual = 200 * time.Millisecond // and nearly always: the others are read with the next tick
	abandonRest = time.Minute            // before an instance without the key tries again what it could not rebuild,
	abandonMax  = 15 * time.Minute       // and longer each time, up to this
	smallSize   = 4 << 10                // up to this size the octets of a list are always kept in the database
	deference   = 20 * time.Millisecond  // the instance that published a series last is left so long to publish it again: two that try at once ask the database in vain
	skewMax     = time.Minute            // clocks of instances may differ by so much
	deltaRebase = 12 * time.Hour         // age of its base from which a delta takes a younger one, which is younger than that: no base is older than 24 h
	deltaShare  = 8                      // a delta that is longer than this part of the complete list takes a younger base too
)

// publish makes the lists of one series that are due, and ends its run. It is given a slot.
func (p *Publisher) publish(ctx context.Context, l *lane, c contender) {
	began := p.config.Now()
	attempt, cancel := context.WithTimeout(ctx, leaseTime)
	defer cancel()
	rest, err := p.attempt(attempt, l, c)
	now := p.config.Now()

	p.mu.Lock()
	defer p.mu.Unlock()
	state := c.state
	state.running = false
	if err != nil {
		if _, ok := errors.AsType[*crl.CheckError](err); ok {
			err = (&pki.Error{Kind: pki.KindInternal, Op: "check revocation list", Err: err}).
				WithHint("what is published is served on; keep the database and the log, and report it: this is a bug or damage")
		}
		state.failure = err
		state.failures++
		state.earliest = now.Add(min(failureMax, 100*time.Millisecond<<min(state.failures, 10)))
		if ctx.Err() != nil { // this process ends; another one publishes, or the next
			return
		}
		p.config.Log.Error("cannot publish", "list", List{c.series, KindShard}.series(), "error", err, "again", state.earliest)
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

// attempt is one publication: number and lease, entries, self-check, signature, head. After a crash between any two
// steps only a number is lost; the series waits for the lease to end. It returns for how long the series rests. While a
// key signs, it holds only the lease: a key that is slow, or hangs until its deadline, delays the lists of its own
// issuer only.
func (p *Publisher) attempt(ctx context.Context, l *lane, c contender) (rest time.Duration, err error) {
	number, drafts, err := p.begin(ctx, l, c)
	if number == 0 { // somebody is at it, or was a moment ago; what it publishes will be adopted
		return 0, err
	}
	if err == nil {
		err = p.sign(drafts)
	}
	if err == nil && len(drafts) > 0 {
		err = p.store(ctx, l, c.series, number, drafts)
	}
	switch {
	case errors.Is(err, ErrFenced): // somebody else published something newer, or is about to
		return 0, errors.Join(p.readHeads(ctx, commitSlack), p.adoptWaiting(ctx, l))
	case err != nil || len(drafts) == 0: // it may have been stored: then the head is read like another's
		return 0, errors.Join(err, p.release(ctx, c.series, number))
	}
	p.mu.Lock() // before anybody sees these lists: who waited for them finds no failure of the attempts before
	c.state.failure, c.state.failures, c.state.ours = nil, 0, number
	p.mu.Unlock()
	for _, d := range drafts {
		p.serve(d.head, d.document)
		rest += restFactor * costOf(d.head.Size)
	}
	return rest, nil
}

// begin takes the next number of a series, and its lease, makes and checks the lists that are due, and frees its slot.
// No number: another instance has the lease. No drafts: nothing is due any more. ErrFenced: a larger number was
// published before the answer of the database arrived.
func (p *Publisher) begin(ctx context.Context, l *lane, c contender) (number uint64, drafts []draft, err error) {
	defer l.slots.free()
	seen := p.newest(c.series)
	number, ok, err := p.config.Publications.BeginPublication(ctx, c.series, p.config.Instance, seen, leaseTime)
	if err != nil || !ok {
		return 0, nil, err
	}
	if err := p.checkNumber(c.series, number, seen); err != nil {
		return number, nil, err
	}
	if err := l.turn.take(ctx); err != nil {
		return number, nil, fmt.Errorf("wait for the turn to build: %w", err)
	}
	defer l.turn.free()
	drafts, err = p.drafts(c, number)
	for i := range drafts {
		if err := drafts[i].check(p.config.Now()); err != nil {
			return number, nil, fmt.Errorf("%s: %w", drafts[i].head.List, err)
		}
	}
	return number, drafts, err
}

// sign signs lists that were checked.
func (p *Publisher) sign(drafts []draft) error {
	for i := range drafts {
		d := &drafts[i]
		issued, err := d.checked.Sign(d.issuer.Signer)
		if err != nil {
			return fmt.Errorf("%s: %w", d.head.List, err)
		}
		d.head.Signature, d.head.Sum, d.head.Size, d.head.Entries = issued.Signature, issued.Sum, issued.Document.Size(), issued.Entries
		d.document = issued.Document
		p.charge(costOf(d.head.Size))
	}
	return nil
}

// store makes lists the published ones.
func (p *Publisher) store(ctx context.Context, l *lane, series Series, number uint64, drafts []draft) error {
	if err := l.slots.take(ctx); err != nil {
		return fmt.Errorf("wait to store: %w", err)
	}
	defer l.slots.free()
	heads, der := make([]Head, len(drafts)), make(map[int][]byte)
	for i, d := range drafts {
		heads[i] = d.head
		if d.kept() {
			der[i] = d.document.Bytes()
		}
	}
	return p.config.Publications.FinishPublication(ctx, p.config.Instance, series, number, heads, der)
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
	return p.issuers[series.Issuer].newest(series)
}

func (b *books) newest(series Series) (number uint64) {
	for _, list := range []List{{series, KindShard}, {series, KindComplete}, {series, KindDelta}} {
		number = max(number, b.anew[list].Number)
		if served, ok := b.lists[list]; ok {
			number = max(number, served.head.Number)
		}
	}
	return number
}

// checkNumber stops all publishing if the new number was already published when it was requested: the database was
// restored, or a standby that had not received everything was promoted, and other numbers and sequences would be used
// twice too. What was published since the request does not count: the answer may have been slow, and other instances
// faster.
func (p *Publisher) checkNumber(series Series, number, seen uint64) error {
	if number > seen {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.halted = (&pki.Error{Kind: pki.KindFailedPrecondition, Op: "publish revocation list",
		Err: fmt.Errorf("the database gives number %d for %s, and %d was published: it went back", number, List{series, KindShard}.series(), seen)}).
		WithHint("stop every instance and run signet restore: numbers must not be used twice")
	return p.halted
}

// draft is a list that is not published yet.
type draft struct {
	issuer   Issuer
	head     Head // without what the signature tells, until it is signed
	template crl.Template
	content  content
	previous uint64    // number of the list that it replaces, 0 if it is the first
	periodic bool      // not an event but the clock asked for it
	seen     *crl.Seen // what was read back of the list before

	checked  *crl.Draft
	document crl.Document // once it is signed
}

// drafts are the lists of a series that are due. ErrFenced: one with a larger number is published by now.
func (p *Publisher) drafts(c contender, number uint64) ([]draft, error) {
	p.mu.Lock() // not for reading: an arena sorts its endings when asked
	defer p.mu.Unlock()
	b, now := c.books, p.config.Now()
	earliest, _ := p.config.Span()
	if b.issuer.Signer == nil || p.gaveUp(now) {
		return nil, nil
	}
	if p.gaveUp(earliest) { // what was let go of by the later clock would be missing in a list of the earlier one
		return nil, pki.Errorf(pki.KindFailedPrecondition, "publish revocation list", "the time of this instance does not hold by the database's clock, and a week has passed by one of them only").
			WithHint("set the clocks right")
	}
	if b.newest(c.series) >= number {
		return nil, ErrFenced
	}
	var drafts []draft
	for _, h := range b.plan(p, c.series, now) {
		served, published := b.lists[h.List]
		// Lists of one second, and the first complete list and its delta, have this time in common: clients tell them
		// apart by number, and HTTP by entity tag (see lastModified).
		h.Number, h.ThisUpdate = number, earliest.UTC().Truncate(time.Second)
		d := draft{issuer: b.issuer, periodic: true, seen: &c.state.seen[h.List.Kind]} // one publication of a series at a time
		if published {
			d.previous, d.periodic = served.head.Number, p.elapsed(served.head) || b.anew[h.List].Number > 0 // who could not rebuild one gets the octets of the next
			if at := served.head.ThisUpdate; at.After(h.ThisUpdate) && !at.After(now) {                      // by a clock that is a little ahead: no list is older than the one before
				h.ThisUpdate = at
			}
		}
		h.NextUpdate = h.ThisUpdate.Add(p.config.Validity)
		d.head, d.content, d.template = h, b.content(h), b.template(h)
		drafts = append(drafts, d)
	}
	return drafts, nil
}

// check makes the list, and holds it against what it should be and against the rules for lists.
func (d *draft) check(now time.Time) (err error) {
	if d.periodic { // everything is read back
		*d.seen = crl.Seen{}
	}
	if err := lintUnsigned(&d.template, d.seen.Unseen(d.content.entries), d.issuer.Public); err != nil {
		return err
	}
	want := crl.Want{Template: d.template, Key: d.issuer.Public, Previous: d.previous, Count: d.content.count, Now: now}
	if d.head.List.Kind != KindDelta {
		want.Digest = &d.content.digest
	}
	d.checked, err = d.template.Draft(d.content.entries, want, d.seen)
	return err
}

// kept reports whether the octets are stored in the database, for an instance that cannot rebuild the list: after the
// week has passed, or with another configuration. Long lists are not stored at every event: a thousand revocations
// would be a gigabyte.
func (d *draft) kept() bool {
	return d.head.Final || d.head.Size <= smallSize || d.periodic && d.head.Size <= largeSize
}
