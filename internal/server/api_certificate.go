package server

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
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/api/rpc"
	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

// The API's own certificate lives a week and is renewed at half of it; its key never touches a disk.
const apiCertificateLifetime = 7 * 24 * time.Hour

// apiCertificate is swapped whole.
type apiCertificate struct {
	current atomic.Pointer[tls.Certificate]
	local   atomic.Pointer[string] // why only commands on this machine believe the current one; nil: the roots of client.root verify it
	trouble atomic.Pointer[string] // why the last attempt came to nothing; nil: it did not

	// Of certifyAPI, which nobody calls twice at a time.
	failed map[pki.IssuerID]apiFailure
	spare  *tls.Certificate // issued and not served, since api.pem could not be written
}

// apiFailure is of an issuer that could not certify the API. Each attempt is one more refusal in the audit log.
type apiFailure struct {
	err   error
	pause time.Duration // doubles from a minute to an hour
	until time.Time     // it is left alone
}

func (c *apiCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if current := c.current.Load(); current != nil {
		return current, nil
	}
	return nil, errors.New("the API has no certificate yet")
}

// certifyAPI has the first issuer that can issue the API's certificate, of those first that client.root verifies: the roots that
// clients of this installation were given. While none can (the token with the key is away, the only issuer is disabled or was
// revoked), status is served all the same, and the API answers with a certificate that signs itself, so that an administrator can
// mend it. That, and one under a root that clients may not have yet, the commands on this machine find in the state directory.
// An instance that has no issuer to serve is an error.
func (s *Server) certifyAPI(ctx context.Context) error {
	candidates, err := s.apiIssuers(ctx)
	if err != nil {
		return err
	}
	now, present := s.options.Now(), s.certificate.current.Load()
	if present != nil && !now.Before(present.Leaf.NotAfter) {
		present = nil
	}
	// What clients believe is kept while it lasts, and what an issuer made until it is due.
	keep := present != nil && (s.certificate.local.Load() == nil || !signsItself(present.Leaf) && now.Before(halfLife(present.Leaf)))
	var cause error // of the first
	for _, candidate := range candidates {
		if candidate.State != ca.IssuerActive {
			continue
		}
		unbelieved := s.unbelieved(candidate)
		if !candidate.believed && keep {
			cause = cmp.Or(cause, unbelieved)
			continue
		}
		issued, err := s.apiCertificateOf(ctx, candidate)
		switch {
		case err != nil:
			cause = cmp.Or(cause, err)
		case candidate.believed:
			return s.serveEverybody(issued)
		default:
			return s.serveLocally(issued, withHint(unbelieved))
		}
	}
	if cause == nil {
		cause = pki.Errorf(pki.KindFailedPrecondition, apiCertificateOp, "no issuing CA is active").WithHint("signet issuer list; signet issuer state LABEL active")
	}
	if present != nil {
		return cause
	}
	s.report("API certificate")(cause)
	return s.signAPICertificateItself(cause)
}

// serveEverybody puts a certificate into use that client.root verifies.
func (s *Server) serveEverybody(certificate *tls.Certificate) error {
	s.certificate.current.Store(certificate)
	s.certificate.local.Store(nil)
	s.certificate.spare = nil
	if err := durable.Remove(s.config.State().API()); err != nil {
		return pki.Errorf(pki.KindUnavailable, apiCertificateOp, "%w", err)
	}
	return nil
}

// serveLocally puts a certificate into use that only commands on this machine believe, once they can find it.
func (s *Server) serveLocally(certificate *tls.Certificate, why string) error {
	if err := durable.Replace(s.config.State().API(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Leaf.Raw}), 0o644); err != nil {
		return pki.Errorf(pki.KindUnavailable, apiCertificateOp, "%w", err)
	}
	s.certificate.local.Store(&why)
	s.certificate.current.Store(certificate)
	s.certificate.spare = nil
	return nil
}

func signsItself(leaf *x509.Certificate) bool { return bytes.Equal(leaf.RawIssuer, leaf.RawSubject) }

