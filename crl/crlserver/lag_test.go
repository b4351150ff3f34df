package crlserver_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/store"
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
		started := start(t, s, c, nil, keyless)
		c.move(10*time.Minute + 5*time.Minute)
		for _, product := range []string{"shard", "complete", "delta", "mirror wall", "mirror wall complete"} {
			if lag := reader.Lags()[product]; lag < 5*time.Minute || lag > 7*time.Minute {
				t.Errorf("%s: %s, want five minutes", product, lag)
			}
			if lag := started.Lags()[product]; !strings.HasPrefix(product, "mirror") && (lag < 5*time.Minute || lag > 7*time.Minute) {
				t.Errorf("%s, in a process that found it at its start: %s, want five minutes", product, lag)
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

// fussy is a mirror that takes no complete list, and counts those that it refuses.
type fussy struct {
	wall
	refused *atomic.Int64
}

func (f fussy) Put(_ context.Context, name string, _ crl.Document, _ uint64) error {
	if strings.Count(name, "/") == 1 {
		f.refused.Add(1)
		return errors.New("too large")
	}
	return nil
}

// The complete lists of a mirror are a product of their own, which may be late as the complete list itself may; and what a mirror lacks of
// the time before a start is not known, whatever failed since.
func TestLagsOfMirrors(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "one")
		a.reserve(t, epoch, 0, base)
		c := &clock{}
		first := start(t, s, c, nil, a.config())
		first.await(t, a.revoke(t, 1))
		first.stop()
		c.move(5 * time.Minute)
		mirror, other := fussy{refused: new(atomic.Int64)}, "mirror "+stuck{}.String()
		p := start(t, s, c, func(config *crlserver.Config) { config.Mirrors = []crlserver.Mirror{mirror, stuck{}} }, a.config())
		eventually(t, "the end of an attempt", func() bool { return mirror.refused.Load() > 1 })
		if lags := p.Lags(); !zero(lags, "mirror wall", "mirror wall complete", other, other+" complete") {
			t.Errorf("before anything came: %v", lags)
		}
		p.await(t, a.revoke(t, 2))
		eventually(t, "the shard is copied", func() bool { return zero(p.Lags(), "mirror wall") })
		if lags := p.Lags(); lags["mirror wall complete"] < 5*time.Minute || lags[other] < 5*time.Minute || lags[other+" complete"] < 5*time.Minute {
			t.Errorf("what is not copied: %v", lags)
		}
	})
	for product, follows := range map[string]bool{"shard": true, "delta": true, "ocsp": true, "mirror b": true, "complete": false, "mirror b complete": false} {
		if got := crlserver.FollowsEvents(product); got != follows {
			t.Errorf("%s follows events: %t", product, got)
		}
	}
}

func zero(lags map[string]time.Duration, products ...string) bool {
	return !slices.ContainsFunc(products, func(p string) bool { return lags[p] != 0 })
}
