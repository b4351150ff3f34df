package pki

import (
	"crypto/x509"
	"iter"
	"net"
	"net/url"
	"strings"
)

// CertificateNames returns the names of the types of Identifier in a certificate's subjectAltName, as they are encoded:
// NewIdentifier makes a canonical Identifier of each.
func CertificateNames(c *x509.Certificate) iter.Seq2[IdentifierType, string] {
	return altNames(c.DNSNames, c.IPAddresses, c.EmailAddresses, c.URIs)
}

// RequestNames is CertificateNames for a certification request.
func RequestNames(r *x509.CertificateRequest) iter.Seq2[IdentifierType, string] {
	return altNames(r.DNSNames, r.IPAddresses, r.EmailAddresses, r.URIs)
}

func altNames(dns []string, ips []net.IP, emails []string, uris []*url.URL) iter.Seq2[IdentifierType, string] {
	return func(yield func(IdentifierType, string) bool) {
		for _, name := range dns {
			if !yield(DNS, name) {
				return
			}
		}
		for _, ip := range ips {
			if !yield(IP, ip.String()) {
				return
			}
		}
		for _, address := range emails {
			if !yield(Email, address) {
				return
			}
		}
		for _, uri := range uris {
			if !yield(URI, uri.String()) {
				return
			}
		}
	}
}

// CommonNameOf returns the common name in a distinguished name written as in RFC 4514; empty if there is none.
func CommonNameOf(subject string) string {
	_, rest, found := strings.Cut(","+subject, ",CN=")
	if !found {
		return ""
	}
	var name strings.Builder
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\' && i+1 < len(rest):
			i++
			name.WriteByte(rest[i])
		case c == ',' || c == '+':
			return name.String()
		default:
			name.WriteByte(c)
		}
	}
	return name.String()
}
