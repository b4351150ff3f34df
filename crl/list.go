package crl

import (
	"io"
	"iter"
	"time"

	"signet.example/signet/pki"
)

// List is a revocation list that was read. It is immutable but for what Verify remembers, and safe for concurrent use.
type List struct {
	Version    int       // 1 or 2
	Issuer     []byte    // DER of the issuer's Name
	ThisUpdate time.Time //
	NextUpdate time.Time // zero if absent

	Number       Number // meaningful if HasNumber
	HasNumber    bool
	BaseNumber   Number // the deltaCRLIndicator, meaningful if Delta
	Delta        bool
	AuthorityKey []byte                    // DER of the authorityKeyIdentifier, nil if absent
	Scope        *IssuingDistributionPoint // nil if the list has none: it covers everything of its issuer
	Freshest     []DistributionPoint       // where its deltas are
	ExpiredSince time.Time                 // expiredCertsOnCRL, zero if absent
}

// Number is a CRL number: unsigned, at most 20 octets, big-endian (RFC 5280, Section 5.2.3). It is comparable.
type Number [20]byte

// Entry is one revoked certificate as a list has it.
type Entry struct {
	Serial       []byte     // content octets of the INTEGER
	RevokedAt    time.Time  //
	Reason       pki.Reason // Unspecified if the list gives none
	InvalidityAt time.Time  // zero if absent
	Issuer       []byte     // DER of the certificate's issuer: the list's own, or what certificateIssuer said
}

// Parse reads a list from memory. It keeps no reference to der unless the list is signed with an algorithm that needs
// the whole message to verify (Ed25519, ML-DSA); then until Verify has succeeded.
func Parse(der []byte) (*List, error) { return nil, io.ErrUnexpectedEOF }

// Read reads a list of at most limit octets from r, in constant memory but for the index.
func Read(r io.Reader, limit int64) (*List, error) { return nil, io.ErrUnexpectedEOF }

// Len is how many entries the list has.
func (l *List) Len() int { return 0 }

// Lookup finds the entry of a certificate by the content octets of its serial number and the DER of its issuer's name.
func (l *List) Lookup(serial, issuer []byte) (Entry, bool) { return Entry{}, false }

// Entries walks the list in its own order.
func (l *List) Entries() iter.Seq[Entry] { return func(func(Entry) bool) {} }
