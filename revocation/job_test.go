package revocation_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func newJobs(t *testing.T, s store.Store, u *revocation.Universe, instance byte) *revocation.Jobs {
	t.Helper()
	jobs, err := revocation.NewJobs(revocation.JobsConfig{Store: s, Runner: s, Universe: u, Instance: revocation.InstanceID{instance}, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

// A job whose selector this version cannot read is left to others: what it selects without a condition is more than was planned. What
// is no selector at all selects nothing.
func TestSelectorOfAnotherVersion(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		one := newIssuer(t, s, "one", false)
		a := one.reserve(t, epoch, 0, 64)
		for index := range uint64(20) {
			a.record(t, index)
		}
		u := newUniverse(t, s)
		jobs := newJobs(t, s, u, 1)
		start := func(stored string) revocation.JobID {
			t.Helper()
			job, _, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Selector: revocation.Selector{Account: "nobody"}, Reason: pki.Superseded})
			if err != nil || job.Selected != 0 {
				t.Fatalf("%+v, %v", job, err)
			}
			testdb.Exec(t, s, `UPDATE jobs SET selector = $1 WHERE id = $2`, stored, job.ID[:])
			if _, err := jobs.Start(t.Context(), manager(t), job.ID, 0); err != nil {
				t.Fatal(err)
			}
			return job.ID
		}
		strange := map[string]revocation.JobID{}
		for _, stored := range []string{`{"profile":"server","curve":"P-224"}`, `{"curve":"P-224"}`, `{}`} {
			strange[stored] = start(stored)
		}
		known := start(`{"account":"nobody"}`)
		if err := jobs.RunOnce(t.Context()); err == nil {
			t.Error("nobody is told of jobs that are left")
		}
		for stored, id := range strange {
			if job, err := s.Job(t.Context(), id); err != nil || job.State != revocation.JobRunning || job.Revoked != 0 {
				t.Errorf("%s: it is %s with %d revoked, %v", stored, job.State, job.Revoked, err)
			}
		}
		if job, err := s.Job(t.Context(), known); err != nil || job.State != revocation.JobDone {
			t.Errorf("the other is %s, %v", job.State, err)
		}
	})
}

