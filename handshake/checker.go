package handshake

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/verify"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// Checker judges the certificates of peers. It is safe for concurrent use. One Checker should serve a whole process:
// what it learns for one connection counts for all.
type Checker struct {
	config    Config
	issuers   map[issuerKey]Issuer
	memory    *memory             // final revocations, until the certificate expires; shared over the disk; 65,536
	staples   *staples            // staples whose signature verified; 4,096
	delegates ocsp.KnownDelegates // delegated responders whose certificate verified
	answers   *answers            // verified OCSP responses that were fetched; 4,096
	lists     *lists              // CRLs that were admitted, by issuer and location; 8,192
	useless   *useless            // answers that came and did not count, for 10 s; 4,096
	tracked   *registry           // live connections, by certificate
	sessions  *sessionEnds        // until when the staple of a resumable session lasts, by server name; 4,096
	refresh   chan struct{}       // bounds the refreshes that run in the background
	waiting   chan struct{}       // bounds the questions that outlive their handshake
	disk      writer              // of what rounds have fetched and learnt
	counts    [len(decisionNames)]atomic.Uint64
}

// maxRefreshes bounds the refreshes that run in the background at once. One that finds no place stays due, and is tried
// at its next use.
const maxRefreshes = 4

// maxWaiting bounds the questions that outlive their handshake.
const maxWaiting = 64

// New validates config. The Checker runs no goroutine of its own, with two exceptions: a handshake that uses something
// past half its life starts a bounded refresh in the background, and what a round of Run or Recheck learnt is written to
// the disk by one goroutine, which ends when nothing waits. Use Run to refresh ahead of use.
func New(config Config) (*Checker, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Checker{
		config: config, issuers: make(map[issuerKey]Issuer), memory: newMemory(config.Fetcher), staples: newStaples(), answers: newAnswers(),
		lists: newLists(), useless: newUseless(), tracked: newRegistry(), sessions: newSessionEnds(), refresh: make(chan struct{}, maxRefreshes), waiting: make(chan struct{}, maxWaiting),
	}
	for _, issuer := range config.Issuers {
		c.issuers[issuerKeyOf(issuer.Certificate)] = issuer
	}
	if err := c.learnFromOthers(); err != nil {
		return nil, &pki.Error{Kind: pki.KindUnavailable, Op: "recall revocations", Err: err}
	}
	return c, nil
}

// inspection is one chain to be judged, and where it comes from.
type inspection struct {
	chain     []*x509.Certificate
	presented []*x509.Certificate // everything the peer sent: signers of CRLs may be among it
	staple    []byte
	name      string
	resumed   bool
	atHand    bool // the chain does not quite verify: nothing is fetched for it, and nothing is learned from it
}

// Check judges a chain that has been verified up to its trust anchor: leaf first, anchor last. It does not verify
// signatures and names again. staple is the OCSP response that came with the leaf, nil if none did. The Result is never
// nil; the error is Result.Err.
func (c *Checker) Check(ctx context.Context, chain []*x509.Certificate, staple []byte) (*Result, error) {
	budget := budget{parent: ctx, length: c.config.Budget}
	defer budget.end()
	r := c.inspect(&budget, inspection{chain: chain, presented: chain, staple: staple})
	c.override(r)
	c.observe(r)
	return r, r.Err()
}

// inspect collects evidence for every certificate of the chain, first from what is at hand, then from the network if a
// status is still open, and applies the policy.
func (c *Checker) inspect(budget *budget, in inspection) *Result {
	r := &Result{Time: c.config.Now(), ServerName: in.name, Chain: in.chain, Resumed: in.resumed}
	if len(in.chain) == 0 {
		r.err = errors.New("handshake: no chain to check")
		return r
	}
	_ = c.learnFromOthers() // if the directory cannot be read, what is known stays
	subjects := c.subjects(in, r.Time)
	r.Certificates = make([]CertificateResult, len(subjects))
	for _, s := range subjects {
		c.lookAtHand(s)
	}
	if c.mayAsk(in) && !anyRevoked(subjects) {
		c.askNetwork(budget, subjects)
	}
	for i, s := range subjects {
		if !in.atHand {
			c.learnFrom(s, s.evidence)
		}
		r.Certificates[i] = c.judge(s)
	}
	c.decide(r)
	return r
}

