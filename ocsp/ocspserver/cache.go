package ocspserver

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// The rule of this file: a request that arrives after a change of status was acknowledged never gets an answer from
// before the change. The ledger acknowledges when the universe has applied the entry, so the universe is the measure:
//
//   - follow drops the answers that are older than an entry about their certificate. Then it raises applied to the
//     entry's sequence. A kept answer is given without asking the universe only if applied has reached Universe.Seq,
//     read first.
//   - Otherwise the universe is asked, and the kept answer counts only if it was made after the certificate's last
//     event.
//   - A signature begun before an event is not stored after it: known is raised before anything is dropped, and store
//     refuses an answer whose look-up is older than known. The key of a flight contains the last event, so no request
//     joins a flight from before it.

// certKey identifies a certificate by all three parts. With the index or the serial alone, one issuer's answer could
// stand for another's, or a forged serial's for a real one's.
type certKey struct {
	issuer pki.IssuerID
	serial pki.Serial
}

// kept is an answer in the cache.
type kept struct {
	*signed
	event uint64       // sequence of the certificate's last event when the answer was made; 0: none
	hot   atomic.Bool  // it was given from the cache at least once
	next  atomic.Int64 // Unix nanoseconds before which no refresh is tried
	hash  int          // index of the CertID's hash algorithm
}

const cacheShards = 64

// cache holds a bounded number of answers.
type cache struct {
	shards  [cacheShards]cacheShard
	limit   int           // answers per shard
	known   atomic.Uint64 // entries up to here are dropped or being dropped
	applied atomic.Uint64 // entries up to here are dropped
	begun   atomic.Bool   // a watch is followed; before that, applied means nothing
	size    atomic.Int64
}

type cacheShard struct {
	mu      sync.RWMutex
	answers map[certKey]*[len(hashes)]*kept // guarded by mu
}

func newCache(limit int) *cache {
	c := &cache{limit: max(1, limit/cacheShards)}
	for i := range c.shards {
		c.shards[i].answers = make(map[certKey]*[len(hashes)]*kept)
	}
	return c
}

func (c *cache) shard(key certKey) *cacheShard {
	return &c.shards[key.serial[pki.SerialSize-1]%cacheShards] // the last octets of a serial are random
}

// get returns the kept answer, or nil.
func (c *cache) get(key certKey, hash int) *kept {
	shard := c.shard(key)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	if slot := shard.answers[key]; slot != nil {
		return slot[hash]
	}
	return nil
}

// store keeps an answer that follows from the ledger up to seq. It does nothing if a later entry is known, because that
// may be about this certificate.
func (c *cache) store(key certKey, hash int, answer *signed, event, seq uint64) {
	shard := c.shard(key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if c.known.Load() > seq {
		return
	}
	slot := shard.answers[key]
	if slot == nil {
		for len(shard.answers) >= c.limit {
			shard.evict(c)
		}
		slot = new([len(hashes)]*kept)
		shard.answers[key] = slot
	}
	if slot[hash] == nil {
		c.size.Add(1)
	}
	slot[hash] = &kept{signed: answer, event: event, hash: hash}
}

// evict removes a certificate none of whose answers was ever given from the cache or, if each of the first 8 looked
// at has such an answer, the first of these. Map iteration starts at a random place.
func (s *cacheShard) evict(c *cache) {
	var victim certKey
	looked, found := 0, false
	for key, slot := range s.answers {
		cold := true
		for _, answer := range slot {
			cold = cold && (answer == nil || !answer.hot.Load())
		}
		if !found || cold {
			victim, found = key, true
		}
		if looked++; cold || looked == 8 {
			break
		}
	}
	c.remove(s, victim, math.MaxUint64)
}

// remove drops the answers about a certificate that are older than its event and returns the hash indices of those that
// were hot. The caller holds the shard's lock.
func (c *cache) remove(s *cacheShard, key certKey, event uint64) (hot []int) {
	slot := s.answers[key]
	if slot == nil {
		return nil
	}
	for hash, answer := range slot {
		if answer == nil || answer.event >= event {
			continue
		}
		slot[hash] = nil
		c.size.Add(-1)
		if answer.hot.Load() {
			hot = append(hot, hash)
		}
	}
	if *slot == [len(hashes)]*kept{} {
		delete(s.answers, key)
	}
	return hot
}

// inStep reports whether everything that entries up to seq make wrong was dropped.
func (c *cache) inStep(seq uint64) bool { return c.begun.Load() && c.applied.Load() >= seq }

// begin drops everything: the watch tells of changes after seq only, and older answers may have missed one.
func (c *cache) begin(seq uint64) {
	c.known.Store(max(c.known.Load(), seq))
	for i := range c.shards {
		shard := &c.shards[i]
		shard.mu.Lock()
		for key := range shard.answers {
			c.remove(shard, key, math.MaxUint64)
		}
		shard.mu.Unlock()
	}
	c.begun.Store(true)
}

// wanted is an answer that was in demand when it was dropped.
type wanted struct {
	certKey
	hash int
}

// follow drops the answers about the certificates in a change. It returns at most most of the hot ones, to be made
// again.
func (c *cache) follow(change revocation.Change, most int) []wanted {
	c.known.Store(max(c.known.Load(), change.Seq))
	var again []wanted
	for i := range change.Entries {
		entry := &change.Entries[i]
		key := certKey{entry.Issuer, entry.Serial}
		shard := c.shard(key)
		shard.mu.Lock()
		hot := c.remove(shard, key, entry.Seq)
		shard.mu.Unlock()
		for _, hash := range hot {
			if len(again) < most {
				again = append(again, wanted{key, hash})
			}
		}
	}
	c.applied.Store(max(c.applied.Load(), change.Seq))
	return again
}

// due reports whether the answer has passed its half-life and a refresh is to be tried. It returns true to one caller
// at a time.
func (k *kept) due(now time.Time) bool {
	if now.Before(k.refresh) {
		return false
	}
	next := k.next.Load()
	return now.UnixNano() >= next && k.next.CompareAndSwap(next, now.Add(time.Second).UnixNano())
}

// flightKey identifies a signature that several callers may wait for. It includes the facts that are signed: a caller
// that knows of a later event, or knows that a serial has been issued in the meantime, starts another flight.
type flightKey struct {
	certKey
	hash     int
	issuance revocation.Issuance
	event    uint64
}

// flight is one signature under way.
type flight struct {
	done   chan struct{} // closed when the fields below are set
	answer *signed
	err    error
}

// flights lets one caller make a signature while others wait for it.
type flights struct {
	mu    sync.Mutex
	under map[flightKey]*flight // guarded by mu
}

func newFlights() *flights { return &flights{under: make(map[flightKey]*flight)} }

// join returns the flight of the key, and true if the caller has to make the signature and then call land.
func (f *flights) join(key flightKey) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if under, ok := f.under[key]; ok {
		return under, false
	}
	under := &flight{done: make(chan struct{})}
	f.under[key] = under
	return under, true
}

func (f *flights) land(key flightKey, under *flight, answer *signed, err error) {
	under.answer, under.err = answer, err
	f.mu.Lock()
	delete(f.under, key)
	f.mu.Unlock()
	close(under.done)
}
