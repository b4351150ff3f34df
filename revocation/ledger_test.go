package revocation_test

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func TestLedger(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		open := i.reserve(t, epoch, 0, 16)
		open.record(t, 0, 1, 2, 3)
		u := newUniverse(t, s)
		l := newLedger(t, s, u)
		request := func(index uint64, reason pki.Reason) revocation.Request {
			return revocation.Request{Key: open.claim(index).Key, Reason: reason}
		}

		first, err := l.Revoke(t.Context(), admin(t), request(0, pki.Superseded))
		if err != nil || first.Repeated || first.Entry.Seq != 1 {
			t.Fatalf("revoke: %+v, %v", first, err)
		}
		if a := lookup(t, u, i.id, open.serial(0)); a.Status != pki.StatusRevoked || a.Reason != pki.Superseded || a.EventSeq != 1 || a.Seq != 1 || !a.RevokedAt.Equal(now) {
			t.Errorf("right after: %+v", a)
		}
		again, err := l.Revoke(t.Context(), admin(t), request(0, pki.Superseded))
		if err != nil || !again.Repeated || again.Entry.Seq != 1 || again.Entry.Actor != "token:root" {
			t.Errorf("revoke again: %+v, %v", again, err)
		}
		_, err = l.Revoke(t.Context(), admin(t), request(0, pki.KeyCompromise))
		if conflict, ok := errors.AsType[*revocation.ConflictError](err); !ok || conflict.First.Seq != 1 {
			t.Errorf("revoke for another reason: %v", err)
		}
		changed, err := l.ChangeReason(t.Context(), admin(t), request(0, 0))
		if err != nil || changed.Entry.Kind != revocation.KindReasonChange || changed.Entry.Seq != 2 {
			t.Errorf("change reason: %+v, %v", changed, err)
		}
		if a := lookup(t, u, i.id, open.serial(0)); a.Reason != pki.KeyCompromise || a.EventSeq != 2 {
			t.Errorf("after the change of reason: %+v", a)
		}
		if again, err := l.ChangeReason(t.Context(), admin(t), request(0, 0)); err != nil || !again.Repeated || again.Entry.Seq != 2 {
			t.Errorf("change reason again: %+v, %v", again, err)
		}
		twin := revocation.Request{Key: open.claim(3).Key, Reason: pki.KeyCompromise} // never issued, at the place of one that was
		twin.Serial = pki.NewSerial(pki.RangeKey{9}, i.key, open.claim(3).Position)
		_, err = l.Revoke(t.Context(), admin(t), twin)
		wantKind(t, "revoke another serial of a place", err, pki.KindNotFound)

		if _, err := l.Hold(t.Context(), admin(t), request(1, 0)); err != nil {
			t.Error(err)
		}
		if a := lookup(t, u, i.id, open.serial(1)); a.Status != pki.StatusRevoked || a.Reason != pki.CertificateHold {
			t.Errorf("on hold: %+v", a)
		}
		if _, err := l.Release(t.Context(), admin(t), request(1, 0)); err != nil {
			t.Error(err)
		}
		if a := lookup(t, u, i.id, open.serial(1)); a.Status != pki.StatusGood || a.EventSeq != 4 || a.Issuance != revocation.Issued {
			t.Errorf("released: %+v", a)
		}
		_, err = l.Release(t.Context(), admin(t), request(2, 0))
		wantKind(t, "release what is not held", err, pki.KindFailedPrecondition)

		_, err = l.Revoke(t.Context(), admin(t), request(9, 0))
		wantKind(t, "revoke what is not recorded", err, pki.KindNotFound)
		_, err = l.Revoke(t.Context(), admin(t), revocation.Request{Key: revocation.Key{Issuer: pki.IssuerID{1}}})
		wantKind(t, "revoke of no issuer", err, pki.KindNotFound)

		mallory := grant(t, auth.RoleRequester, "mallory", auth.ActionRevoke)
		_, err = l.Revoke(t.Context(), mallory, request(2, 0))
		wantKind(t, "revoke another account's", err, pki.KindDenied)
		_, err = l.Revoke(t.Context(), auth.Grant{}, request(2, 0))
		wantKind(t, "revoke without a grant", err, pki.KindDenied)
		_, err = l.Revoke(t.Context(), grant(t, auth.RoleAdmin, "root", auth.ActionManage), request(2, 0))
		wantKind(t, "revoke with a grant for something else", err, pki.KindDenied)
		if _, err := l.Revoke(t.Context(), grant(t, auth.RoleRequester, "alice", auth.ActionRevoke), request(2, 0)); err != nil {
			t.Errorf("revoke one's own: %v", err)
		}

		forged := revocation.Request{Key: revocation.Key{Issuer: i.id, Serial: open.serial(3)}, Reason: pki.KeyCompromise}
		manage := grant(t, auth.RoleAdmin, "root", auth.ActionManage)
		_, err = l.Import(t.Context(), manage, forged)
		wantKind(t, "import what is recorded", err, pki.KindConflict)
		forged.Serial[19] ^= 1
		_, err = l.Import(t.Context(), admin(t), forged)
		wantKind(t, "import without the right", err, pki.KindDenied)
		imported, err := l.Import(t.Context(), manage, forged)
		if err != nil || !imported.Entry.Foreign {
			t.Fatalf("import: %+v, %v", imported, err)
		}
		if a := lookup(t, u, i.id, forged.Serial); a.Status != pki.StatusRevoked || a.Reason != pki.KeyCompromise {
			t.Errorf("forged: %+v", a)
		}
		if a := lookup(t, u, i.id, open.serial(3)); a.Status != pki.StatusGood {
			t.Errorf("the certificate whose index was forged: %+v", a)
		}

		chain, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{})
		if err != nil || chain.Seq != 6 {
			t.Errorf("audit: %d events, %v; want 6", chain.Seq, err)
		}
		events, err := s.AuditEvents(t.Context(), audit.Filter{Action: "certificate.revoke", Actor: "token:alice"}, 0, 10)
		if err != nil || len(events) != 1 || events[0].Target != "issuer/"+i.id.String()+"/serial/"+open.serial(2).String() || events[0].RequestID != "r1" {
			t.Errorf("audit: %+v, %v", events, err)
		}
	})
}

