package ocspserver

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// Config says what a Responder answers from and how much it does at once.
type Config struct {
	Universe  Universe  // required
	Delegates Delegates // required

	// Now is the clock of thisUpdate. Zero: time.Now.
	Now func() time.Time
	// Earliest is another clock, which may be behind. No time in an answer is later than it. Nil: Now.
	Earliest func() time.Time
	// Answers is the largest number of responses kept in memory, about a kilobyte each. Zero: 100,000.
	Answers int
	// Signatures is the largest number of signatures made at once. Zero: GOMAXPROCS.
	Signatures int
	// Queue is the largest number of requests that wait for a signature; further requests get tryLater. Zero: 1,024.
	Queue int
	// Patience is how long a request waits for a signature or for the database before it gets tryLater. Zero: 2
	// seconds.
	Patience time.Duration
	// Report is called with the reason why a response could not be signed or did not pass its check. It is a fault that
	// needs attention. Nil: not reported.
	Report func(error)
	// RetryAfter is how long tryLater tells clients to wait. Zero: 5 seconds.
	RetryAfter time.Duration
}

// maxResigned is how many dropped answers one change of the ledger makes again at once; the rest wait for demand.
const maxResigned = 100

// maxAnswered bounds the certificates that one response is about.
const maxAnswered = 8

// Prefix is the path under which a Responder answers: Prefix + issuer, or for GET Prefix + issuer + "/" + request.
const Prefix = "/ocsp/"

// Responder answers OCSP requests. It is safe for concurrent use.
type Responder struct {
	config   Config
	served   atomic.Pointer[served]
	cache    *cache
	flights  *flights
	pool     *pool
	linted   linted
	tryLater Reply
	counters counters
}

// New returns a Responder that answers for no issuer. SetIssuers adds issuers. Run keeps its memory in step with the
// ledger.
func New(config Config) (*Responder, error) {
	if config.Universe == nil || config.Delegates == nil {
		return nil, pki.Errorf(pki.KindInvalid, "make OCSP responder", "no universe or no delegates")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Earliest == nil {
		config.Earliest = config.Now
	}
	config.Answers = cmp.Or(config.Answers, 100_000)
	config.Queue = cmp.Or(config.Queue, 1024)
	config.Patience = cmp.Or(config.Patience, 2*time.Second)
	config.RetryAfter = cmp.Or(config.RetryAfter, 5*time.Second)
	r := &Responder{config: config, cache: newCache(config.Answers), flights: newFlights(), pool: newPool(config.Signatures, config.Queue, config.Patience)}
	r.served.Store(&served{})
	r.tryLater = tryLaterReply
	r.tryLater.RetryAfter = seconds(config.RetryAfter)
	return r, nil
}

// SetIssuers replaces the issuers that the Responder answers for. It keeps the answers of issuers that stay and, if the
// issuers are the same, everything else.
func (r *Responder) SetIssuers(issuers []Issuer) error {
	if slices.EqualFunc(r.served.Load().given, issuers, Issuer.equal) {
		return nil
	}
	next := make(map[string]*issuerState, len(issuers))
	for _, issuer := range issuers {
		state, err := newIssuerState(issuer)
		if err != nil {
			return err
		}
		next[state.id.String()] = state
	}
	r.served.Store(&served{given: slices.Clone(issuers), issuers: next, asked: asked{limit: r.config.Answers}})
	return nil
}

// Run follows a watch of r's universe until ctx ends, and then closes it. Before Run, and while it is behind, answers
// are correct too, but each asks the universe.
func (r *Responder) Run(ctx context.Context, watch *revocation.Watch) error {
	defer watch.Close()
	retry := time.NewTimer(0) // the first change tells where the watch begins
	defer retry.Stop()
	for begun := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-watch.C:
		case <-retry.C:
		}
		change, err := watch.Take(ctx)
		if err != nil {
			r.counters.lost.Add(1)
			retry.Reset(time.Second)
			continue
		}
		if !begun {
			r.cache.begin(change.Seq)
			begun = true
		}
		r.follow(ctx, change)
	}
}

// follow applies one change and immediately makes the dropped answers again that were in demand.
func (r *Responder) follow(ctx context.Context, change revocation.Change) {
	for _, again := range r.cache.follow(change, maxResigned) {
		if issuer := r.served.Load().issuers[again.issuer.String()]; issuer != nil {
			r.refresh(ctx, issuer, again.certKey, again.hash)
		}
	}
}

// recall answers a GET whose URL was understood before; ok is false if it was not.
func (r *Responder) recall(ctx context.Context, path []byte) (reply Reply, ok bool) {
	q, ok := r.served.Load().asked.get(path)
	if !ok {
		return Reply{}, false
	}
	reply = r.respondOne(ctx, q)
	r.counters.count(&reply)
	return reply, true
}

