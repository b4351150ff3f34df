package handshake

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"signet.example/signet/handshake/verify"
	"signet.example/signet/pki"
)

var oidTLSFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24} // RFC 7633, Section 6

// statusRequest is the TLS extension whose presence in a TLS feature extension makes a certificate must-staple.
const statusRequest = 5

func extension(c *x509.Certificate, id asn1.ObjectIdentifier) ([]byte, bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return e.Value, true
		}
	}
	return nil, false
}

// exemption returns what the certificate itself states about its status: exempt by design, a contradiction, or nothing.
func exemption(c *x509.Certificate) (evidence Evidence, found bool, contradiction error) {
	exempt, err := verify.Exempt(c)
	if err != nil {
		return Evidence{}, false, &ContradictionError{Certificate: c, Err: err}
	}
	return Evidence{Source: SourceCertificate, Status: pki.StatusExempt, Cached: true}, exempt, nil
}

// mustStaple reports whether the certificate demands a stapled status (RFC 7633). A TLS feature extension that does not
// parse counts as demanding it, which is the strictest reading.
func mustStaple(c *x509.Certificate) bool {
	value, has := extension(c, oidTLSFeature)
	if !has {
		return false
	}
	var features []int
	rest, err := asn1.Unmarshal(value, &features)
	return err != nil || len(rest) > 0 || slices.Contains(features, statusRequest)
}
