package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// A wish is what a CA that is made here asks of a parent elsewhere: the path length and the name constraints that were said, as the
// extensions of its request (RFC 2986, Section 4.1; RFC 5280, Sections 4.2.1.9 and 4.2.1.10). The request is kept with the pending
// issuer, so what comes back is held against it.

// wishFor is what to ask for: the path length only where one was said, for whoever signs has a default of its own.
func wishFor(n NewIssuer, p *profile.Profile) profile.CA {
	wish := *p.CA
	if n.PathLength == nil {
		wish.PathLength = -1
	}
	return wish
}

// AskedOf reads what the request of a CA asks for; a path length of -1 and no subtrees: nothing. It is read as the certificate that
// would grant it, so that one reader says what both mean. What is asked for and cannot be granted here is refused.
func AskedOf(request *x509.CertificateRequest) (profile.CA, error) {
	certificate, err := x509.ParseCertificate(granting(request))
	if err != nil {
		return profile.CA{}, refuse("csr", "what it asks for cannot be read: %w", err)
	}
	if what := foreignConstraint(certificate); what != "" {
		return profile.CA{}, refuse("csr", "it asks for name constraints that Signet does not enforce: on %s", what)
	}
	return limitsOf(certificate.Raw)
}

// limitsOf are the path length and the name constraints in a CA's certificate, but for those that foreignConstraint tells of.
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
	return limits, nil
}

// granting is a certificate, signed by nobody, that says of basic and name constraints what the request asks for.
func granting(request *x509.CertificateRequest) []byte {
	const ed25519 = "\x30\x05\x06\x03\x2b\x65\x70" // any algorithm would do: nobody verifies it
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
						if e.Id.Equal(oidBasicConstraints) || e.Id.Equal(oidNameConstraints) {
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

// narrow is what a CA gets that asks for something, where n is said of it: of each kind of names what is said, else what is asked
// for, and every name is excluded that either excludes. p is the profile of n alone. It is refused if n gives more than is asked for.
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

// wish is what the certificates of an issuer may say: what the present one does, or what its request asks for. One that was adopted
// and has no certificate yet asks for nothing.
func (i *Issuer) wish() (profile.CA, error) {
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

// wider is what a certificate allows beyond the wish; empty: nothing.
func (i *Issuer) wider(der []byte) (string, error) {
	wish, err := i.wish()
	if err != nil {
		return "", err
	}
	given, err := limitsOf(der)
	if err != nil {
		return "", err
	}
	return policy.Wider(&given, &wish), nil
}

// caExtensions are the extensions of a CA's certificate that say what it may do.
func caExtensions(ca *profile.CA) ([]pkix.Extension, error) {
	basic := cryptobyte.NewBuilder(nil)
	basic.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Boolean(true)
		if ca.PathLength >= 0 {
			b.AddASN1Int64(int64(ca.PathLength))
		}
	})
	value, err := basic.Bytes()
	if err != nil {
		return nil, err
	}
	extensions := []pkix.Extension{{Id: oidBasicConstraints, Critical: true, Value: value}}
	if ca.Permitted.Empty() && ca.Excluded.Empty() {
		return extensions, nil
	}
	names := cryptobyte.NewBuilder(nil)
	names.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addSubtrees(b, 0, ca.Permitted)
		addSubtrees(b, 1, ca.Excluded)
	})
	if value, err = names.Bytes(); err != nil {
		return nil, err
	}
	return append(extensions, pkix.Extension{Id: oidNameConstraints, Critical: true, Value: value}), nil
}
