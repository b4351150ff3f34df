package ocspserver_test

import (
	"crypto"
	"testing"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
)

// An issuer that retains is asked for certificates after their end, and says how far back it answers (RFC 6960, Section
// 4.4.4); when that is over, and of other issuers at once, there is no answer.
func TestArchiveCutoff(t *testing.T) {
	const year = 365 * 24 * time.Hour
	db := testdb.SQLite(t)
	retention := pki.Retention{Keep: 2 * year, Since: start}
	s := newSystem(t, db, func(_ *ocspserver.Config, issuers []ocspserver.Issuer) { issuers[0].Retention = retention })
	if err := db.RaiseRetention(t.Context(), s.one.id, retention.Keep, audit.Event{Actor: "test", Action: "issuer.retain", Outcome: audit.OK}); err != nil {
		t.Fatal(err)
	}
	go s.universe.Run(t.Context(), nil)
	eventually(t, "the universe knows the retention", func() bool {
		for _, issuer := range s.universe.Issuers() {
			if issuer.Retention.Keep == retention.Keep {
				return true
			}
		}
		return false
	})
	s.revoke(t, s.one.id, s.closed.serial(1), pki.KeyCompromise)
	s.revoke(t, s.two.id, s.closed2.serial(1), pki.KeyCompromise)
	ask := func(a *authority, serial pki.Serial) ocsp.Result {
		t.Helper()
		return s.verify(t, s.ask(t, a, crypto.SHA256, serial), a, serial)
	}
	if got := ask(s.one, s.closed.serial(0)); got.Status != pki.StatusGood || !got.ArchiveCutoff.Equal(start) {
		t.Errorf("in its life: %s, archive cutoff %s, want %s", got.Status, got.ArchiveCutoff, start)
	}
	if got := ask(s.two, s.closed2.serial(0)); got.Status != pki.StatusGood || !got.ArchiveCutoff.IsZero() {
		t.Errorf("without retention: %s, archive cutoff %s", got.Status, got.ArchiveCutoff)
	}

	end := time.Unix((s.closed.epoch + 1).Start(), 0).Add(25 * time.Hour)
	for _, a := range []*authority{s.one, s.two} {
		s.delegates.add(t, a, 10*year)
	}
	s.advance(end.Sub(s.now()) + 24*time.Hour)
	eventually(t, "the week is forgotten by who does not retain", func() bool {
		return outcome(t, s.ask(t, s.two, crypto.SHA256, s.closed2.serial(1))) == ocsp.Unauthorized
	})
	if got := ask(s.one, s.closed.serial(1)); got.Status != pki.StatusRevoked || !got.ArchiveCutoff.Equal(start) {
		t.Errorf("after its end: %s, archive cutoff %s, want %s", got.Status, got.ArchiveCutoff, start)
	}
	if got := ask(s.one, s.closed.serial(0)); got.Status != pki.StatusGood {
		t.Errorf("one that was never revoked, after its end: %s", got.Status)
	}
	s.advance(2 * year)
	eventually(t, "the retention is over", func() bool {
		return outcome(t, s.ask(t, s.one, crypto.SHA256, s.closed.serial(1))) == ocsp.Unauthorized
	})
}
