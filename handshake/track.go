package handshake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"iter"
	"maps"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/handshake/fetch"
)

// Track closes conn when a certificate of its peer becomes revoked: as soon as any check of this Checker learns of it,
// at once if one did since the handshake, and otherwise with the next poll of Run. The handshake must be complete. The
// returned function ends the tracking; call it when the connection is closed. Connections over a Guard are already
// tracked; one that is tracked twice is closed by whichever learns first.
//
// A poll asks once about a certificate, however many connections rest on it, and closes all of them except those that
// would have been accepted nevertheless (ReportOnly, or an Override that accepted a revoked certificate). The error is
// ErrNoVerifiedChain if no verified chain is known: with an Override, only a Guard records it, and an untrusted peer
// has none.
func (c *Checker) Track(conn *tls.Conn) (stop func(), err error) {
	state := conn.ConnectionState()
	var result *Result
	if guard, ok := conn.NetConn().(*Guard); ok {
		result = guard.Result()
	}
	chain := c.acceptedChain(result, state)
	if len(chain) == 0 && (len(state.PeerCertificates) > 0 || !state.HandshakeComplete) {
		return nil, ErrNoVerifiedChain
	}
	return c.track(conn.NetConn(), chain, state.PeerCertificates, result), nil
}

// track watches the certificates of a chain whose revocation would have been refused: not those under ReportOnly nor,
// over a Guard, those that were revoked when an Override accepted them.
func (c *Checker) track(conn net.Conn, chain, presented []*x509.Certificate, result *Result) (stop func()) {
	entry := &connection{conn: conn, chain: chain, presented: presented}
	for i := range max(0, len(chain)-1) {
		key := keyOf(chain[i], chain[i+1])
		entry.path += string(key[:])
		accepted := result != nil && i < len(result.Certificates) && refuted(result.Certificates[i].Status)
		if !accepted && c.policyFor(c.issuers[issuerKeyOf(chain[i+1])]) != ReportOnly {
			entry.keys = append(entry.keys, key)
		}
	}
	stop = c.tracked.add(entry)
	for _, key := range entry.keys {
		if _, revoked := c.memory.recall(key); revoked { // learnt after the check: who learnt it closed what was tracked then
			c.tracked.close(key)
		}
	}
	return stop
}

// acceptedChain returns the chain that a connection rests on: the one that its Guard recorded, or the first verified
// chain without a certificate known to be revoked, which is the one that was accepted. What a peer sent is not a chain:
// nothing shows that one of its certificates issued the next.
func (c *Checker) acceptedChain(result *Result, state tls.ConnectionState) []*x509.Certificate {
	switch {
	case result != nil && result.unverified:
		return nil // as it was presented: an Override took it without a chain
	case result != nil:
		return result.Chain
	case len(state.VerifiedChains) == 0:
		return nil
	}
	for _, chain := range state.VerifiedChains {
		if !c.remembersRevoked(chain) {
			return chain
		}
	}
	return state.VerifiedChains[0]
}

func (c *Checker) remembersRevoked(chain []*x509.Certificate) bool {
	for i := range len(chain) - 1 {
		if _, revoked := c.memory.recall(keyOf(chain[i], chain[i+1])); revoked {
			return true
		}
	}
	return false
}

// registry holds the live connections by the certificates that they rest on.
type registry struct {
	mu     sync.Mutex
	byCert map[certificateKey]map[*connection]struct{} // guarded by mu
}

// connection is one tracked connection.
type connection struct {
	conn      net.Conn
	chain     []*x509.Certificate
	presented []*x509.Certificate
	keys      []certificateKey // of the certificates whose revocation closes it
	path      string           // the keys of every certificate but the anchor, in one
}

func (c *connection) inspection() inspection {
	return inspection{chain: c.chain, presented: c.presented}
}

func newRegistry() *registry {
	return &registry{byCert: make(map[certificateKey]map[*connection]struct{})}
}

func (r *registry) add(entry *connection) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range entry.keys {
		if r.byCert[key] == nil {
			r.byCert[key] = make(map[*connection]struct{})
		}
		r.byCert[key][entry] = struct{}{}
	}
	return func() { r.remove(entry) }
}

