package ocspserver

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// NonceMode says what becomes of a nonce in a request. Zero is NonceIgnore.
type NonceMode uint8

// The modes.
const (
	NonceIgnore NonceMode = iota // the answer comes from the cache, without a nonce (RFC 9919, Section 2.1.1)
	NonceLive                    // a request with a nonce is answered afresh, with its nonce
)

// Issuer is an authority that a Responder answers for. Off-line issuers have no OCSP and are not given.
type Issuer struct {
	// Certificate is any one of the issuer's: its name and key count. Required.
	Certificate *x509.Certificate
	// Public: the issuer serves the public. A serial it never issued is answered with unauthorized, not with a signed
	// statement; times are longer.
	Public bool
	// Foreign: certificates were signed with its key elsewhere too. Of a serial that stands in no book nothing is stated.
	Foreign bool
	// Nonce is the mode for nonces.
	Nonce NonceMode
	// Validity is nextUpdate minus thisUpdate. Zero: 1 hour. Public: at least 8 hours (Baseline Requirements, Section 4.9.9).
	Validity time.Duration
	// MaxAge is how long caches may keep an answer without asking. Zero: 30 seconds, 5 minutes if Public, and at
	// most half of Validity.
	MaxAge time.Duration
	// Retention is how long after its end a certificate is answered for; answers carry the archive cutoff.
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

// issuerState is an Issuer with what is computed once.
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
		// RFC 9919, Section 7.2: when max-age runs out a fresher answer has to be there, and one is signed at half-life.
		return nil, pki.Errorf(pki.KindInvalid, op, "caches of issuer %s keep answers for %s: want at most half of %s", s.id, s.MaxAge, s.Validity).InField("max_age")
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

// asked reports whether a request names this issuer only.
func (s *issuerState) asked(request *ocsp.Request) bool {
	for _, item := range request.Items {
		if _, ok := s.matches(item.ID); !ok {
			return false
		}
	}
	return true
}

// certID names the certificate of this issuer with these INTEGER content octets.
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
