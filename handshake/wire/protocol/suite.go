package protocol

import (
	"crypto"
	_ "crypto/sha256" // the hashes that the suites name
	_ "crypto/sha512"
	"strings"
)

// The name of a cipher suite says everything about it, so there is no second table: TLS_<key
// exchange>_WITH_<cipher>_<hash>, and from TLS 1.3 on, where the key exchange is negotiated apart, TLS_<cipher>_<hash>.

// KeyExchange returns "TLS 1.3", "ECDHE", "DHE", "RSA", or "" if the suite is none of these.
func (s Suite) KeyExchange() string {
	front, _, classic := strings.Cut(s.String(), "_WITH_")
	switch {
	case !classic && s>>8 == 0x13:
		return "TLS 1.3"
	case strings.HasPrefix(front, "TLS_ECDHE_"):
		return "ECDHE"
	case strings.HasPrefix(front, "TLS_DHE_"):
		return "DHE"
	case front == "TLS_RSA":
		return "RSA"
	}
	return ""
}

// cipher returns the part of the name after the key exchange: "AES_128_GCM_SHA256".
func (s Suite) cipher() string {
	name := s.String()
	if _, cipher, ok := strings.Cut(name, "_WITH_"); ok {
		return cipher
	}
	return strings.TrimPrefix(name, "TLS_")
}

// Bulk names, in words, the encryption of the records.
func (s Suite) Bulk() string {
	c := s.cipher()
	switch {
	case strings.HasPrefix(c, "AES_128_GCM"):
		return "AES-128-GCM"
	case strings.HasPrefix(c, "AES_256_GCM"):
		return "AES-256-GCM"
	case strings.HasPrefix(c, "CHACHA20_POLY1305"):
		return "ChaCha20-Poly1305"
	case strings.HasPrefix(c, "AES_128_CBC"):
		return "AES-128-CBC with HMAC"
	case strings.HasPrefix(c, "AES_256_CBC"):
		return "AES-256-CBC with HMAC"
	}
	return strings.ReplaceAll(c, "_", "-")
}

// Hash is the hash of the key schedule and of the transcript. Suites of TLS 1.2 that name an older hash use SHA-256
// there (RFC 5246, Section 5).
func (s Suite) Hash() crypto.Hash {
	if strings.HasSuffix(s.cipher(), "_SHA384") {
		return crypto.SHA384
	}
	return crypto.SHA256
}

// HashName is "SHA-256" or "SHA-384".
func (s Suite) HashName() string { return s.Hash().String() }

// Strength is a class of cipher suites. The choice within a class is one of taste and hardware, between classes one of
// security.
type Strength uint8

// The classes, from the weakest.
const (
	StrengthUnknown Strength = iota // not known here
	Broken                          // RC4, 3DES, export ciphers, no encryption
	Legacy                          // the session key is sent encrypted to the server's key: no forward secrecy
	Aging                           // forward secrecy, with MAC-then-encrypt in CBC mode
	Strong                          // forward secrecy and authenticated encryption
)

var strengthNames = [...]string{"unknown", "broken", "legacy", "aging", "strong"}

// String returns the class in lower case.
func (s Strength) String() string { return strengthNames[min(int(s), len(strengthNames)-1)] }

// MarshalText is String.
func (s Strength) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Strength returns the class of the suite.
func (s Suite) Strength() Strength {
	c, kx := s.cipher(), s.KeyExchange()
	aead := strings.Contains(c, "_GCM_") || strings.Contains(c, "CHACHA20") || strings.Contains(c, "_CCM")
	switch {
	case strings.Contains(c, "RC4"), strings.Contains(c, "3DES"), strings.Contains(c, "NULL"):
		return Broken
	case kx == "RSA":
		return Legacy
	case kx == "":
		return StrengthUnknown
	case aead:
		return Strong
	}
	return Aging
}

// ForwardSecret reports whether a session stays secret when the server's certificate key leaks later.
func (s Suite) ForwardSecret() bool {
	switch s.KeyExchange() {
	case "TLS 1.3", "ECDHE", "DHE":
		return true
	}
	return false
}

// Signals reports whether the value is not a suite but a signal between implementations (RFC 5746, RFC 7507), or GREASE.
func (s Suite) Signals() bool { return s == 0x00ff || s == 0x5600 || IsGREASE(uint16(s)) }

// PostQuantum reports whether a key exchange over the group resists an attacker who records today and has a large quantum
// computer tomorrow.
func (g Group) PostQuantum() bool { return strings.Contains(g.String(), "MLKEM") }
