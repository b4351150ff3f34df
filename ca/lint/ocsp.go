package lint

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// response is an OCSPResponse (RFC 6960, Section 4.2.1) as it is encoded.
type response struct {
	status     int
	hasBody    bool
	version    bool // it is encoded
	algorithm  []byte
	byName     bool
	key        cryptobyte.String // of a responder named by key
	producedAt moment
	answers    []answer
	extensions []extension
	sent       []*x509.Certificate // those that parse
}

// answer is a SingleResponse.
type answer struct {
	revoked    bool
	revokedAt  moment
	reason     int // -1: none
	thisUpdate moment
	nextUpdate *moment
	extensions []extension
}

const (
	oidNonce          = "\x2b\x06\x01\x05\x05\x07\x30\x01\x02"
	oidCRLReference   = "\x2b\x06\x01\x05\x05\x07\x30\x01\x03"
	oidExtendedRevoke = "\x2b\x06\x01\x05\x05\x07\x30\x01\x09"
	oidBasicResponse  = "\x2b\x06\x01\x05\x05\x07\x30\x01\x01"
	maxAnswers        = 1000
)

// OCSP checks a whole OCSPResponse against the rules. public adds those of the CA/Browser Forum.
func OCSP(der []byte, public bool) []Finding {
	r, why := readResponse(der)
	if why != "" {
		return unparsed("OCSP response", "RFC 6960: 4.2.1", why)
	}
	return run(ocspRules, r, public)
}

func tagged(n uint8) cryptobyte_asn1.Tag {
	return cryptobyte_asn1.Tag(n).Constructed().ContextSpecific()
}

func readResponse(der []byte) (*response, string) {
	r := &response{}
	input := cryptobyte.String(der)
	var outer, wrapped, body, kind, octets cryptobyte.String
	if !input.ReadASN1(&outer, cryptobyte_asn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1Enum(&r.status) ||
		!outer.ReadOptionalASN1(&wrapped, &r.hasBody, tagged(0)) || !outer.Empty() {
		return nil, "the status or its body"
	}
	if !r.hasBody {
		return r, ""
	}
	if !wrapped.ReadASN1(&body, cryptobyte_asn1.SEQUENCE) || !body.ReadASN1(&kind, cryptobyte_asn1.OBJECT_IDENTIFIER) || string(kind) != oidBasicResponse ||
		!body.ReadASN1(&octets, cryptobyte_asn1.OCTET_STRING) {
		return nil, "the body is not a basic response"
	}
	var basic, data, algorithm, certs, list cryptobyte.String
	var sent bool
	if !octets.ReadASN1(&basic, cryptobyte_asn1.SEQUENCE) || !octets.Empty() || !basic.ReadASN1(&data, cryptobyte_asn1.SEQUENCE) ||
		!basic.ReadASN1Element(&algorithm, cryptobyte_asn1.SEQUENCE) || !basic.SkipASN1(cryptobyte_asn1.BIT_STRING) ||
		!basic.ReadOptionalASN1(&certs, &sent, tagged(0)) || !basic.Empty() {
		return nil, "the basic response"
	}
	r.algorithm = algorithm
	if sent && !certs.ReadASN1(&list, cryptobyte_asn1.SEQUENCE) {
		return nil, "the certificates"
	}
	for !list.Empty() {
		var one cryptobyte.String
		if !list.ReadASN1Element(&one, cryptobyte_asn1.SEQUENCE) {
			return nil, "the certificates"
		}
		if c, err := x509.ParseCertificate(one); err == nil {
			r.sent = append(r.sent, c)
		}
	}
	return r, r.readData(data)
}

func (r *response) readData(data cryptobyte.String) string {
	var version, id, list, extensions cryptobyte.String
	var ok bool
	if !data.ReadOptionalASN1(&version, &r.version, tagged(0)) {
		return "the version"
	}
	switch {
	case data.ReadOptionalASN1(&id, &r.byName, tagged(1)) && r.byName:
	case data.ReadASN1(&id, tagged(2)) && id.ReadASN1(&r.key, cryptobyte_asn1.OCTET_STRING):
	default:
		return "the responder's identifier"
	}
	if r.producedAt, ok = readMoment(&data); !ok || !data.ReadASN1(&list, cryptobyte_asn1.SEQUENCE) {
		return "producedAt or the answers"
	}
	for !list.Empty() {
		a, ok := readAnswer(&list)
		if !ok || len(r.answers) == maxAnswers {
			return fmt.Sprintf("answer %d", len(r.answers)+1)
		}
		r.answers = append(r.answers, a)
	}
	if !data.ReadOptionalASN1(&extensions, &ok, tagged(1)) || !data.Empty() {
		return "the extensions"
	}
	if ok {
		if r.extensions, ok = readExtensions(extensions); !ok {
			return "the extensions"
		}
	}
	return ""
}

func readAnswer(list *cryptobyte.String) (a answer, ok bool) {
	a.reason = -1
	var single, status, reason, next, extensions cryptobyte.String
	var tag cryptobyte_asn1.Tag
	if !list.ReadASN1(&single, cryptobyte_asn1.SEQUENCE) || !single.SkipASN1(cryptobyte_asn1.SEQUENCE) || !single.ReadAnyASN1(&status, &tag) {
		return a, false
	}
	if a.revoked = tag == tagged(1); a.revoked {
		if a.revokedAt, ok = readMoment(&status); !ok {
			return a, false
		}
		if !status.ReadOptionalASN1(&reason, &ok, tagged(0)) || ok && !reason.ReadASN1Enum(&a.reason) {
			return a, false
		}
	}
	if a.thisUpdate, ok = readMoment(&single); !ok || !single.ReadOptionalASN1(&next, &ok, tagged(0)) {
		return a, false
	}
	if ok {
		at, read := readMoment(&next)
		if !read {
			return a, false
		}
		a.nextUpdate = &at
	}
	if !single.ReadOptionalASN1(&extensions, &ok, tagged(1)) || !single.Empty() {
		return a, false
	}
	if ok {
		a.extensions, ok = readExtensions(extensions)
		return a, ok
	}
	return a, true
}

// never reports whether an answer says that the certificate was never issued.
func (a *answer) never() bool { return a.revoked && a.revokedAt.text == "19700101000000Z" }

// each returns the implementation of a rule that every answer must keep.
func each(broken func(r *response, a *answer) string) func(*response) string {
	return func(r *response) string {
		for i := range r.answers {
			if why := broken(r, &r.answers[i]); why != "" {
				return fmt.Sprintf("answer %d: %s", i+1, why)
			}
		}
		return ""
	}
}

// delegates returns the certificates in the response that are not a CA's.
func (r *response) delegates() []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(r.sent), func(c *x509.Certificate) bool { return c.IsCA })
}

