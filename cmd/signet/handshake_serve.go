package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/handshake/wire"
	"signet.example/signet/handshake/wire/protocol"
	"signet.example/signet/pki"
)

// maxVisitors is the largest number of connections served at once.
const maxVisitors = 256

type handshakeServeCmd struct {
	Address    string   `arg:"" optional:"" default:"127.0.0.1:4433" help:"Where to listen."`
	Cert       string   `placeholder:"FILE" help:"The server's certificate and its chain. Without it, --misbehave creates an authority of its own."`
	Key        string   `placeholder:"FILE" help:"Its key."`
	ClientCA   []string `name:"client-ca" sep:"none" placeholder:"FILE|DIR" help:"Ask clients for a certificate of these authorities (mutual TLS)."`
	Optional   bool     `help:"With --client-ca: also accept clients without a certificate."`
	Staple     bool     `negatable:"" default:"true" help:"Fetch and staple the OCSP response, if the certificate names a responder."`
	TLS12RSA   bool     `name:"tls1.2-rsa" help:"Speak the classical exchange only: TLS 1.2, RSA key transport. No forward secrecy."`
	MaxVersion string   `name:"max-version" enum:"1.2,1.3" default:"1.3" help:"Newest version to speak: 1.2 or 1.3."`
	Misbehave  string   `placeholder:"FAULT" help:"Misbehave on purpose, on the wire or in what the authority says; list shows all faults."`
	RootFile   string   `name:"root-file" default:"hostile-root.pem" placeholder:"FILE" help:"File for the root of --misbehave's own authority, for clients to trust."`
	Count      int      `placeholder:"N" help:"End after this many connections."`
	Trace      string   `enum:"text,json,none," default:"" placeholder:"FORMAT" help:"How to show the steps of each connection: text, json or none (default: as --output)."`
	trustFlags
}

func (handshakeServeCmd) Help() string {
	return `Each client gets a page with its identity, as far as it was proved, and what was negotiated; with Accept: application/json the
same for programs. Client certificates are checked as connect checks those of servers, revocation included. A --crl file whose
issuer is neither in --client-ca nor in the --cert file is refused, since it would have no effect; so are --crl, --ocsp,
--policy and --optional without --client-ca.

Examples:
  signet handshake serve --cert app.pem --key app.key
  signet handshake serve 127.0.0.1:8444 --cert app.pem --key app.key --client-ca root.pem --policy hard
  signet handshake serve --cert app.pem --key app.key --misbehave flip
  signet handshake serve --misbehave list
  signet handshake serve --misbehave revoked-with-an-old-good-staple`
}

// Run serves until it is told to stop, or for the requested number of connections.
func (c *handshakeServeCmd) Run(a *app) error {
	if c.Misbehave == listFaults {
		return c.showFaults(a)
	}
	h, err := c.prepare(a)
	if err != nil {
		return ownFault(err)
	}
	defer h.close()
	listener, err := net.Listen("tcp", c.Address)
	if err != nil {
		return ownFault(pki.Errorf(pki.KindUnavailable, "listen", "%w", err).WithHint("choose another address, such as 127.0.0.1:0"))
	}
	h.ready(listener.Addr().String())
	if err := h.serve(a.ctx, listener); err != nil {
		return ownFault(err)
	}
	return nil
}

// host is a running server.
type host struct {
	*handshakeServeCmd
	app     *app
	tell    *narrator
	config  *tls.Config
	fault   fault
	checker *handshake.Checker // nil without client certificates
	stapler *handshake.Stapler // nil if nothing is stapled
	names   []string           // the names in the certificate from files

	sessions  wire.Sessions
	authority *handshaketest.PKI // nil with certificates from files
	turned    sync.Once          // the fault has shown its second state

	out   sync.Mutex // one connection's steps at a time
	count int        // number of connections; guarded by out
}

func (c *handshakeServeCmd) prepare(a *app) (*host, error) {
	h := &host{handshakeServeCmd: c, app: a, tell: a.narrator(c.Trace)}
	var err error
	if h.fault, err = findFault(c.Misbehave); err != nil {
		return nil, err
	}
	h.config = &tls.Config{NextProtos: []string{"http/1.1"}}
	if err := h.certify(); err != nil {
		return nil, err
	}
	if c.MaxVersion == "1.2" {
		h.config.MaxVersion = tls.VersionTLS12
	}
	if c.TLS12RSA {
		h.config = wire.Classical(h.config)
	}
	if err := h.askClients(); err != nil {
		return nil, err
	}
	if err := h.keepStaple(); err != nil {
		return nil, err
	}
	h.config = h.fault.how.Spoil(h.config)
	return h, h.keepTicketKey()
}

