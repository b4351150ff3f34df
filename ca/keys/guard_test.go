package keys_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
)

// device is a key outside the process, which hangs or fails when told to. It stands for a C library: what is called does
// not come back before the device does.
type device struct {
	crypto.Signer
	mu    sync.Mutex
	hang  chan struct{} // not nil: calls wait until it is closed
	fail  error
	takes time.Duration
	calls atomic.Int64
}

func newDevice(t *testing.T) *device {
	t.Helper()
	signer, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	return &device{Signer: signer}
}

func (d *device) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	d.mu.Lock()
	d.calls.Add(1)
	hang, fail := d.hang, d.fail
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	time.Sleep(d.takes)
	if fail != nil {
		return nil, fail
	}
	return d.Signer.Sign(random, digest, opts)
}

func (d *device) set(hang chan struct{}, fail error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hang, d.fail = hang, fail
}

// rack is a store of devices.
type rack map[string]*device

func (r rack) URI(name string) string { return "rack:" + name }

func (r rack) Create(context.Context, string, keys.Algorithm) (*keys.Key, error) {
	return nil, errors.New("a rack makes no keys")
}

func (r rack) Open(_ context.Context, uri string) (*keys.Key, error) {
	_, name, _ := strings.Cut(uri, ":")
	d := r[name]
	if d == nil {
		return nil, pki.Errorf(pki.KindNotFound, "open key", "there is none")
	}
	return &keys.Key{Signer: d, URI: uri}, nil
}

var digest = make([]byte, 32)

func sign(key *keys.Key, purpose keys.Purpose) error {
	_, err := key.For(purpose).Sign(rand.Reader, digest, crypto.SHA256)
	return err
}

func mustOpen(t *testing.T, g *keys.Guard, name string) *keys.Key {
	t.Helper()
	key, err := g.Open(t.Context(), g.URI(name))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func usage(t *testing.T, g *keys.Guard, uri string) keys.Usage {
	t.Helper()
	for _, u := range g.Usage() {
		if u.URI == uri {
			return u
		}
	}
	t.Fatalf("no usage of %s", uri)
	return keys.Usage{}
}

// A key that hangs costs each caller its deadline, then nothing: its places are held by calls that were given up, and
// further ones are refused at once. Status has places of its own, other keys go on, and when the device comes back so does
// the key.
func TestAKeyThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := newDevice(t), newDevice(t)
		g := keys.NewGuard(keys.GuardConfig{Store: rack{"bad": bad, "good": good}, Deadline: 5 * time.Second, Places: 2, Now: time.Now})
		slow, other := mustOpen(t, g, "bad"), mustOpen(t, g, "good")
		back := make(chan struct{})
		bad.set(back, nil)

		begun := time.Now()
		var wg sync.WaitGroup
		for range 10 { // two have a place; eight wait for one
			wg.Go(func() {
				err := sign(slow, keys.ForCertificate)
				if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || e.Hint == "" || !strings.Contains(e.Error(), "rack:bad") {
					t.Errorf("a hanging key: %v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begun); took != 5*time.Second {
			t.Errorf("ten callers waited %s", took)
		}
		if u := usage(t, g, "rack:bad"); u.Hanging != 2 || u.Abandoned != 2 || u.Queued != 0 || u.Failing == nil || u.Purposes[keys.ForCertificate].Failures != 10 {
			t.Errorf("usage %+v", u)
		}
		begun = time.Now()
		if err := sign(slow, keys.ForCertificate); pki.KindOf(err) != pki.KindUnavailable || time.Since(begun) != 0 {
			t.Errorf("with every place held: %v after %s", err, time.Since(begun))
		}
		if bad.calls.Load() != 2 {
			t.Errorf("%d calls into a device that does not return, want 2", bad.calls.Load())
		}
		// Lists of the same key are tried, in places of their own.
		if err := sign(slow, keys.ForCRL); pki.KindOf(err) != pki.KindUnavailable || bad.calls.Load() != 3 {
			t.Errorf("a list: %v, %d calls", err, bad.calls.Load())
		}
		if err := sign(other, keys.ForCertificate); err != nil {
			t.Errorf("another key: %v", err)
		}

		bad.set(nil, nil)
		close(back)
		synctest.Wait()
		if err := sign(slow, keys.ForCertificate); err != nil {
			t.Errorf("after it came back: %v", err)
		}
		if u := usage(t, g, "rack:bad"); u.Hanging != 0 || u.Abandoned != 3 || u.Failing != nil || u.Purposes[keys.ForCertificate].Signatures != 1 {
			t.Errorf("usage after %+v", u)
		}
	})
}

// A key that fails is counted, and says since when.
func TestAKeyThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		g := keys.NewGuard(keys.GuardConfig{Store: rack{"d": d}, Now: time.Now})
		key := mustOpen(t, g, "d")
		broken := errors.New("device error")
		d.set(nil, broken)
		since := time.Now()
		for range 3 {
			if err := sign(key, keys.ForOCSP); !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
			time.Sleep(time.Minute)
		}
		u := usage(t, g, "rack:d")
		if u.Failing == nil || !u.Failing.Since.Equal(since) || !errors.Is(u.Failing.Err, broken) || u.Purposes[keys.ForOCSP].Failures != 3 || u.Purposes[keys.ForOCSP].Sign.Count != 3 {
			t.Errorf("usage %+v", u)
		}
		d.set(nil, nil)
		if err := sign(key, keys.ForOther); err != nil {
			t.Fatal(err)
		}
		if u := usage(t, g, "rack:d"); u.Failing != nil || u.Purposes[keys.ForOther].Signatures != 1 {
			t.Errorf("usage %+v", u)
		}
	})
}

