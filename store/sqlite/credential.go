package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

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
	list, err := json.Marshal(profiles)
	if err != nil {
		return translate("create credential", err)
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
	return s.inTx(ctx, "create credential", func(tx *sql.Tx, _ time.Time) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO credentials (`+credentialColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)`,
			c.Name, c.Kind, c.Role, c.Account, string(list), digest, issuer, identifier, keyHash, c.CreatedAt.UnixMicro(), c.CreatedBy, optionalMicros(c.ExpiresAt)); err != nil {
			return err
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
}

// DisableCredential implements auth.Store.
func (s *Store) DisableCredential(ctx context.Context, name string, at time.Time, event audit.Event) (auth.Credential, error) {
	const op = "disable credential"
	err := s.inTx(ctx, op, func(tx *sql.Tx, _ time.Time) error {
		result, err := tx.ExecContext(ctx, `UPDATE credentials SET disabled_at = ? WHERE name = ? AND disabled_at IS NULL`, at.UnixMicro(), name)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
	if err != nil {
		return auth.Credential{}, err
	}
	return s.credential(ctx, op, `name = ?`, name)
}

// Credential implements auth.Store.
func (s *Store) Credential(ctx context.Context, name string) (auth.Credential, error) {
	return s.credential(ctx, "get credential", `name = ?`, name)
}

// TokenCredential implements auth.Store.
func (s *Store) TokenCredential(ctx context.Context, digest auth.Digest) (auth.Credential, error) {
	return s.credential(ctx, "find token", `digest = ?`, digest[:])
}

// Credentials implements auth.Store.
func (s *Store) Credentials(ctx context.Context, after string, limit int) ([]auth.Credential, error) {
	return s.credentials(ctx, "list credentials", `name > ? ORDER BY name LIMIT ?`, after, limit)
}

// CertificateCredentials implements auth.Store.
func (s *Store) CertificateCredentials(ctx context.Context, issuer pki.IssuerID, key pki.KeyHash, names []pki.Identifier) ([]auth.Credential, error) {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = name.String()
	}
	list, err := json.Marshal(texts)
	if err != nil {
		return nil, translate("find credentials of a certificate", err)
	}
	return s.credentials(ctx, "find credentials of a certificate",
		`issuer = ?1 AND (kind = 3 AND key_hash = ?2 OR kind = 2 AND identifier IN (SELECT value FROM json_each(?3))) ORDER BY name`,
		issuer[:], key[:], string(list))
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
	rows, err := s.read.QueryContext(ctx, `SELECT `+credentialColumns+` FROM credentials WHERE `+where, args...)
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var found []auth.Credential
	for rows.Next() {
		c, err := scanCredential(rows)
		if err != nil {
			return nil, translate(op, err)
		}
		found = append(found, c)
	}
	return found, translate(op, rows.Err())
}

func scanCredential(rows *sql.Rows) (auth.Credential, error) {
	var c auth.Credential
	var profiles string
	var digest, issuer, keyHash []byte
	var identifier sql.NullString
	var created int64
	var expires, disabled sql.NullInt64
	if err := rows.Scan(&c.Name, &c.Kind, &c.Role, &c.Account, &profiles, &digest, &issuer, &identifier, &keyHash, &created, &c.CreatedBy, &expires, &disabled); err != nil {
		return c, err
	}
	if err := json.Unmarshal([]byte(profiles), &c.Profiles); err != nil {
		return c, err
	}
	if len(c.Profiles) == 0 {
		c.Profiles = nil
	}
	copy(c.Digest[:], digest)
	copy(c.Issuer[:], issuer)
	copy(c.KeyHash[:], keyHash)
	if identifier.Valid {
		id, err := pki.ParseIdentifier(identifier.String)
		if err != nil {
			return c, err
		}
		c.Identifier = id
	}
	c.CreatedAt = time.UnixMicro(created).UTC()
	if expires.Valid {
		c.ExpiresAt = time.UnixMicro(expires.Int64).UTC()
	}
	if disabled.Valid {
		c.DisabledAt = time.UnixMicro(disabled.Int64).UTC()
	}
	return c, nil
}

// optionalMicros returns NULL for the zero time.
func optionalMicros(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return new(t.UnixMicro())
}