func (r *registry) remove(entry *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range entry.keys {
		delete(r.byCert[key], entry)
		if len(r.byCert[key]) == 0 {
			delete(r.byCert, key)
		}
	}
}

// close closes every connection that rests on a certificate. It closes the connection below TLS, because a close_notify
// could wait for a peer that does not read.
func (r *registry) close(key certificateKey) {
	r.mu.Lock()
	var doomed []*connection
	for entry := range r.byCert[key] {
		doomed = append(doomed, entry)
	}
	r.mu.Unlock()
	for _, entry := range doomed {
		r.remove(entry)
		_ = entry.conn.Close() // it may have ended by itself
	}
}

// chains returns one connection for every chain that connections rest on. Two chains with the same leaf may differ in
// an intermediate.
func (r *registry) chains() map[string]*connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	distinct := make(map[string]*connection)
	for _, entries := range r.byCert {
		for entry := range entries {
			distinct[entry.path] = entry
		}
	}
	return distinct
}

// Run refreshes what is past half its life, ahead of use, and every Config.Recheck asks the sources again about the
// certificates of tracked connections. It returns when ctx ends.
func (c *Checker) Run(ctx context.Context) error {
	ticker := time.NewTicker(c.config.Recheck)
	defer ticker.Stop()
	var begun sync.WaitGroup
	shared := newRounds()
	defer func() { begun.Wait(); c.disk.wait() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C: // whoever waits for a slow host in an earlier round holds up nobody else
			begun.Go(func() { c.recheckAll(ctx, shared) })
		}
	}
}

// Recheck is one round of Run. When it returns, tracked connections of certificates that their sources now call revoked
// are closed, and what came is written. A chain is judged as soon as its own sources have answered.
func (c *Checker) Recheck(ctx context.Context) {
	c.recheckAll(ctx, newRounds())
	c.disk.wait()
}

func (c *Checker) recheckAll(ctx context.Context, shared *rounds) {
	c.refreshDue(ctx, c.recheckTracked(ctx, shared), shared)
}

// recheckTracked is the part of a round that is about tracked connections.
func (c *Checker) recheckTracked(ctx context.Context, shared *rounds) *round {
	var others sync.WaitGroup
	others.Go(func() { _ = c.learnFromOthers() }) // a directory that cannot be read any more takes nothing of what is known
	defer others.Wait()
	round, tracked := newRound(), c.tracked.chains()
	for _, entry := range tracked {
		round.chains = append(round.chains, entry.inspection())
	}
	shared.chains.each(maps.Keys(tracked), func(path string) {
		if ctx.Err() == nil {
			c.recheck(ctx, tracked[path].inspection(), round)
		}
	})
	round.end()
	c.writeLater(round.unwritten())
	return round
}

func (c *Checker) recheck(ctx context.Context, in inspection, round *round) {
	if c.config.Network == NetworkWhenNeeded {
		for _, s := range c.subjects(in, c.config.Now()) {
			s.round = round
			c.poll(ctx, s)
		}
	}
	c.closeRefuted(in, round)
	c.writeLater(round.unwritten())
}

func (c *Checker) writeLater(objects []*fetch.Object) {
	for _, object := range objects {
		c.disk.keep(object, func() { c.write(nil, object) })
	}
}

// closeRefuted judges a chain again, by what is at hand and what responders said in this round, and closes the
// connections of a certificate that must not be accepted, holds included. A status that has become unavailable closes
// none, nor does a missing staple of a must-staple certificate, which came with the handshake.
func (c *Checker) closeRefuted(in inspection, round *round) {
	for _, s := range c.subjects(in, c.config.Now()) {
		s.round = round
		c.lookAtHand(s)
		s.add(round.heardOf(s.key)...)
		c.learnFrom(s, s.evidence)
		if refuted(c.judge(s).Status) {
			c.tracked.close(s.key)
		}
	}
}

// maxPolls bounds the chains that are asked about at once, and the hosts whose lists are refreshed at once, by all rounds
// of a Run together.
const maxPolls = 16

// rounds is what the rounds of one Run have in common.
type rounds struct {
	chains, hosts queue
}

