package handshake

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/handshake/fetch"
	"signet.example/signet/pki"
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

// maxRemembered bounds the revocations that are remembered. Only authentic evidence about a presented certificate whose
// chain verified gets here, so an attacker can fill it only with revoked certificates of real authorities.
const maxRemembered = 1 << 16

// lookedAt is the number of entries that makeRoom looks at.
const lookedAt = 64

// recallEvery is the pause between two looks for revocations that other processes remembered.
const recallEvery = time.Second

// memory remembers final revocations until the certificate has expired, and shares them over the directory of the
// Fetcher with other and later processes: an outage of the authority does not bring a revoked certificate back.
type memory struct {
	fetcher *fetch.Fetcher
	others  *fetch.Recollection
	reading sync.Mutex   // held while the directory is read
	next    atomic.Int64 // when others are asked, Unix nanoseconds

	mu      sync.RWMutex
	revoked map[certificateKey]remembered // guarded by mu
}

type remembered struct {
	evidence Evidence
	until    time.Time
}

func newMemory(fetcher *fetch.Fetcher) *memory {
	return &memory{fetcher: fetcher, others: fetcher.Recollect(), revoked: make(map[certificateKey]remembered)}
}

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

// share tells other processes, and later ones, of a revocation. It waits for the disk.
func (m *memory) share(key certificateKey, evidence Evidence, until time.Time) {
	if fact, err := factOf(key, evidence, until); err == nil {
		_ = m.fetcher.Remember(fact) // it is in memory; with a full disk other processes learn it from its source
	}
}

// keep reports whether the revocation is news.
func (m *memory) keep(key certificateKey, evidence Evidence, until, now time.Time) bool {
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

// learn takes over the revocations that other processes remembered since the last call, and returns the new ones. It
// looks at most once a second.
func (m *memory) learn(now time.Time) ([]certificateKey, error) {
	due := m.next.Load()
	left := time.Duration(due - now.UnixNano())
	if left > 0 && left <= recallEvery || !m.next.CompareAndSwap(due, now.Add(recallEvery).UnixNano()) {
		return nil, nil
	}
	if !m.reading.TryLock() {
		return nil, nil // another goroutine waits for the disk already
	}
	defer m.reading.Unlock()
	facts, err := m.others.Next()
	var news []certificateKey
	for _, fact := range facts {
		if key, evidence, ok := revocationOf(fact); ok && !now.After(fact.Until) && m.keep(key, evidence, fact.Until, now) {
			news = append(news, key)
		}
	}
	return news, err
}

// makeRoom drops the expired entries among the first lookedAt, or one of these if none has expired. It looks at no
// more, because if more certificates are revoked at once than can be remembered, a look at all entries for each would
// stop all handshakes. The caller holds mu.
func (m *memory) makeRoom(now time.Time) {
	var last certificateKey
	looked := 0
	for key, known := range m.revoked {
		if now.After(known.until) {
			delete(m.revoked, key)
		}
		last = key
		if looked++; looked == lookedAt {
			break
		}
	}
	if len(m.revoked) >= maxRemembered {
		delete(m.revoked, last)
	}
}

// revocationPrefix begins the name of a fact that is a revocation; the certificateKey follows, in hexadecimal.
const revocationPrefix = "revoked "

// revocationRecord is the body of such a fact. Fields may be added; unknown ones are ignored.
type revocationRecord struct {
	Reason     pki.Reason `json:"reason"`
	Location   string     `json:"location,omitempty"`
	RevokedAt  time.Time  `json:"revoked_at,omitzero"`
	ThisUpdate time.Time  `json:"this_update,omitzero"`
}

func factOf(key certificateKey, e Evidence, until time.Time) (fetch.Fact, error) {
	body, err := json.Marshal(revocationRecord{e.Reason, e.Location, e.RevokedAt, e.ThisUpdate})
	return fetch.Fact{Name: revocationPrefix + hex.EncodeToString(key[:]), Until: until, Body: body}, err
}

func revocationOf(fact fetch.Fact) (key certificateKey, e Evidence, ok bool) {
	name, isRevocation := strings.CutPrefix(fact.Name, revocationPrefix)
	octets, err := hex.DecodeString(name)
	if !isRevocation || err != nil || len(octets) != len(key) {
		return key, Evidence{}, false
	}
	var r revocationRecord
	if json.Unmarshal(fact.Body, &r) != nil || r.Reason == pki.CertificateHold { // a hold is never remembered
		return key, Evidence{}, false
	}
	copy(key[:], octets)
	return key, Evidence{Status: pki.StatusRevoked, Reason: r.Reason, Location: r.Location, RevokedAt: r.RevokedAt, ThisUpdate: r.ThisUpdate, Final: true}, true
}
