package handshake

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"

	"signet.example/signet/pki"
)

var (
	oidNoRevAvail = asn1.ObjectIdentifier{2, 5, 29, 56}                  // RFC 9608, Section 2
	oidCRLPoints  = asn1.ObjectIdentifier{2, 5, 29, 31}                  // RFC 5280, Section 4.2.1.13
	oidFreshest   = asn1.ObjectIdentifier{2, 5, 29, 46}                  // RFC 5280, Section 4.2.1.15
	oidNoCheck    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5} // RFC 6960, Section 4.2.2.2.1
	oidTLSFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}    // RFC 7633, Section 6
	asn1Null      = []byte{asn1.TagNull, 0}
)

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

// exemption says what the certificate itself says about its status: exempt by design, or a contradiction, or nothing.
func exemption(c *x509.Certificate) (evidence Evidence, found bool, contradiction error) {
	if value, has := extension(c, oidNoRevAvail); has {
		if err := checkNoRevAvail(c, value); err != nil {
			return Evidence{}, false, &ContradictionError{Certificate: c, Err: err}
		}
		return Evidence{Source: SourceCertificate, Status: pki.StatusExempt, Cached: true}, true, nil
	}
	// ocsp-nocheck means something in a responder's certificate only; an authority that puts it elsewhere exempts nobody.
	if _, has := extension(c, oidNoCheck); has && !c.IsCA && slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return Evidence{Source: SourceCertificate, Status: pki.StatusExempt, Cached: true}, true, nil
	}
	return Evidence{}, false, nil
}

// checkNoRevAvail enforces RFC 9608, Section 4: never in a CA certificate, never together with a pointer to status.
func checkNoRevAvail(c *x509.Certificate, value []byte) error {
	_, points := extension(c, oidCRLPoints)
	_, freshest := extension(c, oidFreshest)
	switch {
	case !bytes.Equal(value, asn1Null):
		return errors.New("noRevAvail is not NULL")
	case c.IsCA:
		return errors.New("noRevAvail in a CA certificate")
	case points:
		return errors.New("noRevAvail together with CRL distribution points")
	case freshest:
		return errors.New("noRevAvail together with a freshest CRL")
	case len(c.OCSPServer) > 0:
		return errors.New("noRevAvail together with an OCSP responder")
	}
	return nil
}

// mustStaple reports whether the certificate demands a stapled status (RFC 7633). A feature extension that does not
// parse demands it: the authority meant something, and this is the strictest reading.
func mustStaple(c *x509.Certificate) bool {
	value, has := extension(c, oidTLSFeature)
	if !has {
		return false
	}
	var features []int
	rest, err := asn1.Unmarshal(value, &features)
	return err != nil || len(rest) > 0 || slices.Contains(features, statusRequest)
}
