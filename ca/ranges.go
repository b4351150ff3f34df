package ca

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

const (
	smallestRange = 16
	largestRange  = 4096
	idleTicks     = 60 // after which a range is given back: ten minutes, with leases of 30 s
	missingTicks  = 9  // three leases
	mostMissing   = 4096
	reserveTime   = 10 * time.Second
)

// place is a sequence of indices.
type place struct {
	issuer pki.IssuerID
	epoch  pki.Epoch
}

// ranges hands out indices of this process's reservations. A slot that was taken is settled exactly once: returned if
// nothing was signed with it, else signed. When the last slot of an exhausted range is settled, the range is closed.
type ranges struct {
	store RangeStore
	owner OwnerID
	lease time.Duration
	now   func() time.Time

	mu       sync.Mutex // guards the rest
	places   map[place]*queue
	newest   RangeID // of the ranges that this process reserved
	shut     bool
	halted   bool                   // the database must no longer be written to
	unclosed []*openRange           // could not be closed; tick tries again, since their leases are renewed with the others
	missing  map[pki.RangeNonce]int // reservations that returned an error but may exist, and for how many ticks they are still looked for
}

// queue is the queue for indices of one place.
type queue struct {
	issuer *issuerKey

	mu      sync.Mutex // held while reserving, so that other callers wait for the new range
	current *openRange
	next    uint64 // size of the next reservation
	used    bool   // since the last tick
	idle    int    // ticks since it was used
	busy    bool   // exhausted a range since the last tick
}

// openRange is a reservation of this process.
type openRange struct {
	Range
	key    pki.RangeKey
	issuer *issuerKey

	mu       sync.Mutex
	next     uint64   // first index never taken
	returned []uint64 // taken and given back
	inFlight int      // taken and not settled
	retired  bool     // takes no more; closes when nothing is in flight
}

// slot is one index, taken.
type slot struct {
	from  *openRange
	index uint64
}

func (s slot) position() pki.Position { return pki.Position{Epoch: s.from.Epoch, Index: s.index} }

func (s slot) serial() pki.Serial {
	return pki.NewSerial(s.from.key, s.from.issuer.KeyHash, s.position())
}

func newRanges(store RangeStore, lease time.Duration, now func() time.Time) (*ranges, error) {
	r := &ranges{store: store, lease: lease, now: now, places: make(map[place]*queue), missing: make(map[pki.RangeNonce]int)}
	if _, err := rand.Read(r.owner[:]); err != nil {
		return nil, pki.Errorf(pki.KindInternal, "draw owner id", "%w", err)
	}
	return r, nil
}

// take takes the next index of a place, and reserves a range if there is none.
func (r *ranges) take(ctx context.Context, issuer *issuerKey, epoch pki.Epoch) (slot, error) {
	q := r.queue(issuer, epoch)
	q.mu.Lock()
	defer q.mu.Unlock()
	// Checked under the lock: while this waited for it, stop may have given back what the place had.
	if err := r.mayTake(); err != nil {
		return slot{}, err
	}
	if err := ctx.Err(); err != nil {
		return slot{}, pki.Errorf(pki.KindUnavailable, "take index", "the caller is gone: %w", err)
	}
	q.used = true
	if q.current != nil {
		if s, ok := q.current.take(); ok {
			return s, nil
		}
		_ = r.retire(ctx, q.current) // this caller gets its index in any case; tick closes the range again, and reports
		q.current, q.busy = nil, true
		q.next = min(2*q.next, largestRange)
	}
	reserved, err := r.reserve(issuer, epoch, q.next)
	if err != nil {
		return slot{}, err
	}
	q.current = reserved
	s, _ := reserved.take() // a new range is not empty
	return s, nil
}

func (r *ranges) queue(issuer *issuerKey, epoch pki.Epoch) *queue {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := place{issuer.ID, epoch}
	q := r.places[at]
	if q == nil {
		q = &queue{issuer: issuer, next: smallestRange}
		r.places[at] = q
	}
	return q
}

func (r *ranges) mayTake() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.halted {
		return pki.WentBack("take index")
	}
	if r.shut {
		return pki.Errorf(pki.KindUnavailable, "take index", "this process is stopping").WithHint("ask another instance")
	}
	return nil
}

