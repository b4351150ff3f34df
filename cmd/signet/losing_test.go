package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// losing NAME PORT CERT KEY ROOT sets a variable to the port of a proxy for the API at a port. The proxy cuts the
// connection when that has answered a request for a certificate, in full, and lets the answer to the next one through;
// then it begins again.
func losing(ts *testscript.TestScript, neg bool, args []string) {
	own, err := tls.LoadX509KeyPair(ts.MkAbs(args[2]), ts.MkAbs(args[3]))
	ts.Check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ts.ReadFile(args[4])))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	type connection struct{}
	var asked atomic.Int64
	lost := errors.New("lost")
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: "127.0.0.1:" + args[1]})
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}, ForceAttemptHTTP2: true}
	proxy.FlushInterval = -1
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.ModifyResponse = func(r *http.Response) error {
		if !strings.HasSuffix(r.Request.URL.Path, "/IssueCertificate") || asked.Add(1)%2 == 0 {
			return nil
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil { // until the server has said how it ended
			return err
		}
		return lost
	}
	proxy.ErrorHandler = func(_ http.ResponseWriter, r *http.Request, _ error) {
		r.Context().Value(connection{}).(net.Conn).Close()
	}
	server := &http.Server{Handler: proxy, TLSConfig: &tls.Config{Certificates: []tls.Certificate{own}}, ErrorLog: proxy.ErrorLog,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connection{}, c) }}
	go server.ServeTLS(listener, "", "")
	ts.Defer(func() { server.Close() })
	_, port, err := net.SplitHostPort(listener.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
}
