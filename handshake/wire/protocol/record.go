package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxMessage bounds a handshake message: what crypto/tls takes for a Certificate message.
const maxMessage = 1 << 18

// ErrNotTLS says that octets are not a record of TLS.
var ErrNotTLS = errors.New("not a record of TLS")

// CutRecord cuts the first record off p, header included. A record that is not complete yet is nil, with all of p as the
// rest. The version in the header says nothing (RFC 8446, Section 5.1) but for its first octet, which is 3 since SSL 3.0.
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

// CutMessage cuts the first handshake message off p, its four octets of header included. One that is not complete yet is
// nil, with all of p as the rest.
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
