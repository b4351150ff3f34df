package lint

import (
	"bytes"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/pki"
)

// certificate holds the parts of a certificate that the rules of RFC 9881 need. zlint knows neither the algorithm nor
// its keys, so its rules about keys do not apply: docs/decisions/1042 lists them.
type certificate struct {
	signature []byte // AlgorithmIdentifier
	key       []byte // AlgorithmIdentifier
	keySize   int
	usage     uint16 // bit 0 is the first of KeyUsage
}

// mldsaArc begins the object identifiers of ML-DSA.
var mldsaArc = []byte(pki.MLDSA44.OID()[:8])

// lintMLDSA checks a TBSCertificate, and the algorithm it will be signed with, against the rules of RFC 9881.
func lintMLDSA(tbs, algorithm []byte) []Finding {
	if !bytes.Contains(tbs, mldsaArc) && !bytes.Contains(algorithm, mldsaArc) {
		return nil
	}
	c, ok := readCertificate(tbs, algorithm)
	if !ok {
		return unparsed("certificate", "RFC 5280: 4.1", "")
	}
	return run(certificateRules, c, false)
}

func readCertificate(tbs, algorithm []byte) (*certificate, bool) {
	c := &certificate{signature: algorithm}
	input := cryptobyte.String(tbs)
	var body, spki, identifier, key, extensions cryptobyte.String
	var present bool
	if !input.ReadASN1(&body, asn1.SEQUENCE) || !body.SkipOptionalASN1(asn1.Tag(0).Constructed().ContextSpecific()) || !body.SkipASN1(asn1.INTEGER) ||
		!body.SkipASN1(asn1.SEQUENCE) || !body.SkipASN1(asn1.SEQUENCE) || !body.SkipASN1(asn1.SEQUENCE) || !body.SkipASN1(asn1.SEQUENCE) ||
		!body.ReadASN1(&spki, asn1.SEQUENCE) || !spki.ReadASN1Element(&identifier, asn1.SEQUENCE) || !spki.ReadASN1(&key, asn1.BIT_STRING) ||
		!body.SkipOptionalASN1(asn1.Tag(1).ContextSpecific()) || !body.SkipOptionalASN1(asn1.Tag(2).ContextSpecific()) ||
		!body.ReadOptionalASN1(&extensions, &present, asn1.Tag(3).Constructed().ContextSpecific()) {
		return nil, false
	}
	c.key, c.keySize = identifier, len(key)-1 // the first octet counts unused bits
	if !present {
		return c, true
	}
	list, ok := readExtensions(extensions)
	if e := find(list, "\x55\x1d\x0f"); ok && e != nil {
		value := e.value
		var bits cryptobyte.String
		if !value.ReadASN1(&bits, asn1.BIT_STRING) || len(bits) < 1 || len(bits) > 3 {
			return nil, false
		}
		for i, octet := range bits[1:] {
			for bit := range 8 {
				if octet&(0x80>>bit) != 0 {
					c.usage |= 1 << (8*i + bit)
				}
			}
		}
	}
	return c, ok
}

// setOf returns the parameter set of an AlgorithmIdentifier, whatever its parameters.
func setOf(identifier []byte) pki.MLDSA {
	for _, set := range []pki.MLDSA{pki.MLDSA44, pki.MLDSA65, pki.MLDSA87} {
		if bytes.Contains(identifier, []byte(set.OID())) {
			return set
		}
	}
	return pki.NoMLDSA
}

func rfc9881(id, section, text string, broken func(*certificate) string) check[*certificate] {
	return check[*certificate]{Rule{id, "RFC9881", "RFC 9881: " + section, text}, broken}
}

var certificateRules = []check[*certificate]{
	rfc9881("e_sg_mldsa_signature_parameters", "2", "the AlgorithmIdentifier of a signature has no parameters", func(c *certificate) string {
		if set := setOf(c.signature); set != pki.NoMLDSA && string(c.signature) != set.AlgorithmIdentifier() {
			return fmt.Sprintf("%x", c.signature)
		}
		return ""
	}),
	rfc9881("e_sg_mldsa_key_parameters", "4", "the AlgorithmIdentifier of a key has no parameters", func(c *certificate) string {
		if set := setOf(c.key); set != pki.NoMLDSA && string(c.key) != set.AlgorithmIdentifier() {
			return fmt.Sprintf("%x", c.key)
		}
		return ""
	}),
	rfc9881("e_sg_mldsa_key_size", "4", "a public key has the length that FIPS 204 gives it", func(c *certificate) string {
		if set := setOf(c.key); set != pki.NoMLDSA && c.keySize != set.PublicKeySize() {
			return fmt.Sprintf("%d octets of %s", c.keySize, set)
		}
		return ""
	}),
	rfc9881("e_sg_mldsa_key_usage", "5", "a key is for signatures only: no encipherment and no agreement", func(c *certificate) string {
		const allowed = 1<<0 | 1<<1 | 1<<5 | 1<<6 // digitalSignature, nonRepudiation, keyCertSign, cRLSign
		if setOf(c.key) != pki.NoMLDSA && c.usage&^allowed != 0 {
			return fmt.Sprintf("usage bits %09b", c.usage)
		}
		return ""
	}),
}
