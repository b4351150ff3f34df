package handshake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"io"
	"io/fs"
	"os"
	"slices"

	"signet.example/signet/crl"
	"signet.example/signet/handshake/fetch"
)

const (
	pemProbeLength  = 11
	pemProbePattern = "-----BEGIN "
)

// fetched is a list as it was received, before any check.
type fetched struct {
	response *fetch.Response
	list     *crl.List
	digest   [sha256.Size]byte
}

// fetchList fetches a list, once for concurrent callers, and admits it. If old is not nil the request is conditional.
// The caller passes the object, unless it is nil, to write once all lists that count together have been judged: one
// list alone may be older than that of the next place.
func (c *Checker) fetchList(ctx context.Context, s *subject, target crl.Target, location string, configured bool, old *heldList) (*heldList, *fetch.Object, error) {
	request := fetch.Request{URL: location, Accept: "application/pkix-crl", MaxBytes: maxCRLFetched, Timeout: crlTimeout, Fresh: s.round != nil}
	if configured {
		request.MaxBytes = maxCRLGiven
	}
	if old != nil {
		request.ETag, request.LastModified = old.etag, old.lastModified
	}
	got, err := c.download(ctx, request)
	if err != nil {
		return nil, nil, err
	}
	if got.response.NotModified {
		return old, nil, nil
	}
	h := &heldList{list: got.list, digest: got.digest, location: location, configured: configured, etag: got.response.ETag, lastModified: got.response.LastModified}
	if err := c.admitForAny(ctx, s, target, h); err != nil {
		return nil, nil, err
	}
	if !h.vouched {
		return h, nil, nil // if written, its number would count as the last one there, whatever it is
	}
	return h, &fetch.Object{
		Key: s.place(location).name(), Version: h.version(), Body: got.response.Body, ETag: h.etag, LastModified: h.lastModified, Fetched: s.at,
	}, nil
}

// download fetches and parses a list, once for concurrent callers.
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
		c.lists.flight.Forget(flight) // later callers join this fetch
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

// readFrom parses a list that came from a location, unless it is already held.
func (l *lists) readFrom(location string, octets []byte) (*crl.List, [sha256.Size]byte, error) {
	digest := sha256.Sum256(octets)
	if held := l.sameAs(location, digest); held != nil {
		return held, digest, nil
	}
	list, err := crl.Parse(decodePEM(octets))
	return list, digest, err
}

// decodePEM unwraps a list that is served in PEM, which some servers do against RFC 5280, Section 4.2.1.13.
func decodePEM(body []byte) []byte {
	if bytes.HasPrefix(body, []byte(pemProbePattern)) {
		if block, _ := pem.Decode(body); block != nil {
			return block.Bytes
		}
	}
	return body
}

// version orders the lists of one place on disk by number. Deltas, and lists that name only other locations, come
// before all others.
func (h *heldList) version() (version fetch.Version) {
	list := h.list
	copy(version[:], list.Number[:])
	binary.BigEndian.PutUint64(version[len(list.Number):], uint64(max(0, list.ThisUpdate.Unix())))
	if !list.Delta && list.IDP == nil || h.atHome() {
		version[0] |= 0x80
	}
	return version
}

// listFile reads a configured file, again if it changed. If the file cannot be read, or its list does not count, it
// returns the list that was read before, and the error.
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

// readFile reads a configured file that is not held, unless it was read before and has not changed since: a list of
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

// refreshSoon starts background refreshes of lists past half their life, and background fetches of deltas that are not
// at hand: a delta that failed once would otherwise be missed until its complete list is half through. A delta that was
// fetched and does not count is not at hand either, and costs its whole length: hence the longer pause.
func (c *Checker) refreshSoon(s *subject, target crl.Target, held []*heldList) {
	for _, h := range held {
		if isURL(h.location) && c.lists.due(h, s.at) {
			c.refreshInBackground(s, target, h)
		}
	}
	c.askPassedOver(s, target, held)
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
			if !c.lists.tries.recent(delta, askAgainAtLeast, s.at) {
				c.lists.tries.note(delta, s.at)
				due = true
			}
		}
		return due
	}
	asked := s.question()
	c.background(crlTimeout, reserve, func(ctx context.Context) {
		c.learnFrom(&asked, []Evidence{c.withDeltas(ctx, &asked, target, slices.Clip(held), nil)})
	})
}

func (c *Checker) refreshInBackground(s *subject, target crl.Target, h *heldList) {
	asked := s.question()
	reserve := func() bool { return c.lists.reserve(h, asked.at, c.ended(h, asked.at)) }
	c.background(crlTimeout, reserve, func(ctx context.Context) { _ = c.refreshList(ctx, &asked, target, h) })
}

// askPassedOver asks, in the background and seldom, the places that failed before another place of their distribution
// point had a list: they may be back, with a newer list.
func (c *Checker) askPassedOver(s *subject, target crl.Target, held []*heldList) {
	asked := s.question()
	for _, location := range s.passedOver(target, held) {
		failed := s.place(location)
		reserve := func() bool {
			due := !c.lists.failed.recent(failed, refreshAtMost, asked.at)
			if due {
				c.lists.failed.note(failed, asked.at)
			}
			return due
		}
		c.background(crlTimeout, reserve, func(ctx context.Context) {
			if fresh, unwritten, err := c.fetchList(ctx, &asked, target, location, false, nil); err == nil {
				c.learnFrom(&asked, []Evidence{c.withDeltas(ctx, &asked, target, []*heldList{fresh}, nil)})
				c.write(asked.round, unwritten)
			}
		})
	}
}

// passedOver returns the places without a list at hand that precede one with a list.
func (s *subject) passedOver(target crl.Target, held []*heldList) (passed []string) {
	for _, p := range s.pointers(target) {
		var empty []string
		for _, location := range p.locations {
			if slices.ContainsFunc(held, func(h *heldList) bool { return h.location == location }) {
				passed, empty = append(passed, empty...), nil
			} else {
				empty = append(empty, location)
			}
		}
	}
	return passed
}

// refreshList fetches a list again, and the deltas of the new one, and acts on what they say about the certificate of
// s. A failed fetch changes nothing: the list at hand counts until its end.
func (c *Checker) refreshList(ctx context.Context, s *subject, target crl.Target, h *heldList) error {
	fresh, unwritten, err := c.fetchList(ctx, s, target, h.location, h.configured, h)
	if err != nil {
		return err
	}
	held := []*heldList{fresh}
	if fresh.list.Delta {
		held = c.listsAtHand(s, target, s.pointers(target))
		held = append(held, fresh)
	}
	c.learnFrom(s, []Evidence{c.withDeltas(ctx, s, target, held, nil)})
	c.write(s.round, unwritten)
	return nil
}

// replaced reports whether a list has ended and another place, which should have the same list, has one as young that
// has not ended. The first place may be an abandoned mirror, which must not be asked for ever, or the better of the two
// after a short outage.
func (c *Checker) replaced(s *subject, target crl.Target, h *heldList) bool {
	return c.ended(h, s.at) && slices.ContainsFunc(s.pointers(target), func(p pointer) bool {
		return slices.Contains(p.locations, h.location) && slices.ContainsFunc(p.locations, func(location string) bool {
			other := c.lists.get(s.place(location))
			return other != nil && !c.ended(other, s.at) && !h.list.ThisUpdate.After(other.list.ThisUpdate)
		})
	})
}
