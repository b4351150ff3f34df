package crlserver_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// watched tells of what is begun and finished before it is.
type watched struct {
	crlserver.Publications
	begin, finish func(ctx context.Context, series crlserver.Series) error
}

func (w watched) BeginPublication(ctx context.Context, series crlserver.Series, owner revocation.InstanceID, seen uint64, lease time.Duration) (uint64, bool, error) {
	if w.begin != nil {
		if err := w.begin(ctx, series); err != nil {
			return 0, false, err
		}
	}
	return w.Publications.BeginPublication(ctx, series, owner, seen, lease)
}

func (w watched) FinishPublication(ctx context.Context, owner revocation.InstanceID, series crlserver.Series, number uint64, heads []crlserver.Head, der map[int][]byte) error {
	if w.finish != nil && len(heads) > 0 {
		if err := w.finish(ctx, series); err != nil {
			return err
		}
	}
	return w.Publications.FinishPublication(ctx, owner, series, number, heads, der)
}

// A complete list that waits for the database holds up no other: neither while it takes its number nor while it is stored.
func TestCompleteListsWaitForTheDatabaseAlone(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	good := newAuthority(t, s, "Good CA")
	issuers := []crlserver.Issuer{good.config()}
	for i := range 3 { // fewer than are at work at a time
		issuers = append(issuers, newAuthority(t, s, fmt.Sprintf("Waiting CA %d", i)).config())
	}
	wait := func(ctx context.Context, series crlserver.Series) error {
		if series.Issuer == good.issuer {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	for name, where := range map[string]watched{"number": {begin: wait}, "head": {finish: wait}} {
		p := start(t, s, &clock{}, func(c *crlserver.Config) { where.Publications = s; c.Publications = where }, issuers...)
		eventually(t, name+": all but one wait", func() bool { return len(p.Lists()) == 1 })
		p.stop()
		testdb.Exec(t, s, `DELETE FROM publications`)
	}
}

// turnTaker signs when somebody else has the turn of complete lists, for good.
type turnTaker struct {
	crypto.Signer
	take func()
}

func (s turnTaker) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.take()
	return s.Signer.Sign(random, digest, opts)
}

// A list that is signed does not wait for its turn again: its lease is running.
func TestSignedListsWaitForNoTurn(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Signing CA")
	started := make(chan instance, 1)
	config := a.config()
	config.Delta = true
	config.Signer = turnTaker{a.key, sync.OnceFunc(func() { t.Cleanup((<-started).TestingOnlyTakeTurnOfCompleteLists()) })}
	p := start(t, s, &clock{}, nil, config)
	started <- p
	eventually(t, "the complete list", func() bool { _, _, ok := p.Document(a.complete()); return ok })
}

// lateAnswer tells of what was stored before its publisher hears of it.
type lateAnswer struct {
	crlserver.Publications
	stored func(head crlserver.Head)
}

func (l lateAnswer) FinishPublication(ctx context.Context, owner revocation.InstanceID, series crlserver.Series, number uint64, heads []crlserver.Head, der map[int][]byte) error {
	err := l.Publications.FinishPublication(ctx, owner, series, number, heads, der)
	if err == nil && len(heads) > 0 {
		l.stored(heads[0])
	}
	return err
}

// Who published a list last is left to publish it again, for a moment by the clock of the others. What an instance published itself is its own, though
// it hears of it from the database first.
func TestWhoPublishedLast(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Shared CA")
		a.reserve(t, epoch, 0, base)
		var armed, barred, listens atomic.Bool
		tried := make(chan struct{})
		first := start(t, s, &clock{}, func(c *crlserver.Config) {
			c.Publications = watched{Publications: s, finish: func(context.Context, crlserver.Series) error {
				if armed.Load() {
					<-tried
				}
				return nil
			}}
		}, a.config())
		first.await(t, a.revoke(t, 0))

		// The second has a clock that stands still.
		var at atomic.Int64
		at.Store(time.Now().UnixNano())
		var begun atomic.Int64
		var second instance
		second = start(t, s, &clock{}, func(c *crlserver.Config) {
			c.Now = func() time.Time { return time.Unix(0, at.Load()) }
			c.Publications = lateAnswer{watched{Publications: elsewhere{s, &barred, &begun, sync.OnceFunc(func() { close(tried) })}}, func(head crlserver.Head) {
				if !listens.Load() {
					return
				}
				eventually(t, "it heard of its own list", func() bool {
					_, served, ok := second.Document(head.List)
					return ok && served.Number >= head.Number || !listens.Load()
				})
			}}
		}, a.config())
		rest := func() { // until nothing rests any more, nor is due
			eventually(t, "nothing runs", func() bool { return !second.TestingOnlyRuns(a.shard().Series) })
			second.TestingOnlyLook()
			at.Add(int64(5 * time.Second))
		}
		eventually(t, "the list of the first", func() bool { _, _, ok := second.Document(a.shard()); return ok })
		barred.Store(true)
		armed.Store(true) // the first goes on when the second tried
		seq := a.revoke(t, 1)
		first.await(t, seq)
		second.await(t, seq)
		first.stop()
		barred.Store(false)
		listens.Store(true)
		defer listens.Store(false) // a complete list may be published at that moment, and once it is stopped it hears nothing

		rest()
		begun.Store(0)
		seq = a.revoke(t, 2)
		eventually(t, "the second knows", func() bool { return second.Seq() >= seq })
		second.TestingOnlyLook()
		if second.TestingOnlyRuns(a.shard().Series) || begun.Load() > 0 {
			t.Error("it does not leave the list to who published it last")
		}
		has := func(seq uint64) bool { _, head, _ := second.Document(a.shard()); return head.Seq >= seq }
		eventually(t, "its turn", func() bool { at.Add(int64(10 * time.Millisecond)); return has(seq) })
		rest()
		seq = a.revoke(t, 3)
		eventually(t, "what is its own is published again while its clock stands still", func() bool { return has(seq) })
	})
}

