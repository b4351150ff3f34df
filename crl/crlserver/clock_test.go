package crlserver_test

import (
	"context"
	"iter"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// A clock that leaps ahead of the end of a week and is set back: what was revoked is on every list that is made since, the
// numbers have grown, no list is from the future, and an instance whose clock was right all the time comes to the same.
func TestClockLeapsOverWeeks(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Leaping CA")
		a.reserve(t, epoch, 0, base)
		issuer := a.config()
		issuer.Delta = true
		c := &clock{}
		breaks := &breaking{Store: s}
		p := start(t, breaks, c, nil, issuer)
		foreign := a.event(0, 1, revocation.KindRevoke, pki.Superseded, 0) // is on the complete list for good
		foreign.Foreign, foreign.Position = true, pki.Position{}
		a.append(t, foreign)
		p.await(t, a.revoke(t, 1))
		steady := issuer
		steady.Signer = nil
		reader := start(t, s, &clock{}, nil, steady)
		number := func(l crlserver.List) uint64 { _, head, _ := p.Document(l); return head.Number }
		before := number(a.complete())

		const leap = 500 * 24 * time.Hour
		c.move(leap)
		eventually(t, "the last list of the week", func() bool { _, head, ok := p.Document(a.shard()); return ok && head.Final })
		eventually(t, "a complete list without the week", func() bool { _, head, _ := p.Document(a.complete()); return head.Entries == 1 })
		eventually(t, "the other instance has adopted it", func() bool { _, head, _ := reader.Document(a.complete()); return head.Entries == 1 })
		leapt := number(a.complete())
		seq := a.revoke(t, 2) // whose week seems to have passed
		eventually(t, "it is read", func() bool { return p.Seq() >= seq })
		breaks.armed.Store(true) // what was read until it broke off is not kept
		c.move(-leap)

		for _, i := range []instance{p, reader} {
			for _, l := range []crlserver.List{a.shard(), a.complete(), a.delta()} {
				eventually(t, "the list is right again", func() bool {
					_, head, ok := i.Document(l)
					return ok && !head.Final && head.Seq >= seq && !head.ThisUpdate.After(time.Now())
				})
				if l == a.delta() {
					continue // its base may have both already
				}
				read := i.list(t, a, l)
				if l == a.complete() && read.Len() != 3 {
					t.Errorf("%s has %d entries, want 3", l, read.Len())
				}
				for index := range uint64(2) {
					if _, ok := has(read, epoch, index+1); !ok {
						t.Errorf("%s lacks certificate %d", l, index+1)
					}
				}
			}
		}
		if breaks.armed.Load() {
			t.Error("the ledger was not read again")
		}
		if after := number(a.complete()); leapt <= before || after <= leapt {
			t.Errorf("numbers of the complete list: %d, %d, %d", before, leapt, after)
		}
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/crl/"+a.shard().String(), nil))
		if list, err := crl.Parse(w.Body.Bytes()); w.Code != 200 || err != nil || list.Len() != 2 {
			t.Errorf("the shard is served with status %d (%v)", w.Code, err)
		}
		p.await(t, a.append(t, a.event(epoch, 3, 1, pki.Superseded, 0)))
		if _, ok := has(p.list(t, a, a.shard()), epoch, 3); !ok {
			t.Error("a later revocation is not on the shard")
		}
	})
}

// twoClocks starts a publisher that has a clock of its own and is told of another, both moved alike before.
func twoClocks(t *testing.T, s store.Store, ahead time.Duration, a *authority) (p instance, own, other *clock) {
	t.Helper()
	own, other = &clock{}, &clock{}
	own.move(ahead)
	other.move(ahead)
	p = start(t, s, own, func(config *crlserver.Config) {
		config.Span = func() (earliest, latest time.Time) {
			if own.now().Before(other.now()) {
				return own.now(), other.now()
			}
			return other.now(), own.now()
		}
	}, a.config())
	return p, own, other
}

// A list is not dated before the one that it replaces, though a clock that is behind has come between.
func TestThisUpdateDoesNotGoBack(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Steady CA")
	a.reserve(t, epoch, 0, base)
	p, _, other := twoClocks(t, s, 0, a)
	p.await(t, a.revoke(t, 1))
	lists := []crlserver.List{a.shard(), a.complete()}
	dates := func() (all []time.Time) {
		for _, l := range lists {
			_, head, _ := p.Document(l)
			all = append(all, head.ThisUpdate)
		}
		return all
	}
	before := dates()
	other.move(-10 * time.Minute)
	p.await(t, a.revoke(t, 2))
	for i, after := range dates() {
		if !after.Equal(before[i]) {
			t.Errorf("%s of %s follows one of %s", lists[i], after, before[i])
		}
	}
}

