package verify

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"signet.example/signet/crl"
)

// maxRespelt bounds the certificates of a case whose names are compared with each other.
const maxRespelt = 512

// respell returns copies of certificates for a second attempt of crypto/x509, which compares names by their octets and counts
// self-issued certificates in path lengths and name constraints. In the copies, names that are the same (RFC 5280, Section 7.1) are spelt the same, and
// path lengths and name constraints are left out: keepsPathLengths and constraintCheck ask for them afterwards. What is signed is untouched.
func respell(lists ...[]*x509.Certificate) [][]*x509.Certificate {
	var spellings [][]byte
	spelt := func(name []byte) []byte {
		for _, known := range spellings {
			if bytes.Equal(known, name) || crl.SameName(known, name) {
				return known
			}
		}
		spellings = append(spellings, name)
		return name
	}
	copies := make([][]*x509.Certificate, len(lists))
	for i, list := range lists {
		for _, c := range list {
			own := *c
			own.RawSubject, own.RawIssuer = spelt(c.RawSubject), spelt(c.RawIssuer)
			leaveOut(&own)
			copies[i] = append(copies[i], &own)
		}
	}
	return copies
}

// leaveOut takes what is asked for here, by rules of ours, out of a copy for crypto/x509.
func leaveOut(own *x509.Certificate) {
	own.MaxPathLen, own.MaxPathLenZero = -1, false
	if value, constrained := extension(own, oidNameConstraints); constrained {
		if _, ok := parseConstraints(value); !ok {
			return
		}
		own.PermittedDNSDomains, own.PermittedIPRanges, own.PermittedEmailAddresses, own.PermittedURIDomains = nil, nil, nil, nil
		own.ExcludedDNSDomains, own.ExcludedIPRanges, own.ExcludedEmailAddresses, own.ExcludedURIDomains = nil, nil, nil, nil
		own.Extensions = slices.DeleteFunc(slices.Clone(own.Extensions), func(e pkix.Extension) bool { return e.Id.Equal(oidNameConstraints) })
	}
	own.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(own.UnhandledCriticalExtensions), understood)
}

// understood reports whether a critical extension that crypto/x509 does not handle is handled here: name constraints, and
// ocsp-nocheck (see Exempt), which need not be critical and sometimes is.
func understood(id asn1.ObjectIdentifier) bool {
	return id.Equal(oidNameConstraints) || id.Equal(oidNoCheck)
}

// originals replaces copies in chains by the certificates they were made of, which are found by their octets.
func originals(chains [][]*x509.Certificate, lists ...[]*x509.Certificate) {
	known := make(map[string]*x509.Certificate)
	for _, list := range lists {
		for _, c := range list {
			known[string(c.Raw)] = c
		}
	}
	for _, chain := range chains {
		for i, c := range chain {
			chain[i] = known[string(c.Raw)]
		}
	}
}

// keepsPathLengths is RFC 5280, Section 6.1.4 (l) and (m): self-issued certificates do not count. The constraint of the trust
// anchor holds too, as crypto/x509 has it.
func keepsPathLengths(chain []*x509.Certificate) bool {
	below := 0 // CA certificates below, that are not self-issued, but the last certificate
	for i, c := range chain {
		if i == 0 {
			continue
		}
		if !MayIssue(c, below) {
			return false
		}
		if !selfIssued(c) {
			below++
		}
	}
	return true
}
