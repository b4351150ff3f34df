package handshake

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// maxChains bounds the chains that one handshake judges; cross-signing multiplies them.
const maxChains = 8

// WrapClient returns a copy of a client's tls.Config whose handshakes fail unless the Checker accepts the chain of the
// server. Nil means a zero tls.Config, which trusts the roots of the system. A VerifyConnection of the original is kept
// and runs first, except for a peer whose chain does not verify: for that peer it runs after the Override has accepted
// it, and sees no verified chain.
//
// The hook is VerifyConnection, not VerifyPeerCertificate, which crypto/tls skips on resumed sessions. The hook has no
// context, so Config.Budget bounds it.
//
// With Config.Override the Checker verifies the chain itself, so that the callback can be consulted about an untrusted
// one. This needs ServerName, and no VerifyPeerCertificate in the original. Otherwise crypto/tls verifies, and refuses
// before the callback is consulted. Dialer and Transport set ServerName.
//
// crypto/tls calls no hook that sees the certificates of a server that rejects Encrypted Client Hello: the
// RetryConfigList of a tls.ECHRejectionError comes from a server that has not been judged. A Dialer, and a Transport
// that dials directly, judge it.
func (c *Checker) WrapClient(config *tls.Config) (*tls.Config, error) {
	return c.wrapClient(context.Background(), config, nil)
}

func (c *Checker) wrapClient(ctx context.Context, config *tls.Config, found func(*Result, tls.ConnectionState)) (*tls.Config, error) {
	if config == nil {
		config = &tls.Config{}
	}
	if config.InsecureSkipVerify {
		return nil, ErrInsecureSkipVerify
	}
	wrapped := config.Clone()
	hook := &hook{checker: c, ctx: ctx, client: true, name: config.ServerName, inner: config.VerifyConnection, found: found}
	if config.ClientSessionCache != nil {
		wrapped.ClientSessionCache = &sessionCache{config.ClientSessionCache, c}
	}
	if c.config.Override != nil && config.ServerName != "" && config.VerifyPeerCertificate == nil && config.EncryptedClientHelloConfigList == nil {
		hook.trust = &trust{roots: config.RootCAs, name: config.ServerName, usage: x509.ExtKeyUsageServerAuth, now: c.clock(config)}
		wrapped.InsecureSkipVerify = true // hook.trust verifies the same, and can consult the Override
	}
	wrapped.VerifyConnection = hook.verifyServer
	return wrapped, nil
}

// hook is the VerifyConnection of one wrapped tls.Config.
type hook struct {
	checker *Checker
	ctx     context.Context // of a Dialer; crypto/tls passes none
	client  bool            // this side is the client
	name    string          // of the server, if known when the configuration was wrapped
	inner   func(tls.ConnectionState) error
	trust   *trust // nil if crypto/tls verifies
	found   func(*Result, tls.ConnectionState)
}

func (h *hook) verifyServer(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("handshake: the server showed no certificate")
	}
	return h.verify(state)
}

// verifyClient accepts a client that shows no certificate: tls.Config.ClientAuth says whether one is required.
func (h *hook) verifyClient(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return h.callInner(state)
	}
	return h.verify(state)
}

func (h *hook) verify(state tls.ConnectionState) error {
	var untrusted error
	var nearly [][]*x509.Certificate
	if h.trust != nil {
		chains, err := h.trust.verify(state.PeerCertificates)
		if err != nil {
			untrusted = err
			if explained, ok := ExplainUntrusted(err, state.PeerCertificates, h.trust.roots, h.trust.now()); ok {
				untrusted = explained
			}
			nearly = h.trust.nearly(state.PeerCertificates, err)
		}
		state.VerifiedChains = chains
	}
	if len(state.VerifiedChains) == 0 && untrusted == nil {
		return ErrInsecureSkipVerify
	}
	if untrusted == nil {
		if err := h.callInner(state); err != nil {
			return err
		}
	}
	name := ""
	if h.client {
		name = cmp.Or(h.name, state.ServerName) // an IP address is not sent in SNI, and so is not in state
	}
	var r *Result
	if untrusted != nil {
		r = h.checker.judgeUntrusted(h.ctx, state, name, untrusted, nearly)
	} else {
		r = h.checker.judgeConnection(h.ctx, state, name)
	}
	h.checker.override(r)
	if untrusted != nil && r.Err() == nil { // crypto/tls does not call the hook for an unverified peer; the Override accepted this one
		if err := h.callInner(state); err != nil {
			r.decision = Refused
			h.checker.observe(r)
			return err
		}
	}
	h.checker.observe(r)
	h.checker.sessions.note(name, r, h.checker.config.MaxAge)
	if h.found != nil {
		h.found(r, state)
	}
	return r.Err()
}

