package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"path/filepath"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
	"signet.example/signet/store/sqlite"
)

// The town lives in 2021, the database today: everything of then has passed.
func TestPassedEpochsAreSweptUnlessRetained(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		real := w.clock.now
		w.clock.now = time.Date(2021, 3, 1, 12, 0, 0, 0, time.UTC)
		root := w.create(newIssuer("old-root", "Old Root", ca.Issuer{}))
		old, signs := w.create(newIssuer("old", "Old", root)), w.create(newIssuer("old-signer", "Old Signer", root))
		for range 3 {
			request := server(t, "old.example.com")
			request.Issuer = old.ID
			w.mustIssue(request)
		}
		signer := csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Signer"}})
		if _, err := w.Issue(t.Context(), w.grant(admin, auth.ActionIssue, "code-signing"), ca.Request{Profile: "code-signing", Issuer: signs.ID, CSR: signer}); err != nil {
			t.Fatal(err)
		}
		if kept, err := w.Issuer(signs.ID); err != nil || kept.Retention.Keep != 10*365*24*time.Hour {
			t.Errorf("the retention of the issuer is %+v, %v", kept.Retention, err)
		}
		if kept, err := w.Issuer(old.ID); err != nil || kept.Retention != (pki.Retention{}) {
			t.Errorf("the retention of the other is %+v, %v", kept.Retention, err)
		}
		count := func() int64 {
			total := int64(0)
			for _, issuer := range []ca.Issuer{root, old, signs} {
				c, err := s.CountCertificates(t.Context(), inventory.Filter{Issuer: issuer.ID})
				if err != nil {
					t.Fatal(err)
				}
				total += c.N
			}
			return total
		}
		w.clock.now = time.Date(2021, 9, 1, 0, 0, 0, 0, time.UTC) // a year after expiry has not gone by
		if err := w.Sweep(t.Context()); err != nil || count() != 7 {
			t.Fatalf("%d left, %v", count(), err)
		}
		w.clock.now = real
		if err := s.AppendAudit(t.Context(), []audit.Event{{At: time.Now().Add(-48 * time.Hour), Actor: "a", Action: "b.c", Target: "t", Outcome: audit.OK}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Sweep(t.Context()); err != nil || count() != 4 {
			t.Errorf("%d left, want the authorities and what is retained: %v", count(), err)
		}
		w.clock.now = real.Add(11 * 365 * 24 * time.Hour) // and the database's says otherwise
		if err := w.Sweep(t.Context()); err != nil || count() != 4 {
			t.Errorf("%d left, by a clock that is ahead: %v", count(), err)
		}
	})
}

// An epoch is due when both clocks say so, the day of grace included. Before that a sweep has not failed: an hour later there is another.
func TestSweepBeforeAnEpochIsDue(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		real := w.clock.now
		w.clock.now = time.Date(2021, 3, 1, 12, 0, 0, 0, time.UTC)
		root := w.create(newIssuer("old-root", "Old Root", ca.Issuer{}))
		old := w.create(newIssuer("old", "Old", root))
		request := server(t, "old.example.com")
		request.Issuer = old.ID
		ends := time.Unix((w.mustIssue(request).Position.Epoch + 1).Start(), 0)
		at := real.Add(-24*time.Hour - 30*time.Minute) // after the end, and more than a day ago
		if err := s.AppendAudit(t.Context(), []audit.Event{{At: at, Actor: "a", Action: "b.c", Target: "t", Outcome: audit.OK}}); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			town, database time.Duration // what the clocks show, after the end of the week and the time it is kept for
			left           int64
		}{
			{1 * time.Hour, 1 * time.Hour, 1},
			{23 * time.Hour, 23 * time.Hour, 1},
			{25 * time.Hour, 23 * time.Hour, 1},
			{23 * time.Hour, 25 * time.Hour, 1},
			{25 * time.Hour, 25 * time.Hour, 0},
		} {
			w.clock.now = real.Add(test.town - test.database)
			a, err := ca.New(t.Context(), ca.Config{Profiles: w.profiles, Keys: w.keys, Issuers: s, Ranges: s, Certificates: s, Inventory: s, Audit: s,
				KeepExpired: real.Sub(ends) - test.database, Now: w.clock.Now})
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Sweep(t.Context()); err != nil {
				t.Errorf("%s and %s after: %v", test.town, test.database, err)
			}
			c, err := s.CountCertificates(t.Context(), inventory.Filter{Issuer: old.ID})
			if err != nil {
				t.Fatal(err)
			}
			if c.N != test.left {
				t.Errorf("%s and %s after: %d are left, want %d", test.town, test.database, c.N, test.left)
			}
			if err := a.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// On SQLite there is one clock. If it is ahead, nothing goes for a day that it does not show, and what was issued is there when it is right
// again; what has passed goes.
func TestSweepByAClockThatIsAhead(t *testing.T) {
	ahead := time.Duration(0)
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "signet.db"), Unsafe: true, Now: func() time.Time { return time.Now().Add(ahead) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := newTown(t, s)
	root := w.create(newIssuer("root9", "Root 9", ca.Issuer{}))
	one := w.create(newIssuer("one9", "One 9", root))
	request := server(t, "a.example.com")
	request.Issuer = one.ID
	w.mustIssue(request)
	count := func() int64 {
		c, err := s.CountCertificates(t.Context(), inventory.Filter{Issuer: one.ID})
		if err != nil {
			t.Fatal(err)
		}
		return c.N
	}
	before, real := count(), w.clock.now
	sweep := func(at time.Duration) {
		t.Helper()
		ahead, w.clock.now = at, real.Add(at)
		event := audit.Event{At: time.Now().Add(ahead), Actor: "system:server", Action: "server.start", Target: "instance", Outcome: audit.OK}
		if err := s.AppendAudit(t.Context(), []audit.Event{event}); err != nil {
			t.Fatal(err)
		}
		if err := w.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	const years = 3 * 365 * 24 * time.Hour
	sweep(20 * 24 * time.Hour)
	sweep(years)
	sweep(years + 23*time.Hour)
	if n := count(); n != before || n == 0 {
		t.Errorf("%d of %d are left after an hour with a clock that is ahead", n, before)
	}
	sweep(25 * time.Hour) // it is right again, and two days later wrong again
	sweep(years + 49*time.Hour)
	if n := count(); n != before {
		t.Errorf("%d of %d are left when the clock is ahead for a second time", n, before)
	}
	sweep(years + 74*time.Hour)
	if n := count(); n != 0 {
		t.Errorf("%d are left that passed two years ago", n)
	}
}
