package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/crl"
	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/internal/server"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

type demoCmd struct {
	Database       string `placeholder:"URL" help:"Database to use, empty: sqlite:FILE or postgres://... (default: SQLite in the directory)."`
	Dir            string `placeholder:"DIR" type:"path" help:"Directory to work in, which must not exist or be empty, and is kept (default: a temporary one, removed at the end)."`
	UnsafeDatabase bool   `help:"Accept a PostgreSQL that can lose what it confirmed."`
}

// Help is shown by `signet demo --help`.
func (demoCmd) Help() string {
	return `The whole life of a certificate over real sockets: an authority is made and served, a certificate is asked for over the API,
accepted in a TLS handshake, revoked, published as revoked by OCSP and CRL, and refused in the next handshake.
The exit status is 0 only if every step holds.

Examples:
  signet demo
  signet demo --dir ./demo            # keep what was made, to look at
  signet demo --database postgres://signet@localhost/demo --output json`
}

// Run plays every step, and stops at the first that does not hold: the later ones rest on it.
func (c *demoCmd) Run(a *app) (err error) {
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

// demo is the state that steps hand on.
type demo struct {
	app      *app
	unsafe   bool
	database string
	dir      string
	keep     bool

	addresses server.Addresses // chosen before init, since URLs go into certificates
	child     *exec.Cmd        // the running `signet serve`
	childLog  *os.File

	api       *client.Client
	roots     *x509.CertPool
	issuing   *x509.Certificate
	stolen    tls.Certificate // what is issued, used, and revoked
	listening net.Listener    // the TLS server of the certificate's owner

	acknowledged time.Time     // the answer to the revocation arrived
	refusedAfter time.Duration // from there to the first refused handshake
}

// show prints one step, for a person or as one JSON object on a line.
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

// conclude tells what everything is about: how long a revoked certificate was still accepted.
func (d *demo) conclude() error {
	text := fmt.Sprintf("From the acknowledgement of the revocation to the first refused handshake: %.1f ms.", float64(d.refusedAfter.Microseconds())/1000)
	if d.app.json {
		_, err := fmt.Fprintln(d.app.err, text)
		return err
	}
	p := &printer{w: d.app.out}
	p.line("")
	p.line("%s", text)
	if d.keep {
		p.next("signet --config %s serve, and look around: signet --config %[1]s list", filepath.Join(d.dir, "signet.yaml"))
	} else {
		p.next("signet init --local, or `signet demo --dir ./demo` to keep what the demo makes")
	}
	return p.err
}

// prepare chooses directory and ports.
func (d *demo) prepare(dir string) (err error) {
	d.dir, d.keep = dir, dir != ""
	if !d.keep {
		if d.dir, err = os.MkdirTemp("", "signet-demo-"); err != nil {
			return pki.Errorf(pki.KindInvalid, "prepare the demo", "%w", err)
		}
	} else if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return pki.Errorf(pki.KindInvalid, "prepare the demo", "%w", err)
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
	if err := server.WriteNew(filepath.Join(d.dir, "passphrase"), append(passphrase, '\n'), 0o600); err != nil {
		return "", err
	}
	made, err := server.Initialize(ctx, server.InitConfig{
		Dir: d.dir, Database: d.database, PublicURL: "http://" + d.addresses.Public, Passphrase: passphrase, PassphraseFile: "passphrase",
		APIListen: d.addresses.API, PublicListen: d.addresses.Public, OpsListen: d.addresses.Ops, Unsafe: d.unsafe,
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("root %s..., issuing %s..., %s", made.Issuers[0].Fingerprint[:16], made.Issuers[1].Fingerprint[:16], made.Database), nil
}

// serve starts this program as a server of its own and waits until it says that it is ready.
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

// ready asks /readyz. A server that is not up yet is no error; running out of time is one.
func (d *demo) ready(ctx context.Context) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.addresses.Ops+"/readyz", nil)
	if err != nil {
		return false, err
	}
	answer, err := http.DefaultClient.Do(request)
	if ctx.Err() != nil {
		log, _ := os.ReadFile(d.childLog.Name()) // what there is of it
		return false, pki.Errorf(pki.KindUnavailable, "start the server", "it is not ready: %s", log)
	}
	if err != nil {
		return false, nil
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK, nil
}

// stop asks the server to end and waits until it has.
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

// newCertificate makes a key here and has it certified: only the request travels.
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
	pair := &tls.Certificate{PrivateKey: key}
	for rest := issued.PEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		pair.Certificate = append(pair.Certificate, block.Bytes)
	}
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

// greet serves TLS on a free port and says hello to whoever completes a handshake, until the listener is closed.
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
				_, _ = io.WriteString(conn, "hello\n") // a client that refused is gone
			}()
		}
	}()
	return l, nil
}

