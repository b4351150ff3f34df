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

// appendLedger is the one function that inserts into the ledger, inside the transaction of the mutation. No two entries
// may be of one certificate. It returns the last sequence, and revocation.ErrStale if an entry is not the successor of
// what it expects. After the commit, call wakeLedger.
func appendLedger(ctx context.Context, tx *sql.Tx, now time.Time, entries []revocation.NewEntry) (uint64, error) {
	var seq int64
	if len(entries) == 0 {
		err := tx.QueryRowContext(ctx, `SELECT seq FROM ledger_head`).Scan(&seq)
		return uint64(seq), err
	}
	if err := tx.QueryRowContext(ctx, `UPDATE ledger_head SET seq = seq + ? RETURNING seq - ?`, len(entries), len(entries)).Scan(&seq); err != nil {
		return 0, err
	}
	lastDense, err := tx.PrepareContext(ctx, `SELECT coalesce(max(seq), 0) FROM ledger WHERE issuer = ? AND epoch = ? AND idx = ?`)
	if err != nil {
		return 0, err
	}
	defer lastDense.Close()
	lastForeign, err := tx.PrepareContext(ctx, `SELECT coalesce(max(seq), 0) FROM ledger WHERE epoch IS NULL AND issuer = ? AND serial = ?`)
	if err != nil {
		return 0, err
	}
	defer lastForeign.Close()
	insert, err := tx.PrepareContext(ctx, `INSERT INTO ledger (`+ledgerColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return 0, err
	}
	defer insert.Close()
	for i := range entries {
		e := &entries[i]
		var issuer, epoch, idx, serial, invalidityAt, job any
		var last int64
		var err error
		switch {
		case e.Kind == revocation.KindRestore:
		case e.Foreign:
			issuer, serial = e.Issuer[:], e.Serial[:]
			err = lastForeign.QueryRowContext(ctx, issuer, serial).Scan(&last)
		default:
			issuer, serial, epoch, idx = e.Issuer[:], e.Serial[:], int64(e.Position.Epoch), int64(e.Position.Index)
			err = lastDense.QueryRowContext(ctx, issuer, epoch, idx).Scan(&last)
		}
		if err != nil {
			return 0, err
		}
		if uint64(last) != e.Expected {
			return 0, &pki.Error{Kind: pki.KindConflict, Op: "append to ledger", Err: fmt.Errorf("%w: %s", revocation.ErrStale, e.Serial)}
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

// wakeLedger wakes whoever listens to the ledger.
func (s *Store) wakeLedger() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// LedgerHead implements revocation.Log.
func (s *Store) LedgerHead(ctx context.Context) (uint64, error) {
	var seq int64
	err := s.read.QueryRowContext(ctx, `SELECT seq FROM ledger_head`).Scan(&seq)
	return uint64(seq), translate("read ledger head", err)
}

// LedgerEntries implements revocation.Log.
func (s *Store) LedgerEntries(ctx context.Context, after uint64, limit int) ([]revocation.Entry, error) {
	return collect(s.entries(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE seq > ? ORDER BY seq LIMIT ?`, int64(after), limit))
}

// LedgerScope implements revocation.Log.
func (s *Store) LedgerScope(ctx context.Context, scope revocation.Scope, after, upTo uint64) iter.Seq2[revocation.Entry, error] {
	if !scope.Sharded {
		return s.entries(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE issuer = ? AND seq > ? AND seq <= ? ORDER BY seq`,
			scope.Issuer[:], int64(after), clamp(upTo))
	}
	from := int64(scope.Shard.Block) * pki.BlockSize
	return s.entries(ctx, `SELECT `+ledgerColumns+` FROM ledger
		WHERE issuer = ? AND epoch = ? AND idx >= ? AND idx < ? AND seq > ? AND seq <= ? ORDER BY seq`,
		scope.Issuer[:], int64(scope.Shard.Epoch), from, from+pki.BlockSize, int64(after), clamp(upTo))
}

// LedgerLoad implements revocation.Log.
func (s *Store) LedgerLoad(ctx context.Context, from pki.Epoch, upTo uint64) iter.Seq2[revocation.Entry, error] {
	return s.entries(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE (epoch IS NULL OR epoch >= ?) AND seq <= ? ORDER BY seq`,
		int64(from), clamp(upTo))
}

// LedgerHistory implements revocation.Log.
func (s *Store) LedgerHistory(ctx context.Context, claim revocation.Claim) ([]revocation.Entry, error) {
	return collect(s.entries(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE epoch IS NULL AND issuer = ?1 AND serial = ?2
		UNION ALL SELECT `+ledgerColumns+` FROM ledger WHERE ?3 AND issuer = ?1 AND epoch = ?4 AND idx = ?5 AND serial = ?2
		ORDER BY seq`,
		claim.Issuer[:], claim.Serial[:], claim.Dense, int64(claim.Position.Epoch), int64(claim.Position.Index)))
}

// ListenLedger implements revocation.Log. There is one process, so there is no connection that could break.
func (s *Store) ListenLedger(ctx context.Context, wake func(ranges bool)) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		wake(true)
		select {
		case <-changed:
		case <-ctx.Done():
			return translate("listen to ledger", ctx.Err())
		}
	}
}

