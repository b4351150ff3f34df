package ocspserver

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// DelegationConfig says for which keys, and how, a Delegation maintains certificates.
type DelegationConfig struct {
	// Key is this instance's responder key, ECDSA P-256. The caller stores it encrypted, so it is the same after a
	// restart and its certificates stay useful. It never leaves the instance. Required.
	Key crypto.Signer
	// KeyFor returns the responder key for one issuer, given a certificate of the issuer, and may create it. A
	// post-quantum issuer needs a post-quantum key, or its answers would be as weak as Key. KeyFor is called until it
	// succeeds. Nil: Key serves every issuer.
	KeyFor func(ctx context.Context, issuer *x509.Certificate) (crypto.Signer, error)
	// Lost returns which of the responder keys are compromised: keys that are blocked, or whose certificate was revoked
	// and has not expired, even if this process never knew of that certificate. It is called in every round. Nil: no
	// key is ever lost.
	Lost func(ctx context.Context, keys []pki.KeyHash) ([]pki.KeyHash, error)
	// Retire puts away a lost key, so that KeyFor makes another. Required with Lost.
	Retire func(ctx context.Context, key crypto.Signer) error
	// Store is the table of requests. Required.
	Store Responders
	// Issuers returns one certificate of each on-line issuer. Required.
	Issuers func() []*x509.Certificate
	// Certifier issues certificates for this and other instances. Nil: this instance does not issue.
	Certifier Certifier

	// Now is the clock. Zero: time.Now.
	Now func() time.Time
	// Poll is the time between two rounds. Zero: 2 seconds.
	Poll time.Duration
}

// Limits of one round.
const (
	renewAge    = 24 * time.Hour  // a certificate of this age is replaced
	askAgain    = time.Minute     // after this time an unanswered request is made again
	claimLimit  = 64              // requests that one round certifies
	leaveFor    = 5 * time.Second // how long an issuer that this instance failed to certify for is left to others
	recordGrace = 10 * time.Second
)

// Delegation is a Delegates that renews itself: it requests certificates through the table and, on an issuing instance,
// has them signed. A certificate lives 7 days, or until its issuer expires, and is replaced every day. So lifetimes
// overlap: a new certificate invalidates nothing in any cache, and issuing instances may be down for days. It is safe
// for concurrent use.
type Delegation struct {
	config DelegationConfig

	rounds  sync.Mutex // held during a round
	mu      sync.RWMutex
	current map[pki.IssuerID][]*Delegate // valid or about to be, newest last; guarded by mu
	asked   map[pki.IssuerID]time.Time   // guarded by rounds
	failed  map[pki.IssuerID]time.Time   // when certifying failed; guarded by rounds
	keys    map[pki.IssuerID]*ownKey     // guarded by rounds
}

// ownKey is a key of this responder and its certificate request.
type ownKey struct {
	signer crypto.Signer
	hash   pki.KeyHash
	csr    []byte
}

func newOwnKey(signer crypto.Signer) (*ownKey, error) {
	const op = "prepare OCSP delegation"
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "OCSP responder"}}, signer)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	hash, err := pki.HashPublicKey(signer.Public())
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	return &ownKey{signer, hash, csr}, nil
}

// NewDelegation returns a Delegation without certificates. Round and Run obtain them.
func NewDelegation(config DelegationConfig) (*Delegation, error) {
	const op = "prepare OCSP delegation"
	if config.Key == nil || config.Store == nil || config.Issuers == nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "no key, no store or no issuers")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Lost != nil && (config.Retire == nil || config.KeyFor == nil) {
		return nil, pki.Errorf(pki.KindInvalid, op, "keys can get lost, and nothing replaces them")
	}
	config.Poll = cmp.Or(config.Poll, 2*time.Second)
	if _, err := newOwnKey(config.Key); err != nil {
		return nil, err
	}
	if config.KeyFor == nil {
		config.KeyFor = func(context.Context, *x509.Certificate) (crypto.Signer, error) { return config.Key, nil }
	}
	return &Delegation{
		config: config, current: make(map[pki.IssuerID][]*Delegate), keys: make(map[pki.IssuerID]*ownKey),
		asked: make(map[pki.IssuerID]time.Time), failed: make(map[pki.IssuerID]time.Time),
	}, nil
}

// Current implements Delegates.
func (d *Delegation) Current(issuer pki.IssuerID) (*Delegate, error) {
	now := d.config.Now()
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, delegate := range slices.Backward(d.current[issuer]) {
		if delegate.validAt(now) {
			return delegate, nil
		}
	}
	return nil, pki.Errorf(pki.KindUnavailable, "sign OCSP response", "issuer %s has not certified this responder", issuer).
		WithHint("is an instance running that holds the issuer's key?")
}

