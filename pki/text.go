package pki

import "unicode"

// Unprintable reports whether a character does something instead of being seen: controls, line separators, and what
// reorders or hides text. The two joiners are letters of some scripts.
func Unprintable(c rune) bool {
	const zwnj, zwj = 0x200c, 0x200d
	return unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) && c != zwnj && c != zwj
}
