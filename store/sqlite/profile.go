package sqlite

import (
	"context"
	"database/sql"
	"time"

	"signet.example/signet/ca/profile/rollout"
	"signet.example/signet/internal/audit"
)

// ReportProfiles implements rollout.Store.
func (s *Store) ReportProfiles(ctx context.Context, r rollout.Instance, ask bool, events []audit.Event) (uint64, error) {
	generation := int64(r.Generation)
	err := s.inTx(ctx, "report profiles", func(tx *sql.Tx, now time.Time) error {
		if ask {
			if err := tx.QueryRowContext(ctx, `UPDATE profile_rollout SET generation = generation + 1 RETURNING generation`).Scan(&generation); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM profile_reports WHERE at < ? AND instance NOT IN (SELECT instance FROM heartbeats)`,
			now.Add(-24*time.Hour).UnixMicro()); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO profile_reports (instance, name, generation, digest, count, failure, at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			r.ID[:], r.Name, generation, r.Digest[:], r.Count, r.Failure, now.UnixMicro()); err != nil {
			return err
		}
		return appendAudit(ctx, tx, events)
	})
	return uint64(generation), err
}

// ProfileGeneration implements rollout.Store.
func (s *Store) ProfileGeneration(ctx context.Context) (uint64, error) {
	var generation int64
	err := s.read.QueryRowContext(ctx, `SELECT generation FROM profile_rollout`).Scan(&generation)
	return uint64(generation), translate("read generation of profiles", err)
}

// ProfileReports implements rollout.Store.
func (s *Store) ProfileReports(ctx context.Context, maxAge time.Duration) ([]rollout.Instance, error) {
	const op = "read reports of profiles"
	rows, err := s.read.QueryContext(ctx, `SELECT instance, name, generation, digest, count, failure, at FROM profile_reports p
		WHERE EXISTS (SELECT 1 FROM heartbeats h WHERE h.instance = p.instance AND h.at >= ?) ORDER BY name, instance`, s.now().Add(-maxAge).UnixMicro())
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var reports []rollout.Instance
	for rows.Next() {
		var r rollout.Instance
		var id, digest []byte
		var generation, at int64
		if err := rows.Scan(&id, &r.Name, &generation, &digest, &r.Count, &r.Failure, &at); err != nil {
			return nil, translate(op, err)
		}
		copy(r.ID[:], id)
		copy(r.Digest[:], digest)
		r.Generation, r.At = uint64(generation), time.UnixMicro(at).UTC()
		reports = append(reports, r)
	}
	return reports, translate(op, rows.Err())
}