func (d *Delegate) validAt(now time.Time) bool {
	return !now.Before(d.Certificate.NotBefore) && now.Before(d.Certificate.NotAfter)
}

// renewAt returns the time at which the next certificate is requested.
func (d *Delegation) renewAt(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	return cert.NotBefore.Add(min(renewAge, life/2))
}

// lasts reports whether a responder's certificate expires with its issuer's, so that a newer one would not last longer.
func lasts(cert, issuer *x509.Certificate) bool { return !cert.NotAfter.Before(issuer.NotAfter) }

// DelegateStatus says how long answers for an issuer can still be signed.
type DelegateStatus struct {
	Issuer   pki.IssuerID
	NotAfter time.Time // of the certificate in use; zero if there is none
	RenewAt  time.Time // from here on a newer one is requested
	Last     bool      // it expires with the issuer's certificate: there will be no newer one
	Alarm    bool      // none is valid, or one has passed half its life without the newer one that is due
}

// Status returns the state of each issuer's delegate, for alarms.
func (d *Delegation) Status() []DelegateStatus {
	now := d.config.Now()
	var all []DelegateStatus
	for _, cert := range d.config.Issuers() {
		s := DelegateStatus{Issuer: pki.HashSPKI(cert.RawSubjectPublicKeyInfo).Issuer(), Alarm: true}
		if delegate, err := d.Current(s.Issuer); err == nil {
			c := delegate.Certificate
			s.NotAfter, s.RenewAt = c.NotAfter, d.renewAt(c)
			s.Last = lasts(c, cert)
			s.Alarm = !s.Last && now.After(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore)/2))
		}
		all = append(all, s)
	}
	return all
}

