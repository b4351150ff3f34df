package pki

import (
	"crypto"
	"crypto/x509"
	"time"
)

// Renewal is the message that the holder of a certificate signs to have it renewed. It holds no secret, and repeating a
// proof requests the same certificate again, for a key that only the holder has.
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

// Verify checks that the key of the parsed old certificate signed the message, and that At is within ProofWindow of
// now.
func (r Renewal) Verify(old *x509.Certificate, signature []byte, now time.Time) error {
	r.Certificate = old.Raw
	return verifyProof(old.PublicKey, r.message(), signature, r.At, now)
}
