package storetest

import (
	"slices"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// testRecovery holds a store to store.Recovery: after Advance nothing can be handed out that a copy of these books, made
// before and used on, may have handed out.
func testRecovery(t *testing.T, open func(t *testing.T) store.Store) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	event := audit.Event{At: at, Actor: "system:restore", Action: "database.restore", Target: "database", Outcome: audit.OK}
	spki := []byte{0x30, 2, 5, 1}
	key := pki.HashSPKI(spki)
	const week, other = pki.Epoch(400), pki.Epoch(401)
	series := crlserver.Series{Issuer: key.Issuer()}

	begin := func(t *testing.T) store.Store {
		t.Helper()
		s := open(t)
		issuer := ca.Issuer{ID: key.Issuer(), Label: "issuing", KeyURI: "softkey:issuing", Subject: []byte{0x30, 1, 1}, SPKI: spki, KeyHash: key, BaseURL: "http://pki.example", CreatedAt: at}
		if err := s.CreateIssuer(t.Context(), issuer, event); err != nil {
			t.Fatal(err)
		}
		return s
	}
	reserve := func(t *testing.T, s store.Store, epoch pki.Epoch) ca.Range {
		t.Helper()
		r, err := s.Reserve(t.Context(), ca.Reservation{Issuer: key.Issuer(), Epoch: epoch, Count: 16, Nonce: pki.RangeNonce{7}, Owner: ca.OwnerID{7}, Lease: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	advance := func(t *testing.T, s store.Store) store.Advanced {
		t.Helper()
		done, err := s.Advance(t.Context(), "system:restore", []audit.Event{event})
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	number := func(t *testing.T, s store.Store, series crlserver.Series) uint64 {
		t.Helper()
		n, ok, err := s.BeginPublication(t.Context(), series, revocation.InstanceID{1}, 0, time.Minute)
		if err != nil || !ok {
			t.Fatalf("begin publication: %t, %v", ok, err)
		}
		return n
	}
	lost := func(t *testing.T, s store.Store, epoch pki.Epoch) (runs []ca.Run) {
		t.Helper()
		for r, err := range s.ChangedRanges(t.Context(), 0, time.Time{}) {
			if err != nil {
				t.Fatal(err)
			}
			if r.State == revocation.RangeLost && r.Epoch == epoch {
				runs = append(runs, ca.Run{From: r.From, To: r.To})
			}
		}
		slices.SortFunc(runs, func(a, b ca.Run) int { return int(a.From) - int(b.From) })
		return runs
	}

	t.Run("indices move to the next block", func(t *testing.T) {
		s := begin(t)
		first := reserve(t, s, week)
		done := advance(t, s)
		if done.Epochs != 1 {
			t.Errorf("%d weeks were moved, want 1", done.Epochs)
		}
		second := reserve(t, s, week)
		if second.From != store.LostIndices {
			t.Errorf("after %d to %d comes %d, want %d", first.From, first.To, second.From, store.LostIndices)
		}
		if second.ID <= first.ID+store.LostSequences-1 {
			t.Errorf("range id %d after %d", second.ID, first.ID)
		}
		if got, want := lost(t, s, week), []ca.Run{{From: 16, To: store.LostIndices}}; !slices.Equal(got, want) {
			t.Errorf("lost %v, want %v", got, want)
		}
	})
	t.Run("a week that begins afterwards begins above too", func(t *testing.T) {
		s := begin(t)
		advance(t, s)
		advance(t, s)
		if r := reserve(t, s, other); r.From != 2*store.LostIndices {
			t.Errorf("a new week begins at %d, want %d", r.From, 2*store.LostIndices)
		}
		if r := reserve(t, s, other); r.From != 2*store.LostIndices+16 {
			t.Errorf("and goes on at %d", r.From)
		}
		if got, want := lost(t, s, other), []ca.Run{{From: 0, To: 2 * store.LostIndices}}; !slices.Equal(got, want) {
			t.Errorf("lost %v, want %v", got, want)
		}
	})
	t.Run("indices given back are not taken again", func(t *testing.T) {
		s := begin(t)
		r := reserve(t, s, week)
		closing := ca.Closing{Range: r.ID, Closer: r.Owner, Serials: make([]pki.Serial, 16), Unsigned: []ca.Run{{From: r.From, To: r.To}}}
		if _, err := s.CloseRange(t.Context(), closing); err != nil {
			t.Fatal(err)
		}
		advance(t, s) // the lost copy may have issued from the free range
		if r := reserve(t, s, week); r.From != store.LostIndices {
			t.Errorf("index %d is reserved again", r.From)
		}
	})
	t.Run("the ledger accounts for the gap", func(t *testing.T) {
		s := begin(t)
		done := advance(t, s)
		if done.Before != 0 || done.Ledger != store.LostSequences {
			t.Errorf("from %d to %d, want 0 to %d", done.Before, done.Ledger, uint64(store.LostSequences))
		}
		entries, err := s.LedgerEntries(t.Context(), 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 1 || entries[0].Seq != store.LostSequences || entries[0].Kind != revocation.KindRestore || entries[0].Actor != "system:restore" {
			t.Errorf("the ledger holds %+v, want one restore", entries)
		}
		if head, err := s.LedgerHead(t.Context()); err != nil || head != store.LostSequences {
			t.Errorf("head %d, %v", head, err)
		}
	})
	t.Run("CRL numbers grow, of series known and unknown", func(t *testing.T) {
		s := begin(t)
		before := number(t, s, series)
		advance(t, s)
		if after := number(t, s, series); after <= before+store.LostSequences-1 {
			t.Errorf("number %d after %d", after, before)
		}
		shard := crlserver.Series{Issuer: key.Issuer(), Shard: pki.Shard{Epoch: week}, Sharded: true}
		if n := number(t, s, shard); n <= store.LostSequences {
			t.Errorf("a new series begins at %d", n)
		}
		if heads, _, err := s.PublicationHeads(t.Context(), time.Time{}); err != nil || len(heads) != 0 {
			t.Errorf("%d lists of before are still there, %v", len(heads), err)
		}
	})
	t.Run("lists of off-line issuers stay", func(t *testing.T) {
		s := begin(t)
		root := ca.Issuer{ID: pki.IssuerID{9}, Label: "root", Subject: []byte{0x30, 1, 9}, SPKI: []byte{0x30, 2, 5, 9}, KeyHash: pki.KeyHash{9}, BaseURL: "http://pki.example", CreatedAt: at}
		if err := s.CreateIssuer(t.Context(), root, event); err != nil {
			t.Fatal(err)
		}
		h := crlserver.Head{List: crlserver.List{Series: crlserver.Series{Issuer: root.ID}, Kind: crlserver.KindComplete}, Number: 3, ThisUpdate: at, NextUpdate: at.AddDate(1, 0, 0), Size: 2}
		if err := s.ImportPublication(t.Context(), h, []byte{0x30, 0}, event); err != nil {
			t.Fatal(err)
		}
		advance(t, s)
		if heads, _, err := s.PublicationHeads(t.Context(), time.Time{}); err != nil || len(heads) != 1 || heads[0].Number != 3 {
			t.Errorf("after a restore: %+v, %v", heads, err)
		}
		h.Number = 4
		if err := s.ImportPublication(t.Context(), h, []byte{0x30, 0}, event); err != nil {
			t.Errorf("the next number of the ceremony is refused: %v", err)
		}
		number(t, s, series)
		h.Number = 1<<63 - 1 // the largest that can be brought in
		if err := s.ImportPublication(t.Context(), h, []byte{0x30, 0}, event); err != nil {
			t.Fatal(err)
		}
		if now, _, err := s.Witness(t.Context(), 0); err != nil || now.Lists >= 1<<62 {
			t.Errorf("a witness after the largest number: %+v, %v", now, err)
		}
	})
	t.Run("the last list of a CA that is being adopted stays, and ours go on above what a lost copy published", func(t *testing.T) {
		s := begin(t)
		old := ca.Issuer{ID: pki.IssuerID{8}, Label: "old", KeyURI: "softkey:old", Foreign: true, Subject: []byte{0x30, 1, 8}, SPKI: []byte{0x30, 2, 5, 8}, KeyHash: pki.KeyHash{8}, BaseURL: "http://pki.example", CreatedAt: at}
		if err := s.CreateIssuer(t.Context(), old, event); err != nil {
			t.Fatal(err)
		}
		h := crlserver.Head{List: crlserver.List{Series: crlserver.Series{Issuer: old.ID}, Kind: crlserver.KindComplete}, Number: 5000, ThisUpdate: at, NextUpdate: at.AddDate(1, 0, 0), Size: 2}
		if err := s.ImportPublication(t.Context(), h, []byte{0x30, 0}, event); err != nil {
			t.Fatal(err)
		}
		advance(t, s)
		if heads, _, err := s.PublicationHeads(t.Context(), time.Time{}); err != nil || len(heads) != 1 || heads[0].Number != 5000 {
			t.Errorf("after a restore: %+v, %v", heads, err)
		}
		if n, ok, err := s.BeginPublication(t.Context(), h.List.Series, revocation.InstanceID{1}, 5000, time.Minute); err != nil || !ok || n <= store.LostSequences {
			t.Errorf("the first of ours is number %d, %t, %v", n, ok, err)
		}
	})
	t.Run("is audited in the same transaction", func(t *testing.T) {
		s := begin(t)
		advance(t, s)
		var chain audit.Chain
		var last audit.Event
		for batch, err := range s.AuditBatches(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if err := chain.Add(batch.Events, batch.Head); err != nil {
				t.Fatal(err)
			}
			last = batch.Events[len(batch.Events)-1]
		}
		if last.Action != "database.restore" {
			t.Errorf("the last event is %+v", last)
		}
		if _, err := s.Advance(t.Context(), "system:restore", []audit.Event{{At: at, Actor: "x", Action: "y", Outcome: "no outcome"}}); err == nil {
			t.Fatal("an event that cannot be written did not fail the call")
		}
		if head, err := s.LedgerHead(t.Context()); err != nil || head != store.LostSequences {
			t.Errorf("a failed call moved the ledger to %d, %v", head, err)
		}
	})
	t.Run("a witness grows with everything, and knows the past", func(t *testing.T) {
		s := begin(t)
		witness := func(seq uint64) (store.Witness, audit.Hash) {
			t.Helper()
			now, then, err := s.Witness(t.Context(), seq)
			if err != nil {
				t.Fatal(err)
			}
			return now, then
		}
		first, none := witness(0)
		if first.Audit.Seq == 0 || first.Audit.Head == (audit.Hash{}) || first.Ledger != 0 || first.Lists != 0 || none != (audit.Hash{}) {
			t.Errorf("after one mutation: %+v, %x", first, none)
		}
		taken := number(t, s, series)
		if now, _ := witness(0); now != first { // taking a number need not be durable: a crash may take it back
			t.Errorf("a number that was only taken counts: %+v", now)
		}
		if err := s.FinishPublication(t.Context(), revocation.InstanceID{1}, series, taken, nil, nil); err != nil {
			t.Fatal(err)
		}
		number(t, s, series)
		if err := s.AppendAudit(t.Context(), []audit.Event{event, event}); err != nil {
			t.Fatal(err)
		}
		second, then := witness(first.Audit.Seq)
		if second.Audit.Seq != first.Audit.Seq+2 || then != first.Audit.Head || second.Lists != 1 {
			t.Errorf("later: %+v; the head at %d was %x, want %x", second, first.Audit.Seq, then, first.Audit.Head)
		}
		if _, between := witness(first.Audit.Seq + 1); between != (audit.Hash{}) {
			t.Errorf("in the middle of a batch the head was %x", between)
		}
		advance(t, s)
		third, then := witness(second.Audit.Seq)
		if third.Ledger != store.LostSequences || then != second.Audit.Head || third.Lists <= store.LostSequences {
			t.Errorf("moved on: %+v", third)
		}
	})
}
