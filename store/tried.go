package store

import (
	"sync/atomic"
	"time"
)

// Tried is when a disk could last be written. Ping asks it, so that probes and scrapes do not write each time. The zero value is never. It is safe
// for concurrent use.
type Tried struct{ at atomic.Pointer[time.Time] }

// Lately reports whether the disk could be written within the last 5 seconds.
func (t *Tried) Lately(now time.Time) bool {
	at := t.at.Load()
	return at != nil && !now.Before(*at) && now.Sub(*at) < 5*time.Second
}

// Well notes that the disk could be written. That it could not is not noted: it is tried again at once.
func (t *Tried) Well(now time.Time) { t.at.Store(&now) }
