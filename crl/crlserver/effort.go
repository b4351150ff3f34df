package crlserver

import (
	"runtime"
	"time"
)

// effort bounds what lists may take from those who ask and revoke, those of this instance and those of others that it rebuilds: a
// sixth of the processors in the long run, and a quarter of a second at once, so that a list that is touched now and then is rebuilt
// at once, and a dozen long ones under a stream of revocations share what there is. Revocations come first: each takes a little of
// what lists may spend, so that while thousands of them come every second lists are made a second apart.
type effort struct {
	left time.Duration
	at   time.Time // of left; zero: nothing was spent yet
}

const (
	effortShare = 6 // the part of the processors: one in so many
	effortBurst = 250 * time.Millisecond
	listCost    = time.Millisecond      // of any list, beside what its octets take: the database, and waking everybody
	entryCost   = 75 * time.Microsecond // of a ledger entry
)

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

// wait is how long there will be nothing left; 0: there is something.
func (e *effort) wait(now time.Time) time.Duration {
	if e.refill(now); e.left > 0 {
		return 0
	}
	return max(time.Millisecond, -e.left*effortShare/time.Duration(runtime.GOMAXPROCS(0)))
}

// spend takes what a build took; a debt is bounded by what a second brings.
func (e *effort) spend(now time.Time, took time.Duration) {
	e.refill(now)
	e.left = max(-restMax*time.Duration(runtime.GOMAXPROCS(0))/effortShare, e.left-max(0, took))
}
