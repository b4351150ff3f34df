package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
)

// past describes the certificates issued and revoked before a benchmark begins. They are put directly into the database
// of a site while its server is stopped, because nothing signs a million certificates within a benchmark.
type past struct {
	issuer  pki.IssuerID
	key     pki.KeyHash
	model   []byte // octets that every certificate carries
	first   pki.Epoch
	weeks   int          // over which everything is spread
	fresh   int          // certificates of a week that are recorded and not revoked
	revoked int          // of a week that revoke revokes, a million in all: among the fresh ones everywhere, so in every shard
	from    []int64      // first index of each week
	serials []pki.Serial // issued and not revoked, week by week, as many in each
	db      func() (*sql.DB, error)
	sqlite  bool
}

func newPast(s *site, key pki.KeyHash, model []byte, weeks, fresh int) (*past, error) {
	first, err := pki.EpochAt(time.Now().AddDate(0, 0, 28).Unix())
	if err != nil {
		return nil, err
	}
	p := &past{issuer: key.Issuer(), key: key, model: model, first: first, weeks: weeks, fresh: fresh / weeks, revoked: million / weeks}
	if name, ok := strings.CutPrefix(s.database, "sqlite:"); ok {
		p.sqlite = true
		p.db = func() (*sql.DB, error) {
			return sql.Open("sqlite", "file:"+filepath.Join(s.dir, name)+"?_pragma=busy_timeout(10000)&_pragma=synchronous(OFF)&_pragma=cache_size(-262144)")
		}
		return p, nil
	}
	p.db = func() (*sql.DB, error) { return sql.Open("pgx", s.database) }
	return p, nil
}

// at returns a time in the form of the database.
func (p *past) at(t time.Time) any {
	if p.sqlite {
		return t.UnixMicro()
	}
	return t
}