// Run calls Round every Poll until ctx ends. It passes each error to report, which may be nil.
func (d *Delegation) Run(ctx context.Context, report func(error)) error {
	for {
		err := d.Round(ctx)
		if err != nil && ctx.Err() == nil && report != nil {
			report(err)
		}
		timer := time.NewTimer(d.config.Poll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// Round replaces lost keys, requests certificates that are missing or due, certifies requests if this instance issues,
// and begins to use the certificates that were issued. If it cannot be determined which keys are lost, nothing changes:
// a key may have come back from a backup. The server calls Round once before it listens. On an issuing instance
// everything is ready when it returns.
func (d *Delegation) Round(ctx context.Context) error {
	d.rounds.Lock()
	defer d.rounds.Unlock()
	var failed []error
	issuers := make(map[pki.IssuerID]*x509.Certificate)
	for _, cert := range d.config.Issuers() {
		id := pki.HashSPKI(cert.RawSubjectPublicKeyInfo).Issuer()
		if err := d.findKey(ctx, id, cert); err != nil {
			failed = append(failed, fmt.Errorf("responder key for issuer %s: %w", id, err))
			continue
		}
		issuers[id] = cert
	}
	// A certificate from before a restart, or made by another instance, saves a request.
	certified, err := d.certified(ctx, issuers)
	lost, untold := d.lost(ctx, issuers)
	failed = append(failed, err, untold, d.replaceKeys(ctx, lost, issuers, certified))
	if untold != nil {
		return errors.Join(failed...)
	}
	failed = append(failed, d.takeUp(issuers, certified))
	wanted := d.wanted(issuers)
	failed = append(failed, d.ask(ctx, wanted))
	if d.config.Certifier != nil {
		failed = append(failed, d.certify(ctx, issuers))
	}
	if len(wanted) > 0 {
		certified, err := d.certified(ctx, issuers)
		failed = append(failed, err, d.takeUp(issuers, certified))
	}
	return errors.Join(failed...)
}

// findKey makes sure that the key for an issuer is known.
func (d *Delegation) findKey(ctx context.Context, id pki.IssuerID, cert *x509.Certificate) error {
	if d.keys[id] != nil {
		return nil
	}
	signer, err := d.config.KeyFor(ctx, cert)
	if err != nil {
		return err
	}
	d.keys[id], err = newOwnKey(signer)
	return err
}

// replaceKeys drops every lost key with its certificates and finds another in its place. If that fails for an issuer,
// the issuer is removed from issuers: its certificate is not used.
func (d *Delegation) replaceKeys(ctx context.Context, lost map[pki.KeyHash]crypto.Signer, issuers, certified map[pki.IssuerID]*x509.Certificate) error {
	var failed []error
	for hash, signer := range lost {
		retired := d.config.Retire(ctx, signer)
		for id, own := range d.keys {
			if own.hash != hash {
				continue
			}
			d.drop(id)
			delete(certified, id)
			err := retired
			if cert := issuers[id]; err == nil && cert != nil {
				err = d.findKey(ctx, id, cert)
			}
			if err != nil {
				delete(issuers, id)
				failed = append(failed, fmt.Errorf("replace the responder key for issuer %s: %w", id, err))
			}
		}
	}
	return errors.Join(failed...)
}

// lost returns the lost keys among those of issuers. One key may serve all issuers.
func (d *Delegation) lost(ctx context.Context, issuers map[pki.IssuerID]*x509.Certificate) (map[pki.KeyHash]crypto.Signer, error) {
	if d.config.Lost == nil {
		return nil, nil
	}
	own, lost := make(map[pki.KeyHash]crypto.Signer), make(map[pki.KeyHash]crypto.Signer)
	for id := range issuers {
		own[d.keys[id].hash] = d.keys[id].signer
	}
	hashes, err := d.config.Lost(ctx, slices.Collect(maps.Keys(own)))
	for _, hash := range hashes {
		lost[hash] = own[hash]
	}
	return lost, err
}

// drop forgets the key for an issuer. Answers that it signed are no longer given, including those being signed.
func (d *Delegation) drop(id pki.IssuerID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, delegate := range d.current[id] {
		delegate.dropped.Store(true)
	}
	delete(d.current, id)
	delete(d.keys, id)
	delete(d.asked, id)
}

// wanted returns the issuers whose certificate is missing or due.
func (d *Delegation) wanted(issuers map[pki.IssuerID]*x509.Certificate) (wanted []pki.IssuerID) {
	now := d.config.Now()
	for issuer, cert := range issuers {
		d.mu.RLock()
		delegates := d.current[issuer]
		d.mu.RUnlock()
		if len(delegates) > 0 && lasts(delegates[len(delegates)-1].Certificate, cert) {
			continue
		}
		if len(delegates) == 0 || !now.Before(d.renewAt(delegates[len(delegates)-1].Certificate)) {
			wanted = append(wanted, issuer)
		}
	}
	return wanted
}

func (d *Delegation) ask(ctx context.Context, wanted []pki.IssuerID) error {
	now := d.config.Now()
	for _, issuer := range wanted {
		if asked, ok := d.asked[issuer]; ok && now.Sub(asked) < askAgain && !now.Before(asked) {
			continue
		}
		if err := d.config.Store.RequestResponder(ctx, ResponderRequest{Issuer: issuer, Key: d.keys[issuer].hash, CSR: d.keys[issuer].csr}); err != nil {
			return err
		}
		d.asked[issuer] = now
	}
	return nil
}

// certify signs the requests of this and other instances. A request that fails is reopened, and its issuer is left to
// other instances for leaveFor: they may have its key. It is not reopened
//   - if the issuer is not on-line: the request may have been made just before the issuer expired;
//   - if it was refused: no instance may sign it, and a responder that still wants the certificate asks again.
//
// A lost key is not certified (an instance may have made the request before it knew) and its request is removed later
// like any other. Nothing is certified while it is unknown which keys are lost.
func (d *Delegation) certify(ctx context.Context, issuers map[pki.IssuerID]*x509.Certificate) error {
	now := d.config.Now()
	maps.DeleteFunc(d.failed, func(_ pki.IssuerID, at time.Time) bool { return now.Sub(at) >= leaveFor || now.Before(at) })
	left := slices.Collect(maps.Keys(d.failed))
	for issuer := range issuers {
		if d.config.Certifier.Lacks(ctx, issuer) {
			left = append(left, issuer)
		}
	}
	requests, err := d.config.Store.ClaimResponders(ctx, left, claimLimit)
	if err != nil {
		return err
	}
	lost, err := d.lostOf(ctx, requests)
	failed := []error{err}
	if err != nil {
		for _, request := range requests {
			failed = append(failed, d.config.Store.RequestResponder(ctx, request))
		}
		return errors.Join(failed...)
	}
	for _, request := range requests {
		if slices.Contains(lost, request.Key) {
			continue
		}
		cert, err := d.config.Certifier.CertifyResponder(ctx, request.Issuer, request.CSR)
		if err == nil {
			// The certificate is issued: store it even if this instance is being stopped.
			store, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordGrace)
			err = d.config.Store.RecordResponder(store, request.Issuer, request.Key, cert)
			cancel()
		}
		if err != nil {
			d.failed[request.Issuer] = now
			if issuers[request.Issuer] == nil {
				continue
			}
			failed = append(failed, fmt.Errorf("certify responder %s of issuer %s: %w", request.Key, request.Issuer, err))
			if pki.KindOf(err) != pki.KindRefused {
				failed = append(failed, d.config.Store.RequestResponder(ctx, request))
			}
		}
	}
	return errors.Join(failed...)
}

// lostOf returns the lost keys among those of the requests.
func (d *Delegation) lostOf(ctx context.Context, requests []ResponderRequest) ([]pki.KeyHash, error) {
	if d.config.Lost == nil || len(requests) == 0 {
		return nil, nil
	}
	var asked []pki.KeyHash
	for _, request := range requests {
		asked = append(asked, request.Key)
	}
	return d.config.Lost(ctx, asked)
}

// certified returns the last certificate that each issuer made for its responder key.
func (d *Delegation) certified(ctx context.Context, issuers map[pki.IssuerID]*x509.Certificate) (map[pki.IssuerID]*x509.Certificate, error) {
	own := make(map[pki.KeyHash]bool)
	for issuer := range issuers {
		own[d.keys[issuer].hash] = true
	}
	all := make(map[pki.IssuerID]*x509.Certificate)
	var failed []error
	for key := range own {
		certified, err := d.config.Store.ResponderCertificates(ctx, key)
		if err != nil {
			return all, errors.Join(append(failed, err)...)
		}
		for issuer, der := range certified {
			if issuers[issuer] == nil || d.keys[issuer].hash != key {
				continue // the issuer is gone, off-line, or has another responder key
			}
			if all[issuer], err = x509.ParseCertificate(der); err != nil {
				delete(all, issuer)
				failed = append(failed, fmt.Errorf("responder certificate of issuer %s: %w", issuer, err))
			}
		}
	}
	return all, errors.Join(failed...)
}

// takeUp begins to use the certificates that were issued.
func (d *Delegation) takeUp(issuers, certified map[pki.IssuerID]*x509.Certificate) error {
	var failed []error
	for issuer, cert := range certified {
		if err := d.adopt(issuers[issuer], issuer, cert); err != nil {
			failed = append(failed, fmt.Errorf("responder certificate of issuer %s: %w", issuer, err))
		}
	}
	return errors.Join(failed...)
}

// adopt begins to use a certificate after trying it as a client would.
func (d *Delegation) adopt(issuer *x509.Certificate, id pki.IssuerID, cert *x509.Certificate) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.config.Now()
	known := slices.DeleteFunc(slices.Clone(d.current[id]), func(old *Delegate) bool { return !now.Before(old.Certificate.NotAfter) })
	for _, old := range known {
		if old.Certificate.Equal(cert) {
			d.current[id] = known
			return nil
		}
	}
	if !now.Before(cert.NotAfter) {
		return nil // expired during a long stop; a newer one is requested
	}
	signer, err := ocsp.NewSigner(d.keys[id].signer, cert)
	if err != nil {
		return err
	}
	if err := try(signer, cert, issuer); err != nil {
		return err
	}
	known = append(known, &Delegate{Certificate: cert, Signer: signer})
	slices.SortFunc(known, func(a, b *Delegate) int { return a.Certificate.NotAfter.Compare(b.Certificate.NotAfter) })
	d.current[id] = known
	return nil
}

// try signs a response without a statement and verifies it as a client would.
func try(signer *ocsp.Signer, cert, issuer *x509.Certificate) error {
	named, err := ocsp.IssuerOf(issuer)
	if err != nil {
		return err
	}
	serial := []byte{1}
	at := cert.NotBefore
	answer := ocsp.SingleResponse{ID: named.CertID(crypto.SHA256, serial), Status: pki.StatusUnknown, ThisUpdate: at, NextUpdate: at.Add(time.Minute)}
	der, err := signer.Sign(ocsp.ResponseData{ProducedAt: at, Answers: []ocsp.SingleResponse{answer}})
	if err != nil {
		return err
	}
	result, err := ocsp.Verify(der, ocsp.Query{Serial: serial, Issuers: []*x509.Certificate{issuer}, Time: at})
	if err != nil {
		return err
	}
	if !result.Responder.Delegated || !result.Responder.NoCheck {
		return errors.New("it is not a delegate with id-pkix-ocsp-nocheck")
	}
	return nil
}
