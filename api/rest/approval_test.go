package rest_test

import (
	"crypto"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/internal/agent"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// guarded is a profile of every house, beside the built-in ones.
const guarded = `name: guarded
approval: required
lifetime: 30d
names: {min: 1, dns: {allow: [".example.com"]}}
key_usage: [digital_signature]
extended_key_usage: [client_auth]
`

// A request that needs an approval, through both doors, in single calls and in streams; and its renewal.
func TestApproval(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "build", Role: auth.RoleRequester, Profiles: []string{"guarded"}})
	chief := h.token(auth.Spec{Name: "chief", Role: auth.RoleApprover, Profiles: []string{"guarded"}})
	build, approver := h.grpc(token, nil), h.grpc(chief, nil)

	key, request := csr(t)
	_, err := build.Issue(t.Context(), client.IssueRequest{CSR: request, Profile: "guarded", Identifiers: []string{"a.example.com"}, RequestID: "r1"})
	pending, ok := errors.AsType[*client.PendingError](err)
	if !ok || pending.Request.State != client.RequestPending || pending.Request.Requester != "token:build" || len(pending.Request.Identifiers) != 1 {
		t.Fatalf("%v, %+v", err, pending)
	}
	id := pending.Request.ID
	body := `{"csr_der":"` + base64.StdEncoding.EncodeToString(request) + `","profile":"guarded","identifiers":["a.example.com"],"request_id":"r1"}`
	a := h.rest(token, nil, http.MethodPost, "/v1/certificates", body)
	if a.Status != http.StatusAccepted || a.Body["pending"].(map[string]any)["request"] != id || a.Body["certificate"] != nil {
		t.Errorf("over REST: %d %s", a.Status, a.Text)
	}
	lines := h.rest(token, nil, http.MethodPost, "/v1/certificates:issue", body)
	if lines.Status != http.StatusOK || !strings.Contains(lines.Text, `"pending"`) || !strings.Contains(lines.Text, id) {
		t.Errorf("in a stream: %d %s", lines.Status, lines.Text)
	}

	h.both(t, "the requester approves", token, nil, func(c *client.Client) error { _, err := c.ApproveRequest(t.Context(), id, ""); return err },
		http.MethodPost, "/v1/requests/"+id+":approve", "{}", pki.KindDenied, http.StatusForbidden, "request")
	h.both(t, "an id that is none", chief, nil, func(c *client.Client) error { _, err := c.Request(t.Context(), "x"); return err },
		http.MethodGet, "/v1/requests/x", "", pki.KindInvalid, http.StatusBadRequest, "request")
	h.both(t, "a denial without a reason", chief, nil, func(c *client.Client) error { _, err := c.DenyRequest(t.Context(), id, ""); return err },
		http.MethodPost, "/v1/requests/"+id+":deny", "{}", pki.KindInvalid, http.StatusBadRequest, "reason")
	h.both(t, "a NUL in a filter", chief, nil, func(c *client.Client) error {
		_, err := c.Requests(t.Context(), client.RequestFilter{Account: "a\x00"}, client.Page{})
		return err
	}, http.MethodGet, "/v1/requests?account=a%00", "", pki.KindInvalid, http.StatusBadRequest, "account")
	h.both(t, "an approver who lists certificates", chief, nil, func(c *client.Client) error {
		_, err := c.Certificates(t.Context(), client.CertificateFilter{}, client.Page{})
		return err
	},
		http.MethodGet, "/v1/certificates", "", pki.KindDenied, http.StatusForbidden, "")

	page, err := approver.Requests(t.Context(), client.RequestFilter{State: client.RequestPending}, client.Page{})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != id || page.Items[0].CSR != nil {
		t.Errorf("%+v, %v", page, err)
	}
	approved := h.rest(chief, nil, http.MethodPost, "/v1/requests/"+id+":approve", `{"comment":"ticket 7"}`)
	if approved.Status != http.StatusOK || approved.Body["request"].(map[string]any)["state"] != "REQUEST_STATE_ISSUED" {
		t.Fatalf("%d %s", approved.Status, approved.Text)
	}
	collected, err := build.Request(t.Context(), id)
	if err != nil || collected.Issued == nil || collected.Request.Comment != "ticket 7" || collected.Request.Serial != collected.Issued.Certificate.Serial {
		t.Fatalf("%+v, %v", collected, err)
	}
	again, err := build.Issue(t.Context(), client.IssueRequest{CSR: request, Profile: "guarded", Identifiers: []string{"a.example.com"}, RequestID: "r1"})
	if err != nil || again.Certificate.Serial != collected.Issued.Certificate.Serial || !again.Repeated {
		t.Errorf("asked again: %+v, %v", again, err)
	}

	// The key proved its renewal, and then the certificate was revoked.
	old := &tls.Certificate{Certificate: [][]byte{again.Certificate.DER}, PrivateKey: key}
	_, next := csr(t)
	_, err = h.grpc("", nil).Renew(t.Context(), h.signed(old, next, ""))
	if pending, ok = errors.AsType[*client.PendingError](err); !ok {
		t.Fatalf("renewed: %v", err)
	}
	if _, err := build.Revoke(t.Context(), client.RevokeRequest{Certificate: again.Certificate.DER, Reason: pki.Superseded}); err != nil {
		t.Fatal(err)
	}
	if _, err := approver.ApproveRequest(t.Context(), pending.Request.ID, ""); pki.KindOf(err) != pki.KindFailedPrecondition || err == nil {
		t.Errorf("the renewal of what was revoked: %v", err)
	}

	// A client certificate authenticated the caller, and then it was revoked.
	if _, err := h.credentials.BindCertificate(t.Context(), h.admin, auth.Spec{Name: "agent", Role: auth.RoleRequester, Issuer: h.issuing.ID,
		Identifier: pki.Identifier{Type: pki.DNS, Value: "agent.example"}}); err != nil {
		t.Fatal(err)
	}
	pair := h.pair("client", 48*time.Hour, "agent.example")
	_, err = h.grpc("", pair).Issue(t.Context(), client.IssueRequest{CSR: next, Profile: "guarded", Identifiers: []string{"b.example.com"}})
	if pending, ok = errors.AsType[*client.PendingError](err); !ok || pending.Request.Requester != "certificate:agent" {
		t.Fatalf("with a client certificate: %v", err)
	}
	root := h.grpc(h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin}), nil)
	if _, err := root.Revoke(t.Context(), client.RevokeRequest{Certificate: pair.Certificate[0], Reason: pki.KeyCompromise}); err != nil {
		t.Fatal(err)
	}
	if _, err := approver.ApproveRequest(t.Context(), pending.Request.ID, ""); pki.KindOf(err) != pki.KindFailedPrecondition || err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("asked with what was revoked: %v", err)
	}
}

