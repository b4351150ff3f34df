package handshake

import (
	"sync"
	"time"
)

const (
	maxTries     = 4096
	tryNotBefore = 10 * time.Second // for something that was not on disk: by now it may be
)

// tries remember when something missing was last looked for: a list or an answer on disk, a delta, a list where there
// is none.
type tries struct {
	mu   sync.Mutex
	last map[place]time.Time // guarded by mu
}

func newTries() *tries { return &tries{last: make(map[place]time.Time)} }

// recent reports whether something was looked for less than a pause ago.
func (t *tries) recent(what place, pause time.Duration, at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, tried := t.last[what]
	since := at.Sub(last)
	return tried && since >= 0 && since < pause
}

func (t *tries) note(what place, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) >= maxTries {
		for other := range t.last {
			delete(t.last, other)
			break
		}
	}
	t.last[what] = at
}
