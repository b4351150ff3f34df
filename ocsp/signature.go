package ocsp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/pki"
)

// maxRSABits bounds the work that a foreign key can cause.
const maxRSABits = 8192

// The object identifiers of signature algorithms.
const (
	oidRSASHA1     OID = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"
	oidRSAPSS      OID = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"
	oidRSASHA256   OID = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
	oidRSASHA384   OID = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"
	oidRSASHA512   OID = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d"
	oidECDSASHA1   OID = "\x2a\x86\x48\xce\x3d\x04\x01"
	oidECDSASHA256 OID = "\x2a\x86\x48\xce\x3d\x04\x03\x02"
	oidECDSASHA384 OID = "\x2a\x86\x48\xce\x3d\x04\x03\x03"
	oidECDSASHA512 OID = "\x2a\x86\x48\xce\x3d\x04\x03\x04"
	oidEd25519     OID = "\x2b\x65\x70"
)

// signatureHashes maps algorithms that name a digest to it.
var signatureHashes = map[OID]crypto.Hash{
	oidRSASHA1: crypto.SHA1, oidRSASHA256: crypto.SHA256, oidRSASHA384: crypto.SHA384, oidRSASHA512: crypto.SHA512,
	oidECDSASHA1: crypto.SHA1, oidECDSASHA256: crypto.SHA256, oidECDSASHA384: crypto.SHA384, oidECDSASHA512: crypto.SHA512,
}

var (
	errAlgorithm = errors.New("algorithm is not known, or not one of this key")
	errSHA1      = errors.New("SHA-1 is not accepted in signatures")
	errSignature = errors.New("does not verify")
)

// responderKey is a key with its signature algorithm.
type responderKey struct {
	signer    crypto.Signer
	hash      crypto.Hash // zero: the message itself is signed (Ed25519, ML-DSA)
	algorithm []byte      // DER of the AlgorithmIdentifier
}

func newResponderKey(signer crypto.Signer, cert *x509.Certificate) (responderKey, error) {
	key := responderKey{signer: signer}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(cert.PublicKey) {
		return responderKey{}, errors.New("the certificate is of another key")
	}
	var oid OID
	parameters := false
	switch public := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		key.hash, oid = crypto.SHA256, oidECDSASHA256
		if public.Curve == elliptic.P384() {
			key.hash, oid = crypto.SHA384, oidECDSASHA384
		}
		if public.Curve == elliptic.P521() {
			key.hash, oid = crypto.SHA512, oidECDSASHA512
		}
	case *rsa.PublicKey:
		key.hash, oid, parameters = crypto.SHA256, oidRSASHA256, true
	case ed25519.PublicKey:
		oid = oidEd25519
	default:
		set, _ := pki.MLDSAOf(public)
		if set == pki.NoMLDSA {
			return responderKey{}, fmt.Errorf("a key of type %T cannot sign OCSP responses", public)
		}
		oid = OID(set.OID())
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addBytes(b, asn1.OBJECT_IDENTIFIER, []byte(oid))
		if parameters { // RFC 4055, Section 5: NULL, where the others have nothing
			b.AddASN1NULL()
		}
	})
	key.algorithm = b.BytesOrPanic()
	return key, nil
}

func (k responderKey) sign(message []byte) ([]byte, error) {
	if k.hash == 0 {
		return k.signer.Sign(rand.Reader, message, crypto.Hash(0))
	}
	return k.signer.Sign(rand.Reader, sum(k.hash, message), k.hash)
}

// algorithmIdentifier is an AlgorithmIdentifier (RFC 5280, Section 4.1.1.2).
type algorithmIdentifier struct {
	der, oid   cryptobyte.String // the whole; content octets
	parameters cryptobyte.String // DER of one element, empty if absent
}

func (a *algorithmIdentifier) read(input *cryptobyte.String) bool {
	var content cryptobyte.String
	if !input.ReadASN1Element(&a.der, asn1.SEQUENCE) {
		return false
	}
	whole := a.der
	if !whole.ReadASN1(&content, asn1.SEQUENCE) || !readOID(&content, &a.oid) {
		return false
	}
	a.parameters = content
	var tag asn1.Tag
	return content.Empty() || content.ReadAnyASN1(&whole, &tag) && content.Empty()
}

