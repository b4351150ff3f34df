package pki

import (
	"crypto"
	"crypto/rsa"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// PSS holds the parameters of an RSASSA-PSS signature: the digest of message and mask, and the octets of salt.
type PSS struct {
	Hash crypto.Hash
	Salt int
}

// maxSalt bounds the salt: none is longer than a key.
const maxSalt = 1024

const oidMGF1 = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"

// pssHashes are the known digests (RFC 4055, Section 2.1).
var pssHashes = map[string]crypto.Hash{
	"\x2b\x0e\x03\x02\x1a":                 crypto.SHA1,
	"\x60\x86\x48\x01\x65\x03\x04\x02\x01": crypto.SHA256,
	"\x60\x86\x48\x01\x65\x03\x04\x02\x02": crypto.SHA384,
	"\x60\x86\x48\x01\x65\x03\x04\x02\x03": crypto.SHA512,
}

// ParsePSS reads the DER of RSASSA-PSS-params (RFC 4055, Section 3.1); absent fields have their defaults. It accepts
// only one digest for both message and mask, as is usual. Whether SHA-1 is acceptable is the caller's decision.
func ParsePSS(der []byte) (pss PSS, ok bool) {
	tag := func(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }
	input := cryptobyte.String(der)
	var parameters, field cryptobyte.String
	var present bool
	if !input.ReadASN1(&parameters, asn1.SEQUENCE) || !input.Empty() {
		return PSS{}, false
	}
	pss = PSS{crypto.SHA1, 20}
	mask, trailer := crypto.SHA1, 1
	for n, read := range [...]func() bool{
		func() bool { return readPSSHash(&field, &pss.Hash) },
		func() bool { return readMGF1(&field, &mask) },
		func() bool { return field.ReadASN1Integer(&pss.Salt) },
		func() bool { return field.ReadASN1Integer(&trailer) },
	} {
		if !parameters.ReadOptionalASN1(&field, &present, tag(uint8(n))) || present && (!read() || !field.Empty()) {
			return PSS{}, false
		}
	}
	// rsa.PSSSaltLengthAuto is zero: a salt of no octets would be read as "any".
	return pss, parameters.Empty() && pss.Hash == mask && pss.Hash != 0 && pss.Salt > 0 && pss.Salt <= maxSalt && trailer == 1
}

// readPSSHash reads an AlgorithmIdentifier of a digest. It accepts NULL parameters as well as absent ones, because
// encoders differ.
func readPSSHash(input *cryptobyte.String, hash *crypto.Hash) bool {
	id, parameters, ok := readAlgorithm(input)
	*hash = pssHashes[id]
	return ok && (parameters.Empty() || string(parameters) == "\x05\x00")
}

func readMGF1(input *cryptobyte.String, hash *crypto.Hash) bool {
	id, parameters, ok := readAlgorithm(input)
	return ok && id == oidMGF1 && readPSSHash(&parameters, hash) // one element, as readAlgorithm has seen
}

// readAlgorithm reads an AlgorithmIdentifier (RFC 5280, Section 4.1.1.2): an object identifier, and one element or none.
func readAlgorithm(input *cryptobyte.String) (id string, parameters cryptobyte.String, ok bool) {
	var content, oid, element cryptobyte.String
	var tag asn1.Tag
	if !input.ReadASN1(&content, asn1.SEQUENCE) || !content.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
		return "", nil, false
	}
	parameters = content
	return string(oid), parameters, content.Empty() || content.ReadAnyASN1(&element, &tag) && content.Empty()
}

// Verify reports whether key made a signature of a digest.
func (p PSS) Verify(key *rsa.PublicKey, digest, signature []byte) bool {
	return rsa.VerifyPSS(key, p.Hash, digest, signature, &rsa.PSSOptions{SaltLength: p.Salt}) == nil
}
