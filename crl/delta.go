package crl

import (
	"bytes"
	"errors"
	"fmt"
)

// Fits reports, as nil, that a delta can be combined with this complete list: same issuer, scope and key, and numbers
// such that the delta begins at this list or before and ends after it (RFC 5280, Section 6.3.3 (c) and Section 5.2.4).
func (l *List) Fits(delta *List) error {
	switch {
	case l.Delta || !delta.Delta:
		return errors.New("not a complete list and a delta")
	case !SameName(l.Issuer, delta.Issuer):
		return errors.New("the delta is of another issuer")
	case !sameScope(l.Scope, delta.Scope):
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

func sameScope(a, b *IssuingDistributionPoint) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.raw, b.raw)
}
