package handshake

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"time"

	"signet.example/signet/handshake/fetch"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

const (
	ocspTimeout     = 3 * time.Second
	maxResponders   = 4    // of one certificate, asked one after the other
	maxAnswers      = 4096 // kept in memory
	askAgainAtLeast = time.Minute
)

// answers keeps verified OCSP answers that were fetched over the network.
type answers struct {
	tries *tries // of answers on disk

	mu   sync.Mutex
	kept map[certificateKey]*answer // guarded by mu
}

type answer struct {
	result   ocsp.Result
	location string
	version  fetch.Version // on disk
	next     time.Time     // when a refresh is due; guarded by answers.mu
}

func newAnswers() *answers {
	return &answers{tries: newTries(), kept: make(map[certificateKey]*answer)}
}

func (a *answers) get(key certificateKey) (answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept, ok := a.kept[key]
	if !ok {
		return answer{}, false
	}
	return *kept, true
}

// put keeps an answer unless one is held that outdoes it, and reports whether it did. The version for the disk has the
// later times of the new answer and of the one that it displaces: a hold may have been signed before the good answer
// that it replaces.
func (a *answers) put(key certificateKey, result ocsp.Result, location string, version fetch.Version, at time.Time) (fetch.Version, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old, ok := a.kept[key]; ok {
		if outdoes(old.result, result) {
			return old.version, false
		}
		version = latestOf(version, old.version)
	}
	if len(a.kept) >= maxAnswers {
		for other := range a.kept {
			delete(a.kept, other)
			break
		}
	}
	next := halfLife(result.ThisUpdate, result.NextUpdate)
	if refutes(result) {
		next = at.Add(askAgainAtLeast)
	}
	a.kept[key] = &answer{result, location, version, next}
	return version, true
}

// outdoes reports whether an answer that is kept counts more than one that comes. The later thisUpdate counts, which is
// when the status was last known to be right; producedAt is only when that was signed (RFC 6960, Section 2.4). But a
// responder that has lost touch with its authority, or whose clock was corrected, gives early dates to what it has just
// learned: against a hold, good counts only if it is later and was not signed before it. A final revocation is
// remembered whatever its dates.
func outdoes(old, next ocsp.Result) bool {
	overcomes := func(good, hold ocsp.Result) bool {
		return good.ThisUpdate.After(hold.ThisUpdate) && !good.ProducedAt.Before(hold.ProducedAt)
	}
	switch {
	case refutes(old) && !refutes(next):
		return !overcomes(next, old)
	case refutes(next) && !refutes(old):
		return overcomes(old, next)
	}
	return old.ThisUpdate.After(next.ThisUpdate)
}

// refutes reports whether an answer says revoked; what was never issued is too.
func refutes(r ocsp.Result) bool { return r.Status == pki.StatusRevoked }

// reserve reports whether it is time to refresh, and if so reserves the attempt.
func (a *answers) reserve(key certificateKey, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept, ok := a.kept[key]
	if !ok || now.Before(kept.next) {
		return false
	}
	kept.next = now.Add(askAgainAtLeast) // a status that is not final may change at any moment, and until then the certificate is refused
	if !refutes(kept.result) {
		kept.next = now.Add(max(askAgainAtLeast, kept.result.NextUpdate.Sub(now)/2))
	}
	return true
}

// halfLife returns when something that is valid from one time to another should be replaced. Without an end it is due
// at once.
func halfLife(from, to time.Time) time.Time {
	if !to.After(from) {
		return from
	}
	return from.Add(to.Sub(from) / 2)
}

// lookAtAnswer uses a kept answer of a responder. It has the answer refreshed in the background past half its life, or
// once a minute if it refutes the certificate but is not final.
func (c *Checker) lookAtAnswer(s *subject) {
	if s.config.DemandNonce {
		return // an answer to an earlier question has no nonce of this one
	}
	kept, ok := c.answers.get(s.key)
	if !ok && len(c.responders(s)) > 0 {
		kept, ok = c.loadAnswer(s)
	}
	if !ok {
		return
	}
	evidence := c.evidenceOfAnswer(s, kept)
	s.add(evidence)
	if c.mayAsk(s.inspection) && s.round == nil && (evidence.Status == pki.StatusGood || refuted(evidence.Status) && !evidence.Final) && !s.at.Before(kept.next) {
		asked := s.question()
		reserve := func() bool { return c.answers.reserve(asked.key, asked.at) }
		c.background(ocspTimeout, reserve, func(ctx context.Context) { c.askResponders(ctx, asked) })
	}
}

