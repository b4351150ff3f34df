package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ProofWindow is how far the clock of the prover of possession may be off.
const ProofWindow = 5 * time.Minute

// proofMessage returns the message to sign; all parts have fixed lengths. The 64 spaces separate it from what a TLS
// server can be made to sign with the same key: TLS 1.2 signs 32 octets that the peer chose and then 32 random ones,
// and TLS 1.3 has its own text after the same spaces (RFC 8446, Section 4.4.3).
func proofMessage(what string, at time.Time, parts ...[]byte) []byte {
	m := append(bytes.Repeat([]byte{' '}, 64), what+"\x00"...)
	for _, part := range parts {
		digest := sha256.Sum256(part)
		m = append(m, digest[:]...)
	}
	return binary.BigEndian.AppendUint64(m, uint64(at.Unix()))
}

func signProof(key crypto.Signer, message []byte) ([]byte, error) {
	algorithm, hash, err := proofAlgorithm(key.Public())
	if err != nil {
		return nil, err
	}
	if hash != 0 {
		h := hash.New()
		h.Write(message)
		message = h.Sum(nil)
	}
	var options crypto.SignerOpts = hash
	if algorithm == x509.SHA256WithRSAPSS {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	return key.Sign(rand.Reader, message, options)
}

// verifyProof checks a signature, and that at is within ProofWindow of now.
func verifyProof(key crypto.PublicKey, message, signature []byte, at, now time.Time) error {
	if d := now.Sub(at); d > ProofWindow || d < -ProofWindow {
		return fmt.Errorf("the proof is of %s, and it is %s here: clocks may differ by %s", at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), ProofWindow)
	}
	algorithm, _, err := proofAlgorithm(key)
	if err != nil {
		return err
	}
	const wrong = "the signature is not by the key"
	if set, _ := MLDSAOf(key); set != NoMLDSA {
		if !VerifyMLDSA(key, message, signature) {
			return errors.New(wrong)
		}
		return nil
	}
	if err := (&x509.Certificate{PublicKey: key}).CheckSignature(algorithm, message, signature); err != nil {
		return fmt.Errorf(wrong+": %w", err)
	}
	return nil
}

func proofAlgorithm(public crypto.PublicKey) (x509.SignatureAlgorithm, crypto.Hash, error) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return x509.ECDSAWithSHA256, crypto.SHA256, nil
		case elliptic.P384():
			return x509.ECDSAWithSHA384, crypto.SHA384, nil
		case elliptic.P521():
			return x509.ECDSAWithSHA512, crypto.SHA512, nil
		}
	case *rsa.PublicKey:
		return x509.SHA256WithRSAPSS, crypto.SHA256, nil
	case ed25519.PublicKey:
		return x509.PureEd25519, 0, nil
	}
	if set, _ := MLDSAOf(public); set != NoMLDSA {
		return x509.UnknownSignatureAlgorithm, 0, nil // the message itself; Verify needs no name for it
	}
	return 0, 0, fmt.Errorf("keys of type %T cannot sign a proof", public)
}
