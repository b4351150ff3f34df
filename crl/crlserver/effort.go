package crlserver

import (
	"runtime"
	"time"
)

// effort bounds what lists may take from OCSP and revocations, whether this instance makes them or rebuilds those of
// others: half of the processors in the long run, and a quarter of a second at once. A list that is touched now and
// then is thus rebuilt at once, and many lists under a stream of revocations share what there is. It counts what lists
// and revocations cost and measures nothing: a clock would count the work of other processes on a busy machine.
// Revocations come first: each takes a little of what lists may spend, so that while thousands of them come every
// second each list waits for waitMax.
type effort struct {
	left time.Duration
	at   time.Time // of left; zero: nothing was spent yet
}

const (
	effortShare = 2 // the part of the processors: one in so many
	effortBurst = 250 * time.Millisecond
	effortDebt  = time.Second            // is paid back within this time
	listCost    = 4 * time.Millisecond   // of any list: numbers and heads in the database, a signature, waking everybody
	octetCost   = time.Nanosecond        // of an octet of it: put together, hashed, written to clients
	entryCost   = 200 * time.Microsecond // of a ledger entry
)

// costOf is what it takes to publish a list, or to rebuild it, in processor time.
func costOf(size int64) time.Duration { return listCost + time.Duration(size)*octetCost }

// refill adds what time has brought. A clock that went back brings nothing.
func (e *effort) refill(now time.Time) {
	if e.at.IsZero() {
		e.left = effortBurst
	}
	if elapsed := now.Sub(e.at); !e.at.IsZero() && elapsed > 0 {
		e.left = min(effortBurst, e.left+elapsed*time.Duration(runtime.GOMAXPROCS(0))/effortShare)
	}
	e.at = now
}

// wait returns for how long nothing will be left; 0: there is something.
func (e *effort) wait(now time.Time) time.Duration {
	if e.refill(now); e.left > 0 {
		return 0
	}
	return max(time.Millisecond, -e.left*effortShare/time.Duration(runtime.GOMAXPROCS(0)))
}

// spend takes what something cost.
func (e *effort) spend(now time.Time, cost time.Duration) {
	e.refill(now)
	e.left = max(-effortDebt*time.Duration(runtime.GOMAXPROCS(0))/effortShare, e.left-cost)
}
