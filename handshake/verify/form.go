package verify

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Rules of the standards that crypto/x509 does not enforce and without which a certificate has no clear meaning. Rules
// that only tell CAs how to write certificates (key identifiers, criticality, serial numbers) are not among them
// (docs/decisions/1520).

// minRSABits is the smallest RSA key that crypto/rsa verifies with, in bits. A shorter key cannot be relied on.
const minRSABits = 1024

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidPolicies         = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidExtendedKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidTLSFeature       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}

	// neverEmpty are extensions that are sequences of at least one element (RFC 5280, Sections 4.2.1 and 4.2.2).
	// crypto/x509 takes an empty extended key usage to allow every use.
	neverEmpty = []asn1.ObjectIdentifier{
		oidExtendedKeyUsage, oidAlternativeName, oidPolicies, oidPoints, oidFreshest, {2, 5, 29, 33}, {1, 3, 6, 1, 5, 5, 7, 1, 1},
	}

	// knownQualifiers are id-qt-cps and id-qt-unotice (RFC 5280, Section 4.2.1.4).
	knownQualifiers = []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 2, 1}, {1, 3, 6, 1, 5, 5, 7, 2, 2}}
)

// checkForm checks every certificate of a chain, including the anchor.
func checkForm(chain []*x509.Certificate) *fault {
	for i, c := range chain {
		if bad := formFault(c); bad != nil {
			return bad
		}
		if i > 0 && !keepsFeatures(chain[i-1], c) {
			return faultf(ClassPath, "%.80q lacks a TLS feature that its issuer demands", chain[i-1].Subject)
		}
	}
	return nil
}

func formFault(c *x509.Certificate) *fault {
	for _, e := range c.Extensions {
		if bytes.Equal(e.Value, emptySequence) && slices.ContainsFunc(neverEmpty, e.Id.Equal) {
			return faultf(ClassParse, "extension %s of %.80q is empty", e.Id, c.Subject)
		}
	}
	if _, contradiction := Exempt(c); contradiction != nil {
		return faultf(ClassPath, "%.80q has %v", c.Subject, contradiction)
	}
	_, constrains := extension(c, oidNameConstraints)
	nameless := bytes.Equal(c.RawSubject, emptySequence)
	key, isRSA := c.PublicKey.(*rsa.PublicKey)
	switch {
	case beyondVersion(c) != "":
		return faultf(ClassParse, "%.80q has %s, and is of version %d", c.Subject, beyondVersion(c), c.Version)
	case constrains && !c.IsCA: // Section 4.2.1.10
		return faultf(ClassPath, "%.80q has name constraints and is no authority", c.Subject)
	case hasUsage(c) && c.KeyUsage == 0: // Section 4.2.1.3; crypto/x509 takes it to allow every use
		return faultf(ClassPath, "the key usage of %.80q names no use", c.Subject)
	case nameless && c.IsCA: // Section 4.1.2.6
		return faultf(ClassPath, "an authority has no name")
	case nameless && !critical(c, oidAlternativeName): // Section 4.1.2.6
		return faultf(ClassPath, "a certificate without a subject has no critical subjectAltName")
	case critical(c, oidPolicies) && !qualifiersKnown(c):
		return faultf(ClassUnsupported, "a critical policy of %.80q has a qualifier that is not understood", c.Subject)
	case isRSA && key.N.BitLen() < minRSABits:
		return faultf(ClassPath, "the RSA key of %.80q has only %d bits", c.Subject, key.N.BitLen())
	}
	return nil
}

// beyondVersion names a field after the public key that the version of the certificate does not have. crypto/x509
// ignores such fields. Empty if there is none.
func beyondVersion(c *x509.Certificate) string {
	_, after, _ := bytes.Cut(c.RawTBSCertificate, c.RawSubjectPublicKeyInfo)
	rest := cryptobyte.String(after)
	for tag := cryptobyteasn1.Tag(1); tag <= 2; tag++ {
		if c.Version == 1 && rest.PeekASN1Tag(tag.ContextSpecific()) {
			return "unique identifiers" // Section 4.1.2.8
		}
		rest.SkipOptionalASN1(tag.ContextSpecific())
	}
	extensions := cryptobyteasn1.Tag(3).ContextSpecific().Constructed()
	if c.Version < 3 && rest.PeekASN1Tag(extensions) {
		return "extensions" // Section 4.1.2.9
	}
	rest.SkipOptionalASN1(extensions)
	if !rest.Empty() {
		return "something that no certificate has" // Section 4.1: a TBSCertificate ends here
	}
	return ""
}

var emptySequence = []byte{0x30, 0}

func critical(c *x509.Certificate, id asn1.ObjectIdentifier) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return e.Critical
		}
	}
	return false
}

// qualifiersKnown reports whether the policy qualifiers of a certificate are known. By RFC 5280, Section 4.2.1.4, a
// verifier that cannot interpret a critical extension, qualifiers included, must reject the certificate.
func qualifiersKnown(c *x509.Certificate) bool {
	value, _ := extension(c, oidPolicies)
	var policies cryptobyte.String
	input := cryptobyte.String(value)
	if !input.ReadASN1(&policies, cryptobyteasn1.SEQUENCE) {
		return false
	}
	for !policies.Empty() {
		var policy, qualifiers, qualifier cryptobyte.String
		var id asn1.ObjectIdentifier
		if !policies.ReadASN1(&policy, cryptobyteasn1.SEQUENCE) || !policy.SkipASN1(cryptobyteasn1.OBJECT_IDENTIFIER) ||
			!policy.ReadOptionalASN1(&qualifiers, nil, cryptobyteasn1.SEQUENCE) {
			return false
		}
		for !qualifiers.Empty() {
			if !qualifiers.ReadASN1(&qualifier, cryptobyteasn1.SEQUENCE) || !qualifier.ReadASN1ObjectIdentifier(&id) ||
				!slices.ContainsFunc(knownQualifiers, id.Equal) {
				return false
			}
		}
	}
	return true
}

// keepsFeatures checks RFC 7633, Section 4.2.2: a certificate must have all TLS features of its issuer.
func keepsFeatures(c, issuer *x509.Certificate) bool {
	has := features(c)
	return !slices.ContainsFunc(features(issuer), func(f int64) bool { return !slices.Contains(has, f) })
}

// features returns the TLS features of a certificate (RFC 7633, Section 4.1) that parse.
func features(c *x509.Certificate) (list []int64) {
	value, _ := extension(c, oidTLSFeature)
	var all cryptobyte.String
	input := cryptobyte.String(value)
	for input.ReadASN1(&all, cryptobyteasn1.SEQUENCE); !all.Empty(); {
		var feature int64
		if !all.ReadASN1Integer(&feature) {
			break
		}
		list = append(list, feature)
	}
	return list
}
