package ca

import (
	"cmp"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// A CA made here asks its external parent, in the extensions of its CSR (RFC 2986, Section 4.1; RFC 5280, Sections
// 4.2.1.4 and 4.2.1.9 to 4.2.1.14), for the path length and the name constraints that the caller specified. A
// successor also asks for the extended key usages and the policy rules of its predecessor. The CSR is kept with the
// pending issuer, and the certificate that comes back is compared with it.

// requestedConstraints returns what to ask for. It includes the path length only if the caller specified one, because
// the parent has a default of its own.
func requestedConstraints(n NewIssuer, p *profile.Profile) profile.CA {
	requested := *p.CA
	if n.PathLength == nil {
		requested.PathLength = -1
	}
	return requested
}

// AskedOf returns what the request of a CA asks for; a path length of -1 and nothing else means nothing. It reads the
// request as the certificate that would grant it, so that one reader interprets both. It refuses a request for
// something that cannot be granted here.
func AskedOf(request *x509.CertificateRequest) (profile.CA, error) {
	certificate, err := x509.ParseCertificate(granting(request))
	if err != nil {
		return profile.CA{}, refuse("csr", "what it asks for cannot be read: %w", err)
	}
	if what := foreignConstraint(certificate); what != "" {
		return profile.CA{}, refuse("csr", "it asks for name constraints that Signet does not enforce: on %s", what)
	}
	if slices.ContainsFunc(request.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidPolicyMappings) }) {
		return profile.CA{}, refuse("csr", "it asks for policy mappings, which Signet does not write")
	}
	if len(certificate.Policies) != len(certificate.PolicyIdentifiers) {
		return profile.CA{}, refuse("csr", "it asks for a certificate policy with a number above 31 bits, which Signet does not write")
	}
	return limitsOf(certificate.Raw)
}

// limitsOf returns the limits that a CA's certificate sets for itself and for what is below it, except those that
// CheckRepeatable reports.
func limitsOf(der []byte) (profile.CA, error) {
	limits := profile.CA{PathLength: -1}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return limits, pki.Errorf(pki.KindInternal, "read issuer", "%w", err)
	}
	if c.MaxPathLen > 0 || c.MaxPathLenZero {
		limits.PathLength = c.MaxPathLen
	}
	constraints, err := constraintsOf([][]byte{der})
	if err != nil {
		return limits, pki.Errorf(pki.KindInternal, "read issuer", "%w", err)
	}
	for _, own := range constraints { // one at most: of this certificate
		limits.Permitted, limits.Excluded = own.Permitted, own.Excluded
	}
	if limits.Usages, err = policy.UsagesOf(c); err != nil {
		return limits, pki.Errorf(pki.KindInternal, "read issuer", "%w", err)
	}
	limits.Policies = policy.PoliciesOf(c)
	return limits, nil
}

// limiting are the extensions that limitsOf reads.
var limiting = []asn1.ObjectIdentifier{oidBasicConstraints, oidNameConstraints, oidExtKeyUsage, oidPolicies, oidPolicyRules, oidInhibitAny}

// granting returns an unsigned certificate that has the limits that the request asks for.
func granting(request *x509.CertificateRequest) []byte {
	const ed25519 = "\x30\x05\x06\x03\x2b\x65\x70" // any algorithm would do: the signature is never verified
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // v3
			b.AddASN1Int64(1)
			b.AddBytes([]byte(ed25519))
			b.AddBytes(request.RawSubject)
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes([]byte("\x17\x0d260101000000Z\x17\x0d260102000000Z"))
			})
			b.AddBytes(request.RawSubject)
			b.AddBytes(request.RawSubjectPublicKeyInfo)
			b.AddASN1(cryptobyte_asn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, e := range request.Extensions {
						if slices.ContainsFunc(limiting, e.Id.Equal) {
							addExtension(b, e.Id, e.Critical, func(b *cryptobyte.Builder) { b.AddBytes(e.Value) })
						}
					}
				})
			})
		})
		b.AddBytes([]byte(ed25519))
		b.AddASN1BitString(nil)
	})
	return b.BytesOrPanic()
}

