package ca

import (
	"bytes"
	"crypto/x509"

	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// ancestry is what an issuer's certificates and those above it imply: what its signatures depend on, and what it can
// grant.
type ancestry struct {
	links       []link // certificates that its signatures depend on
	constraints []policy.Constraints
	below       int // CAs that the chosen chain allows below it; -1: any number
	allowed     policy.Below
}

// ancestryOf reads the certificates of an issuer; one that has none yet depends on nothing, and nothing limits it.
func ancestryOf(issuer Issuer) (ancestry, error) {
	read := func() (a ancestry, err error) {
		if a.links, err = linksOf(issuer); err != nil {
			return a, err
		}
		var chain [][]byte
		if chosen := issuer.certificate(); chosen != nil {
			chain = append([][]byte{chosen.DER}, chosen.Chain...)
		}
		if a.constraints, err = constraintsOf(chain); err != nil {
			return a, err
		}
		if a.below, err = casBelow(chain); err != nil {
			return a, err
		}
		parsed, err := parseAll(chain)
		if err != nil {
			return a, err
		}
		a.allowed, err = policy.BelowOf(parsed)
		return a, err
	}
	a, err := read()
	if err != nil {
		return a, &pki.Error{Kind: pki.KindInternal, Op: "read issuer", Field: "issuer", Err: err}
	}
	return a, nil
}

// gives refuses what the chain of an issuer does not let it grant, because verifiers would refuse it. self is for a CA
// that certifies its own key.
func (a *ancestry) gives(label string, p *profile.Profile, names []pki.Identifier, self bool) error {
	if err := policy.CheckConstraints(a.constraints, names); err != nil {
		return err
	}
	if !forResponder(p) { // verifiers accept a responder that the issuer certified itself, whatever usages and policies the chain allows
		if err := a.allowed.Check(p); err != nil {
			return err
		}
	}
	if p.CA == nil {
		return nil
	}
	if err := policy.CheckSubtrees(a.constraints, p.CA); err != nil || self {
		return err
	}
	return a.allowsBelow(label, p.CA)
}

// allowsBelow refuses a CA that the path lengths of an issuer's chain forbid (RFC 5280, Section 4.2.1.9).
func (a *ancestry) allowsBelow(label string, ca *profile.CA) error {
	switch {
	case a.below < 0:
		return nil
	case a.below == 0:
		return refuse("issuer", "issuer %s may not have CAs below it: its path length is 0", label).WithHint("ask the authority above it")
	case ca.PathLength < 0 || ca.PathLength >= a.below:
		return refuse("profile", "below issuer %s the path length can be %d at most", label, a.below-1).
			WithHint("ask for a shorter one, or ask the authority above it")
	}
	return nil
}

// casBelow returns how many CAs, one below the other, the path lengths of a chain allow below its first certificate.
// -1 means any number.
func casBelow(chain [][]byte) (int, error) {
	below, between := -1, 0
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return 0, err
		}
		if c.BasicConstraintsValid && c.MaxPathLen >= 0 && (c.MaxPathLen > 0 || c.MaxPathLenZero) {
			if left := max(c.MaxPathLen-between, 0); below < 0 || left < below {
				below = left
			}
		}
		if !bytes.Equal(c.RawSubject, c.RawIssuer) { // self-issued certificates do not count
			between++
		}
	}
	return below, nil
}
