package revocation_test

import (
	"errors"
	"slices"
	"testing"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/storetest"
)

// Every verb, under both faults of every mutation that it makes: the caller is told, repeats, and ends where it would
// have been, with one entry and one audit event.
func TestVerbsUnderFaults(t *testing.T) {
	type verb struct {
		name   string
		method string // that fails
		do     func(t *testing.T, l *revocation.Ledger, a span) error
		kinds  []revocation.Kind // on the ledger in the end
		events int               // in the audit log in the end, after a fault before it happened
	}
	revoke := func(t *testing.T, l *revocation.Ledger, a span) error {
		_, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: a.claim(1).Key, Reason: pki.Superseded})
		return err
	}
	verbs := []verb{
		{"revoke", "AppendLedger", revoke, []revocation.Kind{revocation.KindRevoke}, 1},
		{"hold", "AppendLedger", func(t *testing.T, l *revocation.Ledger, a span) error {
			_, err := l.Hold(t.Context(), admin(t), revocation.Request{Key: a.claim(1).Key})
			return err
		}, []revocation.Kind{revocation.KindHold}, 1},
		{"import", "AppendLedger", func(t *testing.T, l *revocation.Ledger, a span) error {
			_, err := l.Import(t.Context(), manager(t), revocation.Request{Key: revocation.Key{Issuer: a.issuer.id, Serial: pki.Serial{1}}})
			return err
		}, []revocation.Kind{revocation.KindRevoke}, 1},
		{"block", "BlockKey", func(t *testing.T, l *revocation.Ledger, a span) error {
			_, err := l.BlockKey(t.Context(), manager(t), blockOf(2))
			return err
		}, []revocation.Kind{revocation.KindRevoke}, 1},
	}
	testdb.Each(t, func(t *testing.T, s store.Store) {
		for _, v := range verbs {
			for _, fault := range storetest.Faults {
				t.Run(v.name+" "+fault.String(), func(t *testing.T) {
					i := newIssuer(t, s, v.name+fault.String(), false)
					a := i.reserve(t, epoch, 0, 16)
					a.record(t, 1, 2)
					f := &storetest.Faulty{Store: s}
					u := newUniverse(t, s)
					testdb.Exec(t, s, `UPDATE certificates SET spki_hash = $1 WHERE idx = 2 AND issuer <> $2`, keyOf(200), i.id[:]) // of other runs
					l, err := revocation.NewLedger(revocation.LedgerConfig{Store: f, Keys: f, Universe: u, Now: clock})
					if err != nil {
						t.Fatal(err)
					}
					defer l.Close()
					before, err := s.AuditHead(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					f.Fail(v.method, fault)
					if err := v.do(t, l, a); !errors.Is(err, storetest.ErrFault) || pki.KindOf(err) != pki.KindUnavailable {
						t.Fatalf("under the fault: %v", err)
					}
					if f.Pending() {
						t.Fatal("the fault was never met")
					}
					if err := v.do(t, l, a); err != nil {
						t.Fatalf("repeated: %v", err)
					}
					var kinds []revocation.Kind
					for e, err := range s.LedgerScope(t.Context(), revocation.Whole(i.id), 0, 1<<40) {
						if err != nil {
							t.Fatal(err)
						}
						kinds = append(kinds, e.Kind)
					}
					if !slices.Equal(kinds, v.kinds) {
						t.Errorf("the ledger has %v, want %v", kinds, v.kinds)
					}
					chain, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{})
					if err != nil {
						t.Fatal(err)
					}
					want := v.events
					if v.method == "BlockKey" && fault == storetest.FailAfter {
						want++ // a block that is repeated looks again, and says so
					}
					if got := int(chain.Seq - before.Seq); got != want {
						t.Errorf("%d audit events, want %d", got, want)
					}
				})
			}
		}
	})
}

// A job under both faults of each of its mutations.
func TestJobUnderFaults(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		for _, fault := range storetest.Faults {
			t.Run(fault.String(), func(t *testing.T) {
				i := newIssuer(t, s, fault.String(), false)
				a := i.reserve(t, epoch, 0, 16)
				a.record(t, 1, 2, 3)
				f := &storetest.Faulty{Store: s}
				u := newUniverse(t, s)
				jobs := newJobs(t, f, u, 1)
				request := revocation.JobRequest{Selector: revocation.Selector{Issuer: i.id}, Reason: pki.Superseded}
				f.Fail("CreateJob", fault)
				if _, _, err := jobs.Plan(t.Context(), manager(t), request); !errors.Is(err, storetest.ErrFault) {
					t.Fatal(err)
				}
				job, _, err := jobs.Plan(t.Context(), manager(t), request) // a second plan; the first, if it is there, is never started
				if err != nil {
					t.Fatal(err)
				}
				f.Fail("StartJob", fault)
				if _, err := jobs.Start(t.Context(), manager(t), job.ID, 0); !errors.Is(err, storetest.ErrFault) {
					t.Fatal(err)
				}
				if started, err := jobs.Start(t.Context(), manager(t), job.ID, 0); err != nil || started.State != revocation.JobRunning {
					t.Fatal(started, err)
				}
				f.Fail("RunChunk", fault)
				if err := jobs.RunOnce(t.Context()); !errors.Is(err, storetest.ErrFault) || f.Pending() {
					t.Fatal(err)
				}
				if err := jobs.RunOnce(t.Context()); err != nil {
					t.Fatal(err)
				}
				if done, err := s.Job(t.Context(), job.ID); err != nil || done.State != revocation.JobDone || done.Revoked != 3 {
					t.Errorf("%+v, %v", done, err)
				}
				count := 0
				for _, err := range s.LedgerScope(t.Context(), revocation.Whole(i.id), 0, 1<<40) {
					if err != nil {
						t.Fatal(err)
					}
					count++
				}
				if count != 3 {
					t.Errorf("%d entries, want 3", count)
				}
				if _, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{}); err != nil {
					t.Error(err)
				}
			})
		}
	})
}
