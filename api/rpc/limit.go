package rpc

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"signet.example/signet/pki"
)

// maxLimiters is the largest number of callers that are remembered.
const maxLimiters = 10_000

// limits is a rate limit for each of many callers.
type limits struct {
	limit rate.Limit
	burst int
	now   func() time.Time

	mu sync.Mutex
	by map[string]*rate.Limiter
}

// newLimits returns limits of perSecond events a second for each caller (0: no limit) and of burst events at once (0:
// those of one second).
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

// forgetRested forgets callers whose whole allowance is restored: a new limiter would be the same. If there are none,
// it forgets all, which bounds memory at the price of one allowance each.
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

// allow reports whether a caller may make one more event, and counts it.
func (l *limits) allow(caller string) bool {
	return l.limit == rate.Inf || l.of(caller).AllowN(l.now(), 1)
}

// shares bounds how many of something each caller has at once, and all callers together.
type shares struct {
	most, each int // most 0: the total is bounded elsewhere

	mu  sync.Mutex
	all int // guarded by mu, as is by
	by  map[string]int
}

func newShares(most, each int) *shares { return &shares{most: most, each: each, by: map[string]int{}} }

// enter counts one more for a caller until leave is called.
func (s *shares) enter(who string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most > 0 && s.all >= s.most {
		return nil, pki.Errorf(pki.KindExhausted, "wait for a turn", "%d requests wait already, or are under way", s.all).
			WithHint("try again in a moment")
	}
	if s.by[who] >= s.each {
		return nil, pki.Errorf(pki.KindExhausted, "wait for a turn", "%d requests of %s wait already, or are under way", s.each, who).
			WithHint("try again in a moment")
	}
	s.all++
	s.by[who]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.by[who]--; s.by[who] == 0 {
			delete(s.by, who)
		}
	}, nil
}

// turns is a pool of places for work that strangers can cause. Callers wait in order, and one source may have only a
// limited number waiting: it can delay the others by that, but not shut them out.
type turns struct {
	places chan struct{}
	shares *shares // of callers that have a place or wait for one
}

// newTurns returns a pool of a number of places. Each source may have at most each callers working or waiting.
func newTurns(places, each int) *turns {
	return &turns{make(chan struct{}, places), newShares(0, each)}
}

// take waits for a place. A caller that gets one calls leave.
func (t *turns) take(ctx context.Context, source string) (leave func(), err error) {
	gone, err := t.shares.enter(source)
	if err != nil {
		return nil, err
	}
	select {
	case t.places <- struct{}{}:
		return func() { <-t.places; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, &pki.Error{Kind: pki.KindUnavailable, Op: "wait for a turn", Err: ctx.Err()}
	}
}

// networkOf returns what counts as one source: an IPv4 address, or the /64 of an IPv6 address, which is what one host
// is given.
func networkOf(source string) string {
	addr, err := netip.ParseAddr(source)
	if err != nil || addr.Unmap().Is4() {
		return source
	}
	network, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return source
	}
	return network.String()
}

// wait waits until a caller may make one more event: a stream is slowed down, not refused.
func (l *limits) wait(ctx context.Context, caller string) error {
	if l.limit == rate.Inf {
		return nil
	}
	return l.of(caller).Wait(ctx)
}
