package server_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/internal/installation"
	"signet.example/signet/pki"
)

// subject is a certificate in files, as NAME.pem, NAME.der, NAME-chain.pem (with the issuing authority's) and NAME.key,
// and two servers that show it: one staples, one does not.
type subject struct {
	*x509.Certificate
	name    string
	key     crypto.Signer
	record  client.Certificate
	stapler *handshake.Stapler
	stapled string // address
	bare    string // address
}

func (s *subject) port(address string) string {
	_, port, _ := net.SplitHostPort(address) // of our own listener
	return port
}

// judge is a running CA behind a proxy that all readers go through.
type judge struct {
	t        *testing.T // of what runs now
	whole    *testing.T // of everything: what is started for it lives to the end
	dir      string
	site     *site
	front    *front
	app      *subject
	subjects map[string]*subject
	issuing  *x509.Certificate
	root     *x509.Certificate
	java     map[string]*javaProcess
}

// judgedProfile is for certificates that every reader can make something of.
const judgedProfile = `name: judged
lifetime: 90d
max_lifetime: 398d
names: {min: 1, max: 100, dns: {allow: ["*"]}, ip: {allow: ["*"]}}
key_usage: [digital_signature]
extended_key_usage: [server_auth, client_auth, code_signing]
`

func newJudge(t *testing.T, database string) *judge {
	t.Helper()
	j := &judge{t: t, whole: t, dir: t.TempDir(), subjects: make(map[string]*subject), java: make(map[string]*javaProcess)}
	j.site = found(t, database, func(c *installation.InitConfig) {
		j.front = newFront(t, c.PublicListen)
		c.PublicURL = j.front.url
		if database != "sqlite:signet.db" {
			c.RootKey, c.IssuingKey = keys.RSA3072, keys.RSA2048 // the other kind of signature, once
		}
	})
	profiles := t.TempDir()
	if err := os.WriteFile(filepath.Join(profiles, "judged.yaml"), []byte(judgedProfile), 0o600); err != nil {
		t.Fatal(err)
	}
	j.site.env = []string{"SIGNET_OCSP_NONCE=live", "SIGNET_PROFILES=" + profiles}
	j.site.start(t)
	for _, name := range []string{"app", "other"} {
		j.issue(name)
	}
	j.app = j.subjects["app"]
	text, err := os.ReadFile(filepath.Join(j.site.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	j.root = parsePEM(t, text)[0]
	j.writePEM("root.pem", "CERTIFICATE", j.root.Raw)
	j.writePEM("issuing.pem", "CERTIFICATE", j.issuing.Raw)
	j.writePEM("authorities.pem", "CERTIFICATE", j.issuing.Raw, j.root.Raw)
	j.startJava("post", "-Dcom.sun.security.ocsp.useget=false")
	return j
}

// move has the issuing authority publish at another address, and issues a certificate there. The old address is served
// still.
func (j *judge) move() {
	j.t.Helper()
	elsewhere := newFront(j.whole, j.site.addresses.Public)
	if _, err := j.site.api.UpdateIssuer(j.t.Context(), j.app.record.Issuer, client.IssuerChange{BaseURL: &elsewhere.url}); err != nil {
		j.t.Fatal(err)
	}
	for range 100 { // what was reserved before carries the old address
		spent, err := x509.ParseCertificate(j.site.issue(j.t, "spent.example").DER)
		if err != nil {
			j.t.Fatal(err)
		}
		if strings.HasPrefix(spent.CRLDistributionPoints[0], elsewhere.url) {
			break
		}
	}
	j.issue("moved")
	if moved := j.subjects["moved"]; !strings.HasPrefix(moved.CRLDistributionPoints[0], elsewhere.url) || !strings.HasPrefix(moved.OCSPServer[0], elsewhere.url) {
		j.t.Fatalf("the new certificate points to %s and %s", moved.CRLDistributionPoints, moved.OCSPServer)
	}
	// A new URL begins a new shard (docs/REVOCATION.md): the holder of the certificate finds a list that names the URL
	// at once.
	if shard := j.subjects["moved"].CRLDistributionPoints[0]; !bytes.Contains(j.download(shard), []byte(shard)) {
		j.t.Errorf("the list at %s does not name this URL", shard)
	}
}

// forge makes a certificate with the stolen key of the issuing authority. Its serial number has the index of a good
// one, and random octets that a thief cannot know.
func (j *judge) forge() {
	j.t.Helper()
	store, err := softkey.New(softkey.Config{Dir: filepath.Join(j.site.dir, "keys"), Passphrase: []byte("correct horse")})
	if err != nil {
		j.t.Fatal(err)
	}
	stolen, err := store.Open(j.t.Context(), store.URI("issuing"))
	if err != nil {
		j.t.Fatal(err)
	}
	model := j.subjects["other"]
	hash := pki.HashSPKI(j.issuing.RawSubjectPublicKeyInfo)
	position, ok := model.record.Serial.Unmask(hash)
	if !ok {
		j.t.Fatal("the serial number has no position")
	}
	template := *model.Certificate
	template.SerialNumber = pki.NewSerial(pki.RangeKey{}, hash, position).Big()
	der, err := x509.CreateCertificate(rand.Reader, &template, j.issuing, model.key.Public(), stolen)
	if err != nil {
		j.t.Fatal(err)
	}
	forged, err := x509.ParseCertificate(der)
	if err != nil {
		j.t.Fatal(err)
	}
	j.show("forged", forged, model.key)
}

// issue makes a certificate for server and client, and the two servers that show it.
func (j *judge) issue(name string) {
	j.t.Helper()
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		j.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		j.t.Fatal(err)
	}
	issued, err := j.site.api.Issue(j.t.Context(), client.IssueRequest{CSR: csr, Profile: "judged", Identifiers: []string{"localhost", "127.0.0.1"}})
	if err != nil {
		j.t.Fatal(err)
	}
	chain := parsePEM(j.t, issued.PEM)
	j.issuing = chain[1]
	j.show(name, chain[0], key)
	j.subjects[name].record = issued.Certificate
}

// show writes a certificate to files, and starts the two servers that show it.
func (j *judge) show(name string, leaf *x509.Certificate, key crypto.Signer) {
	j.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		j.t.Fatal(err)
	}
	j.writePEM(name+".key", "PRIVATE KEY", der)
	j.writePEM(name+".pem", "CERTIFICATE", leaf.Raw)
	j.write(name+".der", leaf.Raw)
	j.writePEM(name+"-chain.pem", "CERTIFICATE", leaf.Raw, j.issuing.Raw)

	s := &subject{Certificate: leaf, name: name, key: key}
	pair := tls.Certificate{Certificate: [][]byte{leaf.Raw, j.issuing.Raw}, PrivateKey: key}
	s.stapler, err = handshake.NewStapler(handshake.StaplerConfig{Certificate: pair, Fetcher: j.fetcher()})
	if err != nil {
		j.t.Fatal(err)
	}
	s.bare = j.serve(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	s.stapled = j.serve(&tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		certificate, err := s.stapler.GetCertificate(hello)
		if err == nil && j.front.tamper.Load() && certificate.OCSPStaple != nil {
			wrong := *certificate
			wrong.OCSPStaple = flip(wrong.OCSPStaple)
			certificate = &wrong
		}
		return certificate, err
	}})
	j.subjects[name] = s
}

