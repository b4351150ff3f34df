package sqlite

import (
	"context"
	"database/sql"
	"iter"
	"math"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

const (
	auditHeadText  = `SELECT seq, head FROM audit_head`
	auditEventText = `INSERT INTO audit_events (seq, at, actor, action, target, outcome, request, source, detail)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	auditBatchText   = `INSERT INTO audit_batches (last, first, head) VALUES (?, ?, ?)`
	auditAdvanceText = `UPDATE audit_head SET seq = ?, head = ?`
)

// auditStatements are the statements that write a batch, prepared in its transaction.
type auditStatements struct{ head, event, batch, advance *sql.Stmt }

// appendAudit writes events as the last act of a transaction. It prepares the statements.
func appendAudit(ctx context.Context, tx *sql.Tx, events []audit.Event) error {
	if len(events) == 0 {
		return nil
	}
	var a auditStatements
	for _, statement := range []struct {
		dst  **sql.Stmt
		text string
	}{{&a.head, auditHeadText}, {&a.event, auditEventText}, {&a.batch, auditBatchText}, {&a.advance, auditAdvanceText}} {
		prepared, err := tx.PrepareContext(ctx, statement.text)
		if err != nil {
			return err
		}
		defer prepared.Close()
		*statement.dst = prepared
	}
	return a.write(ctx, events)
}

// write is the only function that writes audit events: one batch, as the last act of a transaction. Without events it
// does nothing.
func (a auditStatements) write(ctx context.Context, events []audit.Event) error {
	if len(events) == 0 {
		return nil
	}
	var seq int64
	var head []byte
	if err := a.head.QueryRowContext(ctx).Scan(&seq, &head); err != nil {
		return err
	}
	cleaned := make([]audit.Event, len(events))
	for i, e := range events {
		cleaned[i] = e.Clean()
	}
	hash, details := audit.Encode(cleaned)
	for i, e := range cleaned {
		if _, err := a.event.ExecContext(ctx, seq+int64(i)+1, e.At.UnixMicro(), e.Actor, e.Action, e.Target, string(e.Outcome), e.RequestID, e.Source, details[i]); err != nil {
			return err
		}
	}
	next := audit.Hash(head).Next(hash)
	last := seq + int64(len(events))
	if _, err := a.batch.ExecContext(ctx, last, seq+1, next[:]); err != nil {
		return err
	}
	_, err := a.advance.ExecContext(ctx, last, next[:])
	return err
}

// AppendAudit implements store.Audit.
func (s *Store) AppendAudit(ctx context.Context, events []audit.Event) error {
	if len(events) == 0 {
		return nil
	}
	return s.inTx(ctx, "append audit events", func(tx *sql.Tx, _ time.Time) error { return appendAudit(ctx, tx, events) })
}

const auditColumns = `seq, at, actor, action, target, outcome, request, source, detail`

// AuditEvents implements store.Audit.
func (s *Store) AuditEvents(ctx context.Context, filter audit.Filter, after uint64, limit int) ([]audit.Event, error) {
	const op = "read audit events"
	if limit < 1 || limit > 1000 {
		return nil, pki.Errorf(pki.KindInvalid, op, "a limit of %d: want 1 to 1,000", limit).InField("limit")
	}
	from, until := int64(math.MinInt64), int64(math.MaxInt64)
	if !filter.From.IsZero() {
		from = filter.From.UnixMicro()
	}
	if !filter.Until.IsZero() {
		until = filter.Until.UnixMicro()
	}
	rows, err := s.read.QueryContext(ctx, `SELECT `+auditColumns+` FROM audit_events
		WHERE seq > ?1 AND (?2 = '' OR target = ?2) AND (?3 = '' OR actor = ?3) AND (?4 = '' OR action = ?4) AND at >= ?5 AND at < ?6 AND (?8 = 0 OR seq < ?8)
		ORDER BY `+filter.Order()+` LIMIT ?7`,
		int64(after), filter.Target, filter.Actor, filter.Action, from, until, limit, int64(filter.Before))
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var events []audit.Event
	for rows.Next() {
		e, err := scanAudit(rows)
		if err != nil {
			return nil, translate(op, err)
		}
		events = append(events, e)
	}
	return events, translate(op, rows.Err())
}

// AuditBatches implements store.Audit.
func (s *Store) AuditBatches(ctx context.Context, after uint64) iter.Seq2[audit.Batch, error] {
	const op = "read audit log"
	return func(yield func(audit.Batch, error) bool) {
		end, err := s.AuditHead(ctx)
		for err == nil && after < end.Seq {
			var batches []audit.Batch
			if batches, err = s.auditPage(ctx, after, end.Seq); err != nil {
				break
			}
			if len(batches) == 0 {
				err = pki.Errorf(pki.KindInternal, op, "no batch follows event %d though the log ends at %d", after, end.Seq)
				break
			}
			for _, batch := range batches {
				if !yield(batch, nil) {
					return
				}
				after += uint64(len(batch.Events))
			}
		}
		if err != nil {
			yield(audit.Batch{}, err)
		}
	}
}

// auditPage returns up to 200 batches that follow after.
func (s *Store) auditPage(ctx context.Context, after, end uint64) ([]audit.Batch, error) {
	const op = "read audit log"
	rows, err := s.read.QueryContext(ctx, `WITH page AS (SELECT last, first, head FROM audit_batches WHERE last > ? AND last <= ? ORDER BY last LIMIT 200)
		SELECT e.seq, e.at, e.actor, e.action, e.target, e.outcome, e.request, e.source, e.detail, p.last, p.head
		FROM page p JOIN audit_events e ON e.seq BETWEEN p.first AND p.last ORDER BY e.seq`, int64(after), int64(end))
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var batches []audit.Batch
	var current int64
	for rows.Next() {
		var last int64
		var head []byte
		e, err := scanAudit(rows, &last, &head)
		if err != nil {
			return nil, translate(op, err)
		}
		if last != current {
			current = last
			batches = append(batches, audit.Batch{Head: audit.Hash(head)})
		}
		b := &batches[len(batches)-1]
		b.Events = append(b.Events, e)
	}
	return batches, translate(op, rows.Err())
}

// AuditHead implements store.Audit.
func (s *Store) AuditHead(ctx context.Context) (audit.Chain, error) {
	var seq int64
	var head []byte
	if err := s.read.QueryRowContext(ctx, `SELECT seq, head FROM audit_head`).Scan(&seq, &head); err != nil {
		return audit.Chain{}, translate("read audit head", err)
	}
	return audit.Chain{Seq: uint64(seq), Head: audit.Hash(head)}, nil
}

// scanAudit scans the audit columns and any columns after them.
func scanAudit(rows *sql.Rows, more ...any) (audit.Event, error) {
	var e audit.Event
	var seq, at int64
	var detail string
	fields := append([]any{&seq, &at, &e.Actor, &e.Action, &e.Target, &e.Outcome, &e.RequestID, &e.Source, &detail}, more...)
	if err := rows.Scan(fields...); err != nil {
		return e, err
	}
	e.Seq, e.At = uint64(seq), time.UnixMicro(at).UTC()
	var err error
	e.Detail, err = audit.ParseDetail(detail)
	return e, err
}
