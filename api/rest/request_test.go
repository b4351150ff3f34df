package rest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet.example/signet/api/client"
	"signet.example/signet/api/rpc"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

func TestBadFieldIsNamed(t *testing.T) {
	h := newHouse(t)
	admin := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	const issuer, revoke = "00000000000000000001", "/v1/certificates/00000000000000000001/0a:revoke"
	for _, test := range []struct {
		method, path, body, field string
	}{
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":"a b","role":"ROLE_ADMIN"}`, "credential"},
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":"a","role":"ROLE_KING"}`, "role"},
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":"a","role":7}`, "role"},
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":"a"}`, "role"},
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":"a","role":"ROLE_ADMIN","lifetime":"tomorrow"}`, "lifetime"},
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":"a","role":"ROLE_ADMIN","lifetime":"-1s"}`, "lifetime"},
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":"a","role":"ROLE_ADMIN","lifetime":"315576000000s"}`, "lifetime"},
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":"a","role":"ROLE_ADMIN","admin":true}`, "admin"},
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":1}`, "credential"},
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":"a"} {}`, ""},
		{http.MethodPost, "/v1/credentials:createToken", `{"credential":`, ""},
		{http.MethodPost, "/v1/credentials:createToken", `[1]`, ""},
		{http.MethodPost, "/v1/credentials:bindCertificate", `{"credential":"a","role":"ROLE_ADMIN","identifier":"dns:a","issuer":"XYZ"}`, "issuer"},
		{http.MethodPost, "/v1/credentials:bindCertificate", `{"credential":"a","role":"ROLE_ADMIN","keyHash":"00","issuer":"` + issuer + `"}`, "key_hash"},
		{http.MethodPost, "/v1/credentials:bindCertificate", `{"credential":"a","role":"ROLE_ADMIN","identifier":"dns:-","issuer":"` + issuer + `"}`, "identifier"},
		{http.MethodPost, revoke, `{"reason":"REASON_BOREDOM"}`, "reason"},
		{http.MethodPost, revoke, `{"reason":7}`, "reason"},
		{http.MethodPost, revoke, `{"reason":8}`, "reason"},
		{http.MethodPost, revoke, `{"reason":-1}`, "reason"},
		{http.MethodPost, revoke, `{"reason":257}`, "reason"},
		{http.MethodPost, revoke, `{"reason":"REASON_CERTIFICATE_HOLD"}`, "reason"},
		{http.MethodPost, revoke, `{"waitFor":5}`, "wait_for"},
		{http.MethodPost, revoke, `{"invalidityAt":"yesterday"}`, "invalidity_at"},
		{http.MethodPost, revoke, `{"invalidityAt":"2999-01-01T00:00:00Z"}`, "invalidity_at"},
		{http.MethodPost, "/v1/certificates/" + issuer + "/zz:revoke", `{}`, "serial"},
		{http.MethodPost, "/v1/certificates/ABCDEFABCDEFABCDEFAB/0a:revoke", `{}`, "issuer"},
		{http.MethodPost, "/v1/certificates:revoke", `{"certificatePem":"hello"}`, "certificate"},
		{http.MethodPost, "/v1/certificates:revoke", `{"certificateDer":"AQ=="}`, "certificate"},
		{http.MethodPost, "/v1/certificates:check", `{}`, "certificate"},
		{http.MethodPost, "/v1/certificates:check", `{"certificatePem":"-----BEGIN CERTIFICATE-----\nAQ==\n-----END CERTIFICATE-----\n"}`, "certificate"},
		{http.MethodPost, "/v1/certificates", `{"profile":"server"}`, "csr"},
		{http.MethodPost, "/v1/certificates", `{"csrDer":"AQ=="}`, "profile"},
		{http.MethodPost, "/v1/certificates", `{"csrPem":"x","profile":"server"}`, "csr"},
		// The document is at fault.
		{http.MethodPost, "/v1/certificates", `{"csrDer":"AQ==","csrPem":"x","profile":"server"}`, ""},
		{http.MethodPost, "/v1/certificates", `{"csrDer":"AQ==","profile":"server","identifiers":["a.example","dns:b c"]}`, "identifiers[1]"},
		{http.MethodPost, "/v1/certificates", `{"csrDer":"AQ==","profile":"server","identifiers":["a.example","dns:A.example"]}`, "identifiers[1]"},
		{http.MethodPost, "/v1/certificates", `{"csrDer":"AQ==","profile":"server","identifiers":[` + strings.Repeat(`"a",`, 1000) + `"a"]}`, "identifiers"},
		{http.MethodPost, "/v1/certificates", `{"csrDer":"AQ==","profile":"server","notAfter":"0000-00-00"}`, "not_after"},
		{http.MethodGet, "/v1/certificates?standing=STANDING_GREAT", "", "standing"},
		{http.MethodGet, "/v1/certificates?standing=9", "", "standing"},
		{http.MethodGet, "/v1/certificates?pageSize=1001", "", "page_size"},
		{http.MethodGet, "/v1/certificates?page_size=many", "", "page_size"},
		{http.MethodGet, "/v1/certificates?expirse_before=2026-01-01T00:00:00Z", "", "expirse_before"},
		{http.MethodGet, "/v1/certificates?expires_until=soon", "", "expires_until"},
		{http.MethodGet, "/v1/certificates?identifier=a%20b", "", "identifier"},
		{http.MethodGet, "/v1/certificates?dns_suffix=10.0.0.1", "", "dns_suffix"},
		{http.MethodGet, "/v1/certificates?keyHash=12", "", "key_hash"},
		{http.MethodGet, "/v1/certificates?issuer=12", "", "issuer"},
		{http.MethodGet, "/v1/certificates?serial=xyz", "", "serial"},
		{http.MethodGet, "/v1/certificates?%00failure=a&%00failure=b", "", "\x00failure"},
		// JSON and protobuf are UTF-8; addresses are octets.
		{http.MethodGet, "/v1/certificates?profile=%ff", "", "profile"},
		{http.MethodGet, "/v1/audit/events?actor=a%c3", "", "actor"},
		{http.MethodGet, "/v1/credentials/%ff", "", "credential"},
		{http.MethodPost, "/v1/credentials/%ff:disable", `{}`, "credential"},
		{http.MethodGet, "/v1/issuers/12", "", "issuer"},
		{http.MethodGet, "/v1/audit/events?pageSize=5000", "", "page_size"},
	} {
		a := h.rest(admin, nil, test.method, test.path, test.body)
		field, _ := a.Body["field"].(string)
		if a.Status != http.StatusBadRequest || a.Body["kind"] != "invalid" || field != test.field {
			t.Errorf("%s %s %.80s: %d %.300s, want field %q", test.method, test.path, test.body, a.Status, a.Text, test.field)
		}
		if hint, _ := a.Body["hint"].(string); (field == "standing" || test.body == `{"reason":"REASON_BOREDOM"}`) && !strings.Contains(hint, "want one of ") {
			t.Errorf("%s %.80s: the hint %q does not say what is right", test.path, test.body, hint)
		}
	}
	if strings.Contains(h.log.String(), "level=ERROR") {
		t.Errorf("bad requests are logged as errors:\n%s", h.log)
	}
}