// elsewhere is a database in which another instance is always at it, while barred.
type elsewhere struct {
	crlserver.Publications
	barred *atomic.Bool
	begun  *atomic.Int64
	tried  func()
}

func (e elsewhere) BeginPublication(ctx context.Context, series crlserver.Series, owner revocation.InstanceID, seen uint64, lease time.Duration) (uint64, bool, error) {
	if e.barred.Load() {
		if series.Sharded {
			e.tried()
		}
		return 0, false, nil
	}
	if series.Sharded {
		e.begun.Add(1)
	}
	return e.Publications.BeginPublication(ctx, series, owner, seen, lease)
}

// Who was overtaken takes over what the winner published before it tries again.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Contested CA")
		var armed atomic.Bool
		var begun atomic.Int64
		late, goOn := make(chan struct{}), make(chan struct{})
		loser := start(t, s, &clock{}, func(c *crlserver.Config) {
			c.Publications = watched{s, func(context.Context, crlserver.Series) error { begun.Add(1); return nil },
				func(_ context.Context, series crlserver.Series) error {
					if !series.Sharded && armed.CompareAndSwap(true, false) {
						close(late)
						<-goOn
					}
					return nil
				}}
		}, a.config())
		foreign := a.event(0, 1, revocation.KindRevoke, pki.KeyCompromise, 0) // on no shard
		foreign.Foreign, foreign.Position = true, pki.Position{}
		eventually(t, "the first list", func() bool { _, _, ok := loser.Document(a.complete()); return ok })
		armed.Store(true)
		seq := a.append(t, foreign)
		<-late
		testdb.Exec(t, s, `UPDATE publication_series SET lease_until = $1`, a.time(time.Unix(0, 0)))
		winner := start(t, s, &clock{}, nil, a.config())
		winner.await(t, seq)
		_, want, _ := winner.Document(a.complete())

		release := sync.OnceFunc(loser.TestingOnlyTakeTurnOfCompleteLists())
		t.Cleanup(release)
		begun.Store(0)
		close(goOn)
		time.Sleep(200 * time.Millisecond) // ten times as long as a series rests
		if n := begun.Load(); n != 0 {
			t.Errorf("it began %d times before it had the winner's list", n)
		}
		release()
		loser.await(t, seq)
		if _, head, _ := loser.Document(a.complete()); head.Number != want.Number {
			t.Errorf("it serves number %d, the winner %d", head.Number, want.Number)
		}
	})
}

// slow holds back the answer to the first Begin after it was armed, whose lease has ended when it comes.
type slow struct {
	crlserver.Publications
	armed *atomic.Bool
	begun func(number uint64)
}

