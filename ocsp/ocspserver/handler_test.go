package ocspserver_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
)

// eachServer runs a test against both ways to serve, in front of a mux that would mend addresses.
func eachServer(t *testing.T, s *system, test func(t *testing.T, base string)) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	handler := &ocspserver.Handler{Responder: s.responder}
	t.Run("Handler", func(t *testing.T) {
		server := httptest.NewServer(handler.Before(mux))
		t.Cleanup(server.Close)
		test(t, server.URL)
	})
	t.Run("Server", func(t *testing.T) { test(t, startServer(t, ocspserver.NewServer(handler, mux))) })
}

// startServer serves on loopback until the test ends.
func startServer(t *testing.T, server *ocspserver.Server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve ended with %v", err)
		}
	})
	return "http://" + listener.Addr().String()
}

func do(t *testing.T, method, url string, body []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, content
}

// httpDate is an instant after the start, as a header says it.
func httpDate(after time.Duration) string { return start.Add(after).Format(http.TimeFormat) }

func TestHTTP(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	eachServer(t, s, func(t *testing.T, base string) { testHTTP(t, s, base) })
}

func testHTTP(t *testing.T, s *system, base string) {
	serial := s.closed.serial(1)
	der := requestFor(t, s.one, crypto.SHA256, nil, serial)
	get, inline := ocsp.URL(base+path(s.one), der)
	if !inline {
		t.Fatalf("%q is not asked by GET", get)
	}
	response, body := do(t, "GET", get, nil)
	digest := sha256.Sum256(body)
	etag := `"` + hex.EncodeToString(digest[:]) + `"`
	for name, want := range map[string]string{
		"Content-Type": "application/ocsp-response", "Cache-Control": "max-age=30, public, no-transform, must-revalidate",
		"Last-Modified": httpDate(0), "Expires": httpDate(time.Hour), "Etag": etag,
	} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if response.StatusCode != 200 || response.ContentLength != int64(len(body)) || response.Header.Get("Date") == "" {
		t.Errorf("get: %+v", response)
	}

	if response, posted := do(t, "POST", base+path(s.one), der, "Content-Type", "application/ocsp-request"); response.StatusCode != 200 || !bytes.Equal(posted, body) {
		t.Errorf("post gives something else than get: %+v", response)
	}
	if head, nothing := do(t, "HEAD", get, nil); head.StatusCode != 200 || head.ContentLength != int64(len(body)) || len(nothing) != 0 || head.Header.Get("Etag") != etag {
		t.Errorf("head: %+v", head)
	}
	for _, c := range []struct {
		name, method string
		header       []string
		code         int
	}{
		{"same tag", "GET", []string{"If-None-Match", etag}, 304},
		{"same tag, head", "HEAD", []string{"If-None-Match", etag}, 304},
		{"weak form", "GET", []string{"If-None-Match", "W/" + etag}, 304},
		{"one of several tags", "GET", []string{"If-None-Match", `"x", ` + etag}, 304},
		{"any tag", "GET", []string{"If-None-Match", "*"}, 304},
		{"other tag", "GET", []string{"If-None-Match", `"x"`}, 200},
		{"other tag, same time", "GET", []string{"If-None-Match", `"x"`, "If-Modified-Since", httpDate(0)}, 200},
		{"same time", "GET", []string{"If-Modified-Since", httpDate(0)}, 304},
		{"a second earlier", "GET", []string{"If-Modified-Since", httpDate(-time.Second)}, 200},
		{"a second later, by a clock that was set back", "GET", []string{"If-Modified-Since", httpDate(time.Second)}, 200},
		{"no time", "GET", []string{"If-Modified-Since", "yesterday"}, 200},
	} {
		response, content := do(t, c.method, get, nil, c.header...)
		if response.StatusCode != c.code || c.code == 304 && (len(content) != 0 || response.Header.Get("Etag") != etag || response.Header.Get("Cache-Control") == "") {
			t.Errorf("%s: %+v, want %d", c.name, response, c.code)
		}
	}
	if response, _ := do(t, "POST", base+path(s.one), der, "If-None-Match", etag); response.StatusCode != 200 {
		t.Errorf("a conditional post gives %d", response.StatusCode)
	}

	for _, c := range []struct {
		name, method, path string
		body               []byte
		code               int
	}{
		{"slashes in a row", "GET", path(s.one) + "//" + url.QueryEscape(encode(der)), nil, 200},
		{"a query behind", "GET", path(s.one) + "/" + url.QueryEscape(encode(der)) + "?x=1", nil, 200},
		{"elsewhere", "GET", "/other", nil, http.StatusTeapot},
		{"too large", "POST", path(s.one), make([]byte, 11<<10), 413},
		{"too long", "GET", path(s.one) + "/" + strings.Repeat("M", 2000), nil, 414},
		{"delete", "DELETE", path(s.one), nil, 405},
		{"no issuer", "GET", "/ocsp/x", nil, 404},
	} {
		if response, _ := do(t, c.method, base+c.path, c.body); response.StatusCode != c.code {
			t.Errorf("%s: %d, want %d", c.name, response.StatusCode, c.code)
		}
	}
}