// runJobs runs every running job to its end, and lets the universe see it.
func runJobs(t *testing.T, s store.Store, u *revocation.Universe) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		newJobs(t, s, u, 1).Run(ctx, func(err error) { t.Error(err) })
	}()
	for {
		running, err := s.Jobs(t.Context(), revocation.JobFilter{State: revocation.JobRunning}, revocation.JobID{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(running) == 0 {
			break
		}
		time.Sleep(time.Millisecond) // the job runs in real time against a real database
	}
	cancel()
	<-ended
	head, err := s.LedgerHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Await(t.Context(), head); err != nil {
		t.Fatal(err)
	}
}

func manager(t *testing.T) auth.Grant {
	return grant(t, auth.RoleAdmin, "root", auth.ActionManage)
}

// selectable is a certificate as a job may select it.
type selectable struct {
	claim            revocation.Claim
	profile, account string
	issued, end      time.Time
	key              uint64
	revoked          bool
}

// A job finds in the dry run, and then revokes, exactly what its selector says: here nothing is revoked that it does not name.
func TestJobSelectors(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		one, two := newIssuer(t, s, "one", false), newIssuer(t, s, "two", false)
		week, err := pki.EpochAt(now.Unix())
		if err != nil {
			t.Fatal(err)
		}
		a, b, c := one.reserve(t, epoch, 0, 16), one.reserve(t, epoch+1, 0, 16), two.reserve(t, epoch, 0, 16)
		past, ends := one.reserve(t, 350, 0, 16), one.reserve(t, week, 0, 16)
		far := one.reserve(t, epoch, pki.BlockSize, pki.BlockSize+16)
		var all []*selectable
		add := func(span span, indices ...uint64) {
			span.record(t, indices...)
			for _, index := range indices {
				all = append(all, &selectable{span.claim(index), "server", "alice", now, time.Unix(span.epoch.Start()+3600, 0), index % 256, false})
			}
		}
		add(past, 0)
		add(ends, 0, 3) // its week has not passed, and they have ended
		for _, span := range []span{a, b, c} {
			add(span, 0, 1, 2, 3, 4, 5)
		}
		add(far, pki.BlockSize+5)
		testdb.Exec(t, s, `UPDATE certificates SET profile = 'client' WHERE idx = 1`)
		testdb.Exec(t, s, `UPDATE certificates SET account = 'bob' WHERE idx = 2`)
		testdb.Exec(t, s, `UPDATE certificates SET issued_at = $1 WHERE idx = 3`, one.dbTime(now.Add(-time.Hour)))
		if strings.Contains(t.Name(), "postgres") {
			testdb.Exec(t, s, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS names_%d PARTITION OF certificate_names FOR VALUES IN (%[1]d)`, epoch))
		}
		testdb.Exec(t, s, `INSERT INTO certificate_names (epoch, reversed, kind, issuer, idx) VALUES ($1, 'elpmaxe.a', 1, $2, 0)`, int64(epoch), one.id[:])
		testdb.Exec(t, s, `INSERT INTO certificate_names (epoch, reversed, kind, issuer, idx) VALUES ($1, $2, $3, $4, 1)`, int64(epoch), inventory.ReversedName("Jane.Doe@a.example"), int64(pki.Email), one.id[:])
		u := newUniverse(t, s)
		jobs := newJobs(t, s, u, 1)
		l := newLedger(t, s, u)
		if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: a.claim(0).Key}); err != nil {
			t.Fatal(err)
		}
		for _, claim := range []revocation.Claim{a.claim(4), b.claim(4)} { // what is on hold, or was, is not revoked yet
			if _, err := l.Hold(t.Context(), admin(t), revocation.Request{Key: claim.Key}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.Release(t.Context(), admin(t), revocation.Request{Key: b.claim(4).Key}); err != nil {
			t.Fatal(err)
		}
		for _, certificate := range all {
			switch certificate.claim.Position.Index {
			case 1:
				certificate.profile = "client"
			case 2:
				certificate.account = "bob"
			case 3:
				certificate.issued = now.Add(-time.Hour)
			}
			certificate.revoked = certificate.claim == a.claim(0)
		}

		twin := a.claim(5).Key // a serial that was never issued, at the place of one that was
		twin.Serial = pki.NewSerial(pki.RangeKey{9}, one.key, a.claim(5).Position)
		at := func(c *selectable, issuer *issuer, week pki.Epoch, index uint64) bool {
			return c.claim.Issuer == issuer.id && c.claim.Position == pki.Position{Epoch: week, Index: index}
		}
		for _, test := range []struct {
			where   string
			serials []revocation.Key
			selects func(c *selectable) bool
		}{
			{"profile=nothing", nil, func(c *selectable) bool { return false }},
			{"index>=5 and expires>=" + weekOf(epoch) + "T01:00:01Z", nil, func(c *selectable) bool { return at(c, one, epoch+1, 5) }},
			{"expires>=" + weekOf(epoch+1) + " and under=two", nil, func(c *selectable) bool { return false }},
			{"under=one and expires<" + weekOf(epoch) + "T01:00:00Z", nil, func(c *selectable) bool { return false }},
			{"under=two and index>=3 and expires<" + weekOf(epoch) + "T01:00:01Z", nil, func(c *selectable) bool { return c.claim.Issuer == two.id && c.claim.Position.Index >= 3 }},
			{"under=one and epoch=400 and index>=5 and expires>=" + weekOf(epoch) + "T01:00:00Z", nil, func(c *selectable) bool { // of both
				return c.claim.Position.Epoch == epoch && c.claim.Position.Index >= 5
			}},
			{"name=a.example", nil, func(c *selectable) bool { return at(c, one, epoch, 0) }},
			{"name=Jane.Doe@a.example", nil, func(c *selectable) bool { return at(c, one, epoch, 1) }},
			{"", []revocation.Key{a.claim(0).Key, b.claim(2).Key, b.claim(9).Key, twin, b.claim(4).Key, a.claim(4).Key, ends.claim(0).Key, far.claim(pki.BlockSize + 5).Key}, func(c *selectable) bool {
				return at(c, one, epoch, 0) || at(c, one, epoch+1, 2) || at(c, one, epoch+1, 4) || at(c, one, epoch, 4) || at(c, one, epoch, pki.BlockSize+5)
			}},
			{"index>=16384", nil, func(c *selectable) bool { return c.claim.Position.Index >= pki.BlockSize }},
			{"key=" + blockOf(3).SPKI.String() + " and key=" + blockOf(0).SPKI.String(), nil, func(c *selectable) bool { return c.key == 3 || c.key == 0 }},
			{"index>=1 and index<3 and epoch=400", nil, func(c *selectable) bool {
				return c.claim.Position.Epoch == epoch && c.claim.Position.Index >= 1 && c.claim.Position.Index < 3
			}},
			{"profile=client", nil, func(c *selectable) bool { return c.profile == "client" }},
			{`account="bob" and profile=server`, nil, func(c *selectable) bool { return c.account == "bob" && c.profile == "server" }},
			{"issued<2026-11-21T12:00:00Z", nil, func(c *selectable) bool { return c.issued.Before(now) }},
			{"issuer=" + one.id.String() + " and epoch=400", nil, func(c *selectable) bool { return c.claim.Issuer == one.id && c.claim.Position.Epoch == epoch }},
			{"epoch=401", nil, func(c *selectable) bool { return c.claim.Position.Epoch == epoch+1 }},
			{"issuer=" + one.id.String(), nil, func(c *selectable) bool { return c.claim.Issuer == one.id }},
			{"issued>=2026-11-21T12:00:00Z", nil, func(c *selectable) bool { return !c.issued.Before(now) }},
			{"under=one", nil, func(c *selectable) bool { return true }},
			{"everything", nil, func(c *selectable) bool { return true }},
		} {
			t.Run(test.where, func(t *testing.T) {
				request := revocation.JobRequest{Serials: test.serials, Reason: pki.Superseded, Comment: "a drill"}
				if test.where != "" {
					var err error
					if request.Selector, err = revocation.ParseSelector(test.where, family(one, two)); err != nil {
						t.Fatal(err)
					}
				}
				var want []pki.Serial
				already, shards := uint64(0), map[revocation.Scope]bool{}
				for _, certificate := range all {
					if !test.selects(certificate) || !certificate.end.After(now) {
						continue
					}
					shards[revocation.OfShard(certificate.claim.Issuer, certificate.claim.Position.Shard())] = true
					if certificate.revoked {
						already++
						continue
					}
					certificate.revoked = true
					want = append(want, certificate.claim.Serial)
				}
				before, err := s.LedgerHead(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				job, estimate, err := jobs.Plan(t.Context(), manager(t), request)
				if err != nil {
					t.Fatal(err)
				}
				if selected := uint64(len(want)) + already; estimate.Selected != selected || estimate.Already != already || len(estimate.Shards) != len(shards) || job.Selected != selected {
					t.Errorf("dry run: %+v; want %d selected, %d already, %d shards", estimate, selected, already, len(shards))
				}
				stored, err := jobs.Get(t.Context(), manager(t), job.ID)
				job.Principal, stored.CreatedAt = auth.Principal{}, job.CreatedAt
				if diff := cmp.Diff(job, stored); err != nil || diff != "" {
					t.Errorf("stored: %v (-made +stored):\n%s", err, diff)
				}
				if head, err := s.LedgerHead(t.Context()); err != nil || head != before {
					t.Errorf("a dry run wrote: %d, %v", head, err)
				}

				if job, err = jobs.Start(t.Context(), manager(t), job.ID, 0); err != nil {
					t.Fatal(err)
				}
				for steps := 0; job.State != revocation.JobDone; steps++ {
					chunk, err := s.RunChunk(t.Context(), job, revocation.InstanceID{1}, 2, now)
					if err != nil || steps > 100 {
						t.Fatalf("step %d: %v", steps, err)
					}
					job.State = chunk.State
				}
				if job, err = s.Job(t.Context(), job.ID); err != nil || job.Revoked != uint64(len(want)) || job.Skipped < already {
					t.Errorf("%+v, %v; want %d revoked and %d skipped", job, err, len(want), already)
				}
				if (len(request.Serials) > 0 || len(request.Selector.Keys) > 0) && job.Examined != job.Revoked+job.Skipped {
					t.Errorf("%+v: want as many examined as revoked and skipped", job)
				}
				entries, err := s.LedgerEntries(t.Context(), before, 100)
				if err != nil {
					t.Fatal(err)
				}
				var got []pki.Serial
				for _, e := range entries {
					got = append(got, e.Serial)
				}
				inAnyOrder := func(serials []pki.Serial) []pki.Serial {
					slices.SortFunc(serials, func(a, b pki.Serial) int { return slices.Compare(a[:], b[:]) })
					return serials
				}
				if diff := cmp.Diff(inAnyOrder(want), inAnyOrder(got)); diff != "" {
					t.Errorf("revoked (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// Conditions over many leave Signet's own certificates alone: an authority that somebody made, the API's, a responder's. Who names them
// means them.
func TestJobSparesItsOwn(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		d := newIssuer(t, s, "one", false).reserve(t, epoch, 0, 32)
		d.record(t, 19, 20, 21, 22, 23, 24)
		testdb.Exec(t, s, `UPDATE certificates SET profile = 'issuing-ca' WHERE idx = 20`)
		testdb.Exec(t, s, `UPDATE certificates SET account = 'system' WHERE idx = 21`)
		testdb.Exec(t, s, `UPDATE certificates SET profile = 'ocsp-responder', account = 'system' WHERE idx = 22`)
		testdb.Exec(t, s, `UPDATE certificates SET profile = 'root-ca' WHERE idx = 23`)
		testdb.Exec(t, s, `UPDATE certificates SET profile = 'ocsp-responder' WHERE idx = 24`)
		jobs := newJobs(t, s, newUniverse(t, s), 1)
		for _, test := range []struct {
			where   string
			serials []revocation.Key
			want    uint64
		}{
			{"everything", nil, 1},
			{"profile=server", nil, 1},
			{"profile=issuing-ca", nil, 1},
			{"profile=root-ca", nil, 1},
			{"profile=ocsp-responder", nil, 2},
			{"account=system and profile=server", nil, 1},
			{"account=system", nil, 2},
			{"key=" + blockOf(21).SPKI.String(), nil, 1},
			{"", []revocation.Key{d.claim(20).Key, d.claim(22).Key}, 2},
		} {
			request := revocation.JobRequest{Serials: test.serials, Reason: pki.Superseded}
			if test.where != "" {
				var err error
				if request.Selector, err = revocation.ParseSelector(test.where, family()); err != nil {
					t.Fatal(err)
				}
			}
			if _, estimate, err := jobs.Plan(t.Context(), manager(t), request); err != nil || estimate.Selected != test.want {
				t.Errorf("%q selects %d, %v; want %d", test.where, estimate.Selected, err, test.want)
			}
		}
	})
}

// What ends an authority is counted apart, however it is selected, and is started by whoever says how many.
func TestJobEndsAuthorities(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		d := newIssuer(t, s, "one", false).reserve(t, epoch, 0, 32)
		d.record(t, 1, 2, 3)
		testdb.Exec(t, s, `UPDATE certificates SET profile = 'sub-ca', authority = true WHERE idx = 2`)
		testdb.Exec(t, s, `UPDATE certificates SET profile = 'issuing-ca', authority = true WHERE idx = 3`)
		jobs := newJobs(t, s, newUniverse(t, s), 1)
		key := func(index uint64) pki.KeyHash { return blockOf(index).SPKI }
		for _, test := range []struct {
			what    string
			request revocation.JobRequest
			want    uint64
		}{
			{"a leaf by its number", revocation.JobRequest{Serials: []revocation.Key{d.claim(1).Key}}, 0},
			{"numbers", revocation.JobRequest{Serials: []revocation.Key{d.claim(1).Key, d.claim(2).Key, d.claim(3).Key}}, 2},
			{"a leaf by its key", revocation.JobRequest{Selector: revocation.Selector{Keys: []pki.KeyHash{key(1)}}}, 0},
			{"keys", revocation.JobRequest{Selector: revocation.Selector{Keys: []pki.KeyHash{key(1), key(3)}}}, 1},
			{"a profile", revocation.JobRequest{Selector: revocation.Selector{Profile: "server"}}, 0},
			{"everything", revocation.JobRequest{Selector: revocation.Selector{Everything: true}}, 1},
		} {
			job, _, err := jobs.Plan(t.Context(), manager(t), test.request)
			if err != nil || job.Authorities != test.want {
				t.Errorf("%s: %d, %v; want %d", test.what, job.Authorities, err, test.want)
			}
			if test.want > 0 {
				_, err := jobs.Start(t.Context(), manager(t), job.ID, 0)
				wantKind(t, test.what+", not meant", err, pki.KindFailedPrecondition)
			}
			_, err = jobs.Start(t.Context(), manager(t), job.ID, test.want+1)
			wantKind(t, test.what+", more than there are", err, pki.KindFailedPrecondition)
			for _, meant := range []uint64{test.want, test.want + 1} { // the second time it runs
				if started, err := jobs.Start(t.Context(), manager(t), job.ID, meant); err != nil || started.State != revocation.JobRunning || started.Authorities != test.want {
					t.Errorf("%s: %+v, %v", test.what, started, err)
				}
			}
		}
	})
}

// Who agreed to the end of authorities agreed to those that he was told of. What was issued since the plan is told before the job starts;
// what is issued after the start is left in force, wherever the job finds it.
func TestJobEndsAuthoritiesItWasToldOf(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		d := newIssuer(t, s, "one", false).reserve(t, epoch, 0, 32)
		subordinate := func(index uint64) {
			d.record(t, index)
			testdb.Exec(t, s, `UPDATE certificates SET profile = 'sub-ca', authority = true WHERE idx = $1`, int64(index))
		}
		d.record(t, 0)
		subordinate(1)
		u := newUniverse(t, s)
		jobs := newJobs(t, s, u, 1)
		next := uint64(2)
		for _, test := range []struct {
			what     string
			selector func() revocation.JobRequest
		}{
			{"a condition", func() revocation.JobRequest {
				return revocation.JobRequest{Selector: revocation.Selector{Issuer: d.issuer.id, FromIndex: next - 1}}
			}},
			{"keys", func() revocation.JobRequest {
				return revocation.JobRequest{Selector: revocation.Selector{Keys: []pki.KeyHash{blockOf(next - 1).SPKI, blockOf(next).SPKI, blockOf(next + 1).SPKI}}}
			}},
			{"numbers", func() revocation.JobRequest {
				return revocation.JobRequest{Serials: []revocation.Key{d.claim(next - 1).Key, d.claim(next).Key, d.claim(next + 1).Key}}
			}},
		} {
			told, later, last := next-1, next, next+1 // an authority by the plan, by the start, and by the first chunk
			job, _, err := jobs.Plan(t.Context(), manager(t), test.selector())
			if err != nil || job.Authorities != 1 {
				t.Fatalf("%s: %d, %v; want 1", test.what, job.Authorities, err)
			}
			subordinate(later)
			_, err = jobs.Start(t.Context(), manager(t), job.ID, 1)
			wantKind(t, test.what+", one more since the plan", err, pki.KindFailedPrecondition)
			if !strings.Contains(fmt.Sprint(err), "2 of the certificates selected are those of authorities, and 1 were agreed to") {
				t.Errorf("%s: %v; want the new number", test.what, err)
			}
			if job, err = jobs.Get(t.Context(), manager(t), job.ID); err != nil || job.State != revocation.JobPlanned || job.Authorities != 2 {
				t.Errorf("%s: %s, %d, %v; want it planned, and 2", test.what, job.State, job.Authorities, err)
			}
			_, err = jobs.Start(t.Context(), manager(t), job.ID, 1) // by whoever was told of one only
			wantKind(t, test.what+", the number of before", err, pki.KindFailedPrecondition)
			if !strings.Contains(fmt.Sprint(err), "2 of the certificates selected are those of authorities, and 1 were agreed to") {
				t.Errorf("%s: %v; want both numbers", test.what, err)
			}
			if job, err = jobs.Start(t.Context(), manager(t), job.ID, 2); err != nil || job.State != revocation.JobRunning {
				t.Fatalf("%s: %s, %v", test.what, job.State, err)
			}
			subordinate(last)
			if err := jobs.RunOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
			if job, err = jobs.Get(t.Context(), manager(t), job.ID); err != nil || job.State != revocation.JobDone || job.Revoked != 2 {
				t.Errorf("%s: %s, %d revoked, %v; want it done, and 2", test.what, job.State, job.Revoked, err)
			}
			if err := u.CatchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			for index, want := range map[uint64]pki.Status{told: pki.StatusRevoked, later: pki.StatusRevoked, last: pki.StatusGood} {
				if got := lookup(t, u, d.issuer.id, d.serial(index)).Status; got != want {
					t.Errorf("%s, %d: %s; want %s", test.what, index, got, want)
				}
			}
			next += 2
		}

		// The block of a key asks nobody: what carries it ends, in a job too.
		left := next - 1
		job := revocation.Job{ID: revocation.JobID{9}, State: revocation.JobRunning, Selector: revocation.Selector{Keys: []pki.KeyHash{blockOf(left).SPKI}}, Reason: pki.KeyCompromise}
		if receipt, _, err := s.BlockKey(t.Context(), blockOf(left), job, now, 0, 0); err != nil || receipt.Job != job.ID {
			t.Fatalf("block: %+v, %v; want a job", receipt, err)
		}
		if err := errors.Join(jobs.RunOnce(t.Context()), u.CatchUp(t.Context())); err != nil {
			t.Fatal(err)
		}
		if got := lookup(t, u, d.issuer.id, d.serial(left)).Status; got != pki.StatusRevoked {
			t.Errorf("an authority whose key is blocked: %s; want revoked", got)
		}
	})
}

// A serial that is listed twice is revoked once.
func TestJobListsTwice(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		span := newIssuer(t, s, "one", false).reserve(t, epoch, 0, 16)
		span.record(t, 0, 1)
		u := newUniverse(t, s)
		jobs := newJobs(t, s, u, 1)
		first, second := span.claim(0).Key, span.claim(1).Key
		job, estimate, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Serials: []revocation.Key{first, second, first}, Reason: pki.Superseded})
		if err != nil || estimate.Selected != 2 {
			t.Fatalf("dry run: %+v, %v; want 2 selected", estimate, err)
		}
		if _, err := jobs.Start(t.Context(), manager(t), job.ID, 0); err != nil {
			t.Fatal(err)
		}
		if err := jobs.RunOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		if head, err := s.LedgerHead(t.Context()); err != nil || head != 2 {
			t.Errorf("the ledger ends at %d, %v; want 2", head, err)
		}
	})
}

// A list of serials may name what nobody knows, in whatever shape: it is counted, the first are named, and the rest of the list is revoked.
func TestJobListsUnknown(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		one := newIssuer(t, s, "one", false)
		week, err := pki.EpochAt(now.Unix())
		if err != nil {
			t.Fatal(err)
		}
		known, ended := one.reserve(t, epoch, 0, 32), one.reserve(t, week, 0, 16)
		known.record(t, 0, 1)
		ended.record(t, 0)
		jobs := newJobs(t, s, newUniverse(t, s), 1)
		twin := revocation.Key{Issuer: one.id, Serial: pki.NewSerial(pki.RangeKey{9}, one.key, known.claim(0).Position)} // at the place of one that was issued
		for _, test := range []struct {
			what    string
			listed  []revocation.Key
			named   []revocation.Key
			unknown uint64
		}{
			{"of another shape", []revocation.Key{{Issuer: one.id, Serial: pki.Serial{1}}}, []revocation.Key{{Issuer: one.id, Serial: pki.Serial{1}}}, 1},
			{"never issued", []revocation.Key{known.claim(7).Key, twin}, []revocation.Key{known.claim(7).Key, twin}, 2},
			{"many", []revocation.Key{known.claim(20).Key, known.claim(21).Key, known.claim(22).Key, known.claim(23).Key, known.claim(24).Key, known.claim(25).Key, known.claim(9).Key,
				known.claim(8).Key, known.claim(7).Key, known.claim(6).Key, known.claim(26).Key, known.claim(20).Key}, []revocation.Key{known.claim(20).Key, known.claim(21).Key,
				known.claim(22).Key, known.claim(23).Key, known.claim(24).Key, known.claim(25).Key, known.claim(9).Key, known.claim(8).Key, known.claim(7).Key, known.claim(6).Key}, 11},
			{"none", nil, nil, 0},
		} {
			listed := append([]revocation.Key{known.claim(0).Key}, append(test.listed, ended.claim(0).Key, known.claim(1).Key)...)
			job, estimate, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Serials: listed, Reason: pki.Superseded})
			if err != nil || estimate.Selected != 2 || estimate.Unknown != test.unknown || estimate.Expired != 1 {
				t.Fatalf("%s: %+v, %v; want 2 selected, %d unknown, 1 expired", test.what, estimate, err, test.unknown)
			}
			if diff := cmp.Diff(test.named, estimate.UnknownCertificates); diff != "" {
				t.Errorf("%s: named (-want +got):\n%s", test.what, diff)
			}
			if _, err := jobs.Start(t.Context(), manager(t), job.ID, 0); err != nil {
				t.Fatal(err)
			}
			if err := jobs.RunOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
			if job, err = s.Job(t.Context(), job.ID); err != nil || job.State != revocation.JobDone || job.Revoked+job.Skipped < 2 || job.Examined != 2+test.unknown+1 {
				t.Errorf("%s: %+v, %v; want all that is listed examined, once", test.what, job, err)
			}
		}
		if head, err := s.LedgerHead(t.Context()); err != nil || head != 2 {
			t.Errorf("the ledger ends at %d, %v; want 2", head, err)
		}
		if _, estimate, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Selector: revocation.Selector{Issuer: one.id}}); err != nil || estimate.Unknown != 0 || estimate.Expired != 0 {
			t.Errorf("a condition: %+v, %v", estimate, err)
		}
	})
}

// A list is bounded, and is of issuers of ours.
func TestJobListRefused(t *testing.T) {
	s := testdb.SQLite(t)
	span := newIssuer(t, s, "one", false).reserve(t, epoch, 0, 16)
	span.record(t, 0)
	jobs := newJobs(t, s, newUniverse(t, s), 1)
	plan := func(keys []revocation.Key) error {
		_, _, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Serials: keys, Reason: pki.Superseded})
		return err
	}
	most := slices.Repeat([]revocation.Key{span.claim(0).Key}, 1_000_000)
	if err := plan(most); err != nil {
		t.Errorf("a million: %v", err)
	}
	wantKind(t, "more than a million", plan(append(most, most[0])), pki.KindInvalid)
	wantKind(t, "another's issuer", plan([]revocation.Key{{Issuer: pki.IssuerID{1}, Serial: span.serial(0)}}), pki.KindNotFound)
}

// A job revokes exactly what it selects, in chunks, through every shape of the books.
func TestJobRuns(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		one, two := newIssuer(t, s, "one", false), newIssuer(t, s, "two", false)
		a, b, c := one.reserve(t, epoch, 0, 64), one.reserve(t, epoch+1, 0, 64), two.reserve(t, epoch, 0, 64)
		for index := range uint64(20) {
			a.record(t, index*3)
			b.record(t, index)
			c.record(t, index)
		}
		a.record(t, 61, 62) // Signet's own, which conditions over many leave alone
		testdb.Exec(t, s, `UPDATE certificates SET profile = 'issuing-ca' WHERE idx = 61`)
		testdb.Exec(t, s, `UPDATE certificates SET account = 'system' WHERE idx = 62`)
		u := newUniverse(t, s)
		l := newLedger(t, s, u)
		request := func(claim revocation.Claim, reason pki.Reason) revocation.Request {
			return revocation.Request{Key: claim.Key, Reason: reason}
		}
		for _, step := range []func() (revocation.Receipt, error){
			func() (revocation.Receipt, error) {
				earlier := revocation.NewEntry{Entry: revocation.Entry{Issuer: one.id, Serial: a.serial(3), Position: a.claim(3).Position, Kind: revocation.KindRevoke,
					Reason: pki.Superseded, RevokedAt: now.Add(-time.Hour), Actor: "token:root"}}
				_, err := s.AppendLedger(t.Context(), 0, []revocation.NewEntry{earlier}, nil)
				return revocation.Receipt{}, err
			},
			func() (revocation.Receipt, error) {
				return l.Revoke(t.Context(), admin(t), request(a.claim(6), pki.KeyCompromise))
			},
			func() (revocation.Receipt, error) {
				return l.Hold(t.Context(), admin(t), request(a.claim(9), 0))
			},
		} {
			if _, err := step(); err != nil {
				t.Fatal(err)
			}
		}
		jobs := newJobs(t, s, u, 1)
		job, _, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Selector: revocation.Selector{Issuer: one.id}, Reason: pki.KeyCompromise})
		if err != nil {
			t.Fatal(err)
		}
		if job, err = jobs.Start(t.Context(), manager(t), job.ID, 0); err != nil || job.State != revocation.JobRunning || job.StartedAt.IsZero() {
			t.Fatalf("%+v, %v", job, err)
		}
		for steps := 0; ; steps++ { // small chunks, each by another instance whose lease the last one left
			chunk, err := s.RunChunk(t.Context(), job, revocation.InstanceID{1}, 7, now)
			if err != nil {
				t.Fatal(err)
			}
			if chunk.State == revocation.JobDone {
				break
			}
			if steps > 100 {
				t.Fatal("the job does not end")
			}
		}
		if err := u.Await(t.Context(), 3+39); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			claim revocation.Claim
			want  revocation.Kind
		}{
			{a.claim(0), revocation.KindRevoke}, {a.claim(57), revocation.KindRevoke}, {b.claim(0), revocation.KindRevoke}, {b.claim(19), revocation.KindRevoke},
			{a.claim(3), revocation.KindReasonChange}, {a.claim(6), revocation.KindRevoke}, {a.claim(9), revocation.KindRevoke},
			{c.claim(0), revocation.KindNone}, {c.claim(19), revocation.KindNone}, {a.claim(61), revocation.KindNone}, {a.claim(62), revocation.KindNone},
		} {
			got := lookup(t, u, test.claim.Issuer, test.claim.Serial)
			if got.Kind != test.want || (got.Kind != revocation.KindNone) != (got.Reason == pki.KeyCompromise) {
				t.Errorf("epoch %d index %d: %+v, want %s", test.claim.Position.Epoch, test.claim.Position.Index, got, test.want)
			}
		}
		done, err := jobs.Get(t.Context(), manager(t), job.ID)
		if err != nil || done.State != revocation.JobDone || done.Revoked != 39 || done.Skipped != 1 || done.EndedAt.IsZero() || done.LastSeq != 42 {
			t.Errorf("%+v, %v", done, err)
		}
		if done.Examined != 64+64 { // what was reserved of this issuer; the sweep goes through it again
			t.Errorf("%d examined, want 128", done.Examined)
		}
		if _, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{}); err != nil {
			t.Error(err)
		}
		if got := lookup(t, u, one.id, a.serial(3)); !got.RevokedAt.Equal(now.Add(-time.Hour)) {
			t.Errorf("a change of reason changed the date: %+v", got)
		}
		entries, err := s.LedgerEntries(t.Context(), 3, 100)
		if err != nil || len(entries) != 39 || entries[0].Job != job.ID || entries[0].Actor != "token:root" {
			t.Errorf("%d entries, %v", len(entries), err)
		}
		chunks, err := s.AuditEvents(t.Context(), audit.Filter{Action: "job.chunk"}, 0, 100)
		if err != nil || len(chunks) == 0 {
			t.Fatal(len(chunks), err)
		}
		for _, e := range chunks { // each says which certificates it revoked
			n, err := strconv.Atoi(e.Detail["revoked"])
			if err != nil || n > len(entries) {
				t.Fatalf("%+v, %v", e, err)
			}
			h := sha256.New()
			for _, entry := range entries[:n] {
				h.Write(entry.Serial[:])
			}
			if entries = entries[n:]; e.Detail["serials_sha256"] != hex.EncodeToString(h.Sum(nil)) {
				t.Errorf("%+v does not say what was revoked", e)
			}
		}
	})
}

func TestJobStates(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		i.reserve(t, epoch, 0, 16).record(t, 0, 1, 2)
		u := newUniverse(t, s)
		jobs := newJobs(t, s, u, 1)
		plan := func() revocation.JobID {
			job, _, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Selector: revocation.Selector{Everything: true}})
			if err != nil {
				t.Fatal(err)
			}
			return job.ID
		}
		type verb func(context.Context, auth.Grant, revocation.JobID) (revocation.Job, error)
		start := func(ctx context.Context, grant auth.Grant, id revocation.JobID) (revocation.Job, error) {
			return jobs.Start(ctx, grant, id, 0)
		}
		id := plan()
		for _, step := range []struct {
			name string
			do   verb
			want revocation.JobState
			kind pki.Kind
		}{
			{"pause a plan", jobs.Pause, 0, pki.KindConflict},
			{"resume a plan", jobs.Resume, 0, pki.KindConflict},
			{"start", start, revocation.JobRunning, 0},
			{"start again", start, revocation.JobRunning, 0},
			{"pause", jobs.Pause, revocation.JobPaused, 0},
			{"start what is paused", start, 0, pki.KindConflict},
			{"resume", jobs.Resume, revocation.JobRunning, 0},
			{"cancel", jobs.Cancel, revocation.JobCancelled, 0},
			{"cancel again", jobs.Cancel, revocation.JobCancelled, 0},
			{"resume what is cancelled", jobs.Resume, 0, pki.KindConflict},
		} {
			job, err := step.do(t.Context(), manager(t), id)
			if step.kind != 0 {
				wantKind(t, step.name, err, step.kind)
			} else if err != nil || job.State != step.want {
				t.Errorf("%s: %+v, %v", step.name, job, err)
			}
		}
		_, err := start(t.Context(), manager(t), revocation.JobID{9})
		wantKind(t, "start what is not there", err, pki.KindNotFound)
		_, err = start(t.Context(), admin(t), plan())
		wantKind(t, "start without the right", err, pki.KindDenied)
		cancelled, err := s.Job(t.Context(), id)
		if err != nil || cancelled.StartedAt.IsZero() || cancelled.EndedAt.Before(cancelled.StartedAt) {
			t.Errorf("%+v, %v", cancelled, err)
		}
		paused := plan()
		for _, do := range []verb{start, jobs.Pause} {
			if _, err := do(t.Context(), manager(t), paused); err != nil {
				t.Fatal(err)
			}
		}
		for id, state := range map[revocation.JobID]revocation.JobState{id: revocation.JobCancelled, plan(): revocation.JobPlanned, paused: revocation.JobPaused} {
			if chunk, err := s.RunChunk(t.Context(), revocation.Job{ID: id}, revocation.InstanceID{1}, 10, now); err != nil || chunk.State != state || chunk.Revoked != 0 {
				t.Errorf("a job that is %s ran: %+v, %v", state, chunk, err)
			}
		}
		before, err := s.Job(t.Context(), paused)
		if err != nil {
			t.Fatal(err)
		}
		if resumed, err := jobs.Resume(t.Context(), manager(t), paused); err != nil || !resumed.StartedAt.Equal(before.StartedAt) {
			t.Errorf("started at %s, and after a pause at %s: %v", before.StartedAt, resumed.StartedAt, err)
		}
		for action, want := range map[string]int{"job.plan": 4, "job.start": 2, "job.pause": 2, "job.resume": 2, "job.cancel": 1} {
			if events, err := s.AuditEvents(t.Context(), audit.Filter{Action: action}, 0, 10); err != nil || len(events) != want {
				t.Errorf("%d events %s, want %d: %v", len(events), action, want, err)
			}
		}
		list, err := jobs.List(t.Context(), manager(t), revocation.JobFilter{}, revocation.JobID{}, 10)
		if err != nil || len(list) != 4 {
			t.Errorf("%d jobs, %v", len(list), err)
		}
		started, err := jobs.List(t.Context(), manager(t), revocation.JobFilter{Started: true}, revocation.JobID{}, 10)
		list = slices.DeleteFunc(list, func(j revocation.Job) bool { return j.StartedAt.IsZero() })
		if err != nil || len(started) != 2 || !slices.EqualFunc(started, list, func(a, b revocation.Job) bool { return a.ID == b.ID }) {
			t.Errorf("%d jobs were started, %v", len(started), err)
		}
	})
}

// A job outlives whatever the database says while something is wrong with it, and goes on.
func TestJobWhileTheDatabaseFails(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		i := newIssuer(t, s, "one", false)
		i.reserve(t, epoch, 0, 16).record(t, 0, 1, 2)
		u := newUniverse(t, s)
		jobs := newJobs(t, s, u, 1)
		started := startAll(t, jobs)
		testdb.Exec(t, s, `ALTER TABLE certificates RENAME TO away`)
		wantKind(t, "a job without its table", jobs.RunOnce(t.Context()), pki.KindUnavailable)
		testdb.Exec(t, s, `ALTER TABLE away RENAME TO certificates`)
		if job, err := s.Job(t.Context(), started.ID); err != nil || job.State != revocation.JobRunning {
			t.Errorf("it is %s, %v", job.State, err)
		}
		runJobs(t, s, u)
		if job, err := s.Job(t.Context(), started.ID); err != nil || job.State != revocation.JobDone || job.Revoked != 3 {
			t.Errorf("in the end it is %s, with %d revoked, %v", job.State, job.Revoked, err)
		}
	})
}

// paced is a database in which every chunk ends as it is told, and that remembers how large they were to be.
type paced struct {
	store.Store
	chunk func(limit int) revocation.Chunk
	sizes []int
}

func (p *paced) RunChunk(_ context.Context, _ revocation.Job, _ revocation.InstanceID, limit int, _ time.Time) (revocation.Chunk, error) {
	p.sizes = append(p.sizes, limit)
	chunk := p.chunk(limit)
	chunk.State = revocation.JobRunning
	if len(p.sizes) == 21 {
		chunk.State = revocation.JobDone
	}
	return chunk, nil
}

// A chunk grows while it holds the ledger for a short time, whatever part of it was revoked before, and would if nothing of it had been.
func TestJobChunkSizes(t *testing.T) {
	for _, test := range []struct {
		name  string
		chunk func(limit int) revocation.Chunk
		last  int // size
	}{
		{"all are revoked", func(limit int) revocation.Chunk { return revocation.Chunk{Revoked: limit, Held: time.Microsecond} }, 10_000},
		{"half were before", func(limit int) revocation.Chunk {
			return revocation.Chunk{Revoked: limit / 2, Skipped: limit - limit/2, Held: time.Microsecond}
		}, 10_000},
		{"half were before, and the rest would take too long", func(limit int) revocation.Chunk {
			return revocation.Chunk{Revoked: limit / 2, Skipped: limit - limit/2, Held: 8 * time.Millisecond}
		}, 1_000},
		{"all were before", func(limit int) revocation.Chunk { return revocation.Chunk{Skipped: limit} }, 1_000},
		{"few are selected", func(limit int) revocation.Chunk {
			return revocation.Chunk{Revoked: 500, Skipped: limit - 501, Held: time.Microsecond}
		}, 1_000},
		{"ten microseconds each", func(limit int) revocation.Chunk {
			return revocation.Chunk{Revoked: limit, Held: time.Duration(limit) * 10 * time.Microsecond}
		}, 1_562}, // 15.6 ms
		{"longer than it may", func(limit int) revocation.Chunk {
			return revocation.Chunk{Revoked: limit, Held: time.Duration(limit-900) * 100 * time.Microsecond}
		}, 1_000}, // 1,250 took 35 ms
	} {
		t.Run(test.name, func(t *testing.T) {
			s := testdb.SQLite(t)
			u := newUniverse(t, s)
			startAll(t, newJobs(t, s, u, 1))
			jobs := &paced{Store: s, chunk: test.chunk}
			if err := newJobs(t, jobs, u, 1).RunOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
			if last := jobs.sizes[len(jobs.sizes)-1]; last != test.last {
				t.Errorf("sizes %d, want %d in the end", jobs.sizes, test.last)
			}
		})
	}
}

// startAll starts a job that revokes everything.
func startAll(t *testing.T, jobs *revocation.Jobs) revocation.Job {
	t.Helper()
	job, _, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Selector: revocation.Selector{Everything: true}})
	if err != nil {
		t.Fatal(err)
	}
	if job, err = jobs.Start(t.Context(), manager(t), job.ID, 0); err != nil {
		t.Fatal(err)
	}
	return job
}

// A job belongs to one instance at a time, and to another one once that has fallen silent or its lease has passed.
func TestJobLease(t *testing.T) {
	s := testdb.Postgres(t)
	i := newIssuer(t, s, "one", false)
	i.reserve(t, epoch, 0, 16).record(t, 0, 1, 2)
	u := newUniverse(t, s)
	jobs := newJobs(t, s, u, 1)
	job := startAll(t, jobs)
	run := func(instance byte) revocation.Chunk {
		t.Helper()
		chunk, err := s.RunChunk(t.Context(), job, revocation.InstanceID{instance}, 1, now)
		if err != nil {
			t.Fatal(err)
		}
		return chunk
	}
	if chunk := run(1); chunk.Revoked != 1 || chunk.Busy {
		t.Errorf("%+v", chunk)
	}
	if chunk := run(2); chunk.Revoked != 0 || !chunk.Busy {
		t.Errorf("the second instance: %+v", chunk)
	}
	if err := s.ReportProgress(t.Context(), revocation.InstanceID{1}, map[string]uint64{"universe": 1}); err != nil {
		t.Fatal(err)
	}
	if chunk := run(2); !chunk.Busy {
		t.Errorf("the second instance, while the first reports: %+v", chunk)
	}
	testdb.Exec(t, s, `UPDATE heartbeats SET at = clock_timestamp() - interval '4 seconds'`) // the first was killed
	if chunk := run(2); chunk.Revoked != 1 || chunk.Busy {
		t.Errorf("after the lease: %+v", chunk)
	}
	if chunk := run(1); !chunk.Busy {
		t.Errorf("the first instance, come back: %+v", chunk)
	}
	for _, do := range []func(context.Context, auth.Grant, revocation.JobID) (revocation.Job, error){jobs.Pause, jobs.Resume} {
		if _, err := do(t.Context(), manager(t), job.ID); err != nil {
			t.Fatal(err)
		}
	}
	if chunk := run(1); chunk.Busy || chunk.Revoked != 1 {
		t.Errorf("after a pause anybody may go on: %+v", chunk)
	}
	testdb.Exec(t, s, `UPDATE heartbeats SET at = clock_timestamp()`)
	testdb.Exec(t, s, `UPDATE jobs SET lease_until = clock_timestamp() - interval '1 millisecond'`)
	if chunk := run(2); chunk.Busy {
		t.Errorf("after the lease of one that is alive: %+v", chunk)
	}
}

// Who stops leaves its jobs to another at once, and those of nobody else; who stops because the database went back writes
// nothing. What it should still write afterwards is refused while the other has the job.
func TestJobsAreLeft(t *testing.T) {
	s := testdb.Postgres(t)
	newIssuer(t, s, "one", false).reserve(t, epoch, 0, 16).record(t, 0, 1, 2)
	u := newUniverse(t, s)
	jobs := newJobs(t, s, u, 1)
	job := startAll(t, jobs)
	run := func(what string, instance byte, busy bool) {
		t.Helper()
		chunk, err := s.RunChunk(t.Context(), job, revocation.InstanceID{instance}, 1, now)
		if err != nil || chunk.Busy != busy || chunk.Busy == (chunk.Revoked == 1) {
			t.Errorf("%s: %+v, %v", what, chunk, err)
		}
	}
	stop := func(instance byte, cause error) {
		stopped, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		newJobs(t, s, u, instance).Run(stopped, func(err error) { t.Error(err) })
	}
	run("the first", 1, false)
	stop(2, nil)
	run("the second, when it has stopped itself", 2, true)
	stop(1, pki.ErrWentBack)
	run("the second, when the first has seen the database go back", 2, true)
	stop(1, nil)
	run("the second, when the first has stopped", 2, false)
	run("what the first writes afterwards", 1, true)
}

// family finds issuers by their ids, and two by name as well: "one", and below it "two".
func family(issuers ...*issuer) func(string) (pki.IssuerID, []pki.IssuerID, error) {
	return func(name string) (pki.IssuerID, []pki.IssuerID, error) {
		if len(issuers) == 2 && name == "one" {
			return issuers[0].id, []pki.IssuerID{issuers[1].id}, nil
		}
		if len(issuers) == 2 && name == "two" {
			return issuers[1].id, nil, nil
		}
		id, err := pki.ParseIssuerID(name)
		return id, nil, err
	}
}

// weekOf is the day on which a week of expiry begins.
func weekOf(week pki.Epoch) string { return time.Unix(week.Start(), 0).UTC().Format(time.DateOnly) }

func TestParseSelectorRefuses(t *testing.T) {
	for _, where := range []string{
		"", "and", "=", "profile", "profile = and issued>=2026-11-01", `profile="=" server`, "profile=server profile=client", "profile=server and", "colour=red", "issuer=xyz", "epoch=-1", "index>=x", "index>=5 and index<5",
		"issued>=yesterday", "profile=server and issued>=yesterday", "profile=server and issued<2026-13-01", "profile=server or profile=client", "everything everything everything", `profile="server`, "everything and profile=server", "key=00", "issued>=2026-11-02 and issued<2026-11-01",
		"key=" + strings.Repeat("00", 32) + " and profile=server", "index<1099511627777000", "under=nobody", "under>one", "under=one and under=two", "profile=a and profile=b", "expires>=2026-11-01 and expires>=2026-11-02",
		"issuer=0102030405060708090a and under=0102030405060708090a", "expires<tomorrow", "expires=2026-11-01", "expires>=2026-11-02 and expires<2026-11-02",
		"index>=10,000", "index>=10k", "index>=1e6", "index>=0x10", "index>=+1", "index>=-1", "index>=1_000", `index>="10 000"`, "index<9 9", "index<10.5", "index<1k", "index>=18446744073709551616",
		// A bound that would narrow nothing, beside one that does.
		"index>=1 and index<0", `issuer=0102030405060708090a and profile=""`, `issuer=0102030405060708090a and account=""`, `issuer=0102030405060708090a and issued<0001-01-01`, "profile=server and expires<0001-01-01T01:00:00+01:00",
	} {
		if s, err := revocation.ParseSelector(where, family()); err == nil || pki.KindOf(err) != pki.KindInvalid {
			t.Errorf("%q: %+v, %v", where, s, err)
		}
	}
}

// "After the 22nd" might mean that day or not, and what is revoked stays so: the words say which.
func TestParseSelectorAfterADay(t *testing.T) {
	for _, where := range []string{"issued>2026-11-22", "profile=server and issued > 2026-11-22T00:00:00Z", "expires>2026-11-22"} {
		_, err := revocation.ParseSelector(where, family())
		refused, ok := errors.AsType[*pki.Error](err)
		if !ok || refused.Kind != pki.KindInvalid || !strings.Contains(refused.Hint, ">= and the first day") {
			t.Errorf("%q: %v", where, err)
		}
	}
}

// Each condition is enough to select by, lists stand alone, and bounds are those that are documented.
func TestSelectorBounds(t *testing.T) {
	s := testdb.SQLite(t)
	id := newIssuer(t, s, "one", false).id
	jobs := newJobs(t, s, newUniverse(t, s), 1)
	names := func(n int) (names []pki.Identifier) {
		return slices.Repeat([]pki.Identifier{{Type: pki.DNS, Value: "a.example"}}, n)
	}
	keys := func(n int) []pki.KeyHash { return slices.Repeat([]pki.KeyHash{{1}}, n) }
	for _, test := range []struct {
		what     string
		selector revocation.Selector
		valid    bool
	}{
		{"nothing", revocation.Selector{}, false},
		{"everything", revocation.Selector{Everything: true}, true},
		{"everything of an issuer", revocation.Selector{Everything: true, Issuer: id}, false},
		{"from a week", revocation.Selector{FromEpoch: 1}, true},
		{"up to a week", revocation.Selector{ToEpoch: 1}, true},
		{"an empty week", revocation.Selector{FromEpoch: 5, ToEpoch: 5}, false},
		{"one week", revocation.Selector{FromEpoch: 5, ToEpoch: 6}, true},
		{"from an index", revocation.Selector{FromIndex: 1}, true},
		{"up to an index", revocation.Selector{ToIndex: 1}, true},
		{"no index", revocation.Selector{FromIndex: 5, ToIndex: 5}, false},
		{"the last index", revocation.Selector{FromIndex: pki.MaxIndex, ToIndex: pki.MaxIndex + 1}, true},
		{"behind the last index", revocation.Selector{FromIndex: pki.MaxIndex + 1}, false},
		{"up to behind the last index", revocation.Selector{ToIndex: pki.MaxIndex + 2}, false},
		{"no time", revocation.Selector{IssuedFrom: now, IssuedUntil: now}, false},
		{"a moment", revocation.Selector{IssuedFrom: now, IssuedUntil: now.Add(time.Second)}, true},
		{"most names", revocation.Selector{Names: names(1_000)}, true},
		{"too many names", revocation.Selector{Names: names(1_001)}, false},
		{"most keys", revocation.Selector{Keys: keys(10_000)}, true},
		{"too many keys", revocation.Selector{Keys: keys(10_001)}, false},
		{"those below an issuer", revocation.Selector{Under: id, Below: []pki.IssuerID{{1}}}, true},
		{"an issuer and those below it", revocation.Selector{Issuer: id, Under: id}, false},
		{"everything below an issuer", revocation.Selector{Everything: true, Under: id}, false},
		{"no end", revocation.Selector{ExpiresFrom: now, ExpiresUntil: now}, false},
		{"what ends from then on", revocation.Selector{ExpiresFrom: now}, true},
		{"what ends by then", revocation.Selector{ExpiresUntil: now}, true},
		{"keys of an issuer", revocation.Selector{Keys: keys(1), Issuer: id}, false},
		{"keys and everything", revocation.Selector{Keys: keys(1), Everything: true}, false},
	} {
		_, _, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Selector: test.selector, Reason: pki.Superseded})
		if test.valid && err != nil || !test.valid && pki.KindOf(err) != pki.KindInvalid {
			t.Errorf("%s: %v", test.what, err)
		}
	}
	_, _, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Selector: revocation.Selector{Keys: keys(1)}, Serials: []revocation.Key{{Issuer: id}}, Reason: pki.Superseded})
	wantKind(t, "keys and serials", err, pki.KindInvalid)
}

