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

// Below holds the extended key usages and certificate policies that a chain allows in certificates signed by its
// first. The zero value allows everything.
type Below struct {
	usages   []limit
	policies []limit
	void     string // subject of a CA without policies, below which none is valid; empty: there is none
	noAny    bool   // anyPolicy is inhibited
	demanded bool   // verifiers refuse an end entity without a valid policy
	soon     bool   // if the certificate is a CA's: verifiers refuse what it signs without a valid policy
}

// limit holds what one CA of the chain allows.
type limit struct {
	subject string
	only    []string // dotted OIDs
}

const otherAuthority = "no profile changes what an authority may grant: ask another issuer, or under another profile"

// BelowOf reads a chain, with the issuer first and a root last. Extended key usages of a CA certificate, a root's
// included, limit all certificates below it in crypto/x509, OpenSSL, NSS and Windows, though RFC 5280, Section
// 4.2.1.12 does not say so. Policies follow RFC 5280, Section 6.1, which ignores those of the root.
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

// UsagesOf returns the extended key usages of a certificate.
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

// walk processes the policies of a chain as verifiers do, from below the root (RFC 5280, Section 6.1).
func (b *Below) walk(chain []*x509.Certificate) {
	if len(chain) == 0 {
		return
	}
	// The numbers of certificates until each rule applies. They start above the number of certificates there are.
	explicit, mapping, anyLeft := len(chain)+2, len(chain)+2, len(chain)+2
	var left *limit // nil: any policy
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

// mapped returns what policies become below a CA that has mappings. If mapping is inhibited, mapped drops those that
// the CA maps (RFC 5280, Section 6.1.4 (b)).
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

// PoliciesOf returns the rules of a CA's certificate on policies below it. It omits a policy whose OID has an arc
// above 31 bits.
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

// Check refuses a profile that gives usages or policies that the chain does not allow, because verifiers would refuse
// the certificate for that use or altogether. For a CA it is enough that the chain allows one of them, because
// verifiers intersect the two sets.
func (b *Below) Check(p *profile.Profile) error {
	usages, policies, demanded := p.ExtKeyUsage, p.Policies, b.demanded
	if p.CA != nil {
		usages, policies, demanded = p.CA.Usages, p.CA.Policies.Only, b.soon
	}
	for _, by := range b.usages {
		if usage, ok := outside(usages, by.only, p.CA != nil, profile.AnyExtKeyUsage); ok {
			return refuse("profile", "%s does not allow the extended key usage %s, which profile %s gives",
				by.subject, profile.UsageText(usage), p.Name).WithHint(otherAuthority)
		}
	}
	void := b.void
	for _, by := range b.policies {
		if oid, ok := outside(policies, by.only, p.CA != nil, anyPolicy); ok {
			return refuse("profile", "%s does not allow the certificate policy %s, which profile %s gives",
				by.subject, oid, p.Name).WithHint(otherAuthority)
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
		return refuse("issuer", "its chain requires a certificate policy, and below %s none is valid (RFC 5280, Section 6.1)", void).
			WithHint("ask another issuer")
	case demanded && len(policies) == 0:
		return refuse("profile", "the chain of the issuer requires a certificate policy, and profile %s gives none (RFC 5280, Section 4.2.1.11)", p.Name).
			WithHint("add the policies of the issuer's own certificate to the profile, under `policies`")
	}
	return nil
}

// outside returns the first OID that is asked for but not allowed, and whether there is one. If some is set, one
// allowed OID is enough.
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
		{"require a certificate policy", given.Policies.RequireExplicit, asked.Policies.RequireExplicit},
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
		return fmt.Sprintf("it allows any %s, but only %v were asked for", what, asked)
	}
	for _, g := range given {
		if !slices.ContainsFunc(asked, g.Equal) {
			return fmt.Sprintf("it allows the %s %s, but only %v were asked for", what, g, asked)
		}
	}
	return ""
}