// connect does what a careful client does, with nothing remembered from before.
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
	conn, result, err := dialer.Dial(ctx, "tcp", address)
	if err != nil {
		return "", result, err
	}
	defer conn.Close()
	said, err := bufio.NewReader(conn).ReadString('\n')
	return trimLine(said), result, err
}

func trimLine(line string) string { return line[:max(0, len(line)-1)] }

// localFetcher may ask loopback addresses, which a client of strangers' certificates must not.
func localFetcher() (*fetch.Fetcher, error) {
	return fetch.New(fetch.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
}

func (d *demo) ocspGood(ctx context.Context) (string, error) {
	said, err := d.askOCSP()
	if err != nil {
		return "", err
	}
	if said.Status != pki.StatusGood {
		return "", fmt.Errorf("OCSP says %s", said.Status)
	}
	return fmt.Sprintf("good, signed by a responder the issuer appointed, next update %s", said.NextUpdate.Format(time.TimeOnly)), nil
}

func (d *demo) askOCSP() (ocsp.Result, error) {
	_, request, err := ocspTarget{Hash: "sha256"}.request(d.stolen.Leaf, d.issuing, nil)
	if err != nil {
		return ocsp.Result{}, err
	}
	address, short := ocsp.URL(d.stolen.Leaf.OCSPServer[0], request)
	ask := fetch.Request{URL: address}
	if !short {
		ask = fetch.Request{URL: d.stolen.Leaf.OCSPServer[0], Body: request, Type: "application/ocsp-request"}
	}
	answer, err := d.app.fetch("ask the OCSP responder", ask)
	if err != nil {
		return ocsp.Result{}, err
	}
	return ocsp.Verify(answer, ocsp.Query{Certificate: d.stolen.Leaf, Issuers: []*x509.Certificate{d.issuing}, Time: time.Now(), Skew: time.Minute})
}

// crlFresh reads the list of a shard that may have begun with this very certificate.
func (d *demo) crlFresh(ctx context.Context) (detail string, err error) {
	err = soon(ctx, func() error {
		list, listed, err := d.readCRL()
		if err != nil {
			return err
		}
		if listed {
			return errors.New("the certificate is on the list")
		}
		detail = fmt.Sprintf("CRL number %s, %d entries, next update %s, signature verified", list.Number, list.Len(), list.NextUpdate.Format(time.DateTime))
		return nil
	})
	return detail, err
}

// readCRL fetches and verifies the list that the certificate names, and looks the certificate up.
func (d *demo) readCRL() (list *crl.List, listed bool, err error) {
	der, err := d.app.fetch("fetch the CRL", fetch.Request{URL: d.stolen.Leaf.CRLDistributionPoints[0]})
	if err != nil {
		return nil, false, err
	}
	if list, err = crl.Parse(der); err != nil {
		return nil, false, err
	}
	if err := list.Verify(d.issuing); err != nil {
		return nil, false, err
	}
	if now := time.Now(); now.After(list.NextUpdate) || now.Add(time.Minute).Before(list.ThisUpdate) {
		return nil, false, fmt.Errorf("the list is of %s and due to be replaced by %s", list.ThisUpdate, list.NextUpdate)
	}
	serial, err := pki.SerialFromBig(d.stolen.Leaf.SerialNumber)
	if err != nil {
		return nil, false, err
	}
	entry, found := list.Lookup(ocsp.SerialOctets(serial), d.stolen.Leaf.RawIssuer)
	if found && entry.Reason != pki.KeyCompromise {
		return nil, false, fmt.Errorf("the list gives the reason %s", entry.Reason)
	}
	return list, found, nil
}

func (d *demo) untrustedRefused(ctx context.Context) (string, error) {
	stranger, err := strangeRoot()
	if err != nil {
		return "", err
	}
	_, _, err = d.connect(ctx, handshake.HardFail, stranger, d.listening.Addr().String())
	if _, ok := errors.AsType[*handshake.UntrustedError](err); !ok {
		return "", fmt.Errorf("want an UntrustedError, got: %v", err)
	}
	return "refused: " + err.Error(), nil
}

// strangeRoot is a pool with a root that signed nothing here.
func strangeRoot() (*x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Another Root"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool, nil
}

func (d *demo) revoke(ctx context.Context) (string, error) {
	change, err := d.api.Revoke(ctx, client.RevokeRequest{Certificate: d.stolen.Certificate[0], Reason: pki.KeyCompromise})
	if err != nil {
		return "", err
	}
	d.acknowledged = time.Now()
	// Whoever stole the key runs a server of his own, and staples nothing that would betray him.
	if err := d.listening.Close(); err != nil {
		return "", err
	}
	if d.listening, err = greet(&tls.Config{Certificates: []tls.Certificate{d.stolen}, MinVersion: tls.VersionTLS12}); err != nil {
		return "", err
	}
	// OCSP says revoked before the acknowledgement; a client that asks for the list instead has it milliseconds later.
	err = soon(ctx, func() error {
		_, _, err := d.connect(ctx, handshake.HardFail, d.roots, d.listening.Addr().String())
		if _, ok := errors.AsType[*handshake.RevokedError](err); !ok {
			return fmt.Errorf("a handshake after the acknowledgement was not refused as revoked: %v", err)
		}
		return nil
	})
	d.refusedAfter = time.Since(d.acknowledged)
	return fmt.Sprintf("durable as entry %d of the ledger", change.Sequence), err
}

// soon tries again and again for the seconds that clients' caches would allow; it needs milliseconds.
func soon(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (d *demo) ocspRevoked(ctx context.Context) (string, error) {
	said, err := d.askOCSP()
	if err != nil {
		return "", err
	}
	if said.Status != pki.StatusRevoked || said.Reason != pki.KeyCompromise {
		return "", fmt.Errorf("OCSP says %s, %s", said.Status, said.Reason)
	}
	return fmt.Sprintf("revoked, %s, since %s", said.Reason, said.RevokedAt.Format(time.TimeOnly)), nil
}

func (d *demo) crlRevoked(ctx context.Context) (detail string, err error) {
	err = soon(ctx, func() error {
		list, listed, err := d.readCRL()
		if err != nil {
			return err
		}
		if !listed {
			return fmt.Errorf("CRL number %s does not list it", list.Number)
		}
		detail = fmt.Sprintf("on CRL number %s, keyCompromise", list.Number)
		return nil
	})
	return detail, err
}

func (d *demo) handshakeRefused(ctx context.Context) (string, error) {
	_, _, err := d.connect(ctx, handshake.HardFail, d.roots, d.listening.Addr().String())
	if _, ok := errors.AsType[*handshake.RevokedError](err); !ok {
		return "", fmt.Errorf("want a RevokedError, got: %v", err)
	}
	return "refused: " + err.Error(), nil
}

func (d *demo) hardFail(ctx context.Context) (string, error) {
	_, pair, err := d.newCertificate(ctx, "app.demo.example")
	if err != nil {
		return "", err
	}
	if err := errors.Join(d.listening.Close(), d.stop()); err != nil {
		return "", err
	}
	if d.listening, err = greet(&tls.Config{Certificates: []tls.Certificate{*pair}, MinVersion: tls.VersionTLS12}); err != nil {
		return "", err
	}
	_, _, err = d.connect(ctx, handshake.HardFail, d.roots, d.listening.Addr().String())
	if _, ok := errors.AsType[*handshake.UnavailableError](err); !ok {
		return "", fmt.Errorf("want an UnavailableError, got: %v", err)
	}
	return "refused: no source could tell the status", nil
}

func (d *demo) softFail(ctx context.Context) (string, error) {
	_, result, err := d.connect(ctx, handshake.SoftFail, d.roots, d.listening.Addr().String())
	if err != nil {
		return "", err
	}
	if result.Decision() != handshake.AcceptedUnproved {
		return "", fmt.Errorf("the decision was %s", result.Decision())
	}
	return fmt.Sprintf("%s: the result says that the status is %s", result.Decision(), result.Certificates[0].Status), nil
}

func (d *demo) auditVerified(ctx context.Context) (string, error) {
	if err := d.start(ctx); err != nil {
		return "", err
	}
	report, err := d.api.VerifyAudit(ctx)
	if err != nil {
		return "", err
	}
	if !report.Intact {
		return "", errors.New(report.Finding)
	}
	return fmt.Sprintf("%d events, head %s...", report.Events, report.Head[:16]), nil
}
