package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxMessage bounds a handshake message, in octets: crypto/tls accepts a Certificate message of that length.
const maxMessage = 1 << 18

// ErrNotTLS means that octets are not a record of TLS.
var ErrNotTLS = errors.New("not a record of TLS")

// CutRecord splits the first record off p, including its header. If it is not complete yet, record is nil and rest is
// all of p. Of the version in the header only the first octet counts, which is 3 since SSL 3.0 (RFC 8446, Section 5.1).
func CutRecord(p []byte) (record, rest []byte, err error) {
	if len(p) < HeaderSize {
		return nil, p, nil
	}
	length := int(binary.BigEndian.Uint16(p[3:]))
	if p[0] < RecordChangeCipher || p[0] > RecordHeartbeat || p[1] != 3 || length > MaxRecord {
		return nil, p, fmt.Errorf("%w: %.40q", ErrNotTLS, p[:min(len(p), 40)])
	}
	if len(p) < HeaderSize+length {
		return nil, p, nil
	}
	return p[:HeaderSize+length], p[HeaderSize+length:], nil
}

// CutMessage splits the first handshake message off p, including its four octets of header. If it is not complete yet,
// it is nil and the rest is all of p.
func CutMessage(p []byte) (message, rest []byte, err error) {
	if len(p) < 4 {
		return nil, p, nil
	}
	length := int(p[1])<<16 | int(p[2])<<8 | int(p[3])
	if length > maxMessage {
		return nil, p, fmt.Errorf("a handshake message of %d octets: more than %d", length, maxMessage)
	}
	if len(p) < 4+length {
		return nil, p, nil
	}
	return p[:4+length], p[4+length:], nil
}
