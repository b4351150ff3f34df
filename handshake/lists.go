package handshake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"signet.example/signet/crl"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/verify"
	"signet.example/signet/pki"
)

const (
	maxLists        = 8192             // kept in memory: an authority has one for each 16,384 certificates, say
	maxEntries      = 6 << 20          // of all of them: about 40 octets each
	maxTried        = 4096             // locations on disk and deltas that were looked for
	tryNotBefore    = 10 * time.Second // for something that was not on disk: by now it may be
	refreshAtLeast  = 10 * time.Second // between two attempts to refresh the same list
	pemProbeLength  = 11
	pemProbePattern = "-----BEGIN "
)

// place is where a list is held and sought: what counts for the certificates of one issuer comes in no way of another's, whoever makes his
// certificates point there. A configured file is read for all.
type place struct {
	issuer   issuerKey // of the certificates; zero for a file
	location string
}

// place is that of the lists from a location for the certificates of the issuer of s.
func (s *subject) place(location string) place {
	if !isURL(location) {
		return place{location: location}
	}
	return place{s.issuerKey, location}
}

// name is that of a place on disk.
func (p place) name() string { return "crl " + hex.EncodeToString(p.issuer[:]) + " " + p.location }

// heldList is a list in memory that was admitted: somebody who may sign it did.
type heldList struct {
	list               *crl.List
	digest             [sha256.Size]byte // of the octets that came; zero of a file
	location           string
	vouched            bool // signed by one of the chain or of the configuration, and not just by whom one peer brought along
	configured         bool
	etag, lastModified string
	modified           time.Time // of a file
	size               int64     // of a file

	used time.Time // guarded by lists.mu
	next time.Time // when a refresh is due; guarded by lists.mu
}

// lists are the lists in memory, by where they came from.
type lists struct {
	flight singleflight.Group

	mu      sync.Mutex
	held    map[place]*heldList // guarded by mu
	holders map[*crl.List]int   // in how many places a list is held; guarded by mu
	entries int                 // of all lists that are held; guarded by mu
	lastTry map[place]time.Time // when a location on disk, or a delta, was last looked for; guarded by mu
	sponsor map[place]*subject  // for whom a list was admitted: its refresh is admitted for the same; guarded by mu
	refused map[string]refused  // configured files whose list is not held as they are now; guarded by mu
}

// refused is what a configured file was when it was read and gave no list that counts: not a list, or one that does not count for the
// certificates of then. It may for others, of another scope.
type refused struct {
	modified time.Time
	size     int64
	list     *crl.List // nil if it could not be read
	err      error
}

func newLists() *lists {
	return &lists{held: make(map[place]*heldList), holders: make(map[*crl.List]int), lastTry: make(map[place]time.Time), sponsor: make(map[place]*subject), refused: make(map[string]refused)}
}

func (l *lists) get(from place) *heldList {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[from]
}

func (l *lists) noteUse(h *heldList, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.used = at
}

// tried reports whether something that was not there, a location on disk or a delta, was looked for less than a pause ago.
func (l *lists) tried(what place, pause time.Duration, at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, tried := l.lastTry[what]
	return tried && at.Sub(last) < pause
}

func (l *lists) noteTry(what place, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lastTry) >= maxTried {
		clear(l.lastTry)
	}
	l.lastTry[what] = at
}

// RollbackError says that a source offered an older list than it offered before. The older one is not taken.
type RollbackError struct{ Had, Offered crl.Number }

// Error names both numbers.
func (e *RollbackError) Error() string {
	return fmt.Sprintf("the CRL went back from number %s to %s", e.Had, e.Offered)
}

// atHome reports whether a list says itself that it is published where it came from.
func (h *heldList) atHome() bool {
	return h.list.Scope != nil && slices.Contains(h.list.Scope.URLs(), h.location)
}

