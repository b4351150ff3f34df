package handshake

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"signet.example/signet/handshake/fetch"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// StaplerConfig configures a Stapler for one certificate.
type StaplerConfig struct {
	// Certificate holds the chain and the key. It is required.
	Certificate tls.Certificate

	// Issuer is the certificate of the issuer. Nil means the second certificate of the chain.
	Issuer *x509.Certificate

	// Fetcher asks the responder and keeps staples across restarts. Nil means a guarded fetcher without a directory.
	Fetcher *fetch.Fetcher

	// Responder overrides the OCSP URLs of the certificate. Empty means the certificate's URLs: if one gives no answer
	// that counts, the next is asked.
	Responder string

	// Observe, if not nil, is called for every change and every failure. It must not block, nor call Refresh.
	Observe func(StapleEvent)

	// StopWhenRevoked makes GetCertificate fail once the certificate is known to be revoked (by an earlier process too,
	// if the Fetcher has a directory). By default the server goes on without a staple, so that clients that check
	// refuse and others are not cut off.
	StopWhenRevoked bool

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// StapleEvent is a report of a Stapler.
type StapleEvent struct {
	Kind     StapleEventKind
	Evidence Evidence  // of the answer, if there was one
	Next     time.Time // of the next attempt
	Err      error     // of StapleFailed
}

// StapleEventKind is the kind of a StapleEvent. Zero is none.
type StapleEventKind uint8

// The kinds of StapleEvent.
const (
	StapleFresh   StapleEventKind = iota + 1 // a new good staple is in place
	StapleFailed                             // an attempt failed; the previous staple stays until it ends
	StapleExpired                            // the staple ended and was removed
	StapleRevoked                            // the responder says that our own certificate is revoked
)

// String is a word or two.
func (k StapleEventKind) String() string {
	names := [...]string{"none", "fresh", "failed", "expired", "revoked"}
	return names[min(int(k), len(names)-1)]
}

const (
	stapleRetry  = time.Minute      // the least time between two attempts
	staplePause  = 10 * time.Minute // the most, while there is no staple
	stapleSkew   = 5 * time.Minute
	stapleNoEnd  = time.Hour // how long an answer without nextUpdate is stapled
	stapleAtMost = 24 * time.Hour
)

// Stapler keeps a fresh OCSP response stapled to one certificate, for a server or for a client with a certificate (TLS
// 1.3 carries staples for both). It refreshes at half the life of the staple, then at three quarters, seven eighths and
// so on. Through an outage of the responder it serves the last good staple to its end. Without a staple it asks after a
// minute, then after two and so on, at least every ten minutes. It staples only good. It is safe for concurrent use.
type Stapler struct {
	config     StaplerConfig
	leaf       *x509.Certificate
	issuer     *x509.Certificate
	responders []string
	current    atomic.Pointer[stapled]
	failures   atomic.Int32  // in a row, without a staple
	turn       chan struct{} // of capacity 1, full while a Refresh asks: each compares its answer with the one before
}

// stapled is an immutable state: the certificate as it is served now.
type stapled struct {
	certificate tls.Certificate
	result      ocsp.Result // of the staple, or the one that says revoked; zero without either
	version     fetch.Version
	ends        time.Time     // of the staple; zero without one
	revoked     *RevokedError // nil if it is not known to be
}

// NewStapler validates config, and loads and verifies a staple that an earlier process kept. It starts no goroutine;
// see Run.
func NewStapler(config StaplerConfig) (*Stapler, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Fetcher == nil {
		fetcher, err := fetch.New(fetch.Config{Now: config.Now})
		if err != nil {
			return nil, err
		}
		config.Fetcher = fetcher
	}
	s := &Stapler{config: config, turn: make(chan struct{}, 1)}
	if err := s.readCertificate(); err != nil {
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: "configure stapler", Err: err}
	}
	bare := config.Certificate
	bare.OCSPStaple = nil
	s.current.Store(&stapled{certificate: bare})
	s.loadKept()
	return s, nil
}

