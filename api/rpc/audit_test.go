package rpc_test

import (
	"context"
	"slices"
	"testing"

	"signet.example/signet/api/rpc"
	"signet.example/signet/internal/audit"
)

// longLog is a log of a number of events, a few of which belong to one actor.
type longLog struct {
	rpc.AuditLog
	end   uint64
	his   []uint64
	span  uint64 // the most that was searched at once for him
	calls int
}

func (l *longLog) AuditEvents(_ context.Context, f audit.Filter, after uint64, limit int) (events []audit.Event, err error) {
	if f.Actor == "" {
		return []audit.Event{{Seq: l.end}}, nil
	}
	l.calls++
	before := f.Before
	if before == 0 || before > l.end {
		before = l.end + 1
	}
	l.span = max(l.span, before-1-min(after, before-1))
	for _, seq := range l.his {
		if seq > after && seq < before {
			events = append(events, audit.Event{Seq: seq})
		}
	}
	if f.Newest {
		slices.Reverse(events)
	}
	return events[:min(limit, len(events))], nil
}

// The events of an actor in a log of millions are found page by page, each page by searching a bounded part of it: all
// of them, once, in order.
func TestAuditPagesAreBounded(t *testing.T) {
	log := &longLog{end: 5_500_000, his: []uint64{1, 2, 999_999, 1_000_000, 1_000_001, 3_000_000, 4_500_000, 4_500_001, 5_500_000}}
	for _, newest := range []bool{false, true} {
		for _, limit := range []int{1, 2, 3, 100} {
			for after, before := range map[uint64]uint64{0: 0, 1: 5_500_000, 999_999: 4_500_001, 6_000_000: 0, 2_000_000: 1_000} {
				var want, got []uint64
				for _, seq := range log.his {
					if seq > after && (before == 0 || seq < before) {
						want = append(want, seq)
					}
				}
				log.calls = 0
				from, filter := after, audit.Filter{Actor: "token:ci", Newest: newest, Before: before}
				for {
					events, next, err := rpc.AuditPage(t.Context(), log, filter, from, limit)
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range events {
						got = append(got, e.Seq)
					}
					if next == 0 {
						break
					}
					if newest {
						filter.Before = next
					} else {
						from = next
					}
				}
				if newest {
					slices.Reverse(got)
				}
				if !slices.Equal(got, want) || log.calls > 20 {
					t.Errorf("newest %v, %d a page, behind %d before %d: %v in %d calls, want %v", newest, limit, after, before, got, log.calls, want)
				}
			}
		}
	}
	if log.span == 0 || log.span > 1_000_000 {
		t.Errorf("%d events were searched at once", log.span)
	}
}
