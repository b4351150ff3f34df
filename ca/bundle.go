package ca

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// Path is one path from an issuer to a root: the issuer's certificate first, the root last. It is valid while all its
// certificates are.
type Path struct {
	Certificates []*x509.Certificate
	From, Until  time.Time // when all are valid, both ends included
}

// ValidAt reports whether the path is valid at a time.
func (p Path) ValidAt(at time.Time) bool { return !at.Before(p.From) && !at.After(p.Until) }

// The bounds of the search: with every root cross-signed by every other, paths grow with the factorial.
const (
	maxPathLength = 8
	maxPaths      = 64
)

// Paths returns the paths from an issuer to the roots in a pool of certificates, at most 64, sorted by descending
// Until. It ignores certificates whose signature does not verify. No name and key occurs twice in a path. Paths that
// are never valid are left out.
func Paths(issuer Issuer, pool []*x509.Certificate) []Path {
	search := pathSearch{pool: distinct(pool)}
	for _, c := range search.pool {
		if bytes.Equal(c.RawSubject, issuer.Subject) && bytes.Equal(c.RawSubjectPublicKeyInfo, issuer.SPKI) {
			search.extend([]*x509.Certificate{c})
		}
	}
	slices.SortStableFunc(search.found, func(a, b Path) int {
		return cmp.Or(b.Until.Compare(a.Until), len(a.Certificates)-len(b.Certificates), b.From.Compare(a.From))
	})
	return search.found
}

type pathSearch struct {
	pool  []*x509.Certificate
	found []Path
}

func (s *pathSearch) extend(path []*x509.Certificate) {
	last := path[len(path)-1]
	if signedItself(last) {
		s.add(path)
		return
	}
	if len(path) == maxPathLength {
		return
	}
	for _, above := range s.pool {
		if len(s.found) == maxPaths {
			return
		}
		if !bytes.Equal(last.RawIssuer, above.RawSubject) || slices.ContainsFunc(path, func(c *x509.Certificate) bool { return sameEntity(c, above) }) {
			continue
		}
		if tooLong(above, len(path)-1) || last.CheckSignatureFrom(above) != nil {
			continue
		}
		s.extend(append(path[:len(path):len(path)], above))
	}
}

func (s *pathSearch) add(path []*x509.Certificate) {
	p := Path{Certificates: path, From: path[0].NotBefore, Until: path[0].NotAfter}
	for _, c := range path {
		if c.NotBefore.After(p.From) {
			p.From = c.NotBefore
		}
		if c.NotAfter.Before(p.Until) {
			p.Until = c.NotAfter
		}
	}
	if !p.Until.Before(p.From) {
		s.found = append(s.found, p)
	}
}

// tooLong reports whether a CA's path length forbids this many CAs below it (RFC 5280, Section 4.2.1.9).
func tooLong(authority *x509.Certificate, below int) bool {
	limited := authority.MaxPathLen > 0 || authority.MaxPathLenZero
	return limited && below > authority.MaxPathLen
}

func signedItself(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}

func sameEntity(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

func distinct(pool []*x509.Certificate) (kept []*x509.Certificate) {
	seen := make(map[[sha256.Size]byte]bool)
	for _, c := range pool {
		if sum := sha256.Sum256(c.Raw); !seen[sum] {
			seen[sum] = true
			kept = append(kept, c)
		}
	}
	return kept
}

// Bundle is the chain to send and the roots to trust at a time.
type Bundle struct {
	At    time.Time
	Paths []Path              // all, valid at the time or not, sorted by descending Until
	Chain []*x509.Certificate // of the valid paths: the issuer's certificates and those above, without roots
	Roots []*x509.Certificate // of the valid paths
}

// BundleAt returns the bundle of the paths that are valid at a time. The issuer's own certificates come first in the
// chain, in the order in which a TLS server sends them; the root that a client has decides which of the others it uses.
func BundleAt(paths []Path, at time.Time) Bundle {
	b := Bundle{At: at, Paths: paths}
	for level := range maxPathLength {
		for _, p := range paths {
			last := len(p.Certificates) - 1
			if !p.ValidAt(at) || level > last {
				continue
			}
			into := &b.Chain
			if level == last {
				into = &b.Roots
			}
			if c := p.Certificates[level]; !slices.ContainsFunc(*into, c.Equal) {
				*into = append(*into, c)
			}
		}
	}
	return b
}

// PEM encodes certificates one after the other.
func PEM(certificates []*x509.Certificate) []byte {
	var text []byte
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}
