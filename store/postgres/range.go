package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// Reserve implements ca.RangeStore.
func (s *Store) Reserve(ctx context.Context, r ca.Reservation) (ca.Range, error) {
	var id, from, to int64
	var baseURL string
	err := s.pool.QueryRow(ctx, `SELECT o_id, o_from, o_to, coalesce(o_base_url, '') FROM signet_range_reserve($1, $2, $3, $4, $5, $6)`,
		r.Issuer[:], int32(r.Epoch), int64(r.Count), r.Nonce[:], r.Owner[:], r.Lease).Scan(&id, &from, &to, &baseURL)
	if err != nil {
		return ca.Range{}, translate("reserve range", err)
	}
	return ca.Range{
		ID: ca.RangeID(id), Issuer: r.Issuer, Epoch: r.Epoch, From: uint64(from), To: uint64(to), KeyFrom: uint64(from),
		Nonce: r.Nonce, Owner: r.Owner, BaseURL: baseURL,
	}, nil
}

// RenewLeases implements ca.RangeStore. It locks rows in order of id, like signet_record. In another order the two
// would deadlock, and a batch of signed certificates would be void.
func (s *Store) RenewLeases(ctx context.Context, owner ca.OwnerID, lease time.Duration) (int, error) {
	tag, err := s.pool.Exec(ctx, `WITH held AS MATERIALIZED (SELECT id FROM ranges WHERE state = 1 AND owner = $1 ORDER BY id FOR NO KEY UPDATE)
		UPDATE ranges SET lease_until = clock_timestamp() + $2::interval WHERE id IN (SELECT id FROM held)`, owner[:], lease)
	return int(tag.RowsAffected()), translate("renew leases", err)
}

// CloseRange implements ca.RangeStore.
func (s *Store) CloseRange(ctx context.Context, c ca.Closing) (int, error) {
	serials := make([][]byte, len(c.Serials))
	for i := range c.Serials {
		serials[i] = c.Serials[i][:]
	}
	from, to := make([]int64, len(c.Unsigned)), make([]int64, len(c.Unsigned))
	for i, run := range c.Unsigned {
		from[i], to[i] = int64(run.From), int64(run.To)
	}
	var voids int
	err := s.pool.QueryRow(ctx, `SELECT signet_range_close($1, $2, $3, $4, $5, $6, $7, $8)`,
		int64(c.Range), c.Closer[:], c.Key[:], serials, from, to, c.Event.Actor, auditParam([]audit.Event{c.Event})).Scan(&voids)
	return voids, translate("close range", err)
}

const openRanges = `SELECT id, issuer, epoch, from_idx, to_idx, key_from, nonce, owner, base_url FROM ranges WHERE state = 1 AND `

// OpenRanges implements ca.RangeStore.
func (s *Store) OpenRanges(ctx context.Context, owner ca.OwnerID) ([]ca.Range, error) {
	return s.ranges(ctx, "find open ranges", openRanges+`owner = $1 ORDER BY id`, owner[:])
}

// ExpiredRanges implements ca.RangeStore.
func (s *Store) ExpiredRanges(ctx context.Context, after ca.RangeID, limit int) ([]ca.Range, error) {
	return s.ranges(ctx, "find expired ranges", openRanges+`lease_until <= clock_timestamp() AND id > $1 ORDER BY id LIMIT $2`, int64(after), limit)
}

func (s *Store) ranges(ctx context.Context, op, query string, args ...any) ([]ca.Range, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, translate(op, err)
	}
	all, err := pgx.CollectRows(rows, scanRange)
	return all, translate(op, err)
}

func scanRange(row pgx.CollectableRow) (ca.Range, error) {
	var r ca.Range
	var id, from, to, keyFrom int64
	var epoch int32
	var issuer, nonce, owner []byte
	if err := row.Scan(&id, &issuer, &epoch, &from, &to, &keyFrom, &nonce, &owner, &r.BaseURL); err != nil {
		return r, err
	}
	copy(r.Issuer[:], issuer)
	copy(r.Nonce[:], nonce)
	copy(r.Owner[:], owner)
	r.ID, r.Epoch, r.From, r.To, r.KeyFrom = ca.RangeID(id), pki.Epoch(epoch), uint64(from), uint64(to), uint64(keyFrom)
	return r, nil
}
