package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store/sqlite"
)

func open(path, purpose string) (*sqlite.Store, error) {
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path, Purpose: purpose, Unsafe: true})
	return s, err
}

// openBeside opens a new store, and its file once more for what the store does not do.
func openBeside(t *testing.T) (*sqlite.Store, *sql.DB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "signet.db")
	s, err := open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return s, db
}

// The samples of a foreign ANALYZE are gone when the file is opened again.
func TestSamplesAreForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signet.db")
	samples := func(first string) (count int) {
		s, err := open(path, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(first); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRow(`SELECT count(*) FROM sqlite_stat4`).Scan(&count); err != nil {
			t.Fatal(err)
		}
		return count
	}
	if samples(`ANALYZE`) == 0 {
		t.Fatal("this SQLite takes no samples: the test tests nothing")
	}
	if n := samples(`SELECT 1`); n != 0 {
		t.Errorf("%d samples after it was opened", n)
	}
}

// One process at a time opens a file; the second is told who the first is.
func TestOneProcessOpensAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signet.db")
	first, err := open(path, "signet serve")
	if err != nil {
		t.Fatal(err)
	}
	_, err = open(path, "signet serve")
	locked, ok := errors.AsType[*sqlite.LockedError](err)
	if want := fmt.Sprintf("signet serve (process %d)", os.Getpid()); !ok || pki.KindOf(err) != pki.KindFailedPrecondition || locked.Holder != want {
		t.Fatalf("second open: %v; want it to name %q", err, want)
	}
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err = open(link, "signet serve"); pki.KindOf(err) != pki.KindFailedPrecondition || err == nil {
		t.Errorf("opened a second time by another name: %v", err)
	}
	if status, err := sqlite.Status(t.Context(), sqlite.Config{Path: path}); err != nil || status.Version == 0 || status.Version != status.Latest {
		t.Errorf("status beside a running process: %+v, %v", status, err)
	}
	if err := first.AppendAudit(t.Context(), []audit.Event{{Actor: "a", Outcome: audit.OK}}); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if head, err := again.AuditHead(t.Context()); err != nil || head.Seq != 1 {
		t.Errorf("what was written: %+v, %v", head, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others may read it", info.Mode(), err)
	}
}

// A link is locked by its own name too: when its target was not there yet, there was no other.
func TestOneProcessOpensALink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(filepath.Join(t.TempDir(), "signet.db"), link); err != nil {
		t.Fatal(err)
	}
	first, err := open(link, "signet serve")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := open(link, "signet serve")
	if _, ok := errors.AsType[*sqlite.LockedError](err); !ok {
		t.Errorf("second open: %v", err)
	}
	if err == nil {
		second.Close()
	}
}