// reserve adds count indices to a week, as closed ranges, and returns the first, and the key.
func (p *past) reserve(ctx context.Context, conn *sql.Conn, epoch pki.Epoch, count int) (from int64, key pki.RangeKey, err error) {
	const block = pki.BlockSize
	if !p.sqlite {
		if _, err := conn.ExecContext(ctx, "SELECT signet_epoch_partition($1)", int32(epoch)); err != nil {
			return 0, key, err
		}
	}
	err = conn.QueryRowContext(ctx, `INSERT INTO epochs (issuer, epoch, next_idx) VALUES ($1, $2, $3) ON CONFLICT (issuer, epoch) DO UPDATE SET next_idx = epochs.next_idx + $3
		RETURNING next_idx - $3`, p.issuer[:], int64(epoch), count).Scan(&from)
	key = pki.RangeKey(sha256.Sum256(fmt.Appendf(nil, "bench %d", epoch)))
	for at := from; err == nil && at < from+int64(count); {
		to := min(from+int64(count), (at/block+1)*block) // a range does not cross a block
		_, err = conn.ExecContext(ctx, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, range_key, changed_at)
			VALUES ($1, $2, $3, $4, 2, 0, $5, $5, 'http://127.0.0.1', $6, $7, $6)`,
			p.issuer[:], int64(epoch), at, to, make([]byte, 16), p.at(time.Now().Add(-time.Hour)), key[:]) // an hour ago: a job sweeps ranges that were open just before it
		at = to
	}
	return from, key, err
}

// inWeeks runs do in a transaction for each week, then has PostgreSQL analyze the tables and write a checkpoint.
func (p *past) inWeeks(ctx context.Context, do func(conn *sql.Conn, epoch pki.Epoch) error) error {
	db, err := p.db()
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for e := range p.weeks {
		if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
			return err
		}
		if err := do(conn, p.first+pki.Epoch(e)); err != nil {
			return err // with the connection goes the transaction
		}
		if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
			return err
		}
	}
	if p.sqlite { // no server analyzes the file
		return nil
	}
	if _, err = conn.ExecContext(ctx, "ANALYZE"); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "CHECKPOINT") // so that loaded data is not written during a measurement
	return err
}

// shards returns the number of shards over which a week is spread.
func (p *past) shards() int { return (p.fresh + p.revoked + pki.BlockSize - 1) / pki.BlockSize }

// index returns the index, within its week, of the i-th fresh certificate.
func (p *past) index(i int) int64 {
	return int64(((i+1)*(p.fresh+p.revoked)+p.fresh-1)/p.fresh - 1)
}

// last returns the last fresh certificate of a shard.
func (p *past) last(week, shard int) pki.Serial {
	all := p.fresh + p.revoked
	return p.serials[week*p.fresh+min(all, (shard+1)*pki.BlockSize)*p.fresh/all-1]
}

// issue records certificates of the profile "server", without names, and leaves indices for revoke.
func (p *past) issue(ctx context.Context) error {
	return p.inWeeks(ctx, func(conn *sql.Conn, epoch pki.Epoch) error {
		from, key, err := p.reserve(ctx, conn, epoch, p.fresh+p.revoked)
		if err != nil {
			return err
		}
		p.from = append(p.from, from)
		now, ends := time.Now().UTC().Truncate(time.Second), time.Unix(epoch.Start(), 0).UTC()
		row := func(i int) []any {
			index := from + p.index(i)
			serial := pki.NewSerial(key, p.key, pki.Position{Epoch: epoch, Index: uint64(index)})
			p.serials = append(p.serials, serial)
			var spki [32]byte
			binary.BigEndian.PutUint64(spki[:], uint64(epoch)<<32|uint64(i))
			return []any{p.issuer[:], int64(epoch), index, serial[:], int64(0), "server", fmt.Sprintf("account%d", i%100), "CN=bench", spki[:],
				p.at(now), p.at(ends.Add(time.Duration(i%604800) * time.Second)), p.at(now), p.model}
		}
		columns := []string{"issuer", "epoch", "idx", "serial", "range_id", "profile", "account", "subject", "spki_hash", "not_before", "not_after", "issued_at", "der"}
		if !p.sqlite {
			return conn.Raw(func(driver any) error {
				_, err := driver.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{fmt.Sprintf("certificates_%d", epoch)}, columns,
					pgx.CopyFromSlice(p.fresh, func(i int) ([]any, error) { return row(i), nil }))
				return err
			})
		}
		insert, err := conn.PrepareContext(ctx, `INSERT INTO certificates (`+strings.Join(columns, ", ")+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for i := range p.fresh {
			if _, err := insert.ExecContext(ctx, row(i)...); err != nil {
				return err
			}
		}
		return nil
	})
}

// revoke puts a million revocations on the ledger, the same number in each week, of certificates that no measurement uses.
func (p *past) revoke(ctx context.Context) error {
	return p.inWeeks(ctx, func(conn *sql.Conn, epoch pki.Epoch) error {
		var last int64
		if err := conn.QueryRowContext(ctx, "UPDATE ledger_head SET seq = seq + $1 RETURNING seq", p.revoked).Scan(&last); err != nil {
			return err
		}
		numbers := `FROM generate_series(0::bigint, $1::bigint - 1) AS n (i)`
		serial := `'\x41'::bytea || substr(sha256(convert_to($7::text || i, 'UTF8')), 1, 19)`
		if p.sqlite {
			numbers = `FROM (WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < $1 - 1) SELECT i FROM n)`
			serial = `CAST(x'41' || substr($7, 1, 0) || randomblob(19) AS BLOB)`
		}
		// Every index that index does not give.
		_, err := conn.ExecContext(ctx, `INSERT INTO ledger (seq, issuer, epoch, idx, serial, kind, reason, revoked_at, recorded_at, actor)
			SELECT $2 + i - i * $8 / $1, $3, $4, $5 + i, `+serial+`, 1, 4, $6, $6, 'bench' `+numbers+` WHERE i * $8 / $1 = (i + 1) * $8 / $1`,
			int64(p.fresh+p.revoked), last-int64(p.revoked)+1, p.issuer[:], int64(epoch), p.from[epoch-p.first], p.at(time.Now().UTC().Truncate(time.Second)),
			fmt.Sprintf("%d/", epoch), int64(p.fresh))
		return err
	})
}

// fillMillion revokes a million certificates while the site is stopped.
func (w *revoking) fillMillion(ctx context.Context, b *bench) error {
	if err := w.halt(); err != nil {
		return err
	}
	began := time.Now()
	if err := w.past.revoke(ctx); err != nil {
		return err
	}
	fmt.Printf("%s: put a million revocations on the ledger in %s\n", filepath.Base(w.dir), time.Since(began).Round(time.Second))
	began = time.Now()
	if err := w.start(ctx, b.signet); err != nil {
		return err
	}
	fmt.Printf("%s: started over them in %s, %.0f MB\n", filepath.Base(w.dir), time.Since(began).Round(time.Millisecond), rssOf(w.pid()))
	return nil
}

// shareKey gives a thousand certificates the same key, the k-th thousand from the end of the first week, which are set
// apart, and returns its SubjectPublicKeyInfo.
func (w *revoking) shareKey(ctx context.Context, k, count int) ([]byte, error) {
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	hash := pki.HashSPKI(spki)
	db, err := w.db()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	top := w.fresh - 1 - k*count
	_, err = db.ExecContext(ctx, `UPDATE certificates SET spki_hash = $1 WHERE issuer = $2 AND epoch = $3 AND idx > $4 AND idx <= $5`,
		hash[:], w.past.issuer[:], int64(w.first), w.from[0]+w.index(top-count), w.from[0]+w.index(top))
	return spki, err
}