// background runs something in a goroutine if there is a place for it and the attempt can be reserved. What finds no
// place stays due.
func (c *Checker) background(limit time.Duration, reserve func() bool, run func(context.Context)) {
	select {
	case c.refresh <- struct{}{}:
	default:
		return
	}
	if !reserve() {
		<-c.refresh
		return
	}
	go func() {
		defer func() { <-c.refresh }()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		run(ctx)
	}()
}

// evidenceOfAnswer judges a kept answer again: since it was verified, its time may have passed, and its responder's
// certificate may have ended or been revoked.
func (c *Checker) evidenceOfAnswer(s *subject, kept answer) Evidence {
	said, err := c.checkResponder(s, kept.result)
	evidence := evidenceOf(SourceOCSP, said, err)
	evidence.Location, evidence.Cached = kept.location, true
	if evidence.Final || err != nil {
		return evidence
	}
	if err := c.outdated(said.ThisUpdate, said.NextUpdate, s.at); err != nil {
		evidence.Status, evidence.Err = pki.StatusStale, err
	}
	return evidence
}

// outdated applies nextUpdate and Config.MaxAge to authentic evidence.
func (c *Checker) outdated(thisUpdate, nextUpdate, at time.Time) error {
	switch {
	case !nextUpdate.IsZero() && !at.Before(nextUpdate.Add(c.config.Skew)):
		return errors.New("its nextUpdate has passed")
	case c.config.MaxAge > 0 && at.Sub(thisUpdate) > c.config.MaxAge:
		return errors.New("it is older than MaxAge allows")
	case nextUpdate.IsZero() && c.config.MaxAge == 0 && at.Sub(thisUpdate) > endlessAge:
		return errors.New("it has no nextUpdate and is not of today")
	}
	return nil
}

// endlessAge bounds the age of a response without nextUpdate: its responder says that newer information is available
// all the time (RFC 6960, Section 4.2.2.1), so an old one is a replay.
const endlessAge = 24 * time.Hour

// responders returns the URLs to ask, configured ones first.
func (c *Checker) responders(s *subject) []string {
	urls := append(append([]string(nil), s.config.OCSP...), s.cert.OCSPServer...)
	return urls[:min(len(urls), maxResponders)]
}

// askResponders asks one responder after the other until one is conclusive.
func (c *Checker) askResponders(ctx context.Context, s subject) []Evidence {
	s.asker = s.digest()
	urls := c.responders(&s)
	ask := func(ctx context.Context, i int) []Evidence { return c.askOne(ctx, &s, urls[i]) }
	conclusive := func(said []Evidence) bool {
		return slices.ContainsFunc(said, func(e Evidence) bool { return e.Status.Conclusive() })
	}
	return inTurn(ctx, c, min(c.config.Budget, ocspTimeout), len(urls), ask, conclusive)
}

// askOne asks one responder. It returns no evidence if the responder is silent in this round, and repeats no question
// whose answer, a moment ago, did not count.
func (c *Checker) askOne(ctx context.Context, s *subject, url string) []Evidence {
	what := s.askedFor("responder", url)
	if before, known := c.useless.recent(what, s.at); known && s.round == nil {
		return before
	}
	var reply reply
	var err error
	asked := false
	s.round.each("responder "+url, func() bool {
		asked = true
		reply, err = askResponder(ctx, c.config.Fetcher, question{
			url: url, cert: s.cert, issuer: s.issuer, presented: s.presented, nonce: s.config.DemandNonce, fresh: s.round != nil,
			at: c.config.Now(), maxAge: c.config.MaxAge, skew: c.config.Skew,
		})
		return !silent(err)
	})
	if !asked {
		return nil
	}
	reply.result, err = c.checkAnswer(s, reply.result, err)
	evidence := evidenceOf(SourceOCSP, reply.result, err)
	evidence.Location = url
	var unwritten *fetch.Object
	if err == nil && !s.config.DemandNonce {
		unwritten = c.keepAnswer(s, url, reply)
	}
	if !evidence.Status.Conclusive() && !unanswered(err) {
		c.useless.note(what, s.at, evidence)
	}
	said := []Evidence{evidence}
	c.learnFrom(s, said)
	c.write(s.round, unwritten)
	return said
}

// checkAnswer is checkResponder for what ocsp.Verify returned. It checks stale responses too: a revocation counts at
// any age, so a thief of the key of a revoked responder could choose a date in the past.
func (c *Checker) checkAnswer(s *subject, said ocsp.Result, err error) (ocsp.Result, error) {
	if stale, ok := errors.AsType[*ocsp.StaleError](err); ok {
		if _, refused := c.checkResponder(s, stale.Said); refused != nil {
			return ocsp.Result{}, refused
		}
	}
	if err != nil {
		return said, err
	}
	return c.checkResponder(s, said)
}

