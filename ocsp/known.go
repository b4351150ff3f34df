package ocsp

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
)

// maxKnown bounds a KnownDelegates.
const maxKnown = 1024

// KnownDelegates remembers which responder certificates carry the signature of their issuer, and the parsed
// certificates, so that the next response of a responder costs one signature check instead of two. It remembers nothing
// else about a responder: purpose and validity are judged each time. The zero value is ready for use; it is bounded,
// and safe for concurrent use.
type KnownDelegates struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]bool // guarded by mu

	parsed map[[sha256.Size]byte]*x509.Certificate // the certificates of known, by their octets; guarded by mu
}

// parse is x509.ParseCertificate, called once for a known certificate.
func (k *KnownDelegates) parse(der []byte) (*x509.Certificate, error) {
	if k == nil {
		return x509.ParseCertificate(der)
	}
	k.mu.Lock()
	cert := k.parsed[sha256.Sum256(der)]
	k.mu.Unlock()
	if cert != nil {
		return cert, nil
	}
	return x509.ParseCertificate(der)
}

// checkIssued verifies that issuer's key signed cert, unless that is known. A nil k remembers nothing.
func (k *KnownDelegates) checkIssued(cert, issuer *x509.Certificate, allowSHA1 bool) error {
	if k == nil {
		return checkCertificateSignature(cert, issuer.PublicKey, allowSHA1)
	}
	name := delegateName(cert, issuer, allowSHA1)
	k.mu.Lock()
	known := k.known[name]
	k.mu.Unlock()
	if known {
		return nil
	}
	if err := checkCertificateSignature(cert, issuer.PublicKey, allowSHA1); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil || len(k.known) >= maxKnown {
		k.known, k.parsed = make(map[[sha256.Size]byte]bool), make(map[[sha256.Size]byte]*x509.Certificate)
	}
	k.known[name], k.parsed[sha256.Sum256(cert.Raw)] = true, cert
	return nil
}

// delegateName hashes everything that the verification depends on.
func delegateName(cert, issuer *x509.Certificate, allowSHA1 bool) (name [sha256.Size]byte) {
	h := sha256.New()
	key := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	h.Write(key[:])
	if allowSHA1 {
		h.Write([]byte{1})
	} else {
		h.Write([]byte{0})
	}
	h.Write(cert.Raw)
	h.Sum(name[:0])
	return name
}
