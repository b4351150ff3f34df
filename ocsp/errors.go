package ocsp

import (
	"crypto/x509"
	"fmt"
	"time"
)

// The errors of Verify, one type per cause. Each means that this response does not settle the status. Only StaleError
// and OutsideValidityError hold a status, for callers that accept an old "revoked".

// MalformedError says that the bytes are not the expected message.
type MalformedError struct{ Err error }

func (e *MalformedError) Error() string { return "malformed OCSP message: " + e.Err.Error() }

// Unwrap returns what is wrong with the bytes.
func (e *MalformedError) Unwrap() error { return e.Err }

func malformed(format string, args ...any) *MalformedError {
	return &MalformedError{Err: fmt.Errorf(format, args...)}
}

// UnsuccessfulError says that the responder gave no answer. It is not signed, so an attacker on the path can make it:
// it is never information about the certificate (RFC 6960, Section 2.3).
type UnsuccessfulError struct{ Status ResponseStatus }

func (e *UnsuccessfulError) Error() string {
	return "OCSP responder gave no answer: " + e.Status.String()
}

// SignatureError says that the signature of the response does not verify, or uses an algorithm that is not accepted.
type SignatureError struct {
	Responder *x509.Certificate // the certificate whose key was tried
	Err       error
}

func (e *SignatureError) Error() string { return "signature of the OCSP response: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SignatureError) Unwrap() error { return e.Err }

// UnauthorizedError says that the signer may not answer for the issuer (RFC 6960, Section 4.2.2.2).
type UnauthorizedError struct {
	Responder *x509.Certificate // nil if the responder's certificate was not found
	Err       error
}

func (e *UnauthorizedError) Error() string {
	return "OCSP responder is not authorised: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *UnauthorizedError) Unwrap() error { return e.Err }

// ExpiredResponderError says that the responder's certificate is outside its own validity.
type ExpiredResponderError struct {
	Responder *x509.Certificate
	At        time.Time
}

func (e *ExpiredResponderError) Error() string {
	return fmt.Sprintf("OCSP responder's certificate is valid from %s to %s, not at %s",
		stamp(e.Responder.NotBefore), stamp(e.Responder.NotAfter), stamp(e.At))
}

// WrongCertificateError says that the response names only other certificates.
type WrongCertificateError struct {
	Serial []byte // wanted, INTEGER content octets
	Named  int    // certificates that the response names
}

func (e *WrongCertificateError) Error() string {
	return fmt.Sprintf("OCSP response is about other certificates (%d), and not about the one with serial %x of this issuer", e.Named, e.Serial)
}

// StaleError says that the response is authentic, but its time has passed or has not come.
type StaleError struct {
	Said   Result        // the authenticated statement
	At     time.Time     // the time of the judgement
	MaxAge time.Duration // the bound that was applied; zero if only nextUpdate was
}

func (e *StaleError) Error() string {
	switch {
	case e.Said.ThisUpdate.After(e.At):
		return fmt.Sprintf("OCSP response is of %s, which is after %s", stamp(e.Said.ThisUpdate), stamp(e.At))
	case !e.Said.NextUpdate.IsZero() && !e.At.Before(e.Said.NextUpdate):
		return fmt.Sprintf("OCSP response ended at %s, before %s", stamp(e.Said.NextUpdate), stamp(e.At))
	}
	return fmt.Sprintf("OCSP response is of %s, which is more than %s before %s", stamp(e.Said.ThisUpdate), e.MaxAge, stamp(e.At))
}

// OutsideValidityError says that the response is authentic, but was produced while the certificate in question was not
// valid, when the responder need not have known it.
type OutsideValidityError struct {
	Said                Result // the authenticated statement
	NotBefore, NotAfter time.Time
}

func (e *OutsideValidityError) Error() string {
	return fmt.Sprintf("OCSP response was produced at %s, and the certificate is valid from %s to %s", stamp(e.Said.ProducedAt), stamp(e.NotBefore), stamp(e.NotAfter))
}

// NonceError says that a nonce was demanded, but the response has none or another.
type NonceError struct{ Got []byte }

func (e *NonceError) Error() string {
	if e.Got == nil {
		return "OCSP response has no nonce, and one was demanded"
	}
	return "OCSP response has another nonce than the one demanded"
}

// CriticalExtensionError says that a critical extension is unknown, and so is its effect.
type CriticalExtensionError struct{ ID OID }

func (e *CriticalExtensionError) Error() string {
	return "critical extension " + e.ID.String() + " is not known"
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
