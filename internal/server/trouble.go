package server

import (
	"log/slog"
	"sync"
	"time"
)

const (
	tellAgain = time.Minute      // how long the same trouble of a part is told once only
	calm      = 90 * time.Second // after which the end is told of what did not fail again: whoever waits longest tries again after a minute
	mostTold  = 100              // troubles of a part that are told apart
)

// troubles logs what goes wrong in the background: the same once a minute, however often it is tried, and when it is over. It is safe
// for concurrent use.
type troubles struct {
	log *slog.Logger

	mu    sync.Mutex
	parts map[string]*trouble // guarded by mu; those that failed lately
}

// trouble is that of one part of the server.
type trouble struct {
	since, last time.Time
	told        map[string]time.Time // by what was said
	over        *time.Timer
}

func (t *troubles) report(part string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	p := t.parts[part]
	if p == nil {
		p = &trouble{since: now, told: make(map[string]time.Time)}
		p.over = time.AfterFunc(calm, func() { t.end(part) })
		if t.parts == nil {
			t.parts = make(map[string]*trouble)
		}
		t.parts[part] = p
	}
	p.last = now
	p.over.Reset(calm)
	text := err.Error()
	if at, ok := p.told[text]; ok && now.Sub(at) < tellAgain {
		return
	}
	if len(p.told) >= mostTold {
		clear(p.told)
	}
	p.told[text] = now
	t.once(part, err)
}

// once is report for what is told when it begins and not again, or has an end of its own.
func (t *troubles) once(part string, err error) {
	t.log.Error("something failed and will be tried again", "part", part, "error", err)
}

// close tells no end any more.
func (t *troubles) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.parts {
		p.over.Stop()
	}
	clear(t.parts)
}

// end tells that a part works again, unless it failed while the timer ran out.
func (t *troubles) end(part string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.parts[part]
	if p == nil || time.Since(p.last) < calm {
		return
	}
	delete(t.parts, part)
	t.log.Info("it has not failed again", "part", part, "failing_for", p.last.Sub(p.since).Round(time.Second).String(), "calm_for", calm.String())
}
