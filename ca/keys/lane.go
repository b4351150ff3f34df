package keys

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrNotAsked is wrapped by the error of a key that was not asked to sign: there is no signature and will be none.
// After any other error a device may have signed, or may still sign, and only its answer is lost.
var ErrNotAsked = errors.New("it was not asked")

var (
	errAbandoned = errors.New("it did not answer in time") // the call goes on
	errWaited    = fmt.Errorf("%w: there was no turn in time", ErrNotAsked)
	errResting   = fmt.Errorf("%w: it failed many times in a row", ErrNotAsked)
	errStuck     = fmt.Errorf("%w: it does not answer, and no more calls are begun until an abandoned one returns", ErrNotAsked)
)

func late(err error) bool { return err == errAbandoned || err == errWaited || err == errStuck }

// lane bounds calls that may never return.
type lane struct {
	now     func() time.Time
	places  chan struct{}
	hanging atomic.Int64 // calls that were abandoned and have not returned; each keeps its place
}

func newLane(places int, now func() time.Time) *lane {
	return &lane{now: now, places: make(chan struct{}, places)}
}

// enter takes a place. It fails at the deadline, or at once if abandoned calls hold all places.
func (l *lane) enter(deadline <-chan time.Time) error {
	select {
	case l.places <- struct{}{}:
		return nil
	default:
	}
	if int(l.hanging.Load()) >= cap(l.places) {
		return errStuck
	}
	select {
	case l.places <- struct{}{}:
		return nil
	case <-deadline:
		return errWaited
	}
}

// The states of a call.
const (
	callRunning int32 = iota
	callReturned
	callAbandoned
)

// within makes a call when its turn comes and returns its result, or one of the errors above. wait is the time until
// its turn. limit bounds the wait and the call together.
func within[T any](l *lane, limit time.Duration, call func() (T, error)) (value T, wait time.Duration, err error) {
	type result struct {
		value T
		err   error
	}
	begun := l.now()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	if err := l.enter(timer.C); err != nil {
		return value, l.now().Sub(begun), err
	}
	if wait = l.now().Sub(begun); wait > limit*4/5 { // too little is left: the call might be abandoned after it has signed
		<-l.places
		return value, wait, errWaited
	}
	var state atomic.Int32
	done := make(chan result, 1)
	go func() {
		v, err := call()
		if !state.CompareAndSwap(callRunning, callReturned) {
			l.hanging.Add(-1)
		}
		<-l.places
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, wait, r.err
	case <-timer.C:
	}
	if l.hanging.Add(1); state.CompareAndSwap(callRunning, callAbandoned) {
		return value, wait, errAbandoned
	}
	l.hanging.Add(-1) // it returned at the last moment
	r := <-done
	return r.value, wait, r.err
}
