package revocation_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// fate is what the naive model knows of one serial: all of it, in a map.
type fate struct {
	claim    revocation.Claim
	recorded bool
	last     revocation.Kind
	reason   pki.Reason
	imported bool
	passes   bool // its week passes
}

// place is what the naive model knows of one index.
type place struct {
	open     bool // in a range that somebody issues from
	recorded bool // under some serial
}

// answer is what the universe should say of a serial whose index is at a place.
func (f *fate) answer(at place, passed bool) (revocation.Issuance, pki.Status, pki.Reason) {
	switch {
	case passed && !f.imported:
		return revocation.CannotTell, pki.StatusUnknown, 0
	case f.last.Revokes():
		return revocation.Issued, pki.StatusRevoked, f.reason
	case f.recorded || f.imported:
		return revocation.Issued, pki.StatusGood, 0
	case at.open && !at.recorded: // it may be about to be issued
		return revocation.CannotTell, pki.StatusUnknown, 0
	}
	return revocation.NeverIssued, pki.StatusNotIssued, 0
}

// The universe agrees with a naive model after every step of random histories, whether it saw them live or loads them.
func TestUniverseModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testdb.OpenSQLite(t, filepath.Join(t.TempDir(), "db"))
		defer testdb.Close(t, s)
		run := 0
		rapid.Check(bubble{t}, func(rt *rapid.T) {
			run++
			checkHistory(t, rt, newIssuer(t, s, fmt.Sprint(run), false))
		})
	})
}

// bubble hides that a test has a deadline, which it must not be asked for in a synctest bubble.
type bubble struct{ testing.TB }

// checkHistory runs one random history of an issuer.
func checkHistory(t *testing.T, rt *rapid.T, i *issuer) {
	s := i.store
	at := now
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: clock})
	if err != nil {
		rt.Fatal(err)
	}
	if err := u.Load(t.Context()); err != nil {
		rt.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { u.Run(ctx, func(err error) { t.Error(err) }) })
	l, err := revocation.NewLedger(revocation.LedgerConfig{Store: s, Universe: u, Now: clock})
	if err != nil {
		rt.Fatal(err)
	}
	defer func() { l.Close(); cancel(); running.Wait() }()

	soon := pki.Epoch(358) // the week of now: it passes during some histories
	next := map[pki.Epoch]uint64{}
	free := map[pki.Epoch][2]uint64{}
	var open []span
	fates := map[pki.Serial]*fate{}
	places := map[pki.Position]place{}
	know := func(s span, index uint64) *fate {
		serial := s.serial(index)
		if fates[serial] == nil {
			fates[serial] = &fate{claim: s.claim(index), passes: s.epoch == soon}
		}
		return fates[serial]
	}
	check := func(u *revocation.Universe, what string) {
		for serial, f := range fates {
			at, passed := places[f.claim.Position], f.passes && clock().After(now.AddDate(0, 0, 14))
			serials := map[pki.Serial]*fate{serial: f}
			if !f.imported { // the same index with other random octets: no certificate of ours
				forged := serial
				forged[19] ^= 0xff
				forged = remask(forged, serial, i.key)
				if fates[forged] == nil {
					serials[forged] = &fate{}
				}
			}
			for serial, f := range serials {
				issuance, status, reason := f.answer(at, passed)
				got, err := u.Lookup(t.Context(), i.id, serial)
				if err != nil {
					rt.Fatal(err)
				}
				if got.Issuance != issuance || got.Status != status || got.Reason != reason {
					rt.Fatalf("%s: %+v at %+v: got %s %s %s, want %s %s %s", what, f, at, got.Issuance, got.Status, got.Reason, issuance, status, reason)
				}
			}
		}
	}
	actions := map[string]func(*rapid.T){
		"reserve": func(rt *rapid.T) {
			e := rapid.SampledFrom([]pki.Epoch{epoch, epoch + 1, soon}).Draw(rt, "epoch")
			if clock() != now && e == soon {
				return
			}
			from, to := next[e], next[e]+rapid.Uint64Range(1, 5).Draw(rt, "size")
			if f, ok := free[e]; ok {
				from, to = f[0], f[1]
				delete(free, e)
			} else {
				next[e] = to
			}
			s := i.reserve(t, e, from, to)
			open = append(open, s)
			for index := from; index < to; index++ {
				places[know(s, index).claim.Position] = place{open: true}
			}
		},
		"record": func(rt *rapid.T) {
			if len(open) == 0 {
				return
			}
			s := rapid.SampledFrom(open).Draw(rt, "range")
			index := rapid.Uint64Range(s.from, s.to-1).Draw(rt, "index")
			if f := know(s, index); !f.recorded {
				s.record(t, index)
				f.recorded = true
				places[f.claim.Position] = place{open: true, recorded: true}
			}
		},
		"close": func(rt *rapid.T) {
			if len(open) == 0 {
				return
			}
			n := rapid.IntRange(0, len(open)-1).Draw(rt, "range")
			s := open[n]
			open = slices.Delete(open, n, n+1)
			end := s.from // behind the last index that was recorded
			for index := s.from; index < s.to; index++ {
				f := know(s, index)
				if f.recorded {
					end = index + 1
				}
				places[f.claim.Position] = place{recorded: f.recorded}
			}
			if _, ok := free[s.epoch]; ok || rapid.Bool().Draw(rt, "expired") {
				end = s.to // somebody else closes: nothing is given back
			}
			var voids []uint64
			for index := s.from; index < end; index++ {
				if f := know(s, index); !f.recorded {
					voids = append(voids, index)
					f.last = revocation.KindVoid
				}
			}
			s.close(t, end, voids...)
			if end < s.to {
				free[s.epoch] = [2]uint64{end, s.to}
			}
		},
		"change": func(rt *rapid.T) {
			serials := sortedSerials(fates)
			if len(serials) == 0 {
				return
			}
			f := fates[rapid.SampledFrom(serials).Draw(rt, "serial")]
			if f.passes && clock() != now {
				return
			}
			request := revocation.Request{Key: f.claim.Key, Reason: pki.Superseded}
			var err error
			switch kind := rapid.SampledFrom([]revocation.Kind{revocation.KindRevoke, revocation.KindReasonChange, revocation.KindHold, revocation.KindRelease}).Draw(rt, "kind"); kind {
			case revocation.KindRevoke:
				if _, err = l.Revoke(t.Context(), admin(t), request); err == nil {
					f.last, f.reason = kind, pki.Superseded
				}
			case revocation.KindReasonChange:
				if _, err = l.ChangeReason(t.Context(), admin(t), request); err == nil {
					f.last, f.reason = kind, pki.KeyCompromise
				}
			case revocation.KindHold:
				if _, err = l.Hold(t.Context(), admin(t), request); err == nil {
					f.last, f.reason = kind, pki.CertificateHold
				}
			case revocation.KindRelease:
				if _, err = l.Release(t.Context(), admin(t), request); err == nil {
					f.last, f.reason = kind, 0
				}
			}
			if kind := pki.KindOf(err); err != nil && kind != pki.KindConflict && kind != pki.KindNotFound && kind != pki.KindFailedPrecondition {
				rt.Fatal(err)
			}
			if (err == nil) && !f.recorded && !f.imported {
				rt.Fatalf("changed what was never issued: %+v", f)
			}
		},
		"import": func(rt *rapid.T) {
			serial := pki.Serial{0: rapid.SampledFrom([]byte{0x41, 0x7f}).Draw(rt, "first"), 19: rapid.Byte().Draw(rt, "last")}
			if fates[serial] != nil {
				return
			}
			f := &fate{claim: u.Claim(revocation.Key{Issuer: i.id, Serial: serial}), imported: true, last: revocation.KindRevoke, reason: pki.KeyCompromise}
			if _, err := l.Import(t.Context(), manager(t), revocation.Request{Key: f.claim.Key, Reason: f.reason}); err != nil {
				rt.Fatal(err)
			}
			fates[serial] = f
		},
		"two weeks": func(rt *rapid.T) {
			for _, s := range open {
				if s.epoch == soon {
					return // the ca closes what is open before
				}
			}
			mu.Lock()
			at = now.AddDate(0, 0, 15)
			mu.Unlock()
		},
		"poll": func(*rapid.T) { time.Sleep(1100 * time.Millisecond) },
		"": func(rt *rapid.T) {
			synctest.Wait()
			check(u, "live")
		},
	}
	rt.Repeat(actions)
	fresh, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: clock})
	if err != nil {
		rt.Fatal(err)
	}
	if err := fresh.Load(t.Context()); err != nil {
		rt.Fatal(err)
	}
	check(fresh, "loaded")
	time.Sleep(1100 * time.Millisecond)
	synctest.Wait()
	compareViews(rt, i.id, u, fresh)
}

