package rest_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"signet.example/signet/internal/auth"
)

// Lists that are short come whole, or in pages for who asks for pages: the same items in the same order.
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