// A hold that an administrator put on is not for the account of the certificate to end; its own hold is.
func TestReleaseOfAnothersHold(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		open := i.reserve(t, epoch, 0, 16)
		open.record(t, 0, 1)
		l := newLedger(t, s, newUniverse(t, s))
		alice := grant(t, auth.RoleRequester, "alice", auth.ActionRevoke)
		for index, held := range []auth.Grant{admin(t), alice} {
			request := revocation.Request{Key: open.claim(uint64(index)).Key}
			if _, err := l.Hold(t.Context(), held, request); err != nil {
				t.Fatal(err)
			}
			_, err := l.Release(t.Context(), alice, request)
			if index == 0 {
				wantKind(t, "release an administrator's hold", err, pki.KindDenied)
				_, err = l.Release(t.Context(), grant(t, auth.RoleAdmin, "second", auth.ActionRevoke), request)
			}
			if err != nil {
				t.Errorf("hold %d: %v", index, err)
			}
			if again, err := l.Release(t.Context(), alice, request); err != nil || !again.Repeated { // by whomever it was
				t.Errorf("release %d again: %+v, %v", index, again, err)
			}
			if _, err := l.Hold(t.Context(), admin(t), request); err != nil {
				t.Fatal(err)
			}
			request.Reason = pki.KeyCompromise
			if _, err := l.Revoke(t.Context(), alice, request); err != nil {
				t.Errorf("revoke what an administrator holds: %v", err)
			}
		}
	})
}

