package ocspserver

import (
	"bytes"
	"encoding/base64"
	"slices"

	"signet.example/signet/ocsp"
)

// maxGET bounds the encoded request in an address. RFC 9919, Section 5, has clients use GET up to 255 octets of URL.
const maxGET = 1 << 10

// decodeGET reads a request from the part of an address behind the issuer, as it came over the wire, of at most maxGET
// octets. What clients and proxies do to it is undone: URL-safe base64, percent-encoding done twice, a plus sign turned
// into a space, padding left out, slashes doubled in front or collapsed within. ours tells a request about the issuer that is asked.
func decodeGET(text string, ours func(*ocsp.Request) bool) (*ocsp.Request, error) {
	var room [maxGET]byte
	plain := append(room[:0], text...)
	for range 2 {
		if plain = percentDecode(plain); bytes.IndexByte(plain, '%') < 0 {
			break
		}
	}
	plain = bytes.TrimRight(bytes.TrimLeft(plain, "/"), "=")
	for i, c := range plain {
		switch c {
		case '-', ' ':
			plain[i] = '+'
		case '_':
			plain[i] = '/'
		}
	}
	request, err := decodeBase64(plain)
	if err == nil {
		return request, nil
	}
	if mended, ok := decodeCollapsed(plain, ours); ok {
		return mended, nil
	}
	return nil, err
}

// percentDecode decodes in place what is an escape and leaves everything else, a stray percent sign too.
func percentDecode(text []byte) []byte {
	first := bytes.IndexByte(text, '%')
	if first < 0 {
		return text
	}
	out := text[:first]
	for i := first; i < len(text); i++ {
		c := text[i]
		if c == '%' && i+2 < len(text) {
			if high, low := hexDigit(text[i+1]), hexDigit(text[i+2]); high >= 0 && low >= 0 {
				c = byte(high<<4 | low)
				i += 2
			}
		}
		out = append(out, c)
	}
	return out
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// decodeBase64 reads the standard alphabet without padding.
func decodeBase64(plain []byte) (*ocsp.Request, error) {
	der := make([]byte, base64.RawStdEncoding.DecodedLen(len(plain)))
	n, err := base64.RawStdEncoding.Decode(der, plain)
	if err != nil {
		return nil, &ocsp.MalformedError{Err: err}
	}
	return ocsp.ParseRequest(der[:n])
}

// decodeCollapsed puts back the slashes that a proxy collapsed into one. The length in front of the DER says how many
// are missing; where, is tried until the hashes are the issuer's. A wrong guess within the serial number yields another one, of which an answer
// says nothing false and which the client refuses: one request in a thousand behind such a proxy.
func decodeCollapsed(text []byte, ours func(*ocsp.Request) bool) (*ocsp.Request, bool) {
	missing := base64.RawStdEncoding.EncodedLen(announcedLength(text)) - len(text)
	if missing < 1 || missing > 3 {
		return nil, false
	}
	tries := 256
	return insertSlashes(text, 0, missing, &tries, ours)
}

// insertSlashes tries every way to put the missing slashes beside those that are there, from an offset on.
func insertSlashes(text []byte, from, missing int, tries *int, ours func(*ocsp.Request) bool) (*ocsp.Request, bool) {
	for i := from; i < len(text) && *tries > 0; i++ {
		if text[i] != '/' {
			continue
		}
		longer := slices.Insert(slices.Clone(text), i, '/')
		if missing > 1 {
			if request, ok := insertSlashes(longer, i+1, missing-1, tries, ours); ok {
				return request, true
			}
			continue
		}
		*tries--
		if request, err := decodeBase64(longer); err == nil && ours(request) {
			return request, true
		}
	}
	return nil, false
}

// announcedLength is the length of the DER that begins text, as its first octets give it; 0 if they do not.
func announcedLength(text []byte) int {
	head := make([]byte, 6)
	n, err := base64.RawStdEncoding.Decode(head, text[:min(len(text), 8)])
	if err != nil || n < 4 || head[0] != 0x30 {
		return 0
	}
	switch {
	case head[1] < 0x80:
		return 2 + int(head[1])
	case head[1] == 0x81:
		return 3 + int(head[2])
	case head[1] == 0x82:
		return 4 + int(head[2])<<8 + int(head[3])
	}
	return 0
}
