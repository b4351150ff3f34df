package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// place returns the columns of a series in the tables. The complete list of an issuer has no shard.
func place(s crlserver.Series) (epoch, block int64) {
	if !s.Sharded {
		return -1, -1
	}
	return int64(s.Shard.Epoch), int64(s.Shard.Block)
}

// silence is the time without a report after which an instance counts as killed. Instances report every second.
const silence = 3 * time.Second

// BeginPublication implements crlserver.Publications. An owner that was wrongly taken for dead is stopped by the fence.
func (s *Store) BeginPublication(ctx context.Context, series crlserver.Series, owner revocation.InstanceID, seen uint64, lease time.Duration) (number uint64, ok bool, err error) {
	epoch, block := place(series)
	err = s.inTx(ctx, "begin publication", func(tx *sql.Tx, now time.Time) error {
		err := tx.QueryRowContext(ctx, `INSERT INTO publication_series (issuer, epoch, block, number, owner, lease_until)
			SELECT ?1, ?2, ?3, count * 4294967296 + 1, ?4, ?5 FROM restores
			WHERE NOT EXISTS (SELECT 1 FROM publications WHERE issuer = ?1 AND epoch = ?2 AND block = ?3 AND number > ?7)
			ON CONFLICT (issuer, epoch, block) DO UPDATE SET number = max(number + 1, excluded.number), owner = ?4, lease_until = ?5 WHERE owner = ?4 OR lease_until <= ?6
				OR (SELECT max(at) FROM heartbeats WHERE instance = owner) < ?8
			RETURNING number`, series.Issuer[:], epoch, block, owner[:], now.Add(lease).UnixMicro(), now.UnixMicro(), int64(seen), now.Add(-silence).UnixMicro()).Scan(&number)
		if err == sql.ErrNoRows {
			return nil
		}
		ok = err == nil
		return err
	})
	return number, ok, err
}

