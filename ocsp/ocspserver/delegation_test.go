package ocspserver_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// certifier is the ca's part: it signs for the authorities it holds.
type certifier struct {
	now   func() time.Time
	fails error
	lacks bool          // the keys, without which nothing is to be asked of it
	life  time.Duration // of what it issues; zero: 7 days

	mu          sync.Mutex
	authorities []*authority
	issued      int
}

func (c *certifier) CertifyResponder(_ context.Context, issuer pki.IssuerID, csr []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails != nil {
		return nil, c.fails
	}
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, err
	}
	for _, a := range c.authorities {
		if a.id == issuer {
			c.issued++
			lifetime := 7 * 24 * time.Hour
			if c.life != 0 {
				lifetime = c.life
			}
			from := c.now().Add(-time.Minute)
			return a.delegate(request.PublicKey, from, min(lifetime, a.cert.NotAfter.Sub(from)))
		}
	}
	return nil, pki.Errorf(pki.KindNotFound, "certify responder", "no issuer %s", issuer)
}

func (c *certifier) Lacks(context.Context, pki.IssuerID) bool { return c.lacks }

func issuersOf(authorities ...*authority) func() []*x509.Certificate {
	return func() (certs []*x509.Certificate) {
		for _, a := range authorities {
			certs = append(certs, a.cert)
		}
		return certs
	}
}

