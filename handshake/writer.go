package handshake

import (
	"bytes"
	"sync"

	"signet.example/signet/handshake/fetch"
)

const (
	// maxUnwritten and maxUnwrittenOctets bound the lists and answers of rounds that wait for the disk. One that would
	// exceed them is not written, and costs one more question after a restart.
	maxUnwritten       = 4096
	maxUnwrittenOctets = 64 << 20
)

// writer writes to the disk in a goroutine of its own, so that a disk that hangs does not hold up its callers. It
// writes revocations first, and otherwise in the order in which it was asked. It is safe for concurrent use.
type writer struct {
	mu        sync.Mutex            // guards the rest
	facts     []*unwritten          // revocations that wait
	others    []*unwritten          // what else waits
	byKey     map[string]*unwritten // of both
	octets    int                   // of all objects in others
	isWriting bool                  // the goroutine runs
}

// unwritten is something that waits for the disk.
type unwritten struct {
	key     string
	version fetch.Version
	octets  int
	write   func()
}

// remember has a revocation written, unless the same one waits already.
func (w *writer) remember(key string, write func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byKey[key] == nil && len(w.facts) < maxRemembered {
		w.facts = append(w.facts, w.begin(&unwritten{key: key, write: write}))
	}
}

// keep has an object written. It takes the place of an older version that waits, and is dropped if a newer one does.
func (w *writer) keep(object *fetch.Object, write func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.byKey[object.Key]; old != nil {
		if bytes.Compare(object.Version[:], old.version[:]) >= 0 {
			w.octets += len(object.Body) - old.octets
			old.version, old.octets, old.write = object.Version, len(object.Body), write
		}
		return
	}
	if len(w.others) >= maxUnwritten || w.octets > 0 && w.octets+len(object.Body) > maxUnwrittenOctets {
		return
	}
	w.octets += len(object.Body)
	w.others = append(w.others, w.begin(&unwritten{object.Key, object.Version, len(object.Body), write}))
}

// wait waits until everything is written that waits now.
func (w *writer) wait() {
	written := make(chan struct{})
	w.mu.Lock()
	if w.isWriting {
		w.others = append(w.others, &unwritten{write: func() { close(written) }})
	} else {
		close(written)
	}
	w.mu.Unlock()
	<-written
}

// begin registers what is about to wait, and starts the goroutine if it does not run. The caller holds mu.
func (w *writer) begin(u *unwritten) *unwritten {
	if w.byKey == nil {
		w.byKey = map[string]*unwritten{}
	}
	w.byKey[u.key] = u
	if !w.isWriting {
		w.isWriting = true
		go w.run()
	}
	return u
}

func (w *writer) run() {
	for write := w.next(); write != nil; write = w.next() {
		write()
	}
}

// next returns how to write what comes next; nil: nothing waits, and the goroutine ends.
func (w *writer) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue := &w.facts
	if len(*queue) == 0 {
		queue = &w.others
	}
	if len(*queue) == 0 {
		w.facts, w.others, w.isWriting = nil, nil, false
		return nil
	}
	u := (*queue)[0]
	*queue = (*queue)[1:]
	delete(w.byKey, u.key)
	w.octets -= u.octets
	return u.write
}
