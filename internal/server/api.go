package server

import (
	"context"
	"crypto/tls"
	"time"

	"signet.example/signet/api/rest"
	"signet.example/signet/api/rpc"
	"signet.example/signet/ca/approval"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/server/apicert"
	"signet.example/signet/revocation"
)

// openAPI makes the gRPC and REST servers over the components opened before.
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
	if s.requests, err = approval.New(approval.Config{
		Authority: s.authority, Store: s.store, Archive: s.store, Credentials: s.store, Audit: s.store, Now: s.options.Now,
		Expires: s.config.Requests.Lifetime, Keep: s.config.Requests.Keep, PerAccount: s.config.Requests.PerAccount, Total: s.config.Requests.Total,
	}); err != nil {
		return err
	}
	if s.jobs, err = revocation.NewJobs(revocation.JobsConfig{Store: s.store, Runner: s.store, Universe: s.universe, Instance: s.instance, Now: s.earliest}); err != nil {
		return err
	}
	if s.api, err = rpc.New(rpc.Config{
		Authenticator: authenticator, Credentials: credentials, Audit: s.store, Authority: s.authority, Requests: s.requests, Rollout: s.profiles, Ledger: s.ledger,
		Universe: s.universe, Jobs: s.jobs, BlockedKeys: s.store, CRLs: s, Adoptions: s, Publication: s.board, Now: s.options.Now, Log: s.log,
		Rate: float64(s.config.API.CallsPerSecond),
	}); err != nil {
		return err
	}
	s.certificate = apicert.New(apicert.Config{Authority: s.authority, Settings: s.config, Now: s.options.Now,
		Report: func(err error) { s.troubles.once("API certificate", err) }})
	if err := s.certificate.Certify(ctx); err != nil {
		return err
	}
	s.apiServer, err = rest.NewServer(rest.Config{Services: s.api, Connections: s.config.API.Connections,
		TLS: &tls.Config{GetCertificate: s.certificate.Get, MinVersion: tls.VersionTLS12}})
	return err
}

// apiCertificateLook is the interval at which the API's certificate is checked.
const apiCertificateLook = 5 * time.Second

// renewAPICertificate replaces the API's certificate whenever a better one is to be had.
func (s *Server) renewAPICertificate(ctx context.Context) error {
	var tried time.Time
	return every(apiCertificateLook, func(ctx context.Context) { tried = s.certificate.Look(ctx, tried) })(ctx)
}