// certify reads the certificate, or makes one with the CA of the fault.
func (h *host) certify() (err error) {
	const op = "serve"
	switch {
	case h.Cert == "" && h.Key == "" && h.fault.Name != "":
		return h.stage(h.fault)
	case h.Cert == "" || h.Key == "":
		return pki.Errorf(pki.KindInvalid, op, "a server needs a certificate and its key").
			WithHint("give --cert and --key, or a fault with --misbehave")
	case h.fault.peer != nil:
		return pki.Errorf(pki.KindInvalid, op, "the fault %s lies in certificates and what their authority says of them", h.fault.Name).
			WithHint("leave out --cert and --key: it comes with an authority of its own")
	}
	if h.config.Certificates, err = h.app.readPair(h.Cert, h.Key); err != nil {
		return err
	}
	leaf := h.config.Certificates[0].Leaf
	h.names = slices.DeleteFunc(slices.Clone(leaf.DNSNames), func(name string) bool { return strings.HasPrefix(name, "*") })
	for _, ip := range leaf.IPAddresses {
		h.names = append(h.names, ip.String())
	}
	return nil
}

// close stops the CA of a fault.
func (h *host) close() {
	if h.authority != nil {
		h.authority.Close()
	}
}

// keepTicketKey gives all connections the same key for session tickets: each has a configuration of its own, and
// crypto/tls would make a key for each. A Stapler has keys already, which it changes when the certificate is revoked.
func (h *host) keepTicketKey() error {
	if h.stapler != nil {
		return nil
	}
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return err
	}
	h.config.SetSessionTicketKeys([][32]byte{key})
	return nil
}

// clientFlags returns an error if a flag says how to check the certificates of clients, and none is asked for: the flag
// would have no effect.
func (c *handshakeServeCmd) clientFlags() error {
	for _, flag := range []struct {
		name  string
		given bool
	}{{"--crl", len(c.CRL) > 0}, {"--ocsp", len(c.OCSP) > 0}, {"--policy", c.Policy != defaultPolicy}, {"--optional", c.Optional}} {
		if flag.given {
			return pki.Errorf(pki.KindInvalid, "serve", "%s is about the certificates of clients, and none is asked for", flag.name).
				WithHint("add --client-ca FILE, or leave out %s", flag.name)
		}
	}
	return nil
}

// askClients sets up mutual TLS.
func (h *host) askClients() error {
	if len(h.ClientCA) == 0 {
		return h.clientFlags()
	}
	pool, cas, err := handshake.LoadRoots(h.ClientCA...)
	if err != nil {
		return err
	}
	h.config.ClientCAs, h.config.ClientAuth = pool, tls.RequireAndVerifyClientCert
	if h.Optional {
		h.config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	issuers := slices.Clone(cas)
	// A client may have the server's own issuer. Being among issuers does not make it trusted.
	for _, der := range h.config.Certificates[0].Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			issuers = append(issuers, c)
		}
	}
	if err := h.trustFlags.strangersList(issuers); err != nil {
		return err
	}
	settings, err := h.trustFlags.config(issuers)
	if err != nil {
		return err
	}
	if h.checker, err = handshake.New(settings); err != nil {
		return err
	}
	_, err = h.checker.WrapServer(h.config)
	return err
}

// keepStaple fetches and staples the certificate's OCSP response.
func (h *host) keepStaple() error {
	pair := h.config.Certificates[0]
	if h.fault.Name != "" || !h.Staple || len(pair.Leaf.OCSPServer) == 0 || len(pair.Certificate) < 2 {
		return nil
	}
	settings, err := h.trustFlags.config(nil)
	if err != nil {
		return err
	}
	h.stapler, err = handshake.NewStapler(handshake.StaplerConfig{Certificate: pair, Fetcher: settings.Fetcher, Observe: func(e handshake.StapleEvent) {
		if e.Err != nil {
			h.app.note("staple: %v", e.Err)
			if _, ok := errors.AsType[*fetch.AddressError](e.Err); ok {
				h.app.note("  next: %s", nextForPrivate)
			}
		}
	}})
	if err != nil {
		return err
	}
	h.config = h.stapler.Configure(h.config)
	return nil
}

