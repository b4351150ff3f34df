package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

const applicationColumns = `id, state, asked, filed_at, expires_at, decided_at, decided_by, comment, delay, pause, claimed_until, issuer, epoch, idx, serial`

// noEnd is later than every time.
const noEnd = 1 << 62

// queries is a database or a transaction.
type queries interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// File implements approval.Store.
func (s *Store) File(ctx context.Context, a approval.Application, expires time.Duration, bounds approval.Bounds, event audit.Event) (filed approval.Application, err error) {
	const op = "file request"
	asked, err := a.Asked()
	if err != nil {
		return filed, err
	}
	err = s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		var own, all int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FILTER (WHERE account = ?), count(*) FROM approvals WHERE state = 1 AND expires_at > ?`,
			a.Requester.Account, now.UnixMicro()).Scan(&own, &all); err != nil {
			return err
		}
		if own >= bounds.PerAccount {
			return pki.Errorf(pki.KindExhausted, op, "%d requests of account %s wait for an approval already", own, a.Requester.Account).
				WithHint("have some of them decided first")
		}
		if all >= bounds.Total {
			return pki.Errorf(pki.KindExhausted, op, "%d requests wait for an approval already", all).
				WithHint("have some of them decided first")
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO approvals (id, state, profile, account, asked, filed_at, expires_at) VALUES (?, 1, ?, ?, ?, ?, ?)`,
			a.ID[:], a.Request.Profile, a.Requester.Account, asked, now.UnixMicro(), now.Add(expires).UnixMicro()); err != nil {
			return err
		}
		if a.Request.RequestID != "" {
			digest := a.Request.Digest()
			n, err := affected(tx.ExecContext(ctx, `INSERT INTO issue_requests (account, request_id, digest, approval, expires_at) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (account, request_id) DO UPDATE SET digest = excluded.digest, issuer = NULL, epoch = NULL, idx = NULL, approval = excluded.approval,
				expires_at = excluded.expires_at WHERE issue_requests.expires_at <= ?`, a.Requester.Account, a.Request.RequestID, digest[:], a.ID[:], int64(noEnd), now.UnixMicro()))
			if err != nil {
				return err
			}
			if n == 0 {
				return pki.Errorf(pki.KindConflict, op, "the request id was used within 24 hours").InField("request_id").
					WithHint("use a new id for a new request; to repeat one, send the same request again, with the same CSR: signet issue --csr FILE")
			}
		}
		if filed, err = application(ctx, tx, op, a.ID, now); err != nil {
			return err
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
	return filed, err
}

// Application implements approval.Store.
func (s *Store) Application(ctx context.Context, id ca.ApprovalID) (approval.Application, error) {
	const op = "get request"
	a, err := application(ctx, s.read, op, id, s.now())
	return a, translate(op, err)
}

func application(ctx context.Context, q queries, op string, id ca.ApprovalID, now time.Time) (approval.Application, error) {
	found, err := applications(ctx, q, now, `SELECT `+applicationColumns+` FROM approvals WHERE id = ?`, id[:])
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
	const op = "list requests"
	profiles, err := json.Marshal(append([]string{}, filter.Profiles...))
	if err != nil {
		return nil, translate(op, err)
	}
	var until []byte
	if !before.IsZero() {
		until = before[:]
	}
	now := s.now()
	found, err := applications(ctx, s.read, now, `SELECT `+applicationColumns+` FROM approvals
		WHERE (?1 IS NULL OR id < ?1) AND (?2 = '[]' OR profile IN (SELECT value FROM json_each(?2))) AND (?3 = '' OR account = ?3)
		AND (?4 = 0 OR CASE WHEN state <= 2 AND expires_at <= ?5 THEN 6 ELSE state END = ?4) ORDER BY id DESC LIMIT ?6`,
		until, string(profiles), filter.Account, int64(filter.State), now.UnixMicro(), limit)
	return found, translate(op, err)
}

