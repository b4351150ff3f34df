package verify

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"

	"signet.example/signet/ocsp"
)

// judgeResponse answers whether the signers of OCSP responses were entitled to sign: the signature verifies, the signer
// is authorised by the issuer of every certificate named, and that issuer leads to a root. What the responses say and
// how old they are does not matter.
func judgeResponse(c *Case) Result {
	k, bad := c.conditions()
	if bad != nil {
		return bad.result(Reject)
	}
	roots, badRoot := certificates(c.Roots)
	untrusted, _ := certificates(append(c.Untrusted, c.Intermediates...)) // one that does not parse has signed nothing
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
	// Every possible issuer is tried: CAs may share names and keys, and perhaps only one of them leads to a root.
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
		// One that does not parse has signed nothing that could be checked.
		if cert, err := ParseCertificate(der); err == nil {
			sent = append(sent, cert)
		}
	}
	return sent
}

// moreTelling returns b if a is only about missing information, otherwise a.
func moreTelling(a, b *fault) *fault {
	if a == nil || a.class == ClassNoInformation {
		return b
	}
	return a
}

// anchored reports whether the issuer that authorised a responder is a root or leads to one over the certificates at
// hand.
func anchored(responder ocsp.Responder, roots, known []*x509.Certificate, k conditions, partial bool) bool {
	var anchors []*x509.Certificate
	for _, root := range roots {
		if partial || bytes.Equal(root.RawSubject, root.RawIssuer) {
			anchors = append(anchors, root)
		}
	}
	// The issuer was found by name and key. The same CA may have several certificates with these.
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
