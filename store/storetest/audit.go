package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet.example/signet/internal/audit"
	"signet.example/signet/store"
)

func testAudit(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("reads back and verifies", func(t *testing.T) {
		s := open(t)
		events := []audit.Event{
			{At: time.Date(2026, 11, 21, 1, 2, 3, 456789999, time.UTC), Actor: "token:ci", Action: "certificate.issue", Target: "a", Outcome: audit.OK,
				RequestID: "r1", Source: "192.0.2.1", Detail: map[string]string{"z": "<&>\u2028\"", "a": "\x00\xff", "\n": "é"}},
			{At: time.Unix(0, 0), Actor: "system:reconcile", Action: "range.close", Target: "b", Outcome: audit.Failed},
		}
		if err := s.AppendAudit(t.Context(), events); err != nil {
			t.Fatal(err)
		}
		if err := s.AppendAudit(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if err := s.AppendAudit(t.Context(), events[1:]); err != nil {
			t.Fatal(err)
		}
		chain, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{})
		if err != nil {
			t.Fatal(err)
		}
		head, err := s.AuditHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if chain != head || chain.Seq != 3 {
			t.Errorf("the log verifies up to %d %x, the head says %d %x", chain.Seq, chain.Head, head.Seq, head.Head)
		}
		want := []audit.Event{events[0].Clean(), events[1].Clean(), events[1].Clean()}
		for i := range want {
			want[i].Seq = uint64(i) + 1
		}
		got, err := s.AuditEvents(t.Context(), audit.Filter{}, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events differ (-want +got):\n%s", diff)
		}
	})

	t.Run("filters", func(t *testing.T) {
		s := open(t)
		var events []audit.Event
		for i := range 10 {
			events = append(events, audit.Event{At: time.Unix(int64(i), 0), Actor: fmt.Sprint("actor", i%2), Action: fmt.Sprint("action", i%3), Target: fmt.Sprint("target", i%5), Outcome: audit.OK})
		}
		if err := s.AppendAudit(t.Context(), events); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			filter audit.Filter
			after  uint64
			limit  int
			want   []uint64
		}{
			{audit.Filter{}, 0, 3, []uint64{1, 2, 3}},
			{audit.Filter{}, 8, 1000, []uint64{9, 10}},
			{audit.Filter{Actor: "actor1"}, 0, 1000, []uint64{2, 4, 6, 8, 10}},
			{audit.Filter{Target: "target4"}, 0, 1000, []uint64{5, 10}},
			{audit.Filter{Action: "action2", Actor: "actor0"}, 0, 1000, []uint64{3, 9}},
			{audit.Filter{From: time.Unix(3, 0), Until: time.Unix(5, 0)}, 0, 1000, []uint64{4, 5}},
			{audit.Filter{Target: "nothing"}, 0, 1000, nil},
			{audit.Filter{Newest: true}, 0, 3, []uint64{10, 9, 8}},
			{audit.Filter{Newest: true, Before: 8, Actor: "actor0"}, 2, 2, []uint64{7, 5}},
			{audit.Filter{Before: 4}, 1, 1000, []uint64{2, 3}},
		} {
			got, err := s.AuditEvents(t.Context(), test.filter, test.after, test.limit)
			if err != nil {
				t.Fatal(err)
			}
			var seqs []uint64
			for _, e := range got {
				seqs = append(seqs, e.Seq)
			}
			if diff := cmp.Diff(test.want, seqs); diff != "" {
				t.Errorf("%+v after %d, at most %d (-want +got):\n%s", test.filter, test.after, test.limit, diff)
			}
		}
	})

	t.Run("refuses a bad outcome whole", func(t *testing.T) {
		s := open(t)
		err := s.AppendAudit(t.Context(), []audit.Event{{Actor: "a", Outcome: audit.OK}, {Actor: "a"}})
		if err == nil {
			t.Fatal("an event without an outcome was accepted")
		}
		if head, err := s.AuditHead(t.Context()); err != nil || head != (audit.Chain{}) {
			t.Errorf("after a refused batch the head is %+v, %v", head, err)
		}
	})

	t.Run("chains concurrent writers", func(t *testing.T) {
		s := open(t)
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 10 {
					var events []audit.Event
					for range i%3 + 1 {
						events = append(events, audit.Event{At: time.Unix(int64(i), 0), Actor: fmt.Sprint(w), Action: "a", Outcome: audit.Refused})
					}
					if err := s.AppendAudit(t.Context(), events); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		chain, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{})
		if err != nil {
			t.Fatal(err)
		}
		if chain.Seq != 8*19 {
			t.Errorf("%d events, want %d", chain.Seq, 8*19)
		}
		if again, err := audit.Verify(s.AuditBatches(t.Context(), 0), chain); err != nil || again != chain {
			t.Errorf("the log does not continue itself: %v", err)
		}
	})
}
