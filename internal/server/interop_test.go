package server_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/pki"
)

// TestInteropOpenSSL lets OpenSSL judge everything that a running server publishes, before and after a revocation:
// chain with CRL, CRL, OCSP by GET and POST with and without nonce, and a stapled handshake.
func TestInteropOpenSSL(t *testing.T) {
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		s.start(t)
		j := newJudge(t, s)
		j.check(false)
		s.revoke(t, j.certificate, pki.KeyCompromise)
		j.check(true)
	})
}

// judge holds a certificate in files, as OpenSSL wants it.
type judge struct {
	t           *testing.T
	dir         string
	certificate client.Certificate
	leaf        *x509.Certificate
	chain       []*x509.Certificate // leaf, issuing
	key         crypto.Signer
	rootID      pki.IssuerID
	site        *site
}

func newJudge(t *testing.T, s *site) *judge {
	t.Helper()
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := s.api.Issue(t.Context(), client.IssueRequest{CSR: csr, Profile: "server", Identifiers: []string{"localhost", "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	j := &judge{t: t, dir: t.TempDir(), certificate: issued.Certificate, chain: parsePEM(t, issued.PEM), key: key, site: s}
	j.leaf = j.chain[0]
	issuers, err := s.api.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range issuers {
		if i.Root {
			j.rootID = i.ID
		}
	}
	root, err := os.ReadFile(filepath.Join(s.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	j.write("root.pem", root)
	j.write("leaf.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: j.leaf.Raw}))
	j.write("issuing.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: j.chain[1].Raw}))
	return j
}

func (j *judge) path(name string) string { return filepath.Join(j.dir, name) }

func (j *judge) write(name string, data []byte) {
	j.t.Helper()
	if err := os.WriteFile(j.path(name), data, 0o600); err != nil {
		j.t.Fatal(err)
	}
}

// openssl runs a command in the judge's directory and returns everything it printed.
func (j *judge) openssl(args ...string) (string, error) {
	cmd := exec.Command("openssl", args...)
	cmd.Dir = j.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// want demands words in what a command printed.
func (j *judge) want(what, out string, words ...string) {
	j.t.Helper()
	for _, word := range words {
		if !strings.Contains(out, word) {
			j.t.Errorf("%s: no %q in:\n%s", what, word, out)
		}
	}
}

func (j *judge) download(url string) []byte {
	j.t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		j.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		j.t.Fatalf("%s: %s %v", url, answer.Status, err)
	}
	return body
}

func (j *judge) check(revoked bool) {
	j.t.Helper()
	j.crl(revoked)
	j.ocsp(revoked)
	j.handshake(revoked)
}

func (j *judge) crl(revoked bool) {
	j.t.Helper()
	j.write("shard.crl", j.download(j.leaf.CRLDistributionPoints[0]))
	j.write("root.crl", j.download(j.chain[1].CRLDistributionPoints[0]))
	for name, file := range map[string]string{"shard.crl": "issuing.pem", "root.crl": "root.pem"} {
		out, err := j.openssl("crl", "-in", name, "-inform", "DER", "-CAfile", file, "-out", name+".pem", "-text")
		if err != nil {
			j.t.Errorf("openssl crl %s: %v", name, err)
		}
		j.want("openssl crl "+name, out, "verify OK")
	}
	out, err := j.openssl("verify", "-x509_strict", "-crl_check_all", "-extended_crl", "-CRLfile", "shard.crl.pem", "-CRLfile", "root.crl.pem",
		"-CAfile", "root.pem", "-untrusted", "issuing.pem", "-purpose", "sslserver", "-verify_hostname", "localhost", "leaf.pem")
	if revoked {
		j.want("openssl verify", out, "certificate revoked")
	} else if err != nil {
		j.t.Errorf("openssl verify: %v\n%s", err, out)
	}
}

func (j *judge) ocsp(revoked bool) {
	j.t.Helper()
	said := "leaf.pem: good"
	if revoked {
		said = "leaf.pem: revoked"
	}
	// POST, with a nonce (which a pre-produced answer may leave out: RFC 9654) and without, for SHA-1 and SHA-256.
	for _, extra := range [][]string{{}, {"-no_nonce"}, {"-sha256", "-no_nonce"}} {
		args := append([]string{"ocsp", "-issuer", "issuing.pem"}, extra...)
		args = append(args, "-cert", "leaf.pem", "-url", j.leaf.OCSPServer[0], "-CAfile", "root.pem", "-verify_other", "issuing.pem", "-text")
		out, err := j.openssl(args...)
		if err != nil {
			j.t.Errorf("openssl %v: %v", args, err)
		}
		j.want("openssl ocsp", out, said, "Response verify OK")
		if revoked {
			j.want("openssl ocsp", out, "Reason: keyCompromise")
		}
	}
	// GET: OpenSSL makes the request and judges the answer, and an HTTP client carries both.
	if out, err := j.openssl("ocsp", "-issuer", "issuing.pem", "-cert", "leaf.pem", "-no_nonce", "-reqout", "request.der"); err != nil {
		j.t.Fatalf("openssl ocsp -reqout: %v\n%s", err, out)
	}
	request, err := os.ReadFile(j.path("request.der"))
	if err != nil {
		j.t.Fatal(err)
	}
	j.write("answer.der", j.download(j.leaf.OCSPServer[0]+"/"+url.PathEscape(base64.StdEncoding.EncodeToString(request))))
	out, err := j.openssl("ocsp", "-issuer", "issuing.pem", "-cert", "leaf.pem", "-no_nonce", "-respin", "answer.der", "-CAfile", "root.pem", "-verify_other", "issuing.pem")
	if err != nil {
		j.t.Errorf("openssl ocsp -respin: %v", err)
	}
	j.want("openssl ocsp, GET", out, said, "Response verify OK")
}

// handshake has openssl s_client look at a server that staples with our stapler.
func (j *judge) handshake(revoked bool) {
	j.t.Helper()
	fetcher, err := fetch.New(fetch.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		j.t.Fatal(err)
	}
	stapler, err := handshake.NewStapler(handshake.StaplerConfig{
		Certificate: tls.Certificate{Certificate: [][]byte{j.chain[0].Raw, j.chain[1].Raw}, PrivateKey: j.key}, Fetcher: fetcher,
	})
	if err != nil {
		j.t.Fatal(err)
	}
	stapler.Refresh(j.t.Context())
	l, err := tls.Listen("tcp", "127.0.0.1:0", stapler.Configure(&tls.Config{MinVersion: tls.VersionTLS12}))
	if err != nil {
		j.t.Fatal(err)
	}
	defer l.Close()
	go serveOnce(l)
	cmd := exec.Command("openssl", "s_client", "-connect", l.Addr().String(), "-servername", "localhost", "-status", "-CAfile", "root.pem", "-verify_return_error")
	cmd.Dir, cmd.Stdin = j.dir, bytes.NewReader(nil)
	out, err := cmd.CombinedOutput()
	if err != nil {
		j.t.Errorf("openssl s_client: %v\n%s", err, out)
	}
	if revoked {
		// Only good is ever stapled: a server tells no client that it is itself revoked, the client has to ask.
		j.want("openssl s_client -status", string(out), "OCSP response: no response sent", "Verify return code: 0 (ok)")
		return
	}
	j.want("openssl s_client -status", string(out), "OCSP Response Status: successful", "Cert Status: good", "Verify return code: 0 (ok)")
}

func serveOnce(l net.Listener) {
	conn, err := l.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.Copy(io.Discard, conn) // handshakes, and reads until the client hangs up
}
