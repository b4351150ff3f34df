package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// draft is the content of a certificate except what depends on its serial number. Its extensions come from the profile
// only. From the request come the key, the names and the parts of the subject that the profile takes.
type draft struct {
	profile   *profile.Profile
	issuer    *issuerKey
	subject   subject
	spki      []byte // DER SubjectPublicKeyInfo in our own encoding: one key, one hash
	keyBits   []byte // contents of its BIT STRING
	key       any
	keyHash   pki.KeyHash
	material  pki.KeyHash // pki.HashKeyMaterial
	keyID     []byte      // subjectKeyIdentifier
	names     []pki.Identifier
	notBefore time.Time
	notAfter  time.Time
	epoch     pki.Epoch
	copied    []pkix.Extension // from the CSR, those on the profile's allow-list
	fixed     *fixedCache      // shared by the drafts of an Authority; otherwise the draft's own
	serial    pki.Serial       // set once an index is taken
}

var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidCRLPoints        = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidPolicies         = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidPolicyMappings   = asn1.ObjectIdentifier{2, 5, 29, 33}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidPolicyRules      = asn1.ObjectIdentifier{2, 5, 29, 36} // policyConstraints
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidInhibitAny       = asn1.ObjectIdentifier{2, 5, 29, 54}
	oidNoRevAvail       = asn1.ObjectIdentifier{2, 5, 29, 56}
	oidAuthorityInfo    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidTLSFeature       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
	oidOCSPNoCheck      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	oidAccessOCSP       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidAccessIssuers    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
)

// encode returns the complete TBSCertificate (RFC 5280, Section 4.1) for a serial at a position. baseURL is the
// range's, so that all certificates of a shard name it alike.
func (d *draft) encode(serial pki.Serial, position pki.Position, baseURL string) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024))
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // v3
		b.AddASN1(cryptobyte_asn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(serial[:]) })                            // 0x41...: positive, 20 octets
		b.AddBytes(d.issuer.algorithm.der)
		b.AddBytes(d.issuer.Subject)
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, d.notBefore)
			addTime(b, d.notAfter)
		})
		b.AddBytes(d.subject.der)
		b.AddBytes(d.spki)
		b.AddASN1(cryptobyte_asn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) { d.addExtensions(b, position, baseURL) })
		})
	})
	return b.Bytes()
}

// addTime follows RFC 5280, Section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050.
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
		return
	}
	b.AddASN1GeneralizedTime(t)
}

func (d *draft) addExtensions(b *cryptobyte.Builder, position pki.Position, baseURL string) {
	fixed, err := d.fixed.of(d, position, baseURL)
	if err != nil {
		b.SetError(err)
		return
	}
	b.AddBytes(fixed.beforeKeyID)
	addExtension(b, oidSubjectKeyID, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(d.keyID) })
	b.AddBytes(fixed.afterKeyID)
	if len(d.names) > 0 {
		// RFC 5280, Section 4.2.1.6: critical if the subject is empty.
		addExtension(b, oidSubjectAltName, len(d.subject.der) == 2, func(b *cryptobyte.Builder) { addNames(b, d.names) })
	}
	b.AddBytes(fixed.afterNames)
	for _, extension := range d.copied {
		addExtension(b, extension.Id, extension.Critical, func(b *cryptobyte.Builder) { b.AddBytes(extension.Value) })
	}
}

// fixedExtensions holds the encoded extensions that certificates of one profile, issuer, kind of key and shard have in
// common, in three pieces. The extensions that differ stand between them.
type fixedExtensions struct{ beforeKeyID, afterKeyID, afterNames []byte }

// fixedCache caches fixedExtensions, which take most of the time of encoding. The zero value is ready to use. It is
// safe for concurrent use.
type fixedCache struct {
	mu   sync.Mutex
	kept map[fixedKey]fixedExtensions
}

// fixedKey is everything that fixedExtensions depend on.
type fixedKey struct {
	profile *profile.Profile // immutable
	issuer  *issuerKey       // immutable in what is read here
	usage   profile.KeyUsage
	shard   pki.Shard
	baseURL string
}

// maxFixed bounds a cache, in entries. Only a few shards are in use at a time.
const maxFixed = 256