// mayAsk reports whether the network may be asked about a chain.
func (c *Checker) mayAsk(in inspection) bool {
	return c.config.Network == NetworkWhenNeeded && !in.atHand
}

// budget is Config.Budget for one handshake. Its clock starts with the first question to the network: judging what is
// at hand takes microseconds, and a timer costs as much.
type budget struct {
	parent context.Context
	length time.Duration
	ctx    context.Context
	cancel context.CancelFunc
}

func (b *budget) begin() context.Context {
	if b.ctx == nil {
		b.ctx, b.cancel = context.WithTimeout(b.parent, b.length)
	}
	return b.ctx
}

func (b *budget) end() {
	if b.cancel != nil {
		b.cancel()
	}
}

// subject is one certificate while evidence about it is collected.
type subject struct {
	inspection
	at        time.Time
	cert      *x509.Certificate
	issuer    *x509.Certificate
	issuerKey issuerKey
	key       certificateKey
	config    Issuer // zero if the issuer is not configured
	covered   bool
	leaf      bool
	asking    []*x509.Certificate // if the certificate is not of the chain but of a signer of evidence: that one, and before it those that its evidence is about
	about     *subject            // the subject that a signer outside the chain speaks about; else nil
	round     *round              // not nil: ask the network now, and join no fetch that began earlier
	asker     []byte              // digest, for a subject that asks several places; else nil
	evidence  []Evidence
	fault     error // of the certificate itself: a contradiction
}

// subjects returns the certificates of the chain that have an issuer in it: all but the trust anchor, which only its
// owner can revoke (RFC 5280, Section 6.1: the anchor is not part of the path).
func (c *Checker) subjects(in inspection, at time.Time) []*subject {
	subjects, all := make([]*subject, len(in.chain)-1), make([]subject, len(in.chain)-1)
	for i := range subjects {
		cert, issuer := in.chain[i], in.chain[i+1]
		issuerKey := issuerKeyOf(issuer)
		config, known := c.issuers[issuerKey]
		subjects[i] = &all[i]
		all[i] = subject{
			inspection: in, at: at, cert: cert, issuer: issuer, issuerKey: issuerKey, key: issuerKey.of(cert), config: config, leaf: i == 0,
			covered: known && len(config.CRLs)+len(config.OCSP) > 0,
		}
	}
	return subjects
}

// lookAtHand consults, in order, everything that needs no network. Lists in memory are consulted even if a staple said
// good: it costs nothing, and an older answer must not outvote a known revocation.
func (c *Checker) lookAtHand(s *subject) {
	if evidence, known := c.memory.recall(s.key); known {
		s.add(evidence)
		return
	}
	evidence, exempt, contradiction := exemption(s.cert)
	s.fault = contradiction
	if exempt {
		s.add(evidence)
		return
	}
	c.lookAtStaple(s)
	c.lookAtLists(s)
	c.lookAtAnswer(s)
}

// question returns a copy for a goroutine that goes on asking after the handshake.
func (s *subject) question() subject {
	asked := *s
	asked.evidence, asked.round = nil, nil
	return asked
}

func (s *subject) add(evidence ...Evidence) {
	for _, e := range evidence { // copied: the evidence of a round is shared by every chain with the certificate
		if !e.ThisUpdate.IsZero() {
			e.Age = s.at.Sub(e.ThisUpdate)
		}
		s.evidence = append(s.evidence, e)
	}
}

// settled reports whether the evidence at hand is conclusive.
func (s *subject) settled() bool {
	decisive := decisive(s.evidence)
	return decisive != nil && decisive.Status.Conclusive()
}

// open reports whether asking the network may help.
func (s *subject) open() bool { return !s.settled() && s.fault == nil }

func anyRevoked(subjects []*subject) bool {
	return slices.ContainsFunc(subjects, func(s *subject) bool {
		d := decisive(s.evidence)
		return d != nil && refuted(d.Status)
	})
}

// refuted reports whether a status says that the certificate must not be accepted.
func refuted(status pki.Status) bool {
	return status == pki.StatusRevoked || status == pki.StatusNotIssued
}

