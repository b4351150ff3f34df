package rpc

import (
	"encoding/base64"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// identifiersTo returns the names in a certificate made by Signet. It does not parse all of it, because it runs for
// every certificate issued and listed. If the DER is not a certificate, there are no names; the DER in the response is
// what counts.
func identifiersTo(der []byte) []string {
	input := cryptobyte.String(der)
	var certificate, tbs cryptobyte.String
	if !input.ReadASN1(&certificate, asn1.SEQUENCE) || !certificate.ReadASN1(&tbs, asn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) || // version
		// Serial, signature, issuer.
		!tbs.SkipASN1(asn1.INTEGER) || !tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) ||
		// Validity, subject, key.
		!tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) ||
		// Unique identifiers.
		!tbs.SkipOptionalASN1(asn1.Tag(1).ContextSpecific()) || !tbs.SkipOptionalASN1(asn1.Tag(2).ContextSpecific()) {
		return nil
	}
	var wrapped, extensions cryptobyte.String
	if !tbs.ReadASN1(&wrapped, asn1.Tag(3).ContextSpecific().Constructed()) || !wrapped.ReadASN1(&extensions, asn1.SEQUENCE) {
		return nil
	}
	for !extensions.Empty() {
		var extension, oid, value cryptobyte.String
		if !extensions.ReadASN1(&extension, asn1.SEQUENCE) || !extension.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
			!extension.SkipOptionalASN1(asn1.BOOLEAN) || !extension.ReadASN1(&value, asn1.OCTET_STRING) {
			return nil
		}
		if string(oid) == "\x55\x1d\x11" { // 2.5.29.17, subjectAltName
			return generalNames(value)
		}
	}
	return nil
}

// generalNames returns the names of the types that Signet puts into certificates (RFC 5280, Section 4.2.1.6).
func generalNames(value cryptobyte.String) []string {
	var list cryptobyte.String
	if !value.ReadASN1(&list, asn1.SEQUENCE) {
		return nil
	}
	var names []string
	for !list.Empty() {
		var name cryptobyte.String
		var tag asn1.Tag
		if !list.ReadAnyASN1(&name, &tag) {
			return nil
		}
		switch tag {
		case asn1.Tag(1).ContextSpecific():
			names = append(names, "email:"+string(name))
		case asn1.Tag(2).ContextSpecific():
			names = append(names, "dns:"+string(name))
		case asn1.Tag(6).ContextSpecific():
			names = append(names, "uri:"+string(name))
		case asn1.Tag(7).ContextSpecific():
			if addr, ok := netip.AddrFromSlice(name); ok {
				names = append(names, "ip:"+addr.String())
			}
		}
	}
	return names
}

// pemTo returns a certificate and the certificates above it as PEM, in the order that TLS servers need. It writes what
// encoding/pem would, in a fraction of the time.
func pemTo(leaf []byte, chain [][]byte) string {
	size := 0
	for _, der := range chain {
		size += len(der)
	}
	text := appendPEM(make([]byte, 0, (size+len(leaf))*3/2+128*(len(chain)+1)), leaf)
	for _, der := range chain {
		text = appendPEM(text, der)
	}
	return string(text)
}

func appendPEM(text, der []byte) []byte {
	const line = 48 // octets, which make 64 characters (RFC 7468, Section 2)
	text = append(text, "-----BEGIN CERTIFICATE-----\n"...)
	for len(der) > 0 {
		n := min(line, len(der))
		text = append(base64.StdEncoding.AppendEncode(text, der[:n]), '\n')
		der = der[n:]
	}
	return append(text, "-----END CERTIFICATE-----\n"...)
}
