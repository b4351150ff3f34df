package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/internal/durable"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/server"
	"signet.example/signet/pki"
)

type demoCmd struct {
	Database       string `placeholder:"URL" help:"Database to use, empty: sqlite:FILE or postgres://... (default: SQLite in the directory)."`
	Dir            string `placeholder:"DIR" type:"path" help:"Directory to work in, which must not exist or be empty, and is kept (default: a temporary one, removed at the end)."`
	UnsafeDatabase bool   `help:"Accept a PostgreSQL that can lose confirmed writes."`
}

func (demoCmd) Help() string {
	return `Shows the whole life of a certificate over real sockets: an authority is created and served, a certificate is requested over
the API, accepted in a TLS handshake, revoked, published as revoked by OCSP and CRL, and refused in the next handshake.
The exit status is 0 only if every step succeeds.

Examples:
  signet demo
  signet demo --dir ./demo            # keep what was made, to look at
  signet demo --database postgres://signet@localhost/demo --output json`
}

// Run runs the steps in order and stops at the first that fails, since later ones depend on it.
func (c *demoCmd) Run(a *app) (err error) {
	outliveReaders() // so that the server and the directory are removed at the end
	d := &demo{app: a, unsafe: c.UnsafeDatabase, database: c.Database}
	if err := d.prepare(c.Dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUp()) }()
	for _, step := range []struct {
		name  string
		title string
		play  func(context.Context) (string, error)
	}{
		{"init", "make a root, an issuing authority and an administrator", d.init},
		{"serve", "start the server", d.serve},
		{"issue", "ask for a certificate over the API; the private key stays here", d.issue},
		{"handshake-accepted", "a TLS server shows it; a client that insists on its status connects", d.handshakeAccepted},
		{"ocsp-good", "ask the OCSP responder that the certificate names", d.ocspGood},
		{"crl-fresh", "fetch the revocation list that the certificate names", d.crlFresh},
		{"untrusted-refused", "a client that does not trust this root", d.untrustedRefused},
		{"revoke", "the key is stolen: revoke for keyCompromise", d.revoke},
		{"ocsp-revoked", "ask the responder again", d.ocspRevoked},
		{"crl-revoked", "fetch the list again", d.crlRevoked},
		{"handshake-refused", "the thief's server shows the stolen certificate", d.handshakeRefused},
		{"status-unreachable-hardfail", "CRL and OCSP are off; a client that insists, and another certificate", d.hardFail},
		{"status-unreachable-softfail", "the same, with a client that tolerates it", d.softFail},
		{"audit-verified", "the server is back; every change is in the audit log, and its chain is whole", d.auditVerified},
	} {
		began := time.Now()
		detail, err := step.play(a.ctx)
		if showErr := d.show(step.name, step.title, detail, time.Since(began), err); err != nil || showErr != nil {
			return errors.Join(err, showErr)
		}
	}
	return d.conclude()
}

// demo is the state shared by the steps.
type demo struct {
	app      *app
	unsafe   bool
	database string
	dir      string
	keep     bool

	addresses server.Addresses // chosen before init, because URLs go into certificates
	child     *exec.Cmd        // the running `signet serve`
	childLog  *os.File

	api       *client.Client
	roots     *x509.CertPool
	issuing   *x509.Certificate
	stolen    tls.Certificate // issued, used and revoked
	listening net.Listener    // the TLS server of the certificate's owner

	acknowledged time.Time     // when the answer to the revocation arrived
	refusedAfter time.Duration // from then to the first refused handshake
}

// show prints one step, as text or as one line of JSON.
func (d *demo) show(name, title, detail string, took time.Duration, err error) error {
	if err != nil {
		detail = err.Error()
	}
	ms := float64(took.Microseconds()) / 1000
	if d.app.json {
		enc := json.NewEncoder(d.app.out)
		enc.SetEscapeHTML(false)
		return enc.Encode(struct {
			Step   string  `json:"step"`
			OK     bool    `json:"ok"`
			Detail string  `json:"detail"`
			MS     float64 `json:"ms"`
		}{name, err == nil, detail, ms})
	}
	mark := "ok  "
	if err != nil {
		mark = "FAIL"
	}
	p := &printer{w: d.app.out}
	p.line("%s %-28s %s", mark, name, title)
	p.line("     %s  (%.1f ms)", detail, ms)
	return p.err
}

