package revocation

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/pki"
)

// UniverseConfig configures a Universe.
type UniverseConfig struct {
	Log    LedgerReader // required
	Ranges RangeReader  // required

	// Now is the clock that tells which weeks have passed. Zero: time.Now.
	Now func() time.Time
}

// Universe holds, in memory, what was issued and what was revoked as of one prefix of the ledger. It is safe for
// concurrent use.
type Universe struct {
	config  UniverseConfig
	refresh refresh
	weeks   weekClock

	following chan struct{} // holds one token while the database is being read into memory: one reader at a time
	since     time.Time     // guarded by following: the last change of a range that was read
	nudge     chan WakeUp   // wakes Run

	mu        sync.RWMutex                  // guards what follows
	seq       uint64                        // every entry up to here is applied
	asOf      time.Time                     // everything that was committed before is applied
	asked     time.Time                     // of the oldest wake-up that no reading has answered; zero: there is none
	issuers   map[pki.IssuerID]*issuerBooks //
	recent    []Entry                       // the entries after recentOf, for watches that are not far behind
	recentOf  uint64                        //
	made      []Scope                       // shards in the order in which they came to exist
	gone      []Scope                       // shards in the order in which their week passed
	watches   map[*Watch]bool               //
	writers   atomic.Int32                  // appending to the ledger in this instance
	wrote     chan struct{}                 // one of them has ended
	regressed *RegressedError               // set once the database was seen to have gone back
}

// RegressedError says that the database is older than what was read from it earlier: it was restored, or a standby that
// had not received everything was promoted. What is in memory is newer and is still served.
type RegressedError struct {
	Seen  uint64 // the last sequence that was read
	Found uint64 // where the ledger ends now
}

// Error names both sequences.
func (e *RegressedError) Error() string {
	return fmt.Sprintf("the ledger ends at %d and had reached %d: the database went back", e.Found, e.Seen)
}

const (
	pollInterval  = time.Second // in case a notification was lost
	followPause   = 3 * time.Millisecond
	writerLead    = 5 * time.Millisecond // longer than applying what was appended takes
	readSize      = 10_000               // entries read at a time
	recentEntries = 16_384               // kept for watches
)

// NewUniverse makes a Universe. Load fills it; Run keeps it up to date.
func NewUniverse(config UniverseConfig) (*Universe, error) {
	if config.Log == nil || config.Ranges == nil {
		return nil, pki.Errorf(pki.KindInvalid, "make universe", "Log and Ranges are required")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	u := &Universe{config: config, following: make(chan struct{}, 1), nudge: make(chan WakeUp, 1), wrote: make(chan struct{}, 1), issuers: map[pki.IssuerID]*issuerBooks{}, watches: map[*Watch]bool{}}
	u.refresh.universe, u.weeks.now = u, config.Now
	return u, nil
}

// lock waits, as long as ctx lasts, for its turn to read the database. The caller must then call unlock.
func (u *Universe) lock(ctx context.Context) error {
	select {
	case u.following <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &pki.Error{Kind: pki.KindUnavailable, Op: "follow ledger", Err: fmt.Errorf("another reading has not ended: %w", ctx.Err())}
	}
}

func (u *Universe) unlock() { <-u.following }

// Load reads issuers, ranges and ledger of the epochs that have not passed. Call it once, before any other method.
func (u *Universe) Load(ctx context.Context) error {
	if err := u.lock(ctx); err != nil {
		return err
	}
	defer u.unlock()
	begun := u.config.Now()
	if err := u.readIssuers(ctx); err != nil {
		return err
	}
	ranges, since, err := u.readRanges(ctx)
	if err != nil {
		return err
	}
	// After the ranges: a closed range is applied together with its voids, which are on the ledger since it closed.
	head, err := u.config.Log.LedgerHead(ctx)
	if err != nil {
		return err
	}
	for e, err := range u.config.Log.LedgerLoad(ctx, u.firstEpoch(), head) {
		if err != nil {
			return err
		}
		u.mu.Lock()
		u.applyEntry(&e)
		u.mu.Unlock()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seq, u.recentOf, u.asOf = head, head, begun
	u.applyRanges(ranges)
	u.since = since
	u.wakeWatches()
	return nil
}

// Run follows the ledger until ctx ends: it listens, reads when woken, and polls every second in case a wake-up was
// lost. While the database does not answer, the Universe keeps what it has, and report, if not nil, is called with the
// error.
func (u *Universe) Run(ctx context.Context, report func(error)) {
	var listening sync.WaitGroup
	defer listening.Wait()
	listening.Go(func() { u.listen(ctx, report) })
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		news := WakeUp{Ranges: true}
		select {
		case <-ctx.Done():
			return
		case news = <-u.nudge:
		case <-poll.C:
		}
		if !news.Ranges && u.applied(ctx, news.Seq) { // this instance appended it, or has read it with what was before
			continue
		}
		u.wokenAt()
		if err := u.follow(ctx, news.Ranges); err != nil && ctx.Err() == nil && report != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(followPause): // one reading for whatever is appended meanwhile
		}
	}
}

