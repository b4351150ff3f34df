package ca_test

import (
	"context"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
	"signet.example/signet/store/storetest"
)

// A failed request whose event cannot be written is counted, and an event says later how many there were: once, be it while the authority runs
// or when it stops.
func TestFailuresThatTheAuditLogLacks(t *testing.T) {
	for what, tell := range map[string]func(*testing.T, *ca.Authority, func() bool){
		"running": func(t *testing.T, a *ca.Authority, told func() bool) {
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- a.Run(ctx, nil) }()
			for deadline := time.Now().Add(2 * time.Minute); !told() && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			}
			if !told() {
				t.Error("nothing is told while it runs")
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		},
		"stop": func(*testing.T, *ca.Authority, func() bool) {},
	} {
		t.Run(what, func(t *testing.T) {
			testdb.Each(t, func(t *testing.T, s store.Store) {
				faulty := &storetest.Faulty{Store: s}
				w := newTown(t, faulty)
				for n, name := range []string{"a.example.com", "b.example.com"} {
					faulty.Fail("Record", storetest.FailBefore)
					faulty.Fail("AppendAudit", storetest.FailBefore)
					if _, err := w.issue(w.Authority, server(t, name)); pki.KindOf(err) != pki.KindUnavailable || faulty.Pending() {
						t.Fatalf("issued without a database: %v", err)
					}
					if got := w.LeftOut(); got != uint64(n+1) {
						t.Errorf("%d are left out, want %d", got, n+1)
					}
				}
				failed := func() (told []audit.Event) {
					events, err := s.AuditEvents(t.Context(), audit.Filter{Action: "certificate.issue"}, 0, 1000)
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range events {
						if e.Outcome == audit.Failed {
							told = append(told, e)
						}
					}
					return told
				}
				if events := failed(); len(events) != 0 {
					t.Fatalf("they are in the log: %+v", events)
				}
				tell(t, w.Authority, func() bool { return len(failed()) > 0 })
				if err := w.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if events := failed(); len(events) != 1 || events[0].Detail["left_out"] != "2" || events[0].Actor != "system:issuance" {
					t.Errorf("the log tells: %+v", events)
				}
			})
		})
	}
}
