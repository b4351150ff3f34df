package verify

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"

	"signet.example/signet/ocsp"
)

// judgeResponse answers whether who signed OCSP responses may: the signature verifies, its maker speaks for the issuer
// of every certificate that is named, and that issuer leads to a root. What the responses say, and how old they are, is not asked.
func judgeResponse(c *Case) Result {
	k, bad := c.conditions()
	if bad != nil {
		return bad.result(Reject)
	}
	roots, badRoot := certificates(c.Roots)
	untrusted, _ := certificates(append(c.Untrusted, c.Intermediates...)) // what does not parse among them signed nothing
	if len(roots) == 0 {
		return cmp.Or(badRoot, faultf(ClassPath, "no root is given")).result(Reject)
	}
	if len(c.OCSPs) == 0 {
		return faultf(ClassNoInformation, "no OCSP response is given").result(Reject)
	}
	for _, der := range c.OCSPs {
		if bad := judgeOneResponse(der, roots, untrusted, k, c.PartialChain); bad != nil {
			return bad.result(Reject)
		}
	}
	return Result{Result: Accept}
}

func judgeOneResponse(der DER, roots, untrusted []*x509.Certificate, k conditions, partial bool) *fault {
	response, err := ocsp.ParseResponse(der)
	if err != nil {
		return faultOfResponse(err)
	}
	sent := sentAlong(response)
	known := distinct(roots, untrusted, sent)
	var first *fault
	// Every issuer that may be meant is tried: names and keys of authorities repeat, and only one of them may lead to a root.
	for _, issuer := range known {
		responder, err := response.VerifyResponder(ocsp.Query{
			Issuers: []*x509.Certificate{issuer}, Untrusted: distinct(untrusted, sent), Time: k.at, AllowSHA1: true,
		})
		if _, other := errors.AsType[*ocsp.WrongCertificateError](err); other {
			continue
		}
		if err != nil {
			first = cmp.Or(first, faultOfResponse(err))
			continue
		}
		if anchored(responder, roots, known, k, partial) {
			return nil
		}
		first = cmp.Or(first, faultf(ClassPath, "the responder's issuer does not lead to a root"))
	}
	return cmp.Or(first, faultf(ClassNoInformation, "the response is about certificates whose issuer is not at hand"))
}

func sentAlong(response *ocsp.Response) []*x509.Certificate {
	var sent []*x509.Certificate
	for _, der := range response.Certificates {
		if cert, err := ParseCertificate(der); err == nil { // one that does not parse signed nothing that could be checked
			sent = append(sent, cert)
		}
	}
	return sent
}

// moreTelling keeps what went wrong over "nothing here is about it".
func moreTelling(a, b *fault) *fault {
	if a == nil || a.class == ClassNoInformation {
		return b
	}
	return a
}

// anchored reports whether the issuer a responder speaks for is a root, or leads to one over certificates at hand.
func anchored(responder ocsp.Responder, roots, known []*x509.Certificate, k conditions, partial bool) bool {
	var anchors []*x509.Certificate
	for _, root := range roots {
		if partial || bytes.Equal(root.RawSubject, root.RawIssuer) {
			anchors = append(anchors, root)
		}
	}
	// The certificate that was found by name and key may be one of several of the same authority.
	for _, issuer := range known {
		if !sameKeyAndName(issuer, responder.Issuer) || k.at.Before(issuer.NotBefore) || k.at.After(issuer.NotAfter) {
			continue
		}
		if responder.Delegated && !MayIssue(issuer, 0) {
			continue
		}
		if contains(anchors, issuer) {
			return true
		}
		path := []*x509.Certificate{issuer}
		if responder.Delegated {
			path = []*x509.Certificate{responder.Certificate, issuer}
		}
		search := &search{chain: anchors, anchors: true, pool: known, at: k.at, signatures: maxSignatures}
		if search.leadsToAnchor(path...) {
			return true
		}
	}
	return false
}
