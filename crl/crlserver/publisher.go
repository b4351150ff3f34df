package crlserver

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// Issuer is an issuer whose lists are published.
type Issuer struct {
	Key     pki.KeyHash      //
	Subject []byte           // DER of its name
	KeyID   []byte           // its subject key identifier
	Public  crypto.PublicKey //
	BaseURL string           // where its lists are, without a trailing slash: "http://pki.example"
	Delta   bool             // publish deltas of the complete list too

	// Retention is how long after its week has passed a certificate stays on the lists. The lists say so in
	// expiredCertsOnCRL.
	Retention pki.Retention

	// Offline says that no instance has the key: the complete list is made at a ceremony and imported with Import.
	Offline bool

	// Retired says that the issuer no longer issues: its key may be gone for good, which an instance without the key
	// cannot tell.
	Retired bool

	// Ended says that the issuer's own certificate has ended: an instance without the key then waits for no further
	// list.
	Ended bool

	// Over says that no further list is needed: the issuer has Ended, or it is retired and this issuing instance lacks
	// its key. Its lists are made while there is a Signer, and their end is no fault.
	Over bool

	// Signer signs the lists. It is nil on an instance without the key, which serves what others publish.
	Signer crypto.Signer
}

// Config configures a Publisher.
type Config struct {
	Publications Publications         // required
	Bases        Bases                // required
	Imports      Imports              // nil: no list of an off-line issuer can be imported
	Universe     *revocation.Universe // required; loaded and running

	// Issuers returns the issuers to publish now. It is called every second, so it must not block; the Signer of an
	// issuer may, for as long as signing takes. Required.
	Issuers func() []Issuer

	Instance revocation.InstanceID // of this process. Required.
	Interval time.Duration         // longest time between two rebuilds of a list. Zero: 6 hours.
	Validity time.Duration         // from thisUpdate to nextUpdate, longer than Interval. Zero: 72 hours.
	MaxAge   time.Duration         // longest time that HTTP caches may keep a list. Zero: 5 minutes.
	Mirrors  []Mirror              // places that every list is copied to as well
	Log      *slog.Logger          // nil: nothing is logged
	Now      func() time.Time      // nil: time.Now

	// Span returns the bounds of the present time, as far as clocks agree. Lists are dated with the earliest, and a
	// list dated after the latest is from the future. Nil: both are Now. Of the Publisher it may call only Skew.
	Span func() (earliest, latest time.Time)
}

const (
	// largeSize is the size from which the complete list no longer follows every event, and from which the octets of a
	// periodic rebuild are not kept in the database.
	largeSize = 1 << 20
	// largeRest is how often a complete list of that size is rebuilt if it changed.
	largeRest = 15 * time.Minute
)

