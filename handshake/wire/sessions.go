package wire

import (
	"crypto/sha256"
	"sync"

	"golang.org/x/crypto/cryptobyte"
)

// maxSessions bounds the sessions that a Sessions knows.
const maxSessions = 256

// Sessions remembers the master secrets of the TLS 1.2 sessions that its Taps watched, by their tickets. A resumed
// session has no other secret, and crypto/tls writes none to a key log for it. A Tap without Sessions reports only that
// the session was resumed. The secrets decrypt the connections, so they stay in memory and end with the Sessions. The
// zero value is ready to use, and safe for concurrent use.
type Sessions struct {
	mu      sync.Mutex
	secrets map[[sha256.Size]byte][]byte // by the digest of a ticket; guarded by mu
	order   [][sha256.Size]byte          // oldest first; guarded by mu
}

func (s *Sessions) remember(ticket, master []byte) {
	if s == nil || len(ticket) == 0 || len(master) == 0 {
		return
	}
	key := sha256.Sum256(ticket)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets == nil {
		s.secrets = make(map[[sha256.Size]byte][]byte)
	}
	if _, known := s.secrets[key]; !known {
		s.order = append(s.order, key)
	}
	s.secrets[key] = master
	for len(s.order) > maxSessions {
		delete(s.secrets, s.order[0])
		s.order = s.order[1:]
	}
}

func (s *Sessions) recall(ticket []byte) []byte {
	if s == nil || len(ticket) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secrets[sha256.Sum256(ticket)]
}

// readTicket reads the body of a NewSessionTicket of TLS 1.2 (RFC 5077, Section 3.3).
func readTicket(body []byte) []byte {
	input := cryptobyte.String(body)
	var lifetime uint32
	var ticket cryptobyte.String
	if !input.ReadUint32(&lifetime) || !input.ReadUint16LengthPrefixed(&ticket) {
		return nil
	}
	return ticket
}
