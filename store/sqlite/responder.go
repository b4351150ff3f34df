package sqlite

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
)

// How long a claim holds, and how long a responder that makes no request is remembered; see ocspserver.Responders.
const (
	responderClaim  = time.Minute
	responderMemory = 30 * 24 * time.Hour
)

// RequestResponder implements ocspserver.Responders.
func (s *Store) RequestResponder(ctx context.Context, request ocspserver.ResponderRequest) error {
	return s.inTx(ctx, "request responder certificate", func(tx *sql.Tx, now time.Time) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO responders (issuer, key_hash, csr, requested_at, open, claimed_until) VALUES (?1, ?2, ?3, ?4, 1, 0)
			ON CONFLICT (issuer, key_hash) DO UPDATE SET csr = ?3, requested_at = ?4, open = 1, claimed_until = 0`,
			request.Issuer[:], request.Key[:], request.CSR, now.UnixMicro())
		return err
	})
}

// ClaimResponders implements ocspserver.Responders.
func (s *Store) ClaimResponders(ctx context.Context, except []pki.IssuerID, limit int) ([]ocspserver.ResponderRequest, error) {
	var requests []ocspserver.ResponderRequest
	err := s.inTx(ctx, "claim responder requests", func(tx *sql.Tx, now time.Time) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM responders WHERE requested_at < ?`, now.Add(-responderMemory).UnixMicro()); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `SELECT issuer, key_hash, csr FROM responders WHERE open AND claimed_until <= ? ORDER BY requested_at`, now.UnixMicro())
		if err != nil {
			return err
		}
		defer rows.Close()
		for len(requests) < limit && rows.Next() {
			var issuer, key []byte
			var r ocspserver.ResponderRequest
			if err := rows.Scan(&issuer, &key, &r.CSR); err != nil {
				return err
			}
			r.Issuer, r.Key = pki.IssuerID(issuer), pki.KeyHash(key)
			if !slices.Contains(except, r.Issuer) {
				requests = append(requests, r)
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, r := range requests {
			if _, err := tx.ExecContext(ctx, `UPDATE responders SET claimed_until = ? WHERE issuer = ? AND key_hash = ?`,
				now.Add(responderClaim).UnixMicro(), r.Issuer[:], r.Key[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return requests, nil
}

// RecordResponder implements ocspserver.Responders.
func (s *Store) RecordResponder(ctx context.Context, issuer pki.IssuerID, key pki.KeyHash, certificate []byte) error {
	const op = "record responder certificate"
	return s.inTx(ctx, op, func(tx *sql.Tx, _ time.Time) error {
		result, err := tx.ExecContext(ctx, `UPDATE responders SET certificate = ?, open = 0 WHERE issuer = ? AND key_hash = ?`, certificate, issuer[:], key[:])
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return pki.Errorf(pki.KindNotFound, op, "issuer %s has no request of responder %s", issuer, key)
	})
}

// ResponderCertificates implements ocspserver.Responders.
func (s *Store) ResponderCertificates(ctx context.Context, key pki.KeyHash) (map[pki.IssuerID][]byte, error) {
	const op = "read responder certificates"
	rows, err := s.read.QueryContext(ctx, `SELECT issuer, certificate FROM responders WHERE key_hash = ? AND certificate IS NOT NULL`, key[:])
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	certificates := make(map[pki.IssuerID][]byte)
	for rows.Next() {
		var issuer, certificate []byte
		if err := rows.Scan(&issuer, &certificate); err != nil {
			return nil, translate(op, err)
		}
		certificates[pki.IssuerID(issuer)] = certificate
	}
	return certificates, translate(op, rows.Err())
}