// What people send for what is wanted is answered with what is wanted, and not with what a parser makes of it.
func TestBadFieldSaysWhatIsRight(t *testing.T) {
	h := newHouse(t)
	admin := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	text := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{1}}))
	for _, test := range []struct{ method, path, body, detail, hint string }{
		{http.MethodPost, "/v1/certificates", `{"csrDer":"` + text + `","profile":"server"}`, "this is PEM, and csr_der wants DER", "send it as csr_pem"},
		{http.MethodPost, "/v1/certificates", `{"csrDer":"AAAA","profile":"server","identifiers":["a.example"]}`, "csr: this is no certificate request in DER", "send one PKCS #10 request"},
		{http.MethodPost, "/v1/certificates", `{"csrDer":"AQ==","profile":"server","identifiers":["bücher.example","xn--bcher-kva.example"]}`,
			`"xn--bcher-kva.example" is dns:xn--bcher-kva.example, which is named already`, "leave one of them out"},
		{http.MethodPost, "/v1/certificates", `{"csrDer":"AQ==","profile":"server","notAfter":"2027-01-01"}`, "2027-01-01", "want a time such as 2027-01-01T00:00:00Z"},
		{http.MethodGet, "/v1/certificates?expires_until=2027-01-01", "", "2027-01-01", "want a time such as 2027-01-01T00:00:00Z"},
		{http.MethodPost, "/v1/certificates:revoke", `{"certificateDer":"` + text + `"}`, "this is PEM, and certificate_der wants DER", "send it as certificate_pem"},
		{http.MethodPost, "/v1/certificates:revoke", `{}`, "no certificate is named", "give issuer and serial, or certificate_pem, or certificate_der"},
	} {
		a := h.rest(admin, nil, test.method, test.path, test.body)
		detail, _ := a.Body["detail"].(string)
		hint, _ := a.Body["hint"].(string)
		if a.Status != http.StatusBadRequest || !strings.Contains(detail, test.detail) || !strings.Contains(hint, test.hint) {
			t.Errorf("%s %s %.80s: %d %s, want %q and %q", test.method, test.path, test.body, a.Status, a.Text, test.detail, test.hint)
		}
	}
	bare, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+h.address+"/v1/whoami", nil)
	if err != nil {
		t.Fatal(err)
	}
	bare.Header.Set("Authorization", admin)
	if a := h.do(bare, nil); a.Status != http.StatusUnauthorized || a.Body["hint"] != "Authorization: Bearer TOKEN" {
		t.Errorf("a token without its scheme: %d %s", a.Status, a.Text)
	}
}