func (c *fixedCache) of(d *draft, position pki.Position, baseURL string) (fixedExtensions, error) {
	key := fixedKey{d.profile, d.issuer, usageFor(d.profile.KeyUsage, d.key), position.Shard(), baseURL}
	c.mu.Lock()
	fixed, ok := c.kept[key]
	c.mu.Unlock()
	if ok {
		return fixed, nil
	}
	fixed, err := d.encodeFixed(key.usage, position, baseURL)
	if err != nil {
		return fixed, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil || len(c.kept) >= maxFixed {
		c.kept = make(map[fixedKey]fixedExtensions)
	}
	c.kept[key] = fixed
	return fixed, nil
}

func (d *draft) encodeFixed(usage profile.KeyUsage, position pki.Position, baseURL string) (fixed fixedExtensions, err error) {
	for _, piece := range []struct {
		dst *[]byte
		add func(*cryptobyte.Builder)
	}{
		{&fixed.beforeKeyID, d.addIssuerKeyID},
		{&fixed.afterKeyID, func(b *cryptobyte.Builder) { d.addUsage(b, usage) }},
		{&fixed.afterNames, func(b *cryptobyte.Builder) {
			d.addPolicies(b)
			d.addStatus(b, position, baseURL)
		}},
	} {
		b := cryptobyte.NewBuilder(nil)
		piece.add(b)
		if *piece.dst, err = b.Bytes(); err != nil {
			return fixed, err
		}
	}
	return fixed, nil
}

func (d *draft) addIssuerKeyID(b *cryptobyte.Builder) {
	addExtension(b, oidAuthorityKeyID, false, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(d.issuer.keyID) })
		})
	})
}

func (d *draft) addUsage(b *cryptobyte.Builder, usage profile.KeyUsage) {
	p := d.profile
	addExtension(b, oidKeyUsage, true, func(b *cryptobyte.Builder) { addKeyUsage(b, usage) })
	if p.CA != nil {
		d.addCA(b)
	} else if len(p.ExtKeyUsage) > 0 {
		addExtension(b, oidExtKeyUsage, p.TimeStamps(), func(b *cryptobyte.Builder) { addOIDs(b, p.ExtKeyUsage) })
	}
}

func (d *draft) addPolicies(b *cryptobyte.Builder) {
	if len(d.profile.Policies) > 0 && d.profile.CA == nil {
		addExtension(b, oidPolicies, false, func(b *cryptobyte.Builder) { addPolicyOIDs(b, d.profile.Policies) })
	}
}

func addPolicyOIDs(b *cryptobyte.Builder, policies []asn1.ObjectIdentifier) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, policy := range policies {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(policy) })
		}
	})
}

func (d *draft) addCA(b *cryptobyte.Builder) {
	extensions, err := caExtensions(d.profile.CA)
	if err != nil {
		b.SetError(err)
		return
	}
	for _, e := range extensions {
		addExtension(b, e.Id, e.Critical, func(b *cryptobyte.Builder) { b.AddBytes(e.Value) })
	}
}

// addStatus adds the extensions that tell verifiers where to ask for the status.
func (d *draft) addStatus(b *cryptobyte.Builder, position pki.Position, baseURL string) {
	status, id := d.profile.Status, d.issuer.ID.String()
	if list := crlURL(status.CRL, baseURL, d.issuer.ID, position); list != "" {
		addExtension(b, oidCRLPoints, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cryptobyte_asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
						b.AddASN1(cryptobyte_asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { addURI(b, list) })
					})
				})
			})
		})
	}
	if status.OCSP || status.IssuerURL {
		addExtension(b, oidAuthorityInfo, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				if status.OCSP {
					addAccess(b, oidAccessOCSP, baseURL+"/ocsp/"+id)
				}
				if status.IssuerURL {
					addAccess(b, oidAccessIssuers, issuerURL(baseURL, d.issuer.ID))
				}
			})
		})
	}
	if status.NoRevAvail { // RFC 9608, Section 2
		addExtension(b, oidNoRevAvail, false, func(b *cryptobyte.Builder) { b.AddASN1NULL() })
	}
	if status.NoCheck { // RFC 6960, Section 4.2.2.2.1
		addExtension(b, oidOCSPNoCheck, false, func(b *cryptobyte.Builder) { b.AddASN1NULL() })
	}
	if status.MustStaple { // RFC 7633: status_request is TLS extension 5
		addExtension(b, oidTLSFeature, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(5) })
		})
	}
}

func issuerURL(baseURL string, issuer pki.IssuerID) string {
	return baseURL + "/issuers/" + issuer.String() + ".cer"
}

func crlURL(pointer profile.CRLPointer, baseURL string, issuer pki.IssuerID, position pki.Position) string {
	switch pointer {
	case profile.CRLShard:
		return baseURL + "/crl/" + issuer.String() + "/" + position.Shard().String() + ".crl"
	case profile.CRLComplete:
		return baseURL + "/crl/" + issuer.String() + ".crl"
	}
	return ""
}