// halfLife is when a certificate is due to be renewed.
func halfLife(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
}

func (s *Server) unbelieved(issuer apiIssuer) error {
	return pki.Errorf(pki.KindFailedPrecondition, apiCertificateOp, "%s has no root above issuer %s", s.config.Client.Root, issuer.Label).
		WithHint("add it to %s (signet issuer bundle %s --roots), and give it to clients of the API", s.config.Client.Root, issuer.Label)
}

const apiCertificateOp = "issue the API's certificate"

// apiCertificateOf is the certificate that an issuer that still stands issued before and that could not be served, or a new one, or why this issuer failed
// a while ago.
func (s *Server) apiCertificateOf(ctx context.Context, issuer apiIssuer) (*tls.Certificate, error) {
	c, now := &s.certificate, s.options.Now()
	if spare := c.spare; spare != nil && bytes.Equal(spare.Leaf.RawIssuer, issuer.Subject) && now.Before(halfLife(spare.Leaf)) && s.authority.Standing(ctx, issuer.ID) == nil {
		return spare, nil
	}
	failure := c.failed[issuer.ID]
	if now.Before(failure.until) {
		return nil, failure.err
	}
	issued, err := s.issueAPICertificate(ctx, issuer)
	if err != nil {
		pause := min(max(2*failure.pause, time.Minute), time.Hour)
		c.failed[issuer.ID] = apiFailure{err, pause, now.Add(pause)}
		return nil, err
	}
	delete(c.failed, issuer.ID)
	c.spare = issued
	return issued, nil
}

// issueAPICertificate has an issuer issue one, by the path that every certificate takes.
func (s *Server) issueAPICertificate(ctx context.Context, issuer apiIssuer) (*tls.Certificate, error) {
	const profile = "server"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, apiCertificateOp, "%w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, apiCertificateOp, "%w", err)
	}
	names, err := s.apiNames()
	if err != nil {
		return nil, err
	}
	grant, err := auth.System("api").Authorize(auth.ActionIssue, profile)
	if err != nil {
		return nil, err
	}
	issued, err := s.authority.Issue(ctx, grant, ca.Request{Profile: profile, Issuer: issuer.ID, CSR: csr, Names: names, Lifetime: apiCertificateLifetime})
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, apiCertificateOp, "%w", err)
	}
	return &tls.Certificate{Certificate: append([][]byte{issued.DER}, issuer.chain...), PrivateKey: key, Leaf: leaf}, nil
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
	names, err := s.apiNames()
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
	return s.serveLocally(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, "it signs itself: "+withHint(cause))
}

// checkAPICertificate warns of an API that only this machine believes, and of a certificate that is not renewed.
func (s *Server) checkAPICertificate(add func(name, state, detail string)) {
	current := s.certificate.current.Load()
	if current == nil { // of a public instance
		return
	}
	state, detail := "ok", "until "+current.Leaf.NotAfter.UTC().Format(time.RFC3339)
	local, trouble := s.certificate.local.Load(), s.certificate.trouble.Load()
	if local != nil {
		sum := sha256.Sum256(current.Certificate[0])
		state, detail = "warning", "SHA-256 "+hex.EncodeToString(sum[:])+": only commands on this machine reach the API; "+*local
	}
	if trouble != nil && (local == nil || !strings.HasSuffix(*local, *trouble)) {
		state, detail = "warning", detail+"; it could not be replaced: "+*trouble
	}
	add("api certificate", state, detail)
}

// apiIssuer is an issuer that could certify the API.
type apiIssuer struct {
	ca.Issuer
	chain    [][]byte // what is sent behind its certificates: all that leads to a root that clients may have
	believed bool     // client.root holds such a root, or cannot be read, and then nothing is known of clients
}