// mayReplace compares a list with the one that is held from the same place. Of the same series the newer one counts: the one with the larger
// number, or with the same and a later date. Of another series, which is what somebody on the path of plain HTTP can answer with (the list of another shard,
// a delta), only one that covers everything, or that is at home there, takes the place of a list that has not ended. What is at home drives out
// a list of something else of any date, but not one that covers everything: over that, an older list of its own series could come back.
//
// A list that is signed just by whom one peer brought along takes nothing from one that is not, while that lasts, and gives way whatever its number:
// the peer may have got hold of a key that was made for something small.
func (h *heldList) mayReplace(old *heldList, at time.Time) error {
	switch {
	case old.vouched && !h.vouched && (old.list.NextUpdate.IsZero() || at.Before(old.list.NextUpdate)):
		return errors.New("the list that came is signed by somebody whom the peer brought along, and the one that is held is not")
	case h.vouched && !old.vouched, !isURL(h.location) && !bytes.Equal(old.list.Issuer, h.list.Issuer):
		return nil
	case h.list.SameSeries(old.list):
		if old.list.HasNumber && h.list.HasNumber && h.list.Number.Compare(old.list.Number) < 0 {
			return &RollbackError{Had: old.list.Number, Offered: h.list.Number}
		}
	case isURL(h.location) && (h.list.Delta || h.list.Scope != nil && !h.atHome()):
		if at.Before(old.list.NextUpdate) {
			return errors.New("the list that came is another than the one to be had there")
		}
	case h.atHome() && !old.atHome() && (old.list.Delta || old.list.Scope != nil):
		return nil
	}
	if h.list.ThisUpdate.Before(old.list.ThisUpdate) {
		return &RollbackError{Had: old.list.Number, Offered: h.list.Number}
	}
	return nil
}

// put keeps a list in its place, if it may be there.
func (c *Checker) put(h *heldList, s *subject) error {
	signed := func(signer *x509.Certificate) bool { return h.list.Verify(signer) == nil }
	h.vouched = slices.ContainsFunc(s.chain, signed) || slices.ContainsFunc(c.config.Issuers, func(i Issuer) bool { return signed(i.Certificate) })
	return c.lists.put(h, s)
}

func (l *lists) put(h *heldList, s *subject) error {
	at := s.place(h.location)
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.held[at]; old != nil {
		if err := h.mayReplace(old, s.at); err != nil {
			return err
		}
	}
	sponsor := l.sponsor[at]
	if s.maySponsor() {
		asked := s.question()
		sponsor = &asked
	}
	l.drop(at)
	for len(l.held) > 0 && (len(l.held) >= maxLists || l.holders[h.list] == 0 && l.entries+h.list.Len() > maxEntries) {
		l.makeRoom()
	}
	h.used, h.next = s.at, latest(halfLife(h.list.ThisUpdate, h.list.NextUpdate), s.at.Add(refreshAtLeast))
	l.held[at] = h
	if sponsor != nil {
		l.sponsor[at] = sponsor
	}
	if l.holders[h.list]++; l.holders[h.list] == 1 {
		l.entries += h.list.Len()
	}
	return nil
}

// sameAs finds a list that is held from a location already, for the certificates of another issuer perhaps, by the octets it came in: it is read and kept
// once. It is nil if there is none.
func (l *lists) sameAs(location string, digest [sha256.Size]byte) *crl.List {
	l.mu.Lock()
	defer l.mu.Unlock()
	for from, h := range l.held {
		if from.location == location && h.digest == digest {
			return h.list
		}
	}
	return nil
}

// readFrom reads a list that came from a location, unless it is held.
func (l *lists) readFrom(location string, octets []byte) (*crl.List, [sha256.Size]byte, error) {
	digest := sha256.Sum256(octets)
	if held := l.sameAs(location, digest); held != nil {
		return held, digest, nil
	}
	list, err := crl.Parse(decodePEM(octets))
	return list, digest, err
}

// maySponsor reports whether lists may be refreshed for s: not for a chain that does not quite verify, over which nothing is fetched or learnt, nor
// for whom somebody's word rests on, about whom the network is not asked.
func (s *subject) maySponsor() bool { return !s.atHand && len(s.asking) == 0 }

// makeRoom drops the list that was used longest ago. The caller holds mu.
func (l *lists) makeRoom() {
	var oldest place
	var used time.Time
	for at, h := range l.held {
		if used.IsZero() || h.used.Before(used) {
			oldest, used = at, h.used
		}
	}
	l.drop(oldest)
}

// drop forgets a list. The caller holds mu.
func (l *lists) drop(at place) {
	if h := l.held[at]; h != nil {
		if l.holders[h.list]--; l.holders[h.list] == 0 {
			l.entries -= h.list.Len()
			delete(l.holders, h.list)
		}
		delete(l.held, at)
		delete(l.sponsor, at)
	}
}

// due reports whether a list should be refreshed now.
func (l *lists) due(h *heldList, at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !at.Before(h.next)
}