// listen nudges Run at every notification, and listens again a second after the connection breaks.
func (u *Universe) listen(ctx context.Context, report func(error)) {
	for ctx.Err() == nil {
		err := u.config.Log.ListenLedger(ctx, func(news WakeUp) {
			select {
			case u.nudge <- news:
			case pending := <-u.nudge: // one nudge stands for any number
				u.nudge <- WakeUp{news.Ranges || pending.Ranges, max(news.Seq, pending.Seq)}
			}
		})
		if ctx.Err() == nil && report != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
}

// Seq returns the sequence up to which every entry is applied.
func (u *Universe) Seq() uint64 {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.seq
}

// AsOf returns the time up to which memory is known to be complete: everything committed before it is applied. It does
// not advance while the database does not answer.
func (u *Universe) AsOf() time.Time {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.asOf
}

// Await returns when every entry up to seq is applied. It reads the ledger itself if necessary. KindUnavailable: ctx
// ended first.
func (u *Universe) Await(ctx context.Context, seq uint64) error {
	if u.Seq() >= seq {
		return nil
	}
	if err := u.lock(ctx); err != nil {
		return err
	}
	defer u.unlock()
	if u.Seq() >= seq { // whoever held the lock read it
		return nil
	}
	if err := u.readLedger(ctx); err != nil {
		return err
	}
	if reached := u.Seq(); reached < seq {
		return pki.Errorf(pki.KindFailedPrecondition, "await ledger", "the ledger ends at %d, before %d", reached, seq)
	}
	return nil
}

// writing says that this instance is appending to the ledger, until done is called.
func (u *Universe) writing() (done func()) {
	u.writers.Add(1)
	return func() {
		u.writers.Add(-1)
		select {
		case u.wrote <- struct{}{}:
		default:
		}
	}
}

// applied reports whether every entry up to seq is applied. A writer of this instance applies what it appended without
// reading it back, but learns of its commit no sooner than every listener does, so applied waits for the next writer to
// end, at most for writerLead. The entry may be another instance's: then only reading the ledger helps.
func (u *Universe) applied(ctx context.Context, seq uint64) bool {
	select {
	case <-u.wrote: // by a writer that ended before
	default:
	}
	if u.Seq() < seq && u.writers.Load() > 0 {
		select {
		case <-u.wrote:
		case <-time.After(writerLead):
		case <-ctx.Done():
		}
	}
	return u.Seq() >= seq
}

// CatchUp applies every entry that is now on the ledger. KindUnavailable: ctx ended first.
func (u *Universe) CatchUp(ctx context.Context) error {
	if err := u.lock(ctx); err != nil {
		return err
	}
	defer u.unlock()
	return u.readLedger(ctx)
}

// appended is Await for a writer that knows the last entries up to seq: if no entry before them is missing, they are
// applied without reading them back.
func (u *Universe) appended(ctx context.Context, entries []Entry, seq uint64) error {
	if len(entries) == 0 || entries[len(entries)-1].Seq != seq {
		return u.Await(ctx, seq)
	}
	if err := u.lock(ctx); err != nil {
		return err
	}
	if i, found := slices.BinarySearchFunc(entries, u.Seq()+1, bySeq); found {
		u.applyEntries(entries[i:])
	}
	u.unlock()
	return u.Await(ctx, seq)
}

// Lag returns for how long there may have been ledger entries that are not applied: since the oldest wake-up that no
// reading of the database has answered, or since the last of the entries that were read so far. It is 0 while memory is
// up to date, and grows while the database does not answer.
func (u *Universe) Lag() time.Duration {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if u.asked.IsZero() {
		return 0
	}
	return max(0, u.config.Now().Sub(u.asked))
}

// wokenAt notes a wake-up.
func (u *Universe) wokenAt() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.asked.IsZero() {
		u.asked = u.config.Now()
	}
}