func (c *Config) validate() error {
	const op = "make publisher"
	switch {
	case c.Publications == nil || c.Bases == nil || c.Universe == nil || c.Issuers == nil || c.Instance == revocation.InstanceID{}:
		return pki.Errorf(pki.KindInvalid, op, "Publications, Bases, Universe, Issuers and Instance are required")
	case c.Interval < 0 || c.MaxAge < 0: // Validity is longer than Interval
		return pki.Errorf(pki.KindInvalid, op, "a duration is negative")
	}
	c.Interval = cmp.Or(c.Interval, 6*time.Hour)
	c.Validity = cmp.Or(c.Validity, 72*time.Hour)
	c.MaxAge = cmp.Or(c.MaxAge, 5*time.Minute)
	if c.Validity <= c.Interval {
		return pki.Errorf(pki.KindInvalid, op, "lists that are valid for %s and rebuilt every %s lapse", c.Validity, c.Interval).InField("validity")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Span == nil {
		c.Span = func() (earliest, latest time.Time) { now := c.Now(); return now, now }
	}
	return nil
}

// Publisher publishes and serves the lists of every issuer. It is safe for concurrent use.
type Publisher struct {
	config  Config
	watch   *revocation.Watch // of the goroutine that follows
	waiters chan struct{}     // requests that wait for the first list of a shard
	unheard time.Duration     // how long they wait if this instance has not heard of the shard
	shards  lane
	wholes  lane // complete lists and deltas

	latest latest       // of config.Now
	skew   atomic.Int64 // nanoseconds by which this instance's clock is ahead of the database's

	mu      sync.RWMutex  // guards what follows, and the arenas
	seq     uint64        // every ledger entry up to here is in the arenas
	marks   marks         // when those entries were recorded
	loaded  uint64        // the ledger sequence of Load
	mirrors []mirrorState // in the order of the configuration
	effort  effort        // processor time that may be spent on lists
	looked  bool          // every series was examined since the configuration was last read, so books.behind is complete
	issuers map[pki.IssuerID]*books
	halted  error         // set once the database was seen to have gone back
	basesAt time.Time     // base URLs were read up to here
	headsAt time.Time     // heads were read up to here
	changed chan struct{} // closed and replaced whenever the result of reached may have grown

	rereading bool // entries are missing
}

// books are the entries and lists of one issuer.
type books struct {
	issuer    Issuer // Key is zero while the configuration does not name it
	weeks     map[pki.Shard]*crl.Arena
	foreign   *crl.Arena             // imported and forged serials
	names     map[pki.Shard][]string // URLs of a shard that are in certificates, oldest first
	lists     map[List]*listState
	series    map[Series]*seriesState
	behind    map[Series]bool    // series that may have to be published, so that an event does not examine thousands of shards
	seq       uint64             // last ledger entry that concerns a list
	waiting   map[List]Head      // heads that cannot be rebuilt yet
	abandoned map[List]abandoned // heads that could not be rebuilt
}

// listState is one list as it is served.
type listState struct {
	head     Head
	document crl.Document
	etag     string
	first    time.Time // since when this process serves the list, whatever its number
}

// seriesState is the publishing of one series.
type seriesState struct {
	running  bool
	earliest time.Time // when the next run may begin
	due      time.Time // since when a run has been due; zero: none is due
	ours     uint64    // the last number that this instance published or found; another instance made a larger one: see deference
	failures int       // in a row
	failure  error

	seen [KindDelta + 1]crl.Seen // by kind of list; of the publication that runs
}

// New makes a Publisher. Call Load; then Run publishes and Handler serves. Errors are of KindInvalid.
func New(config Config) (*Publisher, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	p := &Publisher{config: config, waiters: make(chan struct{}, waiters), unheard: shortPatience, shards: newShards(), wholes: newWholes(),
		issuers: make(map[pki.IssuerID]*books), changed: make(chan struct{})}
	p.config.Now = p.latest.watch(config.Now)
	for range config.Mirrors {
		p.mirrors = append(p.mirrors, mirrorState{
			copied: make(map[List]uint64), done: make(map[List]placed), unindexed: make(map[pki.IssuerID]bool),
		})
	}
	return p, nil
}

// Load reads the ledger and the published lists. Call it once, after the Universe was loaded and before Run. The
// handler may serve earlier.
func (p *Publisher) Load(ctx context.Context) error {
	p.readIssuers()
	asked := p.config.Now()
	heads, at, err := p.config.Publications.PublicationHeads(ctx, time.Time{})
	if err != nil {
		return err
	}
	p.measure(asked, at)
	p.mu.Lock()
	for _, h := range heads {
		h.Final = p.final(h)
		p.books(h.List.Issuer).waiting[h.List] = h
	}
	p.headsAt = at
	p.mu.Unlock()
	if err := p.readLedger(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	p.loaded = p.seq
	p.mu.Unlock()
	return errors.Join(p.adoptWaiting(ctx, &p.shards), p.adoptWaiting(ctx, &p.wholes))
}

// CatchUp applies everything that the Universe and other instances have added since Load. Call it after Load and
// before Run.
func (p *Publisher) CatchUp(ctx context.Context) error {
	head := p.config.Universe.Seq()
	for more := true; more; more = p.seq < head { // one take may return only a part
		if _, err := p.take(ctx); err != nil {
			return err
		}
	}
	if err := p.readHeads(ctx, commitSlack); err != nil {
		return err
	}
	return errors.Join(p.adoptWaiting(ctx, &p.shards), p.adoptWaiting(ctx, &p.wholes))
}

// Run follows the ledger and publishes until ctx ends. It returns once the publications in flight have ended.
func (p *Publisher) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { p.follow(ctx) })
	running.Go(func() { p.listen(ctx) })
	for _, l := range []*lane{&p.shards, &p.wholes} {
		running.Go(func() { p.adopt(ctx, l) })
		running.Go(func() { p.schedule(ctx, l) })
	}
	for i, m := range p.config.Mirrors {
		running.Go(func() { p.mirror(ctx, m, &p.mirrors[i]) })
	}
	running.Wait()
}

