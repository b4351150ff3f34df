package ocspserver_test

import (
	"crypto"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp/ocspserver"
)

// pipes is a listener without a network.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// TestSlowClients: no client keeps a connection by being slow, at any point of it. Deadlines are at most a second
// early, and never late.
func TestSlowClients(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	handler := &ocspserver.Handler{Responder: s.responder}
	target := path(s.one) + "/" + url.QueryEscape(encode(requestFor(t, s.one, crypto.SHA1, nil, s.closed.serial(1))))
	// Fasthttp's clock starts outside of the bubble.
	do(t, "GET", startServer(t, ocspserver.NewServer(handler, http.NotFoundHandler()))+target, nil)
	request := "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n"
	const slow, idle = 10 * time.Second, 2 * time.Minute
	for _, c := range []struct {
		name   string
		does   func(t *testing.T, conn net.Conn)
		within time.Duration
	}{
		{"says nothing", func(*testing.T, net.Conn) {}, slow},
		{"says half of what tells where it goes", func(t *testing.T, conn net.Conn) { say(t, conn, "GET /oc") }, slow},
		{"says half a request", func(t *testing.T, conn net.Conn) { say(t, conn, request[:30]) }, slow},
		{"says half a request for something else", func(t *testing.T, conn net.Conn) { say(t, conn, "GET /crl/x HTTP/1.1\r\nHo") }, slow},
		{"goes idle after an answer", func(t *testing.T, conn net.Conn) { ask(t, conn, request) }, idle},
		{"goes idle after many answers", func(t *testing.T, conn net.Conn) {
			for range 50 {
				ask(t, conn, request)
				time.Sleep(300 * time.Millisecond)
			}
			ask(t, conn, request)
		}, idle},
		{"says half of its second request", func(t *testing.T, conn net.Conn) {
			ask(t, conn, request)
			time.Sleep(time.Minute)
			say(t, conn, request[:30])
		}, slow},
		{"does not read", func(t *testing.T, conn net.Conn) {
			ask(t, conn, request)
			say(t, conn, request)
			time.Sleep(slow - time.Second - time.Nanosecond)
			one := make([]byte, 1)
			if _, err := conn.Read(one); err != nil {
				t.Errorf("gone too early: %v", err)
			}
			time.Sleep(2 * time.Second)
		}, 0},
		{"goes idle after it was handed over", func(t *testing.T, conn net.Conn) {
			ask(t, conn, request)
			ask(t, conn, "GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n")
		}, idle},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := &pipes{make(chan net.Conn), make(chan struct{})}
				server := ocspserver.NewServer(handler, http.NotFoundHandler())
				go server.Serve(listener)
				conn := listener.dial()
				c.does(t, conn)
				from := time.Now()
				_, _ = io.Copy(io.Discard, conn) // until the server closes it, whatever it says before
				if lasted := time.Since(from); lasted > c.within || lasted < c.within-time.Second {
					t.Errorf("the connection ended after %s, want %s", lasted, c.within)
				}
				if err := server.Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(slow) // until fasthttp's own goroutines have looked up
			})
		})
	}
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// ask sends a request and takes the whole answer.
func ask(t *testing.T, conn net.Conn, request string) {
	t.Helper()
	say(t, conn, request)
	var head strings.Builder
	one := make([]byte, 1)
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		if _, err := conn.Read(one); err != nil {
			t.Fatalf("%v after %q", err, head.String())
		}
		head.Write(one)
	}
	_, rest, _ := strings.Cut(head.String(), "Content-Length: ")
	length, _, _ := strings.Cut(rest, "\r\n")
	n := 0
	for _, digit := range length {
		n = 10*n + int(digit-'0')
	}
	if _, err := io.ReadFull(conn, make([]byte, n)); err != nil || n == 0 {
		t.Fatalf("%v in the body after %q", err, head.String())
	}
}

// TestAskedAgain: an address that was understood before is answered by what is true now, for the issuers of now.
func TestAskedAgain(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	base := startServer(t, ocspserver.NewServer(&ocspserver.Handler{Responder: s.responder}, http.NotFoundHandler()))
	serial := s.closed.serial(3)
	target := path(s.one) + "/" + url.QueryEscape(encode(requestFor(t, s.one, crypto.SHA1, nil, serial)))
	var bodies []string
	for range 4 {
		response, body := do(t, "GET", base+target, nil)
		if bodies = append(bodies, string(body)); response.StatusCode != http.StatusOK || bodies[0] != string(body) {
			t.Fatalf("%d, %x after %x", response.StatusCode, body, bodies[0])
		}
	}
	if response, _ := do(t, "POST", base+target, []byte("x")); response.Header.Get("Etag") != "" {
		t.Error("a POST was answered by its address")
	}
	// Nor does a client put its own question in the place of the URL's: the answer would be about another certificate.
	other := s.closed.serial(5)
	if response, _ := do(t, "GET", base+path(s.one)+"/"+url.QueryEscape(encode(requestFor(t, s.one, crypto.SHA1, nil, other))), nil); response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
	do(t, "POST", base+target, requestFor(t, s.one, crypto.SHA1, nil, other))
	if _, body := do(t, "GET", base+target, nil); string(body) != bodies[0] {
		t.Error("an address is answered by what was asked in a POST to it")
	}
	s.revoke(t, s.one.id, serial, 1)
	if _, body := do(t, "GET", base+target, nil); string(body) == bodies[0] {
		t.Error("an address that was asked before still says good after the revocation")
	}
	before := s.responder.Stats()
	do(t, "GET", base+target, nil)
	if after := s.responder.Stats(); after.Successful != before.Successful+1 || after.Kept != before.Kept+1 {
		t.Errorf("counted %+v, then %+v", before, after)
	}
	if err := s.responder.SetIssuers(nil); err != nil {
		t.Fatal(err)
	}
	if response, _ := do(t, "GET", base+target, nil); response.StatusCode != http.StatusNotFound {
		t.Errorf("an issuer that is gone is answered for: %d", response.StatusCode)
	}
}
