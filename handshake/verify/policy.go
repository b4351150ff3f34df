package verify

import (
	"crypto/x509"
	"maps"
	"slices"
)

// crypto/x509 judges the policies of a path unless a case sets one of the initial flags of RFC 5280, Section 6.1.1 (e)
// to (g), which x509.VerifyOptions does not export. Then crypto/x509 gets copies of the certificates without policies,
// and keepsPolicies judges the paths.

var anyPolicy = mustOID("2.5.29.32.0")

func mustOID(text string) x509.OID {
	oid, err := x509.ParseOID(text)
	if err != nil {
		panic(err)
	}
	return oid
}

// judgesPolicies reports whether this package judges the policies of paths instead of crypto/x509.
func (c *Case) judgesPolicies() bool { return c.ExplicitPolicy || c.InhibitMapping || c.InhibitAny }

// withoutPolicies returns copies of the certificates without policies.
func withoutPolicies(certs []*x509.Certificate) []*x509.Certificate {
	copies := make([]*x509.Certificate, len(certs))
	for i, c := range certs {
		own := *c
		own.Policies, own.PolicyMappings = nil, nil
		own.RequireExplicitPolicy, own.RequireExplicitPolicyZero = 0, false
		own.InhibitPolicyMapping, own.InhibitPolicyMappingZero = 0, false
		own.InhibitAnyPolicy, own.InhibitAnyPolicyZero = 0, false
		copies[i] = &own
	}
	return copies
}

// policyLevel is the deepest level of the valid policy graph of RFC 9618, which replaces the tree of RFC 5280, Section
// 6.1.2 (a). The levels above are not kept: at the end of a path all that matters is whether a policy descends from one
// of the user's.
type policyLevel struct {
	any bool // there is a node for anyPolicy
	// named has, by DER, the other policies that may be asserted next: true if they descend from one of the user's.
	named map[string]bool
}

// keepsPolicies checks the policies of a path (RFC 5280, Section 6.1) with the initial flags of the case. The path is
// leaf first, anchor last.
func (c *Case) keepsPolicies(chain []*x509.Certificate) *fault {
	user := c.userPolicies()
	n := len(chain) - 1
	// Section 6.1.2 (d) to (f): how many more certificates may do without a policy, use anyPolicy and map policies.
	initially := func(flag bool) int {
		if flag {
			return 0
		}
		return n + 1
	}
	explicit, anyLeft, mapLeft := initially(c.ExplicitPolicy), initially(c.InhibitAny), initially(c.InhibitMapping)
	level := policyLevel{any: true}
	for i, cert := range slices.Backward(chain[:n]) {
		level = level.below(cert, anyLeft > 0 || i > 0 && selfIssued(cert), user)
		if i == 0 {
			break
		}
		for _, m := range cert.PolicyMappings { // Section 6.1.4 (a)
			if m.IssuerDomainPolicy.Equal(anyPolicy) || m.SubjectDomainPolicy.Equal(anyPolicy) {
				return faultf(ClassPolicy, "%.80q maps anyPolicy", cert.Subject)
			}
		}
		level = level.mapped(cert.PolicyMappings, mapLeft > 0, user)
		if !selfIssued(cert) { // Section 6.1.4 (h)
			explicit, anyLeft, mapLeft = max(explicit-1, 0), max(anyLeft-1, 0), max(mapLeft-1, 0)
		}
		// Section 6.1.4 (i) and (j)
		explicit = lower(explicit, cert.RequireExplicitPolicy, cert.RequireExplicitPolicyZero)
		mapLeft = lower(mapLeft, cert.InhibitPolicyMapping, cert.InhibitPolicyMappingZero)
		anyLeft = lower(anyLeft, cert.InhibitAnyPolicy, cert.InhibitAnyPolicyZero)
	}
	// Section 6.1.5 (a), (b) and (g). anyPolicy at the end stands for each of the user's policies. Once no policy is
	// left there never is one again, so demanding one here demands one all the way (Section 6.1.3 (f)).
	demanded := explicit <= 1 || chain[0].RequireExplicitPolicyZero
	if demanded && !level.any && !slices.Contains(slices.Collect(maps.Values(level.named)), true) {
		return faultf(ClassPolicy, "no certificate policy that is asked for holds for the whole path, and one is demanded")
	}
	return nil
}

// userPolicies returns a function that reports whether a policy is in the user-initial-policy-set of Section 6.1.1 (c).
func (c *Case) userPolicies() func(policy string) bool {
	set := make(map[string]bool)
	for _, text := range c.Policies {
		if oid, err := x509.ParseOID(text); err == nil { // options has reported the others
			set[policyKey(oid)] = true
		}
	}
	return func(policy string) bool { return len(set) == 0 || set[policy] || set[policyKey(anyPolicy)] }
}

// below returns the next level, for a certificate that asserts policies (Section 6.1.3 (d) and (e)).
func (l policyLevel) below(cert *x509.Certificate, mayAny bool, user func(string) bool) policyLevel {
	next := policyLevel{named: make(map[string]bool)}
	for _, policy := range cert.Policies {
		key := policyKey(policy)
		ofUser, expected := l.named[key]
		switch {
		case policy.Equal(anyPolicy): // (2)
			next.any = l.any && mayAny
		case expected: // (1) (i)
			next.named[key] = ofUser
		case l.any: // (1) (ii)
			next.named[key] = user(key)
		}
	}
	if mayAny && slices.ContainsFunc(cert.Policies, anyPolicy.Equal) { // (2): the policies that are expected but not asserted by name
		for key, ofUser := range l.named {
			next.named[key] = ofUser // the same value as above if it is asserted
		}
	}
	return next
}

// mapped returns the level after policy mapping: mapped policies expect what they are mapped to. If mapping is not
// allowed, they are removed (Section 6.1.4 (b)).
func (l policyLevel) mapped(mappings []x509.PolicyMapping, may bool, user func(string) bool) policyLevel {
	next := policyLevel{any: l.any, named: maps.Clone(l.named)}
	for _, m := range mappings {
		delete(next.named, policyKey(m.IssuerDomainPolicy))
	}
	for _, m := range mappings {
		from, to := policyKey(m.IssuerDomainPolicy), policyKey(m.SubjectDomainPolicy)
		ofUser, has := l.named[from]
		if !has && l.any {
			ofUser, has = user(from), true
		}
		if may && has {
			next.named[to] = next.named[to] || ofUser
		}
	}
	return next
}

func policyKey(policy x509.OID) string {
	der, _ := policy.MarshalBinary() // it never fails
	return string(der)
}

// lower returns how many more certificates are allowed after one that may set a bound.
func lower(left, bound int, zero bool) int {
	if bound > 0 || zero {
		return min(left, bound)
	}
	return left
}
