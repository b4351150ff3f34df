package verify

import (
	"crypto/x509"

	"signet.example/signet/crl"
)

// ParseCertificate is x509.ParseCertificate for certificates of others: it also takes those whose CRL distribution
// points have a nameRelativeToCRLIssuer, which crypto/x509 refuses to read.
func ParseCertificate(der []byte) (*x509.Certificate, error) { return crl.ParseCertificate(der) }
