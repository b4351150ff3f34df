package ocspserver

import (
	"encoding/base64"
	"strings"

	"signet.example/signet/ocsp"
)

// maxGET bounds the encoded request in an address. RFC 9919, Section 5, has clients use GET up to 255 octets of URL.
const maxGET = 1 << 10

// decodeGET reads a request from the part of an address behind the issuer, as it came over the wire. What clients and
// proxies do to it is undone: URL-safe base64, percent-encoding done twice, a plus sign turned into a space, padding
// left out, slashes doubled in front or collapsed within.
func decodeGET(text string) (*ocsp.Request, error) {
	text = strings.TrimLeft(text, "/")
	request, err := decodeBase64(text)
	for range 2 {
		if err == nil || !strings.Contains(text, "%") {
			break
		}
		text = strings.TrimLeft(percentDecode(text), "/")
		request, err = decodeBase64(text)
	}
	if err == nil {
		return request, nil
	}
	if mended, ok := decodeCollapsed(text); ok {
		return mended, nil
	}
	return nil, err
}

// percentDecode decodes what is an escape and leaves everything else, a stray percent sign too.
func percentDecode(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) && hexDigit(text[i+1]) >= 0 && hexDigit(text[i+2]) >= 0 {
			b.WriteByte(byte(hexDigit(text[i+1])<<4 | hexDigit(text[i+2])))
			i += 2
			continue
		}
		b.WriteByte(text[i])
	}
	return b.String()
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

// decodeBase64 reads either alphabet, with or without padding.
func decodeBase64(text string) (*ocsp.Request, error) {
	text = strings.TrimRight(text, "=")
	plain := make([]byte, len(text))
	for i := range len(text) {
		switch c := text[i]; c {
		case '-', ' ':
			plain[i] = '+'
		case '_':
			plain[i] = '/'
		default:
			plain[i] = c
		}
	}
	der := make([]byte, base64.RawStdEncoding.DecodedLen(len(plain)))
	n, err := base64.RawStdEncoding.Decode(der, plain)
	if err != nil {
		return nil, &ocsp.MalformedError{Err: err}
	}
	return ocsp.ParseRequest(der[:n])
}

// decodeCollapsed tries where a proxy may have made one slash of two. A wrong guess yields another serial number or
// hash, which the client then refuses; it cannot make an answer say anything false.
func decodeCollapsed(text string) (*ocsp.Request, bool) {
	for i := range len(text) {
		if text[i] != '/' {
			continue
		}
		if request, err := decodeBase64(text[:i] + "/" + text[i:]); err == nil {
			return request, true
		}
	}
	return nil, false
}
