package pki

import (
	"encoding/asn1"
)

// MLDSA is a parameter set of ML-DSA (FIPS 204). Zero is none. The files of this package that need its arithmetic are
// compiled only by Go 1.27; a build with Go 1.26 knows the names and refuses the keys.
type MLDSA uint8

// The parameter sets.
const (
	NoMLDSA MLDSA = iota
	MLDSA44
	MLDSA65
	MLDSA87
)

var mldsaNames = [...]string{"none", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"}

// String returns the name in FIPS 204, such as "ML-DSA-44".
func (m MLDSA) String() string {
	if int(m) < len(mldsaNames) {
		return mldsaNames[m]
	}
	return "none"
}

// AlgorithmIdentifier returns the DER of the identifier of the set's keys and signatures, whose parameters are absent
// (RFC 9881, Section 2). It is empty for NoMLDSA.
func (m MLDSA) AlgorithmIdentifier() string {
	if m == NoMLDSA || m > MLDSA87 {
		return ""
	}
	return "\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03" + string(rune(0x10+m))
}

// OID returns the content of the object identifier in AlgorithmIdentifier. It is empty for NoMLDSA.
func (m MLDSA) OID() string {
	if identifier := m.AlgorithmIdentifier(); identifier != "" {
		return identifier[4:]
	}
	return ""
}

// PublicKeySize returns the length of an encoded public key in octets (FIPS 204, Table 2).
func (m MLDSA) PublicKeySize() int { return [...]int{0, 1312, 1952, 2592}[m] }

// MLDSAByIdentifier returns the set of a DER AlgorithmIdentifier, NoMLDSA if it has parameters.
func MLDSAByIdentifier(der string) MLDSA {
	for m := MLDSA44; m <= MLDSA87; m++ {
		if m.AlgorithmIdentifier() == der {
			return m
		}
	}
	return NoMLDSA
}

// MLDSAOfSPKI returns the set that a DER SubjectPublicKeyInfo names. It does not read the key, so it works in a build
// with Go 1.26 too.
func MLDSAOfSPKI(spki []byte) MLDSA {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return NoMLDSA
	}
	return MLDSAByIdentifier(string(info.Algorithm.FullBytes))
}

// Supported returns an error of KindFailedPrecondition in a build that cannot use keys of the set.
func (m MLDSA) Supported() error {
	if mldsaCompiled {
		return nil
	}
	return Errorf(KindFailedPrecondition, "use key", "%s needs a build with Go 1.27 or later", m).
		WithHint("build signet with Go 1.27, or use a key of another kind, such as ecdsa-p256")
}
