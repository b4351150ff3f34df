package revocation

import (
	"context"
	"sync/atomic"
	"time"

	"signet.example/signet/pki"
)

// weekClock tells which weeks have passed. A passed week is dropped from memory, so this clock does not go back: a
// certificate of a dropped week would look as if it had no entries. If the true clock goes back, reload reads
// everything again.
type weekClock struct {
	now    func() time.Time
	latest atomic.Int64 // Unix seconds
}

// at returns the present, or the latest time that it ever returned.
func (c *weekClock) at() time.Time {
	now := c.now()
	for {
		latest := c.latest.Load()
		if now.Unix() < latest {
			return time.Unix(latest, 0)
		}
		if now.Unix() == latest || c.latest.CompareAndSwap(latest, now.Unix()) {
			return now
		}
	}
}

// wentBack reports whether weeks were dropped that have not passed.
func (u *Universe) wentBack() bool {
	u.mu.RLock()
	defer u.mu.RUnlock()
	now, latest := u.config.Now(), u.weeks.at()
	for _, books := range u.issuers {
		if pki.FirstEpoch(books.key.Retention.Cutoff(now).Unix()) < pki.FirstEpoch(books.key.Retention.Cutoff(latest).Unix()) {
			return true
		}
	}
	return false
}

// reload reads everything again, by the current clock. Until it is done, dropped weeks are not answered for.
// u.following is held.
func (u *Universe) reload(ctx context.Context) error {
	fresh, err := NewUniverse(u.config)
	if err != nil {
		return err
	}
	if err := fresh.Load(ctx); err != nil {
		return err
	}
	if err := u.checkHead(ctx); err != nil { // first: a database that went back is not read again
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, books := range fresh.issuers {
		for epoch, week := range books.epochs {
			for block := range week.shards {
				if old := u.books(id).epochs[epoch]; old == nil || !old.shards[block] {
					u.made = append(u.made, OfShard(id, pki.Shard{Epoch: epoch, Block: block}))
				}
			}
		}
	}
	u.issuers, u.since = fresh.issuers, fresh.since
	u.seq, u.asOf, u.recent, u.recentOf = fresh.seq, fresh.asOf, nil, fresh.seq
	u.weeks.latest.Store(fresh.weeks.latest.Load())
	u.wakeWatches()
	return nil
}