// Skew returns by how much the clock of this instance is ahead of the database's.
func (p *Publisher) Skew() time.Duration { return time.Duration(p.skew.Load()) }

// ReachedBy returns, by issuer, the ledger sequence up to which this instance serves every shard and delta, and every
// complete list that follows events. Some lists do not count: those of off-line issuers, which wait for a ceremony,
// and those that may never come, which are the lists of issuers that have ended and, once they are no longer made, of
// a retired issuer whose key this instance lacks.
func (p *Publisher) ReachedBy() map[pki.IssuerID]uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	reached := make(map[pki.IssuerID]uint64, len(p.issuers))
	for id, b := range p.issuers {
		if b.issuer.Key != (pki.KeyHash{}) {
			reached[id] = p.reachedBy(b)
		}
	}
	return reached
}

// reached returns the least sequence of ReachedBy, or the sequence up to which the ledger was read if there is no
// issuer. p.mu is held.
func (p *Publisher) reached() uint64 {
	reached := p.seq
	for _, b := range p.issuers {
		if b.issuer.Key != (pki.KeyHash{}) {
			reached = min(reached, p.reachedBy(b))
		}
	}
	return reached
}

func (p *Publisher) reachedBy(b *books) uint64 {
	reached, now := p.seq, p.config.Now()
	if b.issuer.Ended && b.issuer.Signer == nil {
		return reached
	}
	series := slices.Collect(maps.Keys(b.behind))
	if !p.looked {
		series = b.wanted(now)
	}
	for _, series := range series {
		if !b.wants(series, now) {
			continue
		}
		for _, list := range b.listsOf(series) {
			if list.Kind == KindComplete && (b.large() || b.issuer.Offline) {
				continue
			}
			served, ok := b.lists[list]
			switch {
			case !b.issuer.awaited() && (!ok || p.forsaken(served.head, now)):
			case !ok:
				reached = 0
			case b.touched(list) > served.head.Seq:
				reached = min(reached, served.head.Seq)
			}
		}
	}
	return reached
}

// forsaken reports whether a list was not made again for so long that waiting for the next is pointless. It is about
// retired issuers whose key this instance lacks. If another instance has the key, it makes every list as often as
// required, and retries at least every abandonMax; otherwise the key was removed for good.
func (p *Publisher) forsaken(h Head, now time.Time) bool {
	return now.Sub(h.ThisUpdate) > p.config.Interval+abandonMax
}

// Await waits until every issuer of ReachedBy has reached seq. If ctx ends first, the error is of KindUnavailable.
func (p *Publisher) Await(ctx context.Context, seq uint64) error {
	for {
		p.mu.RLock()
		reached, changed := p.reached(), p.changed
		p.mu.RUnlock()
		if reached >= seq {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &pki.Error{
				Kind: pki.KindUnavailable, Op: "await publication", Err: fmt.Errorf("lists have reached %d of %d: %w", reached, seq, ctx.Err()),
				Hint: "the revocation is recorded and holds; only its publication is late",
			}
		}
	}
}

// AwaitSeq waits until the Publisher has read the ledger up to seq. If ctx ends first, the error is of KindUnavailable.
func (p *Publisher) AwaitSeq(ctx context.Context, seq uint64) error {
	for {
		p.mu.RLock()
		reached, changed := p.seq, p.changed
		p.mu.RUnlock()
		if reached >= seq {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &pki.Error{Kind: pki.KindUnavailable, Op: "follow ledger", Err: ctx.Err()}
		}
	}
}

// progressed wakes Await. p.mu is held.
func (p *Publisher) progressed() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Document returns the octets and the head of a list as served now. ok is false if it is not served.
func (p *Publisher) Document(list List) (document crl.Document, head Head, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if b, ok := p.issuers[list.Issuer]; ok {
		if served, ok := b.lists[list]; ok {
			return served.document, served.head, true
		}
	}
	return nil, Head{}, false
}
