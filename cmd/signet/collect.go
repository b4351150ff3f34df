package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// garbage is how much garbage, in octets, accumulates in the server between collections, unless more than that is live.
const garbage = 96 << 20

// collectRarely sets the pace of the garbage collector until ctx ends. The cost of a collection depends on the live
// heap, which is small compared with what requests allocate. At the runtime's default pace, which is twice the live
// heap, there are many collections a second; with this, about two. From 96 MiB of live heap on, the default pace
// applies again.
func collectRarely(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		debug.SetGCPercent(pace(liveHeap()))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// pace returns GOGC for a live heap of a number of octets. It is limited, in case the heap grows much within a second.
func pace(live uint64) int {
	return int(min(max(garbage*100/max(live, 1), 100), 800))
}

// liveHeap returns what the last collection found live, in octets; 0 before the first.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