// A directory under two names has one file with one lock.
func TestOpenThroughALinkedDirectory(t *testing.T) {
	dir, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	first, err := open(filepath.Join(link, "signet.db"), "signet serve")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if again, err := open(filepath.Join(dir, "signet.db"), "signet serve"); err == nil {
		again.Close()
		t.Error("opened a second time")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		kind pki.Kind
	}{
		{"", pki.KindInvalid},
		{filepath.Join(dir, "missing", "signet.db"), pki.KindFailedPrecondition},
		{garbage, pki.KindFailedPrecondition},
		{dir, pki.KindFailedPrecondition},
	} {
		s, err := open(test.path, "")
		if err == nil {
			s.Close()
		}
		if err == nil || pki.KindOf(err) != test.kind {
			t.Errorf("%q: %v; want %s", test.path, err, test.kind)
		}
	}
	odd := filepath.Join(dir, "odd ?name#%20.db")
	s, err := open(odd, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Stat(odd); err != nil {
		t.Errorf("a path with odd characters: %v", err)
	}
}

// Tables that are not those the statements were written for are the operator's to mend, and he is told how.
func TestOtherSchema(t *testing.T) {
	s, db := openBeside(t)
	if _, err := db.Exec("ALTER TABLE credentials RENAME COLUMN role TO rank"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Credential(t.Context(), "admin")
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || !strings.Contains(e.Hint, "signet migrate") {
		t.Errorf("%v (%s)", err, pki.KindOf(err))
	}
}

// The authorities among what is selected are counted by their index, whatever selects: the writers wait meanwhile.
func TestAuthoritiesAreCountedByTheirIndex(t *testing.T) {
	s, db := openBeside(t)
	at := time.Now()
	selectors := []revocation.Selector{
		{Everything: true}, {Profile: "server"}, {Account: "a"}, {IssuedFrom: at}, {ExpiresUntil: at}, {Keys: []pki.KeyHash{{1}}},
		{Names: []pki.Identifier{{Type: pki.DNS, Value: "a.example"}}}, {Issuer: pki.IssuerID{1}, FromEpoch: 2900, ToEpoch: 2901, FromIndex: 1, ToIndex: 9},
	}
	create := func(n int) error {
		job := revocation.Job{ID: revocation.JobID{byte(n)}, State: revocation.JobPlanned, Selector: selectors[n%len(selectors)], Actor: "a"}
		_, err := s.CreateJob(t.Context(), job, nil, at, audit.Event{At: at, Actor: "a", Action: "job.create", Target: "job", Outcome: audit.OK})
		return err
	}
	for n := range selectors {
		if err := create(n); err != nil {
			t.Errorf("%+v: %v", selectors[n], err)
		}
	}
	if _, err := db.Exec(`DROP INDEX certificates_authorities`); err != nil {
		t.Fatal(err)
	}
	for n := range selectors {
		if err := create(len(selectors) + n); err == nil {
			t.Errorf("%+v: all that is selected was read", selectors[n])
		}
	}
}

// What bears an epoch's end out is read once an hour, for it takes as long as the log of a day is, and no writer waits
// for it.
func TestWhatBearsOutAnEndIsReadOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signet.db")
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Unsafe: true, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	exec := func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	const abandoned = `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
		VALUES (x'01', 10, 0, 1, 3, 0, zeroblob(16), zeroblob(16), '', 0, 0)`
	drop := func(want int) {
		t.Helper()
		done, err := s.DropEpoch(t.Context(), 10, 0, 1)
		if err != nil || !done {
			t.Errorf("done %t, %v", done, err)
		}
		var left int
		if err := db.QueryRow(`SELECT count(*) FROM ranges`).Scan(&left); err != nil || left != want {
			t.Errorf("%d ranges are left, want %d (%v)", left, want, err)
		}
	}

	exec(abandoned)
	exec(`BEGIN IMMEDIATE`)
	drop(1) // nothing confirms the end, and the caller does not write
	exec(`ROLLBACK`)
	if err := s.AppendAudit(t.Context(), []audit.Event{{At: now.Add(-48 * time.Hour), Actor: "a", Action: "b.c", Target: "t", Outcome: audit.OK}}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	drop(0)

	exec(abandoned)
	exec(`ALTER TABLE audit_events RENAME TO elsewhere`)
	now = now.Add(59 * time.Minute)
	drop(0)
	now = now.Add(time.Minute)
	if _, err := s.DropEpoch(t.Context(), 10, 0, 1); err == nil {
		t.Error("it was not read again after an hour")
	}
	now = now.Add(-2 * time.Hour)
	if _, err := s.DropEpoch(t.Context(), 10, 0, 1); err == nil {
		t.Error("it was not read again after the clock went back")
	}
}

// A process that was killed leaves leases behind; the next process to open the file knows that it is gone.
func TestOpenEndsLeases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signet.db")
	series := crlserver.Series{Issuer: pki.IssuerID{1}}
	for owner := range byte(3) {
		s, err := open(path, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.BeginPublication(t.Context(), series, revocation.InstanceID{owner}, 0, time.Hour); !ok || err != nil {
			t.Errorf("process %d waits for the lease of one that is gone: %t, %v", owner, ok, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// If a clock is set back, by however much, readers that ask for changes since a time still see every range.
func TestRangesAreSeenThoughTheClockGoesBack(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "signet.db"), Unsafe: true, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	issuer := ca.Issuer{ID: pki.IssuerID{1}, Label: "one", Subject: []byte{1}, SPKI: []byte{1}, KeyHash: pki.KeyHash{1}, CreatedAt: now}
	if err := s.CreateIssuer(t.Context(), issuer, audit.Event{Actor: "a", Outcome: audit.OK}); err != nil {
		t.Fatal(err)
	}
	var since time.Time
	seen := 0
	for range 3 {
		r, err := s.Reserve(t.Context(), ca.Reservation{Issuer: issuer.ID, Epoch: 400, Count: 16, Owner: ca.OwnerID{1}, Lease: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		for changed, err := range s.ChangedRanges(t.Context(), 0, since) {
			if err != nil {
				t.Fatal(err)
			}
			if changed.From == r.From {
				seen++
			}
			if changed.At.After(since) {
				since = changed.At
			}
		}
		now = now.Add(-24 * time.Hour)
	}
	if seen != 3 {
		t.Errorf("%d of 3 ranges were seen", seen)
	}
}

// Probes and scrapes do not write a file each: a disk that could be written is tried again some seconds later, another
// at once.
func TestPingWritesNowAndThen(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	path := filepath.Join(t.TempDir(), "signet.db")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Unsafe: true, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	rename(path, path+".away") // it cannot be written beside what is not there
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("it was tried again at once: %v", err)
	}
	now = now.Add(5 * time.Second)
	if err := s.Ping(t.Context()); err == nil {
		t.Error("it was not tried again")
	}
	rename(path+".away", path)
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("it can be written again: %v", err)
	}
}
