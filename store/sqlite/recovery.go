package sqlite

import (
	"context"
	"database/sql"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// Advance implements store.Recovery.
func (s *Store) Advance(ctx context.Context, actor string, events []audit.Event) (done store.Advanced, err error) {
	err = s.inTx(ctx, "advance books", func(tx *sql.Tx, now time.Time) error {
		// The skipped indices become one lost range for each epoch. The last index that may be in use comes first, so
		// that the target is computed from it once.
		at, err := rangeTime(ctx, tx, now)
		if err != nil {
			return err
		}
		steps := []struct {
			statement string
			args      []any
		}{
			{`UPDATE restores SET count = count + 1`, nil},
			{`UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'ranges'`, []any{store.LostSequences}},
			{`UPDATE ranges SET state = 4, changed_at = ? WHERE state = 3`, []any{at}},
			{`INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
				SELECT issuer, epoch, next_idx, (next_idx / ?1 + 1) * ?1, 4, next_idx, zeroblob(16), zeroblob(16), '', ?2, ?2 FROM epochs`,
				[]any{store.LostIndices, at}},
			{`UPDATE epochs SET next_idx = (next_idx / ?1 + 1) * ?1`, []any{store.LostIndices}},
			// The lost copy may have decided them.
			{`UPDATE approvals SET expires_at = ? WHERE state IN (1, 2)`, []any{now.UnixMicro()}},
			{`UPDATE publication_series SET number = number + ?1, published = published + ?1 WHERE issuer NOT IN (SELECT id FROM issuers WHERE key_uri = '' OR state = 0 AND signed_outside)`, []any{store.LostSequences}},
			// They carry old numbers; the next ones are complete lists. The numbers of an off-line issuer are assigned
			// by its ceremony.
			{`DELETE FROM publications WHERE issuer NOT IN (SELECT id FROM issuers WHERE key_uri = '' OR state = 0 AND signed_outside)`, nil},
		}
		for _, step := range steps {
			if _, err := tx.ExecContext(ctx, step.statement, step.args...); err != nil {
				return err
			}
		}
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM epochs`).Scan(&done.Epochs); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, `UPDATE ledger_head SET seq = seq + ? RETURNING seq - ?`, store.LostSequences-1, store.LostSequences-1).Scan(&done.Before); err != nil {
			return err
		}
		entry := revocation.NewEntry{Entry: revocation.Entry{Kind: revocation.KindRestore, RevokedAt: now, Actor: actor}}
		if done.Ledger, err = appendLedger(ctx, tx, now, []revocation.NewEntry{entry}); err != nil {
			return err
		}
		return appendAudit(ctx, tx, events)
	})
	return done, err
}

// Witness implements store.Recovery.
func (s *Store) Witness(ctx context.Context, seq uint64) (now store.Witness, then audit.Hash, err error) {
	var ledger, end, lists int64
	var head, before []byte
	err = s.read.QueryRowContext(ctx, `SELECT l.seq, a.seq, a.head, (SELECT coalesce(sum(published), 0) FROM publication_series),
		(SELECT head FROM audit_batches WHERE last = ?) FROM ledger_head l, audit_head a`, int64(seq)).Scan(&ledger, &end, &head, &lists, &before)
	if err != nil {
		return now, then, translate("read witness", err)
	}
	copy(then[:], before)
	return store.Witness{Ledger: uint64(ledger), Audit: audit.Chain{Seq: uint64(end), Head: audit.Hash(head)}, Lists: uint64(lists)}, then, nil
}