// A client that was told "good" in the second of a revocation, and asks again by date alone, gets the new answer.
func TestRevokedInThatSecond(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	serial := s.closed.serial(1)
	der := requestFor(t, s.one, crypto.SHA1, nil, serial)
	eachServer(t, s, func(t *testing.T, base string) {
		get, _ := ocsp.URL(base+path(s.one), der)
		before, good := do(t, "GET", get, nil)
		// The clock of this test stands still; a second time changes nothing.
		s.revoke(t, s.one.id, serial, pki.KeyCompromise)
		after, revoked := do(t, "GET", get, nil, "If-Modified-Since", before.Header.Get("Last-Modified"))
		if after.StatusCode != 200 || len(good) == 0 || len(revoked) == 0 || after.Header.Get("Last-Modified") != before.Header.Get("Last-Modified") {
			t.Errorf("after the revocation: %s", after.Status)
		}
	})
}

// TestServerSharesConnections: OCSP and the rest on one connection, in either order, in pieces, and clients that say
// nothing.
func TestServerSharesConnections(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	list := bytes.Repeat([]byte("list"), 1<<18)
	base := startServer(t, ocspserver.NewServer(&ocspserver.Handler{Responder: s.responder}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write(list); err != nil {
			t.Error(err)
		}
	})))
	address := strings.TrimPrefix(base, "http://")
	get := "GET " + path(s.one) + "/" + url.QueryEscape(encode(requestFor(t, s.one, crypto.SHA1, nil, s.closed.serial(1)))) + " HTTP/1.1\r\nHost: x\r\n\r\n"
	other := "GET /crl/x HTTP/1.1\r\nHost: x\r\n\r\n"
	quiet, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.Close()
	for _, order := range [][]string{{get, other, get}, {other, get, other}} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		reader := bufio.NewReader(conn)
		for i, text := range order {
			for _, piece := range []string{text[:3], text[3:9], text[9:]} {
				if _, err := io.WriteString(conn, piece); err != nil {
					t.Fatal(err)
				}
			}
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != 200 {
				t.Fatalf("%d: %+v, %v", i, response, err)
			}
			if isOCSP := response.Header.Get("Content-Type") == "application/ocsp-response"; isOCSP != (text == get) || !isOCSP && !bytes.Equal(body, list) {
				t.Errorf("%d of %.20q: %+v", i, order, response.Header)
			}
		}
	}
	for _, text := range []string{"PUT /ocsp/ HTTP/1.1\r\nHost: x\r\n\r\n", "G\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode < 400 {
			t.Errorf("%q: %+v, %v", text, response, err)
		}
		conn.Close()
	}
}

// TestListAfterOCSP: what is asked for on a connection that began with OCSP is streamed as on any other, and what is
// asked for behind it, before it was answered, is answered in its turn.
func TestListAfterOCSP(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	read := make(chan struct{})
	base := startServer(t, ocspserver.NewServer(&ocspserver.Handler{Responder: s.responder}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/crl/x" || r.Header.Get("If-None-Match") != `"tag"` || r.Host != "pki.example" {
			t.Errorf("the request arrived as %s %s %v", r.Method, r.URL, r.Header)
		}
		_, _ = io.WriteString(w, "begin ")
		w.(http.Flusher).Flush()
		select {
		case <-read:
		case <-time.After(time.Minute):
			t.Error("the client got nothing before the end")
		}
		_, _ = io.WriteString(w, "end")
	})))
	get := "GET " + path(s.one) + "/" + url.QueryEscape(encode(requestFor(t, s.one, crypto.SHA1, nil, s.closed.serial(1)))) + " HTTP/1.1\r\nHost: x\r\n\r\n"
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, get+"GET /crl/x HTTP/1.1\r\nHost: pki.example\r\nIf-None-Match: \"tag\"\r\n\r\n"+get); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	for i, want := range []string{"application/ocsp-response", "text/plain; charset=utf-8", "application/ocsp-response"} {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := response.Header.Get("Content-Type"); response.StatusCode != 200 || got != want {
			t.Errorf("%d: %s, %s", i, response.Status, got)
		}
		if i == 1 {
			if _, err := io.ReadFull(response.Body, make([]byte, 6)); err != nil {
				t.Fatal(err)
			}
			close(read)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"POST /crl/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", "GET /crl/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, get+text); err != nil {
			t.Fatal(err)
		}
		reader := bufio.NewReader(conn)
		for _, want := range []int{200, http.StatusMethodNotAllowed} {
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != want {
				t.Errorf("%.10q: %s, %v; want %d", text, response.Status, err, want)
			}
		}
	}
}

