package ocspserver

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// The rule of this file: whoever asks after a change of status was acknowledged is not answered with what was true
// before. The ledger acknowledges when the universe has applied the entry, so the universe is the measure:
//
//   - follow drops what an entry names and was made before it, and then raises applied to the entry's sequence. A kept answer is given without
//     asking the universe only if applied has reached Universe.Seq, read first.
//   - Otherwise the universe is asked, and the kept answer counts only if it was made after the certificate's last event.
//   - A signature begun before an event is not stored after it: known is raised before anything is dropped, and store
//     refuses what was looked up before known. Flights have the last event in their key, so nobody joins an older one.

// certKey names a certificate whole: an index or a serial alone would let one issuer's answer, or a forged serial's,
// stand for another.
type certKey struct {
	issuer pki.IssuerID
	serial pki.Serial
}

// kept is an answer in the cache.
type kept struct {
	*signed
	event uint64       // sequence of the certificate's last event when it was made; 0: none
	hot   atomic.Bool  // it was given at least once from the cache
	next  atomic.Int64 // Unix nanoseconds before which no refresh is tried again
	hash  int          // index of the CertID's hash algorithm
}

const cacheShards = 64

// cache holds answers, bounded in number.
type cache struct {
	shards  [cacheShards]cacheShard
	limit   int           // answers per shard
	known   atomic.Uint64 // entries up to here are dropped or being dropped
	applied atomic.Uint64 // entries up to here are dropped
	begun   atomic.Bool   // a watch is followed; before, applied means nothing
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

// store keeps an answer that follows from the ledger up to seq, unless a later entry is known, which may name it.
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

// evict removes the certificate, of a few, that is asked for least. Maps are walked from a random place.
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

// remove drops what was made about a certificate before its event and returns what of it was hot. The shard's lock is held.
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

// inStep reports whether everything up to seq was dropped that had to be.
func (c *cache) inStep(seq uint64) bool { return c.begun.Load() && c.applied.Load() >= seq }

// begin drops everything: what the watch tells begins after seq, and answers made before may have missed something.
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

// wanted is an answer that was dropped while it was in demand.
type wanted struct {
	certKey
	hash int
}

// follow drops what the entries of a change name and returns at most most of the hot ones, to be made again.
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

// due reports, to one caller at a time, whether the answer has passed its half-life and a refresh is to be tried.
func (k *kept) due(now time.Time) bool {
	if now.Before(k.refresh) {
		return false
	}
	next := k.next.Load()
	return now.UnixNano() >= next && k.next.CompareAndSwap(next, now.Add(time.Second).UnixNano())
}

// flightKey names a signature that many may wait for. What it is signed from is part of it: whoever knows of a later
// event, or that a serial which nobody had issued is issued now, starts another.
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

// flights lets one caller work and others wait.
type flights struct {
	mu    sync.Mutex
	under map[flightKey]*flight // guarded by mu
}

func newFlights() *flights { return &flights{under: make(map[flightKey]*flight)} }

// join returns the flight of the key and whether the caller is the one who has to fly it, and then to call land.
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
