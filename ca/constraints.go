package ca

import (
	"crypto/x509"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// constraintsOf returns the name constraints of a chain, as encoded.
func constraintsOf(chain [][]byte) ([]policy.Constraints, error) {
	var all []policy.Constraints
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		constraints := policy.Constraints{
			Subject:   pki.NameText(c.RawSubject),
			Permitted: profile.Subtrees{DNS: c.PermittedDNSDomains, Email: c.PermittedEmailAddresses, URI: c.PermittedURIDomains},
			Excluded:  profile.Subtrees{DNS: c.ExcludedDNSDomains, Email: c.ExcludedEmailAddresses, URI: c.ExcludedURIDomains},
		}
		for _, n := range c.PermittedIPRanges {
			constraints.Permitted.IP = append(constraints.Permitted.IP, prefixOf(n.IP, n.Mask))
		}
		for _, n := range c.ExcludedIPRanges {
			constraints.Excluded.IP = append(constraints.Excluded.IP, prefixOf(n.IP, n.Mask))
		}
		if !constraints.Permitted.Empty() || !constraints.Excluded.Empty() {
			all = append(all, constraints)
		}
	}
	return all, nil
}

func prefixOf(ip, mask []byte) netip.Prefix {
	addr, _ := netip.AddrFromSlice(ip) // 4 or 16 octets, as crypto/x509 parsed it
	ones := 0
	for _, octet := range mask {
		for ; octet&0x80 != 0; octet <<= 1 {
			ones++
		}
	}
	return netip.PrefixFrom(addr, ones)
}

// otherForms are the GeneralNames (RFC 5280, Section 4.2.1.6) whose constraints are neither enforced nor written here,
// by tag.
var otherForms = map[cryptobyte_asn1.Tag]string{0: "other names", 3: "X.400 addresses", 4: "directory names", 5: "EDI parties", 8: "registered ids"}

// foreignConstraint describes the first name constraint in a certificate that constraintsOf omits or understates: one
// of another form of name, or with a minimum or a maximum, which are not allowed (RFC 5280, Section 4.2.1.10). Empty:
// there is none.
func foreignConstraint(c *x509.Certificate) string {
	const form = cryptobyte_asn1.Tag(0x1f) // of a tag, its number
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidNameConstraints) {
			continue
		}
		var sides, side, subtree, base cryptobyte.String
		var tag cryptobyte_asn1.Tag
		input := cryptobyte.String(e.Value) // of the form that crypto/x509 has seen
		input.ReadASN1(&sides, cryptobyte_asn1.SEQUENCE)
		for sides.ReadAnyASN1(&side, &tag) {
			for side.ReadASN1(&subtree, cryptobyte_asn1.SEQUENCE) && subtree.ReadAnyASN1(&base, &tag) {
				if name, ok := otherForms[tag&form]; ok {
					return name
				}
				if !subtree.Empty() {
					return fmt.Sprintf("names with a minimum or a maximum (%q)", base)
				}
			}
		}
	}
	return ""
}

// CheckRepeatable refuses a CA's certificate with limits that a further certificate made here would lack: that one
// would silently allow more names or other policies.
func CheckRepeatable(c *x509.Certificate) error {
	if what := foreignConstraint(c); what != "" {
		return notRepeatable(c, "constrains "+what)
	}
	return repeatablePolicies(c)
}

// repeatablePolicies is CheckRepeatable for a successor that specifies its own names.
func repeatablePolicies(c *x509.Certificate) error {
	switch {
	case len(c.PolicyMappings) > 0:
		return notRepeatable(c, "maps policies")
	case len(c.Policies) != len(c.PolicyIdentifiers):
		return notRepeatable(c, "has a certificate policy with a number above 31 bits")
	}
	return nil
}

func notRepeatable(c *x509.Certificate, what string) error {
	return pki.Errorf(pki.KindFailedPrecondition, "repeat limits", "the certificate of %s %s, which Signet does not write", c.Subject, what).InField("issuer").
		WithHint("have the authority that signed this certificate sign another for the same key, and import it (signet issuer import); " +
			"or create an issuer with another name and constraints of its own: signet issuer create")
}
