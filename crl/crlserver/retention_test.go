package crlserver_test

import (
	"testing"
	"time"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// An issuer that retains keeps what has expired on its lists, says since when, and lets it go when the time is over; one
// that does not drops it when its week has passed.
func TestRetention(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	testdb.Each(t, func(t *testing.T, s store.Store) {
		long, short := newAuthority(t, s, "long"), newAuthority(t, s, "short")
		event := audit.Event{At: time.Now(), Actor: "test", Action: "issuer.retain", Target: "issuer", Outcome: audit.OK}
		if err := s.RaiseRetention(t.Context(), long.issuer, 2*year, event); err != nil {
			t.Fatal(err)
		}
		keys, err := s.IssuerKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		configs := []crlserver.Issuer{long.config(), short.config()}
		for _, key := range keys {
			if key.Key == long.hash {
				configs[0].Retention = key.Retention
			}
		}
		if configs[0].Retention.Keep != 2*year {
			t.Fatalf("retention %+v", configs[0].Retention)
		}
		c := new(clock)
		// Nobody publishes for days here: lists that are valid for long make no difference to what is on them.
		validity := func(config *crlserver.Config) { config.Interval, config.Validity = time.Hour, 4*year }
		long.reserve(t, epoch, 0, base)
		short.reserve(t, epoch, 0, base)
		long.revoke(t, 1)
		seq := short.revoke(t, 1)
		p := start(t, s, c, validity, configs...)
		p.await(t, seq)
		if l := p.list(t, short, short.complete()); !l.ExpiredSince.IsZero() {
			t.Errorf("an issuer without retention says since %s", l.ExpiredSince)
		}

		see := func(what string, onLists bool, since time.Time) {
			t.Helper()
			eventually(t, what+": the complete list is rebuilt", func() bool {
				_, h, ok := p.Document(long.complete())
				return ok && !h.ThisUpdate.Before(c.now().Add(-time.Hour))
			})
			l := p.list(t, long, long.complete())
			if _, found := has(l, epoch, 1); found != onLists {
				t.Errorf("%s: on the complete list: %t", what, found)
			}
			if d := l.ExpiredSince.Sub(since); d < -time.Minute || d > time.Minute {
				t.Errorf("%s: expired certificates are on it since %s, want %s", what, l.ExpiredSince, since)
			}
		}
		see("before the end", true, time.Now())
		end := time.Unix((epoch + 1).Start(), 0).Add(25 * time.Hour)
		c.move(time.Until(end.Add(24 * time.Hour)))
		eventually(t, "the list of the other issuer drops it", func() bool {
			document, _, ok := p.Document(short.complete())
			if !ok {
				return false
			}
			_ = document
			_, found := has(p.list(t, short, short.complete()), epoch, 1)
			return !found
		})
		see("after the end", true, time.Now().Add(-time.Minute/2))
		if _, h, ok := p.Document(long.shard()); !ok || h.Final {
			t.Errorf("the shard is served %t, for the last time %t", ok, h.Final)
		}

		// A restart in the middle of it finds the same.
		p.stop()
		seq = long.append(t, long.event(epoch, pki.BlockSize, revocation.KindRevoke, pki.KeyCompromise, 0)) // of a shard that was never published
		p = start(t, s, c, validity, configs...)
		see("after a restart", true, time.Now().Add(-time.Minute/2))
		p.await(t, seq)
		if _, found := has(p.list(t, long, long.complete()), epoch, pki.BlockSize); !found {
			t.Error("what was revoked meanwhile is not on the list")
		}
		seq = long.append(t, long.event(epoch, 2, revocation.KindRevoke, pki.KeyCompromise, 0)) // an expired one can still be revoked
		p.await(t, seq)
		if _, found := has(p.list(t, long, long.complete()), epoch, 2); !found {
			t.Error("what was revoked after its end is not on the list")
		}
		c.move(2 * year)
		eventually(t, "the retention is over", func() bool {
			_, found := has(p.list(t, long, long.complete()), epoch, 1)
			return !found
		})
		see("when the retention is over", false, c.now().Add(-2*year))
	})
}
