package lint

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The kinds of input that Foreign recognizes.
const (
	KindCertificate  = "certificate"
	KindRequest      = "certificate request"
	KindList         = "revocation list"
	KindOCSPResponse = "OCSP response"
)

// Foreign checks DER from any origin. It recognizes the kind of the input by its structure, applies the rules for that
// kind, and returns the kind. sources select zlint's rules for certificates, as in a profile; none means those of the
// RFCs. public adds the rules of the CA/Browser Forum. The error is about sources only. Input that cannot be read is a
// finding; if its structure fits no kind, the kind is "".
func Foreign(der []byte, sources []string, public bool) (kind string, findings []Finding, err error) {
	switch kind = kindOf(der); kind {
	case KindList:
		return kind, CRL(der, public), nil
	case KindOCSPResponse:
		return kind, OCSP(der, public), nil
	case KindRequest:
		return kind, request(der), nil
	case KindCertificate:
		if public {
			sources = append(append([]string(nil), defaultSources...), append(sources, "CABF_BR")...)
		}
		rules, err := Compile(sources, nil)
		if err != nil {
			return kind, nil, err
		}
		return kind, foreignCertificate(rules, der), nil
	}
	return "", unparsed("file", "RFC 5280, RFC 2986, RFC 6960", "it is no certificate, request, revocation list or OCSP response"), nil
}

// kindOf recognizes the kind of the input by tags only. {ENUMERATED ...} is an OCSP response. Otherwise it looks at
// the signed part: it is a certificate if it begins with a version [0]. Else, after an optional INTEGER and two
// SEQUENCEs, it is a CRL if a time follows, a certificate of version 1 if a SEQUENCE follows, and a request if [0]
// follows.
func kindOf(der []byte) string {
	input := cryptobyte.String(der)
	var outer, signed cryptobyte.String
	if !input.ReadASN1(&outer, asn1.SEQUENCE) {
		return ""
	}
	if outer.PeekASN1Tag(asn1.ENUM) {
		return KindOCSPResponse
	}
	if !outer.ReadASN1(&signed, asn1.SEQUENCE) {
		return ""
	}
	if signed.PeekASN1Tag(asn1.Tag(0).Constructed().ContextSpecific()) {
		return KindCertificate
	}
	if !signed.SkipOptionalASN1(asn1.INTEGER) || !signed.SkipASN1(asn1.SEQUENCE) || !signed.SkipASN1(asn1.SEQUENCE) {
		return ""
	}
	switch {
	case signed.PeekASN1Tag(asn1.UTCTime), signed.PeekASN1Tag(asn1.GeneralizedTime):
		return KindList
	case signed.PeekASN1Tag(asn1.SEQUENCE):
		return KindCertificate
	case signed.PeekASN1Tag(asn1.Tag(0).Constructed().ContextSpecific()):
		return KindRequest
	}
	return ""
}

func foreignCertificate(rules *Rules, der []byte) []Finding {
	input := cryptobyte.String(der)
	var outer, tbs, algorithm cryptobyte.String
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1Element(&tbs, asn1.SEQUENCE) ||
		!outer.ReadASN1Element(&algorithm, asn1.SEQUENCE) {
		return unparsed("certificate", "RFC 5280: 4.1", "")
	}
	self := false
	if c, err := x509.ParseCertificate(der); err == nil {
		self = bytes.Equal(c.RawSubject, c.RawIssuer)
	}
	if failure, ok := rules.Certificate(tbs, algorithm, self).(*Failure); ok {
		return failure.Findings
	}
	return nil
}

// request checks a PKCS #10 request against the rules that a CA applies before it looks at any profile.
func request(der []byte) []Finding {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return unparsed("certificate request", "RFC 2986: 4.2", err.Error())
	}
	var findings []Finding
	if csr.Version != 0 {
		findings = append(findings, Rule{"e_sg_csr_version", "RFC2986", "RFC 2986: 4.1", "the version is 0"}.finding(fmt.Sprint(csr.Version)))
	}
	if err := csr.CheckSignature(); err != nil {
		findings = append(findings, Rule{"e_sg_csr_signature", "RFC2986", "RFC 2986: 4.2", "the request is signed with the key inside"}.finding(err.Error()))
	}
	if key, ok := csr.PublicKey.(*rsa.PublicKey); ok && (key.N.BitLen() < 2048 || key.E < 65537 || key.E%2 == 0) {
		findings = append(findings, Rule{"e_sg_csr_rsa", "CABF_BR", "CA/B BR: 6.1.5, 6.1.6", "an RSA key has 2048 bits or more and an odd exponent from 65537"}.
			finding(fmt.Sprintf("%d bits, exponent %d", key.N.BitLen(), key.E)))
	}
	return findings
}
