package keys

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/pki"
)

// Purpose is what a signature is for. Uses of a key are counted by purpose. The zero value is ForOther.
type Purpose uint8

// The purposes.
const (
	ForOther       Purpose = iota // CSRs for its own certificate, proofs of possession, trials
	ForCertificate                // a TBSCertificate
	ForCRL                        // a revocation list
	ForOCSP                       // an OCSP response
	purposes
)

var purposeNames = [purposes]string{"other", "certificate", "crl", "ocsp"}

// String returns the lower-case name, as in metrics and the audit log.
func (p Purpose) String() string { return purposeNames[min(p, purposes-1)] }

// Purposes returns all purposes.
func Purposes() []Purpose { return []Purpose{ForOther, ForCertificate, ForCRL, ForOCSP} }

// For returns the key as a signer for one purpose. If a Guard opened the key, it counts and bounds signatures by
// purpose.
func (k *Key) For(p Purpose) crypto.Signer {
	if g, ok := k.Signer.(*guardedKey); ok {
		return purposed{g, p}
	}
	return k.Signer
}

// GuardConfig bounds the use of keys.
type GuardConfig struct {
	Store    Store            // required
	Deadline time.Duration    // of one signature, waiting included; zero: 5 s
	Opening  time.Duration    // deadline of opening a key; zero: 20 s
	Queue    int              // signatures for certificates by one key that wait or are being made; zero: 1024
	Places   int              // concurrent calls into the device of one key, for certificates; zero: 4
	Now      func() time.Time // nil: time.Now
}

const (
	statusPlaces = 2  // concurrent calls for CRLs and OCSP, besides Places, so that issuing does not delay them
	statusQueue  = 64 // signatures for CRLs and OCSP that wait or are being made
	openPlaces   = 8  // keys of one scheme that are opened concurrently
	makeDeadline = 2 * time.Minute

	// After restAfter failures in a row to sign a certificate, a key rests. Each failure costs an index, because the
	// device may have made the signature.
	restAfter = 8
	restFirst = time.Second // first pause; it doubles each time
	restMost  = time.Minute // longest pause
)

// Guard is a Store whose keys cannot block their users. Signatures by a key in memory are only counted. A key
// elsewhere is called from a goroutine of its own. A call that has not returned at its deadline is abandoned, because
// a call into a C library cannot be ended, and keeps its place until it returns. So at most Places and two more calls
// per key ever hang. While all places hang, further calls fail at once with KindUnavailable. A key elsewhere that
// failed to sign eight certificates in a row is asked for only one more after each pause. A Guard is safe for
// concurrent use.
type Guard struct {
	config GuardConfig

	mu      sync.Mutex // guards the rest
	keys    map[string]*guardedKey
	opening map[string]*lane // by scheme
}

// NewGuard guards a store.
func NewGuard(config GuardConfig) *Guard {
	config.Deadline = cmp.Or(config.Deadline, 5*time.Second)
	config.Opening = cmp.Or(config.Opening, 20*time.Second)
	config.Queue = cmp.Or(config.Queue, 1024)
	config.Places = cmp.Or(config.Places, 4)
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Guard{config: config, keys: make(map[string]*guardedKey), opening: make(map[string]*lane)}
}

// Create implements Store.
func (g *Guard) Create(ctx context.Context, name string, algorithm Algorithm) (*Key, error) {
	ctx = context.WithoutCancel(ctx) // an abandoned call may still make the key; ca.CreateIssuer then uses it
	return g.find(g.URI(name), makeDeadline, func() (*Key, error) { return g.config.Store.Create(ctx, name, algorithm) })
}

// URI implements Store.
func (g *Guard) URI(name string) string { return g.config.Store.URI(name) }

// Open implements Store.
func (g *Guard) Open(ctx context.Context, uri string) (*Key, error) {
	ctx = context.WithoutCancel(ctx)
	return g.find(uri, g.config.Opening, func() (*Key, error) { return g.config.Store.Open(ctx, uri) })
}

func (g *Guard) find(uri string, deadline time.Duration, find func() (*Key, error)) (*Key, error) {
	provider := providerOf(uri)
	g.mu.Lock()
	l := g.opening[provider]
	if l == nil {
		l = newLane(openPlaces, g.config.Now)
		g.opening[provider] = l
	}
	g.mu.Unlock()
	key, _, err := within(l, deadline, find)
	if late(err) {
		return nil, pki.Errorf(pki.KindUnavailable, "open key", "%s: %w", uri, err).InField("key").
			WithHint("is the token or its network there? the keys of other providers go on working")
	}
	if err != nil {
		return nil, err
	}
	return &Key{Signer: g.guard(key, provider), URI: key.URI, Secret: key.Secret}, nil
}

// guard returns the one guard of a key, however often it is opened.
func (g *Guard) guard(key *Key, provider string) *guardedKey {
	g.mu.Lock()
	defer g.mu.Unlock()
	known := g.keys[key.URI]
	if known != nil && samePublic(known.signer.Public(), key.Public()) {
		return known
	}
	hash, _ := pki.HashPublicKey(key.Public()) // zero if the key cannot be encoded; such a key is never used
	fresh := &guardedKey{
		config: &g.config, uri: key.URI, hash: hash, provider: provider, signer: key.Signer, inMemory: InMemory(key.Signer),
		issuing: newLane(g.config.Places, g.config.Now), status: newLane(statusPlaces, g.config.Now),
	}
	g.keys[key.URI] = fresh
	return fresh
}

