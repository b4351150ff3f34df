package crl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/big"
)

// Number is a CRL number: unsigned, at most 20 octets, big-endian (RFC 5280, Section 5.2.3). It is comparable.
type Number [20]byte

// NumberOf converts an unsigned integer.
func NumberOf(n uint64) (number Number) {
	binary.BigEndian.PutUint64(number[len(number)-8:], n)
	return number
}

// Compare returns -1, 0 or 1 as n is less than, equal to or greater than other.
func (n Number) Compare(other Number) int { return bytes.Compare(n[:], other[:]) }

// Uint64 returns the number if it fits.
func (n Number) Uint64() (uint64, bool) {
	low := binary.BigEndian.Uint64(n[len(n)-8:])
	return low, n == NumberOf(low)
}

// String returns the decimal form.
func (n Number) String() string { return new(big.Int).SetBytes(n[:]).String() }

// parseNumber reads a DER INTEGER that is the whole of der.
func parseNumber(der []byte) (n Number, err error) {
	content, rest, err := expect(der, tagInteger)
	if err != nil {
		return n, err
	}
	if err := checkInteger(content); err != nil {
		return n, err
	}
	if len(rest) > 0 {
		return n, errTrailing
	}
	if content[0]&0x80 != 0 {
		return n, errors.New("number is negative")
	}
	content = bytes.TrimPrefix(content, []byte{0})
	if len(content) > len(n) {
		return n, errors.New("number is longer than 20 octets")
	}
	copy(n[len(n)-len(content):], content)
	return n, nil
}

// appendUint writes a DER INTEGER.
func appendUint(b []byte, n uint64) []byte {
	var octets [9]byte
	binary.BigEndian.PutUint64(octets[1:], n)
	content := octets[:]
	for len(content) > 1 && content[0] == 0 && content[1] < 0x80 {
		content = content[1:]
	}
	return append(append(b, tagInteger, byte(len(content))), content...)
}
