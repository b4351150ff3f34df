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
	"fmt"
	"time"
)

// RenewalWindow is how far the clock of whoever proves may be off.
const RenewalWindow = 5 * time.Minute

// renewalContext begins every proof. The 64 spaces keep it apart from what a TLS server can be made to sign with the same
// key: TLS 1.2 signs 32 octets that the peer chose and then 32 random ones, TLS 1.3 has its own text behind the same
// spaces (RFC 8446, Section 4.4.3).
var renewalContext = append(bytes.Repeat([]byte{' '}, 64), "signet renew certificate 1\x00"...)

// Renewal is what the holder of a certificate signs to have it renewed. Nothing of it is secret, and repeating a proof asks
// for the same certificate again, for a key that only its maker holds.
type Renewal struct {
	Certificate []byte    // DER, the old one
	CSR         []byte    // DER
	RequestID   string    // may be empty
	At          time.Time // seconds count
}

// message is what is signed; all parts have fixed lengths.
func (r Renewal) message() []byte {
	m := bytes.Clone(renewalContext)
	for _, part := range [][]byte{r.Certificate, r.CSR, []byte(r.RequestID)} {
		digest := sha256.Sum256(part)
		m = append(m, digest[:]...)
	}
	return binary.BigEndian.AppendUint64(m, uint64(r.At.Unix()))
}

// Sign proves possession of the old key.
func (r Renewal) Sign(key crypto.Signer) ([]byte, error) {
	algorithm, hash, err := renewalAlgorithm(key.Public())
	if err != nil {
		return nil, err
	}
	message := r.message()
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

// Verify checks a proof by the key of the parsed old certificate, and that it was made about now.
func (r Renewal) Verify(old *x509.Certificate, signature []byte, now time.Time) error {
	if d := now.Sub(r.At); d > RenewalWindow || d < -RenewalWindow {
		return fmt.Errorf("the proof is of %s, and it is %s here: clocks may differ by %s", r.At.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), RenewalWindow)
	}
	algorithm, _, err := renewalAlgorithm(old.PublicKey)
	if err != nil {
		return err
	}
	r.Certificate = old.Raw
	if set, _ := MLDSAOf(old.PublicKey); set != NoMLDSA {
		if !VerifyMLDSA(old.PublicKey, r.message(), signature) {
			return fmt.Errorf("the signature is not by the key of the certificate")
		}
		return nil
	}
	if err := old.CheckSignature(algorithm, r.message(), signature); err != nil {
		return fmt.Errorf("the signature is not by the key of the certificate: %w", err)
	}
	return nil
}

func renewalAlgorithm(public crypto.PublicKey) (x509.SignatureAlgorithm, crypto.Hash, error) {
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
	return 0, 0, fmt.Errorf("keys of type %T cannot prove a renewal", public)
}
