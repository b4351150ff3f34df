package ocspserver

import (
	"bytes"
	"encoding/base64"
	"slices"

	"signet.example/signet/ocsp"
)

// maxGET is the largest encoded request in a URL, in octets. By RFC 9919, Section 5, clients use GET for URLs up to 255
// octets.
const maxGET = 1 << 10

// decodeGET reads a request from the part of a URL after the issuer, as received and at most maxGET octets. It undoes
// what clients and proxies do to it: URL-safe base64, double percent-encoding, a space in place of a plus sign, missing
// padding, doubled slashes in front, collapsed slashes within. ours reports whether a request is about the issuer in
// the URL.
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

// percentDecode decodes escapes in place. It leaves everything else alone, including a stray percent sign.
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

// decodeBase64 reads a request in the standard alphabet without padding.
func decodeBase64(plain []byte) (*ocsp.Request, error) {
	der := make([]byte, base64.RawStdEncoding.DecodedLen(len(plain)))
	n, err := base64.RawStdEncoding.Decode(der, plain)
	if err != nil {
		return nil, &ocsp.MalformedError{Err: err}
	}
	return ocsp.ParseRequest(der[:n])
}

// decodeCollapsed restores slashes that a proxy collapsed into one. The length at the start of the DER says how many
// are missing. Their places are tried until the hashes are those of the issuer. A wrong guess within the serial number
// yields the request for another serial: the answer is true, and the client refuses it. Behind such a proxy this
// happens to one request in a thousand.
func decodeCollapsed(text []byte, ours func(*ocsp.Request) bool) (*ocsp.Request, bool) {
	missing := base64.RawStdEncoding.EncodedLen(announcedLength(text)) - len(text)
	if missing < 1 || missing > 3 {
		return nil, false
	}
	tries := 256
	return insertSlashes(text, 0, missing, &tries, ours)
}

// insertSlashes tries every way to insert the missing slashes beside those present at or after an offset.
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

// announcedLength returns the length in octets of the DER at the start of text, as its header gives it; 0 if it has no
// such header.
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
