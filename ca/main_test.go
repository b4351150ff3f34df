package ca_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

func TestMain(m *testing.M) {
	if arguments := os.Getenv(childVariable); arguments != "" {
		if err := childMain(arguments); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testdb.Main(m)
}

var (
	admin = auth.Principal{ID: "token:admin", Account: "admin", Role: auth.RoleAdmin}
	web   = auth.Principal{ID: "token:web", Account: "web", Role: auth.RoleRequester}
)

// town is a root and an issuing CA over a store, with as many instances as a test opens.
type town struct {
	t        testing.TB
	store    store.Store
	keys     *keys.Guard
	profiles *profile.Set
	clock    *clock
	status   ca.Statuses           // of instances made from now on; nil: they know of no revocation
	changed  func(context.Context) // of instances made from now on
	*ca.Authority
	root, issuing ca.Issuer
}

// keyring keeps keys in memory, for the many towns whose keys nobody else needs: stretching a passphrase is slow.
type keyring struct {
	mu     sync.Mutex
	opened map[string]*keys.Key
}

func (k *keyring) URI(name string) string { return "memory:" + name }

func (k *keyring) Create(_ context.Context, name string, algorithm keys.Algorithm) (*keys.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.opened[k.URI(name)] != nil {
		return nil, pki.Errorf(pki.KindConflict, "create key", "there is one").InField("name")
	}
	signer, err := keys.Generate(algorithm)
	if err != nil {
		return nil, err
	}
	key := &keys.Key{Signer: signer, URI: k.URI(name)}
	if _, err := rand.Read(key.Secret[:]); err != nil {
		return nil, err
	}
	k.opened[key.URI] = key
	return key, nil
}

func (k *keyring) Open(_ context.Context, uri string) (*keys.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.opened[uri]; key != nil {
		return key, nil
	}
	return nil, pki.Errorf(pki.KindNotFound, "open key", "there is none").InField("key")
}

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newTown(t testing.TB, s store.Store) *town {
	t.Helper()
	return newTownWith(t, s, &keyring{opened: make(map[string]*keys.Key)})
}

func newTownWith(t testing.TB, s store.Store, keyStore keys.Store) *town {
	t.Helper()
	profiles, err := profile.Open("")
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, store: s, keys: keys.NewGuard(keys.GuardConfig{Store: keyStore}), profiles: profiles, clock: &clock{now: time.Now().UTC().Truncate(time.Second)}}
	w.Authority = w.instance(s)
	w.root = w.create(ca.NewIssuer{Label: "root", Subject: ca.Subject{CommonName: "Test Root"}, BaseURL: "http://pki.test"})
	w.issuing = w.create(ca.NewIssuer{Label: "issuing", Subject: ca.Subject{CommonName: "Test Issuing CA"}, BaseURL: "http://pki.test", Parent: w.root.ID})
	return w
}

// instance is another process over a store of the same database.
func (w *town) instance(s store.Store) *ca.Authority {
	w.t.Helper()
	a, err := ca.New(context.Background(), ca.Config{
		Profiles: w.profiles, Keys: w.keys, Issuers: s, Ranges: s, Certificates: s, Inventory: s, Audit: s, Status: w.status, Changed: w.changed, Now: w.clock.Now,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := a.Close(context.Background()); err != nil {
			w.t.Errorf("close authority: %v", err)
		}
	})
	return a
}

func (w *town) grant(p auth.Principal, action auth.Action, scope string) auth.Grant {
	w.t.Helper()
	g, err := p.Authorize(action, scope)
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func (w *town) create(n ca.NewIssuer) ca.Issuer {
	w.t.Helper()
	issuer, err := w.CreateIssuer(context.Background(), w.grant(admin, auth.ActionManage, ""), n)
	if err != nil {
		w.t.Fatal(err)
	}
	return issuer
}

func (w *town) issue(a *ca.Authority, request ca.Request) (*ca.Issued, error) {
	return a.Issue(context.Background(), w.grant(web, auth.ActionIssue, request.Profile), request)
}

func (w *town) mustIssue(request ca.Request) *ca.Issued {
	w.t.Helper()
	issued, err := w.issue(w.Authority, request)
	if err != nil {
		w.t.Fatal(err)
	}
	return issued
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// csr asks for DNS names.
func csr(t testing.TB, key crypto.Signer, names ...string) []byte {
	t.Helper()
	return csrOf(t, key, &x509.CertificateRequest{DNSNames: names})
}

func csrOf(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func server(t testing.TB, names ...string) ca.Request {
	t.Helper()
	return ca.Request{Profile: "server", CSR: csr(t, newKey(t), names...)}
}

var algorithms = []keys.Algorithm{keys.ECDSAP384, keys.ECDSAP521, keys.RSA2048, keys.Ed25519}
