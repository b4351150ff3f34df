package pki

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// SerialSize is the longest serial number that RFC 5280 allows, in octets (Section 4.1.2.2).
const SerialSize = 20

// serialVersion1 is the first octet of every serial of version 1 of the scheme. Its top bit is zero, so the DER INTEGER
// is positive without a padding octet; it is not zero, so the INTEGER always has 20 octets.
const serialVersion1 = 0x41

// MaxIndex is the largest index that a serial can carry: five octets.
const MaxIndex = 1<<40 - 1

// Serial is a certificate serial number as an unsigned 160-bit big-endian integer. It is comparable. The zero value is
// the serial 0, which RFC 5280 does not allow in a certificate and Signet never issues.
//
// Serials of other authorities fit if they are not negative and at most 20 octets long.
type Serial [SerialSize]byte

// ErrSerial is wrapped by every error that blames the text or number of a serial.
var ErrSerial = errors.New("not a serial number of at most 20 octets")

// ParseSerial reads a serial in the spellings of people and tools: hexadecimal in either case, with or without a
// leading 0x, with colons or spaces between octets.
func ParseSerial(text string) (Serial, error) {
	digits := strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(text), ":", ""), " ", "")
	digits = strings.TrimPrefix(strings.TrimPrefix(digits, "0x"), "0X")
	if digits == "" || len(digits) > 2*SerialSize+2 {
		return Serial{}, fmt.Errorf("serial %q: %w", clip(text), ErrSerial)
	}
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	octets, err := hex.DecodeString(digits)
	if err != nil {
		return Serial{}, fmt.Errorf("serial %q: %w: write it in hexadecimal", clip(text), ErrSerial)
	}
	return SerialFromBytes(octets)
}

// SerialFromBytes converts the magnitude of a serial, or the content octets of its DER INTEGER if it is not negative.
// Leading zero octets do not count.
func SerialFromBytes(octets []byte) (Serial, error) {
	octets = bytes.TrimLeft(octets, "\x00")
	if len(octets) > SerialSize {
		return Serial{}, fmt.Errorf("serial of %d octets: %w", len(octets), ErrSerial)
	}
	var s Serial
	copy(s[SerialSize-len(octets):], octets)
	return s, nil
}

// SerialFromInteger is the inverse of Integer. ok is false if the octets are negative, not minimal or too many for a
// Serial: no certificate of Signet has such a serial.
func SerialFromInteger(octets []byte) (serial Serial, ok bool) {
	if len(octets) == 0 || octets[0] >= 0x80 || (len(octets) > 1 && octets[0] == 0 && octets[1] < 0x80) {
		return Serial{}, false
	}
	serial, err := SerialFromBytes(octets)
	return serial, err == nil
}

// SerialFromBig converts from the form of crypto/x509. Negative and longer numbers are an error.
func SerialFromBig(n *big.Int) (Serial, error) {
	if n == nil || n.Sign() < 0 || n.BitLen() > 8*SerialSize {
		return Serial{}, fmt.Errorf("serial %v: %w", n, ErrSerial)
	}
	var s Serial
	n.FillBytes(s[:])
	return s, nil
}

// Big converts to the form of crypto/x509.
func (s Serial) Big() *big.Int { return new(big.Int).SetBytes(s[:]) }

// Bytes returns the magnitude without leading zero octets; it is empty for zero.
func (s Serial) Bytes() []byte { return bytes.TrimLeft(s[:], "\x00") }

// Integer returns the content octets of the DER INTEGER.
func (s Serial) Integer() []byte {
	octets := s.Bytes()
	if len(octets) == 0 || octets[0] >= 0x80 {
		return append([]byte{0}, octets...)
	}
	return octets
}

// String returns lower-case hexadecimal without separators and leading zero octets, as `openssl x509 -serial` prints it
// except for the case.
func (s Serial) String() string {
	if s == (Serial{}) {
		return "00"
	}
	return hex.EncodeToString(s.Bytes())
}

// IsZero reports whether the serial is 0.
func (s Serial) IsZero() bool { return s == Serial{} }

// SerialSecret is the secret K of an issuer, 32 octets from a CSPRNG. Whoever holds it can predict the serials of
// future certificates. It is kept and backed up with the issuer's key and never stored in the database.
type SerialSecret [32]byte

// String keeps the secret out of logs and error texts.
func (SerialSecret) String() string { return "SerialSecret(redacted)" }

