package fetch_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"signet.example/signet/handshake/fetch"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func newFetcher(t *testing.T, change func(*fetch.Config)) *fetch.Fetcher {
	t.Helper()
	config := fetch.Config{Allow: loopback}
	if change != nil {
		change(&config)
	}
	f, err := fetch.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func get(f *fetch.Fetcher, url string) (*fetch.Response, error) {
	return f.Do(context.Background(), fetch.Request{URL: url, MaxBytes: 1000, Timeout: time.Minute})
}

// causeOf is the cause of a failed fetch.
func causeOf(t *testing.T, err error) fetch.Cause {
	t.Helper()
	e, ok := errors.AsType[*fetch.Error](err)
	if !ok {
		t.Fatalf("error %v of no type", err)
	}
	return e.Cause
}

// TestPublic: every form of an address that is not public is refused, and what looks like one of them is not.
func TestPublic(t *testing.T) {
	for _, text := range []string{
		"127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "::", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
		"fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1", "100.64.0.1", "100.127.255.255", "224.0.0.1", "239.1.1.1", "ff02::1", "240.0.0.1",
		"255.255.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "192.88.99.1",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
		"2002:7f00:1::1", "2002:a00:1::", "2001::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1",
	} {
		if fetch.Public(netip.MustParseAddr(text)) {
			t.Errorf("%s passes for public", text)
		}
	}
	for _, text := range []string{
		"8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.255.255", "100.128.0.1", "192.0.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255", "::ffff:8.8.8.8",
		"64:ff9b::808:808", "2002:808:808::1", "2606:4700::1", "2a00:1450::1",
	} {
		if !fetch.Public(netip.MustParseAddr(text)) {
			t.Errorf("%s is refused", text)
		}
	}
	if fetch.Public(netip.Addr{}) {
		t.Error("no address passes for public")
	}
}

// TestNotAllowed: what must not be asked is not asked.
func TestNotAllowed(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1) }))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	closed := newFetcher(t, func(c *fetch.Config) { c.Allow = nil })
	for _, url := range []string{
		server.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port, "http://2130706433:" + port, "http://0x7f000001:" + port, "http://0:" + port,
		"ldap://127.0.0.1/cn=x", "file:///etc/hostname", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "javascript:1", "http://user:secret@127.0.0.1:" + port, "http://", "//127.0.0.1:" + port, "",
		"http://127.0.0.1:" + port + "/" + strings.Repeat("a", 5000),
	} {
		if _, err := get(closed, url); err == nil {
			t.Errorf("%.60s was fetched", url)
		} else if strings.Contains(err.Error(), "secret") && !strings.Contains(url, "secret") {
			t.Errorf("%v", err)
		}
	}
	if asked.Load() != 0 {
		t.Errorf("the server was asked %d times", asked.Load())
	}
}

// TestRedirects: three are followed, each is judged again.
func TestRedirects(t *testing.T) {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("/end", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("end")) })
	for from, to := range map[string]string{
		"/3": "/2", "/2": "/1", "/1": "/end", "/4": "/3", "/loop": "/loop", "/private": "http://10.0.0.1/", "/link-local": "http://169.254.169.254/latest",
		"/file": "file:///etc/hostname", "/user": "http://u:p@127.0.0.1/",
	} {
		mux.Handle(from, http.RedirectHandler(to, http.StatusFound))
	}
	f := newFetcher(t, nil)
	if response, err := get(f, server.URL+"/3"); err != nil || string(response.Body) != "end" || response.URL != server.URL+"/end" {
		t.Errorf("three redirects: %v %v", response, err)
	}
	for _, path := range []string{"/4", "/loop", "/private", "/link-local", "/file", "/user"} {
		if _, err := get(f, server.URL+path); err == nil || causeOf(t, err) != fetch.NotAllowed {
			t.Errorf("%s: %v", path, err)
		}
	}
	none := newFetcher(t, func(c *fetch.Config) { c.NoRedirects = true })
	if _, err := get(none, server.URL+"/1"); err == nil || causeOf(t, err) != fetch.BadStatus {
		t.Errorf("a redirect where none is followed: %v", err)
	}
}

