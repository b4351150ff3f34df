package handshake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"slices"
	"strings"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/verify"
	"signet.example/signet/pki"
)

const (
	crlTimeout     = 15 * time.Second
	maxCRLFetched  = 32 << 20  // octets, from a URL in a certificate
	maxCRLGiven    = 256 << 20 // octets, from a file or URL in the configuration
	maxCRLPointers = 16        // URLs of one certificate that are used: a certificate may name thousands
)

// pointer is one place where a list may be; alternatives are other places for the same list.
type pointer struct {
	locations  []string
	configured bool
}

// pointers are the places where lists about a certificate may be: configured ones first, then its distribution points.
func (s *subject) pointers(target crl.Target) []pointer {
	var list []pointer
	for _, location := range s.config.CRLs {
		list = append(list, pointer{[]string{location}, true})
	}
	left := maxCRLPointers
	for _, point := range target.Points {
		urls := point.URLs()
		urls = urls[:min(len(urls), left)]
		left -= len(urls)
		if len(urls) > 0 {
			list = append(list, pointer{locations: urls})
		}
	}
	return list
}

// deltaPointers are the places where deltas of the lists at hand, or of the certificate, may be.
func deltaPointers(target crl.Target, held []*heldList) []pointer {
	points := target.Freshest
	for _, h := range held {
		points = append(points[:len(points):len(points)], h.list.Freshest...)
	}
	var list []pointer
	seen := make(map[string]bool)
	for _, point := range points {
		for _, url := range point.URLs() {
			if !seen[url] && len(seen) < maxCRLPointers {
				seen[url] = true
				list = append(list, pointer{locations: []string{url}})
			}
		}
	}
	return list
}

// lookAtLists judges by the lists in memory, in configured files and on disk. It has lists past half their life
// refreshed in the background.
func (c *Checker) lookAtLists(s *subject) {
	target, err := crl.NewTarget(s.cert)
	if err != nil {
		s.add(Evidence{Source: SourceCRL, Status: pki.StatusInvalid, Err: fmt.Errorf("read distribution points: %w", err)})
		return
	}
	held := c.listsAtHand(s, target, s.pointers(target))
	s.add(c.fileFailures(s, target)...)
	if len(held) == 0 {
		return
	}
	held = append(held, c.listsAtHand(s, target, deltaPointers(target, held))...)
	s.add(c.judgeLists(s, target, held, nil))
	if c.mayAsk(s.inspection) && s.round == nil {
		c.refreshSoon(s, target, held)
	}
}

// fileFailures returns what is wrong with configured files, which nothing else would report.
func (c *Checker) fileFailures(s *subject, target crl.Target) []Evidence {
	var failures []Evidence
	for _, location := range s.config.CRLs {
		if isURL(location) {
			continue
		}
		if _, err := c.listFile(s, target, location); err != nil {
			failures = append(failures, listFailure(location, err))
		}
	}
	return failures
}

// listsAtHand returns the lists at hand of all places, including alternatives that should have the same list: one of
// them may be older. It notes no use of a list that is replaced, so that the list is dropped in the end.
func (c *Checker) listsAtHand(s *subject, target crl.Target, pointers []pointer) []*heldList {
	var held []*heldList
	for _, p := range pointers {
		for _, location := range p.locations {
			if h := c.atHand(s, target, location, p.configured); h != nil {
				held = append(held, h)
			}
		}
	}
	for _, h := range held {
		if !c.replaced(s, target, h) {
			c.lists.noteUse(h, s.at)
		}
	}
	return held
}

// atHand finds a list without the network: in memory, in a configured file, or on disk.
func (c *Checker) atHand(s *subject, target crl.Target, location string, configured bool) *heldList {
	if configured && !isURL(location) {
		h, _ := c.listFile(s, target, location) // see fileFailures for the error
		return h
	}
	if h := c.lists.get(s.place(location)); h != nil {
		return h
	}
	// Each certificate looks for itself: a list that does not count for one, such as the delegate that signed a staple
	// or a certificate in the scope of another list, may count for the next.
	look := s.place("disk " + string(s.key[:]) + location)
	if c.lists.tries.recent(look, tryNotBefore, s.at) {
		return nil
	}
	h := c.onDisk(s, location, configured)
	if h == nil || c.admit(s, target, h) != nil { // not to be trusted before its signature is verified
		c.lists.tries.note(look, s.at)
		return nil
	}
	return h
}

