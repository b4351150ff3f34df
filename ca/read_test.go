package ca_test

import (
	"testing"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// A grant for one account sees that account, whatever it asks for; what it may not see does not exist.
func TestWhoReadsWhat(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	issued := w.mustIssue(server(t, "a.example.com"))
	stranger := auth.Principal{ID: "token:other", Account: "other", Role: auth.RoleRequester}
	everything, own, others := w.grant(admin, auth.ActionRead, ""), w.grant(web, auth.ActionRead, "web"), w.grant(stranger, auth.ActionRead, "other")
	for what, test := range map[string]struct {
		grant  auth.Grant
		filter inventory.Filter
		found  int
		kind   pki.Kind
		field  string
	}{
		"an administrator":                     {everything, inventory.Filter{}, 3, 0, ""},
		"an administrator, of an account":      {everything, inventory.Filter{Account: "web"}, 1, 0, ""},
		"its account":                          {own, inventory.Filter{}, 1, 0, ""},
		"its account, by name":                 {own, inventory.Filter{Account: "web"}, 1, 0, ""},
		"its account, of what is under admin":  {own, inventory.Filter{Account: "admin"}, 0, pki.KindDenied, ""},
		"another account":                      {others, inventory.Filter{}, 0, 0, ""},
		"another account, by name":             {others, inventory.Filter{Account: "web"}, 0, pki.KindDenied, ""},
		"nobody":                               {auth.Grant{}, inventory.Filter{}, 0, pki.KindDenied, ""},
		"who may issue":                        {w.grant(web, auth.ActionIssue, "server"), inventory.Filter{}, 0, pki.KindDenied, ""},
		"who may issue, of his account":        {w.grant(web, auth.ActionIssue, "server"), inventory.Filter{Account: "web"}, 0, pki.KindDenied, ""},
		"what stands now":                      {own, inventory.Filter{Status: inventory.StatusValid}, 1, 0, ""},
		"what has expired by the town's clock": {own, inventory.Filter{Status: inventory.StatusExpired}, 0, 0, ""},
	} {
		page, err := w.List(t.Context(), test.grant, test.filter, "", 0)
		count, countErr := w.Count(t.Context(), test.grant, test.filter)
		if test.kind != 0 {
			wantError(t, err, test.kind, test.field)
			wantError(t, countErr, test.kind, test.field)
		} else if err != nil || countErr != nil || len(page.Certificates) != test.found || count.N != int64(test.found) {
			t.Errorf("%s: lists %d and counts %d, want %d (%v, %v)", what, len(page.Certificates), count.N, test.found, err, countErr)
		}
	}
	for limit, field := range map[int]string{-1: "limit", 1: "", 1000: "", 1001: "limit"} {
		if _, err := w.List(t.Context(), own, inventory.Filter{}, "", limit); field != "" {
			wantError(t, err, pki.KindInvalid, field)
		} else if err != nil {
			t.Errorf("a limit of %d: %v", limit, err)
		}
	}

	for what, lookup := range map[string]func() error{
		"got by another account":    func() error { _, err := w.Get(t.Context(), others, w.issuing.ID, issued.Serial); return err },
		"got from another issuer":   func() error { _, err := w.Get(t.Context(), everything, w.root.ID, issued.Serial); return err },
		"got from nobody":           func() error { _, err := w.Get(t.Context(), everything, pki.IssuerID{1}, issued.Serial); return err },
		"got with a foreign serial": func() error { _, err := w.Get(t.Context(), everything, w.issuing.ID, pki.Serial{0x42}); return err },
	} {
		if err := lookup(); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("%s: %v, want not found", what, err)
		}
	}

	w.clock.advance(91 * 24 * 3600e9)
	if page, err := w.List(t.Context(), own, inventory.Filter{Status: inventory.StatusExpired}, "", 0); err != nil || len(page.Certificates) != 1 {
		t.Errorf("later %d have expired, %v", len(page.Certificates), err)
	}
}
