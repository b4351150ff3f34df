package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// place returns the columns of a series in the tables. The complete list of an issuer has no shard.
func place(s crlserver.Series) (epoch int32, block int64) {
	if !s.Sharded {
		return -1, -1
	}
	return int32(s.Shard.Epoch), int64(s.Shard.Block)
}

// BeginPublication implements crlserver.Publications.
func (s *Store) BeginPublication(ctx context.Context, series crlserver.Series, owner revocation.InstanceID, seen uint64, lease time.Duration) (uint64, bool, error) {
	epoch, block := place(series)
	var number *int64
	err := s.pool.QueryRow(ctx, `SELECT signet_publication_begin($1, $2, $3, $4, $5, $6)`, series.Issuer[:], epoch, block, owner[:], int64(seen), lease.Microseconds()).Scan(&number)
	if err != nil || number == nil {
		return 0, false, translate("begin publication", err)
	}
	return uint64(*number), true, nil
}

// FinishPublication implements crlserver.Publications. The batch is one implicit transaction and one round trip.
func (s *Store) FinishPublication(ctx context.Context, owner revocation.InstanceID, series crlserver.Series, number uint64, heads []crlserver.Head, der map[int][]byte) error {
	const op = "finish publication"
	batch := &pgx.Batch{}
	epoch, block := place(series)
	batch.Queue(`SELECT signet_publication_finish($1, $2, $3, $4, $5)`, series.Issuer[:], epoch, block, owner[:], int64(number))
	for i, h := range heads {
		batch.Queue(`SELECT signet_publication_put($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)`,
			series.Issuer[:], epoch, block, int16(h.List.Kind), int64(number), int64(h.Seq), int32(h.From), h.ThisUpdate, h.NextUpdate,
			int64(h.Base), int64(h.BaseSeq), h.BaseUpdate, texts(h.URLs), texts(h.Freshest), []byte(h.Signature.Algorithm), h.Signature.Value, h.Sum[:],
			h.Size, int64(h.Entries), h.Final, der[i])
	}
	return translate(op, s.pool.SendBatch(ctx, batch).Close())
}

