package ocspserver

import (
	"errors"
	"runtime"
	"sync/atomic"
	"time"
)

// errBusy says that more wait for a signature than the queue holds.
var errBusy = errors.New("too many requests wait for a signature")

// pool bounds how many signatures are made at once, and how many callers wait for a place.
type pool struct {
	places   chan struct{}
	queue    int64
	patience time.Duration
	waiting  atomic.Int64
}

func newPool(places, queue int, patience time.Duration) *pool {
	if places == 0 {
		places = runtime.GOMAXPROCS(0)
	}
	return &pool{places: make(chan struct{}, places), queue: int64(queue), patience: patience}
}

// enter waits for a place, as long as the pool is patient; errBusy if too many wait already or it takes too long.
// Whoever is in calls leave.
func (p *pool) enter() error {
	if p.tryEnter() {
		return nil
	}
	if p.waiting.Add(1) > p.queue {
		p.waiting.Add(-1)
		return errBusy
	}
	defer p.waiting.Add(-1)
	timer := time.NewTimer(p.patience)
	defer timer.Stop()
	select {
	case p.places <- struct{}{}:
		return nil
	case <-timer.C:
		return errBusy
	}
}

// tryEnter takes a place if one is free: for work that nobody waits for.
func (p *pool) tryEnter() bool {
	select {
	case p.places <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p *pool) leave() { <-p.places }
