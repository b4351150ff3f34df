package ocspserver

import (
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// errBusy means that the queue for signatures is full.
var errBusy = errors.New("too many requests wait for a signature")

// pool bounds how many signatures are made at once and how many callers wait.
type pool struct {
	places   chan struct{}
	queue    int64
	patience time.Duration
	waiting  atomic.Int64
}

func newPool(places, queue int, patience time.Duration) *pool {
	if places == 0 {
		places = runtime.GOMAXPROCS(0)
	}
	return &pool{places: make(chan struct{}, places), queue: int64(queue), patience: patience}
}

// enter waits for a place up to the pool's patience. The error is errBusy if too many callers wait or it takes too
// long. A caller that got a place calls leave.
func (p *pool) enter() error {
	if p.tryEnter() {
		return nil
	}
	if p.waiting.Add(1) > p.queue {
		p.waiting.Add(-1)
		return errBusy
	}
	defer p.waiting.Add(-1)
	timer := time.NewTimer(p.patience)
	defer timer.Stop()
	select {
	case p.places <- struct{}{}:
		return nil
	case <-timer.C:
		return errBusy
	}
}

// tryEnter takes a place if one is free, for work that no request waits for.
func (p *pool) tryEnter() bool {
	select {
	case p.places <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p *pool) leave() { <-p.places }

// inTouch is how old the universe's knowledge may be and still count as current: it polls every second.
const inTouch = 10 * time.Second

// question is a certificate in question and what the universe knows about it.
type question struct {
	id    ocsp.CertID
	facts revocation.Answer
}

// sign makes, checks and counts one response. enter takes the place that sign gives back.
func (r *Responder) sign(issuer *issuerState, questions []question, nonce []byte, enter func() error) (*signed, error) {
	if err := enter(); err != nil {
		return nil, err
	}
	defer r.pool.leave()
	delegate, err := r.config.Delegates.Current(issuer.id)
	if err != nil {
		return nil, err
	}
	now := r.config.Now().UTC().Truncate(time.Second)
	producedAt, thisUpdate := r.dates(now)
	// An answer expires no later than its responder's certificate.
	until := thisUpdate.Add(issuer.Validity)
	if end := delegate.Certificate.NotAfter; until.After(end) {
		until = end
	}
	if !until.After(now.Add(issuer.MaxAge)) {
		return nil, pki.Errorf(pki.KindUnavailable, "sign OCSP response", "the answer would end at %s: too little is known, or the responder's certificate ends", until.Format(time.RFC3339))
	}
	draft := ocsp.ResponseData{ProducedAt: producedAt, Nonce: nonce, Answers: make([]ocsp.SingleResponse, len(questions))}
	good := true
	for i, q := range questions {
		draft.Answers[i] = q.answer(issuer, producedAt, thisUpdate, until)
		good = good && draft.Answers[i].Status == pki.StatusGood
		draft.ExtendedRevoke = draft.ExtendedRevoke || q.facts.Issuance == revocation.NeverIssued
	}
	der, err := delegate.Signer.Sign(draft)
	if err != nil {
		return nil, err
	}
	if err := ocsp.Check(der, ocsp.Expected{Responder: delegate.Certificate, Answers: draft.Answers, Nonce: nonce, SkipVerify: true}); err != nil {
		return nil, err
	}
	if err := r.linted.check(delegate, &draft, der); err != nil {
		return nil, err
	}
	r.counters.signed.Add(1)
	return newSigned(der, thisUpdate, until, good, delegate), nil
}

// dates returns the times of an answer. producedAt is now, by the clock that is behind. thisUpdate is the last time at
// which the status is known to have been correct (RFC 6960, Section 2.4): now or, while the database does not answer,
// the time when it last did.
func (r *Responder) dates(now time.Time) (producedAt, thisUpdate time.Time) {
	producedAt = earlier(now, r.config.Earliest())
	if asOf := r.config.Universe.AsOf(); asOf.Before(now.Add(-inTouch)) {
		return producedAt, earlier(producedAt, asOf)
	}
	return producedAt, producedAt
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		a = b
	}
	return a.UTC().Truncate(time.Second)
}

// answer expresses the facts as a SingleResponse. refuse has already sorted out the certificates that get none.
func (q question) answer(issuer *issuerState, producedAt, thisUpdate, until time.Time) ocsp.SingleResponse {
	if q.facts.Issuance == revocation.NeverIssued {
		return ocsp.NeverIssued(q.id, thisUpdate, until)
	}
	answer := ocsp.SingleResponse{ID: q.id, Status: q.facts.Status, ThisUpdate: thisUpdate, NextUpdate: until}
	if q.facts.Status == pki.StatusRevoked {
		answer.Reason, answer.InvalidityAt = q.facts.Reason, q.facts.InvalidityAt
		answer.RevokedAt = q.facts.RevokedAt
		if answer.RevokedAt.After(thisUpdate) { // recorded by a clock that is ahead of this one
			answer.RevokedAt = thisUpdate
		}
	}
	if issuer.Retention.Keep > 0 { // RFC 6960, Section 4.4.4: back from producedAt
		answer.ArchiveCutoff = issuer.Retention.Cutoff(producedAt).Truncate(time.Second)
	}
	return answer
}