func TestBadFieldIsNamedOverGRPC(t *testing.T) {
	h := newHouse(t)
	c := h.grpc(h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin}), nil)
	for field, call := range map[string]func() error{
		"role": func() error {
			_, err := c.CreateToken(t.Context(), client.CredentialRequest{Name: "x", Role: 9})
			return err
		},
		"credential": func() error {
			_, err := c.CreateToken(t.Context(), client.CredentialRequest{Name: "x y", Role: client.RoleAdmin})
			return err
		},
		"standing": func() error {
			_, err := c.Certificates(t.Context(), client.CertificateFilter{Standing: 9}, client.Page{})
			return err
		},
		"page_size": func() error {
			_, err := c.Certificates(t.Context(), client.CertificateFilter{}, client.Page{Size: 1001})
			return err
		},
		"reason": func() error {
			_, err := c.Revoke(t.Context(), client.RevokeRequest{Issuer: pki.IssuerID{1}, Serial: pki.Serial{19: 1}, Reason: 7})
			return err
		},
		"identifiers[1]": func() error {
			_, err := c.Issue(t.Context(), client.IssueRequest{CSR: []byte{1}, Profile: "server", Identifiers: []string{"a", "dns:b c"}})
			return err
		},
	} {
		err := call()
		if pki.KindOf(err) != pki.KindInvalid || fieldOf(err) != field {
			t.Errorf("%v (field %q), want field %q", err, fieldOf(err), field)
		}
	}
}

