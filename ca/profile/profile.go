// Package profile validates the configuration of kinds of certificates. A Profile is free of contradictions and
// immutable.
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

// Profile describes a kind of certificate. It is immutable: do not write to it or to what it refers to.
type Profile struct {
	Name        string
	Description string
	File        string // where it was read from; begins with "built-in" for Signet's own
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

// Source returns the YAML that the profile was read from.
func (p *Profile) Source() []byte { return slices.Clone(p.source) }

// MayUse reports whether a principal with a role and account may ask for certificates of this profile.
func (p *Profile) MayUse(role auth.Role, account string) bool {
	return !p.Internal && slices.Contains(p.Roles, role) && (len(p.Accounts) == 0 || slices.Contains(p.Accounts, account))
}

// TimeStamps reports whether the certificates are for time-stamping authorities. Their extended key usage is critical
// and the only one (RFC 3161, Section 2.3).
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

// Subject describes the distinguished name. Attributes are named as in configuration, such as "organization".
type Subject struct {
	CommonName CommonName
	Take       []string
	Set        map[string][]string
}

// Attributes are the attribute names that Take and Set may hold, in the order of encoding.
var Attributes = []string{"country", "province", "locality", "organization", "organizational_unit", "serial_number"}

// Names says which subject alternative names are allowed.
type Names struct {
	Min, Max  int
	Patterns  []Pattern // of every type; a type without a pattern is not allowed
	Wildcards bool      // DNS names may begin with an asterisk label
}

// Pattern allows or denies names of one type.
type Pattern struct {
	Type   pki.IdentifierType
	Deny   bool
	Any    bool         // every name of the type
	Exact  string       // exactly this name
	Suffix string       // dns and email: the end of the name, beginning with a dot or an @
	Prefix string       // uri: the beginning of the name
	Net    netip.Prefix // ip
}

// Reuse says whether a key that was certified before may be certified again. Zero allows it.
type Reuse uint8

// The policies on keys certified before.
const (
	ReuseAllow   Reuse = iota
	ReuseAccount       // only for the account that already has a certificate with the key
	ReuseDeny          // not while a certificate with the key is unexpired
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

// CA holds the limits of a CA certificate.
type CA struct {
	PathLength int // -1: no limit
	Permitted  Subtrees
	Excluded   Subtrees
	Usages     []asn1.ObjectIdentifier // extended key usages allowed below it; empty: any
	Policies   Policies
}

// Policies holds the rules of a CA's certificate on certificate policies below it (RFC 5280, Sections 4.2.1.4,
// 4.2.1.11 and 4.2.1.14). Each number is of the certificates that may come before the rule applies (SkipCerts); nil:
// no such rule.
type Policies struct {
	Only            []asn1.ObjectIdentifier // certificatePolicies; empty: absent
	RequireExplicit *int
	InhibitMapping  *int
	InhibitAny      *int
}

// Subtrees is one side of name constraints (RFC 5280, Section 4.2.1.10). DNS "example.com" covers that name and all
// names below it. Email is "host" for one host, ".domain" for all hosts below it, or a mailbox. URI is a host or
// ".domain".
type Subtrees struct {
	DNS   []string
	IP    []netip.Prefix
	Email []string
	URI   []string
}

// Empty reports whether s constrains nothing.
func (s Subtrees) Empty() bool { return len(s.DNS)+len(s.IP)+len(s.Email)+len(s.URI) == 0 }

// CRLPointer says which CRL a certificate points to. Zero is none.
type CRLPointer uint8

// The CRLs that a certificate can point to.
const (
	CRLNone CRLPointer = iota
	CRLShard
	CRLComplete
)

// Status says where a certificate tells verifiers to ask for its status. See StatusConfig.
type Status struct {
	CRL        CRLPointer
	OCSP       bool
	IssuerURL  bool
	NoRevAvail bool
	MustStaple bool
	NoCheck    bool
}

// UsageText returns an extended key usage as it is written in configuration.
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
