package ca_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
	strict := "name: strict\nlifetime: 90d\nnames:\n  dns: {allow: ['*']}\nkey_usage: [digital_signature]\nextended_key_usage: [server_auth]\nlint: {sources: [CABF_BR]}\n"
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

// trouble is a keyring whose keys are in a device that fails, or does not answer, on demand.
type trouble struct {
	keyring
	fails atomic.Bool
	hangs atomic.Bool
	hang  chan struct{} // closed: what hangs returns
}

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
	switch {
	case s.device.fails.Load():
		return nil, errors.New("device error")
	case s.device.hangs.Load():
		<-s.device.hang
	}
	return s.Signer.Sign(random, digest, opts)
}

// What a device does not sign costs no index, or an hour of its absence would fill the lists with voids. What it may still sign does.
func TestAKeyThatFailsCostsNoIndex(t *testing.T) {
	device := &trouble{keyring: keyring{opened: make(map[string]*keys.Key)}, hang: make(chan struct{})}
	w := newTownWith(t, testdb.SQLite(t), device)
	w.keys = keys.NewGuard(keys.GuardConfig{Store: device, Deadline: 50 * time.Millisecond, Places: 2})
	a := w.instance(w.store)
	next := func(when string, want uint64) {
		t.Helper()
		issued, err := w.issue(a, server(t, "a.example.com"))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got := issued.Position.Index; got != want {
			t.Errorf("%s: index %d, want %d", when, got, want)
		}
	}
	refused := func(times int) {
		t.Helper()
		for range times {
			_, err := w.issue(a, server(t, "a.example.com"))
			wantError(t, err, pki.KindUnavailable, "issuer")
		}
	}
	next("at first", 0)
	device.fails.Store(true)
	refused(20)
	device.fails.Store(false)
	next("after it failed", 1)
	device.hangs.Store(true)
	refused(2) // two calls hang, and then none is made any more
	refused(20)
	device.hangs.Store(false)
	close(device.hang)
	for deadline := time.Now().Add(10 * time.Second); w.keys.Usage()[0].Hanging > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the calls never return")
		}
	}
	next("after it did not answer", 4)
}
