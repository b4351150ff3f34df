package approval

import (
	"sync"
	"time"

	"signet.example/signet/ca"
)

// failures remembers of each application that waits what it failed with at this instance, which the audit log has then: an attempt a minute, for days,
// that comes to the same is one event. It is safe for concurrent use.
type failures struct {
	mu   sync.Mutex
	last map[ca.ApprovalID]failure
}

type failure struct {
	text  string
	first time.Time // when this process met it
}

// of is the text of the last failure; empty: there was none.
func (f *failures) of(id ca.ApprovalID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last[id].text
}

// note remembers what an attempt came to.
func (f *failures) note(id ca.ApprovalID, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		delete(f.last, id)
	case f.last[id].text != err.Error():
		f.last[id] = failure{err.Error(), now}
	}
}

// forget forgets what was met before a time: by then the application has expired.
func (f *failures) forget(before time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, failed := range f.last {
		if failed.first.Before(before) {
			delete(f.last, id)
		}
	}
}
