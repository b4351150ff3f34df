package postgres_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store/postgres"
)

// The races of REVOCATION.md, section 1, made to happen: a transaction is held at its last lock, the audit head, with
// everything else done and nothing committed, while another runs against it. Each of these tests fails when the lock it
// is about is taken out of the migration.

func TestMain(m *testing.M) {
	if url := os.Getenv("SIGNET_TEST_STOP_INSIDE"); url != "" {
		stopInside(url)
		return
	}
	testdb.Main(m)
}

var at = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// rig is a database with an issuer and an open range, and a hand on the audit head.
type rig struct {
	t     *testing.T
	url   string
	a, b  *postgres.Store // two instances
	open  ca.Range
	owner ca.OwnerID
	hand  *pgx.Conn
	eye   *pgx.Conn // a transaction sees one snapshot of the waiting backends, so the hand cannot look
}

func newRig(t *testing.T) *rig {
	t.Helper()
	url := testdb.URL(t)
	r := &rig{t: t, url: url, a: testdb.Open(t, url), b: testdb.Open(t, url), owner: ca.OwnerID{1}}
	spki := []byte{0x30, 2, 5, 1}
	key := pki.HashSPKI(spki)
	event := audit.Event{At: at, Actor: "system:test", Action: "issuer.create", Outcome: audit.OK}
	if err := r.a.CreateIssuer(t.Context(), ca.Issuer{ID: key.Issuer(), Label: "one", KeyURI: "softkey:one", Subject: []byte{0x30, 1, 1}, SPKI: spki, KeyHash: key,
		State: ca.IssuerPending, BaseURL: "http://pki.test", CreatedAt: at}, event); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.open, err = r.a.Reserve(t.Context(), ca.Reservation{Issuer: key.Issuer(), Epoch: 400, Count: 16, Owner: r.owner, Lease: time.Minute}); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []**pgx.Conn{&r.hand, &r.eye} {
		if *conn, err = pgx.Connect(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*conn).Close(context.Background()) })
	}
	return r
}

// hold locks the audit head, and release lets it go.
func (r *rig) hold()    { r.exec(`BEGIN; SELECT FROM audit_head FOR UPDATE`) }
func (r *rig) release() { r.exec(`COMMIT`) }

func (r *rig) exec(statement string) {
	r.t.Helper()
	if _, err := r.hand.Exec(r.t.Context(), statement); err != nil {
		r.t.Fatal(err)
	}
}

// waiters waits until n transactions wait for locks, or until one of done is closed.
func (r *rig) waiters(n int, done ...<-chan struct{}) {
	r.t.Helper()
	for {
		var waiting int
		if err := r.eye.QueryRow(r.t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting); err != nil {
			r.t.Fatal(err)
		}
		if waiting >= n {
			return
		}
		for _, d := range done {
			select {
			case <-d:
				return
			default:
			}
		}
		time.Sleep(time.Millisecond) // PostgreSQL does not notify when a backend begins to wait
	}
}

// spawn runs a mutation and returns a channel that is closed when it ended.
func (r *rig) spawn(do func() error) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := do(); err != nil {
			r.t.Error(err)
		}
	}()
	return done
}

func (r *rig) entry(index uint64) ca.Entry {
	return ca.Entry{
		Certificate: inventory.Certificate{Issuer: r.open.Issuer, Position: pki.Position{Epoch: r.open.Epoch, Index: index}, Serial: pki.Serial{0x41, byte(index)}, Profile: "server",
			Account: "web", KeyHash: sha256.Sum256([]byte("key")), NotBefore: at, NotAfter: time.Unix(r.open.Epoch.Start(), 0).UTC(), IssuedAt: at, DER: []byte{0x30, 0}},
		Range: r.open.ID, KeyMaterial: pki.KeyHash{2}, Event: r.event(),
	}
}

func (r *rig) event() audit.Event {
	return audit.Event{At: at, Actor: "token:web", Action: "certificate.issue", Outcome: audit.OK}
}

