package rest_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/api/rpc"
	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// both makes the same call over gRPC and REST and compares what they say about the error.
func (h *house) both(t *testing.T, what, token string, certificate *tls.Certificate, call func(*client.Client) error, method, path, body string, kind pki.Kind, status int, field string) {
	t.Helper()
	err := call(h.grpc(token, certificate))
	e, ok := errors.AsType[*pki.Error](err)
	if !ok || e.Kind != kind || e.Field != field {
		t.Errorf("%s over gRPC: %v (kind %v, field %q), want kind %v, field %q", what, err, pki.KindOf(err), fieldOf(err), kind, field)
	}
	a := h.rest(token, certificate, method, path, body)
	gotField, _ := a.Body["field"].(string)
	if a.Status != status || a.Body["kind"] != kind.String() || gotField != field {
		t.Errorf("%s over REST: %d %s, want %d, kind %s, field %q", what, a.Status, a.Text, status, kind, field)
	}
	if a.Header.Get("Content-Type") != "application/problem+json" || a.Body["requestId"] == nil || a.Body["title"] == nil {
		t.Errorf("%s over REST: %v %s", what, a.Header, a.Text)
	}
	hint, _ := a.Body["hint"].(string)
	differs := e != nil && e.Hint != hint
	switch kind {
	case pki.KindInternal, pki.KindUnavailable: // with the id of its request
		differs = e != nil && (e.Hint == "") != (hint == "")
	case pki.KindInvalid: // REST has a hint for all that is invalid
		differs = differs && e.Hint != ""
	}
	if ok && differs {
		t.Errorf("%s: gRPC gives the hint %q, REST %q", what, e.Hint, hint)
	}
}

func fieldOf(err error) string {
	if e, ok := errors.AsType[*pki.Error](err); ok {
		return e.Field
	}
	return ""
}

func TestNoCallWithoutCredential(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "ci", Role: auth.RoleAdmin, Lifetime: time.Hour})
	whoAmI := func(c *client.Client) error { _, err := c.WhoAmI(t.Context()); return err }
	refused := func(what, token string, certificate *tls.Certificate) {
		t.Helper()
		h.both(t, what, token, certificate, whoAmI, http.MethodGet, "/v1/whoami", "", pki.KindUnauthenticated, http.StatusUnauthorized, "")
	}
	if _, err := h.grpc(token, nil).WhoAmI(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused("no credential", "", nil)
	refused("a wrong token", token[:len(token)-2]+"xx", nil)
	refused("no token at all", "hello", nil)
	h.later(time.Hour)
	refused("an expired token", token, nil)
	disabled := h.token(auth.Spec{Name: "gone", Role: auth.RoleAdmin})
	if _, err := h.credentials.Disable(t.Context(), h.admin, "gone"); err != nil {
		t.Fatal(err)
	}
	refused("a disabled token", disabled, nil)

	a := h.rest("", nil, http.MethodGet, "/v1/whoami", "")
	if a.Header.Get("WWW-Authenticate") == "" {
		t.Error("a 401 that does not say how to authenticate")
	}
	basic, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+h.address+"/v1/whoami", nil)
	if err != nil {
		t.Fatal(err)
	}
	basic.SetBasicAuth("admin", token)
	if a := h.do(basic, nil); a.Status != http.StatusUnauthorized {
		t.Errorf("basic authentication: %d %s", a.Status, a.Text)
	}
	smuggled, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+h.address+"/v1/whoami", nil)
	if err != nil {
		t.Fatal(err)
	}
	smuggled.Header.Set("Grpc-Metadata-Authorization", "Bearer "+h.token(auth.Spec{Name: "other", Role: auth.RoleAdmin}))
	if a := h.do(smuggled, nil); a.Status != http.StatusUnauthorized {
		t.Errorf("a token in another header: %d %s", a.Status, a.Text)
	}

	for _, path := range []string{"/healthz", "/openapi.json"} {
		if a := h.rest("", nil, http.MethodGet, path, ""); a.Status != http.StatusOK || a.Body == nil {
			t.Errorf("%s without a credential: %d %s", path, a.Status, a.Text)
		}
	}

	events, err := h.store.AuditEvents(t.Context(), audit.Filter{Action: "api.call"}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) < 10 {
		t.Errorf("%d refused calls are in the audit log", len(events))
	}
	for _, e := range events {
		if e.Outcome != audit.Refused || e.Actor != "anonymous" || e.Source != "127.0.0.1" || e.RequestID == "" {
			t.Errorf("event %+v", e)
		}
		if strings.Contains(e.DetailJSON(), token) {
			t.Error("a token is in the audit log")
		}
	}
	if strings.Contains(h.log.String(), token) {
		t.Error("a token is in the log")
	}
}

