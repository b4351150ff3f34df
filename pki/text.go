package pki

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"unicode"
)

// Unprintable reports whether a character does something instead of being seen: controls, line separators, and what
// reorders or hides text. The two joiners are letters of some scripts.
func Unprintable(c rune) bool {
	const zwnj, zwj = 0x200c, 0x200d
	return unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) && c != zwnj && c != zwj
}

// NameText writes a DER Name as RFC 4514 does, with every attribute it has: pkix.Name keeps only the last common name and serial number.
// What is no Name is written in hexadecimal, behind a number sign. It is for people: what is in it may be Unprintable.
func NameText(der []byte) string {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return "#" + hex.EncodeToString(der)
	}
	return sequence.String()
}