func samePublic(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

func providerOf(uri string) string {
	scheme, _, _ := strings.Cut(uri, ":")
	return scheme
}

// Usage returns the usage of every key that was opened, sorted by URI.
func (g *Guard) Usage() []Usage {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []Usage
	for _, k := range g.keys {
		all = append(all, k.usage())
	}
	slices.SortFunc(all, func(a, b Usage) int { return strings.Compare(a.URI, b.URI) })
	return all
}

// guardedKey is one key with its bounds and counters.
type guardedKey struct {
	config   *GuardConfig
	uri      string
	hash     pki.KeyHash
	provider string
	signer   crypto.Signer
	inMemory bool

	issuing, status *lane // places in the device
	queued          [2]atomic.Int64
	abandoned       atomic.Uint64
	meters          [purposes]meter
	failing         atomic.Pointer[Failing]
}

// Public implements crypto.Signer.
func (k *guardedKey) Public() crypto.PublicKey { return k.signer.Public() }

// Sign implements crypto.Signer, for no purpose in particular.
func (k *guardedKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.sign(ForOther, random, digest, opts)
}

// purposed is a guarded key for one purpose.
type purposed struct {
	*guardedKey
	purpose Purpose
}

// Sign implements crypto.Signer.
func (s purposed) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(s.purpose, random, digest, opts)
}

func (k *guardedKey) sign(p Purpose, random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	queue, most, l := &k.queued[0], int64(k.config.Queue), k.issuing
	if p == ForCRL || p == ForOCSP {
		queue, most, l = &k.queued[1], statusQueue, k.status
	}
	if queue.Add(1) > most && !k.inMemory { // a key in memory waits for processors only, whose use is bounded elsewhere
		queue.Add(-1)
		k.meters[p].refused.Add(1)
		return nil, pki.Errorf(pki.KindExhausted, "sign", "%d signatures wait for key %s: %w", most, k.uri, ErrNotAsked).WithHint("try again later")
	}
	defer queue.Add(-1)
	begun := k.config.Now()
	if k.inMemory {
		signature, err := k.signer.Sign(random, digest, opts)
		k.meters[p].count(0, k.config.Now().Sub(begun), err)
		k.note(p, err)
		return signature, err
	}
	digest = bytes.Clone(digest) // an abandoned call reads it for longer than the caller keeps it
	signature, wait, err := within(l, k.config.Deadline, func() ([]byte, error) {
		if err := k.rested(p); err != nil { // checked when its turn comes, since calls before it may have failed meanwhile
			return nil, err
		}
		signature, err := k.signer.Sign(random, digest, opts)
		// A failure after the deadline was noted already when the call was abandoned. A signature is always noted.
		if err == nil || k.config.Now().Sub(begun) < k.config.Deadline {
			k.note(p, err) // before the turn of the next call
		}
		return signature, err
	})
	if errors.Is(err, errResting) {
		k.meters[p].refused.Add(1)
		return nil, pki.Errorf(pki.KindUnavailable, "sign", "key %s: %w", k.uri, err).WithHint("try again later; /readyz shows when the key signs again")
	}
	k.meters[p].count(wait, k.config.Now().Sub(begun)-wait, err)
	if late(err) {
		if err == errAbandoned {
			k.abandoned.Add(1)
		}
		err = pki.Errorf(pki.KindUnavailable, "sign", "key %s: %w", k.uri, err).
			WithHint("is the token or its network there? calls that do not return are abandoned, and other keys go on working")
		k.note(p, err)
	}
	return signature, err
}

// note remembers since when the key has failed, and begins a pause if it failed often enough.
func (k *guardedKey) note(p Purpose, err error) {
	for {
		was := k.failing.Load()
		var is *Failing
		switch {
		case err == nil && was == nil:
			return
		case err != nil && was == nil:
			is = &Failing{Since: k.config.Now(), Err: err}
		case err != nil:
			is = new(*was)
		}
		if p == ForCertificate && err != nil && !errors.Is(err, ErrNotAsked) {
			is.Times++
			is.rest(k.config.Now())
		}
		if k.failing.CompareAndSwap(was, is) {
			return
		}
	}
}

// rested returns an error if the key rests. For certificates, a resting key is asked once after each pause. For every
// other purpose it never rests.
func (k *guardedKey) rested(p Purpose) error {
	for p == ForCertificate {
		was, now := k.failing.Load(), k.config.Now()
		if was == nil || was.Until.IsZero() {
			break
		}
		if now.Before(was.Until) {
			return fmt.Errorf("%w; it is tried again at %s: %w", errResting, was.Until.UTC().Format(time.RFC3339), was.Err)
		}
		trial := new(*was)
		trial.rest(now) // the next pause, for all other calls during this trial
		if k.failing.CompareAndSwap(was, trial) {
			break
		}
	}
	return nil
}

func (k *guardedKey) usage() Usage {
	u := Usage{
		URI: k.uri, Key: k.hash, Provider: k.provider, Queued: int(k.queued[0].Load() + k.queued[1].Load()),
		Hanging: int(k.issuing.hanging.Load() + k.status.hanging.Load()), Abandoned: k.abandoned.Load(), Failing: k.failing.Load(),
	}
	for p := range purposes {
		u.Purposes[p] = k.meters[p].use()
	}
	return u
}
