package lint

import (
	encoding_asn1 "encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/pki"
)

// This file reads DER and keeps what the rules need to judge its form. Object identifiers are content octets.

// extension is one Extension as it is encoded.
type extension struct {
	id       string
	critical bool
	spelled  bool // critical is encoded, even if it is FALSE
	value    cryptobyte.String
}

// readExtensions reads a SEQUENCE OF Extension.
func readExtensions(input cryptobyte.String) (list []extension, ok bool) {
	var outer cryptobyte.String
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !input.Empty() {
		return nil, false
	}
	for !outer.Empty() {
		var one, id cryptobyte.String
		var e extension
		if !outer.ReadASN1(&one, asn1.SEQUENCE) || !one.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) {
			return nil, false
		}
		if one.PeekASN1Tag(asn1.BOOLEAN) {
			e.spelled = true
			if !one.ReadASN1Boolean(&e.critical) {
				return nil, false
			}
		}
		if !one.ReadASN1(&e.value, asn1.OCTET_STRING) || !one.Empty() {
			return nil, false
		}
		e.id = string(id)
		list = append(list, e)
	}
	return list, true
}

func find(list []extension, id string) *extension {
	for i := range list {
		if list[i].id == id {
			return &list[i]
		}
	}
	return nil
}

// duplicates returns the name of an extension that occurs twice, or "".
func duplicates(list []extension) string {
	for i := range list {
		for j := range i {
			if list[i].id == list[j].id {
				return dotted(list[i].id) + " is there twice"
			}
		}
	}
	return ""
}

// spelledOut returns the name of an extension whose critical is encoded although it has its DEFAULT of FALSE, or "".
func spelledOut(list []extension) string {
	for _, e := range list {
		if e.spelled && !e.critical {
			return dotted(e.id) + " says that it is not critical"
		}
	}
	return ""
}

func dotted(id string) string {
	var arcs encoding_asn1.ObjectIdentifier
	if _, err := encoding_asn1.Unmarshal(append([]byte{0x06, byte(len(id))}, id...), &arcs); err != nil {
		return fmt.Sprintf("%x", id)
	}
	return arcs.String()
}

// moment is a time as it is encoded.
type moment struct {
	tag  asn1.Tag
	text string
}

func readMoment(input *cryptobyte.String) (m moment, ok bool) {
	var content cryptobyte.String
	if !input.ReadAnyASN1(&content, &m.tag) || m.tag != asn1.UTCTime && m.tag != asn1.GeneralizedTime {
		return m, false
	}
	m.text = string(content)
	return m, true
}

// at returns the time, or zero if it cannot be parsed.
func (m moment) at() time.Time {
	layouts := []string{"20060102150405Z", "200601021504Z", "20060102150405.999999999Z", "20060102150405-0700"}
	if m.tag == asn1.UTCTime {
		layouts = []string{"060102150405Z", "0601021504Z", "060102150405-0700"}
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, m.text); err == nil {
			if m.tag == asn1.UTCTime && t.Year() >= 2050 {
				t = t.AddDate(-100, 0, 0)
			}
			return t
		}
	}
	return time.Time{}
}

// brokenTime returns how the time breaks RFC 5280, Section 4.1.2.5, or "". The time must have seconds, a Z and no
// fractions, and be a UTCTime through 2049 and a GeneralizedTime from 2050.
func (m moment) brokenTime() string {
	if why := m.brokenForm(); why != "" {
		return why
	}
	if (m.tag == asn1.UTCTime) != (m.at().Year() < 2050) {
		return fmt.Sprintf("%s is of the wrong type for its year", m.text)
	}
	return ""
}

// brokenForm is brokenTime without the choice of type.
func (m moment) brokenForm() string {
	digits := 14
	if m.tag == asn1.UTCTime {
		digits = 12
	}
	if len(m.text) != digits+1 || m.text[digits] != 'Z' || m.at().IsZero() {
		return fmt.Sprintf("%q is not whole seconds of UTC", m.text)
	}
	return ""
}

// brokenGeneralized is brokenForm for a time that must be a GeneralizedTime.
func (m moment) brokenGeneralized() string {
	if m.tag != asn1.GeneralizedTime {
		return fmt.Sprintf("%q is not a GeneralizedTime", m.text)
	}
	return m.brokenForm()
}

// brokenIdentifier returns what is wrong with the parameters of a signature's AlgorithmIdentifier, or "". They must be
// NULL for RSA PKCS #1 (RFC 4055, Section 5), and absent for ECDSA (RFC 5758, Section 3.2), EdDSA (RFC 8410, Section
// 3) and ML-DSA (RFC 9881, Section 2).
func brokenIdentifier(der []byte) string {
	input := cryptobyte.String(der)
	var content, id cryptobyte.String
	if !input.ReadASN1(&content, asn1.SEQUENCE) || !content.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) {
		return "it cannot be read"
	}
	null := string(content) == "\x05\x00"
	switch oid := string(id); {
	case len(oid) == 9 && oid[:8] == "\x2a\x86\x48\x86\xf7\x0d\x01\x01" && (oid[8] == 5 || oid[8] >= 11 && oid[8] <= 14):
		if !null {
			return "parameters of RSA are not NULL"
		}
	case len(oid) == 8 && oid[:7] == "\x2a\x86\x48\xce\x3d\x04\x03", oid == "\x2b\x65\x70", oid == "\x2b\x65\x71", isMLDSA(oid):
		if !content.Empty() {
			return dotted(oid) + " has parameters"
		}
	}
	return ""
}

func isMLDSA(oid string) bool {
	for _, set := range []pki.MLDSA{pki.MLDSA44, pki.MLDSA65, pki.MLDSA87} {
		if set.OID() == oid {
			return true
		}
	}
	return false
}
