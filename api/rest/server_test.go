package rest_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"signet.example/signet/api/client"
	"signet.example/signet/api/rest"
	"signet.example/signet/api/rpc"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// A gRPC client that offers HTTP/1.1 too goes through net/http, and is served all the same.
func TestGRPCThroughHTTP(t *testing.T) {
	h := newHouse(t)
	for what, offers := range map[string][]string{"native": {"h2"}, "through net/http": {"h2", "http/1.1"}} {
		connection, err := grpc.NewClient("passthrough:///"+h.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: h.roots, NextProtos: offers})))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := healthv1.NewHealthClient(connection).Check(t.Context(), new(healthv1.HealthCheckRequest))
		if err != nil || answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("%s: %v, %v", what, answer, err)
		}
		watch, err := healthv1.NewHealthClient(connection).Watch(t.Context(), new(healthv1.HealthCheckRequest))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err == nil {
			t.Errorf("%s: a stream without a credential", what)
		}
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A connection that is silent, or does not speak TLS, does not hinder others.
func TestSilentConnections(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	for i := range 300 {
		connection, err := net.Dial("tcp", h.address)
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		if i%10 == 0 {
			if _, err := connection.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
		}
		if i == 290 { // a client that uses http instead of https is told
			if answer, err := io.ReadAll(connection); err != nil || !strings.Contains(string(answer), "400 Bad Request") || !strings.Contains(string(answer), "HTTPS") {
				t.Errorf("without TLS: %q, %v", answer, err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // less than a handshake may take
	defer cancel()
	if _, err := h.grpc(token, nil).WhoAmI(ctx); err != nil {
		t.Error(err)
	}
}

// Calls in flight end before the server does, over both doors.
func TestGracefulEnd(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	h := newHouse(t, func(c *rpc.Config) {
		c.CRLs = crls(func() ([]byte, error) { entered <- struct{}{}; <-leave; return []byte{0x30, 0}, nil })
	})
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	results := make(chan string, 2)
	go func() {
		a := h.rest(token, nil, http.MethodGet, "/v1/issuers/"+h.issuing.ID.String()+"/crl", "")
		results <- http.StatusText(a.Status)
	}()
	<-entered
	c := h.grpc(token, nil)
	go func() {
		if _, err := c.CRL(t.Context(), h.issuing.ID, ""); err != nil {
			results <- err.Error()
			return
		}
		results <- "OK"
	}()
	<-entered
	h.stop()
	// New connections are refused as soon as the end has begun.
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		connection, err := net.Dial("tcp", h.address)
		if err != nil {
			break
		}
		_ = connection.Close()
	}
	close(leave)
	for range 2 {
		if result := <-results; result != "OK" {
			t.Errorf("a call in flight ended as %s", result)
		}
	}
	other, err := client.New(client.Config{Address: h.address, Roots: h.roots, Token: token, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.WhoAmI(t.Context()); err == nil {
		t.Error("a call after the end was answered")
	}
}

// What does not end in time is ended.
func TestEndIsBounded(t *testing.T) {
	leave := make(chan struct{})
	entered := make(chan struct{})
	h := newHouse(t, func(c *rpc.Config) {
		c.CRLs = crls(func() ([]byte, error) { close(entered); <-leave; return nil, nil })
	})
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	end := h.listen(t, rest.Config{Drain: 50 * time.Millisecond})
	answered := make(chan error, 1)
	c := h.grpc(token, nil)
	go func() { _, err := c.CRL(t.Context(), h.issuing.ID, ""); answered <- err }()
	<-entered
	end()
	if err := <-answered; err == nil {
		t.Error("a call that hangs was answered")
	}
	close(leave)
}

// listen serves on another address, with bounds of its own, until the test ends.
func (h *house) listen(t *testing.T, c rest.Config) (end func()) {
	t.Helper()
	c.Services, c.TLS = h.api, h.tls
	server, err := rest.NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	h.address = listener.Addr().String()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

// A body that does not arrive holds nothing for long, and a call that takes longer than a body may is not disturbed.
func TestSlowBody(t *testing.T) {
	// A body that is sent at once arrives in it on a busy machine, too.
	const bodyTime, slow = 2 * time.Second, 2100 * time.Millisecond
	h := newHouse(t, func(c *rpc.Config) {
		c.CRLs = crls(func() ([]byte, error) { time.Sleep(slow); return []byte{0x30, 0}, nil })
		c.Publication = published(func(context.Context, []pki.IssuerID, uint64) (time.Time, error) {
			time.Sleep(slow)
			return time.Unix(1, 0), nil
		})
	})
	leaf := h.pair("server", 0, "a.example").Leaf
	serial, err := pki.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	end := h.listen(t, rest.Config{BodyTime: 100 * time.Millisecond, Drain: time.Millisecond})
	for _, protocol := range []string{"http/1.1", "h2"} {
		body, hold := io.Pipe()
		defer hold.Close()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+h.address+"/v1/credentials:createToken", body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+token)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots, NextProtos: []string{protocol}}, ForceAttemptHTTP2: protocol == "h2"}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Errorf("%s: %v", protocol, err)
			continue
		}
		var answer struct{ Kind string }
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusRequestTimeout || answer.Kind != "unavailable" {
			t.Errorf("%s: a body that does not arrive: %d %s, %v", protocol, response.StatusCode, answer.Kind, err)
		}
		_ = response.Body.Close()
	}
	end()
	defer h.listen(t, rest.Config{BodyTime: bodyTime})()
	if a := h.rest(token, nil, http.MethodGet, "/v1/issuers/"+h.issuing.ID.String()+"/crl", ""); a.Status != http.StatusOK {
		t.Errorf("a slow call: %d %s", a.Status, a.Text)
	}
	if a := h.rest(token, nil, http.MethodPost, certificatePath(h.issuing.ID, serial)+":revoke", `{"waitFor":"WAIT_FOR_PUBLISHED"}`); a.Status != http.StatusOK || a.Body["publishedAt"] == nil {
		t.Errorf("a slow call with a body: %d %s", a.Status, a.Text)
	}
}

func TestSlowCall(t *testing.T) {
	h := newHouse(t, func(c *rpc.Config) {
		c.Timeout = 50 * time.Millisecond
		c.CRLs = slow{}
	})
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	h.both(t, "a call that takes too long", token, nil, func(c *client.Client) error { _, err := c.CRL(t.Context(), h.issuing.ID, ""); return err },
		http.MethodGet, "/v1/issuers/"+h.issuing.ID.String()+"/crl", "", pki.KindUnavailable, http.StatusGatewayTimeout, "")
}

func (slow) OfflineStatus(pki.IssuerID, pki.Serial) rpc.OfflineStatus { return rpc.OfflineStatus{} }

func (slow) ImportCRL(ctx context.Context, _ auth.Grant, _ pki.IssuerID, _ []byte, _ []pki.Serial) (rpc.ImportedCRL, error) {
	<-ctx.Done()
	return rpc.ImportedCRL{}, ctx.Err()
}

// slow answers when its caller has given up.
type slow struct{}

func (slow) CRL(ctx context.Context, _ revocation.Scope) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
