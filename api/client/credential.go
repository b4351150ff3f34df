package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// Role is what a credential may do. Zero is nothing.
type Role uint8

// The roles.
const (
	RoleNone Role = iota
	RoleAuditor
	RoleRequester
	RoleAdmin
	RoleApprover
)

var roleNames = [...]string{"none", "auditor", "requester", "admin", "approver"}

// String is a lower-case word.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return roleNames[RoleNone]
}

// ParseRole reads "auditor", "requester", "approver" or "admin".
func ParseRole(text string) (Role, error) {
	for r, name := range roleNames {
		if r > 0 && name == text {
			return Role(r), nil
		}
	}
	return RoleNone, fmt.Errorf("role %q: want auditor, requester, approver or admin", text)
}

// CredentialRequest describes a credential to make. A client certificate is named by Issuer and either Identifier or
// KeyHash.
type CredentialRequest struct {
	Name       string
	Role       Role
	Account    string        // empty: Name
	Profiles   []string      // empty: all that allow the role
	Lifetime   time.Duration // zero: 90 days for a token, no end for a certificate
	Issuer     pki.IssuerID  // only for a certificate
	Identifier string        // only for a certificate
	KeyHash    pki.KeyHash   // only for a certificate
}

// Credential identifies a caller.
type Credential struct {
	answer
	Name       string
	Role       Role
	Account    string
	Profiles   []string
	Kind       string         // "token", "certificate name", "certificate key"
	Identifier pki.Identifier // of a certificate name
	KeyHash    pki.KeyHash    // of a certificate key
	Issuer     pki.IssuerID   // of a certificate
	CreatedAt  time.Time
	CreatedBy  string
	ExpiresAt  time.Time // zero: never
	DisabledAt time.Time // zero: it is not disabled
}

// IssuedToken is a new credential with its token, which cannot be shown again.
type IssuedToken struct {
	answer
	Credential Credential
	Token      string
}

// CreateToken makes a bearer token.
func (c *Client) CreateToken(ctx context.Context, q CredentialRequest) (*IssuedToken, error) {
	a, err := invoke(ctx, c, "create token", c.credentials.CreateToken, signetv1.CreateTokenRequest_builder{
		Credential: &q.Name,
		Role:       new(signetv1.Role(q.Role)),
		Account:    optional(q.Account),
		Profiles:   q.Profiles,
		Lifetime:   duration(q.Lifetime),
	}.Build())
	if err != nil {
		return nil, err
	}
	credential, err := credentialFrom(a.GetCredential())
	if err != nil {
		return nil, err
	}
	return &IssuedToken{answer{a}, *credential, a.GetToken()}, nil
}

// BindCertificate makes a TLS client certificate a credential.
func (c *Client) BindCertificate(ctx context.Context, q CredentialRequest) (*Credential, error) {
	m := signetv1.BindCertificateRequest_builder{
		Credential: &q.Name,
		Role:       new(signetv1.Role(q.Role)),
		Account:    optional(q.Account),
		Profiles:   q.Profiles,
		Lifetime:   duration(q.Lifetime),
		Identifier: optional(q.Identifier),
		Issuer:     issuerText(q.Issuer),
	}
	if q.KeyHash != (pki.KeyHash{}) {
		m.KeyHash = new(q.KeyHash.String())
	}
	a, err := invoke(ctx, c, "bind certificate", c.credentials.BindCertificate, m.Build())
	if err != nil {
		return nil, err
	}
	return credentialFrom(a.GetCredential())
}

// Credential returns one credential.
func (c *Client) Credential(ctx context.Context, name string) (*Credential, error) {
	a, err := invoke(ctx, c, "get credential", c.credentials.GetCredential, signetv1.GetCredentialRequest_builder{Credential: &name}.Build())
	if err != nil {
		return nil, err
	}
	return credentialFrom(a.GetCredential())
}

// Credentials returns one page of the credentials, by name.
func (c *Client) Credentials(ctx context.Context, p Page) (*List[Credential], error) {
	a, err := invoke(ctx, c, "list credentials", c.credentials.ListCredentials,
		signetv1.ListCredentialsRequest_builder{PageSize: p.size(), PageToken: optional(p.Token)}.Build())
	if err != nil {
		return nil, err
	}
	list := &List[Credential]{answer: answer{a}, Next: a.GetNextPageToken()}
	for _, m := range a.GetCredentials() {
		credential, err := credentialFrom(m)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, *credential)
	}
	return list, nil
}

// AllCredentials returns every credential, by name. An error ends the sequence.
func (c *Client) AllCredentials(ctx context.Context) iter.Seq2[Credential, error] {
	return all(func(p Page) (*List[Credential], error) { return c.Credentials(ctx, p) })
}

// DisableCredential disables a credential for good.
func (c *Client) DisableCredential(ctx context.Context, name string) (*Credential, error) {
	a, err := invoke(ctx, c, "disable credential", c.credentials.DisableCredential, signetv1.DisableCredentialRequest_builder{Credential: &name}.Build())
	if err != nil {
		return nil, err
	}
	return credentialFrom(a.GetCredential())
}

// Identity is the identity of the caller, as the server sees it.
type Identity struct {
	answer
	Principal string
	Role      Role
	Account   string
	Profiles  []string
}

// WhoAmI returns the identity of the caller, as the server sees it.
func (c *Client) WhoAmI(ctx context.Context) (*Identity, error) {
	a, err := invoke(ctx, c, "identify the caller", c.credentials.WhoAmI, new(signetv1.WhoAmIRequest))
	if err != nil {
		return nil, err
	}
	return &Identity{answer{a}, a.GetPrincipal(), role(a.GetRole()), a.GetAccount(), a.GetProfiles()}, nil
}

// DefaultProfile returns the profile to issue under if none is named: the only one of the caller's credential, or
// server.
func (c *Client) DefaultProfile(ctx context.Context) (string, error) {
	me, err := c.WhoAmI(ctx)
	if err != nil {
		return "", err
	}
	if len(me.Profiles) == 1 {
		return me.Profiles[0], nil
	}
	return "server", nil
}

func credentialFrom(m *signetv1.Credential) (*Credential, error) {
	c := &Credential{
		answer:     answer{m},
		Name:       m.GetCredential(),
		Role:       role(m.GetRole()),
		Account:    m.GetAccount(),
		Profiles:   m.GetProfiles(),
		Kind:       m.GetKind(),
		CreatedAt:  instant(m.GetCreatedAt()),
		CreatedBy:  m.GetCreatedBy(),
		ExpiresAt:  instant(m.GetExpiresAt()),
		DisabledAt: instant(m.GetDisabledAt()),
	}
	var err error
	if c.Identifier, err = given(m.GetIdentifier(), pki.ParseIdentifier); err != nil {
		return nil, err
	}
	if c.KeyHash, err = given(m.GetKeyHash(), pki.ParseKeyHash); err != nil {
		return nil, err
	}
	if c.Issuer, err = given(m.GetIssuer(), pki.ParseIssuerID); err != nil {
		return nil, err
	}
	return c, nil
}

func role(r signetv1.Role) Role {
	if r < 0 || int(r) >= len(roleNames) {
		return RoleNone
	}
	return Role(r)
}

func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
