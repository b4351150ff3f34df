package crlserver

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// books returns the books of an issuer. p.mu is held.
func (p *Publisher) books(issuer pki.IssuerID) *books {
	b, ok := p.issuers[issuer]
	if !ok {
		b = &books{
			weeks: make(map[pki.Shard]*crl.Arena), foreign: &crl.Arena{}, names: make(map[pki.Shard][]string),
			lists: make(map[List]*listState), series: make(map[Series]*seriesState), behind: make(map[Series]bool),
			waiting: make(map[List]Head), abandoned: make(map[List]abandoned),
		}
		p.issuers[issuer] = b
	}
	return b
}

// readIssuers reads the present configuration.
func (p *Publisher) readIssuers() {
	issuers := p.config.Issuers()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.issuers {
		b.issuer = Issuer{}
	}
	p.looked = false
	for _, issuer := range issuers {
		p.books(issuer.Key.Issuer()).issuer = issuer
	}
}

// readBases reads which shards exist and which base URLs are in their certificates.
func (p *Publisher) readBases(ctx context.Context) error {
	p.mu.RLock()
	since := p.basesAt
	p.mu.RUnlock()
	bases, at, err := p.config.Bases.ShardBases(ctx, since)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, base := range bases {
		b := p.books(base.Issuer)
		if b.passed(base.Shard.Epoch, p.config.Now()) {
			continue
		}
		url := URL(base.URL, List{Series{Issuer: base.Issuer, Shard: base.Shard, Sharded: true}, KindShard})
		if !slices.Contains(b.names[base.Shard], url) {
			b.names[base.Shard] = append(b.names[base.Shard], url)
			b.behind[Series{Issuer: base.Issuer, Shard: base.Shard, Sharded: true}] = true
		}
	}
	p.basesAt = notBack(since, at)
	return nil
}

// readLedger fills names and arenas up to the present sequence of the Universe, and watches it from there on. It skips
// weeks that have passed, because a ledger grows for ever.
func (p *Publisher) readLedger(ctx context.Context) error {
	head := p.config.Universe.Seq()
	p.watch = p.config.Universe.Watch(head)
	if err := p.readBases(ctx); err != nil {
		return err
	}
	now := p.config.Now()
	var together []revocation.Entry // of one shard, or the foreign ones of an issuer
	var recorded marks              // of every entry, in the order of reading
	for e, err := range p.published(ctx, head, now) {
		if err != nil {
			return err
		}
		if len(together) > 0 && !sameArena(&together[0], &e) {
			p.fill(together, now)
			together = together[:0]
		}
		together = append(together, e)
		recorded = append(recorded, mark{e.Seq, e.RecordedAt})
	}
	p.fill(together, now)
	slices.SortFunc(recorded, func(a, b mark) int { return cmp.Compare(a.upTo, b.upTo) })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range recorded {
		p.marks.add(m)
	}
	p.seq = head
	p.progressed()
	return nil
}

// published yields the entries that are on a list, or belong on the last list of a shard that is still to be made. It
// yields the entries of one shard together, and the foreign ones of one issuer together.
func (p *Publisher) published(ctx context.Context, head uint64, now time.Time) iter.Seq2[revocation.Entry, error] {
	return func(yield func(revocation.Entry, error) bool) {
		from, passed := p.oldest(now)
		for _, shard := range passed {
			for e, err := range p.config.Universe.Entries(ctx, shard, 0, head) {
				if !yield(e, err) {
					return
				}
			}
		}
		p.config.Universe.LoadEntries(ctx, from, head)(yield)
	}
}

// oldest returns the first week that is published, and the earlier shards whose last list is still to come.
func (p *Publisher) oldest(now time.Time) (from pki.Epoch, passed []revocation.Scope) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	from = pki.FirstEpoch(now.Unix())
	for _, b := range p.issuers {
		from = min(from, b.first(now))
	}
	for issuer, b := range p.issuers {
		shards := make(map[pki.Shard]bool)
		for _, lists := range []iter.Seq[List]{maps.Keys(b.waiting), maps.Keys(b.lists)} {
			for list := range lists {
				if list.Sharded && list.Shard.Epoch < from && b.lastToCome(issuer, list.Shard) {
					shards[list.Shard] = true
				}
			}
		}
		for shard := range shards {
			passed = append(passed, revocation.OfShard(issuer, shard))
		}
	}
	return from, passed
}

