package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

const applicationColumns = `id, state, asked, filed_at, expires_at, decided_at, decided_by, comment, delay, pause, claimed_until, issuer, epoch, idx, serial,
	state <= 2 AND expires_at <= clock_timestamp()`

// File implements approval.Store.
func (s *Store) File(ctx context.Context, a approval.Application, expires time.Duration, bounds approval.Bounds, event audit.Event) (approval.Application, error) {
	const op = "file request"
	asked, err := a.Asked()
	if err != nil {
		return approval.Application{}, err
	}
	digest := a.Request.Digest()
	if _, err := s.pool.Exec(ctx, `SELECT signet_approval_file($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, a.ID[:], a.Request.Profile, a.Requester.Account,
		asked, expires, a.Request.RequestID, digest[:], bounds.PerAccount, bounds.Total, auditParam([]audit.Event{event})); err != nil {
		return approval.Application{}, translate(op, err)
	}
	return s.application(ctx, op, a.ID)
}

// Application implements approval.Store.
func (s *Store) Application(ctx context.Context, id ca.ApprovalID) (approval.Application, error) {
	return s.application(ctx, "get request", id)
}

func (s *Store) application(ctx context.Context, op string, id ca.ApprovalID) (approval.Application, error) {
	found, err := s.applications(ctx, op, `SELECT `+applicationColumns+` FROM approvals WHERE id = $1`, id[:])
	if err != nil {
		return approval.Application{}, err
	}
	if len(found) == 0 {
		return approval.Application{}, pki.Errorf(pki.KindNotFound, op, "there is no such request").InField("request")
	}
	return found[0], nil
}

// Applications implements approval.Store.
func (s *Store) Applications(ctx context.Context, filter approval.Filter, before ca.ApprovalID, limit int) ([]approval.Application, error) {
	var until []byte
	if !before.IsZero() {
		until = before[:]
	}
	return s.applications(ctx, "list requests", `SELECT `+applicationColumns+` FROM approvals
		WHERE ($1::bytea IS NULL OR id < $1) AND (cardinality($2::text[]) = 0 OR profile = ANY ($2)) AND ($3 = '' OR account = $3)
		AND ($4::int = 0 OR CASE WHEN state <= 2 AND expires_at <= clock_timestamp() THEN 6 ELSE state END = $4) ORDER BY id DESC LIMIT $5`,
		until, append([]string{}, filter.Profiles...), filter.Account, int32(filter.State), limit)
}

// Decide implements approval.Store.
func (s *Store) Decide(ctx context.Context, d approval.Decision) (approval.Application, error) {
	const op = "decide request"
	var expires, claim *time.Duration
	if d.To == approval.Approved {
		expires, claim = &d.Expires, &d.Claim
	}
	if _, err := s.pool.Exec(ctx, `SELECT signet_approval_decide($1, $2, $3, $4, $5, $6, $7, $8)`,
		d.ID[:], int16(d.From), int16(d.To), d.By, d.Comment, expires, claim, auditParam([]audit.Event{d.Event})); err != nil {
		return approval.Application{}, translate(op, err)
	}
	return s.application(ctx, op, d.ID)
}

// Postpone implements approval.Store.
func (s *Store) Postpone(ctx context.Context, tried *approval.Application, delay string, pause time.Duration) error {
	_, err := s.pool.Exec(ctx, `UPDATE approvals SET delay = $2, pause = CASE pause WHEN $3 THEN $4::interval ELSE pause END,
		claimed_until = CASE pause WHEN $3 THEN clock_timestamp() + $4::interval ELSE claimed_until END WHERE id = $1 AND state = 2`, tried.ID[:], delay, tried.Pause, pause)
	return translate("postpone request", err)
}

// Claim implements approval.Store.
func (s *Store) Claim(ctx context.Context, claim time.Duration, limit int) ([]approval.Application, error) {
	return s.applications(ctx, "claim requests", `UPDATE approvals SET claimed_until = clock_timestamp() + $1::interval WHERE id IN
		(SELECT id FROM approvals WHERE state = 2 AND expires_at > clock_timestamp() AND claimed_until <= clock_timestamp() ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)
		RETURNING `+applicationColumns, claim, limit)
}

// Forget implements approval.Archive.
func (s *Store) Forget(ctx context.Context, keep time.Duration, limit int) (int, error) {
	tag, err := s.pool.Exec(ctx, `WITH gone AS (DELETE FROM approvals WHERE id IN
			(SELECT id FROM approvals WHERE CASE WHEN state <= 2 THEN expires_at ELSE decided_at END <= clock_timestamp() - $1::interval
				ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id),
		ids AS (DELETE FROM issue_requests WHERE approval IN (SELECT id FROM gone))
		SELECT FROM gone`, keep, limit)
	return int(tag.RowsAffected()), translate("forget requests", err)
}

// WaitingRequests implements approval.Queue.
func (s *Store) WaitingRequests(ctx context.Context) (w approval.Waiting, err error) {
	var oldest *time.Time
	err = s.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 2), min(filed_at) FILTER (WHERE state = 1)
		FROM approvals WHERE state IN (1, 2) AND expires_at > clock_timestamp()`).Scan(&w.Pending, &w.Approved, &oldest)
	if oldest != nil {
		w.Oldest = oldest.UTC()
	}
	return w, translate("count requests", err)
}

func (s *Store) applications(ctx context.Context, op, query string, args ...any) ([]approval.Application, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, translate(op, err)
	}
	found, err := pgx.CollectRows(rows, scanApplication)
	return found, translate(op, err)
}

func scanApplication(row pgx.CollectableRow) (a approval.Application, err error) {
	var id, issuer, serial []byte
	var asked string
	var state int16
	var decided, claimed *time.Time
	var epoch *int32
	var idx *int64
	var expired bool
	if err := row.Scan(&id, &state, &asked, &a.FiledAt, &a.ExpiresAt, &decided, &a.DecidedBy, &a.Comment, &a.Delay, &a.Pause, &claimed, &issuer, &epoch, &idx, &serial, &expired); err != nil {
		return a, err
	}
	copy(a.ID[:], id)
	copy(a.Issuer[:], issuer)
	copy(a.Serial[:], serial)
	a.State, a.FiledAt, a.ExpiresAt = approval.State(state), a.FiledAt.UTC(), a.ExpiresAt.UTC()
	if expired {
		a.State = approval.Expired
	}
	if decided != nil {
		a.DecidedAt = decided.UTC()
	}
	if a.Delay != "" && claimed != nil {
		a.NextTry = claimed.UTC()
	}
	if epoch != nil && idx != nil {
		a.Position = pki.Position{Epoch: pki.Epoch(*epoch), Index: uint64(*idx)}
	}
	a.SetAsked(asked)
	return a, nil
}
