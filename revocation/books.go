package revocation

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"signet.example/signet/pki"
)

// issuerBooks is what a Universe holds of one issuer. Universe.mu guards everything in this file.
type issuerBooks struct {
	key     IssuerKey                 // zero until the issuer was read
	epochs  map[pki.Epoch]*epochBooks //
	foreign map[pki.Serial]record     // imported and forged serials
}

// epochBooks is one week of an issuer, by index.
type epochBooks struct {
	ranges   []Range               // in order of From; they do not overlap
	last     map[uint64]record     // the last entry of each index that has one
	recorded map[uint64]pki.Serial // serials seen in open ranges
	changed  bitmap                // the keys of last: tells quickly that most certificates never changed
	shards   map[uint32]bool       // blocks that watches have been told of
}

// record is what is kept of the last entry of a certificate.
type record struct {
	seq          uint64
	revokedAt    int64 // Unix seconds
	invalidityAt int64 // Unix seconds; those of the zero time: not stated
	serial       pki.Serial
	kind         Kind
	reason       pki.Reason
}

// bitmap is a set of indices, by block. A damaged row of the ledger, with an index far beyond all that were ever
// reserved, costs two kilobytes, like any other.
type bitmap map[uint64]*[pki.BlockSize / 64]uint64

func (b bitmap) has(i uint64) bool {
	block := b[i/pki.BlockSize]
	return block != nil && block[i%pki.BlockSize/64]&(1<<(i%64)) != 0
}

func (b bitmap) add(i uint64) {
	block := b[i/pki.BlockSize]
	if block == nil {
		block = new([pki.BlockSize / 64]uint64)
		b[i/pki.BlockSize] = block
	}
	block[i%pki.BlockSize/64] |= 1 << (i % 64)
}

func (u *Universe) books(id pki.IssuerID) *issuerBooks {
	books := u.issuers[id]
	if books == nil {
		books = &issuerBooks{epochs: map[pki.Epoch]*epochBooks{}, foreign: map[pki.Serial]record{}}
		u.issuers[id] = books
	}
	return books
}

func (b *issuerBooks) epoch(epoch pki.Epoch) *epochBooks {
	books := b.epochs[epoch]
	if books == nil {
		books = &epochBooks{last: map[uint64]record{}, recorded: map[uint64]pki.Serial{}, changed: bitmap{}, shards: map[uint32]bool{}}
		b.epochs[epoch] = books
	}
	return books
}

// applyEntries applies entries, in order, and wakes those who wait for them.
func (u *Universe) applyEntries(entries []Entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range entries {
		u.applyEntry(&entries[i])
	}
	u.seq = entries[len(entries)-1].Seq
	u.recent = append(u.recent, entries...)
	if excess := len(u.recent) - recentEntries; excess > recentEntries {
		u.recentOf = u.recent[excess-1].Seq
		u.recent = slices.Delete(u.recent, 0, excess) // in place: readers have copies
	}
	u.wakeWatches()
}

// applyEntry makes an entry the last of its certificate.
func (u *Universe) applyEntry(e *Entry) {
	if e.Kind == KindRestore || !e.Foreign && u.passed(e.Issuer, e.Position.Epoch) {
		return
	}
	r := record{seq: e.Seq, revokedAt: e.RevokedAt.Unix(), invalidityAt: e.InvalidityAt.Unix(), serial: e.Serial, kind: e.Kind, reason: e.Reason}
	books := u.books(e.Issuer)
	if e.Foreign {
		books.foreign[e.Serial] = r
		return
	}
	epoch := books.epoch(e.Position.Epoch)
	epoch.last[e.Position.Index] = r
	epoch.changed.add(e.Position.Index)
}

// applyRanges applies ranges and reports whether new shards exist.
func (u *Universe) applyRanges(ranges []Range) (news bool) {
	for _, r := range ranges {
		if r.From >= r.To || u.passed(r.Issuer, r.Epoch) {
			continue
		}
		epoch := u.books(r.Issuer).epoch(r.Epoch)
		epoch.lay(r)
		for block := uint32(r.From / pki.BlockSize); block <= uint32((r.To-1)/pki.BlockSize); block++ {
			if r.State != RangeLost && !epoch.shards[block] {
				epoch.shards[block] = true
				u.made = append(u.made, OfShard(r.Issuer, pki.Shard{Epoch: r.Epoch, Block: block}))
				news = true
			}
		}
	}
	return news
}

