// Package inventory defines queries over issued certificates: filters, orders and pages.
package inventory

import (
	"time"

	"signet.example/signet/pki"
)

// Certificate is one row of the inventory.
type Certificate struct {
	Issuer    pki.IssuerID
	Position  pki.Position
	Serial    pki.Serial
	Profile   string
	Account   string
	Subject   string // RFC 4514
	KeyHash   pki.KeyHash
	NotBefore time.Time
	NotAfter  time.Time
	IssuedAt  time.Time
	DER       []byte
}

// Name is a searchable name of a certificate. Type zero is the common name.
type Name = pki.Identifier

// CertificateStatus filters by status. Zero is any.
type CertificateStatus uint8

// The statuses to filter by.
const (
	StatusAny CertificateStatus = iota
	StatusValid
	StatusRevoked // on hold included
	StatusExpired
)

// Filter selects certificates. A zero field selects everything. Times are [from, until).
type Filter struct {
	Name                      string // the whole name; case is ignored
	OfSubject                 bool   // Name is compared with common names only
	NameSuffix                string // end of a name: "example.com" selects that name and every name below it
	Serial                    pki.Serial
	KeyHash                   pki.KeyHash
	Issuer                    pki.IssuerID
	Profile                   string
	Account                   string
	NotAccount                string // any account except this
	Status                    CertificateStatus
	Now                       time.Time // for Status
	ExpiresFrom, ExpiresUntil time.Time
	IssuedFrom, IssuedUntil   time.Time
}

// Page is one page of a list. Next is the token of the next page; it is empty on the last one.
type Page struct {
	Certificates []Certificate
	Next         string
}

// Count is a number of certificates. If Exact is false, N is an estimate.
type Count struct {
	N     int64
	Exact bool
}
