package ocsp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds on what is read, in octets and counts.
const (
	MaxRequest  = 10 << 10 // a POST; a request for eight certificates with a signature stays under it
	MaxResponse = 64 << 10 // a response
	MaxItems    = 256      // certificates named in one message
	MaxGETURL   = 255      // RFC 9919, Section 5: a URL up to this length is asked by GET, a longer one by POST
)

const maxNestedDERs = 16 // certificates beside a signature

// Request asks for the status of certificates (RFC 6960, Section 4.1).
type Request struct {
	Items         []SingleRequest
	RequestorName []byte      // DER of the GeneralName; nil if absent
	Nonce         []byte      // 1 to 128 octets; nil if absent
	Extensions    []Extension // requestExtensions, the nonce included
	Signed        bool        // a signature was present; it is not verified, because anyone may ask

	one [1]SingleRequest // room for the usual request
}

// SingleRequest asks for the status of one certificate (RFC 6960, Section 4.1.1, Request).
type SingleRequest struct {
	ID         CertID
	Extensions []Extension // singleRequestExtensions
}

// NewRequest returns a request for one certificate. It has no nonce, so a cache may answer (RFC 9919, Section 2.1.1).
func NewRequest(id CertID) *Request { return &Request{Items: []SingleRequest{{ID: id}}} }

// ParseRequest reads a DER OCSPRequest of at most MaxRequest octets. Every error is a *MalformedError, to which a
// responder answers MalformedRequest.
func ParseRequest(der []byte) (*Request, error) {
	if len(der) > MaxRequest {
		return nil, malformed("request of %d octets: at most %d are read", len(der), MaxRequest)
	}
	input := cryptobyte.String(der)
	var outer, tbs cryptobyte.String
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1(&tbs, asn1.SEQUENCE) {
		return nil, malformed("request does not parse")
	}
	request := new(Request)
	request.Items = request.one[:0]
	if err := request.readSignature(&outer); err != nil {
		return nil, err
	}
	if err := request.readTBS(&tbs); err != nil {
		return nil, err
	}
	return request, nil
}

// readSignature notes optionalSignature and checks its shape only.
func (r *Request) readSignature(outer *cryptobyte.String) error {
	var wrapped, signature cryptobyte.String
	var algorithm algorithmIdentifier
	var bits []byte
	if !outer.ReadOptionalASN1(&wrapped, &r.Signed, asn1.Tag(0).Constructed().ContextSpecific()) || !outer.Empty() {
		return malformed("request does not parse")
	}
	if !r.Signed {
		return nil
	}
	if !wrapped.ReadASN1(&signature, asn1.SEQUENCE) || !wrapped.Empty() ||
		!algorithm.read(&signature) || !signature.ReadASN1BitStringAsBytes(&bits) {
		return malformed("signature of the request does not parse")
	}
	_, err := readCertificates(&signature)
	return err
}

func (r *Request) readTBS(tbs *cryptobyte.String) error {
	var name, list cryptobyte.String
	var named bool
	if err := readVersion(tbs); err != nil {
		return err
	}
	if !tbs.ReadOptionalASN1(&name, &named, asn1.Tag(1).Constructed().ContextSpecific()) || !tbs.ReadASN1(&list, asn1.SEQUENCE) {
		return malformed("request does not parse")
	}
	if named {
		if r.RequestorName = name; !isGeneralName(name) {
			return malformed("requestor name does not parse")
		}
	}
	for !list.Empty() {
		if len(r.Items) == MaxItems {
			return malformed("request names more than %d certificates", MaxItems)
		}
		item, err := readItem(&list)
		if err != nil {
			return err
		}
		r.Items = append(r.Items, item)
	}
	if len(r.Items) == 0 {
		return malformed("request names no certificate")
	}
	var err error
	if r.Extensions, err = readExtensions(tbs, 2); err != nil {
		return &MalformedError{Err: err}
	}
	if !tbs.Empty() {
		return malformed("request has trailing fields")
	}
	return r.readKnownExtensions()
}

// isGeneralName reports whether name is one element with a tag of GeneralName (RFC 5280, Section 4.2.1.6). Its content
// is not read.
func isGeneralName(name cryptobyte.String) bool {
	var content cryptobyte.String
	var tag asn1.Tag
	return name.ReadAnyASN1(&content, &tag) && name.Empty() && tag&0xc0 == 0x80 && tag&0x1f <= 8
}