// compareViews compares what publishers see of two universes at one sequence.
func compareViews(rt *rapid.T, id pki.IssuerID, a, b *revocation.Universe) {
	if diff := cmp.Diff(a.Shards(id), b.Shards(id)); diff != "" {
		rt.Fatalf("shards (-live +loaded):\n%s", diff)
	}
	scopes := []revocation.Scope{revocation.Whole(id)}
	for _, shard := range a.Shards(id) {
		scopes = append(scopes, revocation.OfShard(id, shard))
	}
	for _, scope := range scopes {
		live, seq := a.Snapshot(scope)
		loaded, seq2 := b.Snapshot(scope)
		bySeq := func(a, b revocation.Entry) int { return int(a.Seq) - int(b.Seq) }
		slices.SortFunc(live, bySeq)
		slices.SortFunc(loaded, bySeq)
		if diff := cmp.Diff(live, loaded); diff != "" || seq != seq2 {
			rt.Fatalf("snapshot of %+v at %d and %d (-live +loaded):\n%s", scope, seq, seq2, diff)
		}
	}
}

// remask gives forged, whose random octets differ from those of serial, the position of serial.
func remask(forged, serial pki.Serial, issuer pki.KeyHash) pki.Serial {
	want, _ := serial.Unmask(issuer)
	forged[0] = 0x41
	is, _ := forged.Unmask(issuer)
	xor := func(i int, b byte) { forged[i] ^= b }
	e := uint16(want.Epoch) ^ uint16(is.Epoch)
	x := want.Index ^ is.Index
	xor(1, byte(e>>8))
	xor(2, byte(e))
	for n := range 5 {
		xor(3+n, byte(x>>(8*(4-n))))
	}
	return forged
}

func sortedSerials(fates map[pki.Serial]*fate) []pki.Serial {
	var serials []pki.Serial
	for serial := range fates {
		serials = append(serials, serial)
	}
	slices.SortFunc(serials, func(a, b pki.Serial) int {
		fa, fb := fates[a].claim.Position, fates[b].claim.Position
		if c := int(fa.Epoch) - int(fb.Epoch); c != 0 {
			return c
		}
		if c := int(fa.Index) - int(fb.Index); c != 0 {
			return c
		}
		return slices.Compare(a[:], b[:])
	})
	return serials
}

// countingRanges counts and fails questions to the database.
type countingRanges struct {
	store.Store
	asked   atomic.Int64
	batches atomic.Int64
	broken  atomic.Bool
}

