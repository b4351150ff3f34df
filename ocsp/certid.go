package ocsp

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // CertID and byKey are defined over SHA-1 (RFC 6960, Section 4.1.1 and 4.2.1)
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// CertID names a certificate by hashes of its issuer's name and key and by its serial number (RFC 6960, Section
// 4.1.1).
type CertID struct {
	Hash      crypto.Hash // SHA-1, SHA-256, SHA-384 or SHA-512; zero for any other, which matches nothing
	Algorithm []byte      // content octets of the hash algorithm's object identifier
	NameHash  []byte      // hash of the issuer's DER name
	KeyHash   []byte      // hash of the issuer's key: the octets of its BIT STRING without tag, length and unused bits
	Serial    []byte      // content octets of the INTEGER, as received
}

// Equal reports whether both name the same certificate in the same hash algorithm. Parameters of the algorithm do not
// count, because encoders write NULL or nothing.
func (id CertID) Equal(other CertID) bool {
	return bytes.Equal(id.Algorithm, other.Algorithm) && bytes.Equal(id.NameHash, other.NameHash) &&
		bytes.Equal(id.KeyHash, other.KeyHash) && bytes.Equal(id.Serial, other.Serial)
}

// Issuer is the identity of an issuer in a CertID: its name and its key.
type Issuer struct {
	Name []byte // DER of the distinguished name
	Key  []byte // octets of the subjectPublicKey BIT STRING
}

// IssuerOf returns the name and key of an issuer's certificate.
func IssuerOf(cert *x509.Certificate) (Issuer, error) {
	key, err := keyBits(cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return Issuer{}, fmt.Errorf("issuer certificate: %w", err)
	}
	return Issuer{Name: cert.RawSubject, Key: key}, nil
}

// CertID returns the CertID of the certificate of this issuer whose serial number has these INTEGER content octets. It
// panics if the hash is not one of the four that CertID documents.
func (i Issuer) CertID(hash crypto.Hash, serial []byte) CertID {
	oid := oidOfHash(hash)
	if oid == nil {
		panic("ocsp: no CertID with hash " + hash.String())
	}
	return CertID{Hash: hash, Algorithm: oid, NameHash: sum(hash, i.Name), KeyHash: sum(hash, i.Key), Serial: serial}
}

// Matches reports whether id names a certificate of this issuer. Both hashes count, because a key may belong to two
// names and a name to two keys.
func (i Issuer) Matches(id CertID) bool {
	return id.Hash != 0 && bytes.Equal(id.NameHash, sum(id.Hash, i.Name)) && bytes.Equal(id.KeyHash, sum(id.Hash, i.Key))
}

// ResponderKey returns the key hash by which a responderID names this key: SHA-1 of the key, whatever hash the CertIDs
// use (RFC 6960, Section 4.2.1, KeyHash).
func (i Issuer) ResponderKey() []byte { return sum(crypto.SHA1, i.Key) }

// keyBits returns the octets of the BIT STRING of a SubjectPublicKeyInfo.
func keyBits(spki []byte) ([]byte, error) {
	input := cryptobyte.String(spki)
	var info cryptobyte.String
	var bits []byte
	if !input.ReadASN1(&info, asn1.SEQUENCE) || !info.SkipASN1(asn1.SEQUENCE) || !info.ReadASN1BitStringAsBytes(&bits) {
		return nil, errors.New("public key does not parse")
	}
	return bits, nil
}

func sum(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// Content octets of the hash algorithms' object identifiers (RFC 3279, Section 2.1, and RFC 5754, Section 2).
var (
	oidSHA1   = []byte{0x2b, 0x0e, 0x03, 0x02, 0x1a}
	oidSHA256 = []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01}
	oidSHA384 = []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02}
	oidSHA512 = []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03}
)

func oidOfHash(hash crypto.Hash) []byte {
	switch hash {
	case crypto.SHA1:
		return oidSHA1
	case crypto.SHA256:
		return oidSHA256
	case crypto.SHA384:
		return oidSHA384
	case crypto.SHA512:
		return oidSHA512
	}
	return nil
}

// hashOfOID returns zero for an algorithm other than the four.
func hashOfOID(oid []byte) crypto.Hash {
	for _, hash := range [...]crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if bytes.Equal(oid, oidOfHash(hash)) {
			return hash
		}
	}
	return 0
}

// readCertID reads a CertID. An unknown hash algorithm is not an error: a request with it is not malformed, and a
// response may name other certificates by it.
func readCertID(input *cryptobyte.String, id *CertID) bool {
	var certID, nameHash, keyHash, serial cryptobyte.String
	var algorithm algorithmIdentifier
	if !input.ReadASN1(&certID, asn1.SEQUENCE) ||
		!algorithm.read(&certID) ||
		!certID.ReadASN1(&nameHash, asn1.OCTET_STRING) ||
		!certID.ReadASN1(&keyHash, asn1.OCTET_STRING) ||
		!certID.ReadASN1(&serial, asn1.INTEGER) || len(serial) == 0 || !certID.Empty() {
		return false
	}
	*id = CertID{hashOfOID(algorithm.oid), algorithm.oid, nameHash, keyHash, serial}
	// A hash of the wrong length is no hash of anything.
	return id.Hash == 0 || (len(nameHash) == id.Hash.Size() && len(keyHash) == id.Hash.Size() && algorithm.plain())
}

// addCertID writes a CertID with NULL parameters, as RFC 6960 clients do in practice.
func addCertID(b *cryptobyte.Builder, id CertID) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addBytes(b, asn1.OBJECT_IDENTIFIER, id.Algorithm)
			b.AddASN1NULL()
		})
		b.AddASN1OctetString(id.NameHash)
		b.AddASN1OctetString(id.KeyHash)
		addBytes(b, asn1.INTEGER, id.Serial)
	})
}

func addBytes(b *cryptobyte.Builder, tag asn1.Tag, content []byte) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(content) })
}
