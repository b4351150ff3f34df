package ocsp_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"signet.example/signet/internal/testder"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

var responseNames = testder.Names{
	"/SEQUENCE": "OCSPResponse", "OCSPResponse/{0}": "responseBytes", "responseBytes/SEQUENCE": "ResponseBytes", "2b0601050507300101/SEQUENCE": "BasicOCSPResponse",
	"BasicOCSPResponse/SEQUENCE": "ResponseData", "BasicOCSPResponse/SEQUENCE#2": "signatureAlgorithm", "BasicOCSPResponse/{0}": "certs",
	"certs/SEQUENCE": "Certificates", "Certificates/SEQUENCE": "Certificate...",
	"ResponseData/{0}": "version", "ResponseData/{1}": "responseExtensions", "ResponseData/{2}": "byKey", "ResponseData/SEQUENCE": "responses",
	"responses/SEQUENCE": "SingleResponse", "SingleResponse/SEQUENCE": "CertID", "CertID/SEQUENCE": "hashAlgorithm", "SingleResponse/[0]": "good NULL", "SingleResponse/[2]": "unknown NULL",
	"SingleResponse/{0}": "nextUpdate", "SingleResponse/{1}": "revoked", "SingleResponse/{1}#2": "singleExtensions", "revoked/{0}": "revocationReason",
	"responseExtensions/SEQUENCE": "Extensions", "singleExtensions/SEQUENCE": "Extensions", "revoked/SEQUENCE": "Extensions", "Extensions/SEQUENCE": "Extension",
	"2b0601050507300102/OCTET STRING": "nonce", "2b0601050507300109/NULL": "extendedRevoke NULL",
}

// namesByName are responseNames for a responder that is named by its name.
func namesByName() testder.Names {
	names := maps.Clone(responseNames)
	maps.Copy(names, testder.Names{"ResponseData/{1}": "byName", "ResponseData/{1}#2": "responseExtensions", "byName/SEQUENCE": "Name..."})
	return names
}

