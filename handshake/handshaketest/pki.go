// Package handshaketest is a small public key infrastructure on loopback that misbehaves on request: authorities drawn
// in text, their CRLs and OCSP responses over real HTTP, and TLS peers. It is for tests of code that judges certificates,
// here and in other projects, and for `signet handshake serve --misbehave`.
package handshaketest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// T is the part of a testing.TB that a PKI needs. Code outside of package testing can bring its own.
type T interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// PKI is the infrastructure of a drawing, with its status service running. It is safe for concurrent use.
type PKI struct {
	tb    T
	URL   string // of the status service: URL/NAME.crl, URL/NAME-delta.crl and URL/NAME.ocsp for every authority NAME
	certs map[string]*Cert

	mu       sync.Mutex
	offset   time.Duration           // of our clock; guarded by mu
	handlers map[string]http.Handler // replaced paths; guarded by mu
	hits     map[string]int          // requests by path; guarded by mu
	serial   int64                   // the last one given out; guarded by mu
}

// Cert is one certificate of the drawing, with its key. An authority also knows its revocations.
type Cert struct {
	*x509.Certificate
	Name   string
	Key    crypto.Signer
	Issuer *Cert // nil for a root

	pki     *PKI
	mu      sync.Mutex
	number  int64                 // of the last CRL; guarded by mu
	revoked map[string]Revocation // by serial, in decimal; guarded by mu
}

// Revocation is an authority's revocation of one certificate.
type Revocation struct {
	Serial *big.Int
	At     time.Time
	Reason int
}

// New builds the PKI of a drawing. A drawing is a list of chains separated by semicolons:
//
//	root -> int -> leaf revoked; int -> other muststaple; root -> sibling
//
// A name that is followed by another, in any chain, is an authority. Words after a name give properties:
//
//	revoked, hold     its issuer says so
//	expired, future   its validity has passed, or not begun
//	ends=DURATION     its validity ends so long from now
//	muststaple        it has the TLS feature status_request (RFC 7633)
//	norevavail        it has noRevAvail (RFC 9608) and no pointer to status
//	noaia, nocdp      it names no responder, no CRL
//	responder         it may sign OCSP responses, with ocsp-nocheck
//	delegate          it may sign OCSP responses, and wants to be checked itself
//	points=N          it has N distribution points, none of which answers
//	cdp=URL, ocsp=URL its pointers
//	mirror            its distribution point names a second place for the same list, URL/NAME-mirror.crl
//	secondresponder   it names a second responder, URL/NAME-mirror.ocsp
//	rebinding         its list is at a name that resolves to the status service at first, and to a private address from then on
//	wrongname         it is for another host
//
// Leaves are for localhost, 127.0.0.1 and their own name with .test, for servers and clients.
func New(tb T, drawing string) *PKI {
	p := &PKI{tb: tb, certs: make(map[string]*Cert), handlers: make(map[string]http.Handler), hits: make(map[string]int), serial: 1000}
	server := httptest.NewServer(http.HandlerFunc(p.serveStatus))
	tb.Cleanup(func() {
		server.CloseClientConnections() // the ones that are kept waiting on purpose
		server.Close()
	})
	p.URL = server.URL
	authorities := make(map[string]bool)
	for _, chain := range strings.Split(drawing, ";") {
		names := strings.Split(chain, "->")
		for _, node := range names[:len(names)-1] {
			authorities[strings.Fields(node)[0]] = true
		}
	}
	for _, chain := range strings.Split(drawing, ";") {
		var issuer *Cert
		for _, node := range strings.Split(chain, "->") {
			words := strings.Fields(node)
			if p.certs[words[0]] == nil {
				p.certs[words[0]] = p.issue(words[0], issuer, authorities[words[0]], words[1:])
			}
			issuer = p.certs[words[0]]
		}
	}
	return p
}

// Open is New outside of tests. Call Close when the PKI is no longer needed.
func Open(drawing string) (p *PKI, err error) {
	s := &stage{}
	defer func() {
		if trouble := recover(); trouble != nil {
			s.close()
			p, err = nil, fmt.Errorf("draw a public key infrastructure: %v", trouble)
		}
	}()
	return New(s, drawing), nil
}

// Close stops the servers of a PKI made by Open.
func (p *PKI) Close() {
	if s, ok := p.tb.(*stage); ok {
		s.close()
	}
}

// stage is the T of a PKI outside of tests. Where a test would fail, it panics: the caller made a mistake.
type stage struct {
	mu       sync.Mutex
	cleanups []func() // guarded by mu
}

func (s *stage) Helper()                           {}
func (s *stage) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (s *stage) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (s *stage) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *stage) close() {
	s.mu.Lock()
	cleanups := s.cleanups
	s.cleanups = nil
	s.mu.Unlock()
	for _, f := range slices.Backward(cleanups) {
		f()
	}
}

// Cert returns a certificate of the drawing.
func (p *PKI) Cert(name string) *Cert {
	p.tb.Helper()
	if p.certs[name] == nil {
		p.tb.Fatalf("no certificate %q in the drawing", name)
	}
	return p.certs[name]
}

// Now returns the time of this PKI's clock: the real one, moved by Advance.
func (p *PKI) Now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.offset)
}

// Advance moves the clock.
func (p *PKI) Advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offset += d
}

var (
	oidTLSFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
	oidNoRevAvail = asn1.ObjectIdentifier{2, 5, 29, 56}
	oidNoCheck    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	asn1Null      = []byte{asn1.TagNull, 0}
)