func (s *Stapler) readCertificate() error {
	chain := s.config.Certificate.Certificate
	s.issuer = s.config.Issuer
	if len(chain) == 0 || len(chain) < 2 && s.issuer == nil {
		return errors.New("the certificate comes without its issuer's, which signs its status")
	}
	var err error
	if s.leaf, err = x509.ParseCertificate(chain[0]); err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	if s.issuer == nil {
		if s.issuer, err = x509.ParseCertificate(chain[1]); err != nil {
			return fmt.Errorf("read issuer's certificate: %w", err)
		}
	}
	if err := s.issuer.CheckSignature(s.leaf.SignatureAlgorithm, s.leaf.RawTBSCertificate, s.leaf.Signature); err != nil {
		return fmt.Errorf("the issuer given did not issue it: %w", err)
	}
	s.responders = s.leaf.OCSPServer[:min(len(s.leaf.OCSPServer), maxResponders)]
	if s.config.Responder != "" {
		s.responders = []string{s.config.Responder}
	}
	if len(s.responders) == 0 {
		return errors.New("the certificate names no OCSP responder, and none is configured")
	}
	return nil
}

// GetCertificate is for tls.Config.GetCertificate.
func (s *Stapler) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.certificate()
}

// GetClientCertificate is for tls.Config.GetClientCertificate: TLS 1.3 carries the staple of a client.
func (s *Stapler) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return s.certificate()
}

func (s *Stapler) certificate() (*tls.Certificate, error) {
	now := s.current.Load()
	if now.revoked != nil && s.config.StopWhenRevoked {
		return nil, now.revoked
	}
	if !now.ends.IsZero() && !s.config.Now().Before(now.ends) {
		bare := now.certificate
		bare.OCSPStaple = nil // Run removes it for good; until then no client gets a staple that has ended
		return &bare, nil
	}
	return &now.certificate, nil
}

// Configure returns a copy of config that serves the certificate and, after a revocation of the certificate, resumes no
// session from before it. Call it last: after Checker.WrapServer. The ticket keys are those of config, and
// SetSessionTicketKeys of config changes them at any time; called on the copy, or on a configuration that
// GetConfigForClient returns, it has no effect. The hooks for tickets (WrapSession, UnwrapSession) are those of the
// configuration that GetConfigForClient returns, if it returns one, as without a Stapler.
func (s *Stapler) Configure(config *tls.Config) *tls.Config {
	if config == nil {
		config = &tls.Config{}
	}
	configured := config.Clone()
	configured.Certificates = nil
	configured.GetCertificate = s.GetCertificate
	configured.GetClientCertificate = s.GetClientCertificate
	s.bindTickets(configured, config, config)
	if choose := config.GetConfigForClient; choose != nil {
		configured.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if err != nil || chosen == nil {
				return chosen, err
			}
			serving := chosen.Clone()
			serving.Certificates, serving.GetCertificate = nil, s.GetCertificate
			s.bindTickets(serving, chosen, config)
			return serving, nil
		}
	}
	return configured
}

// bindTickets marks session tickets with the current generation and resumes only sessions of that generation. The hooks
// of inner make and read tickets; without hooks, the keys of another configuration do.
func (s *Stapler) bindTickets(configured, inner, keys *tls.Config) {
	configured.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		generation := s.generation()
		session.Extra = append(session.Extra, generation[:])
		if inner.WrapSession != nil {
			return inner.WrapSession(state, session)
		}
		return keys.EncryptTicket(state, session)
	}
	configured.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		unwrap := keys.DecryptTicket
		if inner.UnwrapSession != nil {
			unwrap = inner.UnwrapSession
		}
		session, err := unwrap(ticket, state)
		if err != nil || session == nil {
			return nil, err
		}
		generation := s.generation()
		for i, extra := range session.Extra {
			if string(extra) == string(generation[:]) {
				session.Extra = append(session.Extra[:i:i], session.Extra[i+1:]...)
				return session, nil
			}
		}
		return nil, nil // a full handshake
	}
}

// generation returns the mark of session tickets. It changes when the certificate is revoked and depends on nothing
// else that differs between processes, so processes that share ticket keys resume each other's sessions.
func (s *Stapler) generation() [sha256.Size]byte {
	mark := append([]byte("signet stapler "), s.leaf.Raw...)
	if revoked := s.current.Load().revoked; revoked != nil {
		mark = fmt.Appendf(mark, " revoked %d", revoked.Evidence.RevokedAt.Unix())
	}
	return sha256.Sum256(mark)
}

