package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/cryptobyte"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// CreateIssuer implements ca.IssuerStore.
func (s *Store) CreateIssuer(ctx context.Context, issuer ca.Issuer, event audit.Event) error {
	_, err := s.pool.Exec(ctx, `SELECT signet_issuer_create($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		issuer.ID[:], issuer.Label, issuer.KeyURI, issuer.Subject, issuer.SPKI, issuer.KeyHash[:], int16(issuer.Visibility), int16(issuer.State),
		issuer.Foreign, issuer.BaseURL, issuer.CSR, succeeded(&issuer.Succeeds), issuer.CreatedAt, auditParam([]audit.Event{event}))
	return translate("create issuer", err)
}

// succeeded returns nil for an issuer without predecessor.
func succeeded(before *pki.IssuerID) []byte {
	if before == nil || before.IsZero() {
		return nil
	}
	return before[:]
}

// AddIssuerCertificate implements ca.IssuerStore.
func (s *Store) AddIssuerCertificate(ctx context.Context, issuer pki.IssuerID, c ca.IssuerCertificate, event audit.Event) error {
	fingerprint := sha256.Sum256(c.DER)
	_, err := s.pool.Exec(ctx, `SELECT signet_issuer_certificate($1, $2, $3, $4, $5, $6, $7, $8)`,
		issuer[:], fingerprint[:], c.DER, append([]byte{}, bytes.Join(c.Chain, nil)...), c.NotAfter, c.Chosen, c.AddedAt, auditParam([]audit.Event{event}))
	return translate("add issuer certificate", err)
}

// SetIssuerState implements ca.IssuerStore.
func (s *Store) SetIssuerState(ctx context.Context, issuer pki.IssuerID, state ca.IssuerState, event audit.Event) error {
	_, err := s.pool.Exec(ctx, `SELECT signet_issuer_state($1, $2, $3)`, issuer[:], int16(state), auditParam([]audit.Event{event}))
	return translate("set issuer state", err)
}

// UpdateIssuer implements ca.IssuerStore.
func (s *Store) UpdateIssuer(ctx context.Context, issuer pki.IssuerID, change ca.IssuerChange, event audit.Event) error {
	_, err := s.pool.Exec(ctx, `SELECT signet_issuer_update($1, $2, $3, $4, $5)`,
		issuer[:], change.BaseURL, change.Succeeds != nil, succeeded(change.Succeeds), auditParam([]audit.Event{event}))
	return translate("update issuer", err)
}

// DeleteIssuer implements ca.IssuerStore.
func (s *Store) DeleteIssuer(ctx context.Context, issuer pki.IssuerID, event audit.Event) error {
	_, err := s.pool.Exec(ctx, `SELECT signet_issuer_delete($1, $2)`, issuer[:], auditParam([]audit.Event{event}))
	return translate("delete issuer", err)
}

// RaiseRetention implements ca.RangeStore.
func (s *Store) RaiseRetention(ctx context.Context, issuer pki.IssuerID, keep time.Duration, event audit.Event) error {
	_, err := s.pool.Exec(ctx, `SELECT signet_issuer_retain($1, $2, $3)`, issuer[:], int64(keep/time.Second), auditParam([]audit.Event{event}))
	return translate("raise retention", err)
}

func retentionOf(seconds int64, since *time.Time) pki.Retention {
	if since == nil {
		return pki.Retention{}
	}
	return pki.Retention{Keep: time.Duration(seconds) * time.Second, Since: since.UTC()}
}

// Issuers implements ca.IssuerStore.
func (s *Store) Issuers(ctx context.Context) ([]ca.Issuer, error) {
	const op = "read issuers"
	rows, err := s.pool.Query(ctx, `SELECT i.id, i.label, i.key_uri, i.subject, i.spki, i.visibility, i.state, i.signed_outside, i.base_url, i.csr, i.succeeds, i.created_at, i.retain, i.retain_since,
		c.der, c.chain, c.not_after, c.chosen, c.added_at
		FROM issuers i LEFT JOIN issuer_certificates c ON c.issuer = i.id
		ORDER BY i.created_at, i.id, c.chosen DESC, c.added_at DESC, c.fingerprint`)
	if err != nil {
		return nil, translate(op, err)
	}
	var issuers []ca.Issuer
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		issuer, certificate, err := scanIssuer(row)
		if err != nil {
			return struct{}{}, err
		}
		if n := len(issuers); n == 0 || issuers[n-1].ID != issuer.ID {
			issuers = append(issuers, issuer)
		}
		if certificate != nil {
			last := &issuers[len(issuers)-1]
			last.Certificates = append(last.Certificates, *certificate)
		}
		return struct{}{}, nil
	})
	return issuers, translate(op, err)
}

// scanIssuer reads an issuer with one of its certificates; nil if it has none.
func scanIssuer(row pgx.CollectableRow) (ca.Issuer, *ca.IssuerCertificate, error) {
	var issuer ca.Issuer
	var certificate ca.IssuerCertificate
	var id, chain, before []byte
	var visibility, state int16
	var retain int64
	var since *time.Time
	var notAfter, addedAt *time.Time
	var chosen *bool
	if err := row.Scan(&id, &issuer.Label, &issuer.KeyURI, &issuer.Subject, &issuer.SPKI, &visibility, &state, &issuer.Foreign, &issuer.BaseURL, &issuer.CSR, &before, &issuer.CreatedAt, &retain, &since,
		&certificate.DER, &chain, &notAfter, &chosen, &addedAt); err != nil {
		return issuer, nil, err
	}
	copy(issuer.ID[:], id)
	copy(issuer.Succeeds[:], before)
	issuer.KeyHash = pki.HashSPKI(issuer.SPKI)
	issuer.Visibility, issuer.State, issuer.CreatedAt = ca.Visibility(visibility), ca.IssuerState(state), issuer.CreatedAt.UTC()
	issuer.Retention = retentionOf(retain, since)
	if certificate.DER == nil {
		return issuer, nil, nil
	}
	certificate.Chain = splitDER(chain)
	certificate.NotAfter, certificate.Chosen, certificate.AddedAt = notAfter.UTC(), *chosen, addedAt.UTC()
	return issuer, &certificate, nil
}

// splitDER splits concatenated DER values.
func splitDER(joined []byte) (parts [][]byte) {
	for input := cryptobyte.String(joined); !input.Empty(); {
		var part cryptobyte.String
		if !input.ReadAnyASN1Element(&part, nil) {
			return parts
		}
		parts = append(parts, part)
	}
	return parts
}
