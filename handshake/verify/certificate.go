package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/crl"
)

// ParseCertificate is x509.ParseCertificate, but also accepts certificates whose CRL distribution points have a
// nameRelativeToCRLIssuer, which crypto/x509 refuses to read.
func ParseCertificate(der []byte) (*x509.Certificate, error) { return crl.ParseCertificate(der) }

var (
	oidDSA = asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}
	oidEC  = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}

	// nistCurves are P-224, P-256, P-384 and P-521, the curves of crypto/x509.
	nistCurves = []asn1.ObjectIdentifier{
		{1, 3, 132, 0, 33}, {1, 2, 840, 10045, 3, 1, 7}, {1, 3, 132, 0, 34}, {1, 3, 132, 0, 35},
	}
)

// unread returns the fault of a certificate that does not parse. crypto/x509 refuses every certificate whose kind of
// key it cannot compute with, even if the certificate is correct: a DSA key that inherits its parameters (RFC 3279,
// Section 2.3.2), or a curve that is not one of NIST's (RFC 5480, Section 2.1.1.1). Such a certificate is unsupported,
// not malformed.
func unread(what string, der []byte, err error) *fault {
	if hasForeignKey(der) {
		return faultf(ClassUnsupported, "the key of %s is of a kind that is not supported: %v", what, err)
	}
	return faultf(ClassParse, "%s does not parse: %v", what, err)
}

func hasForeignKey(der []byte) bool {
	input := cryptobyte.String(der)
	var cert, tbs, key, algorithm cryptobyte.String
	var id, curve asn1.ObjectIdentifier
	sequence := cryptobyteasn1.SEQUENCE
	if !input.ReadASN1(&cert, sequence) || !cert.ReadASN1(&tbs, sequence) ||
		!tbs.SkipOptionalASN1(cryptobyteasn1.Tag(0).Constructed().ContextSpecific()) || // version
		!tbs.SkipASN1(cryptobyteasn1.INTEGER) || // serial number
		!tbs.SkipASN1(sequence) || !tbs.SkipASN1(sequence) || // algorithm, issuer
		!tbs.SkipASN1(sequence) || !tbs.SkipASN1(sequence) || // validity, subject
		!tbs.ReadASN1(&key, sequence) || !key.ReadASN1(&algorithm, sequence) || !algorithm.ReadASN1ObjectIdentifier(&id) {
		return false
	}
	switch {
	case id.Equal(oidDSA):
		return algorithm.Empty() || algorithm.PeekASN1Tag(cryptobyteasn1.NULL)
	case id.Equal(oidEC):
		named := algorithm.ReadASN1ObjectIdentifier(&curve)
		return !named || !slices.ContainsFunc(nistCurves, curve.Equal)
	}
	return false
}
