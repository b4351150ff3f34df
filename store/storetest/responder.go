package storetest

import (
	"bytes"
	"sync"
	"testing"

	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// testResponder holds a store to ocspserver.Responders.
func testResponder(t *testing.T, open func(t *testing.T) store.Store) {
	issuers := []pki.IssuerID{{1}, {2}}
	keys := []pki.KeyHash{{1}, {2}}
	request := func(issuer, key int) ocspserver.ResponderRequest {
		return ocspserver.ResponderRequest{Issuer: issuers[issuer], Key: keys[key], CSR: []byte{byte(issuer), byte(key), 7}}
	}
	ask := func(t *testing.T, s store.Store, r ocspserver.ResponderRequest) {
		t.Helper()
		if err := s.RequestResponder(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	claim := func(t *testing.T, s store.Store, limit int, except ...pki.IssuerID) []ocspserver.ResponderRequest {
		t.Helper()
		claimed, err := s.ClaimResponders(t.Context(), except, limit)
		if err != nil {
			t.Fatal(err)
		}
		return claimed
	}
	same := func(a, b ocspserver.ResponderRequest) bool {
		return a.Issuer == b.Issuer && a.Key == b.Key && bytes.Equal(a.CSR, b.CSR)
	}

	t.Run("claims oldest first and once", func(t *testing.T) {
		s := open(t)
		if claimed := claim(t, s, 10); len(claimed) != 0 {
			t.Errorf("an empty table gave %+v", claimed)
		}
		want := []ocspserver.ResponderRequest{request(1, 0), request(0, 1), request(0, 0)}
		for _, r := range want {
			ask(t, s, r)
		}
		if claimed := claim(t, s, 10, issuers[0], issuers[1]); len(claimed) != 0 {
			t.Errorf("of no issuer: %+v", claimed)
		}
		if claimed := claim(t, s, 10, issuers[0]); len(claimed) != 1 || !same(claimed[0], want[0]) {
			t.Errorf("of the second issuer: %+v", claimed)
		}
		ask(t, s, want[0])
		if claimed := claim(t, s, 1, issuers[1]); len(claimed) != 1 || !same(claimed[0], want[1]) {
			t.Errorf("of the first issuer: %+v", claimed)
		}
		for _, r := range want {
			ask(t, s, r)
		}
		first, rest := claim(t, s, 2), claim(t, s, 10)
		if len(first) != 2 || len(rest) != 1 || !same(first[0], want[0]) || !same(first[1], want[1]) || !same(rest[0], want[2]) {
			t.Errorf("claimed %+v and %+v", first, rest)
		}
		if again := claim(t, s, 10); len(again) != 0 {
			t.Errorf("claimed twice: %+v", again)
		}
		ask(t, s, want[1])
		if again := claim(t, s, 10); len(again) != 1 || !same(again[0], want[1]) {
			t.Errorf("asking again gave %+v", again)
		}
	})

	t.Run("records and opens anew", func(t *testing.T) {
		s := open(t)
		if err := s.RecordResponder(t.Context(), issuers[0], keys[0], []byte("x")); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("recorded what nobody asked for: %v", err)
		}
		for _, r := range []ocspserver.ResponderRequest{request(0, 0), request(1, 0), request(0, 1)} {
			ask(t, s, r)
		}
		if certificates, err := s.ResponderCertificates(t.Context(), keys[0]); err != nil || len(certificates) != 0 {
			t.Errorf("certificates before any was made: %v, %v", certificates, err)
		}
		for _, content := range []string{"first", "second"} {
			if err := s.RecordResponder(t.Context(), issuers[0], keys[0], []byte(content)); err != nil {
				t.Fatal(err)
			}
			certificates, err := s.ResponderCertificates(t.Context(), keys[0])
			if err != nil || len(certificates) != 1 || string(certificates[issuers[0]]) != content {
				t.Errorf("certificates %q, %v; want %s", certificates, err, content)
			}
		}
		if open := claim(t, s, 10); len(open) != 2 {
			t.Errorf("open requests %+v, want two", open)
		}
		ask(t, s, request(0, 0))
		if open := claim(t, s, 10); len(open) != 1 {
			t.Errorf("a renewal is not open: %+v", open)
		}
		if certificates, err := s.ResponderCertificates(t.Context(), keys[0]); err != nil || string(certificates[issuers[0]]) != "second" {
			t.Errorf("asking for another lost the last certificate: %q, %v", certificates, err)
		}
	})

	t.Run("is claimed by one of many", func(t *testing.T) {
		s := open(t)
		for i := range 20 {
			ask(t, s, ocspserver.ResponderRequest{Issuer: issuers[0], Key: pki.KeyHash{byte(i)}, CSR: []byte{1}})
		}
		var mu sync.Mutex
		seen := make(map[pki.KeyHash]int)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					claimed, err := s.ClaimResponders(t.Context(), nil, 3)
					if err != nil {
						t.Error(err)
						return
					}
					if len(claimed) == 0 {
						return
					}
					mu.Lock()
					for _, r := range claimed {
						seen[r.Key]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for key, times := range seen {
			if times != 1 {
				t.Errorf("%s was claimed %d times", key, times)
			}
		}
	})
}