// An administrator's hold over that of the holder is the administrator's: the holder does not end it, and certificates of others tell
// nobody who holds them.
func TestHoldOverAnothersHold(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		open := i.reserve(t, epoch, 0, 16)
		open.record(t, 0)
		l := newLedger(t, s, newUniverse(t, s))
		alice := grant(t, auth.RoleRequester, "alice", auth.ActionRevoke)
		request := revocation.Request{Key: open.claim(0).Key}
		hold := func(by auth.Grant, repeated bool) revocation.Entry {
			t.Helper()
			change, err := l.Hold(t.Context(), by, request)
			if err != nil || change.Repeated != repeated {
				t.Fatalf("%+v, %v", change, err)
			}
			return change.Entry
		}
		first := hold(alice, false)
		second := hold(admin(t), false)
		if second.Seq <= first.Seq || second.Actor == first.Actor || !second.RevokedAt.Equal(first.RevokedAt) || !second.InvalidityAt.Equal(first.InvalidityAt) {
			t.Errorf("%+v, then %+v", first, second)
		}
		hold(admin(t), true)
		if third := hold(alice, true); third.Actor != second.Actor {
			t.Errorf("the holder's hold took the administrator's place: %+v", third)
		}
		_, err := l.Release(t.Context(), alice, request)
		wantKind(t, "release an administrator's hold", err, pki.KindDenied)
		_, err = l.Release(t.Context(), grant(t, auth.RoleRequester, "bob", auth.ActionRevoke), request)
		wantKind(t, "release what another account has", err, pki.KindDenied)
		if err == nil || strings.Contains(err.Error(), second.Actor) {
			t.Errorf("another account is told who holds it: %v", err)
		}
		if _, err := l.Release(t.Context(), admin(t), request); err != nil {
			t.Error(err)
		}
	})
}

func TestLedgerPublicIssuer(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "public", true)
	open := i.reserve(t, epoch, 0, 16)
	open.record(t, 0)
	l := newLedger(t, s, newUniverse(t, s))
	_, err := l.Hold(t.Context(), admin(t), revocation.Request{Key: open.claim(0).Key})
	wantKind(t, "hold", err, pki.KindRefused)
	_, err = l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(0).Key, Reason: pki.AACompromise})
	wantKind(t, "aACompromise", err, pki.KindRefused)
	if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(0).Key, Reason: pki.Superseded}); err != nil {
		t.Error(err)
	}
}

// Concurrent requests share commits; those for one certificate are decided one after the other.
func TestLedgerGroups(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		open := i.reserve(t, epoch, 0, 256)
		for index := range uint64(64) {
			open.record(t, index)
		}
		u := newUniverse(t, s)
		l := newLedger(t, s, u)
		var wg sync.WaitGroup
		var wrote, repeated, conflicted atomic.Int64
		for index := range uint64(64) {
			for _, reason := range []pki.Reason{pki.Superseded, pki.Superseded, pki.KeyCompromise} {
				wg.Go(func() {
					receipt, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(index).Key, Reason: reason})
					switch {
					case pki.KindOf(err) == pki.KindConflict:
						conflicted.Add(1)
					case err != nil:
						t.Error(err)
					case receipt.Repeated:
						repeated.Add(1)
					default:
						wrote.Add(1)
						if a := lookup(t, u, i.id, open.serial(index)); a.Status != pki.StatusRevoked || a.EventSeq != receipt.Entry.Seq {
							t.Errorf("acknowledged as %d, looked up as %+v", receipt.Entry.Seq, a)
						}
					}
				})
			}
		}
		wg.Wait()
		if wrote.Load() != 64 || repeated.Load()+conflicted.Load() != 128 || conflicted.Load() < 64 {
			t.Errorf("%d wrote, %d repeated, %d conflicted", wrote.Load(), repeated.Load(), conflicted.Load())
		}
		entries, err := s.LedgerEntries(t.Context(), 0, 1000)
		if err != nil || len(entries) != 64 {
			t.Errorf("%d entries, %v", len(entries), err)
		}
	})
}