// serve answers every request over TLS until the test ends.
func (j *judge) serve(config *tls.Config) string {
	j.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		j.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello\n") }), TLSConfig: config, ErrorLog: quiet}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.ServeTLS(l, "", "") }) // until it is closed
	j.whole.Cleanup(func() { s.Close(); serving.Wait() })
	return l.Addr().String()
}

func (j *judge) fetcher() *fetch.Fetcher {
	j.t.Helper()
	f, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback})
	if err != nil {
		j.t.Fatal(err)
	}
	return f
}

func (j *judge) hold() {
	if _, err := j.site.api.Hold(j.t.Context(), client.HoldRequest{Issuer: j.app.record.Issuer, Serial: j.app.record.Serial, WaitPublished: true}); err != nil {
		j.t.Fatal(err)
	}
}

func (j *judge) release() {
	j.write("kept-held.crl.pem", j.read("complete.crl.pem")) // as a client keeps it that looked while it was on hold
	if _, err := j.site.api.Release(j.t.Context(), client.HoldRequest{Issuer: j.app.record.Issuer, Serial: j.app.record.Serial, WaitPublished: true}); err != nil {
		j.t.Fatal(err)
	}
}

func (j *judge) revoke(der []byte, reason pki.Reason) {
	if _, err := j.site.api.Revoke(j.t.Context(), client.RevokeRequest{Certificate: der, Reason: reason, WaitPublished: true}); err != nil {
		j.t.Fatal(err)
	}
}

func (j *judge) revokeIssuing() {
	j.front.tamper.Store(false)
	j.revoke(j.issuing.Raw, pki.CACompromise)
}

// collect downloads every list, the shard of the certificate that is asked about, in PEM as most want them, and renews
// the staples.
func (j *judge) collect(of *subject) {
	j.t.Helper()
	at := func(c *x509.Certificate) string { return c.CRLDistributionPoints[0] }
	complete := j.front.url + "/crl/" + j.app.record.Issuer.String() + ".crl"
	for name, location := range map[string]string{
		"shard": at(of.Certificate), "complete": complete, "delta": strings.TrimSuffix(complete, ".crl") + "/delta.crl", "root": at(j.issuing),
	} {
		der := j.download(location)
		j.write(name+".crl", der)
		j.writePEM(name+".crl.pem", "X509 CRL", der)
	}
	if _, err := os.Stat(j.path("kept-first.crl.pem")); err != nil {
		j.write("kept-first.crl.pem", j.read("complete.crl.pem")) // as a client keeps it that looked at the beginning
		j.write("kept-held.crl.pem", j.read("complete.crl.pem"))
		j.write("kept-root.crl.pem", j.read("root.crl.pem"))
	}
	j.concatenate("shards.pem", "shard.crl.pem", "root.crl.pem")
	j.concatenate("completes.pem", "complete.crl.pem", "root.crl.pem")
	j.concatenate("first-and-delta.pem", "kept-first.crl.pem", "delta.crl.pem", "root.crl.pem")
	j.concatenate("held-and-delta.pem", "kept-held.crl.pem", "delta.crl.pem", "root.crl.pem")
	j.concatenate("trust-and-lists.pem", "root.pem", "completes.pem")
	for _, s := range j.subjects {
		s.stapler.Refresh(j.t.Context())
	}
}

