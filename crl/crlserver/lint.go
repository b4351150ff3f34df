package crlserver

import (
	"crypto"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/ca/lint"
	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// lintedEntries bounds the octets of entries that are linted. All entries come from one encoder, in a handful of
// shapes.
const lintedEntries = 256 << 10

// throwAway is the placeholder of the signature. No rule looks inside it.
var throwAway = make([]byte, 64)

// lintUnsigned checks a list that is about to be signed against the rules of the RFCs, which are about its form. A
// broken rule is a fault of Signet, and the previous list stays in service. The rules of the CA/Browser Forum, which
// are about what was revoked and why, are left to "signet lint", because publishing no list would be worse.
func lintUnsigned(template *crl.Template, entries crl.Entries, public crypto.PublicKey) error {
	const op = "lint revocation list"
	algorithm, err := crl.AlgorithmFor(public)
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	document, err := template.Assemble(firstEntries(entries, lintedEntries), crl.Signature{Algorithm: algorithm, Value: throwAway})
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	if err := lint.Refusal(lint.CRL(document.Bytes(), false)); err != nil {
		return &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
	}
	return nil
}

// firstEntries returns the first entries, whole, up to most octets.
func firstEntries(entries crl.Entries, most int) (first crl.Entries) {
	for _, piece := range entries {
		if len(piece) <= most {
			first, most = append(first, piece), most-len(piece)
			continue
		}
		whole, rest := 0, cryptobyte.String(piece)
		for rest.SkipASN1(asn1.SEQUENCE) && len(piece)-len(rest) <= most {
			whole = len(piece) - len(rest)
		}
		return append(first, piece[:whole])
	}
	return first
}