// TestDamagedResponses damages every node of responses in every way: each is refused as malformed, or one of the
// leniencies. What is accepted and verifies says what the responder signed.
func TestDamagedResponses(t *testing.T) {
	w := newWorld(t)
	full := w.good(t)
	full.Nonce, full.ExtendedRevoke = bytes.Repeat([]byte{7}, 32), true
	first := &full.Answers[0]
	first.ArchiveCutoff, first.InvalidityAt = now.Add(-time.Hour), now.Add(-2*time.Hour)
	first.Status, first.RevokedAt, first.Reason = pki.StatusRevoked, now.Add(-3*time.Hour), pki.KeyCompromise
	full.Answers = append(full.Answers,
		ocsp.SingleResponse{ID: certID(t, w.ca.cert, w.sibling.cert, crypto.SHA1), Status: pki.StatusUnknown, ThisUpdate: now, NextUpdate: now.Add(time.Hour)},
		ocsp.SingleResponse{ID: certID(t, w.ca.cert, w.sibling.cert, crypto.SHA512), Status: pki.StatusGood, ThisUpdate: now})
	byName, err := xocsp.CreateResponse(w.ca.cert, w.responder.cert, xocsp.Response{
		Status: xocsp.Good, SerialNumber: w.leaf.cert.SerialNumber, ThisUpdate: now, NextUpdate: now.Add(time.Hour),
	}, w.responder.key)
	if err != nil {
		t.Fatal(err)
	}
	q := w.query()
	// X/crypto/ocsp dates production by the machine's clock.
	q.Certificate, q.Serial, q.Untrusted = nil, serialOf(t, w.leaf), []*x509.Certificate{w.responder.cert}
	plain := sign(t, w.responder, w.good(t))
	version := testder.Parse(plain, responseNames).Prepend("ResponseData", []byte{0xa0, 3, 2, 1, 0}) // 1, the default
	lenient := testder.Leniencies{
		{Kinds: "zero in front, minus one, minus one at length", Wheres: "CertID/INTEGER", Why: "other authorities have such serial numbers: they are octets, compared as octets"},
		{Kinds: "after the next", Wheres: "CertID/OCTET STRING", Why: "hashes of one length: they are those of another issuer then"},
		{Kinds: "removed", Wheres: "BasicOCSPResponse/certs, SingleResponse/nextUpdate, SingleResponse/singleExtensions, ResponseData/responseExtensions, ResponseData/version, revoked/revocationReason, Extension/BOOLEAN", Why: "is optional"},
		{Kinds: "removed", Wheres: "hashAlgorithm/NULL, signatureAlgorithm/NULL", Why: "some write NULL where others write nothing"},
		{Kinds: "emptied, removed, twice, after the next", Wheres: "ResponseData/responses, responses/SingleResponse, certs/Certificates, Certificates/Certificate...", Why: "there may be any number, in any order"},
		{Kinds: "removed, after the next", Wheres: "Extensions/Extension", Why: "there may be any number, in any order"},
		{Kinds: "emptied", Wheres: "responseExtensions/Extensions, singleExtensions/Extensions", Why: "at least one should be there; none says nothing"},
		{Kinds: "false written out", Wheres: "Extensions/Extension", Why: "a default that is written out is not DER, and common"},
		{Kinds: "*", Wheres: "OCTET STRING/nonce", Why: "responders older than RFC 8954 echo it without its wrapping; who demanded a nonce compares"},
		{Kinds: "emptied, an element at the end, an octet at the end", Wheres: "Extension/OCTET STRING", Why: "the same: it is that of the nonce"},
		{Kinds: "an element at the end", Wheres: "BasicOCSPResponse/signatureAlgorithm", Why: "parameters are the algorithm's own: Verify judges them"},
		{Kinds: "another tag, another class, universal or context tag, constructed or not, content", Wheres: "signatureAlgorithm/NULL", Why: "the same"},
		{Kinds: "twice", Wheres: "signatureAlgorithm/OBJECT IDENTIFIER", Why: "the same"},
	}
	for _, document := range []struct {
		name        string
		der, signed []byte // signed: what it is made of, which verifies
		names       testder.Names
	}{
		{"delegated, by key", plain, plain, responseNames},
		{"version written out", version, plain, responseNames},
		{"several answers with everything", sign(t, w.responder, full), nil, responseNames},
		{"by the issuer, with RSA", sign(t, issue(t, w.ca, "RSA", newKey(t, "RSA"), delegate), w.good(t)), nil, responseNames},
		{"by name", byName, nil, namesByName()},
		{"tryLater", ocsp.TryLater.Marshal(), plain, responseNames},
	} {
		if document.signed == nil {
			document.signed = document.der
		}
		want, err := ocsp.Verify(document.signed, q)
		if err != nil {
			t.Fatalf("%s: %v", document.name, err)
		}
		if _, err := ocsp.ParseResponse(document.der); err != nil {
			t.Fatalf("%s: %v", document.name, err)
		}
		for damage := range testder.Parse(document.der, document.names).Damages() {
			r, err := ocsp.ParseResponse(damage.DER)
			if err != nil {
				if cause(err) != "malformed" {
					t.Errorf("%s: %s: refused with %v", document.name, damage, err)
				}
				continue
			}
			if !lenient.Allow(damage) {
				t.Errorf("%s: %s: accepted: %x", document.name, damage, damage.DER)
			}
			if got, err := r.Verify(q); err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s: verifies as %+v, signed was %+v", document.name, damage, got, want)
			}
		}
	}
	for _, unused := range lenient.Unused() {
		t.Errorf("nothing needs the leniency %+v", unused)
	}
}