// A renewal that was not decided in time is useless: the next attempt files another request.
func TestRenewalThatExpired(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	files := agent.Files{Certificate: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "a.key")}
	fresh := func() (crypto.Signer, error) { return newKey(t), nil }
	quiet := func() error { return nil }
	requester := h.grpc(h.token(auth.Spec{Name: "build", Role: auth.RoleRequester, Profiles: []string{"guarded"}}), nil)
	issue := func() error {
		_, err := files.Issue(t.Context(), requester, client.IssueRequest{Profile: "guarded", Identifiers: []string{"a.example.com"}}, fresh, nil, quiet)
		return err
	}
	api := h.grpc("", nil)
	renew := func() error {
		_, err := files.Renew(t.Context(), api, false, func(crypto.Signer) (crypto.Signer, error) { return fresh() }, nil, quiet)
		return err
	}
	filed := func(err error) ca.ApprovalID {
		t.Helper()
		pending, ok := errors.AsType[*client.PendingError](err)
		if !ok {
			t.Fatalf("a renewal that needs an approval: %v", err)
		}
		id, err := ca.ParseApprovalID(pending.Request.ID)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	asked := filed(issue())
	if _, err := h.grpc(h.token(auth.Spec{Name: "chief", Role: auth.RoleApprover, Profiles: []string{"guarded"}}), nil).ApproveRequest(t.Context(), asked.String(), ""); err != nil {
		t.Fatal(err)
	}
	if err := issue(); err != nil {
		t.Fatalf("after the approval: %v", err)
	}
	first := filed(renew())
	if second := filed(renew()); second != first {
		t.Errorf("while request %s waits, %s was filed", first, second)
	}
	// It is approved, and could not be issued in time.
	if _, err := h.store.Decide(t.Context(), approval.Decision{ID: first, From: approval.Pending, To: approval.Approved, By: "token:chief", Expires: time.Nanosecond,
		Event: audit.Event{At: h.clock(), Actor: "token:chief", Action: "request.approve", Target: "request/" + first.String(), Outcome: audit.OK}}); err != nil {
		t.Fatal(err)
	}
	if err := renew(); pki.KindOf(err) != pki.KindFailedPrecondition || !strings.Contains(err.Error(), "expired") {
		t.Fatalf("after it expired: %v", err)
	}
	if second := filed(renew()); second == first {
		t.Errorf("request %s, which expired, is asked for again", first)
	}
}
