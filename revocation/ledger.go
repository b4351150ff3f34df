package revocation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Request asks for a change of one certificate's status.
type Request struct {
	Key
	Reason       pki.Reason // of Revoke and Import; ignored elsewhere
	InvalidityAt time.Time  // invalidity date (RFC 5280, Section 5.3.2); zero: not stated
}

// Receipt says that a change is durable and that this instance's Universe has applied it.
type Receipt struct {
	Entry    Entry
	Repeated bool // the same change was made earlier: Entry is that one
}

// LedgerConfig configures a Ledger.
type LedgerConfig struct {
	Store    LedgerStore // required
	Universe *Universe   // required: answers wait for it

	// Keys stores blocked keys. Zero: keys cannot be blocked.
	Keys KeyBlockStore

	// Now is the clock that gives revocation dates. Zero: time.Now.
	Now func() time.Time

	// Queue bounds the requests that wait for a commit; more are refused with KindExhausted. Zero: 4,096.
	Queue int
}

// Ledger changes the status of certificates. Concurrent calls are committed as a group. It is safe for concurrent use.
type Ledger struct {
	config LedgerConfig
	queue  chan *pending
	ended  chan struct{} // closed when the committer has ended

	mu     sync.RWMutex // held for reading while a request enters the queue
	closed bool         // guarded by mu
	halted bool         // guarded by mu: the database is not to be written to any more
}

const (
	groupSize     = 1_000 // requests committed together
	companyWait   = 2 * time.Millisecond
	commitTimeout = 15 * time.Second // of one group; requests that wait longer are told that it may have happened
	staleTries    = 20               // before a group gives up against another instance's changes
)

// pending is a request that waits for its commit.
type pending struct {
	claim   Claim
	change  change
	grant   auth.Grant
	receipt Receipt
	err     error
	done    chan struct{}
}

