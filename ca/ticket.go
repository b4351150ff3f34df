package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
)

// Ticket is the permission to sign one TBSCertificate. One line of this package makes it, after policy and lint have
// passed on exactly these bytes, which include a serial number of an open range or, at a ceremony, a drawn one. The
// zero Ticket permits nothing.
type Ticket struct {
	digest [sha256.Size]byte
	valid  bool
}

// ticketFor makes the ticket for bytes that were linted. Only draft.prepare calls it.
func ticketFor(linted []byte) Ticket { return Ticket{sha256.Sum256(linted), true} }

// signatureAlgorithm is how an issuer's key signs.
type signatureAlgorithm struct {
	der  []byte      // AlgorithmIdentifier
	hash crypto.Hash // 0: the message itself is signed
}

func algorithmFor(pub crypto.PublicKey) (signatureAlgorithm, error) {
	// AlgorithmIdentifiers of RFC 5758, Section 3.2, RFC 4055, Section 5 and RFC 8410, Section 3.
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return signatureAlgorithm{[]byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"), crypto.SHA256}, nil
		case elliptic.P384():
			return signatureAlgorithm{[]byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"), crypto.SHA384}, nil
		case elliptic.P521():
			return signatureAlgorithm{[]byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04"), crypto.SHA512}, nil
		}
	case *rsa.PublicKey:
		return signatureAlgorithm{[]byte("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"), crypto.SHA256}, nil
	case ed25519.PublicKey:
		return signatureAlgorithm{[]byte("\x30\x05\x06\x03\x2b\x65\x70"), 0}, nil
	}
	if set, _ := pki.MLDSAOf(pub); set != pki.NoMLDSA { // RFC 9881, Section 2: pure, never over a digest
		return signatureAlgorithm{[]byte(set.AlgorithmIdentifier()), 0}, nil
	}
	return signatureAlgorithm{}, fmt.Errorf("no signature algorithm for a %T", pub)
}

// sign signs exactly the bytes that the ticket is for, and assembles the certificate around them. With an error,
// unsigned says that there is no signature and will be none.
func (k *issuerKey) sign(ticket Ticket, tbs []byte) (der []byte, unsigned bool, err error) {
	const op = "sign certificate"
	digest := sha256.Sum256(tbs)
	if !ticket.valid || ticket.digest != digest {
		return nil, true, pki.Errorf(pki.KindInternal, op, "what is to be signed is not what was linted")
	}
	message := digest[:]
	switch k.algorithm.hash {
	case crypto.SHA256:
	case 0:
		message = tbs
	default:
		h := k.algorithm.hash.New()
		h.Write(tbs)
		message = h.Sum(nil)
	}
	signature, err := k.key.For(keys.ForCertificate).Sign(rand.Reader, message, k.algorithm.hash)
	unsigned = errors.Is(err, keys.ErrNotAsked)
	if e, ok := errors.AsType[*pki.Error](err); ok { // from keys.Guard, with a hint of its own
		return nil, unsigned, &pki.Error{Kind: e.Kind, Op: op, Field: "issuer", Err: e, Hint: e.Hint}
	}
	if err != nil {
		return nil, unsigned, pki.Errorf(pki.KindUnavailable, op, "key of issuer %s: %w", k.Label, err).InField("issuer").
			WithHint("check that the key's device or file is there")
	}
	if err := k.verify(tbs, message, signature); err != nil {
		return nil, false, pki.Errorf(pki.KindInternal, op, "key of issuer %s made a signature that does not verify: %w", k.Label, err)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(k.algorithm.der)+len(signature)+16))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(k.algorithm.der)
		b.AddASN1BitString(signature)
	})
	der, err = b.Bytes()
	return der, false, err
}

// verify checks a signature that was made outside this process. A key in memory signs with the standard library, the
// same code that would verify, so only its first signature is checked.
func (k *issuerKey) verify(tbs, message, signature []byte) error {
	if k.inMemory && k.tried.Load() {
		return nil
	}
	if !keys.Verify(k.key.Public(), k.algorithm.hash, tbs, message, signature) {
		return fmt.Errorf("wrong signature")
	}
	k.tried.Store(true)
	return nil
}