func (c *countingRanges) LookUpSerials(ctx context.Context, issuer pki.IssuerID, positions []pki.Position) ([]revocation.Recorded, error) {
	c.batches.Add(1)
	c.asked.Add(int64(len(positions)))
	if c.broken.Load() {
		return nil, pki.Errorf(pki.KindUnavailable, "look up serials", "%w", errBroken)
	}
	return c.Store.LookUpSerials(ctx, issuer, positions)
}

// Many callers who ask for new certificates share one question; what is known is not asked again; without a database
// the answer is that nobody can tell.
func TestLookupRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testdb.OpenSQLite(t, filepath.Join(t.TempDir(), "db"))
		defer testdb.Close(t, s)
		ranges := &countingRanges{Store: s}
		i := newIssuer(t, s, "one", false)
		u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: ranges})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		far := pki.Epoch(2000) // the bubble's clock begins in 2000, the calendar of serials in 2020
		open := i.reserve(t, far, 0, 64)
		for index := range uint64(50) {
			open.record(t, index)
		}
		var wg sync.WaitGroup
		for range 3 {
			for index := range uint64(60) {
				wg.Go(func() {
					answer, err := u.Lookup(t.Context(), i.id, open.serial(index))
					if err != nil || (answer.Issuance == revocation.Issued) != (index < 50) {
						t.Errorf("index %d: %+v, %v", index, answer, err)
					}
				})
			}
		}
		wg.Wait()
		if batches, asked := ranges.batches.Load(), ranges.asked.Load(); batches > 2 || asked > 120 {
			t.Errorf("180 look-ups of 60 serials asked the database %d times for %d positions", batches, asked)
		}
		before := ranges.batches.Load()
		for index := range uint64(50) {
			if answer := lookup(t, u, i.id, open.serial(index)); answer.Status != pki.StatusGood {
				t.Errorf("index %d: %+v", index, answer)
			}
		}
		if ranges.batches.Load() != before {
			t.Error("known certificates were asked for again")
		}
		begin := time.Now()
		for range 10 {
			lookup(t, u, i.id, open.serial(63)) // not recorded: each asks
		}
		if took := time.Since(begin); took < 450*time.Millisecond {
			t.Errorf("10 questions one after the other took %v: want one each 50 ms at most", took)
		}
		ranges.broken.Store(true)
		answer, err := u.Lookup(t.Context(), i.id, open.serial(62))
		if answer.Issuance != revocation.CannotTell || answer.Status != pki.StatusUnknown {
			t.Errorf("without a database: %+v", answer)
		}
		wantKind(t, "without a database", err, pki.KindUnavailable)
		if answer := lookup(t, u, i.id, open.serial(1)); answer.Status != pki.StatusGood {
			t.Errorf("a known certificate without a database: %+v", answer)
		}
	})
}

// An issuer that ever signed outside the scheme never gets "never issued" for a serial that the scheme did not make.
func TestLookupForeignIssuer(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	testdb.Exec(t, s, `UPDATE issuers SET signed_outside = 1`)
	span := i.reserve(t, epoch, 0, 16)
	span.record(t, 0)
	span.close(t, 1)
	u := newUniverse(t, s)
	if answer := lookup(t, u, i.id, span.serial(0)); answer.Status != pki.StatusGood {
		t.Errorf("its own: %+v", answer)
	}
	forged := func(position pki.Position) pki.Serial { return pki.NewSerial(pki.RangeKey{9}, i.key, position) }
	for what, serial := range map[string]pki.Serial{
		"of another scheme": {1}, "like ours": {0x41, 5}, "no serial": {},
		"in place of one that was issued": forged(span.claim(0).Position), "in place of one of the void": forged(span.claim(2).Position),
		"in a range that was never reserved": forged(pki.Position{Epoch: epoch, Index: 5000}), "in a week without ranges": forged(pki.Position{Epoch: epoch + 1}),
	} {
		if answer := lookup(t, u, i.id, serial); answer.Issuance != revocation.NotCovered || answer.Status != pki.StatusUnknown {
			t.Errorf("%s: %+v", what, answer)
		}
	}
	open := i.reserve(t, epoch, 16, 32)
	if answer := lookup(t, u, i.id, open.serial(17)); answer.Issuance != revocation.CannotTell {
		t.Errorf("about to be issued: %+v", answer)
	}
	if answer := lookup(t, u, pki.IssuerID{1}, span.serial(0)); answer.Issuance != revocation.CannotTell {
		t.Errorf("another's issuer: %+v", answer)
	}
}

