package server

import (
	"log/slog"
	"sync"
	"time"
)

const (
	tellAgain = time.Minute // for how long a repeated error of a part is not logged again
	// calm is how long a part must not fail before it is logged as working again. The part with the longest pause tries
	// again after a minute.
	calm     = 90 * time.Second
	mostTold = 100 // different errors of a part that are distinguished
)

// troubles logs background errors: the same one once a minute, however often the part tries, and when the part works
// again. It is safe for concurrent use.
type troubles struct {
	log *slog.Logger

	mu    sync.Mutex
	parts map[string]*trouble // those that failed lately; guarded by mu
}

// trouble is about one part of the server.
type trouble struct {
	since, last time.Time
	told        map[string]time.Time // time of the log line, by error text
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

// once is report for an error that is logged only when it begins, or whose end is logged elsewhere.
func (t *troubles) once(part string, err error) {
	t.log.Error("something failed and will be tried again", "part", part, "error", err)
}

// close stops logging ends.
func (t *troubles) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.parts {
		p.over.Stop()
	}
	clear(t.parts)
}

// end logs that a part works again, unless it failed just before the timer fired.
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
