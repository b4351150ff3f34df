package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
)

// RequestResponder implements ocspserver.Responders.
func (s *Store) RequestResponder(ctx context.Context, request ocspserver.ResponderRequest) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO responders (issuer, key_hash, csr, requested_at, open, claimed_until)
		VALUES ($1, $2, $3, clock_timestamp(), true, '-infinity')
		ON CONFLICT (issuer, key_hash) DO UPDATE SET csr = $3, requested_at = clock_timestamp(), open = true, claimed_until = '-infinity'`,
		request.Issuer[:], request.Key[:], request.CSR)
	return translate("request responder certificate", err)
}

// ClaimResponders implements ocspserver.Responders.
func (s *Store) ClaimResponders(ctx context.Context, except []pki.IssuerID, limit int) ([]ocspserver.ResponderRequest, error) {
	const op = "claim responder requests"
	others := make([][]byte, len(except))
	for i := range except {
		others[i] = except[i][:]
	}
	rows, err := s.pool.Query(ctx, `SELECT r_issuer, r_key_hash, r_csr FROM signet_responder_claim($1, $2)`, others, limit)
	if err != nil {
		return nil, translate(op, err)
	}
	requests, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r ocspserver.ResponderRequest, err error) {
		var issuer, key []byte
		if err := row.Scan(&issuer, &key, &r.CSR); err != nil {
			return r, err
		}
		r.Issuer, r.Key = pki.IssuerID(issuer), pki.KeyHash(key)
		return r, nil
	})
	return requests, translate(op, err)
}

// RecordResponder implements ocspserver.Responders.
func (s *Store) RecordResponder(ctx context.Context, issuer pki.IssuerID, key pki.KeyHash, certificate []byte) error {
	const op = "record responder certificate"
	tag, err := s.pool.Exec(ctx, `UPDATE responders SET certificate = $3, open = false WHERE issuer = $1 AND key_hash = $2`, issuer[:], key[:], certificate)
	if err != nil {
		return translate(op, err)
	}
	if tag.RowsAffected() == 0 {
		return pki.Errorf(pki.KindNotFound, op, "issuer %s has no request of responder %s", issuer, key)
	}
	return nil
}

// ResponderCertificates implements ocspserver.Responders.
func (s *Store) ResponderCertificates(ctx context.Context, key pki.KeyHash) (map[pki.IssuerID][]byte, error) {
	const op = "read responder certificates"
	rows, err := s.pool.Query(ctx, `SELECT issuer, certificate FROM responders WHERE key_hash = $1 AND certificate IS NOT NULL`, key[:])
	if err != nil {
		return nil, translate(op, err)
	}
	certificates := make(map[pki.IssuerID][]byte)
	var issuer, certificate []byte
	_, err = pgx.ForEachRow(rows, []any{&issuer, &certificate}, func() error {
		certificates[pki.IssuerID(issuer)] = certificate
		certificate = nil
		return nil
	})
	return certificates, translate(op, err)
}
