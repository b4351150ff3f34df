package crl

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the digests of the table below
	_ "crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"

	"signet.example/signet/pki"
)

// Algorithm is a signature algorithm, as the DER of its AlgorithmIdentifier.
type Algorithm string

// The AlgorithmIdentifiers that are accepted (RFC 4055, 5758, 8410; pki.MLDSA has those of RFC 9881). SHA-1 and MD5 are
// not among them: a list signed with them proves nothing today.
const (
	ecdsaSHA256 Algorithm = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
	ecdsaSHA384 Algorithm = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"
	ecdsaSHA512 Algorithm = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04"
	rsaSHA256   Algorithm = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"
	rsaSHA384   Algorithm = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00"
	rsaSHA512   Algorithm = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00"
	ed25519Pure Algorithm = "\x30\x05\x06\x03\x2b\x65\x70"
)

// scheme is how a signature is computed.
type scheme struct {
	name   string
	hash   crypto.Hash // 0: the whole message is signed
	verify func(pub crypto.PublicKey, hash crypto.Hash, message, signature []byte) error
}

var schemes = map[Algorithm]scheme{
	ecdsaSHA256: {"ECDSA with SHA-256", crypto.SHA256, verifyECDSA},
	ecdsaSHA384: {"ECDSA with SHA-384", crypto.SHA384, verifyECDSA},
	ecdsaSHA512: {"ECDSA with SHA-512", crypto.SHA512, verifyECDSA},
	rsaSHA256:   {"RSA with SHA-256", crypto.SHA256, verifyRSA},
	rsaSHA384:   {"RSA with SHA-384", crypto.SHA384, verifyRSA},
	rsaSHA512:   {"RSA with SHA-512", crypto.SHA512, verifyRSA},
	ed25519Pure: {"Ed25519", 0, verifyEd25519},
}

// pssPrefix is the start of an identifier of RSASSA-PSS: its object identifier (RFC 4055, Section 3.1).
const pssPrefix = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"

// pssNames are the digests that are accepted under RSASSA-PSS.
var pssNames = map[crypto.Hash]string{crypto.SHA256: "RSA-PSS with SHA-256", crypto.SHA384: "RSA-PSS with SHA-384", crypto.SHA512: "RSA-PSS with SHA-512"}

// pss returns the scheme of an identifier of RSASSA-PSS.
func (a Algorithm) pss() (scheme, bool) {
	content, rest, err := expect([]byte(a), tagSequence)
	parameters, isPSS := bytes.CutPrefix(content, []byte(pssPrefix))
	if err != nil || len(rest) > 0 || !isPSS {
		return scheme{}, false
	}
	said, ok := pki.ParsePSS(parameters)
	name := pssNames[said.Hash]
	return scheme{name, said.Hash, verifyPSS(said)}, ok && name != ""
}

// schemeOf returns the scheme of an algorithm: one of the table, RSASSA-PSS with its parameters, or ML-DSA. Absent
// parameters and NULL count as the same, because encoders differ, except for Ed25519 and ML-DSA (RFC 8410, Section 3;
// RFC 9881, Section 2).
func schemeOf(a Algorithm) (scheme, bool) {
	if set := pki.MLDSAByIdentifier(string(a)); set != pki.NoMLDSA {
		return scheme{set.String(), 0, verifyMLDSA(set)}, set.Supported() == nil
	}
	if s, ok := schemes[a]; ok {
		return s, true
	}
	if s, ok := a.pss(); ok {
		return s, true
	}
	s, ok := schemes[a.respelt()]
	return s, ok && s.hash != 0
}

// respelt returns an identifier without parameters with a NULL, and the other way round; any other stays as it is.
func (a Algorithm) respelt() Algorithm {
	content, _, err := expect([]byte(a), tagSequence)
	if err != nil {
		return a
	}
	_, parameters, err := expectOID(content)
	id := content[:len(content)-len(parameters)]
	switch {
	case err == nil && len(parameters) == 0:
		return Algorithm(wrap(tagSequence, id, []byte(null)))
	case err == nil && string(parameters) == null:
		return Algorithm(wrap(tagSequence, id))
	}
	return a
}

const null = "\x05\x00"

