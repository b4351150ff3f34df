// Package testbucket is an S3-compatible object store for tests.
package testbucket

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"signet.example/signet/crl/mirror"
)

// Bucket is an object store in a process: GET, HEAD, PUT with conditions, DELETE, of a bucket called "lists", for the access key "id"
// with the secret "secret". It checks what any store checks of a signature without knowing how signatures are made. Set Before and
// Up before it is asked.
type Bucket struct {
	Before func(method string) int // status to answer with instead, 0: none; one call at a time
	Up     chan struct{}           // not nil: until it is closed nobody is answered, and then with an error

	mu      sync.Mutex // guards the rest
	objects map[string]Object
	puts    []string
}

// Object is what is kept under a path.
type Object struct {
	Body   string
	Header http.Header
}

// New starts a store that is there until the test ends, and gives the mirror that copies to it, below "pki/".
func New(t testing.TB) (*Bucket, *mirror.S3) {
	b := &Bucket{objects: make(map[string]Object)}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	m, err := mirror.NewS3(mirror.S3Config{Endpoint: server.URL, Bucket: "lists", Prefix: "pki/", AccessKey: "id", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return b, m
}

// ServeHTTP answers as a store would.
func (b *Bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil { // who sent it was stopped, and nothing is stored
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if sum := sha256.Sum256(body); r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]) ||
		!strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=id/") || strings.Contains(r.Header.Get("Authorization"), "secret") {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if b.Up != nil {
		select {
		case <-b.Up:
		default:
			<-b.Up
			w.WriteHeader(http.StatusGatewayTimeout)
			return
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Before != nil {
		if status := b.Before(r.Method); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	have, ok := b.objects[r.URL.Path]
	switch r.Method {
	case http.MethodGet:
		b.list(w, r.URL.Path, r.URL.Query())
	case http.MethodHead:
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		for name, values := range have.Header {
			w.Header()[name] = values
		}
	case http.MethodPut:
		if r.Header.Get("If-None-Match") == "*" && ok || r.Header.Get("If-Match") != "" && have.Header.Get("ETag") != r.Header.Get("If-Match") {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		b.puts = append(b.puts, r.URL.Path+" "+r.Header.Get("X-Amz-Meta-Signet-Crl-Number"))
		tag := md5.Sum(body)
		kept := http.Header{"Etag": {`"` + hex.EncodeToString(tag[:]) + `"`}, "Content-Type": r.Header["Content-Type"], "Cache-Control": r.Header["Cache-Control"]}
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Meta-") {
				kept[name] = values
			}
		}
		b.objects[r.URL.Path] = Object{string(body), kept}
	case http.MethodDelete:
		delete(b.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	}
}

// list answers with two names at a time; a token is the last name before it.
func (b *Bucket) list(w http.ResponseWriter, path string, query url.Values) {
	if path != "/lists" || query.Get("list-type") != "2" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>lists</Name>`)
	listed, last := 0, query.Get("continuation-token")
	for _, path := range slices.Sorted(maps.Keys(b.objects)) {
		key := strings.TrimPrefix(path, "/lists/")
		if !strings.HasPrefix(key, query.Get("prefix")) || key <= last && last != "" {
			continue
		}
		if listed == 2 {
			fmt.Fprintf(w, "<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>", last)
			break
		}
		fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>1</Size></Contents>", key)
		listed, last = listed+1, key
	}
	fmt.Fprint(w, "</ListBucketResult>")
}

// Get returns what is kept under a path.
func (b *Bucket) Get(path string) (Object, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[path]
	return o, ok
}

// Put keeps something, as somebody else would have done.
func (b *Bucket) Put(path string, o Object) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[path] = o
}

// Paths are those under which something is kept, in order.
func (b *Bucket) Paths() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.objects))
}

// Puts is what was written over HTTP, in order: path and number.
func (b *Bucket) Puts() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.puts)
}
