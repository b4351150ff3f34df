package crlserver_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// A list that cannot be rebuilt here, and whose octets nobody kept, is served once what stood in the way is gone, though no other is
// published and this instance has not the key.
func TestRebuiltLater(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Changed CA")
	a.reserve(t, epoch, 0, base)
	first := start(t, s, &clock{}, nil, a.config())
	first.await(t, a.revoke(t, 0)) // the first list's octets are kept
	var long []revocation.NewEntry
	for index := range uint64(100) { // more than 4 KiB
		long = append(long, a.event(epoch, 1+index, revocation.KindRevoke, pki.Superseded, 0))
	}
	first.await(t, a.append(t, long...))
	first.stop()
	_, want, _ := first.Document(a.shard())

	right := a.config()
	right.Signer = nil
	wrong := right
	wrong.KeyID = []byte("another")
	var changed atomic.Bool
	c := &clock{}
	p := start(t, s, c, func(config *crlserver.Config) {
		config.Issuers = func() []crlserver.Issuer {
			if changed.Load() {
				return []crlserver.Issuer{right}
			}
			return []crlserver.Issuer{wrong}
		}
	})
	if _, head, ok := p.Document(a.shard()); ok {
		t.Fatalf("number %d is served", head.Number)
	}
	changed.Store(true)
	p.Reload()
	c.move(time.Minute)
	eventually(t, "the list", func() bool { _, head, ok := p.Document(a.shard()); return ok && head.Number == want.Number })
}

// attempts counts how often the octets of shards are asked for, and how often heads are read, and says that shards' are gone.
type attempts struct {
	crlserver.Publications
	shards, readings *atomic.Int64
}

func (a attempts) PublicationBytes(ctx context.Context, list crlserver.List, number uint64) ([]byte, error) {
	if list.Sharded {
		a.shards.Add(1)
		return nil, pki.Errorf(pki.KindNotFound, "read publication", "gone on purpose")
	}
	return a.Publications.PublicationBytes(ctx, list, number)
}

func (a attempts) PublicationHeads(ctx context.Context, since time.Time) ([]crlserver.Head, time.Time, error) {
	a.readings.Add(1)
	return a.Publications.PublicationHeads(ctx, since)
}

// What cannot be rebuilt is tried again, more and more seldom, up to a quarter of an hour, and it is said once.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Abandoned CA")
	a.reserve(t, epoch, 0, base)
	first := start(t, s, &clock{}, nil, a.config())
	first.await(t, a.revoke(t, 1))
	first.stop()

	wrong := a.config()
	wrong.Signer, wrong.KeyID = nil, []byte("another")
	c, tried, log := &clock{}, attempts{s, new(atomic.Int64), new(atomic.Int64)}, failures{slog.DiscardHandler, make(chan error, 100)}
	start(t, s, c, func(config *crlserver.Config) { config.Publications, config.Log = tried, slog.New(log) }, wrong)
	for i, pause := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
		c.move(pause / 2)
		before := tried.readings.Load()
		// Of three readings one may have begun before that; what the second found due is tried by the time of the third.
		eventually(t, "what is due was looked at", func() bool { return tried.readings.Load() > before+2 })
		if n := tried.shards.Load(); n != int64(i+1) {
			t.Fatalf("tried %d times, want %d", n, i+1)
		}
		c.move(pause / 2)
		eventually(t, "it is tried again", func() bool { return tried.shards.Load() == int64(i+2) })
	}
	if said := len(log.errors); said != 1 {
		t.Errorf("it was said %d times", said)
	}
}