func newDelegation(t *testing.T, config ocspserver.DelegationConfig) *ocspserver.Delegation {
	t.Helper()
	if config.Key == nil {
		config.Key = newKey(t)
	}
	d, err := ocspserver.NewDelegation(config)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func current(t *testing.T, d *ocspserver.Delegation, a *authority) *x509.Certificate {
	t.Helper()
	delegate, err := d.Current(a.id)
	if err != nil {
		t.Fatal(err)
	}
	return delegate.Certificate
}

// TestDelegationRotates: issued at once on an instance that issues, renewed every day, overlapping, kept over a
// restart.
func TestDelegationRotates(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db store.Store) {
		now := start
		clock := func() time.Time { return now }
		one, two := newAuthority(t, "One"), newAuthority(t, "Two")
		ca := &certifier{now: clock, authorities: []*authority{one, two}}
		config := ocspserver.DelegationConfig{Key: newKey(t), Store: db, Issuers: issuersOf(one, two), Certifier: ca, Now: clock}
		d := newDelegation(t, config)
		if _, err := d.Current(one.id); pki.KindOf(err) != pki.KindUnavailable {
			t.Errorf("before the first round: %v", err)
		}
		round := func() {
			t.Helper()
			if err := d.Round(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		round()
		first := current(t, d, one)
		if first.NotAfter.Sub(first.NotBefore) != 7*24*time.Hour || current(t, d, two).Equal(first) {
			t.Errorf("first certificate %s to %s", first.NotBefore, first.NotAfter)
		}
		now = now.Add(23 * time.Hour)
		round()
		if ca.issued != 2 || !current(t, d, one).Equal(first) {
			t.Errorf("renewed too early: %d issued", ca.issued)
		}
		now = now.Add(2 * time.Hour)
		round()
		second := current(t, d, one)
		if ca.issued != 4 || second.Equal(first) || !first.NotAfter.After(second.NotBefore.Add(5*24*time.Hour)) {
			t.Errorf("after a day: %d issued, %s to %s", ca.issued, second.NotBefore, second.NotAfter)
		}

		restarted := newDelegation(t, config)
		if err := restarted.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ca.issued != 4 || !current(t, restarted, one).Equal(second) {
			t.Errorf("a restart had %d issued", ca.issued)
		}

		// The issuing instance is away: the last certificate serves to its end, with an alarm from half of its life on.
		config.Certifier = nil
		away := newDelegation(t, config)
		for _, c := range []struct {
			after time.Duration
			alarm bool
			valid bool
		}{{time.Hour, false, true}, {3 * 24 * time.Hour, false, true}, {4 * 24 * time.Hour, true, true}, {8 * 24 * time.Hour, true, false}} {
			now = second.NotBefore.Add(c.after)
			if err := away.Round(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := away.Current(one.id)
			status := away.Status()
			if len(status) != 2 || status[0].Alarm != c.alarm || (err == nil) != c.valid || c.valid && !status[0].NotAfter.Equal(second.NotAfter) {
				t.Errorf("%s later: %+v, %v", c.after, status, err)
			}
		}
		now = now.Add(2 * time.Minute)
		round() // back again
		if !current(t, d, one).NotAfter.After(now.Add(6 * 24 * time.Hour)) {
			t.Error("not renewed after the issuing instance came back")
		}
	})
}

// The last certificate of a responder expires with its issuer: no other is requested, there is no alarm, and it is not
// a fault to find afterwards a request from before.
func TestDelegationEndsWithItsIssuer(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db store.Store) {
		one, two := newAuthority(t, "One"), newAuthority(t, "Two")
		now := one.cert.NotAfter.Add(-8 * 24 * time.Hour)
		clock := func() time.Time { return now }
		ca := &certifier{now: clock, authorities: []*authority{one}}
		issuers := issuersOf(one)
		config := ocspserver.DelegationConfig{Store: db, Issuers: func() []*x509.Certificate { return issuers() }, Certifier: ca, Now: clock}
		d := newDelegation(t, config)
		for _, c := range []struct {
			left   time.Duration
			issued int
			last   bool
		}{{8 * 24 * time.Hour, 1, false}, {6*24*time.Hour + time.Hour, 2, true}, {24 * time.Hour, 2, true}, {time.Second, 2, true}} {
			now = one.cert.NotAfter.Add(-c.left)
			if err := d.Round(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s := d.Status(); len(s) != 1 || s[0].Last != c.last || s[0].Alarm || ca.issued != c.issued {
				t.Errorf("%s before the end: %+v, %d were issued", c.left, s, ca.issued)
			}
		}
		if c := current(t, d, one); !c.NotAfter.Equal(one.cert.NotAfter) {
			t.Errorf("the last one ends at %s, its issuer at %s", c.NotAfter, one.cert.NotAfter)
		}

		late := newDelegation(t, ocspserver.DelegationConfig{Store: db, Issuers: issuersOf(one), Now: clock})
		if err := late.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		now = one.cert.NotAfter.Add(time.Minute)
		ca.fails = errors.New("the issuer has ended")
		issuers = issuersOf(two) // One is among those on-line no more
		if err := d.Round(t.Context()); err == nil || strings.Count(err.Error(), ca.fails.Error()) != 1 || !strings.Contains(err.Error(), "of issuer "+two.id.String()) {
			t.Errorf("a round after the end: %v", err)
		}
		if s := d.Status(); len(s) != 1 || s[0].Issuer != two.id {
			t.Errorf("after the end: %+v", s)
		}
	})
}

// TestDelegationAcrossInstances: a responder without any issuer's key is certified by an instance that has it, once.
func TestDelegationAcrossInstances(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db store.Store) {
		clock := func() time.Time { return start }
		one := newAuthority(t, "One")
		ca := &certifier{now: clock, authorities: []*authority{one}}
		var instances []*ocspserver.Delegation
		for range 3 {
			instances = append(instances, newDelegation(t, ocspserver.DelegationConfig{Store: db, Issuers: issuersOf(one), Now: clock}))
		}
		issuing := []*ocspserver.Delegation{
			newDelegation(t, ocspserver.DelegationConfig{Store: db, Issuers: issuersOf(one), Certifier: ca, Now: clock}),
			newDelegation(t, ocspserver.DelegationConfig{Store: db, Issuers: issuersOf(one), Certifier: ca, Now: clock}),
		}
		for _, d := range slices.Concat(instances, issuing) {
			if err := d.Round(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for _, d := range issuing {
			wg.Go(func() {
				if err := d.Round(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		seen := map[string]bool{}
		for _, d := range slices.Concat(instances, issuing) {
			if err := d.Round(t.Context()); err != nil {
				t.Fatal(err)
			}
			seen[string(current(t, d, one).RawSubjectPublicKeyInfo)] = true
		}
		if len(seen) != 5 || ca.issued != 5 {
			t.Errorf("%d keys are certified, in %d certificates; want 5 in 5", len(seen), ca.issued)
		}
	})
}

// TestDelegationRefuses: certificates that clients would not accept are not taken into use.
func TestDelegationRefuses(t *testing.T) {
	clock := func() time.Time { return start }
	db := testdb.SQLite(t)
	one, two := newAuthority(t, "One"), newAuthority(t, "Two")
	key := newKey(t)
	d := newDelegation(t, ocspserver.DelegationConfig{Key: key, Store: db, Issuers: issuersOf(one), Now: clock})
	if err := d.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	hash, err := pki.HashPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	make := func(by *authority, public any, change func(*x509.Certificate)) []byte {
		der, err := by.delegate(public, start.Add(-time.Minute), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if change == nil {
			return der
		}
		template, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = nil
		change(template)
		return by.sign(t, template, public, by.cert).Raw
	}
	for name, der := range map[string][]byte{
		"of another issuer": make(two, key.Public(), nil),
		"of another key":    make(one, newKey(t).Public(), nil),
		"without its usage": make(one, key.Public(), func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
		"without nocheck":   make(one, key.Public(), func(*x509.Certificate) {}),
		"not a certificate": []byte("hello"),
	} {
		if err := db.RecordResponder(t.Context(), one.id, hash, der); err != nil {
			t.Fatal(err)
		}
		if err := d.Round(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
		if delegate, err := d.Current(one.id); err == nil {
			t.Errorf("%s: %+v was taken into use", name, delegate)
		}
	}
	if err := db.RecordResponder(t.Context(), one.id, hash, make(one, key.Public(), nil)); err != nil {
		t.Fatal(err)
	}
	if err := d.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	current(t, d, one)
}

// TestDelegationWhenTheCAFails: the error is told, the request stays open, and a short-lived certificate is renewed at
// half of its life instead of at every look.
func TestDelegationWhenTheCAFails(t *testing.T) {
	now := start
	clock := func() time.Time { return now }
	one := newAuthority(t, "One")
	ca := &certifier{now: clock, authorities: []*authority{one}, fails: errors.New("the key store is locked"), life: time.Hour}
	d := newDelegation(t, ocspserver.DelegationConfig{Store: testdb.SQLite(t), Issuers: issuersOf(one), Certifier: ca, Now: clock})
	if err := d.Round(t.Context()); !errors.Is(err, ca.fails) {
		t.Errorf("a round in which the ca fails: %v", err)
	}
	ca.fails = nil
	if err := d.Round(t.Context()); err != nil || ca.issued != 0 {
		t.Errorf("it is left to others for a moment: %d were issued, %v", ca.issued, err)
	}
	now = now.Add(5 * time.Second)
	for range 4 {
		if err := d.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if ca.issued != 1 {
		t.Errorf("%d were issued", ca.issued)
	}
	now = now.Add(31 * time.Minute)
	if err := d.Round(t.Context()); err != nil || ca.issued != 2 {
		t.Errorf("at half-life: %d issued, %v", ca.issued, err)
	}
}

// TestDelegationWithoutTheKey: nothing is asked of a ca that lacks the key of an issuer, the request stays open, and it
// is answered in the first round after the key has come.
func TestDelegationWithoutTheKey(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db store.Store) {
		clock := func() time.Time { return start }
		one := newAuthority(t, "One")
		ca := &certifier{now: clock, authorities: []*authority{one}, lacks: true, fails: errors.New("it was asked")}
		d := newDelegation(t, ocspserver.DelegationConfig{Store: db, Issuers: issuersOf(one), Certifier: ca, Now: clock})
		if err := d.Round(t.Context()); err != nil {
			t.Error(err)
		}
		ca.lacks, ca.fails = false, nil
		for range 2 { // asks, and takes up
			if err := d.Round(t.Context()); err != nil {
				t.Error(err)
			}
		}
		current(t, d, one)
	})
}

// TestRefusedResponder: what is against a rule is not given back, or it would be refused for ever; it is asked for
// again a minute later.
func TestRefusedResponder(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db store.Store) {
		now := start
		clock := func() time.Time { return now }
		one := newAuthority(t, "One")
		ca := &certifier{now: clock, authorities: []*authority{one}, fails: pki.Errorf(pki.KindRefused, "issue certificate", "the key is blocked")}
		d := newDelegation(t, ocspserver.DelegationConfig{Store: db, Issuers: issuersOf(one), Certifier: ca, Now: clock})
		if err := d.Round(t.Context()); !errors.Is(err, ca.fails) {
			t.Errorf("the first round: %v", err)
		}
		if open, err := db.ClaimResponders(t.Context(), nil, 10); err != nil || len(open) > 0 {
			t.Errorf("%d requests are open, %v", len(open), err)
		}
		ca.fails = nil
		now = now.Add(time.Minute)
		if err := d.Round(t.Context()); err != nil {
			t.Error(err)
		}
		current(t, d, one)
	})
}

// TestDelegationOfAnotherInstance: an instance without the key of an issuer asks and looks first, always, and gets its
// certificate from the one that has the key.
func TestDelegationOfAnotherInstance(t *testing.T) {
	clock := func() time.Time { return start }
	one := newAuthority(t, "One")
	db := testdb.SQLite(t)
	config := ocspserver.DelegationConfig{Store: db, Issuers: issuersOf(one), Now: clock}
	config.Certifier = &certifier{now: clock, authorities: []*authority{one}, fails: errors.New("there is no such key")}
	without := newDelegation(t, config)
	config.Certifier = &certifier{now: clock, authorities: []*authority{one}}
	with := newDelegation(t, config)
	if err := without.Round(t.Context()); err == nil {
		t.Error("a round without the key tells nobody")
	}
	for range 2 {
		for _, d := range []*ocspserver.Delegation{without, with} {
			if err := d.Round(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	current(t, without, one)
	current(t, with, one)
}

func TestDelegationRun(t *testing.T) {
	one := newAuthority(t, "One")
	clock := func() time.Time { return start }
	ca := &certifier{now: clock, authorities: []*authority{one}}
	d := newDelegation(t, ocspserver.DelegationConfig{Store: testdb.SQLite(t), Issuers: issuersOf(one), Certifier: ca, Now: clock, Poll: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx, func(err error) { t.Error(err) }) }()
	eventually(t, "a certificate", func() bool { _, err := d.Current(one.id); return err == nil })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("run ended with %v", err)
	}
	db := testdb.SQLite(t)
	for _, config := range []ocspserver.DelegationConfig{
		{Store: db, Issuers: issuersOf(one)}, {Key: newKey(t), Issuers: issuersOf(one)}, {Key: newKey(t), Store: db},
		{Key: newKey(t), Store: db, Issuers: issuersOf(one), Lost: db.BlockedKeys},
	} {
		if _, err := ocspserver.NewDelegation(config); pki.KindOf(err) != pki.KindInvalid {
			t.Errorf("configuration %+v: %v", config, err)
		}
	}
}

// asking counts what is asked for.
type asking struct {
	store.Store
	requests int
}

func (a *asking) RequestResponder(ctx context.Context, request ocspserver.ResponderRequest) error {
	a.requests++
	return a.Store.RequestResponder(ctx, request)
}

// TestDelegationAsksAgain: an unanswered request is repeated every minute, also after a clock was set back; the key for
// an issuer is made once; and a certificate is used from its first second to its last.
func TestDelegationAsksAgain(t *testing.T) {
	now := start
	one := newAuthority(t, "One")
	db := &asking{Store: testdb.SQLite(t)}
	key, made := newKey(t), 0
	d := newDelegation(t, ocspserver.DelegationConfig{Store: db, Issuers: issuersOf(one), Now: func() time.Time { return now },
		KeyFor: func(context.Context, *x509.Certificate) (crypto.Signer, error) { made++; return key, nil }})
	for _, step := range []struct {
		at       time.Duration
		requests int
	}{{0, 1}, {59 * time.Second, 1}, {time.Minute, 2}, {90 * time.Second, 2}, {-time.Hour, 3}, {-time.Hour + time.Second, 3}} {
		now = start.Add(step.at)
		if err := d.Round(t.Context()); err != nil || db.requests != step.requests || made != 1 {
			t.Errorf("after %s: asked %d times, %d keys made, %v; want %d and 1", step.at, db.requests, made, err, step.requests)
		}
	}
	hash, err := pki.HashPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	der, err := one.delegate(key.Public(), start, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.RecordResponder(t.Context(), one.id, hash, der); err != nil {
		t.Fatal(err)
	}
	if err := d.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	for at, valid := range map[time.Duration]bool{-time.Second: false, 0: true, time.Hour - time.Second: true, time.Hour: false} {
		now = start.Add(at)
		if _, err := d.Current(one.id); (err == nil) != valid {
			t.Errorf("at %s: %v", at, err)
		}
	}
}

// A key that was requested before it was known to be lost is not certified, and does not delay others. While it is
// unknown whether it is lost, nothing is certified, and no request has to be repeated.
func TestLostKeyIsNotCertified(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db store.Store) {
		one := newAuthority(t, "One")
		now := start
		clock := func() time.Time { return now }
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, newKey(t))
		if err != nil {
			t.Fatal(err)
		}
		lost := ocspserver.ResponderRequest{Issuer: one.id, Key: pki.KeyHash{7}, CSR: csr}
		if err := db.RequestResponder(t.Context(), lost); err != nil {
			t.Fatal(err)
		}
		signed := &certifier{now: clock, authorities: []*authority{one}}
		own, away := newKey(t), true
		d := newDelegation(t, ocspserver.DelegationConfig{
			Store: db, Issuers: issuersOf(one), Certifier: signed, Now: clock,
			KeyFor: func(context.Context, *x509.Certificate) (crypto.Signer, error) { return own, nil },
			Lost: func(_ context.Context, keys []pki.KeyHash) ([]pki.KeyHash, error) {
				if away && slices.Contains(keys, lost.Key) {
					return nil, pki.Errorf(pki.KindUnavailable, "find lost keys", "the database is away")
				}
				return slices.DeleteFunc(keys, func(key pki.KeyHash) bool { return key != lost.Key }), nil
			},
			Retire: func(context.Context, crypto.Signer) error { t.Error("its own key is put away"); return nil },
		})
		if err := d.Round(t.Context()); pki.KindOf(err) != pki.KindUnavailable || signed.issued != 0 {
			t.Errorf("%d certified of keys that may be lost, %v", signed.issued, err)
		}
		away = false
		if err := d.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		current(t, d, one)
		if certified, err := db.ResponderCertificates(t.Context(), lost.Key); err != nil || len(certified) != 0 {
			t.Errorf("%d certificates of the lost key, %v", len(certified), err)
		}
	})
}

// TestNothingIsTakenUpUntold: while it is unknown whether a key is lost, a certificate that another process obtained
// for it before is not used; a certificate in use stays in use.
func TestNothingIsTakenUpUntold(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db store.Store) {
		one := newAuthority(t, "One")
		clock := func() time.Time { return start }
		own, away := newKey(t), false
		signed := &certifier{now: clock, authorities: []*authority{one}}
		process := func() *ocspserver.Delegation {
			return newDelegation(t, ocspserver.DelegationConfig{
				Store: db, Issuers: issuersOf(one), Certifier: signed, Now: clock,
				KeyFor: func(context.Context, *x509.Certificate) (crypto.Signer, error) { return own, nil },
				Lost: func(context.Context, []pki.KeyHash) ([]pki.KeyHash, error) {
					if away {
						return nil, pki.Errorf(pki.KindUnavailable, "find lost keys", "the database is away")
					}
					return nil, nil
				},
				Retire: func(context.Context, crypto.Signer) error { t.Error("its own key is put away"); return nil },
			})
		}
		check := func(what string, d *ocspserver.Delegation, used bool) {
			t.Helper()
			if err := d.Round(t.Context()); (err != nil) != away || err != nil && pki.KindOf(err) != pki.KindUnavailable {
				t.Errorf("%s: %v", what, err)
			}
			if _, err := d.Current(one.id); (err == nil) != used {
				t.Errorf("%s: the key is used: %t, want %t", what, err == nil, used)
			}
		}
		before := process()
		check("before", before, true)
		away = true
		check("in use", before, true)
		restarted := process()
		check("after a start", restarted, false)
		away = false
		check("once it can be told", restarted, true)
		if signed.issued != 1 {
			t.Errorf("%d certified, want what was there", signed.issued)
		}
	})
}

// TestLostKeyIsReplaced: one key answers for two issuers and is lost. While it cannot be put away, neither it nor its
// certificates are used. The next key is certified in the round in which it can be.
func TestLostKeyIsReplaced(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db store.Store) {
		one, two := newAuthority(t, "One"), newAuthority(t, "Two")
		clock := func() time.Time { return start }
		first, second := newKey(t), newKey(t)
		next := crypto.Signer(first)
		var lost []pki.KeyHash
		stuck := errors.New("the disk is full")
		d := newDelegation(t, ocspserver.DelegationConfig{
			Store: db, Issuers: issuersOf(one, two), Certifier: &certifier{now: clock, authorities: []*authority{one, two}}, Now: clock,
			KeyFor: func(context.Context, *x509.Certificate) (crypto.Signer, error) { return next, nil },
			Lost: func(_ context.Context, keys []pki.KeyHash) ([]pki.KeyHash, error) {
				return slices.DeleteFunc(keys, func(key pki.KeyHash) bool { return !slices.Contains(lost, key) }), nil
			},
			Retire: func(_ context.Context, key crypto.Signer) error {
				if key != crypto.Signer(first) {
					t.Error("another key is put away")
				}
				if stuck == nil {
					next = second
				}
				return stuck
			},
		})
		if err := d.Round(t.Context()); err != nil || !first.PublicKey.Equal(current(t, d, one).PublicKey) || !first.PublicKey.Equal(current(t, d, two).PublicKey) {
			t.Fatalf("before: %v", err)
		}
		hash, err := pki.HashPublicKey(first.Public())
		if err != nil {
			t.Fatal(err)
		}
		lost = []pki.KeyHash{hash}
		for range 2 {
			if err := d.Round(t.Context()); !errors.Is(err, stuck) {
				t.Errorf("a key that cannot be put away: %v", err)
			}
			for _, a := range []*authority{one, two} {
				if _, err := d.Current(a.id); pki.KindOf(err) != pki.KindUnavailable {
					t.Errorf("it is still used: %v", err)
				}
			}
		}
		stuck = nil
		if err := d.Round(t.Context()); err != nil || !second.PublicKey.Equal(current(t, d, one).PublicKey) || !second.PublicKey.Equal(current(t, d, two).PublicKey) {
			t.Errorf("afterwards: %v", err)
		}
	})
}
