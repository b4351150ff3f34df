package handshake

import "sync"

// writer writes to the disk beside whoever has something to write, and would otherwise wait for a disk that hangs. It is
// safe for concurrent use.
type writer struct {
	mu      sync.Mutex
	waiting map[string]func() // by what is written; guarded by mu
	written chan struct{}     // closed when nothing is waiting any more; nil if nothing is being written; guarded by mu
}

// later has something written, instead of what is waiting under the same name. If so many are waiting already, it is
// not written.
func (w *writer) later(what string, most int, write func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) >= most {
		return
	}
	if w.written == nil {
		w.waiting, w.written = make(map[string]func()), make(chan struct{})
		go w.run()
	}
	w.waiting[what] = write
}

func (w *writer) run() {
	for write := w.next(); write != nil; write = w.next() {
		write()
	}
}

func (w *writer) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for what, write := range w.waiting {
		delete(w.waiting, what)
		return write
	}
	close(w.written)
	w.written = nil
	return nil
}

// wait waits until everything is written.
func (w *writer) wait() {
	w.mu.Lock()
	written := w.written
	w.mu.Unlock()
	if written != nil {
		<-written
	}
}
