package revocation

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"signet.example/signet/pki"
)

// Shards returns the shards of an issuer that exist: those of ranges reserved in weeks that have not passed, whether or
// not anything was issued, in order.
func (u *Universe) Shards(issuer pki.IssuerID) []pki.Shard {
	u.mu.RLock()
	defer u.mu.RUnlock()
	books, ok := u.issuers[issuer]
	if !ok {
		return nil
	}
	var shards []pki.Shard
	for epoch, week := range books.epochs {
		for block := range week.shards {
			shards = append(shards, pki.Shard{Epoch: epoch, Block: block})
		}
	}
	slices.SortFunc(shards, func(a, b pki.Shard) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Block, b.Block))
	})
	return shards
}

// Snapshot returns the last entry of every certificate of a scope that has one, and the sequence up to
// which they count: what a publisher begins with, without the database. RecordedAt, Job and Actor are not kept.
func (u *Universe) Snapshot(scope Scope) (entries []Entry, seq uint64) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	books, ok := u.issuers[scope.Issuer]
	if !ok {
		return nil, u.seq
	}
	for epoch, week := range books.epochs {
		for _, index := range slices.Sorted(maps.Keys(week.last)) {
			if scope.Sharded && (epoch != scope.Shard.Epoch || index/pki.BlockSize != uint64(scope.Shard.Block)) || !week.changed.has(index) {
				continue
			}
			entries = append(entries, week.last[index].entry(scope.Issuer, pki.Position{Epoch: epoch, Index: index}, false))
		}
	}
	if !scope.Sharded {
		for _, r := range books.foreign {
			entries = append(entries, r.entry(scope.Issuer, pki.Position{}, true))
		}
	}
	return entries, u.seq
}

func (r record) entry(issuer pki.IssuerID, p pki.Position, foreign bool) Entry {
	return Entry{Seq: r.seq, Issuer: issuer, Serial: r.serial, Position: p, Foreign: foreign, Kind: r.kind, Reason: r.reason,
		RevokedAt: time.Unix(r.revokedAt, 0).UTC(), InvalidityAt: r.invalidity()}
}

// DecideInJob is what decide makes of a revocation by a job or of a blocked key: one that is revoked already has its reason changed, if to
// keyCompromise. ok is false if there is nothing to append.
func DecideInJob(last Entry, reason pki.Reason, invalidityAt, now time.Time) (e Entry, ok bool) {
	wanted := change{kind: KindRevoke, reason: reason, invalidityAt: invalidityAt}
	if stateOf(last) == revoked && reason == pki.KeyCompromise {
		wanted.kind = KindReasonChange
	}
	e, repeated, err := decide(wanted, circumstances{last: last, now: now})
	return e, err == nil && !repeated
}