func (j *judge) path(name string) string { return filepath.Join(j.dir, name) }

func (j *judge) write(name string, data []byte) {
	j.t.Helper()
	if err := os.WriteFile(j.path(name), data, 0o600); err != nil {
		j.t.Fatal(err)
	}
}

func (j *judge) writePEM(name, kind string, ders ...[]byte) {
	j.t.Helper()
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	j.write(name, text)
}

func (j *judge) read(name string) []byte {
	j.t.Helper()
	data, err := os.ReadFile(j.path(name))
	if err != nil {
		j.t.Fatal(err)
	}
	return data
}

func (j *judge) concatenate(name string, parts ...string) {
	j.t.Helper()
	var all []byte
	for _, part := range parts {
		all = append(all, j.read(part)...)
	}
	j.write(name, all)
}

func (j *judge) download(location string) []byte {
	j.t.Helper()
	answer, err := http.Get(location)
	if err != nil {
		j.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		j.t.Fatalf("%s: %s %v", location, answer.Status, err)
	}
	return body
}

// packages says what of Debian holds a program.
var packages = map[string]string{
	"openssl": "openssl", "gnutls-cli": "gnutls-bin", "gnutls-serv": "gnutls-bin", "certtool": "gnutls-bin", "ocsptool": "gnutls-bin",
	"certutil": "libnss3-tools", "crlutil": "libnss3-tools", "ocspclnt": "libnss3-tools", "vfychain": "libnss3-tools", "tstclnt": "libnss3-tools",
	"java": "default-jdk-headless", "javac": "default-jdk-headless", "keytool": "default-jdk-headless",
	"curl": "curl", "wget": "wget", "python3": "python3", "nginx": "nginx-light", "osslsigncode": "osslsigncode",
}

// program is a foreign command in the judge's directory. One that is not there fails the test: nothing is left out
// quietly.
func (j *judge) program(name string, args ...string) *exec.Cmd {
	j.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		j.t.Fatalf("%v: apt-get install --no-install-recommends %s, or run scripts/test", err, packages[name])
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = j.dir
	return cmd
}

// run runs a foreign command to its end and returns what it printed, and whether it ended well.
func (j *judge) run(name string, args ...string) (string, bool) {
	j.t.Helper()
	out, status := j.exit("", name, args...)
	return out, status == 0
}

// exit runs a foreign command with an input and returns what it printed and its exit status.
func (j *judge) exit(input, name string, args ...string) (string, int) {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(j.t.Context(), time.Minute)
	defer cancel()
	cmd := j.program(name, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	if err := cmd.Start(); err != nil {
		j.t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			j.t.Fatal(err)
		}
	}
	return fmt.Sprintf("$ %s\n%s(exit status %d)\n", strings.Join(cmd.Args, " "), out.String(), cmd.ProcessState.ExitCode()), cmd.ProcessState.ExitCode()
}

// must runs a foreign command that has to end well, whatever the state of the certificates.
func (j *judge) must(name string, args ...string) string {
	j.t.Helper()
	out, ok := j.run(name, args...)
	if !ok {
		j.t.Fatal(out)
	}
	return out
}

// front is what stands between the authority and the world, as a CDN would. It counts, and it can turn a bit of
// everything that passes.
type front struct {
	url    string
	tamper atomic.Bool

	mu      sync.Mutex
	methods map[string]int // OCSP requests by method; guarded by mu
}

func newFront(t *testing.T, behind string) *front {
	t.Helper()
	f := &front{methods: make(map[string]int)}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: behind})
	proxy.ErrorLog = quiet
	proxy.ModifyResponse = func(r *http.Response) error {
		if !f.tamper.Load() {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(flip(body)))
		return err
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/ocsp/") {
			f.mu.Lock()
			f.methods[r.Method]++
			f.mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	f.url = s.URL
	return f
}

// asked counts the OCSP requests of a method.
func (f *front) asked(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.methods[method]
}

// flip turns the last bit, which is in a signature in everything that an authority publishes: the list's, or that of
// the responder's certificate.
func flip(body []byte) []byte {
	if len(body) == 0 {
		return body
	}
	wrong := bytes.Clone(body)
	wrong[len(wrong)-1] ^= 1
	return wrong
}

func (j *judge) exists(name string) bool {
	_, err := os.Stat(j.path(name))
	return err == nil
}
