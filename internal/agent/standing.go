package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"time"

	"signet.example/signet/handshake/fetch"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

const (
	answerTime = 5 * time.Second // time for a responder's answer
	answerSize = 64 << 10        // most octets of an answer
	silence    = time.Minute     // how long a responder that did not answer is not asked about other certificates
	skew       = time.Minute     // allowed between clocks
	maxAbove   = 20              // most certificates of a chain that are considered
)

// standing asks the responder that a certificate names for its status. The status is unknown if it names none or no
// usable answer came, which is no reason to do anything. An error means that the responder may not be asked.
func (a *Agent) standing(ctx context.Context, leaf *x509.Certificate, above [][]byte) (ocsp.Result, error) {
	if len(leaf.OCSPServer) == 0 {
		return ocsp.Result{}, nil
	}
	issuer, err := a.issuerOf(leaf, above)
	if err != nil {
		return ocsp.Result{}, err
	}
	responder := leaf.OCSPServer[0]
	a.mu.Lock()
	silent := a.now().Before(a.silent[responder])
	a.mu.Unlock()
	if silent {
		return ocsp.Result{}, nil
	}
	answer, err := a.ask(ctx, responder, leaf, issuer)
	if err != nil {
		a.mu.Lock()
		a.silent[responder] = a.now().Add(silence)
		a.mu.Unlock()
		return ocsp.Result{}, nil
	}
	// An answer that settles nothing is a zero Result.
	said, _ := ocsp.Verify(answer, ocsp.Query{Certificate: leaf, Issuers: []*x509.Certificate{issuer}, Time: a.now(), Skew: skew})
	return said, nil
}

// issuerOf returns the issuer of a certificate: one of the roots, or a CA below one of them whose certificate follows
// it in its file. If neither signed it that is an error: a certificate from elsewhere may name any host as its
// responder.
func (a *Agent) issuerOf(leaf *x509.Certificate, above [][]byte) (*x509.Certificate, error) {
	const op = "ask whether it is revoked"
	roots, _, err := readChain(a.config.Root)
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	}
	for _, authority := range a.authorities(roots, above[:min(len(above), maxAbove)]) {
		if isSignedBy(leaf, authority) {
			return authority, nil
		}
	}
	return nil, pki.Errorf(pki.KindInvalid, op, "no authority in force leads from it to %s, so its responder is not asked", a.config.Root).
		WithHint("have the chain behind it in its file, and its root, which may then certify the server as well, in %s", a.config.Root)
}

// authorities returns the roots in force and those certificates of above whose signatures lead to one. Other limits of
// a path, such as names, policies and length, are checked by relying parties; crypto/x509 refuses those that it does
// not process.
func (a *Agent) authorities(roots, above [][]byte) []*x509.Certificate {
	found, left := a.inForce(roots), a.inForce(above)
	for i := 0; i < len(found); i++ { // found grows; each pair is compared once, even if certificates form a circle
		var others []*x509.Certificate
		for _, c := range left {
			if c.BasicConstraintsValid && c.IsCA && isSignedBy(c, found[i]) {
				found = append(found, c)
			} else {
				others = append(others, c)
			}
		}
		left = others
	}
	return found
}

// isSignedBy compares the names first (RFC 5280, Section 6.1.3), so that a bundle of many roots is searched quickly.
func isSignedBy(c, authority *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, authority.RawSubject) && c.CheckSignatureFrom(authority) == nil
}

// inForce returns the certificates that parse and are valid now.
func (a *Agent) inForce(all [][]byte) []*x509.Certificate {
	var valid []*x509.Certificate
	for _, der := range all {
		if c, err := x509.ParseCertificate(der); err == nil && !a.now().Before(c.NotBefore) && !a.now().After(c.NotAfter) {
			valid = append(valid, c)
		}
	}
	return valid
}

// ask fetches a responder's answer about leaf.
func (a *Agent) ask(ctx context.Context, responder string, leaf, issuer *x509.Certificate) ([]byte, error) {
	named, err := ocsp.IssuerOf(issuer)
	if err != nil {
		return nil, err
	}
	serial, err := ocsp.SerialOfDER(leaf.Raw)
	if err != nil {
		return nil, err
	}
	// SHA-1 only names the issuer here, and signs nothing: RFC 9919, Section 2.1.1 still profiles it.
	der, err := ocsp.NewRequest(named.CertID(crypto.SHA1, serial)).Marshal()
	if err != nil {
		return nil, err
	}
	request := fetch.Request{URL: responder, Body: der, Type: "application/ocsp-request", MaxBytes: answerSize, Timeout: answerTime,
		Fresh: true} // Agent.silent spares responders that do not answer
	if url, get := ocsp.URL(responder, der); get { // caches can answer a GET (RFC 9919, Section 5)
		request.URL, request.Body, request.Type = url, nil, ""
	}
	response, err := a.fetch.Do(ctx, request)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// revoked returns the error that the certificate at path is revoked or on hold, or nil if said does not say so.
func revoked(said ocsp.Result, path string) error {
	const op = "look at certificate"
	switch {
	case said.Status != pki.StatusRevoked:
		return nil
	case said.Reason == pki.CertificateHold:
		return pki.Errorf(pki.KindFailedPrecondition, op, "%s is on hold since %s", path, said.RevokedAt.UTC().Format(time.RFC3339)).
			WithHint("it counts as revoked until it is released: signet release %s", path)
	}
	ended := pki.Errorf(pki.KindFailedPrecondition, op, "%s is revoked (%s) since %s", path, said.Reason, said.RevokedAt.UTC().Format(time.RFC3339))
	if !replaceable(said.Reason) {
		return ended.WithHint("it was taken away on purpose, and the agent gets no other by itself: " +
			"take it out of the configuration, or have another issued with signet issue")
	}
	return ended.WithHint("have another issued, with signet issue, or give the agent a token_file to do so")
}

// standingOf returns the standing that an answer of the responder or of the server states.
func standingOf(said ocsp.Result) standing {
	switch {
	case said.Status == pki.StatusGood:
		return good
	case said.Status != pki.StatusRevoked:
		return unanswered
	case replaceable(said.Reason):
		return toBeReplaced
	}
	return takenAway
}

// replaceable reports whether a certificate that was revoked for a reason is still wanted, so that the agent may get
// another by itself. The other reasons say that its holder shall not have one any more, or not for now.
func replaceable(reason pki.Reason) bool {
	return reason == pki.Unspecified || reason == pki.Superseded || reason == pki.KeyCompromise
}

// lost reports whether the key of a certificate must not be used any more.
func lost(said ocsp.Result) bool {
	return said.Status == pki.StatusRevoked && (said.Reason == pki.KeyCompromise || said.Reason == pki.CACompromise || said.Reason == pki.AACompromise)
}
