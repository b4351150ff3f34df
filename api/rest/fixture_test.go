package rest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/api/rest"
	"signet.example/signet/api/rpc"
	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile/rollout"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// house is the API on a real TLS listener over a real store.
type house struct {
	t           testing.TB
	store       store.Store
	credentials *auth.Credentials
	admin       auth.Grant
	api         *rpc.API
	tls         *tls.Config
	address     string
	stop        func() // ends the server, in its own time
	roots       *x509.CertPool
	site        *x509.Certificate // the root in roots
	log         *syncBuffer
	authority   *ca.Authority
	root        ca.Issuer
	issuing     ca.Issuer
	ledger      *revocation.Ledger
	universe    *revocation.Universe
	profiles    string // directory of profile files

	mu  sync.Mutex
	now time.Time
}

// authority signs what a test needs signed.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	a := &authority{template, key}
	a.certificate = a.sign(t, template, key.Public())
	return a
}

func (a *authority) sign(t testing.TB, template *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, pub, a.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// leaf issues a certificate and its key.
func (a *authority) leaf(t testing.TB, serial int64, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, DNSNames: []string{"agent.example"}}
	change(template)
	certificate := a.sign(t, template, key.Public())
	return &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// later turns the clock.
func (h *house) later(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func newHouse(t testing.TB, change ...func(*rpc.Config)) *house {
	t.Helper()
	return newHouseOn(t, testdb.SQLite(t), change...)
}

func newHouseOn(t testing.TB, s store.Store, change ...func(*rpc.Config)) *house {
	t.Helper()
	h := &house{t: t, store: s, log: new(syncBuffer), now: time.Now()}
	profiles := h.found()
	jobs := h.books()
	clients := rpc.ClientCertificates{Authority: h.authority, Universe: h.universe}
	authenticator, err := auth.NewAuthenticator(auth.AuthenticatorConfig{Store: h.store, Issuers: clients, Status: clients, Now: h.clock})
	if err != nil {
		t.Fatal(err)
	}
	if h.credentials, err = auth.NewCredentials(auth.CredentialsConfig{Store: h.store, Now: h.clock, Changed: authenticator.Forget}); err != nil {
		t.Fatal(err)
	}
	requests, err := approval.New(approval.Config{Authority: h.authority, Store: h.store, Archive: h.store, Credentials: h.store, Audit: h.store, Now: h.clock})
	if err != nil {
		t.Fatal(err)
	}
	config := rpc.Config{Requests: requests, Authenticator: authenticator, Credentials: h.credentials, Audit: h.store, Authority: h.authority, Rollout: profiles, Ledger: h.ledger,
		Universe: h.universe, Jobs: jobs, BlockedKeys: h.store, Now: h.clock, Log: slog.New(slog.NewTextHandler(h.log, nil)), BadLogins: 1000}
	for _, c := range change {
		c(&config)
	}
	api, err := rpc.New(config)
	if err != nil {
		t.Fatal(err)
	}
	h.api = api
	h.serve(api)
	return h
}

// memory keeps keys without encrypting them: opening an encrypted file takes as long as all the rest of a test, and has
// tests of its own.
type memory struct {
	mu   sync.Mutex
	keys map[string]*keys.Key
}

func (m *memory) URI(name string) string { return "memory:" + name }

func (m *memory) Create(_ context.Context, name string, algorithm keys.Algorithm) (*keys.Key, error) {
	signer, err := keys.Generate(algorithm)
	if err != nil {
		return nil, err
	}
	key := &keys.Key{Signer: signer, URI: m.URI(name)}
	rand.Read(key.Secret[:])
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[key.URI] != nil {
		return nil, pki.Errorf(pki.KindConflict, "create key", "%s is there", name)
	}
	m.keys[key.URI] = key
	return key, nil
}

func (m *memory) Open(_ context.Context, uri string) (*keys.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key := m.keys[uri]; key != nil {
		return key, nil
	}
	return nil, pki.Errorf(pki.KindNotFound, "open key", "no key %s", uri)
}

// found makes a root and an issuing authority.
func (h *house) found() *rollout.Rollout {
	h.t.Helper()
	dir := h.t.TempDir()
	h.profiles = dir
	if err := os.WriteFile(filepath.Join(dir, "guarded.yaml"), []byte(guarded), 0o600); err != nil {
		h.t.Fatal(err)
	}
	profiles, err := rollout.Open(h.t.Context(), rollout.Config{Dir: dir, Store: h.store, Instance: rollout.InstanceID{1}, Name: "here", Now: h.clock})
	if err != nil {
		h.t.Fatal(err)
	}
	if h.universe, err = revocation.NewUniverse(revocation.UniverseConfig{Log: h.store, Ranges: h.store, Now: h.clock}); err != nil {
		h.t.Fatal(err)
	}
	h.authority, err = ca.New(h.t.Context(), ca.Config{Profiles: profiles.Profiles(), Keys: &memory{keys: map[string]*keys.Key{}}, Issuers: h.store, Ranges: h.store, Certificates: h.store, Inventory: h.store, Audit: h.store, Status: h.universe, Now: h.clock})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if err := h.authority.Close(context.Background()); err != nil {
			h.t.Errorf("close authority: %v", err)
		}
	})
	if h.admin, err = auth.System("test").Authorize(auth.ActionManage, ""); err != nil {
		h.t.Fatal(err)
	}
	if h.root, err = h.authority.CreateIssuer(h.t.Context(), h.admin, ca.NewIssuer{Label: "root", Subject: ca.Subject{CommonName: "Test Root"}, BaseURL: "http://pki.test"}); err != nil {
		h.t.Fatal(err)
	}
	if h.issuing, err = h.authority.CreateIssuer(h.t.Context(), h.admin, ca.NewIssuer{Label: "issuing", Subject: ca.Subject{CommonName: "Test Issuing CA"},
		BaseURL: "http://pki.test", Parent: h.root.ID}); err != nil {
		h.t.Fatal(err)
	}
	return profiles
}

