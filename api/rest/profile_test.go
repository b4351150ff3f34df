package rest_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Profiles are read again through both doors: all of them, or none with the reason; both are in the audit log.
func TestReloadProfiles(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "chief", Role: auth.RoleAdmin})
	admin := h.grpc(token, nil)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(h.profiles, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	same, err := admin.ReloadProfiles(t.Context())
	if err != nil || same.Digest != same.DigestBefore || len(same.Digest) != 64 || same.Count < 10 {
		t.Fatalf("%+v, %v", same, err)
	}
	write("second.yaml", strings.Replace(guarded, "name: guarded\napproval: required", "name: second", 1))
	a := h.rest(token, nil, http.MethodPost, "/v1/profiles:reload", "{}")
	if a.Status != http.StatusOK || a.Body["digestBefore"] != same.Digest || a.Body["digest"] == same.Digest {
		t.Errorf("over REST: %d %s", a.Status, a.Text)
	}
	listed := h.rest(token, nil, http.MethodGet, "/v1/profiles", "")
	if listed.Body["digest"] != a.Body["digest"] || !strings.Contains(listed.Text, `"second"`) {
		t.Errorf("listed: %s", listed.Text)
	}

	write("second.yaml", "name: second\nlifetime: forever\n")
	write("third.yaml", strings.Replace(guarded, "name: guarded", "name: third", 1))
	h.both(t, "a bad file", token, nil, func(c *client.Client) error { _, err := c.ReloadProfiles(t.Context()); return err },
		http.MethodPost, "/v1/profiles:reload", "{}", pki.KindInvalid, http.StatusBadRequest, fieldOf(reloadError(admin, t)))
	if err := reloadError(admin, t); err == nil || !strings.Contains(err.Error(), "second.yaml:2") {
		t.Errorf("%v: want file and line", err)
	}
	if again := h.rest(token, nil, http.MethodGet, "/v1/profiles", ""); again.Body["digest"] != a.Body["digest"] || strings.Contains(again.Text, `"third"`) {
		t.Errorf("half of a bad set is in effect: %s", again.Text)
	}
	events, err := h.store.AuditEvents(t.Context(), audit.Filter{Action: "profiles.reload"}, 0, 100)
	if err != nil || len(events) != 6 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if first, last := events[0], events[5]; first.Outcome != audit.OK || first.Actor != "token:chief" || last.Outcome != audit.Refused || last.Detail["error"] == "" || last.Detail["digest"] != a.Body["digest"] {
		t.Errorf("audit log: %+v, %+v", first, last)
	}
}

func reloadError(c *client.Client, t *testing.T) error {
	_, err := c.ReloadProfiles(t.Context())
	return err
}
