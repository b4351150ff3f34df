package revocation_test

import (
	"context"
	"errors"
	"iter"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// source is a store of which one method fails, and which answers questions about positions as it is told.
type source struct {
	store.Store
	broken string
	answer func([]pki.Position) []revocation.Recorded // nil: the store
}

func (s *source) fails(method string) error {
	if s.broken == method {
		return pki.Errorf(pki.KindUnavailable, method, "%w", errBroken)
	}
	return nil
}

func (s *source) IssuerKeys(ctx context.Context) ([]revocation.IssuerKey, error) {
	keys, err := s.Store.IssuerKeys(ctx)
	return keys, errors.Join(err, s.fails("IssuerKeys"))
}

func (s *source) ChangedRanges(ctx context.Context, from pki.Epoch, since time.Time) iter.Seq2[revocation.Range, error] {
	if err := s.fails("ChangedRanges"); err != nil {
		return func(yield func(revocation.Range, error) bool) { yield(revocation.Range{}, err) }
	}
	return s.Store.ChangedRanges(ctx, from, since)
}

func (s *source) LedgerHead(ctx context.Context) (uint64, error) {
	head, err := s.Store.LedgerHead(ctx)
	return head, errors.Join(err, s.fails("LedgerHead"))
}

func (s *source) LedgerLoad(ctx context.Context, from pki.Epoch, upTo uint64) iter.Seq2[revocation.Entry, error] {
	if err := s.fails("LedgerLoad"); err != nil {
		return func(yield func(revocation.Entry, error) bool) { yield(revocation.Entry{}, err) }
	}
	return s.Store.LedgerLoad(ctx, from, upTo)
}

func (s *source) LedgerEntries(ctx context.Context, after uint64, limit int) ([]revocation.Entry, error) {
	if err := s.fails("LedgerEntries"); err != nil {
		return nil, err
	}
	return s.Store.LedgerEntries(ctx, after, limit)
}

func (s *source) LookUpSerials(ctx context.Context, issuer pki.IssuerID, positions []pki.Position) ([]revocation.Recorded, error) {
	if s.answer != nil {
		return s.answer(positions), nil
	}
	return s.Store.LookUpSerials(ctx, issuer, positions)
}

// A database that does not answer is never taken for one that has nothing: not at the start, and not later.
func TestSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testdb.OpenSQLite(t, filepath.Join(t.TempDir(), "db"))
		defer testdb.Close(t, s)
		open := newIssuer(t, s, "one", false).reserve(t, epoch, 0, 16)
		open.record(t, 0)
		for _, method := range []string{"IssuerKeys", "ChangedRanges", "LedgerHead", "LedgerLoad"} {
			u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: &source{Store: s, broken: method}, Ranges: &source{Store: s, broken: method}, Now: clock})
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Load(t.Context()); !errors.Is(err, errBroken) {
				t.Errorf("loaded without %s: %v", method, err)
			}
		}
		for _, method := range []string{"IssuerKeys", "ChangedRanges", "LedgerHead", "LedgerEntries", ""} {
			f := &source{Store: s}
			at := now
			var mu sync.Mutex
			u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: f, Ranges: f, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return at }})
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.broken = method
			mu.Lock()
			at = at.Add(time.Minute)
			mu.Unlock()
			ctx, cancel := context.WithCancel(t.Context())
			reported := make(chan error, 100)
			done := make(chan struct{})
			go func() { u.Run(ctx, func(err error) { reported <- err }); close(done) }()
			time.Sleep(2500 * time.Millisecond)
			cancel()
			<-done
			if method == "" {
				if asOf := u.AsOf(); len(reported) > 0 || !asOf.Equal(now.Add(time.Minute)) || u.Lag() != 0 {
					t.Errorf("all is well, and memory is right as of %s, %s behind", asOf, u.Lag())
				}
				continue
			}
			if len(reported) == 0 {
				t.Fatalf("%s fails and nobody is told", method)
			}
			if err := <-reported; !errors.Is(err, errBroken) {
				t.Errorf("%s fails: %v", method, err)
			}
			if asOf := u.AsOf(); !asOf.Equal(now) {
				t.Errorf("%s fails, and memory is right as of %s", method, asOf)
			}
			mu.Lock()
			at = at.Add(time.Minute)
			mu.Unlock()
			want := time.Duration(0) // nothing can be missing where the ledger was read
			if method != "LedgerHead" {
				want = time.Minute
			}
			if lag := u.Lag(); lag != want {
				t.Errorf("%s fails, and the lag is %s, want %s", method, lag, want)
			}
		}
		f := &source{Store: s}
		u := newUniverse(t, f)
		wantKind(t, "what is not in the ledger", u.Await(t.Context(), 99), pki.KindFailedPrecondition)
		f.broken = "LedgerEntries"
		wantKind(t, "a ledger that cannot be read", u.Await(t.Context(), 99), pki.KindUnavailable)
		wantKind(t, "a ledger that cannot be read", u.CatchUp(t.Context()), pki.KindUnavailable)
		if lag := u.Lag(); lag != 0 {
			t.Errorf("nobody was woken, and the lag is %s", lag)
		}
	})
}

