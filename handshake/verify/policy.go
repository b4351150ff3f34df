package verify

import (
	"crypto/x509"
	"slices"
)

// The initial flags of RFC 5280, Section 6.1.1 (e) to (g), have no exported place in x509.VerifyOptions. Each of them says
// the same as something that certificates of the path can say themselves, so a path whose certificates say it is given to
// crypto/x509 instead: parsed copies, whose signed octets stay what they were.

var anyPolicy = mustOID("2.5.29.32.0")

func mustOID(text string) x509.OID {
	oid, err := x509.ParseOID(text)
	if err != nil {
		panic(err)
	}
	return oid
}

// withPolicyFlags returns the certificates as crypto/x509 has to see them so that the case's initial flags hold.
func (c *Case) withPolicyFlags(leaf *x509.Certificate, intermediates []*x509.Certificate) (*x509.Certificate, []*x509.Certificate, *fault) {
	if !c.ExplicitPolicy && !c.InhibitMapping && !c.InhibitAny {
		return leaf, intermediates, nil
	}
	changed := make([]*x509.Certificate, len(intermediates))
	for i, intermediate := range intermediates {
		own := *intermediate
		if c.InhibitAny && !selfIssued(intermediate) {
			own.Policies = withoutPolicy(own.Policies, anyPolicy)
		}
		if c.InhibitMapping && len(own.PolicyMappings) > 0 {
			if hasPolicy(own.Policies, anyPolicy) {
				// What anyPolicy stands for here depends on the path above: no certificate can say "any but these".
				return nil, nil, faultf(ClassUnsupported, "inhibit_mapping with a certificate that maps policies and asserts anyPolicy")
			}
			// Section 6.1.4 (b) (2): what may not be mapped is deleted.
			for _, mapping := range own.PolicyMappings {
				own.Policies = withoutPolicy(own.Policies, mapping.IssuerDomainPolicy)
			}
			own.PolicyMappings = nil
		}
		changed[i] = &own
	}
	last := *leaf
	if c.InhibitAny { // Section 6.1.3 (d) (2): in the last certificate even if it is self-issued
		last.Policies = withoutPolicy(last.Policies, anyPolicy)
	}
	if c.ExplicitPolicy {
		// Once there is no policy left there never is one again, so to demand one at the end (Section 6.1.5 (b)) is to demand
		// one all the way.
		last.RequireExplicitPolicyZero, last.RequireExplicitPolicy = true, 0
	}
	return &last, changed, nil
}

func hasPolicy(policies []x509.OID, policy x509.OID) bool {
	return slices.ContainsFunc(policies, policy.Equal)
}

func withoutPolicy(policies []x509.OID, policy x509.OID) []x509.OID {
	return slices.DeleteFunc(slices.Clone(policies), policy.Equal)
}
