package ocspserver

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// NonceMode says how a nonce in a request is handled. The zero value is NonceIgnore.
type NonceMode uint8

// The modes.
const (
	NonceIgnore NonceMode = iota // the answer comes from the cache, without a nonce (RFC 9919, Section 2.1.1)
	NonceLive                    // a request with a nonce gets a fresh answer with the nonce
)

// Issuer is a CA that a Responder answers for. Off-line issuers have no OCSP and are not among them.
type Issuer struct {
	// Certificate is any one of the issuer's: only name and key matter. Required.
	Certificate *x509.Certificate
	// Public: the issuer serves the public. A serial that it never issued is answered with unauthorized, not with a
	// signed statement, and the default times are longer.
	Public bool
	// Foreign: the issuer's key has signed certificates outside Signet too. No statement is made about a serial that is
	// not in the inventory.
	Foreign bool
	// Nonce says how nonces are handled.
	Nonce NonceMode
	// Validity is nextUpdate minus thisUpdate, 1 minute to 10 days. Zero: 1 hour. Public: at least 8 hours (Baseline
	// Requirements, Section 4.9.9).
	Validity time.Duration
	// MaxAge is how long caches may use an answer without revalidation, at most half of Validity. Zero: 30 seconds, 5
	// minutes if Public, but no more than half of Validity.
	MaxAge time.Duration
	// Retention is how long a certificate is answered for after it expires; answers carry the archive cutoff.
	Retention pki.Retention
}

func (i Issuer) equal(other Issuer) bool {
	same := i.Certificate.Equal(other.Certificate)
	i.Certificate, other.Certificate = nil, nil
	return same && i == other
}

// hashes are the algorithms of CertIDs, in the order in which cache and issuers number them.
var hashes = [...]crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}

func hashIndex(hash crypto.Hash) int {
	for i, h := range hashes {
		if h == hash {
			return i
		}
	}
	return -1
}

// issuerState is an Issuer with the values that are computed once.
type issuerState struct {
	Issuer
	id           pki.IssuerID
	key          pki.KeyHash
	ids          [len(hashes)]ocsp.CertID // without serial
	cacheControl string
}

func newIssuerState(issuer Issuer) (*issuerState, error) {
	const op = "serve OCSP"
	if issuer.Certificate == nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "an issuer without a certificate").InField("issuers")
	}
	named, err := ocsp.IssuerOf(issuer.Certificate)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).InField("issuers")
	}
	s := &issuerState{Issuer: issuer, key: pki.HashSPKI(issuer.Certificate.RawSubjectPublicKeyInfo)}
	s.id = s.key.Issuer()
	for i, hash := range hashes {
		s.ids[i] = named.CertID(hash, nil)
	}
	if s.Validity == 0 {
		s.Validity = time.Hour
	}
	if issuer.Public {
		s.Validity = max(s.Validity, 8*time.Hour)
	}
	if s.MaxAge == 0 {
		s.MaxAge = min(choose(issuer.Public, 5*time.Minute, 30*time.Second), s.Validity/2)
	}
	if s.Validity < time.Minute || s.Validity > 10*24*time.Hour {
		return nil, pki.Errorf(pki.KindInvalid, op, "answers of issuer %s live %s: want 1 minute to 10 days", s.id, s.Validity).InField("validity")
	}
	if s.MaxAge < 0 || s.MaxAge > s.Validity/2 {
		// RFC 9919, Section 7.2: when max-age runs out a fresher answer must exist; one is signed at half-life.
		return nil, pki.Errorf(pki.KindInvalid, op, "caches of issuer %s keep answers for %s: want at most half of %s",
			s.id, s.MaxAge, s.Validity).InField("max_age")
	}
	s.cacheControl = cacheControl(s.MaxAge)
	return s, nil
}

// matches reports whether both hashes of id are this issuer's, and the index of its hash algorithm.
func (s *issuerState) matches(id ocsp.CertID) (int, bool) {
	i := hashIndex(id.Hash)
	if i < 0 {
		return 0, false
	}
	return i, bytes.Equal(id.NameHash, s.ids[i].NameHash) && bytes.Equal(id.KeyHash, s.ids[i].KeyHash)
}

// asked reports whether a request names only this issuer.
func (s *issuerState) asked(request *ocsp.Request) bool {
	for _, item := range request.Items {
		if _, ok := s.matches(item.ID); !ok {
			return false
		}
	}
	return true
}

// certID returns the CertID of the certificate of this issuer whose serial number has these INTEGER content octets.
func (s *issuerState) certID(hash int, serial []byte) ocsp.CertID {
	id := s.ids[hash]
	id.Serial = serial
	return id
}

func choose[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}