// lay inserts a range. It replaces what overlaps the range and is not newer; what is newer stays.
func (e *epochBooks) lay(r Range) {
	begin, _ := slices.BinarySearchFunc(e.ranges, r.From, func(x Range, from uint64) int {
		if x.To <= from {
			return -1
		}
		return 1
	})
	end := begin
	var pieces []Range
	rest := r
	for ; end < len(e.ranges) && e.ranges[end].From < r.To; end++ {
		old := e.ranges[end]
		if old.At.After(r.At) { // keep it, and lay r around it
			if rest.From < old.From {
				pieces = append(pieces, cut(rest, rest.From, old.From))
			}
			pieces = append(pieces, old)
			rest.From = min(max(rest.From, old.To), r.To)
			continue
		}
		if old.From < r.From {
			pieces = append(pieces, cut(old, old.From, r.From))
		}
		if old.To > r.To {
			pieces = append(pieces, cut(old, r.To, old.To))
		}
		if old.State == RangeOpen && r.State != RangeOpen {
			e.forget(max(old.From, r.From), min(old.To, r.To))
		}
	}
	if rest.From < rest.To {
		pieces = append(pieces, rest)
	}
	slices.SortFunc(pieces, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	e.ranges = slices.Replace(e.ranges, begin, end, pieces...)
}

func cut(r Range, from, to uint64) Range { r.From, r.To = from, to; return r }

// forget drops the serials seen in a range that is no longer open: the key of the range answers from now on.
func (e *epochBooks) forget(from, to uint64) {
	if to-from < uint64(len(e.recorded)) { // the most usual: look-ups wait meanwhile
		for i := from; i < to; i++ {
			delete(e.recorded, i)
		}
		return
	}
	maps.DeleteFunc(e.recorded, func(i uint64, _ pki.Serial) bool { return i >= from && i < to })
}

// at returns the range that holds an index; its State is RangeNone if none does.
func (e *epochBooks) at(index uint64) Range {
	i, _ := slices.BinarySearchFunc(e.ranges, index, func(x Range, index uint64) int {
		if x.To <= index {
			return -1
		}
		return 1
	})
	if i < len(e.ranges) && e.ranges[i].From <= index {
		return e.ranges[i]
	}
	return Range{}
}

// passed reports whether an epoch is no longer answered for.
func (u *Universe) passed(issuer pki.IssuerID, epoch pki.Epoch) bool {
	now := u.weeks.at()
	if books, ok := u.issuers[issuer]; ok {
		now = books.key.Retention.Cutoff(now)
	}
	return epoch.Passed(now.Unix())
}

// dropPassed forgets the weeks that have passed and reports whether there were any.
func (u *Universe) dropPassed() (news bool) {
	for id, books := range u.issuers {
		for epoch, week := range books.epochs {
			if !u.passed(id, epoch) {
				continue
			}
			for block := range week.shards {
				u.gone = append(u.gone, OfShard(id, pki.Shard{Epoch: epoch, Block: block}))
			}
			delete(books.epochs, epoch)
			news = true
		}
	}
	return news
}

// HasShard reports whether an issuer has a shard: whether a range of it was reserved in a week that has not passed,
// even if nothing was issued.
func (u *Universe) HasShard(issuer pki.IssuerID, shard pki.Shard) bool {
	u.mu.RLock()
	defer u.mu.RUnlock()
	books, ok := u.issuers[issuer]
	if !ok {
		return false
	}
	week, ok := books.epochs[shard.Epoch]
	return ok && week.shards[shard.Block]
}

// invalidity returns the invalidity date; zero: not stated.
func (r record) invalidity() time.Time { return time.Unix(r.invalidityAt, 0).UTC() }
