package crl

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"

	"signet.example/signet/pki"
)

// signed is what a signature is verified over: a digest that was computed while the list was read or, for algorithms
// that sign whole messages, the message.
type signed struct {
	hash    hash.Hash
	message []byte
	sum     []byte
}

// begin returns the writer for the octets that are signed, nil if the algorithm is not supported.
func (m *signed) begin(algorithm Algorithm) digest {
	s, ok := schemeOf(algorithm)
	if !ok {
		return nil
	}
	if s.hash == crypto.Hash(0) {
		return (*wholeMessage)(m)
	}
	m.hash = s.hash.New()
	return m.hash
}

type wholeMessage signed

func (m *wholeMessage) Write(b []byte) (int, error) {
	m.message = append(m.message, b...)
	return len(b), nil
}

// end fixes what was written.
func (m *signed) end() {
	m.sum = m.message
	if m.hash != nil {
		m.sum = m.hash.Sum(nil)
	}
	m.hash, m.message = nil, nil
}

// Verify checks that signer may sign lists of this issuer and that it signed this one: its subject is the list's
// issuer, its keyUsage, if present, has cRLSign (RFC 5280, Section 6.3.3 (f)), and its key made the signature. A
// success is remembered, so a list is verified once per key. Verify judges neither the trust in signer nor times. The
// error is a *SignatureError.
func (l *List) Verify(signer *x509.Certificate) error {
	if !l.issuedBy(signer.RawSubject) {
		return &SignatureError{CauseIssuer, fmt.Errorf("the list is of another issuer than %q", signer.Subject)}
	}
	// KeyUsage is zero if the extension is absent, which allows every use, and if it has no bit, which allows none.
	if signer.KeyUsage&x509.KeyUsageCRLSign == 0 && hasExtension(signer, oidKeyUsage) {
		return &SignatureError{CauseSigner, fmt.Errorf("the key usage of %q does not allow signing lists", signer.Subject)}
	}
	if signer.PublicKey == nil { // crypto/x509 does not support its kind, such as a key for RSA-PSS only
		return &SignatureError{CauseAlgorithm, errors.New("the key of its issuer is of a kind that is not supported")}
	}
	return l.VerifyKey(signer.PublicKey, pki.HashSPKI(signer.RawSubjectPublicKeyInfo))
}

// VerifyKey verifies only the signature. hash is that of the key's SubjectPublicKeyInfo, under which a success is
// remembered.
func (l *List) VerifyKey(pub crypto.PublicKey, hash pki.KeyHash) error {
	if _, done := l.verified.Load(hash); done {
		return nil
	}
	s, ok := schemeOf(l.Algorithm)
	if !ok {
		return &SignatureError{CauseAlgorithm, fmt.Errorf("it is signed by %s", l.Algorithm)}
	}
	if err := s.verify(pub, s.hash, l.message.sum, l.signature); err != nil {
		return &SignatureError{CauseSignature, err}
	}
	l.verified.Store(hash, struct{}{})
	return nil
}

var oidKeyUsage = []int{2, 5, 29, 15}

func hasExtension(c *x509.Certificate, oid []int) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return true
		}
	}
	return false
}