var requestNames = testder.Names{
	"/SEQUENCE": "OCSPRequest", "OCSPRequest/SEQUENCE": "TBSRequest", "OCSPRequest/{0}": "optionalSignature", "optionalSignature/SEQUENCE": "Signature",
	"Signature/SEQUENCE": "signatureAlgorithm", "Signature/{0}": "certs", "certs/SEQUENCE": "Certificates...",
	"TBSRequest/{0}": "version", "TBSRequest/{1}": "requestorName", "TBSRequest/{2}": "requestExtensions", "TBSRequest/SEQUENCE": "requestList",
	"requestList/SEQUENCE": "Request", "Request/SEQUENCE": "CertID", "CertID/SEQUENCE": "hashAlgorithm", "Request/{0}": "singleRequestExtensions",
	"requestExtensions/SEQUENCE": "Extensions", "singleRequestExtensions/SEQUENCE": "Extensions", "Extensions/SEQUENCE": "Extension",
	"requestorName/[2]": "dNSName...", "requestorName/{4}": "directoryName...", "2b0601050507300102/OCTET STRING": "nonce", "2b0601050507300107/SEQUENCE": "serviceLocator...",
}

// TestDamagedRequests is TestDamagedResponses for requests.
func TestDamagedRequests(t *testing.T) {
	w := newWorld(t)
	several := &ocsp.Request{Nonce: bytes.Repeat([]byte{7}, 32), RequestorName: []byte{0x82, 1, 'x'}, Items: []ocsp.SingleRequest{
		{ID: certID(t, w.ca.cert, w.leaf.cert, crypto.SHA256), Extensions: []ocsp.Extension{{ID: ocsp.OIDServiceLocator, Critical: true, Value: []byte{0x30, 0}}}},
		{ID: certID(t, w.ca.cert, w.sibling.cert, crypto.SHA1)},
	}}
	der, err := several.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(filepath.Join("testdata", "request-openssl-signed.der"))
	if err != nil {
		t.Fatal(err)
	}
	version := testder.Parse(der, requestNames).Prepend("TBSRequest", []byte{0xa0, 3, 2, 1, 0}) // 1, the default
	lenient := testder.Leniencies{
		{Kinds: "zero in front, minus one, minus one at length", Wheres: "CertID/INTEGER", Why: "other authorities have such serial numbers: there is an answer for them"},
		{Kinds: "after the next", Wheres: "CertID/OCTET STRING", Why: "hashes of one length: they are those of another issuer then"},
		{Kinds: "removed", Wheres: "OCSPRequest/optionalSignature, Signature/certs, TBSRequest/requestorName, TBSRequest/requestExtensions, TBSRequest/version, Request/singleRequestExtensions, Extension/BOOLEAN", Why: "is optional"},
		{Kinds: "removed", Wheres: "hashAlgorithm/NULL, signatureAlgorithm/NULL", Why: "some write NULL where others write nothing"},
		{Kinds: "removed, twice, after the next", Wheres: "requestList/Request", Why: "there may be any number from one, in any order"},
		{Kinds: "removed, after the next", Wheres: "Extensions/Extension", Why: "there may be any number, in any order"},
		{Kinds: "emptied", Wheres: "requestExtensions/Extensions, singleRequestExtensions/Extensions", Why: "at least one should be there; none says nothing"},
		{Kinds: "false written out", Wheres: "Extensions/Extension, Extension/BOOLEAN", Why: "a default that is written out is not DER, and common"},
		{Kinds: "*", Wheres: "requestorName/dNSName..., requestorName/directoryName...", Why: "nobody looks into it"},
		{Kinds: "*", Wheres: "Extension/OCTET STRING, OCTET STRING/serviceLocator...", Why: "the service locator is left unheeded"},
		{Kinds: "another tag, another class, universal or context tag, constructed or not, content", Wheres: "signatureAlgorithm/NULL", Why: "the same"},
	}
	for name, der := range map[string][]byte{"several": der, "signed": signed, "version written out": version} {
		if _, err := ocsp.ParseRequest(der); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for damage := range testder.Parse(der, requestNames).Damages() {
			_, err := ocsp.ParseRequest(damage.DER)
			switch {
			case err != nil && cause(err) != "malformed":
				t.Errorf("%s: %s: refused with %v", name, damage, err)
			case err == nil && !lenient.Allow(damage):
				t.Errorf("%s: %s: accepted: %x", name, damage, damage.DER)
			}
		}
	}
	for _, unused := range lenient.Unused() {
		t.Errorf("nothing needs the leniency %+v", unused)
	}
}
