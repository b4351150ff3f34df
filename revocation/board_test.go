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
		whole, stuck := pki.IssuerID{1}, pki.IssuerID{2} // nobody has the key of the second
		board := func(instance byte, crl *atomic.Uint64) *revocation.Board {
			b, err := revocation.NewBoard(revocation.BoardConfig{Store: s, Instance: revocation.InstanceID{instance}, Products: func() map[string]uint64 {
				return map[string]uint64{"ocsp": 100, "crl/" + whole.String(): crl.Load(), "crl/" + stuck.String(): 3}
			}})
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
				if r.Product == "crl/"+whole.String() {
					seen[r.Instance[0]] = r.Seq
				}
			}
			time.Sleep(time.Millisecond) // another goroutine reports to a real database
		}
		behind := func(issuers ...pki.IssuerID) []revocation.ProductProgress {
			t.Helper()
			for patience := 200 * time.Millisecond; ; patience *= 2 { // until the reports could be read within it
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				_, err := a.AwaitPublished(ctx, issuers, 7)
				cancel()
				lag, ok := errors.AsType[*revocation.LagError](err)
				if !ok || pki.KindOf(err) != pki.KindUnavailable {
					t.Fatalf("of issuers %s: %v", issuers, err)
				}
				if len(lag.Behind) > 0 || patience > time.Minute {
					return lag.Behind
				}
			}
		}
		if who := behind(whole); len(who) != 1 || who[0].Instance != (revocation.InstanceID{2}) {
			t.Errorf("b is behind, and not %+v", who)
		}
		crlB.Store(7)
		if at, err := a.AwaitPublished(t.Context(), []pki.IssuerID{{3}, whole}, 7); err != nil || at.IsZero() {
			t.Errorf("%v, %v", at, err)
		}
		for _, issuers := range [][]pki.IssuerID{{stuck}, {whole, stuck}, nil} { // what is of any issuer waits for all
			if who := behind(issuers...); len(who) != 2 || who[0].Product != "crl/"+stuck.String() || who[1].Product != who[0].Product {
				t.Errorf("of issuers %s waits for %+v", issuers, who)
			}
		}
		crlA.Store(8)
		left() // b stops: nobody waits for it
		<-gone
		if _, err := a.AwaitPublished(t.Context(), []pki.IssuerID{whole}, 8); err != nil {
			t.Error(err)
		}
	})
}