func (r *rig) revocation(index uint64) []revocation.NewEntry {
	return []revocation.NewEntry{{Entry: revocation.Entry{Issuer: r.open.Issuer, Serial: pki.Serial{0x41, byte(index)}, Position: pki.Position{Epoch: r.open.Epoch, Index: index},
		Kind: revocation.KindRevoke, RevokedAt: at, Actor: "token:web"}}}
}

// Append against append: while one is not committed, no later sequence becomes visible.
func TestAppendWaitsForAppend(t *testing.T) {
	r := newRig(t)
	r.hold()
	first := r.spawn(func() error {
		_, err := r.a.AppendLedger(t.Context(), 0, r.revocation(1), []audit.Event{r.event()})
		return err
	})
	r.waiters(1)
	second := r.spawn(func() error { // without an event it needs no audit head
		_, err := r.b.AppendLedger(t.Context(), 0, r.revocation(2), nil)
		return err
	})
	r.waiters(2, second)
	entries, err := r.a.LedgerEntries(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 0 {
		t.Errorf("entry %d is visible before an earlier one is committed: a reader that goes on from it misses that one", entries[0].Seq)
	}
	r.release()
	<-first
	<-second
	if entries, err := r.a.LedgerEntries(t.Context(), 0, 10); err != nil || len(entries) != 2 || entries[0].Position.Index != 1 {
		t.Errorf("%+v, %v", entries, err)
	}
}

// Issue against block: a certificate recorded while its key is blocked is revoked.
func TestBlockWaitsForRecord(t *testing.T) {
	r := newRig(t)
	var outcomes []ca.Outcome
	var receipt revocation.BlockReceipt
	r.hold()
	recorded := r.spawn(func() (err error) {
		outcomes, err = r.a.Record(t.Context(), r.owner, []ca.Entry{r.entry(1)})
		return err
	})
	r.waiters(1)
	blocked := r.spawn(func() (err error) {
		receipt, _, err = r.b.BlockKey(t.Context(), r.block(), revocation.Job{ID: revocation.JobID{1}, Actor: "a"}, at, 100, 0)
		return err
	})
	r.waiters(2, blocked)
	r.release()
	<-recorded
	<-blocked
	if outcomes[0] != ca.Recorded || receipt.Revoked != 1 {
		t.Errorf("outcome %d, %d revoked: a certificate with a blocked key is in force", outcomes[0], receipt.Revoked)
	}
}

// The other way round: what is recorded while a key is being blocked is refused.
func TestRecordWaitsForBlock(t *testing.T) {
	r := newRig(t)
	var outcomes []ca.Outcome
	r.hold()
	blocked := r.spawn(func() error {
		_, _, err := r.b.BlockKey(t.Context(), r.block(), revocation.Job{ID: revocation.JobID{1}, Actor: "a"}, at, 100, 0)
		return err
	})
	r.waiters(1)
	recorded := r.spawn(func() (err error) {
		outcomes, err = r.a.Record(t.Context(), r.owner, []ca.Entry{r.entry(1)})
		return err
	})
	r.waiters(2, recorded)
	r.release()
	<-recorded
	<-blocked
	if outcomes[0] != ca.KeyBlocked {
		t.Errorf("outcome %d: a certificate with a blocked key is in force", outcomes[0])
	}
}

func (r *rig) block() revocation.KeyBlock {
	return revocation.KeyBlock{SPKI: r.entry(0).KeyHash, Material: r.entry(0).KeyMaterial, Proof: revocation.ProofOfficer}
}

// Record against close: an index that is being recorded while another instance closes the range is not void.
func TestCloseWaitsForRecord(t *testing.T) {
	r := newRig(t)
	var outcomes []ca.Outcome
	var voids int
	testdb.Exec(t, r.a, `UPDATE ranges SET lease_until = clock_timestamp() - interval '1 second'`)
	closing := ca.Closing{Range: r.open.ID, Closer: ca.OwnerID{2}, Key: pki.RangeKey{1}, Event: r.event()}
	for index := r.open.From; index < r.open.To; index++ {
		closing.Serials = append(closing.Serials, pki.Serial{0x41, byte(index)})
	}
	r.hold()
	recorded := r.spawn(func() (err error) {
		outcomes, err = r.a.Record(t.Context(), r.owner, []ca.Entry{r.entry(1)})
		return err
	})
	r.waiters(1)
	closed := r.spawn(func() (err error) {
		voids, err = r.b.CloseRange(t.Context(), closing)
		return err
	})
	r.waiters(2, closed)
	r.release()
	<-recorded
	<-closed
	if want := int(r.open.To-r.open.From) - 1; outcomes[0] != ca.Recorded || voids != want {
		t.Errorf("outcome %d, %d void; want %d: the certificate is recorded and void at once", outcomes[0], voids, want)
	}
}

// What a job or the blocking of a key judged is not appended if another append came between: it is judged again.
func TestJudgedAgain(t *testing.T) {
	for _, what := range []string{"job", "block"} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			if _, err := r.a.Record(t.Context(), r.owner, []ca.Entry{r.entry(1)}); err != nil {
				t.Fatal(err)
			}
			job := revocation.Job{ID: revocation.JobID{1}, State: revocation.JobPlanned, Selector: revocation.Selector{Everything: true}, Reason: pki.KeyCompromise, Actor: "a"}
			if _, err := r.a.CreateJob(t.Context(), job, nil, time.Now(), r.event()); err != nil {
				t.Fatal(err)
			}
			if _, err := r.a.MoveJob(t.Context(), job.ID, []revocation.JobState{revocation.JobPlanned}, revocation.JobRunning, "", r.event()); err != nil {
				t.Fatal(err)
			}
			r.hold()
			first := r.spawn(func() error {
				_, err := r.a.AppendLedger(t.Context(), 0, r.revocation(1), []audit.Event{r.event()})
				return err
			})
			r.waiters(1)
			var judged error
			second := r.spawn(func() error {
				if what == "job" {
					_, judged = r.b.RunChunk(t.Context(), job, revocation.InstanceID{1}, 10, at)
				} else {
					_, _, judged = r.b.BlockKey(t.Context(), r.block(), revocation.Job{ID: revocation.JobID{2}, Actor: "a"}, at, 100, 0)
				}
				return nil
			})
			r.waiters(2, second)
			r.release()
			<-first
			<-second
			if entries, err := r.a.LedgerEntries(t.Context(), 0, 10); !errors.Is(judged, revocation.ErrStale) || err != nil || len(entries) != 1 {
				t.Errorf("%v with %d entries, want ErrStale and one: %v", judged, len(entries), err)
			}
		})
	}
}