// Two instances on one database change the same certificates: each change is decided on what the other did.
func TestLedgerInstances(t *testing.T) {
	url := testdb.URL(t)
	a, b := testdb.Open(t, url), testdb.Open(t, url)
	i := newIssuer(t, a, "one", false)
	open := i.reserve(t, epoch, 0, 256)
	const n = 40
	for index := range uint64(n) {
		open.record(t, index)
	}
	ua, ub := newUniverse(t, a), newUniverse(t, b)
	la, lb := newLedger(t, a, ua), newLedger(t, b, ub)
	var wg sync.WaitGroup
	var wrote [n]atomic.Int64
	for index := range uint64(n) {
		for _, l := range []*revocation.Ledger{la, lb} {
			wg.Go(func() {
				receipt, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(index).Key, Reason: pki.Superseded})
				if err != nil {
					t.Error(err)
				} else if !receipt.Repeated {
					wrote[index].Add(1)
				}
			})
		}
	}
	wg.Wait()
	for index := range wrote {
		if wrote[index].Load() != 1 {
			t.Errorf("index %d was revoked %d times", index, wrote[index].Load())
		}
	}
	if err := ua.Await(t.Context(), n); err != nil {
		t.Error(err)
	}
	if err := ub.Await(t.Context(), n); err != nil {
		t.Error(err)
	}
}

// gatedStore is a store whose appends wait at a gate.
type gatedStore struct {
	store.Store
	entered, gate chan struct{} // each append says that it began, if somebody can hear it, and waits
}

func (b *gatedStore) AppendLedger(ctx context.Context, read uint64, entries []revocation.NewEntry, events []audit.Event) (uint64, error) {
	select {
	case b.entered <- struct{}{}:
	default:
	}
	<-b.gate
	return b.Store.AppendLedger(ctx, read, entries, events)
}

// A full queue says so, and nothing in it is lost.
func TestLedgerBounded(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	open := i.reserve(t, epoch, 0, 16)
	open.record(t, 0, 1, 2, 3, 4, 5)
	u := newUniverse(t, s)
	gate, entered := make(chan struct{}), make(chan struct{}, 1)
	l, err := revocation.NewLedger(revocation.LedgerConfig{Store: &gatedStore{Store: s, gate: gate, entered: entered}, Keys: s, Universe: u, Now: clock, Queue: 2})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var done, exhausted atomic.Int64
	full := make(chan struct{}, 6)
	for index := range uint64(6) {
		if index == 1 {
			<-entered // the first is in its commit: two of the others fit into the queue
		}
		wg.Go(func() {
			_, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(index).Key})
			switch {
			case err == nil:
				done.Add(1)
			case pki.KindOf(err) == pki.KindExhausted:
				exhausted.Add(1)
				full <- struct{}{}
			default:
				t.Error(err)
			}
		})
	}
	for range 3 {
		<-full
	}
	close(gate)
	wg.Wait()
	if done.Load() != 3 || exhausted.Load() != 3 {
		t.Errorf("%d done, %d refused", done.Load(), exhausted.Load())
	}
	entries, err := s.LedgerEntries(t.Context(), 0, 100)
	if err != nil || int64(len(entries)) != done.Load() {
		t.Errorf("%d entries for %d acknowledged, %v", len(entries), done.Load(), err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	_, err = l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(0).Key})
	wantKind(t, "after Close", err, pki.KindUnavailable)
}

// What goes past the queue is not written either once the ledger is closed: perhaps because the database went back.
func TestClosedLedger(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		i.reserve(t, epoch, 0, 16).record(t, 0)
		l := newLedger(t, s, newUniverse(t, s))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := l.BlockKey(t.Context(), manager(t), blockOf(0))
		wantKind(t, "a key is blocked", err, pki.KindUnavailable)
		_, err = l.AdoptCRL(t.Context(), manager(t), []revocation.ListedRevocation{{Request: revocation.Request{Key: revocation.Key{Issuer: i.id, Serial: pki.Serial{19: 7}}}}})
		wantKind(t, "a list is taken over", err, pki.KindUnavailable)
		if entries, err := s.LedgerEntries(t.Context(), 0, 10); err != nil || len(entries) != 0 {
			t.Errorf("%d entries, %v", len(entries), err)
		}
	})
}

