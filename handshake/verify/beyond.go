package verify

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"signet.example/signet/crl"
)

// maxRespelt is the largest number of certificates in a case whose names are compared with each other.
const maxRespelt = 512

// respell returns copies of certificates for a second attempt with crypto/x509, which compares names octet by octet and
// counts self-issued certificates in path lengths and name constraints. In the copies, equal names (RFC 5280, Section
// 7.1) have the same encoding, and path lengths and name constraints are left out: keepsPathLengths and constraintCheck
// enforce them afterwards. The signed octets are untouched.
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

// leaveOut removes the constraints that this package enforces itself from a copy made for crypto/x509.
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

// understood reports whether this package handles a critical extension that crypto/x509 does not: name constraints, and
// ocsp-nocheck (see Exempt), which need not be critical but sometimes is.
func understood(id asn1.ObjectIdentifier) bool {
	return id.Equal(oidNameConstraints) || id.Equal(oidNoCheck)
}

// originals replaces copies in chains with the certificates that they were copied from, found by their octets.
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

// keepsPathLengths checks path lengths (RFC 5280, Section 6.1.4 (l) and (m)): self-issued certificates do not count.
// The constraint of the trust anchor applies too, as in crypto/x509.
func keepsPathLengths(chain []*x509.Certificate) bool {
	below := 0 // CA certificates below this one that are not self-issued; the last certificate does not count
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
