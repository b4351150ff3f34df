package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// BlockKey implements revocation.KeyBlockStore.
func (s *Store) BlockKey(ctx context.Context, block revocation.KeyBlock, job revocation.Job, at time.Time, limit int, after uint64) (receipt revocation.BlockReceipt, news []revocation.Entry, err error) {
	const op = "block key"
	selector, err := json.Marshal(job.Selector)
	if err != nil {
		return receipt, nil, translate(op, err)
	}
	var seq int64
	var started bool
	batch := blocking(int64(after),
		[][]byte{block.SPKI[:], block.Material[:]}, string(block.Proof), plain(block.Comment), nullTime(block.InvalidityAt), firstEpoch(at), limit,
		job.ID[:], string(selector), at.UnixMicro(), plain(job.Principal.ID), plain(job.Principal.RequestID), plain(job.Principal.Source))
	batch.QueuedQueries[0].QueryRow(func(row pgx.Row) error {
		return row.Scan(&receipt.Already, &receipt.Revoked, &seq, &started)
	})
	batch.QueuedQueries[1].Query(func(rows pgx.Rows) error {
		news, err = collectEntries(rows)
		return err
	})
	if err := s.keys.SendBatch(ctx, batch).Close(); err != nil { // the commit comes last
		return revocation.BlockReceipt{}, nil, translate(op, err)
	}
	receipt.Seq = uint64(seq)
	if started {
		receipt.Job = job.ID
	}
	return receipt, news, nil
}

// newsLimit is the largest number of entries that are sent with the answer, before the commit. They fit into the buffer
// of a socket that is not read, so a stopped client holds no lock.
const newsLimit = 1000

// blocking is one message to the database, so one transaction: it blocks the key and reads the end of the ledger.
func blocking(after int64, args ...any) *pgx.Batch {
	batch := &pgx.Batch{}
	batch.Queue(blockKey, args...)
	batch.Queue(ledgerEntriesAfter, after, newsLimit)
	return batch
}

const blockKey = `SELECT already, revoked, seq, started FROM signet_block_key($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

// meetKeys prepares a new connection by blocking nothing. The compromise of a key is rare, and planning for every
// week's partition for the first time takes longer than revoking a thousand certificates.
func meetKeys(ctx context.Context, conn *pgx.Conn) error {
	return conn.SendBatch(ctx, blocking(0, [][]byte{}, "", "", nil, int32(0), 0, []byte{}, "", int64(0), "", "", "")).Close()
}

// BlockedKeys implements revocation.KeyBlockStore.
func (s *Store) BlockedKeys(ctx context.Context, hashes []pki.KeyHash) ([]pki.KeyHash, error) {
	const op = "read blocked keys"
	asked := make([][]byte, len(hashes))
	for i := range hashes {
		asked[i] = hashes[i][:]
	}
	rows, err := s.pool.Query(ctx, `SELECT hash FROM blocked_keys WHERE hash = ANY ($1)`, asked)
	if err != nil {
		return nil, translate(op, err)
	}
	blocked, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (hash pki.KeyHash, err error) {
		var octets []byte
		err = row.Scan(&octets)
		copy(hash[:], octets)
		return hash, err
	})
	return blocked, translate(op, err)
}

// ListBlockedKeys implements revocation.KeyBlockStore.
func (s *Store) ListBlockedKeys(ctx context.Context, after pki.KeyHash, limit int) ([]revocation.BlockedKey, error) {
	const op = "list blocked keys"
	rows, err := s.pool.Query(ctx, `SELECT hash, proof, comment, actor, blocked_at FROM blocked_keys WHERE NOT material AND hash > $1 ORDER BY hash LIMIT $2`, after[:], limit)
	if err != nil {
		return nil, translate(op, err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (key revocation.BlockedKey, err error) {
		var octets []byte
		err = row.Scan(&octets, &key.Proof, &key.Comment, &key.Actor, &key.At)
		copy(key.SPKI[:], octets)
		key.At = key.At.UTC()
		return key, err
	})
	return keys, translate(op, err)
}

// firstEpoch returns the first epoch that has not passed at a time.
func firstEpoch(at time.Time) int32 {
	epoch, err := pki.EpochAt(at.Unix())
	if err != nil { // before the first epoch
		return 0
	}
	if epoch > 0 && !(epoch - 1).Passed(at.Unix()) {
		epoch--
	}
	return int32(epoch)
}
