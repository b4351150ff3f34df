package handshake_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/handshaketest"
)

// Revocation checking for a stock http.Client: the only line that is not net/http's own is the one that makes the
// transport.
func ExampleChecker_Transport() {
	web := newExample("root -> issuing -> shop; issuing -> stolen revoked")
	defer web.close()

	checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail, Fetcher: web.fetcher})
	if err != nil {
		fmt.Println(err)
		return
	}
	transport, err := checker.Transport(&tls.Config{RootCAs: web.roots})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: transport}

	response, err := client.Get(web.site("shop"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(response.Status)
	response.Body.Close()

	_, err = client.Get(web.site("stolen"))
	if revoked, ok := errors.AsType[*handshake.RevokedError](err); ok {
		fmt.Println("refused:", revoked.Evidence.Reason)
	}
	// Output:
	// 200 OK
	// refused: keyCompromise
}

// Everything that takes a tls.Config takes a wrapped one: drivers, SMTP clients, tls.Dial.
func ExampleChecker_WrapClient() {
	web := newExample("root -> issuing -> shop; issuing -> stolen revoked")
	defer web.close()

	checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail, Fetcher: web.fetcher})
	if err != nil {
		fmt.Println(err)
		return
	}
	config, err := checker.WrapClient(&tls.Config{RootCAs: web.roots})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"shop", "stolen"} {
		conn, err := tls.Dial("tcp", web.address(name), config)
		_, revoked := errors.AsType[*handshake.RevokedError](err)
		fmt.Println(name, "connected:", err == nil, "revoked:", revoked)
		if err == nil {
			conn.Close()
		}
	}
	// Output:
	// shop connected: true revoked: false
	// stolen connected: false revoked: true
}

// A server with a configuration for each client: what GetConfigForClient returns is wrapped too.
func ExampleChecker_WrapServer() {
	web := newExample("root -> issuing -> server; issuing -> alice; issuing -> mallory revoked")
	defer web.close()

	checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail, Fetcher: web.fetcher})
	if err != nil {
		fmt.Println(err)
		return
	}
	forEach := &tls.Config{Certificates: []tls.Certificate{web.certificate("server")}, ClientCAs: web.roots, ClientAuth: tls.RequireAndVerifyClientCert}
	config, err := checker.WrapServer(&tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return forEach, nil }})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS, server.Config.ErrorLog = config, quiet
	server.StartTLS()
	defer server.Close()

	for _, name := range []string{"alice", "mallory"} {
		_, err := web.clientWith(name).Get(server.URL)
		fmt.Println(name, "is refused:", err != nil)
	}
	// Output:
	// alice is refused: false
	// mallory is refused: true
}

// Without a connection: a chain, leaf first, and a staple if there is one.
func ExampleChecker_Check() {
	web := newExample("root -> issuing noaia -> shop noaia; issuing -> stolen noaia revoked")
	defer web.close()

	checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail, Fetcher: web.fetcher})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"shop", "stolen"} {
		result, err := checker.Check(context.Background(), web.Cert(name).Chain(), nil)
		fmt.Println(name, "may be used:", err == nil)
		for _, certificate := range result.Certificates {
			fmt.Println(certificate.Certificate.Subject.CommonName, "is", certificate.Status, "says", certificate.Decisive.Source)
		}
	}
	// Output:
	// shop may be used: true
	// shop is good says crl
	// issuing is good says crl
	// stolen may be used: false
	// stolen is revoked says crl
	// issuing is good says crl
}

// The Result says of every certificate which source said what.
func ExampleDialer() {
	web := newExample("root -> issuing -> shop")
	defer web.close()

	checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail, Fetcher: web.fetcher})
	if err != nil {
		fmt.Println(err)
		return
	}
	dialer := &handshake.Dialer{Checker: checker, TLS: &tls.Config{RootCAs: web.roots}}
	conn, result, err := dialer.DialResult(context.Background(), "tcp", web.address("shop"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	fmt.Println(result.Decision())
	for _, certificate := range result.Certificates {
		fmt.Println(certificate.Certificate.Subject.CommonName, certificate.Status)
	}
	// Output:
	// accepted
	// shop good
	// issuing good
}

// A server that refuses clients whose certificate is revoked, and drops those whose certificate becomes revoked while
// they are connected.
func ExampleChecker_NewListener() {
	web := newExample("root -> issuing -> server; issuing -> alice; issuing -> mallory revoked")
	defer web.close()

	checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail, Fetcher: web.fetcher})
	if err != nil {
		fmt.Println(err)
		return
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := checker.NewListener(inner, &tls.Config{
		Certificates: []tls.Certificate{web.certificate("server")}, ClientCAs: web.roots, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s", r.TLS.PeerCertificates[0].Subject.CommonName)
	}), ErrorLog: quiet}
	go server.Serve(listener)
	defer server.Close()

	for _, name := range []string{"alice", "mallory"} {
		client := web.clientWith(name)
		response, err := client.Get("https://" + inner.Addr().String())
		if err != nil {
			fmt.Println(name, "is refused")
			continue
		}
		io.Copy(os.Stdout, response.Body)
		fmt.Println()
		response.Body.Close()
	}
	// Output:
	// hello alice
	// mallory is refused
}

