package server_test

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/invariant"
	"signet.example/signet/internal/server"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// token is a SoftHSM token behind a module that hangs or fails on request (ca/keys/pkcs11/testdata/hang.c). It is in
// the directory dir.
type token struct{ hang, fail, dir string }

// newToken makes a token and tells a site to keep the keys of new issuers in it.
func newToken(t *testing.T, s *site) token {
	t.Helper()
	dir := t.TempDir()
	module := filepath.Join(dir, "hang.so")
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), s.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	softhsm := []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"}
	i := slices.IndexFunc(softhsm, func(path string) bool { _, err := os.Stat(path); return err == nil })
	if i < 0 {
		t.Fatal("install softhsm2")
	}
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	k := token{filepath.Join(dir, "hang"), filepath.Join(dir, "fail"), filepath.Join(dir, "tokens")}
	s.env = []string{
		"SOFTHSM2_CONF=" + write("softhsm2.conf", "directories.tokendir = "+k.dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"),
		"SIGNET_TEST_MODULE=" + softhsm[i], "SIGNET_TEST_HANG=" + k.hang, "SIGNET_TEST_FAIL=" + k.fail,
	}
	run("softhsm2-util", "--init-token", "--free", "--label", "site", "--so-pin", "12345678", "--pin", "87654321")
	run("gcc", "-shared", "-fPIC", "-o", module, "../../ca/keys/pkcs11/testdata/hang.c", "-ldl")

	config, err := os.OpenFile(filepath.Join(s.dir, "signet.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer config.Close()
	if _, err := fmt.Fprintf(config, "keys: {store: pkcs11, deadline: 3s, places: 2, pkcs11: {module: %q, token: site, pin_file: %q}}\n", module, write("pin", "87654321\n")); err != nil {
		t.Fatal(err)
	}
	return k
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// readiness is what /readyz says of one check; ready is whether it answered 200.
func (s *site) readiness(t *testing.T, check string) (state, detail string, ready bool) {
	t.Helper()
	answer, err := http.Get("http://" + s.addresses.Ops + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var said server.Readiness
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	for _, c := range said.Checks {
		if c.Name == check {
			return c.State, c.Detail, said.Ready
		}
	}
	return "", "", said.Ready
}

// TestATokenThatHangs has one issuer in a token and one in a file. While the token does not return from C_Sign, or
// fails, what needs its key is refused in bounded time and says what to do; the other issuer issues, every revocation
// is visible by OCSP, every list is served, and the lists of the other issuer follow; /readyz and the metrics name the
// key. Afterwards all goes on by itself, and the audit log has the uses of both keys.
func TestATokenThatHangs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		hsm := newToken(t, s)
		p := s.start(t)
		issuers, err := s.api.Issuers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		root := issuers[slices.IndexFunc(issuers, func(i client.Issuer) bool { return i.Label == "root" })].ID
		file := issuers[slices.IndexFunc(issuers, func(i client.Issuer) bool { return i.Label == "issuing" })].ID
		made, err := s.api.CreateIssuer(t.Context(), client.IssuerSpec{Label: "hsm", Subject: client.Subject{CommonName: "CA in a token"}, Parent: root, BaseURL: "http://" + s.addresses.Public})
		if err != nil {
			t.Fatal(err)
		}
		issueFrom := func(issuer pki.IssuerID) (client.Certificate, error) {
			issued, err := s.api.Issue(t.Context(), client.IssueRequest{CSR: request(t), Profile: "server", Issuer: issuer, Identifiers: []string{"host.example"}})
			if err != nil {
				return client.Certificate{}, err
			}
			return issued.Certificate, nil
		}
		mustIssueFrom := func(issuer pki.IssuerID) client.Certificate {
			t.Helper()
			c, err := issueFrom(issuer)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		ours := mustIssueFrom(made.ID)
		system := invariant.System{API: s.api, Issued: [][]byte{ours.DER}}
		invariant.All(t, system)

		for name, trouble := range map[string]string{"hangs": hsm.hang, "fails": hsm.fail} {
			ours := mustIssueFrom(made.ID)
			touch(t, trouble)
			begun := time.Now()
			for range 9 { // the last of them is not asked for
				_, err := issueFrom(made.ID)
				// The cause is for operators: log, /readyz, metrics.
				if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || e.Hint == "" {
					t.Errorf("%s: issued from the token: %v", name, err)
				}
			}
			if took := time.Since(begun); took > time.Minute { // a bound on hanging, not a measurement
				t.Errorf("%s: nine refusals took %s", name, took)
			}
			other := mustIssueFrom(file)
			s.revoke(t, other, pki.Superseded) // returns when every product has it
			if _, err := s.api.Revoke(t.Context(), client.RevokeRequest{Certificate: ours.DER, Reason: pki.KeyCompromise}); err != nil {
				t.Errorf("%s: revoke what the token signed: %v", name, err)
			}
			wantOCSP(t, ours.DER, pki.StatusRevoked)
			wantOCSP(t, other.DER, pki.StatusRevoked)
			list := "http://" + s.addresses.Public + "/crl/" + made.ID.String() + ".crl"
			if answer, err := http.Get(list); err != nil || answer.StatusCode != http.StatusOK {
				t.Errorf("%s: the list of the issuer in the token is not served: %v", name, err)
			} else {
				answer.Body.Close()
			}
			state, detail, ready := s.readiness(t, "key/hsm")
			if rests := strings.Contains(detail, "it is asked for no certificate before"); state != "warning" || detail == "" || rests != (trouble == hsm.fail) || !ready {
				t.Errorf("%s: /readyz says %q, %q, ready %v", name, state, detail, ready)
			}
			if state, _, _ := s.readiness(t, "key/issuing"); state != "ok" {
				t.Errorf("%s: /readyz says %q of the other key", name, state)
			}
			text := string(get(t, "http://"+s.addresses.Ops+"/metrics"))
			for _, want := range []string{`signet_key_failing_seconds{key="hsm",provider="pkcs11"}`, `signet_key_failures_total{key="hsm",provider="pkcs11",purpose="certificate"}`,
				`signet_key_signatures_total{key="issuing",provider="softkey",purpose="certificate"}`, `purpose="ocsp"`, `signet_key_sign_seconds_bucket{key="hsm"`} {
				if !strings.Contains(text, want) {
					t.Errorf("%s: metrics lack %s", name, want)
				}
			}
			remove(t, trouble)
			eventually(t, name+": the key comes back", func() bool { _, err := issueFrom(made.ID); return err == nil })
			system.Issued = append(system.Issued, ours.DER, other.DER)
			eventually(t, name+": the lists follow", func() bool { // they were put off for half a minute at most
				_, err := s.api.Revoke(t.Context(), client.RevokeRequest{Certificate: ours.DER, Reason: pki.KeyCompromise, WaitPublished: true})
				return err == nil
			})
			invariant.All(t, system)
		}
		p.stop(t)
		s.start(t)
		page, err := s.api.AuditEvents(t.Context(), client.AuditFilter{Action: "key.use"})
		if err != nil {
			t.Fatal(err)
		}
		uses := make(map[string]client.AuditEvent)
		for _, e := range page.Events {
			uses[e.Target] = e
		}
		hsmUse, fileUse := uses["key/"+made.KeyHash.String()], uses["key/"+issuers[0].KeyHash.String()]
		if hsmUse.Outcome != "failed" || hsmUse.Detail["certificate"] == "" || hsmUse.Detail["crl"] == "" || hsmUse.Detail["failures"] == "" {
			t.Errorf("audit of the key in the token: %+v", hsmUse)
		}
		if fileUse.Detail["certificate"] == "" && fileUse.Detail["crl"] == "" {
			t.Errorf("audit of a key in a file: %+v", fileUse)
		}
	})
}

// TestATokenThatIsAway starts an instance whose token is not there: it is ready, serves what its issuers published,
// revokes, and issues from the key in a file; what needs the token is refused and says what to do. When the token
// comes, and the PIN file, which was wrong, is mended, all goes on by itself.
func TestATokenThatIsAway(t *testing.T) {
	t.Parallel()
	s := found(t, "sqlite:signet.db")
	hsm := newToken(t, s)
	p := s.start(t)
	made, err := s.api.CreateIssuer(t.Context(), client.IssuerSpec{Label: "hsm", Subject: client.Subject{CommonName: "CA in a token"},
		Parent: s.issuerCalled(t, "root").ID, BaseURL: "http://" + s.addresses.Public})
	if err != nil {
		t.Fatal(err)
	}
	issueFrom := func(issuer pki.IssuerID) (*client.Issued, error) {
		return s.api.Issue(t.Context(), client.IssueRequest{CSR: request(t), Profile: "server", Issuer: issuer, Identifiers: []string{"host.example"}})
	}
	leaf, err := issueFrom(made.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantOCSP(t, leaf.Certificate.DER, pki.StatusGood) // its responder is certified
	eventually(t, "its first list", func() bool {
		answer, err := http.Get("http://" + s.addresses.Public + "/crl/" + made.ID.String() + ".crl")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	p.stop(t)

	away := hsm.dir + ".away"
	if err := os.Rename(hsm.dir, away); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	_, err = issueFrom(made.ID)
	// The cause is for operators.
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindUnavailable || e.Hint == "" {
		t.Errorf("issued without the token: %v", err)
	}
	if _, err := issueFrom(s.issuerCalled(t, "issuing").ID); err != nil {
		t.Errorf("issued with the key in a file: %v", err)
	}
	if _, err := s.api.Revoke(t.Context(), client.RevokeRequest{Certificate: leaf.Certificate.DER, Reason: pki.KeyCompromise}); err != nil {
		t.Error(err)
	}
	wantOCSP(t, leaf.Certificate.DER, pki.StatusRevoked)
	get(t, "http://"+s.addresses.Public+"/crl/"+made.ID.String()+".crl")
	for _, check := range []string{"token", "key/hsm"} {
		if state, detail, ready := s.readiness(t, check); state != "warning" || !strings.Contains(detail, "is the token or its network there?") || !ready {
			t.Errorf("/readyz says %q, %q of %s, ready %v", state, detail, check, ready)
		}
	}

	pin := filepath.Join(filepath.Dir(hsm.dir), "pin")
	right, err := os.ReadFile(pin)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pin, []byte("12345\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, hsm.dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is told of the PIN", func() bool {
		state, detail, ready := s.readiness(t, "token")
		return state == "warning" && ready && strings.Contains(detail, "put the right PIN into the PIN file")
	})
	if err := os.WriteFile(pin, right, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token comes back", func() bool { _, err := issueFrom(made.ID); return err == nil }) // tried once a minute by now, if it took long to get here
	if _, err := s.api.Revoke(t.Context(), client.RevokeRequest{Certificate: leaf.Certificate.DER, Reason: pki.KeyCompromise, WaitPublished: true}); err != nil {
		t.Errorf("its lists do not follow: %v", err)
	}
	if state, _, _ := s.readiness(t, "key/hsm"); state != "ok" {
		t.Errorf("/readyz says %q", state)
	}
}

// withIssuer parses a certificate and fetches the one above it, as AIA says.
func withIssuer(t *testing.T, der []byte) (leaf, issuer *x509.Certificate) {
	t.Helper()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if issuer, err = x509.ParseCertificate(get(t, leaf.IssuingCertificateURL[0])); err != nil {
		t.Fatal(err)
	}
	return leaf, issuer
}

func wantOCSP(t *testing.T, der []byte, want pki.Status) {
	t.Helper()
	leaf, issuer := withIssuer(t, der)
	if result := askOCSP(t, leaf, issuer); result.Status != want {
		t.Errorf("OCSP says %s, want %s", result.Status, want)
	}
}

// askOCSP asks by GET, as a relying party does, and believes only what verifies.
func askOCSP(t *testing.T, leaf, issuer *x509.Certificate) ocsp.Result {
	t.Helper()
	result, err := tryOCSP(t, leaf, issuer)
	if err != nil {
		t.Errorf("OCSP: %v", err)
	}
	return result
}

// tryOCSP is askOCSP where there may be no answer for the moment.
func tryOCSP(t *testing.T, leaf, issuer *x509.Certificate) (ocsp.Result, error) {
	t.Helper()
	return ocsp.Verify(fetchOCSP(t, leaf, issuer), ocsp.Query{Certificate: leaf, Issuers: []*x509.Certificate{issuer}, Time: time.Now()})
}

func fetchOCSP(t *testing.T, leaf, issuer *x509.Certificate) []byte {
	t.Helper()
	named, err := ocsp.IssuerOf(issuer)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := ocsp.SerialOf(leaf)
	if err != nil {
		t.Fatal(err)
	}
	request, err := ocsp.NewRequest(named.CertID(crypto.SHA256, serial)).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	address, short := ocsp.URL(leaf.OCSPServer[0], request)
	if !short {
		t.Fatal("the request is too long for GET")
	}
	return get(t, address)
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, answer.Status, err)
	}
	return body
}
