package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"signet.example/signet/pki"
)

// maxRemembered is the largest number of callers that an Authenticator remembers. patience is how long it waits for the
// store.
const (
	maxRemembered = 10_000
	patience      = 10 * time.Second
)

// Issuers returns the certificates of the CAs whose client certificates are accepted: those of every issuer, and those
// above them. The self-signed ones are the anchors.
type Issuers interface {
	IssuerCertificates(ctx context.Context) ([]*x509.Certificate, error)
}

// Status returns the status of a certificate of one of our issuers. Only pki.StatusGood is accepted. It is called with
// every call and must answer from memory.
type Status interface {
	CertificateStatus(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (pki.Status, error)
}

// AuthenticatorConfig configures an Authenticator.
type AuthenticatorConfig struct {
	Store   Store   // required
	Issuers Issuers // zero: client certificates are refused
	Status  Status  // zero: client certificates are refused

	Now func() time.Time // zero: time.Now
}

// countsFor is how long an answer from the store is used, and so how long another instance may accept a credential that
// was disabled here.
const countsFor = time.Second

// Authenticator turns a caller's credential into a Principal. It is safe for concurrent use.
type Authenticator struct {
	config AuthenticatorConfig

	mu         sync.Mutex
	remembered map[[sha256.Size]byte]memory // by digest of the token or of the client certificate
	// Number of calls of Forget: an answer read before such a call is not remembered after it.
	forgotten uint64
}

// memory is the outcome of a caller's recent proof.
type memory struct {
	credential Credential
	// refused is the error of a client certificate that proves nothing: a stranger must not have the same signatures
	// verified with every call.
	refused  error
	issuer   pki.IssuerID // for client certificates only, like the next two
	serial   pki.Serial
	notAfter time.Time
	until    time.Time
}

// NewAuthenticator returns an Authenticator.
func NewAuthenticator(c AuthenticatorConfig) (*Authenticator, error) {
	if c.Store == nil {
		return nil, pki.Errorf(pki.KindInternal, "make authenticator", "no store")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Authenticator{config: c, remembered: map[[sha256.Size]byte]memory{}}, nil
}

// unauthenticated returns an error that says no more than necessary: guessing must not reveal what exists.
func unauthenticated(format string, args ...any) *pki.Error {
	return pki.Errorf(pki.KindUnauthenticated, "authenticate", format, args...).
		WithHint("send a bearer token, or a TLS client certificate that an administrator has bound to a credential")
}

// Token authenticates a bearer token.
func (a *Authenticator) Token(ctx context.Context, token string) (Principal, error) {
	if len(token) != len(TokenPrefix)+43 || !strings.HasPrefix(token, TokenPrefix) { // 43 digits of base64 are 256 bits
		return Principal{}, unauthenticated("this is not a token of Signet")
	}
	digest := DigestToken(token)
	m, ok, age := a.recall(digest)
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		credential, err := a.config.Store.TokenCredential(ctx, digest)
		if pki.KindOf(err) == pki.KindNotFound && err != nil {
			return Principal{}, unauthenticated("the token is not known")
		}
		if err != nil {
			return Principal{}, err
		}
		if credential.Kind != KindToken || !credential.Digest.Equal(digest) {
			return Principal{}, unauthenticated("the token is not known")
		}
		m = memory{credential: credential}
	}
	if err := m.credential.Usable(a.config.Now()); err != nil {
		return Principal{}, err
	}
	if !ok {
		a.remember(digest, m, age)
	}
	return m.credential.principal(), nil
}

// Certificate authenticates the certificates that a TLS client presented, its own first. TLS has proved that the client
// has the key. Chain, validity, usage and status are checked here with each call, because a connection, or a session
// that it resumes, may outlive all of them.
func (a *Authenticator) Certificate(ctx context.Context, presented []*x509.Certificate) (Principal, error) {
	if len(presented) == 0 {
		return Principal{}, unauthenticated("no client certificate")
	}
	if a.config.Issuers == nil || a.config.Status == nil {
		return Principal{}, unauthenticated("this server takes no client certificates")
	}
	leaf := presented[0]
	fingerprint := sha256.Sum256(leaf.Raw)
	m, ok, age := a.recall(fingerprint)
	if !ok {
		var err error
		if m, err = a.prove(ctx, leaf); pki.KindOf(err) == pki.KindUnauthenticated {
			m = memory{refused: err}
			a.remember(fingerprint, m, age)
		} else if err != nil {
			return Principal{}, err
		}
	}
	if m.refused != nil {
		return Principal{}, m.refused
	}
	now := a.config.Now()
	if now.After(m.notAfter) {
		return Principal{}, unauthenticated("the client certificate expired at %s", m.notAfter.UTC().Format(time.RFC3339))
	}
	if err := m.credential.Usable(now); err != nil {
		return Principal{}, err
	}
	if err := a.inForce(ctx, m); err != nil {
		return Principal{}, err
	}
	if !ok {
		a.remember(fingerprint, m, age)
	}
	p := m.credential.principal()
	p.Certificate = m.issuer.String() + "/" + m.serial.String()
	return p, nil
}

// prove determines the issuer of a client certificate and the credential that it belongs to.
func (a *Authenticator) prove(ctx context.Context, leaf *x509.Certificate) (memory, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	issuer, err := a.verifyChain(ctx, leaf)
	if err != nil {
		return memory{}, err
	}
	serial, err := pki.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		return memory{}, unauthenticated("the client certificate has a serial number that is not ours")
	}
	key := pki.HashSPKI(leaf.RawSubjectPublicKeyInfo)
	found, err := a.config.Store.CertificateCredentials(ctx, issuer, key, identifiers(leaf))
	if err != nil {
		return memory{}, err
	}
	credential, err := choose(found, a.config.Now())
	if err != nil {
		return memory{}, err
	}
	return memory{credential: credential, issuer: issuer, serial: serial, notAfter: leaf.NotAfter}, nil
}

