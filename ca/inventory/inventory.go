// Package inventory defines queries over issued certificates: which ones, in which order, a page at a time.
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

// Filter selects certificates; zero fields select everything. Times are [from, to).
type Filter struct {
	Name                      string // exact name, in any case
	OfSubject                 bool   // Name is a common name, and no other
	NameSuffix                string // names that end so: "example.com" finds it and everything below it
	Serial                    pki.Serial
	KeyHash                   pki.KeyHash
	Issuer                    pki.IssuerID
	Profile                   string
	Account                   string
	NotAccount                string // of any account but this
	Status                    CertificateStatus
	Now                       time.Time // for Status
	ExpiresFrom, ExpiresUntil time.Time
	IssuedFrom, IssuedUntil   time.Time
}

// Page is part of a list. Next is empty on the last page.
type Page struct {
	Certificates []Certificate
	Next         string
}

// Count is a number of certificates.
type Count struct {
	N     int64
	Exact bool
}
