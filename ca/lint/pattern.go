//go:build !windows

package lint

import (
	"bytes"
	"crypto/ecdsa"
	"maps"
	"math/big"
	"net"
	"time"

	zasn1 "github.com/zmap/zcrypto/encoding/asn1"
	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zcrypto/x509/pkix"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// pattern is a certificate that zcrypto parsed. The parse of another certificate of the same shape is derived from it:
// equal octets have equal meaning, and the few fields that differ between two certificates of one issuer and profile
// are read from the new octets. If anything else differs, zcrypto parses the certificate. docs/decisions/1060 says how
// the two parsers are kept equal.
type pattern struct {
	parts
	parsed x509.Certificate // as the parser returned it, before any lint could change it
	names  []string         // keys of parsed.ExtensionsMap, in the order of the extensions
}

// parts are the elements of a TBSCertificate.
type parts struct {
	version, serial, algorithm, issuer, notBefore, notAfter, subject, key []byte
	extensions                                                            []extensionParts
}

type extensionParts struct {
	head  []byte // object identifier and criticality
	value []byte // contents of the OCTET STRING
}

// newPattern returns nil if the certificate cannot serve as a pattern.
func newPattern(parsed *x509.Certificate) *pattern {
	p, ok := split(parsed.RawTBSCertificate)
	// FingerprintNoCT leaves out the extensions of Certificate Transparency: if it differs, there are some.
	if !ok || len(p.extensions) != len(parsed.Extensions) || !bytes.Equal(parsed.FingerprintNoCT, parsed.TBSCertificateFingerprint) {
		return nil
	}
	made := &pattern{parts: p, parsed: *parsed}
	for _, e := range parsed.Extensions {
		made.names = append(made.names, e.Id.String())
	}
	return made
}

// split reads the elements of a TBSCertificate of version 3 without unique identifiers.
func split(tbs []byte) (p parts, ok bool) {
	input := cryptobyte.String(tbs)
	var body, validity, outer, list cryptobyte.String
	if !input.ReadASN1(&body, asn1.SEQUENCE) || !input.Empty() ||
		!element(&body, &p.version, asn1.Tag(0).ContextSpecific().Constructed()) || !element(&body, &p.serial, asn1.INTEGER) ||
		!element(&body, &p.algorithm, asn1.SEQUENCE) || !element(&body, &p.issuer, asn1.SEQUENCE) ||
		!body.ReadASN1(&validity, asn1.SEQUENCE) || !anyElement(&validity, &p.notBefore) || !anyElement(&validity, &p.notAfter) || !validity.Empty() ||
		!element(&body, &p.subject, asn1.SEQUENCE) || !element(&body, &p.key, asn1.SEQUENCE) ||
		!body.ReadASN1(&outer, asn1.Tag(3).ContextSpecific().Constructed()) || !body.Empty() || !outer.ReadASN1(&list, asn1.SEQUENCE) || !outer.Empty() {
		return p, false
	}
	p.extensions = make([]extensionParts, 0, 12)
	for !list.Empty() {
		var extension, value cryptobyte.String
		if !list.ReadASN1(&extension, asn1.SEQUENCE) {
			return p, false
		}
		whole := extension
		if !extension.SkipASN1(asn1.OBJECT_IDENTIFIER) || !extension.SkipOptionalASN1(asn1.BOOLEAN) {
			return p, false
		}
		head := whole[:len(whole)-len(extension)]
		if !extension.ReadASN1(&value, asn1.OCTET_STRING) || !extension.Empty() {
			return p, false
		}
		p.extensions = append(p.extensions, extensionParts{head, value})
	}
	return p, true
}

func element(from *cryptobyte.String, to *[]byte, tag asn1.Tag) bool {
	return from.ReadASN1Element((*cryptobyte.String)(to), tag)
}

func anyElement(from *cryptobyte.String, to *[]byte) bool {
	var tag asn1.Tag
	return from.ReadAnyASN1Element((*cryptobyte.String)(to), &tag)
}

// parse returns what zcrypto's parser returns, without fingerprints, for der, a certificate around tbs. ok is false if
// that is not certain.
func (p *pattern) parse(der, tbs []byte) (parsed *x509.Certificate, ok bool) {
	q, ok := split(tbs)
	if !ok || !bytes.Equal(q.version, p.version) || !bytes.Equal(q.algorithm, p.algorithm) || !bytes.Equal(q.issuer, p.issuer) ||
		len(q.extensions) != len(p.extensions) {
		return nil, false
	}
	for i := range q.extensions {
		if !bytes.Equal(q.extensions[i].head, p.extensions[i].head) {
			return nil, false
		}
	}
	c := p.parsed
	c.Raw, c.RawTBSCertificate, c.RawSubjectPublicKeyInfo, c.RawSubject, c.RawIssuer = der, tbs, q.key, q.subject, q.issuer
	if !readSerial(&c, q.serial) || !readValidity(&c, q.notBefore, q.notAfter) || !p.readSubject(&c, q.subject) || !p.readKey(&c, q.key) ||
		!p.readExtensions(&c, q.extensions) {
		return nil, false
	}
	forgetFingerprints(&c)
	return &c, true
}

// forgetFingerprints clears the fingerprints, which take longest to compute and which no lint reads.
func forgetFingerprints(c *x509.Certificate) {
	c.FingerprintMD5, c.FingerprintSHA1, c.FingerprintSHA256 = nil, nil, nil
	c.TBSCertificateFingerprint, c.FingerprintNoCT, c.SPKIFingerprint, c.SPKISubjectFingerprint = nil, nil, nil, nil
}

func readSerial(c *x509.Certificate, element cryptobyte.String) bool {
	c.SerialNumber = new(big.Int)
	return element.ReadASN1Integer(c.SerialNumber)
}

func readValidity(c *x509.Certificate, notBefore, notAfter cryptobyte.String) bool {
	if !readTime(&c.NotBefore, notBefore) || !readTime(&c.NotAfter, notAfter) {
		return false
	}
	c.ValidityPeriod = int(c.NotAfter.Sub(c.NotBefore).Seconds())
	return true
}

// readTime reads a time in UTC, to the second.
func readTime(to *time.Time, element cryptobyte.String) bool {
	if element[len(element)-1] != 'Z' {
		return false
	}
	if element.PeekASN1Tag(asn1.UTCTime) {
		return element.ReadASN1UTCTime(to)
	}
	return element.ReadASN1GeneralizedTime(to)
}

// readSubject reads a subject, unless zcrypto would derive more than a name from it.
func (p *pattern) readSubject(c *x509.Certificate, subject []byte) bool {
	if bytes.Equal(subject, p.subject) {
		return true
	}
	var rdns pkix.RDNSequence
	if rest, err := zasn1.Unmarshal(subject, &rdns); err != nil || len(rest) > 0 || c.PolicyIdentifiers != nil {
		return false
	}
	c.Subject = pkix.Name{}
	c.Subject.FillFromRDNSequence(&rdns)
	return true
}

// readKey reads another key on the same curve.
func (p *pattern) readKey(c *x509.Certificate, spki cryptobyte.String) bool {
	if bytes.Equal(spki, p.key) {
		return true
	}
	old := cryptobyte.String(p.key)
	var content, algorithm, oldContent, oldAlgorithm, point cryptobyte.String
	var unused uint8
	like, isECDSA := c.PublicKey.(*x509.AugmentedECDSA)
	if !isECDSA || !spki.ReadASN1(&content, asn1.SEQUENCE) || !content.ReadASN1Element(&algorithm, asn1.SEQUENCE) ||
		!old.ReadASN1(&oldContent, asn1.SEQUENCE) || !oldContent.ReadASN1Element(&oldAlgorithm, asn1.SEQUENCE) || !bytes.Equal(algorithm, oldAlgorithm) ||
		!content.ReadASN1(&point, asn1.BIT_STRING) || !content.Empty() || !point.ReadUint8(&unused) || unused != 0 {
		return false
	}
	key, err := ecdsa.ParseUncompressedPublicKey(like.Pub.Curve, point)
	if err != nil {
		return false
	}
	c.PublicKey = &x509.AugmentedECDSA{Pub: key, Raw: zasn1.BitString{Bytes: point, BitLength: 8 * len(point)}}
	return true
}

// readExtensions reads the three extensions that differ between certificates of one profile.
func (p *pattern) readExtensions(c *x509.Certificate, extensions []extensionParts) bool {
	c.Extensions = append(make([]pkix.Extension, 0, len(p.parsed.Extensions)), p.parsed.Extensions...)
	c.ExtensionsMap = maps.Clone(p.parsed.ExtensionsMap)
	for i := range extensions {
		value := extensions[i].value
		c.Extensions[i].Value = value
		c.ExtensionsMap[p.names[i]] = c.Extensions[i]
		if bytes.Equal(value, p.extensions[i].value) {
			continue
		}
		read := false
		switch p.names[i] {
		case "2.5.29.14":
			read = readKeyID(c, value)
		case "2.5.29.17":
			read = readNames(c, value)
		case "2.5.29.31":
			read = readPoints(c, value)
		}
		if !read {
			return false
		}
	}
	return true
}

func readKeyID(c *x509.Certificate, value cryptobyte.String) bool {
	var id cryptobyte.String
	ok := value.ReadASN1(&id, asn1.OCTET_STRING) && value.Empty()
	c.SubjectKeyId = id
	return ok
}

func readNames(c *x509.Certificate, value cryptobyte.String) bool {
	c.DNSNames, c.EmailAddresses, c.URIs, c.IPAddresses = nil, nil, nil, nil
	var list cryptobyte.String
	if !value.ReadASN1(&list, asn1.SEQUENCE) || !value.Empty() {
		return false
	}
	for !list.Empty() {
		var name cryptobyte.String
		var tag asn1.Tag
		if !list.ReadAnyASN1(&name, &tag) {
			return false
		}
		switch tag {
		case asn1.Tag(1).ContextSpecific():
			c.EmailAddresses = append(c.EmailAddresses, string(name))
		case asn1.Tag(2).ContextSpecific():
			c.DNSNames = append(c.DNSNames, string(name))
		case asn1.Tag(6).ContextSpecific():
			c.URIs = append(c.URIs, string(name))
		case asn1.Tag(7).ContextSpecific():
			if len(name) != net.IPv4len && len(name) != net.IPv6len {
				return false
			}
			c.IPAddresses = append(c.IPAddresses, net.IP(name))
		default:
			return false
		}
	}
	return true
}

// readPoints reads distribution points that consist of one URI each.
func readPoints(c *x509.Certificate, value cryptobyte.String) bool {
	c.CRLDistributionPoints = nil
	inner := asn1.Tag(0).ContextSpecific().Constructed()
	var list cryptobyte.String
	if !value.ReadASN1(&list, asn1.SEQUENCE) || !value.Empty() {
		return false
	}
	for !list.Empty() {
		var point, name, full, uri cryptobyte.String
		if !list.ReadASN1(&point, asn1.SEQUENCE) || !point.ReadASN1(&name, inner) || !point.Empty() || !name.ReadASN1(&full, inner) || !name.Empty() ||
			!full.ReadASN1(&uri, asn1.Tag(6).ContextSpecific()) || !full.Empty() {
			return false
		}
		c.CRLDistributionPoints = append(c.CRLDistributionPoints, string(uri))
	}
	return true
}
