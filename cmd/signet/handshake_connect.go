package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/wire"
	"signet.example/signet/handshake/wire/protocol"
	"signet.example/signet/handshake/wire/starttls"
	"signet.example/signet/pki"
)

// maxAnswer is how much of a server's answer is read, in octets.
const maxAnswer = 1 << 20

type handshakeConnectCmd struct {
	Server      string        `arg:"" name:"host:port" help:"The server to connect to; the port may be left out."`
	Roots       []string      `sep:"none" placeholder:"FILE|DIR|system" help:"Trusted certificates (default: system)."`
	ServerName  string        `name:"servername" placeholder:"NAME" help:"Demand this name (default: the host)."`
	Pin         []string      `sep:"none" placeholder:"FILE" help:"Demand that the chain leads through this issuer."`
	Cert        string        `placeholder:"FILE" help:"The client's certificate and its chain, for mutual TLS."`
	Key         string        `placeholder:"FILE" help:"Its key."`
	StartTLS    string        `name:"starttls" enum:"smtp,imap,pop3,ftp,ldap,postgres," default:"" placeholder:"PROTOCOL" help:"Begin in plain text: smtp, imap, pop3, ftp, ldap or postgres."`
	TLS12RSA    bool          `name:"tls1.2-rsa" help:"The classical exchange: TLS 1.2, the secret encrypted to the server's RSA key. No forward secrecy."`
	MaxVersion  string        `name:"max-version" enum:"1.2,1.3" default:"1.3" help:"Newest version to offer: 1.2 or 1.3."`
	ALPN        []string      `name:"alpn" placeholder:"PROTOCOL" help:"Application protocols to offer, such as h2,http/1.1."`
	Data        string        `placeholder:"TEXT" help:"Send this; - is standard input. \\n and \\r are understood."`
	Get         string        `placeholder:"PATH" help:"Ask for this page (HTTP/1.1)."`
	Again       bool          `help:"Connect a second time and resume the session of the first."`
	Interactive bool          `short:"i" help:"Connect standard input and output to the server."`
	Trace       string        `enum:"text,json,none," default:"" placeholder:"FORMAT" help:"How to show the steps: text, json or none (default: as --output)."`
	Timeout     time.Duration `default:"10s" help:"Time for connecting and for the handshake."`
	Wait        time.Duration `default:"1s" help:"How long to wait for more from a server that is quiet."`
	trustFlags
}

func (handshakeConnectCmd) Help() string {
	return `Every step is shown as it happens. The exit status is 0 if both sides accepted, 1 if one refused, 2 if the command itself
failed. At a terminal you are asked whether to continue with a server that is not trusted, or whose status is not known, but
never with one that is revoked.

Examples:
  signet handshake connect www.example.com --get /
  signet handshake connect app.example:8443 --roots root.pem --policy hard --cert me.pem --key me.key
  signet handshake connect mail.example:25 --starttls smtp
  signet handshake connect old.example --tls1.2-rsa
  signet handshake connect app.example --trace json | jq -r .title`
}

// Run makes one connection.
func (c *handshakeConnectCmd) Run(a *app) error {
	call, err := c.prepare(a)
	if err != nil {
		return ownFault(err)
	}
	decision, err := call.run(a.ctx)
	if err == nil && c.Again {
		call.again()
		decision, err = call.run(a.ctx)
	}
	if err == nil {
		return call.accepted(decision)
	}
	if _, ours := errors.AsType[ending](err); ours {
		return err
	}
	return call.refused(err)
}

// call is one connection and its state.
type call struct {
	*handshakeConnectCmd
	app     *app
	tell    *narrator
	address string
	config  *tls.Config
	pins    []*x509.Certificate
	roots   []*x509.Certificate

	sessions wire.Sessions // so that sessions resumed by --again can be decrypted

	tap    *wire.Tap
	state  tls.ConnectionState
	result *handshake.Result // of the checker; nil if it was not reached
	told   bool              // steps 4 and 5 were shown
	asked  bool              // the server asked for a client certificate
}

