package crl

import (
	"bytes"
	"errors"
	"fmt"
)

// DistributionPoint is one element of CRLDistributionPoints or FreshestCRL (RFC 5280, Section 4.2.1.13).
type DistributionPoint struct {
	Names     []Name      // fullName, nil if absent
	Relative  []byte      // content of the SET of nameRelativeToCRLIssuer, nil if absent
	Reasons   ReasonFlags // AllReasons if the field is absent
	CRLIssuer []Name      // who signs the list, nil if the issuer of the certificate does
}

// URLs returns the names that are URIs, in order.
func (p DistributionPoint) URLs() []string { return uris(p.Names) }

// IssuingDistributionPoint is the scope of a list (RFC 5280, Section 5.2.5).
type IssuingDistributionPoint struct {
	Names              []Name      // fullName, nil if absent
	Relative           []byte      // content of the SET of nameRelativeToCRLIssuer, nil if absent
	OnlyUserCerts      bool        // onlyContainsUserCerts
	OnlyCACerts        bool        // onlyContainsCACerts
	OnlyAttributeCerts bool        // onlyContainsAttributeCerts
	OnlySomeReasons    ReasonFlags // AllReasons if the field is absent
	Indirect           bool        // indirectCRL

	raw    []byte          // the extension's value, to compare the scopes of a delta and its base
	places map[string]bool // canonical forms of Names, or Relative
}

// URLs returns the names that are URIs, in order.
func (p *IssuingDistributionPoint) URLs() []string { return uris(p.Names) }

func uris(names []Name) []string {
	var urls []string
	for _, name := range names {
		if url, ok := name.URI(); ok {
			urls = append(urls, url)
		}
	}
	return urls
}

// ReasonFlags is a set of reasons (RFC 5280, Section 4.2.1.13): bit n is the n-th flag of the standard's BIT STRING.
type ReasonFlags uint16

// AllReasons has the eight flags from keyCompromise (1) to aACompromise (8); flag 0 is called "unused".
const AllReasons ReasonFlags = 0x1fe

// ParseDistributionPoints reads the value of CRLDistributionPoints (2.5.29.31) or FreshestCRL (2.5.29.46).
func ParseDistributionPoints(value []byte) ([]DistributionPoint, error) {
	list, rest, err := expect(value, tagSequence)
	if err == nil && len(rest) > 0 {
		err = errTrailing
	}
	if err == nil && len(list) == 0 {
		err = errors.New("no distribution point")
	}
	if err != nil {
		return nil, fmt.Errorf("parse distribution points: %w", err)
	}
	var points []DistributionPoint
	for len(list) > 0 {
		var content []byte
		if content, list, err = expect(list, tagSequence); err != nil {
			return nil, fmt.Errorf("parse distribution points: %w", err)
		}
		if len(points) == maxPoints {
			return nil, fmt.Errorf("parse distribution points: more than %d", maxPoints)
		}
		point, err := parseDistributionPoint(content)
		if err != nil {
			return nil, fmt.Errorf("parse distribution point %d: %w", len(points), err)
		}
		points = append(points, point)
	}
	return points, nil
}

// maxPoints bounds how often all lists at hand are searched for one certificate.
const maxPoints = 1024

func parseDistributionPoint(b []byte) (p DistributionPoint, err error) {
	fields, err := contextFields(b)
	if err != nil {
		return p, err
	}
	p.Reasons = AllReasons
	for _, f := range fields {
		switch f.tag {
		case 0xa0:
			p.Names, p.Relative, err = parsePointName(f.content)
		case 0x81:
			p.Reasons, err = parseReasonFlags(f.content)
		case 0xa2:
			p.CRLIssuer, err = parseNames(f.content)
		default:
			err = fmt.Errorf("unexpected tag %#02x", f.tag)
		}
		if err != nil {
			return p, err
		}
	}
	// RFC 5280, Section 4.2.1.13: a point must not consist of reasons alone.
	if p.Names == nil && p.Relative == nil && p.CRLIssuer == nil {
		return p, errors.New("neither a name nor an issuer")
	}
	return p, nil
}

