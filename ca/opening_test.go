package ca_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// cupboard is a keyring that counts how often it is opened, and is slow, fails or gives another key on request.
type cupboard struct {
	*keyring

	mu    sync.Mutex // guards the rest
	opens int
	ctx   context.Context // of the last time
	held  chan struct{}   // if not nil: Open waits until it is closed
	fails error
	gives *keys.Key // if not nil: whatever is asked for
}

func (c *cupboard) Open(ctx context.Context, uri string) (*keys.Key, error) {
	c.mu.Lock()
	c.opens, c.ctx = c.opens+1, ctx
	held, fails, gives := c.held, c.fails, c.gives
	c.mu.Unlock()
	if held != nil {
		<-held
	}
	if fails != nil || gives != nil {
		return gives, fails
	}
	return c.keyring.Open(ctx, uri)
}

func (c *cupboard) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// opened waits until it was opened so often.
func (c *cupboard) opened(t *testing.T, want int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		opens := c.opens
		c.mu.Unlock()
		if opens == want {
			return
		}
		if opens > want || time.Now().After(end) {
			t.Fatalf("opened %d times, want %d", opens, want)
		}
	}
}

func newCupboard(t *testing.T) (*cupboard, *town) {
	c := &cupboard{keyring: &keyring{opened: make(map[string]*keys.Key)}}
	w := newTownWith(t, testdb.SQLite(t), c)
	c.opens = 0
	return c, w
}

// A key is opened once for all who ask, also if the first of them goes away, and stays open when issuers are read again.
func TestAKeyIsOpenedOnce(t *testing.T) {
	c, w := newCupboard(t)
	a := w.instance(w.store)
	held := make(chan struct{})
	c.set(func() { c.held = held })
	first, leaves := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, _, err := a.IssuerSigner(first, w.issuing.ID)
		left <- err
	}()
	c.opened(t, 1)
	_, err := a.ReadySigner(t.Context(), w.issuing.ID)
	wantError(t, err, pki.KindUnavailable, "issuer")
	if err == nil || !strings.Contains(err.Error(), "is being opened") {
		t.Errorf("who does not wait is told %v", err)
	}
	leaves()
	wantError(t, <-left, pki.KindUnavailable, "issuer")
	_, _, err = a.IssuerSigner(first, w.issuing.ID) // who has no time either
	wantError(t, err, pki.KindUnavailable, "issuer")
	c.set(func() {
		if err := c.ctx.Err(); err != nil {
			t.Errorf("for those who still wait it is given up: %v", err)
		}
	})
	close(held)
	for range 2 {
		if _, _, err := a.IssuerSigner(t.Context(), w.issuing.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ReadySigner(t.Context(), w.issuing.ID); err != nil {
			t.Error(err)
		}
		if err := a.TestingOnlyRefresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.opened(t, 1)
}

// A key that could not be opened is left alone for ten seconds by who does not wait for it; who waits has it opened again.
func TestAKeyThatIsAway(t *testing.T) {
	c, w := newCupboard(t)
	a := w.instance(w.store)
	c.fails = pki.Errorf(pki.KindUnavailable, "open key", "the drawer is stuck")
	stuck := func(err error) {
		t.Helper()
		if pki.KindOf(err) != pki.KindUnavailable || err == nil || !strings.Contains(err.Error(), "the drawer is stuck") {
			t.Errorf("%v", err)
		}
	}
	_, _, err := a.IssuerSigner(t.Context(), w.issuing.ID)
	stuck(err)
	w.clock.advance(10*time.Second - 1)
	_, err = a.ReadySigner(t.Context(), w.issuing.ID)
	stuck(err)
	c.opened(t, 1)
	w.clock.advance(1)
	for again := true; again; again = err != nil && strings.Contains(err.Error(), "is being opened") {
		_, err = a.ReadySigner(t.Context(), w.issuing.ID)
	}
	stuck(err)
	c.opened(t, 2)
	_, _, err = a.IssuerSigner(t.Context(), w.issuing.ID)
	stuck(err)
	c.opened(t, 3)
	c.set(func() { c.fails = nil })
	if _, _, err := a.IssuerSigner(t.Context(), w.issuing.ID); err != nil {
		t.Error(err)
	}
}

// What is opened has to be the issuer's key, and of one that is off-line there is none.
func TestTheKeyOfAnotherIsNoKey(t *testing.T) {
	c, w := newCupboard(t)
	a := w.instance(w.store)
	c.gives = &keys.Key{Signer: newKey(t), URI: w.issuing.KeyURI}
	_, _, err := a.IssuerSigner(t.Context(), w.issuing.ID)
	if wantError(t, err, pki.KindFailedPrecondition, "issuer"); err == nil || !strings.Contains(err.Error(), "is not the key of issuer issuing") {
		t.Errorf("%v", err)
	}
	c.gives = nil
	made := bring(t, w, c.keyring, "far", nil)
	far, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "far", BaseURL: "http://pki.test", DER: made.der})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = w.IssuerSigner(t.Context(), far.ID)
	if wantError(t, err, pki.KindFailedPrecondition, "issuer"); err == nil || !strings.Contains(err.Error(), "the key of issuer far is off-line") {
		t.Errorf("%v", err)
	}
}

// A key that is there already is taken up only by who began with it: not if it cannot be opened, nor if it is another issuer's.
func TestAKeyThatIsThereAlready(t *testing.T) {
	c, w := newCupboard(t)
	made := bring(t, w, c.keyring, "drawer", nil)
	if _, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "adopted", KeyURI: made.key.URI, BaseURL: "http://pki.test", DER: made.der}); err != nil {
		t.Fatal(err)
	}
	_, err := w.CreateIssuer(t.Context(), w.manage(), newIssuer("drawer", "Drawer", w.root))
	wantError(t, err, pki.KindConflict, "name")
	bring(t, w, c.keyring, "stuck", nil)
	c.fails = pki.Errorf(pki.KindUnavailable, "open key", "the drawer is stuck")
	_, err = w.CreateIssuer(t.Context(), w.manage(), ca.NewIssuer{Label: "stuck", Subject: ca.Subject{CommonName: "Stuck"}, BaseURL: "http://pki.test"})
	wantError(t, err, pki.KindConflict, "name")
}