// A watch tells every entry once, in order, however far behind it is.
func TestWatch(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		open := i.reserve(t, epoch, 0, 16)
		u := newUniverse(t, s)
		l := newLedger(t, s, u)
		watch := u.Watch(0)
		defer watch.Close()
		late := u.Watch(0)
		defer late.Close()
		open.record(t, 0, 1, 2, 3)
		for index := range uint64(4) {
			if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(index).Key}); err != nil {
				t.Fatal(err)
			}
			<-watch.C
			change, err := watch.Take(t.Context())
			if err != nil || change.After != index || change.Seq != index+1 || len(change.Entries) != 1 || change.Entries[0].Position.Index != index {
				t.Fatalf("%+v, %v", change, err)
			}
		}
		if change, err := watch.Take(t.Context()); err != nil || change.After != change.Seq || len(change.Entries) != 0 {
			t.Errorf("nothing happened: %+v, %v", change, err)
		}
		<-late.C
		if change, err := late.Take(t.Context()); err != nil || change.Seq != 4 || len(change.Entries) != 4 {
			t.Errorf("late: %+v, %v", change, err)
		}
		restarted := newUniverse(t, s) // has the entries in its books, and not in its memory for watches
		again := restarted.Watch(1)
		defer again.Close()
		<-again.C
		if change, err := again.Take(t.Context()); err != nil || change.After != 1 || change.Seq != 4 || len(change.Entries) != 3 {
			t.Errorf("after a restart: %+v, %v", change, err)
		}
		last := restarted.Watch(3)
		defer last.Close()
		if change, err := last.Take(t.Context()); err != nil || change.Seq != 4 || len(change.Entries) != 1 {
			t.Errorf("the last one, after a restart: %+v, %v", change, err)
		}
		if len(restarted.Shards(i.id)) != 1 {
			t.Errorf("shards %v", restarted.Shards(i.id))
		}
		i.reserve(t, epoch, pki.BlockSize-1, pki.BlockSize+1)
		lookup(t, restarted, i.id, i.reserve(t, epoch+1, 0, 1).serial(0)) // a question finds the range
		select {
		case <-again.C:
		default:
			t.Error("a shard came to exist, and the watch is not woken")
		}
		change, err := again.Take(t.Context())
		if want := []revocation.Scope{revocation.OfShard(i.id, pki.Shard{Epoch: epoch + 1})}; err != nil || !slices.Equal(change.Made, want) {
			t.Errorf("made %v, %v; want %v", change.Made, err, want)
		}
		var seqs []uint64
		for e, err := range restarted.Entries(t.Context(), revocation.OfShard(i.id, pki.Shard{Epoch: epoch}), 1, 3) {
			if err != nil {
				t.Fatal(err)
			}
			seqs = append(seqs, e.Seq)
		}
		if !slices.Equal(seqs, []uint64{2, 3}) {
			t.Errorf("entries %v", seqs)
		}
	})
}

// A universe follows what another instance does, woken by it.
func TestUniverseFollows(t *testing.T) {
	url := testdb.URL(t)
	a, b := testdb.Open(t, url), testdb.Open(t, url)
	i := newIssuer(t, a, "one", false)
	open := i.reserve(t, epoch, 0, 16)
	open.record(t, 0, 1, 2)
	ua, ub := newUniverse(t, a), newUniverse(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { ub.Run(ctx, func(err error) { t.Error(err) }) })
	defer running.Wait()
	defer cancel()
	l := newLedger(t, a, ua)
	watch := ub.Watch(0)
	defer watch.Close()
	for index := range uint64(3) {
		if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(index).Key, Reason: pki.Superseded}); err != nil {
			t.Fatal(err)
		}
		for ub.Seq() < index+1 {
			<-watch.C
		}
		if answer := lookup(t, ub, i.id, open.serial(index)); answer.Status != pki.StatusRevoked {
			t.Errorf("%+v", answer)
		}
	}
}

// A database that went back is noticed; what is known keeps being served, and nothing new is written.
func TestUniverseRegressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testdb.OpenSQLite(t, filepath.Join(t.TempDir(), "db"))
		defer testdb.Close(t, s)
		i := newIssuer(t, s, "one", false)
		open := i.reserve(t, epoch, 0, 16)
		open.record(t, 0, 1)
		u := newUniverse(t, s)
		l := newLedger(t, s, u)
		defer l.Close()
		if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(0).Key}); err != nil {
			t.Fatal(err)
		}
		testdb.Exec(t, s, `DROP TRIGGER ledger_no_delete`)
		testdb.Exec(t, s, `DELETE FROM ledger`)
		testdb.Exec(t, s, `UPDATE ledger_head SET seq = 0`)
		for what, change := range map[string]func(*revocation.Ledger) error{ // before anybody has looked
			"revoke": func(l *revocation.Ledger) error {
				_, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(1).Key})
				return err
			},
			"block": func(l *revocation.Ledger) error {
				_, err := l.BlockKey(t.Context(), manager(t), blockOf(1))
				return err
			},
			"learn": func(l *revocation.Ledger) error {
				_, err := l.MergeCRL(t.Context(), manager(t), []revocation.ListedRevocation{{Request: revocation.Request{Key: open.claim(1).Key}}})
				return err
			},
		} {
			testdb.Exec(t, s, `DELETE FROM ledger`)
			testdb.Exec(t, s, `INSERT INTO ledger (seq, issuer, epoch, idx, serial, kind, reason, revoked_at, recorded_at, actor) SELECT 1, id, 400, 0, zeroblob(20), 1, 0, 0, 0, '' FROM issuers`)
			testdb.Exec(t, s, `UPDATE ledger_head SET seq = 1`)
			before := newUniverse(t, s)
			testdb.Exec(t, s, `DELETE FROM ledger`)
			testdb.Exec(t, s, `UPDATE ledger_head SET seq = 0`)
			again := newLedger(t, s, before)
			wantKind(t, "at once: "+what, change(again), pki.KindFailedPrecondition)
			wantKind(t, "and then: "+what, before.Check(), pki.KindFailedPrecondition)
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		}
		testdb.Exec(t, s, `DELETE FROM ledger`)
		testdb.Exec(t, s, `UPDATE ledger_head SET seq = 0`)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { u.Run(ctx, nil); close(done) }()
		time.Sleep(2 * time.Second)
		cancel()
		<-done
		wantKind(t, "check", u.Check(), pki.KindFailedPrecondition)
		_, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(1).Key})
		wantKind(t, "revoke", err, pki.KindFailedPrecondition)
		_, err = l.BlockKey(t.Context(), manager(t), blockOf(1))
		wantKind(t, "block", err, pki.KindFailedPrecondition)
		_, err = l.MergeCRL(t.Context(), manager(t), []revocation.ListedRevocation{{Request: revocation.Request{Key: open.claim(1).Key}}})
		wantKind(t, "learn", err, pki.KindFailedPrecondition)
		if answer := lookup(t, u, i.id, open.serial(0)); answer.Status != pki.StatusRevoked {
			t.Errorf("%+v", answer)
		}
	})
}

