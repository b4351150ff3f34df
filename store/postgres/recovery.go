package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/internal/audit"
	"signet.example/signet/store"
)

// Advance implements store.Recovery.
func (s *Store) Advance(ctx context.Context, actor string, events []audit.Event) (done store.Advanced, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		steps := []struct {
			statement string
			args      []any
		}{
			{`UPDATE restores SET count = count + 1`, nil},
			{`SELECT setval(pg_get_serial_sequence('ranges', 'id'), coalesce((SELECT max(id) FROM ranges), 0) + $1)`, []any{int64(store.LostSequences)}},
			{`UPDATE ranges SET state = 4, changed_at = signet_range_time() WHERE state = 3`, nil},
			// The skipped indices become one lost range for each epoch.
			{`INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
				SELECT issuer, epoch, next_idx, (next_idx / $1 + 1) * $1, 4, next_idx, decode(repeat('00', 16), 'hex'), decode(repeat('00', 16), 'hex'), '',
					clock_timestamp(), signet_range_time() FROM epochs`, []any{int64(store.LostIndices)}},
			{`UPDATE epochs SET next_idx = (next_idx / $1 + 1) * $1`, []any{int64(store.LostIndices)}},
			// The lost copy may have decided them.
			{`UPDATE approvals SET expires_at = clock_timestamp() WHERE state IN (1, 2)`, nil},
			{`UPDATE publication_series SET number = number + $1, published = published + $1 WHERE issuer NOT IN (SELECT id FROM issuers WHERE key_uri = '' OR state = 0 AND signed_outside)`, []any{int64(store.LostSequences)}},
			// They carry old numbers; the next ones are complete lists. The numbers of an off-line issuer are assigned
			// by its ceremony.
			{`DELETE FROM publications WHERE issuer NOT IN (SELECT id FROM issuers WHERE key_uri = '' OR state = 0 AND signed_outside)`, nil},
		}
		for _, step := range steps {
			if _, err := tx.Exec(ctx, step.statement, step.args...); err != nil {
				return err
			}
		}
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM epochs`).Scan(&done.Epochs); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `UPDATE ledger_head SET seq = seq + $1 RETURNING seq - $1`, int64(store.LostSequences-1)).Scan(&done.Before); err != nil {
			return err
		}
		// 6: revocation.KindRestore, which is about no certificate.
		if err := tx.QueryRow(ctx, `SELECT signet_ledger_append(ARRAY[ROW(NULL, NULL, NULL, NULL, 6, 0, clock_timestamp(), NULL, NULL, $1::text, 0)::ledger_entry])`,
			actor).Scan(&done.Ledger); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT signet_audit_append($1)`, auditParam(events))
		return err
	})
	return done, translate("advance books", err)
}

// Witness implements store.Recovery. A number that was only reserved does not count: signet_publication_begin does not
// wait for the disk, so a crash may undo a reservation that was read here.
func (s *Store) Witness(ctx context.Context, seq uint64) (now store.Witness, then audit.Hash, err error) {
	var ledger, end, lists int64
	var head, before []byte
	err = s.pool.QueryRow(ctx, `SELECT l.seq, a.seq, a.head, (SELECT coalesce(sum(published), 0)::bigint FROM publication_series),
		(SELECT head FROM audit_batches WHERE last = $1) FROM ledger_head l, audit_head a`, int64(seq)).Scan(&ledger, &end, &head, &lists, &before)
	if err != nil {
		return now, then, translate("read witness", err)
	}
	copy(then[:], before)
	return store.Witness{Ledger: uint64(ledger), Audit: audit.Chain{Seq: uint64(end), Head: audit.Hash(head)}, Lists: uint64(lists)}, then, nil
}