// A turn that comes when the time is nearly over is not taken: the call would be given up, and a signature made of which nobody knows.
func TestATurnThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		d.takes = 3 * time.Second
		g := keys.NewGuard(keys.GuardConfig{Store: rack{"d": d}, Places: 1, Deadline: 7 * time.Second, Now: time.Now})
		key := mustOpen(t, g, "d")
		var wg sync.WaitGroup
		var made, refused atomic.Int64
		for range 3 { // the third has its turn after six seconds
			wg.Go(func() {
				switch err := sign(key, keys.ForCertificate); {
				case err == nil:
					made.Add(1)
				case errors.Is(err, keys.ErrNotAsked):
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if made.Load() != 2 || refused.Load() != 1 || d.calls.Load() != 2 {
			t.Errorf("%d made, %d refused, %d calls; want 2, 1, 2", made.Load(), refused.Load(), d.calls.Load())
		}
	})
}

// What a call answers after it was given up: a failure was noted then, a signature shows that the key is well.
func TestAnswersThatComeLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		g := keys.NewGuard(keys.GuardConfig{Store: rack{"d": d}, Places: 4, Now: time.Now})
		key := mustOpen(t, g, "d")
		giveUp := func(calls int, late error) (answer func()) {
			hang := make(chan struct{})
			d.set(hang, late)
			var wg sync.WaitGroup
			for range calls {
				wg.Go(func() {
					if err := sign(key, keys.ForCertificate); pki.KindOf(err) != pki.KindUnavailable {
						t.Errorf("a call that hangs: %v", err)
					}
				})
			}
			wg.Wait()
			d.set(nil, nil)
			return func() { close(hang); synctest.Wait() }
		}
		answer := giveUp(3, errors.New("the session is gone"))
		if err := sign(key, keys.ForCRL); err != nil {
			t.Fatal(err)
		}
		if answer(); usage(t, g, "rack:d").Failing != nil {
			t.Errorf("a key that signs fails because of what it was asked before: %+v", usage(t, g, "rack:d").Failing)
		}
		answer = giveUp(3, nil)
		if f := usage(t, g, "rack:d").Failing; f == nil || f.Times != 3 {
			t.Errorf("failing %+v, want it three times", f)
		}
		if answer(); usage(t, g, "rack:d").Failing != nil {
			t.Error("a key that has signed, though late, still fails")
		}
	})
}