// GoString keeps the secret out of %#v.
func (SerialSecret) GoString() string { return "pki.SerialSecret(redacted)" }

// RangeNonce makes the range key of one reservation differ from every other, even for the same indices.
type RangeNonce [16]byte

// RangeKey determines the random octets of every serial in one reserved range of indices.
type RangeKey [32]byte

// NewRangeKey derives the key of the range of (issuer, epoch) that begins at index from.
func NewRangeKey(k SerialSecret, nonce RangeNonce, issuer KeyHash, epoch Epoch, from uint64) RangeKey {
	mac := hmac.New(sha256.New, k[:])
	mac.Write([]byte("signet range 1"))
	mac.Write(nonce[:])
	mac.Write(issuer[:])
	var position [7]byte
	putPosition(position[:], epoch, from)
	mac.Write(position[:])
	var key RangeKey
	mac.Sum(key[:0])
	return key
}

// Position is the place of a certificate among those of its issuer: number Index of the certificates that expire in
// week Epoch.
type Position struct {
	Epoch Epoch
	Index uint64
}

// NewSerial returns the serial of the certificate at p. The same arguments give the same serial, so that reconciliation
// can name and revoke a certificate that was signed and never recorded. It panics if the index is above MaxIndex: an
// index comes from a reserved range, which cannot reach it.
func NewSerial(key RangeKey, issuer KeyHash, p Position) Serial {
	if p.Index > MaxIndex {
		panic("pki: index out of range")
	}
	var s Serial
	s[0] = serialVersion1
	putPosition(s[1:8], p.Epoch, p.Index)
	random := serialRandom(key, p.Index)
	copy(s[8:], random[:])
	s.mask(issuer)
	return s
}

// Unmask returns the position that s claims under issuer. ok is false if the first octet is not that of version 1. The
// claim is not proof: a foreign serial may begin with the same octet, and a thief of the key may choose any index.
// Compare it with the certificate's notAfter (Index) and with the range key (Matches) before relying on it.
func (s Serial) Unmask(issuer KeyHash) (p Position, ok bool) {
	if s[0] != serialVersion1 {
		return Position{}, false
	}
	s.mask(issuer)
	p.Epoch = Epoch(binary.BigEndian.Uint16(s[1:3]))
	p.Index = uint64(s[3])<<32 | uint64(binary.BigEndian.Uint32(s[4:8]))
	return p, true
}

// Index is Unmask for a caller that has the certificate: ok also requires that the epoch is that of notAfter, in
// seconds since 1970.
func (s Serial) Index(issuer KeyHash, notAfter int64) (p Position, ok bool) {
	p, ok = s.Unmask(issuer)
	if !ok {
		return Position{}, false
	}
	epoch, err := EpochAt(notAfter)
	if err != nil || epoch != p.Epoch {
		return Position{}, false
	}
	return p, true
}

// Matches reports whether the random octets of s are those that the range key gives to the index that s claims. The key
// must be that of the range that holds the index. Its time does not depend on the octets compared.
func (s Serial) Matches(key RangeKey, issuer KeyHash) bool {
	p, ok := s.Unmask(issuer)
	if !ok {
		return false
	}
	random := serialRandom(key, p.Index)
	return subtle.ConstantTimeCompare(random[:], s[8:]) == 1
}

// mask XORs the position with a pad derived from the issuer and the random octets. It is its own inverse.
func (s *Serial) mask(issuer KeyHash) {
	h := sha256.New()
	h.Write([]byte("signet serial 1"))
	h.Write(issuer[:])
	h.Write(s[8:])
	var pad [sha256.Size]byte
	h.Sum(pad[:0])
	subtle.XORBytes(s[1:8], s[1:8], pad[:7])
}

func serialRandom(key RangeKey, index uint64) (random [12]byte) {
	mac := hmac.New(sha256.New, key[:])
	var octets [8]byte
	binary.BigEndian.PutUint64(octets[:], index)
	mac.Write(octets[3:])
	var sum [sha256.Size]byte
	copy(random[:], mac.Sum(sum[:0]))
	return random
}

// putPosition writes epoch (2 octets) and index (5 octets), big-endian.
func putPosition(dst []byte, epoch Epoch, index uint64) {
	binary.BigEndian.PutUint16(dst, uint16(epoch))
	dst[2] = byte(index >> 32)
	binary.BigEndian.PutUint32(dst[3:], uint32(index))
}

// clip bounds foreign text in an error.
func clip(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