// What waits in the queue when the database went back is not written, and neither is what comes later: each caller is told.
func TestHaltedLedger(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		open := i.reserve(t, epoch, 0, 16)
		open.record(t, 0, 1, 2, 3, 4)
		gate, entered := make(chan struct{}), make(chan struct{}, 1)
		l, err := revocation.NewLedger(revocation.LedgerConfig{Store: &gatedStore{Store: s, gate: gate, entered: entered}, Keys: s, Universe: newUniverse(t, s), Now: clock, Queue: 2})
		if err != nil {
			t.Fatal(err)
		}
		refused := func(what string, err error) {
			t.Helper()
			if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || !errors.Is(err, pki.ErrWentBack) || !strings.Contains(e.Hint, "signet restore") {
				t.Errorf("%s: %v, want it refused because the database went back, and what to do", what, err)
			}
		}
		first, others := make(chan error, 1), make(chan error, 4)
		answer := first
		for index := range uint64(5) {
			if index == 1 {
				<-entered // the first is in its commit, which nothing stops: two of the others fit into the queue
				answer = others
			}
			go func(answer chan<- error) {
				_, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(index).Key})
				answer <- err
			}(answer)
		}
		for range 2 {
			wantKind(t, "a full queue", <-others, pki.KindExhausted)
		}
		l.Halt()
		close(gate)
		if err := <-first; err != nil {
			t.Errorf("what was being committed: %v", err)
		}
		for range 2 {
			refused("what waited", <-others)
		}
		_, err = l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(1).Key})
		refused("what came later", err)
		_, err = l.BlockKey(t.Context(), manager(t), blockOf(0))
		refused("a key is blocked", err)
		_, err = l.AdoptCRL(t.Context(), manager(t), []revocation.ListedRevocation{{Request: revocation.Request{Key: revocation.Key{Issuer: i.id, Serial: pki.Serial{19: 7}}}}})
		refused("a list is taken over", err)
		if entries, err := s.LedgerEntries(t.Context(), 0, 10); err != nil || len(entries) != 1 {
			t.Errorf("%d entries, want the one that was being committed: %v", len(entries), err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// olderBooks appends to a ledger that ends before what was seen of it: that of a standby that was behind.
type olderBooks struct {
	store.Store
	entered, gate chan struct{}
	writes        atomic.Int64
}

func (b *olderBooks) AppendLedger(_ context.Context, _ uint64, entries []revocation.NewEntry, _ []audit.Event) (uint64, error) {
	if b.writes.Add(1) == 1 {
		close(b.entered)
		<-b.gate
	}
	return uint64(len(entries)), nil
}

// The first group that was written to a database that went back is the last: nobody waits for the high-water marks to tell.
func TestNothingFollowsAWriteThatWentBack(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		open := newIssuer(t, s, "one", false).reserve(t, epoch, 0, 16)
		open.record(t, 0, 1, 2, 3, 4)
		u := newUniverse(t, s)
		before := newLedger(t, s, u)
		if _, err := before.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(0).Key}); err != nil {
			t.Fatal(err)
		}
		books := &olderBooks{Store: s, entered: make(chan struct{}), gate: make(chan struct{})}
		l, err := revocation.NewLedger(revocation.LedgerConfig{Store: books, Keys: s, Universe: u, Now: clock, Queue: 2})
		if err != nil {
			t.Fatal(err)
		}
		answers := make(chan error, 4)
		for index := range uint64(4) {
			if index == 1 {
				<-books.entered // two of the others fit into the queue
			}
			go func() {
				_, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(1 + index).Key})
				answers <- err
			}()
		}
		wantKind(t, "a full queue", <-answers, pki.KindExhausted)
		close(books.gate)
		for range 3 {
			wantKind(t, "written to a ledger that went back, or waiting behind it", <-answers, pki.KindFailedPrecondition)
		}
		if n := books.writes.Load(); n != 1 {
			t.Errorf("%d groups were written", n)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A caller who goes away is told that it may have happened; it happens.
func TestLedgerCallerGone(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	open := i.reserve(t, epoch, 0, 16)
	open.record(t, 0)
	u := newUniverse(t, s)
	gate := make(chan struct{})
	l := newLedger(t, &gatedStore{Store: s, gate: gate}, u)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := l.Revoke(ctx, admin(t), revocation.Request{Key: open.claim(0).Key})
	wantKind(t, "gone", err, pki.KindUnavailable)
	close(gate)
	if receipt, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(0).Key}); err != nil || !receipt.Repeated {
		t.Errorf("%+v, %v", receipt, err)
	}
}

