package crl

import (
	"encoding/asn1"
	"fmt"
)

// ParseError says where and why octets are not a revocation list in DER.
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

// LimitError says that a list is larger than the limit given to Read.
type LimitError struct{ Limit int64 }

func (e *LimitError) Error() string {
	return fmt.Sprintf("revocation list is larger than the limit of %d octets", e.Limit)
}

// CriticalExtensionError says that a list has a critical extension that this package does not know. Nothing must be
// decided by the list (RFC 5280, Sections 5.2 and 5.3).
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

// ProfileError says that a list can be read but breaks RFC 5280. In List.Unusable, the breach leaves its meaning open.
type ProfileError struct {
	Section string // of RFC 5280
	Text    string
}

func (e *ProfileError) Error() string {
	return fmt.Sprintf("%s (RFC 5280, Section %s)", e.Text, e.Section)
}

// SignatureError says that a certificate did not sign a list, or may not sign lists.
type SignatureError struct {
	Cause Cause // CauseIssuer, CauseSigner, CauseSignature or CauseAlgorithm
	Err   error
}

func (e *SignatureError) Error() string { return "verify revocation list: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SignatureError) Unwrap() error { return e.Err }