func TestBadHTTP(t *testing.T) {
	h := newHouse(t)
	admin := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	for _, test := range []struct {
		what, method, path, body string
		status                   int
	}{
		{"nothing there", http.MethodGet, "/v1/nothing", "", http.StatusNotFound},
		{"another path", http.MethodGet, "/etc/passwd", "", http.StatusNotFound},
		{"a wrong method", http.MethodDelete, "/v1/certificates", "", http.StatusMethodNotAllowed},
		{"reading what is only done", http.MethodGet, "/v1/certificates:check", "", http.StatusMethodNotAllowed},
		{"doing what is only read", http.MethodPost, "/v1/whoami", "{}", http.StatusMethodNotAllowed},
		{"a large body", http.MethodPost, "/v1/certificates", `{"profile":"` + strings.Repeat("a", 600<<10) + `"}`, http.StatusRequestEntityTooLarge},
		{"no such credential", http.MethodGet, "/v1/credentials/nobody", "", http.StatusNotFound},
		{"no such issuer", http.MethodGet, "/v1/issuers/00000000000000000001", "", http.StatusNotFound},
	} {
		a := h.rest(admin, nil, test.method, test.path, test.body)
		if a.Status != test.status || a.Body["detail"] == nil || a.Body["kind"] == nil || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %v %s, want %d", test.what, a.Status, a.Header, a.Text, test.status)
		}
	}
	for path, allow := range map[string]string{"/v1/certificates:check": "POST", "/v1/nothing": ""} {
		if a := h.rest(admin, nil, http.MethodHead, path, ""); a.Status < 400 || a.Header.Get("Allow") != allow || a.Text != "" {
			t.Errorf("HEAD %s: %d %v %q", path, a.Status, a.Header, a.Text)
		}
	}
	for path, allow := range map[string]string{
		"/v1/whoami": "GET, HEAD", "/v1/certificates": "GET, HEAD, POST", "/v1/issuers/00000000000000000001": "DELETE, GET, HEAD",
		"/v1/issuers/00000000000000000001:update": "POST", "/v1/certificates/00000000000000000001/01:revoke": "POST", "/openapi.json": "GET, HEAD",
	} {
		if a := h.rest(admin, nil, http.MethodPut, path, "{}"); a.Status != http.StatusMethodNotAllowed || a.Header.Get("Allow") != allow || !strings.Contains(fmt.Sprint(a.Body["hint"]), "takes "+allow+";") {
			t.Errorf("PUT %s: %d, %q is allowed, hint %v; want %q", path, a.Status, a.Header.Get("Allow"), a.Body["hint"], allow)
		}
	}
	if a := h.rest(admin, nil, http.MethodHead, "/v1/whoami", ""); a.Status != http.StatusOK || a.Header.Get("Content-Type") != "application/json" || a.Text != "" {
		t.Errorf("HEAD is GET without its body (RFC 9110, Section 9.3.2): %d %v %q", a.Status, a.Header, a.Text)
	}
	// What a form on another site can make a browser send is not taken, credential or not.
	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+h.address+"/v1/credentials/root:disable", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+admin)
		request.Header.Set("Content-Type", media)
		if a := h.do(request, nil); a.Status != http.StatusUnsupportedMediaType {
			t.Errorf("a body of type %q: %d %s", media, a.Status, a.Text)
		}
	}
}

func TestLargeMessageOverGRPC(t *testing.T) {
	h := newHouse(t)
	c := h.grpc(h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin}), nil)
	_, err := c.Issue(t.Context(), client.IssueRequest{CSR: make([]byte, 600<<10), Profile: "server"})
	if pki.KindOf(err) != pki.KindInvalid {
		t.Errorf("600 KiB: %v, want invalid", err)
	}
	_, err = c.Issue(t.Context(), client.IssueRequest{CSR: make([]byte, 9<<20), Profile: "server"})
	if pki.KindOf(err) != pki.KindExhausted {
		t.Errorf("9 MiB: %v, want exhausted, as gRPC says it", err)
	}
}

func TestRequestID(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	for sent, kept := range map[string]bool{"my-id_1.2": true, "": false, "a b": false, strings.Repeat("a", 65): false, "a\"b": false} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+h.address+"/v1/whoami", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("X-Request-Id", sent)
		a := h.do(request, nil)
		if got := a.Header.Get("X-Request-Id"); a.Status != http.StatusOK || got == "" || (got == sent) != kept {
			t.Errorf("sent %q: %d, request id %q", sent, a.Status, got)
		}
	}
}

// crls is what is published, as a test wants it.
type crls func() ([]byte, error)

func (c crls) CRL(context.Context, revocation.Scope) ([]byte, error) { return c() }

func (crls) OfflineStatus(pki.IssuerID, pki.Serial) rpc.OfflineStatus { return rpc.OfflineStatus{} }

func (c crls) ImportCRL(context.Context, auth.Grant, pki.IssuerID, []byte, []pki.Serial) (rpc.ImportedCRL, error) {
	_, err := c()
	return rpc.ImportedCRL{}, err
}

