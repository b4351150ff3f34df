package crlserver_test

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// bucket is an object store in a process: HEAD, PUT with conditions, DELETE. It checks what any store checks of a
// signature without knowing how signatures are made; the known answer is in TestS3Signature.
type bucket struct {
	t       *testing.T
	mu      sync.Mutex
	objects map[string]object
	before  func(method string) int // status to answer with instead, 0: none
	up      chan struct{}           // not nil: until it is closed nobody is answered, and then with an error
	puts    []string                // what was written: path and number
}

type object struct {
	body   string
	header http.Header
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Error(err)
	}
	if sum := sha256.Sum256(body); r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]) ||
		!strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=id/") || strings.Contains(r.Header.Get("Authorization"), "secret") {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if b.up != nil {
		select {
		case <-b.up:
		default:
			<-b.up
			w.WriteHeader(http.StatusGatewayTimeout)
			return
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.before != nil {
		if status := b.before(r.Method); status != 0 {
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
		for name, values := range have.header {
			w.Header()[name] = values
		}
	case http.MethodPut:
		if r.Header.Get("If-None-Match") == "*" && ok || r.Header.Get("If-Match") != "" && have.header.Get("ETag") != r.Header.Get("If-Match") {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		b.puts = append(b.puts, r.URL.Path+" "+r.Header.Get("X-Amz-Meta-Signet-Crl-Number"))
		tag := md5.Sum(body)
		b.objects[r.URL.Path] = object{string(body), http.Header{"Etag": {`"` + hex.EncodeToString(tag[:]) + `"`}, "Content-Type": r.Header["Content-Type"],
			"Cache-Control": r.Header["Cache-Control"], "X-Amz-Meta-Signet-Crl-Number": r.Header["X-Amz-Meta-Signet-Crl-Number"]}}
	case http.MethodDelete:
		delete(b.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	}
}

// list answers with two names at a time; a token is the last name before it.
func (b *bucket) list(w http.ResponseWriter, path string, query url.Values) {
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

func (b *bucket) get(path string) (object, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[path]
	return o, ok
}

func newBucket(t *testing.T) (*bucket, crlserver.Mirror) {
	b := &bucket{t: t, objects: make(map[string]object)}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	m, err := crlserver.S3(crlserver.S3Config{Endpoint: server.URL, Bucket: "lists", Prefix: "pki/", AccessKey: "id", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return b, m
}

// TestS3Signature is the example of the signature's specification: GET of a range, with known keys and answer.
func TestS3Signature(t *testing.T) {
	m, err := crlserver.S3(crlserver.S3Config{Endpoint: "https://examplebucket.s3.amazonaws.com", Bucket: "x", AccessKey: "AKIAIOSFODNN7EXAMPLE", SecretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
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
	crlserver.TestingOnlySign(m, r, hex.EncodeToString(empty[:]))
	want := "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
	if got := r.Header.Get("Authorization"); got != want {
		t.Errorf("authorization is\n%s, want\n%s", got, want)
	}

	// The example of a listing, whose parameters are signed as they are.
	if r, err = http.NewRequest(http.MethodGet, "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", nil); err != nil {
		t.Fatal(err)
	}
	crlserver.TestingOnlySign(m, r, hex.EncodeToString(empty[:]))
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
	crlserver.TestingOnlySign(m, r, hex.EncodeToString(sum[:]))
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
	m, err := crlserver.S3(crlserver.S3Config{Endpoint: server.URL, Bucket: "lists", Prefix: "a+b=c@d,e$ f~/", AccessKey: "id", SecretKey: "secret"})
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
	b, m := newBucket(t)
	list := func(number uint64) (crl.Document, crlserver.Head) {
		document := crl.Document{[]byte("list "), {byte('0' + number)}}
		return document, crlserver.Head{Number: number, Sum: document.Sum(), Size: document.Size()}
	}
	put := func(number uint64) error {
		document, head := list(number)
		return m.Put(t.Context(), "crl/x.crl", document, head)
	}
	body := func() string { o, _ := b.get("/lists/pki/crl/x.crl"); return o.body }
	for _, step := range []struct {
		number uint64
		want   string
	}{{3, "list 3"}, {2, "list 3"}, {3, "list 3"}, {5, "list 5"}} {
		if err := put(step.number); err != nil || body() != step.want {
			t.Fatalf("after number %d: %q, %v", step.number, body(), err)
		}
	}
	o, _ := b.get("/lists/pki/crl/x.crl")
	if o.header.Get("Content-Type") != "application/pkix-crl" || o.header.Get("Cache-Control") != "public, max-age=300, must-revalidate" {
		t.Errorf("headers are %v", o.header)
	}

	races := 2
	b.before = func(method string) int { // somebody else writes between our HEAD and our PUT
		if method == http.MethodPut && races > 0 {
			races--
			return http.StatusPreconditionFailed
		}
		return 0
	}
	if err := put(6); err != nil || body() != "list 6" {
		t.Fatalf("after two lost races: %q, %v", body(), err)
	}
	b.before = func(method string) int { return map[string]int{http.MethodPut: http.StatusPreconditionFailed}[method] }
	if err := put(7); err == nil {
		t.Error("races lost for ever are no error")
	}
	b.before = func(string) int { return http.StatusServiceUnavailable }
	if put(7) == nil || m.Remove(t.Context(), "crl/x.crl") == nil {
		t.Error("a store that is down is no error")
	}
	b.before = nil
	for range 2 {
		if err := m.Remove(t.Context(), "crl/x.crl"); err != nil || body() != "" {
			t.Errorf("removed: %q, %v", body(), err)
		}
	}
}

// TestS3Mirror: the bucket follows what is published, across a time when it is down.
func TestS3Mirror(t *testing.T) {
	t.Parallel()
	b, m := newBucket(t)
	down := 3
	b.before = func(string) int {
		if down > 0 {
			down--
			return http.StatusInternalServerError
		}
		return 0
	}
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Mirrored CA")
	a.reserve(t, epoch, 0, base)
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{m} }, a.config())
	for index := range uint64(2) {
		p.await(t, a.revoke(t, index))
		for _, list := range []crlserver.List{a.shard(), a.complete()} {
			eventually(t, "the object", func() bool {
				document, _, _ := p.Document(list)
				o, ok := b.get("/lists/pki/crl/" + list.String())
				return ok && o.body == string(document.Bytes())
			})
		}
	}
}

// TestS3Outage: of a time when the bucket does not answer, however many lists are published in it, nothing is kept but what is published anyway:
// afterwards the last of each list is written, once, and nothing of lists that came and went. Meanwhile the lag grows.
func TestS3Outage(t *testing.T) {
	t.Parallel()
	b, m := newBucket(t)
	b.up = make(chan struct{})
	back := sync.OnceFunc(func() { close(b.up) })
	t.Cleanup(back) // before the server is closed: it waits for its requests
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Copied CA")
	a.reserve(t, epoch, 0, base)
	a.reserve(t, epoch+8, 0, base)
	c := &clock{}
	p := start(t, s, c, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{m} }, a.config())
	long := a.shard()
	long.Shard.Epoch += 8
	for index := range uint64(10) {
		a.revoke(t, index)
		p.await(t, a.append(t, a.event(epoch+8, index, revocation.KindRevoke, pki.Superseded, 0)))
	}
	c.move(time.Until(time.Unix((epoch + 1).Start(), 0).Add(25 * time.Hour)))
	eventually(t, "the last list of a week", func() bool { _, h, ok := p.Document(a.shard()); return ok && h.Final })
	c.move(73 * time.Hour)
	eventually(t, "no list of that week", func() bool { _, _, ok := p.Document(a.shard()); return !ok })
	p.await(t, a.append(t, a.event(epoch+8, 99, revocation.KindRevoke, pki.Superseded, 0)))
	eventually(t, "lists of now", func() bool {
		_, shard, _ := p.Document(long)
		_, complete, _ := p.Document(a.complete())
		return shard.Entries == 11 && complete.Entries == 11 && c.now().Sub(shard.ThisUpdate) < time.Hour && c.now().Sub(complete.ThisUpdate) < time.Hour
	})
	lag := func() time.Duration { return p.Lags()["mirror "+m.String()] }
	if lags := p.Lags(); lag() < 73*time.Hour || lags["shard"] != 0 || lags["complete"] != 0 {
		t.Errorf("the bucket has nothing since days, and the lags are %v", lags)
	}

	back()
	eventually(t, "no lag", func() bool { return lag() == 0 })
	var want []string
	for _, list := range []crlserver.List{long, a.complete()} {
		document, head, _ := p.Document(list)
		path := "/lists/pki/crl/" + list.String()
		want = append(want, path+" "+strconv.FormatUint(head.Number, 10))
		if o, ok := b.get(path); !ok || o.body != string(document.Bytes()) {
			t.Errorf("%s is not in the bucket as it is served", list)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.Sort(want)
	if slices.Sort(b.puts); !slices.Equal(b.puts, want) || len(b.objects) != 2 {
		t.Errorf("written: %v, want %v; there are %d objects", b.puts, want, len(b.objects))
	}
}

// stuck is a mirror that never answers in time.
type stuck struct{}

func (stuck) Put(ctx context.Context, _ string, _ crl.Document, _ crlserver.Head) error {
	<-ctx.Done()
	return ctx.Err()
}
func (stuck) Names(context.Context) ([]string, error) { return nil, errors.New("never asked") }
func (stuck) Remove(context.Context, string) error    { return errors.New("never asked") }
func (stuck) String() string                          { return "a place that never answers" }

// TestStuckMirror: a place that does not answer delays nothing, and the publisher still stops.
func TestStuckMirror(t *testing.T) {
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Stuck CA")
	a.reserve(t, epoch, 0, base)
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{stuck{}} }, a.config())
	p.await(t, a.revoke(t, 1))
	p.stop()
}

func TestS3Config(t *testing.T) {
	good := crlserver.S3Config{Endpoint: "https://s3.example", Bucket: "b", AccessKey: "a", SecretKey: "s"}
	for name, change := range map[string]func(*crlserver.S3Config){
		"no endpoint": func(c *crlserver.S3Config) { c.Endpoint = "" }, "no bucket": func(c *crlserver.S3Config) { c.Bucket = "" },
		"no key": func(c *crlserver.S3Config) { c.AccessKey = "" }, "no secret": func(c *crlserver.S3Config) { c.SecretKey = "" },
		"not a URL": func(c *crlserver.S3Config) { c.Endpoint = "s3.example" }, "ftp": func(c *crlserver.S3Config) { c.Endpoint = "ftp://s3.example" },
	} {
		config := good
		change(&config)
		if _, err := crlserver.S3(config); pki.KindOf(err) != pki.KindInvalid || strings.Contains(err.Error(), "secret:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A copy of a list that is over is removed, by a process that did not put it there: not before it has ended, and nothing else is.
func TestCopiesOfListsThatAreOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, inBucket := newBucket(t)
	for name, place := range map[string]struct {
		crlserver.Mirror
		put func(name string)
		has func(name string) bool
	}{
		"directory": {crlserver.Directory(dir), func(name string) {
			path := filepath.Join(dir, "crl", name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
				t.Fatal(err)
			}
		}, func(name string) bool { _, err := os.Stat(filepath.Join(dir, "crl", name)); return err == nil }},
		"bucket": {inBucket, func(name string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.objects["/lists/pki/crl/"+name] = object{}
		}, func(name string) bool { _, ok := b.get("/lists/pki/crl/" + name); return ok }},
	} {
		t.Run(name, func(t *testing.T) {
			s := testdb.SQLite(t)
			a := newAuthority(t, s, "Copied CA")
			a.reserve(t, epoch, 0, base)
			a.reserve(t, epoch+8, 0, base)
			a.reserve(t, epoch-1, 0, base)
			elsewhere := newAuthority(t, s, "CA of another instance")
			elsewhere.reserve(t, epoch, 0, base)
			mirrored := func(validity time.Duration) func(c *crlserver.Config) {
				return func(c *crlserver.Config) { c.Mirrors, c.Validity = []crlserver.Mirror{place}, validity }
			}
			c := &clock{}
			p := start(t, s, c, mirrored(0), a.config())
			later, earlier := a.shard(), a.shard()
			later.Shard.Epoch, earlier.Shard.Epoch = epoch+8, epoch-1
			stay := []string{later.String(), earlier.String(), a.complete().String(), a.delta().String(), "ffffffffffffffffffff/1-0.crl", elsewhere.issuer.String() + "/1-0.crl", "notes.txt", a.issuer.String() + "/1-0.txt"}
			for _, name := range append(stay[:3:3], a.shard().String()) {
				eventually(t, "the copy "+name, func() bool { return place.has(name) })
			}
			p.stop()
			for _, name := range stay[3:] {
				place.put(name)
			}

			check := func(when string, validity time.Duration, over string, stay ...string) {
				t.Helper()
				place.put(over)
				p := start(t, s, c, mirrored(validity), a.config())
				eventually(t, when+": no copy "+over, func() bool { return !place.has(over) })
				p.stop()
				for _, name := range stay {
					if !place.has(name) {
						t.Errorf("%s: %s is gone", when, name)
					}
				}
			}
			testdb.Exec(t, s, `DELETE FROM publications WHERE epoch = 400`) // nobody knows of the shard's list any more
			c.move(time.Until(time.Unix((epoch + 1).Start(), 0).Add(25 * time.Hour)))
			check("when the week has passed", 24*time.Hour*30, a.issuer.String()+"/1-0.crl", append(stay, a.shard().String())...)
			c.move(73 * time.Hour)
			check("when its last list has ended", 0, a.shard().String(), stay...)
		})
	}
}

// A copy that cannot be removed holds up no other, and is not tried again and again.
func TestCopiesThatStay(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Copied CA")
	a.reserve(t, epoch+8, 0, base)
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "crl", a.issuer.String()), 0o755), os.WriteFile(filepath.Join(dir, "crl", a.shard().String()), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	c, place := &clock{}, &unremovable{Mirror: crlserver.Directory(dir)}
	c.move(time.Until(time.Unix((epoch + 1).Start(), 0).Add(31 * 24 * time.Hour)))
	p := start(t, s, c, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{place} }, a.config())
	eventually(t, "it is tried", func() bool { return place.tried.Load() > 0 })
	for index := range uint64(3) {
		seq := a.append(t, a.event(epoch+8, index, revocation.KindRevoke, pki.Superseded, 0))
		eventually(t, "the copy of another list", func() bool { return place.reached.Load() >= seq })
	}
	p.stop()
	if n := place.tried.Load(); n != 1 {
		t.Errorf("it was tried %d times within an hour", n)
	}
}

type unremovable struct {
	crlserver.Mirror
	tried   atomic.Int32
	reached atomic.Uint64
}

func (m *unremovable) Put(ctx context.Context, name string, document crl.Document, head crlserver.Head) error {
	err := m.Mirror.Put(ctx, name, document, head)
	if head.List.Sharded && err == nil {
		m.reached.Store(head.Seq)
	}
	return err
}

func (m *unremovable) Remove(context.Context, string) error {
	m.tried.Add(1)
	return errors.New("not allowed")
}