// NewLedger makes a Ledger and starts its committer. Close ends it.
func NewLedger(config LedgerConfig) (*Ledger, error) {
	if config.Store == nil || config.Universe == nil {
		return nil, pki.Errorf(pki.KindInvalid, "make ledger", "Store and Universe are required")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	config.Queue = cmp.Or(config.Queue, 4096)
	l := &Ledger{config: config, queue: make(chan *pending, config.Queue), ended: make(chan struct{})}
	go l.commitGroups()
	return l, nil
}

// Halt ends the Ledger without any further write, because the database went back: new requests and those in the queue
// are refused with pki.ErrWentBack. A commit under way may still take its time.
func (l *Ledger) Halt() { l.refuse(true) }

// Close refuses new requests and returns when those in the queue are answered.
func (l *Ledger) Close() error {
	l.refuse(false)
	<-l.ended
	return nil
}

func (l *Ledger) refuse(halt bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.halted = l.halted || halt
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
}

// Revoke revokes a certificate. The grant is for auth.ActionRevoke and must cover the certificate's account. Revoke
// returns when the revocation is durable and this instance's Universe has applied it; a repetition with the same facts
// succeeds. Errors: KindNotFound, KindDenied, KindConflict (changed earlier to something else: a *ConflictError names
// the first change), KindInvalid and KindRefused (reason), KindExhausted, KindUnavailable (it may have happened:
// repeat).
func (l *Ledger) Revoke(ctx context.Context, grant auth.Grant, request Request) (Receipt, error) {
	return l.submit(ctx, grant, request.Key, change{kind: KindRevoke, reason: request.Reason, invalidityAt: request.InvalidityAt})
}

// ChangeReason changes the reason of a revoked certificate to keyCompromise, the only change that is allowed. Grant and
// errors are those of Revoke; KindFailedPrecondition if the certificate is not revoked.
func (l *Ledger) ChangeReason(ctx context.Context, grant auth.Grant, request Request) (Receipt, error) {
	return l.submit(ctx, grant, request.Key, change{kind: KindReasonChange, reason: pki.KeyCompromise, invalidityAt: request.InvalidityAt})
}

// Hold puts a certificate that has not expired on hold. Grant and errors are those of Revoke.
func (l *Ledger) Hold(ctx context.Context, grant auth.Grant, request Request) (Receipt, error) {
	return l.submit(ctx, grant, request.Key, change{kind: KindHold, reason: pki.CertificateHold, invalidityAt: request.InvalidityAt})
}

// Release ends the hold of a certificate. Grant and errors are those of Revoke; KindFailedPrecondition if it is not on
// hold.
func (l *Ledger) Release(ctx context.Context, grant auth.Grant, request Request) (Receipt, error) {
	return l.submit(ctx, grant, request.Key, change{kind: KindRelease})
}

// Import revokes a serial that Signet did not issue: one of an earlier CA, or a forged one. The grant is for
// auth.ActionManage. KindConflict if a certificate with this serial is recorded: revoke that one.
func (l *Ledger) Import(ctx context.Context, grant auth.Grant, request Request) (Receipt, error) {
	return l.submit(ctx, grant, request.Key, change{kind: KindRevoke, reason: request.Reason, invalidityAt: request.InvalidityAt, foreign: true})
}

// submit queues a change and waits for the answer. If the caller goes away the change still happens.
func (l *Ledger) submit(ctx context.Context, grant auth.Grant, key Key, c change) (Receipt, error) {
	claim, issuer, err := l.config.Universe.claim(ctx, key)
	if err != nil {
		return Receipt{}, err
	}
	if err := allowed(c, issuer.Public); err != nil {
		return Receipt{}, err
	}
	if err := l.config.Universe.Check(); err != nil {
		return Receipt{}, err
	}
	p := &pending{claim: claim, change: c, grant: grant, done: make(chan struct{})}
	if err := l.enqueue(p); err != nil {
		return Receipt{}, err
	}
	select {
	case <-p.done:
		return p.receipt, p.err
	case <-ctx.Done():
		return Receipt{}, (&pki.Error{Kind: pki.KindUnavailable, Op: opChange, Err: ctx.Err()}).WithHint("it may have happened: repeat the request")
	}
}

// mayWrite refuses a write that does not pass the queue if the Ledger is closed, or the Universe has found that the
// database went back.
func (l *Ledger) mayWrite(op string) error {
	l.mu.RLock()
	err := l.ending(op)
	l.mu.RUnlock()
	if err != nil {
		return err
	}
	return l.config.Universe.Check()
}

// ending returns why no new request is accepted, or nil if it is. The caller holds mu.
func (l *Ledger) ending(op string) error {
	switch {
	case l.halted:
		return pki.WentBack(op)
	case l.closed:
		return pki.Errorf(pki.KindUnavailable, op, "this instance is stopping").WithHint("ask another instance")
	}
	return nil
}

func (l *Ledger) enqueue(p *pending) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.ending(opChange); err != nil {
		return err
	}
	select {
	case l.queue <- p:
		return nil
	default:
		return pki.Errorf(pki.KindExhausted, opChange, "%d changes are waiting", cap(l.queue)).WithHint("try again in a moment, or use a job")
	}
}

// commitGroups is the committer: all requests that wait when a commit begins share it. A commit costs nearly the same
// for one change as for sixteen, and a caller that was just answered often comes again at once, so the committer waits
// a moment for as many requests as it has just answered.
func (l *Ledger) commitGroups() {
	defer close(l.ended)
	var answering sync.WaitGroup
	defer answering.Wait()
	var deferred []*pending
	var company int            // requests that were under way when the last commit ended,
	var until <-chan time.Time // and until when they are waited for
	for {
		group := deferred
		if len(group) == 0 {
			p, ok := <-l.queue
			if !ok {
				return
			}
			group = append(group, p)
		}
		group = l.gather(group, company, until)
		written := l.config.Universe.writing()
		answered, entries, last, later := l.commit(group)
		deferred = later
		company, until = len(group)+len(l.queue), time.After(companyWait)
		answering.Go(func() {
			l.answer(answered, entries, last)
			written()
		})
	}
}

// gather takes what waits in the queue, and waits for company until the given time.
func (l *Ledger) gather(group []*pending, company int, until <-chan time.Time) []*pending {
	for len(group) < groupSize {
		select {
		case p, ok := <-l.queue:
			if !ok {
				return group
			}
			group = append(group, p)
			continue
		default:
		}
		if len(group) >= company {
			return group
		}
		select {
		case p, ok := <-l.queue:
			if !ok {
				return group
			}
			group = append(group, p)
		case <-until:
			company = 0
		}
	}
	return group
}