// TestRebinding: a name is judged by the address that is connected to, not by one it had a moment ago.
func TestRebinding(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1) }))
	defer server.Close()
	f := newFetcher(t, func(c *fetch.Config) { c.Allow, c.Resolver = nil, lyingResolver(t) })
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	_, err := get(f, "http://rebind.test:"+port+"/")
	if err == nil || causeOf(t, err) != fetch.NotAllowed {
		t.Errorf("%v", err)
	}
	if _, ok := errors.AsType[*fetch.AddressError](err); !ok {
		t.Errorf("%v does not name the address", err)
	}
	if asked.Load() != 0 {
		t.Error("the server was asked")
	}
}

// lyingResolver answers every question for an IPv4 address with 127.0.0.1.
func lyingResolver(t *testing.T) *net.Resolver {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			conn.WriteTo(dnsAnswer(buffer[:n]), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return net.Dial("udp", conn.LocalAddr().String())
	}}
}

// dnsAnswer answers the one question of a query: type A with 127.0.0.1, everything else with nothing.
func dnsAnswer(query []byte) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	question := query[12 : end+5]
	answers := uint16(0)
	if binary.BigEndian.Uint16(question[len(question)-4:]) == 1 {
		answers = 1
	}
	out := append([]byte{}, query[:2]...)
	out = append(out, 0x81, 0x80, 0, 1, 0, byte(answers), 0, 0, 0, 0)
	out = append(out, question...)
	if answers == 1 {
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return out
}

// TestLimits: too much, too slow and too little are told apart.
func TestLimits(t *testing.T) {
	release := make(chan struct{})
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	defer close(release)
	mux.HandleFunc("/exact", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1000)) })
	mux.HandleFunc("/announced", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000000000")
		w.WriteHeader(200)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte{1})
		http.NewResponseController(w).Flush()
		<-release
	})
	mux.HandleFunc("/short", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.Write([]byte{1})
	})
	mux.HandleFunc("/missing", http.NotFound)
	f := newFetcher(t, nil)
	if response, err := get(f, server.URL+"/exact"); err != nil || len(response.Body) != 1000 {
		t.Errorf("exactly the limit: %v", err)
	}
	for path, want := range map[string]fetch.Cause{"/announced": fetch.TooLarge, "/endless": fetch.TooLarge, "/short": fetch.Network, "/missing": fetch.BadStatus} {
		if _, err := get(f, server.URL+path); err == nil || causeOf(t, err) != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		} else if failed, ok := errors.AsType[*fetch.Error](err); !ok || failed.Began == (want == fetch.BadStatus) {
			t.Errorf("%s: began to answer: %+v", path, failed)
		}
	}
	_, err := f.Do(t.Context(), fetch.Request{URL: server.URL + "/slow", MaxBytes: 1000, Timeout: 50 * time.Millisecond})
	if err == nil || causeOf(t, err) != fetch.TimedOut {
		t.Errorf("slow: %v", err)
	}
	if _, err := f.Do(t.Context(), fetch.Request{URL: server.URL + "/exact"}); err == nil {
		t.Error("a request without limits was made")
	}
}

// TestOneForMany: callers that want the same share one fetch, and one that gives up does not end it for the others.
func TestOneForMany(t *testing.T) {
	var asked atomic.Int32
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-release
		w.Write([]byte("body"))
	}))
	defer server.Close()
	f := newFetcher(t, nil)
	impatient, giveUp := context.WithCancel(t.Context())
	request := fetch.Request{URL: server.URL, MaxBytes: 100, Timeout: time.Minute}
	first := make(chan error, 1)
	go func() { _, err := f.Do(impatient, request); first <- err }()
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	var wg sync.WaitGroup
	joined := &waiting{Context: t.Context()}
	for range 20 {
		wg.Go(func() {
			if response, err := f.Do(joined, request); err != nil || string(response.Body) != "body" {
				t.Errorf("%v", err)
			}
		})
	}
	giveUp()
	if err := <-first; err == nil || causeOf(t, err) != fetch.TimedOut {
		t.Errorf("the impatient one: %v", err)
	}
	for joined.by.Load() < 20 { // the others are behind the first
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the server was asked %d times", n)
	}
}

// waiting counts the callers that wait for its end, or for something else.
type waiting struct {
	context.Context
	by atomic.Int32
}

