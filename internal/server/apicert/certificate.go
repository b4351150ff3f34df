// Package apicert maintains the certificate of the API: which issuer makes it, when it is replaced, and what the API
// presents while no issuer can make one.
package apicert

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/durable"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

// The API's own certificate lives a week and is renewed at half of its life; its key is never written to disk.
const lifetime = 7 * 24 * time.Hour

// Config configures a Certificate. Every field is required.
type Config struct {
	Authority *ca.Authority
	Settings  *settings.Config
	Now       func() time.Time
	Report    func(error) // called with errors that will be retried
}

// Certificate is the API's certificate. It is replaced as a whole.
type Certificate struct {
	config Config

	current atomic.Pointer[tls.Certificate]
	local   atomic.Pointer[string] // why only this machine accepts the current one; nil: client.root verifies it
	trouble atomic.Pointer[string] // why the last attempt failed; nil: it did not

	// Used by Certify, which is not called concurrently.
	failed map[pki.IssuerID]refusal
	spare  *tls.Certificate // issued but not in use, because api.pem could not be written
}

// refusal is the failure of an issuer to certify the API. Every attempt adds a refusal to the audit log, so attempts
// are spaced.
type refusal struct {
	err   error
	pause time.Duration // doubles from a minute to an hour
	until time.Time     // no attempt before
}

// New returns a Certificate without a certificate: call Certify.
func New(config Config) *Certificate {
	return &Certificate{config: config, failed: make(map[pki.IssuerID]refusal)}
}

// Get is for tls.Config.GetCertificate.
func (a *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if current := a.current.Load(); current != nil {
		return current, nil
	}
	return nil, errors.New("the API has no certificate yet")
}

// Certify obtains the API's certificate from the first issuer that can issue it. Issuers that client.root verifies come
// first: it holds the roots that clients of this installation were given. If none can issue (the token with the key is
// unreachable, the only issuer is disabled or revoked), status is served all the same, and the API presents a
// self-signed certificate, so that an administrator can fix it. Commands on this machine find that one, and one under a
// root that clients may not have yet, in the state directory. The error is about an instance that has no issuer to
// serve.
func (a *Certificate) Certify(ctx context.Context) error {
	candidates, err := a.certifiers(ctx)
	if err != nil {
		return err
	}
	now, present := a.config.Now(), a.current.Load()
	if present != nil && !now.Before(present.Leaf.NotAfter) {
		present = nil
	}
	// A certificate that clients accept is kept until it expires. A certificate made by any issuer is kept until it is
	// due.
	keep := present != nil && (a.local.Load() == nil || !signsItself(present.Leaf) && now.Before(halfLife(present.Leaf)))
	var cause error // the first one
	for _, candidate := range candidates {
		if candidate.State != ca.IssuerActive {
			continue
		}
		unbelieved := a.unbelieved(candidate)
		if !candidate.believed && keep {
			cause = cmp.Or(cause, unbelieved)
			continue
		}
		issued, err := a.certificateOf(ctx, candidate)
		switch {
		case err != nil:
			cause = cmp.Or(cause, err)
		case candidate.believed:
			return a.serveEverybody(issued)
		default:
			return a.serveLocally(issued, pki.Explain(unbelieved))
		}
	}
	if cause == nil {
		cause = pki.Errorf(pki.KindFailedPrecondition, op, "no issuing CA is active").WithHint("signet issuer list; signet issuer state LABEL active")
	}
	if present != nil || ctx.Err() != nil {
		return cause
	}
	a.config.Report(cause)
	return a.signItself(cause)
}

// serveEverybody begins to use a certificate that client.root verifies.
func (a *Certificate) serveEverybody(certificate *tls.Certificate) error {
	a.current.Store(certificate)
	a.local.Store(nil)
	a.spare = nil
	if err := durable.Remove(a.config.Settings.State().API()); err != nil {
		return pki.Errorf(pki.KindUnavailable, op, "%w", err)
	}
	return nil
}

// serveLocally begins to use a certificate that only commands on this machine accept, after writing it where they find
// it.
func (a *Certificate) serveLocally(certificate *tls.Certificate, why string) error {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Leaf.Raw})
	if err := durable.Replace(a.config.Settings.State().API(), text, 0o644); err != nil {
		return pki.Errorf(pki.KindUnavailable, op, "%w", err)
	}
	a.local.Store(&why)
	a.current.Store(certificate)
	a.spare = nil
	return nil
}

func signsItself(leaf *x509.Certificate) bool { return bytes.Equal(leaf.RawIssuer, leaf.RawSubject) }

