package crl

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"signet.example/signet/pki"
)

// Content octets of the extension identifiers, all under 2.5.29 but the last.
const (
	oidReasonCode   = "\x55\x1d\x15"
	oidHold         = "\x55\x1d\x17"
	oidInvalidity   = "\x55\x1d\x18"
	oidCertIssuer   = "\x55\x1d\x1d"
	oidCRLNumber    = "\x55\x1d\x14"
	oidDelta        = "\x55\x1d\x1b"
	oidIDP          = "\x55\x1d\x1c"
	oidAuthorityKey = "\x55\x1d\x23"
	oidFreshest     = "\x55\x1d\x2e"
	oidExpired      = "\x55\x1d\x3c"
	oidIssuerAlt    = "\x55\x1d\x12"
	oidAuthorityAIA = "\x2b\x06\x01\x05\x05\x07\x01\x01"
)

// extension is one element of Extensions.
type extension struct {
	oid      []byte // content octets
	critical bool
	value    []byte
}

// parseExtensions reads the content of a SEQUENCE OF Extension into all, which is reused over the entries of a list.
// None may appear twice (RFC 5280, Section 4.2).
func parseExtensions(all []extension, list []byte) ([]extension, error) {
	if len(list) == 0 {
		return nil, errors.New("extensions are present and empty")
	}
	for len(list) > 0 {
		content, rest, err := expect(list, tagSequence)
		if err != nil {
			return nil, err
		}
		list = rest
		e, err := parseExtension(content)
		if err != nil {
			return nil, err
		}
		for _, other := range all {
			if bytes.Equal(other.oid, e.oid) {
				return nil, fmt.Errorf("extension %s appears twice", oidString(e.oid))
			}
		}
		if len(all) == maxExtensions {
			return nil, fmt.Errorf("more than %d extensions", maxExtensions)
		}
		all = append(all, e)
	}
	return all, nil
}

// maxExtensions bounds the search for duplicates.
const maxExtensions = 64

func parseExtension(b []byte) (e extension, err error) {
	oid, b, err := expectOID(b)
	if err != nil {
		return e, err
	}
	e.oid = oid
	if len(b) > 0 && b[0] == 0x01 {
		var flag []byte
		if flag, b, err = expect(b, 0x01); err != nil {
			return e, err
		}
		if e.critical, err = parseBool(flag); err != nil {
			return e, err
		}
	}
	value, b, err := expect(b, 0x04)
	if err == nil && len(b) > 0 {
		err = errors.New("octets after the extension value")
	}
	e.value = value
	return e, err
}

func oidString(content []byte) string {
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(wrap(0x06, content), &oid); err != nil {
		return fmt.Sprintf("%x", content)
	}
	return oid.String()
}

func unknownCritical(content []byte, entry bool) error {
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(wrap(0x06, content), &oid); err != nil {
		return fmt.Errorf("object identifier %x: %w", content, err)
	}
	return &CriticalExtensionError{OID: oid, Entry: entry}
}

// extensions reads crlExtensions (RFC 5280, Section 5.2).
func (r *reader) extensions() error {
	r.in("crlExtensions")
	tag, _, content, err := r.take()
	if err != nil {
		return err
	}
	if tag != 0xa0 {
		return &tagError{tag, 0xa0}
	}
	if r.list.Version != 2 {
		return errors.New("extensions in a list of version 1")
	}
	content, rest, err := expect(content, tagSequence)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errors.New("octets after the extensions")
	}
	all, err := parseExtensions(nil, content)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := r.listExtension(e); err != nil {
			return fmt.Errorf("extension %s: %w", oidString(e.oid), err)
		}
	}
	return nil
}

func (r *reader) listExtension(e extension) (err error) {
	l := r.list
	if e.critical {
		if l.critical == nil {
			l.critical = make(map[string]bool)
		}
		l.critical[string(e.oid)] = true
	}
	switch string(e.oid) {
	case oidCRLNumber:
		l.HasNumber = true
		l.Number, err = parseNumber(e.value)
		if e.critical {
			r.unusable(&ProfileError{"5.2.3", "the CRL number is critical"})
		}
	case oidDelta:
		l.Delta = true
		l.BaseNumber, err = parseNumber(e.value)
	case oidIDP:
		if l.IDP, err = parseIDP(e.value); err == nil {
			if err := l.IDP.lawful(); err != nil {
				r.unusable(err)
			}
		}
	case oidAuthorityKey:
		l.AuthorityKey, err = parseAuthorityKey(e.value)
	case oidFreshest:
		l.Freshest, err = ParseDistributionPoints(e.value)
	case oidExpired:
		l.ExpiredSince, err = parseGeneralizedTime(e.value)
	case oidIssuerAlt, oidAuthorityAIA:
		// No judgement depends on these.
	default:
		if e.critical {
			r.unusable(unknownCritical(e.oid, false))
		}
	}
	return err
}