// checkResponder refuses a delegated responder whose certificate has ended, or is known locally to be revoked: its
// status is not asked for over the network (RFC 6960, Section 4.2.2.2.1 leaves it to the authority, which says
// ocsp-nocheck in most cases). Of a refused responder not even a revocation is returned, because it would be remembered
// for good.
func (c *Checker) checkResponder(s *subject, said ocsp.Result) (ocsp.Result, error) {
	if !said.Responder.Delegated {
		return said, nil
	}
	cert := said.Responder.Certificate
	if s.at.After(cert.NotAfter.Add(c.config.Skew)) || s.at.Before(cert.NotBefore.Add(-c.config.Skew)) {
		return ocsp.Result{}, &ocsp.ExpiredResponderError{Responder: cert, At: s.at}
	}
	if evidence := c.knownOf(s, cert, s.issuer); refuted(evidence.Status) {
		return ocsp.Result{}, &ocsp.UnauthorizedError{Responder: cert, Err: errors.New("its certificate is revoked, says " + evidence.Source.String())}
	}
	return said, nil
}

// question is one request to one responder.
type question struct {
	url          string
	cert, issuer *x509.Certificate
	presented    []*x509.Certificate
	nonce        bool
	fresh        bool // ask even if the last attempt failed a moment ago
	forPeers     bool // the answer will be stapled
	at           time.Time
	maxAge, skew time.Duration
}

type reply struct {
	body   []byte
	result ocsp.Result
}

// askResponder asks with a SHA-256 identifier (RFC 9919), and again with SHA-1 if the responder does not know the
// certificate by that identifier or fails over it: many know only the old one. For an answer that will be stapled the
// order is reversed: Java, NSS and curl find the certificate in a staple by its SHA-1 identifier only
// (docs/decisions/1120).
func askResponder(ctx context.Context, fetcher *fetch.Fetcher, q question) (reply, error) {
	first, second := crypto.SHA256, crypto.SHA1
	if q.forPeers {
		first, second = second, first
	}
	answer, err := askWith(ctx, fetcher, q, first)
	if !mayKnowByAnother(answer.result, err) {
		return answer, err
	}
	other, failure := askWith(ctx, fetcher, q, second)
	if _, stale := errors.AsType[*ocsp.StaleError](failure); failure == nil || stale { // a revocation counts at any age
		return other, failure
	}
	return answer, err
}

// mayKnowByAnother reports whether a responder may know the certificate by an identifier of another hash. A responder
// that does not implement a hash answers unauthorized, as for a certificate that it does not know, or malformedRequest,
// or fails. A busy one is not asked twice, nor one that demands a signature.
func mayKnowByAnother(said ocsp.Result, err error) bool {
	if refusal, ok := errors.AsType[*ocsp.UnsuccessfulError](err); ok {
		return slices.Contains([]ocsp.ResponseStatus{ocsp.Unauthorized, ocsp.MalformedRequest, ocsp.InternalError}, refusal.Status)
	}
	_, other := errors.AsType[*ocsp.WrongCertificateError](err)
	return other || err == nil && said.Status == pki.StatusUnknown
}

func askWith(ctx context.Context, fetcher *fetch.Fetcher, q question, hash crypto.Hash) (reply, error) {
	issuer, err := ocsp.IssuerOf(q.issuer)
	if err != nil {
		return reply{}, err
	}
	serial, err := ocsp.SerialOf(q.cert)
	if err != nil {
		return reply{}, err
	}
	request := ocsp.NewRequest(issuer.CertID(hash, serial))
	if q.nonce {
		request.Nonce = make([]byte, ocsp.RequesterNonce)
		rand.Read(request.Nonce)
	}
	der, err := request.Marshal()
	if err != nil {
		return reply{}, err
	}
	fetched, err := fetcher.Do(ctx, ocspRequest(q, der, true))
	if bad, ok := errors.AsType[*fetch.Error](err); ok && bad.Cause == fetch.BadStatus {
		fetched, err = fetcher.Do(ctx, ocspRequest(q, der, false)) // RFC 6960, Appendix A: a responder need not support GET
	}
	if err != nil {
		return reply{}, err
	}
	result, err := ocsp.Verify(fetched.Body, ocsp.Query{
		Certificate: q.cert, Issuers: []*x509.Certificate{q.issuer}, Untrusted: q.presented, Time: q.at, MaxAge: q.maxAge, Skew: q.skew, Nonce: request.Nonce,
	})
	return reply{fetched.Body, result}, err
}

