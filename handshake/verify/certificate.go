package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// ParseCertificate is x509.ParseCertificate for certificates of others: it also takes those whose CRL distribution
// points have a nameRelativeToCRLIssuer (RFC 5280, Section 4.2.1.13), which crypto/x509 refuses to read. Package crl
// reads the extension itself; the URLs that crypto/x509 takes from it are missing then.
func ParseCertificate(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err == nil {
		return cert, nil
	}
	at := pointsOID(der)
	if at < 0 {
		return nil, err
	}
	// Under an identifier that nobody reads, the rest of the certificate parses; what was signed, and the extension, are
	// then put back as they were.
	disguised := bytes.Clone(der)
	disguised[at] = disguise
	cert, disguisedErr := x509.ParseCertificate(disguised)
	if disguisedErr != nil {
		return nil, err
	}
	return restore(cert, der), nil
}

// disguise takes the place of the last octet of the extension's identifier: 2.5.29.127 is not assigned.
const disguise = 127

var oidDisguised = asn1.ObjectIdentifier{2, 5, 29, disguise}

// pointsOID returns where the last octet of the identifier of the CRL distribution points stands in a certificate, -1
// if there is no such extension.
func pointsOID(der []byte) int {
	input := cryptobyte.String(der)
	var cert, tbs, extensions cryptobyte.String
	var present bool
	context := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }
	if !input.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(context(0).Constructed()) || !tbs.SkipASN1(cbasn1.INTEGER) || // version, serialNumber
		!tbs.SkipASN1(cbasn1.SEQUENCE) || !tbs.SkipASN1(cbasn1.SEQUENCE) || // signature, issuer
		!tbs.SkipASN1(cbasn1.SEQUENCE) || !tbs.SkipASN1(cbasn1.SEQUENCE) || !tbs.SkipASN1(cbasn1.SEQUENCE) || // validity, subject, key
		!tbs.SkipOptionalASN1(context(1)) || !tbs.SkipOptionalASN1(context(2)) || // unique identifiers
		!tbs.ReadOptionalASN1(&extensions, &present, context(3).Constructed()) || !present || !extensions.ReadASN1(&extensions, cbasn1.SEQUENCE) {
		return -1
	}
	for !extensions.Empty() {
		var extension, id cryptobyte.String
		if !extensions.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) {
			return -1
		}
		if bytes.Equal(id, []byte{0x55, 0x1d, 0x1f}) {
			// id is a part of der, so their capacities end at the same octet.
			return cap(der) - cap(id) + len(id) - 1
		}
	}
	return -1
}

// restore gives a certificate that was parsed in disguise its own octets and extension back.
func restore(cert *x509.Certificate, der []byte) *x509.Certificate {
	cert.Raw = bytes.Clone(der)
	input := cryptobyte.String(cert.Raw)
	var outer, tbs cryptobyte.String
	if input.ReadASN1(&outer, cbasn1.SEQUENCE) && outer.ReadASN1Element(&tbs, cbasn1.SEQUENCE) { // it did, in disguise
		cert.RawTBSCertificate = tbs
	}
	for i := range cert.Extensions {
		if cert.Extensions[i].Id.Equal(oidDisguised) {
			cert.Extensions[i].Id = oidPoints
		}
	}
	// Critical or not, the extension is understood here.
	handled := cert.UnhandledCriticalExtensions[:0]
	for _, id := range cert.UnhandledCriticalExtensions {
		if !id.Equal(oidDisguised) {
			handled = append(handled, id)
		}
	}
	cert.UnhandledCriticalExtensions = handled
	return cert
}
