package protocol

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// CertificateMessage is a Certificate message of either version.
type CertificateMessage struct {
	Certs   []*x509.Certificate // those that crypto/x509 can read
	Count   int                 // all of them
	Staples []bool              // TLS 1.3: per certificate, whether an OCSP response came with it
}

// ParseCertificate reads the body of a Certificate message.
func ParseCertificate(version Version, body []byte) (*CertificateMessage, error) {
	if version == tls.VersionTLS13 {
		return parseCertificate13(body)
	}
	return parseCertificate12(body)
}

// parseCertificate12 reads a Certificate message of TLS 1.2 (RFC 5246, Section 7.4.2).
func parseCertificate12(body []byte) (*CertificateMessage, error) {
	var (
		m    CertificateMessage
		s    = cryptobyte.String(body)
		list cryptobyte.String
	)
	if !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return nil, fmt.Errorf("read Certificate: %w", errTruncated)
	}
	for !list.Empty() {
		var der cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) {
			return nil, fmt.Errorf("read Certificate: %w", errTruncated)
		}
		m.add(der, false)
	}
	return &m, nil
}

// parseCertificate13 reads a Certificate message of TLS 1.3, where each certificate has extensions of its own (RFC 8446,
// Section 4.4.2).
func parseCertificate13(body []byte) (*CertificateMessage, error) {
	var (
		m             CertificateMessage
		s             = cryptobyte.String(body)
		context, list cryptobyte.String
	)
	if !s.ReadUint8LengthPrefixed(&context) || !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return nil, fmt.Errorf("read Certificate: %w", errTruncated)
	}
	for !list.Empty() {
		var der, block cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) || !list.ReadUint16LengthPrefixed(&block) {
			return nil, fmt.Errorf("read Certificate: %w", errTruncated)
		}
		stapled := false
		for !block.Empty() {
			var (
				ext  uint16
				data cryptobyte.String
			)
			if !block.ReadUint16(&ext) || !block.ReadUint16LengthPrefixed(&data) {
				return nil, fmt.Errorf("read Certificate: extensions: %w", errTruncated)
			}
			stapled = stapled || ext == extStatusRequest
		}
		m.add(der, stapled)
	}
	return &m, nil
}

// add adds a certificate. One that crypto/x509 cannot read is only counted: crypto/tls refuses it.
func (m *CertificateMessage) add(der []byte, stapled bool) {
	m.Count++
	m.Staples = append(m.Staples, stapled)
	if cert, err := x509.ParseCertificate(der); err == nil {
		m.Certs = append(m.Certs, cert)
	}
}

// CertificateRequest is a server's request for a client certificate.
type CertificateRequest struct {
	Schemes     []Scheme
	Authorities []string
	Status      bool // it wants a stapled OCSP response from the client
}

// ParseCertificateRequest reads the body of a CertificateRequest message.
func ParseCertificateRequest(version Version, body []byte) (*CertificateRequest, error) {
	if version == tls.VersionTLS13 {
		return parseCertificateRequest13(body)
	}
	return parseCertificateRequest12(body)
}

// parseCertificateRequest12 reads a CertificateRequest of TLS 1.2 (RFC 5246, Section 7.4.4).
func parseCertificateRequest12(body []byte) (*CertificateRequest, error) {
	var (
		r                    CertificateRequest
		s                    = cryptobyte.String(body)
		types, schemes, list cryptobyte.String
	)
	if !s.ReadUint8LengthPrefixed(&types) || !s.ReadUint16LengthPrefixed(&schemes) || !readUint16s(schemes, &r.Schemes) ||
		!s.ReadUint16LengthPrefixed(&list) || !readNames(list, &r.Authorities) {
		return nil, fmt.Errorf("read CertificateRequest: %w", errTruncated)
	}
	return &r, nil
}

// parseCertificateRequest13 reads a CertificateRequest of TLS 1.3 (RFC 8446, Section 4.3.2).
func parseCertificateRequest13(body []byte) (*CertificateRequest, error) {
	var (
		r       CertificateRequest
		s       = cryptobyte.String(body)
		context cryptobyte.String
	)
	if !s.ReadUint8LengthPrefixed(&context) {
		return nil, fmt.Errorf("read CertificateRequest: %w", errTruncated)
	}
	err := eachExtension(s, func(ext uint16, data cryptobyte.String) bool {
		var list cryptobyte.String
		switch ext {
		case extSignatureAlgorithms:
			return data.ReadUint16LengthPrefixed(&list) && readUint16s(list, &r.Schemes)
		case extAuthorities:
			return data.ReadUint16LengthPrefixed(&list) && readNames(list, &r.Authorities)
		case extStatusRequest:
			r.Status = true
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read CertificateRequest: %w", err)
	}
	return &r, nil
}

func readNames(list cryptobyte.String, out *[]string) bool {
	for !list.Empty() {
		var der cryptobyte.String
		if !list.ReadUint16LengthPrefixed(&der) {
			return false
		}
		*out = append(*out, distinguishedName(der))
	}
	return true
}

func distinguishedName(der []byte) string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
		return "(a name that does not parse)"
	}
	return rdns.String()
}

// ServerKeyExchange is the server's half of an ephemeral key exchange of TLS 1.2, signed.
type ServerKeyExchange struct {
	Group  Group // zero for finite-field Diffie-Hellman, whose parameters are in the message
	Bits   int   // of the prime, for finite-field Diffie-Hellman
	Scheme Scheme
}

// ParseServerKeyExchange reads the message for a suite of the ECDHE or DHE family (RFC 8422, Section 5.4; RFC 5246,
// Section 7.4.3).
func ParseServerKeyExchange(suite Suite, body []byte) (*ServerKeyExchange, error) {
	var (
		k = ServerKeyExchange{}
		s = cryptobyte.String(body)
		v cryptobyte.String
	)
	switch suite.KeyExchange() {
	case "ECDHE":
		var kind uint8
		if !s.ReadUint8(&kind) || kind != 3 || !s.ReadUint16((*uint16)(&k.Group)) || !s.ReadUint8LengthPrefixed(&v) {
			return nil, fmt.Errorf("read ServerKeyExchange: %w", errTruncated)
		}
	case "DHE":
		var p cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&p) || !s.ReadUint16LengthPrefixed(&v) || !s.ReadUint16LengthPrefixed(&v) {
			return nil, fmt.Errorf("read ServerKeyExchange: %w", errTruncated)
		}
		k.Bits = 8 * len(p)
	default:
		return nil, fmt.Errorf("read ServerKeyExchange: %s has none", suite)
	}
	if !s.ReadUint16((*uint16)(&k.Scheme)) || !s.ReadUint16LengthPrefixed(&v) || !s.Empty() {
		return nil, fmt.Errorf("read ServerKeyExchange: signature: %w", errTruncated)
	}
	return &k, nil
}

// ParseCertificateVerify reads which algorithm signed the handshake (RFC 8446, Section 4.4.3; RFC 5246, Section 7.4.8).
func ParseCertificateVerify(body []byte) (Scheme, error) {
	var (
		scheme    uint16
		s         = cryptobyte.String(body)
		signature cryptobyte.String
	)
	if !s.ReadUint16(&scheme) || !s.ReadUint16LengthPrefixed(&signature) || !s.Empty() {
		return 0, fmt.Errorf("read CertificateVerify: %w", errTruncated)
	}
	return Scheme(scheme), nil
}
