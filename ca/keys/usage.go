package keys

import (
	"sync/atomic"
	"time"

	"signet.example/signet/pki"
)

// Usage describes what a key has done since this process opened it, and its present state.
type Usage struct {
	URI      string
	Key      pki.KeyHash
	Provider string // scheme of the URI: "softkey", "pkcs11"

	Queued    int      // signatures that wait or are being made
	Hanging   int      // calls that were abandoned and have not returned
	Abandoned uint64   // calls that were ever abandoned
	Failing   *Failing // nil: the last signature succeeded
	Purposes  [purposes]Use
}

// Failing describes a series of failures: every signature of the key has failed since.
type Failing struct {
	Since time.Time // first failure
	Err   error     // of the first failure
	Times int       // failures for certificates in which the device was asked, and so may have signed
	Until time.Time // the key is not asked for a certificate before; zero: no pause
}

// rest begins a pause if there were enough failures.
func (f *Failing) rest(now time.Time) {
	if over := f.Times - restAfter; over >= 0 {
		f.Until = now.Add(min(restFirst<<min(over, 6), restMost))
	}
}

// Use counts the uses of a key for one purpose.
type Use struct {
	Signatures uint64 // made
	Failures   uint64 // tried and not made, abandoned ones included
	Refused    uint64 // not tried: the queue was full, or the key rested
	Wait, Sign Timing // of all signatures tried
}

// Timing is a histogram of durations.
type Timing struct {
	Count  uint64
	Sum    time.Duration
	Within [len(timingBounds)]uint64 // how many took at most TimingBounds()[i]
}

// timingBounds range from a signature in memory to one that is abandoned.
var timingBounds = [...]time.Duration{
	100 * time.Microsecond, 500 * time.Microsecond, 2 * time.Millisecond, 10 * time.Millisecond,
	50 * time.Millisecond, 200 * time.Millisecond, time.Second, 5 * time.Second,
}

// TimingBounds returns the bounds of Timing.Within, ascending. Do not write to the result.
func TimingBounds() []time.Duration { return timingBounds[:] }

// meter counts a Use. It is safe for concurrent use.
type meter struct {
	made, failed, refused atomic.Uint64
	wait, sign            timer
}

func (m *meter) count(wait, sign time.Duration, err error) {
	if err != nil {
		m.failed.Add(1)
	} else {
		m.made.Add(1)
	}
	m.wait.add(wait)
	m.sign.add(sign)
}

func (m *meter) use() Use {
	return Use{m.made.Load(), m.failed.Load(), m.refused.Load(), m.wait.timing(), m.sign.timing()}
}

type timer struct {
	sum    atomic.Int64
	counts [len(timingBounds) + 1]atomic.Uint64 // by the first bound that is not exceeded; the last exceeds all
}

func (t *timer) add(d time.Duration) {
	i := 0
	for i < len(timingBounds) && d > timingBounds[i] {
		i++
	}
	t.counts[i].Add(1)
	t.sum.Add(int64(d))
}

func (t *timer) timing() Timing {
	out := Timing{Sum: time.Duration(t.sum.Load())}
	for i := range t.counts {
		out.Count += t.counts[i].Load()
		if i < len(out.Within) {
			out.Within[i] = out.Count
		}
	}
	return out
}
