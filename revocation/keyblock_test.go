package revocation_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func blockOf(index uint64) revocation.KeyBlock {
	return revocation.KeyBlock{SPKI: pki.KeyHash(keyOf(index)), Material: pki.KeyHash{1, byte(index)}, Proof: revocation.ProofOfficer, Comment: "found on a <disk> & \"sold\"\x00\u2028"}
}

func TestBlockKey(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		one, two := newIssuer(t, s, "one", false), newIssuer(t, s, "two", true)
		a, b := one.reserve(t, epoch, 0, 16), two.reserve(t, epoch+1, 0, 512)
		a.record(t, 0, 1, 2, 3)
		b.record(t, 1, 2, 257, 258) // 257 and 1 carry one key, as do 258 and 2
		u := newUniverse(t, s)
		l := newLedger(t, s, u)
		manage := grant(t, auth.RoleAdmin, "root", auth.ActionManage)
		// Revoked for another reason, an hour ago; its date stays, and what is said of the key now counts.
		earlier := revocation.NewEntry{Entry: revocation.Entry{Issuer: two.id, Serial: b.serial(257), Position: b.claim(257).Position, Kind: revocation.KindRevoke, Reason: pki.Superseded,
			RevokedAt: now.Add(-time.Hour), InvalidityAt: now.Add(-2 * time.Hour), Actor: "token:root"}}
		if _, err := s.AppendLedger(t.Context(), 0, []revocation.NewEntry{earlier}, []audit.Event{{Actor: "token:root", Outcome: audit.OK}}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Hold(t.Context(), admin(t), revocation.Request{Key: a.claim(1).Key}); err != nil {
			t.Fatal(err)
		}

		_, err := l.BlockKey(t.Context(), admin(t), blockOf(1))
		wantKind(t, "without the right", err, pki.KindDenied)
		_, err = l.BlockKey(t.Context(), manage, revocation.KeyBlock{SPKI: pki.KeyHash{1}, Proof: revocation.ProofOfficer})
		wantKind(t, "half a key", err, pki.KindInvalid)
		_, err = l.BlockKey(t.Context(), manage, revocation.KeyBlock{Material: pki.KeyHash{1}, Proof: revocation.ProofOfficer})
		wantKind(t, "the other half", err, pki.KindInvalid)
		unproved := blockOf(1)
		unproved.Proof = ""
		_, err = l.BlockKey(t.Context(), manage, unproved)
		wantKind(t, "without a proof", err, pki.KindInvalid)

		// Whoever holds a key may end its use and nothing else.
		nobody := auth.Principal{ID: "token:web", Account: "web", Role: auth.RoleRequester}
		_, err = l.BlockKey(t.Context(), nobody.HoldsKey(blockOf(2).SPKI.String()), blockOf(1))
		wantKind(t, "with another key", err, pki.KindDenied)
		_, err = l.BlockKey(t.Context(), nobody.HoldsKey(""), blockOf(1))
		wantKind(t, "with no key", err, pki.KindDenied)

		elsewhere := revocation.NewEntry{Entry: revocation.Entry{Issuer: one.id, Serial: a.serial(3), Position: a.claim(3).Position, Kind: revocation.KindRevoke, RevokedAt: now}} // before this universe hears of it
		if _, err := s.AppendLedger(t.Context(), 0, []revocation.NewEntry{elsewhere}, nil); err != nil {
			t.Fatal(err)
		}
		doubted := blockOf(1)
		doubted.InvalidityAt = now.Add(-3 * time.Hour)
		receipt, err := l.BlockKey(t.Context(), manage, doubted)
		if err != nil || receipt != (revocation.BlockReceipt{Revoked: 3, Seq: 6}) {
			t.Fatalf("block: %+v, %v; want 3 revoked up to 6", receipt, err)
		}
		if got := lookup(t, u, one.id, a.serial(3)); got.Status != pki.StatusRevoked {
			t.Errorf("what came before: %+v", got)
		}
		for _, test := range []struct {
			claim revocation.Claim
			kind  revocation.Kind
		}{{a.claim(1), revocation.KindRevoke}, {b.claim(1), revocation.KindRevoke}, {b.claim(257), revocation.KindReasonChange}} {
			if got := lookup(t, u, test.claim.Issuer, test.claim.Serial); got.Status != pki.StatusRevoked || got.Reason != pki.KeyCompromise || got.Kind != test.kind {
				t.Errorf("index %d: %+v", test.claim.Position.Index, got)
			}
		}
		if got := lookup(t, u, two.id, b.serial(257)); !got.RevokedAt.Equal(now.Add(-time.Hour)) || !got.InvalidityAt.Equal(now.Add(-3*time.Hour)) {
			t.Errorf("revoked before: %+v", got)
		}
		for _, claim := range []revocation.Claim{a.claim(0), a.claim(2), b.claim(2), b.claim(258)} {
			if got := lookup(t, u, claim.Issuer, claim.Serial); got.Status != pki.StatusGood {
				t.Errorf("index %d carries another key: %+v", claim.Position.Index, got)
			}
		}
		blocked, err := s.BlockedKeys(t.Context(), []pki.KeyHash{{9}, blockOf(1).SPKI, blockOf(1).Material, blockOf(2).SPKI})
		if err != nil || len(blocked) != 2 {
			t.Errorf("blocked: %v, %v", blocked, err)
		}

		a.record(t, 4) // as an instance that did not look would
		week, err := pki.EpochAt(now.Unix())
		if err != nil {
			t.Fatal(err)
		}
		one.reserve(t, week, 0, 16).record(t, 4) // has expired, and its week has not passed
		testdb.Exec(t, s, `UPDATE certificates SET spki_hash = $1 WHERE idx = 4`, keyOf(1))
		if _, err := l.Hold(t.Context(), admin(t), revocation.Request{Key: a.claim(4).Key}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Release(t.Context(), admin(t), revocation.Request{Key: a.claim(4).Key}); err != nil {
			t.Fatal(err)
		}
		again, err := l.BlockKey(t.Context(), manage, blockOf(1))
		if err != nil || again != (revocation.BlockReceipt{Already: true, Revoked: 1, Seq: 9}) {
			t.Errorf("block again: %+v, %v", again, err)
		}
		if chain, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{}); err != nil || chain.Seq != 6 {
			t.Errorf("audit: %d events, %v; want 6", chain.Seq, err)
		}
		events, err := s.AuditEvents(t.Context(), audit.Filter{Action: "key.block"}, 0, 10)
		if err != nil || len(events) != 2 || events[0].Detail["revoked"] != "3" || events[0].Detail["comment"] != "found on a <disk> & \"sold\"\uFFFD\u2028" || events[0].RequestID != "r1" {
			t.Errorf("audit: %+v, %v", events, err)
		}

		holder := nobody.HoldsKey(blockOf(3).SPKI.String())
		if _, err := l.BlockKey(t.Context(), holder, blockOf(3)); err != nil {
			t.Errorf("its holder: %v", err)
		}
		_, err = l.Revoke(t.Context(), holder, revocation.Request{Key: a.claim(0).Key, Reason: pki.Superseded})
		wantKind(t, "revoke with it", err, pki.KindDenied)
	})
}

