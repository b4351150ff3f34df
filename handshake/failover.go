package handshake

import (
	"context"
	"slices"
	"time"
)

// inTurn asks the places in order until enough has been said. If a place stays silent for its share of the time, the
// next is asked in parallel. It returns what was said so far, in the order of the places; a place still being asked may
// finish on its own.
func inTurn[T any](ctx context.Context, c *Checker, limit time.Duration, places int, ask func(ctx context.Context, place int) []T, enough func([]T) bool) []T {
	if places == 1 {
		return ask(ctx, 0)
	}
	type answer struct {
		place int
		said  []T
	}
	answers, said := make(chan answer, places), make([][]T, places)
	silence := time.NewTimer(partOf(limit, places))
	defer silence.Stop()
	asked := 0
	askNext := func() {
		if place := asked; place < places {
			asked++
			silence.Reset(partOf(limit, places))
			ctx, done := c.outlive(ctx)
			go func() {
				defer done()
				answers <- answer{place, ask(ctx, place)}
			}()
		}
	}
	askNext()
	for heard := 0; heard < asked && ctx.Err() == nil; {
		select {
		case a := <-answers:
			heard++
			said[a.place] = a.said
			if enough(slices.Concat(said...)) {
				return slices.Concat(said...)
			}
			askNext()
		case <-silence.C:
			askNext()
		case <-ctx.Done():
		}
	}
	return slices.Concat(said...)
}

// partOf returns the share of the time after which the next place is asked. The last place has a share too.
func partOf(limit time.Duration, places int) time.Duration { return limit / time.Duration(places+1) }
