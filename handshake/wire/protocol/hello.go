package protocol

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// ClientHello is what a client offers (RFC 8446, Section 4.1.2; RFC 5246, Section 7.4.1.2).
type ClientHello struct {
	Versions     []Version   `json:"versions"` // supported_versions, or the one version of older clients
	Suites       []Suite     `json:"cipher_suites"`
	ServerName   string      `json:"server_name,omitempty"`
	Groups       []Group     `json:"groups,omitempty"`
	KeyShares    []Group     `json:"key_shares,omitempty"` // the groups it has already sent a public key for
	Schemes      []Scheme    `json:"signature_algorithms,omitempty"`
	ALPN         []string    `json:"alpn,omitempty"`
	Status       bool        `json:"status_request"`         // it asks for a stapled OCSP response
	Resumption   int         `json:"resumption,omitempty"`   // pre-shared keys or tickets of earlier sessions it offers
	MasterSecret bool        `json:"extended_master_secret"` // RFC 7627; only TLS 1.2 needs it
	EarlyData    bool        `json:"early_data,omitempty"`
	Extensions   []Extension `json:"extensions"`

	Random    [32]byte `json:"-"`
	SessionID []byte   `json:"-"`
	Ticket    []byte   `json:"-"` // of a session of TLS 1.2
}

// ServerHello is the server's first answer. A HelloRetryRequest is one with a special random value.
type ServerHello struct {
	Version      Version     `json:"version"`
	Suite        Suite       `json:"cipher_suite"`
	Group        Group       `json:"group,omitempty"` // TLS 1.3: of its key share, or the one it asks for
	Retry        bool        `json:"hello_retry_request,omitempty"`
	Resumed      bool        `json:"resumed,omitempty"` // TLS 1.3: the server accepted one of the offered pre-shared keys
	ALPN         string      `json:"alpn,omitempty"`    // TLS 1.2; later versions say it in EncryptedExtensions
	Status       bool        `json:"status_request,omitempty"`
	MasterSecret bool        `json:"extended_master_secret,omitempty"`
	Downgraded   Version     `json:"downgraded,omitempty"` // the server says it can do better (RFC 8446, Section 4.1.3)
	Extensions   []Extension `json:"extensions"`

	Random    [32]byte `json:"-"`
	SessionID []byte   `json:"-"`
}

// helloRetry is the random value that makes a ServerHello a HelloRetryRequest (RFC 8446, Section 4.1.3).
var helloRetry = [32]byte{
	0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
	0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
}

var (
	downgradeTLS12 = []byte("DOWNGRD\x01")
	downgradeTLS11 = []byte("DOWNGRD\x00")
)

// errTruncated is the error of most malformed messages: a length that does not fit.
var errTruncated = errors.New("a length in the message does not fit its octets")

// ParseClientHello reads the body of a ClientHello message, without its four octets of header. The caller bounds the
// body, and the body bounds every list in it.
func ParseClientHello(body []byte) (*ClientHello, error) {
	var (
		h                   ClientHello
		s                   = cryptobyte.String(body)
		version             uint16
		session             cryptobyte.String
		suites, compression cryptobyte.String
	)
	if !s.ReadUint16(&version) || !s.CopyBytes(h.Random[:]) || !s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16LengthPrefixed(&suites) || !s.ReadUint8LengthPrefixed(&compression) {
		return nil, fmt.Errorf("read ClientHello: %w", errTruncated)
	}
	h.SessionID = session
	if !readUint16s(suites, &h.Suites) {
		return nil, fmt.Errorf("read ClientHello: cipher suites: %w", errTruncated)
	}
	err := eachExtension(s, func(ext uint16, data cryptobyte.String) bool {
		h.Extensions = append(h.Extensions, Extension(ext))
		return h.readExtension(ext, data)
	})
	if err != nil {
		return nil, fmt.Errorf("read ClientHello: %w", err)
	}
	if len(h.Versions) == 0 {
		h.Versions = []Version{Version(version)}
	}
	return &h, nil
}

func (h *ClientHello) readExtension(ext uint16, data cryptobyte.String) bool {
	var list cryptobyte.String
	switch ext {
	case extServerName:
		return readServerName(data, &h.ServerName)
	case extStatusRequest:
		h.Status = true
	case extSupportedGroups:
		return data.ReadUint16LengthPrefixed(&list) && readUint16s(list, &h.Groups)
	case extSignatureAlgorithms:
		return data.ReadUint16LengthPrefixed(&list) && readUint16s(list, &h.Schemes)
	case extALPN:
		return readALPN(data, &h.ALPN)
	case extSupportedVersions:
		return data.ReadUint8LengthPrefixed(&list) && readUint16s(list, &h.Versions)
	case extKeyShare:
		return readKeyShares(data, &h.KeyShares)
	case extSessionTicket:
		if h.Ticket = data; len(data) > 0 {
			h.Resumption++
		}
	case extPreSharedKey:
		return readIdentities(data, &h.Resumption)
	case extMasterSecret:
		h.MasterSecret = true
	case extEarlyData:
		h.EarlyData = true
	}
	return true
}

