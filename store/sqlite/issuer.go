package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// CreateIssuer implements ca.IssuerStore.
func (s *Store) CreateIssuer(ctx context.Context, issuer ca.Issuer, event audit.Event) error {
	const op = "create issuer"
	return s.inTx(ctx, op, func(tx *sql.Tx, _ time.Time) error {
		var deleted bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM deleted_issuers WHERE spki_hash = ?)`, issuer.KeyHash[:]).Scan(&deleted); err != nil {
			return err
		}
		if deleted && !issuer.Foreign {
			return pki.Errorf(pki.KindConflict, op, "the key is that of an issuer that was deleted").InField("key")
		}
		result, err := tx.ExecContext(ctx, `INSERT INTO issuers (id, label, key_uri, subject, spki, spki_hash, visibility, state, signed_outside, base_url, csr, succeeds, created_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			issuer.ID[:], issuer.Label, issuer.KeyURI, issuer.Subject, issuer.SPKI, issuer.KeyHash[:], issuer.Visibility, issuer.State,
			issuer.Foreign, issuer.BaseURL, issuer.CSR, succeeded(&issuer.Succeeds), issuer.CreatedAt.UnixMicro())
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		if n == 0 {
			return knownIssuer(ctx, tx, op, issuer)
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
}

// knownIssuer returns an error if the label, name or key of an issuer is already in use.
func knownIssuer(ctx context.Context, tx *sql.Tx, op string, issuer ca.Issuer) error {
	var label, subject bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM issuers WHERE label = ?), EXISTS (SELECT 1 FROM issuers WHERE subject = ?)`,
		issuer.Label, issuer.Subject).Scan(&label, &subject)
	switch {
	case err != nil:
		return err
	case label:
		return pki.Errorf(pki.KindConflict, op, "there is an issuer with this label already").InField("label")
	case subject:
		return pki.Errorf(pki.KindConflict, op, "there is an issuer with this subject name already: a new key means a new name").InField("subject")
	}
	return pki.Errorf(pki.KindConflict, op, "there is an issuer with this key already: a new name means a new key").InField("key")
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
	const op = "add issuer certificate"
	return s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		if _, err := issuerState(ctx, tx, op, issuer); err != nil {
			return err
		}
		var others int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM issuer_certificates WHERE issuer = ?`, issuer[:]).Scan(&others); err != nil {
			return err
		}
		chosen := c.Chosen || others == 0
		if chosen {
			if _, err := tx.ExecContext(ctx, `UPDATE issuer_certificates SET chosen = 0 WHERE issuer = ? AND chosen`, issuer[:]); err != nil {
				return err
			}
		}
		fingerprint := sha256.Sum256(c.DER)
		if _, err := tx.ExecContext(ctx, `INSERT INTO issuer_certificates (fingerprint, issuer, der, chain, not_after, chosen, added_at) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (fingerprint) DO UPDATE SET chain = excluded.chain, chosen = issuer_certificates.chosen OR excluded.chosen`,
			fingerprint[:], issuer[:], c.DER, append([]byte{}, bytes.Join(c.Chain, nil)...), c.NotAfter.UnixMicro(), chosen, c.AddedAt.UnixMicro()); err != nil {
			return err
		}
		begun, err := affected(tx.ExecContext(ctx, `UPDATE issuers SET state = ?, csr = NULL WHERE id = ? AND state = ?`, ca.IssuerActive, issuer[:], ca.IssuerPending))
		if err != nil {
			return err
		}
		if begun > 0 {
			if err := wakeApprovals(ctx, tx, now); err != nil {
				return err
			}
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
}

// SetIssuerState implements ca.IssuerStore.
func (s *Store) SetIssuerState(ctx context.Context, issuer pki.IssuerID, state ca.IssuerState, event audit.Event) error {
	const op = "set issuer state"
	return s.inTx(ctx, op, func(tx *sql.Tx, at time.Time) error {
		now, err := issuerState(ctx, tx, op, issuer)
		switch {
		case err != nil || now == state:
			return err
		case now == ca.IssuerPending:
			return pki.Errorf(pki.KindFailedPrecondition, op, "the issuer has no certificate yet").InField("state")
		case now == ca.IssuerRetired:
			return pki.Errorf(pki.KindFailedPrecondition, op, "the issuer is retired, which is for ever").InField("state")
		}
		if _, err := tx.ExecContext(ctx, `UPDATE issuers SET state = ? WHERE id = ?`, state, issuer[:]); err != nil {
			return err
		}
		if state == ca.IssuerActive {
			if err := wakeApprovals(ctx, tx, at); err != nil {
				return err
			}
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
}

// UpdateIssuer implements ca.IssuerStore.
func (s *Store) UpdateIssuer(ctx context.Context, issuer pki.IssuerID, change ca.IssuerChange, event audit.Event) error {
	const op = "update issuer"
	return s.inTx(ctx, op, func(tx *sql.Tx, _ time.Time) error {
		if _, err := issuerState(ctx, tx, op, issuer); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE issuers SET base_url = coalesce(?, base_url), succeeds = CASE WHEN ? THEN ? ELSE succeeds END WHERE id = ?`,
			change.BaseURL, change.Succeeds != nil, succeeded(change.Succeeds), issuer[:]); err != nil {
			return err
		}
		var circle bool
		if err := tx.QueryRowContext(ctx, `WITH RECURSIVE before(id) AS (SELECT succeeds FROM issuers WHERE id = ?1 UNION SELECT i.succeeds FROM issuers i JOIN before USING (id))
			SELECT EXISTS (SELECT 1 FROM before WHERE id = ?1)`, issuer[:]).Scan(&circle); err != nil {
			return err
		}
		if circle {
			return pki.Errorf(pki.KindInvalid, op, "the issuer would succeed itself").InField("succeeds")
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
}

func issuerState(ctx context.Context, tx *sql.Tx, op string, issuer pki.IssuerID) (state ca.IssuerState, err error) {
	err = tx.QueryRowContext(ctx, `SELECT state FROM issuers WHERE id = ?`, issuer[:]).Scan(&state)
	if errors.Is(err, sql.ErrNoRows) {
		return state, pki.Errorf(pki.KindNotFound, op, "there is no issuer of this id").InField("issuer")
	}
	return state, err
}

// DeleteIssuer implements ca.IssuerStore.
func (s *Store) DeleteIssuer(ctx context.Context, issuer pki.IssuerID, event audit.Event) error {
	const op = "delete issuer"
	return s.inTx(ctx, op, func(tx *sql.Tx, _ time.Time) error {
		var pending, certified bool
		var successor sql.NullString
		err := tx.QueryRowContext(ctx, `SELECT state = 0 AND NOT signed_outside,
			EXISTS (SELECT 1 FROM certificates c WHERE c.spki_hash = i.spki_hash) OR EXISTS (SELECT 1 FROM epochs e WHERE e.issuer = i.id),
			(SELECT label FROM issuers s WHERE s.succeeds = i.id ORDER BY created_at LIMIT 1) FROM issuers i WHERE id = ?`, issuer[:]).Scan(&pending, &certified, &successor)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return pki.Errorf(pki.KindNotFound, op, "there is no issuer of this id").InField("issuer")
		case err != nil:
			return err
		case !pending:
			return pki.Errorf(pki.KindFailedPrecondition, op, "only an issuer that waits for its first certificate can be deleted").InField("issuer")
		case certified:
			return pki.Errorf(pki.KindFailedPrecondition, op, "its key was certified here: say again what was said when it was made, and retire it").InField("issuer")
		case successor.Valid:
			return pki.Errorf(pki.KindFailedPrecondition, op, "issuer %s succeeds it", successor.String).InField("issuer")
		}
		for _, statement := range []string{`INSERT INTO deleted_issuers (spki_hash) SELECT spki_hash FROM issuers WHERE id = ? ON CONFLICT DO NOTHING`, `DELETE FROM issuers WHERE id = ?`} {
			if _, err := tx.ExecContext(ctx, statement, issuer[:]); err != nil {
				return err
			}
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
}

// RaiseRetention implements ca.RangeStore.
func (s *Store) RaiseRetention(ctx context.Context, issuer pki.IssuerID, keep time.Duration, event audit.Event) error {
	const op = "raise retention"
	return s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		var retain int64
		var since sql.NullInt64
		err := tx.QueryRowContext(ctx, `SELECT retain, retain_since FROM issuers WHERE id = ?`, issuer[:]).Scan(&retain, &since)
		if errors.Is(err, sql.ErrNoRows) {
			return pki.Errorf(pki.KindNotFound, op, "there is no issuer of this id").InField("issuer")
		}
		if err != nil {
			return err
		}
		before := retentionOf(retain, since)
		raised := before.Raise(keep.Truncate(time.Second), now)
		if raised == before {
			return nil
		}
		if _, err := tx.ExecContext(ctx, `UPDATE issuers SET retain = ?, retain_since = ? WHERE id = ?`, int64(raised.Keep/time.Second), raised.Since.UnixMicro(), issuer[:]); err != nil {
			return err
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
}

func retentionOf(seconds int64, since sql.NullInt64) pki.Retention {
	if !since.Valid {
		return pki.Retention{}
	}
	return pki.Retention{Keep: time.Duration(seconds) * time.Second, Since: time.UnixMicro(since.Int64).UTC()}
}

// Issuers implements ca.IssuerStore.
func (s *Store) Issuers(ctx context.Context) ([]ca.Issuer, error) {
	const op = "read issuers"
	rows, err := s.read.QueryContext(ctx, `SELECT i.id, i.label, i.key_uri, i.subject, i.spki, i.visibility, i.state, i.signed_outside, i.base_url, i.csr, i.succeeds, i.created_at, i.retain, i.retain_since,
		c.der, c.chain, c.not_after, c.chosen, c.added_at
		FROM issuers i LEFT JOIN issuer_certificates c ON c.issuer = i.id
		ORDER BY i.created_at, i.id, c.chosen DESC, c.added_at DESC, c.fingerprint`)
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var issuers []ca.Issuer
	for rows.Next() {
		issuer, certificate, err := scanIssuer(rows)
		if err != nil {
			return nil, translate(op, err)
		}
		if n := len(issuers); n == 0 || issuers[n-1].ID != issuer.ID {
			issuers = append(issuers, issuer)
		}
		if certificate != nil {
			last := &issuers[len(issuers)-1]
			last.Certificates = append(last.Certificates, *certificate)
		}
	}
	return issuers, translate(op, rows.Err())
}

// scanIssuer reads an issuer with one of its certificates; nil if it has none.
func scanIssuer(rows *sql.Rows) (ca.Issuer, *ca.IssuerCertificate, error) {
	var issuer ca.Issuer
	var certificate ca.IssuerCertificate
	var id, chain, before []byte
	var createdAt, retain int64
	var since sql.NullInt64
	var notAfter, addedAt sql.NullInt64
	var chosen sql.NullBool
	if err := rows.Scan(&id, &issuer.Label, &issuer.KeyURI, &issuer.Subject, &issuer.SPKI, &issuer.Visibility, &issuer.State, &issuer.Foreign, &issuer.BaseURL, &issuer.CSR, &before, &createdAt, &retain, &since,
		&certificate.DER, &chain, &notAfter, &chosen, &addedAt); err != nil {
		return issuer, nil, err
	}
	copy(issuer.ID[:], id)
	copy(issuer.Succeeds[:], before)
	issuer.KeyHash, issuer.CreatedAt = pki.HashSPKI(issuer.SPKI), time.UnixMicro(createdAt).UTC()
	issuer.Retention = retentionOf(retain, since)
	if certificate.DER == nil {
		return issuer, nil, nil
	}
	certificate.Chain = splitDER(chain)
	certificate.NotAfter, certificate.AddedAt = time.UnixMicro(notAfter.Int64).UTC(), time.UnixMicro(addedAt.Int64).UTC()
	certificate.Chosen = chosen.Bool
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