// Every method of every service, the open ones aside, asks for a credential: a service that is added is covered too.
func TestEveryPathAsksForCredential(t *testing.T) {
	h := newHouse(t)
	description := h.rest("", nil, http.MethodGet, "/openapi.json", "")
	paths, ok := description.Body["paths"].(map[string]any)
	if !ok || len(paths) < 20 {
		t.Fatalf("the description has %d paths", len(paths))
	}
	if !strings.Contains(description.Text, "except this description, /healthz and POST /v1/certificates:renew") {
		t.Error("the description does not say which calls need no credential")
	}
	for path, methods := range paths {
		path = strings.NewReplacer("{issuer}", strings.Repeat("0", 20), "{serial}", "01", "{job}", strings.Repeat("0", 32), "{credential}", "x", "{keyHash}", strings.Repeat("0", 64)).Replace(path)
		for method := range methods.(map[string]any) {
			if a := h.rest("", nil, strings.ToUpper(method), path, "{}"); a.Status != http.StatusUnauthorized {
				t.Errorf("%s %s without a credential: %d %s", method, path, a.Status, a.Text)
			}
		}
	}
}

func TestClientCertificates(t *testing.T) {
	h := newHouse(t)
	if _, err := h.credentials.BindCertificate(t.Context(), h.admin, auth.Spec{Name: "agent", Role: auth.RoleAuditor, Issuer: h.issuing.ID,
		Identifier: pki.Identifier{Type: pki.DNS, Value: "agent.example"}}); err != nil {
		t.Fatal(err)
	}
	whoAmI := func(c *client.Client) error { _, err := c.WhoAmI(t.Context()); return err }
	refused := func(what, token string, certificate *tls.Certificate) {
		t.Helper()
		h.both(t, what, token, certificate, whoAmI, http.MethodGet, "/v1/whoami", "", pki.KindUnauthenticated, http.StatusUnauthorized, "")
	}
	good := h.pair("client", 48*time.Hour, "agent.example")
	me, err := h.grpc("", good).WhoAmI(t.Context())
	if err != nil || me.Principal != "certificate:agent" || me.Role != client.RoleAuditor {
		t.Errorf("over gRPC: %+v, %v", me, err)
	}
	if a := h.rest("", good, http.MethodGet, "/v1/whoami", ""); a.Body["principal"] != "certificate:agent" || a.Body["role"] != "ROLE_AUDITOR" {
		t.Errorf("over REST: %d %s", a.Status, a.Text)
	}
	refused("a client certificate with another name", "", h.pair("client", 48*time.Hour, "other.example"))
	refused("a certificate for servers", "", h.pair("server", 48*time.Hour, "agent.example"))
	refused("a client certificate of another authority", "", newAuthority(t, "Test Issuing CA").leaf(t, 10, func(*x509.Certificate) {}))
	// A token that is sent counts, and a wrong one is not made good by a certificate.
	refused("a wrong token beside a good certificate", auth.TokenPrefix+strings.Repeat("A", 43), good)

	// Revoked while the connection is open.
	open := h.grpc("", good)
	if err := whoAmI(open); err != nil {
		t.Fatal(err)
	}
	root := h.grpc(h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin}), nil)
	if _, err := root.Revoke(t.Context(), client.RevokeRequest{Certificate: good.Certificate[0], Reason: pki.KeyCompromise}); err != nil {
		t.Fatal(err)
	}
	if err := whoAmI(open); pki.KindOf(err) != pki.KindUnauthenticated || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("revoked on an open connection: %v", err)
	}
	refused("a revoked client certificate", "", good)

	short := h.pair("client", time.Hour, "agent.example")
	open = h.grpc("", short)
	if err := whoAmI(open); err != nil {
		t.Fatal(err)
	}
	h.later(2 * time.Hour)
	if err := whoAmI(open); pki.KindOf(err) != pki.KindUnauthenticated || !strings.Contains(err.Error(), "not valid now") {
		t.Errorf("expired on an open connection: %v", err)
	}
	refused("an expired client certificate", "", short)

	late := h.pair("client", 48*time.Hour, "agent.example")
	if _, err := h.grpc("", late).WhoAmI(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Revoke(t.Context(), client.RevokeRequest{Certificate: h.issuing.Certificates[0].DER, Reason: pki.CACompromise}); err != nil {
		t.Fatal(err)
	}
	h.later(2 * time.Second) // what was proved is remembered for one
	refused("a client certificate below a revoked authority", "", late)
}