// Answer answers one request. path is as received, with percent-encoding and without the query. body is the body of a
// POST, which may be cut to any length above ocsp.MaxRequest. ctx and Config.Patience bound the time it takes.
func (r *Responder) Answer(ctx context.Context, method, path string, body []byte) Reply {
	reply := r.answer(ctx, method, path, body)
	r.counters.count(&reply)
	return reply
}

func (r *Responder) answer(ctx context.Context, method, path string, body []byte) Reply {
	below, found := strings.CutPrefix(path, Prefix)
	name, rest, _ := strings.Cut(below, "/")
	served := r.served.Load()
	issuer := served.issuers[name]
	if !found || issuer == nil {
		return notFoundReply
	}
	var err error
	var request *ocsp.Request
	switch method {
	case "GET", "HEAD":
		if rest == "" {
			return usageReply
		}
		if len(rest) > maxGET {
			return tooLongReply
		}
		request, err = decodeGET(rest, issuer.asked)
	case "POST":
		if len(body) > ocsp.MaxRequest {
			return tooLargeReply
		}
		request, err = ocsp.ParseRequest(body)
	default:
		return methodReply
	}
	if err != nil {
		return malformedReply
	}
	q, reply, plain := r.understand(ctx, issuer, request)
	if !plain {
		return reply
	}
	// The question of a POST is in its body: remembered under its path it would answer the GETs of others. A URL is
	// remembered once its answer is in the cache.
	if method != "POST" && request.Nonce == nil && r.cache.get(q.key, q.hash) != nil {
		served.asked.add(path, q)
	}
	return r.respondOne(ctx, q)
}

// understand reduces a request to an inquiry. If that is not possible, it returns the reply.
func (r *Responder) understand(ctx context.Context, issuer *issuerState, request *ocsp.Request) (q inquiry, reply Reply, plain bool) {
	if len(request.Items) > maxAnswered {
		return q, malformedReply, false
	}
	hash := 0
	for _, item := range request.Items {
		// The path and every CertID must name the issuer: one issuer's answer never stands for another's.
		var ok bool
		if hash, ok = issuer.matches(item.ID); !ok {
			return q, unauthorizedReply, false
		}
	}
	live := issuer.Nonce == NonceLive && request.Nonce != nil
	if len(request.Items) > 1 || live {
		return q, r.respondAfresh(ctx, issuer, request, live), false
	}
	serial, ok := pki.SerialFromInteger(request.Items[0].ID.Serial)
	if !ok { // no certificate of Signet has such a serial number
		return q, r.respondAfresh(ctx, issuer, request, false), false
	}
	return inquiry{issuer, certKey{issuer.id, serial}, hash}, Reply{}, true
}

// respondOne answers about one certificate, from the cache if possible.
func (r *Responder) respondOne(ctx context.Context, q inquiry) Reply {
	issuer, key, hash := q.issuer, q.key, q.hash
	seq := r.config.Universe.Seq() // read before applied and the cache: see cache.go
	inStep := r.cache.inStep(seq)
	now := r.config.Now()
	answer := r.cache.get(key, hash)
	if answer != nil && !answer.fresh(now) {
		answer = nil
	}
	if answer != nil && inStep {
		return r.respondKept(issuer, key, answer, now)
	}
	facts, err := r.lookup(ctx, key)
	if err != nil {
		return r.tryLater
	}
	if answer != nil && facts.Issuance == revocation.Issued && answer.event == facts.EventSeq {
		return r.respondKept(issuer, key, answer, now)
	}
	if reply, final := r.refuse(issuer, key.serial, facts, now); final {
		return reply
	}
	made, err := r.make(ctx, issuer, key, hash, facts)
	if err != nil {
		return r.failed(err)
	}
	return made.reply(issuer, now)
}

// respondKept gives a kept answer. Past its half-life, the answer is replaced in the background.
func (r *Responder) respondKept(issuer *issuerState, key certKey, answer *kept, now time.Time) Reply {
	if !answer.hot.Load() {
		answer.hot.Store(true)
	}
	if answer.due(now) {
		go r.refresh(context.Background(), issuer, key, answer.hash)
	}
	r.counters.kept.Add(1)
	return answer.reply(issuer, now)
}

// fresh reports whether the answer may be given at now. An answer from the future was made before a clock was set back.
// An answer by a dropped delegate is worthless; it may have been stored after the delegate was dropped.
func (s *signed) fresh(now time.Time) bool {
	return now.Before(s.until) && !s.thisUpdate.After(now.Add(time.Minute)) && !s.by.dropped.Load()
}

// lookup asks the universe, for at most Config.Patience.
func (r *Responder) lookup(ctx context.Context, key certKey) (revocation.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Patience)
	defer cancel()
	facts, err := r.config.Universe.Lookup(ctx, key.issuer, key.serial)
	if err != nil {
		r.counters.unavailable.Add(1)
	}
	return facts, err
}

