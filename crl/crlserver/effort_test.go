package crlserver_test

import (
	"crypto"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// What building lists takes stays within a sixth of the processors, and a burst, whatever is asked of it; a debt is paid
// back within a second, and a clock that leaps gives nothing away and takes nothing for long.
func TestEffort(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 1081))
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
			took := time.Duration(random.Int64N(int64(50 * time.Millisecond)))
			e.Spend(now, took)
			spent += took
		}
		most := now.Sub(begun)*time.Duration(runtime.GOMAXPROCS(0))/6 + 250*time.Millisecond + 50*time.Millisecond
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

// slowBuild is a signer whose every list seems to take long to build: the clock moves while the list is put together, and
// not while the key signs.
type slowBuild struct {
	crypto.Signer
	clock *clock
	built *atomic.Int64
}

func (s slowBuild) Public() crypto.PublicKey {
	s.clock.move(300 * time.Millisecond)
	s.built.Add(1)
	return s.Signer.Public()
}

// With a budget that is always overdrawn by long lists every event still reaches its list, and a short one among them is
// not left behind.
func TestOverdrawnEffort(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	var built atomic.Int64
	c := &clock{}
	long, short := newAuthority(t, s, "Long CA"), newAuthority(t, s, "Short CA")
	slow := long.config()
	slow.Signer = slowBuild{long.key, c, &built}
	for week := range pki.Epoch(6) {
		long.reserve(t, epoch+week, 0, base)
	}
	short.reserve(t, epoch, 0, base)
	p := start(t, s, c, nil, slow, short.config())
	const rounds = 1
	for index := range uint64(rounds) {
		for week := range pki.Epoch(6) {
			long.append(t, long.event(epoch+week, index, 1, pki.Superseded, 0))
		}
		seq, before := short.revoke(t, index), built.Load()
		eventually(t, "the short list", func() bool {
			_, head, ok := p.Document(short.shard())
			return ok && head.Seq >= seq
		})
		if between := built.Load() - before; between > 4*7 { // each of the long series, at most once a second of the clock
			t.Errorf("%d long lists were built before the short one", between)
		}
	}
	p.await(t, short.revoke(t, rounds))
	for week := range pki.Epoch(6) {
		list := long.shard()
		list.Shard.Epoch += week
		for index := range uint64(rounds) {
			if _, ok := has(p.list(t, long, list), epoch+week, index); !ok {
				t.Errorf("%s lacks certificate %d", list, index)
			}
		}
	}
}
