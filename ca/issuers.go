package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// issuerKey is an issuer ready to sign: its key is open.
type issuerKey struct {
	Issuer
	key         *keys.Key
	algorithm   signatureAlgorithm
	keyID       []byte            // subjectKeyIdentifier of its certificate
	certificate *x509.Certificate // nil until it has its first
	ancestry    ancestry
	serials     []pki.Serial // of ancestry.links
	inMemory    bool         // the key is in this process
	tried       *atomic.Bool // a signature of the key has verified
}

// issuers holds the issuers and opens their keys when they are first needed, so that thousands of issuers cost nothing
// at start.
type issuers struct {
	store IssuerStore
	keys  keys.Store
	now   func() time.Time

	loading sync.Mutex // held from reading to applying, so that an older reading never replaces a newer one

	mu         sync.Mutex // guards the rest
	known      []Issuer
	ancestries map[pki.IssuerID]ancestry // of known issuers; filled on demand
	opened     map[pki.IssuerID]*issuerKey
	opening    map[pki.IssuerID]*opening
}

// opening is an attempt to open a key, shared by all callers that need it. A failed one is kept.
type opening struct {
	done chan struct{} // closed when the rest is set
	key  *issuerKey
	err  error
	at   time.Time
}

// ErrKeyElsewhere is wrapped by the error about a key that this instance does not have. Another instance may have it.
var ErrKeyElsewhere = errors.New("not at this instance")

// openAgain is how long ready waits after a failed attempt to open a key before it starts another.
const openAgain = 10 * time.Second

// load reads the issuers again. Keys that are open stay open.
func (s *issuers) load(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	known, err := s.store.Issuers(ctx)
	if err != nil {
		return err
	}
	if err := crossings(known, s.now()); err != nil {
		return &pki.Error{Kind: pki.KindInternal, Op: "read issuers", Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.ancestries = known, make(map[pki.IssuerID]ancestry)
	fresh := make(map[pki.IssuerID]*issuerKey, len(s.opened))
	for _, issuer := range known {
		old := s.opened[issuer.ID]
		if old == nil {
			continue
		}
		if k, err := newIssuerKey(issuer, old.key); err == nil {
			k.tried = old.tried
			fresh[issuer.ID] = k
		}
	}
	s.opened = fresh
	return nil
}

// list returns the issuers in order of creation.
func (s *issuers) list() []Issuer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known
}

func (s *issuers) find(id pki.IssuerID) (Issuer, error) {
	return findIn(s.list(), id)
}

func findIn(known []Issuer, id pki.IssuerID) (Issuer, error) {
	for _, issuer := range known {
		if issuer.ID == id {
			return issuer, nil
		}
	}
	return Issuer{}, pki.Errorf(pki.KindNotFound, "find issuer", "there is no issuer %s", id).InField("issuer")
}

// isRoot reports whether the issuer has a self-signed certificate, whether or not other roots have signed it too.
func (i *Issuer) isRoot() bool {
	return slices.ContainsFunc(i.Certificates, func(c IssuerCertificate) bool { return len(c.Chain) == 0 })
}

// SelfSigned reports whether the chosen certificate is self-signed.
func (i *Issuer) SelfSigned() bool {
	return len(i.Certificates) > 0 && len(i.Certificates[0].Chain) == 0
}

// ancestry returns an issuer and its ancestry, which it computes once after each load and not for every request.
func (s *issuers) ancestry(id pki.IssuerID) (Issuer, ancestry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	issuer, err := findIn(s.known, id)
	if err != nil {
		return Issuer{}, ancestry{}, err
	}
	read, ok := s.ancestries[id]
	if !ok {
		if read, err = ancestryOf(issuer); err != nil {
			return Issuer{}, ancestry{}, err
		}
		s.ancestries[id] = read
	}
	return issuer, read, nil
}

// open returns an issuer with its key. If the key is not open yet, open waits for it. Other issuers are not held up.
func (s *issuers) open(ctx context.Context, issuer Issuer) (*issuerKey, error) {
	k, o, err := s.begin(ctx, issuer, true)
	if k != nil || err != nil {
		return k, err
	}
	select {
	case <-o.done:
		return o.key, o.err
	case <-ctx.Done():
		return nil, pki.Errorf(pki.KindUnavailable, "open issuer", "the key of issuer %s: %w", issuer.Label, ctx.Err()).InField("issuer")
	}
}

// ready returns an issuer with its key if the key is open. It does not block. Otherwise it begins to open the key and
// returns KindUnavailable, or the error of an attempt that failed less than openAgain ago.
func (s *issuers) ready(ctx context.Context, issuer Issuer) (*issuerKey, error) {
	k, o, err := s.begin(ctx, issuer, false)
	if k != nil || err != nil {
		return k, err
	}
	select {
	case <-o.done:
		return o.key, o.err
	default:
		return nil, pki.Errorf(pki.KindUnavailable, "open issuer", "the key of issuer %s is being opened", issuer.Label).InField("issuer")
	}
}

// begin returns the key if it is open, else the attempt to open it, which it starts if there is none. With again, it
// starts another attempt even if the last one has just failed.
func (s *issuers) begin(ctx context.Context, issuer Issuer, again bool) (*issuerKey, *opening, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.opened[issuer.ID]; k != nil {
		return k, nil, nil
	}
	if issuer.KeyURI == "" {
		return nil, nil, pki.Errorf(pki.KindFailedPrecondition, "open issuer", "the key of issuer %s is off-line", issuer.Label).InField("issuer").
			WithHint("sign at the place where the key is: signet ceremony")
	}
	if o := s.opening[issuer.ID]; o != nil && (!o.ended() || !again && s.now().Sub(o.at) < openAgain) {
		return nil, o, nil
	}
	o := &opening{done: make(chan struct{})}
	s.opening[issuer.ID] = o
	ctx = context.WithoutCancel(ctx) // other callers wait for it too; keys.Guard has a deadline of its own
	go func() {
		key, err := s.unlock(ctx, issuer)
		s.finish(issuer, o, key, err)
	}()
	return nil, o, nil
}

func (o *opening) ended() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// unlock opens a key and checks that it is the issuer's.
func (s *issuers) unlock(ctx context.Context, issuer Issuer) (*keys.Key, error) {
	key, err := s.keys.Open(ctx, issuer.KeyURI)
	if err != nil {
		if pki.KindOf(err) == pki.KindNotFound {
			err = pki.Errorf(pki.KindFailedPrecondition, "open issuer", "the key of issuer %s is %w: %w", issuer.Label, ErrKeyElsewhere, err).InField("issuer").
				WithHint("ask an instance that has it, or copy it here: from keys/ in the state directory of the instance that made it, or from its backup")
		}
		return nil, err
	}
	hash, err := pki.HashPublicKey(key.Public())
	if err != nil || hash != issuer.KeyHash {
		return nil, pki.Errorf(pki.KindFailedPrecondition, "open issuer", "%s is not the key of issuer %s", issuer.KeyURI, issuer.Label).InField("issuer").
			WithHint("restore keys and database from the same backup")
	}
	return key, nil
}

// finish stores the result of an attempt to open a key, with the issuer as it is known by now.
func (s *issuers) finish(issuer Issuer, o *opening, key *keys.Key, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(o.done)
	o.at, o.err = s.now(), err
	if err != nil {
		return
	}
	for _, known := range s.known {
		if known.ID == issuer.ID {
			issuer = known
		}
	}
	if o.key, o.err = newIssuerKey(issuer, key); o.err == nil {
		s.opened[issuer.ID] = o.key
		delete(s.opening, issuer.ID)
	}
}

func newIssuerKey(issuer Issuer, key *keys.Key) (*issuerKey, error) {
	const op = "open issuer"
	k := &issuerKey{Issuer: issuer, key: key, inMemory: keys.InMemory(key.Signer), tried: new(atomic.Bool)}
	var err error
	if k.algorithm, err = algorithmFor(key.Public()); err != nil {
		return nil, &pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Field: "issuer", Err: err}
	}
	_, bits, err := splitSPKI(key.Public())
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
	}
	k.keyID = keyID(bits)
	if k.ancestry, err = ancestryOf(issuer); err != nil {
		return nil, err
	}
	for _, l := range k.ancestry.links {
		k.serials = append(k.serials, l.serial)
	}
	if chosen := issuer.certificate(); chosen != nil {
		if k.certificate, err = x509.ParseCertificate(chosen.DER); err != nil {
			return nil, &pki.Error{Kind: pki.KindInternal, Op: op, Field: "issuer", Err: err}
		}
		if len(k.certificate.SubjectKeyId) > 0 {
			k.keyID = k.certificate.SubjectKeyId // an imported certificate may have another than ours
		}
	}
	return k, nil
}

