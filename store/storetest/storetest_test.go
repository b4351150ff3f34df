package storetest_test

import (
	"context"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/sqlite"
	"signet.example/signet/store/storetest"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return testdb.SQLite(t) })
}

func TestPostgres(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return testdb.Postgres(t) })
}

// Histories are never rewritten, not even by somebody with a prompt.
func TestAppendOnly(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		entry := revocation.NewEntry{Entry: revocation.Entry{Issuer: pki.IssuerID{1}, Kind: revocation.KindRevoke, RevokedAt: time.Unix(1, 0), Actor: "a"}}
		if _, err := s.AppendLedger(t.Context(), 0, []revocation.NewEntry{entry}, []audit.Event{{Actor: "a", Outcome: audit.OK}}); err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			`UPDATE ledger SET reason = 1`, `DELETE FROM ledger`, `UPDATE audit_events SET actor = 'b'`, `DELETE FROM audit_events`,
			`UPDATE audit_batches SET first = 2`, `DELETE FROM audit_batches`, `TRUNCATE ledger`, `TRUNCATE audit_events`, `TRUNCATE audit_batches`, // which SQLite has not
		} {
			if err := testdb.TryExec(s, statement); err == nil {
				t.Errorf("%s was accepted", statement)
			}
		}
	})
}

// What somebody alters all the same is found.
func TestAuditTampering(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		for i := range 3 {
			if err := s.AppendAudit(t.Context(), []audit.Event{{Actor: "a", Target: "x", Outcome: audit.OK, At: time.Unix(int64(i), 0)}, {Actor: "b", Outcome: audit.OK}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok := s.(*sqlite.Store); ok {
			testdb.Exec(t, s, `DROP TRIGGER audit_events_no_update`)
		} else {
			testdb.Exec(t, s, `ALTER TABLE audit_events DISABLE TRIGGER append_only`)
		}
		for _, statement := range []string{
			`UPDATE audit_events SET target = 'y' WHERE seq = 3`, `UPDATE audit_events SET actor = 'c' WHERE seq = 6`, `UPDATE audit_events SET detail = '{"a":"b"}' WHERE seq = 1`,
		} {
			testdb.Exec(t, s, statement)
			if chain, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{}); err == nil {
				t.Errorf("%s: the log verifies up to %d", statement, chain.Seq)
			}
		}
	})
}

// Several instances on one database.
func TestInstancesInOrder(t *testing.T) {
	url := testdb.URL(t)
	storetest.HuntLateCommits(t, testdb.Open(t, url), testdb.Open(t, url), testdb.Open(t, url), testdb.Open(t, url))
}

// What an instance held that was killed is taken over once it has missed three reports: nobody waits for its lease to end.
func TestSilentOwner(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		series := crlserver.Series{Issuer: pki.IssuerID{1}}
		a, b := revocation.InstanceID{1}, revocation.InstanceID{2}
		begin := func(owner revocation.InstanceID) bool {
			_, ok, err := s.BeginPublication(t.Context(), series, owner, 0, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		if !begin(a) || begin(b) {
			t.Error("the lease of an instance that never reported is not kept")
		}
		if err := s.ReportProgress(t.Context(), a, map[string]uint64{"crl": 1, "ocsp": 1}); err != nil {
			t.Fatal(err)
		}
		if begin(b) {
			t.Error("the lease of an instance that reported just now is not kept")
		}
		var ago any = time.Now().Add(-4 * time.Second)
		if _, ok := s.(*sqlite.Store); ok {
			ago = time.Now().Add(-4 * time.Second).UnixMicro()
		}
		testdb.Exec(t, s, `UPDATE heartbeats SET at = $1 WHERE product = 'crl'`, ago)
		if begin(b) {
			t.Error("the lease of an instance with a product that reported just now is not kept")
		}
		testdb.Exec(t, s, `UPDATE heartbeats SET at = $1`, ago)
		if !begin(b) || begin(a) {
			t.Error("the lease of a silent instance is not taken over")
		}
	})
}

// The request id of a certificate is taken for a day, and then free for another.
func TestRequestIDEnds(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		storetest.RequestIDEnds(t, s, func(by time.Duration) {
			if _, ok := s.(*sqlite.Store); ok {
				testdb.Exec(t, s, `UPDATE issue_requests SET expires_at = expires_at - $1`, by.Microseconds())
				return
			}
			testdb.Exec(t, s, `UPDATE issue_requests SET expires_at = expires_at - $1 * interval '1 microsecond'`, by.Microseconds())
		})
	})
}

// The last index of a week is given, and none behind it.
func TestIndicesEnd(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		storetest.IndicesEnd(t, s, func() { testdb.Exec(t, s, `UPDATE epochs SET next_idx = $1`, int64(pki.MaxIndex+1-16)) })
	})
}

// A responder that has not asked for 30 days is forgotten.
func TestResponderForgotten(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		r := ocspserver.ResponderRequest{Issuer: pki.IssuerID{1}, Key: pki.KeyHash{1}, CSR: []byte{1}}
		if err := s.RequestResponder(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := s.RecordResponder(t.Context(), r.Issuer, r.Key, []byte{2}); err != nil {
			t.Fatal(err)
		}
		for _, days := range []int{29, 31} {
			want := map[bool]int{true: 1, false: 0}[days < 30]
			ago := time.Now().Add(time.Duration(-days) * 24 * time.Hour)
			var asked any = ago
			if _, ok := s.(*sqlite.Store); ok {
				asked = ago.UnixMicro()
			}
			testdb.Exec(t, s, `UPDATE responders SET requested_at = $1`, asked)
			if _, err := s.ClaimResponders(t.Context(), nil, 10); err != nil {
				t.Fatal(err)
			}
			if known, err := s.ResponderCertificates(t.Context(), r.Key); err != nil || len(known) != want {
				t.Errorf("after %d days %d are known, want %d: %v", days, len(known), want, err)
			}
		}
	})
}

// Instances hear of what another publishes at once.
func TestPublicationsHeard(t *testing.T) {
	url := testdb.URL(t)
	a, b := testdb.Open(t, url), testdb.Open(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	wakes, ended := make(chan struct{}, 10), make(chan error, 1)
	go func() { ended <- b.ListenPublications(ctx, func() { wakes <- struct{}{} }) }()
	<-wakes // it listens
	series := crlserver.Series{Issuer: pki.IssuerID{1}}
	number, ok, err := a.BeginPublication(t.Context(), series, revocation.InstanceID{1}, 0, time.Minute)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	head := crlserver.Head{List: crlserver.List{Series: series, Kind: crlserver.KindComplete}, Number: number, Signature: crl.Signature{Value: []byte{1}}}
	if err := a.FinishPublication(t.Context(), revocation.InstanceID{1}, series, number, []crlserver.Head{head}, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-wakes:
	case <-time.After(time.Minute):
		t.Error("a publication wakes nobody")
	}
	cancel()
	<-ended
}

// What changes after the clock was set back is seen.
func TestClockSetBack(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		storetest.RangesAfterSetBack(t, s, func() {
			var tomorrow any = time.Now().Add(24 * time.Hour)
			if _, ok := s.(*sqlite.Store); ok {
				tomorrow = time.Now().Add(24 * time.Hour).UnixMicro()
			}
			testdb.Exec(t, s, `UPDATE ranges SET changed_at = $1`, tomorrow)
		})
	})
}