// FinishPublication implements crlserver.Publications.
func (s *Store) FinishPublication(ctx context.Context, owner revocation.InstanceID, series crlserver.Series, number uint64, heads []crlserver.Head, der map[int][]byte) error {
	const op = "finish publication"
	return s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		epoch, block := place(series)
		n, err := affected(tx.ExecContext(ctx, `UPDATE publication_series SET lease_until = ?, published = published + 1 WHERE issuer = ? AND epoch = ? AND block = ? AND owner = ? AND number = ?`,
			now.UnixMicro(), series.Issuer[:], epoch, block, owner[:], int64(number)))
		if err != nil {
			return err
		}
		if n == 0 {
			return fenced(op, "number %d was overtaken", number)
		}
		for i, h := range heads {
			if err := putHead(ctx, tx, now, op, h, number, der[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// fenced returns the error of a publisher that another one overtook.
func fenced(op, format string, args ...any) error {
	return &pki.Error{Kind: pki.KindConflict, Op: op, Err: fmt.Errorf("%w: "+format, append([]any{crlserver.ErrFenced}, args...)...)}
}

// putHead stores one list unless the stored one is newer.
func putHead(ctx context.Context, tx *sql.Tx, now time.Time, op string, h crlserver.Head, number uint64, der []byte) error {
	epoch, block := place(h.List.Series)
	urls, freshest, err := encodeTexts(h.URLs, h.Freshest)
	if err != nil {
		return err
	}
	n, err := affected(tx.ExecContext(ctx, `INSERT INTO publications (issuer, epoch, block, kind, number, seq, from_epoch, this_update, next_update, base, base_seq, base_update,
			urls, freshest, algorithm, signature, sum, size, entries, final, expired, der, published_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (issuer, epoch, block, kind) DO UPDATE SET number = excluded.number, seq = excluded.seq, from_epoch = excluded.from_epoch,
			this_update = excluded.this_update, next_update = excluded.next_update, base = excluded.base, base_seq = excluded.base_seq, base_update = excluded.base_update,
			urls = excluded.urls, freshest = excluded.freshest, algorithm = excluded.algorithm, signature = excluded.signature, sum = excluded.sum,
			size = excluded.size, entries = excluded.entries, final = excluded.final, expired = excluded.expired, der = excluded.der, published_at = excluded.published_at
		WHERE number < excluded.number AND seq <= excluded.seq`,
		h.List.Issuer[:], epoch, block, int64(h.List.Kind), int64(number), int64(h.Seq), int64(h.From), h.ThisUpdate.UnixMicro(), h.NextUpdate.UnixMicro(),
		int64(h.Base), int64(h.BaseSeq), h.BaseUpdate.UnixMicro(), urls, freshest, []byte(h.Signature.Algorithm), h.Signature.Value, h.Sum[:], h.Size, h.Entries, h.Final, store.JoinSerials(h.Expired), der, now.UnixMicro()))
	if err != nil {
		return err
	}
	if n == 0 {
		return fenced(op, "what is published of %s is newer than number %d", h.List, number)
	}
	return nil
}

// ImportPublication implements crlserver.Imports.
func (s *Store) ImportPublication(ctx context.Context, h crlserver.Head, der []byte, event audit.Event) error {
	const op = "import publication"
	return s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		epoch, block := place(h.List.Series)
		n, err := affected(tx.ExecContext(ctx, `INSERT INTO publication_series (issuer, epoch, block, number, published, owner, lease_until) VALUES (?, ?, ?, ?, 1, zeroblob(16), ?)
			ON CONFLICT (issuer, epoch, block) DO UPDATE SET number = excluded.number, published = published + 1, lease_until = excluded.lease_until WHERE number < excluded.number`,
			h.List.Issuer[:], epoch, block, int64(h.Number), now.UnixMicro()))
		if err != nil {
			return err
		}
		if n == 0 {
			return fenced(op, "number %d is not larger than the last", h.Number)
		}
		h.Base, h.BaseSeq, h.BaseUpdate, h.Freshest, h.Final = 0, 0, h.ThisUpdate, nil, false
		h.Signature.Value = []byte{} // the signature is in the octets
		if err := putHead(ctx, tx, now, op, h, h.Number, der); err != nil {
			return err
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// encodeTexts encodes two lists as JSON; an absent list becomes an empty one.
func encodeTexts(a, b []string) (first, second string, err error) {
	encode := func(list []string) string {
		text, failed := json.Marshal(append([]string{}, list...))
		if failed != nil {
			err = failed
		}
		return string(text)
	}
	return encode(a), encode(b), err
}

// PublicationHeads implements crlserver.Publications.
func (s *Store) PublicationHeads(ctx context.Context, since time.Time) ([]crlserver.Head, time.Time, error) {
	const op = "read publications"
	at := s.now().UTC()
	rows, err := s.read.QueryContext(ctx, `SELECT issuer, epoch, block, kind, number, seq, from_epoch, this_update, next_update, base, base_seq, base_update, urls, freshest,
			algorithm, signature, sum, size, entries, final, expired
		FROM publications WHERE ? OR published_at >= ? ORDER BY issuer, epoch, block, kind`, since.IsZero(), since.UnixMicro())
	if err != nil {
		return nil, at, translate(op, err)
	}
	defer rows.Close()
	var heads []crlserver.Head
	for rows.Next() {
		h, err := scanHead(rows)
		if err != nil {
			return nil, at, translate(op, err)
		}
		heads = append(heads, h)
	}
	return heads, at, translate(op, rows.Err())
}

// sinceMicros returns 0 for the zero time, otherwise the time a second earlier: one process with one clock wrote
// everything, but may have been in the middle of it.
func sinceMicros(since time.Time) int64 {
	if since.IsZero() {
		return 0
	}
	return since.Add(-time.Second).UnixMicro()
}

func scanHead(rows *sql.Rows) (h crlserver.Head, err error) {
	var issuer, algorithm, sum, expired []byte
	var epoch, block, kind, number, seq, from, this, next, base, baseSeq, baseUpdate int64
	var urls, freshest string
	if err = rows.Scan(&issuer, &epoch, &block, &kind, &number, &seq, &from, &this, &next, &base, &baseSeq, &baseUpdate, &urls, &freshest,
		&algorithm, &h.Signature.Value, &sum, &h.Size, &h.Entries, &h.Final, &expired); err != nil {
		return h, err
	}
	copy(h.List.Issuer[:], issuer)
	copy(h.Sum[:], sum)
	if h.List.Kind = crlserver.Kind(kind); epoch >= 0 {
		h.List.Sharded, h.List.Shard = true, pki.Shard{Epoch: pki.Epoch(epoch), Block: uint32(block)}
	}
	h.Number, h.Seq, h.From, h.Base, h.BaseSeq = uint64(number), uint64(seq), pki.Epoch(from), uint64(base), uint64(baseSeq)
	h.ThisUpdate, h.NextUpdate, h.Signature.Algorithm = time.UnixMicro(this).UTC(), time.UnixMicro(next).UTC(), crl.Algorithm(algorithm)
	h.BaseUpdate = time.UnixMicro(baseUpdate).UTC()
	if h.Expired, err = store.SplitSerials(expired); err != nil {
		return h, err
	}
	if err = json.Unmarshal([]byte(urls), &h.URLs); err == nil {
		err = json.Unmarshal([]byte(freshest), &h.Freshest)
	}
	return h, err
}

// PublicationBytes implements crlserver.Publications.
func (s *Store) PublicationBytes(ctx context.Context, list crlserver.List, number uint64) (der []byte, err error) {
	epoch, block := place(list.Series)
	err = s.read.QueryRowContext(ctx, `SELECT der FROM publications WHERE issuer = ? AND epoch = ? AND block = ? AND kind = ? AND number = ? AND der IS NOT NULL`,
		list.Issuer[:], epoch, block, int64(list.Kind), int64(number)).Scan(&der)
	return der, translate("read publication", err)
}

// ForgetPublication implements crlserver.Publications.
func (s *Store) ForgetPublication(ctx context.Context, list crlserver.List, number uint64) error {
	epoch, block := place(list.Series)
	return s.inTx(ctx, "forget publication", func(tx *sql.Tx, _ time.Time) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM publications WHERE issuer = ? AND epoch = ? AND block = ? AND kind = ? AND number = ?`,
			list.Issuer[:], epoch, block, int64(list.Kind), int64(number))
		return err
	})
}

// ListenPublications implements crlserver.Publications. It calls wake once: the only process with the file knows what
// it publishes.
func (s *Store) ListenPublications(ctx context.Context, wake func()) error {
	wake()
	<-ctx.Done()
	return translate("listen to publications", ctx.Err())
}

// ShardBases implements crlserver.Bases.
func (s *Store) ShardBases(ctx context.Context, since time.Time) ([]crlserver.ShardBase, time.Time, error) {
	const op = "read base URLs of shards"
	at := s.now().UTC()
	// Free ranges hold no certificates. A range is no longer than a block, so it touches at most two.
	rows, err := s.read.QueryContext(ctx, `SELECT issuer, epoch, block, base_url FROM (
			SELECT issuer, epoch, from_idx / ?2 AS block, base_url, id FROM ranges WHERE state <> 3 AND changed_at >= ?1
			UNION ALL
			SELECT issuer, epoch, (to_idx - 1) / ?2, base_url, id FROM ranges WHERE state <> 3 AND changed_at >= ?1
		) r WHERE base_url <> '' GROUP BY issuer, epoch, block, base_url ORDER BY min(id)`, sinceMicros(since), int64(pki.BlockSize))
	if err != nil {
		return nil, at, translate(op, err)
	}
	defer rows.Close()
	var bases []crlserver.ShardBase
	for rows.Next() {
		var b crlserver.ShardBase
		var issuer []byte
		var epoch, block int64
		if err := rows.Scan(&issuer, &epoch, &block, &b.URL); err != nil {
			return nil, at, translate(op, err)
		}
		copy(b.Issuer[:], issuer)
		b.Shard = pki.Shard{Epoch: pki.Epoch(epoch), Block: uint32(block)}
		bases = append(bases, b)
	}
	return bases, at, translate(op, rows.Err())
}
