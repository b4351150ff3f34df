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
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/api/rest"
	"signet.example/signet/api/rpc"
	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store/sqlite"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// house is the API on a real TLS listener over a real store.
type house struct {
	t           *testing.T
	store       *sqlite.Store
	credentials *auth.Credentials
	admin       auth.Grant
	address     string
	roots       *x509.CertPool
	site        *x509.Certificate // the root in roots
	log         *syncBuffer
	status      map[pki.Serial]pki.Status // of client certificates; by default good
	client      *authority                // who issues client certificates
	issuers     func() ([]ca.Issuer, error)

	mu  sync.Mutex
	now time.Time
}

// authority signs what a test needs signed.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a := &authority{template, key}
	a.certificate = a.sign(t, template, key.Public())
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
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
func (a *authority) leaf(t *testing.T, serial int64, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, DNSNames: []string{"agent.example"}}
	change(template)
	certificate := a.sign(t, template, key.Public())
	return &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}
}

func newKey(t *testing.T) crypto.Signer {
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

// IssuerCertificates implements auth.Issuers.
func (h *house) IssuerCertificates(context.Context) ([]*x509.Certificate, error) {
	return []*x509.Certificate{h.client.certificate}, nil
}

// CertificateStatus implements auth.Status.
func (h *house) CertificateStatus(_ context.Context, _ pki.IssuerID, serial pki.Serial) (pki.Status, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if status, ok := h.status[serial]; ok {
		return status, nil
	}
	return pki.StatusGood, nil
}

// Issuers implements rpc.Issuers.
func (h *house) Issuers(context.Context) ([]ca.Issuer, error) {
	if h.issuers != nil {
		return h.issuers()
	}
	return nil, nil
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

func newHouse(t *testing.T, change ...func(*rpc.Config)) *house {
	t.Helper()
	h := &house{t: t, store: testdb.SQLite(t), log: new(syncBuffer), status: map[pki.Serial]pki.Status{}, now: time.Now(), client: newAuthority(t, "clients")}
	authenticator, err := auth.NewAuthenticator(auth.AuthenticatorConfig{Store: h.store, Issuers: h, Status: h, Now: h.clock})
	if err != nil {
		t.Fatal(err)
	}
	if h.credentials, err = auth.NewCredentials(auth.CredentialsConfig{Store: h.store, Now: h.clock, Changed: authenticator.Forget}); err != nil {
		t.Fatal(err)
	}
	if h.admin, err = auth.System("test").Authorize(auth.ActionManage, ""); err != nil {
		t.Fatal(err)
	}
	config := rpc.Config{Authenticator: authenticator, Credentials: h.credentials, Audit: h.store, Authority: new(ca.Authority), Issuers: h,
		Ledger: new(revocation.Ledger), Universe: new(revocation.Universe), Jobs: new(revocation.Jobs), BlockedKeys: h.store, Now: h.clock, Log: slog.New(slog.NewTextHandler(h.log, nil)), BadLogins: 1000}
	for _, c := range change {
		c(&config)
	}
	api, err := rpc.New(config)
	if err != nil {
		t.Fatal(err)
	}
	h.serve(api)
	return h
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
	server, err := rest.NewServer(rest.Config{Services: api, TLS: &tls.Config{Certificates: []tls.Certificate{*certificate}}})
	if err != nil {
		h.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
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
	c, err := client.New(client.Config{Address: h.address, Roots: h.roots, Token: token, Certificate: certificate})
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