func (r *Request) readKnownExtensions() error {
	if id, found := firstUnknownCritical(r.Extensions, OID.knownInRequest); found {
		return &MalformedError{Err: &CriticalExtensionError{ID: id}}
	}
	value, found := find(r.Extensions, OIDNonce)
	if !found {
		return nil
	}
	nonce, err := requestNonce(value)
	if err != nil {
		return &MalformedError{Err: err}
	}
	r.Nonce = nonce
	return nil
}

func readItem(list *cryptobyte.String) (SingleRequest, error) {
	var item SingleRequest
	var single cryptobyte.String
	if !list.ReadASN1(&single, asn1.SEQUENCE) || !readCertID(&single, &item.ID) {
		return SingleRequest{}, malformed("certificate identifier does not parse")
	}
	var err error
	if item.Extensions, err = readExtensions(&single, 0); err != nil {
		return SingleRequest{}, &MalformedError{Err: err}
	}
	if !single.Empty() {
		return SingleRequest{}, malformed("certificate identifier has trailing fields")
	}
	if id, found := firstUnknownCritical(item.Extensions, OID.knownInRequest); found {
		return SingleRequest{}, &MalformedError{Err: &CriticalExtensionError{ID: id}}
	}
	return item, nil
}

// readVersion reads [0] EXPLICIT Version DEFAULT v1. It accepts an encoded default, which is not DER but occurs.
func readVersion(input *cryptobyte.String) error {
	var outer cryptobyte.String
	var present bool
	var version int
	if !input.ReadOptionalASN1(&outer, &present, asn1.Tag(0).Constructed().ContextSpecific()) {
		return malformed("version does not parse")
	}
	if present && (!outer.ReadASN1Integer(&version) || !outer.Empty() || version != 0) {
		return malformed("version is not 1")
	}
	return nil
}

// Marshal encodes the request, unsigned. Nonce, if not nil, must have 1 to 128 octets; Extensions must not hold another
// nonce.
func (r *Request) Marshal() ([]byte, error) {
	if len(r.Items) == 0 || len(r.Items) > MaxItems {
		return nil, fmt.Errorf("encode OCSP request: %d certificates: want 1 to %d", len(r.Items), MaxItems)
	}
	extensions, err := withNonce(r.Extensions, r.Nonce)
	if err != nil {
		return nil, fmt.Errorf("encode OCSP request: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if r.RequestorName != nil {
				addBytes(b, asn1.Tag(1).Constructed().ContextSpecific(), r.RequestorName)
			}
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, item := range r.Items {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						addCertID(b, item.ID)
						addExtensions(b, 0, item.Extensions)
					})
				}
			})
			addExtensions(b, 2, extensions)
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode OCSP request: %w", err)
	}
	return der, nil
}

// withNonce returns the extensions with that of the nonce first, unless they already hold the same one.
func withNonce(extensions []Extension, nonce []byte) ([]Extension, error) {
	if nonce == nil {
		return extensions, nil
	}
	if len(nonce) < MinNonce || len(nonce) > MaxNonce {
		return nil, fmt.Errorf("nonce of %d octets: RFC 9654 allows %d to %d", len(nonce), MinNonce, MaxNonce)
	}
	e := nonceExtension(nonce)
	if value, found := find(extensions, OIDNonce); found {
		if string(value) != string(e.Value) {
			return nil, errors.New("two different nonces")
		}
		return extensions, nil
	}
	return append([]Extension{e}, extensions...), nil
}

// URL returns the address of a GET for a DER request: the responder's address followed by the percent-encoded base64.
// get is false if the address would exceed MaxGETURL octets; then the request is sent by POST to the responder's
// address (RFC 9919, Section 5).
func URL(responder string, request []byte) (address string, get bool) {
	for len(responder) > 0 && responder[len(responder)-1] == '/' {
		responder = responder[:len(responder)-1]
	}
	// QueryEscape, since PathEscape leaves the plus sign alone, which proxies take for a space; neither text has a
	// space.
	address = responder + "/" + url.QueryEscape(base64.StdEncoding.EncodeToString(request))
	return address, len(address) <= MaxGETURL
}
