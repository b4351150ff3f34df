package laboratory

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// Authority is a short-lived certification authority, in memory only.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
	now         time.Time
}

// NewAuthority makes an authority. Everything it signs is in force around now.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("laboratory: make authority: %w", err)
	}
	a := &Authority{key: key, now: now}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Laboratory Authority"}, SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.Certificate = template // its own issuer
	if a.Certificate, err = a.sign(template, key.Public()); err != nil {
		return nil, err
	}
	return a, nil
}

// Server issues a certificate with an RSA key of 2,048 bits, which can serve for RSA key transport and for signatures.
func (a *Authority) Server(name string) (tls.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("laboratory: make server: %w", err)
	}
	leaf, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, SerialNumber: big.NewInt(2), NotBefore: a.now.Add(-time.Hour), NotAfter: a.now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Revoke returns a CRL, DER, that revokes a certificate for keyCompromise.
func (a *Authority) Revoke(cert *x509.Certificate) ([]byte, error) {
	const keyCompromise = 1 // RFC 5280, Section 5.3.1
	return x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: a.now.Add(-time.Minute), NextUpdate: a.now.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: cert.SerialNumber, RevocationTime: a.now.Add(-time.Minute), ReasonCode: keyCompromise}},
	}, a.Certificate, a.key)
}

// Pool returns a pool with the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

func (a *Authority) sign(template *x509.Certificate, key crypto.PublicKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("laboratory: sign: %w", err)
	}
	return x509.ParseCertificate(der)
}
