package server_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/invariant"
	"signet.example/signet/internal/server"
	"signet.example/signet/internal/settings"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/internal/testport"
	"signet.example/signet/internal/testprogram"
	"signet.example/signet/pki"
)

// program is the binary under test, built once.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "signet-e2e-")
	if err != nil {
		panic(err)
	}
	if program, err = testprogram.Build(dir, testprogram.Race); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, variable := range os.Environ() { // servers under test obey the tests, not the shell that started them
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "SIGNET_") {
			os.Unsetenv(name)
		}
	}
	code := 1
	defer func() { os.RemoveAll(dir); os.Exit(code) }()
	code = testdb.Run(m)
}

// onBoth runs a test against both databases at once, each an empty one.
func onBoth(t *testing.T, test func(t *testing.T, database string)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, "sqlite:signet.db") })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, testdb.EmptyURL(t)) })
}

// site is an authority in a directory, and how it listens.
type site struct {
	dir       string
	addresses server.Addresses
	env       []string // of its processes, beside our own
	roots     *x509.CertPool
	api       *client.Client // to its process; survives restarts
}

// found makes an authority.
func found(t *testing.T, database string, changes ...func(*installation.InitConfig)) *site {
	t.Helper()
	s := &site{dir: filepath.Join(t.TempDir(), "state"), addresses: freeAddresses(t)}
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(passphrase, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := installation.InitConfig{
		Dir: s.dir, Database: database, PublicURL: "http://" + s.addresses.Public, Passphrase: []byte("correct horse"), PassphraseFile: passphrase,
		APIListen: s.addresses.API, PublicListen: s.addresses.Public, OpsListen: s.addresses.Ops, Unsafe: true,
	}
	for _, change := range changes {
		change(&config)
	}
	if _, err := installation.Initialize(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	s.connect(t)
	return s
}

// config reads its configuration, as a process would.
func (s *site) config(t *testing.T) *settings.Config {
	t.Helper()
	config, err := settings.Load(filepath.Join(s.dir, "signet.yaml"), os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func (s *site) connect(t *testing.T) {
	t.Helper()
	var err error
	if s.roots, err = client.ReadRoots(filepath.Join(s.dir, "root.pem")); err != nil {
		t.Fatal(err)
	}
	token, err := client.ReadToken(filepath.Join(s.dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	if s.api, err = client.New(client.Config{Address: s.addresses.API, Roots: s.roots, Token: token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.api.Close() })
}

// beside makes a second instance on the same database: a copy of the state directory with other ports.
func (s *site) beside(t *testing.T) *site {
	t.Helper()
	other := &site{dir: filepath.Join(t.TempDir(), "state"), addresses: freeAddresses(t)}
	if err := os.CopyFS(other.dir, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "signet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	listen := strings.NewReplacer(fmt.Sprintf("listen: %q", s.addresses.API), fmt.Sprintf("listen: %q", other.addresses.API),
		fmt.Sprintf("listen: %q", s.addresses.Public), fmt.Sprintf("listen: %q", other.addresses.Public),
		fmt.Sprintf("listen: %q", s.addresses.Ops), fmt.Sprintf("listen: %q", other.addresses.Ops))
	if err := os.WriteFile(filepath.Join(other.dir, "signet.yaml"), []byte(listen.Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"keys/issuing.key", "keys/root.key"} {
		if err := os.Chmod(filepath.Join(other.dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(other.dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	other.connect(t)
	return other
}

func freeAddresses(t *testing.T) server.Addresses {
	return server.Addresses{API: freeAddress(t), Public: freeAddress(t), Ops: freeAddress(t)}
}

func freeAddress(t *testing.T) string { return net.JoinHostPort("127.0.0.1", testport.Free(t)) }

// process is a running `signet serve`.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start runs the program and waits until it is ready.
func (s *site) start(t *testing.T, flags ...string) *process {
	t.Helper()
	p := &process{log: filepath.Join(s.dir, "serve.log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(program, "--config", filepath.Join(s.dir, "signet.yaml"), "serve", "--unsafe-database")
	p.cmd.Args = append(p.cmd.Args, flags...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append(os.Environ(), s.env...), log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }() // how it ended is in ProcessState
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			text, _ := os.ReadFile(p.log)
			t.Logf("log of the server:\n%s", text)
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); !s.ready(); time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.done:
			t.Fatalf("the server ended: %v", p.cmd.ProcessState)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the server is not ready")
		}
	}
	return p
}

func (s *site) ready() bool {
	answer, err := http.Get("http://" + s.addresses.Ops + "/readyz")
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// stop asks the process to end, and checks that it ends well.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if !p.cmd.ProcessState.Success() {
		t.Errorf("the server ended with %v", p.cmd.ProcessState)
	}
}

// request makes a key and a CSR.
func request(t testing.TB) []byte {
	t.Helper()
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (s *site) issue(t *testing.T, names ...string) client.Certificate {
	t.Helper()
	issued, err := s.api.Issue(t.Context(), client.IssueRequest{CSR: request(t), Profile: "server", Identifiers: names})
	if err != nil {
		t.Fatal(err)
	}
	return issued.Certificate
}

func (s *site) revoke(t *testing.T, c client.Certificate, reason pki.Reason) *client.Change {
	t.Helper()
	change, err := s.api.Revoke(t.Context(), client.RevokeRequest{Certificate: c.DER, Reason: reason, WaitPublished: true})
	if err != nil {
		t.Fatal(err)
	}
	return change
}

// TestLifeOfACertificate checks every invariant after every action.
func TestLifeOfACertificate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		p := s.start(t)
		system := invariant.System{API: s.api}
		invariant.All(t, system)

		var certificates []client.Certificate
		for i := range 5 {
			c := s.issue(t, fmt.Sprintf("host%d.example", i), "alias.example", "192.0.2.7")
			certificates, system.Issued = append(certificates, c), append(system.Issued, c.DER)
		}
		invariant.All(t, system)

		for i, reason := range []pki.Reason{pki.KeyCompromise, pki.Superseded, pki.Unspecified} {
			s.revoke(t, certificates[i], reason)
			invariant.All(t, system)
		}
		if _, err := s.api.Hold(t.Context(), client.HoldRequest{Issuer: certificates[3].Issuer, Serial: certificates[3].Serial, WaitPublished: true}); err != nil {
			t.Fatal(err)
		}
		invariant.All(t, system)
		if _, err := s.api.Release(t.Context(), client.HoldRequest{Issuer: certificates[3].Issuer, Serial: certificates[3].Serial, WaitPublished: true}); err != nil {
			t.Fatal(err)
		}
		invariant.All(t, system)

		p.stop(t)
		s.start(t)
		invariant.All(t, system)
	})
}

// TestKilledWhileIssuing kills the server again and again while many callers issue and revoke, and checks that nothing
// that was acknowledged is lost and that everything agrees.
func TestKilledWhileIssuing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		system := invariant.System{API: s.api}
		csr := request(t)
		for range 3 {
			p := s.start(t)
			s.connect(t) // the old connection would wait before it dials again
			system.API = s.api
			var mu sync.Mutex
			var enough atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			var callers sync.WaitGroup
			for range 8 {
				callers.Go(func() {
					for ctx.Err() == nil {
						issued, err := s.api.Issue(ctx, client.IssueRequest{CSR: csr, Profile: "server", Identifiers: []string{"load.example"}})
						if err != nil {
							return // the server is gone
						}
						mu.Lock()
						system.Issued = append(system.Issued, issued.Certificate.DER)
						mu.Unlock()
						if n := enough.Add(1); n%5 == 0 {
							// Counted by the ledger, not here.
							_, _ = s.api.Revoke(ctx, client.RevokeRequest{Certificate: issued.Certificate.DER, Reason: pki.Superseded})
						}
					}
				})
			}
			for deadline := time.Now().Add(20 * time.Second); enough.Load() < 60 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			p.kill()
			cancel()
			callers.Wait()
			if enough.Load() == 0 {
				t.Fatal("nothing was issued before the kill")
			}
		}
		s.start(t)
		s.connect(t)
		system.API = s.api
		invariant.All(t, system)
	})
}

// TestTwoInstances runs two processes on one PostgreSQL: what one revokes, the other's OCSP and lists say too.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	one := found(t, testdb.EmptyURL(t))
	two := one.beside(t)
	one.start(t)
	two.start(t)
	var issued [][]byte
	for i := range 4 {
		at := []*site{one, two}[i%2]
		c := at.issue(t, fmt.Sprintf("host%d.example", i))
		issued = append(issued, c.DER)
		[]*site{two, one}[i%2].revoke(t, c, pki.KeyCompromise)
		for _, each := range []*site{one, two} {
			check, err := each.api.CheckCertificate(t.Context(), c.DER, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if check.Revocation == nil || check.Revocation.Reason != pki.KeyCompromise {
				t.Errorf("an instance does not know the revocation that was published: %+v", check)
			}
		}
	}
	for _, each := range []*site{one, two} {
		invariant.All(t, invariant.System{API: each.api, Issued: issued})
	}
}

// parsePEM returns the certificates of a chain.
func parsePEM(t testing.TB, text []byte) (all []*x509.Certificate) {
	t.Helper()
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return all
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, certificate)
	}
}
