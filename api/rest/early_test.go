package rest_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/rest"
	"signet.example/signet/api/rpc"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
)

// door is where calls are made over one connection, whose messages never come.
type door struct {
	t    *testing.T
	conn *http.ClientConn
	grpc bool
	time string // Grpc-Timeout of its calls; empty: none
}

// door opens one of the three ways to the same services.
func (h *house) door(t *testing.T, name string) door {
	offers := &http.Protocols{}
	offers.SetHTTP2(true)
	offers.SetHTTP1(name != "gRPC")
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots}, Protocols: offers}
	conn, err := transport.NewClientConn(t.Context(), "https", h.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return door{t: t, conn: conn, grpc: name != "REST"}
}

// begin makes a call without its message and returns how it ended; "" if the server still waits for the message.
func (d door) begin(ctx context.Context, method, path, token string) string {
	d.t.Helper()
	if d.grpc {
		path = "/signet.v1." + method
	}
	return d.call(ctx, path, token, begun(""))
}

// begun is a message that goes no further until it is closed.
func begun(text string) io.ReadCloser {
	silent, _ := io.Pipe()
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(text), silent), silent}
}

// call makes a call and returns how it ended; "" if it did not before ctx.
func (d door) call(ctx context.Context, path, token string, message io.Reader) string {
	d.t.Helper()
	media := "application/json"
	if d.grpc {
		media = "application/grpc"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://signet"+path, message)
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Content-Type", media)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if d.time != "" {
		request.Header.Set("Grpc-Timeout", d.time)
	}
	answer, err := d.conn.RoundTrip(request)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body) // trailers follow it
	if d.grpc {
		return "grpc " + answer.Trailer.Get("Grpc-Status") + answer.Header.Get("Grpc-Status")
	}
	return answer.Status[:3]
}

// refuses makes twice as many calls as may be on their way, and reports whether so many are refused.
func (d door) refuses(method, path, token string, most int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	d.t.Cleanup(cancel)
	ended := make(chan string, 2*most)
	for range 2 * most {
		go func() { ended <- d.begin(ctx, method, path, token) }()
	}
	for range most {
		if got := <-ended; got != "grpc 8" && got != "429" {
			d.t.Errorf("more than %d calls are on their way: %q", most, got)
		}
	}
	select {
	case got := <-ended:
		d.t.Errorf("fewer than %d calls are on their way: %q", most, got)
	case <-time.After(50 * time.Millisecond): // those that were let in say nothing
	}
}

// A stranger is refused before anything is kept of what it sends, and a credential has a share of what may be on its
// way.
func TestRefusedBeforeTheMessage(t *testing.T) {
	for _, name := range []string{"gRPC", "gRPC through net/http", "REST"} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(c *rpc.Config) { c.InFlight = 8 })
			d := h.door(t, name)
			greedy, other := h.token(auth.Spec{Name: "greedy", Role: auth.RoleRequester}), h.token(auth.Spec{Name: "other", Role: auth.RoleAdmin})
			for what, token := range map[string]string{"nobody": "", "a wrong token": other[:len(other)-2] + "xx"} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if got := d.begin(ctx, "JobService/PlanJob", "/v1/jobs", token); got != "grpc 16" && got != "401" {
					t.Errorf("%s: %q", what, got)
				}
				cancel()
			}
			d.refuses("JobService/PlanJob", "/v1/jobs", greedy, 2)
			d.refuses("JobService/PlanJob", "/v1/jobs", other, 2)
		})
	}
}

// If a body does not arrive in time, it is unknown what was asked: nothing is refused, nor is there an event in the
// audit log.
func TestABodyThatDoesNotCome(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "known", Role: auth.RoleRequester})
	defer h.listen(t, rest.Config{StrangerTime: 50 * time.Millisecond, BodyTime: 50 * time.Millisecond, Drain: time.Millisecond})()
	d := h.door(t, "REST")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for path, token := range map[string]string{"/v1/certificates:renew": "", "/v1/certificates": token} {
		if got := d.begin(ctx, "", path, token); got != "408" {
			t.Errorf("%s: %q", path, got)
		}
	}
	events, err := h.store.AuditEvents(t.Context(), audit.Filter{}, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Action == "certificate.issue" && e.Outcome != audit.OK {
			t.Errorf("refused: %s %v", e.Actor, e.Detail)
		}
	}
}