func writeCertificate(t *testing.T, dir, name string, cert *x509.Certificate) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestInteropOpenSSL runs `openssl ocsp` against a listener, with and without a nonce, and by GET what it wrote.
func TestInteropOpenSSL(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), func(_ *ocspserver.Config, issuers []ocspserver.Issuer) {
		for i := range issuers {
			issuers[i].Nonce = ocspserver.NonceLive
		}
	})
	base := startServer(t, ocspserver.NewServer(&ocspserver.Handler{Responder: s.responder}, http.NotFoundHandler()))
	good, bad, forged := s.closed.serial(1), s.closed.serial(2), s.one.span(1, 2).serial(1)
	s.revoke(t, s.one.id, bad, pki.Superseded)
	dir := t.TempDir()
	ca := writeCertificate(t, dir, "ca.pem", s.one.cert)
	openssl := func(args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, "openssl", append([]string{"ocsp", "-CAfile", ca, "-issuer", ca, "-no_certs"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl ocsp %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	address := base + path(s.one)
	for _, c := range []struct {
		serial pki.Serial
		want   []string
	}{
		{good, []string{"good.pem: good"}},
		{bad, []string{"good.pem: revoked", "Reason: superseded"}},
		{forged, []string{"good.pem: revoked", "Reason: certificateHold", "Revocation Time: Jan  1 00:00:00 1970 GMT"}},
	} {
		leaf := writeCertificate(t, dir, "good.pem", s.one.leaf(t, c.serial))
		for _, mode := range [][]string{{"-no_nonce", "-sha1"}, {"-no_nonce", "-sha256"}, {"-nonce", "-sha256"}} {
			out := openssl(append(mode, "-cert", leaf, "-url", address)...)
			for _, want := range append(c.want, "Response verify OK") {
				if !strings.Contains(out, want) {
					t.Errorf("%v: OpenSSL does not print %q:\n%s", mode, want, out)
				}
			}
			if strings.Contains(out, "WARNING") || strings.Contains(out, "Nonce Verify error") {
				t.Errorf("%v: OpenSSL complains:\n%s", mode, out)
			}
		}
		written, answer := filepath.Join(dir, "request.der"), filepath.Join(dir, "answer.der")
		openssl("-no_nonce", "-cert", leaf, "-reqout", written)
		der, err := os.ReadFile(written)
		if err != nil {
			t.Fatal(err)
		}
		get, _ := ocsp.URL(address, der)
		if _, body := do(t, "GET", get, nil); os.WriteFile(answer, body, 0o600) != nil {
			t.Fatal("cannot write the answer")
		}
		if out := openssl("-cert", leaf, "-respin", answer); !strings.Contains(out, c.want[0]) || !strings.Contains(out, "Response verify OK") {
			t.Errorf("OpenSSL on the answer to GET:\n%s", out)
		}
	}
}

// TestInteropGnuTLS has ocsptool ask over HTTP, with and without a nonce, and judge the answer.
func TestInteropGnuTLS(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), func(_ *ocspserver.Config, issuers []ocspserver.Issuer) { issuers[0].Nonce = ocspserver.NonceLive })
	base := startServer(t, ocspserver.NewServer(&ocspserver.Handler{Responder: s.responder}, http.NotFoundHandler()))
	good, bad := s.closed.serial(1), s.closed.serial(2)
	s.revoke(t, s.one.id, bad, pki.KeyCompromise)
	dir := t.TempDir()
	ca := writeCertificate(t, dir, "ca.pem", s.one.cert)
	for _, c := range []struct {
		serial pki.Serial
		want   []string
	}{{good, []string{"Certificate Status: good"}}, {bad, []string{"Certificate Status: revoked"}}} {
		leaf := writeCertificate(t, dir, "leaf.pem", s.one.leaf(t, c.serial))
		for _, nonce := range []string{"--nonce", "--no-nonce"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, "ocsptool", "--ask="+base+path(s.one), nonce, "--load-issuer", ca, "--load-cert", leaf).CombinedOutput()
			if err != nil {
				t.Errorf("ocsptool %s: %v", nonce, err)
			}
			for _, want := range append(c.want, "Success") {
				if !strings.Contains(string(out), want) {
					t.Errorf("ocsptool %s does not print %q:\n%s", nonce, want, out)
				}
			}
		}
	}
}
