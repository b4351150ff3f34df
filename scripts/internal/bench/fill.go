package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/pki"
)

// filled describes the certificates that fill put into a database, as if they had been issued and their ranges closed.
type filled struct {
	issuer  pki.IssuerID
	key     pki.KeyHash
	serials []pki.Serial
}

// fillEpochs is the number of weeks of expiry over which fill spreads its certificates.
const fillEpochs = 12

// fill loads certificates directly into the site's PostgreSQL while the server is stopped, because nothing signs a million
// of them within a benchmark. All carry the octets of one real certificate; serial, names, dates and keys differ. A share
// of them (one in every, if not zero) is revoked.
func (b *bench) fill(ctx context.Context, database string, model client.Certificate, issuerKey pki.KeyHash, count, every int) (*filled, error) {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	first, err := pki.EpochAt(time.Now().AddDate(0, 0, 28).Unix())
	if err != nil {
		return nil, err
	}
	f := &filled{issuer: model.Issuer, key: issuerKey}
	for e := range fillEpochs {
		if err := f.epoch(ctx, conn, first+pki.Epoch(e), model, count/fillEpochs, every); err != nil {
			return nil, err
		}
	}
	_, err = conn.Exec(ctx, "ANALYZE")
	return f, err
}

// epoch loads one week.
func (f *filled) epoch(ctx context.Context, conn *pgx.Conn, epoch pki.Epoch, model client.Certificate, count, every int) error {
	const block = pki.BlockSize
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) // does nothing after the commit
	if _, err := tx.Exec(ctx, "SELECT signet_epoch_partition($1)", int32(epoch)); err != nil {
		return err
	}
	var from int64
	if err := tx.QueryRow(ctx, `INSERT INTO epochs (issuer, epoch, next_idx) VALUES ($1, $2, 0) ON CONFLICT (issuer, epoch) DO UPDATE SET next_idx = epochs.next_idx
		RETURNING next_idx`, f.issuer[:], int32(epoch)).Scan(&from); err != nil {
		return err
	}
	key := pki.RangeKey(sha256.Sum256(fmt.Appendf(nil, "bench %d", epoch)))
	for at := from; at < from+int64(count); {
		to := min(from+int64(count), (at/block+1)*block) // a range does not cross a block
		if _, err := tx.Exec(ctx, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, range_key, changed_at)
			VALUES ($1, $2, $3, $4, 2, $3, decode(repeat('00', 16), 'hex'), decode(repeat('00', 16), 'hex'), 'http://127.0.0.1', now(), $5, now())`,
			f.issuer[:], int32(epoch), at, to, key[:]); err != nil {
			return err
		}
		at = to
	}
	if _, err := tx.Exec(ctx, "UPDATE epochs SET next_idx = $3 WHERE issuer = $1 AND epoch = $2", f.issuer[:], int32(epoch), from+int64(count)); err != nil {
		return err
	}
	if err := f.rows(ctx, tx, epoch, key, from, count, every, model); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// rows copies certificates, names and revocations.
func (f *filled) rows(ctx context.Context, tx pgx.Tx, epoch pki.Epoch, key pki.RangeKey, from int64, count, every int, model client.Certificate) error {
	serials := make([]pki.Serial, count)
	for i := range serials {
		serials[i] = pki.NewSerial(key, f.key, pki.Position{Epoch: epoch, Index: uint64(from) + uint64(i)})
	}
	f.serials = append(f.serials, serials...)
	now, ends := time.Now().UTC().Truncate(time.Second), time.Unix(epoch.Start(), 0).UTC()
	name := func(i int) string { return fmt.Sprintf("host%d-%d.zone%d.example", epoch, i, i%1000) }
	_, err := tx.CopyFrom(ctx, pgx.Identifier{fmt.Sprintf("certificates_%d", epoch)},
		[]string{"issuer", "epoch", "idx", "serial", "range_id", "profile", "account", "subject", "spki_hash", "not_before", "not_after", "issued_at", "der"},
		pgx.CopyFromSlice(count, func(i int) ([]any, error) {
			var spki [32]byte
			binary.BigEndian.PutUint64(spki[:], uint64(epoch)<<32|uint64(i))
			return []any{f.issuer[:], int32(epoch), from + int64(i), serials[i][:], int64(0), []string{"server", "client", "email"}[i%3], fmt.Sprintf("account%d", i%100),
				"CN=" + name(i), spki[:], now, ends.Add(time.Duration(i%604800) * time.Second), now.Add(-time.Duration(i) * time.Second), model.DER}, nil
		}))
	if err != nil {
		return err
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{fmt.Sprintf("certificate_names_%d", epoch)}, []string{"epoch", "reversed", "kind", "issuer", "idx"},
		pgx.CopyFromSlice(count, func(i int) ([]any, error) {
			return []any{int32(epoch), inventory.ReversedName(name(i)), int16(pki.DNS), f.issuer[:], from + int64(i)}, nil
		})); err != nil || every == 0 {
		return err
	}
	revoked := count / every
	var last int64
	if err := tx.QueryRow(ctx, "UPDATE ledger_head SET seq = seq + $1 RETURNING seq", revoked).Scan(&last); err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"ledger"}, []string{"seq", "issuer", "epoch", "idx", "serial", "kind", "reason", "revoked_at", "recorded_at", "actor"},
		pgx.CopyFromSlice(revoked, func(i int) ([]any, error) {
			return []any{last - int64(revoked) + int64(i) + 1, f.issuer[:], int32(epoch), from + int64(i*every), serials[i*every][:], int16(1), int16(4), now, now, "bench"}, nil
		}))
	return err
}
