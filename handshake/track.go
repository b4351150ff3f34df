package handshake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"signet.example/signet/crl"
	"signet.example/signet/handshake/fetch"
)

// Track closes conn when a certificate of its peer becomes revoked: as soon as any check of this Checker learns of it, at once if one did
// since the handshake, and at the latest with the poll of Run that does. The handshake must be complete. The returned function ends the tracking;
// call it when the connection is closed. Connections over a Guard are tracked already; one that is tracked twice is closed by whichever learns first.
// A certificate that many connections rest on is asked about once a poll, and all of them are closed but those that would have been accepted
// nevertheless (ReportOnly, or an Override that accepted it revoked). It is ErrNoVerifiedChain if it cannot be told what the connection
// rests on: with an Override only a Guard knows, and of a peer that an Override accepted untrusted nobody does.
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

// track watches the certificates of a chain that a revocation would have refused: not those of ReportOnly, nor, over a Guard,
// what was revoked when an Override accepted it.
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

// acceptedChain is the chain that a connection rests on: the one its Guard knows, or the first that verified and has nothing in it that
// is known to be revoked, since that is the one that was accepted. What a peer sent is none: nobody says that one of it issued the next.
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

// registry knows the live connections by the certificates they rest on.
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

// close cuts every connection that rests on a certificate. It closes the connection below TLS: a close_notify could wait for a peer that does
// not read.
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

// chains returns one connection for every chain that connections rest on: of two with the same leaf, one may rest on an intermediate that
// the other does not know.
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

// Run refreshes what is past half its life ahead of use, and asks the sources again, every Config.Recheck, about the
// certificates of tracked connections. It returns when ctx ends.
func (c *Checker) Run(ctx context.Context) error {
	ticker := time.NewTicker(c.config.Recheck)
	defer ticker.Stop()
	var refreshes errgroup.Group
	refreshes.SetLimit(1) // of one round after the other, beside the rounds: nobody's connection waits for a host that is silent
	defer func() { _ = refreshes.Wait() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			round := c.recheckTracked(ctx)
			refreshes.TryGo(func() error { c.refreshDue(ctx, round); return nil })
		}
	}
}

// maxPolls bounds the chains that are asked about at once.
const maxPolls = 16

// Recheck is one round of Run: when it returns, tracked connections of certificates that their sources call revoked by
// now are closed. A chain is judged as soon as its own sources have answered.
func (c *Checker) Recheck(ctx context.Context) { c.refreshDue(ctx, c.recheckTracked(ctx)) }

// recheckTracked is the part of a round that is about tracked connections.
func (c *Checker) recheckTracked(ctx context.Context) *round {
	_ = c.learnFromOthers() // a directory that cannot be read any more takes nothing of what is known
	round := newRound()
	for _, entry := range c.tracked.chains() {
		round.chains = append(round.chains, inspection{chain: entry.chain, presented: entry.presented})
	}
	var polls errgroup.Group
	polls.SetLimit(maxPolls)
	for _, in := range round.chains {
		polls.Go(func() error {
			if ctx.Err() == nil {
				c.recheck(ctx, in, round)
			}
			return nil
		})
	}
	_ = polls.Wait()
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
}

// closeRefuted judges a chain again, by what is at hand and what responders said in this round, and closes the connections of what must not be
// accepted in it, holds included. That nobody tells a status any more closes none, nor that there is no staple here for a certificate that
// demands one: it came with the handshake.
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

