package crlserver_test

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// What building lists takes stays within half of the processors, and a burst, whatever is asked of it; a debt is paid
// back within a second, and a clock that leaps gives nothing away and takes nothing for long.
func TestEffort(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 1081))
	processors := time.Duration(runtime.GOMAXPROCS(0))
	for range 200 {
		var e crlserver.TestingOnlyEffort
		now, begun, spent := time.Unix(1_800_000_000, 0), time.Unix(1_800_000_000, 0), time.Duration(0)
		for now.Sub(begun) < time.Minute {
			now = now.Add(time.Duration(random.Int64N(int64(30 * time.Millisecond))))
			wait := e.Wait(now)
			if wait < 0 || wait > time.Second {
				t.Fatalf("it waits for %s", wait)
			}
			if later := e; later.Wait(now.Add(wait+time.Millisecond)) > 0 {
				t.Fatalf("after %s there is still nothing", wait)
			}
			if wait > 0 {
				continue
			}
			took := time.Duration(random.Int64N(int64(processors * 25 * time.Millisecond)))
			e.Spend(now, took)
			spent += took
		}
		most := now.Sub(begun)*processors/2 + 250*time.Millisecond + processors*25*time.Millisecond
		if spent > most || spent < most/2 {
			t.Fatalf("%s was spent of %s", spent, most)
		}
	}
	var e crlserver.TestingOnlyEffort
	at := time.Unix(1_800_000_000, 0)
	e.Spend(at, time.Hour)
	if wait := e.Wait(at); wait > time.Second {
		t.Errorf("after an hour's build it waits for %s", wait)
	}
	if wait := e.Wait(at.Add(-24 * time.Hour)); wait == 0 || wait > time.Second {
		t.Errorf("a clock set back by a day waits for %s", wait)
	}
	if wait := e.Wait(at.Add(-24*time.Hour + 2*time.Second)); wait != 0 {
		t.Errorf("two seconds after it was set back it waits for %s", wait)
	}
}

// With a budget that is always overdrawn every event still reaches its list.
func TestOverdrawnEffort(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	long, short := newAuthority(t, s, "Long CA"), newAuthority(t, s, "Short CA")
	const weeks = 12
	for week := range pki.Epoch(weeks) {
		long.reserve(t, epoch+week, 0, base)
	}
	short.reserve(t, epoch, 0, base)
	p := start(t, s, &clock{}, nil, long.config(), short.config())
	stop, stopped := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-stopped }()
	go func() {
		defer close(stopped)
		for p.TestingOnlyCharge(time.Hour); ; p.TestingOnlyCharge(time.Hour) {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	for week := range pki.Epoch(weeks) {
		long.append(t, long.event(epoch+week, 0, 1, pki.Superseded, 0))
	}
	p.await(t, short.revoke(t, 0))
	for week := range pki.Epoch(weeks) {
		list := long.shard()
		list.Shard.Epoch += week
		if _, ok := has(p.list(t, long, list), epoch+week, 0); !ok {
			t.Errorf("%s lacks its certificate", list)
		}
	}
}
