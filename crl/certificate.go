package crl

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"
)

// ParseCertificate is x509.ParseCertificate that also accepts certificates whose distribution points have names
// relative to the CRL issuer (RFC 5280, Section 4.2.1.13), which crypto/x509 refuses. NewTarget reads the points from
// the raw extension in either case; of such a certificate the field CRLDistributionPoints stays empty.
func ParseCertificate(der []byte) (*x509.Certificate, error) {
	certificate, err := x509.ParseCertificate(der)
	if err == nil {
		return certificate, nil
	}
	at, ok := pointsExtension(der)
	if !ok {
		return nil, err
	}
	// crypto/x509 ignores the extension under another identifier of the same length. All octets that it keeps are then
	// taken from the original, so that the signature is checked over what was signed.
	der = bytes.Clone(der)
	masked := bytes.Clone(der)
	masked[at] = unassigned
	certificate, maskedErr := x509.ParseCertificate(masked)
	if maskedErr != nil {
		return nil, err
	}
	tbsStart := bytes.Index(masked, certificate.RawTBSCertificate)
	certificate.Raw = der
	certificate.RawTBSCertificate = der[tbsStart : tbsStart+len(certificate.RawTBSCertificate)]
	for i, e := range certificate.Extensions {
		if e.Id.Equal(oidUnassigned) {
			certificate.Extensions[i].Id = oidPoints
			if _, err := ParseDistributionPoints(e.Value); err != nil {
				return nil, err
			}
		}
	}
	certificate.UnhandledCriticalExtensions = slices.DeleteFunc(certificate.UnhandledCriticalExtensions, oidUnassigned.Equal)
	return certificate, nil
}

// unassigned stands in for the last octet of 2.5.29.31.
const unassigned = 0x7f

var oidUnassigned = asn1.ObjectIdentifier{2, 5, 29, unassigned}

// pointsExtension returns the offset of the last octet of the identifier of CRLDistributionPoints. ok is false, so that
// parsing fails, if the certificate already has the stand-in.
func pointsExtension(der []byte) (at int, ok bool) {
	whole, rest, err := expect(der, tagSequence)
	if err != nil || len(rest) > 0 {
		return 0, false
	}
	tbs, _, err := expect(whole, tagSequence)
	for err == nil && len(tbs) > 0 {
		var tag byte
		var content []byte
		if tag, content, tbs, err = element(tbs); err != nil || tag != 0xa3 {
			continue
		}
		list, _, err := expect(content, tagSequence)
		if err != nil {
			return 0, false
		}
		return findPoints(der, list)
	}
	return 0, false
}

func findPoints(der, list []byte) (at int, ok bool) {
	all, err := parseExtensions(nil, list)
	if err != nil {
		return 0, false
	}
	for _, e := range all {
		switch {
		case string(e.oid) == "\x55\x1d\x7f":
			return 0, false
		case string(e.oid) == "\x55\x1d\x1f":
			// e.oid is a slice of der: its offset follows from how much of der is after it.
			at, ok = cap(der)-cap(e.oid)+len(e.oid)-1, true
		}
	}
	return at, ok
}
