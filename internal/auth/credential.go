package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// TokenPrefix begins every bearer token, so that people and secret scanners recognise it.
const TokenPrefix = "signet_"

// The limits of a credential.
const (
	DefaultTokenLifetime = 90 * 24 * time.Hour
	MaxLifetime          = 10 * 366 * 24 * time.Hour
	maxProfiles          = 100
)

// CredentialKind is the kind of proof of a credential. The zero value proves nothing.
type CredentialKind uint8

// The kinds of credential.
const (
	KindNone            CredentialKind = iota
	KindToken                          // a bearer token
	KindCertificateName                // a client certificate with a name, from one issuer
	KindCertificateKey                 // a client certificate with a key, from one issuer
)

var credentialKinds = [...]string{"none", "token", "certificate name", "certificate key"}

// String returns a lower-case name for people.
func (k CredentialKind) String() string {
	if int(k) < len(credentialKinds) {
		return credentialKinds[k]
	}
	return credentialKinds[KindNone]
}

// Credential is a way to authenticate, as stored. The token itself is not stored, only its digest.
type Credential struct {
	Name       string // unique for ever, disabled credentials included
	Kind       CredentialKind
	Role       Role
	Account    string         // account of the certificates that it requests
	Profiles   []string       // the only profiles it may issue under; empty: every profile that allows its role
	Digest     Digest         // KindToken: SHA-256 of the token
	Issuer     pki.IssuerID   // kinds of certificate: the required issuer
	Identifier pki.Identifier // KindCertificateName
	KeyHash    pki.KeyHash    // KindCertificateKey
	CreatedAt  time.Time
	CreatedBy  string    // principal
	ExpiresAt  time.Time // zero: never
	DisabledAt time.Time // zero: not disabled
}

// Digest is the SHA-256 of a bearer token.
type Digest [sha256.Size]byte

// DigestToken hashes a bearer token. A plain hash is enough: tokens have 256 random bits, so there is nothing to guess.
func DigestToken(token string) Digest { return sha256.Sum256([]byte(token)) }

// Equal compares in constant time.
func (d Digest) Equal(other Digest) bool { return subtle.ConstantTimeCompare(d[:], other[:]) == 1 }

// Usable returns an error of KindUnauthenticated unless the credential is valid at now.
func (c Credential) Usable(now time.Time) error {
	const op = "authenticate"
	switch {
	case !c.DisabledAt.IsZero():
		return pki.Errorf(pki.KindUnauthenticated, op, "credential %s was disabled at %s", c.Name, c.DisabledAt.Format(time.RFC3339)).
			WithHint("ask an administrator for a new one")
	case !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt):
		return pki.Errorf(pki.KindUnauthenticated, op, "credential %s expired at %s", c.Name, c.ExpiresAt.Format(time.RFC3339)).
			WithHint("ask an administrator for a new one")
	}
	return nil
}

// principal returns the principal of the credential.
func (c Credential) principal() Principal {
	kind := tokenKind
	if c.Kind != KindToken {
		kind = certificateKind
	}
	return Principal{ID: kind + ":" + c.Name, Account: c.Account, Role: c.Role, Profiles: slices.Clone(c.Profiles)}
}

// Spec describes a credential to be created.
type Spec struct {
	Name       string
	Role       Role
	Account    string         // zero: Name
	Profiles   []string       // zero: every profile that allows the role
	Lifetime   time.Duration  // zero: DefaultTokenLifetime for a token, no end for a certificate; at most MaxLifetime
	Issuer     pki.IssuerID   // only for a certificate: required
	Identifier pki.Identifier // only for a certificate: this name ...
	KeyHash    pki.KeyHash    // ... or this key
}

// Credentials creates, lists and disables credentials. It is safe for concurrent use.
type Credentials struct {
	store   Store
	now     func() time.Time
	changed func(name string)
}

// CredentialsConfig configures a Credentials.
type CredentialsConfig struct {
	Store Store            // required
	Now   func() time.Time // zero: time.Now
	// Changed is called after a certificate was bound or a credential disabled; see Authenticator.Forget. Nil: not
	// called.
	Changed func(name string)
}

