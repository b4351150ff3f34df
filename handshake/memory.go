package handshake

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"
)

// issuerKey names an issuer: its name and its key.
type issuerKey [sha256.Size]byte

func issuerKeyOf(issuer *x509.Certificate) issuerKey {
	var both [2 * sha256.Size]byte
	name, key := sha256.Sum256(issuer.RawSubject), sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	copy(both[:], name[:])
	copy(both[sha256.Size:], key[:])
	return sha256.Sum256(both[:])
}

// certificateKey names a certificate across chains: its issuer, and the serial as it stands in it.
type certificateKey [sha256.Size]byte

func keyOf(c, issuer *x509.Certificate) certificateKey { return issuerKeyOf(issuer).of(c) }

func (k issuerKey) of(c *x509.Certificate) certificateKey {
	serial := c.SerialNumber.Bytes()
	input := make([]byte, 0, 2*sha256.Size) // on the stack, for serial numbers as they should be
	input = append(append(input, k[:]...), serial...)
	if c.SerialNumber.Sign() < 0 {
		input = append(input, '-')
	}
	return sha256.Sum256(input)
}

// maxRemembered bounds the revocations that are remembered. Only authentic evidence about a certificate that was shown
// and whose chain verified gets here, so an attacker fills it with revoked certificates of real authorities or not at all.
const maxRemembered = 1 << 16

// memory remembers revocations that cannot be taken back, until the certificate has expired.
type memory struct {
	mu      sync.RWMutex
	revoked map[certificateKey]remembered // guarded by mu
}

type remembered struct {
	evidence Evidence
	until    time.Time
}

func newMemory() *memory { return &memory{revoked: make(map[certificateKey]remembered)} }

func (m *memory) recall(key certificateKey) (Evidence, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	known, ok := m.revoked[key]
	if !ok {
		return Evidence{}, false
	}
	evidence := known.evidence
	evidence.Source, evidence.Cached = SourceMemory, true
	return evidence, true
}

// remember reports whether the revocation is news.
func (m *memory) remember(key certificateKey, evidence Evidence, until, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.revoked[key]; known {
		return false
	}
	if len(m.revoked) >= maxRemembered {
		m.makeRoom(now)
	}
	m.revoked[key] = remembered{evidence, until}
	return true
}

// makeRoom drops what has expired, and one more if nothing has. The caller holds mu.
func (m *memory) makeRoom(now time.Time) {
	for key, known := range m.revoked {
		if now.After(known.until) {
			delete(m.revoked, key)
		}
	}
	for key := range m.revoked {
		if len(m.revoked) < maxRemembered {
			return
		}
		delete(m.revoked, key)
	}
}
