package rpc

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimiters bounds how many callers are remembered.
const maxLimiters = 10_000

// limits is a rate limit for each of many callers.
type limits struct {
	limit rate.Limit
	burst int
	now   func() time.Time

	mu sync.Mutex
	by map[string]*rate.Limiter
}

// newLimits allows perSecond events a second for each caller, 0 for no limit, and burst at once, 0 for a second's worth.
func newLimits(perSecond float64, burst int, now func() time.Time) *limits {
	l := &limits{limit: rate.Limit(perSecond), burst: burst, now: now, by: map[string]*rate.Limiter{}}
	if perSecond == 0 {
		l.limit = rate.Inf
	}
	if burst == 0 {
		l.burst = max(1, int(perSecond))
	}
	return l
}

func (l *limits) of(caller string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, ok := l.by[caller]
	if ok {
		return limiter
	}
	if len(l.by) >= maxLimiters {
		l.forgetRested()
	}
	limiter = rate.NewLimiter(l.limit, l.burst)
	l.by[caller] = limiter
	return limiter
}

// forgetRested drops callers whose whole allowance is back: a new limiter says the same of them. If nobody rests,
// everybody starts anew, which bounds memory at the price of one allowance.
func (l *limits) forgetRested() {
	now := l.now()
	for caller, limiter := range l.by {
		if limiter.TokensAt(now) >= float64(l.burst) {
			delete(l.by, caller)
		}
	}
	if len(l.by) >= maxLimiters {
		clear(l.by)
	}
}

// allow takes one event of a caller's allowance.
func (l *limits) allow(caller string) bool {
	return l.limit == rate.Inf || l.of(caller).AllowN(l.now(), 1)
}

// wait waits until a caller may make one more: a stream is slowed down, not refused.
func (l *limits) wait(ctx context.Context, caller string) error {
	if l.limit == rate.Inf {
		return nil
	}
	return l.of(caller).Wait(ctx)
}
