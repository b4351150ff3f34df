package rest_test

import (
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// The verbs by which authorities are replaced and brought in, over REST: what they answer, and how they refuse.
func TestIssuersOverREST(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "chief", Role: auth.RoleAdmin})
	body := func(fields map[string]any) string {
		t.Helper()
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	post := func(path string, fields map[string]any) map[string]any {
		t.Helper()
		a := h.rest(token, nil, http.MethodPost, path, body(fields))
		issuer, ok := a.Body["issuer"].(map[string]any)
		if a.Status != http.StatusOK || !ok {
			t.Fatalf("%s: %d %s", path, a.Status, a.Text)
		}
		return issuer
	}
	certificates := func(issuer map[string]any) int { return len(issuer["certificates"].([]any)) }
	issuing := "/v1/issuers/" + h.issuing.ID.String()

	renewed := post(issuing+":renew", map[string]any{"lifetime": "86400s"})
	if certificates(renewed) != 2 {
		t.Errorf("renewed: %v", renewed)
	}
	first := sha256.Sum256(h.issuing.Certificates[0].DER)
	if chosen := post(issuing+":choose", map[string]any{"fingerprint": fmt.Sprintf("%x", first)}); chosen["fingerprint"] != fmt.Sprintf("%x", first) {
		t.Errorf("chosen: %v", chosen)
	}
	if moved := post(issuing+":update", map[string]any{"baseUrl": "http://status.test"}); moved["baseUrl"] != "http://status.test" {
		t.Errorf("updated: %v", moved)
	}
	if succeeds := post(issuing+":update", map[string]any{"succeeds": h.root.ID.String()}); succeeds["succeeds"] != h.root.ID.String() || succeeds["baseUrl"] != "http://status.test" {
		t.Errorf("succeeds: %v", succeeds)
	}
	if nobody := post(issuing+":update", map[string]any{"succeeds": ""}); nobody["succeeds"] != nil {
		t.Errorf("succeeds nobody: %v", nobody)
	}
	waiting := post("/v1/issuers", map[string]any{"label": "bridge", "subject": map[string]any{"commonName": "Bridge CA"}, "baseUrl": "http://pki.test", "offline": true})
	if csr, _ := waiting["csrPem"].(string); !strings.HasPrefix(csr, "-----BEGIN CERTIFICATE REQUEST-----") || waiting["state"] != "ISSUER_STATE_PENDING" {
		t.Errorf("off-line: %v", waiting)
	}
	if gone := h.rest(token, nil, http.MethodDelete, "/v1/issuers/"+waiting["issuer"].(string), ""); gone.Status != http.StatusOK || !strings.HasSuffix(gone.Body["keyUri"].(string), ":bridge") {
		t.Errorf("given up: %d %s", gone.Status, gone.Text)
	}
	h.both(t, "give up what has its certificate", token, nil, func(c *client.Client) error {
		_, err := c.DeleteIssuer(t.Context(), h.issuing.ID)
		return err
	}, http.MethodDelete, issuing, "", pki.KindFailedPrecondition, http.StatusConflict, "issuer")
	elsewhere := newAuthority(t, "Root Elsewhere")
	rootPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: elsewhere.certificate.Raw}))
	if adopted := post("/v1/issuers:adopt", map[string]any{"label": "elsewhere", "pem": rootPEM, "baseUrl": "http://pki.test"}); adopted["foreign"] != true || adopted["online"] == true {
		t.Errorf("adopted: %v", adopted)
	}
	second := post("/v1/issuers", map[string]any{"label": "root-2", "subject": map[string]any{"commonName": "Test Root 2"}, "baseUrl": "http://pki.test"})
	if crossed := post("/v1/issuers/"+second["issuer"].(string)+":crossSign", map[string]any{"parent": h.root.ID.String()}); certificates(crossed) != 2 {
		t.Errorf("cross-signed: %v", crossed)
	}
	bundle := h.rest(token, nil, http.MethodGet, "/v1/issuers/"+second["issuer"].(string)+"/bundle", "")
	if paths, _ := bundle.Body["paths"].([]any); bundle.Status != http.StatusOK || len(paths) != 2 || strings.Count(bundle.Body["rootsPem"].(string), "BEGIN") != 2 {
		t.Errorf("bundle: %d %s", bundle.Status, bundle.Text)
	}
	if at := h.rest(token, nil, http.MethodGet, "/v1/issuers/"+second["issuer"].(string)+"/bundle?at=2199-01-01T00:00:00Z", ""); at.Status != http.StatusOK || at.Body["rootsPem"] != nil && at.Body["rootsPem"] != "" {
		t.Errorf("bundle of another day: %d %s", at.Status, at.Text)
	}

	h.both(t, "choose what it does not have", token, nil, func(c *client.Client) error {
		_, err := c.ChooseIssuerCertificate(t.Context(), h.issuing.ID, strings.Repeat("00", 32))
		return err
	}, http.MethodPost, issuing+":choose", body(map[string]any{"fingerprint": strings.Repeat("00", 32)}), pki.KindNotFound, http.StatusNotFound, "fingerprint")
	h.both(t, "another URL that is none", token, nil, func(c *client.Client) error {
		_, err := c.UpdateIssuer(t.Context(), h.issuing.ID, client.IssuerChange{BaseURL: new("ftp://x")})
		return err
	}, http.MethodPost, issuing+":update", body(map[string]any{"baseUrl": "ftp://x"}), pki.KindInvalid, http.StatusBadRequest, "base_url")
	h.both(t, "succeed itself", token, nil, func(c *client.Client) error {
		_, err := c.UpdateIssuer(t.Context(), h.issuing.ID, client.IssuerChange{Succeeds: &h.issuing.ID})
		return err
	}, http.MethodPost, issuing+":update", body(map[string]any{"succeeds": h.issuing.ID.String()}), pki.KindInvalid, http.StatusBadRequest, "succeeds")
	h.both(t, "change nothing", token, nil, func(c *client.Client) error {
		_, err := c.UpdateIssuer(t.Context(), h.issuing.ID, client.IssuerChange{})
		return err
	}, http.MethodPost, issuing+":update", "{}", pki.KindInvalid, http.StatusBadRequest, "base_url")
	h.both(t, "adopt what is here", token, nil, func(c *client.Client) error {
		_, err := c.AdoptIssuer(t.Context(), client.Adoption{Label: "again", PEM: []byte(rootPEM), BaseURL: "http://pki.test"})
		return err
	}, http.MethodPost, "/v1/issuers:adopt", body(map[string]any{"label": "again", "pem": rootPEM, "baseUrl": "http://pki.test"}), pki.KindConflict, http.StatusConflict, "subject")

	// Only an administrator's word revokes what is in no inventory, and only of an issuer whose key is not here.
	chief, web := h.grpc(token, nil), h.grpc(h.token(auth.Spec{Name: "web", Role: auth.RoleRequester}), nil)
	unknown := client.RevokeRequest{Issuer: pki.HashSPKI(elsewhere.certificate.RawSubjectPublicKeyInfo).Issuer(), Serial: pki.Serial{0x42, 1}, Reason: pki.Superseded}
	if _, err := web.Revoke(t.Context(), unknown); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("a requester revokes what an off-line issuer signed: %v", err)
	}
	// All of its certificates come from elsewhere.
	if change, err := chief.Revoke(t.Context(), unknown); err != nil || change.IssuedElsewhere {
		t.Errorf("an administrator: %+v, %v", change, err)
	}
	unknown.Issuer = h.issuing.ID
	if _, err := chief.Revoke(t.Context(), unknown); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("an administrator revokes what was never issued here: %v", err)
	}
}
