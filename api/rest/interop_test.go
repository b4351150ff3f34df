package rest_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// curl runs curl against the house and returns the status and the body. The token is passed in a file, because
// arguments are visible to every user of a machine.
func (h *house) curl(dir string, arguments ...string) (string, string) {
	h.t.Helper()
	body := filepath.Join(dir, "body")
	command := exec.CommandContext(h.t.Context(), "curl", append([]string{"--silent", "--show-error", "--max-time", "20", "--cacert", filepath.Join(dir, "roots.pem"),
		"--output", body, "--write-out", "%{http_version} %{http_code}"}, arguments...)...)
	out, err := command.CombinedOutput()
	if err != nil {
		h.t.Fatalf("curl %v: %v\n%s", arguments, err, out)
	}
	text, err := os.ReadFile(body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(out), string(text)
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeKeyPair(t *testing.T, dir string, pair *tls.Certificate) {
	t.Helper()
	writePEM(t, filepath.Join(dir, "client.pem"), "CERTIFICATE", pair.Certificate[0])
	key, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "client.key"), "EC PRIVATE KEY", key)
}

func TestInteropCurl(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	writePEM(t, filepath.Join(dir, "roots.pem"), "CERTIFICATE", h.site.Raw)
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	header := filepath.Join(dir, "header")
	if err := os.WriteFile(header, []byte("Authorization: Bearer "+token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := "https://" + h.address

	for version, flag := range map[string]string{"1.1": "--http1.1", "2": "--http2"} {
		status, body := h.curl(dir, flag, "--header", "@"+header, base+"/v1/whoami")
		if status != version+" 200" || !strings.Contains(body, `"token:root"`) {
			t.Errorf("%s with a token: %s %s", flag, status, body)
		}
		status, body = h.curl(dir, flag, base+"/v1/whoami")
		if status != version+" 401" || !strings.Contains(body, `"kind":"unauthenticated"`) {
			t.Errorf("%s without a credential: %s %s", flag, status, body)
		}
		status, body = h.curl(dir, flag, "--header", "@"+header, "--json", `{"credential":"by-`+version+`","role":"ROLE_AUDITOR"}`, base+"/v1/credentials:createToken")
		if status != version+" 200" || !strings.Contains(body, auth.TokenPrefix) {
			t.Errorf("%s making a token: %s %s", flag, status, body)
		}
		status, body = h.curl(dir, flag, "--header", "@"+header, "--data", `{"credential":"x","role":"ROLE_AUDITOR"}`, base+"/v1/credentials:createToken")
		if status != version+" 415" || !strings.Contains(body, "application/json") {
			t.Errorf("%s sending a form: %s %s", flag, status, body)
		}
		status, body = h.curl(dir, flag, "--header", "@"+header, "--header", "Content-Type: application/x-ndjson", "--data-binary", "{\"requestId\":\"a\"}\n{\xb3nonsense\n\n{\"profile\":\"server\"}", base+"/v1/certificates:issue")
		lines := strings.Split(strings.TrimSpace(body), "\n")
		if status != version+" 200" || len(lines) != 3 {
			t.Errorf("%s bulk: %s %s", flag, status, body)
		}
		for _, line := range lines {
			var item struct {
				Problem struct{ Kind, Message string }
			}
			if err := json.Unmarshal([]byte(line), &item); err != nil || item.Problem.Kind != "invalid" {
				t.Errorf("%s bulk: line %s", flag, line)
			}
		}
		status, body = h.curl(dir, flag, "--header", "Content-Type: application/x-ndjson", "--data-binary", "{\"requestId\":\"a\"}\n", base+"/v1/certificates:issue")
		if status != version+" 401" {
			t.Errorf("%s bulk without a credential: %s %s", flag, status, body)
		}
	}

	pair := h.pair("client", time.Hour, "agent.example")
	if _, err := h.credentials.BindCertificate(t.Context(), h.admin, auth.Spec{Name: "agent", Role: auth.RoleAuditor,
		Issuer: h.issuing.ID, KeyHash: pki.HashSPKI(pair.Leaf.RawSubjectPublicKeyInfo)}); err != nil {
		t.Fatal(err)
	}
	writeKeyPair(t, dir, pair)
	for _, flag := range []string{"--http1.1", "--http2"} {
		status, body := h.curl(dir, flag, "--cert", filepath.Join(dir, "client.pem"), "--key", filepath.Join(dir, "client.key"), base+"/v1/whoami")
		if !strings.HasSuffix(status, " 200") || !strings.Contains(body, `"certificate:agent"`) {
			t.Errorf("%s with a client certificate: %s %s", flag, status, body)
		}
	}
}
