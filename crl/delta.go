package crl

import (
	"bytes"
	"errors"
	"fmt"
)

// AcceptsDelta returns nil if a delta can be combined with this complete list. Both must have the same issuer, scope
// and key, and numbers such that the delta begins at or before this list and ends after it (RFC 5280, Section 6.3.3 (c)
// and Section 5.2.4).
func (l *List) AcceptsDelta(delta *List) error {
	switch {
	case l.Delta || !delta.Delta:
		return errors.New("not a complete list and a delta")
	case l.name != delta.name:
		return errors.New("the delta is of another issuer")
	case !sameScope(l.IDP, delta.IDP):
		return errors.New("the delta has another scope")
	case !bytes.Equal(l.AuthorityKey, delta.AuthorityKey):
		return errors.New("the delta names another key")
	case !l.HasNumber || !delta.HasNumber:
		return errors.New("a list without a number cannot be combined")
	case delta.BaseNumber.Compare(l.Number) > 0:
		return fmt.Errorf("the delta begins at number %s, after the complete list %s", delta.BaseNumber, l.Number)
	case delta.Number.Compare(l.Number) <= 0:
		return fmt.Errorf("the delta ends at number %s, and the complete list is %s already", delta.Number, l.Number)
	}
	return nil
}

// SameSeries reports whether two lists are versions of one list, whose numbers grow (RFC 5280, Section 5.2.3): both
// complete or both deltas, of one issuer and one scope. The locations in their distribution points may change over
// time; they must share one.
func (l *List) SameSeries(other *List) bool {
	return l.Delta == other.Delta && l.name == other.name && l.IDP.coversLike(other.IDP)
}

func (p *IssuingDistributionPoint) coversLike(other *IssuingDistributionPoint) bool {
	if p == nil || other == nil {
		return p == other
	}
	shared := false
	for place := range p.places {
		shared = shared || other.places[place]
	}
	return (shared || len(p.places)+len(other.places) == 0) && p.OnlyUserCerts == other.OnlyUserCerts && p.OnlyCACerts == other.OnlyCACerts &&
		p.OnlyAttributeCerts == other.OnlyAttributeCerts && p.OnlySomeReasons == other.OnlySomeReasons && p.Indirect == other.Indirect
}

func sameScope(a, b *IssuingDistributionPoint) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.raw, b.raw)
}