// parseIDP reads the value of issuingDistributionPoint (2.5.29.28).
func parseIDP(value []byte) (*IssuingDistributionPoint, error) {
	content, rest, err := expect(value, tagSequence)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errTrailing
	}
	fields, err := contextFields(content)
	if err != nil {
		return nil, err
	}
	idp := &IssuingDistributionPoint{OnlySomeReasons: AllReasons, raw: bytes.Clone(value)}
	for _, f := range fields {
		switch f.tag {
		case 0xa0:
			idp.Names, idp.Relative, err = parsePointName(f.content)
		case 0x81:
			idp.OnlyUserCerts, err = parseBool(f.content)
		case 0x82:
			idp.OnlyCACerts, err = parseBool(f.content)
		case 0x83:
			idp.OnlySomeReasons, err = parseReasonFlags(f.content)
		case 0x84:
			idp.Indirect, err = parseBool(f.content)
		case 0x85:
			idp.OnlyAttributeCerts, err = parseBool(f.content)
		default:
			err = fmt.Errorf("unexpected tag %#02x", f.tag)
		}
		if err != nil {
			return nil, err
		}
	}
	idp.places = canonicalNames(idp.Names)
	if idp.Relative != nil {
		idp.places[string(idp.Relative)] = true
	}
	return idp, nil
}

// lawful returns an error for what Section 5.2.5 forbids although it can be encoded.
func (p *IssuingDistributionPoint) lawful() error {
	only := 0
	for _, set := range []bool{p.OnlyUserCerts, p.OnlyCACerts, p.OnlyAttributeCerts} {
		if set {
			only++
		}
	}
	if only > 1 {
		return &ProfileError{"5.2.5", "issuing distribution point contains only users, only authorities and only attributes at once"}
	}
	if only == 0 && !p.Indirect && p.OnlySomeReasons == AllReasons && p.Names == nil && p.Relative == nil {
		return &ProfileError{"5.2.5", "issuing distribution point is empty"}
	}
	return nil
}

type field struct {
	tag     byte
	content []byte
}

// contextFields splits a SEQUENCE of optional, context-tagged fields, which must be in order and at most once each.
func contextFields(b []byte) ([]field, error) {
	var fields []field
	last := -1
	for len(b) > 0 {
		tag, content, rest, err := element(b)
		if err != nil {
			return nil, err
		}
		if number := int(tag & 0x1f); tag&0xc0 != 0x80 || number <= last {
			return nil, fmt.Errorf("tag %#02x is out of order", tag)
		} else {
			last = number
		}
		fields = append(fields, field{tag, content})
		b = rest
	}
	return fields, nil
}

// parsePointName reads the content of [0] DistributionPointName, a CHOICE of two.
func parsePointName(b []byte) (names []Name, relative []byte, err error) {
	tag, content, rest, err := element(b)
	if err != nil {
		return nil, nil, err
	}
	if len(rest) > 0 {
		return nil, nil, errors.New("octets after the distribution point name")
	}
	switch tag {
	case 0xa0:
		names, err = parseNames(content)
		return names, nil, err
	case 0xa1:
		_, err := canonicalSet(content)
		return nil, bytes.Clone(content), err
	}
	return nil, nil, fmt.Errorf("unexpected tag %#02x in a distribution point name", tag)
}

// parseReasonFlags reads the content of a BIT STRING. It drops flags beyond the standard's nine. Unused bits must be
// zero (X.690, Section 11.2.1), or they would be read as flags.
func parseReasonFlags(b []byte) (ReasonFlags, error) {
	if len(b) == 0 || b[0] > 7 || len(b) == 1 && b[0] != 0 || b[len(b)-1]&(1<<b[0]-1) != 0 {
		return 0, errors.New("reason flags are not a bit string")
	}
	var flags ReasonFlags
	for i := range min(9, 8*(len(b)-1)) {
		if b[1+i/8]&(0x80>>(i%8)) != 0 {
			flags |= 1 << i
		}
	}
	return flags & AllReasons, nil
}

func parseBool(b []byte) (bool, error) {
	if len(b) != 1 || b[0] != 0 && b[0] != 0xff {
		return false, errors.New("not a boolean in DER")
	}
	return b[0] == 0xff, nil
}

// encodePointNames encodes a DistributionPointName of URIs, which is the same in a certificate and in a list.
func encodePointNames(urls []string) []byte {
	var names []byte
	for _, url := range urls {
		names = append(names, URIName(url)...)
	}
	return wrap(0xa0, wrap(0xa0, names))
}

// EncodeDistributionPoints encodes a CRLDistributionPoints or FreshestCRL with one point of these URLs.
func EncodeDistributionPoints(urls ...string) []byte {
	return wrap(tagSequence, wrap(tagSequence, encodePointNames(urls)))
}

// encodeIDP encodes an issuing distribution point.
func encodeIDP(urls []string, userCerts bool) []byte {
	var fields []byte
	if len(urls) > 0 {
		fields = encodePointNames(urls)
	}
	if userCerts {
		fields = append(fields, 0x81, 1, 0xff)
	}
	return wrap(tagSequence, fields)
}