// onDisk reads a list from disk, once for concurrent callers. It returns nil if there is none.
func (c *Checker) onDisk(s *subject, location string, configured bool) *heldList {
	type kept struct {
		object fetch.Object
		list   *crl.List
		digest [sha256.Size]byte
	}
	name := s.place(location).name()
	read, err, _ := c.lists.flight.Do("disk "+name, func() (any, error) {
		object, err := c.config.Fetcher.Load(name)
		if err != nil {
			return nil, err
		}
		list, digest, err := c.lists.readFrom(location, object.Body)
		object.Body = nil
		return kept{object, list, digest}, err
	})
	if err != nil {
		return nil
	}
	found := read.(kept)
	return &heldList{list: found.list, digest: found.digest, location: location, etag: found.object.ETag, lastModified: found.object.LastModified, configured: configured}
}

// judgeLists applies RFC 5280, Section 6.3.3 to the lists at hand and returns the result as evidence. came are those of
// held that have just been fetched.
func (c *Checker) judgeLists(s *subject, target crl.Target, held, came []*heldList) Evidence {
	return evidenceOfJudgement(verify.JudgeLists(target, listsOf(held), c.rules(s, held)), held, listsOf(came))
}

// rules returns the conditions of a judgement. The thisUpdate of a list from a clock slightly ahead of ours counts as
// now.
func (c *Checker) rules(s *subject, held []*heldList) crl.Rules {
	at := s.at
	for _, h := range held {
		if h.list.ThisUpdate.After(at) && !h.list.ThisUpdate.After(s.at.Add(c.config.Skew)) {
			at = h.list.ThisUpdate
		}
	}
	return crl.Rules{At: at, MaxAge: c.config.MaxAge, Signers: c.signers(s)}
}

// signers returns a function that tells who may have signed a list: the certificates of the chain, or, if none of them
// did, those of the pool that lead to the chain over no certificate known to be revoked. The pool is searched only
// then, and once: a peer that sends many certificates would otherwise have them all verified in each handshake.
// Certificates of the chain are checked as subjects of their own.
func (c *Checker) signers(s *subject) func(*crl.List) []*x509.Certificate {
	var outside map[*crl.List][]*x509.Certificate
	return func(list *crl.List) []*x509.Certificate {
		if found, known := outside[list]; known {
			return found
		}
		found := verify.Signers(list.Issuer, s.chain, nil, s.at, nil)
		if slices.ContainsFunc(found, func(signer *x509.Certificate) bool { return list.Verify(signer) == nil }) {
			return found
		}
		found = verify.Signers(list.Issuer, s.chain, c.pool(s), s.at, func(cert, issuer *x509.Certificate) bool {
			return refuted(c.knownOf(s, cert, issuer).Status)
		})
		if outside == nil {
			outside = make(map[*crl.List][]*x509.Certificate)
		}
		outside[list] = found
		return found
	}
}

// maxAsking bounds the recursion "is the signer of this CRL revoked, according to a CRL whose signer is revoked". At
// the bottom only lists signed by certificates of the chain count.
const maxAsking = 3

// knownOf returns what memory and the lists at hand say about a certificate outside the chain that signed evidence,
// directly or through authorities below it: a delegated responder, a signer of CRLs, an authority above one. The
// network is not asked about it.
func (c *Checker) knownOf(s *subject, cert, issuer *x509.Certificate) Evidence {
	issuerKey := issuerKeyOf(issuer)
	asked := &subject{
		inspection: s.inspection, at: s.at, cert: cert, issuer: issuer, issuerKey: issuerKey, key: issuerKey.of(cert), config: c.issuers[issuerKey],
		asking: append(slices.Clip(s.asking), cert), about: s,
	}
	if evidence, known := c.memory.recall(asked.key); known {
		return evidence
	}
	target, err := crl.NewTarget(cert)
	if err != nil {
		return Evidence{}
	}
	held := c.listsAtHand(asked, target, asked.pointers(target))
	for about := s; about != nil; about = about.about {
		held = append(held, c.listsInMemory(about)...) // some of them twice, if both certificates point there
	}
	if len(held) == 0 {
		return Evidence{}
	}
	held = append(held, c.listsAtHand(asked, target, deltaPointers(target, held))...)
	return c.judgeLists(asked, target, held, nil)
}

// listsInMemory returns the lists that are held from the places of s.
func (c *Checker) listsInMemory(s *subject) (held []*heldList) {
	target, err := crl.NewTarget(s.cert)
	if err != nil {
		return nil
	}
	for _, p := range s.pointers(target) {
		for _, location := range p.locations {
			if h := c.lists.get(s.place(location)); h != nil {
				held = append(held, h)
			}
		}
	}
	return held
}

