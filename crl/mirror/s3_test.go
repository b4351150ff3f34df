package mirror_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/mirror"
	"signet.example/signet/internal/testbucket"
	"signet.example/signet/pki"
)

// TestS3Signature is the example of the signature's specification: GET of a range, with known keys and answer.
func TestS3Signature(t *testing.T) {
	m, err := mirror.NewS3(mirror.S3Config{Endpoint: "https://examplebucket.s3.amazonaws.com", Bucket: "x", AccessKey: "AKIAIOSFODNN7EXAMPLE", SecretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		Now: func() time.Time { return time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodGet, "https://examplebucket.s3.amazonaws.com/test.txt", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Range", "bytes=0-9")
	empty := sha256.Sum256(nil)
	mirror.TestingOnlySign(m, r, hex.EncodeToString(empty[:]))
	want := "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
	if got := r.Header.Get("Authorization"); got != want {
		t.Errorf("authorization is\n%s, want\n%s", got, want)
	}

	// The example of a listing, whose parameters are signed as they are.
	if r, err = http.NewRequest(http.MethodGet, "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", nil); err != nil {
		t.Fatal(err)
	}
	mirror.TestingOnlySign(m, r, hex.EncodeToString(empty[:]))
	if got := r.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7") {
		t.Errorf("authorization of a listing is\n%s", got)
	}

	// The example of a PUT, whose name has an octet that URLs leave alone and signatures do not.
	if r, err = http.NewRequest(http.MethodPut, "https://examplebucket.s3.amazonaws.com/test%24file.text", nil); err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Date", "Fri, 24 May 2013 00:00:00 GMT")
	r.Header.Set("X-Amz-Storage-Class", "REDUCED_REDUNDANCY")
	sum := sha256.Sum256([]byte("Welcome to Amazon S3."))
	mirror.TestingOnlySign(m, r, hex.EncodeToString(sum[:]))
	if got := r.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd") {
		t.Errorf("authorization of a PUT is\n%s", got)
	}
}

// What is sent is what was signed: every octet of a name that signatures want encoded is.
func TestS3Names(t *testing.T) {
	var asked, query string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, query, _ = strings.Cut(r.RequestURI, "?")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	m, err := mirror.NewS3(mirror.S3Config{Endpoint: server.URL, Bucket: "lists", Prefix: "a+b=c@d,e$ f~/", AccessKey: "id", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), "crl/x.crl"); err != nil || asked != "/lists/a%2Bb%3Dc%40d%2Ce%24%20f~/crl/x.crl" {
		t.Errorf("asked for %s, %v", asked, err)
	}
	if _, err := m.Names(t.Context()); err == nil || asked != "/lists" || query != "list-type=2&prefix=a%2Bb%3Dc%40d%2Ce%24%20f~%2Fcrl%2F" {
		t.Errorf("asked for %s with %s, %v", asked, query, err)
	}
}

// TestS3Swap: a larger number is never replaced by a smaller one, and a lost race is run again.
func TestS3Swap(t *testing.T) {
	b, m := testbucket.New(t)
	put := func(number uint64) error {
		return m.Put(t.Context(), "crl/x.crl", crl.Document{[]byte("list "), {byte('0' + number)}}, number)
	}
	body := func() string { o, _ := b.Get("/lists/pki/crl/x.crl"); return o.Body }
	for _, step := range []struct {
		number uint64
		want   string
	}{{3, "list 3"}, {2, "list 3"}, {3, "list 3"}, {5, "list 5"}} {
		if err := put(step.number); err != nil || body() != step.want {
			t.Fatalf("after number %d: %q, %v", step.number, body(), err)
		}
	}
	o, _ := b.Get("/lists/pki/crl/x.crl")
	if o.Header.Get("Content-Type") != "application/pkix-crl" || o.Header.Get("Cache-Control") != "public, max-age=300, must-revalidate" {
		t.Errorf("headers are %v", o.Header)
	}

	races := 2
	b.Before = func(method string) int { // somebody else writes between our HEAD and our PUT
		if method == http.MethodPut && races > 0 {
			races--
			return http.StatusPreconditionFailed
		}
		return 0
	}
	if err := put(6); err != nil || body() != "list 6" {
		t.Fatalf("after two lost races: %q, %v", body(), err)
	}
	b.Before = func(method string) int { return map[string]int{http.MethodPut: http.StatusPreconditionFailed}[method] }
	if err := put(7); err == nil {
		t.Error("races lost for ever are no error")
	}
	b.Before = func(string) int { return http.StatusServiceUnavailable }
	if put(7) == nil || m.Remove(t.Context(), "crl/x.crl") == nil {
		t.Error("a store that is down is no error")
	}
	b.Before = nil
	for range 2 {
		if err := m.Remove(t.Context(), "crl/x.crl"); err != nil || body() != "" {
			t.Errorf("removed: %q, %v", body(), err)
		}
	}
}

// TestS3Index: an index is of what the bucket has, JSON, and written when it changes; of two that cross, the later begins anew.
func TestS3Index(t *testing.T) {
	b, m := testbucket.New(t)
	const path = "/lists/pki/crl/x/index.json"
	joined := func(names []string) ([]byte, error) { return []byte(strings.Join(names, " ")), nil }
	put := func(of func(names []string) ([]byte, error)) error {
		return m.PutIndex(t.Context(), "crl/x/index.json", of)
	}
	has := func(when, want string) {
		t.Helper()
		if o, _ := b.Get(path); o.Body != want {
			t.Errorf("%s the index is %q, want %q", when, o.Body, want)
		}
	}
	list := func(name string) { b.Put("/lists/pki/crl/x/"+name, testbucket.Object{}) }
	list("a.crl")
	for _, name := range []string{"a/1.crl", "w.crl", "x.crl", "xx/1.crl", "y/1.crl", "z/1.crl"} { // of other issuers
		b.Put("/lists/pki/crl/"+name, testbucket.Object{})
	}
	listings := 0
	b.Before = func(method string) int {
		if method == http.MethodGet {
			listings++
		}
		return 0
	}
	for range 2 {
		if err := put(joined); err != nil {
			t.Fatal(err)
		}
		has("at first", "crl/x/a.crl")
		b.Put("/lists/pki/crl/x/z", testbucket.Object{}) // of which the next index is the same
		joined = func([]string) ([]byte, error) { return []byte("crl/x/a.crl"), nil }
	}
	if listings != 3 { // one of one name, and two of the three that are there then
		t.Errorf("%d pages were listed", listings)
	}
	if puts := b.Puts(); len(puts) != 1 {
		t.Errorf("written: %v", puts)
	}
	if o, _ := b.Get(path); o.Header.Get("Content-Type") != "application/json" || o.Header.Get("Cache-Control") != "public, max-age=300, must-revalidate" {
		t.Errorf("headers are %v", o.Header)
	}

	crossed := 0
	if err := put(func(names []string) ([]byte, error) {
		if crossed++; crossed == 1 { // another instance brings a list and an index
			list("b.crl")
			b.Put(path, testbucket.Object{Body: "another's", Header: http.Header{"Etag": {`"another's"`}}})
		}
		return []byte(strings.Join(names, " ")), nil
	}); err != nil || crossed != 2 {
		t.Errorf("after %d attempts: %v", crossed, err)
	}
	has("after another's", "crl/x/a.crl crl/x/b.crl crl/x/index.json crl/x/z")

	if err := put(func([]string) ([]byte, error) { return nil, errors.New("no power") }); err == nil {
		t.Error("an index that could not be made is no error")
	}
	b.Before = func(method string) int { return map[string]int{http.MethodGet: http.StatusForbidden}[method] }
	if err := put(func([]string) ([]byte, error) { return []byte("blind"), nil }); err == nil {
		t.Error("without the names an index was stored")
	}
	has("without names", "crl/x/a.crl crl/x/b.crl crl/x/index.json crl/x/z")
}

func TestS3Config(t *testing.T) {
	good := mirror.S3Config{Endpoint: "https://s3.example", Bucket: "b", AccessKey: "a", SecretKey: "s"}
	for name, change := range map[string]func(*mirror.S3Config){
		"no endpoint": func(c *mirror.S3Config) { c.Endpoint = "" }, "no bucket": func(c *mirror.S3Config) { c.Bucket = "" },
		"no key": func(c *mirror.S3Config) { c.AccessKey = "" }, "no secret": func(c *mirror.S3Config) { c.SecretKey = "" },
		"not a URL": func(c *mirror.S3Config) { c.Endpoint = "s3.example" }, "ftp": func(c *mirror.S3Config) { c.Endpoint = "ftp://s3.example" },
	} {
		config := good
		change(&config)
		if _, err := mirror.NewS3(config); pki.KindOf(err) != pki.KindInvalid || strings.Contains(err.Error(), "secret:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
