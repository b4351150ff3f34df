package crlserver_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// The list of a week that has passed ends whether or not it was ever made for a last time: one on which nothing ever was is not. Before,
// and while the last one is to be made, it does not.
func TestListsThatEnd(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "one")
		c := new(clock)
		validity := func(config *crlserver.Config) { config.Validity = 4 * 365 * 24 * time.Hour }
		a.reserve(t, epoch, 0, base)
		a.reserve(t, epoch+1, 0, base)
		a.reserve(t, epoch, pki.BlockSize, base)
		p := start(t, s, c, validity, a.config())
		p.await(t, a.revoke(t, 1))
		touched, empty, later := a.shard(), a.shard(), a.shard()
		empty.Shard.Block, later.Shard.Epoch = 1, epoch+1
		ending := func(p instance) map[crlserver.List]bool {
			all := make(map[crlserver.List]bool)
			for _, l := range p.Lists() {
				if all[l.Head.List] = l.Ending; l.Head.Final && !l.Ending {
					t.Errorf("%s was made for the last time, and does not end", l.Head.List)
				}
			}
			return all
		}
		eventually(t, "the lists", func() bool { return len(ending(p)) == 4 })
		if got, want := ending(p), (map[crlserver.List]bool{touched: false, empty: false, later: false, a.complete(): false}); !maps.Equal(got, want) {
			t.Errorf("in their weeks: %v", got)
		}
		p.stop()
		c.move(time.Until(time.Unix((epoch + 1).Start(), 0).Add(25 * time.Hour)))
		want := map[crlserver.List]bool{touched: false, empty: true, later: false, a.complete(): false}
		keyless := a.config()
		keyless.Signer = nil // nobody makes the last list
		if got := ending(start(t, s, c, validity, keyless)); !maps.Equal(got, want) {
			t.Errorf("when the week has passed: %v, want %v", got, want)
		}
		p = start(t, s, c, validity, a.config())
		want[touched] = true
		eventually(t, "the last list", func() bool { return maps.Equal(ending(p), want) })
		if _, h, _ := p.Document(empty); h.Final {
			t.Error("a list on which nothing ever was is made for a last time")
		}
	})
}

// Lists that were made for a shorter time than they are now are made anew at once, not when they have ended; others are left alone.
func TestListsOfAShorterTime(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "one")
		a.reserve(t, epoch, 0, base)
		config := a.config()
		config.Delta = true
		c := new(clock)
		lives := func(interval, validity time.Duration) map[crlserver.List]crlserver.Head {
			p := start(t, s, c, func(config *crlserver.Config) { config.Interval, config.Validity = interval, validity }, config)
			defer p.stop()
			heads := make(map[crlserver.List]crlserver.Head)
			eventually(t, "lists that live "+validity.String(), func() bool {
				for _, list := range []crlserver.List{a.shard(), a.complete(), a.delta()} {
					_, heads[list], _ = p.Document(list)
					if h := heads[list]; h.NextUpdate.Sub(h.ThisUpdate) != validity {
						return false
					}
				}
				return true
			})
			return heads
		}
		lives(time.Hour, 2*time.Hour)
		long := lives(6*time.Hour, 72*time.Hour)
		c.move(5 * time.Hour)
		if again := lives(6*time.Hour, 72*time.Hour); again[a.shard()].Number != long[a.shard()].Number || again[a.complete()].Number != long[a.complete()].Number {
			t.Errorf("made anew although it is not time: %+v, then %+v", long, again)
		}
	})
}

// An issuer that is over is no fault, although its lists have ended, or fail, and something is not on them: nobody waits for another.
func TestIssuersThatAreOver(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		one, offline, next := newAuthority(t, s, "one"), newAuthority(t, s, "offline"), newAuthority(t, s, "next")
		c := new(clock)
		p := start(t, s, c, nil, one.config())
		eventually(t, "its list", func() bool { _, _, ok := p.Document(one.complete()); return ok })
		p.stop()
		c.move(73 * time.Hour)
		see := func(over bool) (p instance, first crlserver.ListStatus) {
			t.Helper()
			configs := []crlserver.Issuer{one.config(), offline.config()}
			for i := range configs {
				configs[i].Signer, configs[i].Ended, configs[i].Over = nil, over, over
			}
			configs[1].Offline = true
			p = start(t, s, c, nil, append(configs, next.config())...)
			eventually(t, "the list of another", func() bool { _, _, ok := p.Document(next.complete()); return ok })
			for _, l := range p.Lists() {
				if l.Head.List == one.complete() {
					first = l
				}
			}
			return p, first
		}
		p, list := see(false)
		if p.Check() == nil || len(p.Ceremonies()) != 1 || list.Ending {
			t.Errorf("it is not over: %v, %+v, %+v", p.Check(), p.Ceremonies(), list)
		}
		p.stop()
		p, list = see(true)
		if p.Check() != nil || len(p.Ceremonies()) != 0 || !list.Ending {
			t.Errorf("it is over: %v, %+v, %+v", p.Check(), p.Ceremonies(), list)
		}
		one.revoke(t, 1)
		eventually(t, "a revocation that is on no list", func() bool {
			return slices.ContainsFunc(p.Lists(), func(l crlserver.ListStatus) bool { return l.Head.List == one.complete() && l.Behind })
		})
		p.await(t, next.revoke(t, 1))
		c.move(time.Hour)
		for product, lag := range p.Lags() {
			if lag > time.Minute {
				t.Errorf("%s lags by %s", product, lag)
			}
		}
	})
}

