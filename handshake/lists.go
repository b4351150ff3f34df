package handshake

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"signet.example/signet/crl"
)

const (
	maxLists       = 8192             // kept in memory: an authority has one for each 16,384 certificates, say
	maxEntries     = 6 << 20          // of all of them: about 40 octets each
	refreshAtLeast = 10 * time.Second // between two attempts to refresh the same list
	refreshAtMost  = time.Hour        // between two attempts at a place that others have taken the place of: it may be back, and know more
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
	tries  *tries // of places on disk, and of deltas
	failed *tries // of places that were asked for a list and gave none: no number of good ones makes them be asked sooner

	mu      sync.Mutex
	held    map[place]*heldList // guarded by mu
	holders map[*crl.List]int   // in how many places a list is held; guarded by mu
	entries int                 // of all lists that are held; guarded by mu
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
	return &lists{tries: newTries(), failed: newTries(), held: make(map[place]*heldList), holders: make(map[*crl.List]int), sponsor: make(map[place]*subject), refused: make(map[string]refused)}
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

// put keeps a list in its place, if it may be there. One that had ended when it came is no use of the place.
func (l *lists) put(h *heldList, s *subject, ended bool) error {
	at := s.place(h.location)
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.held[at]
	if old != nil {
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
	if ended && old != nil {
		h.used = old.used
		h.next = latest(h.next, s.at.Add(h.rest(s.at)))
	}
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
func (l *lists) reserve(h *heldList, at time.Time, ended bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.Before(h.next) {
		return false
	}
	pause := max(refreshAtLeast, h.list.NextUpdate.Sub(at)/2)
	if ended {
		pause = max(pause, h.rest(at))
	}
	h.next = at.Add(pause)
	return true
}

// rest is the pause between two attempts at a list that has ended: as long as it was not used, so that one that others have taken the place of
// (Checker.replaced) is asked for at once and then more and more seldom. The caller holds mu.
func (h *heldList) rest(at time.Time) time.Duration { return min(at.Sub(h.used), refreshAtMost) }

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
