package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"

	"signet.example/signet/crl"
)

const (
	maxPath       = 8  // certificates between a CRL issuer and the validated chain
	maxSignatures = 64 // signatures checked in one search; a pool may have been made to be expensive
)

// Signers returns the certificates that may sign lists in the name of subject, as far as trust is concerned:
// certificates of the validated chain, and certificates of the pool that lead to the same trust anchor (RFC 5280,
// Section 6.3.3 (f)). The chain is leaf first, anchor last. Package crl checks whether such a certificate may sign CRLs
// and signed this one.
//
// The rules for paths are those of RFC 5280, Section 6.1.4, that matter between CAs: names chain, signatures verify,
// every certificate is within its validity, every issuer is a CA that may sign certificates, path lengths and name
// constraints are kept, no critical extension is unknown. A certificate needs no CA bit to sign CRLs. Without it, the
// certificate must state a key usage, because an end entity may have the name of a CRL issuer by chance.
//
// If revoked is not nil, it is called with each certificate of a path outside the chain and the certificate of its
// issuer. No path may include a certificate for which it returns true.
func Signers(subject []byte, chain, pool []*x509.Certificate, at time.Time, revoked func(c, issuer *x509.Certificate) bool) []*x509.Certificate {
	signers := namedInChain(chain, subject)
	search := newSearch(chain, pool, at)
	search.revoked = revoked
	for _, c := range pool {
		if !contains(chain, c) && crl.SameName(c.RawSubject, subject) && !contains(signers, c) && maySignLists(c) && search.leadsToAnchor(c) {
			signers = append(signers, c)
		}
	}
	return signers
}

// hasUsage reports whether a certificate has a key usage (RFC 5280, Section 4.2.1.3).
func hasUsage(c *x509.Certificate) bool {
	_, says := extension(c, oidKeyUsage)
	return says
}

// maySignLists reports whether a certificate is a CA's or has a key usage. Package crl checks that the usage allows it.
func maySignLists(c *x509.Certificate) bool { return hasUsage(c) || isAuthority(c) }

// isAuthority reports whether a certificate has the CA bit. One of version 1 cannot have it; an anchor may do without
// (RFC 5280, Section 6.1.4 (k)).
func isAuthority(c *x509.Certificate) bool { return c.BasicConstraintsValid && c.IsCA }

// namedInChain returns the certificates of a chain with a given subject, except an end entity that has it by chance.
// Other encodings of the name are tried only if no certificate has this one: the function runs in every handshake, and
// comparing octets is much faster than comparing by the rules of RFC 5280.
func namedInChain(chain []*x509.Certificate, subject []byte) []*x509.Certificate {
	for _, same := range []func(a, b []byte) bool{bytes.Equal, crl.SameName} {
		var found []*x509.Certificate
		for i, c := range chain {
			if same(c.RawSubject, subject) && !contains(found, c) && (i > 0 || len(chain) == 1 || maySignLists(c)) {
				found = append(found, c)
			}
		}
		if found != nil {
			return found
		}
	}
	return nil
}

// search looks for a path from a certificate of the pool to the validated chain.
type search struct {
	chain, pool []*x509.Certificate
	anchors     bool // chain is a set of trust anchors, not a chain
	at          time.Time
	signatures  int                                    // number that may still be checked before the search gives up
	revoked     func(c, issuer *x509.Certificate) bool // whether no path may include c; nil: none is refused
}

func newSearch(chain, pool []*x509.Certificate, at time.Time) *search {
	return &search{chain: chain, pool: pool, at: at, signatures: maxSignatures}
}

// leadsToAnchor reports whether a CA of the validated chain issued the last certificate of a path, directly or over
// other certificates of the pool, such that the whole path keeps path lengths and name constraints and no certificate
// of it outside the chain is revoked.
func (s *search) leadsToAnchor(path ...*x509.Certificate) bool {
	c := path[len(path)-1]
	if len(path) > maxPath || s.at.Before(c.NotBefore) || s.at.After(c.NotAfter) || unknownCritical(c) {
		return false
	}
	for i, issuer := range s.chain {
		if (isAuthority(issuer) || s.anchors || i == len(s.chain)-1) && s.issued(issuer, c) &&
			s.keepsLimits(slices.Concat(path, s.above(i))) && !s.goesOverRevoked(path, issuer) {
			return true
		}
	}
	for _, issuer := range s.pool {
		if !contains(s.chain, issuer) && !contains(path, issuer) && isAuthority(issuer) && s.issued(issuer, c) &&
			s.leadsToAnchor(append(slices.Clip(path), issuer)...) {
			return true
		}
	}
	return false
}

// goesOverRevoked reports whether a certificate of the path is revoked. The issuer, of the chain, issued the last one.
func (s *search) goesOverRevoked(path []*x509.Certificate, issuer *x509.Certificate) bool {
	if s.revoked == nil {
		return false
	}
	for _, c := range slices.Backward(path) {
		if s.revoked(c, issuer) {
			return true
		}
		issuer = c
	}
	return false
}

func (s *search) above(i int) []*x509.Certificate {
	if s.anchors {
		return s.chain[i : i+1]
	}
	return s.chain[i:]
}

func (s *search) keepsLimits(path []*x509.Certificate) bool {
	check := constraintCheck{left: maxComparisons}
	return keepsPathLengths(path) && check.chain(path) == nil
}

func (s *search) issued(issuer, c *x509.Certificate) bool {
	if !crl.SameName(issuer.RawSubject, c.RawIssuer) || s.signatures == 0 || !MayIssue(issuer, 0) {
		return false
	}
	if s.at.Before(issuer.NotBefore) || s.at.After(issuer.NotAfter) {
		return false
	}
	s.signatures--
	return issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// unknownCritical reports whether a certificate has a critical extension that neither this package nor crypto/x509
// understands.
func unknownCritical(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.UnhandledCriticalExtensions, func(id asn1.ObjectIdentifier) bool { return !understood(id) })
}

// MayIssue reports whether a CA certificate may sign certificates with the given number of CA certificates below them
// (RFC 5280, Section 6.1.4 (k) to (n)).
func MayIssue(ca *x509.Certificate, below int) bool {
	switch {
	case ca.Version == 3 && !(ca.BasicConstraintsValid && ca.IsCA):
		return false
	case ca.KeyUsage != 0 && ca.KeyUsage&x509.KeyUsageCertSign == 0:
		return false
	case ca.BasicConstraintsValid && (ca.MaxPathLen > 0 || ca.MaxPathLenZero) && below > ca.MaxPathLen:
		return false
	}
	return true
}

func contains(list []*x509.Certificate, c *x509.Certificate) bool {
	for _, other := range list {
		if other.Equal(c) {
			return true
		}
	}
	return false
}
