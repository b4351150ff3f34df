package storetest

import (
	"testing"
	"time"

	"signet.example/signet/ca/profile/rollout"
	"signet.example/signet/internal/audit"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// testProfile holds a store to rollout.Store.
func testProfile(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	event := audit.Event{At: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Actor: "token:chief", Action: "profiles.reload", Target: "instance", Outcome: audit.OK}
	report := func(i rollout.Instance, ask bool, want uint64, events ...audit.Event) {
		t.Helper()
		if got, err := s.ReportProfiles(t.Context(), i, ask, events); err != nil || got != want {
			t.Fatalf("generation %d, %v; want %d", got, err, want)
		}
		if err := s.ReportProgress(t.Context(), revocation.InstanceID(i.ID), map[string]uint64{"crl": 1}); err != nil {
			t.Fatal(err)
		}
	}
	a, b := rollout.Instance{ID: rollout.InstanceID{1}, Name: "a", Digest: [32]byte{1}, Count: 10}, rollout.Instance{ID: rollout.InstanceID{2}, Name: "b", Digest: [32]byte{2}, Count: 11}
	report(b, false, 0)
	report(a, true, 1, event)
	report(a, true, 2, event)
	b.Generation, b.Failure = 1, "web.yaml:2: no"
	report(b, false, 1, event)
	if generation, err := s.ProfileGeneration(t.Context()); err != nil || generation != 2 {
		t.Errorf("generation %d, %v", generation, err)
	}
	a.Generation = 2
	want := []rollout.Instance{a, b}
	got, err := s.ProfileReports(t.Context(), time.Hour)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range want {
		if want[i].At = got[i].At; got[i].At.IsZero() || got[i] != want[i] {
			t.Errorf("got  %+v\nwant %+v", got[i], want[i])
		}
	}
	if head, err := s.AuditHead(t.Context()); err != nil || head.Seq != 3 {
		t.Errorf("%d audit events, %v", head.Seq, err)
	}
	if err := s.ForgetProgress(t.Context(), revocation.InstanceID(b.ID)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.ProfileReports(t.Context(), time.Hour); err != nil || len(got) != 1 || got[0].Name != "a" {
		t.Errorf("after b has stopped: %+v, %v", got, err)
	}
}
