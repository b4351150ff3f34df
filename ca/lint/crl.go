package lint

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// list is a CertificateList (RFC 5280, Section 5.1) as it is encoded.
type list struct {
	version      int // of the encoding: 0 absent, 1 for v2
	inner, outer []byte
	issuer       cryptobyte.String // contents of the Name
	thisUpdate   moment
	nextUpdate   *moment
	hasEntries   bool // the field is present
	entries      cryptobyte.String
	extensions   []extension

	found map[string]string // for each rule about entries, how the first entry that breaks it does
}

const (
	oidCRLNumber         = "\x55\x1d\x14"
	oidReasonCode        = "\x55\x1d\x15"
	oidInvalidityDate    = "\x55\x1d\x18"
	oidDeltaIndicator    = "\x55\x1d\x1b"
	oidIDP               = "\x55\x1d\x1c"
	oidCertificateIssuer = "\x55\x1d\x1d"
	oidAuthorityKey      = "\x55\x1d\x23"
	oidFreshest          = "\x55\x1d\x2e"
	oidExpiredCerts      = "\x55\x1d\x3c"
)

// CRL checks a whole CertificateList against the rules. public adds those of the CA/Browser Forum. It takes time in
// proportion to the list and keeps no reference to it.
func CRL(der []byte, public bool) []Finding {
	l, why := readList(der)
	if why != "" {
		return unparsed("revocation list", "RFC 5280: 5.1", why)
	}
	if why := l.readEntries(); why != "" {
		return unparsed("revocation list", "RFC 5280: 5.1.2.6", why)
	}
	return run(crlRules, l, public)
}

func readList(der []byte) (*list, string) {
	l := &list{found: make(map[string]string)}
	input := cryptobyte.String(der)
	var outer, tbs, inner, algorithm, extensions cryptobyte.String
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1(&tbs, asn1.SEQUENCE) || !outer.ReadASN1Element(&algorithm, asn1.SEQUENCE) ||
		!outer.SkipASN1(asn1.BIT_STRING) || !outer.Empty() {
		return nil, "it is not a tbsCertList, an algorithm and a signature"
	}
	if tbs.PeekASN1Tag(asn1.INTEGER) && !tbs.ReadASN1Integer(&l.version) {
		return nil, "the version"
	}
	if !tbs.ReadASN1Element(&inner, asn1.SEQUENCE) || !tbs.ReadASN1(&l.issuer, asn1.SEQUENCE) {
		return nil, "the signature algorithm or the issuer"
	}
	l.inner, l.outer = inner, algorithm
	var ok bool
	if l.thisUpdate, ok = readMoment(&tbs); !ok {
		return nil, "thisUpdate"
	}
	if tbs.PeekASN1Tag(asn1.UTCTime) || tbs.PeekASN1Tag(asn1.GeneralizedTime) {
		next, ok := readMoment(&tbs)
		if !ok {
			return nil, "nextUpdate"
		}
		l.nextUpdate = &next
	}
	if !tbs.ReadOptionalASN1(&l.entries, &l.hasEntries, asn1.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&extensions, &ok, asn1.Tag(0).Constructed().ContextSpecific()) || !tbs.Empty() {
		return nil, "the entries, or what follows them"
	}
	if ok {
		if l.extensions, ok = readExtensions(extensions); !ok {
			return nil, "the extensions"
		}
	}
	return l, ""
}

// readEntries reads each entry once and keeps, for each rule about entries, what first breaks it.
func (l *list) readEntries() string {
	entries := l.entries
	for n := 1; !entries.Empty(); n++ {
		var entry, serial cryptobyte.String
		if !entries.ReadASN1(&entry, asn1.SEQUENCE) || !entry.ReadASN1(&serial, asn1.INTEGER) {
			return fmt.Sprintf("entry %d", n)
		}
		at, ok := readMoment(&entry)
		if !ok {
			return fmt.Sprintf("the date of entry %d", n)
		}
		var extensions []extension
		if !entry.Empty() {
			if extensions, ok = readExtensions(entry); !ok || len(extensions) == 0 {
				return fmt.Sprintf("the extensions of entry %d", n)
			}
		}
		if len(serial) == 0 || len(serial) > 20 || serial[0]&0x80 != 0 || bytes.Count(serial, []byte{0}) == len(serial) {
			l.note("e_sg_crl_entry_serial", n, fmt.Sprintf("serial %x", []byte(serial)))
		}
		if why := at.brokenTime(); why != "" {
			l.note("e_sg_crl_entry_date", n, why)
		}
		if len(extensions) > 0 {
			if l.version != 1 {
				l.note("e_sg_crl_version", n, "an entry has extensions in a list of version 1")
			}
			l.readEntryExtensions(n, extensions)
		}
	}
	return ""
}

