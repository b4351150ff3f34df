package ca

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"time"

	"signet.example/signet/pki"
)

// Visibility says which rules apply to an issuer. Zero is private.
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

// String returns the lower-case name.
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
	Foreign      bool          // it ever signed outside the serial scheme: a serial that does not decode may still be its own
	BaseURL      string        // "http://pki.example", no trailing slash; goes into CDP and AIA
	CSR          []byte        // DER, while pending for a parent elsewhere
	Succeeds     pki.IssuerID  // the predecessor: while it issues, this issuer is used only where it is named; zero: none
	Retention    pki.Retention // the longest that any profile it issued under requires
	CreatedAt    time.Time
	Certificates []IssuerCertificate // the chosen one first; empty while pending

	crosses []cross // from its root to others; set when issuers are loaded
}

// IssuerCertificate is one certificate of an issuer's name and key.
type IssuerCertificate struct {
	DER      []byte
	Chain    [][]byte // above it, nearest first, root last; empty for a root
	NotAfter time.Time
	Chosen   bool
	AddedAt  time.Time
}

// certificate returns the chosen certificate, or nil while pending.
func (i *Issuer) certificate() *IssuerCertificate {
	if len(i.Certificates) == 0 {
		return nil
	}
	return &i.Certificates[0]
}

// Ended reports whether every certificate of the issuer has ended, so that nothing it signed is valid any more. Until
// then verifiers find a path over one that has not, whichever is chosen (RFC 4158 is about such paths).
func (i *Issuer) Ended(now time.Time) bool {
	return len(i.Certificates) > 0 && now.After(i.end())
}

// ChosenEnded reports whether the chosen certificate has ended: the issuer signs no certificates until another is
// chosen.
func (i *Issuer) ChosenEnded(now time.Time) bool {
	chosen := i.certificate()
	return chosen != nil && now.After(chosen.NotAfter)
}

// Chain returns the chosen certificate and those above it, without the root unless it is the root.
func (i *Issuer) Chain() [][]byte {
	chosen := i.certificate()
	if chosen == nil {
		return nil
	}
	chain := [][]byte{chosen.DER}
	if n := len(chosen.Chain); n > 1 {
		chain = append(chain, chosen.Chain[:n-1]...)
	}
	return chain
}

// CertificateFile returns the chosen certificate in DER, as served under AIA caIssuers with the suffix .cer (RFC 5280,
// Section 4.2.2.1); nil while pending.
func (i *Issuer) CertificateFile() []byte {
	if chosen := i.certificate(); chosen != nil {
		return chosen.DER
	}
	return nil
}

// CertificatesFile returns every certificate of the issuer in a certs-only PKCS #7 message, as served with the suffix
// .p7c; nil while pending.
func (i *Issuer) CertificatesFile() []byte {
	if len(i.Certificates) == 0 {
		return nil
	}
	var all []byte
	for _, c := range i.Certificates {
		all = append(all, c.DER...)
	}
	return CertsOnly(all)
}

// CertsOnly wraps DER certificates, one after the other, in a PKCS #7 message without content and signers (RFC 5652,
// Section 5 and RFC 5751, Section 3.2.2).
func CertsOnly(certificates []byte) []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(certificates)+64))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes([]byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02")) // id-signedData
		b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(asn1.SET, func(*cryptobyte.Builder) {}) // no digest algorithms
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddBytes([]byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01")) // id-data, absent
				})
				b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(certificates) })
				b.AddASN1(asn1.SET, func(*cryptobyte.Builder) {}) // no signers
			})
		})
	})
	return b.BytesOrPanic()
}