// reserve reserves a range. It has a time limit of its own and not its caller's context: the next caller needs the
// range too, and a range that was reserved after its caller went away would be unknown to all.
func (r *ranges) reserve(issuer *issuerKey, epoch pki.Epoch, count uint64) (*openRange, error) {
	ctx, cancel := context.WithTimeout(context.Background(), reserveTime)
	defer cancel()
	var nonce pki.RangeNonce
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, pki.Errorf(pki.KindInternal, "draw range nonce", "%w", err)
	}
	before := r.draw(0)
	reserved, err := r.store.Reserve(ctx, Reservation{
		Issuer: issuer.ID, Epoch: epoch, Count: count, Nonce: nonce, Owner: r.owner, Lease: r.lease,
	})
	if err != nil {
		r.miss(nonce)
		return nil, err
	}
	if newest := r.draw(reserved.ID); reserved.ID <= before || reserved.ID == newest {
		// The ids of ranges are what recording goes by, and grow with every reservation: an entry signed in a range
		// that was lost would be recorded in this one, whose serials are others.
		r.halt()
		return nil, pki.Errorf(pki.KindFailedPrecondition, "reserve indices",
			"range %d is given out after range %d: this database went back in time", reserved.ID, newest).
			WithHint("stop every instance and run `signet restore --in-place`")
	}
	return &openRange{Range: reserved, issuer: issuer, next: reserved.From, key: rangeKey(issuer, reserved)}, nil
}

// miss remembers a reservation that failed: perhaps only its answer was lost.
func (r *ranges) miss(nonce pki.RangeNonce) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.missing) < mostMissing { // or the database has been away for long, and nothing was reserved
		r.missing[nonce] = missingTicks
	}
}

// draw remembers the id of a range, and returns the newest that was drawn before.
func (r *ranges) draw(id RangeID) (newest RangeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest, r.newest = r.newest, max(r.newest, id)
	return newest
}

func rangeKey(issuer *issuerKey, r Range) pki.RangeKey {
	return pki.NewRangeKey(issuer.key.Secret, r.Nonce, issuer.KeyHash, r.Epoch, r.KeyFrom)
}

func (o *openRange) take() (slot, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.retired {
		return slot{}, false
	}
	if last := len(o.returned) - 1; last >= 0 {
		index := o.returned[last]
		o.returned = o.returned[:last]
		o.inFlight++
		return slot{o, index}, true
	}
	if o.next == o.To {
		return slot{}, false
	}
	o.next++
	o.inFlight++
	return slot{o, o.next - 1}, true
}

// giveBack settles a slot that nothing was signed with.
func (r *ranges) giveBack(ctx context.Context, s slot) {
	s.from.mu.Lock()
	s.from.returned = append(s.from.returned, s.index)
	r.settle(ctx, s.from)
}

// signed settles a slot that may have been used for a signature, recorded or not.
func (r *ranges) signed(ctx context.Context, s slot) {
	s.from.mu.Lock()
	r.settle(ctx, s.from)
}

// settle is called with o.mu held and releases it.
func (r *ranges) settle(ctx context.Context, o *openRange) {
	o.inFlight--
	done := o.retired && o.inFlight == 0
	o.mu.Unlock()
	if done {
		_ = r.close(ctx, o) // the request has its answer; tick closes it again, and reports
	}
}

// retire lets a range give no more indices; it is closed when nothing is in flight.
func (r *ranges) retire(ctx context.Context, o *openRange) error {
	o.mu.Lock()
	if o.retired {
		o.mu.Unlock()
		return nil
	}
	o.retired = true
	done := o.inFlight == 0
	o.mu.Unlock()
	if !done {
		return nil
	}
	return r.close(ctx, o)
}

// close closes a range in the database and names the indices that were never signed. The rest is recorded or becomes
// void. If this process dies first, the lease runs out and reconciliation closes the range, and everything unrecorded
// becomes void.
func (r *ranges) close(ctx context.Context, o *openRange) error {
	o.mu.Lock()
	unsigned := append(slices.Clone(o.returned), seq(o.next, o.To)...)
	o.mu.Unlock()
	slices.Sort(unsigned)
	closing := closingOf(o.issuer, o.Range, r.owner, o.key, r.now())
	closing.Unsigned = runs(unsigned)
	// A range is closed for the sake of others; that a caller went away is no reason to leave it open.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closingPatience)
	defer cancel()
	if _, err := r.store.CloseRange(ctx, closing); err != nil {
		r.mu.Lock()
		r.unclosed = append(r.unclosed, o)
		r.mu.Unlock()
		return err
	}
	return nil
}

// closingPatience bounds the closing of a range, whatever becomes of its caller.
const closingPatience = 10 * time.Second

func closingOf(issuer *issuerKey, r Range, closer OwnerID, key pki.RangeKey, now time.Time) Closing {
	serials := make([]pki.Serial, 0, r.To-r.From)
	for index := r.From; index < r.To; index++ {
		serials = append(serials, pki.NewSerial(key, issuer.KeyHash, pki.Position{Epoch: r.Epoch, Index: index}))
	}
	return Closing{
		Range: r.ID, Closer: closer, Key: key, Serials: serials,
		Event: audit.Event{
			At: now, Actor: auth.System("ranges").ID, Action: "range.void", Target: "issuer/" + r.Issuer.String(), Outcome: audit.OK,
			Detail: map[string]string{"epoch": r.Epoch.String(), "from": decimal(r.From), "to": decimal(r.To)},
		},
	}
}