// verifyChain verifies a client certificate up to one of our anchors and returns its issuer.
func (a *Authenticator) verifyChain(ctx context.Context, leaf *x509.Certificate) (pki.IssuerID, error) {
	authorities, err := a.config.Issuers.IssuerCertificates(ctx)
	if err != nil {
		return pki.IssuerID{}, err
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range authorities {
		if bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil {
			roots.AddCert(c)
		} else {
			intermediates.AddCert(c)
		}
	}
	// Further certificates that the client presents are not used: every accepted CA is ours.
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   a.config.Now(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return pki.IssuerID{}, unauthenticated("the client certificate is not valid now: it is from %s to %s",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return pki.IssuerID{}, unauthenticated("the client certificate does not verify: %w", err)
	}
	// crypto/x509 accepts a certificate without extended key usages for every purpose; here the purpose is required.
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || leaf.IsCA || len(chains[0]) < 2 {
		return pki.IssuerID{}, unauthenticated("the certificate is not for TLS clients")
	}
	return pki.HashSPKI(chains[0][1].RawSubjectPublicKeyInfo).Issuer(), nil
}

// inForce checks the status of a client certificate. It accepts only good.
func (a *Authenticator) inForce(ctx context.Context, m memory) error {
	status, err := a.config.Status.CertificateStatus(ctx, m.issuer, m.serial)
	switch {
	case err != nil:
		return err
	case status == pki.StatusRevoked:
		return unauthenticated("the client certificate was revoked")
	case status != pki.StatusGood:
		return unauthenticated("the status of the client certificate is %s", status)
	}
	return nil
}

// choose returns the credential that a certificate proves. A binding to the key comes before one to a name.
func choose(found []Credential, now time.Time) (Credential, error) {
	if len(found) == 0 {
		return Credential{}, unauthenticated("the client certificate belongs to no credential")
	}
	var unusable error
	for _, kind := range []CredentialKind{KindCertificateKey, KindCertificateName} {
		var usable []Credential
		for _, c := range found {
			if c.Kind != kind {
				continue
			}
			if err := c.Usable(now); err != nil {
				unusable = err
				continue
			}
			usable = append(usable, c)
		}
		switch {
		case len(usable) == 1:
			return usable[0], nil
		case len(usable) > 1: // bound to several names: guessing could grant too much
			return Credential{}, unauthenticated("the client certificate belongs to %d credentials", len(usable))
		}
	}
	if unusable == nil {
		return Credential{}, unauthenticated("the client certificate belongs to no credential")
	}
	return Credential{}, unusable
}

// identifiers returns the names of a certificate in canonical form; a name without one cannot be bound.
func identifiers(leaf *x509.Certificate) []pki.Identifier {
	var names []pki.Identifier
	for t, value := range pki.CertificateNames(leaf) {
		if id, err := pki.NewIdentifier(t, value); err == nil && !id.Wildcard() {
			names = append(names, id)
		}
	}
	return names
}

// Forget makes the next call with a credential ask the store again. It also forgets refused certificates, which may
// belong to the credential now.
func (a *Authenticator) Forget(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgotten++
	for key, m := range a.remembered {
		if m.credential.Name == name || m.refused != nil {
			delete(a.remembered, key)
		}
	}
}

func (a *Authenticator) recall(key [sha256.Size]byte) (m memory, ok bool, forgotten uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m, ok = a.remembered[key]
	if !ok || !a.config.Now().Before(m.until) {
		return memory{}, false, a.forgotten
	}
	return m, true, a.forgotten
}

func (a *Authenticator) remember(key [sha256.Size]byte, m memory, forgotten uint64) {
	now := a.config.Now()
	m.until = now.Add(countsFor)
	a.mu.Lock()
	defer a.mu.Unlock()
	if forgotten != a.forgotten {
		return
	}
	if len(a.remembered) >= maxRemembered {
		for k, old := range a.remembered {
			if !now.Before(old.until) {
				delete(a.remembered, k)
			}
		}
		if len(a.remembered) >= maxRemembered {
			clear(a.remembered)
		}
	}
	a.remembered[key] = m
}