// Nothing is made of half a configuration.
func TestIncomplete(t *testing.T) {
	s := testdb.SQLite(t)
	u := newUniverse(t, s)
	id := revocation.InstanceID{1}
	for name, make := range map[string]func() error{
		"ledger without books":    func() error { _, err := revocation.NewLedger(revocation.LedgerConfig{Universe: u}); return err },
		"ledger without universe": func() error { _, err := revocation.NewLedger(revocation.LedgerConfig{Store: s}); return err },
		"universe without log":    func() error { _, err := revocation.NewUniverse(revocation.UniverseConfig{Ranges: s}); return err },
		"universe without ranges": func() error { _, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s}); return err },
		"jobs without books": func() error {
			_, err := revocation.NewJobs(revocation.JobsConfig{Universe: u, Instance: id})
			return err
		},
		"jobs without universe": func() error {
			_, err := revocation.NewJobs(revocation.JobsConfig{Store: s, Runner: s, Instance: id})
			return err
		},
		"jobs without an instance": func() error {
			_, err := revocation.NewJobs(revocation.JobsConfig{Store: s, Runner: s, Universe: u})
			return err
		},
		"board without a store":     func() error { _, err := revocation.NewBoard(revocation.BoardConfig{Instance: id}); return err },
		"board without an instance": func() error { _, err := revocation.NewBoard(revocation.BoardConfig{Store: s}); return err },
	} {
		wantKind(t, name, make(), pki.KindInvalid)
	}
}

// Close waits for what is under way, and its callers are answered.
func TestLedgerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testdb.OpenSQLite(t, filepath.Join(t.TempDir(), "db"))
		defer testdb.Close(t, s)
		i := newIssuer(t, s, "one", false)
		open := i.reserve(t, epoch, 0, 16)
		open.record(t, 0)
		gate := make(chan struct{})
		l, err := revocation.NewLedger(revocation.LedgerConfig{Store: &gatedStore{Store: s, gate: gate}, Universe: newUniverse(t, s), Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		answered, closed := make(chan error, 1), make(chan struct{})
		go func() {
			_, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(0).Key})
			answered <- err
		}()
		synctest.Wait()
		go func() { l.Close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("closed before the change was committed")
		default:
		}
		close(gate)
		<-closed
		synctest.Wait()
		select {
		case err := <-answered:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("closed before the caller was answered")
		}
	})
}

// stale is a ledger that somebody else always changes first.
type stale struct {
	store.Store
	tries int
}

func (s *stale) AppendLedger(context.Context, uint64, []revocation.NewEntry, []audit.Event) (uint64, error) {
	s.tries++
	return 0, revocation.ErrStale
}

// Against changes that never end a group gives up; nothing happened.
func TestLedgerGivesUp(t *testing.T) {
	s := testdb.SQLite(t)
	open := newIssuer(t, s, "one", false).reserve(t, epoch, 0, 16)
	open.record(t, 0)
	books := &stale{Store: s}
	_, err := newLedger(t, books, newUniverse(t, s)).Revoke(t.Context(), admin(t), revocation.Request{Key: open.claim(0).Key})
	wantKind(t, "revoke", err, pki.KindUnavailable)
	if books.tries < 2 {
		t.Errorf("%d tries", books.tries)
	}
}

