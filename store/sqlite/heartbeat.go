package sqlite

import (
	"context"
	"database/sql"
	"time"

	"signet.example/signet/revocation"
)

// ReportProgress implements revocation.ProgressStore. A report never lowers a product's progress, so reports may
// overtake each other.
func (s *Store) ReportProgress(ctx context.Context, instance revocation.InstanceID, reached map[string]uint64) error {
	return s.inTx(ctx, "report progress", func(tx *sql.Tx, now time.Time) error {
		for product, seq := range reached {
			if _, err := tx.ExecContext(ctx, `INSERT INTO heartbeats (instance, product, seq, at) VALUES (?, ?, ?, ?)
				ON CONFLICT (instance, product) DO UPDATE SET seq = max(seq, excluded.seq), at = excluded.at`,
				instance[:], product, int64(seq), now.UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReadProgress implements revocation.ProgressStore.
func (s *Store) ReadProgress(ctx context.Context, maxAge time.Duration) ([]revocation.ProductProgress, error) {
	const op = "read progress"
	rows, err := s.read.QueryContext(ctx, `SELECT instance, product, seq, at FROM heartbeats WHERE at >= ? ORDER BY instance, product`,
		s.now().Add(-maxAge).UnixMicro())
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var reports []revocation.ProductProgress
	for rows.Next() {
		var p revocation.ProductProgress
		var instance []byte
		var seq, at int64
		if err := rows.Scan(&instance, &p.Product, &seq, &at); err != nil {
			return nil, translate(op, err)
		}
		copy(p.Instance[:], instance)
		p.Seq, p.At = uint64(seq), time.UnixMicro(at).UTC()
		reports = append(reports, p)
	}
	return reports, translate(op, rows.Err())
}

// ForgetProgress implements revocation.ProgressStore.
func (s *Store) ForgetProgress(ctx context.Context, instance revocation.InstanceID) error {
	return s.inTx(ctx, "forget progress", func(tx *sql.Tx, now time.Time) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM heartbeats WHERE instance = ? OR at < ?`, instance[:], now.Add(-24*time.Hour).UnixMicro())
		return err
	})
}
