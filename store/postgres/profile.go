package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/ca/profile/rollout"
	"signet.example/signet/internal/audit"
)

// ReportProfiles implements rollout.Store.
func (s *Store) ReportProfiles(ctx context.Context, r rollout.Instance, ask bool, events []audit.Event) (uint64, error) {
	var generation int64
	err := s.pool.QueryRow(ctx, `SELECT signet_profile_report($1, $2, $3, $4, $5, $6, $7, $8)`,
		ask, r.ID[:], r.Name, int64(r.Generation), r.Digest[:], int32(r.Count), r.Failure, auditParam(events)).Scan(&generation)
	return uint64(generation), translate("report profiles", err)
}

// ProfileGeneration implements rollout.Store.
func (s *Store) ProfileGeneration(ctx context.Context) (uint64, error) {
	var generation int64
	err := s.pool.QueryRow(ctx, `SELECT generation FROM profile_rollout`).Scan(&generation)
	return uint64(generation), translate("read generation of profiles", err)
}

// ProfileReports implements rollout.Store.
func (s *Store) ProfileReports(ctx context.Context, maxAge time.Duration) ([]rollout.Instance, error) {
	const op = "read reports of profiles"
	rows, err := s.pool.Query(ctx, `SELECT instance, name, generation, digest, count, failure, at FROM profile_reports p
		WHERE EXISTS (SELECT FROM heartbeats h WHERE h.instance = p.instance AND h.at >= clock_timestamp() - $1 * interval '1 microsecond')
		ORDER BY name, instance`, maxAge.Microseconds())
	if err != nil {
		return nil, translate(op, err)
	}
	reports, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r rollout.Instance, err error) {
		var id, digest []byte
		var generation int64
		err = row.Scan(&id, &r.Name, &generation, &digest, &r.Count, &r.Failure, &r.At)
		copy(r.ID[:], id)
		copy(r.Digest[:], digest)
		r.Generation, r.At = uint64(generation), r.At.UTC()
		return r, err
	})
	return reports, translate(op, err)
}
