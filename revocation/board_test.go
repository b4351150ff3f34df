package revocation_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func TestBoard(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		var crlA, crlB atomic.Uint64
		board := func(instance byte, crl *atomic.Uint64) *revocation.Board {
			b, err := revocation.NewBoard(revocation.BoardConfig{Store: s, Instance: revocation.InstanceID{instance}, Products: map[string]func() uint64{"crl": crl.Load}})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		a, b := board(1, &crlA), board(2, &crlB)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { a.Run(ctx, func(err error) { t.Error(err) }) })
		leave, left := context.WithCancel(t.Context())
		gone := make(chan struct{})
		go func() { b.Run(leave, func(err error) { t.Error(err) }); close(gone) }()

		crlA.Store(7)
		for seen := (map[byte]uint64{}); len(seen) < 2 || seen[1] < 7; { // until b has reported at all, and a what it has
			reports, err := s.ReadProgress(t.Context(), time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range reports {
				seen[r.Instance[0]] = r.Seq
			}
			time.Sleep(time.Millisecond) // another goroutine reports to a real database
		}
		short, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		_, err := a.AwaitPublished(short, 7)
		stop()
		lag, ok := errors.AsType[*revocation.LagError](err)
		if !ok || pki.KindOf(err) != pki.KindUnavailable || len(lag.Behind) != 1 || lag.Behind[0].Instance != (revocation.InstanceID{2}) {
			t.Errorf("b is behind: %v", err)
		}
		crlB.Store(7)
		if at, err := a.AwaitPublished(t.Context(), 7); err != nil || at.IsZero() {
			t.Errorf("%v, %v", at, err)
		}
		crlA.Store(8)
		left() // b stops: nobody waits for it
		<-gone
		if _, err := a.AwaitPublished(t.Context(), 8); err != nil {
			t.Error(err)
		}
	})
}
