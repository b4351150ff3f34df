package ca_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/lint"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// shape writes the ranges of the issuing CA as "from-to state".
func (w *town) shape(t *testing.T) string {
	t.Helper()
	text := ""
	for r, err := range w.store.ChangedRanges(t.Context(), 0, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Issuer == w.issuing.ID {
			text += fmt.Sprintf("%d-%d %s ", r.From, r.To, map[revocation.RangeState]string{revocation.RangeOpen: "open", revocation.RangeClosed: "closed", revocation.RangeFree: "free"}[r.State])
		}
	}
	return text
}

func TestRangesGrowUnderLoadShrinkAndAreGivenBack(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		request := server(t, "a.example.com")
		issue := func(n int) {
			t.Helper()
			for range n {
				w.mustIssue(request)
			}
		}
		tick := func(n int) {
			t.Helper()
			for range n {
				if err := w.TestingOnlyTick(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := func(when, shape string) {
			t.Helper()
			if got := w.shape(t); got != shape {
				t.Errorf("%s: %q, want %q", when, got, shape)
			}
		}
		issue(1)
		want("the first", "0-16 open ")
		issue(16)
		want("used up", "0-16 closed 16-48 open ")
		issue(32)
		want("used up again", "0-16 closed 16-48 closed 48-112 open ")
		tick(59)
		want("idle for a while", "0-16 closed 16-48 closed 48-112 open ")
		tick(2)
		want("idle for long", "0-16 closed 16-48 closed 48-49 closed 49-112 free ")
		issue(1)
		want("small again", "0-16 closed 16-48 closed 48-49 closed 49-65 open 65-112 free ")

		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		want("stopped", "0-16 closed 16-48 closed 48-49 closed 49-50 closed 50-65 free 65-112 free ")
		if _, err := w.issue(w.Authority, request); err == nil {
			t.Error("issued after the stop")
		}
		other := w.instance(s)
		if _, err := w.issue(other, request); err != nil {
			t.Fatal(err)
		}
		want("another instance", "0-16 closed 16-48 closed 48-49 closed 49-50 closed 50-65 open 65-112 free ")
	})
}

// A refusal by lint comes after the index was taken; the next certificate has it.
func TestALintFailureGivesTheIndexBack(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	dir := t.TempDir()
	strict := "name: strict\nlifetime: 30d\nnames:\n  dns: {allow: ['*']}\nkey_usage: [digital_signature]\nextended_key_usage: [server_auth]\nlint: {sources: [CABF_BR]}\n"
	if err := os.WriteFile(filepath.Join(dir, "strict.yaml"), []byte(strict), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.profiles, err = profile.Open(dir); err != nil {
		t.Fatal(err)
	}
	a := w.instance(w.store)
	for i := range uint64(3) {
		request := server(t, "a.example.com")
		request.Profile = "strict"
		_, err := w.issue(a, request)
		wantError(t, err, pki.KindRefused, "")
		failure, ok := errors.AsType[*lint.Failure](err)
		if !ok || !strings.Contains(failure.Findings[0].Citation, "BR") {
			t.Errorf("the failure names no rule of the Baseline Requirements: %v", err)
		}
		issued, err := w.issue(a, server(t, "a.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		if issued.Position.Index != i {
			t.Errorf("index %d, want %d", issued.Position.Index, i)
		}
	}
}

// trouble is a keyring whose keys are in a device that does what it is told to.
type trouble struct {
	keyring
	does atomic.Value  // one of the below; nothing: it signs
	hang chan struct{} // closed: what hangs returns
}

const (
	signs      = "signs"
	failsAfter = "fails after it has signed"
	isNotAsked = "is not asked"
	hangs      = "hangs"
	panics     = "panics"
)

type troubled struct {
	crypto.Signer
	device *trouble
}

func (k *trouble) Create(ctx context.Context, name string, algorithm keys.Algorithm) (*keys.Key, error) {
	if _, err := k.keyring.Create(ctx, name, algorithm); err != nil {
		return nil, err
	}
	return k.Open(ctx, k.URI(name))
}

func (k *trouble) Open(ctx context.Context, uri string) (*keys.Key, error) {
	key, err := k.keyring.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	return &keys.Key{Signer: troubled{key.Signer, k}, URI: key.URI, Secret: key.Secret}, nil
}

func (s troubled) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch s.device.does.Load() {
	case failsAfter:
		if _, err := s.Signer.Sign(random, digest, opts); err != nil {
			return nil, err
		}
		return nil, errors.New("device error")
	case isNotAsked:
		return nil, fmt.Errorf("%w: the token is not present", keys.ErrNotAsked)
	case hangs:
		<-s.device.hang
	case panics:
		panic("in the middle of a signature")
	}
	return s.Signer.Sign(random, digest, opts)
}

// What a key was certainly not asked for costs no index, or an hour of its absence would fill the lists with voids. What it may have
// signed, or may still sign, is void: whatever comes of it has a name.
func TestAKeyThatFailsAfterSigningCostsAnIndexAndOneNotAskedNone(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		device := &trouble{keyring: keyring{opened: make(map[string]*keys.Key)}, hang: make(chan struct{})}
		w := newTownWith(t, s, device)
		w.keys = keys.NewGuard(keys.GuardConfig{Store: device, Deadline: 3 * time.Second, Places: 2, Now: w.clock.Now})
		a := w.instance(w.store)
		next := func(when string, want uint64) {
			t.Helper()
			device.does.Store(signs)
			issued, err := w.issue(a, server(t, "a.example.com"))
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if got := issued.Position.Index; got != want {
				t.Errorf("%s: index %d, want %d", when, got, want)
			}
		}
		refused := func(does string, times int) {
			t.Helper()
			device.does.Store(does)
			for range times {
				_, err := w.issue(a, server(t, "a.example.com"))
				wantError(t, err, pki.KindUnavailable, "issuer")
			}
		}
		next("at first", 0)
		refused(failsAfter, 2)
		next("after it failed", 3)
		refused(isNotAsked, 20)
		next("after it was not asked", 4)
		refused(hangs, 2) // two calls hang, and then none is made any more
		refused(hangs, 20)
		close(device.hang)
		for deadline := time.Now().Add(time.Minute); w.keys.Usage()[0].Hanging > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the calls never return")
			}
		}
		next("after it did not answer", 7)
		refused(failsAfter, 20) // eight are tried, and then none before a second has passed
		w.clock.advance(time.Second)
		next("after it went on failing", 16)
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := readBooks(t, s)
		b.check(t, w.Issuers())
		var void []uint64
		for at := range b.void {
			void = append(void, at.Index)
		}
		if slices.Sort(void); !slices.Equal(void, []uint64{1, 2, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15}) {
			t.Errorf("void are %v, want what was asked for and not recorded", void)
		}
	})
}