// The audit log says what was done, to what, and why.
func TestLedgerIsAudited(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", false)
	open := i.reserve(t, epoch, 0, 16)
	open.record(t, 0)
	l := newLedger(t, s, newUniverse(t, s))
	own, foreign := open.claim(0).Key, revocation.Key{Issuer: i.id, Serial: pki.Serial{19: 1}}
	since := now.Add(-time.Hour)
	for _, step := range []struct {
		do      func(context.Context, auth.Grant, revocation.Request) (revocation.Receipt, error)
		grant   auth.Grant
		request revocation.Request
		action  string
		detail  map[string]string
	}{
		{l.Hold, admin(t), revocation.Request{Key: own}, "certificate.hold", map[string]string{"reason": "certificateHold"}},
		{l.Release, admin(t), revocation.Request{Key: own}, "certificate.release", nil},
		{l.Revoke, admin(t), revocation.Request{Key: own, Reason: pki.Superseded}, "certificate.revoke", map[string]string{"reason": "superseded"}},
		{l.ChangeReason, admin(t), revocation.Request{Key: own, InvalidityAt: since}, "certificate.change-reason",
			map[string]string{"reason": "keyCompromise", "invalidity_at": since.Format(time.RFC3339)}},
		{l.Import, manager(t), revocation.Request{Key: foreign, Reason: pki.Superseded}, "certificate.import", map[string]string{"reason": "superseded"}},
		{l.ChangeReason, admin(t), revocation.Request{Key: foreign}, "certificate.change-reason", map[string]string{"reason": "keyCompromise"}},
	} {
		before, err := s.AuditHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := step.do(t.Context(), step.grant, step.request); err != nil {
			t.Fatalf("%s: %v", step.action, err)
		}
		events, err := s.AuditEvents(t.Context(), audit.Filter{}, before.Seq, 10)
		if err != nil || len(events) != 1 {
			t.Fatalf("%s: %d events, %v", step.action, len(events), err)
		}
		target := "issuer/" + i.id.String() + "/serial/" + step.request.Serial.String()
		if e := events[0]; e.Action != step.action || !maps.Equal(e.Detail, step.detail) || e.Target != target || e.Actor != "token:root" || e.RequestID != "r1" || e.Outcome != audit.OK {
			t.Errorf("%+v, want %s of %s with %v", e, step.action, target, step.detail)
		}
	}
}

// unasked are books that nobody may ask about certificates.
type unasked struct{ store.Store }

func (unasked) CertificateFacts(context.Context, []revocation.Claim) ([]revocation.Facts, error) {
	return nil, errBroken
}

// Who may revoke any certificate asks the database about those only of which memory cannot tell; what another instance
// did meanwhile still comes first.
func TestRevokeFromMemory(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		closed := i.reserve(t, epoch, 0, 16)
		closed.record(t, 0, 1, 2, 3, 4, 6, 7)
		closed.close(t, 8, 5)
		passed := i.reserve(t, 2, 0, 16)
		passed.record(t, 0)
		passed.close(t, 1)
		u := newUniverse(t, s)
		l, elsewhere := newLedger(t, unasked{s}, u), newLedger(t, s, newUniverse(t, s))
		request := func(span span, index uint64) revocation.Request {
			return revocation.Request{Key: span.claim(index).Key, Reason: pki.Superseded}
		}

		receipt, err := l.Revoke(t.Context(), admin(t), request(closed, 0))
		if err != nil || receipt.Repeated || receipt.Entry.Position != closed.claim(0).Position || receipt.Entry.Foreign {
			t.Errorf("what memory knows: %+v, %v", receipt, err)
		}
		if a := lookup(t, u, i.id, closed.serial(0)); a.Status != pki.StatusRevoked || a.EventSeq != receipt.Entry.Seq {
			t.Errorf("revoked from memory: %+v", a)
		}
		if _, err := elsewhere.Revoke(t.Context(), admin(t), request(closed, 1)); err != nil {
			t.Fatal(err)
		}
		forged := request(closed, 2)
		forged.Serial[19] ^= 1
		owner := grant(t, auth.RoleRequester, "alice", auth.ActionRevoke)
		for what, ask := range map[string]func() (revocation.Receipt, error){
			"revoked already":             func() (revocation.Receipt, error) { return l.Revoke(t.Context(), admin(t), request(closed, 0)) },
			"revoked elsewhere meanwhile": func() (revocation.Receipt, error) { return l.Revoke(t.Context(), admin(t), request(closed, 1)) },
			"one's own":                   func() (revocation.Receipt, error) { return l.Revoke(t.Context(), owner, request(closed, 2)) },
			"a hold":                      func() (revocation.Receipt, error) { return l.Hold(t.Context(), admin(t), request(closed, 3)) },
			"a void index":                func() (revocation.Receipt, error) { return l.Revoke(t.Context(), admin(t), request(closed, 5)) },
			"an index beyond the range":   func() (revocation.Receipt, error) { return l.Revoke(t.Context(), admin(t), request(closed, 9)) },
			"a forged serial":             func() (revocation.Receipt, error) { return l.Revoke(t.Context(), admin(t), forged) },
			"a week that has passed":      func() (revocation.Receipt, error) { return l.Revoke(t.Context(), admin(t), request(passed, 0)) },
		} {
			if _, err := ask(); !errors.Is(err, errBroken) {
				t.Errorf("%s: %v; want the database to be asked", what, err)
			}
		}
		if _, err := newLedger(t, s, newUniverse(t, s)).Revoke(t.Context(), admin(t), request(closed, 1)); err != nil {
			t.Errorf("the same elsewhere: %v", err)
		}
	})
}