func addExtension(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, critical bool, value func(*cryptobyte.Builder)) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(cryptobyte_asn1.OCTET_STRING, func(b *cryptobyte.Builder) { value(b) })
	})
}

func addURI(b *cryptobyte.Builder, uri string) {
	b.AddASN1(cryptobyte_asn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(uri)) })
}

func addAccess(b *cryptobyte.Builder, method asn1.ObjectIdentifier, uri string) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(method)
		addURI(b, uri)
	})
}

func addOIDs(b *cryptobyte.Builder, oids []asn1.ObjectIdentifier) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, oid := range oids {
			b.AddASN1ObjectIdentifier(oid)
		}
	})
}

// addKeyUsage writes a named bit string: trailing zero bits are left out (X.690, Section 11.2.2).
func addKeyUsage(b *cryptobyte.Builder, usage profile.KeyUsage) {
	var octets [2]byte
	last := 0
	for bit := range 9 {
		if usage&(1<<bit) != 0 {
			octets[bit/8] |= 0x80 >> (bit % 8)
			last = bit
		}
	}
	b.AddASN1(cryptobyte_asn1.BIT_STRING, func(b *cryptobyte.Builder) {
		b.AddUint8(uint8(7 - last%8))
		b.AddBytes(octets[:last/8+1])
	})
}

func addNames(b *cryptobyte.Builder, names []pki.Identifier) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, name := range names {
			switch name.Type {
			case pki.Email:
				addGeneral(b, 1, []byte(name.Value))
			case pki.DNS:
				addGeneral(b, 2, []byte(name.Value))
			case pki.URI:
				addGeneral(b, 6, []byte(name.Value))
			case pki.IP:
				addr, err := netip.ParseAddr(name.Value)
				if err != nil {
					b.SetError(err)
				}
				addGeneral(b, 7, addr.AsSlice())
			}
		}
	})
}

func addGeneral(b *cryptobyte.Builder, tag uint8, value []byte) {
	b.AddASN1(cryptobyte_asn1.Tag(tag).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(value) })
}

func addSubtrees(b *cryptobyte.Builder, side uint8, s profile.Subtrees) {
	if s.Empty() {
		return
	}
	subtree := func(b *cryptobyte.Builder, tag uint8, value []byte) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) { addGeneral(b, tag, value) })
	}
	b.AddASN1(cryptobyte_asn1.Tag(side).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		for _, name := range s.Email {
			subtree(b, 1, []byte(name))
		}
		for _, name := range s.DNS {
			subtree(b, 2, []byte(name))
		}
		for _, name := range s.URI {
			subtree(b, 6, []byte(name))
		}
		for _, prefix := range s.IP {
			subtree(b, 7, append(prefix.Addr().AsSlice(), maskOf(prefix)...))
		}
	})
}

func maskOf(prefix netip.Prefix) []byte {
	mask := make([]byte, prefix.Addr().BitLen()/8)
	for bit := range prefix.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return mask
}

// keyID returns the key identifier by method 1 of RFC 7093, Section 2: the leftmost 160 bits of the SHA-256 of the
// key's BIT STRING.
func keyID(keyBits []byte) []byte {
	hash := sha256.Sum256(keyBits)
	return hash[:20]
}

// p256Head is how the DER SubjectPublicKeyInfo of every key on P-256 begins (RFC 5480, Section 2); the point follows,
// uncompressed.
const p256Head = "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04"

// ownSPKI is splitSPKI for a key that crypto/x509 parsed from raw. It is faster for the most frequent kind of key,
// which has only one encoding: a constant head and the point.
func ownSPKI(raw []byte, key any) (spki, bits []byte, err error) {
	if len(raw) == len(p256Head)+64 && strings.HasPrefix(string(raw[:len(p256Head)]), p256Head) {
		return raw, raw[len(p256Head)-1:], nil
	}
	return splitSPKI(key)
}

// splitSPKI returns the encoding of a public key and the contents of its BIT STRING.
func splitSPKI(key any) (spki, bits []byte, err error) {
	spki, err = x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, nil, err
	}
	input, content, bitString := cryptobyte.String(spki), cryptobyte.String(nil), asn1.BitString{}
	if !input.ReadASN1(&content, cryptobyte_asn1.SEQUENCE) || !content.SkipASN1(cryptobyte_asn1.SEQUENCE) || !content.ReadASN1BitString(&bitString) {
		return nil, nil, asn1.StructuralError{Msg: "public key"}
	}
	return spki, bitString.Bytes, nil
}