// usable refuses an issuer that must not sign now. An issuer that no longer issues still certifies its OCSP
// responders, because it still serves the status of what it issued.
func (k *issuerKey) usable(now time.Time, p *profile.Profile) error {
	const op = "use issuer"
	switch {
	case k.State != IssuerActive && !forResponder(p):
		return inactive(&k.Issuer)
	case k.certificate == nil:
		return pki.Errorf(pki.KindFailedPrecondition, op, "issuer %s has no certificate yet", k.Label).InField("issuer")
	case now.After(k.certificate.NotAfter):
		return ended(k.Label, k.certificate.NotAfter)
	case now.Before(k.certificate.NotBefore):
		return pki.Errorf(pki.KindFailedPrecondition, op, "issuer %s is not valid before %s", k.Label, k.certificate.NotBefore.Format(time.RFC3339)).
			InField("issuer").WithHint("check the clock of this machine")
	}
	return nil
}

// inactive returns the error about an issuer that does not issue. It is a refusal if the issuer is retired, because
// that is final.
func inactive(i *Issuer) error {
	if i.State == IssuerRetired {
		return pki.Errorf(pki.KindRefused, "use issuer", "issuer %s is retired", i.Label).InField("issuer").
			WithHint("ask another issuer, or let another succeed it: signet issuer create or update, with --succeeds %s", i.Label)
	}
	err := pki.Errorf(pki.KindFailedPrecondition, "use issuer", "issuer %s is %s", i.Label, i.State).InField("issuer")
	if i.State == IssuerPending {
		return err.WithHint("bring its certificate: signet issuer import FILE")
	}
	return err.WithHint("name another issuer, or none; an administrator makes it active again: signet issuer state %s active", i.Label)
}

func ended(label string, at time.Time) error {
	return pki.Errorf(pki.KindFailedPrecondition, "use issuer", "issuer %s expired at %s", label, at.Format(time.RFC3339)).InField("issuer").
		WithHint("create its successor with a new key and name")
}

// forResponder reports whether a profile is that of Signet's own OCSP responders.
func forResponder(p *profile.Profile) bool {
	return p.Internal && slices.ContainsFunc(p.ExtKeyUsage, profile.OCSPSigning.Equal)
}
