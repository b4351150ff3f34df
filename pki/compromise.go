package pki

import (
	"crypto"
	"time"
)

// Compromise is what whoever has a key signs to have it blocked. The challenge is the time. Nothing of it is secret, and repeating a proof
// blocks what is blocked.
type Compromise struct {
	SPKI []byte    // DER, as it is sent
	At   time.Time // seconds count
}

func (c Compromise) message() []byte {
	return proofMessage("signet key compromise 1", c.At, c.SPKI)
}

// Sign proves possession of the key.
func (c Compromise) Sign(key crypto.Signer) ([]byte, error) { return signProof(key, c.message()) }

// Verify checks a proof by the key, which must be the one read from SPKI, and that it was made about now.
func (c Compromise) Verify(key crypto.PublicKey, signature []byte, now time.Time) error {
	return verifyProof(key, c.message(), signature, c.At, now)
}