// reserve reports whether a list is due still, and if so reserves the attempt.
func (l *lists) reserve(h *heldList, at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.Before(h.next) {
		return false
	}
	h.next = at.Add(max(refreshAtLeast, h.list.NextUpdate.Sub(at)/2))
	return true
}

// admit takes a list into memory if it counts for the certificate at hand: signed by somebody who may, about its issuer,
// in scope. Whoever sits on the path of a plain HTTP fetch can offer any bytes, and another genuine list too: where only a pointer to
// deltas leads, a complete list would keep the deltas away for as long as it lives.
func (c *Checker) admit(s *subject, target crl.Target, h *heldList) error {
	if !leadsTo(target, h.location) && (h.list.Delta || !h.configured) {
		return c.admitDelta(h, s)
	}
	if rejection := c.rejection(s, target, h); rejection != nil {
		return rejection
	}
	return c.put(h, s)
}

// rejection is why a complete list does not count for a certificate, whatever its age.
func (c *Checker) rejection(s *subject, target crl.Target, h *heldList) *ListError {
	rules := c.rules(s, []*heldList{h})
	rules.IgnoreExpiration, rules.MaxAge = true, 0
	judgement := crl.Judge(target, []*crl.List{h.list}, rules)
	if len(judgement.Used) > 0 {
		return nil
	}
	return firstRejection(judgement)
}

// leadsTo reports whether a distribution point of the certificate, which leads to complete lists, is at a location.
func leadsTo(target crl.Target, location string) bool {
	return slices.ContainsFunc(target.Points, func(p crl.DistributionPoint) bool { return slices.Contains(p.URLs(), location) })
}

// own is what is at hand from a location, unless the certificate's own distribution point leads there and it is a list of something else:
// one that was configured, say, and came for another certificate. That one is asked for anew.
func (c *Checker) own(s *subject, target crl.Target, location string, configured bool) *heldList {
	h := c.atHand(s, target, location, configured)
	if h == nil || !leadsTo(target, location) {
		return h
	}
	if rejection := c.rejection(s, target, h); rejection != nil && (h.list.Delta || statusOfCause(rejection.Cause) == pki.StatusNotCovered) {
		return nil
	}
	return h
}

// admitForAny takes in a configured list that a round asks for once, for whichever certificate of the round it counts for: who asks for it
// first may be in the scope of another. The one for which the last list from there was taken in may have no connection now. What a
// distribution point leads to must count for who asks: for anybody else, the list of one shard would take the place of another's.
func (c *Checker) admitForAny(ctx context.Context, s *subject, target crl.Target, h *heldList) error {
	err := c.admit(s, target, h)
	failed, ok := errors.AsType[*ListError](err)
	if s.round == nil || !h.configured || !ok || statusOfCause(failed.Cause) != pki.StatusNotCovered {
		return err
	}
	admit := func(other *subject) bool {
		target, err := crl.NewTarget(other.cert)
		return err == nil && c.admit(other, target, h) == nil
	}
	if sponsor := c.lists.sponsorOf(s.place(h.location), s.at); sponsor != nil && admit(sponsor) {
		return nil
	}
	for _, in := range s.round.chains {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, other := range c.subjects(in, s.at) {
			if other.key != s.key && other.issuerKey == s.issuerKey && admit(other) {
				return nil
			}
		}
	}
	return err
}

// sponsorOf is for whom the list from a place was admitted, as of now; nil if none was.
func (l *lists) sponsorOf(from place, at time.Time) *subject {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sponsor[from] == nil {
		return nil
	}
	sponsor := l.sponsor[from].question()
	sponsor.at = at
	return &sponsor
}

// admitDelta takes a delta that is signed; whether it fits a complete list shows when they are judged together.
func (c *Checker) admitDelta(h *heldList, s *subject) error {
	if !h.list.Delta {
		return errors.New("a complete list came where a delta is to be had")
	}
	err := errors.New("nobody at hand may sign this delta")
	for _, signer := range c.rules(s, []*heldList{h}).Signers(h.list) {
		if err = h.list.Verify(signer); err == nil {
			return c.put(h, s)
		}
	}
	return err
}

// ListError says why a CRL does not count for a certificate: the list is to blame, not the certificate.
type ListError struct {
	Cause crl.Cause
	Err   error
}

// Error is the cause in a word, and the explanation.
func (e *ListError) Error() string {
	return "the CRL does not count (" + e.Cause.String() + "): " + e.Err.Error()
}