// A choice made ahead is used only at its place in the job, and is judged when it is written: nothing is lost and
// nothing revoked twice, whatever happens in between.
func TestChosenAhead(t *testing.T) {
	for _, test := range []struct {
		name    string
		between func(r *rig, id revocation.JobID)
		// Of instance 1, after the first chunk, in which it revoked 1 and 2 and then chose 4 and 6.
		next  []revocation.Chunk
		order []int64 // in which all are revoked in the end
	}{
		{"nothing", func(*rig, revocation.JobID) {}, []revocation.Chunk{{Revoked: 2, Seq: 4}, {Revoked: 2, Seq: 6}}, []int64{1, 2, 4, 6, 8, 9, 10}},
		{"one was recorded, which the sweep finds", func(r *rig, _ revocation.JobID) { r.record(3) },
			[]revocation.Chunk{{Revoked: 2, Seq: 4}, {Revoked: 2, Seq: 6}}, []int64{1, 2, 4, 6, 8, 9, 10, 3}},
		{"the first was revoked", func(r *rig, _ revocation.JobID) { r.revoke(4) },
			[]revocation.Chunk{{Revoked: 1, Skipped: 1, Seq: 4}, {Revoked: 2, Seq: 6}}, []int64{1, 2, 4, 6, 8, 9, 10}},
		{"the last was revoked", func(r *rig, _ revocation.JobID) { r.revoke(6) },
			[]revocation.Chunk{{Revoked: 1, Skipped: 1, Seq: 4}, {Revoked: 2, Seq: 6}}, []int64{1, 2, 6, 4, 8, 9, 10}},
		{"another instance did more", func(r *rig, id revocation.JobID) {
			r.leave(1)
			for range 2 {
				r.chunk(r.b, id, 2, 1)
			}
			r.leave(2)
			r.record(7)
		}, []revocation.Chunk{{Revoked: 2, Seq: 6}, {Revoked: 2, Seq: 8}}, []int64{1, 2, 4, 6, 7, 8, 9, 10}},
		{"another instance sweeps", func(r *rig, id revocation.JobID) {
			r.leave(1)
			r.chunk(r.b, id, 2, 10)
			r.chunk(r.b, id, 2, 10) // nothing is left
			r.chunk(r.b, id, 2, 2)  // 1 and 2 again
			r.leave(2)
			r.record(3)
		}, []revocation.Chunk{{Revoked: 1, Seq: 8}, {Seq: 8}}, []int64{1, 2, 4, 6, 8, 9, 10, 3}},
		{"another instance does more", func(r *rig, id revocation.JobID) {
			r.leave(1)
			r.chunk(r.b, id, 2, 1)
		}, []revocation.Chunk{{Busy: true, Seq: 3}, {Busy: true, Seq: 3}}, []int64{1, 2, 4, 6, 8, 9, 10}},
		{"it is paused", func(r *rig, id revocation.JobID) { r.move(id, revocation.JobPaused) },
			[]revocation.Chunk{{State: revocation.JobPaused, Seq: 2}, {State: revocation.JobPaused, Seq: 2}}, []int64{1, 2, 4, 6, 8, 9, 10}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			for _, index := range []uint64{1, 2, 4, 6, 8, 9, 10} {
				r.record(index)
			}
			job := revocation.Job{ID: revocation.JobID{1}, State: revocation.JobPlanned, Selector: revocation.Selector{Everything: true}, Reason: pki.Superseded, Actor: "a"}
			if _, err := r.a.CreateJob(t.Context(), job, nil, at, r.event()); err != nil {
				t.Fatal(err)
			}
			if _, err := r.a.StartJob(t.Context(), job.ID, 0, at, r.event()); err != nil {
				t.Fatal(err)
			}
			r.chunk(r.a, job.ID, 1, 2)
			test.between(r, job.ID)
			for i, want := range test.next {
				if want.State == 0 {
					want.State = revocation.JobRunning
				}
				got := r.chunk(r.a, job.ID, 1, 2)
				if got.Held = 0; got != want {
					t.Errorf("chunk %d: %+v, want %+v", i+2, got, want)
				}
			}

			// However it continued, another runner completes it.
			r.leave(1)
			r.leave(2)
			r.move(job.ID, revocation.JobRunning)
			for chunk := r.chunk(r.a, job.ID, 1, 2); chunk.State != revocation.JobDone; chunk = r.chunk(r.a, job.ID, 1, 2) {
			}
			var order []int64
			if err := r.eye.QueryRow(t.Context(), `SELECT array_agg(idx ORDER BY seq) FROM ledger`).Scan(&order); err != nil || !slices.Equal(order, test.order) {
				t.Errorf("revoked %d, want %d: %v", order, test.order, err)
			}
		})
	}
}

