package crl

import (
	"encoding/asn1"
	"fmt"
)

// ParseError says that octets are not a revocation list, or not one in DER, and where.
type ParseError struct {
	Where  string // the field of RFC 5280, Section 5.1: "revokedCertificates"
	Offset int64  // of the element in the list
	Err    error
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("parse revocation list: %s at offset %d: %v", e.Where, e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *ParseError) Unwrap() error { return e.Err }

// LimitError says that a list is larger than the reader was told to accept.
type LimitError struct{ Limit int64 }

func (e *LimitError) Error() string {
	return fmt.Sprintf("revocation list is larger than the limit of %d octets", e.Limit)
}

// CriticalExtensionError is why a list cannot be used: a critical extension that this package does not know. The list
// must then not be used to decide anything (RFC 5280, Sections 5.2 and 5.3).
type CriticalExtensionError struct {
	OID   asn1.ObjectIdentifier
	Entry bool // on an entry, not on the list
}

func (e *CriticalExtensionError) Error() string {
	where := "list"
	if e.Entry {
		where = "entry"
	}
	return fmt.Sprintf("critical %s extension %s is not understood", where, e.OID)
}

// ProfileError is why a list cannot be used: it can be read and yet breaks RFC 5280 in a way that leaves its meaning
// open.
type ProfileError struct {
	Section string // of RFC 5280
	Text    string
}

func (e *ProfileError) Error() string {
	return fmt.Sprintf("%s (RFC 5280, Section %s)", e.Text, e.Section)
}

// SignatureError says that a list was not signed by a certificate, or that the certificate may not sign lists.
type SignatureError struct {
	Cause Cause // CauseIssuer, CauseSigner, CauseSignature or CauseAlgorithm
	Err   error
}

func (e *SignatureError) Error() string { return "verify revocation list: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SignatureError) Unwrap() error { return e.Err }
