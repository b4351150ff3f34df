package handshake

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"

	"signet.example/signet/ocsp"
)

// maxStaples bounds the verified staples that are kept, to verify the same signature once.
const maxStaples = 4096

// staples remembers staples that verified. A server sends the same one for hours.
type staples struct {
	mu   sync.RWMutex
	kept map[[sha256.Size]byte]ocsp.Result // by staple, certificate and issuer; guarded by mu
}

func newStaples() *staples { return &staples{kept: make(map[[sha256.Size]byte]ocsp.Result)} }

func stapleKey(s *subject) [sha256.Size]byte {
	var both [2 * sha256.Size]byte
	staple := sha256.Sum256(s.staple)
	copy(both[:], s.key[:])
	copy(both[sha256.Size:], staple[:])
	return sha256.Sum256(both[:])
}

func (m *staples) get(key [sha256.Size]byte) (ocsp.Result, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	result, ok := m.kept[key]
	return result, ok
}

func (m *staples) put(key [sha256.Size]byte, result ocsp.Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.kept) >= maxStaples {
		for other := range m.kept {
			delete(m.kept, other)
			break
		}
	}
	m.kept[key] = result
}

// lookAtStaple judges the OCSP response that came in the handshake; it is about the leaf only (RFC 6066, Section 8).
// On a resumed session it is the one of the first connection, and is judged by its own times like any other.
func (c *Checker) lookAtStaple(s *subject) {
	if !s.leaf || len(s.staple) == 0 {
		return
	}
	key := stapleKey(s)
	if result, verified := c.staples.get(key); verified {
		evidence := c.evidenceOfAnswer(s, answer{result: result})
		evidence.Source = SourceStaple
		s.add(evidence)
		return
	}
	result, err := ocsp.Verify(s.staple, ocsp.Query{
		Certificate: s.cert, Issuers: []*x509.Certificate{s.issuer}, Untrusted: s.presented, Time: s.at, MaxAge: c.config.MaxAge, Skew: c.config.Skew,
		Known: &c.delegates,
	})
	if result, err = c.checkAnswer(s, result, err); err == nil {
		c.staples.put(key, result)
	}
	evidence := evidenceOf(SourceStaple, result, err)
	evidence.Cached = true
	s.add(evidence)
}