// String returns the name of the algorithm for people.
func (a Algorithm) String() string {
	if s, ok := schemeOf(a); ok {
		return s.name
	}
	var id pkix.AlgorithmIdentifier
	if _, err := asn1.Unmarshal([]byte(a), &id); err != nil {
		return fmt.Sprintf("unsupported algorithm %x", string(a))
	}
	if name, weak := broken[id.Algorithm.String()]; weak {
		return name + ", which is no longer accepted"
	}
	return "unsupported algorithm " + id.Algorithm.String()
}

// broken names the algorithms of old lists that are no longer accepted.
var broken = map[string]string{
	"1.2.840.113549.1.1.4": "RSA with MD5",
	"1.2.840.113549.1.1.5": "RSA with SHA-1",
	"1.2.840.10045.4.1":    "ECDSA with SHA-1",
	"1.2.840.10040.4.3":    "DSA with SHA-1",
}

// AlgorithmFor returns the algorithm that Sign uses with a key.
func AlgorithmFor(pub crypto.PublicKey) (Algorithm, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ecdsaSHA256, nil
		case elliptic.P384():
			return ecdsaSHA384, nil
		case elliptic.P521():
			return ecdsaSHA512, nil
		}
		return "", fmt.Errorf("sign revocation list: curve %s is not supported", k.Curve.Params().Name)
	case *rsa.PublicKey:
		return rsaSHA256, nil
	case ed25519.PublicKey:
		return ed25519Pure, nil
	}
	if set, _ := pki.MLDSAOf(pub); set != pki.NoMLDSA {
		return Algorithm(set.AlgorithmIdentifier()), nil
	}
	return "", fmt.Errorf("sign revocation list: a key of type %T is not supported", pub)
}

// sign makes the signature of a message with the algorithm of the signer's key.
func sign(random io.Reader, signer crypto.Signer, algorithm Algorithm, message Document) ([]byte, error) {
	s, ok := schemeOf(algorithm)
	if !ok {
		return nil, fmt.Errorf("sign revocation list: %s", algorithm)
	}
	var input []byte
	if s.hash != 0 {
		h := s.hash.New()
		message.digest(h)
		input = h.Sum(nil)
	} else {
		input = message.Bytes()
	}
	signature, err := signer.Sign(random, input, s.hash)
	if err != nil {
		return nil, fmt.Errorf("sign revocation list: %w", err)
	}
	return signature, nil
}

var errWrongKey = errors.New("the key is of another kind than the signature")

var errBadSignature = errors.New("the signature is wrong")

func verifyECDSA(pub crypto.PublicKey, _ crypto.Hash, digest, signature []byte) error {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return errWrongKey
	}
	if !ecdsa.VerifyASN1(key, digest, signature) {
		return errBadSignature
	}
	return nil
}

func verifyRSA(pub crypto.PublicKey, hash crypto.Hash, digest, signature []byte) error {
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return errWrongKey
	}
	if rsa.VerifyPKCS1v15(key, hash, digest, signature) != nil {
		return errBadSignature
	}
	return nil
}

func verifyPSS(pss pki.PSS) func(crypto.PublicKey, crypto.Hash, []byte, []byte) error {
	return func(pub crypto.PublicKey, _ crypto.Hash, digest, signature []byte) error {
		key, ok := pub.(*rsa.PublicKey)
		if !ok {
			return errWrongKey
		}
		if !pss.Verify(key, digest, signature) {
			return errBadSignature
		}
		return nil
	}
}

func verifyEd25519(pub crypto.PublicKey, _ crypto.Hash, message, signature []byte) error {
	key, ok := pub.(ed25519.PublicKey)
	if !ok {
		return errWrongKey
	}
	if !ed25519.Verify(key, message, signature) {
		return errBadSignature
	}
	return nil
}

func verifyMLDSA(set pki.MLDSA) func(crypto.PublicKey, crypto.Hash, []byte, []byte) error {
	return func(pub crypto.PublicKey, _ crypto.Hash, message, signature []byte) error {
		if of, _ := pki.MLDSAOf(pub); of != set {
			return errWrongKey
		}
		if !pki.VerifyMLDSA(pub, message, signature) {
			return errBadSignature
		}
		return nil
	}
}