func TestParseSelector(t *testing.T) {
	for where, want := range map[string]revocation.Selector{
		"everything":                                   {Everything: true},
		"account=\"web  team\"":                        {Account: "web  team"},
		"\tprofile=server\nAND account = bob ":         {Profile: "server", Account: "bob"},
		"epoch=400":                                    {FromEpoch: 400, ToEpoch: 401},
		"epoch=65535":                                  {FromEpoch: 65535},
		"index>=3 and index<9":                         {FromIndex: 3, ToIndex: 9},
		"index>=010 and index < 1099511627776":         {FromIndex: 10, ToIndex: pki.MaxIndex + 1},
		"under=0102030405060708090a":                   {Under: pki.IssuerID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		"expires>=2026-12-01 and expires < 2027-01-01": {ExpiresFrom: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), ExpiresUntil: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		"issued>=2026-11-01 and issued<2026-11-02T01:00:00+01:00": {IssuedFrom: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), IssuedUntil: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)},
	} {
		got, err := revocation.ParseSelector(where, family())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", where, err, diff)
		}
	}
}

// Whatever is not selected by its end is in other weeks, which nobody looks at.
func TestSelectorWeeks(t *testing.T) {
	at := func(week pki.Epoch) time.Time { return time.Unix(week.Start(), 0) }
	for what, test := range map[string]struct {
		selector revocation.Selector
		from, to pki.Epoch
	}{
		"everything":               {revocation.Selector{Everything: true}, 0, 0},
		"weeks":                    {revocation.Selector{FromEpoch: 5, ToEpoch: 9}, 5, 9},
		"ends":                     {revocation.Selector{ExpiresFrom: at(5), ExpiresUntil: at(8)}, 5, 9},
		"the last moment of weeks": {revocation.Selector{ExpiresFrom: at(6).Add(-time.Second), ExpiresUntil: at(9).Add(-time.Second)}, 5, 9},
		"ends within weeks":        {revocation.Selector{FromEpoch: 5, ToEpoch: 9, ExpiresFrom: at(7), ExpiresUntil: at(20)}, 7, 9},
		"weeks within ends":        {revocation.Selector{FromEpoch: 5, ToEpoch: 9, ExpiresFrom: at(2), ExpiresUntil: at(6)}, 5, 7},
		"for ever":                 {revocation.Selector{ExpiresFrom: at(5), ExpiresUntil: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}, 5, 0},
		"before there were weeks":  {revocation.Selector{ExpiresFrom: at(0).Add(-time.Second), ExpiresUntil: at(3)}, 0, 4},
	} {
		if from, to := test.selector.Weeks(); from != test.from || to != test.to {
			t.Errorf("%s: %d to %d; want %d to %d", what, from, to, test.from, test.to)
		}
	}
}

