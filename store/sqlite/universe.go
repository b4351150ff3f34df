package sqlite

import (
	"context"
	"database/sql"
	"iter"
	"math"
	"time"

	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// IssuerKeys implements revocation.RangeReader.
func (s *Store) IssuerKeys(ctx context.Context) ([]revocation.IssuerKey, error) {
	const op = "read issuers"
	rows, err := s.read.QueryContext(ctx, `SELECT spki_hash, signed_outside, visibility, retain, retain_since FROM issuers ORDER BY id`)
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var keys []revocation.IssuerKey
	for rows.Next() {
		var hash []byte
		var foreign, visibility, retain int64
		var since sql.NullInt64
		if err := rows.Scan(&hash, &foreign, &visibility, &retain, &since); err != nil {
			return nil, translate(op, err)
		}
		key := revocation.IssuerKey{Foreign: foreign != 0, Public: visibility == 1, Retention: retentionOf(retain, since)}
		copy(key.Key[:], hash)
		keys = append(keys, key)
	}
	return keys, translate(op, rows.Err())
}

// ChangedRanges implements revocation.RangeReader. Only one transaction writes at a time, and it takes its time while
// it holds the lock. So no change becomes visible late, and the time of a change never goes back (rangeTime).
func (s *Store) ChangedRanges(ctx context.Context, from pki.Epoch, since time.Time) iter.Seq2[revocation.Range, error] {
	const op = "read ranges"
	return func(yield func(revocation.Range, error) bool) {
		after := int64(math.MinInt64)
		if !since.IsZero() {
			after = since.Add(-time.Minute).UnixMicro()
		}
		rows, err := s.read.QueryContext(ctx, `SELECT issuer, epoch, from_idx, to_idx, state, range_key, changed_at FROM ranges
			WHERE epoch >= ? AND changed_at >= ? ORDER BY issuer, epoch, from_idx`, int64(from), after)
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
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, translate(op, err)
	}
	defer func() { _ = tx.Rollback() }() // the transaction only reads
	query, err := tx.PrepareContext(ctx, `WITH q AS (SELECT ?1 AS issuer, ?2 AS epoch, ?3 AS idx)
		SELECT r.issuer, r.epoch, r.from_idx, r.to_idx, r.state, r.range_key, r.changed_at, c.serial
		FROM q
		LEFT JOIN ranges r ON r.issuer = ?1 AND r.epoch = ?2 AND r.to_idx > ?3
			AND r.from_idx = (SELECT max(n.from_idx) FROM ranges n WHERE n.issuer = ?1 AND n.epoch = ?2 AND n.from_idx <= ?3)
		LEFT JOIN certificates c ON c.issuer = q.issuer AND c.epoch = q.epoch AND c.idx = q.idx`)
	if err != nil {
		return nil, translate(op, err)
	}
	defer query.Close()
	found := make([]revocation.Recorded, len(positions))
	for i, p := range positions {
		var r rangeRow
		var serial []byte
		if err := query.QueryRowContext(ctx, issuer[:], int64(p.Epoch), int64(p.Index)).Scan(append(r.fields(), &serial)...); err != nil {
			return nil, translate(op, err)
		}
		found[i].Recorded = serial != nil
		copy(found[i].Serial[:], serial)
		if r.issuer != nil {
			found[i].Range = r.value()
		}
	}
	return found, nil
}

// rangeRow is a row of ranges as scanned. Every field may be null, because of outer joins.
type rangeRow struct {
	issuer, key                []byte
	epoch, from, to, state, at sql.NullInt64
}

func (r *rangeRow) fields() []any {
	return []any{&r.issuer, &r.epoch, &r.from, &r.to, &r.state, &r.key, &r.at}
}

// value converts a row that exists.
func (r *rangeRow) value() revocation.Range {
	v := revocation.Range{Epoch: pki.Epoch(r.epoch.Int64), From: uint64(r.from.Int64), To: uint64(r.to.Int64),
		State: revocation.RangeState(r.state.Int64), At: time.UnixMicro(r.at.Int64).UTC()}
	copy(v.Issuer[:], r.issuer)
	copy(v.Key[:], r.key)
	return v
}
