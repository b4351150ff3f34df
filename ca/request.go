package ca

import (
	"crypto/sha256"
	"crypto/x509/pkix"
	"time"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/pki"
)

// MaxCSR is the longest certificate request accepted, in octets of DER.
const MaxCSR = 64 << 10

// Request asks for a certificate. Every front end makes one: a profile, a key proved by a CSR, and names. Nothing else
// of the CSR is trusted: extensions come from the profile.
type Request struct {
	Profile  string           // required
	Issuer   pki.IssuerID     // zero: the profile's, else the only active one; of a renewal: the issuer of the old certificate
	CSR      []byte           // DER PKCS #10, at most MaxCSR octets; its signature proves possession of the key
	Names    []pki.Identifier // subjectAltName; empty: the names in the CSR
	Subject  Subject          // zero: by the profile, with the CSR's common name if the profile takes it
	Lifetime time.Duration    // zero: the profile's; at most the profile's maximum
	NotAfter time.Time        // zero: by Lifetime; both set is refused

	// RequestID makes a repeat by the same account within 24 hours return the first certificate, from any instance.
	// Using it for a different request is a conflict. Empty: no such promise. At most 128 octets of printable ASCII.
	RequestID string

	// Renews is the SHA-256 of the certificate that is renewed; zero: none. Authority.Renewal sets it, together with
	// what the new certificate takes from the old one.
	Renews     [sha256.Size]byte
	AtMost     time.Duration    // bounds the profile's lifetime; unlike Lifetime, it is cut short where the issuer ends. Zero: no bound
	Extensions []pkix.Extension // replace those of the CSR as the source of extensions that the profile copies
}

func (r *Request) renews() bool { return r.Renews != [sha256.Size]byte{} }

// Subject is the distinguished name asked for. A profile says which of its fields are taken.
type Subject struct {
	CommonName         string
	Organization       []string
	OrganizationalUnit []string
	Country            []string
	Province           []string
	Locality           []string
	SerialNumber       string
}

// Issued is a certificate that is durably recorded.
type Issued struct {
	inventory.Certificate
	Chain    [][]byte // DER certificates above it, nearest first, without the root
	Repeated bool     // answered from an earlier call with the same request id
}
