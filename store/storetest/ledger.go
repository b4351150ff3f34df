package storetest

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// newEntry is an entry with every field set, at a position of the issuer.
func newEntry(issuer byte, p pki.Position, kind revocation.Kind) revocation.NewEntry {
	return revocation.NewEntry{Entry: revocation.Entry{
		Issuer: pki.IssuerID{issuer}, Serial: serialAt(p), Position: p, Kind: kind, Reason: pki.KeyCompromise,
		RevokedAt: time.Unix(1_800_000_000, 0).UTC(), InvalidityAt: time.Unix(1_790_000_000, 0).UTC(), Job: revocation.JobID{9, 9}, Actor: "token:test",
	}}
}

// serialAt stands for the serial that the scheme would make.
func serialAt(p pki.Position) pki.Serial {
	return pki.Serial{0x41, byte(p.Epoch >> 8), byte(p.Epoch), byte(p.Index >> 24), byte(p.Index >> 16), byte(p.Index >> 8), byte(p.Index), 7}
}

func claimOf(e revocation.Entry) revocation.Claim {
	return revocation.Claim{Key: revocation.Key{Issuer: e.Issuer, Serial: e.Serial}, Position: e.Position, Dense: !e.Foreign}
}

func testLedger(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("reads back", func(t *testing.T) {
		s := open(t)
		bare := newEntry(1, pki.Position{Epoch: 300, Index: pki.BlockSize}, revocation.KindVoid)
		bare.Reason, bare.InvalidityAt, bare.Job = 0, time.Time{}, revocation.JobID{}
		foreign := newEntry(1, pki.Position{}, revocation.KindRevoke)
		foreign.Foreign, foreign.Serial = true, pki.Serial{0xff}
		other := newEntry(2, pki.Position{Epoch: 65535, Index: pki.MaxIndex}, revocation.KindHold)
		restore := revocation.NewEntry{Entry: revocation.Entry{Kind: revocation.KindRestore, RevokedAt: time.Unix(1, 0).UTC(), Actor: "cli"}}
		entries := []revocation.NewEntry{newEntry(1, pki.Position{Epoch: 300}, revocation.KindRevoke), bare, foreign, other, restore}
		event := audit.Event{At: time.Unix(5, 0), Actor: "token:test", Action: "certificate.revoke", Outcome: audit.OK}
		last, err := s.AppendLedger(t.Context(), 0, entries, []audit.Event{event})
		if err != nil || last != 5 {
			t.Fatalf("append: %d, %v; want 5", last, err)
		}
		got, err := s.LedgerEntries(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var want []revocation.Entry
		for i, e := range entries {
			e.Seq, e.RecordedAt = uint64(i)+1, got[min(i, len(got)-1)].RecordedAt
			want = append(want, e.Entry)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("entries differ (-want +got):\n%s", diff)
		}
		if at := got[0].RecordedAt; time.Since(at).Abs() > time.Hour || at.Location() != time.UTC {
			t.Errorf("recorded at %v", at)
		}
		if head, err := s.LedgerHead(t.Context()); err != nil || head != 5 {
			t.Errorf("head %d, %v; want 5", head, err)
		}
		if chain, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{}); err != nil || chain.Seq != 1 {
			t.Errorf("audit: %+v, %v; want one event", chain, err)
		}
		seqs := func(stream func(func(revocation.Entry, error) bool)) (seqs []uint64) {
			t.Helper()
			for e, err := range stream {
				if err != nil {
					t.Fatal(err)
				}
				seqs = append(seqs, e.Seq)
			}
			return seqs
		}
		sorted := func(seqs []uint64) []uint64 { slices.Sort(seqs); return seqs } // for those that promise no order
		for _, test := range []struct {
			what string
			got  []uint64
			want []uint64
		}{
			{"whole issuer", seqs(s.LedgerScope(t.Context(), revocation.Whole(pki.IssuerID{1}), 0, math.MaxUint64)), []uint64{1, 2, 3}},
			{"whole issuer, part", seqs(s.LedgerScope(t.Context(), revocation.Whole(pki.IssuerID{1}), 1, 2)), []uint64{2}},
			{"shard 0", seqs(s.LedgerScope(t.Context(), revocation.OfShard(pki.IssuerID{1}, pki.Shard{Epoch: 300}), 0, 9)), []uint64{1}},
			{"shard 1", seqs(s.LedgerScope(t.Context(), revocation.OfShard(pki.IssuerID{1}, pki.Shard{Epoch: 300, Block: 1}), 0, 9)), []uint64{2}},
			{"last shard", seqs(s.LedgerScope(t.Context(), revocation.OfShard(pki.IssuerID{2}, pki.Position{Epoch: 65535, Index: pki.MaxIndex}.Shard()), 0, 9)), []uint64{4}},
			{"load all", sorted(seqs(s.LedgerLoad(t.Context(), 0, 4))), []uint64{1, 2, 3, 4}},
			{"load later epochs", sorted(seqs(s.LedgerLoad(t.Context(), 301, math.MaxUint64))), []uint64{3, 4}}, // 5 concerns no certificate
		} {
			if diff := cmp.Diff(test.want, test.got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.what, diff)
			}
		}
	})

	t.Run("loads the foreign ones, and then shard by shard", func(t *testing.T) {
		s := open(t)
		for i := range uint64(24) {
			e := newEntry(byte(1+i%2), pki.Position{Epoch: pki.Epoch(300 + i/2%2), Index: i/4%2*pki.BlockSize + 23 - i}, revocation.KindRevoke)
			if i%3 == 0 {
				e.Foreign, e.Position = true, pki.Position{}
			}
			if _, err := s.AppendLedger(t.Context(), 0, []revocation.NewEntry{e}, nil); err != nil {
				t.Fatal(err)
			}
		}
		seen := make(map[revocation.Scope]bool)
		var last revocation.Scope
		for e, err := range s.LedgerLoad(t.Context(), 0, 24) {
			if err != nil {
				t.Fatal(err)
			}
			scope := revocation.OfShard(e.Issuer, e.Position.Shard())
			if e.Foreign {
				scope = revocation.Whole(e.Issuer)
			}
			if scope != last && (seen[scope] || e.Foreign && last.Sharded) {
				t.Errorf("entry %d comes apart from the others of %+v", e.Seq, scope)
			}
			seen[scope], last = true, scope
		}
		if len(seen) != 10 {
			t.Errorf("entries of %d shards and issuers of foreign ones; want 10", len(seen))
		}
	})

	t.Run("expects the last entry", func(t *testing.T) {
		s := open(t)
		p := pki.Position{Epoch: 300, Index: 5}
		foreign := newEntry(1, pki.Position{}, revocation.KindRevoke)
		foreign.Foreign, foreign.Serial = true, serialAt(p) // a forgery that reuses the serial is another certificate
		hold := newEntry(1, p, revocation.KindHold)
		if last, err := s.AppendLedger(t.Context(), 0, []revocation.NewEntry{hold, foreign}, nil); err != nil || last != 2 {
			t.Fatal(last, err)
		}
		fresh := newEntry(1, pki.Position{Epoch: 300, Index: 6}, revocation.KindRevoke)
		for _, expected := range []uint64{0, 2, 3} {
			release := newEntry(1, p, revocation.KindRelease)
			release.Expected = expected
			events := []audit.Event{{Actor: "a", Outcome: audit.OK}}
			if _, err := s.AppendLedger(t.Context(), 0, []revocation.NewEntry{fresh, release}, events); !errors.Is(err, revocation.ErrStale) || pki.KindOf(err) != pki.KindConflict {
				t.Errorf("expecting %d where 1 is last: %v, want ErrStale", expected, err)
			}
		}
		if head, err := s.LedgerHead(t.Context()); err != nil || head != 2 {
			t.Errorf("a refused append moved the head to %d, %v", head, err)
		}
		if head, err := s.AuditHead(t.Context()); err != nil || head.Seq != 0 {
			t.Errorf("a refused append was audited as done: %+v, %v", head, err)
		}
		release := newEntry(1, p, revocation.KindRelease)
		release.Expected = 1
		last := func(want uint64) {
			t.Helper()
			facts, err := s.CertificateFacts(t.Context(), []revocation.Claim{claimOf(hold.Entry), claimOf(fresh.Entry), claimOf(foreign.Entry)})
			if err != nil || facts[0].Last.Seq != want || facts[1].Last.Seq != 0 || facts[2].Last.Seq != min(want, max(2, facts[2].Last.Seq)) {
				t.Errorf("last entries %d, %d and %d, want %d, none and that of the forgery: %v", facts[0].Last.Seq, facts[1].Last.Seq, facts[2].Last.Seq, want, err)
			}
		}
		last(2) // the serial that claims the place, whoever made it
		if last, err := s.AppendLedger(t.Context(), 0, []revocation.NewEntry{release}, nil); err != nil || last != 3 {
			t.Fatal(last, err)
		}
		last(3)
		twin := claimOf(hold.Entry)
		twin.Serial[19] ^= 1
		if facts, err := s.CertificateFacts(t.Context(), []revocation.Claim{twin}); err != nil || facts[0].Last.Seq != 0 {
			t.Errorf("another serial at the same place: %+v, %v", facts, err)
		}
		again := foreign // the forgery is changed again, after the certificate was
		again.Kind, again.Expected = revocation.KindReasonChange, 2
		elsewhere := foreign
		elsewhere.Issuer = pki.IssuerID{2}
		later := newEntry(1, pki.Position{Epoch: 301, Index: 5}, revocation.KindRevoke)
		if end, err := s.AppendLedger(t.Context(), 0, []revocation.NewEntry{again, elsewhere, later}, nil); err != nil || end != 6 {
			t.Errorf("entries of others that look alike: %d, %v", end, err)
		}
		last(4)
		// Who read up to 2 or 3 knows nothing of 4, and who read up to 60 read another ledger.
		change := newEntry(1, p, revocation.KindRevoke)
		for _, test := range []struct {
			others   int // in the same call
			read     uint64
			entry    revocation.NewEntry
			expected uint64
			stale    bool
		}{
			{0, 2, change, 1, true}, {0, 2, foreign, 2, true}, {0, 60, change, 1, true},
			{150, 2, change, 1, true}, {150, 2, foreign, 2, true}, {150, 3, foreign, 2, true}, {150, 3, change, 3, false},
		} {
			test.entry.Expected = test.expected
			entries := []revocation.NewEntry{test.entry}
			for index := range test.others {
				entries = append(entries, newEntry(1, pki.Position{Epoch: 302, Index: uint64(index)}, revocation.KindRevoke))
			}
			if _, err := s.AppendLedger(t.Context(), test.read, entries, nil); err != nil && !test.stale || errors.Is(err, revocation.ErrStale) != test.stale {
				t.Errorf("%d, read up to %d, expecting %d: %v, want stale %t", len(entries), test.read, test.expected, err, test.stale)
			}
		}
	})

	t.Run("orders concurrent writers", func(t *testing.T) {
		s := open(t)
		HuntLateCommits(t, s, s, s)
	})

	t.Run("wakes listeners", func(t *testing.T) {
		s := open(t)
		b := newBooks(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		wakes := make(chan revocation.WakeUp, 100)
		ended := make(chan error, 1)
		go func() { ended <- s.ListenLedger(ctx, func(news revocation.WakeUp) { wakes <- news }) }()
		woken := func(what string, ranges bool, seq uint64) {
			t.Helper()
			select {
			case got := <-wakes:
				if got.Ranges != ranges || !ranges && got.Seq != seq {
					t.Errorf("%s says %+v", what, got)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s wakes nobody", what)
			}
		}
		woken("listening", true, 0)
		for n := range uint64(2) {
			last, err := s.AppendLedger(t.Context(), n, []revocation.NewEntry{newEntry(1, pki.Position{Epoch: 300, Index: n}, revocation.KindRevoke)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			woken("an entry", false, last)
		}
		r := b.reserve(1, 16, time.Minute)
		woken("a reservation", true, 0)
		if _, err := b.close(r, 1, ca.Run{From: r.From, To: r.To}); err != nil {
			t.Fatal(err)
		}
		woken("closing a range", true, 0)
		cancel()
		if err := <-ended; pki.KindOf(err) != pki.KindUnavailable {
			t.Errorf("ended with %v", err)
		}
	})
}

// HuntLateCommits appends from several stores on one database at once while a reader follows with `seq > last`, and
// fails if the reader misses an entry that was committed late.
func HuntLateCommits(t *testing.T, reader store.Store, writers ...store.Store) {
	t.Helper()
	const each = 40
	var wg sync.WaitGroup
	for w, s := range writers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for i := 0; i < each; {
				var batch []revocation.NewEntry
				for range min(1+random.IntN(4), each-i) {
					batch = append(batch, newEntry(byte(w+1), pki.Position{Epoch: 300, Index: uint64(i)}, revocation.KindRevoke))
					i++
				}
				if _, err := s.AppendLedger(t.Context(), 0, batch, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var last uint64
	seen := 0
	for ended := false; ; {
		select {
		case <-done:
			ended = true
		default:
		}
		entries, err := reader.LedgerEntries(t.Context(), last, 50)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Seq != last+1 {
				t.Fatalf("the reader saw %d after %d: an entry was committed late", e.Seq, last)
			}
			last = e.Seq
			seen++
		}
		if ended && len(entries) == 0 {
			break
		}
	}
	if want := each * len(writers); seen != want {
		t.Errorf("the reader saw %d entries, %d were written", seen, want)
	}
}