func (h *host) ready(address string) {
	if h.tell.format == "json" {
		h.tell.object(map[string]string{"listening": address})
		return
	}
	fmt.Fprintf(h.app.out, "listening on https://%s\n", address)
	host, _, _ := net.SplitHostPort(address) // of a listener
	next := "connect " + address + " --roots ROOT.pem --get /"
	if len(h.names) > 0 && !slices.Contains(h.names, host) {
		next += " --servername " + quoted(h.names[0])
	}
	if h.AllowPrivate {
		next += " --allow-private"
	}
	if h.fault.Name != "" {
		fmt.Fprintf(h.app.out, "misbehaving: %s\n  %s\n  A good client must: %s\n", h.fault.Name, h.fault.Does, h.fault.Answer)
	}
	if h.authority != nil {
		next = "connect " + address + " --roots " + h.RootFile + " --servername localhost --policy hard --allow 127.0.0.0/8"
		if h.fault.peer != nil && h.fault.peer.Turn != nil {
			next += " --cache CACHE"
		}
	}
	fmt.Fprintf(h.app.out, "next: signet handshake %s\n\n", next)
}

// serve accepts connections and passes those whose handshake succeeds to an HTTP server.
func (h *host) serve(ctx context.Context, listener net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if h.stapler != nil {
		h.stapler.Refresh(ctx)
		go h.stapler.Run(ctx)
	}
	if h.checker != nil {
		go h.checker.Run(ctx) // closes connections of clients that become revoked
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	arrived := &arrivals{address: listener.Addr(), conns: make(chan net.Conn), done: ctx.Done()}
	page := &http.Server{Handler: http.HandlerFunc(h.page), ConnContext: withVisitor, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	page.SetKeepAlivesEnabled(false) // one page per connection, so that its steps end
	ended := make(chan error, 1)
	go func() { ended <- page.Serve(arrived) }()
	err := h.accept(ctx, listener, arrived)
	stop()
	page.Close()
	<-ended
	return err
}

// accept runs until the listener is closed, or the requested number of connections has ended.
func (h *host) accept(ctx context.Context, listener net.Listener, arrived *arrivals) error {
	var visitors sync.WaitGroup
	defer visitors.Wait()
	places := make(chan struct{}, maxVisitors)
	for n := 0; h.Count == 0 || n < h.Count; n++ {
		raw, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return pki.Errorf(pki.KindUnavailable, "accept", "%w", err)
		}
		places <- struct{}{}
		visitors.Go(func() {
			defer func() { <-places }()
			h.visit(ctx, raw, arrived)
		})
	}
	return nil
}

// visitor is one connection and its state.
type visitor struct {
	*tls.Conn
	from   string
	result *handshake.Result // of the client's certificate; nil if it presented none

	mu    sync.Mutex
	steps []wire.Step // guarded by mu
	ended chan struct{}
	once  sync.Once
}

// Close closes the connection, which shows its last steps.
func (v *visitor) Close() error {
	err := v.Conn.Close()
	v.once.Do(func() { close(v.ended) })
	return err
}

// visit performs a handshake, lets the page be served, and shows the steps at the end.
func (h *host) visit(ctx context.Context, raw net.Conn, arrived *arrivals) {
	defer raw.Close()
	v := &visitor{from: raw.RemoteAddr().String(), ended: make(chan struct{})}
	tap := wire.NewTap(h.fault.how.Wrap(raw), wire.Config{Role: wire.Server, Sessions: &h.sessions, Step: func(s wire.Step) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.steps = append(v.steps, s)
	}})
	defer h.report(v)
	defer tap.Close()
	guard := handshake.NewGuard(tap)
	config, err := h.judged(v, guard, tap)
	if err != nil {
		return // prepare has wrapped the same configuration
	}
	v.Conn = tls.Server(guard, config)
	deadline, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = v.Conn.HandshakeContext(deadline)
	tap.Done(err)
	if err != nil {
		return
	}
	h.turn()
	if !arrived.hand(v) {
		return
	}
	select {
	case <-v.ended:
	case <-ctx.Done():
	}
}