func seq(from, to uint64) []uint64 {
	var all []uint64
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

// runs joins sorted indices.
func runs(sorted []uint64) []Run {
	var all []Run
	for _, index := range sorted {
		if last := len(all) - 1; last >= 0 && all[last].To == index {
			all[last].To++
			continue
		}
		all = append(all, Run{index, index + 1})
	}
	return all
}

// lost forgets a range that another process closed: nothing more can be recorded in it.
func (r *ranges) lost(o *openRange) {
	o.mu.Lock()
	o.retired = true
	o.mu.Unlock()
}

// renewPatience is a third of the default lease, so that a round that hangs does not delay the next.
const renewPatience = 10 * time.Second

// renew renews the leases. It must be called every third of a lease, and nothing else may delay it.
func (r *ranges) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewPatience)
	defer cancel()
	_, err := r.store.RenewLeases(ctx, r.owner, r.lease)
	return err
}

// tick closes ranges that have been unused for idleTicks, and shrinks the sizes of reservations. It must be called
// every third of a lease.
func (r *ranges) tick(ctx context.Context) error {
	closed := errors.Join(r.closeAgain(ctx), r.closeMissing(ctx))
	idled := r.eachQueue(func(q *queue) error {
		used, busy := q.used, q.busy
		q.used, q.busy = false, false
		if !busy {
			q.next = max(q.next/2, smallestRange)
		}
		q.idle++
		if used {
			q.idle = 0
		}
		if q.idle < idleTicks || q.current == nil {
			return nil
		}
		return r.retireCurrent(ctx, q)
	})
	return errors.Join(closed, idled)
}

// stop closes every range. Certificates in flight settle the rest.
func (r *ranges) stop(ctx context.Context) error {
	r.mu.Lock()
	r.shut = true
	halted := r.halted
	r.mu.Unlock()
	if halted {
		return nil
	}
	return errors.Join(r.closeAgain(ctx), r.closeMissing(ctx), r.eachQueue(func(q *queue) error {
		if err := ctx.Err(); err != nil { // the leases of the others will end
			return err
		}
		return r.retireCurrent(ctx, q)
	}))
}

// halt gives no more indices and leaves the ranges as they are.
func (r *ranges) halt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut, r.halted = true, true
}

func (r *ranges) isHalted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.halted
}

func (r *ranges) closeAgain(ctx context.Context) error {
	r.mu.Lock()
	unclosed := r.unclosed
	r.unclosed = nil
	r.mu.Unlock()
	return r.closeAll(ctx, unclosed)
}

// closeAll closes ranges until ctx ends, and remembers the rest: each may take as long as closingPatience.
func (r *ranges) closeAll(ctx context.Context, all []*openRange) error {
	var failed []error
	for i, o := range all {
		if err := ctx.Err(); err != nil {
			r.mu.Lock()
			r.unclosed = append(r.unclosed, all[i:]...)
			r.mu.Unlock()
			return errors.Join(append(failed, err)...)
		}
		failed = append(failed, r.close(ctx, o))
	}
	return errors.Join(failed...)
}

// closeMissing closes ranges that were reserved although this process was told that they were not. Nothing was signed
// in them. Their leases are renewed with the others, so they would stay open until this process ends, and then become
// void.
func (r *ranges) closeMissing(ctx context.Context) error {
	r.mu.Lock()
	none := len(r.missing) == 0
	r.mu.Unlock()
	if none {
		return nil
	}
	open, err := r.store.OpenRanges(ctx, r.owner)
	if err != nil {
		return err
	}
	return r.closeAll(ctx, r.find(open))
}

// find returns those of the open ranges that are missing, and drops reservations that were looked for long enough.
func (r *ranges) find(open []Range) []*openRange {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*openRange
	for _, o := range open {
		if r.missing[o.Nonce] > 0 {
			issuer := r.places[place{o.Issuer, o.Epoch}].issuer
			found = append(found, &openRange{Range: o, issuer: issuer, next: o.From, key: rangeKey(issuer, o), retired: true})
			delete(r.missing, o.Nonce)
		}
	}
	for nonce := range r.missing {
		if r.missing[nonce]--; r.missing[nonce] == 0 {
			delete(r.missing, nonce)
		}
	}
	return found
}

func (r *ranges) retireCurrent(ctx context.Context, q *queue) error {
	if q.current == nil {
		return nil
	}
	err := r.retire(ctx, q.current)
	q.current = nil
	return err
}

func (r *ranges) eachQueue(do func(*queue) error) error {
	r.mu.Lock()
	var all []*queue
	for _, q := range r.places {
		all = append(all, q)
	}
	r.mu.Unlock()
	var failed []error
	for _, q := range all {
		q.mu.Lock()
		failed = append(failed, do(q))
		q.mu.Unlock()
	}
	return errors.Join(failed...)
}