// What was chosen ahead for one job is nothing to another, even if that stands in the same place.
func TestChosenAheadForAnotherJob(t *testing.T) {
	r := newRig(t)
	both, one, other := r.entry(2), r.entry(4), r.entry(5)
	one.Account, other.Profile = "mail", "client"
	for _, e := range []ca.Entry{both, one, other} {
		if outcomes, err := r.a.Record(t.Context(), r.owner, []ca.Entry{e}); err != nil || outcomes[0] != ca.Recorded {
			t.Fatal(outcomes, err)
		}
	}
	servers := revocation.Job{ID: revocation.JobID{1}, State: revocation.JobPlanned, Selector: revocation.Selector{Profile: "server"}, Reason: pki.Superseded, Actor: "a"}
	web := revocation.Job{ID: revocation.JobID{2}, State: revocation.JobPlanned, Selector: revocation.Selector{Account: "web"}, Reason: pki.Superseded, Actor: "a"}
	for _, job := range []revocation.Job{servers, web} {
		if _, err := r.a.CreateJob(t.Context(), job, nil, at, r.event()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.a.StartJob(t.Context(), job.ID, 0, at, r.event()); err != nil {
			t.Fatal(err)
		}
	}
	r.chunk(r.a, servers.ID, 1, 1) // revokes 2, and then chooses 4
	r.chunk(r.b, web.ID, 2, 1)     // skips 2
	r.leave(2)
	r.chunk(r.a, web.ID, 1, 1)
	var revoked []int64
	if err := r.eye.QueryRow(t.Context(), `SELECT array_agg(idx ORDER BY seq) FROM ledger`).Scan(&revoked); err != nil || !slices.Equal(revoked, []int64{2, 5}) {
		t.Errorf("revoked %d, want 2 and 5: %v", revoked, err)
	}
}

func (r *rig) record(index uint64) {
	r.t.Helper()
	if outcomes, err := r.a.Record(r.t.Context(), r.owner, []ca.Entry{r.entry(index)}); err != nil || outcomes[0] != ca.Recorded {
		r.t.Fatal(outcomes, err)
	}
}

func (r *rig) revoke(index uint64) {
	r.t.Helper()
	if _, err := r.b.AppendLedger(r.t.Context(), 0, r.revocation(index), nil); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) chunk(s *postgres.Store, id revocation.JobID, runner byte, limit int) revocation.Chunk {
	r.t.Helper()
	job, err := s.Job(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	chunk, err := s.RunChunk(r.t.Context(), job, revocation.InstanceID{runner}, limit, at)
	if err != nil {
		r.t.Fatal(err)
	}
	return chunk
}

func (r *rig) leave(runner byte) {
	r.t.Helper()
	if err := r.a.LeaveJobs(r.t.Context(), revocation.InstanceID{runner}); err != nil {
		r.t.Fatal(err)
	}
}

// move moves a job from running to paused, or back.
func (r *rig) move(id revocation.JobID, to revocation.JobState) {
	r.t.Helper()
	if _, err := r.a.MoveJob(r.t.Context(), id, []revocation.JobState{revocation.JobRunning, revocation.JobPaused}, to, "", r.event()); err != nil {
		r.t.Fatal(err)
	}
}

// A caller that starts a job and is cut off while the audit head is locked is not waited for: the job runs, and the
// next one continues.
func TestStartWaitsForNobody(t *testing.T) {
	r := newRig(t)
	proxy := testdb.NewProxy(t, r.url)
	cut := testdb.Open(t, proxy.URL)
	job := revocation.Job{ID: revocation.JobID{1}, State: revocation.JobPlanned, Selector: revocation.Selector{Everything: true}, Reason: pki.Superseded, Actor: "a"}
	if _, err := r.a.CreateJob(t.Context(), job, nil, at, r.event()); err != nil {
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	r.hold()
	started := r.spawn(func() error {
		_, _ = cut.StartJob(ctx, job.ID, 0, at, r.event()) // it never learns
		return nil
	})
	r.waiters(1)
	proxy.FreezeAll()
	appended := r.spawn(func() error {
		_, err := r.a.AppendLedger(t.Context(), 0, r.revocation(1), []audit.Event{r.event()})
		return err
	})
	r.waiters(2)
	r.release()
	<-appended // so it had the audit head after the start
	if job, err := r.b.Job(t.Context(), job.ID); err != nil || job.State != revocation.JobRunning {
		t.Errorf("%s, %v: the start waited for a client that is gone, with everybody behind it", job.State, err)
	}
	giveUp()
	<-started
}

// Record against record: two certificates for one approval; the second is told so.
func TestApprovalIsTakenOnce(t *testing.T) {
	r := newRig(t)
	application := approval.Application{ID: ca.ApprovalID{1}, Request: ca.Request{Profile: "server"}, Requester: auth.Principal{Account: "web"}}
	if _, err := r.a.File(t.Context(), application, time.Hour, approval.Bounds{PerAccount: 1, Total: 1}, r.event()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.a.Decide(t.Context(), approval.Decision{ID: application.ID, From: approval.Pending, To: approval.Approved, Expires: time.Hour, Event: r.event()}); err != nil {
		t.Fatal(err)
	}
	record := func(s *postgres.Store, index uint64, outcome *ca.Outcome) <-chan struct{} {
		return r.spawn(func() error {
			e := r.entry(index)
			e.Approval = application.ID
			outcomes, err := s.Record(t.Context(), r.owner, []ca.Entry{e})
			if err == nil {
				*outcome = outcomes[0]
			}
			return err
		})
	}
	var first, second ca.Outcome
	r.hold()
	one := record(r.a, 1, &first)
	r.waiters(1)
	two := record(r.b, 2, &second)
	r.waiters(2, two)
	r.release()
	<-one
	<-two
	if first != ca.Recorded || second != ca.ApprovalUsed {
		t.Errorf("outcomes %d and %d", first, second)
	}
}

// File against file: the bound counts what is being filed.
func TestFileWaitsForFile(t *testing.T) {
	r := newRig(t)
	file := func(s *postgres.Store, id byte) error {
		application := approval.Application{ID: ca.ApprovalID{id}, Request: ca.Request{Profile: "server"}, Requester: auth.Principal{Account: "web"}}
		_, err := s.File(t.Context(), application, time.Hour, approval.Bounds{PerAccount: 1, Total: 5}, r.event())
		return err
	}
	r.hold()
	first := r.spawn(func() error { return file(r.a, 1) })
	r.waiters(1)
	var refused error
	second := r.spawn(func() error { refused = file(r.b, 2); return nil })
	r.waiters(2, second)
	r.release()
	<-first
	<-second
	if pki.KindOf(refused) != pki.KindExhausted {
		t.Errorf("one more than the bound: %v", refused)
	}
}

// Succession against succession: two changes at once make no circle.
func TestSuccessionWaitsForSuccession(t *testing.T) {
	r := newRig(t)
	spki := []byte{0x30, 2, 5, 2}
	key := pki.HashSPKI(spki)
	if err := r.a.CreateIssuer(t.Context(), ca.Issuer{ID: key.Issuer(), Label: "two", KeyURI: "softkey:two", Subject: []byte{0x30, 1, 2}, SPKI: spki, KeyHash: key, BaseURL: "http://pki.test", CreatedAt: at}, r.event()); err != nil {
		t.Fatal(err)
	}
	succeed := func(s *postgres.Store, issuer, before pki.IssuerID) error {
		return s.UpdateIssuer(t.Context(), issuer, ca.IssuerChange{Succeeds: &before}, r.event())
	}
	r.hold()
	first := r.spawn(func() error { return succeed(r.a, r.open.Issuer, key.Issuer()) })
	r.waiters(1)
	var refused error
	second := r.spawn(func() error { refused = succeed(r.b, key.Issuer(), r.open.Issuer); return nil })
	r.waiters(2, second)
	r.release()
	<-first
	<-second
	if pki.KindOf(refused) != pki.KindInvalid {
		t.Errorf("each succeeds the other: %v", refused)
	}
}

// Two certificates for an issuer that has none: the first of them is chosen.
func TestFirstCertificateIsChosen(t *testing.T) {
	r := newRig(t)
	add := func(s *postgres.Store, n byte) <-chan struct{} {
		return r.spawn(func() error {
			return s.AddIssuerCertificate(t.Context(), r.open.Issuer, ca.IssuerCertificate{DER: []byte{0x30, 1, n}, NotAfter: at, AddedAt: at}, r.event())
		})
	}
	r.hold()
	first := add(r.a, 1)
	r.waiters(1)
	second := add(r.b, 2)
	r.waiters(2, second)
	r.release()
	<-first
	<-second
	if issuers, err := r.a.Issuers(t.Context()); err != nil || len(issuers[0].Certificates) != 2 || issuers[0].Certificates[0].DER[2] != 1 || issuers[0].Certificates[1].Chosen {
		t.Errorf("%+v, %v", issuers, err)
	}
}

// Reserve against reserve: the one that waited for the week begins where the other ended.
func TestReserveWaitsForReserve(t *testing.T) {
	r := newRig(t)
	r.exec(`BEGIN; SELECT FROM epochs FOR UPDATE`)
	var reserved ca.Range
	done := r.spawn(func() (err error) {
		reserved, err = r.a.Reserve(t.Context(), ca.Reservation{Issuer: r.open.Issuer, Epoch: r.open.Epoch, Count: 16, Owner: r.owner, Lease: time.Minute})
		return err
	})
	r.waiters(1, done)
	r.exec(`UPDATE epochs SET next_idx = next_idx + 16`)
	r.release()
	<-done
	if reserved.From != r.open.To+16 {
		t.Errorf("reserved from %d, want %d", reserved.From, r.open.To+16)
	}
}

// An instance that waited for a lease sees that another has published in the meantime, and leaves the series to it.
func TestBeginSeesWhatWasPublished(t *testing.T) {
	r := newRig(t)
	series, me, other := crlserver.Series{Issuer: r.open.Issuer}, revocation.InstanceID{1}, revocation.InstanceID{2}
	number, ok, err := r.a.BeginPublication(t.Context(), series, me, 0, 0)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	head := crlserver.Head{List: crlserver.List{Series: series, Kind: crlserver.KindComplete}, Number: number, Signature: crl.Signature{Value: []byte{1}}}
	if err := r.a.FinishPublication(t.Context(), me, series, number, []crlserver.Head{head}, nil); err != nil {
		t.Fatal(err)
	}
	// As a publisher does.
	r.exec(`BEGIN; UPDATE publication_series SET number = number + 1; UPDATE publications SET number = number + 1`)
	done := r.spawn(func() (err error) {
		_, ok, err = r.b.BeginPublication(t.Context(), series, other, number, time.Minute)
		return err
	})
	r.waiters(1, done)
	r.release()
	<-done
	if ok {
		t.Error("it begins without having seen the last list")
	}
	if _, ok, err := r.a.BeginPublication(t.Context(), series, me, number+1, time.Minute); err != nil || !ok {
		t.Errorf("it keeps the lease: %t, %v", ok, err)
	}
}

// Renew against record: both lock range rows in order of id, or they lock each other up.
func TestRenewLocksInOrder(t *testing.T) {
	r := newRig(t)
	later, err := r.a.Reserve(t.Context(), ca.Reservation{Issuer: r.open.Issuer, Epoch: 401, Count: 16, Nonce: pki.RangeNonce{2}, Owner: r.owner, Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	// Whether the table is scanned or the index on leases, the later range is found first.
	testdb.Exec(t, r.a, fmt.Sprintf(`UPDATE ranges SET lease_until = lease_until + interval '1 hour' WHERE id = %d`, r.open.ID))
	// As signet_record locks its first range.
	r.exec(fmt.Sprintf(`BEGIN; SELECT FROM ranges WHERE id = %d FOR SHARE`, r.open.ID))
	renewed := r.spawn(func() error {
		n, err := r.a.RenewLeases(t.Context(), r.owner, time.Minute)
		if err == nil && n != 2 {
			t.Errorf("%d leases renewed, want 2", n)
		}
		return err
	})
	r.waiters(1, renewed)
	r.exec(fmt.Sprintf(`SELECT FROM ranges WHERE id = %d FOR SHARE NOWAIT`, later.ID)) // and its second
	r.release()
	<-renewed
}

// A process that is stopped inside a transaction holds the ledger for two seconds at most.
func TestStoppedProcess(t *testing.T) {
	r := newRig(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "SIGNET_TEST_STOP_INSIDE="+r.url)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill() // it may have ended
		_ = child.Wait()
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// lock_timeout of the pool is 10 s: only the server's own timeout on the stopped process lets this through.
	if last, err := r.a.AppendLedger(t.Context(), 0, r.revocation(1), []audit.Event{r.event()}); err != nil || last != 1 {
		t.Errorf("append beside a stopped process: %d, %v", last, err)
	}
}

// stopInside is the other process of TestStoppedProcess: it locks the ledger's head inside a transaction of the pool.
func stopInside(url string) {
	ctx := context.Background()
	s, err := postgres.Open(ctx, postgres.Config{URL: url, Unsafe: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	tx, err := s.TestingOnlyPool().Begin(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := tx.Exec(ctx, `UPDATE ledger_head SET seq = seq + 1`); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("locked")
	select {}
}
