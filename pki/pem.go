package pki

import "encoding/pem"

// CertificatesInPEM returns the DER of every CERTIFICATE block of a PEM text (RFC 7468, Section 5), in its order. Nothing is parsed; there may be none.
func CertificatesInPEM(text []byte) (der [][]byte) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			der = append(der, block.Bytes)
		}
	}
	return der
}