// callInner calls the VerifyConnection of the original configuration.
func (h *hook) callInner(state tls.ConnectionState) error {
	if h.inner == nil {
		return nil
	}
	return h.inner(state)
}

// judgeConnection judges the verified chains, in the order of crypto/x509, until one is accepted: a revoked
// cross-certificate does not disqualify a server that has another chain.
func (c *Checker) judgeConnection(ctx context.Context, state tls.ConnectionState, name string) *Result {
	budget := budget{parent: ctx, length: c.config.Budget} // for all chains together
	defer budget.end()
	var result *Result
	for _, chain := range state.VerifiedChains[:min(len(state.VerifiedChains), maxChains)] {
		r := c.inspect(&budget, inspection{
			chain: chain, presented: state.PeerCertificates, staple: state.OCSPResponse, name: name, resumed: state.DidResume,
		})
		if !c.pinned(chain) {
			r.Trust = notPinned(state.PeerCertificates)
			c.decide(r)
		}
		if result == nil || r.decision != Refused {
			result = r
		}
		if r.decision != Refused {
			break
		}
	}
	return result
}

// judgeUntrusted judges a peer whose chain does not verify. It reports what is known locally about chains that fail by
// name, usage or time only, so that excusing these does not accept a revoked certificate; of several chains one with a
// revocation is reported. It fetches nothing for a chain without an anchor (RFC 9919: verify the chain before
// contacting a URL in it), and learns nothing from any of them.
func (c *Checker) judgeUntrusted(ctx context.Context, state tls.ConnectionState, name string, untrusted error, nearly [][]*x509.Certificate) *Result {
	result := &Result{Time: c.config.Now(), ServerName: name, Resumed: state.DidResume}
	for _, chain := range nearly[:min(len(nearly), maxChains)] {
		r := c.inspect(&budget{parent: ctx}, inspection{
			chain: chain, presented: state.PeerCertificates, staple: state.OCSPResponse, name: name, resumed: state.DidResume, atHand: true,
		})
		if result.Certificates == nil || r.revoked() {
			result = r
		}
	}
	result.Chain, result.Trust, result.unverified = state.PeerCertificates, untrusted, true
	c.decide(result)
	return result
}

// Dialer dials TLS connections to peers that the Checker accepts. Checker is required; every other field may be zero.
type Dialer struct {
	Checker   *Checker
	NetDialer *net.Dialer // nil means a zero net.Dialer
	TLS       *tls.Config // nil means a zero tls.Config: the roots of the system. An empty ServerName is taken from the address

	// HandshakeTimeout bounds how long the peer may keep the handshake waiting: until its certificate arrives, and
	// again after the check. The check itself is bounded by Config.Budget, and an Override is not bounded. Zero means
	// as long as the context.
	HandshakeTimeout time.Duration

	// Track closes a connection when a certificate of its peer becomes revoked, as long as Checker.Run runs.
	Track bool
}

// DialContext connects and completes the handshake. The connection is a *tls.Conn.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, _, err := d.DialResult(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// DialResult is DialContext, and also returns the Result. If the handshake got as far as the certificate, the Result is not
// nil even if the error is not. The error for a chain that does not verify is an *UntrustedError.
func (d *Dialer) DialResult(ctx context.Context, network, address string) (*tls.Conn, *Result, error) {
	conn, result, err := d.dialOnce(ctx, network, address)
	if err != nil && result != nil && result.Resumed && outdatedEvidence(err) {
		// The session was resumed and its staple is too old. crypto/tls has dropped the session: a full handshake
		// brings the server's current staple.
		conn, result, err = d.dialOnce(ctx, network, address)
	}
	return conn, result, err
}

// outdatedEvidence reports whether a full handshake could do better than a resumed one.
func outdatedEvidence(err error) bool {
	_, stale := errors.AsType[*StaleError](err)
	_, missing := errors.AsType[*MustStapleError](err)
	return stale || missing
}

