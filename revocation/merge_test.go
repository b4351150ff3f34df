package revocation_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/storetest"
)

// failing meets a fault at one call of AppendLedger.
type failing struct {
	*storetest.Faulty
	call  int // from 1
	fault storetest.Fault
}

func (f *failing) AppendLedger(ctx context.Context, read uint64, entries []revocation.NewEntry, events []audit.Event) (uint64, error) {
	if f.call--; f.call == 0 {
		f.Fail("AppendLedger", f.fault)
	}
	return f.Faulty.AppendLedger(ctx, read, entries, events)
}

// A list that takes two transactions, each under both faults: whoever repeats ends with every serial revoked, by one entry each.
func TestMergeCRL(t *testing.T) {
	type want struct {
		key    revocation.Key
		kinds  []revocation.Kind
		reason pki.Reason
	}
	learn := func(t *testing.T, s store.Store, call int, fault storetest.Fault) {
		i := newIssuer(t, s, fault.String()+string(rune('0'+call)), true)
		a := i.reserve(t, epoch, 0, 16)
		a.record(t, 1, 2, 3)
		u := newUniverse(t, s)
		first := newLedger(t, s, u)
		foreign := func(n uint32) (key revocation.Key) {
			key.Issuer = i.id
			binary.BigEndian.PutUint32(key.Serial[16:], n)
			return key
		}
		testdb.Exec(t, s, `UPDATE issuers SET visibility = 0 WHERE id = $1`, i.id[:]) // or nothing could be held
		for _, change := range []func() error{
			func() error {
				_, err := newLedger(t, s, newUniverse(t, s)).Hold(t.Context(), admin(t), revocation.Request{Key: a.claim(1).Key})
				return err
			},
			func() error {
				_, err := first.Revoke(t.Context(), admin(t), revocation.Request{Key: a.claim(2).Key, Reason: pki.Superseded})
				return err
			},
			func() error {
				_, err := first.Import(t.Context(), manager(t), revocation.Request{Key: foreign(1), Reason: pki.KeyCompromise})
				return err
			},
		} {
			if err := change(); err != nil {
				t.Fatal(err)
			}
		}
		testdb.Exec(t, s, `UPDATE issuers SET visibility = 1 WHERE id = $1`, i.id[:])

		wants := []want{
			{a.claim(1).Key, []revocation.Kind{revocation.KindHold, revocation.KindRevoke}, pki.Superseded},
			{a.claim(2).Key, []revocation.Kind{revocation.KindRevoke, revocation.KindReasonChange}, pki.KeyCompromise},
			{a.claim(3).Key, []revocation.Kind{revocation.KindRevoke}, pki.CACompromise},
			{foreign(1), []revocation.Kind{revocation.KindRevoke}, pki.KeyCompromise},
			{foreign(2), []revocation.Kind{revocation.KindRevoke}, pki.Unspecified},
		}
		since := now.Add(-72 * time.Hour)
		said := func(key revocation.Key, reason pki.Reason) revocation.ListedRevocation {
			return revocation.ListedRevocation{Request: revocation.Request{Key: key, Reason: reason}, RevokedAt: since}
		}
		var list []revocation.ListedRevocation
		for _, w := range wants {
			list = append(list, said(w.key, w.reason))
		}
		list[3].Reason = pki.Superseded // it says less than what is known
		list = append(list, list[4])
		for n := range uint32(1000) {
			list = append(list, said(foreign(100+n), pki.CessationOfOperation))
		}
		wants = append(wants, want{foreign(100 + 999), []revocation.Kind{revocation.KindRevoke}, pki.CessationOfOperation})

		f := &failing{Faulty: &storetest.Faulty{Store: s}, call: call, fault: fault}
		l, err := revocation.NewLedger(revocation.LedgerConfig{Store: f, Universe: u, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := l.MergeCRL(t.Context(), admin(t), list); pki.KindOf(err) != pki.KindDenied {
			t.Errorf("without the right: %v", err)
		}
		before, err := s.AuditHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.MergeCRL(t.Context(), manager(t), list); !errors.Is(err, storetest.ErrFault) || pki.KindOf(err) != pki.KindUnavailable || f.Pending() {
			t.Fatalf("under the fault: %v", err)
		}
		last, err := l.MergeCRL(t.Context(), manager(t), list)
		if err != nil {
			t.Fatalf("repeated: %v", err)
		}
		if head, err := s.LedgerHead(t.Context()); err != nil || head != last || u.Seq() != last {
			t.Errorf("the ledger ends at %d, memory at %d, %d was promised: %v", head, u.Seq(), last, err)
		}
		if last, err := l.MergeCRL(t.Context(), manager(t), list); err != nil || last != 0 {
			t.Errorf("learnt again: %d, %v", last, err)
		}
		for _, w := range wants {
			entries, err := s.LedgerEntries(t.Context(), 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []revocation.Kind
			for _, e := range entries {
				if e.Issuer == w.key.Issuer && e.Serial == w.key.Serial {
					kinds = append(kinds, e.Kind)
					if learnt := e.Kind == revocation.KindRevoke && w.key != a.claim(2).Key && w.key != foreign(1); e.RevokedAt.Equal(since) != learnt {
						t.Errorf("%s: %s is dated %s; what was learnt has the date of the list, %s", w.key.Serial, e.Kind, e.RevokedAt, since)
					}
				}
			}
			if answer := lookup(t, u, i.id, w.key.Serial); answer.Status != pki.StatusRevoked || answer.Reason != w.reason || !slices.Equal(kinds, w.kinds) {
				t.Errorf("%s: %v for %s by %v; want %s by %v", w.key.Serial, answer.Status, answer.Reason, kinds, w.reason, w.kinds)
			}
		}
		entries := 0
		for _, err := range s.LedgerScope(t.Context(), revocation.Whole(i.id), 0, 1<<40) {
			if err != nil {
				t.Fatal(err)
			}
			entries++
		}
		chain, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{})
		if err != nil || entries != 3+1004 || chain.Seq-before.Seq != 1004 {
			t.Errorf("%d entries and %d audit events, want 1007 and 1004: %v", entries, chain.Seq-before.Seq, err)
		}
	}
	testdb.Each(t, func(t *testing.T, s store.Store) {
		learn(t, s, 1, storetest.FailBefore)
		learn(t, s, 1, storetest.FailAfter)
		learn(t, s, 2, storetest.FailBefore)
		learn(t, s, 2, storetest.FailAfter)
	})
}

// What cannot be meant is refused as a whole, a void stays void, and what another instance has learnt meanwhile is not learnt again.
func TestMergeCRLBesides(t *testing.T) {
	s := testdb.SQLite(t)
	i := newIssuer(t, s, "one", true)
	a := i.reserve(t, epoch, 0, 16)
	a.record(t, 0)
	a.close(t, 2, 1)
	u, other := newUniverse(t, s), newUniverse(t, s)
	l := newLedger(t, s, u)
	good := revocation.Request{Key: a.claim(0).Key, Reason: pki.Superseded}
	for _, test := range []struct {
		what    string
		request revocation.Request
		kind    pki.Kind
	}{
		{"another's issuer", revocation.Request{Key: revocation.Key{Issuer: pki.IssuerID{1}, Serial: a.serial(0)}}, pki.KindNotFound},
		{"no reason", revocation.Request{Key: a.claim(0).Key, Reason: 7}, pki.KindInvalid},
		{"hold", revocation.Request{Key: a.claim(0).Key, Reason: pki.CertificateHold}, pki.KindInvalid},
	} {
		_, err := l.MergeCRL(t.Context(), manager(t), []revocation.ListedRevocation{{Request: good}, {Request: test.request}})
		wantKind(t, test.what, err, test.kind)
	}
	void := revocation.Request{Key: a.claim(1).Key, Reason: pki.KeyCompromise}
	if last, err := l.MergeCRL(t.Context(), manager(t), []revocation.ListedRevocation{{Request: void}}); err != nil || last != 0 {
		t.Errorf("a void: %d, %v", last, err)
	}
	last, err := l.MergeCRL(t.Context(), manager(t), []revocation.ListedRevocation{{Request: good}})
	if err != nil || last != 2 {
		t.Fatalf("learnt up to %d, %v; want 2, behind the void", last, err)
	}
	if last, err := newLedger(t, s, other).MergeCRL(t.Context(), manager(t), []revocation.ListedRevocation{{Request: good}}); err != nil || last != 2 || other.Seq() != 2 {
		t.Errorf("where that is not known yet: up to %d, memory at %d, %v", last, other.Seq(), err)
	}
}

// What an issuer held stays on hold, and what it revoked keeps its date, unless that is to come; who repeats adds what is new, and a
// hold is no news of what is revoked.
func TestAdoptCRL(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "old", false)
		l := newLedger(t, s, newUniverse(t, s))
		since, doubted := now.AddDate(-1, 0, 0), now.AddDate(-2, 0, 0)
		said := func(n byte, reason pki.Reason, at time.Time) revocation.ListedRevocation {
			request := revocation.Request{Key: revocation.Key{Issuer: i.id, Serial: pki.Serial{19: n}}, Reason: reason}
			if reason == pki.KeyCompromise {
				request.InvalidityAt = doubted
			}
			return revocation.ListedRevocation{Request: request, RevokedAt: at}
		}
		take := func(want uint64, list ...revocation.ListedRevocation) {
			t.Helper()
			if last, err := l.AdoptCRL(t.Context(), manager(t), list); err != nil || last != want {
				t.Fatalf("up to %d, %v; want %d", last, err, want)
			}
		}
		if _, err := l.AdoptCRL(t.Context(), admin(t), []revocation.ListedRevocation{said(1, pki.Superseded, since)}); pki.KindOf(err) != pki.KindDenied {
			t.Errorf("with the right to revoke: %v", err)
		}
		list := []revocation.ListedRevocation{said(1, pki.KeyCompromise, since), said(2, pki.CertificateHold, since), said(3, pki.Superseded, now.AddDate(1, 0, 0))}
		take(3, list...)
		take(0, list...)
		take(0, said(1, pki.CertificateHold, since))
		take(5, said(2, pki.Superseded, since), said(3, pki.KeyCompromise, since))
		entries, err := s.LedgerEntries(t.Context(), 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		want := []struct {
			kind   revocation.Kind
			reason pki.Reason
			dated  bool
		}{
			{revocation.KindRevoke, pki.KeyCompromise, true}, {revocation.KindHold, pki.CertificateHold, true}, {revocation.KindRevoke, pki.Superseded, false},
			{revocation.KindRevoke, pki.Superseded, true}, {revocation.KindReasonChange, pki.KeyCompromise, false},
		}
		if len(entries) != len(want) {
			t.Fatalf("%d entries: %+v", len(entries), entries)
		}
		for n, e := range entries {
			if w := want[n]; e.Kind != w.kind || e.Reason != w.reason || e.RevokedAt.Equal(since) != w.dated || e.RevokedAt.After(now) || !e.Foreign {
				t.Errorf("entry %d is %+v, want %+v", n, e, w)
			}
		}
		if !entries[0].InvalidityAt.Equal(doubted) || !entries[4].RevokedAt.Equal(entries[2].RevokedAt) {
			t.Errorf("%+v, %+v", entries[0], entries[4])
		}
	})
}