// RecordedAfter returns when the first entry after a sequence was recorded, by the database's clock; false if no such
// entry is applied. For a sequence far behind it returns the time of the oldest entry that is kept for watches.
func (u *Universe) RecordedAfter(seq uint64) (time.Time, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if seq >= u.seq {
		return time.Time{}, false
	}
	i, _ := slices.BinarySearchFunc(u.recent, seq+1, bySeq)
	if i == len(u.recent) { // nothing was read since Load
		return u.asOf, true
	}
	return u.recent[i].RecordedAt, true
}

// Check returns an error if new work must not rely on the Universe because the database went back.
func (u *Universe) Check() error {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if u.regressed == nil {
		return nil
	}
	return (&pki.Error{Kind: pki.KindFailedPrecondition, Op: "follow ledger", Err: u.regressed}).
		WithHint("stop every instance and run signet restore: serials and CRL numbers must not be used twice")
}

// follow brings memory up to date with the database.
func (u *Universe) follow(ctx context.Context, ranges bool) error {
	if err := u.lock(ctx); err != nil {
		return err
	}
	defer u.unlock()
	begun := u.config.Now()
	if u.wentBack() {
		if err := u.reload(ctx); err != nil {
			return err
		}
	}
	if !ranges {
		return u.readLedger(ctx)
	}
	if err := u.readIssuers(ctx); err != nil {
		return err
	}
	changed, since, err := u.readRanges(ctx)
	if err != nil {
		return err
	}
	if err := u.readLedger(ctx); err != nil { // after the ranges, as in Load
		return err
	}
	if err := u.checkHead(ctx); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.since, u.asOf = since, begun
	made, gone := u.applyRanges(changed), u.dropPassed()
	if made || gone {
		u.wakeWatches()
	}
	return nil
}

// readLedger applies every entry that is visible now.
func (u *Universe) readLedger(ctx context.Context) error {
	for after := u.Seq(); ; {
		entries, err := u.config.Log.LedgerEntries(ctx, after, readSize)
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			after = entries[len(entries)-1].Seq
			u.applyEntries(entries)
		}
		u.mu.Lock()
		if len(entries) < readSize {
			u.asked = time.Time{}
			u.mu.Unlock()
			return nil
		}
		u.asked = entries[readSize-1].RecordedAt
		u.mu.Unlock()
	}
}

// checkHead compares the end of the ledger with what was read. The head may be above the last entry (restore).
func (u *Universe) checkHead(ctx context.Context) error {
	seen := u.Seq()
	head, err := u.config.Log.LedgerHead(ctx)
	if err != nil {
		return err
	}
	return u.notBack(seen, head)
}

// notBack stops new work if the ledger was found to end before what had been seen of it.
func (u *Universe) notBack(seen, found uint64) error {
	if found >= seen {
		return nil
	}
	u.mu.Lock()
	u.regressed = &RegressedError{Seen: seen, Found: found}
	u.mu.Unlock()
	return u.Check()
}

