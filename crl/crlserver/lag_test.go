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
func (wall) PutIndex(context.Context, string, func([]string) ([]byte, error)) error {
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
			want := 5 * time.Minute
			if strings.HasPrefix(product, "mirror") {
				want = 15 * time.Minute // it has failed since before the entry
			}
			if lag := reader.Lags()[product]; lag < want || lag > want+2*time.Minute {
				t.Errorf("%s: %s, want %s", product, lag, want)
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

// fussy is a mirror that takes no complete list until it relents.
type fussy struct {
	wall
	relented *atomic.Bool
}

func (f fussy) Put(_ context.Context, name string, _ crl.Document, _ uint64) error {
	if strings.Count(name, "/") == 1 && !f.relented.Load() {
		return errors.New("too large")
	}
	return nil
}

func (f fussy) PutIndex(context.Context, string, func([]string) ([]byte, error)) error { return nil }

// The complete lists of a mirror are a product of their own, which may be late as the complete list itself may. A mirror that fails from the
// start is seen at once, with nothing revoked since: how long it has failed is how far it may be behind, of what was not copied.
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
		mirror, other := fussy{relented: new(atomic.Bool)}, "mirror "+stuck{}.String()
		p := start(t, s, c, func(config *crlserver.Config) { config.Mirrors = []crlserver.Mirror{mirror, stuck{}} }, a.config())
		eventually(t, "the failure", func() bool { return p.Mirrors()[0].Failure != nil && zero(p.Lags(), "mirror wall") })
		began := c.now()
		c.move(3 * time.Minute)
		if lag := p.Lags()["mirror wall complete"]; lag < 3*time.Minute || lag > 5*time.Minute {
			t.Errorf("three minutes after it failed a complete list is %s behind", lag)
		}
		if m := p.Mirrors(); len(m) != 2 || m[0].Name != "wall" || m[0].Failure.Error() != "too large" || m[0].Since.After(began) || began.Sub(m[0].Since) > time.Minute || m[1].Name != (stuck{}).String() {
			t.Errorf("the mirrors are %+v", m)
		}
		p.await(t, a.revoke(t, 2))
		eventually(t, "the shard is copied", func() bool { return zero(p.Lags(), "mirror wall") })
		if lags := p.Lags(); lags["mirror wall complete"] < 5*time.Minute || lags[other] < 5*time.Minute || lags[other+" complete"] < 5*time.Minute {
			t.Errorf("what is not copied: %v", lags)
		}
		mirror.relented.Store(true)
		eventually(t, "the copy", func() bool { return zero(p.Lags(), "mirror wall", "mirror wall complete") })
		eventually(t, "no failure", func() bool { m := p.Mirrors()[0]; return m.Failure == nil && m.Since.IsZero() })
	})
	for product, follows := range map[string]bool{"shard": true, "delta": true, "ocsp": true, "mirror b": true, "complete": false, "mirror b complete": false} {
		if got := crlserver.FollowsEvents(product); got != follows {
			t.Errorf("%s follows events: %t", product, got)
		}
	}
}

// fussier is fussy and does not take a shard either that came later.
type fussier struct{ fussy }

func (f fussier) Put(ctx context.Context, name string, document crl.Document, number uint64) error {
	if strings.HasSuffix(name, "/"+(epoch+8).String()+"-0.crl") {
		return errors.New("no room")
	}
	return f.fussy.Put(ctx, name, document, number)
}

// A shard is not as late as another list of which no copy was taken before there was that shard; and it is no less late when it is made anew.
func TestLagOfANewShard(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "one")
	a.reserve(t, epoch, 0, base)
	c := &clock{}
	p := start(t, s, c, func(config *crlserver.Config) {
		config.Mirrors = []crlserver.Mirror{fussier{fussy{relented: new(atomic.Bool)}}}
	}, a.config())
	eventually(t, "the failure", func() bool { return p.Mirrors()[0].Failure != nil && zero(p.Lags(), "mirror wall") })
	c.move(3 * time.Hour)
	a.reserve(t, epoch+8, 0, base)
	later := a.shard()
	later.Shard.Epoch = epoch + 8
	eventually(t, "the new shard", func() bool { _, _, ok := p.Document(later); return ok })
	if lag := p.Lags()["mirror wall"]; lag > time.Hour {
		t.Errorf("a shard that has just come is %s behind", lag)
	}
	c.move(3 * time.Hour)
	a.reserve(t, epoch+8, 100, "http://elsewhere.example")
	eventually(t, "another URL", func() bool { _, h, _ := p.Document(later); return len(h.URLs) == 2 })
	if lag := p.Lags()["mirror wall"]; lag < 3*time.Hour || lag > 5*time.Hour {
		t.Errorf("a shard that came three hours ago is %s behind", lag)
	}
}

func zero(lags map[string]time.Duration, products ...string) bool {
	return !slices.ContainsFunc(products, func(p string) bool { return lags[p] != 0 })
}