func (s slow) BeginPublication(ctx context.Context, series crlserver.Series, owner revocation.InstanceID, seen uint64, lease time.Duration) (uint64, bool, error) {
	if series.Sharded || !s.armed.CompareAndSwap(true, false) {
		return s.Publications.BeginPublication(ctx, series, owner, seen, lease)
	}
	number, ok, err := s.Publications.BeginPublication(ctx, series, owner, seen, 0)
	s.begun(number)
	return number, ok, err
}

// Whose number arrives when a larger one is published already lets it go, and goes on: the database did not go back.
func TestOvertakenBeforeItBegins(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Contested CA")
		foreign := func(index uint64) revocation.NewEntry { // on no shard
			e := a.event(0, index, revocation.KindRevoke, pki.KeyCompromise, 0)
			e.Foreign, e.Position = true, pki.Position{}
			return e
		}
		config := a.config()
		config.Delta = true
		armed := new(atomic.Bool)
		begun, goOn := make(chan uint64), make(chan struct{})
		var logged strings.Builder
		late := start(t, s, &clock{}, func(c *crlserver.Config) {
			c.Publications = slow{s, armed, func(number uint64) { begun <- number; <-goOn }}
			c.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelError}))
		}, config)
		late.await(t, a.append(t, foreign(1)))
		armed.Store(true)
		seq := a.append(t, foreign(2))
		lost := <-begun
		winner := start(t, s, &clock{}, nil, config)
		winner.await(t, seq)
		eventually(t, "it serves the larger number", func() bool { _, h, _ := late.Document(a.complete()); return h.Number > lost })
		winner.stop()
		seq = a.append(t, foreign(3))
		eventually(t, "more is to be published when the number arrives", func() bool { return late.Seq() == seq })
		close(goOn)
		late.await(t, seq)
		if err := late.Check(); err != nil {
			t.Error(err)
		}
		late.stop()
		if logged.Len() > 0 {
			t.Error(logged.String())
		}
	})
}

// powerless signs nothing.
type powerless struct{ crypto.Signer }

func (powerless) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no power")
}

// A list that fails from the start is missing until another instance publishes it. Nobody waits for those of an off-line issuer, of
// one that is over, and of one that is retired and whose key is elsewhere.
func TestMissingLists(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Powerless CA")
		a.reserve(t, epoch, 0, base)
		others := []crlserver.Issuer{newAuthority(t, s, "Offline CA").config(), newAuthority(t, s, "Over CA").config(), newAuthority(t, s, "Retired CA").config()}
		for i := range others {
			others[i].Signer = nil
		}
		others[0].Offline, others[1].Over, others[2].Retired = true, true, true
		good, bad := a.config(), a.config()
		bad.Signer, bad.Delta = powerless{a.key}, true
		c := &clock{}
		p := start(t, s, c, nil, append(others, bad)...)
		var missing []crlserver.List
		eventually(t, "they have failed", func() bool {
			missing = nil
			for _, l := range p.Missing() {
				if l.Failure == nil {
					return false
				}
				if l.Head.Number != 0 || l.Ending {
					t.Errorf("%+v", l)
				}
				missing = append(missing, l.Head.List)
			}
			return true
		})
		want := []crlserver.List{a.shard(), a.complete(), a.delta()}
		if len(missing) != len(want) || slices.ContainsFunc(want, func(l crlserver.List) bool { return !slices.Contains(missing, l) }) || len(p.Lists()) != 0 {
			t.Errorf("missing are %v, served %d; want %v, and none", missing, len(p.Lists()), want)
		}
		good.Delta = true
		start(t, s, c, nil, good)
		eventually(t, "nothing is missing", func() bool { return len(p.Missing()) == 0 })
	})
}

// What one instance could not publish and another did has not failed any more.
func TestFailureThatAnotherMadeGood(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Powerless CA")
		a.reserve(t, epoch, 0, base)
		good, bad := a.config(), a.config()
		bad.Signer = powerless{a.key}
		first := start(t, s, &clock{}, nil, good)
		first.await(t, a.revoke(t, 1))
		first.stop()
		failing := start(t, s, &clock{}, nil, bad)
		failures := func() (n int) {
			for _, l := range failing.Lists() {
				if l.Failure != nil {
					n++
				}
			}
			return n
		}
		seq := a.revoke(t, 2)
		eventually(t, "shard and complete list fail", func() bool { return failures() == 2 })
		start(t, s, &clock{}, nil, good)
		failing.await(t, seq)
		eventually(t, "nothing fails", func() bool { return failures() == 0 })
	})
}