// ImportPublication implements crlserver.Imports.
func (s *Store) ImportPublication(ctx context.Context, h crlserver.Head, der []byte, event audit.Event) error {
	_, err := s.pool.Exec(ctx, `SELECT signet_publication_import($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		h.List.Issuer[:], int16(h.List.Kind), int64(h.Number), int64(h.Seq), int32(h.From), h.ThisUpdate, h.NextUpdate, texts(h.URLs), []byte(h.Signature.Algorithm), h.Sum[:],
		h.Size, int64(h.Entries), store.JoinSerials(h.Expired), der, auditParam([]audit.Event{event}))
	return translate("import publication", err)
}

// texts returns an empty list for an absent one: the column is not null.
func texts(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// PublicationHeads implements crlserver.Publications.
func (s *Store) PublicationHeads(ctx context.Context, since time.Time) ([]crlserver.Head, time.Time, error) {
	const op = "read publications"
	heads := `SELECT issuer, epoch, block, kind, number, seq, from_epoch, this_update, next_update, base, base_seq, base_update, urls, freshest,
			algorithm, signature, sum, size, entries, final, expired FROM publications`
	batch := &pgx.Batch{}
	batch.Queue(`SELECT clock_timestamp()`)
	if since.IsZero() {
		batch.Queue(heads + ` ORDER BY issuer, epoch, block, kind`)
	} else {
		batch.Queue(heads+` WHERE published_in >= signet_published_in($1) AND published_at >= $1 ORDER BY issuer, epoch, block, kind`, since)
	}
	answers := s.pool.SendBatch(ctx, batch) // one round trip, and the clock is read before the table
	defer answers.Close()
	var at time.Time
	if err := answers.QueryRow().Scan(&at); err != nil {
		return nil, at, translate(op, err)
	}
	rows, err := answers.Query()
	if err != nil {
		return nil, at, translate(op, err)
	}
	read, err := pgx.CollectRows(rows, scanHead)
	return read, at.UTC(), translate(op, err)
}

func scanHead(row pgx.CollectableRow) (h crlserver.Head, err error) {
	var issuer, algorithm, sum, expired []byte
	var epoch, from int32
	var kind int16
	var block, number, seq, base, baseSeq, entries int64
	err = row.Scan(&issuer, &epoch, &block, &kind, &number, &seq, &from, &h.ThisUpdate, &h.NextUpdate, &base, &baseSeq, &h.BaseUpdate, &h.URLs, &h.Freshest,
		&algorithm, &h.Signature.Value, &sum, &h.Size, &entries, &h.Final, &expired)
	if err == nil {
		h.Expired, err = store.SplitSerials(expired)
	}
	copy(h.List.Issuer[:], issuer)
	copy(h.Sum[:], sum)
	if h.List.Kind = crlserver.Kind(kind); epoch >= 0 {
		h.List.Sharded, h.List.Shard = true, pki.Shard{Epoch: pki.Epoch(epoch), Block: uint32(block)}
	}
	h.Number, h.Seq, h.From, h.Base, h.BaseSeq, h.Entries = uint64(number), uint64(seq), pki.Epoch(from), uint64(base), uint64(baseSeq), int(entries)
	h.ThisUpdate, h.NextUpdate, h.BaseUpdate = h.ThisUpdate.UTC(), h.NextUpdate.UTC(), h.BaseUpdate.UTC()
	h.Signature.Algorithm = crl.Algorithm(algorithm)
	return h, err
}

// PublicationBytes implements crlserver.Publications.
func (s *Store) PublicationBytes(ctx context.Context, list crlserver.List, number uint64) (der []byte, err error) {
	epoch, block := place(list.Series)
	err = s.pool.QueryRow(ctx, `SELECT der FROM publications WHERE issuer = $1 AND epoch = $2 AND block = $3 AND kind = $4 AND number = $5 AND der IS NOT NULL`,
		list.Issuer[:], epoch, block, int16(list.Kind), int64(number)).Scan(&der)
	return der, translate("read publication", err)
}

// ForgetPublication implements crlserver.Publications.
func (s *Store) ForgetPublication(ctx context.Context, list crlserver.List, number uint64) error {
	epoch, block := place(list.Series)
	_, err := s.pool.Exec(ctx, `DELETE FROM publications WHERE issuer = $1 AND epoch = $2 AND block = $3 AND kind = $4 AND number = $5`,
		list.Issuer[:], epoch, block, int16(list.Kind), int64(number))
	return translate("forget publication", err)
}

// ListenPublications implements crlserver.Publications.
func (s *Store) ListenPublications(ctx context.Context, wake func()) error {
	return s.listen(ctx, "listen to publications", []string{"signet_publication"}, func(_, _ string) { wake() })
}

// ShardBases implements crlserver.Bases.
func (s *Store) ShardBases(ctx context.Context, since time.Time) ([]crlserver.ShardBase, time.Time, error) {
	const op = "read base URLs of shards"
	at, err := s.clock(ctx)
	if err != nil {
		return nil, at, translate(op, err)
	}
	if !since.IsZero() {
		since = since.Add(-commitSlack)
	}
	// Free ranges hold no certificates. A range is no longer than a block, so it touches at most two.
	rows, err := s.pool.Query(ctx, `SELECT issuer, epoch, block, base_url FROM (
			SELECT issuer, epoch, from_idx / $2 AS block, base_url, id FROM ranges WHERE state <> 3 AND ($1::timestamptz IS NULL OR changed_at >= $1)
			UNION ALL
			SELECT issuer, epoch, (to_idx - 1) / $2, base_url, id FROM ranges WHERE state <> 3 AND ($1::timestamptz IS NULL OR changed_at >= $1)
		) r WHERE base_url <> '' GROUP BY issuer, epoch, block, base_url ORDER BY min(id)`, nullTime(since), int64(pki.BlockSize))
	if err != nil {
		return nil, at, translate(op, err)
	}
	bases, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b crlserver.ShardBase, err error) {
		var issuer []byte
		var epoch int32
		var block int64
		err = row.Scan(&issuer, &epoch, &block, &b.URL)
		copy(b.Issuer[:], issuer)
		b.Shard = pki.Shard{Epoch: pki.Epoch(epoch), Block: uint32(block)}
		return b, err
	})
	return bases, at, translate(op, err)
}

// clock returns the time of the database's clock.
func (s *Store) clock(ctx context.Context) (at time.Time, err error) {
	err = s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&at)
	return at.UTC(), err
}
