package revocation_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/postgres"
	"signet.example/signet/store/sqlite"
)

// jobEnv tells a copy of the test binary to run a job until it is killed: "postgres URL" or "sqlite PATH".
const jobEnv = "SIGNET_TEST_RUN_JOB"

// runJobUntilKilled is the process under test: it does the only running job in small chunks and says so after each.
func runJobUntilKilled(database string) error {
	ctx := context.Background()
	var s store.Store
	var err error
	if url, ok := strings.CutPrefix(database, "postgres "); ok {
		s, err = postgres.Open(ctx, postgres.Config{URL: url, Unsafe: true})
	} else {
		s, err = sqlite.Open(ctx, sqlite.Config{Path: strings.TrimPrefix(database, "sqlite "), Unsafe: true})
	}
	if err != nil {
		return err
	}
	jobs, err := s.Jobs(ctx, revocation.JobFilter{State: revocation.JobRunning}, revocation.JobID{}, 1)
	if err != nil {
		return err
	}
	for len(jobs) > 0 { // none: the database finished the last statement of a process that was killed
		chunk, err := s.RunChunk(ctx, jobs[0], revocation.InstanceID{byte(os.Getpid()), byte(os.Getpid() >> 8), 1}, 5, now)
		if err != nil {
			return err
		}
		fmt.Println("chunk", chunk.State, chunk.Busy)
		if chunk.State == revocation.JobDone {
			return nil
		}
	}
	return nil
}

// A mass revocation whose process is killed, again and again, revokes everything once and nothing twice.
func TestJobKilled(t *testing.T) {
	const n = 300
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		killJob(t, n, "sqlite "+path, func() (store.Store, func()) {
			s := testdb.OpenSQLite(t, path)
			return s, func() { testdb.Close(t, s) }
		})
	})
	t.Run("postgres", func(t *testing.T) {
		url := testdb.URL(t)
		s := testdb.Open(t, url)
		killJob(t, n, "postgres "+url+"&application_name=doomed", func() (store.Store, func()) {
			for { // PostgreSQL finishes the statement of a client that is gone
				if testdb.TryExec(s, `DO 'BEGIN IF EXISTS (SELECT FROM pg_stat_activity WHERE application_name = ''doomed'') THEN RAISE EXCEPTION ''still there''; END IF; END'`) == nil {
					break
				}
				time.Sleep(time.Millisecond) // it tells nobody when that is
			}
			testdb.Exec(t, s, `UPDATE jobs SET lease_until = NULL`) // as if the dead one's lease had passed
			return s, func() {}
		})
	})
}

func killJob(t *testing.T, n uint64, database string, open func() (store.Store, func())) {
	s, closeStore := open()
	i := newIssuer(t, s, "one", false)
	span := i.reserve(t, epoch, 0, n)
	for index := range n {
		span.record(t, index)
	}
	job, _, err := newJobs(t, s, newUniverse(t, s), 1).Plan(t.Context(), manager(t), revocation.JobRequest{Selector: revocation.Selector{Profile: "server"}, Reason: pki.Superseded})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newJobs(t, s, newUniverse(t, s), 1).Start(t.Context(), manager(t), job.ID, 0); err != nil {
		t.Fatal(err)
	}
	closeStore()
	for round := 1; ; round++ {
		killed := runAndKill(t, database, 3*round)
		s, closeStore := open()
		checkJob(t, s, job.ID, n, !killed)
		closeStore()
		if !killed {
			if round == 1 {
				t.Error("the job ended before it was killed once")
			}
			return
		}
	}
}

// runAndKill starts the process and kills it after some chunks; it reports false if the process ended by itself.
func runAndKill(t *testing.T, database string, chunks int) (killed bool) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), jobEnv+"="+database)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range chunks {
		if !lines.Scan() {
			if err := child.Wait(); err != nil {
				t.Fatalf("the job's process: %v", err)
			}
			return false
		}
		if !strings.HasPrefix(lines.Text(), "chunk") || strings.HasSuffix(lines.Text(), "true") {
			t.Fatalf("the job's process says %q", lines.Text())
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // says that it was killed
	return true
}

// checkJob compares what the job says with what the ledger says.
func checkJob(t *testing.T, s store.Store, id revocation.JobID, n uint64, done bool) {
	t.Helper()
	entries, err := s.LedgerEntries(t.Context(), 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for i, e := range entries {
		if e.Seq != uint64(i)+1 || e.Job != id || seen[e.Position.Index] {
			t.Fatalf("entry %d: %+v", i, e)
		}
		seen[e.Position.Index] = true
	}
	job, err := s.Job(t.Context(), id)
	if err != nil || job.Revoked != uint64(len(entries)) || job.LastSeq != uint64(len(entries)) {
		t.Fatalf("the job says %+v, %v; the ledger has %d entries", job, err, len(entries))
	}
	if done && (job.State != revocation.JobDone || job.Revoked != n) {
		t.Errorf("ended as %+v", job)
	}
	if _, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{}); err != nil {
		t.Error(err)
	}
}

// What was acknowledged is there after a power failure of the database, and the ledger goes on without a restart.
func TestDatabaseKilled(t *testing.T) {
	const n = 60
	server := testdb.Durable(t)
	s := testdb.Open(t, server.URL(t))
	i := newIssuer(t, s, "one", false)
	span := i.reserve(t, epoch, 0, n)
	for index := range uint64(n) {
		span.record(t, index)
	}
	u := newUniverse(t, s)
	l := newLedger(t, s, u)
	var wg sync.WaitGroup
	acknowledged := make(chan uint64, n)
	for index := range uint64(n) {
		wg.Go(func() {
			if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: span.claim(index).Key}); err == nil {
				acknowledged <- index
			} else if pki.KindOf(err) != pki.KindUnavailable {
				t.Errorf("index %d: %v", index, err)
			}
		})
		if index == n/2 {
			first := <-acknowledged // at least one is, and some are in flight
			acknowledged <- first
			server.Kill(t)
		}
	}
	wg.Wait()
	close(acknowledged)
	server.Start(t)
	restarted := newUniverse(t, s)
	for index := range acknowledged {
		if answer := lookup(t, restarted, i.id, span.serial(index)); answer.Status != pki.StatusRevoked {
			t.Errorf("index %d was acknowledged, and is %s after the failure", index, answer.Status)
		}
	}
	for index := range uint64(n) { // repeating is the cure for every error
		if _, err := l.Revoke(t.Context(), admin(t), revocation.Request{Key: span.claim(index).Key}); err != nil {
			t.Errorf("index %d, repeated: %v", index, err)
		}
	}
	if head, err := s.LedgerHead(t.Context()); err != nil || head != n || u.Seq() != n {
		t.Errorf("the ledger ends at %d, %v, memory at %d; want %d", head, err, u.Seq(), n)
	}
	if _, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{}); err != nil {
		t.Error(err)
	}
}
