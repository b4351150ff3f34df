package apicert_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/server/apicert"
	"signet.example/signet/internal/settings"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func TestMain(m *testing.M) { testdb.Main(m) }

const week = 7 * 24 * time.Hour

// world is a root and an issuing authority in a database, and a state directory whose root.pem has the root.
type world struct {
	universe      *revocation.Universe
	authority     *ca.Authority
	admin         auth.Grant
	root, issuing ca.Issuer
	settings      *settings.Config

	mu       sync.Mutex
	at       time.Time
	reported []error
}

func newWorld(t *testing.T, s store.Store) *world {
	t.Helper()
	w := &world{at: time.Now(), settings: &settings.Config{Dir: t.TempDir()}}
	w.settings.API.Listen, w.settings.API.Names, w.settings.Client.Root = "0.0.0.0:8443", []string{"api.example"}, "root.pem"
	var err error
	if w.admin, err = auth.System("test").Authorize(auth.ActionManage, ""); err != nil {
		t.Fatal(err)
	}
	if w.universe, err = revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: w.now}); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.settings.State().Keys(), 0o700); err != nil {
		t.Fatal(err)
	}
	w.authority = w.newAuthority(t, s)
	w.root = w.create(t, ca.NewIssuer{Label: "root", Subject: ca.Subject{CommonName: "Test Root"}})
	w.issuing = w.create(t, ca.NewIssuer{Label: "issuing", Subject: ca.Subject{CommonName: "Test Issuing CA"}, Parent: w.root.ID})
	w.trust(t, w.root)
	if err := w.universe.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// newAuthority is that of one instance.
func (w *world) newAuthority(t *testing.T, s store.Store) *ca.Authority {
	t.Helper()
	profiles, err := profile.Open("")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := softkey.New(softkey.Config{Dir: w.settings.State().Keys(), Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(t.Context(), ca.Config{Profiles: profiles, Keys: keys, Issuers: s, Ranges: s, Certificates: s, Inventory: s, Audit: s,
		Status: w.universe, Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := authority.Close(context.Background()); err != nil {
			t.Errorf("close authority: %v", err)
		}
	})
	return authority
}

func (w *world) create(t *testing.T, n ca.NewIssuer) ca.Issuer {
	t.Helper()
	n.BaseURL = "http://pki.example"
	issuer, err := w.authority.CreateIssuer(t.Context(), w.admin, n)
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// trust writes the roots that clients have.
func (w *world) trust(t *testing.T, roots ...ca.Issuer) {
	t.Helper()
	var text []byte
	for _, root := range roots {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificates[0].DER})...)
	}
	if err := os.WriteFile(w.settings.State().Root(), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (w *world) set(t *testing.T, state ca.IssuerState) {
	t.Helper()
	if _, err := w.authority.SetIssuerState(t.Context(), w.admin, w.issuing.ID, state); err != nil {
		t.Fatal(err)
	}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

// reports are what was reported until now.
func (w *world) reports() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.reported)
}

func (w *world) certificate(authority *ca.Authority) *apicert.Certificate {
	return apicert.New(apicert.Config{Authority: authority, Settings: w.settings, Now: w.now, Report: func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.reported = append(w.reported, err)
	}})
}

// certified is the certificate of an API, certified.
func (w *world) certified(t *testing.T) *apicert.Certificate {
	t.Helper()
	c := w.certificate(w.authority)
	if err := c.Certify(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// issued counts what the issuing authority has issued.
func (w *world) issued(t *testing.T) int {
	t.Helper()
	read, err := auth.System("test").Authorize(auth.ActionRead, "")
	if err != nil {
		t.Fatal(err)
	}
	page, err := w.authority.List(t.Context(), read, inventory.Filter{Issuer: w.issuing.ID}, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return len(page.Certificates)
}

func leaf(t *testing.T, c *apicert.Certificate) *x509.Certificate {
	t.Helper()
	current, err := c.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return current.Leaf
}

func signsItself(leaf *x509.Certificate) bool { return leaf.Issuer.String() == leaf.Subject.String() }

// says is what /readyz is told.
func says(c *apicert.Certificate) (state, detail string) {
	c.Check(func(_, s, d string) { state, detail = s, d })
	return state, detail
}

// published is the certificate in api.pem, nil if there is none.
func (w *world) published(t *testing.T) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(w.settings.State().API())
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatalf("api.pem holds %q", text)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// serve answers with what it receives, under the certificate, until the test ends.
func serve(t *testing.T, c *apicert.Certificate) (address string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: c.Get, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for octet := make([]byte, 1); ; {
					if _, err := conn.Read(octet); err != nil {
						return
					}
					if _, err := conn.Write(octet); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// dial connects as a client that has the roots, by each of the names.
func (w *world) dial(t *testing.T, address string, roots *x509.CertPool) *tls.Conn {
	t.Helper()
	var last *tls.Conn
	for _, name := range []string{"localhost", "::1", "api.example", "127.0.0.1"} {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", address, &tls.Config{ServerName: name, RootCAs: roots, Time: w.now})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(func() { conn.Close() })
		last = conn
	}
	return last
}

// echoes fails the test if a connection is dead.
func echoes(t *testing.T, conn *tls.Conn) {
	t.Helper()
	answer := make([]byte, 1)
	if _, err := conn.Write([]byte{7}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(answer); err != nil || answer[0] != 7 {
		t.Fatal(answer, err)
	}
}

func poolOf(certificates ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certificates {
		pool.AddCert(c)
	}
	return pool
}

func (w *world) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	root, err := x509.ParseCertificate(w.root.Certificates[0].DER)
	if err != nil {
		t.Fatal(err)
	}
	return poolOf(root)
}

// keyFile is where a key is.
func (w *world) keyFile(name string) string {
	return filepath.Join(w.settings.State().Keys(), name+".key")
}

// wantError fails the test unless an error is of a kind.
func wantError(t *testing.T, err error, kind pki.Kind) {
	t.Helper()
	if pki.KindOf(err) != kind || err == nil {
		t.Errorf("%v, want an error of kind %v", err, kind)
	}
}