// WaitingRequests implements approval.Queue.
func (s *Store) WaitingRequests(ctx context.Context) (w approval.Waiting, err error) {
	var oldest sql.NullInt64
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 2), min(filed_at) FILTER (WHERE state = 1)
		FROM approvals WHERE state IN (1, 2) AND expires_at > ?`, s.now().UnixMicro()).Scan(&w.Pending, &w.Approved, &oldest)
	if oldest.Valid {
		w.Oldest = time.UnixMicro(oldest.Int64).UTC()
	}
	return w, translate("count requests", err)
}

// Decide implements approval.Store.
func (s *Store) Decide(ctx context.Context, d approval.Decision) (decided approval.Application, err error) {
	const op = "decide request"
	err = s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		var expires, claim *int64
		if d.To == approval.Approved {
			expires, claim = new(now.Add(d.Expires).UnixMicro()), new(now.Add(d.Claim).UnixMicro())
		}
		n, err := affected(tx.ExecContext(ctx, `UPDATE approvals SET state = ?, decided_at = ?2, decided_by = ?, comment = ?, expires_at = coalesce(?, expires_at),
			claimed_until = ? WHERE id = ? AND state = ? AND expires_at > ?2`,
			int64(d.To), now.UnixMicro(), d.By, d.Comment, expires, claim, d.ID[:], int64(d.From)))
		if err != nil {
			return err
		}
		if decided, err = application(ctx, tx, op, d.ID, now); err != nil {
			return err
		}
		if n == 0 {
			return pki.Errorf(pki.KindFailedPrecondition, op, "the request was decided, or has expired").InField("request")
		}
		return appendAudit(ctx, tx, []audit.Event{d.Event})
	})
	return decided, err
}

// Postpone implements approval.Store.
func (s *Store) Postpone(ctx context.Context, tried *approval.Application, delay string, pause time.Duration) error {
	return s.inTx(ctx, "postpone request", func(tx *sql.Tx, now time.Time) error {
		_, err := tx.ExecContext(ctx, `UPDATE approvals SET delay = ?2, pause = CASE pause WHEN ?3 THEN ?4 ELSE pause END,
			claimed_until = CASE pause WHEN ?3 THEN ?5 ELSE claimed_until END WHERE id = ?1 AND state = 2`,
			tried.ID[:], delay, tried.Pause.Microseconds(), pause.Microseconds(), now.Add(pause).UnixMicro())
		return err
	})
}

// wakeApprovals has approved requests that wait for something tried at once: an issuer became active, which is perhaps
// what they wait for.
func wakeApprovals(ctx context.Context, tx *sql.Tx, now time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE approvals SET claimed_until = ?, pause = 0 WHERE state = 2 AND delay <> ''`, now.UnixMicro())
	return err
}

// Claim implements approval.Store.
func (s *Store) Claim(ctx context.Context, claim time.Duration, limit int) (claimed []approval.Application, err error) {
	err = s.inTx(ctx, "claim requests", func(tx *sql.Tx, now time.Time) error {
		claimed, err = applications(ctx, tx, now, `UPDATE approvals SET claimed_until = ?2 WHERE id IN
			(SELECT id FROM approvals WHERE state = 2 AND expires_at > ?1 AND claimed_until <= ?1 ORDER BY id LIMIT ?3) RETURNING `+applicationColumns,
			now.UnixMicro(), now.Add(claim).UnixMicro(), limit)
		return err
	})
	return claimed, err
}

// Forget implements approval.Archive.
func (s *Store) Forget(ctx context.Context, keep time.Duration, limit int) (n int, err error) {
	err = s.inTx(ctx, "forget requests", func(tx *sql.Tx, now time.Time) error {
		going := `SELECT id FROM approvals WHERE CASE WHEN state <= 2 THEN expires_at ELSE decided_at END <= ? ORDER BY id LIMIT ?`
		if _, err := tx.ExecContext(ctx, `DELETE FROM issue_requests WHERE approval IN (`+going+`)`, now.Add(-keep).UnixMicro(), limit); err != nil {
			return err
		}
		gone, err := affected(tx.ExecContext(ctx, `DELETE FROM approvals WHERE id IN (`+going+`)`, now.Add(-keep).UnixMicro(), limit))
		n = int(gone)
		return err
	})
	return n, err
}

func applications(ctx context.Context, q queries, now time.Time, query string, args ...any) ([]approval.Application, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []approval.Application
	for rows.Next() {
		a, err := scanApplication(rows, now)
		if err != nil {
			return nil, err
		}
		found = append(found, a)
	}
	return found, rows.Err()
}

func scanApplication(rows *sql.Rows, now time.Time) (a approval.Application, err error) {
	var id, issuer, serial []byte
	var asked string
	var filed, expires, pause int64
	var decided, claimed, epoch, idx sql.NullInt64
	if err := rows.Scan(&id, &a.State, &asked, &filed, &expires, &decided, &a.DecidedBy, &a.Comment, &a.Delay, &pause, &claimed, &issuer, &epoch, &idx, &serial); err != nil {
		return a, err
	}
	copy(a.ID[:], id)
	copy(a.Issuer[:], issuer)
	copy(a.Serial[:], serial)
	a.FiledAt, a.ExpiresAt, a.Pause = time.UnixMicro(filed).UTC(), time.UnixMicro(expires).UTC(), time.Duration(pause)*time.Microsecond
	if a.State.Open() && expires <= now.UnixMicro() {
		a.State = approval.Expired
	}
	if decided.Valid {
		a.DecidedAt = time.UnixMicro(decided.Int64).UTC()
	}
	if a.Delay != "" && claimed.Valid {
		a.NextTry = time.UnixMicro(claimed.Int64).UTC()
	}
	if idx.Valid {
		a.Position = pki.Position{Epoch: pki.Epoch(epoch.Int64), Index: uint64(idx.Int64)}
	}
	a.SetAsked(asked)
	return a, nil
}
