package ocsp

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/pki"
)

// ResponseStatus is the outer status of a response (RFC 6960, Section 4.2.1), with the standard's numbers. Only
// Successful comes with a signature.
type ResponseStatus uint8

// The response statuses; 4 is not used by the standard.
const (
	Successful       ResponseStatus = 0
	MalformedRequest ResponseStatus = 1
	InternalError    ResponseStatus = 2
	TryLater         ResponseStatus = 3
	SigRequired      ResponseStatus = 5
	Unauthorized     ResponseStatus = 6
)

var responseStatusNames = [...]string{"successful", "malformedRequest", "internalError", "tryLater", "", "sigRequired", "unauthorized"}

// String returns the standard's identifier.
func (s ResponseStatus) String() string {
	if s.valid() {
		return responseStatusNames[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

func (s ResponseStatus) valid() bool {
	return int(s) < len(responseStatusNames) && responseStatusNames[s] != ""
}

// Marshal encodes a response without an answer: five octets. It panics on Successful, which requires an answer.
func (s ResponseStatus) Marshal() []byte {
	if s == Successful || !s.valid() {
		panic("ocsp: not an error status: " + s.String())
	}
	return []byte{0x30, 0x03, 0x0a, 0x01, byte(s)}
}

// Response is a parsed response. Nothing in it is verified: see Verify.
type Response struct {
	Status ResponseStatus

	// The fields below are set only if Status is Successful.

	ResponderName  []byte           // responderID byName: DER of the name; nil if byKey
	ResponderKey   []byte           // responderID byKey: SHA-1 of the key; nil if byName
	ProducedAt     time.Time        // when it was signed
	Answers        []SingleResponse // one per certificate, at most MaxItems; may be empty
	Nonce          []byte           // nil if absent
	ExtendedRevoke bool             // "revoked" may also mean "never issued" (RFC 6960, Section 4.4.8)
	Extensions     []Extension      // responseExtensions, all of them
	Signed         []byte           // DER of the ResponseData, which the signature is over
	Algorithm      []byte           // DER of the signature's AlgorithmIdentifier
	Signature      []byte
	Certificates   [][]byte // DER as received, at most 16, not parsed
}

// SingleResponse is the status of one certificate (RFC 6960, Section 4.2.1).
type SingleResponse struct {
	ID            CertID
	Status        pki.Status // Good, Revoked or Unknown
	RevokedAt     time.Time  // zero unless Revoked
	Reason        pki.Reason // Unspecified if none is given
	ThisUpdate    time.Time
	NextUpdate    time.Time   // zero if absent
	ArchiveCutoff time.Time   // zero if absent (RFC 6960, Section 4.4.4)
	InvalidityAt  time.Time   // zero if absent (RFC 6960, Section 4.4.5)
	Extensions    []Extension // singleExtensions, all of them; ignored by Sign, which writes those above
}

// neverIssuedAt is the revocation time that means "never issued" (RFC 6960, Section 2.2).
var neverIssuedAt = time.Unix(0, 0).UTC()

// NeverIssued returns the answer for a serial number that no certificate has: revoked, on hold, since 1970 (RFC 6960,
// Section 2.2). The response must set ExtendedRevoke (Section 4.4.8).
func NeverIssued(id CertID, thisUpdate, nextUpdate time.Time) SingleResponse {
	return SingleResponse{ID: id, Status: pki.StatusRevoked, Reason: pki.CertificateHold, RevokedAt: neverIssuedAt, ThisUpdate: thisUpdate, NextUpdate: nextUpdate}
}

func (a SingleResponse) neverIssued() bool {
	return a.Status == pki.StatusRevoked && a.Reason == pki.CertificateHold && a.RevokedAt.Equal(neverIssuedAt)
}

// ParseResponse reads a DER OCSPResponse of at most MaxResponse octets. Every error is a *MalformedError. A response
// without an answer, such as tryLater, parses; Verify turns it into an *UnsuccessfulError.
func ParseResponse(der []byte) (*Response, error) {
	if len(der) > MaxResponse {
		return nil, malformed("response of %d octets: at most %d are read", len(der), MaxResponse)
	}
	input := cryptobyte.String(der)
	var outer, wrapped, body, kind, octets cryptobyte.String
	var status int
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1Enum(&status) {
		return nil, malformed("response does not parse")
	}
	if status < 0 || status > 255 || !ResponseStatus(status).valid() {
		return nil, malformed("response status %d is not one of the standard's", status)
	}
	response := &Response{Status: ResponseStatus(status)}
	var present bool
	if !outer.ReadOptionalASN1(&wrapped, &present, asn1.Tag(0).Constructed().ContextSpecific()) || !outer.Empty() {
		return nil, malformed("response does not parse")
	}
	if response.Status != Successful {
		return response, nil
	}
	if !present || !wrapped.ReadASN1(&body, asn1.SEQUENCE) || !wrapped.Empty() || !body.ReadASN1(&kind, asn1.OBJECT_IDENTIFIER) ||
		!body.ReadASN1(&octets, asn1.OCTET_STRING) || !body.Empty() {
		return nil, malformed("successful response without a body that parses")
	}
	if OID(kind) != oidBasic {
		return nil, malformed("response of type %s: only id-pkix-ocsp-basic is read", OID(kind))
	}
	if err := response.readBasic(octets); err != nil {
		return nil, err
	}
	return response, nil
}

// readBasic reads a BasicOCSPResponse.
func (r *Response) readBasic(der cryptobyte.String) error {
	var basic, signed cryptobyte.String
	var algorithm algorithmIdentifier
	if !der.ReadASN1(&basic, asn1.SEQUENCE) || !der.Empty() || !basic.ReadASN1Element(&signed, asn1.SEQUENCE) ||
		!algorithm.read(&basic) || !basic.ReadASN1BitStringAsBytes(&r.Signature) {
		return malformed("basic response does not parse")
	}
	r.Signed, r.Algorithm = signed, algorithm.der
	var err error
	if r.Certificates, err = readCertificates(&basic); err != nil {
		return err
	}
	return r.readData(signed)
}

// readCertificates reads the optional certificates beside a signature, the last field of its structure.
func readCertificates(input *cryptobyte.String) (all [][]byte, err error) {
	var wrapped, certs, cert cryptobyte.String
	var present bool
	if !input.ReadOptionalASN1(&wrapped, &present, asn1.Tag(0).Constructed().ContextSpecific()) || !input.Empty() ||
		present && (!wrapped.ReadASN1(&certs, asn1.SEQUENCE) || !wrapped.Empty()) {
		return nil, malformed("certificates beside the signature do not parse")
	}
	for !certs.Empty() {
		if !certs.ReadASN1Element(&cert, asn1.SEQUENCE) || len(all) == maxNestedDERs {
			return nil, malformed("certificates beside the signature do not parse, or are more than %d", maxNestedDERs)
		}
		all = append(all, cert)
	}
	return all, nil
}

// readData reads a ResponseData.
func (r *Response) readData(der cryptobyte.String) error {
	var data, list cryptobyte.String
	if !der.ReadASN1(&data, asn1.SEQUENCE) {
		return malformed("response data does not parse")
	}
	if err := readVersion(&data); err != nil {
		return err
	}
	if err := r.readResponderID(&data); err != nil {
		return err
	}
	if !readGeneralizedTime(&data, &r.ProducedAt) || !data.ReadASN1(&list, asn1.SEQUENCE) {
		return malformed("response data does not parse")
	}
	for !list.Empty() {
		if len(r.Answers) == MaxItems {
			return malformed("response names more than %d certificates", MaxItems)
		}
		answer, err := readAnswer(&list)
		if err != nil {
			return err
		}
		r.Answers = append(r.Answers, answer)
	}
	var err error
	if r.Extensions, err = readExtensions(&data, 1); err != nil {
		return &MalformedError{Err: err}
	}
	if !data.Empty() {
		return malformed("response data has trailing fields")
	}
	if value, found := find(r.Extensions, OIDNonce); found {
		r.Nonce = responseNonce(value)
	}
	if value, found := find(r.Extensions, OIDExtendedRevoke); found {
		if r.ExtendedRevoke = isNull(value); !r.ExtendedRevoke {
			return malformed("extended-revoke extension is not NULL")
		}
	}
	return nil
}

func (r *Response) readResponderID(data *cryptobyte.String) error {
	byName, byKey := asn1.Tag(1).Constructed().ContextSpecific(), asn1.Tag(2).Constructed().ContextSpecific()
	var choice, inner cryptobyte.String
	switch {
	case data.PeekASN1Tag(byName):
		if data.ReadASN1(&choice, byName) && choice.ReadASN1Element(&inner, asn1.SEQUENCE) && choice.Empty() {
			r.ResponderName = inner
			return nil
		}
	case data.PeekASN1Tag(byKey):
		if data.ReadASN1(&choice, byKey) && choice.ReadASN1(&inner, asn1.OCTET_STRING) && choice.Empty() {
			r.ResponderKey = inner
			return nil
		}
	}
	return malformed("responder identifier does not parse")
}

// readAnswer reads a SingleResponse.
func readAnswer(list *cryptobyte.String) (SingleResponse, error) {
	var a SingleResponse
	var single, next cryptobyte.String
	var present bool
	if !list.ReadASN1(&single, asn1.SEQUENCE) || !readCertID(&single, &a.ID) || !readCertStatus(&single, &a) ||
		!readGeneralizedTime(&single, &a.ThisUpdate) ||
		!single.ReadOptionalASN1(&next, &present, asn1.Tag(0).Constructed().ContextSpecific()) ||
		present && (!readGeneralizedTime(&next, &a.NextUpdate) || !next.Empty()) {
		return SingleResponse{}, malformed("answer does not parse")
	}
	var err error
	if a.Extensions, err = readExtensions(&single, 1); err != nil {
		return SingleResponse{}, &MalformedError{Err: err}
	}
	if !single.Empty() {
		return SingleResponse{}, malformed("answer has trailing fields")
	}
	if !readTimeExtension(a.Extensions, OIDArchiveCutoff, &a.ArchiveCutoff) || !readTimeExtension(a.Extensions, OIDInvalidityDate, &a.InvalidityAt) {
		return SingleResponse{}, malformed("date in an extension of the answer does not parse")
	}
	return a, nil
}

func readCertStatus(single *cryptobyte.String, a *SingleResponse) bool {
	good, revoked, unknown := asn1.Tag(0).ContextSpecific(), asn1.Tag(1).Constructed().ContextSpecific(), asn1.Tag(2).ContextSpecific()
	var content, reason cryptobyte.String
	switch {
	case single.PeekASN1Tag(good):
		a.Status = pki.StatusGood
		return single.ReadASN1(&content, good) && content.Empty()
	case single.PeekASN1Tag(unknown):
		a.Status = pki.StatusUnknown
		return single.ReadASN1(&content, unknown) && content.Empty()
	}
	a.Status = pki.StatusRevoked
	var present bool
	if !single.ReadASN1(&content, revoked) || !readGeneralizedTime(&content, &a.RevokedAt) ||
		!content.ReadOptionalASN1(&reason, &present, asn1.Tag(0).Constructed().ContextSpecific()) || !content.Empty() {
		return false
	}
	if !present {
		return true
	}
	var number int
	if !reason.ReadASN1Enum(&number) || !reason.Empty() || number < 0 {
		return false
	}
	if known := pki.Reason(number); number <= math.MaxUint8 && known.Valid() {
		a.Reason = known
	} // a code that the standard does not know says no more than none: the certificate is revoked
	return true
}

func readTimeExtension(list []Extension, id OID, out *time.Time) bool {
	value, found := find(list, id)
	if !found {
		return true
	}
	input := cryptobyte.String(value)
	return readGeneralizedTime(&input, out) && input.Empty()
}

// readGeneralizedTime reads a time in UTC with seconds and without fractions: RFC 6960, Section 4.2.2.1 requires the
// form of RFC 5280, Section 4.1.2.5.2. cryptobyte would accept offsets too.
func readGeneralizedTime(input *cryptobyte.String, out *time.Time) bool {
	return input.ReadASN1GeneralizedTime(out) && out.Location() == time.UTC
}