func newRounds() *rounds {
	return &rounds{queue{slots: make(chan struct{}, maxPolls)}, queue{slots: make(chan struct{}, maxPolls)}}
}

// queue is the work that rounds are at. It is safe for concurrent use.
type queue struct {
	underway sync.Map      // by name, also while it waits for its turn
	slots    chan struct{} // of those at work
}

// each does work for every name that no other round is at, in the order in which they came, and waits until it is done.
func (q *queue) each(names iter.Seq[string], work func(name string)) {
	var begun sync.WaitGroup
	for name := range names {
		if _, busy := q.underway.LoadOrStore(name, nil); busy {
			continue
		}
		begun.Go(func() {
			q.slots <- struct{}{}
			defer func() { q.underway.Delete(name); <-q.slots }()
			work(name)
		})
	}
	begun.Wait()
}

// round is one round of polling. It asks each source once, however many certificates or connections the answer is for.
// A nil round is none.
type round struct {
	chains []inspection // of tracked connections

	mu    sync.Mutex
	turns map[string]*turn              // guarded by mu
	heard map[certificateKey][]Evidence // what responders said; guarded by mu
	later []*fetch.Object               // to be written when connections are closed; guarded by mu
	ended bool                          // every chain was judged; guarded by mu
}

func newRound() *round {
	return &round{turns: make(map[string]*turn), heard: make(map[certificateKey][]Evidence)}
}

func (r *round) hear(about certificateKey, evidence []Evidence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard[about] = evidence
}

func (r *round) heardOf(about certificateKey) []Evidence {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard[about]
}

// writeLater reports whether there is a round that has not ended.
func (r *round) writeLater(object *fetch.Object) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.later = append(r.later, object)
	return true
}

// unwritten returns what came since it was called last.
func (r *round) unwritten() []*fetch.Object {
	r.mu.Lock()
	defer r.mu.Unlock()
	later := r.later
	r.later = nil
	return later
}

// end has whatever comes later written by whoever waited for it.
func (r *round) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

type turn struct {
	once   sync.Once
	failed atomic.Bool
}

func (r *round) turn(of string) *turn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turns[of] == nil {
		r.turns[of] = new(turn)
	}
	return r.turns[of]
}

// once calls ask unless it was called for the same in this round, and waits for a call under way. It reports whether
// there was an answer.
func (r *round) once(what string, ask func() bool) bool {
	t := r.turn(what)
	t.once.Do(func() { t.failed.Store(!ask()) })
	return !t.failed.Load()
}

// each asks a host one of many questions, unless the host has left one of this round unanswered. The first question
// goes alone, so that an absent host is waited for once.
func (r *round) each(whom string, ask func() bool) {
	if r == nil {
		ask()
		return
	}
	t, first := r.turn(whom), false
	t.once.Do(func() { first = true; t.failed.Store(!ask()) })
	if !first && !t.failed.Load() && !ask() {
		t.failed.Store(true)
	}
}

// poll asks the sources of one certificate again: its lists and their deltas by conditional requests, and its
// responders only if no list tells the status.
func (c *Checker) poll(ctx context.Context, s *subject) {
	s.round.once("certificate "+string(s.key[:]), func() bool {
		target, err := crl.NewTarget(s.cert)
		if err == nil && !c.pollLists(ctx, s, target) {
			s.round.hear(s.key, c.askResponders(ctx, *s))
		}
		return true
	})
}

// pollLists reports whether the lists that can be had tell the status of the certificate. Configured lists need not be
// about it.
func (c *Checker) pollLists(ctx context.Context, s *subject, target crl.Target) bool {
	held := c.pollPointers(ctx, s, target, s.pointers(target))
	held = append(held, c.pollPointers(ctx, s, target, deltaPointers(target, held))...)
	return c.judgeLists(s, target, held, nil).Status.Conclusive()
}

// listTurn names a list in a round. A list is asked for per issuer; among the certificates of one issuer it is admitted
// for the first that it counts for (admitForAny).
func (s *subject) listTurn(location string) string {
	return "list " + string(s.issuerKey[:]) + location
}