// AppendLedger implements revocation.Books.
func (s *Store) AppendLedger(ctx context.Context, entries []revocation.NewEntry, events []audit.Event) (last uint64, err error) {
	err = s.inTx(ctx, "append to ledger", func(tx *sql.Tx, now time.Time) error {
		if last, err = appendLedger(ctx, tx, now, entries); err != nil {
			return err
		}
		return appendAudit(ctx, tx, events)
	})
	if err != nil {
		return 0, err
	}
	s.wakeLedger()
	return last, nil
}

// entries streams the rows of a query.
func (s *Store) entries(ctx context.Context, query string, args ...any) iter.Seq2[revocation.Entry, error] {
	const op = "read ledger"
	return func(yield func(revocation.Entry, error) bool) {
		rows, err := s.read.QueryContext(ctx, query, args...)
		if err != nil {
			yield(revocation.Entry{}, translate(op, err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			e, err := scanEntry(rows)
			if err != nil {
				yield(e, translate(op, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(revocation.Entry{}, translate(op, err))
		}
	}
}

// entryRow is a row of the ledger as it is scanned: everything may be null, for outer joins.
type entryRow struct {
	seq, epoch, idx, kind, reason       sql.NullInt64
	revokedAt, invalidityAt, recordedAt sql.NullInt64
	issuer, serial, job                 []byte
	actor                               sql.NullString
}

func (r *entryRow) fields() []any {
	return []any{&r.seq, &r.issuer, &r.epoch, &r.idx, &r.serial, &r.kind, &r.reason, &r.revokedAt, &r.invalidityAt, &r.recordedAt, &r.job, &r.actor}
}

// entry converts a row that is there.
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

func scanEntry(rows *sql.Rows) (revocation.Entry, error) {
	var r entryRow
	if err := rows.Scan(r.fields()...); err != nil {
		return revocation.Entry{}, err
	}
	return r.entry(), nil
}

// CertificateFacts implements revocation.Books.
func (s *Store) CertificateFacts(ctx context.Context, claims []revocation.Claim) (facts []revocation.Facts, err error) {
	const op = "read certificates"
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, translate(op, err)
	}
	defer func() { _ = tx.Rollback() }() // it only read
	query, err := tx.PrepareContext(ctx, `WITH k AS (SELECT ?1 AS issuer, ?2 AS serial, ?3 AS epoch, ?4 AS idx)
		SELECT c.not_after, c.profile, c.account,
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
		var profile, account sql.NullString
		var e entryRow
		err := query.QueryRowContext(ctx, c.Issuer[:], c.Serial[:], epoch, idx).Scan(append([]any{&notAfter, &profile, &account}, e.fields()...)...)
		if err != nil {
			return nil, translate(op, err)
		}
		if notAfter.Valid {
			f.Recorded, f.NotAfter, f.Profile, f.Account = true, time.UnixMicro(notAfter.Int64).UTC(), profile.String, account.String
		}
		if e.seq.Valid {
			f.Last = e.entry()
		}
	}
	return facts, nil
}

// collect gathers a stream until its end or first error.
func collect[T any](stream iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for v, err := range stream {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// clamp keeps "everything" (MaxUint64) within SQLite's integers.
func clamp(seq uint64) int64 { return int64(min(seq, math.MaxInt64)) }