// What broke inside is for operators; a caller gets the id under which they find it.
func TestInternalCausesStayInside(t *testing.T) {
	var publish crls
	h := newHouse(t, func(c *rpc.Config) { c.CRLs = crls(func() ([]byte, error) { return publish() }) })
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	path := "/v1/issuers/" + h.issuing.ID.String() + "/crl"
	for what, test := range map[string]struct {
		publish crls
		kind    pki.Kind
		status  int
	}{
		"panic":     {func() ([]byte, error) { panic("secret of the house") }, pki.KindInternal, http.StatusInternalServerError},
		"error":     {func() ([]byte, error) { return nil, errors.New("secret of the house") }, pki.KindInternal, http.StatusInternalServerError},
		"no answer": {func() ([]byte, error) { return nil, pki.Errorf(pki.KindUnavailable, "read CRL", "secret of the house") }, pki.KindUnavailable, http.StatusServiceUnavailable},
	} {
		publish = test.publish
		_, err := h.grpc(token, nil).CRL(t.Context(), h.issuing.ID, "")
		e, ok := errors.AsType[*pki.Error](err)
		if !ok || e.Kind != test.kind || strings.Contains(err.Error()+e.Hint, "secret") {
			t.Errorf("%s over gRPC: %v", what, err)
		}
		a := h.rest(token, nil, http.MethodGet, path, "")
		id, _ := a.Body["requestId"].(string)
		if a.Status != test.status || strings.Contains(a.Text, "secret") || id == "" {
			t.Errorf("%s over REST: %d %s", what, a.Status, a.Text)
		}
		if log := h.log.String(); !strings.Contains(log, "secret of the house") || !strings.Contains(log, "request_id="+id) {
			t.Errorf("%s: the log does not say what happened to request %s:\n%s", what, id, log)
		}
	}
	publish = func() ([]byte, error) { return []byte{0x30, 0}, nil }
	if a := h.rest(token, nil, http.MethodGet, path, ""); a.Status != http.StatusOK || a.Text != "0\x00" || a.Header.Get("Content-Type") != "application/pkix-crl" {
		t.Errorf("after a panic: %d %v %q", a.Status, a.Header, a.Text)
	}
}

// There is room for so many calls, and a quarter of it for those of one credential.
func TestBoundedCallsInFlight(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	h := newHouse(t, func(c *rpc.Config) {
		c.InFlight = 4
		c.CRLs = crls(func() ([]byte, error) { entered <- struct{}{}; <-leave; return []byte{0x30, 0}, nil })
	})
	var tokens []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		tokens = append(tokens, h.token(auth.Spec{Name: name, Role: auth.RoleAdmin}))
	}
	refused := func(what, token string) {
		t.Helper()
		if a := h.rest(token, nil, http.MethodGet, "/v1/whoami", ""); a.Status != http.StatusTooManyRequests || a.Body["kind"] != "exhausted" {
			t.Errorf("%s over REST: %d %s", what, a.Status, a.Text)
		}
		if _, err := h.grpc(token, nil).WhoAmI(t.Context()); pki.KindOf(err) != pki.KindExhausted {
			t.Errorf("%s over gRPC: %v", what, err)
		}
	}
	done := make(chan string)
	for i, token := range tokens[:4] {
		go func() {
			a := h.rest(token, nil, http.MethodGet, "/v1/issuers/"+h.issuing.ID.String()+"/crl", "")
			done <- fmt.Sprint(a.Status)
		}()
		<-entered
		if i == 0 {
			refused("a second call of one credential", token)
			if a := h.rest(tokens[4], nil, http.MethodGet, "/v1/whoami", ""); a.Status != http.StatusOK {
				t.Errorf("the first of another: %d %s", a.Status, a.Text)
			}
		}
	}
	refused("the fifth call", tokens[4])
	close(leave)
	for range 4 {
		if status := <-done; status != "200" {
			t.Errorf("a call that was let in: %s", status)
		}
	}
	for _, token := range tokens {
		if a := h.rest(token, nil, http.MethodGet, "/v1/whoami", ""); a.Status != http.StatusOK {
			t.Errorf("when there is room again: %d %s", a.Status, a.Text)
		}
	}
}

// imports is where lists of off-line issuers go, as a test wants it.
type imports func(issuer pki.IssuerID, der []byte, expired []pki.Serial) (rpc.ImportedCRL, error)