// What the database says of an index that memory does not know.
func TestLookupAsks(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	serial, another := pki.NewSerial(pki.RangeKey{1}, i.key, pki.Position{Epoch: epoch, Index: 3}), pki.NewSerial(pki.RangeKey{2}, i.key, pki.Position{Epoch: epoch, Index: 3})
	for _, test := range []struct {
		what   string
		state  revocation.RangeState
		serial *pki.Serial
		want   pki.Status
	}{
		{"open, recorded", revocation.RangeOpen, &serial, pki.StatusGood},
		{"open, recorded as another", revocation.RangeOpen, &another, pki.StatusNotIssued},
		{"open, not recorded yet", revocation.RangeOpen, nil, pki.StatusUnknown},
		{"closed a moment ago, recorded", revocation.RangeClosed, &serial, pki.StatusGood},
		{"closed a moment ago, recorded as another", revocation.RangeClosed, &another, pki.StatusNotIssued},
		{"closed a moment ago, perhaps void", revocation.RangeClosed, nil, pki.StatusUnknown},
		{"free", revocation.RangeFree, nil, pki.StatusNotIssued},
		{"lost", revocation.RangeLost, nil, pki.StatusNotIssued},
		{"never reserved", revocation.RangeNone, nil, pki.StatusNotIssued},
	} {
		f := &source{Store: s, answer: func(positions []pki.Position) []revocation.Recorded {
			r := revocation.Recorded{Range: revocation.Range{Issuer: i.id, Epoch: epoch, From: 0, To: 16, State: test.state, At: now}}
			if test.state == revocation.RangeNone {
				r.Range = revocation.Range{}
			}
			if test.serial != nil {
				r.Recorded, r.Serial = true, *test.serial
			}
			return slices.Repeat([]revocation.Recorded{r}, len(positions))
		}}
		u := newUniverse(t, f)
		for range 2 { // what was remembered says the same
			if got := lookup(t, u, i.id, serial); got.Status != test.want {
				t.Errorf("%s: %+v, want %s", test.what, got, test.want)
			}
		}
	}
	if got := lookup(t, newUniverse(t, s), i.id, pki.Serial{1}); got.Status != pki.StatusNotIssued {
		t.Errorf("a serial of another shape: %+v", got)
	}
}

// Who is told from memory what was revoked while the database was asked is told that it is revoked.
func TestRevokedWhileAsking(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	open := i.reserve(t, epoch, 0, 16)
	open.record(t, 0)
	f := &source{Store: s}
	u := newUniverse(t, f)
	l := newLedger(t, s, u)
	f.answer = func(positions []pki.Position) []revocation.Recorded {
		found, err := s.LookUpSerials(t.Context(), i.id, positions)
		if err != nil {
			t.Error(err)
		}
		if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(0).Key}); err != nil {
			t.Error(err)
		}
		return found
	}
	if got := lookup(t, u, i.id, open.serial(0)); got.Status != pki.StatusRevoked || got.Seq != 1 {
		t.Errorf("%+v", got)
	}
}