// Run refreshes the staple until ctx ends. It asks at once if there is none or it is past half its life.
func (s *Stapler) Run(ctx context.Context) error {
	next := s.config.Now()
	if now := s.current.Load(); !now.ends.IsZero() {
		next = halfLife(now.result.ThisUpdate, now.ends)
	}
	for {
		if err := s.wait(ctx, next); err != nil {
			return err
		}
		next = s.Refresh(ctx)
	}
}

// wait waits until a time. It also looks at the clock every minute: timers stand still while a machine is suspended or
// migrated, and the staple ends all the same. If the clock is set back, the timer counts.
func (s *Stapler) wait(ctx context.Context, until time.Time) error {
	until = until.Round(0) // compare by the wall clock, not by the monotonic one
	timer, look := time.NewTimer(until.Sub(s.config.Now())), time.NewTicker(stapleRetry)
	defer timer.Stop()
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-look.C:
			if !s.config.Now().Before(until) {
				return nil
			}
		}
	}
}

// Refresh asks the responders once, until one gives an answer that counts, and returns when to ask next. Concurrent
// calls, including those of Run, ask one after the other. A call whose ctx ends before its turn asks no responder and
// reports nothing.
func (s *Stapler) Refresh(ctx context.Context) (next time.Time) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return s.config.Now().Add(stapleRetry)
	}
	s.dropEnded()
	at := s.config.Now()
	var answer reply
	var evidence Evidence
	var err error
	for _, url := range s.responders {
		answer, evidence, err = s.ask(ctx, url, at)
		if evidence.Status.Conclusive() || ctx.Err() != nil {
			break
		}
	}
	switch {
	case evidence.Status == pki.StatusGood:
		version := s.version(answer.result)
		s.put(answer, version)
		next = s.afterSuccess(at)
		s.report(StapleEvent{Kind: StapleFresh, Evidence: evidence, Next: next})
		s.keep(answer.body, version)
	case refuted(evidence.Status):
		said := answer.said(err)
		next = at.Add(time.Hour)
		version := s.version(said)
		s.revoke(evidence, said, version, next)
		s.keep(answer.body, version) // in place of the good one, which a restart would staple again
	default:
		next = s.afterFailure(at)
		if err == nil {
			err = evidence.Err
		}
		s.report(StapleEvent{Kind: StapleFailed, Evidence: evidence, Next: next, Err: err})
	}
	return next
}

// ask asks one responder. An answer that is outdone by what is already known is stale.
func (s *Stapler) ask(ctx context.Context, url string, at time.Time) (reply, Evidence, error) {
	answer, err := askResponder(ctx, s.config.Fetcher, question{
		url: url, cert: s.leaf, issuer: s.issuer, fresh: true, forPeers: true, at: at, skew: stapleSkew,
	})
	evidence := evidenceOf(SourceOCSP, answer.result, err)
	evidence.Location = url
	if evidence.Status.Conclusive() && s.current.Load().outdoes(answer.said(err), evidence) {
		evidence.Status, evidence.Err = pki.StatusStale, errOutdone
	}
	return answer, evidence, err
}

// afterSuccess returns when to ask after a success: at half the life of the staple, at most a day ahead.
func (s *Stapler) afterSuccess(at time.Time) time.Time {
	now := s.current.Load()
	next := halfLife(now.result.ThisUpdate, now.ends)
	return earliest(latest(next, at.Add(stapleRetry)), at.Add(stapleAtMost))
}