func (imports) CRL(context.Context, revocation.Scope) ([]byte, error) { return nil, nil }

func (imports) OfflineStatus(pki.IssuerID, pki.Serial) rpc.OfflineStatus { return rpc.OfflineStatus{} }

func (i imports) ImportCRL(_ context.Context, _ auth.Grant, issuer pki.IssuerID, der []byte, expired []pki.Serial) (rpc.ImportedCRL, error) {
	return i(issuer, der, expired)
}

// A list reaches the publisher as it is, through both doors, and both say the same of it and of what is wrong.
func TestImportThroughBothDoors(t *testing.T) {
	list := []byte{0x30, 3, 2, 1, 0xff}
	begins := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	made := rpc.ImportedCRL{Number: 7, ThisUpdate: begins, NextUpdate: begins.AddDate(1, 0, 0), Revoked: 2, Sum: [32]byte{0xab}, URL: "http://pki.example/crl/x.crl"}
	var h *house
	h = newHouse(t, func(c *rpc.Config) {
		c.CRLs = imports(func(issuer pki.IssuerID, der []byte, expired []pki.Serial) (rpc.ImportedCRL, error) {
			if issuer != h.issuing.ID || !bytes.Equal(der, list) || !slices.Equal(expired, []pki.Serial{{18: 1, 19: 2}}) {
				return rpc.ImportedCRL{}, pki.Errorf(pki.KindRefused, "import revocation list", "its number is not larger").InField("crl")
			}
			return made, nil
		})
	})
	token, path := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin}), "/v1/issuers/"+h.issuing.ID.String()+"/crl:import"
	over, err := h.grpc(token, nil).ImportCRL(t.Context(), h.issuing.ID, list, []pki.Serial{{18: 1, 19: 2}})
	if err != nil || over.Number != 7 || !over.ThisUpdate.Equal(made.ThisUpdate) || !over.NextUpdate.Equal(made.NextUpdate) || over.Revoked != 2 || over.URL != made.URL || over.Fingerprint != hex.EncodeToString(made.Sum[:]) {
		t.Errorf("over gRPC: %+v, %v", over, err)
	}
	a := h.rest(token, nil, http.MethodPost, path, `{"crl":"MAMCAf8=","expiredSerials":["0102"]}`)
	want := map[string]any{"number": "7", "thisUpdate": "2026-11-01T00:00:00Z", "nextUpdate": "2027-11-01T00:00:00Z", "revoked": 2.0, "url": made.URL, "fingerprint": hex.EncodeToString(made.Sum[:])}
	if diff := cmp.Diff(want, a.Body); a.Status != http.StatusOK || diff != "" {
		t.Errorf("over REST: %d %s", a.Status, diff)
	}
	for _, test := range []struct {
		what   string
		der    []byte
		body   string
		kind   pki.Kind
		status int
		field  string
	}{
		{"another list", []byte{0x30, 0}, `{"crl":"MAA="}`, pki.KindRefused, http.StatusUnprocessableEntity, "crl"},
		{"no list", nil, `{}`, pki.KindInvalid, http.StatusBadRequest, "crl"},
		{"nothing that has expired", list, `{"crl":"MAMCAf8="}`, pki.KindRefused, http.StatusUnprocessableEntity, "crl"},
	} {
		h.both(t, test.what, token, nil, func(c *client.Client) error {
			_, err := c.ImportCRL(t.Context(), h.issuing.ID, test.der, nil)
			return err
		}, http.MethodPost, path, test.body, test.kind, test.status, test.field)
	}
	if a := h.rest(token, nil, http.MethodPost, path, `{"crl":"MAMCAf8=","expiredSerials":["x"]}`); a.Status != http.StatusBadRequest || a.Body["field"] != "expired_serials" {
		t.Errorf("no serial number: %d %s", a.Status, a.Text)
	}
	for _, body := range []string{`{"crl":"%"}`, `{"crl":7}`, `{"list":""}`, `[]`, ``} {
		if a := h.rest(token, nil, http.MethodPost, path, body); a.Status != http.StatusBadRequest {
			t.Errorf("%q: %d %s", body, a.Status, a.Text)
		}
	}
}
