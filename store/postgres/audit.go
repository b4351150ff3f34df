package postgres

import (
	"context"
	"encoding/binary"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// auditBatch is an audit_batch of the migrations. An empty one is NULL.
type auditBatch []audit.Event

// auditParam makes the argument of signet_audit_append, the only function that writes audit events. Every function of
// the migrations that changes something takes this argument and passes it on as its last act.
func auditParam(events []audit.Event) auditBatch {
	cleaned := make(auditBatch, len(events))
	for i, e := range events {
		cleaned[i] = e.Clean()
	}
	return cleaned
}

func (events auditBatch) appendTo(b []byte, of *typeIDs) []byte {
	if len(events) == 0 {
		return b
	}
	hash, details := audit.Encode(events)
	b = appendBytes(binary.BigEndian.AppendUint32(b, 2), hash[:]) // fields
	b = binary.BigEndian.AppendUint32(b, of.auditEvents)
	b, array := append(b, 0, 0, 0, 0), len(b)
	b = appendArray(b, of.auditEvent, len(events))
	for i, e := range events {
		row := 0
		b, row = beginRow(b, 8)
		b = appendTime(b, e.At)
		for _, text := range [...]string{e.Actor, e.Action, e.Target, string(e.Outcome), e.RequestID, e.Source, details[i]} {
			b = appendText(b, text)
		}
		b = endRow(b, row)
	}
	return endRow(b, array)
}

// AppendAudit implements store.Audit.
func (s *Store) AppendAudit(ctx context.Context, events []audit.Event) error {
	if len(events) == 0 {
		return nil
	}
	_, err := s.pool.Exec(ctx, `SELECT signet_audit_append($1)`, auditParam(events))
	return translate("append audit events", err)
}

const auditColumns = `seq, at, actor, action, target, outcome, request, source, detail`

// AuditEvents implements store.Audit.
func (s *Store) AuditEvents(ctx context.Context, filter audit.Filter, after uint64, limit int) ([]audit.Event, error) {
	const op = "read audit events"
	if limit < 1 || limit > 1000 {
		return nil, pki.Errorf(pki.KindInvalid, op, "a limit of %d: want 1 to 1,000", limit).InField("limit")
	}
	rows, err := s.pool.Query(ctx, `SELECT `+auditColumns+` FROM audit_events
		WHERE seq > $1 AND ($2 = '' OR target = $2) AND ($3 = '' OR actor = $3) AND ($4 = '' OR action = $4)
		  AND ($5::timestamptz IS NULL OR at >= $5) AND ($6::timestamptz IS NULL OR at < $6) AND ($8::bigint = 0 OR seq < $8)
		ORDER BY `+filter.Order()+` LIMIT $7`,
		int64(after), filter.Target, filter.Actor, filter.Action, nullTime(filter.From), nullTime(filter.Until), limit, int64(filter.Before))
	if err != nil {
		return nil, translate(op, err)
	}
	events, err := pgx.CollectRows(rows, scanAudit)
	return events, translate(op, err)
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
	rows, err := s.pool.Query(ctx, `WITH page AS (SELECT last, first, head FROM audit_batches WHERE last > $1 AND last <= $2 ORDER BY last LIMIT 200)
		SELECT p.last, p.head, e.seq, e.at, e.actor, e.action, e.target, e.outcome, e.request, e.source, e.detail
		FROM page p JOIN audit_events e ON e.seq BETWEEN p.first AND p.last ORDER BY e.seq`, int64(after), int64(end))
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var batches []audit.Batch
	var current int64
	for rows.Next() {
		var last, seq int64
		var head []byte
		var detail string
		var e audit.Event
		if err := rows.Scan(&last, &head, &seq, &e.At, &e.Actor, &e.Action, &e.Target, &e.Outcome, &e.RequestID, &e.Source, &detail); err != nil {
			return nil, translate(op, err)
		}
		e.Seq, e.At = uint64(seq), e.At.UTC()
		if e.Detail, err = audit.ParseDetail(detail); err != nil {
			return nil, err
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
	if err := s.pool.QueryRow(ctx, `SELECT seq, head FROM audit_head`).Scan(&seq, &head); err != nil {
		return audit.Chain{}, translate("read audit head", err)
	}
	return audit.Chain{Seq: uint64(seq), Head: audit.Hash(head)}, nil
}

func scanAudit(row pgx.CollectableRow) (audit.Event, error) {
	var e audit.Event
	var seq int64
	var detail string
	if err := row.Scan(&seq, &e.At, &e.Actor, &e.Action, &e.Target, &e.Outcome, &e.RequestID, &e.Source, &detail); err != nil {
		return e, err
	}
	e.Seq, e.At = uint64(seq), e.At.UTC()
	var err error
	e.Detail, err = audit.ParseDetail(detail)
	return e, err
}

// nullTime returns NULL for the zero time.
func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