func (l *list) note(rule string, entry int, details string) {
	if _, known := l.found[rule]; !known {
		l.found[rule] = fmt.Sprintf("entry %d: %s", entry, details)
	}
}

func (l *list) readEntryExtensions(n int, extensions []extension) {
	if why := duplicates(extensions); why != "" {
		l.note("e_sg_crl_duplicate_extension", n, why)
	}
	if why := spelledOut(extensions); why != "" {
		l.note("e_sg_crl_default_encoded", n, why)
	}
	for _, e := range extensions {
		value := e.value
		switch e.id {
		case oidReasonCode:
			var reason int
			if e.critical {
				l.note("e_sg_crl_entry_critical", n, "reasonCode is critical")
			}
			if !value.ReadASN1Enum(&reason) || !value.Empty() || reason < 0 || reason == 7 || reason > 10 {
				l.note("e_sg_crl_entry_reason", n, fmt.Sprintf("reason %x", []byte(e.value)))
				continue
			}
			if reason == 0 {
				l.note("w_sg_crl_entry_unspecified", n, "unspecified is written out")
			}
			if reason == 8 && find(l.extensions, oidDeltaIndicator) == nil {
				l.note("e_sg_crl_entry_remove", n, "removeFromCRL")
			}
			if reason != 1 && reason != 3 && reason != 4 && reason != 5 && reason != 9 && reason != 8 {
				l.note("e_sg_br_crl_reason", n, fmt.Sprintf("reason %d", reason))
			}
		case oidInvalidityDate:
			if e.critical {
				l.note("e_sg_crl_entry_critical", n, "invalidityDate is critical")
			}
			if at, ok := readMoment(&value); !ok || at.brokenGeneralized() != "" {
				l.note("e_sg_crl_entry_invalidity", n, fmt.Sprintf("%x", []byte(e.value)))
			}
		case oidCertificateIssuer:
			if !e.critical {
				l.note("e_sg_crl_entry_issuer", n, "certificateIssuer is not critical")
			}
		default:
			if e.critical {
				l.note("e_sg_crl_unknown_critical", n, dotted(e.id))
			}
		}
	}
}

// entry returns the implementation of a rule about entries.
func entry(rule string) func(*list) string { return func(l *list) string { return l.found[rule] } }

// known are the extensions of lists that verifiers know.
var known = map[string]bool{oidCRLNumber: true, oidDeltaIndicator: true, oidIDP: true, oidAuthorityKey: true, oidFreshest: true, oidExpiredCerts: true}

// criticality returns the implementation of a rule that an extension, if present, must or must not be critical.
func criticality(id string, must bool) func(*list) string {
	return func(l *list) string {
		if e := find(l.extensions, id); e != nil && e.critical != must {
			return map[bool]string{true: "it is not", false: "it is"}[must]
		}
		return ""
	}
}

// integer returns the content octets of an extension that is an INTEGER.
func (l *list) integer(id string) (content cryptobyte.String, ok bool) {
	e := find(l.extensions, id)
	if e == nil {
		return nil, false
	}
	value := e.value
	return content, value.ReadASN1(&content, asn1.INTEGER) && value.Empty()
}

// larger compares non-negative DER integers.
func larger(a, b []byte) bool {
	a, b = bytes.TrimLeft(a, "\x00"), bytes.TrimLeft(b, "\x00")
	return len(a) > len(b) || len(a) == len(b) && bytes.Compare(a, b) > 0
}

func (l *list) idp() (fields []asn1.Tag, present, ok bool) {
	e := find(l.extensions, oidIDP)
	if e == nil {
		return nil, false, true
	}
	value := e.value
	var content, field cryptobyte.String
	if !value.ReadASN1(&content, asn1.SEQUENCE) || !value.Empty() {
		return nil, true, false
	}
	for !content.Empty() {
		var tag asn1.Tag
		if !content.ReadAnyASN1(&field, &tag) {
			return nil, true, false
		}
		if tag&0x20 == 0 && tag != asn1.Tag(3).ContextSpecific() && string(field) != "\xff" { // [1], [2], [4], [5]: BOOLEAN DEFAULT FALSE
			return nil, true, false
		}
		fields = append(fields, tag)
	}
	return fields, true, true
}

func rfc5280(id, section, text string, broken func(*list) string) check[*list] {
	return check[*list]{Rule{id, "RFC5280", "RFC 5280: " + section, text}, broken}
}

