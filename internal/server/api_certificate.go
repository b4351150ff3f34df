package server

import (
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
	"slices"
	"sync/atomic"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

// The API's own certificate lives a week and is renewed at half of it; its key never touches a disk.
const apiCertificateLifetime = 7 * 24 * time.Hour

// apiCertificate is swapped whole.
type apiCertificate struct {
	current    atomic.Pointer[tls.Certificate]
	selfSigned atomic.Pointer[string] // why the current one signs itself; nil: it was issued
}

func (c *apiCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if current := c.current.Load(); current != nil {
		return current, nil
	}
	return nil, errors.New("the API has no certificate yet")
}

// certifyAPI has the first issuer that can issue the API's certificate. While none can (the token with the key is away, the only issuer
// is disabled or was revoked), status is served all the same, and the API answers with a certificate that signs itself, so
// that an administrator can mend it: the commands on this machine find it in the state directory, and nobody else believes
// it. An instance that has no issuer to serve is an error.
func (s *Server) certifyAPI(ctx context.Context) error {
	candidates, err := s.apiIssuers()
	if err != nil {
		return err
	}
	failed := pki.Errorf(pki.KindFailedPrecondition, apiCertificateOp, "no issuing CA is active").WithHint("signet issuer list; signet issuer state LABEL active")
	cause := error(failed)
	for _, issuer := range candidates {
		if issuer.State != ca.IssuerActive {
			continue
		}
		if cause = s.issueAPICertificate(ctx, issuer.ID); cause == nil {
			return s.forgetSelfSigned()
		}
	}
	if present := s.certificate.current.Load(); present != nil && s.options.Now().Before(present.Leaf.NotAfter) {
		return cause
	}
	s.report("API certificate")(cause)
	return s.signAPICertificateItself(cause)
}

const apiCertificateOp = "issue the API's certificate"

// issueAPICertificate has an issuer issue one, by the path that every certificate takes.
func (s *Server) issueAPICertificate(ctx context.Context, issuer pki.IssuerID) error {
	const profile = "server"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pki.Errorf(pki.KindInternal, apiCertificateOp, "%w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return pki.Errorf(pki.KindInternal, apiCertificateOp, "%w", err)
	}
	names, err := s.config.apiNames()
	if err != nil {
		return err
	}
	grant, err := auth.System("api").Authorize(auth.ActionIssue, profile)
	if err != nil {
		return err
	}
	issued, err := s.authority.Issue(ctx, grant, ca.Request{Profile: profile, Issuer: issuer, CSR: csr, Names: names, Lifetime: apiCertificateLifetime})
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		return pki.Errorf(pki.KindInternal, apiCertificateOp, "%w", err)
	}
	s.certificate.current.Store(&tls.Certificate{Certificate: append([][]byte{issued.DER}, issued.Chain...), PrivateKey: key, Leaf: leaf})
	return nil
}

// signAPICertificateItself makes the certificate of an API that no issuer can certify, and tells this machine of it.
func (s *Server) signAPICertificateItself(cause error) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pki.Errorf(pki.KindInternal, apiCertificateOp, "%w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return pki.Errorf(pki.KindInternal, apiCertificateOp, "%w", err)
	}
	now := s.options.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Signet API, signed by itself"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(apiCertificateLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	names, err := s.config.apiNames()
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
		return pki.Errorf(pki.KindInternal, apiCertificateOp, "%w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return pki.Errorf(pki.KindInternal, apiCertificateOp, "%w", err)
	}
	if err := durable.Replace(s.config.State().API(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return pki.Errorf(pki.KindUnavailable, apiCertificateOp, "%w", err)
	}
	s.certificate.selfSigned.Store(new(withHint(cause)))
	s.certificate.current.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf})
	return nil
}

func (s *Server) forgetSelfSigned() error {
	s.certificate.selfSigned.Store(nil)
	if err := durable.Remove(s.config.State().API()); err != nil {
		return pki.Errorf(pki.KindUnavailable, apiCertificateOp, "%w", err)
	}
	return nil
}

// checkAPICertificate warns of an API that only this machine believes.
func (s *Server) checkAPICertificate(add func(name, state, detail string)) {
	current := s.certificate.current.Load()
	if current == nil { // of a public instance
		return
	}
	if why := s.certificate.selfSigned.Load(); why != nil {
		sum := sha256.Sum256(current.Certificate[0])
		add("api certificate", "warning", "signs itself (SHA-256 "+hex.EncodeToString(sum[:])+"): only commands on this machine reach the API; "+*why)
		return
	}
	add("api certificate", "ok", "until "+current.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

// apiIssuers are the issuers below a root whose key is here: first the one that init made.
func (s *Server) apiIssuers() (candidates []ca.Issuer, err error) {
	for _, issuer := range s.authority.Issuers() {
		if issuer.KeyURI != "" && len(issuer.Certificates) > 0 && len(issuer.Certificates[0].Chain) > 0 {
			candidates = append(candidates, issuer)
		}
	}
	if len(candidates) > 0 {
		return candidates, nil
	}
	for _, issuer := range s.authority.Issuers() {
		if issuer.State == ca.IssuerPending && issuer.KeyURI != "" {
			return nil, pki.Errorf(pki.KindFailedPrecondition, apiCertificateOp, "issuer %s waits for its certificate", issuer.Label).
				WithHint("have its request signed (signet ceremony sign --csr issuing.csr), then signet init --certificate FILE")
		}
	}
	return nil, pki.Errorf(pki.KindFailedPrecondition, apiCertificateOp, "there is no issuing CA").
		WithHint("this database has no issuer whose key is here: run `signet init`, or restore a backup")
}

// apiNames are the names that clients may reach the API by.
func (c *Config) apiNames() ([]pki.Identifier, error) {
	texts := append([]string{"localhost", "127.0.0.1", "::1"}, c.API.Names...)
	if host, _, err := net.SplitHostPort(c.API.Listen); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			texts = append(texts, host)
		}
	}
	var names []pki.Identifier
	seen := make(map[pki.Identifier]bool)
	for _, text := range texts {
		name, err := pki.ParseIdentifier(text)
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, "issue the API's certificate", "%w", err).InField("api.names")
		}
		if !seen[name] {
			names, seen[name] = append(names, name), true
		}
	}
	return names, nil
}

// apiCertificateLook is how often the API's certificate is looked at.
const apiCertificateLook = 5 * time.Second

// renewAPICertificate renews at half of the lifetime, and tries again every minute while that fails; one that signs itself gives
// way as soon as an issuer can issue.
func (s *Server) renewAPICertificate(ctx context.Context) error {
	ticker := time.NewTicker(apiCertificateLook)
	defer ticker.Stop()
	var tried time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now, leaf := s.options.Now(), s.certificate.current.Load().Leaf
		due := s.certificate.selfSigned.Load() != nil && s.canIssue(ctx)
		if half := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2); !now.Before(half) && now.Sub(tried) >= time.Minute {
			due = true
		}
		if !due {
			continue
		}
		tried = now
		if err := s.certifyAPI(ctx); err != nil && ctx.Err() == nil {
			s.report("API certificate")(err)
		}
	}
}

// canIssue reports whether an issuer of the API's certificate looks as if it could issue.
func (s *Server) canIssue(ctx context.Context) bool {
	candidates, err := s.apiIssuers()
	return err == nil && slices.ContainsFunc(candidates, func(i ca.Issuer) bool {
		if i.State != ca.IssuerActive || s.authority.Standing(ctx, i.ID) != nil {
			return false
		}
		_, err := s.authority.ReadySigner(ctx, i.ID)
		return err == nil
	})
}
