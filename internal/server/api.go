package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"signet.example/signet/api/rest"
	"signet.example/signet/api/rpc"
	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// openAPI makes gRPC and REST over everything that was opened before.
func (s *Server) openAPI(ctx context.Context) (err error) {
	if s.options.Role == RolePublic {
		return nil
	}
	clients := rpc.ClientCertificates{Authority: s.authority, Universe: s.universe}
	authenticator, err := auth.NewAuthenticator(auth.AuthenticatorConfig{Store: s.store, Issuers: clients, Status: clients, Now: s.options.Now})
	if err != nil {
		return err
	}
	credentials, err := auth.NewCredentials(auth.CredentialsConfig{Store: s.store, Now: s.options.Now, Changed: authenticator.Forget})
	if err != nil {
		return err
	}
	if s.requests, err = approval.New(approval.Config{Authority: s.authority, Store: s.store, Audit: s.store, Now: s.options.Now}); err != nil {
		return err
	}
	if s.jobs, err = revocation.NewJobs(revocation.JobsConfig{Books: s.store, Universe: s.universe, Instance: s.instance, Now: s.options.Now}); err != nil {
		return err
	}
	if s.api, err = rpc.New(rpc.Config{
		Authenticator: authenticator, Credentials: credentials, Audit: s.store, Authority: s.authority, Requests: s.requests, Profiles: s.profiles, Ledger: s.ledger,
		Universe: s.universe, Jobs: s.jobs, BlockedKeys: s.store, CRLs: s, Publication: s.board, Now: s.options.Now, Log: s.log,
	}); err != nil {
		return err
	}
	if err := s.issueAPICertificate(ctx); err != nil {
		return err
	}
	s.apiServer, err = rest.NewServer(rest.Config{Services: s.api, Connections: s.config.API.Connections, TLS: &tls.Config{GetCertificate: s.certificate.get, MinVersion: tls.VersionTLS12}})
	return err
}

// The API's own certificate lives a week and is renewed at half of it; its key never touches a disk.
const apiCertificateLifetime = 7 * 24 * time.Hour

// apiCertificate is swapped whole.
type apiCertificate struct {
	current atomic.Pointer[tls.Certificate]
}

func (c *apiCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if current := c.current.Load(); current != nil {
		return current, nil
	}
	return nil, errors.New("the API has no certificate yet")
}

// issueAPICertificate has the ca issue one, by the path that every certificate takes.
func (s *Server) issueAPICertificate(ctx context.Context) error {
	const op, profile = "issue the API's certificate", "server"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	names, err := s.config.apiNames()
	if err != nil {
		return err
	}
	issuer, err := s.apiIssuer()
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
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	s.certificate.current.Store(&tls.Certificate{Certificate: append([][]byte{issued.DER}, issued.Chain...), PrivateKey: key, Leaf: leaf})
	return nil
}

// apiIssuer is the first active issuer below a root: the one that init made.
func (s *Server) apiIssuer() (pki.IssuerID, error) {
	for _, issuer := range s.authority.Issuers() {
		if issuer.State == ca.IssuerActive && issuer.KeyURI != "" && len(issuer.Certificates) > 0 && len(issuer.Certificates[0].Chain) > 0 {
			return issuer.ID, nil
		}
	}
	for _, issuer := range s.authority.Issuers() {
		if issuer.State == ca.IssuerPending && issuer.KeyURI != "" {
			return pki.IssuerID{}, pki.Errorf(pki.KindFailedPrecondition, "issue the API's certificate", "issuer %s waits for its certificate", issuer.Label).
				WithHint("have its request signed (signet ceremony sign --csr issuing.csr), then signet init --certificate FILE")
		}
	}
	return pki.IssuerID{}, pki.Errorf(pki.KindFailedPrecondition, "issue the API's certificate", "no issuing CA is active").
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

// renewAPICertificate renews at half of the lifetime, and tries again every minute while that fails.
func (s *Server) renewAPICertificate(ctx context.Context) error {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		leaf := s.certificate.current.Load().Leaf
		if s.options.Now().Before(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)) {
			continue
		}
		if err := s.issueAPICertificate(ctx); err != nil && ctx.Err() == nil {
			s.report("API certificate")(err)
		}
	}
}