// pool returns the certificates among which CRL issuers outside the chain are searched: configured ones, then those
// that the peer sent. None counts before it leads to the anchor of the chain. Those of the peer come last, because many
// certificates of the right name could exhaust the search (verify.Signers checks 64 signatures). A key cannot attest
// that it is not revoked itself: its thief would acquit it.
func (c *Checker) pool(s *subject) []*x509.Certificate {
	if len(s.asking) >= maxAsking {
		return nil
	}
	pool := make([]*x509.Certificate, 0, len(c.config.Issuers)+len(s.presented))
	for _, issuer := range c.config.Issuers {
		pool = append(pool, issuer.Certificate)
	}
	return slices.DeleteFunc(append(pool, s.presented...), func(signer *x509.Certificate) bool {
		return slices.ContainsFunc(s.asking, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubjectPublicKeyInfo, signer.RawSubjectPublicKeyInfo)
		})
	})
}

func listsOf(held []*heldList) []*crl.List {
	lists := make([]*crl.List, len(held))
	for i, h := range held {
		lists[i] = h.list
	}
	return lists
}

// evidenceOfJudgement describes a judgement by the list that decided it, or by the most informative rejection.
func evidenceOfJudgement(j crl.Judgement, held []*heldList, came []*crl.List) Evidence {
	switch j.Status {
	case crl.Revoked:
		e := evidenceOfList(j.List, held, came)
		e.Status, e.Reason, e.RevokedAt = pki.StatusRevoked, j.Entry.Reason, j.Entry.RevokedAt
		e.Final = e.Reason != pki.CertificateHold
		return e
	case crl.Unrevoked:
		e := evidenceOfList(newest(j.Used), held, came)
		e.Status = pki.StatusGood
		for _, used := range j.Used {
			if !used.NextUpdate.IsZero() && used.NextUpdate.Before(e.NextUpdate) {
				e.NextUpdate = used.NextUpdate
			}
		}
		return e
	}
	best := Evidence{Source: SourceCRL, Status: pki.StatusNotCovered, Cached: len(came) == 0, Err: errors.New("the lists at hand do not cover it")}
	for _, r := range j.Rejected {
		e := evidenceOfList(r.List, held, came)
		e.Status, e.Err = statusOfCause(r.Cause), &ListError{r.Cause, r.Err}
		if verify.Weight(e.Status) > verify.Weight(best.Status) || best.Location == "" {
			best = e
		}
	}
	return best
}

func newest(lists []*crl.List) *crl.List {
	var found *crl.List
	for _, list := range lists {
		if found == nil || list.ThisUpdate.After(found.ThisUpdate) {
			found = list
		}
	}
	return found
}

func statusOfCause(cause crl.Cause) pki.Status {
	switch cause {
	case crl.CauseIssuer, crl.CauseScope, crl.CauseReasons:
		return pki.StatusNotCovered
	case crl.CauseStale:
		return pki.StatusStale
	}
	return pki.StatusInvalid
}

func evidenceOfList(list *crl.List, held []*heldList, came []*crl.List) Evidence {
	e := Evidence{Source: SourceCRL, Cached: !slices.Contains(came, list)}
	if list == nil {
		return e
	}
	if list.Delta {
		e.Source = SourceDelta
	}
	e.ThisUpdate, e.NextUpdate = list.ThisUpdate, list.NextUpdate
	if list.HasNumber {
		e.Number = new(big.Int).SetBytes(list.Number[:])
	}
	for _, h := range held {
		if h.list == list {
			e.Location = h.location
		}
	}
	return e
}

// askLists fetches what is missing or old, one distribution point after the other, until the certificate is settled.
func (c *Checker) askLists(ctx context.Context, s subject) []Evidence {
	target, err := crl.NewTarget(s.cert)
	if err != nil {
		return nil // reported already when looking at what is at hand
	}
	s.asker = s.digest()
	limit, pointers := min(c.config.Budget, crlTimeout), s.pointers(target)
	part := partOf(limit, len(pointers))
	obtain := func(ctx context.Context, i int) []obtained { return c.obtain(ctx, &s, target, pointers[i], part) }
	settled := func(all []obtained) bool {
		held, _, _ := sorted(all)
		return len(held) > 0 && c.judgeLists(&s, target, held, nil).Status.Conclusive()
	}
	held, came, failures := sorted(inTurn(ctx, c, limit, len(pointers), obtain, settled))
	if len(held) == 0 {
		return failures
	}
	ctx, cancel := context.WithTimeout(ctx, part) // a silent delta does not keep the complete list from being heard
	defer cancel()
	evidence := c.withDeltas(ctx, &s, target, held, came)
	c.learnFrom(&s, []Evidence{evidence})
	if evidence.Status.Conclusive() {
		return []Evidence{evidence}
	}
	return append(failures, evidence)
}

