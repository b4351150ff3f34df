package handshake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"time"

	"signet.example/signet/crl"
)

// Track closes conn when a certificate of its peer becomes revoked: as soon as any check of this Checker learns of it,
// and at the latest with the poll of Run that does. The handshake must be complete. The returned function ends the tracking;
// call it when the connection is closed. Connections over a Guard are tracked already.
func (c *Checker) Track(conn *tls.Conn) (stop func()) {
	state := conn.ConnectionState()
	return c.tracked.add(conn.NetConn(), c.acceptedChain(conn, state), state.PeerCertificates)
}

// acceptedChain is the chain that a connection rests on: the one its Guard knows, or the first that verified and has nothing in it that
// is known to be revoked, since that is the one that was accepted.
func (c *Checker) acceptedChain(conn *tls.Conn, state tls.ConnectionState) []*x509.Certificate {
	if guard, ok := conn.NetConn().(*Guard); ok && guard.Result() != nil {
		return guard.Result().Chain
	}
	for _, chain := range state.VerifiedChains {
		if !c.remembersRevoked(chain) {
			return chain
		}
	}
	return state.PeerCertificates
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
	keys      []certificateKey // of every certificate but the anchor, leaf first
}

func newRegistry() *registry {
	return &registry{byCert: make(map[certificateKey]map[*connection]struct{})}
}

func (r *registry) add(conn net.Conn, chain, presented []*x509.Certificate) (stop func()) {
	entry := &connection{conn: conn, chain: chain, presented: presented}
	for i := range max(0, len(chain)-1) {
		entry.keys = append(entry.keys, keyOf(chain[i], chain[i+1]))
	}
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

// chains returns one connection for every leaf that connections rest on.
func (r *registry) chains() []*connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*connection
	for key, entries := range r.byCert {
		for entry := range entries {
			if entry.keys[0] == key {
				list = append(list, entry)
			}
			break
		}
	}
	return list
}

// Run refreshes what is past half its life ahead of use, and asks the sources again, every Config.Recheck, about the
// certificates of tracked connections. It returns when ctx ends.
func (c *Checker) Run(ctx context.Context) error {
	ticker := time.NewTicker(c.config.Recheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			c.Recheck(ctx)
		}
	}
}

// Recheck is one round of Run: when it returns, tracked connections of certificates that their sources call revoked by
// now are closed.
func (c *Checker) Recheck(ctx context.Context) {
	_ = c.learnFromOthers()         // a directory that cannot be read any more takes nothing of what is known
	polled := make(map[string]bool) // locations of lists that were asked in this round
	silent := make(map[string]bool) // responders that did not answer in this round: each is waited for once
	for _, entry := range c.tracked.chains() {
		in := inspection{chain: entry.chain, presented: entry.presented, recheck: true}
		if c.config.Network == NetworkWhenNeeded {
			for _, s := range c.subjects(in, c.config.Now()) {
				s.fresh, s.silent = true, silent
				c.poll(ctx, s, polled)
			}
		}
		c.closeRefuted(ctx, in)
		if ctx.Err() != nil {
			return
		}
	}
	c.refreshDue(ctx, polled)
}

// closeRefuted judges a chain again and closes the connections of what must not be accepted in it, holds included.
func (c *Checker) closeRefuted(ctx context.Context, in inspection) {
	budget := budget{parent: ctx, length: c.config.Budget}
	defer budget.end()
	for _, result := range c.inspect(&budget, in).Certificates {
		if refuted(result.Status) {
			c.tracked.close(keyOf(result.Certificate, result.Issuer))
		}
	}
}

// poll asks the sources of one certificate again: its lists with a conditional question, once a round however many
// certificates they cover, and only without any list its responders.
func (c *Checker) poll(ctx context.Context, s *subject, polled map[string]bool) {
	target, err := crl.NewTarget(s.cert)
	if err != nil {
		return
	}
	listed := false
	for _, p := range s.pointers(target) {
		for _, location := range p.locations {
			if !isURL(location) || polled[location] {
				listed = true
				continue
			}
			h := c.atHand(s, target, location, p.configured)
			fresh, err := c.fetchList(ctx, s, target, location, p.configured, h)
			polled[location] = true
			if err == nil {
				listed = true
				c.withDeltas(ctx, s, target, []*heldList{fresh})
				break // the other locations have the same list
			}
		}
	}
	if !listed {
		c.learnFrom(s, c.askResponders(ctx, *s))
	}
}

// refreshDue refreshes lists that nobody uses at the moment, so that the next handshake finds them fresh.
func (c *Checker) refreshDue(ctx context.Context, polled map[string]bool) {
	now := c.config.Now()
	for h, sponsor := range c.lists.dueNow(now) {
		asked := sponsor.question()
		asked.at = now
		target, err := crl.NewTarget(asked.cert)
		if err == nil && !polled[h.location] && ctx.Err() == nil && c.config.Network == NetworkWhenNeeded {
			c.refreshList(ctx, &asked, target, h)
		}
	}
}

// dueNow returns the lists that should be refreshed, each with who asked for it last, and reserves the attempts.
func (l *lists) dueNow(at time.Time) map[*heldList]*subject {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := make(map[*heldList]*subject)
	for location, h := range l.held {
		if s := l.sponsor[location]; s != nil && isURL(location) && !at.Before(h.next) {
			h.next = at.Add(max(refreshAtLeast, h.list.NextUpdate.Sub(at)/2))
			due[h] = s
		}
	}
	return due
}