func (c *handshakeConnectCmd) prepare(a *app) (*call, error) {
	l := &call{handshakeConnectCmd: c, app: a, tell: a.narrator(c.Trace)}
	host, address, err := splitServer(c.Server, c.StartTLS)
	if err != nil {
		return nil, err
	}
	l.address = address
	l.config = &tls.Config{ServerName: host, NextProtos: c.ALPN}
	if c.ServerName != "" {
		l.config.ServerName = c.ServerName
	}
	if l.config.RootCAs, l.roots, err = handshake.LoadRoots(c.Roots...); err != nil {
		return nil, err
	}
	for _, file := range c.Pin {
		pins, err := l.app.readCertificates(file)
		if err != nil {
			return nil, err
		}
		l.pins = append(l.pins, pins...)
	}
	if l.config.Certificates, err = l.app.readPair(c.Cert, c.Key); err != nil {
		return nil, err
	}
	if c.MaxVersion == "1.2" {
		l.config.MaxVersion = tls.VersionTLS12
	}
	if c.TLS12RSA {
		l.config = wire.Classical(l.config)
	}
	if c.Again {
		l.config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	if _, err := c.trustFlags.config(nil); err != nil { // errors in the flags show before anything connects
		return nil, err
	}
	return l, nil
}

// run connects, talks and closes. The error is an ownFault unless one side refused.
func (l *call) run(ctx context.Context) (decision string, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", l.address)
	if err != nil {
		return "", ownFault(pki.Errorf(pki.KindUnavailable, "connect", "%w", err).
			WithHint("check that %s can be reached from here", l.address))
	}
	defer raw.Close()
	if l.StartTLS != "" {
		if err := l.startTLS(ctx, raw); err != nil {
			return "", err
		}
	}
	l.tap = wire.NewTap(raw, wire.Config{Step: l.step, Sessions: &l.sessions})
	defer l.tap.Close()
	conn := tls.Client(l.tap, l.tap.Watch(l.judged()))
	err = conn.HandshakeContext(ctx)
	l.tap.Done(err)
	if err != nil {
		return "", l.blame(err)
	}
	l.state = conn.ConnectionState()
	if l.result != nil {
		decision = l.result.Decision().String()
	}
	if err := l.talk(conn); err != nil {
		return "", l.blame(err)
	}
	l.end(conn)
	return decision, nil
}

func (l *call) step(s wire.Step) {
	l.asked = l.asked || s.Certificate != nil && s.Certificate.Asked != nil
	l.tell.step(s)
}

// again prepares for a second connection, and says so.
func (l *call) again() {
	l.told, l.result = false, nil
	switch _, has := l.config.ClientSessionCache.Get(l.config.ServerName); {
	case l.tell.format == "json":
		l.tell.object(map[string]string{"step": "again"})
	case l.tell.format == "text" && has:
		fmt.Fprintf(l.app.out, "Again, with the session of before.\n\n")
	case l.tell.format == "text":
		fmt.Fprintf(l.app.out, "Again, with a full handshake: the server gave no ticket to resume the session before.\n\n")
	}
}

// issuers returns the issuers that the sources of --crl and --ocsp are for: the certificates of --roots, those that the
// server sent, and those of its chains, which may end at a root of the system. If no chain verifies, the checker
// reports it.
func (l *call) issuers(state tls.ConnectionState) []*x509.Certificate {
	issuers := slices.Concat(l.roots, state.PeerCertificates)
	options := x509.VerifyOptions{Roots: l.config.RootCAs, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	chains, _ := state.PeerCertificates[0].Verify(options)
	for _, c := range slices.Concat(chains...) {
		if !slices.ContainsFunc(issuers, c.Equal) {
			issuers = append(issuers, c)
		}
	}
	return issuers
}

// judged returns the configuration whose VerifyConnection calls the checker. The checker is made when the server has
// shown its certificates, since the sources of --crl and --ocsp are for its issuers. It verifies chain and name itself.
// InsecureSkipVerify keeps crypto/tls from doing that first, so that a person can be asked.
func (l *call) judged() *tls.Config {
	plain := &tls.Config{RootCAs: l.config.RootCAs, ServerName: l.config.ServerName}
	cfg := l.config.Clone()
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		settings, err := l.trustFlags.config(l.issuers(state))
		if err != nil {
			return err
		}
		settings.Pins, settings.Override, settings.Observe = l.pins, l.ask, l.observe
		checker, err := handshake.New(settings)
		if err != nil {
			return err
		}
		wrapped, err := checker.WrapClient(plain)
		if err != nil {
			return err
		}
		return wrapped.VerifyConnection(state)
	}
	return cfg
}

// observe shows steps 4 and 5, unless ask has done so.
func (l *call) observe(r *handshake.Result) {
	l.result = r
	if !l.told {
		l.show(r)
	}
}

func (l *call) show(r *handshake.Result) {
	l.told = true
	l.tap.Judged(trustOf(r))
	if r.Trust == nil {
		l.tap.Checked(revocationOf(r, l.Policy))
	}
}

// ask asks a person at a terminal whether to continue although the policy refuses. It never asks about a revoked
// certificate.
func (l *call) ask(r *handshake.Result) handshake.Answer {
	if revoked(r) || l.tell.format == "json" || l.app.json || l.app.terminal() == nil {
		return handshake.OverrideRefuse
	}
	l.show(r)
	if l.tell.format == "none" { // the reason has not been shown yet
		fmt.Fprintf(l.app.err, "%s: %s\n", l.address, visible(r.Objection().Error()))
	}
	if answer, err := l.app.ask("Continue anyway? Type accept to continue; anything else refuses: "); err == nil && answer == "accept" {
		return handshake.OverrideAccept
	}
	return handshake.OverrideRefuse
}

func revoked(r *handshake.Result) bool {
	for i := range r.Certificates {
		if s := r.Certificates[i].Status; s == pki.StatusRevoked || s == pki.StatusNotIssued {
			return true
		}
	}
	return false
}

// blame returns the error, as a refusal or as a failure.
func (l *call) blame(err error) error {
	if l.app.ctx.Err() != nil {
		return ownFault(l.app.ctx.Err())
	}
	switch f := l.tap.Explain(err); f.Class {
	case wire.ClassTimeout:
		return ownFault(pki.Errorf(pki.KindUnavailable, "handshake", "%w", err).
			WithHint("the server does not answer; --timeout gives it more time"))
	case wire.ClassNetwork:
		return ownFault(pki.Errorf(pki.KindUnavailable, "handshake", "%w", err))
	case wire.ClassNotTLS:
		return ownFault(pki.Errorf(pki.KindInvalid, "handshake", "%s", f.Reason).
			WithHint("that port speaks something else; %s", plainTextHint(l.StartTLS)))
	}
	return err
}

// startTLS conducts the conversation before TLS, and shows it.
func (l *call) startTLS(ctx context.Context, raw net.Conn) error {
	lines, err := starttls.Upgrade(ctx, raw, starttls.Protocol(l.StartTLS), "")
	switch l.tell.format {
	case "json":
		l.tell.object(struct {
			Step  string          `json:"step"`
			Title string          `json:"title"`
			Lines []starttls.Line `json:"lines"`
		}{"starttls", "In plain text: " + l.StartTLS, lines})
	case "text":
		fmt.Fprintf(l.app.out, " 0  In plain text: %s, up to the point where TLS begins\n", l.StartTLS)
		for _, line := range lines {
			fmt.Fprintf(l.app.out, "    %s %s\n", map[bool]string{true: "→", false: "←"}[line.Ours], line.Text)
		}
		fmt.Fprintln(l.app.out)
	}
	_, declined := errors.AsType[*starttls.DeclinedError](err)
	if err != nil && !declined && !errors.Is(err, starttls.ErrInjected) {
		return ownFault(pki.Errorf(pki.KindUnavailable, "connect", "%w", err).
			WithHint("is it %s that is spoken at %s?", l.StartTLS, l.address))
	}
	return err
}

// talk sends the input and shows the answer. It always waits for an answer: only with its first answer does a TLS 1.3
// server show that it has accepted the client's certificate.
func (l *call) talk(conn *tls.Conn) error {
	if l.Interactive {
		return l.converse(conn)
	}
	text, err := l.question()
	if err != nil {
		return ownFault(err)
	}
	quiet := l.Wait
	var writeErr error
	if text == "" {
		quiet = min(quiet, 300*time.Millisecond)
	} else {
		_, writeErr = io.WriteString(conn, text)
	}
	answer, err := readSome(conn, quiet, maxAnswer)
	if err == nil {
		err = writeErr
	}
	l.showAnswer(answer)
	return err
}

func (l *call) question() (string, error) {
	switch {
	case l.Get != "":
		return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: signet\r\nAccept: */*\r\nConnection: close\r\n\r\n", l.Get, l.config.ServerName), nil
	case l.Data == "-":
		text, err := io.ReadAll(io.LimitReader(l.app.in, maxInput))
		if err != nil {
			return "", fileError("read standard input", err)
		}
		return string(text), nil
	}
	return strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\\`, `\`).Replace(l.Data), nil
}

func (l *call) showAnswer(answer []byte) {
	switch {
	case len(answer) == 0:
	case l.tell.format == "json":
		l.tell.object(struct {
			Step   string `json:"step"`
			From   string `json:"from"`
			Octets int    `json:"octets"`
			Text   string `json:"text"`
		}{"data", "server", len(answer), string(answer)})
	case l.tell.format == "none" && terminalOf(l.app.out) == nil:
		_, _ = l.app.out.Write(answer) // a reader that went away is noticed at the end
	default:
		for line := range strings.Lines(string(answer)) {
			fmt.Fprintf(l.app.out, "    │ %s\n", printableLine(line))
		}
		fmt.Fprintln(l.app.out)
	}
}

// printableLine removes control characters from a server's text.
func printableLine(line string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && pki.Unprintable(r) {
			return -1
		}
		return r
	}, strings.TrimRight(line, "\r\n"))
}

// converse connects standard input and output to the server until one of them ends.
func (l *call) converse(conn *tls.Conn) error {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if _, err := io.Copy(conn, l.app.in); err == nil {
			_ = conn.CloseWrite() // the reader below sees the effect
		}
	}()
	_, err := io.Copy(l.app.out, conn)
	return err
}

// end sends close_notify and gives the server a moment to send its own.
func (l *call) end(conn *tls.Conn) {
	if err := conn.CloseWrite(); err != nil {
		return // the last step shows how it ended
	}
	_, _ = readSome(conn, min(l.Wait, 300*time.Millisecond), maxAnswer)
	_ = conn.Close()
}

func (l *call) refused(err error) error {
	v := verdict{Result: "refused", Server: l.address, Reason: strings.TrimPrefix(err.Error(), "tls: "), Hint: hintFor(err)}
	if _, declined := errors.AsType[*starttls.DeclinedError](err); declined {
		v.Hint = declinedHint(l.StartTLS)
	}
	if l.tap != nil {
		l.tap.Close()
		if f := l.tap.Explain(err); f != nil {
			v.Class = f.Class
			if f.By == wire.Server && f.Alert != nil {
				v.Reason, v.Hint = f.Reason, l.alertHint(f)
			}
			if f.Class == wire.ClassTruncated && l.result == nil {
				v.Reason, v.Hint = f.Reason, "it may speak something else; "+plainTextHint(l.StartTLS)
			}
		}
	}
	if l.result != nil {
		v.Decision = l.result.Decision().String()
	}
	if err := l.tell.verdict(v); err != nil {
		return ownFault(err)
	}
	return refusal(v.Reason)
}

// alertHint returns what to do about a refusal by the server.
func (l *call) alertHint(f *wire.Failure) string {
	switch {
	case *f.Alert == protocol.AlertCertificateRequired && l.Cert != "":
		return "the server asks for certificates of other authorities than that of --cert; step 3 names them"
	case *f.Alert == protocol.AlertCertificateRequired || l.asked && l.Cert == "": // TLS 1.2 has no alert for it
		return "give a certificate that it accepts, with --cert FILE and --key FILE"
	case f.Class == wire.ClassCertificate && l.Cert != "":
		return "--cert must be of an authority that the server trusts, with all certificates below that in the file, in force and for clients"
	case *f.Alert == protocol.AlertUnrecognizedName:
		return "ask for a name that it serves, with --servername NAME"
	case *f.Alert == protocol.AlertNoApplicationProtocol:
		return "offer another protocol with --alpn, or none"
	case f.Class == wire.ClassMismatch && l.TLS12RSA:
		return "few servers still take the classical exchange; signet handshake survey shows what this one takes"
	case f.Class == wire.ClassMismatch:
		return "signet handshake survey shows what this server takes; --tls1.2-rsa offers the suites of old"
	}
	return ""
}

// plainTextHint returns what to check if the server's answer is not TLS.
func plainTextHint(protocol string) string {
	if protocol == "" {
		return "a protocol that begins in plain text needs --starttls"
	}
	return "is it TLS that is spoken after STARTTLS?"
}

// declinedHint returns what to check if a server does not start TLS.
func declinedHint(protocol string) string {
	return fmt.Sprintf("is it %s that is spoken there? If so, the server does not offer TLS, or someone in between suppresses it", protocol)
}

func (l *call) accepted(decision string) error {
	group := ""
	if l.state.CurveID != 0 {
		group = protocol.Group(l.state.CurveID).String()
	}
	err := l.tell.verdict(verdict{Result: "accepted", Decision: decision, Server: l.address, Version: tls.VersionName(l.state.Version),
		Suite: tls.CipherSuiteName(l.state.CipherSuite), Group: group, Protocol: l.state.NegotiatedProtocol})
	if err != nil {
		return ownFault(err)
	}
	return nil
}