// Only so many questions wait for one round; one that is asked already may wait for its answer. A clock that leaps does not hold up
// the next round.
func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testdb.OpenSQLite(t, filepath.Join(t.TempDir(), "db"))
		defer testdb.Close(t, s)
		i := newIssuer(t, s, "one", false)
		i.reserve(t, epoch, 0, pki.BlockSize)
		at := now
		var mu sync.Mutex
		u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return at }})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		serial := func(index uint64) pki.Serial {
			return pki.NewSerial(pki.RangeKey{1}, i.key, pki.Position{Epoch: epoch, Index: index})
		}
		for _, leap := range []time.Duration{0, time.Hour, -2 * time.Hour} {
			mu.Lock()
			at = at.Add(leap)
			mu.Unlock()
			begun := time.Now()
			lookup(t, u, i.id, serial(0))
			if took := time.Since(begun); took > 50*time.Millisecond {
				t.Errorf("after a leap of %s an answer takes %s", leap, took)
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for index := range uint64(10_000) {
			if _, err := u.Lookup(gone, i.id, serial(index)); pki.KindOf(err) != pki.KindUnavailable {
				t.Fatalf("question %d: %v", index, err)
			}
		}
		_, err = u.Lookup(gone, i.id, serial(10_000))
		wantKind(t, "one more", err, pki.KindExhausted)
		_, err = u.Lookup(gone, i.id, serial(9_999))
		wantKind(t, "one of them again", err, pki.KindUnavailable)
		synctest.Wait()
		time.Sleep(time.Second)
	})
}

// A scope covers what is of its issuer and its shard; foreign serials stand on complete lists only.
func TestScopeCovers(t *testing.T) {
	shard := pki.Shard{Epoch: epoch, Block: 1}
	id := pki.IssuerID{1}
	entry := revocation.Entry{Issuer: id, Position: pki.Position{Epoch: epoch, Index: pki.BlockSize}, Kind: revocation.KindRevoke}
	foreign := revocation.Entry{Issuer: id, Foreign: true, Kind: revocation.KindRevoke}
	restore := revocation.Entry{Issuer: id, Position: entry.Position, Kind: revocation.KindRestore}
	for _, test := range []struct {
		what  string
		scope revocation.Scope
		entry revocation.Entry
		want  bool
	}{
		{"whole", revocation.Whole(id), entry, true},
		{"whole, foreign", revocation.Whole(id), foreign, true},
		{"whole, restore", revocation.Whole(id), restore, false},
		{"whole of another", revocation.Whole(pki.IssuerID{2}), entry, false},
		{"shard", revocation.OfShard(id, shard), entry, true},
		{"shard of another", revocation.OfShard(pki.IssuerID{2}, shard), entry, false},
		{"another block", revocation.OfShard(id, pki.Shard{Epoch: epoch}), entry, false},
		{"another week", revocation.OfShard(id, pki.Shard{Epoch: epoch + 1, Block: 1}), entry, false},
		{"shard, foreign", revocation.OfShard(id, pki.Shard{}), foreign, false},
		{"shard, restore", revocation.OfShard(id, shard), restore, false},
	} {
		if got := test.scope.Covers(test.entry); got != test.want {
			t.Errorf("%s: %t", test.what, got)
		}
	}
}

func TestParseJobID(t *testing.T) {
	id := revocation.JobID{1, 15: 0xff}
	if got, err := revocation.ParseJobID(id.String()); err != nil || got != id {
		t.Errorf("%s, %v", got, err)
	}
	for _, text := range []string{"", "0", id.String()[1:], id.String()[2:], id.String() + "0", id.String() + "00", "zz" + id.String()[2:]} {
		if got, err := revocation.ParseJobID(text); err == nil || got != (revocation.JobID{}) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}