// A server that staples: in a real one, Run runs in a goroutine of its own.
func ExampleStapler() {
	web := newExample("root -> issuing -> shop")
	defer web.close()

	stapler, err := handshake.NewStapler(handshake.StaplerConfig{
		Certificate: web.certificate("shop"),
		Fetcher:     web.fetcher,
		Observe: func(event handshake.StapleEvent) {
			if event.Kind == handshake.StapleFresh {
				fmt.Println("stapled:", event.Evidence.Status)
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	stapler.Refresh(context.Background()) // Run does this, again and again

	config := stapler.Configure(&tls.Config{}) // for http.Server.TLSConfig or tls.NewListener
	certificate, err := config.GetCertificate(&tls.ClientHelloInfo{})
	fmt.Println(len(certificate.OCSPStaple) > 0, err)
	// Output:
	// stapled: good
	// true <nil>
}

// A person, or a program, may have the last word. A revoked certificate needs another word than anything else.
func ExampleOverride() {
	web := newExample("root -> issuing -> silent noaia nocdp; issuing -> stolen revoked")
	defer web.close()

	checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail, Fetcher: web.fetcher, Override: func(r *handshake.Result) handshake.Answer {
		return handshake.OverrideAccept // whatever it is
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"silent", "stolen"} {
		conn, result, err := (&handshake.Dialer{Checker: checker, TLS: &tls.Config{RootCAs: web.roots}}).DialResult(context.Background(), "tcp", web.address(name))
		fmt.Println(name, result.Decision(), err != nil)
		if err == nil {
			conn.Close()
		}
	}
	// Output:
	// silent accepted-overridden false
	// stolen refused true
}

// quietTB lets examples use the test infrastructure: they have no testing.TB.
type quietTB struct{ cleanups []func() }

func (q *quietTB) Helper()                   {}
func (q *quietTB) Cleanup(f func())          { q.cleanups = append(q.cleanups, f) }
func (q *quietTB) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (q *quietTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// example is a small web for examples: authorities, sites and what a client needs to know of them.
type example struct {
	*handshaketest.PKI
	tb      *quietTB
	roots   *x509.CertPool
	fetcher *fetch.Fetcher
}

func newExample(drawing string) *example {
	tb := &quietTB{}
	p := handshaketest.New(tb, drawing)
	return &example{PKI: p, tb: tb, roots: p.Cert("root").Pool(), fetcher: p.Config().Fetcher}
}

func (e *example) close() {
	for i := range e.tb.cleanups {
		e.tb.cleanups[len(e.tb.cleanups)-1-i]()
	}
}

func (e *example) certificate(name string) tls.Certificate { return e.Cert(name).TLS(nil) }

func (e *example) address(name string) string { return e.Listen(e.ServerConfig(e.Cert(name), nil)) }

// site serves HTTP with a certificate and returns its URL.
func (e *example) site(name string) string {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = e.ServerConfig(e.Cert(name), nil)
	server.Config.ErrorLog = quiet
	server.StartTLS()
	e.tb.Cleanup(server.Close)
	return server.URL
}

// clientWith is a client that shows a certificate.
func (e *example) clientWith(name string) *http.Client {
	config := e.ClientConfig(e.Cert(name))
	config.Certificates = []tls.Certificate{e.certificate(name)}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
}

// quiet drops what servers log of handshakes that are refused on purpose.
var quiet = log.New(io.Discard, "", 0)

// A server whose handlers see what was found out of the client of their connection. The Guard under each connection knows it, and
// cuts the connection when the client's certificate becomes revoked, as long as Run runs.
func ExampleGuard() {
	type resultKey struct{}
	server := &http.Server{
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			guard := conn.(*tls.Conn).NetConn().(*handshake.Guard) // of Checker.NewListener
			return context.WithValue(ctx, resultKey{}, guard.Result)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			result := r.Context().Value(resultKey{}).(func() *handshake.Result)()
			fmt.Fprintln(w, "you are", result.Chain[0].Subject.CommonName+":", result.Decision())
		}),
	}
	fmt.Println(get(server))
	// Output: you are client: accepted
}

// get serves one request of a client with a certificate.
func get(server *http.Server) string {
	p, err := handshaketest.Open("root -> server; root -> client")
	if err != nil {
		return err.Error()
	}
	defer p.Close()
	checker := p.Checker(nil)
	config := p.ServerConfig(p.Cert("server"), nil)
	config.ClientCAs, config.ClientAuth = p.Cert("server").Pool(), tls.RequireAndVerifyClientCert
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err.Error()
	}
	listener, err := checker.NewListener(inner, config)
	if err != nil {
		return err.Error()
	}
	go server.Serve(listener)
	defer server.Close()
	client := p.ClientConfig(p.Cert("server"))
	client.Certificates = []tls.Certificate{p.Cert("client").TLS(nil)}
	response, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: client}}).Get("https://" + inner.Addr().String())
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}