// A week that has passed is forgotten, and its shards are told gone; an issuer that retains keeps both.
func TestWeekPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testdb.OpenSQLite(t, filepath.Join(t.TempDir(), "db"))
		defer testdb.Close(t, s)
		short, long := newIssuer(t, s, "short", false), newIssuer(t, s, "long", false)
		soon := pki.Epoch(358)
		a, b := short.reserve(t, soon, 0, 16), long.reserve(t, soon, 0, 16)
		a.record(t, 0)
		b.record(t, 0)
		var days atomic.Int64
		clock := func() time.Time { return now.AddDate(0, 0, int(days.Load())) }
		retain := func(i *issuer) {
			t.Helper()
			if err := s.RaiseRetention(t.Context(), i.id, 365*24*time.Hour, audit.Event{Actor: "test", Action: "issuer.retain", Outcome: audit.OK}); err != nil {
				t.Fatal(err)
			}
		}
		retain(long)
		u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, err := revocation.NewLedger(revocation.LedgerConfig{Store: s, Universe: u, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for _, span := range []span{a, b} {
			if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: span.claim(0).Key}); err != nil {
				t.Fatal(err)
			}
		}
		watch := u.Watch(u.Seq())
		defer watch.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { u.Run(ctx, func(err error) { t.Error(err) }); close(done) }()
		time.Sleep(2500 * time.Millisecond) // between two polls
		if change, err := watch.Take(t.Context()); err != nil || len(change.Gone) != 0 {
			t.Errorf("before the end: %+v, %v", change, err)
		}
		days.Store(15)
		newIssuer(t, s, "other", false).reserve(t, soon+3, 0, 16) // a shard comes to exist in the round in which another goes
		time.Sleep(time.Second)                                   // one poll
		select {
		case <-watch.C:
		default:
			t.Error("the week passed, and the watch is not woken")
		}
		change, err := watch.Take(t.Context())
		if want := []revocation.Scope{revocation.OfShard(short.id, pki.Shard{Epoch: soon})}; err != nil || !slices.Equal(change.Gone, want) {
			t.Errorf("gone %v, %v; want %v", change.Gone, err, want)
		}
		cancel()
		<-done
		retain(short)
		fresh, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		if err := fresh.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			what     string
			u        *revocation.Universe
			span     span
			issuance revocation.Issuance
			shards   int
		}{{"passed", u, a, revocation.CannotTell, 0}, {"retained", u, b, revocation.Issued, 1}, {"retained from the start", fresh, a, revocation.Issued, 1}} {
			if answer := lookup(t, test.u, test.span.issuer.id, test.span.serial(0)); answer.Issuance != test.issuance {
				t.Errorf("%s: %+v", test.what, answer)
			}
			if shards := test.u.Shards(test.span.issuer.id); len(shards) != test.shards {
				t.Errorf("%s: shards %v", test.what, shards)
			}
		}
	})
}

// A clock that leaps ahead and back makes nobody forget what was revoked: never good, and right again a moment later.
func TestClockLeaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testdb.OpenSQLite(t, filepath.Join(t.TempDir(), "db"))
		defer testdb.Close(t, s)
		i := newIssuer(t, s, "one", false)
		held := i.reserve(t, 358, 0, 16)
		held.record(t, 0)
		held.record(t, 1)
		closed := i.reserve(t, 359, 0, 16)
		closed.record(t, 0)
		closed.close(t, 16)
		var days atomic.Int64
		clock := func() time.Time { return now.AddDate(0, 0, int(days.Load())) }
		u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, err := revocation.NewLedger(revocation.LedgerConfig{Store: s, Universe: u, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		elsewhere := newUniverse(t, s) // of an instance whose clock does not leap
		right, err := revocation.NewLedger(revocation.LedgerConfig{Store: s, Universe: elsewhere, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		defer right.Close()
		revoke := func(l *revocation.Ledger, span span, index uint64) {
			t.Helper()
			if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: span.claim(index).Key}); err != nil {
				t.Fatal(err)
			}
		}
		revoke(l, held, 0)
		revoke(l, closed, 0)
		watch := u.Watch(u.Seq())
		defer watch.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { u.Run(ctx, func(err error) { t.Error(err) }); close(done) }()
		time.Sleep(2 * time.Second)
		for _, leap := range []int64{60, -60, 4000, 300} {
			days.Store(leap)
			time.Sleep(2 * time.Second)
			if leap == 60 {
				_, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: held.claim(1).Key})
				wantKind(t, "while the week counts as passed", err, pki.KindFailedPrecondition)
				revoke(right, held, 1) // and is not over elsewhere
			}
			days.Store(0)
			for _, at := range []string{"at once", "later"} {
				for _, c := range []struct {
					span  span
					index uint64
				}{{held, 0}, {held, 1}, {closed, 0}} {
					answer := lookup(t, u, i.id, c.span.serial(c.index))
					if answer.Status == pki.StatusGood || at == "later" && answer.Status != pki.StatusRevoked {
						t.Errorf("after %d days and back, %s: index %d of week %d is %s", leap, at, c.index, c.span.epoch, answer.Status)
					}
				}
				time.Sleep(2 * time.Second)
			}
			if shards := u.Shards(i.id); len(shards) != 2 {
				t.Errorf("after %d days and back the shards are %v", leap, shards)
			}
		}
		made := 0
		for {
			change, err := watch.Take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if made += len(change.Made) - len(change.Gone); change.Seq == change.After {
				break
			}
		}
		if made != 0 {
			t.Errorf("%d more shards were told made than gone", made)
		}
		cancel()
		<-done
	})
}