// Unwrap returns the explanation of package crl.
func (e *ListError) Unwrap() error { return e.Err }

func firstRejection(j crl.Judgement) *ListError {
	if len(j.Rejected) == 0 {
		return &ListError{Cause: crl.CauseScope, Err: errors.New("it does not cover the certificate")}
	}
	best := j.Rejected[0]
	for _, r := range j.Rejected {
		if verify.Weight(statusOfCause(r.Cause)) > verify.Weight(statusOfCause(best.Cause)) {
			best = r
		}
	}
	return &ListError{Cause: best.Cause, Err: best.Err}
}

// fetched is a list as it came, before anybody has said that it counts.
type fetched struct {
	response *fetch.Response
	list     *crl.List
	digest   [sha256.Size]byte
}

// fetchList asks the network for a list, once for many waiters, admits it and keeps it on disk. old, if not nil, makes
// the question conditional.
func (c *Checker) fetchList(ctx context.Context, s *subject, target crl.Target, location string, configured bool, old *heldList) (*heldList, error) {
	request := fetch.Request{URL: location, Accept: "application/pkix-crl", MaxBytes: maxCRLFetched, Timeout: crlTimeout, Fresh: s.round != nil}
	if configured {
		request.MaxBytes = maxCRLGiven
	}
	if old != nil {
		request.ETag, request.LastModified = old.etag, old.lastModified
	}
	got, err := c.download(ctx, request)
	if err != nil {
		return nil, err
	}
	if got.response.NotModified {
		return old, nil
	}
	h := &heldList{list: got.list, digest: got.digest, location: location, configured: configured, etag: got.response.ETag, lastModified: got.response.LastModified}
	if err := c.admitForAny(ctx, s, target, h); err != nil {
		return nil, err
	}
	if !h.vouched {
		return h, nil // whatever number it has, it would count as the last one there
	}
	// The list is in memory; a disk that is full costs one more fetch after a restart.
	_ = c.config.Fetcher.Keep(fetch.Object{
		Key: s.place(location).name(), Version: h.version(), Body: got.response.Body, ETag: h.etag, LastModified: h.lastModified, Fetched: s.at,
	})
	return h, nil
}

// download fetches and parses, both once for many waiters.
func (c *Checker) download(ctx context.Context, request fetch.Request) (fetched, error) {
	fetchAndParse := func() (any, error) {
		response, err := c.config.Fetcher.Do(context.WithoutCancel(ctx), request)
		if err != nil || response.NotModified {
			return fetched{response: response}, err
		}
		list, digest, err := c.lists.readFrom(request.URL, response.Body)
		return fetched{response, list, digest}, err
	}
	flight := request.URL + " " + request.ETag + " " + request.LastModified
	if request.Fresh {
		c.lists.flight.Forget(flight) // whoever asks from here on joins this one
	}
	ch := c.lists.flight.DoChan(flight, fetchAndParse)
	select {
	case <-ctx.Done():
		return fetched{}, ctx.Err()
	case result := <-ch:
		if result.Err != nil {
			return fetched{}, result.Err
		}
		return result.Val.(fetched), nil
	}
}

// decodePEM unwraps a list that is served as text, against RFC 5280, Section 4.2.1.13, as some do.
func decodePEM(body []byte) []byte {
	if bytes.HasPrefix(body, []byte(pemProbePattern)) {
		if block, _ := pem.Decode(body); block != nil {
			return block.Bytes
		}
	}
	return body
}

// version orders the lists of one place on disk: by their numbers, but deltas and those that are at home elsewhere before all others.
func (h *heldList) version() (version fetch.Version) {
	list := h.list
	copy(version[:], list.Number[:])
	binary.BigEndian.PutUint64(version[len(list.Number):], uint64(max(0, list.ThisUpdate.Unix())))
	if !list.Delta && list.Scope == nil || h.atHome() {
		version[0] |= 0x80
	}
	return version
}

// listFile reads a configured file, again if it changed. A file that cannot be read, or whose list does not count,
// leaves what was read before, and says why.
func (c *Checker) listFile(s *subject, target crl.Target, path string) (*heldList, error) {
	old := c.lists.get(s.place(path))
	info, err := os.Stat(path)
	if err != nil {
		return old, err
	}
	if old != nil && old.modified.Equal(info.ModTime()) && old.size == info.Size() {
		return old, nil
	}
	read, err := c.lists.readFile(path, info)
	if err != nil {
		return old, err
	}
	h := &heldList{list: read.list, location: path, configured: true, modified: info.ModTime(), size: info.Size()}
	if err := c.admit(s, target, h); err != nil {
		return old, err
	}
	c.lists.forgetRefused(path)
	return h, nil
}