func TestSelectorJSON(t *testing.T) {
	s, err := revocation.ParseSelector("issuer=0102030405060708090a and profile = server and name= dns:a.example and issued >=2026-11-01", family())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"issuer":"0102030405060708090a","profile":"server","issued_from":"2026-11-01T00:00:00Z","names":[{"Type":1,"Value":"a.example"}]}`; string(text) != want {
		t.Errorf("%s", text)
	}
	var back revocation.Selector
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, back); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseSelector(f *testing.F) {
	for _, where := range []string{
		"everything", `account="web team" and name=dns:www.example.com`, "issuer=0102030405060708090a and epoch=400 and index>=1 and index<9",
		"issued>=2026-11-01 and issued<2026-11-02T00:00:00Z", "issued>2026-11-01", "key=" + strings.Repeat("0a", 32), `profile="`, "name=é.example",
	} {
		f.Add(where)
	}
	f.Fuzz(func(t *testing.T, where string) {
		s, err := revocation.ParseSelector(where, family())
		if err != nil {
			if pki.KindOf(err) != pki.KindInvalid {
				t.Errorf("%q: %v", where, err)
			}
			return
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back revocation.Selector
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if again, err := json.Marshal(back); err != nil || string(again) != string(text) {
			t.Errorf("%s became %s, %v", text, again, err)
		}
	})
}

