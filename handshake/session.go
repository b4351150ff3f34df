package handshake

import (
	"crypto/tls"
	"slices"
	"sync"
	"time"

	"signet.example/signet/pki"
)

// maxSessionNames bounds the names whose sessions are watched.
const maxSessionNames = 4096

// sessionEnds holds until when the staple of a session lasts. On resumption crypto/tls passes the staple of the first
// connection for as long as the session lives.
type sessionEnds struct {
	mu   sync.Mutex
	ends map[string]time.Time // by name of the server; guarded by mu
}

func newSessionEnds() *sessionEnds { return &sessionEnds{ends: make(map[string]time.Time)} }

// note remembers how long a new session can be resumed without new evidence.
func (s *sessionEnds) note(name string, r *Result, maxAge time.Duration) {
	if name == "" || r.Resumed || len(r.Certificates) == 0 {
		return
	}
	evidence := r.Certificates[0].Evidence
	staple := slices.IndexFunc(evidence, func(e Evidence) bool { return e.Source == SourceStaple && e.Status == pki.StatusGood })
	s.mu.Lock()
	defer s.mu.Unlock()
	if staple < 0 {
		delete(s.ends, name)
		return
	}
	if len(s.ends) >= maxSessionNames {
		clear(s.ends) // costs some full handshakes, or some refused ones
	}
	end := evidence[staple].NextUpdate
	if maxAge > 0 {
		end = earliest(end, evidence[staple].ThisUpdate.Add(maxAge))
	}
	s.ends[name] = end
}

func (s *sessionEnds) ended(name string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	end, known := s.ends[name]
	return known && !end.IsZero() && !now.Before(end)
}

// sessionCache does not resume a session whose staple has ended: a full handshake brings the current staple, where a
// resumed one would be refused.
type sessionCache struct {
	tls.ClientSessionCache
	checker *Checker
}

// Get implements tls.ClientSessionCache; the key is the name of the server, or its address if there is none.
func (c *sessionCache) Get(key string) (*tls.ClientSessionState, bool) {
	if c.checker.sessions.ended(key, c.checker.config.Now()) {
		return nil, false
	}
	return c.ClientSessionCache.Get(key)
}
