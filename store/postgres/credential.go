package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

const credentialColumns = `name, kind, role, account, profiles, digest, issuer, identifier, key_hash, created_at, created_by, expires_at, disabled_at`

// CreateCredential implements auth.Store.
func (s *Store) CreateCredential(ctx context.Context, c auth.Credential, event audit.Event) error {
	profiles := c.Profiles
	if profiles == nil {
		profiles = []string{}
	}
	var digest, issuer, keyHash []byte
	var identifier *string
	switch c.Kind {
	case auth.KindToken:
		digest = c.Digest[:]
	case auth.KindCertificateName:
		issuer, identifier = c.Issuer[:], new(c.Identifier.String())
	case auth.KindCertificateKey:
		issuer, keyHash = c.Issuer[:], c.KeyHash[:]
	}
	_, err := s.pool.Exec(ctx, `SELECT signet_credential_create($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		c.Name, int16(c.Kind), int16(c.Role), c.Account, profiles, digest, issuer, identifier, keyHash, c.CreatedAt, c.CreatedBy, nullTime(c.ExpiresAt),
		auditParam([]audit.Event{event}))
	return translate("create credential", err)
}

// DisableCredential implements auth.Store.
func (s *Store) DisableCredential(ctx context.Context, name string, at time.Time, event audit.Event) (auth.Credential, error) {
	const op = "disable credential"
	if _, err := s.pool.Exec(ctx, `SELECT signet_credential_disable($1, $2, $3)`, name, at, auditParam([]audit.Event{event})); err != nil {
		return auth.Credential{}, translate(op, err)
	}
	return s.credential(ctx, op, `name = $1`, name)
}

// Credential implements auth.Store.
func (s *Store) Credential(ctx context.Context, name string) (auth.Credential, error) {
	return s.credential(ctx, "get credential", `name = $1`, name)
}

// TokenCredential implements auth.Store.
func (s *Store) TokenCredential(ctx context.Context, digest auth.Digest) (auth.Credential, error) {
	return s.credential(ctx, "find token", `digest = $1`, digest[:])
}

// Credentials implements auth.Store.
func (s *Store) Credentials(ctx context.Context, after string, limit int) ([]auth.Credential, error) {
	return s.credentials(ctx, "list credentials", `name > $1 ORDER BY name LIMIT $2`, after, limit)
}

// CertificateCredentials implements auth.Store.
func (s *Store) CertificateCredentials(ctx context.Context, issuer pki.IssuerID, key pki.KeyHash, names []pki.Identifier) ([]auth.Credential, error) {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = name.String()
	}
	return s.credentials(ctx, "find credentials of a certificate",
		`issuer = $1 AND (kind = 3 AND key_hash = $2 OR kind = 2 AND identifier = ANY ($3::text[])) ORDER BY name`, issuer[:], key[:], texts)
}

func (s *Store) credential(ctx context.Context, op, where string, args ...any) (auth.Credential, error) {
	found, err := s.credentials(ctx, op, where, args...)
	if err != nil {
		return auth.Credential{}, err
	}
	if len(found) == 0 {
		return auth.Credential{}, pki.Errorf(pki.KindNotFound, op, "there is no credential of this name").InField("credential").
			WithHint("`signet credential list` shows their names")
	}
	return found[0], nil
}

func (s *Store) credentials(ctx context.Context, op, where string, args ...any) ([]auth.Credential, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+credentialColumns+` FROM credentials WHERE `+where, args...)
	if err != nil {
		return nil, translate(op, err)
	}
	found, err := pgx.CollectRows(rows, scanCredential)
	return found, translate(op, err)
}

func scanCredential(row pgx.CollectableRow) (auth.Credential, error) {
	var c auth.Credential
	var kind, role int16
	var digest, issuer, keyHash []byte
	var identifier *string
	var expires, disabled *time.Time
	if err := row.Scan(&c.Name, &kind, &role, &c.Account, &c.Profiles, &digest, &issuer, &identifier, &keyHash, &c.CreatedAt, &c.CreatedBy, &expires, &disabled); err != nil {
		return c, err
	}
	c.Kind, c.Role = auth.CredentialKind(kind), auth.Role(role)
	if len(c.Profiles) == 0 {
		c.Profiles = nil
	}
	copy(c.Digest[:], digest)
	copy(c.Issuer[:], issuer)
	copy(c.KeyHash[:], keyHash)
	if identifier != nil {
		id, err := pki.ParseIdentifier(*identifier)
		if err != nil {
			return c, err
		}
		c.Identifier = id
	}
	c.CreatedAt = c.CreatedAt.UTC()
	if expires != nil {
		c.ExpiresAt = expires.UTC()
	}
	if disabled != nil {
		c.DisabledAt = disabled.UTC()
	}
	return c, nil
}
