package fetch_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/handshake/fetch"
)

// FuzzDo fetches from arbitrary URLs, and then from servers with arbitrary answers.
func FuzzDo(f *testing.F) {
	const ok, found = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nLast-Modified: Sat, 21 Nov 2026 12:00:00 GMT\r\nContent-Length: 4\r\n\r\nbody", "HTTP/1.1 302 Found\r\nLocation: "
	for _, seed := range []struct{ url, first, then string }{
		{"http://8.8.8.8/a.crl", ok, ok},
		{"http://8.8.8.8/a.crl", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n", ""},
		{"http://8.8.8.8/a.crl", "HTTP/1.1 304 Not Modified\r\nContent-Length: 100000000000\r\n\r\n", ""},
		{"http://8.8.8.8/a.crl", "HTTP/1.0 200\r\n\r\n" + strings.Repeat("x", 100), ""},
		{"http://[2606:4700::1]:80/a", found + "/b\r\n\r\n", ok},
		{"http://8.8.8.8/a", found + "/b\r\n\r\n", found + "/b\r\n\r\n"},
		{"http://8.8.8.8/a", found + "//u:p@8.8.4.4/b\r\nSet-Cookie: a=b\r\n\r\n", ok},
		{"http://8.8.8.8/a", "HTTP/1.1 308 Permanent Redirect\r\nLocation: http://169.254.169.254/latest\r\n\r\n", ok},
		{"http://8.8.8.8/a", found + "https://8.8.4.4/b\r\nSet-Cookie: a=b\r\n\r\n", "\x15\x03\x01\x00\x02\x02\x28"},
		{"http://8.8.8.8/a", found + "http://8.8.4.4/b\r\nSet-Cookie: a=b\r\n\r\n", found + "file:///etc/passwd\r\n\r\n"},
		{"http://[::ffff:127.0.0.1]/", ok, ok}, {"http://127.1/", ok, ok}, {"http://8.8.8.8:99999/", ok, ok}, {"http://u@8.8.8.8/", ok, ok}, {"http://[fe80::1%25eth0]/", ok, ok},
	} {
		f.Add(seed.url, []byte(seed.first), []byte(seed.then), false)
		f.Add(seed.url, []byte(seed.first), []byte(seed.then), true)
	}
	const limit = 64
	f.Fuzz(func(t *testing.T, from string, first, then []byte, post bool) {
		network := &servers{answers: [][]byte{first, then}}
		fetcher, err := fetch.New(fetch.Config{})
		if err != nil {
			t.Fatal(err)
		}
		fetcher.TestingOnlyConnect(network.connect)
		request := fetch.Request{URL: from, MaxBytes: limit, Timeout: 5 * time.Second, ETag: `"old"`}
		if post {
			request.Body, request.Type, request.ETag = []byte("question"), "application/ocsp-request", ""
		}
		response, err := fetcher.Do(context.Background(), request)
		network.wait()
		for _, at := range network.asked {
			if !fetch.Public(at.Addr()) {
				t.Errorf("%s was asked", at)
			}
		}
		if len(network.asked) > 4 {
			t.Errorf("%d servers were asked", len(network.asked))
		}
		for _, r := range network.requests {
			for _, name := range []string{"Referer", "Cookie", "Authorization", "Proxy-Authorization"} {
				if value := r.Header.Get(name); value != "" {
					t.Errorf("%s: %s was sent", name, value)
				}
			}
		}
		if err != nil {
			checkFailure(t, fetcher, network, request, err)
			return
		}
		if u, err := url.Parse(response.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || len(response.URL) > 4<<10 {
			t.Errorf("fetched from %q (%v)", response.URL, err)
		}
		if len(response.Body) > limit || response.NotModified && (post || len(response.Body) > 0) || len(response.ETag) > 256 || len(response.LastModified) > 256 {
			t.Errorf("%+v", response)
		}
	})
}

// checkFailure wants a typed error, and the same at once without asking again.
func checkFailure(t *testing.T, fetcher *fetch.Fetcher, network *servers, request fetch.Request, err error) {
	t.Helper()
	typed, ok := errors.AsType[*fetch.Error](err)
	if !ok || typed.URL != request.URL || len(typed.Error()) > 64<<10 {
		t.Fatalf("an error of another kind: %v", err)
	}
	if typed.Cause == fetch.TimedOut {
		t.Errorf("it took too long: %v", err)
	}
	asked := len(network.asked)
	if _, again := fetcher.Do(context.Background(), request); again == nil || again.Error() != err.Error() || len(network.asked) != asked {
		t.Errorf("at first %v, then %v, with %d more connections", err, again, len(network.asked)-asked)
	}
}

// servers are all servers there are: each connection hears one request and gives the next answer, the last one again
// and again.
type servers struct {
	answers  [][]byte
	talks    sync.WaitGroup
	mu       sync.Mutex // guards what follows
	asked    []netip.AddrPort
	requests []*http.Request
}

func (s *servers) connect(at netip.AddrPort) net.Conn {
	client, server := net.Pipe()
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := s.answers[min(len(s.asked), len(s.answers)-1)]
	s.asked = append(s.asked, at)
	s.talks.Go(func() {
		defer server.Close()
		in := bufio.NewReader(server)
		if start, err := in.Peek(1); err != nil || start[0] == 0x16 { // TLS: it is answered without being understood
			_, _ = server.Write(answer) // the client may have had enough
			return
		}
		if r, err := http.ReadRequest(in); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			s.mu.Lock()
			s.requests = append(s.requests, r)
			s.mu.Unlock()
		}
		_, _ = server.Write(answer)
	})
	return client
}

func (s *servers) wait() {
	s.talks.Wait()
}