// pollPointers fetches the lists of pointers, and returns those that there are. A file is read again when it is judged.
func (c *Checker) pollPointers(ctx context.Context, s *subject, target crl.Target, pointers []pointer) (held []*heldList) {
	for _, p := range pointers {
		for _, location := range p.locations {
			answered := !isURL(location)
			if !answered {
				answered = s.round.once(s.listTurn(location), func() (came bool) {
					s.round.each("host "+statusHost(location), func() bool {
						_, unwritten, err := c.fetchList(ctx, s, target, location, p.configured, c.own(s, target, location, p.configured))
						c.write(s.round, unwritten)
						came = err == nil
						return !silentHost(err)
					})
					return came
				})
			}
			if !answered {
				continue
			}
			if h := c.atHand(s, target, location, p.configured); h != nil {
				held = append(held, h)
				if !c.ended(h, s.at) {
					break // the other locations have the same list
				}
			}
		}
	}
	return held
}

// refreshDue refreshes lists that are not in use at the moment, so that the next handshake finds them fresh: hosts in
// parallel, the lists of one host one after the other until it is silent. A list that is not reached in the time of one
// list is due in the next round.
func (c *Checker) refreshDue(ctx context.Context, round *round, shared *rounds) {
	if c.config.Network != NetworkWhenNeeded {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, crlTimeout)
	defer cancel()
	now := c.config.Now()
	hosts := c.lists.byHost(now)
	shared.hosts.each(maps.Keys(hosts), func(host string) { c.refreshHost(ctx, round, hosts[host], now) })
}

func (c *Checker) refreshHost(ctx context.Context, round *round, lists []sponsored, now time.Time) {
	for _, list := range lists {
		if !c.refreshOne(ctx, round, list, now) {
			return
		}
	}
}

// refreshOne refreshes a list that is due, unless it was asked for in this round. It reports whether to go on with its
// host.
func (c *Checker) refreshOne(ctx context.Context, round *round, list sponsored, now time.Time) bool {
	asked := list.sponsor.question()
	asked.at = now
	target, err := crl.NewTarget(asked.cert)
	if err != nil || ctx.Err() != nil || !c.lists.reserve(list.held, now, c.ended(list.held, now)) {
		return ctx.Err() == nil
	}
	there := true
	round.once(asked.listTurn(list.held.location), func() bool {
		there = !silentHost(c.refreshList(ctx, &asked, target, list.held))
		return there
	})
	return there
}

// sponsored is a list, and the subject that it was admitted for.
type sponsored struct {
	held    *heldList
	sponsor *subject
}

// byHost returns the lists that may be refreshed, by host. It drops abandoned ones, which would otherwise be asked for
// for ever.
func (l *lists) byHost(at time.Time) map[string][]sponsored {
	l.mu.Lock()
	defer l.mu.Unlock()
	hosts := make(map[string][]sponsored)
	for from, h := range l.held {
		switch s := l.sponsor[from]; {
		case !isURL(from.location):
		case h.abandoned(at):
			l.drop(from)
		case s != nil:
			host := statusHost(from.location)
			hosts[host] = append(hosts[host], sponsored{h, s})
		}
	}
	return hosts
}

// abandoned reports whether a list has been unused for as long as it lasts, and so has ended. The caller holds mu.
func (h *heldList) abandoned(at time.Time) bool {
	return !h.list.NextUpdate.IsZero() && at.Sub(h.used) > h.list.NextUpdate.Sub(h.list.ThisUpdate)
}

// statusHost returns the host of a location; the location itself if it has none, which is then asked for on its own.
func statusHost(location string) string {
	if u, err := url.Parse(location); err == nil && u.Host != "" {
		return u.Host
	}
	return location
}

// silent reports whether a question failed because the host did not answer.
func silent(err error) bool {
	e, failed := errors.AsType[*fetch.Error](err)
	return failed && (e.Cause == fetch.Network || e.Cause == fetch.TimedOut) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// silentHost is silent for a host of lists. A host that begins to answer is not silent: besides a broken, large or slow
// list it may have others.
func silentHost(err error) bool {
	e, failed := errors.AsType[*fetch.Error](err)
	return silent(err) && !(failed && e.Began)
}
