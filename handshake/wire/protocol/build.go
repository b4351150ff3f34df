package protocol

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Offer describes a ClientHello. It has no key shares, as RFC 8446, Section 4.2.8 allows: a server of TLS 1.3 then answers
// with a HelloRetryRequest, which names suite and group all the same.
type Offer struct {
	Version    Version // the only one that is offered
	ServerName string  // empty: none is sent
	Suites     []Suite
	Groups     []Group
	Random     [32]byte
}

// offeredSchemes cover every certificate in use.
var offeredSchemes = []Scheme{0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201}

// Record returns the offer as one record, ready to be sent.
func (o Offer) Record() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(RecordHandshake)
	b.AddUint16(tls.VersionTLS10) // RFC 8446, Section 5.1: for old servers' sake
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint8(MsgClientHello)
		b.AddUint24LengthPrefixed(o.hello)
	})
	record, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("make ClientHello: %w", err)
	}
	return record, nil
}

func (o Offer) hello(b *cryptobyte.Builder) {
	b.AddUint16(uint16(min(o.Version, tls.VersionTLS12)))
	b.AddBytes(o.Random[:])
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) {
		if o.Version == tls.VersionTLS13 {
			b.AddBytes(o.Random[:]) // RFC 8446, Appendix D.4: some middleboxes want to see one
		}
	})
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { addUint16s(b, o.Suites) })
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint8(0) })
	b.AddUint16LengthPrefixed(o.extensions)
}

func (o Offer) extensions(b *cryptobyte.Builder) {
	extension := func(id uint16, body cryptobyte.BuilderContinuation) {
		b.AddUint16(id)
		b.AddUint16LengthPrefixed(body)
	}
	if o.ServerName != "" {
		extension(extServerName, func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				b.AddUint8(0)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(o.ServerName)) })
			})
		})
	}
	if len(o.Groups) > 0 {
		extension(extSupportedGroups, func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { addUint16s(b, o.Groups) })
		})
		extension(11, func(b *cryptobyte.Builder) { b.AddBytes([]byte{1, 0}) }) // uncompressed points
	}
	if o.Version >= tls.VersionTLS12 {
		extension(extSignatureAlgorithms, func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { addUint16s(b, offeredSchemes) })
		})
	}
	if o.Version < tls.VersionTLS13 {
		extension(extMasterSecret, func(*cryptobyte.Builder) {})
		extension(0xff01, func(b *cryptobyte.Builder) { b.AddUint8(0) }) // renegotiation_info: some servers insist
		return
	}
	extension(extSupportedVersions, func(b *cryptobyte.Builder) {
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(uint16(o.Version)) })
	})
	extension(extKeyShare, func(b *cryptobyte.Builder) { b.AddUint16(0) })
}

func addUint16s[T ~uint16](b *cryptobyte.Builder, list []T) {
	for _, v := range list {
		b.AddUint16(uint16(v))
	}
}

// Suites returns every suite that has a name here and can be negotiated in a version, the strongest class first.
func Suites(version Version) []Suite {
	var list []Suite
	for s := range foreignSuites {
		list = append(list, s)
	}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		list = append(list, Suite(s.ID))
	}
	list = slices.DeleteFunc(list, func(s Suite) bool {
		return s.Signals() || (s.KeyExchange() == "TLS 1.3") != (version == tls.VersionTLS13) || version < tls.VersionTLS12 && s.demandsTLS12()
	})
	slices.SortFunc(list, func(a, b Suite) int { return cmp.Or(cmp.Compare(b.Strength(), a.Strength()), cmp.Compare(a, b)) })
	return slices.Compact(list)
}

// demandsTLS12 reports whether a suite was defined for TLS 1.2, because it has authenticated encryption or a hash other
// than SHA-1.
func (s Suite) demandsTLS12() bool {
	return s.NonceLength() > 0 || s.MACLength() > 20 || s.MACLength() == 0 && s.Strength() > Legacy
}

// Groups returns the groups that servers of TLS 1.3 negotiate, post-quantum ones first.
func Groups() []Group {
	return []Group{0x11ec, 0x11eb, 0x11ed, 0x6399, 29, 23, 24, 25, 30, 256, 257, 258, 259, 260}
}