// A device that fails whatever it is asked, though it may have signed, is not asked for every certificate: each costs an index. It is
// tried once after each pause, by one caller however many wait; lists and OCSP are signed as soon as it can.
func TestAKeyThatGoesOnFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		broken := errors.New("device error")
		var g *keys.Guard
		var key *keys.Key
		guarded := func() {
			g = keys.NewGuard(keys.GuardConfig{Store: rack{"d": d}, Places: 4, Now: time.Now})
			key = mustOpen(t, g, "d")
		}
		crowd := func() {
			t.Helper()
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					err := sign(key, keys.ForCertificate)
					if rests := strings.Contains(fmt.Sprint(err), "tried again at"); !errors.Is(err, broken) || rests && (pki.KindOf(err) != pki.KindUnavailable || !errors.Is(err, keys.ErrNotAsked)) {
						t.Errorf("got %v", err)
					}
				})
			}
			wg.Wait()
		}
		calls := func(when string, least, most int64) {
			t.Helper()
			if n := d.calls.Swap(0); n < least || n > most {
				t.Errorf("%s: %d calls, want %d to %d", when, n, least, most)
			}
		}
		d.takes = time.Millisecond
		guarded()
		d.set(nil, broken)
		crowd()
		calls("a crowd at first", 8, 11) // four have a place at a time
		guarded()
		d.set(nil, fmt.Errorf("%w: no session: %w", keys.ErrNotAsked, broken))
		crowd()
		calls("what was not asked costs nothing", 100, 100)
		d.set(nil, broken)
		for range 20 {
			if err := sign(key, keys.ForCRL); !errors.Is(err, broken) {
				t.Errorf("a list: %v", err)
			}
		}
		calls("lists cost nothing either", 20, 20)
		for range 8 {
			if err := sign(key, keys.ForCertificate); !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
		}
		calls("at first", 8, 8)
		for _, pause := range append([]time.Duration{1, 2, 4, 8, 16, 32}, slices.Repeat([]time.Duration{60}, 40)...) {
			time.Sleep(pause*time.Second - 1)
			crowd()
			calls("in a pause", 0, 0)
			if u := usage(t, g, "rack:d"); u.Failing == nil || u.Failing.Until != time.Now().Add(1) {
				t.Errorf("usage %+v, want it to rest until %s", u.Failing, time.Now().Add(1))
			}
			time.Sleep(time.Nanosecond)
			crowd()
			calls("after a pause", 1, 1)
		}
		if err := sign(key, keys.ForCRL); !errors.Is(err, broken) || errors.Is(err, keys.ErrNotAsked) {
			t.Errorf("a list: %v", err)
		}
		calls("a list", 1, 1)
		use := usage(t, g, "rack:d").Purposes[keys.ForCertificate]
		if use.Failures != 100+8+46 || use.Refused != 46*199 {
			t.Errorf("use %+v", use)
		}
		d.set(nil, nil)
		if err := sign(key, keys.ForCertificate); !errors.Is(err, keys.ErrNotAsked) {
			t.Errorf("before the pause is over: %v", err)
		}
		if err := sign(key, keys.ForCRL); err != nil {
			t.Error(err)
		}
		for range 2 { // any signature ends it
			if err := sign(key, keys.ForCertificate); err != nil {
				t.Error(err)
			}
		}
	})
}

// The queue has a bound, and time in it is counted apart from time in the device.
func TestTheQueueOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		g := keys.NewGuard(keys.GuardConfig{Store: rack{"d": d}, Deadline: time.Minute, Queue: 3, Places: 1, Now: time.Now})
		key := mustOpen(t, g, "d")
		back := make(chan struct{})
		d.set(back, nil)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := sign(key, keys.ForCertificate); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if err := sign(key, keys.ForCertificate); pki.KindOf(err) != pki.KindExhausted || !errors.Is(err, keys.ErrNotAsked) {
			t.Errorf("a fourth in a queue of three: %v", err)
		}
		if u := usage(t, g, "rack:d"); u.Queued != 3 || u.Failing != nil {
			t.Errorf("usage %+v", u)
		}
		time.Sleep(time.Second)
		close(back)
		wg.Wait()
		use := usage(t, g, "rack:d").Purposes[keys.ForCertificate]
		if use.Signatures != 3 || use.Refused != 1 || use.Wait.Sum != 2*time.Second || use.Sign.Sum != time.Second || use.Sign.Within[0] != 2 || use.Sign.Within[len(use.Sign.Within)-1] != 3 {
			t.Errorf("use %+v", use)
		}
	})
}