// What is recorded behind a scan, in a range that was open while it passed, is found; and a plan says when it was stored.
func TestJobFindsWhatTheScanMissed(t *testing.T) {
	selectors := map[string]func(i *issuer) revocation.Selector{
		"issuer":  func(i *issuer) revocation.Selector { return revocation.Selector{Issuer: i.id} },
		"profile": func(*issuer) revocation.Selector { return revocation.Selector{Profile: "server"} },
		"keys": func(*issuer) revocation.Selector {
			return revocation.Selector{Keys: []pki.KeyHash{pki.KeyHash(keyOf(1)), pki.KeyHash(keyOf(0)), pki.KeyHash(keyOf(33)), pki.KeyHash(keyOf(2)), pki.KeyHash(keyOf(32))}}
		},
	}
	for name, selector := range selectors {
		t.Run(name, func(t *testing.T) {
			testdb.Each(t, func(t *testing.T, s store.Store) {
				i := newIssuer(t, s, "one", false)
				behind := i.reserve(t, epoch, 0, 16)
				behind.record(t, 1, 2)
				empty := i.reserve(t, epoch, 16, 32)
				second := i.reserve(t, epoch+1, 32, 48)
				second.record(t, 33)
				u := newUniverse(t, s)
				jobs := newJobs(t, s, u, 1)
				job, _, err := jobs.Plan(t.Context(), manager(t), revocation.JobRequest{Selector: selector(i), Reason: pki.Superseded})
				if err != nil {
					t.Fatal(err)
				}
				if stored, err := s.Job(t.Context(), job.ID); err != nil || !stored.CreatedAt.Equal(job.CreatedAt) {
					t.Errorf("planned at %s, stored as %s, %v", job.CreatedAt, stored.CreatedAt, err)
				}
				if job, err = jobs.Start(t.Context(), manager(t), job.ID, 0); err != nil {
					t.Fatal(err)
				}
				for step := 0; ; step++ {
					chunk, err := s.RunChunk(t.Context(), job, revocation.InstanceID{1}, 2, now)
					if err != nil {
						t.Fatal(err)
					}
					if step == 0 { // the scan has passed 1 and 2
						behind.record(t, 0)
						testdb.Exec(t, s, `UPDATE jobs SET started_at = $1`, i.dbTime(now.AddDate(0, 0, 1))) // the clock was set back since
						behind.close(t, 16)
						empty.close(t, 16)                                                                                                          // given back: nothing is on it
						for _, do := range []func(context.Context, auth.Grant, revocation.JobID) (revocation.Job, error){jobs.Pause, jobs.Resume} { // which does not move the beginning of the sweep
							if _, err := do(t.Context(), manager(t), job.ID); err != nil {
								t.Fatal(err)
							}
						}
						if strings.Contains(t.Name(), "postgres") { // the change became visible late
							testdb.Exec(t, s, `UPDATE jobs SET sweeps_from = sweeps_from + interval '30 seconds'`)
						}
					}
					if step == 2 { // the scan has passed this range too, which stays open
						second.record(t, 32)
					}
					if chunk.State == revocation.JobDone {
						break
					}
					if step > 100 {
						t.Fatal("the job does not end")
					}
				}
				done, err := s.Job(t.Context(), job.ID)
				if err != nil || done.Revoked != 5 || done.Skipped != 0 {
					t.Errorf("%+v, %v; want 5 revoked and none skipped", done, err)
				}
			})
		})
	}
}

// TestRemaining: a job says how long it will take only if it was counted what it has to do; that of a blocked key was not.
func TestRemaining(t *testing.T) {
	at := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	running := revocation.Job{State: revocation.JobRunning, Selected: 40, Revoked: 5, Skipped: 5, StartedAt: at}
	change := func(change func(*revocation.Job)) revocation.Job {
		job := running
		change(&job)
		return job
	}
	for name, c := range map[string]struct {
		job  revocation.Job
		left time.Duration
		ok   bool
	}{
		"a quarter":   {running, 3 * time.Minute, true},
		"all":         {change(func(j *revocation.Job) { j.Revoked = 35 }), 0, true},
		"a key's":     {change(func(j *revocation.Job) { j.Selected = 0 }), 0, false},
		"nothing yet": {change(func(j *revocation.Job) { j.Revoked, j.Skipped = 0, 0 }), 0, false},
		"paused":      {change(func(j *revocation.Job) { j.State = revocation.JobPaused }), 0, false},
	} {
		if left, ok := c.job.Remaining(at.Add(time.Minute)); left != c.left || ok != c.ok {
			t.Errorf("%s: %s, %v; want %s, %v", name, left, ok, c.left, c.ok)
		}
	}
}