// conclude prints the result of the demo: for how long a revoked certificate was still accepted.
func (d *demo) conclude() error {
	text := fmt.Sprintf("From the acknowledgement of the revocation to the first refused handshake: %.1f ms.", float64(d.refusedAfter.Microseconds())/1000)
	if d.app.json {
		_, err := fmt.Fprintln(d.app.err, text)
		return err
	}
	p := &printer{w: d.app.out}
	p.line("")
	p.line("%s", text)
	if _, err := exec.LookPath("signet"); err != nil { // started by go run ./cmd/signet demo
		p.next("put signet on your PATH: GOBIN=$HOME/bin go install ./cmd/signet; export PATH=$HOME/bin:$PATH")
	}
	if d.keep {
		p.next("signet --config %s serve, and look around: signet --config %[1]s list", filepath.Join(d.dir, "signet.yaml"))
	} else {
		p.next("signet init --local, or `signet demo --dir ./demo` to keep what the demo makes")
	}
	return p.err
}

// prepare chooses the directory and the ports.
func (d *demo) prepare(dir string) (err error) {
	d.dir, d.keep = dir, dir != ""
	if !d.keep {
		if d.dir, err = os.MkdirTemp("", "signet-demo-"); err != nil {
			return pki.Errorf(pki.KindInvalid, "prepare the demo", "%w", err)
		}
	} else if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return pki.Errorf(pki.KindInvalid, "prepare the demo", "%w", err)
	} else if found, err := os.ReadDir(d.dir); err != nil {
		return pki.Errorf(pki.KindInvalid, "prepare the demo", "%w", err)
	} else if len(found) > 0 {
		return pki.Errorf(pki.KindConflict, "prepare the demo", "%s is not empty", d.dir).
			WithHint("name a directory that does not exist yet")
	}
	if d.addresses, err = server.FreeAddresses(); err != nil {
		return err
	}
	return nil
}

func (d *demo) cleanUp() error {
	var failed error
	if d.listening != nil {
		failed = errors.Join(failed, d.listening.Close())
	}
	if d.api != nil {
		failed = errors.Join(failed, d.api.Close())
	}
	failed = errors.Join(failed, d.stop())
	if !d.keep {
		failed = errors.Join(failed, os.RemoveAll(d.dir))
	}
	return failed
}

func (d *demo) init(ctx context.Context) (string, error) {
	secret := make([]byte, 24)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	passphrase := []byte(hex.EncodeToString(secret))
	if err := durable.WriteNew(filepath.Join(d.dir, "passphrase"), append(passphrase, '\n'), 0o600); err != nil {
		return "", err
	}
	made, err := installation.Initialize(ctx, installation.InitConfig{
		Dir: d.dir, Database: d.database, PublicURL: "http://" + d.addresses.Public, Passphrase: passphrase, PassphraseFile: "passphrase",
		APIListen: d.addresses.API, PublicListen: d.addresses.Public, OpsListen: d.addresses.Ops, Unsafe: d.unsafe,
	})
	if e, ok := errors.AsType[*pki.Error](err); ok && e.Field == "database" && e.Kind == pki.KindConflict {
		return "", e.WithHint("the demo creates an authority of its own and uses no other: name an empty database, or none")
	}
	if err != nil {
		return "", err
	}
	database := made.Database
	if !d.keep { // a path to a file that is about to be removed is of no use
		database = strings.Replace(database, d.dir+string(filepath.Separator), "", 1)
	}
	return fmt.Sprintf("root %s..., issuing %s..., %s", made.Issuers[0].Fingerprint[:16], made.Issuers[1].Fingerprint[:16], database), nil
}

// serve starts this program as a server and waits until it is ready.
func (d *demo) serve(ctx context.Context) (string, error) {
	if err := d.start(ctx); err != nil {
		return "", err
	}
	roots, err := client.ReadRoots(filepath.Join(d.dir, "root.pem"))
	if err != nil {
		return "", err
	}
	token, err := client.ReadToken(filepath.Join(d.dir, "admin.token"))
	if err != nil {
		return "", err
	}
	d.roots = roots
	if d.api, err = client.New(client.Config{Address: d.addresses.API, Roots: roots, Token: token}); err != nil {
		return "", err
	}
	return fmt.Sprintf("API https://%s, CRL and OCSP http://%s, process %d", d.addresses.API, d.addresses.Public, d.child.Process.Pid), nil
}

