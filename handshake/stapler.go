package handshake

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/handshake/fetch"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// StaplerConfig says for which certificate a Stapler keeps the status.
type StaplerConfig struct {
	// Certificate holds chain and key. It is demanded.
	Certificate tls.Certificate

	// Issuer is the certificate of the issuer, whose responder is asked. Nil means the second certificate of the chain.
	Issuer *x509.Certificate

	// Fetcher asks the responder and keeps staples across restarts. Nil means a guarded fetcher without a disk.
	Fetcher *fetch.Fetcher

	// Responder overrides the OCSP URLs of the certificate. Empty means the certificate's: where one gives no answer that counts, the next is asked.
	Responder string

	// Observe is told of every change and every failure. It must not block, nor call Refresh. Nil means nobody.
	Observe func(StapleEvent)

	// StopWhenRevoked makes GetCertificate fail once the certificate is known to be revoked: with a directory of the Fetcher, also when an
	// earlier process learned it. The default goes on
	// serving, without a staple: clients that check refuse by themselves, and the others are not cut off.
	StopWhenRevoked bool

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// StapleEvent is what a Stapler reports.
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
	StapleFailed                             // an attempt failed; what was stapled before stays until it ends
	StapleExpired                            // the staple ended and was taken away
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
// 1.3 carries those too). It asks at half the life of what it has, then at three quarters, seven eighths and so on, and
// never gives up something good for a failure: through an outage of the responder the last good staple is served to its
// end. Without one it asks after a minute, after two, and so on, every ten minutes at least. Only good is ever stapled. It is safe for concurrent use.
type Stapler struct {
	config     StaplerConfig
	leaf       *x509.Certificate
	issuer     *x509.Certificate
	responders []string
	current    atomic.Pointer[stapled]
	failures   atomic.Int32 // one after the other, without a staple
	asking     sync.Mutex   // held by Refresh: what one learnt, the next one weighs its answer against
}

// stapled is an immutable state: the certificate as it is served now.
type stapled struct {
	certificate tls.Certificate
	result      ocsp.Result // that of the staple, or that says revoked; zero without either
	version     fetch.Version
	ends        time.Time     // of the staple; zero without one
	revoked     *RevokedError // nil if it is not known to be
}

// NewStapler validates the configuration and loads a staple that an earlier process kept, verifying it again. It
// starts nothing; see Run.
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
	s := &Stapler{config: config}
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

// GetClientCertificate is for tls.Config.GetClientCertificate: the staple goes to servers over TLS 1.3.
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
		bare.OCSPStaple = nil // Run takes it away for good; until then nobody is served what has ended
		return &bare, nil
	}
	return &now.certificate, nil
}

// Configure returns a copy of config that serves the certificate, and whose session tickets from before a revocation of
// the certificate resume nothing after it. Do it last: after Checker.WrapServer. Ticket keys are those of config, which SetSessionTicketKeys of
// config changes at any time; of the copy, or of what GetConfigForClient chooses, it has no effect. Hooks for tickets (WrapSession, UnwrapSession) are those
// of what is chosen, if something is, as without a Stapler.
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

// bindTickets marks session tickets with the present generation and resumes only those of it. Tickets are made and read by the hooks of inner, and where
// it has none with the keys of another configuration.
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

// generation is what marks session tickets: it changes when the certificate is revoked, and is the same in every process that knows as much, so
// that processes which share ticket keys resume each other's sessions.
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

// wait waits for a time. It looks at the clock now and then: timers stand still while a machine is suspended, or moves, and the staple ends all the
// same. If the clock is set back, the timer counts.
func (s *Stapler) wait(ctx context.Context, until time.Time) error {
	until = until.Round(0) // by the clock, and not by what timers go by
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

// Refresh asks the responders once, until one says what counts, and returns when to ask next. Of several calls, that of Run included, one asks
// after the other.
func (s *Stapler) Refresh(ctx context.Context) (next time.Time) {
	s.asking.Lock()
	defer s.asking.Unlock()
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
		s.put(answer, s.keep(answer.body, answer.result))
		next = s.afterSuccess(at)
		s.report(StapleEvent{Kind: StapleFresh, Evidence: evidence, Next: next})
	case refuted(evidence.Status):
		said := answer.said(err)
		next = at.Add(time.Hour)
		s.revoke(evidence, said, s.keep(answer.body, said), next) // on disk in place of the good one, which a restart would staple again
	default:
		next = s.afterFailure(at)
		if err == nil {
			err = evidence.Err
		}
		s.report(StapleEvent{Kind: StapleFailed, Evidence: evidence, Next: next, Err: err})
	}
	return next
}

// ask asks one responder. What is known already and counts more makes an answer stale.
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

// afterSuccess is half the life of what is stapled now, at most a day ahead.
func (s *Stapler) afterSuccess(at time.Time) time.Time {
	now := s.current.Load()
	next := halfLife(now.result.ThisUpdate, now.ends)
	return earliest(latest(next, at.Add(stapleRetry)), at.Add(stapleAtMost))
}

// afterFailure halves the time that is left: three quarters, seven eighths, and so on. When none is left the pauses double.
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

// errOutdone is what is wrong with an answer that a cache on the way, or a responder that lags behind, gives.
var errOutdone = errors.New("a newer answer has said otherwise")

// said is what an answer says, also if it is too old to be believed when it says good.
func (r reply) said(err error) ocsp.Result {
	if stale, ok := errors.AsType[*ocsp.StaleError](err); ok {
		return stale.Said
	}
	return r.result
}

// outdoes reports whether what is known counts more than what an answer says: a revocation that cannot be taken back more than everything
// else, and otherwise as for answers that a Checker keeps.
func (now *stapled) outdoes(said ocsp.Result, evidence Evidence) bool {
	switch {
	case evidence.Final:
		return false
	case now.revoked != nil && now.revoked.Evidence.Final:
		return true
	}
	return outdoes(now.result, said)
}

// keep writes an answer for the next start, and returns the version under which it takes the place of the one before it there.
func (s *Stapler) keep(body []byte, said ocsp.Result) fetch.Version {
	version := latestOf(versionAt(said.ThisUpdate, said.ProducedAt), s.current.Load().version)
	object := fetch.Object{Key: s.key(), Version: version, Body: body, Fetched: s.config.Now()}
	_ = s.config.Fetcher.Keep(object) // it has had its effect; a full disk costs one question after a restart
	return version
}

func (s *Stapler) put(answer reply, version fetch.Version) {
	next := &stapled{certificate: s.config.Certificate, result: answer.result, version: version, ends: answer.result.NextUpdate}
	if next.ends.IsZero() {
		next.ends = answer.result.ThisUpdate.Add(stapleNoEnd)
	}
	// What outlives the certificate would vouch for nothing, and what outlives its signer's is refused by whoever checks.
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

// revoke takes the staple away: it says good of what is not good. Tickets of the sessions of before end with it.
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

// loadKept takes up what an earlier process kept, if it verifies: it staples what is good still, and knows of a revocation.
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