// narrow returns the limits of a CA that asks for some, if n specifies some: of each kind of name those of n, else
// those asked for, and every exclusion of either. p is the profile of n alone. It refuses n if n grants more than is
// asked for.
func narrow(asked profile.CA, n NewIssuer, p *profile.Profile) (profile.CA, error) {
	given := *p.CA
	if n.PathLength == nil && asked.PathLength >= 0 {
		given.PathLength = asked.PathLength
	}
	given.Permitted = profile.Subtrees{
		DNS: either(given.Permitted.DNS, asked.Permitted.DNS), IP: either(given.Permitted.IP, asked.Permitted.IP),
		Email: either(given.Permitted.Email, asked.Permitted.Email), URI: either(given.Permitted.URI, asked.Permitted.URI),
	}
	given.Excluded = profile.Subtrees{
		DNS: both(asked.Excluded.DNS, given.Excluded.DNS), IP: both(asked.Excluded.IP, given.Excluded.IP),
		Email: both(asked.Excluded.Email, given.Excluded.Email), URI: both(asked.Excluded.URI, given.Excluded.URI),
	}
	given.Usages, given.Policies = asked.Usages, asked.Policies // a NewIssuer does not specify these
	if more := policy.Wider(&given, &asked); more != "" {
		return given, refuse("csr", "%s", more).WithHint("leave that to the request, or have one made that asks for it")
	}
	return given, nil
}

func either[T any](said, asked []T) []T {
	if len(said) > 0 {
		return said
	}
	return asked
}

func both[T comparable](some, more []T) []T {
	return append(slices.Clone(some), slices.DeleteFunc(slices.Clone(more), func(m T) bool { return slices.Contains(some, m) })...)
}

// requestedConstraints returns the limits that certificates of the issuer may have: those of the present one, or else
// those that its CSR asks for. An adopted issuer that has no certificate yet asks for none.
func (i *Issuer) requestedConstraints() (profile.CA, error) {
	if present := i.certificate(); present != nil {
		return limitsOf(present.DER)
	}
	if i.CSR == nil {
		return profile.CA{PathLength: -1}, nil
	}
	request, err := x509.ParseCertificateRequest(i.CSR)
	if err != nil {
		return profile.CA{}, pki.Errorf(pki.KindInternal, "read issuer", "%w", err)
	}
	return AskedOf(request)
}

// wider returns what a certificate allows beyond the requested constraints; empty: nothing.
func (i *Issuer) wider(der []byte) (string, error) {
	requested, err := i.requestedConstraints()
	if err != nil {
		return "", err
	}
	given, err := limitsOf(der)
	if err != nil {
		return "", err
	}
	return policy.Wider(&given, &requested), nil
}

// caExtensions returns the extensions of a CA's certificate that say what the CA may do.
func caExtensions(ca *profile.CA) (extensions []pkix.Extension, err error) {
	add := func(oid asn1.ObjectIdentifier, critical bool, value func(*cryptobyte.Builder)) {
		b := cryptobyte.NewBuilder(nil)
		value(b)
		encoded, failed := b.Bytes()
		extensions, err = append(extensions, pkix.Extension{Id: oid, Critical: critical, Value: encoded}), cmp.Or(err, failed)
	}
	add(oidBasicConstraints, true, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Boolean(true)
			if ca.PathLength >= 0 {
				b.AddASN1Int64(int64(ca.PathLength))
			}
		})
	})
	if !ca.Permitted.Empty() || !ca.Excluded.Empty() {
		add(oidNameConstraints, true, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addSubtrees(b, 0, ca.Permitted)
				addSubtrees(b, 1, ca.Excluded)
			})
		})
	}
	if len(ca.Usages) > 0 {
		add(oidExtKeyUsage, false, func(b *cryptobyte.Builder) { addOIDs(b, ca.Usages) })
	}
	rules := ca.Policies
	if len(rules.Only) > 0 {
		add(oidPolicies, false, func(b *cryptobyte.Builder) { addPolicyOIDs(b, rules.Only) })
	}
	if rules.RequireExplicit != nil || rules.InhibitMapping != nil { // critical (RFC 5280, Section 4.2.1.11)
		add(oidPolicyRules, true, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addCount(b, 0, rules.RequireExplicit)
				addCount(b, 1, rules.InhibitMapping)
			})
		})
	}
	if rules.InhibitAny != nil { // critical (RFC 5280, Section 4.2.1.14)
		add(oidInhibitAny, true, func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(*rules.InhibitAny)) })
	}
	return extensions, err
}

// addCount writes an optional SkipCerts, which is an implicitly tagged INTEGER.
func addCount(b *cryptobyte.Builder, tag uint8, n *int) {
	if n != nil {
		b.AddASN1Int64WithTag(int64(*n), cryptobyte_asn1.Tag(tag).ContextSpecific())
	}
}