// afterFailure returns when to ask after a failure: when half of the remaining time has passed, hence at three
// quarters, seven eighths and so on. Without remaining time the pauses double.
func (s *Stapler) afterFailure(at time.Time) time.Time {
	left := s.current.Load().ends.Sub(at)
	if left <= 0 {
		pause := stapleRetry << min(s.failures.Add(1)-1, 4)
		return at.Add(min(pause, staplePause))
	}
	return earliest(latest(at.Add(left/2), at.Add(stapleRetry)), at.Add(time.Hour))
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// errOutdone is the fault of an answer from a cache on the way, or from a responder that lags.
var errOutdone = errors.New("a newer answer has said otherwise")

// said returns the statement of an answer, even of one that is too old to count as good.
func (r reply) said(err error) ocsp.Result {
	if stale, ok := errors.AsType[*ocsp.StaleError](err); ok {
		return stale.Said
	}
	return r.result
}

// outdoes reports whether the known state counts more than an answer. A final revocation outdoes everything else;
// otherwise the rule is that of a Checker's answers.
func (now *stapled) outdoes(said ocsp.Result, evidence Evidence) bool {
	switch {
	case evidence.Final:
		return false
	case now.revoked != nil && now.revoked.Evidence.Final:
		return true
	}
	return outdoes(now.result, said)
}

// version returns the version under which an answer takes the place of the one before it on disk.
func (s *Stapler) version(said ocsp.Result) fetch.Version {
	return latestOf(versionAt(said.ThisUpdate, said.ProducedAt), s.current.Load().version)
}

// keep writes an answer for the next start, when it has had its effect: a disk may hang.
func (s *Stapler) keep(body []byte, version fetch.Version) {
	object := fetch.Object{Key: s.key(), Version: version, Body: body, Fetched: s.config.Now()}
	_ = s.config.Fetcher.Keep(object) // a full disk costs one question after a restart
}

func (s *Stapler) put(answer reply, version fetch.Version) {
	next := &stapled{certificate: s.config.Certificate, result: answer.result, version: version, ends: answer.result.NextUpdate}
	if next.ends.IsZero() {
		next.ends = answer.result.ThisUpdate.Add(stapleNoEnd)
	}
	// A staple beyond the end of the certificate is of no use, and clients refuse one beyond the end of its signer's
	// certificate.
	next.ends = earliest(next.ends, s.leaf.NotAfter)
	if signer := answer.result.Responder; signer.Delegated {
		next.ends = earliest(next.ends, signer.Certificate.NotAfter)
	}
	next.certificate.OCSPStaple = answer.body
	s.current.Store(next)
	s.failures.Store(0)
}

func (s *Stapler) dropEnded() {
	now := s.current.Load()
	if now.ends.IsZero() || s.config.Now().Before(now.ends) {
		return
	}
	bare := now.certificate
	bare.OCSPStaple = nil
	s.current.Store(&stapled{certificate: bare, version: now.version})
	s.report(StapleEvent{Kind: StapleExpired})
}

// revoke removes the staple, which says good. Session tickets from before the revocation are no longer accepted.
func (s *Stapler) revoke(evidence Evidence, said ocsp.Result, version fetch.Version, next time.Time) {
	now := s.current.Load()
	bare := now.certificate
	bare.OCSPStaple = nil
	s.current.Store(&stapled{certificate: bare, result: said, version: version, revoked: &RevokedError{Certificate: s.leaf, Evidence: evidence}})
	if now.revoked == nil {
		s.report(StapleEvent{Kind: StapleRevoked, Evidence: evidence, Next: next})
	}
}

func (s *Stapler) report(event StapleEvent) {
	if s.config.Observe != nil {
		s.config.Observe(event)
	}
}

func (s *Stapler) key() string {
	key := keyOf(s.leaf, s.issuer)
	return "staple " + hex.EncodeToString(key[:])
}

// loadKept loads the answer that an earlier process kept, if it verifies: a good one is stapled, a revocation is known
// from the start.
func (s *Stapler) loadKept() {
	object, err := s.config.Fetcher.Load(s.key())
	if err != nil {
		return
	}
	now := s.config.Now()
	result, err := ocsp.Verify(object.Body, ocsp.Query{Certificate: s.leaf, Issuers: []*x509.Certificate{s.issuer}, Time: now, Skew: stapleSkew})
	kept := reply{object.Body, result}
	evidence := evidenceOf(SourceOCSP, result, err)
	evidence.Cached = true
	switch {
	case evidence.Status == pki.StatusGood:
		s.put(kept, object.Version)
	case refuted(evidence.Status):
		s.revoke(evidence, kept.said(err), object.Version, now)
	}
}