// issue makes one certificate.
func (p *PKI) issue(name string, issuer *Cert, authority bool, words []string) *Cert {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p.check(err)
	c := &Cert{Name: name, Key: key, Issuer: issuer, pki: p, revoked: make(map[string]Revocation)}
	template := p.template(c, issuer, authority, words)
	parent, signer := template, crypto.Signer(key)
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	p.check(err)
	c.Certificate, err = x509.ParseCertificate(der)
	p.check(err)
	for _, word := range words {
		switch word {
		case "revoked":
			c.Revoke(1)
		case "hold":
			c.Revoke(6)
		}
	}
	return c
}

func (p *PKI) template(c, issuer *Cert, authority bool, words []string) *x509.Certificate {
	p.mu.Lock()
	p.serial++
	serial := big.NewInt(p.serial)
	p.mu.Unlock()
	now := p.Now().Truncate(time.Second)
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: c.Name}, NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		DNSNames: []string{"localhost", c.Name + ".test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if authority {
		t.IsCA, t.KeyUsage, t.DNSNames, t.IPAddresses, t.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature, nil, nil, nil
		t.NotAfter = now.Add(365 * 24 * time.Hour)
	}
	if issuer != nil {
		t.CRLDistributionPoints = []string{p.URL + "/" + issuer.Name + ".crl"}
		t.OCSPServer = []string{p.URL + "/" + issuer.Name + ".ocsp"}
	}
	for _, word := range words {
		p.apply(t, word, now)
	}
	return t
}

func (p *PKI) apply(t *x509.Certificate, word string, now time.Time) {
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "revoked", "hold": // a property of the issuer, not of the certificate
	case "expired":
		t.NotAfter = t.NotBefore.Add(time.Hour)
	case "future":
		t.NotBefore = t.NotBefore.Add(48 * time.Hour)
	case "ends":
		left, err := time.ParseDuration(value)
		p.check(err)
		t.NotAfter = now.Add(left)
	case "muststaple":
		value, err := asn1.Marshal([]int{5})
		p.check(err)
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidTLSFeature, Value: value})
	case "norevavail":
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidNoRevAvail, Value: asn1Null})
		t.CRLDistributionPoints, t.OCSPServer = nil, nil
	case "contradiction":
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidNoRevAvail, Value: asn1Null})
	case "noaia":
		t.OCSPServer = nil
	case "nocdp":
		t.CRLDistributionPoints = nil
	case "responder":
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidNoCheck, Value: asn1Null})
		t.CRLDistributionPoints, t.OCSPServer = nil, nil
	case "delegate":
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	case "points":
		n, err := strconv.Atoi(value)
		p.check(err)
		t.CRLDistributionPoints = nil
		for i := range n {
			t.CRLDistributionPoints = append(t.CRLDistributionPoints, p.URL+"/nothing/"+strconv.Itoa(i)+".crl")
		}
	case "cdp":
		t.CRLDistributionPoints = []string{value}
	case "ocsp":
		t.OCSPServer = []string{value}
	case "secondresponder":
		t.OCSPServer = append(t.OCSPServer, strings.TrimSuffix(t.OCSPServer[0], ".ocsp")+mirrorSuffix+".ocsp")
	case "mirror":
		first := t.CRLDistributionPoints[0]
		second := strings.TrimSuffix(first, ".crl") + mirrorSuffix + ".crl"
		t.CRLDistributionPoints = nil
		t.ExtraExtensions = append(t.ExtraExtensions, points(first, second))
	case "rebinding":
		t.CRLDistributionPoints = []string{strings.Replace(t.CRLDistributionPoints[0], "127.0.0.1", rebinding, 1)}
	case "wrongname":
		t.DNSNames, t.IPAddresses = []string{"elsewhere.test"}, nil
	default:
		p.tb.Fatalf("the drawing has a word that means nothing: %q", word)
	}
}

func (p *PKI) check(err error) {
	p.tb.Helper()
	if err != nil {
		p.tb.Fatal(err)
	}
}

// Revoke makes the issuer revoke c, from now on, with a reason of RFC 5280, Section 5.3.1.
func (c *Cert) Revoke(reason int) {
	c.Issuer.mu.Lock()
	defer c.Issuer.mu.Unlock()
	c.Issuer.revoked[c.SerialNumber.String()] = Revocation{c.SerialNumber, c.pki.Now().Add(-time.Second), reason}
}

// Release withdraws a revocation, as after a hold.
func (c *Cert) Release() {
	c.Issuer.mu.Lock()
	defer c.Issuer.mu.Unlock()
	delete(c.Issuer.revoked, c.SerialNumber.String())
}

// Chain returns c and its issuers up to the root, as x509.Certificate.Verify would return it.
func (c *Cert) Chain() []*x509.Certificate {
	var chain []*x509.Certificate
	for ; c != nil; c = c.Issuer {
		chain = append(chain, c.Certificate)
	}
	return chain
}

// Root returns the certificate at the end of the chain.
func (c *Cert) Root() *x509.Certificate { chain := c.Chain(); return chain[len(chain)-1] }

// Pool returns a pool with the root of c.
func (c *Cert) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.Root())
	return pool
}

// TLS returns c with its key, its issuers except the root, and a staple unless that is nil.
func (c *Cert) TLS(staple []byte) tls.Certificate {
	certificate := tls.Certificate{PrivateKey: c.Key, OCSPStaple: staple}
	for at := c; at != nil && (at.Issuer != nil || at == c); at = at.Issuer {
		certificate.Certificate = append(certificate.Certificate, at.Raw)
	}
	return certificate
}

// Has reports whether the drawing has a certificate of this name.
func (p *PKI) Has(name string) bool { return p.certs[name] != nil }