// slowLog reads the ledger for as long as it is told.
type slowLog struct {
	revocation.LedgerReader
	reading chan struct{} // told of each reading
	go_on   chan struct{}
}

func (l slowLog) LedgerEntries(ctx context.Context, after uint64, limit int) ([]revocation.Entry, error) {
	l.reading <- struct{}{}
	<-l.go_on
	return l.LedgerReader.LedgerEntries(ctx, after, limit)
}

// Whoever waits for a reading that does not end waits no longer than its context.
func TestAwaitEndsWithItsContext(t *testing.T) {
	s := testdb.SQLite(t)
	log := slowLog{LedgerReader: s, reading: make(chan struct{}, 9), go_on: make(chan struct{})}
	u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: log, Ranges: s, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	i := newIssuer(t, s, "one", false)
	i.reserve(t, epoch, 0, 16).close(t, 16, 1)
	first := make(chan error, 1)
	go func() { first <- u.Await(t.Context(), 1) }()
	<-log.reading
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantKind(t, "second", u.Await(ctx, 1), pki.KindUnavailable)
	close(log.go_on)
	if err := <-first; err != nil || u.Seq() != 1 {
		t.Errorf("at %d, %v", u.Seq(), err)
	}
	watch := u.Watch(0)
	defer watch.Close()
	readings := len(log.reading)
	if change, err := watch.Take(t.Context()); err != nil || len(change.Entries) != 1 || len(log.reading) != readings {
		t.Errorf("%+v, %v, after %d more readings: it was in memory", change, err, len(log.reading)-readings)
	}
}

// A damaged row of the ledger, with an index far beyond everything that was reserved, takes no more memory than another: a bit for every
// index up to it would be a gigabyte.
func TestARowFarBeyondItsRange(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	span := i.reserve(t, epoch, 0, 16)
	span.close(t, 16)
	far := span.claim(1)
	far.Position.Index = 1 << 33
	var entries []revocation.NewEntry
	for _, claim := range []revocation.Claim{span.claim(0), far} {
		entries = append(entries, revocation.NewEntry{Entry: revocation.Entry{Issuer: i.id, Serial: claim.Key.Serial, Position: claim.Position, Kind: revocation.KindRevoke,
			Reason: pki.Superseded, RevokedAt: now, Actor: "test"}})
	}
	if _, err := s.AppendLedger(t.Context(), 0, entries, nil); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	u := newUniverse(t, s)
	all, _ := u.Snapshot(revocation.Whole(i.id))
	block, _ := u.Snapshot(revocation.OfShard(i.id, far.Position.Shard()))
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("two entries took %d MiB", took>>20)
	}
	if len(all) != 2 || all[0].Position.Index != 0 || all[1].Position.Index != 1<<33 || len(block) != 1 || block[0].Position != far.Position {
		t.Errorf("all: %v; of its block: %v", all, block)
	}
	if answer := lookup(t, u, i.id, span.serial(0)); answer.Status != pki.StatusRevoked {
		t.Errorf("a sound row: %+v", answer)
	}
	if answer := lookup(t, u, i.id, span.serial(2)); answer.Status != pki.StatusGood {
		t.Errorf("what no row is about: %+v", answer)
	}
}

// feed tells of ranges as it likes.
type feed struct {
	revocation.RangeReader
	ranges []revocation.Range
}

