package ocsp

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Lengths of a nonce in octets (RFC 9654, Section 2.1).
const (
	MinNonce       = 1
	MaxNonce       = 128
	RequesterNonce = 32 // the least that a requester sends
)

// nonceExtension wraps a nonce: extnValue holds the DER of an OCTET STRING.
func nonceExtension(nonce []byte) Extension {
	var b cryptobyte.Builder
	b.AddASN1OctetString(nonce)
	return Extension{ID: OIDNonce, Value: b.BytesOrPanic()}
}

// requestNonce unwraps the nonce of a request. RFC 9654, Section 2.1: a nonce of no octets or of more than 128 is
// answered with malformedRequest.
func requestNonce(value []byte) ([]byte, error) {
	input := cryptobyte.String(value)
	var nonce cryptobyte.String
	if !input.ReadASN1(&nonce, asn1.OCTET_STRING) || !input.Empty() {
		return nil, fmt.Errorf("nonce is not an OCTET STRING")
	}
	if len(nonce) < MinNonce || len(nonce) > MaxNonce {
		return nil, fmt.Errorf("nonce of %d octets: RFC 9654 allows %d to %d", len(nonce), MinNonce, MaxNonce)
	}
	return nonce, nil
}

// responseNonce unwraps the nonce of a response. A responder older than RFC 8954 may have echoed it unwrapped. Callers
// that demand a nonce compare it, so accepting both forms is safe.
func responseNonce(value []byte) []byte {
	input := cryptobyte.String(value)
	var nonce cryptobyte.String
	if !input.ReadASN1(&nonce, asn1.OCTET_STRING) || !input.Empty() {
		return value
	}
	return nonce
}
