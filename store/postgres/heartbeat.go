package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/revocation"
)

// ReportProgress implements revocation.ProgressStore. A report never lowers a product's progress, so reports may
// overtake each other. A report lost in a crash does no harm.
func (s *Store) ReportProgress(ctx context.Context, instance revocation.InstanceID, reached map[string]uint64) error {
	products, seqs := make([]string, 0, len(reached)), make([]int64, 0, len(reached))
	for product, seq := range reached {
		products, seqs = append(products, product), append(seqs, int64(seq))
	}
	batch := &pgx.Batch{} // one implicit transaction, and one round trip
	batch.Queue(`SELECT set_config('synchronous_commit', 'off', true)`)
	batch.Queue(`INSERT INTO heartbeats (instance, product, seq) SELECT $1, p.product, p.seq FROM unnest($2::text[], $3::bigint[]) AS p (product, seq)
		ON CONFLICT (instance, product) DO UPDATE SET seq = greatest(heartbeats.seq, excluded.seq), at = clock_timestamp()`,
		instance[:], products, seqs)
	return translate("report progress", s.pool.SendBatch(ctx, batch).Close())
}

// ReadProgress implements revocation.ProgressStore.
func (s *Store) ReadProgress(ctx context.Context, maxAge time.Duration) ([]revocation.ProductProgress, error) {
	const op = "read progress"
	rows, err := s.pool.Query(ctx, `SELECT instance, product, seq, at FROM heartbeats
		WHERE at >= clock_timestamp() - $1 * interval '1 microsecond' ORDER BY instance, product`, maxAge.Microseconds())
	if err != nil {
		return nil, translate(op, err)
	}
	reports, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p revocation.ProductProgress, err error) {
		var instance []byte
		var seq int64
		err = row.Scan(&instance, &p.Product, &seq, &p.At)
		copy(p.Instance[:], instance)
		p.Seq, p.At = uint64(seq), p.At.UTC()
		return p, err
	})
	return reports, translate(op, err)
}

// ForgetProgress implements revocation.ProgressStore.
func (s *Store) ForgetProgress(ctx context.Context, instance revocation.InstanceID) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM heartbeats WHERE instance = $1 OR at < clock_timestamp() - interval '1 day'`, instance[:])
	return translate("forget progress", err)
}
