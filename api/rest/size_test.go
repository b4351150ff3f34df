package rest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/api/openapi"
	"signet.example/signet/api/rest"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// A path with a limit of its own is one that is served: a renamed one would silently lose it.
func TestLimitedPaths(t *testing.T) {
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(openapi.JSON, &document); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range rest.Limited() {
		if document.Paths[pattern]["post"] == nil {
			t.Errorf("POST %s has a limit, and is not in the OpenAPI document", pattern)
		}
		if path := regexp.MustCompile(`{\w+}`).ReplaceAllString(pattern, "0123456789abcdef0123"); !rest.HasLimitOf(path, pattern) {
			t.Errorf("POST %s has another limit than %s", path, pattern)
		}
	}
}

// A message that is too large for gRPC is refused at the first point that can know, with an error that says so; an item
// of a stream that is too large fails alone; and the server continues to serve.
func TestTooLargeOverGRPC(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "ci", Role: auth.RoleRequester})
	c := h.grpc(token, nil)
	_, good := csr(t)
	for what, test := range map[string]struct {
		octets int
		kind   pki.Kind
		field  string
	}{
		"a request longer than any CSR may be": {100 << 10, pki.KindInvalid, "csr"},
		"a call longer than 512 KiB":           {600 << 10, pki.KindInvalid, ""},
		"a message longer than 8 MiB":          {9 << 20, pki.KindExhausted, ""},
	} {
		_, err := c.Issue(t.Context(), client.IssueRequest{CSR: bytes.Repeat([]byte{0x30}, test.octets), Profile: "server", Identifiers: []string{"a.example"}})
		e, ok := errors.AsType[*pki.Error](err)
		if !ok || e.Kind != test.kind || e.Field != test.field {
			t.Errorf("%s: %v, want kind %s in field %q", what, err, test.kind, test.field)
		}
		if _, err := c.Issue(t.Context(), client.IssueRequest{CSR: good, Profile: "server", Identifiers: []string{"a.example"}}); err != nil {
			t.Errorf("after %s: %v", what, err)
		}
	}

	// What brings a list is longer: it is read, and is none.
	admin := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	adoption := client.Adoption{Label: "old", KeyURI: "memory:old", BaseURL: "http://pki.test", PEM: []byte(pemText(t, "CERTIFICATE", h.root.Certificates[0].DER, nil)), CRL: bytes.Repeat([]byte{0x30}, 5<<20)}
	if _, err := h.grpc(admin, nil).AdoptIssuer(t.Context(), adoption); pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("a long list at an adoption: %v", err) // this server publishes none
	}
	body, err := json.Marshal(map[string]any{"label": "old", "keyUri": "memory:old", "baseUrl": "http://pki.test", "pem": string(adoption.PEM), "crl": adoption.CRL})
	if err != nil {
		t.Fatal(err)
	}
	if a := h.rest(admin, nil, http.MethodPost, "/v1/issuers:adopt", string(body)); a.Status != http.StatusConflict || !strings.Contains(a.Text, "publishes no CRLs") {
		t.Errorf("a long list at an adoption over REST: %d %s", a.Status, a.Text)
	}
	if a := h.rest(admin, nil, http.MethodPost, "/v1/issuers/"+h.issuing.ID.String()+"/crl:import", `{"crl":"`+strings.Repeat("AAAA", 1<<20)+`"}`); a.Status != http.StatusConflict || !strings.Contains(a.Text, "publishes no CRLs") {
		t.Errorf("a long list at its import: %d %s", a.Status, a.Text)
	}
	if a := h.rest(admin, nil, http.MethodPost, "/v1/jobs", `{"serials":["`+strings.Repeat("A", 4<<20)+`"]}`); a.Status != http.StatusBadRequest {
		t.Errorf("a long list of serials: %d %s", a.Status, a.Text)
	}
	line := `{"profile":"` + strings.Repeat("x", 40<<10) + `"}` + "\n"
	if a := h.rest(admin, nil, http.MethodPost, "/v1/certificates:issue", strings.Repeat(line, 20)); a.Status != http.StatusOK || strings.Count(a.Text, "\n") != 20 {
		t.Errorf("many lines: %d, %d answers", a.Status, strings.Count(a.Text, "\n"))
	}
	if a := h.rest(admin, nil, http.MethodPost, "/v1/keys:block", `{"comment":"`+strings.Repeat("A", 600<<10)+`"}`); a.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a long body where nothing long is expected: %d %s", a.Status, a.Text)
	}

	stream, err := c.IssueBatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for id, request := range map[string][]byte{"large": bytes.Repeat([]byte{0x30}, 600<<10), "good": good} {
		if err := stream.Send(client.IssueRequest{CSR: request, Profile: "server", Identifiers: []string{"a.example"}, RequestID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.EndOfItems(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		answer, err := stream.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if refused := answer.RequestID == "large"; refused != (pki.KindOf(answer.Err) == pki.KindInvalid && answer.Err != nil) || refused == (answer.Issued != nil) {
			t.Errorf("item %s: %+v", answer.RequestID, answer.Err)
		}
	}
}