// While a week has passed by one clock and not by the other, no list is made: what was let go of by the one would be missing from a list
// that carries the time of the other. What was published is served on, and once the clocks agree everything follows.
func TestAWeekThatPassedByOneClock(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Weekly CA")
	a.reserve(t, epoch, 0, base)
	passes := time.Unix((epoch + 1).Start(), 0).Add(24 * time.Hour)
	p, own, other := twoClocks(t, s, time.Until(passes.Add(-time.Hour)), a)
	p.await(t, a.revoke(t, 1))

	own.move(2 * time.Hour)
	a.revoke(t, 2)
	eventually(t, "it is said of every list", func() bool {
		lists := p.Lists()
		return len(lists) == 2 && !slices.ContainsFunc(lists, func(l crlserver.ListStatus) bool {
			return l.Failure == nil || !strings.Contains(l.Failure.Error(), "by one of them only")
		})
	})
	for _, l := range []crlserver.List{a.shard(), a.complete()} {
		if _, head, _ := p.Document(l); head.Entries != 1 || head.Final {
			t.Errorf("%s has %d entries, for the last time %t", l, head.Entries, head.Final)
		}
	}
	other.move(2 * time.Hour)
	eventually(t, "the week has passed", func() bool {
		_, shard, _ := p.Document(a.shard())
		_, complete, _ := p.Document(a.complete())
		return shard.Final && complete.Entries == 0
	})
}

// A week that passes while a clock is ahead, and whose last list was not made by that clock, or was and is from the future, gets its last list
// once the clock was set right: from who went through all of it, and from who was started afterwards.
func TestAWeekThatPassedWhileAClockWasAhead(t *testing.T) {
	t.Parallel()
	const leap = 500 * 24 * time.Hour
	last := func(t *testing.T, a *authority, p instance, c *clock) {
		t.Helper()
		eventually(t, "the last list of the week", func() bool {
			_, head, ok := p.Document(a.shard())
			return ok && head.Final && !head.ThisUpdate.After(c.now())
		})
		if list := p.list(t, a, a.shard()); list.Len() != 2 {
			t.Errorf("the last list has %d entries, want 2", list.Len())
		}
	}
	// fromTheFuture has the last list of the week made by a clock that leaps.
	fromTheFuture := func(t *testing.T, s store.Store, leap time.Duration) (*authority, instance, *clock) {
		a := newAuthority(t, s, "Future CA")
		a.reserve(t, epoch, 0, base)
		c := &clock{}
		c.move(untilTheEnd(-time.Hour))
		p := start(t, s, c, nil, a.config())
		a.revoke(t, 1)
		p.await(t, a.revoke(t, 2))
		c.move(leap)
		eventually(t, "the last list of the week, from the future", func() bool { _, head, ok := p.Document(a.shard()); return ok && head.Final })
		return a, p, c
	}
	t.Run("none was made", func(t *testing.T) {
		t.Parallel()
		testdb.Each(t, func(t *testing.T, s store.Store) {
			a := newAuthority(t, s, "Leaping CA")
			a.reserve(t, epoch, 0, base)
			p, own, other := twoClocks(t, s, untilTheEnd(-time.Hour), a)
			p.await(t, a.revoke(t, 1))
			block := a.shard()
			block.Shard.Block = 1
			p.await(t, a.revoke(t, pki.BlockSize))
			own.move(leap)
			seq := a.revoke(t, 2)
			eventually(t, "no list is made while the clocks differ", func() bool {
				return p.Seq() >= seq && slices.ContainsFunc(p.Lists(), func(l crlserver.ListStatus) bool { return l.Head.List == a.shard() && l.Failure != nil })
			})
			other.move(2 * time.Hour)
			own.move(2*time.Hour - leap)
			last(t, a, p, own)
			eventually(t, "the last list of another block", func() bool { _, head, _ := p.Document(block); return head.Final && head.Entries == 1 })
		})
	})
	t.Run("one from the future", func(t *testing.T) {
		t.Parallel()
		testdb.Each(t, func(t *testing.T, s store.Store) {
			a, p, c := fromTheFuture(t, s, leap)
			c.move(2*time.Hour - leap)
			last(t, a, p, c)
		})
	})
	t.Run("one from the future, in the same week", func(t *testing.T) {
		t.Parallel()
		testdb.Each(t, func(t *testing.T, s store.Store) {
			const days = 3 * 24 * time.Hour // no other week passes
			a, p, c := fromTheFuture(t, s, days)
			c.move(2*time.Hour - days)
			last(t, a, p, c)
		})
	})
	t.Run("one from the future, and a restart", func(t *testing.T) {
		t.Parallel()
		testdb.Each(t, func(t *testing.T, s store.Store) {
			a, p, c := fromTheFuture(t, s, leap)
			p.stop()
			c.move(2*time.Hour - leap)
			last(t, a, start(t, s, c, nil, a.config()), c)
		})
	})
}

