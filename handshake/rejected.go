package handshake

import (
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

const (
	askUselessAgain = 10 * time.Second // after an answer that did not count
	maxUseless      = 4096
)

// useless remembers for a moment answers that came and did not count: a list that has ended, octets that are no list,
// an error of a responder. Each handshake would ask for them again. The Fetcher remembers fetches that failed.
type useless struct {
	mu    sync.Mutex
	noted map[askedFor]uselessAnswer // guarded by mu
}

type uselessAnswer struct {
	at       time.Time
	evidence []Evidence // for subjects that do not ask again
}

// askedFor identifies a question by its kind, its place and its subject. For another chain, or with other certificates
// from the peer, the same answer might count.
type askedFor [sha256.Size]byte

func (s *subject) askedFor(kind, location string) askedFor {
	asker := s.asker
	if asker == nil {
		asker = s.digest()
	}
	return sha256.Sum256(slices.Concat(asker, []byte(kind+" "+location)))
}

// digest returns a hash of the certificate, its chain and the certificates that the peer sent.
func (s *subject) digest() []byte {
	h := sha256.New()
	h.Write(s.key[:])
	for _, c := range s.chain {
		h.Write(c.Raw)
	}
	for _, c := range s.presented {
		h.Write(c.Raw)
	}
	return h.Sum(nil)
}

func newUseless() *useless { return &useless{noted: make(map[askedFor]uselessAnswer)} }

func (u *useless) note(asked askedFor, at time.Time, evidence ...Evidence) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.noted) >= maxUseless {
		clear(u.noted)
	}
	for i := range evidence {
		evidence[i].Cached = true
	}
	u.noted[asked] = uselessAnswer{at, evidence}
}

// recent returns the evidence about an answer of a moment ago.
func (u *useless) recent(asked askedFor, at time.Time) ([]Evidence, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	last, ok := u.noted[asked]
	since := at.Sub(last.at)
	return last.evidence, ok && since >= 0 && since < askUselessAgain
}