// What ended so long ago that no product shows it is not changed any more: an acknowledgement would be worth nothing. As long as it is
// shown it can be, and what was changed in time is still acknowledged.
func TestRevokeWhatHasPassed(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		short, long := newIssuer(t, s, "short", false), newIssuer(t, s, "long", false)
		week, err := pki.EpochAt(now.Unix())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RaiseRetention(t.Context(), long.id, 10*365*24*time.Hour, audit.Event{At: now, Actor: "test", Action: "issuer.retain", Outcome: audit.OK}); err != nil {
			t.Fatal(err)
		}
		testdb.Exec(t, s, `UPDATE issuers SET retain_since = $1 WHERE id = $2`, long.dbTime(now.Add(-365*24*time.Hour)), long.id[:])
		spans := map[string]span{
			"week passed": short.reserve(t, week-2, 0, 16), "week not passed": short.reserve(t, week, 0, 16), "week passed, and retained": long.reserve(t, week-2, 0, 16),
		}
		for _, span := range spans {
			span.record(t, 0, 1, 2)
		}
		at := now.AddDate(0, 0, -21)
		u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, err := revocation.NewLedger(revocation.LedgerConfig{Store: s, Universe: u, Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
		for what, span := range spans { // three weeks ago
			if _, err := l.Hold(t.Context(), admin(t), revocation.Request{Key: span.claim(1).Key}); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: span.claim(2).Key, Reason: pki.Superseded}); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		at = now
		for what, span := range spans {
			for change, ask := range map[string]func() (revocation.Receipt, error){
				"revoke": func() (revocation.Receipt, error) {
					return l.Revoke(t.Context(), admin(t), revocation.Request{Key: span.claim(0).Key})
				},
				"release": func() (revocation.Receipt, error) {
					return l.Release(t.Context(), admin(t), revocation.Request{Key: span.claim(1).Key})
				},
				"change reason": func() (revocation.Receipt, error) {
					return l.ChangeReason(t.Context(), admin(t), revocation.Request{Key: span.claim(2).Key})
				},
			} {
				if _, err := ask(); what != "week passed" && err != nil || what == "week passed" && pki.KindOf(err) != pki.KindFailedPrecondition {
					t.Errorf("%s, %s: %v", what, change, err)
				}
			}
		}
		receipt, err := l.Hold(t.Context(), admin(t), revocation.Request{Key: spans["week passed"].claim(1).Key})
		if err != nil || !receipt.Repeated {
			t.Errorf("what was done in time: %+v, %v", receipt, err)
		}
		if _, err := l.Import(t.Context(), manager(t), revocation.Request{Key: revocation.Key{Issuer: short.id, Serial: pki.Serial{19: 7}}}); err != nil {
			t.Errorf("a serial of another CA, whose end nobody knows: %v", err)
		}
	})
}
