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
	tick        = time.Second            // between polls of configuration, clock and ledger, in case a wake-up was lost
	lookRest    = 16                     // after a search for due series of length t, pause for lookRest*t,
	lookMax     = 25 * time.Millisecond  // but at most this long: every ledger entry causes one, and shards may be many
	leaseTime   = 10 * time.Second       // of one publication, from taking a number to storing the head
	busyPause   = 20 * time.Millisecond  // shortest rest of a series, in case another instance is publishing it
	restFactor  = 10                     // rest of a series, as a multiple of the cost of its lists (costOf),
	restMax     = time.Second            // but at most this long
	waitMax     = 3 * time.Second        // longest time that effort delays a series
	failureMax  = 30 * time.Second       // longest pause after failures
	concurrency = 4                      // publications at work, apart from those that wait for a signature
	perIssuer   = 8                      // publications of one issuer, waiting ones included
	readPause   = 50 * time.Millisecond  // pause between two readings of publications; restFactor times the length of the last, if that is shorter
	commitSlack = time.Minute            // longest time from the instant that a publication carries until it is visible,
	commitUsual = 200 * time.Millisecond // and the usual one; publications that take longer are read with the next tick
	abandonRest = time.Minute            // first pause before an instance without the key tries an abandoned head again,
	abandonMax  = 15 * time.Minute       // and the longest; it doubles each time
	smallSize   = 4 << 10                // up to this size the octets of a list are always kept in the database
	skewMax     = time.Minute            // greatest difference between the clocks of instances
	deltaRebase = 12 * time.Hour         // age of a base from which its delta takes a younger one, so that no base is older than 24 h
	deltaShare  = 8                      // a delta longer than 1/deltaShare of the complete list also takes a younger base

	// deference is how long an instance leaves a series to the one that published it last, because two that try at
	// once ask the database in vain.
	deference = 20 * time.Millisecond
)

// publish makes the lists of one series that are due, and ends its run. The caller has taken a slot for it.
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
				WithHint("published lists stay in service; keep the database and the log, and report it: this is a bug or damage")
		}
		state.failure = err
		state.failures++
		state.earliest = now.Add(min(failureMax, 100*time.Millisecond<<min(state.failures, 10)))
		if ctx.Err() != nil { // this process is ending; another publishes, or the next one
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

// attempt makes one publication, in these steps: number and lease, entries, self-check, signature, head. After a crash
// between any two steps only a number is lost, and the series waits for the lease to end. attempt returns how long the
// series rests. While a key signs, it holds only the lease, so that a key that is slow, or hangs until its deadline,
// delays the lists of its own issuer only.
func (p *Publisher) attempt(ctx context.Context, l *lane, c contender) (rest time.Duration, err error) {
	number, drafts, err := p.begin(ctx, l, c)
	if number == 0 { // another instance is publishing the series, or has just done so; its list will be adopted
		return 0, err
	}
	if err == nil {
		err = p.sign(drafts)
	}
	if err == nil && len(drafts) > 0 {
		err = p.store(ctx, l, c.series, number, drafts)
	}
	switch {
	case errors.Is(err, ErrFenced): // another instance published something newer, or is about to
		return 0, errors.Join(p.readHeads(ctx, commitSlack), p.adoptWaiting(ctx, l))
	case err != nil || len(drafts) == 0: // if the lists were stored all the same, their heads are read like those of others
		return 0, errors.Join(err, p.release(ctx, c.series, number))
	}
	p.mu.Lock() // before these lists are served, so that callers that waited for them see no failure of earlier attempts
	c.state.failure, c.state.failures, c.state.ours = nil, 0, number
	p.mu.Unlock()
	for _, d := range drafts {
		p.serve(d.head, d.document)
		rest += restFactor * costOf(d.head.Size)
	}
	return rest, nil
}

// begin takes the next number of a series and its lease, makes and checks the lists that are due, and frees its slot.
// The number is 0 if another instance has the lease. There are no drafts if nothing is due any more. The error is
// ErrFenced if a larger number was published before the answer of the database arrived.
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

// store publishes signed lists: it stores their heads in the database, and the octets of some.
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

// charge deducts processor time from effort.
func (p *Publisher) charge(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.effort.spend(p.config.Now(), took)
}

// release returns a lease, so that no other instance waits for its end. It does so even while this one is being
// stopped.
func (p *Publisher) release(ctx context.Context, series Series, number uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := p.config.Publications.FinishPublication(ctx, p.config.Instance, series, number, nil, nil)
	if errors.Is(err, ErrFenced) { // another instance already has it
		return nil
	}
	return err
}

// newest returns the largest number of a series that this instance has seen published and has served or abandoned.
func (p *Publisher) newest(series Series) (number uint64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.issuers[series.Issuer].newest(series)
}

func (b *books) newest(series Series) (number uint64) {
	for _, list := range []List{{series, KindShard}, {series, KindComplete}, {series, KindDelta}} {
		number = max(number, b.abandoned[list].Number)
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
	p.halted = (&pki.Error{
		Kind: pki.KindFailedPrecondition, Op: "publish revocation list",
		Err: fmt.Errorf("the database gives number %d for %s, and %d was published: it went back", number, List{series, KindShard}.series(), seen)}).
		WithHint("stop every instance and run signet restore: numbers must not be used twice")
	return p.halted
}

// draft is a list that is not published yet.
type draft struct {
	issuer   Issuer
	head     Head // without Signature, Sum, Size and Entries until it is signed
	template crl.Template
	content  content
	previous uint64    // number of the list that it replaces, 0 if it is the first
	periodic bool      // it is due by the clock, not because of an event
	seen     *crl.Seen // entries of the list before that were read back

	checked  *crl.Draft
	document crl.Document // once it is signed
}

// drafts returns the lists of a series that are due. The error is ErrFenced if one with a larger number was published
// meanwhile.
func (p *Publisher) drafts(c contender, number uint64) ([]draft, error) {
	p.mu.Lock() // not for reading: an arena sorts its endings when asked
	defer p.mu.Unlock()
	b, now := c.books, p.config.Now()
	earliest, _ := p.config.Span()
	if b.issuer.Signer == nil || p.gaveUp(now) {
		return nil, nil
	}
	if p.gaveUp(earliest) { // a list dated earlier would lack entries that were dropped by the later clock
		return nil, pki.Errorf(pki.KindFailedPrecondition, "publish revocation list",
			"the time of this instance does not hold by the database's clock, and a week has passed by one of them only").
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
			// If a list was abandoned, the octets of the next one are kept, for instances that could not rebuild it.
			d.previous, d.periodic = served.head.Number, p.elapsed(served.head) || b.abandoned[h.List].Number > 0
			// The list before may have been made by a clock that is a little ahead. No list is dated before it.
			if at := served.head.ThisUpdate; at.After(h.ThisUpdate) && !at.After(now) {
				h.ThisUpdate = at
			}
		}
		h.NextUpdate = h.ThisUpdate.Add(p.config.Validity)
		d.head, d.content, d.template = h, b.content(h), b.template(h)
		drafts = append(drafts, d)
	}
	return drafts, nil
}

// check makes the list and checks it against the content that it should have and the rules of package lint.
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
