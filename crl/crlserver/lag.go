package crlserver

import (
	"sort"
	"strings"
	"time"
)

// Lags returns, by product, the age of the oldest ledger entry that the product does not show yet, 0 if it shows all.
// The products of this instance are "shard", "delta" and "complete", which does not follow every event once it is
// large. For each mirror there are "mirror {name}" and, for complete lists, "mirror {name} complete". It is unknown
// which version of a list a mirror has until this process has copied the list. Until then entries since Load count
// and, while copying fails, the time for which this process has served the list. Lists of off-line issuers, which wait
// for a ceremony, and of issuers that are over do not count.
func (p *Publisher) Lags() map[string]time.Duration {
	p.mu.RLock()
	defer p.mu.RUnlock()
	now := p.config.Now()
	// Entries that are in the Universe but not in the arenas yet may concern any list.
	floor := time.Duration(0)
	if at, behind := p.config.Universe.RecordedAfter(p.seq); behind {
		floor = max(0, now.Sub(at))
	}
	lags := map[string]time.Duration{"shard": floor, "complete": floor, "delta": floor}
	names := map[Kind]string{KindShard: "shard", KindComplete: "complete", KindDelta: "delta"}
	grow := func(product string, b *books, list List, shown uint64) {
		if seq := b.next(list, shown); seq > 0 {
			lags[product] = max(lags[product], now.Sub(p.marks.at(seq)))
		}
	}
	for i, m := range p.config.Mirrors {
		mirror := "mirror " + m.String()
		lags[mirror], lags[mirror+ofComplete] = floor, floor
		for _, b := range p.issuers {
			for list, served := range b.lists {
				if b.issuer.Offline {
					continue
				}
				product := mirror
				if list.Kind == KindComplete {
					product += ofComplete
				}
				shown, known := p.mirrors[i].copied[list]
				if !known {
					shown = p.loaded
				}
				if trouble := p.mirrors[i].lists; !known && trouble.failure != nil { // a list cannot be late for longer than it exists
					lags[product] = max(lags[product], min(now.Sub(trouble.since), now.Sub(served.first)))
				}
				grow(product, b, list, shown)
			}
		}
	}
	for _, b := range p.issuers {
		if !b.online() {
			continue
		}
		for _, series := range b.wanted(now) {
			for _, list := range b.listsOf(series) {
				shown := uint64(0)
				if served, ok := b.lists[list]; ok {
					shown = served.head.Seq
				}
				grow(names[list.Kind], b, list, shown)
			}
		}
	}
	return lags
}

// ofComplete is the suffix of the product of a mirror's complete lists.
const ofComplete = " complete"

// FollowsEvents reports whether a product of Lags follows every event: complete lists do not once they are large.
func FollowsEvents(product string) bool {
	return product != "complete" && !strings.HasSuffix(product, ofComplete)
}

// next returns the first ledger entry after a sequence that concerns a list, 0 if there is none.
func (b *books) next(list List, after uint64) (seq uint64) {
	earlier := func(next uint64) {
		if next > 0 && (seq == 0 || next < seq) {
			seq = next
		}
	}
	if list.Sharded {
		if a, ok := b.weeks[list.Shard]; ok {
			earlier(a.Next(after))
		}
		return seq
	}
	for _, a := range b.weeks {
		earlier(a.Next(after))
	}
	earlier(b.foreign.Next(after))
	return seq
}

// marks record when ledger entries were recorded, to a tenth of a second, in ledger order.
type marks []mark

// mark is a run of entries, up to a sequence, and the time when the first of them was recorded.
type mark struct {
	upTo uint64
	at   time.Time
}

const (
	markEvery = 100 * time.Millisecond
	markMost  = 1 << 16 // nearly two hours of a ledger that never rests; the oldest mark stands for all entries before it
)

// add notes an entry.
func (m *marks) add(entry mark) {
	if n := len(*m); n > 0 {
		if age := entry.at.Sub((*m)[n-1].at); age >= 0 && age < markEvery { // negative: the clock was set back
			(*m)[n-1].upTo = entry.upTo
			return
		}
	}
	if len(*m) == markMost {
		*m = append((*m)[:0], (*m)[markMost/2:]...)
	}
	*m = append(*m, entry)
}

// at returns when an entry was recorded, or a moment earlier.
func (m marks) at(seq uint64) time.Time {
	i := sort.Search(len(m), func(i int) bool { return m[i].upTo >= seq })
	if i == len(m) {
		return time.Time{}
	}
	return m[i].at
}