// NewCredentials returns a Credentials.
func NewCredentials(c CredentialsConfig) (*Credentials, error) {
	if c.Store == nil {
		return nil, pki.Errorf(pki.KindInternal, "make credentials", "no store")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Changed == nil {
		c.Changed = func(string) {}
	}
	return &Credentials{c.Store, c.Now, c.Changed}, nil
}

// CreateToken creates a bearer token and returns it; it cannot be shown again. The grant must allow ActionManage.
func (c *Credentials) CreateToken(ctx context.Context, grant Grant, spec Spec) (Credential, string, error) {
	const op = "create token"
	spec.Lifetime = cmp.Or(spec.Lifetime, DefaultTokenLifetime)
	credential, err := c.draft(op, grant, spec)
	if err != nil {
		return Credential{}, "", err
	}
	if !spec.Issuer.IsZero() || spec.Identifier != (pki.Identifier{}) || spec.KeyHash != (pki.KeyHash{}) {
		return Credential{}, "", pki.Errorf(pki.KindInvalid, op, "a token has no certificate").InField("issuer")
	}
	token := newToken()
	credential.Kind, credential.Digest = KindToken, DigestToken(token)
	if err := c.create(ctx, op, grant, credential); err != nil {
		return Credential{}, "", err
	}
	return credential, token, nil
}

// BindCertificate lets a client certificate act as a credential. The grant must allow ActionManage.
//
// A binding by name holds for every client certificate with that name from that issuer. So bind administrators by key,
// or to an issuer whose profiles are not available to others.
func (c *Credentials) BindCertificate(ctx context.Context, grant Grant, spec Spec) (Credential, error) {
	const op = "bind certificate"
	credential, err := c.draft(op, grant, spec)
	if err != nil {
		return Credential{}, err
	}
	if spec.Issuer.IsZero() {
		return Credential{}, pki.Errorf(pki.KindInvalid, op, "which issuer must the certificate come from?").InField("issuer")
	}
	switch byName, byKey := spec.Identifier != (pki.Identifier{}), spec.KeyHash != (pki.KeyHash{}); {
	case byName == byKey:
		return Credential{}, pki.Errorf(pki.KindInvalid, op, "want either a name or a key").InField("identifier")
	case byName && spec.Identifier.Wildcard():
		return Credential{}, pki.Errorf(pki.KindInvalid, op, "a wildcard names nobody").InField("identifier")
	case byName:
		credential.Kind = KindCertificateName
	default:
		credential.Kind = KindCertificateKey
	}
	credential.Issuer, credential.Identifier, credential.KeyHash = spec.Issuer, spec.Identifier, spec.KeyHash
	if err := c.create(ctx, op, grant, credential); err != nil {
		return Credential{}, err
	}
	c.changed(credential.Name)
	return credential, nil
}

// Get returns one credential. The grant must allow ActionManage.
func (c *Credentials) Get(ctx context.Context, grant Grant, name string) (Credential, error) {
	const op = "get credential"
	if err := manage(op, grant); err != nil {
		return Credential{}, err
	}
	return c.store.Credential(ctx, name)
}

// List returns at most limit (1 to 1,000) credentials in the order of their names, beginning after a name. The grant
// must allow ActionManage.
func (c *Credentials) List(ctx context.Context, grant Grant, after string, limit int) ([]Credential, error) {
	const op = "list credentials"
	if err := manage(op, grant); err != nil {
		return nil, err
	}
	if limit < 1 || limit > 1000 {
		return nil, pki.Errorf(pki.KindInvalid, op, "a limit of %d: want 1 to 1,000", limit).InField("limit")
	}
	return c.store.Credentials(ctx, after, limit)
}

// Disable ends a credential for good; repeating it changes nothing. The grant must allow ActionManage. This instance
// refuses the credential at once, others within a second.
func (c *Credentials) Disable(ctx context.Context, grant Grant, name string) (Credential, error) {
	const op = "disable credential"
	if err := manage(op, grant); err != nil {
		return Credential{}, err
	}
	now := c.now().UTC().Truncate(time.Microsecond)
	credential, err := c.store.DisableCredential(ctx, name, now, event(grant, now, "credential.disable", name, nil))
	if err != nil {
		return Credential{}, err
	}
	c.changed(name)
	return credential, nil
}

var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// draft checks the parts that all kinds have in common.
func (c *Credentials) draft(op string, grant Grant, spec Spec) (Credential, error) {
	if err := manage(op, grant); err != nil {
		return Credential{}, err
	}
	spec.Account = cmp.Or(spec.Account, spec.Name)
	switch {
	case !goodName.MatchString(spec.Name):
		return Credential{}, pki.Errorf(pki.KindInvalid, op, "want 1 to 64 letters, digits, dots, hyphens and underscores, the first a letter or digit").InField("credential")
	case !goodName.MatchString(spec.Account):
		return Credential{}, pki.Errorf(pki.KindInvalid, op, "want 1 to 64 letters, digits, dots, hyphens and underscores, the first a letter or digit").InField("account")
	case spec.Account == System("").Account:
		return Credential{}, pki.Errorf(pki.KindInvalid, op, "the account %q is Signet's own", spec.Account).InField("account")
	case spec.Role != RoleAuditor && spec.Role != RoleRequester && spec.Role != RoleAdmin && spec.Role != RoleApprover:
		return Credential{}, pki.Errorf(pki.KindInvalid, op, "want auditor, requester, approver or admin").InField("role")
	case len(spec.Profiles) > maxProfiles:
		return Credential{}, pki.Errorf(pki.KindInvalid, op, "%d profiles: at most %d", len(spec.Profiles), maxProfiles).InField("profiles")
	case len(spec.Profiles) > 0 && spec.Role != RoleRequester && spec.Role != RoleApprover:
		// An administrator may use every profile; a list would promise a limit that does not exist.
		return Credential{}, pki.Errorf(pki.KindInvalid, op, "only the roles requester and approver can be limited to profiles").InField("profiles")
	case spec.Lifetime < 0 || spec.Lifetime > MaxLifetime:
		return Credential{}, pki.Errorf(pki.KindInvalid, op, "want at most ten years").InField("lifetime")
	}
	for _, profile := range spec.Profiles {
		if !goodName.MatchString(profile) {
			return Credential{}, pki.Errorf(pki.KindInvalid, op, "not the name of a profile").InField("profiles")
		}
	}
	now := c.now().UTC().Truncate(time.Microsecond)
	credential := Credential{Name: spec.Name, Role: spec.Role, Account: spec.Account, Profiles: slices.Clone(spec.Profiles),
		CreatedAt: now, CreatedBy: grant.Principal().ID}
	if spec.Lifetime > 0 {
		credential.ExpiresAt = now.Add(spec.Lifetime).Truncate(time.Microsecond)
	}
	return credential, nil
}

func (c *Credentials) create(ctx context.Context, op string, grant Grant, credential Credential) error {
	detail := map[string]string{"kind": credential.Kind.String(), "role": credential.Role.String(), "account": credential.Account}
	if len(credential.Profiles) > 0 {
		detail["profiles"] = strings.Join(credential.Profiles, " ")
	}
	if !credential.ExpiresAt.IsZero() {
		detail["expires"] = credential.ExpiresAt.Format(time.RFC3339)
	}
	if credential.Kind != KindToken {
		detail["issuer"] = credential.Issuer.String()
	}
	switch credential.Kind {
	case KindCertificateName:
		detail["identifier"] = credential.Identifier.String()
	case KindCertificateKey:
		detail["key_hash"] = credential.KeyHash.String()
	}
	err := c.store.CreateCredential(ctx, credential, event(grant, credential.CreatedAt, "credential.create", credential.Name, detail))
	if pki.KindOf(err) == pki.KindConflict {
		return pki.Errorf(pki.KindConflict, op, "there is such a credential already: the name %q, or the same certificate bound under another name", credential.Name).
			InField("credential").WithHint("choose another name: names are never used twice")
	}
	return err
}

func manage(op string, grant Grant) error {
	if !grant.Allows(ActionManage, "") {
		return pki.Errorf(pki.KindDenied, op, "%s may not manage credentials", grant.Principal().ID)
	}
	return nil
}

func event(grant Grant, at time.Time, action, name string, detail map[string]string) audit.Event {
	p := grant.Principal()
	return audit.Event{At: at, Actor: p.ID, Action: action, Target: "credential/" + name,
		Outcome: audit.OK, RequestID: p.RequestID, Source: p.Source, Detail: detail}
}

// newToken returns 256 random bits as text.
func newToken() string {
	var random [32]byte
	rand.Read(random[:]) // never fails since Go 1.24
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(random[:])
}
