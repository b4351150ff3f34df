package rest_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"signet.example/signet/api/rest"
	"signet.example/signet/api/rpc"
	"signet.example/signet/internal/auth"
)

// door is where calls are made over one connection, whose messages never come.
type door struct {
	t    *testing.T
	conn *http.ClientConn
	grpc bool
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
	return door{t, conn, name != "REST"}
}

// begin makes a call without its message and returns how it ended; "" if the server still waits for the message.
func (d door) begin(ctx context.Context, method, path, token string) string {
	d.t.Helper()
	url, media := "https://signet"+path, "application/json"
	if d.grpc {
		url, media = "https://signet/signet.v1."+method, "application/grpc"
	}
	silent, _ := io.Pipe()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, silent)
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Content-Type", media)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
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
	ctx, cancel := context.WithTimeout(d.t.Context(), 10*time.Second)
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

// A stranger is refused before anything is kept of what it sends, and a credential has a share of what may be on its way.
func TestRefusedBeforeTheMessage(t *testing.T) {
	for _, name := range []string{"gRPC", "gRPC through net/http", "REST"} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(c *rpc.Config) { c.InFlight = 8 })
			d := h.door(t, name)
			greedy, other := h.token(auth.Spec{Name: "greedy", Role: auth.RoleRequester}), h.token(auth.Spec{Name: "other", Role: auth.RoleAdmin})
			for what, token := range map[string]string{"nobody": "", "a wrong token": other[:len(other)-2] + "xx"} {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
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

// Who asks for a renewal is not known before the message is read: an address has so many on their way, and each for so long.
func TestStrangersWhoSayNothing(t *testing.T) {
	for _, name := range []string{"gRPC", "gRPC through net/http", "REST"} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			end := h.listen(t, rest.Config{BodyTime: 50 * time.Millisecond, Drain: time.Millisecond})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if got := h.door(t, name).begin(ctx, "CertificateService/RenewCertificate", "/v1/certificates:renew", ""); got != "grpc 4" && got != "408" {
				t.Errorf("a message that does not arrive: %q", got)
			}
			end()
			defer h.listen(t, rest.Config{Drain: time.Millisecond})()
			h.door(t, name).refuses("CertificateService/RenewCertificate", "/v1/certificates:renew", "", 32)
		})
	}
}
