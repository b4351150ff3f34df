package handshake

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"signet.example/signet/pki"
)

// errNoDecision is the error of a Result whose check has not finished.
var errNoDecision = errors.New("handshake: no decision was made")

// ErrInsecureSkipVerify is returned for a tls.Config that does not verify chains: checking the revocation of an
// unverified chain would prove nothing.
var ErrInsecureSkipVerify = errors.New("handshake: InsecureSkipVerify is set: there is no verified chain to check; trust an authority of your own with RootCAs")

// ErrNoVerifiedChain is returned by Track if the verified chain of the connection is not known, for example because an
// Override accepted an untrusted peer.
var ErrNoVerifiedChain = errors.New("handshake: no verified chain is known of this connection, so it cannot be tracked: complete the handshake first, and with an Override put a Guard under it (WrapClientConn); a peer that the Override accepted untrusted has none")

// RevokedError says that a certificate of the chain is revoked, or was never issued by the authority that it names as
// its issuer.
type RevokedError struct {
	Certificate *x509.Certificate
	Evidence    Evidence
}

// Error names the certificate, the reason, the time and the source.
func (e *RevokedError) Error() string {
	text := fmt.Sprintf("certificate %s is revoked", describe(e.Certificate))
	if e.Evidence.Status == pki.StatusNotIssued {
		text = fmt.Sprintf("certificate %s was never issued by its issuer", describe(e.Certificate))
	}
	if e.Evidence.Reason != pki.Unspecified {
		text += " (" + e.Evidence.Reason.String() + ")"
	}
	if !e.Evidence.RevokedAt.IsZero() {
		text += " since " + e.Evidence.RevokedAt.UTC().Format(time.RFC3339)
	}
	return text + ", says " + e.Evidence.Source.String()
}

// UnavailableError says that no source could tell the status of a certificate.
type UnavailableError struct {
	Certificate *x509.Certificate
	Evidence    []Evidence // of every source that was asked, with its error
}

// Error names the certificate and the answer of each source.
func (e *UnavailableError) Error() string {
	text := fmt.Sprintf("status of certificate %s is not available", describe(e.Certificate))
	if len(e.Evidence) == 0 {
		return text + ": no evidence is at hand, and there is no source to ask"
	}
	for _, ev := range e.Evidence[:min(len(e.Evidence), maxTold)] {
		text += "; " + ev.String()
	}
	if more := len(e.Evidence) - maxTold; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// maxTold bounds the sources in one error text: a certificate may name many.
const maxTold = 4

// Unwrap returns what went wrong with each source.
func (e *UnavailableError) Unwrap() (errs []error) {
	for _, ev := range e.Evidence {
		if ev.Err != nil {
			errs = append(errs, ev.Err)
		}
	}
	return errs
}

// StaleError says that the only evidence about a certificate is too old to count.
type StaleError struct {
	Certificate *x509.Certificate
	Evidence    Evidence
}

// Error names the certificate, the source, the date, and why that is too old.
func (e *StaleError) Error() string {
	return fmt.Sprintf("status of certificate %s is stale: %s of %s: %v", describe(e.Certificate),
		e.Evidence.place(), e.Evidence.ThisUpdate.UTC().Format(time.RFC3339), e.Evidence.Err)
}

// Unwrap returns why the evidence is stale.
func (e *StaleError) Unwrap() error { return e.Evidence.Err }

// EvidenceError blames a CRL or an OCSP response, not the certificate: a source answered with something that does not
// count (bad signature, unauthorised signer, another scope, not parseable), and no other source settled the question.
type EvidenceError struct {
	Certificate *x509.Certificate
	Evidence    Evidence
}

// Error names the certificate, the source and the fault.
func (e *EvidenceError) Error() string {
	return fmt.Sprintf("status of certificate %s: %s", describe(e.Certificate), e.Evidence)
}

// Unwrap returns the fault of the source.
func (e *EvidenceError) Unwrap() error { return e.Evidence.Err }

// MustStapleError says that a certificate demands a stapled OCSP response (RFC 7633) and the handshake brought no good
// one.
type MustStapleError struct {
	Certificate *x509.Certificate
	Err         error // why the staple was not accepted; nil if there was none
}

// Error names the certificate and what was wrong with the staple.
func (e *MustStapleError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("certificate %s demands a stapled status and none was sent", describe(e.Certificate))
	}
	return fmt.Sprintf("certificate %s demands a stapled status: %v", describe(e.Certificate), e.Err)
}

