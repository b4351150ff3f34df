package approval

import (
	"sync"
	"time"

	"signet.example/signet/ca"
)

// failures remembers the last error of each waiting application at this instance. The audit log already has it, so
// that attempts that fail in the same way, one a minute for days, are one event. It is safe for concurrent use.
type failures struct {
	mu   sync.Mutex
	last map[ca.ApprovalID]failure
}

type failure struct {
	text  string
	first time.Time // when this process first saw it
}

// of returns the text of the last failure, or "" if there was none.
func (f *failures) of(id ca.ApprovalID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last[id].text
}

// note remembers the outcome of an attempt.
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

// forget drops failures first seen before a time, which must be so early that their applications have expired.
func (f *failures) forget(before time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, failed := range f.last {
		if failed.first.Before(before) {
			delete(f.last, id)
		}
	}
}
