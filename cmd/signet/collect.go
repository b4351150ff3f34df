package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// garbage is how much the server lets collect before it collects, in octets, unless more than that is alive.
const garbage = 96 << 20

// collectRarely sets the pace of the garbage collector until ctx ends. A collection costs what is alive, and what is alive
// is little beside what requests allocate, so the runtime's own pace, at the double of what is alive, collects many times a
// second; with this it is about twice. From 96 MiB of live heap on, it is the runtime's own pace again.
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

// pace is GOGC for a live heap of so many octets. It stays below what would matter if the heap grew within a second.
func pace(live uint64) int {
	return int(min(max(garbage*100/max(live, 1), 100), 800))
}

// liveHeap is what the last collection found alive; 0 before the first.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