// crlRules are in the order of RFC 5280, then those of the CA/Browser Forum's TLS Baseline Requirements.
var crlRules = []check[*list]{
	rfc5280("e_sg_crl_algorithm_match", "5.1.1.2", "signatureAlgorithm and signature are the same", func(l *list) string {
		if !bytes.Equal(l.inner, l.outer) {
			return fmt.Sprintf("%x and %x", l.inner, l.outer)
		}
		return ""
	}),
	{Rule{
		"e_sg_crl_algorithm_parameters", "RFC9881", "RFC 4055: 5; RFC 5758: 3.2; RFC 8410: 3; RFC 9881: 2",
		"the parameters of the signature algorithm are as its document says",
	}, func(l *list) string { return brokenIdentifier(l.outer) }},
	rfc5280("e_sg_crl_version", "5.1.2.1", "a list with extensions is of version 2, and no list is of a later one", func(l *list) string {
		if l.version > 1 || l.version < 0 || l.version == 0 && l.extensions != nil {
			return fmt.Sprintf("version %d", l.version+1)
		}
		return l.found["e_sg_crl_version"]
	}),
	rfc5280("e_sg_crl_issuer", "5.1.2.3", "the issuer has a name that is not empty", func(l *list) string {
		if l.issuer.Empty() {
			return "it is empty"
		}
		return ""
	}),
	rfc5280("e_sg_crl_this_update", "5.1.2.4", "thisUpdate is in whole seconds of UTC, UTCTime through 2049", func(l *list) string {
		return l.thisUpdate.brokenTime()
	}),
	rfc5280("e_sg_crl_next_update", "5.1.2.5", "nextUpdate is there", func(l *list) string {
		if l.nextUpdate == nil {
			return "it is not"
		}
		return ""
	}),
	rfc5280("e_sg_crl_next_update_form", "5.1.2.5", "nextUpdate is in whole seconds of UTC, UTCTime through 2049", func(l *list) string {
		if l.nextUpdate == nil {
			return ""
		}
		return l.nextUpdate.brokenTime()
	}),
	rfc5280("e_sg_crl_times", "5.1.2.5", "nextUpdate is later than thisUpdate", func(l *list) string {
		if l.nextUpdate != nil && !l.nextUpdate.at().After(l.thisUpdate.at()) {
			return l.thisUpdate.text + " to " + l.nextUpdate.text
		}
		return ""
	}),
	rfc5280("e_sg_crl_no_entries", "5.1.2.6", "without revoked certificates the field is absent", func(l *list) string {
		if l.hasEntries && l.entries.Empty() {
			return "it is empty"
		}
		return ""
	}),
	rfc5280("e_sg_crl_entry_serial", "4.1.2.2", "serial numbers are positive and of at most 20 octets", entry("e_sg_crl_entry_serial")),
	rfc5280("e_sg_crl_entry_date", "5.1.2.6", "revocation dates are in whole seconds of UTC, UTCTime through 2049", entry("e_sg_crl_entry_date")),
	rfc5280("e_sg_crl_duplicate_extension", "4.2", "no extension is there twice", func(l *list) string {
		if why := duplicates(l.extensions); why != "" {
			return why
		}
		return l.found["e_sg_crl_duplicate_extension"]
	}),
	{Rule{"e_sg_crl_default_encoded", "X690", "X.690: 11.5", "critical FALSE, the default, is not written"}, func(l *list) string {
		if why := spelledOut(l.extensions); why != "" {
			return why
		}
		return l.found["e_sg_crl_default_encoded"]
	}},
	rfc5280("e_sg_crl_unknown_critical", "5.2", "no extension is critical that verifiers do not know", func(l *list) string {
		for _, e := range l.extensions {
			if e.critical && !known[e.id] {
				return dotted(e.id)
			}
		}
		return l.found["e_sg_crl_unknown_critical"]
	}),
	rfc5280("e_sg_crl_authority_key", "5.2.1", "the authority key identifier is there, by key", func(l *list) string {
		e := find(l.extensions, oidAuthorityKey)
		if e == nil {
			return "there is none"
		}
		value := e.value
		var content, key cryptobyte.String
		var byKey bool
		if !value.ReadASN1(&content, asn1.SEQUENCE) || !content.ReadOptionalASN1(&key, &byKey, asn1.Tag(0).ContextSpecific()) || !byKey || key.Empty() {
			return "it does not name the key"
		}
		return ""
	}),
	rfc5280("e_sg_crl_authority_key_critical", "4.2.1.1", "the authority key identifier is not critical", criticality(oidAuthorityKey, false)),
	rfc5280("e_sg_crl_number", "5.2.3", "the CRL number is there", func(l *list) string {
		if _, ok := l.integer(oidCRLNumber); !ok {
			return "there is none that can be read"
		}
		return ""
	}),
	rfc5280("e_sg_crl_number_size", "5.2.3", "the CRL number is not negative and of at most 20 octets", func(l *list) string {
		if n, ok := l.integer(oidCRLNumber); ok && (len(n) > 20 || n[0]&0x80 != 0) {
			return fmt.Sprintf("%x", []byte(n))
		}
		return ""
	}),
	rfc5280("e_sg_crl_number_critical", "5.2.3", "the CRL number is not critical", criticality(oidCRLNumber, false)),
	rfc5280("e_sg_crl_delta_critical", "5.2.4", "the delta CRL indicator is critical", criticality(oidDeltaIndicator, true)),
	rfc5280("e_sg_crl_delta_base", "5.2.4", "the base of a delta is not later than the delta", func(l *list) string {
		base, ok := l.integer(oidDeltaIndicator)
		if find(l.extensions, oidDeltaIndicator) != nil && !ok {
			return "it cannot be read"
		}
		if number, numbered := l.integer(oidCRLNumber); ok && numbered && larger(base, number) {
			return fmt.Sprintf("number %x, base %x", []byte(number), []byte(base))
		}
		return ""
	}),
	rfc5280("e_sg_crl_scope_critical", "5.2.5", "the issuing distribution point is critical", criticality(oidIDP, true)),
	rfc5280("e_sg_crl_scope_empty", "5.2.5", "an issuing distribution point says something", func(l *list) string {
		if fields, present, ok := l.idp(); present && ok && len(fields) == 0 {
			return "it is empty"
		}
		return ""
	}),
	rfc5280("e_sg_crl_scope", "5.2.5", "a list is limited to at most one kind of certificates, and false, the default, is not written", func(l *list) string {
		fields, _, ok := l.idp()
		if !ok {
			return "it cannot be read as DER"
		}
		kinds := 0
		for _, tag := range fields {
			if tag == asn1.Tag(1).ContextSpecific() || tag == asn1.Tag(2).ContextSpecific() || tag == asn1.Tag(5).ContextSpecific() {
				kinds++
			}
		}
		if kinds > 1 {
			return fmt.Sprintf("%d kinds", kinds)
		}
		return ""
	}),
	rfc5280("e_sg_crl_freshest_critical", "5.2.6", "the freshest CRL extension is not critical", criticality(oidFreshest, false)),
	rfc5280("e_sg_crl_freshest_delta", "5.2.6", "a delta has no freshest CRL extension", func(l *list) string {
		if find(l.extensions, oidFreshest) != nil && find(l.extensions, oidDeltaIndicator) != nil {
			return "it has one"
		}
		return ""
	}),
	rfc5280("e_sg_crl_entry_reason", "5.3.1", "reasons are of the enumeration", entry("e_sg_crl_entry_reason")),
	rfc5280("w_sg_crl_entry_unspecified", "5.3.1", "the reason unspecified is not written", entry("w_sg_crl_entry_unspecified")),
	rfc5280("e_sg_crl_entry_remove", "5.3.1", "removeFromCRL stands in deltas only", entry("e_sg_crl_entry_remove")),
	rfc5280("e_sg_crl_entry_critical", "5.3", "reason and invalidity date are not critical", entry("e_sg_crl_entry_critical")),
	rfc5280("e_sg_crl_entry_invalidity", "5.3.2", "invalidity dates are GeneralizedTime in whole seconds of UTC", entry("e_sg_crl_entry_invalidity")),
	rfc5280("e_sg_crl_entry_issuer", "5.3.3", "the certificate issuer of an entry is critical", entry("e_sg_crl_entry_issuer")),
	{Rule{
		"e_sg_br_crl_lifetime", "CABF_BR", "CA/B BR: 4.9.7",
		"a list of subscribers' certificates lives at most 10 days, and any at most 12 months",
	}, func(l *list) string {
		if l.nextUpdate == nil {
			return ""
		}
		life, most := l.nextUpdate.at().Sub(l.thisUpdate.at()), 366*24*time.Hour
		fields, _, _ := l.idp()
		for _, tag := range fields {
			if tag == asn1.Tag(1).ContextSpecific() { // onlyContainsUserCerts
				most = 10 * 24 * time.Hour
			}
		}
		if life > most {
			return life.String()
		}
		return ""
	}},
	{Rule{
		"e_sg_br_crl_reason", "CABF_BR", "CA/B BR: 7.2.2",
		"reasons are keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn",
	}, entry("e_sg_br_crl_reason")},
}