// parseAuthorityKey checks the value of authorityKeyIdentifier (RFC 5280, Section 4.2.1.1) and returns a copy.
// Identifiers are compared as encoded.
func parseAuthorityKey(value []byte) ([]byte, error) {
	content, rest, err := expect(value, tagSequence)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errTrailing
	}
	fields, err := contextFields(content)
	for _, f := range fields {
		if f.tag != 0x80 && f.tag != 0xa1 && f.tag != 0x82 {
			return nil, fmt.Errorf("unexpected tag %#02x", f.tag)
		}
	}
	return bytes.Clone(value), err
}

// reasonOnly is nearly every entry extension: a reason code alone. The last octet is the reason.
const reasonOnly = "\x30\x0c\x30\x0a\x06\x03" + oidReasonCode + "\x04\x03\x0a\x01"

// entryExtensions reads crlEntryExtensions (RFC 5280, Section 5.3).
func (r *reader) entryExtensions(b []byte, into *record) (err error) {
	if r.list.Version != 2 {
		return errors.New("entry extensions in a list of version 1")
	}
	if len(b) == len(reasonOnly)+1 && string(b[:len(reasonOnly)]) == reasonOnly {
		into.reason, err = r.reason(b[len(reasonOnly)])
		return err
	}
	content, rest, err := expect(b, tagSequence)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errors.New("octets after the entry extensions")
	}
	r.scratch, err = parseExtensions(r.scratch[:0], content)
	if err != nil {
		return err
	}
	for _, e := range r.scratch {
		if err := r.entryExtension(e, into); err != nil {
			return fmt.Errorf("entry extension %s: %w", oidString(e.oid), err)
		}
	}
	return nil
}

func (r *reader) entryExtension(e extension, into *record) error {
	switch string(e.oid) {
	case oidReasonCode:
		content, rest, err := expect(e.value, tagEnumerated)
		if err != nil {
			return err
		}
		// X.690, Section 8.3.2: no longer than needed.
		if len(rest) > 0 || len(content) == 0 || len(content) > 1 && content[0] == 0 && content[1] < 0x80 {
			return errors.New("not a reason code")
		}
		if len(content) > 1 && content[0] < 0x80 {
			r.unknownReason = true // all known codes have one octet
			into.reason = pki.Unspecified
			return nil
		}
		into.reason, err = r.reason(content[0])
		return err
	case oidInvalidity:
		t, err := parseGeneralizedTime(e.value)
		into.invalidity = t.Unix()
		return err
	case oidCertIssuer:
		return r.certificateIssuer(e.value)
	case oidHold:
		return nil // RFC 5280 dropped it; the reason says hold
	}
	if e.critical {
		r.unusable(unknownCritical(e.oid, true))
	}
	return nil
}

// reason reads a CRLReason. The certificate is revoked whatever the code: an unknown one counts as unspecified.
func (r *reader) reason(code byte) (pki.Reason, error) {
	if code >= 0x80 {
		return 0, errors.New("reason code is negative")
	}
	if reason := pki.Reason(code); reason.Valid() {
		return reason, nil
	}
	r.unknownReason = true
	return pki.Unspecified, nil
}

// certificateIssuer reads the issuer of this entry and of those that follow, as one or more names (RFC 5280, Section
// 5.3.3).
func (r *reader) certificateIssuer(value []byte) error {
	content, rest, err := expect(value, tagSequence)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errors.New("octets after the names")
	}
	names, err := parseNames(content)
	if err != nil {
		return err
	}
	if len(names) > maxEntryIssuers {
		return fmt.Errorf("more than %d certificate issuers of one entry", maxEntryIssuers)
	}
	var directories []byte
	for _, name := range names {
		directories = append(directories, name.Directory()...)
	}
	if directories == nil {
		return errors.New("no distinguished name among the certificate issuers")
	}
	x := &r.list.entries
	if len(x.issuers) == maxIssuers {
		return fmt.Errorf("more than %d issuers", maxIssuers)
	}
	if n := len(x.issuers); n == 0 || !bytes.Equal(x.issuers[n-1], directories) {
		x.issuers = append(x.issuers, directories)
	}
	r.issuer = len(x.issuers) - 1
	return nil
}

// maxEntryIssuers bounds the names that are compared for one entry: an authority has one name, or a few while it
// changes its name.
const maxEntryIssuers = 16

func parseGeneralizedTime(der []byte) (time.Time, error) {
	content, rest, err := expect(der, tagGeneralizedTime)
	if err == nil && len(rest) > 0 {
		err = errTrailing
	}
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := parseTime(tagGeneralizedTime, content)
	return time.Unix(seconds, 0).UTC(), err
}