// Opening may hang as well.
func TestAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &hungStore{back: make(chan struct{})}
		g := keys.NewGuard(keys.GuardConfig{Store: store, Now: time.Now})
		for i := range 10 {
			if _, err := g.Open(t.Context(), "hung:x"); pki.KindOf(err) != pki.KindUnavailable {
				t.Errorf("open: %v", err)
			}
			if want := int64(min(i+1, 8)); store.calls.Load() != want {
				t.Errorf("%d calls, want %d", store.calls.Load(), want)
			}
		}
		close(store.back)
	})
}

type hungStore struct {
	rack
	back  chan struct{}
	calls atomic.Int64
}

func (s *hungStore) Open(context.Context, string) (*keys.Key, error) {
	s.calls.Add(1)
	<-s.back
	return nil, errors.New("too late")
}

// A key in memory is called directly and counted all the same.
func TestAKeyInMemory(t *testing.T) {
	signer, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	g := keys.NewGuard(keys.GuardConfig{Store: memory{signer}})
	key := mustOpen(t, g, "x")
	if !keys.InMemory(key.Signer) || !keys.InMemory(key.For(keys.ForCRL)) {
		t.Error("it does not count as in memory")
	}
	again := mustOpen(t, g, "x")
	for _, k := range []*keys.Key{key, again} {
		if err := sign(k, keys.ForCRL); err != nil {
			t.Fatal(err)
		}
	}
	if all := g.Usage(); len(all) != 1 || all[0].Purposes[keys.ForCRL].Signatures != 2 || all[0].Provider != "memory" || all[0].Key == (pki.KeyHash{}) {
		t.Errorf("usage %+v", all)
	}
}

// However many sign at once on a large machine, a key in memory refuses nobody: an OCSP responder would answer that it failed.
func TestABurstInMemory(t *testing.T) {
	const most = 200
	_, signer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	meeting := &meeting{all: make(chan struct{})}
	meeting.missing.Store(most)
	key := mustOpen(t, keys.NewGuard(keys.GuardConfig{Store: memory{signer}, Queue: 1}), "x").For(keys.ForOCSP)
	var burst sync.WaitGroup
	for range most {
		burst.Go(func() {
			if _, err := key.Sign(rand.Reader, digest, meeting); err != nil {
				t.Error(err)
				meeting.come()
			}
		})
	}
	burst.Wait()
}

// meeting holds up signatures until so many are being made.
type meeting struct {
	missing atomic.Int64
	all     chan struct{}
}

func (m *meeting) come() {
	if m.missing.Add(-1) == 0 {
		close(m.all)
	}
}

// HashFunc implements crypto.SignerOpts.
func (m *meeting) HashFunc() crypto.Hash {
	m.come()
	<-m.all
	return 0
}

type memory struct{ signer crypto.Signer }

func (m memory) URI(name string) string { return "memory:" + name }

func (m memory) Create(context.Context, string, keys.Algorithm) (*keys.Key, error) { return nil, nil }

func (m memory) Open(_ context.Context, uri string) (*keys.Key, error) {
	return &keys.Key{Signer: m.signer, URI: uri}, nil
}

func BenchmarkSignInMemory(b *testing.B) {
	signer, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		b.Fatal(err)
	}
	guarded, err := keys.NewGuard(keys.GuardConfig{Store: memory{signer}}).Open(b.Context(), "memory:x")
	if err != nil {
		b.Fatal(err)
	}
	for name, s := range map[string]crypto.Signer{"bare": signer, "guarded": guarded.For(keys.ForCertificate)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
