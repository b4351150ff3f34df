package crl

import (
	"crypto"
	"time"

	"signet.example/signet/pki"
)

// Revocation is one entry to be written.
type Revocation struct {
	Serial       pki.Serial
	At           time.Time
	Reason       pki.Reason // Unspecified is encoded by omission (RFC 5280, Section 5.3.1)
	InvalidityAt time.Time  // zero: none
}

// Template is everything of a list but its entries and signature.
type Template struct {
	Issuer       []byte    // DER of the issuer's subject Name
	KeyID        []byte    // subject key identifier of the issuer
	Number       uint64    // CRL number, from 1
	ThisUpdate   time.Time // seconds count
	NextUpdate   time.Time //
	Base         uint64    // makes a delta of the list with this number; 0: a complete list
	URLs         []string  // critical issuing distribution point with these names; none: no such extension
	UserCerts    bool      // onlyContainsUserCerts
	Freshest     []string  // URLs of the delta
	ExpiredSince time.Time // expiredCertsOnCRL; zero: none
}

// Signature is what a signer adds to a list; with it every holder of the entries can make the same bytes.
type Signature struct {
	Algorithm Algorithm
	Value     []byte
}

// Algorithm is a signature algorithm as a DER AlgorithmIdentifier.
type Algorithm string

// Sign makes the list of the entries and signs it.
func (t *Template) Sign(entries Entries, signer crypto.Signer) (der []byte, sig Signature, err error) {
	return nil, Signature{}, nil
}

// Assemble makes the bytes that Sign made, from the signature it returned.
func (t *Template) Assemble(entries Entries, sig Signature) ([]byte, error) { return nil, nil }

// Entries are encoded entries in the order they are written: slices of one or more arenas.
type Entries [][]byte