// ocspRequest asks by GET if that may be and the address stays short enough for caches, else by POST.
func ocspRequest(q question, der []byte, mayGet bool) fetch.Request {
	request := fetch.Request{URL: q.url, Accept: "application/ocsp-response", MaxBytes: ocsp.MaxResponse, Timeout: ocspTimeout, Fresh: q.fresh}
	if address, get := ocsp.URL(q.url, der); get && mayGet && !q.nonce {
		request.URL = address
		return request
	}
	request.Body, request.Type = der, "application/ocsp-request"
	return request
}

// evidenceOf returns an OCSP response, or why there is none that counts, as evidence.
func evidenceOf(source Source, result ocsp.Result, err error) Evidence {
	evidence := Evidence{Source: source, Err: err}
	if stale, ok := errors.AsType[*ocsp.StaleError](err); ok {
		result, evidence.Status = stale.Said, pki.StatusStale
	}
	evidence.ThisUpdate, evidence.NextUpdate = result.ThisUpdate, result.NextUpdate
	final := result.Status == pki.StatusRevoked && !result.NeverIssued && result.Reason != pki.CertificateHold
	switch {
	case err == nil || final: // an authentic final revocation counts at any age
		evidence.Status, evidence.Reason, evidence.RevokedAt, evidence.Final, evidence.Err = result.Status, result.Reason, result.RevokedAt, final, nil
		if result.NeverIssued {
			evidence.Status, evidence.Reason, evidence.RevokedAt = pki.StatusNotIssued, pki.Unspecified, time.Time{}
		}
		if evidence.Status == pki.StatusUnknown {
			evidence.Err = errors.New("the responder does not know the certificate")
		}
	case evidence.Status == pki.StatusStale:
	case noAnswer(err):
		evidence.Status = pki.StatusUnreachable
	default:
		evidence.Status = pki.StatusInvalid
	}
	return evidence
}

// noAnswer reports whether an error means that the responder made no statement: an attacker on the path can make the
// unsigned error statuses, which are never information (RFC 6960, Section 2.3).
func noAnswer(err error) bool {
	_, unsuccessful := errors.AsType[*ocsp.UnsuccessfulError](err)
	return unsuccessful || unanswered(err)
}

// unanswered reports whether nothing came at all.
func unanswered(err error) bool {
	_, ok := errors.AsType[*fetch.Error](err)
	return ok || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func (s *subject) answerKey(url string) string {
	return "ocsp " + hex.EncodeToString(s.key[:]) + " " + url
}

// keepAnswer keeps an answer in memory and returns, if it counts there, what is to be written.
func (c *Checker) keepAnswer(s *subject, url string, r reply) *fetch.Object {
	version, kept := c.answers.put(s.key, r.result, url, versionAt(r.result.ProducedAt, r.result.ThisUpdate), s.at)
	if !kept {
		return nil
	}
	return &fetch.Object{Key: s.answerKey(url), Version: version, Body: r.body, Fetched: s.at}
}

// loadAnswer looks for answers on disk, unless there was none a moment ago, and verifies them again. Of the answers of
// several responders it keeps the one that counts most, as when they are fetched.
func (c *Checker) loadAnswer(s *subject) (answer, bool) {
	look := place{issuer: s.issuerKey, location: string(s.key[:])}
	if c.answers.tries.recent(look, tryNotBefore, s.at) {
		return answer{}, false
	}
	for _, url := range c.responders(s) {
		object, err := c.config.Fetcher.Load(s.answerKey(url))
		if err != nil {
			continue
		}
		result, err := ocsp.Verify(object.Body, ocsp.Query{
			Certificate: s.cert, Issuers: []*x509.Certificate{s.issuer}, Untrusted: s.presented, Time: s.at, MaxAge: c.config.MaxAge, Skew: c.config.Skew,
		})
		if result, err = c.checkAnswer(s, result, err); err == nil {
			c.answers.put(s.key, result, url, object.Version, s.at)
		}
	}
	found, ok := c.answers.get(s.key)
	if !ok {
		c.answers.tries.note(look, s.at)
	}
	return found, ok
}

// versionAt returns a version that orders objects by first, then by second.
func versionAt(first, second time.Time) (version fetch.Version) {
	binary.BigEndian.PutUint64(version[fetch.VersionSize-16:], uint64(max(0, first.Unix())))
	binary.BigEndian.PutUint64(version[fetch.VersionSize-8:], uint64(max(0, second.Unix())))
	return version
}

// latestOf returns the version with the later first and the later second time of two.
func latestOf(a, b fetch.Version) (version fetch.Version) {
	const second = fetch.VersionSize - 8
	copy(version[:second], slices.MaxFunc([][]byte{a[:second], b[:second]}, bytes.Compare))
	copy(version[second:], slices.MaxFunc([][]byte{a[second:], b[second:]}, bytes.Compare))
	return version
}