func (w *waiting) Done() <-chan struct{} {
	w.by.Add(1)
	return w.Context.Done()
}

// TestNegativeCache: what failed is not asked again at once, then again, then at ever longer intervals.
func TestNegativeCache(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Error(w, "no", http.StatusServiceUnavailable)
	}))
	defer server.Close()
	now := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	f := newFetcher(t, func(c *fetch.Config) { c.Now = func() time.Time { return now } })
	for i, step := range []struct {
		after time.Duration
		asked int32
	}{{0, 1}, {0, 1}, {9 * time.Second, 1}, {2 * time.Second, 2}, {11 * time.Second, 2}, {10 * time.Second, 3}} {
		now = now.Add(step.after)
		if _, err := get(f, server.URL); err == nil || causeOf(t, err) != fetch.BadStatus {
			t.Errorf("step %d: %v", i, err)
		}
		if asked.Load() != step.asked {
			t.Errorf("step %d: asked %d times, want %d", i, asked.Load(), step.asked)
		}
	}
	if _, err := f.Do(t.Context(), fetch.Request{URL: server.URL, MaxBytes: 1, Timeout: time.Minute, Fresh: true}); err == nil || asked.Load() != 4 {
		t.Errorf("a fresh request was not made: asked %d times", asked.Load())
	}
}

// TestManyFailures: of more failures than are remembered the last ones are, and what may be tried again goes first.
func TestManyFailures(t *testing.T) {
	const most, more = 4096, 200
	now := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	f := newFetcher(t, func(c *fetch.Config) { c.Now, c.Allow = func() time.Time { return now }, nil })
	failure := func(n int) error {
		_, err := get(f, fmt.Sprintf("http://127.0.0.1/%d", n)) // refused before a connection is made
		return err
	}
	for n := range most {
		if failure(n) == nil {
			t.Fatal("an address that is not public was asked")
		}
	}
	now = now.Add(time.Minute)
	remembered := make([]error, more)
	for n := range more {
		remembered[n] = failure(most + n)
	}
	for n, want := range remembered {
		if failure(most+n) != want {
			t.Errorf("failure %d was forgotten", n)
		}
	}
	for n := range most { // that may not be tried again yet
		if want := failure(2*most + n); failure(2*most+n) != want {
			t.Errorf("failure %d was forgotten at once", n)
		}
	}
	if kept := f.TestingOnlyFailures(); kept > most {
		t.Errorf("%d failures are remembered, want at most %d", kept, most)
	}
}

// TestConditional: validators go out, and 304 comes back as such.
func TestConditional(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write([]byte("body"))
	}))
	defer server.Close()
	f := newFetcher(t, nil)
	first, err := get(f, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.Do(t.Context(), fetch.Request{URL: server.URL, MaxBytes: 100, Timeout: time.Minute, ETag: first.ETag})
	if err != nil || !second.NotModified {
		t.Errorf("%+v %v", second, err)
	}
}

func version(n byte) (v fetch.Version) { v[19] = n; return v }

