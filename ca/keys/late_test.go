package keys_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
)

// lateDevice is a store that is away until it is brought.
type lateDevice struct {
	keys.Store
	attempts atomic.Int64
	answer   func(attempt int) error
}

func (d *lateDevice) open() (keys.Store, error) {
	return d, d.answer(int(d.attempts.Add(1)))
}

func (d *lateDevice) Create(context.Context, string, keys.Algorithm) (*keys.Key, error) {
	return nil, nil
}

func (d *lateDevice) Open(context.Context, string) (*keys.Key, error) {
	return &keys.Key{URI: "device:x"}, nil
}

var errAway = pki.Errorf(pki.KindUnavailable, "open device", "it is unplugged")

// A store that hangs and then is away does not keep anybody, is tried one attempt at a time with growing pauses, and is there
// when it comes.
func TestAStoreThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &lateDevice{answer: func(attempt int) error {
			switch {
			case attempt == 1:
				time.Sleep(time.Hour) // a library that does not return
				return errAway
			case attempt < 9:
				return errAway
			}
			return nil
		}}
		begun := time.Now()
		late, err := keys.NewLate(keys.LateConfig{Open: d.open, URI: func(name string) string { return "device:" + name }})
		if err != nil || time.Since(begun) != 5*time.Second {
			t.Fatalf("%v after %s", err, time.Since(begun))
		}
		if late.URI("x") != "device:x" {
			t.Error("it cannot be named")
		}
		told := make(chan error, 16)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go late.Run(ctx, func(err error) { told <- err })
		refused := func(when string) {
			t.Helper()
			synctest.Wait()
			_, err := late.Open(t.Context(), "device:x")
			_, made := late.Create(t.Context(), "x", keys.ECDSAP256)
			for _, err := range []error{err, made} {
				if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || e.Field != "key" || e.Hint == "" {
					t.Errorf("%s: %v", when, err)
				}
			}
		}
		refused("while it hangs")
		time.Sleep(30 * time.Minute)
		if refused("still"); d.attempts.Load() != 1 {
			t.Errorf("%d attempts beside one that hangs", d.attempts.Load())
		}
		time.Sleep(30 * time.Minute)
		refused("away")
		if err := <-told; !errors.Is(err, errAway) {
			t.Errorf("told %v", err)
		}
		time.Sleep((1 + 2 + 4 + 8 + 16 + 32 + 60 + 59 - 5) * time.Second) // pauses: 1, 2, 4 ... 32, 60, 60 s, since 5 s ago; the last is not over
		if refused("nearly"); d.attempts.Load() != 8 {
			t.Errorf("%d attempts", d.attempts.Load())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if key, err := late.Open(t.Context(), "device:x"); err != nil || key.URI != "device:x" || d.attempts.Load() != 9 || len(told) != 7 {
			t.Errorf("%v, %v after %d attempts, told %d times since the first", key, err, d.attempts.Load(), len(told))
		}
	})
}

// What is for good is said at the start; what turns out to be for good later is not tried again.
func TestAStoreThatNeverComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := pki.Errorf(pki.KindFailedPrecondition, "open device", "no such library")
		config := func(d *lateDevice) keys.LateConfig {
			return keys.LateConfig{Open: d.open, URI: func(string) string { return "" }, Wait: time.Second}
		}
		if _, err := keys.NewLate(config(&lateDevice{answer: func(int) error { return wrong }})); !errors.Is(err, wrong) {
			t.Errorf("got %v", err)
		}
		d := &lateDevice{answer: func(attempt int) error {
			if attempt == 1 {
				return errAway
			}
			return wrong
		}}
		late, err := keys.NewLate(config(d))
		if err != nil {
			t.Fatal(err)
		}
		late.Run(t.Context(), nil) // it ends
		if _, err := late.Open(t.Context(), "device:x"); pki.KindOf(err) != pki.KindFailedPrecondition || d.attempts.Load() != 2 {
			t.Errorf("%v after %d attempts", err, d.attempts.Load())
		}
	})
}
