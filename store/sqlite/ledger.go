package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

const ledgerColumns = `seq, issuer, epoch, idx, serial, kind, reason, revoked_at, invalidity_at, recorded_at, job, actor`

// appendLedger is the only function that inserts into the ledger. It runs inside the transaction of the mutation, after
// the check that every entry is the successor of the one it expects. No two entries may be about one certificate. It
// returns the last sequence. After the commit, call wakeLedger.
func appendLedger(ctx context.Context, tx *sql.Tx, now time.Time, entries []revocation.NewEntry) (uint64, error) {
	var seq int64
	if err := tx.QueryRowContext(ctx, `UPDATE ledger_head SET seq = seq + ? RETURNING seq - ?`, len(entries), len(entries)).Scan(&seq); err != nil {
		return 0, err
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO ledger (`+ledgerColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return 0, err
	}
	defer insert.Close()
	for i := range entries {
		e := &entries[i]
		var issuer, epoch, idx, serial, invalidityAt, job any
		if e.Kind != revocation.KindRestore {
			issuer, serial = e.Issuer[:], e.Serial[:]
			if !e.Foreign {
				epoch, idx = int64(e.Position.Epoch), int64(e.Position.Index)
			}
		}
		if !e.InvalidityAt.IsZero() {
			invalidityAt = e.InvalidityAt.UnixMicro()
		}
		if e.Job != (revocation.JobID{}) {
			job = e.Job[:]
		}
		seq++
		if _, err := insert.ExecContext(ctx, seq, issuer, epoch, idx, serial, int64(e.Kind), int64(e.Reason), e.RevokedAt.UnixMicro(),
			invalidityAt, now.UnixMicro(), job, e.Actor); err != nil {
			return 0, err
		}
	}
	return uint64(seq), nil
}

// checkExpected returns revocation.ErrStale if an entry is not the successor of the one it expects.
func checkExpected(ctx context.Context, tx *sql.Tx, entries []revocation.NewEntry) error {
	dense, err := tx.PrepareContext(ctx, `SELECT coalesce(max(seq), 0) FROM ledger WHERE issuer = ? AND epoch = ? AND idx = ?`)
	if err != nil {
		return err
	}
	defer dense.Close()
	foreign, err := tx.PrepareContext(ctx, `SELECT coalesce(max(seq), 0) FROM ledger WHERE epoch IS NULL AND issuer = ? AND serial = ?`)
	if err != nil {
		return err
	}
	defer foreign.Close()
	for i := range entries {
		e := &entries[i]
		last, args := dense, []any{e.Issuer[:], int64(e.Position.Epoch), int64(e.Position.Index)}
		if e.Foreign {
			last, args = foreign, []any{e.Issuer[:], e.Serial[:]}
		}
		var seq int64
		if err := last.QueryRowContext(ctx, args...).Scan(&seq); err != nil {
			return err
		}
		if uint64(seq) != e.Expected {
			return &pki.Error{Kind: pki.KindConflict, Op: "append to ledger", Err: fmt.Errorf("%w: %s", revocation.ErrStale, e.Serial)}
		}
	}
	return nil
}

// wakeLedger wakes the listeners of the ledger, which has entries up to last.
func (s *Store) wakeLedger(last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appended = max(s.appended, last)
	s.wakeListeners()
}

// wakeRanges wakes the listeners of the ledger after a change of ranges.
func (s *Store) wakeRanges() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reranged++
	s.wakeListeners()
}

// wakeListeners wakes the listeners. The caller holds s.mu.
func (s *Store) wakeListeners() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// LedgerHead implements revocation.LedgerReader.
func (s *Store) LedgerHead(ctx context.Context) (uint64, error) {
	var seq int64
	err := s.read.QueryRowContext(ctx, `SELECT seq FROM ledger_head`).Scan(&seq)
	return uint64(seq), translate("read ledger head", err)
}

// LedgerEntries implements revocation.LedgerReader.
func (s *Store) LedgerEntries(ctx context.Context, after uint64, limit int) ([]revocation.Entry, error) {
	return s.entries(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE seq > ? ORDER BY seq LIMIT ?`, int64(after), limit)
}

// LedgerScope implements revocation.LedgerReader.
func (s *Store) LedgerScope(ctx context.Context, scope revocation.Scope, after, upTo uint64) iter.Seq2[revocation.Entry, error] {
	if !scope.Sharded {
		return s.pages(ctx, `issuer = ?4`, after, upTo, scope.Issuer[:])
	}
	from := int64(scope.Shard.Block) * pki.BlockSize
	return s.pages(ctx, `issuer = ?4 AND epoch = ?5 AND idx >= ?6 AND idx < ?7`, after, upTo, scope.Issuer[:], int64(scope.Shard.Epoch), from, from+pki.BlockSize)
}

// LedgerLoad implements revocation.LedgerReader. It reads epoch by epoch, so passed epochs are not read at all.
func (s *Store) LedgerLoad(ctx context.Context, from pki.Epoch, upTo uint64) iter.Seq2[revocation.Entry, error] {
	return func(yield func(revocation.Entry, error) bool) {
		for e, err := range s.foreign(ctx, upTo) {
			if !yield(e, err) || err != nil {
				return
			}
		}
		for epoch := int64(from) - 1; ; {
			var next sql.NullInt64
			if err := s.read.QueryRowContext(ctx, `SELECT min(epoch) FROM ledger WHERE epoch > ?`, epoch).Scan(&next); err != nil {
				yield(revocation.Entry{}, translate("read ledger", err))
				return
			}
			if !next.Valid {
				return
			}
			epoch = next.Int64
			for e, err := range s.week(ctx, epoch, upTo) {
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

// foreign yields the entries about imported and forged serials with Seq <= upTo, serial by serial. In the order of the
// ledger, finding them would mean searching all of it.
func (s *Store) foreign(ctx context.Context, upTo uint64) iter.Seq2[revocation.Entry, error] {
	return s.paged(ctx, func(last revocation.Entry) (string, []any) {
		return `SELECT ` + ledgerColumns + ` FROM ledger WHERE epoch IS NULL AND (issuer, serial, seq) > (?1, ?2, ?3) AND seq <= ?4
				ORDER BY issuer, serial, seq LIMIT ?5`, []any{last.Issuer[:], last.Serial[:], int64(last.Seq), clamp(upTo), pageSize}
	})
}

// week yields the entries of one epoch with Seq <= upTo, certificate by certificate.
func (s *Store) week(ctx context.Context, epoch int64, upTo uint64) iter.Seq2[revocation.Entry, error] {
	return s.paged(ctx, func(last revocation.Entry) (string, []any) {
		return `SELECT ` + ledgerColumns + ` FROM ledger WHERE epoch = ?1 AND (issuer, idx, seq) > (?2, ?3, ?4) AND seq <= ?5
				ORDER BY issuer, idx, seq LIMIT ?6`, []any{epoch, last.Issuer[:], int64(last.Position.Index), int64(last.Seq), clamp(upTo), pageSize}
	})
}

// ListenLedger implements revocation.LedgerReader. There is only one process, so no connection can break.
func (s *Store) ListenLedger(ctx context.Context, wake func(revocation.WakeUp)) error {
	ranges, told := true, uint64(0)
	for {
		s.mu.Lock()
		changed, last, reranged := s.changed, s.appended, s.reranged
		s.mu.Unlock()
		wake(revocation.WakeUp{Ranges: ranges || reranged != told, Seq: last})
		ranges, told = false, reranged
		select {
		case <-changed:
		case <-ctx.Done():
			return translate("listen to ledger", ctx.Err())
		}
	}
}

// AppendLedger implements revocation.LedgerStore.
func (s *Store) AppendLedger(ctx context.Context, read uint64, entries []revocation.NewEntry, events []audit.Event) (last uint64, err error) {
	err = s.inTx(ctx, "append to ledger", func(tx *sql.Tx, now time.Time) error {
		var head int64
		if err := tx.QueryRowContext(ctx, `SELECT seq FROM ledger_head`).Scan(&head); err != nil {
			return err
		}
		if read == 0 || uint64(head) != read {
			if err := checkExpected(ctx, tx, entries); err != nil {
				return err
			}
		}
		if last, err = appendLedger(ctx, tx, now, entries); err != nil {
			return err
		}
		return appendAudit(ctx, tx, events)
	})
	if err != nil {
		return 0, err
	}
	s.wakeLedger(last)
	return last, nil
}

// pageSize is how many entries are read at once. A slow consumer holds no connection and keeps no old snapshot alive.
const pageSize = 20_000

// pages yields in order the entries with after < Seq <= upTo that meet a condition, whose parameters begin at ?4.
func (s *Store) pages(ctx context.Context, condition string, after, upTo uint64, args ...any) iter.Seq2[revocation.Entry, error] {
	query := `SELECT ` + ledgerColumns + ` FROM ledger WHERE seq > ?1 AND seq <= ?2 AND ` + condition + ` ORDER BY seq LIMIT ?3`
	return s.paged(ctx, func(last revocation.Entry) (string, []any) {
		return query, append([]any{int64(max(after, last.Seq)), clamp(upTo), pageSize}, args...)
	})
}

// paged yields entries page by page. next returns the query of the page after an entry; the zero entry stands before
// the first page.
func (s *Store) paged(ctx context.Context, next func(last revocation.Entry) (query string, args []any)) iter.Seq2[revocation.Entry, error] {
	return func(yield func(revocation.Entry, error) bool) {
		last := revocation.Entry{}
		for {
			query, args := next(last)
			page, err := s.entries(ctx, query, args...)
			if err != nil {
				yield(revocation.Entry{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
			last = page[len(page)-1]
		}
	}
}

// entries returns the rows of a query.
func (s *Store) entries(ctx context.Context, query string, args ...any) ([]revocation.Entry, error) {
	const op = "read ledger"
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var entries []revocation.Entry
	for rows.Next() {
		var row entryRow
		if err := rows.Scan(row.fields()...); err != nil {
			return nil, translate(op, err)
		}
		entries = append(entries, row.entry())
	}
	return entries, translate(op, rows.Err())
}

// entryRow is a row of the ledger as scanned. Every field may be null, because of outer joins.
type entryRow struct {
	seq, epoch, idx, kind, reason       sql.NullInt64
	revokedAt, invalidityAt, recordedAt sql.NullInt64
	issuer, serial, job                 []byte
	actor                               sql.NullString
}

func (r *entryRow) fields() []any {
	return []any{&r.seq, &r.issuer, &r.epoch, &r.idx, &r.serial, &r.kind, &r.reason, &r.revokedAt, &r.invalidityAt, &r.recordedAt, &r.job, &r.actor}
}

// entry converts a row that exists.
func (r *entryRow) entry() revocation.Entry {
	e := revocation.Entry{
		Seq: uint64(r.seq.Int64), Kind: revocation.Kind(r.kind.Int64), Reason: pki.Reason(r.reason.Int64),
		RevokedAt: time.UnixMicro(r.revokedAt.Int64).UTC(), RecordedAt: time.UnixMicro(r.recordedAt.Int64).UTC(), Actor: r.actor.String,
	}
	copy(e.Issuer[:], r.issuer)
	copy(e.Serial[:], r.serial)
	copy(e.Job[:], r.job)
	if r.epoch.Valid && r.idx.Valid {
		e.Position = pki.Position{Epoch: pki.Epoch(r.epoch.Int64), Index: uint64(r.idx.Int64)}
	} else {
		e.Foreign = e.Kind != revocation.KindRestore
	}
	if r.invalidityAt.Valid {
		e.InvalidityAt = time.UnixMicro(r.invalidityAt.Int64).UTC()
	}
	return e
}

// CertificateFacts implements revocation.LedgerStore.
func (s *Store) CertificateFacts(ctx context.Context, claims []revocation.Claim) (facts []revocation.Facts, err error) {
	const op = "read certificates"
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, translate(op, err)
	}
	defer func() { _ = tx.Rollback() }() // the transaction only reads
	query, err := tx.PrepareContext(ctx, `WITH k AS (SELECT ?1 AS issuer, ?2 AS serial, ?3 AS epoch, ?4 AS idx)
		SELECT c.not_after, c.account,
			l.seq, l.issuer, l.epoch, l.idx, l.serial, l.kind, l.reason, l.revoked_at, l.invalidity_at, l.recorded_at, l.job, l.actor
		FROM k
		LEFT JOIN certificates c ON c.issuer = k.issuer AND c.epoch = k.epoch AND c.idx = k.idx AND c.serial = k.serial
		LEFT JOIN ledger l ON l.seq = max(
			coalesce((SELECT max(d.seq) FROM ledger d WHERE d.issuer = ?1 AND d.epoch = ?3 AND d.idx = ?4 AND d.serial = ?2), 0),
			coalesce((SELECT max(f.seq) FROM ledger f WHERE f.epoch IS NULL AND f.issuer = ?1 AND f.serial = ?2), 0))`)
	if err != nil {
		return nil, translate(op, err)
	}
	defer query.Close()
	facts = make([]revocation.Facts, len(claims))
	for i := range claims {
		c, f := &claims[i], &facts[i]
		var epoch, idx any
		if c.Dense {
			epoch, idx = int64(c.Position.Epoch), int64(c.Position.Index)
		}
		var notAfter sql.NullInt64
		var account sql.NullString
		var e entryRow
		err := query.QueryRowContext(ctx, c.Issuer[:], c.Serial[:], epoch, idx).Scan(append([]any{&notAfter, &account}, e.fields()...)...)
		if err != nil {
			return nil, translate(op, err)
		}
		if notAfter.Valid {
			f.Recorded, f.NotAfter, f.Account = true, time.UnixMicro(notAfter.Int64).UTC(), account.String
		}
		if e.seq.Valid {
			f.Last = e.entry()
		}
	}
	return facts, nil
}

// clamp limits "everything" (MaxUint64) to SQLite's integers.
func clamp(seq uint64) int64 { return int64(min(seq, math.MaxInt64)) }
