package keys

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"signet.example/signet/pki"
)

// LateConfig configures a Late.
type LateConfig struct {
	Open func() (Store, error)    // required; after an error of KindUnavailable it is called again, any other is final
	URI  func(name string) string // required; as Store.URI, but must not need the device
	Wait time.Duration            // how long NewLate waits; zero: 5 s
}

// Late is a Store in a device that may be away, or not answer, when this process starts. Until the device is there,
// its methods fail at once with KindUnavailable, and Run goes on trying. It is safe for concurrent use.
type Late struct {
	config LateConfig

	mu    sync.Mutex    // guards the rest
	store Store         // nil: not open yet
	err   error         // why it is not open
	ended chan struct{} // closed when the present attempt has ended
}

const (
	lateFirst = time.Second // between two attempts, doubling
	lateMost  = time.Minute
)

// NewLate opens the store. It returns an error only if opening failed for good, not if the device is still away at the
// end of LateConfig.Wait.
func NewLate(config LateConfig) (*Late, error) {
	config.Wait = cmp.Or(config.Wait, 5*time.Second)
	l := &Late{config: config}
	timer := time.NewTimer(config.Wait)
	defer timer.Stop()
	select {
	case <-l.begin():
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err != nil && pki.KindOf(l.err) != pki.KindUnavailable {
			return nil, l.err
		}
	case <-timer.C:
	}
	return l, nil
}

// begin starts an attempt in a goroutine. Callers must not start a second one before it has ended, because an attempt
// that hangs cannot be ended and holds a thread.
func (l *Late) begin() (ended chan struct{}) {
	ended = make(chan struct{})
	l.mu.Lock()
	l.ended = ended
	if l.err == nil {
		l.err = pki.Errorf(pki.KindUnavailable, "open key store", "it does not answer")
	}
	l.mu.Unlock()
	go func() {
		store, err := l.config.Open()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.store, l.err = store, err
		if err != nil {
			l.store = nil
		}
		close(ended)
	}()
	return ended
}

// Run tries again, with growing pauses of at most a minute, until the store is open, opening failed for good, or ctx
// ends. It calls report, if not nil, with every error.
func (l *Late) Run(ctx context.Context, report func(error)) {
	l.mu.Lock()
	ended := l.ended
	l.mu.Unlock()
	for pause := lateFirst; ; pause = min(2*pause, lateMost) {
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
		_, err := l.opened("open key store")
		if err == nil {
			return
		}
		if report != nil {
			report(err)
		}
		if pki.KindOf(err) != pki.KindUnavailable {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		ended = l.begin()
	}
}

// opened returns the store, or an error while it is not open.
func (l *Late) opened(op string) (Store, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.store != nil {
		return l.store, nil
	}
	e := &pki.Error{Kind: pki.KindOf(l.err), Op: op, Field: "key", Err: l.err}
	if e.Kind != pki.KindUnavailable {
		return nil, e.WithHint("correct the configuration under keys: and start this instance again")
	}
	if cause, ok := errors.AsType[*pki.Error](l.err); ok && cause.Hint != "" {
		return nil, e.WithHint("%s; the keys of other stores go on working", cause.Hint)
	}
	return nil, e.WithHint("is the token or its network there? it is tried again automatically, and the keys of other stores go on working")
}

// Away returns why the store is not open, or nil if it is.
func (l *Late) Away() error {
	_, err := l.opened("open key store")
	return err
}

// URI implements Store.
func (l *Late) URI(name string) string { return l.config.URI(name) }

// Create implements Store.
func (l *Late) Create(ctx context.Context, name string, algorithm Algorithm) (*Key, error) {
	store, err := l.opened("create key")
	if err != nil {
		return nil, err
	}
	return store.Create(ctx, name, algorithm)
}

// Open implements Store.
func (l *Late) Open(ctx context.Context, uri string) (*Key, error) {
	store, err := l.opened("open key")
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, uri)
}