// TestClientsOfAStolenAuthority: what another authority certified no ledger of ours can revoke; that its key is blocked
// is enough.
func TestClientsOfAStolenAuthority(t *testing.T) {
	h := newHouse(t)
	root := h.grpc(h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin}), nil)
	waiting, err := root.CreateIssuer(t.Context(), client.IssuerSpec{Label: "waiting", Subject: client.Subject{CommonName: "Waiting CA"}, BaseURL: "http://pki.test", Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(waiting.CSRPEM)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	parent := newAuthority(t, "Parent elsewhere")
	signed := parent.sign(t, &x509.Certificate{SerialNumber: big.NewInt(9), RawSubject: request.RawSubject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(20 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, request.PublicKey)
	if _, err := root.ImportIssuerCertificate(t.Context(), client.IssuerImport{PEM: []byte(pemText(t, "CERTIFICATE", signed.Raw, nil) + pemText(t, "CERTIFICATE", parent.certificate.Raw, nil))}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.credentials.BindCertificate(t.Context(), h.admin, auth.Spec{Name: "agent", Role: auth.RoleAuditor, Issuer: waiting.ID,
		Identifier: pki.Identifier{Type: pki.DNS, Value: "agent.example"}}); err != nil {
		t.Fatal(err)
	}
	key, csr := csr(t)
	issued, err := root.Issue(t.Context(), client.IssueRequest{CSR: csr, Profile: "client", Identifiers: []string{"agent.example"}, Issuer: waiting.ID, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	good := &tls.Certificate{Certificate: [][]byte{issued.Certificate.DER}, PrivateKey: key}
	checked := func(what string, der []byte, want client.Verdict) {
		t.Helper()
		if found, err := root.CheckCertificate(t.Context(), der, time.Time{}); err != nil || found.Verdict != want {
			t.Errorf("%s: %+v, %v, want %s", what, found, err, want)
		}
	}
	if _, err := h.grpc("", good).WhoAmI(t.Context()); err != nil {
		t.Fatal(err)
	}
	checked("below it", good.Certificate[0], client.VerdictInForce)
	checked("itself", signed.Raw, client.VerdictUnknownIssuer) // the parent is not of this server

	if blocked, err := root.BlockKey(t.Context(), client.BlockRequest{CertificatePEM: []byte(pemText(t, "CERTIFICATE", signed.Raw, nil)), Comment: "stolen"}); err != nil || blocked.Revoked != 0 {
		t.Fatalf("%+v, %v", blocked, err)
	}
	// The server does this every two seconds in the background.
	if err := h.authority.StandingByNow(t.Context(), waiting.ID); pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("its standing: %v", err)
	}
	checked("below a stolen authority", good.Certificate[0], client.VerdictRevoked)
	h.later(2 * time.Second) // what was proved is remembered for one
	h.both(t, "a client certificate below a stolen authority", "", good, func(c *client.Client) error { _, err := c.WhoAmI(t.Context()); return err },
		http.MethodGet, "/v1/whoami", "", pki.KindUnauthenticated, http.StatusUnauthorized, "")
}

func TestWrongRole(t *testing.T) {
	h := newHouse(t)
	requester := h.token(auth.Spec{Name: "ci", Role: auth.RoleRequester, Profiles: []string{"server"}})
	auditor := h.token(auth.Spec{Name: "eye", Role: auth.RoleAuditor})
	for _, test := range []struct {
		what, token string
		call        func(*client.Client) error
		method      string
		path, body  string
	}{
		{"a requester making credentials", requester, func(c *client.Client) error {
			_, err := c.CreateToken(t.Context(), client.CredentialRequest{Name: "x", Role: client.RoleAdmin})
			return err
		}, http.MethodPost, "/v1/credentials:createToken", `{"credential":"x","role":"ROLE_ADMIN"}`},
		{"a requester reading the audit log", requester, func(c *client.Client) error {
			_, err := c.AuditEvents(t.Context(), client.AuditFilter{})
			return err
		}, http.MethodGet, "/v1/audit/events", ""},
		{"an auditor disabling a credential", auditor, func(c *client.Client) error {
			_, err := c.DisableCredential(t.Context(), "ci")
			return err
		}, http.MethodPost, "/v1/credentials/ci:disable", "{}"},
		{"an auditor issuing", auditor, func(c *client.Client) error {
			_, err := c.Issue(t.Context(), client.IssueRequest{CSR: []byte{1}, Profile: "server"})
			return err
		}, http.MethodPost, "/v1/certificates", `{"csrDer":"AQ==","profile":"server"}`},
		{"a requester issuing under another profile", requester, func(c *client.Client) error {
			_, err := c.Issue(t.Context(), client.IssueRequest{CSR: []byte{1}, Profile: "sub-ca"})
			return err
		}, http.MethodPost, "/v1/certificates", `{"csrDer":"AQ==","profile":"sub-ca"}`},
		{"an auditor revoking", auditor, func(c *client.Client) error {
			_, err := c.Revoke(t.Context(), client.RevokeRequest{Issuer: pki.IssuerID{1}, Serial: pki.Serial{19: 1}})
			return err
		}, http.MethodPost, "/v1/certificates/01000000000000000000/01:revoke", "{}"},
	} {
		h.both(t, test.what, test.token, nil, test.call, test.method, test.path, test.body, pki.KindDenied, http.StatusForbidden, "")
	}
	events, err := h.store.AuditEvents(t.Context(), audit.Filter{Actor: "token:eye", Action: "api.call"}, 0, 100)
	if err != nil || len(events) != 6 {
		t.Errorf("%d refusals of the auditor are in the audit log, want 6 (%v)", len(events), err)
	}
}

func TestWrongCredentialsSlowDown(t *testing.T) {
	h := newHouse(t, func(c *rpc.Config) { c.BadLogins = 3 })
	good := h.token(auth.Spec{Name: "ci", Role: auth.RoleAdmin})
	for i, want := range []int{http.StatusUnauthorized, http.StatusUnauthorized, http.StatusUnauthorized, http.StatusTooManyRequests} {
		if a := h.rest("wrong", nil, http.MethodGet, "/v1/whoami", ""); a.Status != want {
			t.Errorf("wrong credential %d: %d %s, want %d", i, a.Status, a.Text, want)
		}
	}
	if a := h.rest(good, nil, http.MethodGet, "/v1/whoami", ""); a.Status != http.StatusOK {
		t.Errorf("a good credential from the same address is locked out: %d %s", a.Status, a.Text)
	}
	events, err := h.store.AuditEvents(t.Context(), audit.Filter{Action: "api.call"}, 0, 100)
	if err != nil || len(events) != 3 {
		t.Errorf("%d refusals are in the audit log, want 3 (%v)", len(events), err)
	}
	h.later(time.Second)
	if a := h.rest("wrong", nil, http.MethodGet, "/v1/whoami", ""); a.Status != http.StatusUnauthorized {
		t.Errorf("a second later: %d %s", a.Status, a.Text)
	}
}

// What strangers are refused does not fill the audit log, which is kept for ever; and the log says that something is
// missing.
func TestRefusalsInTheLogAreBounded(t *testing.T) {
	h := newHouse(t)
	try := func(n int) []audit.Event {
		for range n {
			h.rest("wrong", nil, http.MethodGet, "/v1/whoami", "")
		}
		events, err := h.store.AuditEvents(t.Context(), audit.Filter{Action: "api.call"}, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		return events
	}
	if events := try(60); len(events) != 50 || events[49].Detail["left_out"] != "" {
		t.Errorf("of 60 refusals %d are in the log, the last with %v", len(events), events[len(events)-1].Detail)
	}
	h.later(10 * time.Second)
	if events := try(1); len(events) != 51 || events[50].Detail["left_out"] != "10" {
		t.Errorf("later %d are in the log, the last with %v", len(events), events[len(events)-1].Detail)
	}
}

func TestRatePerCredential(t *testing.T) {
	h := newHouse(t, func(c *rpc.Config) { c.Rate = 2 })
	busy, calm := h.token(auth.Spec{Name: "busy", Role: auth.RoleAuditor}), h.token(auth.Spec{Name: "calm", Role: auth.RoleAuditor})
	for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		if a := h.rest(busy, nil, http.MethodGet, "/v1/whoami", ""); a.Status != want {
			t.Errorf("call %d: %d %s, want %d", i, a.Status, a.Text, want)
		}
	}
	if a := h.rest(calm, nil, http.MethodGet, "/v1/whoami", ""); a.Status != http.StatusOK {
		t.Errorf("another credential: %d %s", a.Status, a.Text)
	}
}

// A credential is bound to an authority that another instance has made this moment.
func TestBoundToANewAuthority(t *testing.T) {
	h := newHouse(t)
	profiles, err := profile.Open("")
	if err != nil {
		t.Fatal(err)
	}
	other, err := ca.New(t.Context(), ca.Config{Profiles: profiles, Keys: &memory{keys: map[string]*keys.Key{}}, Issuers: h.store, Ranges: h.store, Certificates: h.store, Inventory: h.store, Audit: h.store, Now: h.clock})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(t.Context())
	made, err := other.CreateIssuer(t.Context(), h.admin, ca.NewIssuer{Label: "new", Subject: ca.Subject{CommonName: "New"}, BaseURL: "http://pki.test"})
	if err != nil {
		t.Fatal(err)
	}
	c := h.grpc(h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin}), nil)
	request := client.CredentialRequest{Name: "agent", Role: client.RoleRequester, Issuer: made.ID, Identifier: "agent.example"}
	if _, err := c.BindCertificate(t.Context(), request); err != nil {
		t.Error(err)
	}
	request.Name, request.Issuer = "other", pki.IssuerID{1}
	if _, err := c.BindCertificate(t.Context(), request); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("bound to nobody: %v", err)
	}
}