func (u *Universe) readIssuers(ctx context.Context) error {
	keys, err := u.config.Ranges.IssuerKeys(ctx)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, key := range keys {
		u.books(key.Key.Issuer()).key = key
	}
	return nil
}

// readRanges collects what changed since the last time, and returns the time of the last change.
func (u *Universe) readRanges(ctx context.Context) ([]Range, time.Time, error) {
	var ranges []Range
	since := u.since
	for r, err := range u.config.Ranges.ChangedRanges(ctx, u.firstEpoch(), u.since) {
		if err != nil {
			return nil, since, err
		}
		ranges = append(ranges, r)
		if r.At.After(since) {
			since = r.At
		}
	}
	return ranges, since, nil
}

// firstEpoch is the first epoch that has not passed for every issuer.
func (u *Universe) firstEpoch() pki.Epoch {
	u.mu.RLock()
	defer u.mu.RUnlock()
	now := u.weeks.at()
	oldest := now
	for _, books := range u.issuers {
		if at := books.key.Retention.Cutoff(now); at.Before(oldest) {
			oldest = at
		}
	}
	return pki.FirstEpoch(oldest.Unix())
}

// Entries yields the entries of a scope with after < Seq <= upTo, in ledger order, from the database. A publisher folds
// them into its list: the last entry of a serial wins. Voids are included (Kind.Revokes). upTo must not be above Seq.
func (u *Universe) Entries(ctx context.Context, scope Scope, after, upTo uint64) iter.Seq2[Entry, error] {
	return u.config.Log.LedgerScope(ctx, scope, after, upTo)
}

// LoadEntries yields, from the database, the entries that any list may have: those with Seq <= upTo that are foreign or
// whose epoch is at least from. The foreign ones come first, issuer by issuer, and then shard by shard; the entries of
// a certificate are in order. upTo must not be above Seq.
func (u *Universe) LoadEntries(ctx context.Context, from pki.Epoch, upTo uint64) iter.Seq2[Entry, error] {
	return u.config.Log.LedgerLoad(ctx, from, upTo)
}

// Issuers returns the issuers that the Universe covers, ordered by identifier.
func (u *Universe) Issuers() []IssuerKey {
	u.mu.RLock()
	defer u.mu.RUnlock()
	var keys []IssuerKey
	for _, books := range u.issuers {
		if books.key.Key != (pki.KeyHash{}) {
			keys = append(keys, books.key)
		}
	}
	slices.SortFunc(keys, func(a, b IssuerKey) int { return slices.Compare(a.Key[:], b.Key[:]) })
	return keys
}

// Claim unmasks the serial of a key. Dense is false if the issuer is not known.
func (u *Universe) Claim(key Key) Claim {
	claim := Claim{Key: key}
	u.mu.RLock()
	defer u.mu.RUnlock()
	if books, ok := u.issuers[key.Issuer]; ok && books.key.Key != (pki.KeyHash{}) {
		claim.Position, claim.Dense = key.Serial.Unmask(books.key.Key)
	}
	return claim
}

// claim is Claim for a writer: it reads the issuers again if this one is new, and returns KindNotFound if there is
// none.
func (u *Universe) claim(ctx context.Context, key Key) (Claim, IssuerKey, error) {
	issuer := u.issuer(key.Issuer)
	if issuer.Key == (pki.KeyHash{}) {
		if err := u.lock(ctx); err != nil {
			return Claim{}, issuer, err
		}
		err := u.readIssuers(ctx)
		u.unlock()
		if err != nil {
			return Claim{}, issuer, err
		}
		if issuer = u.issuer(key.Issuer); issuer.Key == (pki.KeyHash{}) {
			return Claim{}, issuer, pki.Errorf(pki.KindNotFound, "find issuer", "there is no issuer %s", key.Issuer).InField("issuer")
		}
	}
	return u.Claim(key), issuer, nil
}

// issuer returns what is known of an issuer; its Key is zero if nothing is.
func (u *Universe) issuer(id pki.IssuerID) IssuerKey {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if books, ok := u.issuers[id]; ok {
		return books.key
	}
	return IssuerKey{}
}
