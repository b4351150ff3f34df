// Package profile turns what an operator wrote about a kind of certificate into a validated value. A Profile that
// exists is free of contradictions; everything that issues reads it and nothing writes it.
package profile

import (
	"encoding/asn1"
	"net/netip"
	"slices"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Profile is a kind of certificate. It is immutable: share it and do not write to it.
type Profile struct {
	Name        string
	Description string
	File        string // where it was read from; "built-in" for ours
	Issuer      string // label; empty: any
	Public      bool
	Internal    bool // only Signet itself uses it

	Lifetime    time.Duration
	MaxLifetime time.Duration
	Backdate    time.Duration
	Retain      time.Duration

	Subject       Subject
	Names         Names
	Algorithms    []keys.Algorithm
	Reuse         Reuse
	KeyUsage      KeyUsage
	ExtKeyUsage   []asn1.ObjectIdentifier
	CA            *CA // nil: end entity
	Status        Status
	Policies      []asn1.ObjectIdentifier
	CSRExtensions []asn1.ObjectIdentifier
	Roles         []auth.Role
	Accounts      []string
	Approval      bool
	LintSources   []string
	Waivers       map[string]string // lint -> reason

	source []byte
}

// Source is the YAML it was read from.
func (p *Profile) Source() []byte { return slices.Clone(p.source) }

// MayUse reports whether a role and account may ask for this profile.
func (p *Profile) MayUse(role auth.Role, account string) bool {
	return !p.Internal && slices.Contains(p.Roles, role) && (len(p.Accounts) == 0 || slices.Contains(p.Accounts, account))
}

// TimeStamps reports whether it makes certificates of a time-stamping authority: their extended key usage is critical, and the only one
// (RFC 3161, Section 2.3).
func (p *Profile) TimeStamps() bool {
	return p.CA == nil && slices.ContainsFunc(p.ExtKeyUsage, TimeStamping.Equal)
}

// CommonName says where the common name comes from. Zero leaves it out.
type CommonName uint8

// The sources of a common name.
const (
	CommonNameNone     CommonName = iota
	CommonNameFirst               // the first subject alternative name
	CommonNameOptional            // as requested
	CommonNameRequired            // as requested, and refused without
)

// Subject says what the distinguished name holds. Attributes are named as in configuration: "organization".
type Subject struct {
	CommonName CommonName
	Take       []string
	Set        map[string][]string
}

// Attributes are the names of attributes that Take and Set know, in the order they are encoded.
var Attributes = []string{"country", "province", "locality", "organization", "organizational_unit", "serial_number"}

// Names says which subject alternative names are allowed.
type Names struct {
	Min, Max  int
	Patterns  []Pattern // of every type; no pattern of a type, no name of it
	Wildcards bool      // DNS names may begin with an asterisk label
}

// Pattern allows or denies names of one type.
type Pattern struct {
	Type   pki.IdentifierType
	Deny   bool
	Any    bool         // every name of the type
	Exact  string       // exactly this name
	Suffix string       // dns and email: ends so, beginning with a dot or an @
	Prefix string       // uri: begins so
	Net    netip.Prefix // ip
}

// Reuse says what happens when a key was certified before. Zero allows it.
type Reuse uint8

// The policies on keys certified before.
const (
	ReuseAllow   Reuse = iota
	ReuseAccount       // only by the account that holds it already
	ReuseDeny          // not while a certificate with it is unexpired
)

// KeyUsage is the bit string of RFC 5280, Section 4.2.1.3: bit i is bit i of the standard.
type KeyUsage uint16

// The key usages.
const (
	DigitalSignature KeyUsage = 1 << iota
	ContentCommitment
	KeyEncipherment
	DataEncipherment
	KeyAgreement
	KeyCertSign
	CRLSign
	EncipherOnly
	DecipherOnly
)

// CA makes a certificate one of a CA.
type CA struct {
	PathLength int // -1: no limit
	Permitted  Subtrees
	Excluded   Subtrees
	Usages     []asn1.ObjectIdentifier // extended key usages of what is below it; none: any
	Policies   Policies
}

// Policies is what a CA's certificate says of certificate policies below it (RFC 5280, Sections 4.2.1.4, 4.2.1.11 and 4.2.1.14). The
// numbers are of certificates that may come before; nil says nothing.
type Policies struct {
	Only            []asn1.ObjectIdentifier // empty: it names none
	RequireExplicit *int
	InhibitMapping  *int
	InhibitAny      *int
}

// Subtrees is one side of name constraints. DNS "example.com" covers the name and all below it; email "@host" is
// written "host" for one host, ".domain" for all below, or a mailbox; URI is a host or .domain.
type Subtrees struct {
	DNS   []string
	IP    []netip.Prefix
	Email []string
	URI   []string
}

// Empty reports whether there is no constraint.
func (s Subtrees) Empty() bool { return len(s.DNS)+len(s.IP)+len(s.Email)+len(s.URI) == 0 }

// CRLPointer says which list the certificate names. Zero is none.
type CRLPointer uint8

// The lists a certificate can name.
const (
	CRLNone CRLPointer = iota
	CRLShard
	CRLComplete
)

// Status says where verifiers are told to ask.
type Status struct {
	CRL        CRLPointer
	OCSP       bool
	IssuerURL  bool
	NoRevAvail bool
	MustStaple bool
	NoCheck    bool
}

// UsageText is an extended key usage as it is written in configuration.
func UsageText(usage asn1.ObjectIdentifier) string {
	for name, oid := range extKeyUsages {
		if oid.Equal(usage) {
			return name
		}
	}
	return usage.String()
}

// The extended key usages with names.
var (
	ServerAuth      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	ClientAuth      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	CodeSigning     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
	EmailProtection = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}
	TimeStamping    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
	OCSPSigning     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}
	AnyExtKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
)
