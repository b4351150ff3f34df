package crlserver

import (
	"slices"
	"time"
)

// plan returns the heads of the lists of a series that are to be made now, without the fields that publishing sets. It
// is empty if nothing is due.
func (b *books) plan(p *Publisher, series Series, now time.Time) []Head {
	if series.Sharded {
		return b.planShard(p, series, now)
	}
	return b.planComplete(p, series, now)
}

// lacks reports whether plan would not be empty. It must be fast: it is called for every shard that was touched, again
// and again.
func (b *books) lacks(p *Publisher, series Series, now time.Time) bool {
	if !series.Sharded {
		return len(b.planComplete(p, series, now)) > 0
	}
	list := List{series, KindShard}
	served, published := b.lists[list]
	return !published || b.touched(list) > served.head.Seq || b.abandoned[list].Number > 0 || b.passed(series.Shard.Epoch, now) ||
		p.elapsed(served.head) || !b.named(served.head)
}

func (b *books) planShard(p *Publisher, series Series, now time.Time) []Head {
	if !b.lacks(p, series, now) {
		return nil
	}
	h := Head{List: List{series, KindShard}, Seq: p.seq, From: series.Shard.Epoch, Final: b.passed(series.Shard.Epoch, now)}
	if served, published := b.lists[h.List]; published {
		h.URLs = served.head.URLs
	}
	h.URLs = b.urls(series, h.URLs)
	return []Head{h}
}

func (b *books) planComplete(p *Publisher, series Series, now time.Time) (heads []Head) {
	complete, delta := List{series, KindComplete}, List{series, KindDelta}
	full := Head{List: complete, Seq: p.seq, From: b.first(now)}
	if b.issuer.Delta {
		full.Freshest = []string{URL(b.issuer.BaseURL, delta)}
	}
	served, published := b.lists[complete]
	changed := published && b.touched(complete) > served.head.Seq
	earliest, _ := p.config.Span()
	age := func(at time.Time) time.Duration { return earliest.Sub(at) }
	large := b.large()
	old, delivered := b.lists[delta]
	// A delta that is nearly as long as the complete list costs clients more than the list: after a mass revocation the
	// delta gets a newer base.
	long := published && delivered && old.head.Size > max(largeSize, served.head.Size/deltaShare)
	imported := published && served.head.imported() // a list made here follows it at once
	switch {
	case !published, imported, b.abandoned[complete].Number > 0, p.elapsed(served.head), served.head.From < full.From,
		!slices.Equal(full.Freshest, served.head.Freshest), changed && !large, changed && age(served.head.ThisUpdate) >= largeRest,
		b.issuer.Delta && (age(served.head.ThisUpdate) >= deltaRebase || long && old.head.Base == served.head.Number):
		heads = append(heads, full)
	}
	if !b.issuer.Delta || !published || long && len(heads) > 0 {
		return heads // its delta is planned after it is published
	}
	rebase := delivered && (long || age(old.head.BaseUpdate) >= deltaRebase) && served.head.Number > old.head.Base
	if len(heads) > 0 || !delivered || rebase || b.abandoned[delta].Number > 0 || p.elapsed(old.head) || b.touched(delta) > old.head.Seq {
		h := Head{List: delta, Seq: p.seq, From: full.From}
		// Clients keep a complete list for hours: the delta of an older one serves them all.
		h.Base, h.BaseSeq, h.BaseUpdate = served.head.Number, served.head.Seq, served.head.ThisUpdate
		if delivered && !rebase {
			h.Base, h.BaseSeq, h.BaseUpdate = old.head.Base, old.head.BaseSeq, old.head.BaseUpdate
		}
		heads = append(heads, h)
	}
	return heads
}

// elapsed reports whether the periodic rebuild of a list is due: because of its age; because a list with the present
// Validity would have more of its life left at its rebuild; or because a clock went back and clients would refuse a
// list from the future.
func (p *Publisher) elapsed(h Head) bool {
	earliest, _ := p.config.Span()
	return earliest.Sub(h.ThisUpdate) >= p.config.Interval || h.NextUpdate.Sub(earliest) < p.config.Validity-p.config.Interval || p.fromTheFuture(h)
}