// Above the limit, the block commits at once and a job revokes.
func TestBlockKeyJob(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		open := i.reserve(t, epoch, 0, 16)
		open.record(t, 0, 1, 2)
		testdb.Exec(t, s, `UPDATE certificates SET spki_hash = $1`, keyOf(7))
		if receipt, _, err := s.BlockKey(t.Context(), blockOf(6), revocation.Job{ID: revocation.JobID{2}, Principal: auth.Principal{ID: "a"}}, now, 0, 0); err != nil || receipt.Job != (revocation.JobID{}) {
			t.Errorf("a key of no certificate, at the limit: %+v, %v", receipt, err)
		}
		job := revocation.Job{ID: revocation.JobID{1}, State: revocation.JobRunning, Selector: revocation.Selector{Keys: []pki.KeyHash{blockOf(7).SPKI}},
			Reason: pki.KeyCompromise, Principal: auth.Principal{ID: "a"}}
		receipt, _, err := s.BlockKey(t.Context(), blockOf(7), job, now, 2, 0)
		if err != nil || receipt != (revocation.BlockReceipt{Job: job.ID}) {
			t.Fatalf("%+v, %v", receipt, err)
		}
		u := newUniverse(t, s)
		runJobs(t, s, u)
		for index := range uint64(3) {
			if got := lookup(t, u, i.id, open.serial(index)); got.Reason != pki.KeyCompromise {
				t.Errorf("index %d: %+v", index, got)
			}
		}
		if stored, err := s.Job(t.Context(), job.ID); err != nil || stored.State != revocation.JobDone || stored.Revoked != 3 {
			t.Errorf("%+v, %v", stored, err)
		}
		if _, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{}); err != nil {
			t.Error(err)
		}
	})
}

// blocks writes down what is asked of the books.
type blocks struct {
	store.Store
	jobs []revocation.Job
}

func (b *blocks) BlockKey(_ context.Context, _ revocation.KeyBlock, job revocation.Job, _ time.Time, _ int, _ uint64) (revocation.BlockReceipt, []revocation.Entry, error) {
	b.jobs = append(b.jobs, job)
	return revocation.BlockReceipt{Job: job.ID}, nil, nil
}

// The job that a block may come to is complete, and each is another.
func TestBlockKeyAsksForAJob(t *testing.T) {
	s := testdb.SQLite(t)
	u := newUniverse(t, s)
	b := &blocks{Store: s}
	l, err := revocation.NewLedger(revocation.LedgerConfig{Store: s, Keys: b, Universe: u, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seen := map[revocation.JobID]bool{{}: true}
	for range 2 {
		block := blockOf(1)
		block.InvalidityAt = now.Add(-time.Hour)
		receipt, err := l.BlockKey(t.Context(), manager(t), block)
		if err != nil || seen[receipt.Job] {
			t.Errorf("%+v, %v", receipt, err)
		}
		seen[receipt.Job] = true
		job := b.jobs[len(b.jobs)-1]
		if job.State != revocation.JobRunning || job.Reason != pki.KeyCompromise || !job.InvalidityAt.Equal(block.InvalidityAt) ||
			job.Principal.ID != "token:root" || !slices.Equal(job.Selector.Keys, []pki.KeyHash{block.SPKI, block.Material}) {
			t.Errorf("%+v", job)
		}
	}
	keyless, err := revocation.NewLedger(revocation.LedgerConfig{Store: s, Universe: u, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer keyless.Close()
	_, err = keyless.BlockKey(t.Context(), manager(t), blockOf(1))
	wantKind(t, "where no keys are kept", err, pki.KindFailedPrecondition)
}