// refuse returns the reply to a request that gets no signed answer; final is false if it gets one.
func (r *Responder) refuse(issuer *issuerState, serial pki.Serial, facts revocation.Answer, now time.Time) (reply Reply, final bool) {
	switch facts.Issuance {
	case revocation.Issued:
		if facts.Status == pki.StatusGood || facts.Status == pki.StatusRevoked {
			return Reply{}, false
		}
	case revocation.NeverIssued:
		return unauthorizedReply, issuer.Public || issuer.Foreign
	case revocation.NotCovered:
		return unauthorizedReply, true
	case revocation.CannotTell:
		// A certificate that expired long ago has left the inventory: no later request will find it either.
		if p, ok := serial.Unmask(issuer.key); ok && p.Epoch.Passed(issuer.Retention.Cutoff(now).Unix()) {
			return unauthorizedReply, true
		}
	}
	return r.tryLater, true
}

// make signs the answer about one certificate, or waits for the caller that is signing it.
func (r *Responder) make(ctx context.Context, issuer *issuerState, key certKey, hash int, facts revocation.Answer) (*signed, error) {
	name := flightKey{key, hash, facts.Issuance, facts.EventSeq}
	under, mine := r.flights.join(name)
	if mine {
		// Since this caller found nothing kept, another flight may have landed; then its answer is there.
		if landed := r.cache.get(key, hash); landed != nil && facts.Issuance == revocation.Issued &&
			landed.event == facts.EventSeq && landed.fresh(r.config.Now()) {
			r.flights.land(name, under, landed.signed, nil)
			return landed.signed, nil
		}
		return r.fly(name, under, issuer, facts, r.pool.enter)
	}
	select {
	case <-under.done:
		return under.answer, under.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errCrashed is the error of callers that waited for a signature that ended in a panic.
var errCrashed = pki.Errorf(pki.KindInternal, "sign OCSP response", "the signer crashed")

// fly makes the signature of a flight. The waiting callers are told however it ends.
func (r *Responder) fly(name flightKey, under *flight, issuer *issuerState, facts revocation.Answer, enter func() error) (answer *signed, err error) {
	err = errCrashed
	defer func() { r.flights.land(name, under, answer, err) }()
	answer, err = r.sign(issuer, []question{{issuer.certID(name.hash, name.serial.Integer()), facts}}, nil, enter)
	if err == nil && facts.Issuance == revocation.Issued {
		r.cache.store(name.certKey, name.hash, answer, facts.EventSeq, facts.Seq)
	}
	return answer, err
}

// refresh makes an answer again that no request waits for, if a signing place is free.
func (r *Responder) refresh(ctx context.Context, issuer *issuerState, key certKey, hash int) {
	facts, err := r.lookup(ctx, key)
	if err != nil {
		return // the kept answer serves until it expires
	}
	if _, final := r.refuse(issuer, key.serial, facts, r.config.Now()); final || facts.Issuance != revocation.Issued {
		return
	}
	if !r.pool.tryEnter() { // before the flight begins: requests that join it would have waited for a place
		return
	}
	name := flightKey{key, hash, facts.Issuance, facts.EventSeq}
	under, mine := r.flights.join(name)
	if !mine {
		r.pool.leave()
		return
	}
	if _, err := r.fly(name, under, issuer, facts, func() error { return nil }); err == nil {
		r.counters.refreshed.Add(1)
	}
}

// respondAfresh answers what the cache cannot: several certificates, a nonce, a serial number that no certificate of
// Signet can have.
func (r *Responder) respondAfresh(ctx context.Context, issuer *issuerState, request *ocsp.Request, live bool) Reply {
	questions := make([]question, len(request.Items))
	for i, item := range request.Items {
		facts := revocation.Answer{Issuance: revocation.NeverIssued}
		serial, ok := pki.SerialFromInteger(item.ID.Serial)
		if ok {
			var err error
			if facts, err = r.lookup(ctx, certKey{issuer.id, serial}); err != nil {
				return r.tryLater
			}
		}
		if reply, final := r.refuse(issuer, serial, facts, r.config.Now()); final {
			return reply
		}
		questions[i] = question{item.ID, facts}
	}
	var nonce []byte
	if live {
		nonce = request.Nonce
	}
	answer, err := r.sign(issuer, questions, nonce, r.pool.enter)
	if err != nil {
		return r.failed(err)
	}
	reply := answer.reply(issuer, r.config.Now())
	if live {
		reply.CacheControl = noStore
	}
	return reply
}

// failed returns the reply to a request whose answer could not be signed.
func (r *Responder) failed(err error) Reply {
	if errors.Is(err, errBusy) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return r.tryLater
	}
	// There is no delegate, or no place at the key, for now.
	if kind := pki.KindOf(err); kind == pki.KindUnavailable || kind == pki.KindExhausted {
		return r.tryLater
	}
	r.counters.failed.Add(1)
	if r.config.Report != nil {
		r.config.Report(err)
	}
	return internalReply
}