// An instance without the key of a retired issuer waits for its lists: another instance may have the key, or nobody. It waits until the next is
// overdue, whether it issues or has no keys at all; of one that has ended it waits for none.
func TestReachedOfARetiredIssuer(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		one, next := newAuthority(t, s, "one"), newAuthority(t, s, "next")
		c := new(clock)
		p := start(t, s, c, nil, one.config())
		eventually(t, "its list", func() bool { _, _, ok := p.Document(one.complete()); return ok })
		p.stop()
		seq := one.revoke(t, 1) // its shard was never published
		config := one.config()
		config.Signer, config.Retired = nil, true
		for i, over := range []bool{true, false} {
			config.Over = over
			p = start(t, s, c, nil, config, next.config())
			if err := p.AwaitSeq(t.Context(), seq); err != nil {
				t.Fatal(err)
			}
			for _, after := range []time.Duration{0, 6 * time.Hour} {
				c.move(after)
				if reached := p.ReachedBy()[one.issuer]; reached >= seq {
					t.Errorf("over: %t: after %s %d of %d is reached while a list that lacks an entry may come", over, after, reached, seq)
				}
			}
			c.move(time.Hour)
			p.await(t, next.revoke(t, uint64(i)))
			p.stop()
			c.move(-7 * time.Hour)
		}
		config.Ended, config.Over = true, true
		p = start(t, s, c, nil, config, next.config())
		p.await(t, next.revoke(t, 2))
	})
}

// An issuer that retains keeps what has expired on its lists, says since when, and lets it go when the time is over; one
// that does not drops it when its week has passed.
func TestRetention(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	testdb.Each(t, func(t *testing.T, s store.Store) {
		long, short := newAuthority(t, s, "long"), newAuthority(t, s, "short")
		event := audit.Event{At: time.Now(), Actor: "test", Action: "issuer.retain", Target: "issuer", Outcome: audit.OK}
		if err := s.RaiseRetention(t.Context(), long.issuer, 2*year, event); err != nil {
			t.Fatal(err)
		}
		keys, err := s.IssuerKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		configs := []crlserver.Issuer{long.config(), short.config()}
		for _, key := range keys {
			if key.Key == long.hash {
				configs[0].Retention = key.Retention
			}
		}
		if configs[0].Retention.Keep != 2*year {
			t.Fatalf("retention %+v", configs[0].Retention)
		}
		c := new(clock)
		// Nobody publishes for days here: lists that are valid for long make no difference to what is on them.
		validity := func(config *crlserver.Config) { config.Interval, config.Validity = time.Hour, 4*year }
		long.reserve(t, epoch, 0, base)
		short.reserve(t, epoch, 0, base)
		long.revoke(t, 1)
		seq := short.revoke(t, 1)
		p := start(t, s, c, validity, configs...)
		p.await(t, seq)
		if l := p.list(t, short, short.complete()); !l.ExpiredSince.IsZero() {
			t.Errorf("an issuer without retention says since %s", l.ExpiredSince)
		}

		see := func(what string, onLists bool, since time.Time) {
			t.Helper()
			eventually(t, what+": the complete list is rebuilt", func() bool {
				_, h, ok := p.Document(long.complete())
				return ok && !h.ThisUpdate.Before(c.now().Add(-time.Hour))
			})
			l := p.list(t, long, long.complete())
			if _, found := has(l, epoch, 1); found != onLists {
				t.Errorf("%s: on the complete list: %t", what, found)
			}
			if d := l.ExpiredSince.Sub(since); d < -time.Minute || d > time.Minute {
				t.Errorf("%s: expired certificates are on it since %s, want %s", what, l.ExpiredSince, since)
			}
		}
		see("before the end", true, time.Now())
		end := time.Unix((epoch + 1).Start(), 0).Add(25 * time.Hour)
		c.move(time.Until(end.Add(24 * time.Hour)))
		eventually(t, "the list of the other issuer drops it", func() bool {
			document, _, ok := p.Document(short.complete())
			if !ok {
				return false
			}
			_ = document
			_, found := has(p.list(t, short, short.complete()), epoch, 1)
			return !found
		})
		see("after the end", true, time.Now().Add(-time.Minute/2))
		if _, h, ok := p.Document(long.shard()); !ok || h.Final {
			t.Errorf("the shard is served %t, for the last time %t", ok, h.Final)
		}

		// A restart in the middle of it finds the same.
		p.stop()
		seq = long.append(t, long.event(epoch, pki.BlockSize, revocation.KindRevoke, pki.KeyCompromise, 0)) // of a shard that was never published
		p = start(t, s, c, validity, configs...)
		see("after a restart", true, time.Now().Add(-time.Minute/2))
		p.await(t, seq)
		if _, found := has(p.list(t, long, long.complete()), epoch, pki.BlockSize); !found {
			t.Error("what was revoked meanwhile is not on the list")
		}
		seq = long.append(t, long.event(epoch, 2, revocation.KindRevoke, pki.KeyCompromise, 0)) // an expired one can still be revoked
		p.await(t, seq)
		if _, found := has(p.list(t, long, long.complete()), epoch, 2); !found {
			t.Error("what was revoked after its end is not on the list")
		}
		c.move(2 * year)
		eventually(t, "the retention is over", func() bool {
			_, found := has(p.list(t, long, long.complete()), epoch, 1)
			return !found
		})
		see("when the retention is over", false, c.now().Add(-2*year))
	})
}