// TestDisk: the largest version is what is there, also for another process, and whatever lies there damaged is not.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	f := newFetcher(t, func(c *fetch.Config) { c.Dir = dir })
	if _, err := f.Load("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	keep := func(f *fetch.Fetcher, n byte, body string) {
		t.Helper()
		if err := f.Keep(fetch.Object{Key: "key", Version: version(n), Body: []byte(body), ETag: `"e"`, Fetched: time.Unix(int64(n), 0)}); err != nil {
			t.Fatal(err)
		}
	}
	other := newFetcher(t, func(c *fetch.Config) { c.Dir = dir })
	keep(f, 5, "five")
	keep(other, 7, "seven")
	keep(f, 6, "six") // a smaller one, later
	for _, reader := range []*fetch.Fetcher{f, other, newFetcher(t, func(c *fetch.Config) { c.Dir = dir })} {
		object, err := reader.Load("key")
		if err != nil || string(object.Body) != "seven" || object.Version != version(7) || object.ETag != `"e"` {
			t.Errorf("%+v %v", object, err)
		}
	}
	objects, err := filepath.Glob(filepath.Join(dir, "objects", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range objects {
		if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Load("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("damaged: %v", err)
	}
	refs, err := filepath.Glob(filepath.Join(dir, "refs", "*", "*"))
	if err != nil || len(refs) == 0 {
		t.Fatal(refs, err)
	}
	for _, path := range refs {
		if err := os.WriteFile(path, []byte(`{"key":"key","sha256":"../../secret"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Load("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a reference out of the directory: %v", err)
	}
}

// TestDiskBound: what was fetched longest ago makes room.
func TestDiskBound(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	open := func() *fetch.Fetcher {
		return newFetcher(t, func(c *fetch.Config) { c.Dir, c.MaxDirBytes, c.Now = dir, 30_000, func() time.Time { return now } })
	}
	f := open()
	for i := range byte(4) {
		object := fetch.Object{Key: string('a' + rune(i)), Version: version(1), Body: bytes.Repeat([]byte{i}, 1000), Fetched: now.Add(time.Duration(i) * time.Minute)}
		if err := f.Keep(object); err != nil {
			t.Fatal(err)
		}
	}
	f = open()
	for key, kept := range map[string]bool{"a": false, "b": false, "c": true, "d": true} {
		if _, err := f.Load(key); (err == nil) != kept {
			t.Errorf("%s: %v", key, err)
		}
	}
	left := func(want int) {
		t.Helper()
		if objects, _ := filepath.Glob(filepath.Join(dir, "objects", "*")); len(objects) != want {
			t.Errorf("%d objects are left, want %d", len(objects), want)
		}
	}
	left(2)
	if err := f.Keep(fetch.Object{Key: "d", Version: version(2), Body: []byte("newer"), Fetched: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	open()
	left(3) // one without a reference is young
	now = now.Add(2 * time.Hour)
	open()
	left(2)
}

// TestDiskStoredAgain: what another process stores again while a sweep is about to remove it stays: an object that had
// no reference, one whose reference had to make room, and that reference.
func TestDiskStoredAgain(t *testing.T) {
	for name, max := range map[string]int64{"no reference": 1 << 20, "no room": 1} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			now := time.Now()
			object := fetch.Object{Key: "key", Version: version(1), Body: []byte("a list"), Fetched: now}
			other := newFetcher(t, func(c *fetch.Config) { c.Dir = dir })
			if err := other.Keep(object); err != nil {
				t.Fatal(err)
			}
			if name == "no reference" {
				refs, err := filepath.Glob(filepath.Join(dir, "refs", "*", "*"))
				if err != nil || len(refs) != 1 {
					t.Fatalf("%d references, %v", len(refs), err)
				}
				if err := os.Remove(refs[0]); err != nil {
					t.Fatal(err)
				}
			}
			again := false
			newFetcher(t, func(c *fetch.Config) {
				c.Dir, c.MaxDirBytes = dir, max
				c.Now = func() time.Time { // first asked for by the sweep when it has looked at everything
					if !again && strings.Contains(string(debug.Stack()), ".sweep(") {
						again = true
						object.Fetched = object.Fetched.Add(time.Hour)
						if err := other.Keep(object); err != nil {
							t.Error(err)
						}
					}
					return now.Add(2 * time.Hour)
				}
			})
			if kept, err := other.Load("key"); err != nil || !kept.Fetched.Equal(object.Fetched) {
				t.Errorf("%+v, %v", kept, err)
			}
		})
	}
}

// TestDiskBoundOfSmall: what is small takes whole blocks of a file system, which count; and where many come the bound
// holds without a new start.
func TestDiskBoundOfSmall(t *testing.T) {
	const max = 64 << 10
	dir := t.TempDir()
	open := func() *fetch.Fetcher { return newFetcher(t, func(c *fetch.Config) { c.Dir, c.MaxDirBytes = dir, max }) }
	f, came := open(), 0
	keep := func(many int) {
		t.Helper()
		for range many {
			came++
			object := fetch.Object{Key: fmt.Sprint(came), Version: version(1), Body: fmt.Append(nil, came), Fetched: time.Now().Add(time.Duration(came) * time.Second)}
			if err := f.Keep(object); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func() (files int) {
		for _, pattern := range []string{"objects/*", "refs/*/*"} {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			files += len(found)
		}
		return files
	}
	keep(20)
	f = open()
	if n := left(); n != 2*5 { // 12 KiB and some octets each
		t.Errorf("%d files are left of 20 objects, want 10", n)
	}
	if _, err := f.Load("20"); err != nil {
		t.Errorf("the last one: %v", err)
	}
	for range 2 {
		keep(300)
		for until := time.Now().Add(time.Minute); left() > 2*100; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("%d files are left of 300 objects more", left())
			}
		}
	}
}

// TestDiskRemains: of a key whose last version made room, and of a writer that crashed, nothing stays; a file that is
// being written does.
func TestDiskRemains(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	open := func() *fetch.Fetcher {
		return newFetcher(t, func(c *fetch.Config) { c.Dir, c.MaxDirBytes, c.Now = dir, 15_000, func() time.Time { return now } })
	}
	f := open()
	for i, key := range []string{"gone", "kept"} {
		if err := f.Keep(fetch.Object{Key: key, Version: version(1), Body: bytes.Repeat([]byte{byte(i)}, 1000), Fetched: now.Add(time.Duration(i) * time.Minute)}); err != nil {
			t.Fatal(err)
		}
	}
	find := func(pattern ...string) []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(append([]string{dir}, pattern...)...))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	crashed := append(find("refs", "*"), filepath.Join(dir, "facts"), filepath.Join(dir, "objects"))
	for _, place := range crashed {
		if err := os.WriteFile(filepath.Join(place, ".tmp-1"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	temporary := func() int { return len(find("*", ".tmp-*")) + len(find("refs", "*", ".tmp-*")) }
	open()
	if n, keys := temporary(), len(find("refs", "*")); n != len(crashed) || keys != 2 {
		t.Errorf("at once: %d of %d temporary files and %d of 2 keys are left", n, len(crashed), keys)
	}
	now = now.Add(2 * time.Hour)
	f = open()
	if n, keys := temporary(), len(find("refs", "*")); n != 0 || keys != 1 {
		t.Errorf("later: %d temporary files and %d keys are left, want 0 and 1", n, keys)
	}
	if object, err := f.Load("kept"); err != nil || len(object.Body) != 1000 {
		t.Errorf("what is kept: %v", err)
	}
}

// TestCancelledFresh: that a caller gave up is no failure of the server's.
func TestCancelledFresh(t *testing.T) {
	var asked atomic.Int32
	stalled := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			close(stalled)
			<-r.Context().Done()
			return
		}
		w.Write([]byte("body"))
	}))
	defer server.Close()
	f := newFetcher(t, nil)
	request := fetch.Request{URL: server.URL, MaxBytes: 100, Timeout: time.Minute, Fresh: true}
	ctx, giveUp := context.WithCancel(t.Context())
	go func() { <-stalled; giveUp() }()
	if _, err := f.Do(ctx, request); err == nil {
		t.Fatal("a request that was given up succeeded")
	}
	request.Fresh = false
	if response, err := f.Do(t.Context(), request); err != nil || string(response.Body) != "body" {
		t.Errorf("after somebody gave up: %v", err)
	}
}

// TestSilentServer: a server that accepts connections and says nothing in TLS is asked again, however often it was
// asked in vain.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetcher(t, nil)
		var connections []net.Conn
		var mu sync.Mutex
		f.TestingOnlyConnect(func(netip.AddrPort) net.Conn {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs)
			mu.Lock()
			defer mu.Unlock()
			connections = append(connections, theirs)
			return ours
		})
		asked := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(connections)
		}
		ask := func() {
			request := fetch.Request{URL: "https://127.0.0.1/", MaxBytes: 100, Timeout: time.Millisecond, Fresh: true}
			if _, err := f.Do(t.Context(), request); err == nil || causeOf(t, err) != fetch.TimedOut {
				t.Errorf("a server that is silent: %v", err)
			}
		}
		for range 9 {
			ask()
		}
		time.Sleep(time.Minute)
		before := asked()
		ask()
		if asked() == before {
			t.Errorf("after %d connections nobody connects any more", before)
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		for i, conn := range connections {
			if _, err := conn.Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("connection %d is still open: %v", i, err)
			}
		}
	})
}

// TestProtocol: a server is offered no HTTP/2, over which it could keep whoever closes a body.
func TestProtocol(t *testing.T) {
	offered := make(chan []string, 1)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offered <- hello.SupportedProtos
		return nil, errors.New("seen")
	}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	if _, err := get(newFetcher(t, nil), server.URL); causeOf(t, err) != fetch.Network {
		t.Error(err)
	}
	if protocols := <-offered; slices.Contains(protocols, "h2") {
		t.Errorf("offered: %q", protocols)
	}
}

// TestAnnouncedLength: a server that announces much and sends nothing costs no memory.
func TestAnnouncedLength(t *testing.T) {
	const announced = 200 << 20
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(announced))
		w.Write([]byte{0x30})
	}))
	defer server.Close()
	f := newFetcher(t, nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := f.Do(t.Context(), fetch.Request{URL: server.URL, MaxBytes: announced, Timeout: time.Minute}); err == nil {
		t.Error("a body that was cut off was taken")
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > announced/4 {
		t.Errorf("%d octets were allocated", got)
	}
}

// TestFactThatCannotBeReadYet: a fact that cannot be read, for want of file descriptors say, is read later.
func TestFactThatCannotBeReadYet(t *testing.T) {
	dir := t.TempDir()
	f := newFetcher(t, func(c *fetch.Config) { c.Dir = dir })
	if err := f.Remember(fetch.Fact{Name: "revoked", Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "facts", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	aside := filepath.Join(dir, "aside")
	// A loop: opening it fails.
	if err := errors.Join(os.Rename(files[0], aside), os.Symlink(files[0], files[0])); err != nil {
		t.Fatal(err)
	}
	reader := f.Recollect()
	if facts, err := reader.Next(); err != nil || len(facts) != 0 {
		t.Fatalf("%+v, %v", facts, err)
	}
	if err := os.Rename(aside, files[0]); err != nil {
		t.Fatal(err)
	}
	if facts, err := reader.Next(); err != nil || len(facts) != 1 || facts[0].Name != "revoked" {
		t.Errorf("once it can be read: %+v, %v", facts, err)
	}
}

// TestFactsAreBounded: a directory that is full takes no more until some of its facts have ended.
func TestFactsAreBounded(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	f := newFetcher(t, func(c *fetch.Config) { c.Dir, c.MaxFacts, c.Now = dir, 3, func() time.Time { return now } })
	remember := func(name string, life time.Duration) error {
		return f.Remember(fetch.Fact{Name: name, Until: now.Add(life)})
	}
	for name, life := range map[string]time.Duration{"a": time.Hour, "b": time.Hour, "c": 100 * time.Hour} {
		if err := remember(name, life); err != nil {
			t.Fatal(err)
		}
	}
	if err := remember("d", time.Hour); err == nil {
		t.Error("a fourth fact was taken")
	}
	if err := remember("c", time.Hour); err != nil {
		t.Errorf("one that is there already: %v", err)
	}
	now = now.Add(2 * time.Hour)
	if err := errors.Join(remember("d", time.Hour), remember("e", time.Hour)); err != nil {
		t.Errorf("after two have ended: %v", err)
	}
	if err := remember("f", time.Hour); err == nil {
		t.Error("a fourth fact was taken")
	}
	if files, err := filepath.Glob(filepath.Join(dir, "facts", "*")); err != nil || len(files) != 3 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// TestDiskRepairs: what is kept again is written again, whatever became of it there.
func TestDiskRepairs(t *testing.T) {
	dir, body := t.TempDir(), []byte("a list")
	f := newFetcher(t, func(c *fetch.Config) { c.Dir = dir })
	for _, damage := range [][]byte{nil, make([]byte, len(body)), []byte("short")} {
		objects, err := filepath.Glob(filepath.Join(dir, "objects", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range objects {
			if err := os.WriteFile(path, damage, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Keep(fetch.Object{Key: "key", Version: version(1), Body: body, Fetched: time.Unix(1, 0)}); err != nil {
			t.Fatal(err)
		}
		if object, err := f.Load("key"); err != nil || string(object.Body) != string(body) {
			t.Errorf("%q in its place: %q, %v", damage, object.Body, err)
		}
	}
}
