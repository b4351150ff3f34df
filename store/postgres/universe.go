package postgres

import (
	"context"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// IssuerKeys implements revocation.RangeReader.
func (s *Store) IssuerKeys(ctx context.Context) ([]revocation.IssuerKey, error) {
	const op = "read issuers"
	rows, err := s.pool.Query(ctx, `SELECT spki_hash, signed_outside, visibility, retain, retain_since FROM issuers ORDER BY id`)
	if err != nil {
		return nil, translate(op, err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (key revocation.IssuerKey, err error) {
		var hash []byte
		var visibility int16
		var retain int64
		var since *time.Time
		err = row.Scan(&hash, &key.Foreign, &visibility, &retain, &since)
		key.Retention = retentionOf(retain, since)
		copy(key.Key[:], hash)
		key.Public = visibility == 1
		return key, err
	})
	return keys, translate(op, err)
}

// commitSlack is how long a change of a range may stay invisible after the time that it carries. It is longer than the
// pool's timeouts allow a transaction to last.
const commitSlack = time.Minute

// ChangedRanges implements revocation.RangeReader.
func (s *Store) ChangedRanges(ctx context.Context, from pki.Epoch, since time.Time) iter.Seq2[revocation.Range, error] {
	const op = "read ranges"
	return func(yield func(revocation.Range, error) bool) {
		if !since.IsZero() {
			since = since.Add(-commitSlack)
		}
		rows, err := s.pool.Query(ctx, `SELECT issuer, epoch, from_idx, to_idx, state, range_key, changed_at FROM ranges
			WHERE epoch >= $1 AND ($2::timestamptz IS NULL OR changed_at >= $2) ORDER BY issuer, epoch, from_idx`, int32(from), nullTime(since))
		if err != nil {
			yield(revocation.Range{}, translate(op, err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var r rangeRow
			if err := rows.Scan(r.fields()...); err != nil {
				yield(revocation.Range{}, translate(op, err))
				return
			}
			if !yield(r.value(), nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(revocation.Range{}, translate(op, err))
		}
	}
}

// LookUpSerials implements revocation.RangeReader.
func (s *Store) LookUpSerials(ctx context.Context, issuer pki.IssuerID, positions []pki.Position) ([]revocation.Recorded, error) {
	const op = "look up serials"
	epoch, idx := make([]int32, len(positions)), make([]int64, len(positions))
	for i, p := range positions {
		epoch[i], idx[i] = int32(p.Epoch), int64(p.Index)
	}
	rows, err := s.pool.Query(ctx, `SELECT r.issuer, r.epoch, r.from_idx, r.to_idx, r.state, r.range_key, r.changed_at, c.serial
		FROM unnest($2::integer[], $3::bigint[]) WITH ORDINALITY AS q (epoch, idx, n)
		LEFT JOIN LATERAL (SELECT * FROM (SELECT * FROM ranges r WHERE r.issuer = $1 AND r.epoch = q.epoch AND r.from_idx <= q.idx
			ORDER BY r.from_idx DESC LIMIT 1) nearest WHERE nearest.to_idx > q.idx) r ON true
		LEFT JOIN LATERAL (SELECT c.serial FROM certificates c WHERE c.issuer = $1 AND c.epoch = q.epoch AND c.idx = q.idx LIMIT 1) c ON true
		ORDER BY q.n`, issuer[:], epoch, idx)
	if err != nil {
		return nil, translate(op, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (found revocation.Recorded, err error) {
		var r rangeRow
		var serial []byte
		if err := row.Scan(append(r.fields(), &serial)...); err != nil {
			return found, err
		}
		found.Recorded = serial != nil
		copy(found.Serial[:], serial)
		if r.issuer != nil {
			found.Range = r.value()
		}
		return found, nil
	})
	return found, translate(op, err)
}

// rangeRow is a row of ranges as scanned. Every field may be null, because of outer joins.
type rangeRow struct {
	issuer, key []byte
	epoch       *int32
	from, to    *int64
	state       *int16
	at          *time.Time
}

func (r *rangeRow) fields() []any {
	return []any{&r.issuer, &r.epoch, &r.from, &r.to, &r.state, &r.key, &r.at}
}

// value converts a row that exists.
func (r *rangeRow) value() revocation.Range {
	v := revocation.Range{Epoch: pki.Epoch(*r.epoch), From: uint64(*r.from), To: uint64(*r.to), State: revocation.RangeState(*r.state), At: r.at.UTC()}
	copy(v.Issuer[:], r.issuer)
	copy(v.Key[:], r.key)
	return v
}
