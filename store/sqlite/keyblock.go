package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// blockedKeys returns the hashes that are blocked. In a transaction that records certificates the answer holds until
// the commit, since only one transaction writes at a time.
func blockedKeys(ctx context.Context, q queryer, hashes []pki.KeyHash) ([]pki.KeyHash, error) {
	var blocked []pki.KeyHash
	for _, hash := range hashes {
		var found bool
		if err := q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM blocked_keys WHERE hash = ?)`, hash[:]).Scan(&found); err != nil {
			return nil, err
		}
		if found {
			blocked = append(blocked, hash)
		}
	}
	return blocked, nil
}

// queryer is a database or a transaction.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// BlockedKeys implements revocation.KeyBlockStore.
func (s *Store) BlockedKeys(ctx context.Context, hashes []pki.KeyHash) ([]pki.KeyHash, error) {
	blocked, err := blockedKeys(ctx, s.read, hashes)
	return blocked, translate("read blocked keys", err)
}

// ListBlockedKeys implements revocation.KeyBlockStore.
func (s *Store) ListBlockedKeys(ctx context.Context, after pki.KeyHash, limit int) ([]revocation.BlockedKey, error) {
	const op = "list blocked keys"
	rows, err := s.read.QueryContext(ctx, `SELECT hash, proof, comment, actor, blocked_at FROM blocked_keys WHERE material = 0 AND hash > ? ORDER BY hash LIMIT ?`, after[:], limit)
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var keys []revocation.BlockedKey
	for rows.Next() {
		var key revocation.BlockedKey
		var hash []byte
		var at int64
		if err := rows.Scan(&hash, &key.Proof, &key.Comment, &key.Actor, &at); err != nil {
			return nil, translate(op, err)
		}
		copy(key.SPKI[:], hash)
		key.At = time.UnixMicro(at).UTC()
		keys = append(keys, key)
	}
	return keys, translate(op, rows.Err())
}

// BlockKey implements revocation.KeyBlockStore.
func (s *Store) BlockKey(ctx context.Context, block revocation.KeyBlock, job revocation.Job, at time.Time, limit int, _ uint64) (receipt revocation.BlockReceipt, _ []revocation.Entry, err error) {
	const op = "block key"
	job.Actor = job.Principal.ID
	err = s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		receipt = revocation.BlockReceipt{Already: true}
		for n, hash := range []pki.KeyHash{block.SPKI, block.Material} {
			result, err := tx.ExecContext(ctx, `INSERT INTO blocked_keys (hash, material, proof, comment, actor, blocked_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				hash[:], n, string(block.Proof), block.Comment, job.Actor, now.UnixMicro())
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil || n > 0 {
				receipt.Already = receipt.Already && err != nil
			}
		}
		chosen, err := choose(ctx, tx, `SELECT c.idx, c.issuer, c.epoch, c.idx, c.serial FROM certificates c
			WHERE c.spki_hash IN (?, ?) AND c.epoch >= ? AND c.not_after > ?`, block.SPKI[:], block.Material[:], firstEpoch(at), at.UnixMicro())
		if err != nil {
			return err
		}
		entries, err := judge(ctx, tx, chosen, job, at)
		if err != nil {
			return err
		}
		detail := map[string]string{"proof": string(block.Proof), "comment": block.Comment}
		if len(entries) > limit {
			if err := insertJob(ctx, tx, job, nil, now); err != nil {
				return err
			}
			entries, receipt.Job = nil, job.ID
			detail["job"] = job.ID.String()
		}
		for i := range entries {
			entries[i].Job = revocation.JobID{}
		}
		receipt.Revoked = len(entries)
		if receipt.Seq, err = appendLedger(ctx, tx, now, entries); err != nil {
			return err
		}
		detail["revoked"], detail["last"] = strconv.Itoa(receipt.Revoked), strconv.FormatUint(receipt.Seq, 10)
		who := job.Principal
		return appendAudit(ctx, tx, []audit.Event{{At: at, Actor: who.ID, Action: "key.block", Target: "key/" + block.SPKI.String(), Outcome: audit.OK,
			RequestID: who.RequestID, Source: who.Source, Detail: detail}})
	})
	if err != nil {
		return revocation.BlockReceipt{}, nil, err
	}
	s.wakeLedger(receipt.Seq)
	return receipt, nil, nil
}

// candidate is a certificate that a job selected. recorded is false for a serial of a list that belongs to no recorded
// certificate.
type candidate struct {
	place    int64 // the cursor continues after it
	recorded bool
	issuer   pki.IssuerID
	position pki.Position
	serial   pki.Serial
}

// choose runs a query for place, issuer, epoch, idx and serial.
func choose(ctx context.Context, q queryer, query string, args ...any) ([]candidate, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var chosen []candidate
	for rows.Next() {
		var c candidate
		var issuer, serial []byte
		var epoch, idx sql.NullInt64
		if err := rows.Scan(&c.place, &issuer, &epoch, &idx, &serial); err != nil {
			return nil, err
		}
		c.recorded = serial != nil
		copy(c.issuer[:], issuer)
		copy(c.serial[:], serial)
		c.position = pki.Position{Epoch: pki.Epoch(epoch.Int64), Index: uint64(idx.Int64)}
		chosen = append(chosen, c)
	}
	return chosen, rows.Err()
}

// judge returns the ledger entries that a job appends for the certificates it chose. It skips revoked ones, unless
// their reason changes to keyCompromise.
func judge(ctx context.Context, tx *sql.Tx, chosen []candidate, job revocation.Job, at time.Time) ([]revocation.NewEntry, error) {
	last, err := tx.PrepareContext(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE issuer = ? AND epoch = ? AND idx = ? ORDER BY seq DESC LIMIT 1`)
	if err != nil {
		return nil, err
	}
	defer last.Close()
	var entries []revocation.NewEntry
	for _, c := range chosen {
		if !c.recorded {
			continue
		}
		var row entryRow
		err := last.QueryRowContext(ctx, c.issuer[:], int64(c.position.Epoch), int64(c.position.Index)).Scan(row.fields()...)
		if err != nil && err != sql.ErrNoRows {
			return nil, err
		}
		was := row.entry()
		e := revocation.Entry{Issuer: c.issuer, Serial: c.serial, Position: c.position, Kind: revocation.KindRevoke, Reason: job.Reason,
			RevokedAt: at.UTC().Truncate(time.Second), InvalidityAt: job.InvalidityAt, Job: job.ID, Actor: job.Actor}
		if e.InvalidityAt.IsZero() {
			e.InvalidityAt = was.InvalidityAt
		}
		switch was.Kind {
		case revocation.KindVoid:
			continue
		case revocation.KindRevoke, revocation.KindReasonChange:
			if job.Reason != pki.KeyCompromise || was.Reason == pki.KeyCompromise {
				continue
			}
			e.Kind, e.RevokedAt = revocation.KindReasonChange, was.RevokedAt
		}
		entries = append(entries, revocation.NewEntry{Entry: e, Expected: was.Seq})
	}
	return entries, nil
}

// firstEpoch returns the first epoch that has not passed at a time.
func firstEpoch(at time.Time) int64 {
	epoch, err := pki.EpochAt(at.Unix())
	if err != nil { // before the first epoch
		return 0
	}
	if epoch > 0 && !(epoch - 1).Passed(at.Unix()) {
		epoch--
	}
	return int64(epoch)
}

// in returns "column IN (?, ?, ...)" for n values.
func in(column string, n int) string {
	return fmt.Sprintf("%s IN (%s)", column, strings.TrimSuffix(strings.Repeat("?, ", n), ", "))
}
