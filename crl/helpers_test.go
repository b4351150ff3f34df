package crl_test

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/crl"
)

func pemCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// ecdsaWithSHA256 is the algorithm of every list made by strange.
var ecdsaWithSHA256 = []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}

// strange describes a list that no decent library would write, with another tool than the package under test.
type strange struct {
	version    int // as encoded; -1: absent
	issuer     []byte
	this, next time.Time // next zero: absent
	entries    []strangeEntry
	early      bool // write thisUpdate as GeneralizedTime
	always     bool // write revokedCertificates even if empty
	extensions []extension
	signedAs   []byte // algorithm of signature, if not ecdsaWithSHA256
	algorithm  []byte // of signatureAlgorithm, if not that of the signature
	tail       []byte // after the extensions
	signer     crypto.Signer
}

type strangeEntry struct {
	serial     []byte
	extensions []extension
}

type extension struct {
	oid      asn1.ObjectIdentifier
	critical bool
	value    []byte
}

func (s strange) der(t testing.TB) []byte {
	t.Helper()
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if s.version >= 0 {
			b.AddASN1Int64(int64(s.version))
		}
		b.AddBytes([]byte(cmp.Or(string(s.signedAs), string(ecdsaWithSHA256))))
		b.AddBytes(s.issuer)
		if s.early {
			b.AddASN1GeneralizedTime(s.this)
		} else {
			b.AddASN1UTCTime(s.this)
		}
		if !s.next.IsZero() {
			b.AddASN1UTCTime(s.next)
		}
		if len(s.entries) > 0 || s.always {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, e := range s.entries {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(e.serial) })
						b.AddASN1UTCTime(s.this)
						addExtensions(b, e.extensions)
					})
				}
			})
		}
		if len(s.extensions) > 0 {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { addExtensions(b, s.extensions) })
		}
		b.AddBytes(s.tail)
	})
	tbs, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(tbs)
	signature, err := s.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	algorithm := s.algorithm
	if algorithm == nil {
		algorithm = ecdsaWithSHA256
	}
	var whole cryptobyte.Builder
	whole.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(signature)
	})
	return whole.BytesOrPanic()
}

func addExtensions(b *cryptobyte.Builder, extensions []extension) {
	if len(extensions) == 0 {
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, e := range extensions {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(e.oid)
				if e.critical {
					b.AddASN1Boolean(true)
				}
				b.AddASN1OctetString(e.value)
			})
		}
	})
}

// The extensions that tests put into lists.
func numberExtension(n int64) extension {
	return extension{oid: asn1.ObjectIdentifier{2, 5, 29, 20}, value: integer(n)}
}

func deltaExtension(base int64) extension {
	return extension{asn1.ObjectIdentifier{2, 5, 29, 27}, true, integer(base)}
}

func idpExtension(fields ...[]byte) extension {
	return extension{asn1.ObjectIdentifier{2, 5, 29, 28}, true, tlv(0x30, fields...)}
}

func reasonExtension(code byte) extension {
	return extension{oid: asn1.ObjectIdentifier{2, 5, 29, 21}, value: []byte{0x0a, 1, code}}
}

func invalidityExtension(at time.Time) extension {
	var b cryptobyte.Builder
	b.AddASN1GeneralizedTime(at)
	return extension{oid: asn1.ObjectIdentifier{2, 5, 29, 24}, value: b.BytesOrPanic()}
}

func certificateIssuerExtension(names ...[]byte) extension {
	var general []byte
	for _, name := range names {
		general = append(general, tlv(0xa4, name)...)
	}
	return extension{asn1.ObjectIdentifier{2, 5, 29, 29}, true, tlv(0x30, general)}
}

func unknownExtension(critical bool) extension {
	return extension{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, critical, []byte{5, 0}}
}

func integer(n int64) []byte {
	var b cryptobyte.Builder
	b.AddASN1Int64(n)
	return b.BytesOrPanic()
}

// leaving describes a list whose records leave so many octets of each of the first two chunks that the reader keeps them in (see index), 15 at
// most, and one entry more. A record has 10 octets before its serial if its issuer is kept, and 15 if its invalidity date is too.
func leaving(ca authority, left int) strange {
	const longest = 15 + 255
	s := strange{version: 1, issuer: ca.cert.RawSubject, this: now, next: now.AddDate(0, 0, 1), signer: ca.key,
		extensions: []extension{numberExtension(1), idpExtension(indirect)}}
	add := func(size int, extensions ...extension) {
		serial := bytes.Repeat([]byte{1}, size)
		serial[0], serial[1] = 0x41+byte(len(s.entries)>>8), byte(len(s.entries))
		s.entries = append(s.entries, strangeEntry{serial: serial, extensions: extensions})
	}
	for _, chunk := range []int{4 << 10, 64 << 10} {
		for room := chunk - longest; room > 0; { // as long as it is not less than longest, the chunk is not full
			size := min(room, 10+255)
			if rest := room - size; 0 < rest && rest < 10+2 {
				size -= 10 + 2
			}
			add(size - 10)
			room -= size
		}
		add(longest-left-15, invalidityExtension(now))
	}
	add(20)
	s.entries[0].extensions = []extension{certificateIssuerExtension(s.issuer)}
	return s
}

// tlv encodes one element.
func tlv(tag byte, content ...[]byte) []byte {
	var all []byte
	for _, c := range content {
		all = append(all, c...)
	}
	switch n := len(all); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, all...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, all...)
	case n >= 1<<16:
		return append([]byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}, all...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, all...)
	}
}

// Fields of distribution points and issuing distribution points.
func pointName(names ...[]byte) []byte { return tlv(0xa0, tlv(0xa0, names...)) }
func uri(text string) []byte           { return tlv(0x86, []byte(text)) }
func directory(name []byte) []byte     { return tlv(0xa4, name) }
func relative(value string) []byte {
	return tlv(0xa0, tlv(0xa1, tlv(0x30, []byte{6, 3, 0x55, 4, 3}, tlv(0x0c, []byte(value)))))
}

var (
	onlyUsers      = []byte{0x81, 1, 0xff}
	onlyCAs        = []byte{0x82, 1, 0xff}
	indirect       = []byte{0x84, 1, 0xff}
	onlyAttributes = []byte{0x85, 1, 0xff}
)

// onlyReasons is onlySomeReasons [3] of a list; pointReasons is reasons [1] of a distribution point.
func onlyReasons(flags crl.ReasonFlags) []byte  { return tlv(0x83, bitString(flags)) }
func pointReasons(flags crl.ReasonFlags) []byte { return tlv(0x81, bitString(flags)) }

func bitString(flags crl.ReasonFlags) []byte {
	b := []byte{7, 0, 0}
	for i := range 9 {
		if flags&(1<<i) != 0 {
			b[1+i/8] |= 0x80 >> (i % 8)
		}
	}
	return b
}

func cRLIssuer(name []byte) []byte { return tlv(0xa2, directory(name)) }

// points makes the value of CRLDistributionPoints; each argument is the fields of one point.
func points(each ...[]byte) []byte {
	var all [][]byte
	for _, p := range each {
		all = append(all, tlv(0x30, p))
	}
	return tlv(0x30, all...)
}