func (d *demo) start(ctx context.Context) (err error) {
	const op = "start the server"
	program, err := os.Executable()
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	if d.childLog, err = os.OpenFile(filepath.Join(d.dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	args := []string{"--config", filepath.Join(d.dir, "signet.yaml"), "serve"}
	if d.unsafe {
		args = append(args, "--unsafe-database")
	}
	d.child = exec.Command(program, args...)
	// They may be meant for another Signet on this machine.
	ours := func(variable string) bool { return strings.HasPrefix(variable, "SIGNET_") }
	d.child.Env = slices.DeleteFunc(os.Environ(), ours)
	d.child.Stdout, d.child.Stderr = d.childLog, d.childLog
	if err := d.child.Start(); err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if ready, err := d.ready(ctx); ready || err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ready asks /readyz. It is not an error if the server is not up yet, unless the time is over.
func (d *demo) ready(ctx context.Context) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.addresses.Ops+"/readyz", nil)
	if err != nil {
		return false, err
	}
	answer, err := http.DefaultClient.Do(request)
	if ctx.Err() != nil {
		log, _ := os.ReadFile(d.childLog.Name()) // as much as there is
		return false, pki.Errorf(pki.KindUnavailable, "start the server", "it is not ready: %s", log)
	}
	if err != nil {
		return false, nil
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK, nil
}

// stop ends the server and waits until it has stopped.
func (d *demo) stop() error {
	if d.child == nil {
		return nil
	}
	child := d.child
	d.child = nil
	if err := child.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return errors.Join(child.Wait(), d.childLog.Close())
}

func (d *demo) issue(ctx context.Context) (string, error) {
	issued, pair, err := d.newCertificate(ctx, "app.demo.example", "www.app.demo.example", "127.0.0.1")
	if err != nil {
		return "", err
	}
	d.stolen = *pair
	if d.issuing, err = x509.ParseCertificate(pair.Certificate[1]); err != nil {
		return "", err
	}
	return fmt.Sprintf("serial %s, %d names, until %s", issued.Certificate.Serial, len(issued.Certificate.Identifiers), issued.Certificate.NotAfter.Format("2006-01-02")), nil
}

// newCertificate makes a key here and has it certified: only the request is sent.
func (d *demo) newCertificate(ctx context.Context, names ...string) (*client.Issued, *tls.Certificate, error) {
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, err
	}
	issued, err := d.api.Issue(ctx, client.IssueRequest{CSR: csr, Profile: "server", Identifiers: names})
	if err != nil {
		return nil, nil, err
	}
	pair := &tls.Certificate{PrivateKey: key, Certificate: pki.CertificatesInPEM(issued.PEM)}
	if len(pair.Certificate) < 2 {
		return nil, nil, errors.New("the answer holds no issuing certificate")
	}
	pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	return issued, pair, err
}

func (d *demo) handshakeAccepted(ctx context.Context) (string, error) {
	fetcher, err := localFetcher()
	if err != nil {
		return "", err
	}
	stapler, err := handshake.NewStapler(handshake.StaplerConfig{Certificate: d.stolen, Fetcher: fetcher})
	if err != nil {
		return "", err
	}
	stapler.Refresh(ctx)
	if d.listening, err = greet(stapler.Configure(&tls.Config{MinVersion: tls.VersionTLS12})); err != nil {
		return "", err
	}
	said, result, err := d.connect(ctx, handshake.HardFail, d.roots, d.listening.Addr().String())
	if err != nil {
		return "", err
	}
	decisive := result.Certificates[0].Decisive
	return fmt.Sprintf("%s; status %s by %s; the server says %q", result.Decision(), result.Certificates[0].Status, decisive.Source, said), nil
}

// greet serves TLS on a free port and says hello to every client that completes a handshake, until the listener is
// closed.
func greet(config *tls.Config) (net.Listener, error) {
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.WriteString(conn, "hello\n") // a client that refused has disconnected
			}()
		}
	}()
	return l, nil
}

// connect does what a careful client does, remembering nothing from before.
func (d *demo) connect(ctx context.Context, policy handshake.Policy, roots *x509.CertPool, address string) (string, *handshake.Result, error) {
	fetcher, err := localFetcher()
	if err != nil {
		return "", nil, err
	}
	checker, err := handshake.New(handshake.Config{Policy: policy, Fetcher: fetcher})
	if err != nil {
		return "", nil, err
	}
	dialer := handshake.Dialer{Checker: checker, TLS: &tls.Config{RootCAs: roots, ServerName: "app.demo.example"}}
	conn, result, err := dialer.DialResult(ctx, "tcp", address)
	if err != nil {
		return "", result, err
	}
	defer conn.Close()
	said, err := bufio.NewReader(conn).ReadString('\n')
	return trimLine(said), result, err
}

func trimLine(line string) string { return line[:max(0, len(line)-1)] }

// localFetcher may ask loopback addresses, which a client must not do for certificates of strangers.
func localFetcher() (*fetch.Fetcher, error) {
	return fetch.New(fetch.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
}
