package rest_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// Short lists come whole, or in pages if pages are requested: the same items in the same order.
func TestPagesOfShortLists(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "chief", Role: auth.RoleAdmin})
	for path, names := range map[string][2]string{"/v1/issuers": {"issuers", "issuer"}, "/v1/profiles": {"profiles", "profile"}} {
		read := func(query string) (items []string, next string) {
			a := h.rest(token, nil, http.MethodGet, path+query, "")
			list, ok := a.Body[names[0]].([]any)
			if !ok {
				t.Fatalf("%s%s: %d %s", path, query, a.Status, a.Text)
			}
			for _, item := range list {
				items = append(items, item.(map[string]any)[names[1]].(string))
			}
			next, _ = a.Body["nextPageToken"].(string)
			return items, next
		}
		all, next := read("")
		if len(all) < 2 || next != "" {
			t.Fatalf("%s: %q, and then %q", path, all, next)
		}
		var paged []string
		for token, pages := "", 0; ; pages++ {
			page, next := read("?pageSize=1&pageToken=" + token)
			if paged = append(paged, page...); len(page) != 1 || pages == len(all) {
				t.Fatalf("%s: page %d is %q", path, pages, page)
			}
			if token = next; token == "" {
				break
			}
		}
		if !slices.Equal(paged, all) {
			t.Errorf("%s: %q in pages, %q whole", path, paged, all)
		}
		if rest, next := read("?pageToken=" + all[0]); !slices.Equal(rest, all[1:]) || next != "" {
			t.Errorf("%s: behind the first %q, and then %q", path, rest, next)
		}
		if most, next := read(fmt.Sprintf("?pageSize=%d", len(all))); len(most) != len(all) || next != "" {
			t.Errorf("%s: a page for all has %q, and then %q", path, most, next)
		}
		for query, field := range map[string]string{"?pageToken=nowhere": "page_token", "?pageSize=1001": "page_size"} {
			if a := h.rest(token, nil, http.MethodGet, path+query, ""); a.Status != http.StatusBadRequest || a.Body["field"] != field {
				t.Errorf("%s%s: %d %s", path, query, a.Status, a.Text)
			}
		}
	}
}

func TestBlockedKeysInPages(t *testing.T) {
	h := newHouse(t)
	auditor := h.token(auth.Spec{Name: "auditor", Role: auth.RoleAuditor})
	for _, key := range []byte{2, 1} {
		block := revocation.KeyBlock{SPKI: pki.KeyHash{key}, Material: pki.KeyHash{0xff, key}, Proof: revocation.ProofCSR, Comment: fmt.Sprint("the ", key)}
		job := revocation.Job{ID: revocation.JobID{key}, Principal: auth.Principal{ID: "token:chief"}}
		if _, _, err := h.store.BlockKey(t.Context(), block, job, h.clock(), 10, 0); err != nil {
			t.Fatal(err)
		}
	}
	var token string
	for key := byte(1); key <= 2; key++ {
		page, err := h.grpc(auditor, nil).BlockedKeys(t.Context(), client.Page{Size: 1, Token: token})
		if err != nil || len(page.Items) != 1 || page.Next == "" {
			t.Fatalf("page %d: %+v, %v", key, page, err)
		}
		k := page.Items[0]
		if k.KeyHash != (pki.KeyHash{key}) || k.Proof != "signed-request" || k.Comment != fmt.Sprint("the ", key) || k.BlockedBy != "token:chief" || k.BlockedAt.IsZero() {
			t.Errorf("%+v", k)
		}
		token = page.Next
	}
	if page, err := h.grpc(auditor, nil).BlockedKeys(t.Context(), client.Page{Size: 1, Token: token}); err != nil || len(page.Items) != 0 || page.Next != "" {
		t.Errorf("behind the last: %+v, %v", page, err)
	}
	if a := h.rest(auditor, nil, http.MethodGet, "/v1/keys/blocked", ""); len(a.Body["keys"].([]any)) != 2 || a.Body["nextPageToken"] != nil {
		t.Errorf("over REST: %s", a.Text)
	}
	if a := h.rest(auditor, nil, http.MethodGet, "/v1/keys/blocked?pageToken=next", ""); a.Status != http.StatusBadRequest || a.Body["field"] != "page_token" {
		t.Errorf("with a bad token: %d %s", a.Status, a.Text)
	}
}