// ParseServerHello reads the body of a ServerHello message, without its four octets of header.
func ParseServerHello(body []byte) (*ServerHello, error) {
	var (
		h       ServerHello
		s       = cryptobyte.String(body)
		session cryptobyte.String
	)
	if !s.ReadUint16((*uint16)(&h.Version)) || !s.CopyBytes(h.Random[:]) || !s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16((*uint16)(&h.Suite)) || !s.Skip(1) {
		return nil, fmt.Errorf("read ServerHello: %w", errTruncated)
	}
	h.SessionID, h.Retry = session, h.Random == helloRetry
	err := eachExtension(s, func(ext uint16, data cryptobyte.String) bool {
		h.Extensions = append(h.Extensions, Extension(ext))
		return h.readExtension(ext, data)
	})
	if err != nil {
		return nil, fmt.Errorf("read ServerHello: %w", err)
	}
	switch {
	case h.Version < tls.VersionTLS13 && bytes.HasSuffix(h.Random[:], downgradeTLS12):
		h.Downgraded = tls.VersionTLS12
	case h.Version < tls.VersionTLS12 && bytes.HasSuffix(h.Random[:], downgradeTLS11):
		h.Downgraded = tls.VersionTLS11
	}
	return &h, nil
}

func (h *ServerHello) readExtension(ext uint16, data cryptobyte.String) bool {
	switch ext {
	case extSupportedVersions:
		return data.ReadUint16((*uint16)(&h.Version))
	case extKeyShare:
		return data.ReadUint16((*uint16)(&h.Group))
	case extPreSharedKey:
		h.Resumed = true
	case extStatusRequest:
		h.Status = true
	case extMasterSecret:
		h.MasterSecret = true
	case extALPN:
		var list []string
		if !readALPN(data, &list) || len(list) != 1 {
			return false
		}
		h.ALPN = list[0]
	}
	return true
}

// ParseEncryptedExtensions reads the server's answer to the rest of the offer (RFC 8446, Section 4.3.1).
func ParseEncryptedExtensions(body []byte) (alpn string, exts []Extension, err error) {
	err = eachExtension(body, func(ext uint16, data cryptobyte.String) bool {
		exts = append(exts, Extension(ext))
		if ext != extALPN {
			return true
		}
		var list []string
		if !readALPN(data, &list) || len(list) != 1 {
			return false
		}
		alpn = list[0]
		return true
	})
	if err != nil {
		return "", nil, fmt.Errorf("read EncryptedExtensions: %w", err)
	}
	return alpn, exts, nil
}

// eachExtension calls read for every extension of a block with its 16-bit length in front. No block at all is fine:
// TLS 1.2 allows it.
func eachExtension(s cryptobyte.String, read func(ext uint16, data cryptobyte.String) bool) error {
	if s.Empty() {
		return nil
	}
	var block cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&block) || !s.Empty() {
		return fmt.Errorf("extensions: %w", errTruncated)
	}
	for !block.Empty() {
		var (
			ext  uint16
			data cryptobyte.String
		)
		if !block.ReadUint16(&ext) || !block.ReadUint16LengthPrefixed(&data) {
			return fmt.Errorf("extensions: %w", errTruncated)
		}
		if !read(ext, data) {
			return fmt.Errorf("extension %s: %w", Extension(ext), errTruncated)
		}
	}
	return nil
}

func readUint16s[T ~uint16](s cryptobyte.String, out *[]T) bool {
	if len(s)%2 != 0 {
		return false
	}
	for !s.Empty() {
		var v uint16
		if !s.ReadUint16(&v) {
			return false
		}
		*out = append(*out, T(v))
	}
	return true
}

func readServerName(data cryptobyte.String, out *string) bool {
	if data.Empty() {
		return true // a server's acknowledgement
	}
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var (
			kind uint8
			name cryptobyte.String
		)
		if !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&name) {
			return false
		}
		if kind == 0 {
			*out = string(name)
		}
	}
	return true
}

func readALPN(data cryptobyte.String, out *[]string) bool {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var name cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&name) {
			return false
		}
		*out = append(*out, string(name))
	}
	return true
}

func readKeyShares(data cryptobyte.String, out *[]Group) bool {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var (
			group uint16
			key   cryptobyte.String
		)
		if !list.ReadUint16(&group) || !list.ReadUint16LengthPrefixed(&key) {
			return false
		}
		*out = append(*out, Group(group))
	}
	return true
}

func readIdentities(data cryptobyte.String, out *int) bool {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var identity cryptobyte.String
		if !list.ReadUint16LengthPrefixed(&identity) || !list.Skip(4) {
			return false
		}
		*out++
	}
	return true
}
