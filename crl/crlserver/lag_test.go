package crlserver_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/sqlite"
)

// wall is a mirror that takes nothing.
type wall struct{}

func (wall) Put(context.Context, string, crl.Document, uint64) error {
	return errors.New("full")
}
func (wall) Names(context.Context) ([]string, error) { return nil, nil }
func (wall) Remove(context.Context, string) error    { return errors.New("full") }
func (wall) String() string                          { return "wall" }

// The lag of a product is the age of the oldest entry that it does not show, and nothing once it shows all.
func TestLags(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "one")
		a.reserve(t, epoch, 0, base)
		c := &clock{}
		issuer := a.config()
		issuer.Delta = true
		keyed := start(t, s, c, nil, issuer)
		keyed.await(t, a.revoke(t, 1))
		eventually(t, "the keyed instance shows all", func() bool { return zero(keyed.Lags(), "shard", "complete", "delta") })
		keyed.stop()

		c.move(-10 * time.Minute) // entries are stamped by the database; what follows is ten minutes old when the clock is right again
		keyless := issuer
		keyless.Signer = nil
		reader := start(t, s, c, func(config *crlserver.Config) { config.Mirrors = []crlserver.Mirror{wall{}} }, keyless)
		seq := a.revoke(t, 2)
		eventually(t, "the keyless instance has read it", func() bool { return reader.Seq() == seq })
		c.move(10*time.Minute + 5*time.Minute)
		for _, product := range []string{"shard", "complete", "delta", "mirror wall"} {
			if lag := reader.Lags()[product]; lag < 5*time.Minute || lag > 7*time.Minute {
				t.Errorf("%s: %s, want five minutes", product, lag)
			}
		}
		again := start(t, s, c, nil, issuer)
		again.await(t, seq)
		eventually(t, "the keyless instance has adopted the lists", func() bool { return zero(reader.Lags(), "shard", "complete", "delta") })
		if lag := reader.Lags()["mirror wall"]; lag < 5*time.Minute {
			t.Errorf("a mirror that takes nothing is %s behind", lag)
		}
	})
}

func zero(lags map[string]time.Duration, products ...string) bool {
	return !slices.ContainsFunc(products, func(p string) bool { return lags[p] != 0 })
}

// Every kind of list agrees with the ledger, after every kind of event; a ledger that was altered is noticed, and so is a
// list that another key signed.
func TestCompare(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "one")
		a.reserve(t, epoch, 0, base)
		issuer := a.config()
		issuer.Delta = true
		p := start(t, s, &clock{}, nil, issuer)
		p.await(t, a.revoke(t, 1))
		lists := []crlserver.List{a.shard(), a.complete(), a.delta()}
		compare := func(what string, disagree bool) {
			t.Helper()
			for _, list := range lists {
				err := p.Compare(t.Context(), list)
				if _, ok := errors.AsType[*crlserver.DisagreementError](err); ok != disagree || (err != nil) != disagree {
					t.Errorf("%s: %s: %v", what, list, err)
				}
			}
		}
		compare("one revoked", false)
		foreign := a.event(0, 99, revocation.KindRevoke, pki.KeyCompromise, 0)
		foreign.Foreign = true
		seq := a.append(t, a.event(epoch, 2, revocation.KindHold, pki.CertificateHold, 0), a.event(epoch, 3, revocation.KindHold, pki.CertificateHold, 0),
			a.event(epoch, 4, revocation.KindVoid, 0, 0), foreign)
		p.await(t, seq)
		compare("holds, a void and a foreign serial", false)
		p.await(t, a.append(t, a.event(epoch, 2, revocation.KindRelease, 0, seq-3), a.event(epoch, 3, revocation.KindRevoke, pki.Superseded, seq-2),
			a.event(epoch, 1, revocation.KindReasonChange, pki.KeyCompromise, 1)))
		compare("a release, a succession and a change of reason", false)

		stranger := newAuthority(t, s, "two")
		other := stranger.config()
		swapped := issuer
		swapped.Public, swapped.Signer = other.Public, nil
		reader := start(t, s, &clock{}, nil, swapped)
		eventually(t, "the reader has the shard", func() bool { _, _, ok := reader.Document(a.shard()); return ok })
		if err := reader.Compare(t.Context(), a.shard()); err == nil {
			t.Error("a list that the issuer's key did not sign agrees")
		}

		if _, ok := s.(*sqlite.Store); ok {
			testdb.Exec(t, s, `DROP TRIGGER ledger_no_update`)
		} else {
			testdb.Exec(t, s, `ALTER TABLE ledger DISABLE TRIGGER append_only`)
		}
		odd := serial(epoch, 77)
		testdb.Exec(t, s, `UPDATE ledger SET serial = $1 WHERE idx = 3`, odd[:]) // as many, and not the same
		compare("another serial", true)
	})
}

// A damaged row of the ledger, with an index far beyond everything that was reserved, is compared like any other: a bit for every index up to it
// would be a gigabyte.
func TestCompareFarBeyond(t *testing.T) {
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "one")
	a.reserve(t, epoch, 0, base)
	p := start(t, s, &clock{}, nil, a.config())
	p.await(t, a.append(t, a.event(epoch, 0, revocation.KindRevoke, pki.Superseded, 0), a.event(epoch, 1<<33, revocation.KindRevoke, pki.Superseded, 0)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := p.Compare(t.Context(), a.complete()); err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("two entries took %d MiB", took>>20)
	}
}