// lookAtWhatCame adds what the lists say that came before the budget ended with another place, or a delta, still silent: a
// final revocation counts even if its list has ended.
func (c *Checker) lookAtWhatCame(s *subject) {
	target, err := crl.NewTarget(s.cert)
	if err != nil {
		return // reported already when looking at what is at hand
	}
	held := c.listsAtHand(s, target, s.pointers(target))
	held = append(held, c.listsAtHand(s, target, deltaPointers(target, held))...)
	if e := c.judgeLists(s, target, held, nil); refuted(e.Status) {
		e.Final = false // a younger list may still come: whoever goes on asking remembers what stays
		s.add(e)
	}
}

// withDeltas adds the deltas that can be had, and judges. Without them the complete list decides.
func (c *Checker) withDeltas(ctx context.Context, s *subject, target crl.Target, held, came []*heldList) Evidence {
	for _, p := range deltaPointers(target, held) {
		deltas, fresh, _ := sorted(c.obtain(ctx, s, target, p, crlTimeout))
		held, came = append(held, deltas...), append(came, fresh...)
	}
	return c.judgeLists(s, target, held, came)
}

// obtained is what one place gave: a list, unless it is nil, and the failure, if any.
type obtained struct {
	list     *heldList
	came     bool // it was fetched or confirmed just now: otherwise it was at hand
	failures []Evidence
}

// sorted separates what was obtained into lists, those of them that came just now, and failures.
func sorted(all []obtained) (held, came []*heldList, failures []Evidence) {
	for _, o := range all {
		if o.list != nil {
			held = append(held, o.list)
		}
		if o.came {
			came = append(came, o.list)
		}
		failures = append(failures, o.failures...)
	}
	return held, came, failures
}

// obtain asks the places of a pointer until one has a current list: the others have the same list (RFC 5280, Section
// 4.2.1.13). Lists that have ended are evidence too: conclusive of a final revocation, of staleness otherwise.
func (c *Checker) obtain(ctx context.Context, s *subject, target crl.Target, p pointer, limit time.Duration) []obtained {
	ask := func(ctx context.Context, i int) []obtained {
		location := p.locations[i]
		h := c.own(s, target, location, p.configured)
		if !isURL(location) || h != nil && !c.ended(h, s.at) { // a file cannot be fetched; what is wrong with it has been reported
			return []obtained{{list: h}}
		}
		o, unwritten := c.fetchOnce(ctx, s, target, location, p.configured, h)
		// Maybe late: the handshake went on with the list of another place. One that has ended is judged with that of the
		// next place, which may be younger.
		if o.came && !c.ended(o.list, s.at) {
			c.learnFrom(s, []Evidence{c.judgeLists(s, target, c.listsAtHand(s, target, s.pointers(target)), nil)})
		}
		c.write(s.round, unwritten)
		return []obtained{o}
	}
	current := func(all []obtained) bool {
		return slices.ContainsFunc(all, func(o obtained) bool { return o.list != nil && !c.ended(o.list, s.at) })
	}
	return inTurn(ctx, c, limit, len(p.locations), ask, current)
}

// fetchOnce is fetchList, except that it does not repeat a fetch whose list, a moment ago, did not count. If a fetch
// fails, the old list is returned with the failure.
func (c *Checker) fetchOnce(ctx context.Context, s *subject, target crl.Target, location string, configured bool, old *heldList) (obtained, *fetch.Object) {
	asked := s.askedFor("list", location)
	if failures, known := c.useless.recent(asked, s.at); known {
		return obtained{list: old, failures: failures}, nil
	}
	fresh, unwritten, err := c.fetchList(ctx, s, target, location, configured, old)
	switch {
	case err != nil:
		failure := listFailure(location, err)
		c.lists.failed.note(s.place(location), s.at)
		if failure.Status != pki.StatusUnreachable {
			c.useless.note(asked, s.at, failure)
		}
		return obtained{list: old, failures: []Evidence{failure}}, nil
	case c.ended(fresh, s.at):
		c.useless.note(asked, s.at)
	}
	return obtained{list: fresh, came: true}, unwritten
}

// ended reports whether a list is too old for judgeLists, or has neither a nextUpdate (RFC 5280, Section 5.1.2.5
// requires one) nor a MaxAge to bound it. It allows for no skew, as judgeLists does not.
func (c *Checker) ended(h *heldList, at time.Time) bool {
	next := h.list.NextUpdate
	if next.IsZero() && c.config.MaxAge == 0 {
		return true
	}
	return !next.IsZero() && !at.Before(next) || c.outdated(h.list.ThisUpdate, next, at) != nil
}

func listFailure(location string, err error) Evidence {
	e := Evidence{Source: SourceCRL, Status: pki.StatusInvalid, Location: location, Err: err}
	if _, noFile := errors.AsType[*fs.PathError](err); noFile || noAnswer(err) {
		e.Status = pki.StatusUnreachable
	}
	return e
}

func isURL(location string) bool { return strings.Contains(location, "://") }
