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
	refreshAtMost  = time.Hour        // between two attempts at a place whose list others replace: it may be back, with a newer list
)

// place identifies a held list by its location and by the issuer of the certificates that it is for. Lists are kept
// apart per issuer, so that an issuer cannot displace another's list by pointing its own certificates at the same URL.
// A configured file is shared by all issuers.
type place struct {
	issuer   issuerKey // of the certificates; zero for a file
	location string
}

// place returns the place of a list from location for the certificates of the issuer of s.
func (s *subject) place(location string) place {
	if !isURL(location) {
		return place{location: location}
	}
	return place{s.issuerKey, location}
}

// name returns the name of the place on disk.
func (p place) name() string { return "crl " + hex.EncodeToString(p.issuer[:]) + " " + p.location }

// heldList is a list in memory that was admitted: its signer is authorised.
type heldList struct {
	list               *crl.List
	digest             [sha256.Size]byte // of the octets as they were received; zero for a file
	location           string
	vouched            bool // signed by a certificate of the chain or of the configuration, and not only by one that a peer sent
	configured         bool
	etag, lastModified string
	modified           time.Time // of a file
	size               int64     // of a file

	used time.Time // guarded by lists.mu
	next time.Time // when a refresh is due; guarded by lists.mu
}

// lists are the lists in memory, by place.
type lists struct {
	flight singleflight.Group
	tries  *tries // of places on disk, and of deltas
	failed *tries // of places that were asked for a list and gave none: lists from elsewhere do not make them due sooner

	mu      sync.Mutex
	held    map[place]*heldList // guarded by mu
	holders map[*crl.List]int   // in how many places a list is held; guarded by mu
	entries int                 // of all lists that are held; guarded by mu
	sponsor map[place]*subject  // the subject that a list was admitted for, for which its refresh is admitted too; guarded by mu
	refused map[string]refused  // configured files whose present list is not held; guarded by mu
}

// refused describes a configured file whose list did not count when the file was read: it is not a list, or it did not
// count for the certificates at that time. It may count for others, of another scope.
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

// RollbackError says that a source offered a list older than the one that it offered before. The older one is not used.
type RollbackError struct{ Had, Offered crl.Number }

// Error names both numbers.
func (e *RollbackError) Error() string {
	return fmt.Sprintf("the CRL went back from number %s to %s", e.Had, e.Offered)
}

// atHome reports whether the list names, in its issuing distribution point, the location it came from.
func (h *heldList) atHome() bool {
	return h.list.IDP != nil && slices.Contains(h.list.IDP.URLs(), h.location)
}

// mayReplace returns nil if h may replace old, which came from the same place, and otherwise the reason.
//
//  1. Until old's nextUpdate, a list vouched for only by a certificate that the peer sent does not replace one vouched
//     for by the chain or the configuration: its key may have been stolen, or made for a smaller purpose. The reverse
//     may always.
//  2. Within a series the larger CRL number wins, then the later thisUpdate.
//  3. A list of another series, which an attacker on the path of plain HTTP could substitute, replaces one that has
//     not ended only if it is complete and either covers everything or names this location in its issuing distribution
//     point.
//  4. A complete list that names this location replaces one that does not, whatever the dates, unless the old one
//     covers everything: an older list of that series could otherwise come back.
//  5. A configured file may change to a list of another issuer.
//  6. In every other case a list with an earlier thisUpdate does not replace a later one.
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
	case isURL(h.location) && (h.list.Delta || h.list.IDP != nil && !h.atHome()):
		if at.Before(old.list.NextUpdate) {
			return errors.New("the list that came is another than the one to be had there")
		}
	case h.atHome() && !old.atHome() && (old.list.Delta || old.list.IDP != nil):
		return nil
	}
	if h.list.ThisUpdate.Before(old.list.ThisUpdate) {
		return &RollbackError{Had: old.list.Number, Offered: h.list.Number}
	}
	return nil
}

// put keeps a list in its place if it may replace the one held there. If ended, because the list had ended when it came,
// this does not count as a use of the place.
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

// sameAs returns the list that is already held from a location, perhaps for another issuer, and was read from the same
// octets, so that it is parsed and kept once. It returns nil if there is none.
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

// maySponsor reports whether lists may be refreshed for s. They may not for a chain that does not quite verify, for
// which nothing is fetched or learned, nor for a signer of evidence, about which the network is not asked.
func (s *subject) maySponsor() bool { return !s.atHand && len(s.asking) == 0 }

// makeRoom drops the least recently used list. The caller holds mu.
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

// reserve reports whether a list is still due, and if so reserves the attempt.
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

// rest returns the pause between two attempts at a list that has ended: the time since its last use. A list that others
// replace (Checker.replaced) is therefore asked for at once and then less and less often. The caller holds mu.
func (h *heldList) rest(at time.Time) time.Duration { return min(at.Sub(h.used), refreshAtMost) }

// sponsorOf returns the subject that the list from a place was admitted for, as of now; nil if there is none.
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