// askNetwork asks about all certificates that are not settled, in parallel.
func (c *Checker) askNetwork(budget *budget, subjects []*subject) {
	if !slices.ContainsFunc(subjects, (*subject).open) {
		return
	}
	ctx := budget.begin()
	var wg sync.WaitGroup
	for _, s := range subjects {
		if s.open() {
			wg.Go(func() { c.ask(ctx, s) })
		}
	}
	wg.Wait()
}

// ask asks CRLs and responders in parallel; the first conclusive answer ends the wait. A later answer is still kept for
// the next handshake, and a revocation in it closes tracked connections.
func (c *Checker) ask(ctx context.Context, s *subject) {
	type answer struct {
		evidence []Evidence
		source   int
	}
	sources := [2]func(context.Context, subject) []Evidence{c.askLists, c.askResponders}
	answered := make(chan answer, len(sources))
	asked := s.question()
	for i, source := range sources {
		ctx, done := c.outlive(ctx)
		go func() {
			defer done()
			answered <- answer{source(ctx, asked), i}
		}()
	}
	var collected [len(sources)][]Evidence
	for range sources {
		select {
		case a := <-answered:
			collected[a.source] = a.evidence
		case <-ctx.Done():
		}
		if d := decisive(append(collected[0], collected[1]...)); ctx.Err() != nil || d != nil && d.Status.Conclusive() {
			break
		}
	}
	if collected[0] == nil && collected[1] == nil && ctx.Err() != nil {
		s.add(Evidence{Source: SourceNone, Status: pki.StatusUnreachable, Err: fmt.Errorf("no answer within the budget: %w", ctx.Err())})
	}
	s.add(collected[0]...)
	s.add(collected[1]...)
	if d := decisive(s.evidence); d == nil || !d.Final {
		if evidence, known := c.memory.recall(s.key); known { // a source has said so, and whoever asked it waits for the disk
			s.add(evidence)
		} else if ctx.Err() != nil {
			c.lookAtWhatCame(s)
		}
	}
}

// outlive gives a question more time than the handshake has, because an answer that comes late is worth keeping. If too
// many questions are waiting already, as with a slow source under load, this one ends with its handshake.
func (c *Checker) outlive(ctx context.Context) (context.Context, func()) {
	select {
	case c.waiting <- struct{}{}:
		longer, cancel := context.WithTimeout(context.WithoutCancel(ctx), crlTimeout)
		return longer, func() { cancel(); <-c.waiting }
	default:
		return ctx, func() {}
	}
}

// learnFrom remembers a revocation that cannot be taken back and closes tracked connections of the certificate, before anybody waits for a disk.
func (c *Checker) learnFrom(s *subject, evidence []Evidence) {
	d := decisive(evidence)
	if d == nil || !d.Final || !c.memory.keep(s.key, *d, s.cert.NotAfter, c.config.Now()) {
		return
	}
	c.tracked.close(s.key)
	share := func() { c.memory.share(s.key, *d, s.cert.NotAfter) }
	if s.round != nil {
		c.disk.remember("revocation "+string(s.key[:]), share)
		return
	}
	share()
}

// write keeps what was fetched on disk, for other processes and for the next start. It comes after everything else that is
// done with it, because a disk may hang; in a round, after connections are closed. Nil is nothing to write.
func (c *Checker) write(round *round, object *fetch.Object) {
	if object != nil && !round.writeLater(object) {
		_ = c.config.Fetcher.Keep(*object) // it is in memory; a full disk costs one more question after a restart
	}
}

// learnFromOthers takes over final revocations that other or earlier processes left in the directory of the Fetcher.
func (c *Checker) learnFromOthers() error {
	news, err := c.memory.learn(c.config.Now())
	for _, key := range news {
		c.tracked.close(key)
	}
	return err
}

// decisive returns the evidence that a status rests on: a final revocation before everything; then the latest evidence
// of good or hold; then an exemption; then the most informative reason why the status is not known.
func decisive(list []Evidence) *Evidence {
	var best *Evidence
	for i := range list {
		if best == nil || outweighs(&list[i], best) {
			best = &list[i]
		}
	}
	return best
}

func outweighs(a, b *Evidence) bool { return a.word().Outweighs(b.word()) }

func (e *Evidence) word() verify.Word {
	return verify.Word{Status: e.Status, Final: e.Final, ThisUpdate: e.ThisUpdate}
}
