package ocsp

import (
	"crypto/x509"
	"errors"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// subject is what a judgement needs of the certificate in question. It is read from the DER, so that a certificate that
// crypto/x509 refuses (a serial number that is negative or not minimal) can be asked about too.
type subject struct {
	serial              []byte // INTEGER content octets
	issuer              []byte // DER of the name; nil if only the serial is known
	notBefore, notAfter time.Time
	tbs                 []byte
	algorithm           []byte
	signature           []byte
}

var errSubject = errors.New("verify OCSP response: the certificate in question does not parse")

func (q Query) subject() (subject, error) {
	switch {
	case q.Certificate != nil:
		return parseSubject(q.Certificate.Raw)
	case q.CertificateDER != nil:
		return parseSubject(q.CertificateDER)
	case len(q.Serial) > 0:
		return subject{serial: q.Serial}, nil
	}
	return subject{}, errors.New("verify OCSP response: no certificate in question")
}

// parseSubject reads the fields of a certificate (RFC 5280, Section 4.1) up to the subject's key.
func parseSubject(der []byte) (subject, error) {
	input := cryptobyte.String(der)
	var s subject
	var cert, element, tbs, serial, issuer, validity, algorithm cryptobyte.String
	if !input.ReadASN1(&cert, asn1.SEQUENCE) || !input.Empty() || !cert.ReadASN1Element(&element, asn1.SEQUENCE) ||
		!cert.ReadASN1Element(&algorithm, asn1.SEQUENCE) || !cert.ReadASN1BitStringAsBytes(&s.signature) {
		return subject{}, errSubject
	}
	s.tbs, s.algorithm = element, algorithm
	if !element.ReadASN1(&tbs, asn1.SEQUENCE) || !tbs.SkipOptionalASN1(asn1.Tag(0).Constructed().ContextSpecific()) ||
		!tbs.ReadASN1(&serial, asn1.INTEGER) || len(serial) == 0 || !tbs.SkipASN1(asn1.SEQUENCE) ||
		!tbs.ReadASN1Element(&issuer, asn1.SEQUENCE) || !tbs.ReadASN1(&validity, asn1.SEQUENCE) ||
		!readTime(&validity, &s.notBefore) || !readTime(&validity, &s.notAfter) {
		return subject{}, errSubject
	}
	s.serial, s.issuer = serial, issuer
	return s, nil
}

// readTime reads a Time, which is a UTCTime up to 2049 and a GeneralizedTime after (RFC 5280, Section 4.1.2.5).
func readTime(input *cryptobyte.String, t *time.Time) bool {
	if input.PeekASN1Tag(asn1.UTCTime) {
		return input.ReadASN1UTCTime(t)
	}
	return input.ReadASN1GeneralizedTime(t)
}

// SerialOf returns the content octets of a certificate's serial number, as encoded in the certificate.
func SerialOf(cert *x509.Certificate) ([]byte, error) { return SerialOfDER(cert.Raw) }

// SerialOfDER is SerialOf for a certificate that crypto/x509 may refuse to parse.
func SerialOfDER(der []byte) ([]byte, error) {
	s, err := parseSubject(der)
	return s.serial, err
}