// lastToCome reports whether a shard was published but its last list was not.
func (b *books) lastToCome(issuer pki.IssuerID, shard pki.Shard) bool {
	list := List{Series{Issuer: issuer, Shard: shard, Sharded: true}, KindShard}
	if h, waits := b.waiting[list]; waits {
		return !h.Final
	}
	served, ok := b.lists[list]
	return ok && !served.head.Final
}

// fill fills an empty arena with all its entries, in ledger order.
func (p *Publisher) fill(entries []revocation.Entry, now time.Time) {
	if len(entries) == 0 {
		return
	}
	slices.SortFunc(entries, func(a, b revocation.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	p.mu.Lock()
	defer p.mu.Unlock()
	b, first := p.books(entries[0].Issuer), &entries[0]
	if shard := first.Position.Shard(); !first.Foreign && b.lastToCome(first.Issuer, shard) {
		b.weeks[shard] = &crl.Arena{} // even if its week has passed
	}
	for i := range entries {
		b.apply(&entries[i], now)
	}
}

func sameArena(a, b *revocation.Entry) bool {
	return a.Foreign == b.Foreign && a.Issuer == b.Issuer && (a.Foreign || a.Position.Shard() == b.Position.Shard())
}

// take applies new ledger entries. It returns their number even with an error, because they do not come again.
func (p *Publisher) take(ctx context.Context) (taken int, err error) {
	change, err := p.watch.Take(ctx)
	if err != nil {
		return 0, err
	}
	if len(change.Made) > 0 {
		err = p.readBases(ctx) // after an error the next tick reads them again
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.config.Now()
	for i := range change.Entries {
		if e := &change.Entries[i]; e.Kind != revocation.KindRestore {
			p.books(e.Issuer).apply(e, now)
		}
		p.marks.add(mark{change.Entries[i].Seq, change.Entries[i].RecordedAt})
	}
	if change.Seq > p.seq {
		p.seq = change.Seq
		p.progressed()
	}
	return len(change.Entries), err
}

// apply puts one ledger entry into its arena.
func (b *books) apply(e *revocation.Entry, now time.Time) {
	arena := b.foreign
	if !e.Foreign {
		if arena = b.arena(e.Position.Shard(), now); arena == nil {
			return
		}
		b.behind[Series{Issuer: e.Issuer, Shard: e.Position.Shard(), Sharded: true}] = true
	}
	b.behind[Series{Issuer: e.Issuer}] = true
	b.seq = max(b.seq, e.Seq)
	r := crl.Revocation{Serial: e.Serial, At: e.RevokedAt, Reason: e.Reason, InvalidityAt: e.InvalidityAt}
	switch e.Kind {
	case revocation.KindRevoke, revocation.KindHold, revocation.KindVoid:
		arena.Add(e.Seq, r)
	case revocation.KindReasonChange:
		arena.Replace(e.Seq, r)
	case revocation.KindRelease:
		arena.Remove(e.Seq, e.Serial)
	}
}

// arena returns the arena of a shard, and makes it unless the week has passed: earlier entries of such a week may never
// have been read, and a list would lack them.
func (b *books) arena(shard pki.Shard, now time.Time) *crl.Arena {
	if a, ok := b.weeks[shard]; ok {
		return a
	}
	if b.passed(shard.Epoch, now) {
		return nil
	}
	a := &crl.Arena{}
	b.weeks[shard] = a
	return a
}

// passed reports whether a week is over for this issuer.
func (b *books) passed(epoch pki.Epoch, now time.Time) bool {
	return epoch.Passed(b.issuer.Retention.Cutoff(now).Unix())
}

// first returns the first week that is on complete lists.
func (b *books) first(now time.Time) pki.Epoch {
	return pki.FirstEpoch(b.issuer.Retention.Cutoff(now).Unix())
}

// wanted returns the series that are to be published.
func (b *books) wanted(now time.Time) []Series {
	issuer := b.issuer.Key.Issuer()
	all := []Series{{Issuer: issuer}}
	add := func(shard pki.Shard) {
		if series := (Series{Issuer: issuer, Shard: shard, Sharded: true}); b.wants(series, now) {
			all = append(all, series)
		}
	}
	for shard := range b.names {
		add(shard)
	}
	for shard := range b.weeks {
		if _, known := b.names[shard]; !known {
			add(shard)
		}
	}
	return all
}

// wants reports whether a series is to be published: the complete list, and every shard whose week has not passed or
// whose list has not been published since.
func (b *books) wants(series Series, now time.Time) bool {
	if !series.Sharded {
		return true
	}
	if b.issuer.Offline {
		return false
	}
	served, ok := b.lists[List{series, KindShard}]
	return !b.passed(series.Shard.Epoch, now) || ok && !served.head.Final && b.weeks[series.Shard] != nil
}

// ending reports whether the week of a shard has passed and no list of it will follow: the last one was published, or
// nothing was ever on it.
func (b *books) ending(series Series, now time.Time) bool {
	return series.Sharded && !b.wants(series, now)
}

// listsOf returns the lists of a series.
func (b *books) listsOf(series Series) []List {
	if series.Sharded {
		return []List{{series, KindShard}}
	}
	if b.issuer.Delta && !b.issuer.Offline {
		return []List{{series, KindComplete}, {series, KindDelta}}
	}
	return []List{{series, KindComplete}}
}

// touched returns the sequence of the last ledger entry that concerns a list.
func (b *books) touched(list List) (seq uint64) {
	if list.Sharded {
		if a, ok := b.weeks[list.Shard]; ok {
			seq = a.Seq()
		}
		return seq
	}
	return b.seq
}

// large reports whether the complete list is too large to follow every event.
func (b *books) large() bool {
	size := b.foreign.Size()
	for _, a := range b.weeks {
		if size += a.Size(); size > largeSize {
			return true
		}
	}
	return size > largeSize
}

// shards returns the shards that have entries, from a week on, in the order of complete lists.
func (b *books) shards(from pki.Epoch) []pki.Shard {
	all := slices.Collect(maps.Keys(b.weeks))
	all = slices.DeleteFunc(all, func(s pki.Shard) bool { return s.Epoch < from })
	slices.SortFunc(all, func(x, y pki.Shard) int { return cmp.Or(cmp.Compare(x.Epoch, y.Epoch), cmp.Compare(x.Block, y.Block)) })
	return all
}

// content holds the entries of a list.
type content struct {
	entries crl.Entries
	count   int
	digest  crl.Digest // of all live entries of the arenas, whatever the sequence
}

// content collects the entries of the list that a head describes. It uses List, Seq, From, BaseSeq and ThisUpdate. A
// complete list consists of the shards, one after the other, and then the foreign serials.
func (b *books) content(h Head) (c content) {
	add := func(a *crl.Arena) {
		var entries crl.Entries
		var count int
		if h.List.Kind == KindDelta {
			entries, count = a.Since(h.BaseSeq, h.Seq, h.ThisUpdate)
		} else {
			entries, count = a.At(h.Seq)
		}
		c.entries, c.count, c.digest = append(c.entries, entries...), c.count+count, c.digest.Plus(a.Digest())
	}
	if h.List.Sharded {
		if a, ok := b.weeks[h.List.Shard]; ok {
			add(a)
		}
		return c
	}
	for _, shard := range b.shards(h.From) {
		add(b.weeks[shard])
	}
	add(b.foreign)
	return c
}

// template returns a list without its entries.
func (b *books) template(h Head) crl.Template {
	t := crl.Template{
		Issuer: b.issuer.Subject, KeyID: b.issuer.KeyID, Number: h.Number, ThisUpdate: h.ThisUpdate, NextUpdate: h.NextUpdate,
		Base: h.Base, URLs: h.URLs, UserCerts: h.List.Kind == KindShard, Freshest: h.Freshest,
	}
	if b.issuer.Retention.Keep > 0 {
		t.ExpiredSince = b.issuer.Retention.Cutoff(h.ThisUpdate)
	}
	return t
}

// urls returns the URLs of a shard: those published earlier, then those in certificates, oldest first. If there are
// none, it returns the URL that the next certificate will have. A URL is never withdrawn, because the URL in a
// certificate must be among them (RFC 5280, Section 6.3.3 (b)(2)(i)).
func (b *books) urls(series Series, before []string) []string {
	urls := slices.Clone(before)
	for _, url := range b.names[series.Shard] {
		if !slices.Contains(urls, url) {
			urls = append(urls, url)
		}
	}
	if len(urls) == 0 {
		urls = []string{URL(b.issuer.BaseURL, List{series, KindShard})}
	}
	return urls
}

// named reports whether a list has every URL that is in certificates of its shard.
func (b *books) named(h Head) bool {
	for _, url := range b.names[h.List.Shard] {
		if !slices.Contains(h.URLs, url) {
			return false
		}
	}
	return true
}

// URL returns the URL of a list below a base URL, octet for octet as certificates of a shard have it.
func URL(base string, list List) string { return base + "/crl/" + list.String() }
