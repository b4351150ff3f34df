package ca

import (
	"time"

	"signet.example/signet/pki"
)

// Visibility says whose rules an issuer follows. Zero is private.
type Visibility uint8

// The kinds of issuer.
const (
	Private Visibility = iota
	Public
)

// IssuerState says what an issuer may do. Zero is pending and may do nothing.
type IssuerState uint8

// The states of an issuer. In every state but pending its status information is served.
const (
	IssuerPending  IssuerState = iota // has a key and no certificate yet
	IssuerActive                      // issues
	IssuerDisabled                    // does not issue for now
	IssuerRetired                     // never issues again
)

var issuerStateNames = [...]string{"pending", "active", "disabled", "retired"}

// String is the lower-case name.
func (s IssuerState) String() string {
	if int(s) < len(issuerStateNames) {
		return issuerStateNames[s]
	}
	return "pending"
}

// Issuer is one subject name and one key. Renewed and cross-signed certificates of both belong to the same issuer.
type Issuer struct {
	ID           pki.IssuerID
	Label        string // unique, for people and configuration
	KeyURI       string // empty: the key is not at this site
	Subject      []byte // DER Name
	SPKI         []byte // DER SubjectPublicKeyInfo
	KeyHash      pki.KeyHash
	Visibility   Visibility
	State        IssuerState
	Foreign      bool   // it ever signed outside the serial scheme: a serial that does not decode may still be its own
	BaseURL      string // "http://pki.example", no trailing slash; goes into CDP and AIA
	CSR          []byte // DER, while pending for a parent elsewhere
	CreatedAt    time.Time
	Certificates []IssuerCertificate // the chosen one first; empty while pending
}

// IssuerCertificate is one certificate of an issuer's name and key.
type IssuerCertificate struct {
	DER      []byte
	Chain    [][]byte // above it, nearest first, root last; empty for a root
	NotAfter time.Time
	Chosen   bool
	AddedAt  time.Time
}