// round is one round of asking: whom it asks it asks once, however many certificates or connections the answer is for. The nil round is none.
type round struct {
	chains []inspection // of tracked connections

	mu    sync.Mutex
	turns map[string]*turn              // guarded by mu
	heard map[certificateKey][]Evidence // what responders said; guarded by mu
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

// once asks unless that was asked in this round, and waits for whoever does. It reports whether it was answered.
func (r *round) once(what string, ask func() bool) bool {
	t := r.turn(what)
	t.once.Do(func() { t.failed.Store(!ask()) })
	return !t.failed.Load()
}

// each asks somebody one of many questions, unless he left one of this round without an answer. The first one goes alone, so that nobody is
// waited for twice who is not there.
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

// poll asks the sources of one certificate again: its lists and their deltas with conditional questions, and only where none of them tells
// its responders.
func (c *Checker) poll(ctx context.Context, s *subject) {
	s.round.once("certificate "+string(s.key[:]), func() bool {
		target, err := crl.NewTarget(s.cert)
		if err == nil && !c.pollLists(ctx, s, target) {
			s.round.hear(s.key, c.askResponders(ctx, *s))
		}
		return true
	})
}

// pollLists reports whether lists that were to be had tell the status of the certificate. Those that are configured need not be about it.
func (c *Checker) pollLists(ctx context.Context, s *subject, target crl.Target) bool {
	held := c.pollPointers(ctx, s, target, s.pointers(target))
	held = append(held, c.pollPointers(ctx, s, target, deltaPointers(target, held))...)
	return c.judgeLists(s, target, held, nil).Status.Conclusive()
}

// listTurn names a list in a round. What counts for the certificates of one issuer may not for those of another; of one issuer's it is
// taken in for the first that it counts for (admitForAny).
func (s *subject) listTurn(location string) string {
	return "list " + string(s.issuerKey[:]) + location
}

// pollPointers asks for the lists of pointers, and returns what there is. A file is read again when it is judged.
func (c *Checker) pollPointers(ctx context.Context, s *subject, target crl.Target, pointers []pointer) (held []*heldList) {
	for _, p := range pointers {
		for _, location := range p.locations {
			answered := !isURL(location)
			if !answered {
				answered = s.round.once(s.listTurn(location), func() (came bool) {
					s.round.each("host "+statusHost(location), func() bool {
						_, err := c.fetchList(ctx, s, target, location, p.configured, c.own(s, target, location, p.configured))
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

// refreshDue refreshes lists that nobody uses at the moment, so that the next handshake finds them fresh: side by side of different hosts, one after
// the other of one, until that is silent. What it does not come to in the time of one list is due in the next round.
func (c *Checker) refreshDue(ctx context.Context, round *round) {
	if c.config.Network != NetworkWhenNeeded {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, crlTimeout)
	defer cancel()
	now := c.config.Now()
	var hosts errgroup.Group
	hosts.SetLimit(maxPolls)
	for _, lists := range c.lists.byHost(now) {
		hosts.Go(func() error {
			for _, list := range lists {
				if !c.refreshOne(ctx, round, list, now) {
					break
				}
			}
			return nil
		})
	}
	_ = hosts.Wait()
}

// refreshOne refreshes a list that is due, unless somebody asked for it in this round. It reports whether to go on with its host.
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

// sponsored is a list, and for whom it was taken in.
type sponsored struct {
	held    *heldList
	sponsor *subject
}

// byHost returns the lists that may be refreshed. It drops those that are abandoned: where there is no other, one would be asked for for ever.
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

// abandoned reports whether nobody has used a list for as long as it lasts: so it has ended. The caller holds mu.
func (h *heldList) abandoned(at time.Time) bool {
	return !h.list.NextUpdate.IsZero() && at.Sub(h.used) > h.list.NextUpdate.Sub(h.list.ThisUpdate)
}

// statusHost is whom a location leads to; the location itself if it cannot be told, which is asked for on its own then.
func statusHost(location string) string {
	if u, err := url.Parse(location); err == nil && u.Host != "" {
		return u.Host
	}
	return location
}

// silent reports whether a question failed because nobody was there to answer it.
func silent(err error) bool {
	e, failed := errors.AsType[*fetch.Error](err)
	return failed && (e.Why == fetch.Network || e.Why == fetch.TimedOut) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// silentHost is silent for a host of lists. Who begins to answer is there: beside a list that is broken, or large and slow, he may have others
// that are neither.
func silentHost(err error) bool {
	e, failed := errors.AsType[*fetch.Error](err)
	return silent(err) && !(failed && e.Began)
}