// A signature that panics leaves a range that can be closed, with its index void.
func TestAKeyThatPanics(t *testing.T) {
	device := &trouble{keyring: keyring{opened: make(map[string]*keys.Key)}}
	w := newTownWith(t, testdb.SQLite(t), device)
	s := w.store
	a, err := ca.New(t.Context(), ca.Config{Profiles: w.profiles, Keys: device, Issuers: s, Ranges: s, Certificates: s, Inventory: s, Audit: s})
	if err != nil {
		t.Fatal(err)
	}
	device.does.Store(panics)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nothing panicked")
			}
		}()
		_, err := w.issue(a, server(t, "a.example.com"))
		t.Errorf("issued: %v", err)
	}()
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.shape(t); got != "0-1 closed 1-16 free " {
		t.Errorf("ranges: %q", got)
	}
	if b := readBooks(t, s); len(b.void) != 1 {
		t.Errorf("void are %v, want one", b.void)
	}
}

// Ranges of an issuer whose key is not here, however many, hide no range of another; and one whose key does not come keeps nobody
// who renews leases.
func TestReconcilingBesideKeysThatAreAway(t *testing.T) {
	ring := &keyring{opened: make(map[string]*keys.Key)}
	w := newTownWith(t, testdb.SQLite(t), ring)
	reserve := func(issuer ca.Issuer, n int) {
		t.Helper()
		for range n {
			if _, err := w.store.Reserve(t.Context(), ca.Reservation{Issuer: issuer.ID, Epoch: 3000, Count: 1, Owner: ca.OwnerID{1}, Lease: -time.Second}); err != nil {
				t.Fatal(err)
			}
		}
	}
	reserve(w.root, 101)
	reserve(w.issuing, 1)
	w.keys = keys.NewGuard(keys.GuardConfig{Store: &keyring{opened: map[string]*keys.Key{w.issuing.KeyURI: ring.opened[w.issuing.KeyURI]}}})
	a := w.instance(w.store)
	voids, err := a.Reconcile(t.Context())
	if voids != 1 || !errors.Is(err, ca.ErrKeyElsewhere) || strings.Count(err.Error(), ca.ErrKeyElsewhere.Error()) != 1 {
		t.Errorf("%d void, %v", voids, err)
	}

	never := &absent{keyring: ring, hang: make(chan struct{})}
	defer close(never.hang)
	w.keys = keys.NewGuard(keys.GuardConfig{Store: never, Opening: time.Hour})
	a = w.instance(w.store)
	reconciled := make(chan error, 1)
	go func() { reconciled <- a.TestingOnlyReconcile(t.Context()) }()
	select {
	case err := <-reconciled:
		if pki.KindOf(err) != pki.KindUnavailable {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits for a key")
	}
}

// absent is a store of keys that does not answer.
type absent struct {
	*keyring
	hang chan struct{}
}

func (k *absent) Open(ctx context.Context, uri string) (*keys.Key, error) {
	<-k.hang
	return k.keyring.Open(ctx, uri)
}
