package pki

import (
	"crypto"
	"crypto/x509"
	"time"
)

// Renewal is what the holder of a certificate signs to have it renewed. Nothing of it is secret, and repeating a proof asks
// for the same certificate again, for a key that only its maker holds.
type Renewal struct {
	Certificate []byte    // DER, the old one
	CSR         []byte    // DER
	RequestID   string    // may be empty
	At          time.Time // seconds count
}

func (r Renewal) message() []byte {
	return proofMessage("signet renew certificate 1", r.At, r.Certificate, r.CSR, []byte(r.RequestID))
}

// Sign proves possession of the old key.
func (r Renewal) Sign(key crypto.Signer) ([]byte, error) { return signProof(key, r.message()) }

// Verify checks a proof by the key of the parsed old certificate, and that it was made about now.
func (r Renewal) Verify(old *x509.Certificate, signature []byte, now time.Time) error {
	r.Certificate = old.Raw
	return verifyProof(old.PublicKey, r.message(), signature, r.At, now)
}