func (d *Dialer) dialOnce(ctx context.Context, network, address string) (*tls.Conn, *Result, error) {
	config := &tls.Config{}
	if d.TLS != nil {
		config = d.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = hostOf(address)
	}
	guard, tracker := &Guard{}, d.Checker
	if !d.Track {
		tracker = nil
	}
	wrapped, err := d.Checker.wrapClient(ctx, config, guard.found(tracker))
	if err != nil {
		return nil, nil, err
	}
	netDialer := d.NetDialer
	if netDialer == nil {
		netDialer = &net.Dialer{}
	}
	raw, err := netDialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, nil, err
	}
	guard.Conn = raw
	conn := tls.Client(guard, wrapped)
	if err := d.handshake(ctx, conn, wrapped); err != nil {
		guard.Close()
		if untrusted, ok := ExplainUntrusted(err, nil, config.RootCAs, d.Checker.clock(config)()); ok {
			return nil, guard.Result(), untrusted
		}
		if rejected, ok := errors.AsType[*tls.ECHRejectionError](err); ok {
			result, err := d.Checker.judgeRejection(ctx, conn.ConnectionState(), rejected)
			return nil, result, err
		}
		return nil, guard.Result(), err
	}
	return conn, guard.Result(), nil
}

// judgeRejection judges a server that rejected Encrypted Client Hello, by the chain that crypto/tls verified for the
// outer name. crypto/tls does not call VerifyConnection for it, and a caller would use the keys that the server offers
// for the next attempt (RFC 9849, Section 6.1.6). The error is the refusal, or else the rejection; a rejection by a
// server without a verified chain offers no keys.
func (c *Checker) judgeRejection(ctx context.Context, state tls.ConnectionState, rejected *tls.ECHRejectionError) (*Result, error) {
	if len(state.VerifiedChains) == 0 {
		return nil, &tls.ECHRejectionError{}
	}
	result := c.judgeConnection(ctx, state, state.ServerName)
	c.observe(result)
	if err := result.Err(); err != nil {
		return result, err
	}
	return result, rejected
}

// handshake completes the handshake of conn, whose configuration is wrapped, within HandshakeTimeout.
func (d *Dialer) handshake(ctx context.Context, conn *tls.Conn, wrapped *tls.Config) error {
	if d.HandshakeTimeout <= 0 {
		return conn.HandshakeContext(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(d.HandshakeTimeout, func() {
		cancel(fmt.Errorf("handshake: the peer kept the handshake waiting for %s: %w", d.HandshakeTimeout, os.ErrDeadlineExceeded))
	})
	defer patience.Stop()
	judge := wrapped.VerifyConnection
	wrapped.VerifyConnection = func(state tls.ConnectionState) error {
		patience.Stop()
		defer patience.Reset(d.HandshakeTimeout)
		return judge(state)
	}
	err := conn.HandshakeContext(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// connectTimeout and keepAlive are those of http.DefaultTransport, which does not export its dialer.
const (
	connectTimeout = 30 * time.Second
	keepAlive      = 30 * time.Second
)

// Transport returns an http.Transport that speaks only to servers that the Checker accepts, directly or through a
// proxy. Its direct connections are tracked: one that was made before a revocation does not outlive it, as long as Run
// runs. Its TLSHandshakeTimeout is the Dialer's HandshakeTimeout. config is the client's TLS configuration; nil means
// the roots of the system.
//
// http.Transport itself makes TLS connections through the proxy of the environment. These are checked, but not tracked,
// and no Override is consulted about an untrusted server. To avoid them set Proxy to nil; to bound them set
// IdleConnTimeout.
func (c *Checker) Transport(config *tls.Config) (*http.Transport, error) {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	if config.NextProtos == nil {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	// Behind a proxy http.Transport makes the TLS connection itself, from this.
	wrapped, err := c.WrapClient(config)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = wrapped
	// http.Transport goes on connecting after the request that wanted the connection has ended, and leaves all limits
	// to DialTLSContext.
	transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&Dialer{
			Checker: c, TLS: config, Track: true, HandshakeTimeout: transport.TLSHandshakeTimeout,
			NetDialer: &net.Dialer{Timeout: connectTimeout, KeepAlive: keepAlive},
		}).DialContext(ctx, network, address)
	}
	transport.ForceAttemptHTTP2 = true
	return transport, nil
}
