package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// credentialService implements signetv1.CredentialServiceServer.
type credentialService struct {
	signetv1.UnimplementedCredentialServiceServer
	api *API
}

// CreateToken creates a bearer token.
func (s *credentialService) CreateToken(ctx context.Context, m *signetv1.CreateTokenRequest) (*signetv1.CreateTokenResponse, error) {
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	spec, err := specFrom("create token", m)
	if err != nil {
		return nil, err
	}
	credential, token, err := s.api.config.Credentials.CreateToken(ctx, grant, spec)
	if err != nil {
		return nil, err
	}
	return signetv1.CreateTokenResponse_builder{Credential: credentialTo(credential), Token: &token}.Build(), nil
}

// BindCertificate lets a client certificate act as a credential.
func (s *credentialService) BindCertificate(ctx context.Context, m *signetv1.BindCertificateRequest) (*signetv1.BindCertificateResponse, error) {
	const op = "bind certificate"
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	spec, err := specFrom(op, m)
	if err != nil {
		return nil, err
	}
	if spec.Issuer, err = issuerIDFrom(op, "issuer", m.GetIssuer()); err != nil {
		return nil, err
	}
	switch {
	case m.HasIdentifier():
		if spec.Identifier, err = pki.ParseIdentifier(m.GetIdentifier()); err != nil {
			return nil, invalid(op, "identifier", "%w", err)
		}
	case m.HasKeyHash():
		if spec.KeyHash, err = keyHashFrom(op, "key_hash", m.GetKeyHash()); err != nil {
			return nil, err
		}
	}
	// It would be of use to no one, and its name would be used up.
	if _, err := s.api.config.Authority.IssuerByNow(ctx, spec.Issuer); err != nil {
		return nil, err
	}
	credential, err := s.api.config.Credentials.BindCertificate(ctx, grant, spec)
	if err != nil {
		return nil, err
	}
	return signetv1.BindCertificateResponse_builder{Credential: credentialTo(credential)}.Build(), nil
}

// GetCredential returns one credential.
func (s *credentialService) GetCredential(ctx context.Context, m *signetv1.GetCredentialRequest) (*signetv1.GetCredentialResponse, error) {
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	credential, err := s.api.config.Credentials.Get(ctx, grant, m.GetCredential())
	if err != nil {
		return nil, err
	}
	return signetv1.GetCredentialResponse_builder{Credential: credentialTo(credential)}.Build(), nil
}

// ListCredentials returns one page of credentials. A page token is the last name of the page before.
func (s *credentialService) ListCredentials(ctx context.Context, m *signetv1.ListCredentialsRequest) (*signetv1.ListCredentialsResponse, error) {
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	limit, err := pageFrom("list credentials", m.GetPageSize())
	if err != nil {
		return nil, err
	}
	credentials, err := s.api.config.Credentials.List(ctx, grant, m.GetPageToken(), limit)
	if err != nil {
		return nil, err
	}
	b := signetv1.ListCredentialsResponse_builder{}
	for _, credential := range credentials {
		b.Credentials = append(b.Credentials, credentialTo(credential))
	}
	if len(credentials) == limit {
		b.NextPageToken = &credentials[limit-1].Name
	}
	return b.Build(), nil
}

// DisableCredential disables a credential.
func (s *credentialService) DisableCredential(ctx context.Context, m *signetv1.DisableCredentialRequest) (*signetv1.DisableCredentialResponse, error) {
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	credential, err := s.api.config.Credentials.Disable(ctx, grant, m.GetCredential())
	if err != nil {
		return nil, err
	}
	return signetv1.DisableCredentialResponse_builder{Credential: credentialTo(credential)}.Build(), nil
}

// WhoAmI returns what the call's credential proves.
func (s *credentialService) WhoAmI(ctx context.Context, _ *signetv1.WhoAmIRequest) (*signetv1.WhoAmIResponse, error) {
	p := caller(ctx)
	return signetv1.WhoAmIResponse_builder{Principal: &p.ID, Role: new(roleTo(p.Role)), Account: &p.Account, Profiles: p.Profiles}.Build(), nil
}

// described is what the requests to create a credential have in common.
type described interface {
	GetCredential() string
	GetRole() signetv1.Role
	GetAccount() string
	GetProfiles() []string
	GetLifetime() *durationpb.Duration
}

func specFrom(op string, m described) (auth.Spec, error) {
	spec := auth.Spec{Name: m.GetCredential(), Account: m.GetAccount(), Profiles: m.GetProfiles()}
	var err error
	if spec.Role, err = roleFrom(op, m.GetRole()); err != nil {
		return spec, err
	}
	spec.Lifetime, err = lifetimeFrom(op, m.GetLifetime())
	return spec, err
}