// Unwrap returns why the staple was not accepted.
func (e *MustStapleError) Unwrap() error { return e.Err }

// ContradictionError says that a certificate makes two statements about its status that cannot both hold: noRevAvail
// together with a pointer to a source, or in a CA certificate (RFC 9608, Section 4).
type ContradictionError struct {
	Certificate *x509.Certificate
	Err         error
}

// Error names the certificate and the contradiction.
func (e *ContradictionError) Error() string {
	return fmt.Sprintf("certificate %s contradicts itself: %v", describe(e.Certificate), e.Err)
}

// Unwrap returns the contradiction.
func (e *ContradictionError) Unwrap() error { return e.Err }

// NearMiss says why a chain is not trusted, as precisely as can be told.
type NearMiss uint8

// The near misses. Zero is the general case: the issuer is not known at all.
const (
	MissUnknownIssuer       NearMiss = iota // no trusted authority issued this
	MissSelfSigned                          // the certificate is self-signed and is not trusted
	MissMissingIntermediate                 // the peer did not send the certificate of the issuer
	MissExpired                             // a certificate of the chain has expired
	MissNotYetValid                         // a certificate of the chain is not valid yet: check the clocks
	MissWrongName                           // trusted, but for another name
	MissSameNameOtherKey                    // a trusted root has the issuer's name but another key
	MissUsage                               // trusted, but not for this purpose
	MissConstraint                          // a CA of the chain was not allowed to issue this
	MissNotPinned                           // trusted, but not issued under an issuer of Config.Pins
)

var nearMissNames = [...]string{
	"unknown-issuer", "self-signed", "missing-intermediate", "expired", "not-yet-valid", "wrong-name", "same-name-other-key", "usage", "constraint", "not-pinned",
}

// String is a lower-case word for people and programs.
func (m NearMiss) String() string {
	if int(m) < len(nearMissNames) {
		return nearMissNames[m]
	}
	return nearMissNames[MissUnknownIssuer]
}

// UntrustedError means that the chain does not lead to a trust anchor, or not for this name and purpose. Miss and
// Explanation say what was missing.
type UntrustedError struct {
	Certificate *x509.Certificate   // the peer's own
	Presented   []*x509.Certificate // everything the peer sent
	Miss        NearMiss
	Explanation string // one sentence for a person: which root, which name, which date
	Err         error  // of crypto/x509
}

// Error names the certificate and the near miss.
func (e *UntrustedError) Error() string {
	text := fmt.Sprintf("certificate %s is not trusted", describe(e.Certificate))
	if e.Explanation != "" {
		return text + ": " + e.Explanation
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the error of crypto/x509.
func (e *UntrustedError) Unwrap() error { return e.Err }

// describe names a certificate in an error text. It bounds the text, which is the peer's.
func describe(c *x509.Certificate) string {
	if c == nil {
		return "(none)"
	}
	name := c.Subject.CommonName
	if len(c.DNSNames) > 0 {
		name = c.DNSNames[0]
	}
	if name == "" {
		name = cmp.Or(append([]string{c.Subject.String()}, otherNames(c)...)...)
	}
	serial := c.SerialNumber.Text(16)
	if len(serial) > 2*pki.SerialSize+1 {
		serial = serial[:2*pki.SerialSize] + "…"
	}
	return fmt.Sprintf("%.80q (serial %s)", name, serial)
}

func otherNames(c *x509.Certificate) (names []string) {
	names = append(names, c.EmailAddresses...)
	for _, uri := range c.URIs {
		names = append(names, uri.String())
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}