// commit decides about a group and appends the resulting entries. It returns the requests that are settled, their
// entries, the sequence that they must wait for, and the requests that must be decided after them.
func (l *Ledger) commit(group []*pending) (settled []*pending, entries []Entry, last uint64, later []*pending) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	fromMemory := true
	err := unlessStale(func() (err error) {
		settled, entries, last, later, err = l.tryCommit(ctx, group, fromMemory)
		fromMemory = false // it was behind
		return err
	})
	if err == nil {
		return settled, entries, last, later
	}
	for _, p := range group {
		if p.err == nil {
			p.err = err
		}
	}
	return group, nil, 0, nil
}

// unlessStale repeats do as long as changes of another instance interfere.
func unlessStale(do func() error) error {
	for range staleTries {
		if err := do(); !errors.Is(err, ErrStale) {
			return err
		}
	}
	return pki.Errorf(pki.KindUnavailable, opChange, "other instances change the same certificates").WithHint("try again in a moment")
}

func (l *Ledger) tryCommit(ctx context.Context, group []*pending, fromMemory bool) (settled []*pending, appended []Entry, last uint64, later []*pending, err error) {
	for _, p := range group {
		p.receipt, p.err = Receipt{}, nil
	}
	read := l.config.Universe.Seq() // at least, for the facts that follow
	facts, err := l.facts(ctx, group, fromMemory)
	if err != nil {
		return nil, nil, 0, nil, err
	}
	now := l.config.Now()
	var entries []NewEntry
	var events []audit.Event
	var writers []*pending
	taken := map[Key]bool{} // one entry per certificate and commit: the next is decided after it
	for i, p := range group {
		if taken[p.claim.Key] {
			later = append(later, p)
			continue
		}
		settled = append(settled, p)
		entry, repeated, err := l.judge(p, facts[i], now)
		switch {
		case err != nil:
			p.err = err
		case repeated:
			p.receipt = Receipt{Entry: entry, Repeated: true}
			last = max(last, entry.Seq)
		default:
			taken[p.claim.Key] = true
			entries = append(entries, NewEntry{entry, facts[i].Last.Seq})
			events = append(events, eventOf(p, entry, now))
			writers = append(writers, p)
		}
	}
	if len(entries) == 0 {
		return settled, nil, last, later, nil
	}
	end, err := l.append(ctx, read, entries, events)
	if err != nil {
		return nil, nil, 0, nil, err
	}
	for i, p := range writers {
		entries[i].Seq, entries[i].RecordedAt = end-uint64(len(entries)-1-i), now.UTC().Truncate(time.Microsecond) // by the database's clock, but for a moment
		p.receipt = Receipt{Entry: entries[i].Entry}
		appended = append(appended, entries[i].Entry)
	}
	return settled, appended, max(last, end), later, nil
}

// append writes to the ledger, which was read up to a sequence before. If it then ends before what memory has seen of
// it, the database is an older one, of a standby or a backup, and nothing is acknowledged.
func (l *Ledger) append(ctx context.Context, read uint64, entries []NewEntry, events []audit.Event) (end uint64, err error) {
	l.mu.RLock()
	halted := l.halted
	l.mu.RUnlock()
	if halted { // while it waited in the queue
		return 0, pki.WentBack(opChange)
	}
	if err := l.config.Universe.Check(); err != nil { // found since by another group, and Halt comes only with the next look at the high-water marks
		return 0, err
	}
	if end, err = l.config.Store.AppendLedger(ctx, read, entries, events); err != nil {
		return 0, err
	}
	return end, l.config.Universe.notBack(read, end-uint64(len(entries)))
}

// facts returns what decides about each request. A principal who may revoke any certificate needs only what memory
// knows about a certificate without an entry, if memory may be relied on: should an entry have come meanwhile,
// AppendLedger notices.
func (l *Ledger) facts(ctx context.Context, group []*pending, fromMemory bool) ([]Facts, error) {
	facts := make([]Facts, len(group))
	var claims []Claim
	var asked []*Facts
	for i, p := range group {
		if fromMemory && p.grant.All() && p.change.kind == KindRevoke && !p.change.foreign && l.config.Universe.untouched(p.claim.Key) {
			facts[i].Recorded = true
			continue
		}
		claims, asked = append(claims, p.claim), append(asked, &facts[i])
	}
	if len(claims) == 0 {
		return facts, nil
	}
	read, err := l.config.Store.CertificateFacts(ctx, claims)
	if err != nil {
		return nil, err
	}
	for i := range read {
		*asked[i] = read[i]
	}
	return facts, nil
}