func rfc6960(id, section, text string, broken func(*response) string) check[*response] {
	return check[*response]{Rule{id, "RFC6960", "RFC 6960: " + section, text}, broken}
}

func brForum(id, section, text string, broken func(*response) string) check[*response] {
	return check[*response]{Rule{id, "CABF_BR", "CA/B BR: " + section, text}, broken}
}

// ocspRules are in the order of RFC 6960, then of RFC 9654 and of the CA/Browser Forum's TLS Baseline Requirements.
var ocspRules = []check[*response]{
	rfc6960("e_sg_ocsp_never_issued", "2.2", "never issued is said as on hold since 1970, with extended revoke, and without CRL references", each(func(r *response, a *answer) string {
		switch {
		case !a.never():
			return ""
		case a.reason != 6:
			return fmt.Sprintf("the reason is %d", a.reason)
		case find(r.extensions, oidExtendedRevoke) == nil:
			return "extended revoke is not there"
		case find(a.extensions, oidCRLReference) != nil:
			return "it has a CRL reference"
		}
		return ""
	})),
	rfc6960("e_sg_ocsp_produced", "2.4", "thisUpdate is not later than producedAt", each(func(r *response, a *answer) string {
		if a.thisUpdate.at().After(r.producedAt.at()) {
			return a.thisUpdate.text + " and " + r.producedAt.text
		}
		return ""
	})),
	rfc6960("e_sg_ocsp_revoked_later", "2.4", "nothing was revoked later than it is said", each(func(r *response, a *answer) string {
		if a.revoked && a.revokedAt.at().After(r.producedAt.at()) {
			return a.revokedAt.text
		}
		return ""
	})),
	rfc6960("e_sg_ocsp_times", "2.4", "nextUpdate is later than thisUpdate", each(func(_ *response, a *answer) string {
		if a.nextUpdate != nil && !a.nextUpdate.at().After(a.thisUpdate.at()) {
			return a.thisUpdate.text + " to " + a.nextUpdate.text
		}
		return ""
	})),
	rfc6960("e_sg_ocsp_body", "4.2.1", "a response that is not successful has no body, and a successful one has", func(r *response) string {
		if r.hasBody != (r.status == 0) {
			return fmt.Sprintf("status %d", r.status)
		}
		return ""
	}),
	rfc6960("e_sg_ocsp_status", "4.2.1", "the status is of the enumeration", func(r *response) string {
		if r.status < 0 || r.status == 4 || r.status > 6 {
			return fmt.Sprint(r.status)
		}
		return ""
	}),
	{Rule{"e_sg_ocsp_default_encoded", "X690", "X.690: 11.5", "version 1 and critical FALSE, the defaults, are not written"}, func(r *response) string {
		if r.version {
			return "the version is"
		}
		if why := spelledOut(r.extensions); why != "" {
			return why
		}
		return each(func(_ *response, a *answer) string { return spelledOut(a.extensions) })(r)
	}},
	rfc6960("e_sg_ocsp_key_hash", "4.2.1", "a responder named by key is named by 20 octets", func(r *response) string {
		if r.hasBody && !r.byName && len(r.key) != 20 {
			return fmt.Sprintf("%d octets", len(r.key))
		}
		return ""
	}),
	rfc6960("e_sg_ocsp_answers", "4.2.1", "there is an answer", func(r *response) string {
		if r.hasBody && len(r.answers) == 0 {
			return "there is none"
		}
		return ""
	}),
	rfc6960("e_sg_ocsp_time_form", "4.2.2.1", "times are GeneralizedTime in whole seconds of UTC (RFC 5280, Section 4.1.2.5.2)", func(r *response) string {
		if r.hasBody {
			if why := r.producedAt.brokenGeneralized(); why != "" {
				return "producedAt: " + why
			}
		}
		return each(func(_ *response, a *answer) string {
			times := []moment{a.thisUpdate}
			if a.nextUpdate != nil {
				times = append(times, *a.nextUpdate)
			}
			if a.revoked {
				times = append(times, a.revokedAt)
			}
			for _, at := range times {
				if why := at.brokenGeneralized(); why != "" {
					return why
				}
			}
			return ""
		})(r)
	}),
	rfc6960("w_sg_ocsp_next_update", "4.2.2.1", "nextUpdate is there, or the answer cannot be kept", each(func(_ *response, a *answer) string {
		if a.nextUpdate == nil {
			return "it is not"
		}
		return ""
	})),
	{Rule{
		"e_sg_ocsp_algorithm_parameters", "RFC9881", "RFC 4055: 5; RFC 5758: 3.2; RFC 8410: 3; RFC 9881: 2",
		"the parameters of the signature algorithm are as its document says",
	}, func(r *response) string {
		if !r.hasBody {
			return ""
		}
		return brokenIdentifier(r.algorithm)
	}},
	rfc6960("e_sg_ocsp_delegate", "4.2.2.2", "a delegate's certificate is for signing OCSP responses", func(r *response) string {
		for _, c := range r.delegates() {
			if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
				return c.Subject.String()
			}
		}
		return ""
	}),
	rfc6960("e_sg_ocsp_duplicate_extension", "4.4", "no extension is there twice", func(r *response) string {
		if why := duplicates(r.extensions); why != "" {
			return why
		}
		return each(func(_ *response, a *answer) string { return duplicates(a.extensions) })(r)
	}),
	rfc6960("e_sg_ocsp_extended_revoke", "4.4.8", "extended revoke is NULL and not critical", func(r *response) string {
		if e := find(r.extensions, oidExtendedRevoke); e != nil && (e.critical || string(e.value) != "\x05\x00") {
			return fmt.Sprintf("critical %t, %x", e.critical, []byte(e.value))
		}
		return ""
	}),
	rfc5280OCSP("e_sg_ocsp_reason", "5.3.1", "reasons are of the enumeration, and not removeFromCRL", each(func(_ *response, a *answer) string {
		if a.reason == 7 || a.reason == 8 || a.reason > 10 {
			return fmt.Sprint(a.reason)
		}
		return ""
	})),
	rfc5280OCSP("w_sg_ocsp_unspecified", "5.3.1", "the reason unspecified is not written", each(func(_ *response, a *answer) string {
		if a.reason == 0 {
			return "it is"
		}
		return ""
	})),
	{Rule{"e_sg_ocsp_nonce", "RFC9654", "RFC 9654: 2.1", "a nonce is an OCTET STRING of 1 to 128 octets"}, func(r *response) string {
		e := find(r.extensions, oidNonce)
		if e == nil {
			return ""
		}
		value := e.value
		var nonce cryptobyte.String
		if !value.ReadASN1(&nonce, cryptobyte_asn1.OCTET_STRING) || !value.Empty() || len(nonce) < 1 || len(nonce) > 128 {
			return fmt.Sprintf("%d octets, nested", len(e.value))
		}
		return ""
	}},
	brForum("e_sg_br_ocsp_no_check", "4.9.9", "a delegate's certificate has id-pkix-ocsp-nocheck", func(r *response) string {
		for _, c := range r.delegates() {
			if !slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidOCSPNoCheck) }) {
				return c.Subject.String()
			}
		}
		return ""
	}),
	brForum("e_sg_br_ocsp_lifetime", "4.9.10", "an answer lives for 8 hours at least and 10 days at most", each(func(_ *response, a *answer) string {
		if a.nextUpdate == nil {
			return "nextUpdate is not there"
		}
		if life := a.nextUpdate.at().Sub(a.thisUpdate.at()); life < 8*time.Hour || life > 10*24*time.Hour {
			return life.String()
		}
		return ""
	})),
	brForum("e_sg_br_ocsp_reason_extension", "7.3.2", "the reason does not stand in an extension of an answer", each(func(_ *response, a *answer) string {
		if find(a.extensions, oidReasonCode) != nil {
			return "it does"
		}
		return ""
	})),
}

var oidOCSPNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

func rfc5280OCSP(id, section, text string, broken func(*response) string) check[*response] {
	return check[*response]{Rule{id, "RFC5280", "RFC 5280: " + section, text}, broken}
}
