package crlserver

import (
	"runtime"
	"time"
)

// effort limits the processor time that lists take from OCSP and revocations, whether this instance makes them or
// rebuilds those of others. It is a token bucket: half of the processors in the long run, and a quarter of a second at
// once. So a list that changes now and then is rebuilt at once, and many lists under a stream of revocations share the
// limit. effort adds up fixed costs and does not measure, because a clock would also count the work of other processes
// on a busy machine. Revocations come first: each takes a little from the bucket, so that while thousands come every
// second, each list waits for waitMax.
type effort struct {
	left time.Duration
	at   time.Time // of left; zero: nothing was spent yet
}

const (
	effortShare = 2 // lists get 1/effortShare of the processors
	effortBurst = 250 * time.Millisecond
	effortDebt  = time.Second            // longest time in which a debt is paid back
	listCost    = 4 * time.Millisecond   // of any list: number and head in the database, signature, wake-ups
	octetCost   = time.Nanosecond        // of each octet of a list: assembled, hashed, sent to clients
	entryCost   = 200 * time.Microsecond // of a ledger entry
)

// costOf returns the processor time that publishing or rebuilding a list takes.
func costOf(size int64) time.Duration { return listCost + time.Duration(size)*octetCost }

// refill adds the share of the time that has passed. A clock that went back adds nothing.
func (e *effort) refill(now time.Time) {
	if e.at.IsZero() {
		e.left = effortBurst
	}
	if elapsed := now.Sub(e.at); !e.at.IsZero() && elapsed > 0 {
		e.left = min(effortBurst, e.left+elapsed*time.Duration(runtime.GOMAXPROCS(0))/effortShare)
	}
	e.at = now
}

// wait returns how long it takes until something is left, 0 if there is something now.
func (e *effort) wait(now time.Time) time.Duration {
	if e.refill(now); e.left > 0 {
		return 0
	}
	return max(time.Millisecond, -e.left*effortShare/time.Duration(runtime.GOMAXPROCS(0)))
}

// spend deducts a cost.
func (e *effort) spend(now time.Time, cost time.Duration) {
	e.refill(now)
	e.left = max(-effortDebt*time.Duration(runtime.GOMAXPROCS(0))/effortShare, e.left-cost)
}
