package pki

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"unicode"
)

// Unprintable reports whether a character acts instead of being displayed: controls, line separators, and characters
// that reorder or hide text. The two joiners are letters of some scripts and count as printable.
func Unprintable(c rune) bool {
	const zwnj, zwj = 0x200c, 0x200d
	return unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) && c != zwnj && c != zwj
}

// NameText returns a DER Name as RFC 4514 writes it, with all its attributes: pkix.Name keeps only the last common name
// and serial number. It returns octets that are no Name in hexadecimal, after a number sign. The text is for people and
// may hold characters that are Unprintable.
func NameText(der []byte) string {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return "#" + hex.EncodeToString(der)
	}
	return sequence.String()
}