// apiIssuers are the issuers below a root whose key is here, those that are believed first, and then the one that init made.
func (s *Server) apiIssuers(ctx context.Context) (candidates []apiIssuer, err error) {
	known, err := rpc.CertificatesInForce(ctx, s.authority.Issuers(), s.universe)
	if err != nil {
		return nil, err
	}
	var others []apiIssuer // that are not believed
	roots, unreadable := client.ReadRoots(s.config.Path(s.config.Client.Root))
	for _, issuer := range s.authority.Issuers() {
		if issuer.KeyURI == "" || len(issuer.Certificates) == 0 || issuer.SelfSigned() {
			continue
		}
		candidate := apiIssuer{Issuer: issuer, chain: issuer.Chain(), believed: unreadable != nil}
		if bundle := ca.BundleAt(ca.Paths(issuer, known), s.options.Now()); len(bundle.Chain) > 0 {
			candidate.chain = nil
			for _, c := range bundle.Chain {
				candidate.chain = append(candidate.chain, c.Raw)
			}
			candidate.believed = candidate.believed || s.verifies(roots, issuer, bundle.Chain)
		}
		if candidate.believed {
			candidates = append(candidates, candidate)
		} else {
			others = append(others, candidate)
		}
	}
	if candidates = append(candidates, others...); len(candidates) > 0 {
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

// verifies reports whether roots verify one of an issuer's certificates in a chain now.
func (s *Server) verifies(roots *x509.CertPool, issuer ca.Issuer, chain []*x509.Certificate) bool {
	above := x509.NewCertPool()
	for _, c := range chain {
		above.AddCert(c)
	}
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
		if !bytes.Equal(c.RawSubject, issuer.Subject) || !bytes.Equal(c.RawSubjectPublicKeyInfo, issuer.SPKI) {
			return false
		}
		_, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, CurrentTime: s.options.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err == nil
	})
}

// apiNames are the names that clients may reach the API by.
func (s *Server) apiNames() ([]pki.Identifier, error) {
	texts := append([]string{"localhost", "127.0.0.1", "::1"}, s.config.API.Names...)
	if host, _, err := net.SplitHostPort(s.config.API.Listen); err == nil && host != "" {
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

// renewAPICertificate keeps looking whether there is a better certificate of the API to be had.
func (s *Server) renewAPICertificate(ctx context.Context) error {
	ticker := time.NewTicker(apiCertificateLook)
	defer ticker.Stop()
	var tried time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			tried = s.lookAtAPICertificate(ctx, tried)
		}
	}
}

// lookAtAPICertificate renews at half of the lifetime, and one that only this machine believes as soon as something better looks as if it
// could be had; but not within a minute of the last attempt, which may have failed. It returns when that was.
func (s *Server) lookAtAPICertificate(ctx context.Context, tried time.Time) time.Time {
	now, leaf := s.options.Now(), s.certificate.current.Load().Leaf
	if now.Sub(tried) < time.Minute {
		return tried
	}
	if now.Before(halfLife(leaf)) && (s.certificate.local.Load() == nil || !s.canIssue(ctx, signsItself(leaf))) {
		return tried
	}
	if err := s.certifyAPI(ctx); ctx.Err() == nil {
		s.noteAPITrouble(err)
	}
	return now
}

// noteAPITrouble keeps what came of an attempt for /readyz, and logs what was not said before.
func (s *Server) noteAPITrouble(err error) {
	if err == nil {
		s.certificate.trouble.Store(nil)
		return
	}
	text := withHint(err)
	if before := s.certificate.trouble.Swap(&text); before == nil || *before != text {
		s.report("API certificate")(err)
	}
}

// canIssue reports whether an issuer of the API's certificate looks as if it could issue one that is believed, or, with unbelieved, any. One
// that failed a while ago, or of which nothing can be told now, does not.
func (s *Server) canIssue(ctx context.Context, unbelieved bool) bool {
	candidates, err := s.apiIssuers(ctx)
	return err == nil && slices.ContainsFunc(candidates, func(i apiIssuer) bool {
		if i.State != ca.IssuerActive || !unbelieved && !i.believed || s.options.Now().Before(s.certificate.failed[i.ID].until) || s.authority.Standing(ctx, i.ID) != nil {
			return false
		}
		_, err := s.authority.ReadySigner(ctx, i.ID)
		return err == nil
	})
}