func (f *feed) ChangedRanges(context.Context, pki.Epoch, time.Time) iter.Seq2[revocation.Range, error] {
	return func(yield func(revocation.Range, error) bool) {
		for _, r := range f.ranges {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Readings overtake each other: of ranges that overlap the newest counts, in whatever order they come. Each closed range has a key of
// its own here, so that one serial tells which range answers for an index.
func TestRangesOverlap(t *testing.T) {
	const size = 12
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		f := &feed{RangeReader: s}
		for n := range 1 + random.IntN(6) {
			from := random.Uint64N(size)
			r := revocation.Range{Issuer: i.id, Epoch: epoch, From: from, To: from + 1 + random.Uint64N(size-from), State: revocation.RangeClosed,
				Key: pki.RangeKey{byte(n + 1)}, At: now.Add(time.Duration(n) * time.Second)}
			if random.IntN(4) == 0 {
				r.State = revocation.RangeLost
			}
			f.ranges = append(f.ranges, r)
		}
		random.Shuffle(len(f.ranges), func(a, b int) { f.ranges[a], f.ranges[b] = f.ranges[b], f.ranges[a] })
		u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: f, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		for index := range uint64(size) {
			var newest revocation.Range
			for _, r := range f.ranges {
				if r.From <= index && index < r.To && r.At.After(newest.At) {
					newest = r
				}
			}
			if newest.State == revocation.RangeNone {
				continue
			}
			for _, r := range f.ranges {
				want := pki.StatusNotIssued
				if r.Key == newest.Key && newest.State == revocation.RangeClosed {
					want = pki.StatusGood
				}
				serial := pki.NewSerial(r.Key, i.key, pki.Position{Epoch: epoch, Index: index})
				if got := lookup(t, u, i.id, serial); got.Status != want {
					t.Fatalf("%+v: a serial of key %x at %d is %s, want %s", f.ranges, r.Key[0], index, got.Status, want)
				}
			}
		}
	}
}

// A shard exists from its first range on: up to the last index of the range and no further, and not for what was lost.
func TestShardsOfRanges(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	for _, test := range []struct {
		from, to uint64
		state    revocation.RangeState
		blocks   []uint32
	}{
		{0, pki.BlockSize, revocation.RangeOpen, []uint32{0}},
		{pki.BlockSize - 1, pki.BlockSize + 1, revocation.RangeFree, []uint32{0, 1}},
		{pki.BlockSize, 3*pki.BlockSize + 1, revocation.RangeClosed, []uint32{1, 2, 3}},
		{0, pki.BlockSize, revocation.RangeLost, nil},
		{5, 5, revocation.RangeOpen, nil},
	} {
		f := &feed{s, []revocation.Range{{Issuer: i.id, Epoch: epoch, From: test.from, To: test.to, State: test.state, At: now}}}
		u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: f, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		var blocks []uint32
		for _, shard := range u.Shards(i.id) {
			blocks = append(blocks, shard.Block)
		}
		if !slices.Equal(blocks, test.blocks) {
			t.Errorf("[%d, %d) %d: blocks %v, want %v", test.from, test.to, test.state, blocks, test.blocks)
		}
		for block := range uint32(5) {
			if has := u.HasShard(i.id, pki.Shard{Epoch: epoch, Block: block}); has != slices.Contains(blocks, block) {
				t.Errorf("[%d, %d) %d: has block %d: %t", test.from, test.to, test.state, block, has)
			}
		}
		for _, stranger := range []revocation.Scope{revocation.OfShard(i.id, pki.Shard{Epoch: epoch + 1}), revocation.OfShard(pki.IssuerID{1}, pki.Shard{Epoch: epoch})} {
			if u.HasShard(stranger.Issuer, stranger.Shard) || len(u.Shards(pki.IssuerID{1})) > 0 {
				t.Errorf("there is something of %+v", stranger)
			}
		}
	}
}

// An index in front of a range that is closed is not of that range: the database is asked.
func TestLookupInAGap(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	open := i.reserve(t, epoch, 0, 8)
	open.record(t, 3)
	f := &feed{s, []revocation.Range{{Issuer: i.id, Epoch: epoch, From: 8, To: 12, State: revocation.RangeClosed, Key: pki.RangeKey{1}, At: now}}}
	u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: f, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := lookup(t, u, i.id, open.serial(3)); got.Status != pki.StatusGood {
		t.Errorf("what another instance has issued meanwhile: %+v", got)
	}
}

// A snapshot has the last entry of each certificate of its scope, and nothing of other scopes.
func TestSnapshot(t *testing.T) {
	s := testdb.SQLite(t)
	one, two := newIssuer(t, s, "one", false), newIssuer(t, s, "two", false)
	a, b, c := one.reserve(t, epoch, 0, pki.BlockSize), one.reserve(t, epoch, pki.BlockSize, 2*pki.BlockSize), one.reserve(t, epoch+1, 0, 16)
	other := two.reserve(t, epoch, 0, 16)
	a.record(t, 0, pki.BlockSize-1)
	b.record(t, pki.BlockSize)
	c.record(t, 0)
	other.record(t, 0)
	u := newUniverse(t, s)
	l := newLedger(t, s, u)
	for _, key := range []revocation.Key{a.claim(0).Key, a.claim(pki.BlockSize - 1).Key, b.claim(pki.BlockSize).Key, c.claim(0).Key, other.claim(0).Key} {
		if _, err := l.Hold(t.Context(), admin(t), revocation.Request{Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	doubted := revocation.Request{Key: a.claim(0).Key, Reason: pki.KeyCompromise, InvalidityAt: time.Unix(0, 0)} // a date like any other
	if _, err := l.Revoke(t.Context(), admin(t), doubted); err != nil {
		t.Fatal(err)
	}
	foreign := pki.Serial{19: 9}
	if _, err := l.Import(t.Context(), manager(t), revocation.Request{Key: revocation.Key{Issuer: one.id, Serial: foreign}}); err != nil {
		t.Fatal(err)
	}
	shard := func(epoch pki.Epoch, block uint32) revocation.Scope {
		return revocation.OfShard(one.id, pki.Shard{Epoch: epoch, Block: block})
	}
	for _, test := range []struct {
		scope revocation.Scope
		want  []pki.Serial
	}{
		{shard(epoch, 0), []pki.Serial{a.serial(pki.BlockSize - 1), a.serial(0)}},
		{shard(epoch, 1), []pki.Serial{b.serial(pki.BlockSize)}},
		{shard(epoch, 2), nil},
		{shard(epoch+1, 0), []pki.Serial{c.serial(0)}},
		{revocation.Whole(one.id), []pki.Serial{a.serial(pki.BlockSize - 1), b.serial(pki.BlockSize), c.serial(0), a.serial(0), foreign}},
		{revocation.Whole(two.id), []pki.Serial{other.serial(0)}},
	} {
		entries, seq := u.Snapshot(test.scope)
		slices.SortFunc(entries, func(a, b revocation.Entry) int { return int(a.Seq) - int(b.Seq) })
		var got []pki.Serial
		for _, e := range entries {
			got = append(got, e.Serial)
			if !test.scope.Covers(e) {
				t.Errorf("%+v holds %+v", test.scope, e)
			}
			if wantAt := e.Serial == doubted.Serial; wantAt != e.InvalidityAt.Equal(doubted.InvalidityAt) || !wantAt && !e.InvalidityAt.IsZero() {
				t.Errorf("%s: invalid since %s", e.Serial, e.InvalidityAt)
			}
		}
		if !slices.Equal(got, test.want) || seq != 7 {
			t.Errorf("%+v at %d: %v, want %v at 7", test.scope, seq, got, test.want)
		}
	}
}

// longLog is a ledger of many entries.
type longLog struct {
	revocation.LedgerReader
	issuer pki.IssuerID
	head   uint64
}

func (l *longLog) LedgerEntries(_ context.Context, after uint64, limit int) (entries []revocation.Entry, err error) {
	for seq := after + 1; seq <= l.head && len(entries) < limit; seq++ {
		e := revocation.Entry{Seq: seq, Issuer: l.issuer, Foreign: true, Kind: revocation.KindRevoke, RevokedAt: now, RecordedAt: now}
		binary.BigEndian.PutUint64(e.Serial[12:], seq)
		entries = append(entries, e)
	}
	return entries, nil
}

// A watch that is further behind than what is kept for watches misses nothing: it reads the ledger, and then memory.
func TestWatchFarBehind(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	log := &longLog{LedgerReader: s, issuer: i.id}
	u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: log, Ranges: s, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch := u.Watch(0)
	defer watch.Close()
	for _, log.head = range []uint64{30_000, 30_000 + 2*16_384, 70_000} {
		if err := u.Await(t.Context(), log.head); err != nil {
			t.Fatal(err)
		}
	}
	log.head += 5 // in the ledger, and not applied: not told yet
	told := uint64(0)
	for range 100 {
		select {
		case <-watch.C:
		default:
			t.Fatalf("not woken at %d", told)
		}
		change, err := watch.Take(t.Context())
		if err != nil || change.After != told {
			t.Fatalf("after %d: from %d, %v", told, change.After, err)
		}
		for _, e := range change.Entries {
			if told++; e.Seq != told {
				t.Fatalf("entry %d in the place of %d", e.Seq, told)
			}
		}
		if change.Seq != told {
			t.Fatalf("told up to %d, and says %d", told, change.Seq)
		}
		if told == u.Seq() {
			break
		}
	}
	if told != 70_000 {
		t.Errorf("told up to %d", told)
	}
	select {
	case <-watch.C:
		t.Error("woken for nothing")
	default:
	}
}

// wakingLog counts readings of the ledger, and wakes as the test tells it.
type wakingLog struct {
	revocation.LedgerReader
	wake     chan func(revocation.WakeUp)
	readings atomic.Int64
}

func (l *wakingLog) LedgerEntries(ctx context.Context, after uint64, limit int) ([]revocation.Entry, error) {
	l.readings.Add(1)
	return l.LedgerReader.LedgerEntries(ctx, after, limit)
}

func (l *wakingLog) ListenLedger(ctx context.Context, wake func(revocation.WakeUp)) error {
	l.wake <- wake
	<-ctx.Done()
	return ctx.Err()
}

// wakingStore wakes for a commit before the writer hears of it, who hears of it so much later.
type wakingStore struct {
	revocation.LedgerStore
	wake  func(revocation.WakeUp)
	later time.Duration
}

func (b *wakingStore) AppendLedger(ctx context.Context, read uint64, entries []revocation.NewEntry, events []audit.Event) (uint64, error) {
	last, err := b.LedgerStore.AppendLedger(ctx, read, entries, events)
	if b.wake != nil {
		b.wake(revocation.WakeUp{Seq: last})
		time.Sleep(b.later)
	}
	return last, err
}

// An instance that is woken for entries that it has, or is about to have because it appended them itself, reads nothing; for others it
// does not wait for the next poll.
func TestWakeUps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testdb.OpenSQLite(t, filepath.Join(t.TempDir(), "db"))
		defer testdb.Close(t, s)
		i := newIssuer(t, s, "one", false)
		span := i.reserve(t, epoch, 0, 16)
		span.record(t, 0, 1, 2, 3, 4)
		log := &wakingLog{LedgerReader: s, wake: make(chan func(revocation.WakeUp), 1)}
		books := &wakingStore{LedgerStore: s}
		open := func(log revocation.LedgerReader, books revocation.LedgerStore) (*revocation.Universe, *revocation.Ledger) {
			t.Helper()
			u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: log, Ranges: s, Now: clock})
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			l, err := revocation.NewLedger(revocation.LedgerConfig{Store: books, Universe: u, Now: clock})
			if err != nil {
				t.Fatal(err)
			}
			return u, l
		}
		u, own := open(log, books)
		defer own.Close()
		_, others := open(s, s)
		defer others.Close()
		revoke := func(l *revocation.Ledger, index uint64) {
			t.Helper()
			if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: span.claim(index).Key}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { u.Run(ctx, func(err error) { t.Error(err) }); close(done) }()
		wake := <-log.wake
		woken := func(what string, readings int64, seq uint64, news ...revocation.WakeUp) {
			t.Helper()
			before := log.readings.Load()
			for _, n := range news {
				wake(n)
			}
			time.Sleep(10 * time.Millisecond) // of the bubble: the poll is a second away
			if got := log.readings.Load() - before; got != readings || u.Seq() != seq {
				t.Errorf("%s: %d readings and at %d, want %d and %d", what, got, u.Seq(), readings, seq)
			}
		}
		revoke(own, 0)
		woken("its own entry", 0, 1, revocation.WakeUp{Seq: 1})
		woken("ranges", 1, 1, revocation.WakeUp{Ranges: true, Seq: 1})
		revoke(others, 1)
		woken("an entry of another", 1, 2, revocation.WakeUp{Seq: 2})
		woken("the same again", 0, 2, revocation.WakeUp{Seq: 2})
		revoke(others, 2)
		woken("two at once", 1, 3, revocation.WakeUp{Seq: 3}, revocation.WakeUp{Seq: 2})
		woken("nobody knows what", 1, 3, revocation.WakeUp{Seq: revocation.UnknownSeq})
		books.wake = wake
		for _, c := range []struct {
			what     string
			later    time.Duration
			readings int64
		}{{"a commit that its writer hears of a moment later", time.Millisecond, 0}, {"a commit that its writer hears of long after", 50 * time.Millisecond, 1}} {
			before := log.readings.Load()
			books.later = c.later
			revoke(own, u.Seq())
			if got := log.readings.Load() - before; got != c.readings {
				t.Errorf("%s: %d readings, want %d", c.what, got, c.readings)
			}
		}
		cancel()
		<-done
	})
}