// books opens the ledger and follows it.
func (h *house) books() *revocation.Jobs {
	h.t.Helper()
	var err error
	if err := h.universe.Load(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	if h.ledger, err = revocation.NewLedger(revocation.LedgerConfig{Store: h.store, Universe: h.universe, Keys: h.store, Now: h.clock}); err != nil {
		h.t.Fatal(err)
	}
	jobs, err := revocation.NewJobs(revocation.JobsConfig{Store: h.store, Runner: h.store, Universe: h.universe, Instance: revocation.InstanceID{1}, Now: h.clock})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	report := func(err error) { h.t.Errorf("in the background: %v", err) }
	running.Go(func() { h.universe.Run(ctx, report) })
	running.Go(func() { jobs.Run(ctx, report) })
	h.t.Cleanup(func() {
		if err := h.ledger.Close(); err != nil {
			h.t.Errorf("close ledger: %v", err)
		}
		cancel()
		running.Wait()
	})
	return jobs
}

// csr makes a key and a signing request without any name.
func csr(t testing.TB) (crypto.Signer, []byte) {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

// pair issues a certificate with its key, past the API.
func (h *house) pair(profile string, lifetime time.Duration, names ...string) *tls.Certificate {
	h.t.Helper()
	key, request := csr(h.t)
	var identifiers []pki.Identifier
	for _, name := range names {
		identifiers = append(identifiers, pki.Identifier{Type: pki.DNS, Value: name})
	}
	grant, err := auth.Principal{ID: "token:pair", Account: "pair", Role: auth.RoleAdmin}.Authorize(auth.ActionIssue, profile)
	if err != nil {
		h.t.Fatal(err)
	}
	issued, err := h.authority.Issue(h.t.Context(), grant, ca.Request{Profile: profile, CSR: request, Names: identifiers, Lifetime: lifetime})
	if err != nil {
		h.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		h.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{issued.DER}, PrivateKey: key, Leaf: leaf}
}

// serve listens on loopback until the test ends.
func (h *house) serve(api *rpc.API) {
	h.t.Helper()
	site := newAuthority(h.t, "site")
	certificate := site.leaf(h.t, 2, func(c *x509.Certificate) {
		c.ExtKeyUsage, c.DNSNames, c.IPAddresses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	})
	h.roots = x509.NewCertPool()
	h.roots.AddCert(site.certificate)
	h.site = site.certificate
	h.tls = &tls.Config{Certificates: []tls.Certificate{*certificate}}
	server, err := rest.NewServer(rest.Config{Services: api, TLS: h.tls})
	if err != nil {
		h.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("serve: %v", err)
		}
	})
}

func (h *house) token(spec auth.Spec) string {
	h.t.Helper()
	_, token, err := h.credentials.CreateToken(h.t.Context(), h.admin, spec)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// grpc is a client with a token or a client certificate.
func (h *house) grpc(token string, certificate *tls.Certificate) *client.Client {
	h.t.Helper()
	return h.client(client.Config{Token: token, Certificate: certificate, Now: h.clock})
}

// client makes a client of the house.
func (h *house) client(config client.Config) *client.Client {
	h.t.Helper()
	config.Address, config.Roots, config.Timeout = h.address, h.roots, 3*time.Minute
	c, err := client.New(config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}

// answer is what REST said.
type answer struct {
	Status int
	Header http.Header
	Body   map[string]any
	Text   string
}

// rest makes one REST call with a token or a client certificate.
func (h *house) rest(token string, certificate *tls.Certificate, method, path, body string) answer {
	h.t.Helper()
	request, err := http.NewRequestWithContext(h.t.Context(), method, "https://"+h.address+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	return h.do(request, certificate)
}

func (h *house) do(request *http.Request, certificate *tls.Certificate) answer {
	h.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots}, ForceAttemptHTTP2: true}
	if certificate != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{*certificate}
	}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	a := answer{Status: response.StatusCode, Header: response.Header, Text: string(text)}
	_ = json.Unmarshal(text, &a.Body) // not every body is JSON
	return a
}
