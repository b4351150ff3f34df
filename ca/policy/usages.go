package policy

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"

	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// Below is what a chain allows of extended key usages and certificate policies in what its first certificate signs. The zero value allows
// everything.
type Below struct {
	usages   []limit
	policies []limit
	void     string // a CA that names no policy: none is valid below it; empty: each names some
	noAny    bool   // anyPolicy does not count
	demanded bool   // an end entity without a valid policy is refused
	soon     bool   // what a CA signs is
}

// limit is what one CA of the chain allows.
type limit struct {
	subject string
	only    []string // dotted
}

const otherAuthority = "no profile changes what an authority may give: ask another issuer, or under another profile"

// BelowOf reads a chain, the issuer first and a root last. Extended key usages in a CA's certificate limit what is below it for crypto/x509,
// OpenSSL, NSS and Windows, though RFC 5280, Section 4.2.1.12 does not say so; those of a root do too. Policies are as in RFC 5280, Section
// 6.1, which asks nothing of the root.
func BelowOf(chain []*x509.Certificate) (Below, error) {
	var b Below
	for _, c := range chain {
		only, err := UsagesOf(c)
		if err != nil {
			return b, err
		}
		if len(only) > 0 && !slices.ContainsFunc(only, profile.AnyExtKeyUsage.Equal) {
			b.usages = append(b.usages, limit{pki.NameText(c.RawSubject), dotted(only)})
		}
	}
	b.walk(chain)
	return b, nil
}

// UsagesOf are the extended key usages of a certificate.
func UsagesOf(c *x509.Certificate) (usages []asn1.ObjectIdentifier, err error) {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidExtKeyUsage) {
			_, err = asn1.Unmarshal(e.Value, &usages)
		}
	}
	return usages, err
}

var (
	oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	anyPolicy      = asn1.ObjectIdentifier{2, 5, 29, 32, 0}
)

// walk does what verifiers do with the policies of a chain, from below the root (RFC 5280, Section 6.1).
func (b *Below) walk(chain []*x509.Certificate) {
	if len(chain) == 0 {
		return
	}
	explicit, mapping, anyLeft := len(chain)+2, len(chain)+2, len(chain)+2 // certificates that may come before; more than there are
	var left *limit                                                        // nil: any policy
	for _, c := range slices.Backward(chain[:len(chain)-1]) {
		selfIssued := bytes.Equal(c.RawSubject, c.RawIssuer)
		said := dotted(c.Policies)
		switch every := slices.Contains(said, anyPolicy.String()) && (anyLeft > 0 || selfIssued); { // Section 6.1.3 (d), (e)
		case len(c.Policies) == 0:
			b.void = pki.NameText(c.RawSubject)
		case every:
		case left == nil:
			left = &limit{pki.NameText(c.RawSubject), said}
		default:
			left = &limit{pki.NameText(c.RawSubject), slices.DeleteFunc(said, func(p string) bool { return !slices.Contains(left.only, p) })}
		}
		if left != nil {
			left = &limit{left.subject, mapped(left.only, c.PolicyMappings, mapping > 0)}
		}
		if !selfIssued { // Section 6.1.4 (h)
			explicit, mapping, anyLeft = explicit-1, mapping-1, anyLeft-1
		}
		own := PoliciesOf(c) // Section 6.1.4 (i), (j)
		explicit, mapping, anyLeft = least(explicit, own.RequireExplicit), least(mapping, own.InhibitMapping), least(anyLeft, own.InhibitAny)
	}
	if left != nil {
		b.policies = append(b.policies, *left)
	}
	b.noAny, b.demanded, b.soon = anyLeft <= 0, explicit <= 1, explicit <= 2 // Section 6.1.5 (a)
}

// mapped is what policies are called below a CA that maps them, or what is left of them if it may not (RFC 5280, Section 6.1.4 (b)).
func mapped(policies []string, mappings []x509.PolicyMapping, may bool) (below []string) {
	for _, p := range policies {
		as, maps := []string(nil), false
		for _, m := range mappings {
			if m.IssuerDomainPolicy.String() == p {
				as, maps = append(as, m.SubjectDomainPolicy.String()), true
			}
		}
		switch {
		case !maps:
			below = append(below, p)
		case may:
			below = append(below, as...)
		}
	}
	return below
}

func dotted[T fmt.Stringer](oids []T) (texts []string) {
	for _, oid := range oids {
		texts = append(texts, oid.String())
	}
	return texts
}

func least(left int, said *int) int {
	if said != nil && *said < left {
		return *said
	}
	return left
}