// halfLife returns the time at which a certificate is due for renewal.
func halfLife(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
}

func (a *Certificate) unbelieved(issuer certifier) error {
	return pki.Errorf(pki.KindFailedPrecondition, op, "%s has no root above issuer %s", a.config.Settings.Client.Root, issuer.Label).
		WithHint("add it to %s (signet issuer bundle %s --roots), and give it to clients of the API", a.config.Settings.Client.Root, issuer.Label)
}

const op = "issue the API's certificate"

// certificateOf returns the certificate that an issuer in good standing issued earlier and that could not be used, or a
// new one. If the issuer failed recently, it returns that error.
func (a *Certificate) certificateOf(ctx context.Context, issuer certifier) (*tls.Certificate, error) {
	now := a.config.Now()
	if spare := a.spare; spare != nil && bytes.Equal(spare.Leaf.RawIssuer, issuer.Subject) &&
		now.Before(halfLife(spare.Leaf)) && a.config.Authority.Standing(ctx, issuer.ID) == nil {
		return spare, nil
	}
	failure := a.failed[issuer.ID]
	if now.Before(failure.until) {
		return nil, failure.err
	}
	issued, err := a.issue(ctx, issuer)
	if err != nil {
		pause := min(max(2*failure.pause, time.Minute), time.Hour)
		a.failed[issuer.ID] = refusal{err, pause, now.Add(pause)}
		return nil, err
	}
	delete(a.failed, issuer.ID)
	a.spare = issued
	return issued, nil
}

// issue has an issuer issue a certificate by the same pipeline as any other.
func (a *Certificate) issue(ctx context.Context, issuer certifier) (*tls.Certificate, error) {
	const profile = "server"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	names, err := a.names()
	if err != nil {
		return nil, err
	}
	grant, err := auth.System("api").Authorize(auth.ActionIssue, profile)
	if err != nil {
		return nil, err
	}
	issued, err := a.config.Authority.Issue(ctx, grant, ca.Request{Profile: profile, Issuer: issuer.ID, CSR: csr, Names: names, Lifetime: lifetime})
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	return &tls.Certificate{Certificate: append([][]byte{issued.DER}, issuer.chain...), PrivateKey: key, Leaf: leaf}, nil
}

// signItself makes a self-signed certificate for an API that no issuer can certify, and publishes it on this machine.
func (a *Certificate) signItself(cause error) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	now := a.config.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Signet API, signed by itself"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	names, err := a.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name.Type == pki.IP {
			template.IPAddresses = append(template.IPAddresses, net.ParseIP(name.Value))
		} else {
			template.DNSNames = append(template.DNSNames, name.Value)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	return a.serveLocally(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, "it signs itself: "+pki.Explain(cause))
}

// Check warns of an API that only this machine accepts, and of a certificate that is not renewed in time.
func (a *Certificate) Check(add func(name, state, detail string)) {
	current := a.current.Load()
	if current == nil { // a public instance has none
		return
	}
	state, detail := "ok", "until "+current.Leaf.NotAfter.UTC().Format(time.RFC3339)
	local, trouble := a.local.Load(), a.trouble.Load()
	if local != nil {
		sum := sha256.Sum256(current.Certificate[0])
		state, detail = "warning", "SHA-256 "+hex.EncodeToString(sum[:])+": only commands on this machine reach the API; "+*local
	}
	if trouble != nil && (local == nil || !strings.HasSuffix(*local, *trouble)) {
		state, detail = "warning", detail+"; it could not be replaced: "+*trouble
	}
	add("api certificate", state, detail)
}

// Look renews the certificate at half of its life, or, if only this machine accepts it, as soon as a better one seems
// available. It does nothing within a minute of the last attempt, which may have failed. It returns the time of the
// last attempt.
func (a *Certificate) Look(ctx context.Context, tried time.Time) time.Time {
	now, leaf := a.config.Now(), a.current.Load().Leaf
	if now.Sub(tried) < time.Minute {
		return tried
	}
	if now.Before(halfLife(leaf)) && (a.local.Load() == nil || !a.canIssue(ctx, signsItself(leaf))) {
		return tried
	}
	if err := a.Certify(ctx); ctx.Err() == nil {
		a.note(err)
	}
	return now
}

// note records the result of an attempt for /readyz, and logs an error that is new.
func (a *Certificate) note(err error) {
	if err == nil {
		a.trouble.Store(nil)
		return
	}
	text := pki.Explain(err)
	if before := a.trouble.Swap(&text); before == nil || *before != text {
		a.config.Report(err)
	}
}