// untilTheEnd is from now until after the week has passed.
func untilTheEnd(after time.Duration) time.Duration {
	return time.Until(time.Unix((epoch + 1).Start(), 0).Add(24*time.Hour + after))
}

// A week whose entries were not read, since it had passed and its last list been made, is not published from what comes later alone: if another
// clock is behind, and has made a list since that is not the last, that one stands.
func TestAWeekThatWasNotRead(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Late CA")
		a.reserve(t, epoch, 0, base)
		behind, right := &clock{}, &clock{}
		behind.move(untilTheEnd(-time.Hour))
		right.move(untilTheEnd(time.Hour))
		p := start(t, s, behind, nil, a.config())
		p.await(t, a.revoke(t, 1))
		p.stop()
		p = start(t, s, right, nil, a.config())
		eventually(t, "the last list", func() bool { _, head, ok := p.Document(a.shard()); return ok && head.Final })
		p.stop()

		o := outOfReach{s, new(atomic.Bool), new(atomic.Int64)}
		p = start(t, s, right, func(c *crlserver.Config) { c.Publications = o }, a.config())
		o.away.Store(true)
		other := start(t, s, behind, nil, a.config())
		eventually(t, "a list that is not the last", func() bool { _, head, ok := other.Document(a.shard()); return ok && !head.Final })
		eventually(t, "it is read", func() bool { return o.tried.Load() > 1 })
		other.await(t, a.revoke(t, 2))
		_, want, _ := other.Document(a.shard())
		other.stop()
		eventually(t, "the revocation is read", func() bool { return p.Seq() >= want.Seq })
		o.away.Store(false)
		eventually(t, "the list is served", func() bool { _, head, ok := p.Document(a.shard()); return ok && head.Number == want.Number })
		a.reserve(t, epoch+1, 0, base)
		for index := range uint64(3) {
			p.await(t, a.append(t, a.event(epoch+1, index, revocation.KindRevoke, pki.Superseded, 0)))
		}
		if list := p.list(t, a, a.shard()); list.Len() != 2 {
			t.Errorf("the list of the week has %d entries, want 2", list.Len())
		}
	})
}

// A list of an instance whose clock is a little ahead is not undone by one whose clock is right: they would do so in turns, for ever.
func TestAListThatIsALittleAhead(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a, other := newAuthority(t, s, "Early CA"), newAuthority(t, s, "Other CA")
	a.reserve(t, epoch, 0, base)
	ahead := &clock{}
	ahead.move(90 * time.Second)
	p := start(t, s, ahead, nil, a.config())
	p.await(t, a.revoke(t, 1))
	p.stop()
	_, early, _ := p.Document(a.shard())

	p = start(t, s, &clock{}, nil, a.config(), other.config())
	eventually(t, "every list was looked at", func() bool { _, _, ok := p.Document(other.complete()); return ok })
	p.await(t, a.revoke(t, 2))
	if _, head, _ := p.Document(a.shard()); head.Number != early.Number+1 {
		t.Errorf("list %d follows list %d after one revocation", head.Number, early.Number)
	}
}

// breaking is a store that, once armed, breaks off once, when it has loaded the foreign entries.
type breaking struct {
	store.Store
	armed atomic.Bool
}

func (b *breaking) LedgerLoad(ctx context.Context, from pki.Epoch, upTo uint64) iter.Seq2[revocation.Entry, error] {
	return func(yield func(revocation.Entry, error) bool) {
		for e, err := range b.Store.LedgerLoad(ctx, from, upTo) {
			if !yield(e, err) {
				return
			}
			if !e.Foreign && b.armed.CompareAndSwap(true, false) {
				yield(revocation.Entry{}, pki.Errorf(pki.KindUnavailable, "read ledger", "broken off"))
				return
			}
		}
	}
}