// The sender of a renewal is not known before the message is read: an address may have only a limited number arriving,
// each for a limited time.
func TestStrangersWhoSayNothing(t *testing.T) {
	for _, name := range []string{"gRPC", "gRPC through net/http", "REST"} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			end := h.listen(t, rest.Config{StrangerTime: 50 * time.Millisecond, BodyTime: time.Hour, Drain: time.Millisecond})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if got := h.door(t, name).begin(ctx, "CertificateService/RenewCertificate", "/v1/certificates:renew", ""); got != "grpc 4" && got != "408" {
				t.Errorf("a message that does not arrive: %q", got)
			}
			end()
			defer h.listen(t, rest.Config{StrangerTime: time.Minute, Drain: time.Millisecond})()
			h.door(t, name).refuses("CertificateService/RenewCertificate", "/v1/certificates:renew", "", 32)
			if name == "REST" {
				return
			}
			for what, c := range map[string]struct{ path, message, want string }{ // while those that were let in wait
				"a health check":               {"/grpc.health.v1.Health/Check", "\x00\x00\x00\x00\x00", "grpc 0"},
				"of an unknown service":        {"/grpc.health.v1.Health/Check", "\x00\x00\x00\x00\x03\x0a\x01x", "grpc 5"},
				"a large health check":         {"/grpc.health.v1.Health/Check", "\x00\x00\x00\x10\x01", "grpc 8"},
				"one that is compressed":       {"/grpc.health.v1.Health/Check", "\x01\x00\x00\x00\x00", "grpc 12"},
				"one that is no message":       {"/grpc.health.v1.Health/Check", "\x00\x00\x00\x00\x01\xff", "grpc 3"},
				"one that says nothing":        {"/grpc.health.v1.Health/Check", "", "grpc 4"},
				"one that breaks off half way": {"/grpc.health.v1.Health/Check", "\x00\x00\x00\x00\x09x", "grpc 4"},
			} {
				if got := h.door(t, name).call(ctx, c.path, "", begun(c.message)); got != c.want {
					t.Errorf("%s: %q, want %q", what, got, c.want)
				}
			}
		})
	}
}

// A message that had not come when the time of its call was over is no bad message: the call can be made again.
func TestHalfAMessageUntilTheDeadline(t *testing.T) {
	h := newHouse(t)
	defer h.listen(t, rest.Config{Drain: time.Millisecond})()
	known := h.token(auth.Spec{Name: "known", Role: auth.RoleAdmin})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, name := range []string{"gRPC", "gRPC through net/http"} {
		for what, message := range map[string]string{"its length": "\x00\x00", "its octets": "\x00\x00\x00\x00\x09x"} {
			d := h.door(t, name)
			d.time = "200m"
			// grpc-go may reset it before it is answered.
			if got := d.call(ctx, "/signet.v1.JobService/PlanJob", known, begun(message)); got != "grpc 4" && !(got == "" && name == "gRPC") {
				t.Errorf("%s, half of %s: %q", name, what, got)
			}
		}
	}
}

// A body that is not read, and does not arrive, does not occupy a connection: the call is answered and the connection
// closed.
func TestBodiesThatNobodyReads(t *testing.T) {
	h := newHouse(t)
	defer h.listen(t, rest.Config{StrangerTime: 50 * time.Millisecond, Drain: time.Millisecond})()
	for head, status := range map[string]string{
		"POST /v1/certificates HTTP/1.1\r\nContent-Type: application/json\r\n": "401",
		"POST /v1/certificates HTTP/1.1\r\nContent-Type: text/plain\r\n":       "415",
		"GET /openapi.json HTTP/1.1\r\n":                                       "200",
		"HEAD /openapi.json HTTP/1.1\r\n":                                      "200",
		"PUT /v1/certificates HTTP/1.1\r\n":                                    "405",
	} {
		for _, length := range []string{"Content-Length: 100000", "Transfer-Encoding: chunked"} {
			conn, err := tls.Dial("tcp", h.address, &tls.Config{RootCAs: h.roots, NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, head+"Host: x\r\n"+length+"\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 "+status+" ") {
				t.Errorf("%q, %s: %v, answered %.40q", head, length, err, answer)
			}
			conn.Close()
		}
	}
}

// What is kept of a stranger's message is small: the length of another is enough to refuse it.
func TestStrangersWhoSayTooMuch(t *testing.T) {
	h := newHouse(t)
	defer h.listen(t, rest.Config{Drain: time.Millisecond})()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, name := range []string{"gRPC", "gRPC through net/http"} {
		if got := h.door(t, name).call(ctx, "/signet.v1.CertificateService/RenewCertificate", "", begun("\x00\x00\x02\x00\x01")); got != "grpc 8" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := h.door(t, "REST").call(ctx, "/v1/certificates:renew", "", strings.NewReader(`{"csrPem":"`+strings.Repeat("x", 128<<10)+`"}`)); got != "413" {
		t.Errorf("REST: %q", got)
	}
}
