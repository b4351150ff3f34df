package pki

import (
	"crypto"
	"time"
)

// Compromise is the message that the holder of a key signs to have the key blocked. The time is the challenge. It holds
// no secret, and repeating a proof has no further effect.
type Compromise struct {
	SPKI []byte    // DER, as it is sent
	At   time.Time // seconds count
}

func (c Compromise) message() []byte {
	return proofMessage("signet key compromise 1", c.At, c.SPKI)
}

// Sign proves possession of the key.
func (c Compromise) Sign(key crypto.Signer) ([]byte, error) { return signProof(key, c.message()) }

// Verify checks that the key, which must be the one in SPKI, signed the message, and that At is within ProofWindow of
// now.
func (c Compromise) Verify(key crypto.PublicKey, signature []byte, now time.Time) error {
	return verifyProof(key, c.message(), signature, c.At, now)
}