// plain reports whether there are no parameters. It counts NULL as none, because encoders differ.
func (a *algorithmIdentifier) plain() bool { return len(a.parameters) == 0 || isNull(a.parameters) }

// checkSignature verifies a signature over signed with a DER AlgorithmIdentifier. The maker of the message chose the
// algorithm, so it must be one of the key's own kind.
func checkSignature(algorithm, signed, signature []byte, key crypto.PublicKey, allowSHA1 bool) error {
	input := cryptobyte.String(algorithm)
	var a algorithmIdentifier
	if !a.read(&input) || !input.Empty() {
		return errAlgorithm
	}
	oid := OID(a.oid)
	hash := signatureHashes[oid]
	if hash == crypto.SHA1 && !allowSHA1 {
		return errSHA1
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return checkECDSA(a, hash, signed, signature, key)
	case *rsa.PublicKey:
		return checkRSA(a, hash, signed, signature, key, allowSHA1)
	case ed25519.PublicKey:
		if oid != oidEd25519 || len(a.parameters) > 0 {
			return errAlgorithm
		}
		if !ed25519.Verify(key, signed, signature) {
			return errSignature
		}
		return nil
	}
	return checkMLDSA(a, signed, signature, key)
}

func checkMLDSA(a algorithmIdentifier, signed, signature []byte, key crypto.PublicKey) error {
	set, _ := pki.MLDSAOf(key)
	if set == pki.NoMLDSA || OID(a.oid) != OID(set.OID()) || len(a.parameters) > 0 { // RFC 9881, Section 2: absent
		return errAlgorithm
	}
	if !pki.VerifyMLDSA(key, signed, signature) {
		return errSignature
	}
	return nil
}

func checkECDSA(a algorithmIdentifier, hash crypto.Hash, signed, signature []byte, key *ecdsa.PublicKey) error {
	switch OID(a.oid) {
	case oidECDSASHA1, oidECDSASHA256, oidECDSASHA384, oidECDSASHA512:
	default:
		return errAlgorithm
	}
	if !a.plain() { // RFC 5758, Section 3.2: absent
		return errAlgorithm
	}
	if !ecdsa.VerifyASN1(key, sum(hash, signed), signature) {
		return errSignature
	}
	return nil
}

func checkRSA(a algorithmIdentifier, hash crypto.Hash, signed, signature []byte, key *rsa.PublicKey, allowSHA1 bool) error {
	if key.N.BitLen() > maxRSABits {
		return fmt.Errorf("RSA key of %d bits: at most %d are used", key.N.BitLen(), maxRSABits)
	}
	switch OID(a.oid) {
	case oidRSASHA1, oidRSASHA256, oidRSASHA384, oidRSASHA512:
		if !a.plain() { // RFC 4055, Section 5: NULL
			return errAlgorithm
		}
		if rsa.VerifyPKCS1v15(key, hash, sum(hash, signed), signature) != nil {
			return errSignature
		}
		return nil
	case oidRSAPSS:
		pss, ok := pki.ParsePSS(a.parameters)
		if !ok {
			return errAlgorithm
		}
		if pss.Hash == crypto.SHA1 && !allowSHA1 {
			return errSHA1
		}
		if !pss.Verify(key, sum(pss.Hash, signed), signature) {
			return errSignature
		}
		return nil
	}
	return errAlgorithm
}

// checkCertificateSignature verifies that key signed cert. Whether that signer may issue cert is the caller's question.
func checkCertificateSignature(cert *x509.Certificate, key crypto.PublicKey, allowSHA1 bool) error {
	input := cryptobyte.String(cert.Raw)
	var outer, algorithm cryptobyte.String
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !outer.SkipASN1(asn1.SEQUENCE) || !outer.ReadASN1Element(&algorithm, asn1.SEQUENCE) {
		return errAlgorithm
	}
	return checkSignature(algorithm, cert.RawTBSCertificate, cert.Signature, key, allowSHA1)
}