// judge decides about one request: whether this principal may make this change of this certificate now.
func (l *Ledger) judge(p *pending, facts Facts, now time.Time) (Entry, bool, error) {
	switch {
	case p.change.foreign && !p.grant.Allows(auth.ActionManage, ""):
		return Entry{}, false, pki.Errorf(pki.KindDenied, opChange, "importing a serial takes an administrator")
	case p.change.foreign && facts.Recorded:
		return Entry{}, false, pki.Errorf(pki.KindConflict, opChange, "a certificate with serial %s is recorded", p.claim.Serial).WithHint("revoke it as such")
	case p.change.foreign:
	case !facts.Recorded && !facts.Last.Foreign:
		return Entry{}, false, pki.Errorf(pki.KindNotFound, opChange, "issuer %s has no certificate with serial %s", p.claim.Issuer, p.claim.Serial).
			InField("serial").WithHint("what Signet did not issue is revoked by an administrator, with the certificate itself")
	case !p.grant.Allows(auth.ActionRevoke, facts.Account):
		return Entry{}, false, pki.Errorf(pki.KindDenied, opChange, "%s may not change the status of a certificate of another account", p.grant.Principal().ID)
	case p.change.kind == KindRelease && facts.Last.Kind == KindHold && !p.grant.All() && facts.Last.Actor != p.grant.Principal().ID:
		// A hold that an administrator put on is not for the holder of the certificate to end.
		return Entry{}, false, pki.Errorf(pki.KindDenied, opChange, "the hold was put on by %s", facts.Last.Actor).WithHint("ask them, or an administrator")
	}
	issuer := l.config.Universe.issuer(p.claim.Issuer)
	c := p.change
	c.over = p.grant.All() && facts.Last.Actor != p.grant.Principal().ID
	entry, repeated, err := decide(c, circumstances{last: facts.Last, notAfter: facts.NotAfter, public: issuer.Public, now: now})
	if err != nil || repeated {
		return entry, repeated, err
	}
	if facts.Recorded && p.claim.Position.Epoch.Passed(issuer.Retention.Cutoff(now).Unix()) { // an acknowledgement would promise what no product shows
		return Entry{}, false, precondition("the certificate has expired, and by the clock of this server (%s) its week has passed: no list and no OCSP answer has it any more", now.UTC().Format(time.RFC3339)).
			WithHint("if that is the time, whoever accepts the certificate does not look at its end, and would see no revocation; what carries its key is refused after: signet key block")
	}
	return p.place(entry, facts.Recorded), false, nil
}

// answer waits until the Universe has applied what was committed, and answers the requests.
func (l *Ledger) answer(settled []*pending, entries []Entry, last uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	err := l.config.Universe.appended(ctx, entries, last)
	for _, p := range settled {
		if err != nil && p.err == nil {
			p.err = pki.Errorf(pki.KindUnavailable, opChange, "recorded as entry %d, but this instance cannot read it back: %w", p.receipt.Entry.Seq, err).
				WithHint("nothing is lost: repeat the request")
		}
		close(p.done)
	}
}

// actions are the action names of the audit log.
var actions = map[Kind]string{KindRevoke: "certificate.revoke", KindReasonChange: "certificate.change-reason", KindHold: "certificate.hold", KindRelease: "certificate.release"}

func eventOf(p *pending, entry Entry, now time.Time) audit.Event {
	who := p.grant.Principal()
	event := audit.Event{
		At: now, Actor: who.ID, Action: actions[p.change.kind], Outcome: audit.OK, RequestID: who.RequestID, Source: who.Source,
		Target: fmt.Sprintf("issuer/%s/serial/%s", entry.Issuer, entry.Serial), Detail: map[string]string{},
	}
	if p.change.foreign {
		event.Action = "certificate.import"
	}
	if entry.Kind != KindRelease {
		event.Detail["reason"] = entry.Reason.String()
	}
	if !entry.InvalidityAt.IsZero() {
		event.Detail["invalidity_at"] = entry.InvalidityAt.Format(time.RFC3339)
	}
	return event
}