// readFile reads a configured file that is not held, unless it did before and the file has not changed since: a list of
// many megabytes that does not count is not read with every handshake.
func (l *lists) readFile(path string, info fs.FileInfo) (refused, error) {
	l.mu.Lock()
	known, ok := l.refused[path]
	l.mu.Unlock()
	if ok && known.modified.Equal(info.ModTime()) && known.size == info.Size() {
		return known, known.err
	}
	known = refused{modified: info.ModTime(), size: info.Size()}
	known.list, known.err = readListFile(path)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[path] = known // as many as the configuration names
	return known, known.err
}

func (l *lists) forgetRefused(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.refused, path)
}

func readListFile(path string) (*crl.List, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	probe := make([]byte, pemProbeLength)
	n, err := io.ReadFull(file, probe)
	if err != nil {
		return nil, err
	}
	if string(probe[:n]) != pemProbePattern {
		return crl.Read(io.MultiReader(bytes.NewReader(probe), file), maxCRLGiven)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxCRLGiven))
	if err != nil {
		return nil, err
	}
	return crl.Parse(decodePEM(append(probe, text...)))
}

// refreshSoon starts refreshes in the background for the lists that are past half their life, and fetches deltas that are not at
// hand: one that could not be had once would be missed until its complete list is half through. One that comes and does not count is not at
// hand either, and comes at its whole length: hence the longer pause.
func (c *Checker) refreshSoon(s *subject, target crl.Target, held []*heldList) {
	for _, h := range held {
		if isURL(h.location) && c.lists.due(h, s.at) {
			c.refreshInBackground(s, target, h)
		}
	}
	var missing []place // one job asks for all of them
	for _, p := range deltaPointers(target, held) {
		location := p.locations[0]
		atHand := slices.ContainsFunc(held, func(h *heldList) bool { return h.location == location })
		if isURL(location) && !atHand {
			missing = append(missing, s.place("delta "+location))
		}
	}
	if missing == nil {
		return
	}
	reserve := func() (due bool) {
		for _, delta := range missing {
			if !c.lists.tried(delta, askAgainAtLeast, s.at) {
				c.lists.noteTry(delta, s.at)
				due = true
			}
		}
		return due
	}
	asked := s.question()
	c.background(crlTimeout, reserve, func(ctx context.Context) {
		c.learnFrom(&asked, []Evidence{c.withDeltas(ctx, &asked, target, slices.Clip(held))})
	})
}

func (c *Checker) refreshInBackground(s *subject, target crl.Target, h *heldList) {
	asked := s.question()
	reserve := func() bool { return c.lists.reserve(h, asked.at) }
	c.background(crlTimeout, reserve, func(ctx context.Context) { _ = c.refreshList(ctx, &asked, target, h) })
}

// refreshList fetches a list again, and the deltas of what came, and acts on what they say of the certificate that
// asked. A failure to fetch it changes nothing: the list at hand counts until its end. One that is replaced is left alone.
func (c *Checker) refreshList(ctx context.Context, s *subject, target crl.Target, h *heldList) error {
	if c.replaced(s, target, h) {
		return nil
	}
	fresh, err := c.fetchList(ctx, s, target, h.location, h.configured, h)
	if err != nil {
		return err
	}
	held := []*heldList{fresh}
	if fresh.list.Delta {
		held = c.listsAtHand(s, target, s.pointers(target))
		held = append(held, fresh)
	}
	c.learnFrom(s, []Evidence{c.withDeltas(ctx, s, target, held)})
	return nil
}

// replaced reports whether a list has ended while another place that should have the same has one that has not: it is a mirror that nobody
// keeps any more, perhaps, and would be asked for ever.
func (c *Checker) replaced(s *subject, target crl.Target, h *heldList) bool {
	return c.ended(h, s.at) && slices.ContainsFunc(s.pointers(target), func(p pointer) bool {
		return slices.Contains(p.locations, h.location) && slices.ContainsFunc(p.locations, func(location string) bool {
			other := c.lists.get(s.place(location))
			return other != nil && !c.ended(other, s.at)
		})
	})
}
