package crlserver_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

func signersOf(a *authority) func(*crl.List) []*x509.Certificate {
	return func(*crl.List) []*x509.Certificate { return []*x509.Certificate{a.cert} }
}

// TestHandler: caching and conditional requests as RFC 9110 and RFC 9111 have them.
func TestHandler(t *testing.T) {
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Serving CA")
	a.reserve(t, epoch, 0, base)
	c := &clock{}
	p := start(t, s, c, nil, a.config())
	p.await(t, a.revoke(t, 1))
	handler := p.Handler()
	ask := func(method, path string, header ...string) *http.Response {
		r := httptest.NewRequest(method, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Result()
	}
	body := func(r *http.Response) string {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	shard := "/crl/" + a.shard().String()
	document, head, _ := p.Document(a.shard())
	whole := string(document.Bytes())

	if young := ask("GET", shard); young.Header.Get("Last-Modified") != "" && c.now().Before(head.ThisUpdate.Add(time.Minute)) {
		t.Error("a list that others may follow in the same second has a date")
	}
	c.move(62 * time.Second)
	get := ask("GET", shard)
	if get.StatusCode != 200 || body(get) != whole || get.Header.Get("Content-Type") != "application/pkix-crl" || get.ContentLength != int64(len(whole)) {
		t.Fatalf("GET: %v", get)
	}
	if get.Header.Get("Last-Modified") != head.ThisUpdate.Add(time.Second).Format(http.TimeFormat) || get.Header.Get("Cache-Control") != "public, max-age=300, must-revalidate" || get.Header.Get("Expires") == "" {
		t.Errorf("headers are %v", get.Header)
	}
	etag := get.Header.Get("ETag")
	if len(etag) < 18 || etag[0] != '"' {
		t.Fatalf("ETag %q is not strong", etag)
	}
	for _, r := range []struct {
		name   string
		answer *http.Response
		status int
		body   string
	}{
		{"HEAD", ask("HEAD", shard), 200, ""},
		{"matching tag", ask("GET", shard, "If-None-Match", etag), 304, ""},
		{"other tag", ask("GET", shard, "If-None-Match", `"x"`), 200, whole},
		{"not modified since", ask("GET", shard, "If-Modified-Since", head.ThisUpdate.Add(time.Second).Format(http.TimeFormat)), 304, ""},
		{"perhaps modified in that second", ask("GET", shard, "If-Modified-Since", head.ThisUpdate.Format(http.TimeFormat)), 200, whole},
		{"modified later, by a clock that was set back", ask("GET", shard, "If-Modified-Since", head.ThisUpdate.Add(time.Hour).Format(http.TimeFormat)), 200, whole},
		{"range", ask("GET", shard, "Range", "bytes=1-3"), 206, whole[1:4]},
		{"range of another version", ask("GET", shard, "Range", "bytes=1-3", "If-Range", `"x"`), 200, whole},
		{"range beyond", ask("GET", shard, "Range", "bytes=9999999-"), 416, ""},
		{"complete", ask("GET", "/crl/"+a.complete().String()), 200, ""},
		{"POST", ask("POST", shard), 405, ""},
		{"no delta", ask("GET", "/crl/"+a.delta().String()), 404, ""},
		{"shard that does not exist", ask("GET", "/crl/"+a.issuer.String()+"/"+epoch.String()+"-1.crl"), 404, ""},
		{"shard of a week that passed", ask("GET", "/crl/"+a.issuer.String()+"/1-0.crl"), 410, ""},
		{"another spelling of the shard", ask("GET", "/crl/"+a.issuer.String()+"/0"+epoch.String()+"-0.crl"), 404, ""},
		{"another issuer", ask("GET", "/crl/00112233445566778899.crl"), 404, ""},
		{"no issuer", ask("GET", "/crl/x.crl"), 404, ""},
		{"index of nobody", ask("GET", "/crl/x/index.json"), 404, ""},
		{"elsewhere", ask("GET", "/"), 404, ""},
		{"no extension", ask("GET", "/crl/"+a.issuer.String()), 404, ""},
	} {
		if r.answer.StatusCode != r.status || r.body != "" && body(r.answer) != r.body {
			t.Errorf("%s: %s", r.name, r.answer.Status)
		}
	}
	index := ask("GET", "/crl/"+a.issuer.String()+"/index.json")
	var urls []string
	if err := json.NewDecoder(index.Body).Decode(&urls); err != nil || len(urls) != 1 || urls[0] != crlserver.URL(base, a.shard()) || index.Header.Get("Content-Type") != "application/json" {
		t.Errorf("index is %v (%v)", urls, err)
	}
	if again := ask("GET", "/crl/"+a.issuer.String()+"/index.json", "If-None-Match", index.Header.Get("ETag")); again.StatusCode != 304 {
		t.Errorf("unchanged index: %s", again.Status)
	}
	p.stop()
	c.move(head.NextUpdate.Sub(c.now()) - time.Minute)
	most := int(head.NextUpdate.Sub(c.now()) / time.Second)
	got := ask("GET", shard).Header.Get("Cache-Control")
	least := int(head.NextUpdate.Sub(c.now()) / time.Second) // the clock goes on
	var kept int
	if _, err := fmt.Sscanf(got, "public, max-age=%d, must-revalidate", &kept); err != nil || kept > most || kept < least || most < 59 {
		t.Errorf("%d to %d s before its end a list may be kept for %s: %v", most, least, got, err)
	}
	c.move(time.Hour)
	if got := ask("GET", shard).Header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("after its end a list may be kept for %s", got)
	}
}

// TestFirstCertificate: whoever holds the first certificate of a shard finds its list, however soon they ask.
func TestFirstCertificate(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "First CA")
		p := start(t, s, &clock{}, nil, a.config())
		p.TestingOnlyUnheard(30 * time.Second) // on a busy machine
		eventually(t, "the complete list", func() bool { _, _, ok := p.Document(a.complete()); return ok })
		for week := range pki.Epoch(5) {
			if _, err := s.Reserve(t.Context(), ca.Reservation{Issuer: a.issuer, Epoch: epoch + week, Count: 16, Lease: time.Minute}); err != nil {
				t.Fatal(err)
			}
			list := a.shard()
			list.Shard.Epoch += week
			w := httptest.NewRecorder()
			p.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/crl/"+list.String(), nil))
			if w.Code != http.StatusOK {
				t.Errorf("%s: status %d", list, w.Code)
			}
		}

		// A new base URL begins a new shard: its list names it, and no list that exists has to be made anew for it.
		const moved = "http://moved.example"
		if err := s.UpdateIssuer(t.Context(), a.issuer, ca.IssuerChange{BaseURL: new(moved)}, audit.Event{Actor: "test", Action: "issuer.update", Outcome: audit.OK}); err != nil {
			t.Fatal(err)
		}
		r, err := s.Reserve(t.Context(), ca.Reservation{Issuer: a.issuer, Epoch: epoch, Count: 16, Lease: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		list := a.shard()
		list.Shard = pki.Position{Epoch: epoch, Index: r.From}.Shard()
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/crl/"+list.String(), nil))
		served, err := crl.Parse(w.Body.Bytes())
		if want := crlserver.URL(moved, list); r.BaseURL != moved || err != nil || served.IDP == nil || !slices.Equal(served.IDP.URLs(), []string{want}) {
			t.Errorf("for a certificate that carries %s: status %d, %+v (%v)", want, w.Code, served, err)
		}
	})
}

func TestParseList(t *testing.T) {
	for _, text := range []string{"", ".crl", "00112233445566778899", "00112233445566778899/.crl", "00112233445566778899/1-.crl", "00112233445566778899/1-01.crl",
		"00112233445566778899/65536-0.crl", "00112233445566778899/1-4294967296.crl", "00112233445566778899/delta/x.crl", "0011223344556677889A.crl", "00112233445566778899/1-0/x.crl"} {
		if l, err := crlserver.ParseList(text); err == nil {
			t.Errorf("%q is read as %+v", text, l)
		}
	}
	for _, text := range []string{"00112233445566778899.crl", "00112233445566778899/delta.crl", "00112233445566778899/65535-4294967295.crl"} {
		if l, err := crlserver.ParseList(text); err != nil || l.String() != text {
			t.Errorf("%q is read as %s (%v)", text, l, err)
		}
	}
}