// judged returns the configuration of one connection. Its Tap gets what the checker finds out about the client.
func (h *host) judged(v *visitor, guard *handshake.Guard, tap *wire.Tap) (*tls.Config, error) {
	config := tap.Watch(h.config)
	if h.checker == nil {
		return config, nil
	}
	config, err := h.checker.WrapServer(config)
	if err != nil {
		return nil, err
	}
	choose := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen, err := choose(hello)
		if err != nil {
			return nil, err
		}
		verify := chosen.VerifyConnection
		chosen.VerifyConnection = func(state tls.ConnectionState) error {
			err := verify(state)
			if v.result = guard.Result(); v.result != nil {
				tap.Judged(trustOf(v.result))
				tap.Checked(revocationOf(v.result, h.Policy))
			}
			return err
		}
		return chosen, nil
	}
	return config, nil
}

// report shows the steps of a connection that has ended.
func (h *host) report(v *visitor) {
	h.out.Lock()
	defer h.out.Unlock()
	h.count++
	v.mu.Lock()
	defer v.mu.Unlock()
	switch h.tell.format {
	case "text":
		fmt.Fprintf(h.app.out, "connection %d from %s\n\n", h.count, v.from)
		for _, s := range v.steps {
			h.tell.step(s)
		}
	case "json":
		for _, s := range v.steps {
			h.tell.object(struct {
				Connection int    `json:"connection"`
				From       string `json:"from"`
				wire.Step
			}{h.count, v.from, s})
		}
	}
}

// arrivals is the listener of the HTTP server. It returns connections after the handshake.
type arrivals struct {
	address net.Addr
	conns   chan net.Conn
	done    <-chan struct{}
}

// hand passes a connection to the HTTP server; false if the server has stopped.
func (l *arrivals) hand(conn net.Conn) bool {
	select {
	case l.conns <- conn:
		return true
	case <-l.done:
		return false
	}
}

// Accept is net.Listener's.
func (l *arrivals) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener's; the real listener is closed by its owner.
func (l *arrivals) Close() error { return nil }

// Addr is net.Listener's.
func (l *arrivals) Addr() net.Addr { return l.address }

type visitorKey struct{}

func withVisitor(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, visitorKey{}, conn)
}

// greeting is the page: the client, and what was negotiated.
type greeting struct {
	You struct {
		Address     string         `json:"address"`
		Certificate string         `json:"certificate,omitempty"` // its subject
		Names       []string       `json:"names,omitempty"`
		Status      map[string]any `json:"status,omitempty"`
	} `json:"you"`
	Version  string      `json:"version"`
	Suite    string      `json:"cipher_suite"`
	Group    string      `json:"group,omitempty"`
	Protocol string      `json:"protocol,omitempty"`
	Asked    string      `json:"server_name,omitempty"`
	Resumed  bool        `json:"resumed"`
	Steps    []wire.Step `json:"steps"`
}

func (v *visitor) greeting() greeting {
	state := v.ConnectionState()
	g := greeting{Version: tls.VersionName(state.Version), Suite: tls.CipherSuiteName(state.CipherSuite), Protocol: state.NegotiatedProtocol,
		Asked: state.ServerName, Resumed: state.DidResume}
	if state.CurveID != 0 {
		g.Group = protocol.Group(state.CurveID).String()
	}
	g.You.Address = v.from
	if len(state.PeerCertificates) > 0 {
		g.You.Certificate, g.You.Names = wire.NameOf(state.PeerCertificates[0]), wire.NamesOf(state.PeerCertificates[0])
	}
	if v.result != nil {
		g.You.Status = map[string]any{"decision": v.result.Decision().String()}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	g.Steps = slices.Clone(v.steps)
	return g
}

// page answers every request with who connected.
func (h *host) page(w http.ResponseWriter, r *http.Request) {
	v, ok := r.Context().Value(visitorKey{}).(*visitor)
	if !ok {
		http.Error(w, "who are you?", http.StatusInternalServerError)
		return
	}
	g := v.greeting()
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(g) // the client may have disconnected
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	var text bytes.Buffer
	p := &printer{w: &text}
	p.line("You are %s.", g.You.Address)
	who := "You showed no certificate."
	if g.You.Certificate != "" {
		who = "Your certificate says that you are " + g.You.Certificate + "."
	}
	p.line("%s", who)
	p.line("")
	p.fields("version", g.Version, "cipher suite", g.Suite, "group", g.Group, "protocol", g.Protocol, "server name", g.Asked)
	p.line("")
	p.line("With Accept: application/json this page tells every step of the handshake.")
	w.Header().Set("Content-Length", strconv.Itoa(text.Len()))
	_, _ = w.Write(text.Bytes())
}