// PoliciesOf is what a CA's certificate says of the policies below it. A policy with a number above 31 bits is left out.
func PoliciesOf(c *x509.Certificate) profile.Policies {
	said := func(n int, zero bool) *int {
		if n > 0 || zero {
			return &n
		}
		return nil
	}
	return profile.Policies{
		Only: c.PolicyIdentifiers, RequireExplicit: said(c.RequireExplicitPolicy, c.RequireExplicitPolicyZero),
		InhibitMapping: said(c.InhibitPolicyMapping, c.InhibitPolicyMappingZero), InhibitAny: said(c.InhibitAnyPolicy, c.InhibitAnyPolicyZero),
	}
}

// Check refuses a profile that asks for what the chain does not allow: verifiers would refuse the certificate for that use, or all of it.
// Of a CA something has to be left: verifiers take what both allow.
func (b *Below) Check(p *profile.Profile) error {
	usages, policies, demanded := p.ExtKeyUsage, p.Policies, b.demanded
	if p.CA != nil {
		usages, policies, demanded = p.CA.Usages, p.CA.Policies.Only, b.soon
	}
	for _, by := range b.usages {
		if usage, ok := outside(usages, by.only, p.CA != nil, profile.AnyExtKeyUsage); ok {
			return refuse("profile", "%s does not allow the extended key usage %s, which profile %s gives", by.subject, profile.UsageText(usage), p.Name).WithHint(otherAuthority)
		}
	}
	void := b.void
	for _, by := range b.policies {
		if oid, ok := outside(policies, by.only, p.CA != nil, anyPolicy); ok {
			return refuse("profile", "%s does not allow the certificate policy %s, which profile %s gives", by.subject, oid, p.Name).WithHint(otherAuthority)
		}
		if len(by.only) == 0 {
			void = by.subject
		}
	}
	if b.noAny {
		policies = slices.DeleteFunc(slices.Clone(policies), anyPolicy.Equal)
	}
	switch {
	case demanded && void != "":
		return refuse("issuer", "its chain demands a certificate policy, and below %s none is valid (RFC 5280, Section 6.1)", void).WithHint("ask another issuer")
	case demanded && len(policies) == 0:
		return refuse("profile", "the chain of the issuer demands a certificate policy, and profile %s gives none (RFC 5280, Section 4.2.1.11)", p.Name).
			WithHint("add `policies` to the profile: what the issuer's own certificate names")
	}
	return nil
}

// outside finds what is asked for and not among what is allowed; of several where some is enough, the first if all are outside.
func outside(asked []asn1.ObjectIdentifier, allowed []string, some bool, every asn1.ObjectIdentifier) (asn1.ObjectIdentifier, bool) {
	in := func(oid asn1.ObjectIdentifier) bool {
		return oid.Equal(every) || slices.Contains(allowed, oid.String())
	}
	if some && slices.ContainsFunc(asked, in) {
		return nil, false
	}
	for _, oid := range asked {
		if !in(oid) {
			return oid, true
		}
	}
	return nil, false
}

// widerUsages is Wider for extended key usages and certificate policies.
func widerUsages(given, asked *profile.CA) string {
	if what := widerOIDs("extended key usage", given.Usages, asked.Usages, profile.AnyExtKeyUsage); what != "" {
		return what
	}
	if what := widerOIDs("certificate policy", given.Policies.Only, asked.Policies.Only, anyPolicy); what != "" {
		return what
	}
	for _, side := range []struct {
		what         string
		given, asked *int
	}{
		{"demand a certificate policy", given.Policies.RequireExplicit, asked.Policies.RequireExplicit},
		{"inhibit the mapping of policies", given.Policies.InhibitMapping, asked.Policies.InhibitMapping},
		{"inhibit anyPolicy", given.Policies.InhibitAny, asked.Policies.InhibitAny},
	} {
		if side.asked != nil && (side.given == nil || *side.given > *side.asked) {
			return fmt.Sprintf("it does not %s after %d certificates, as was asked for", side.what, *side.asked)
		}
	}
	return ""
}

func widerOIDs(what string, given, asked []asn1.ObjectIdentifier, every asn1.ObjectIdentifier) string {
	if len(asked) == 0 || slices.ContainsFunc(asked, every.Equal) {
		return ""
	}
	if len(given) == 0 {
		return fmt.Sprintf("it allows any %s, and only %v were asked for", what, asked)
	}
	for _, g := range given {
		if !slices.ContainsFunc(asked, g.Equal) {
			return fmt.Sprintf("it allows the %s %s, and only %v were asked for", what, g, asked)
		}
	}
	return ""
}
