package handshake

import (
	"context"
	"slices"
	"time"
)

// inTurn asks places one after the other until what they said is enough. A place that is silent keeps nobody waiting for long: after its part of the
// time the next is asked beside it. What was said until then is returned, in the order of the places; who is still being asked goes on if he may outlive
// the question, and what he says is for him to keep.
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

// partOf is the part of a time after which the next of so many places is asked. The last has one too, to answer in.
func partOf(limit time.Duration, places int) time.Duration { return limit / time.Duration(places+1) }
