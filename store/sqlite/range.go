package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// The states of a range, as revocation.RangeState numbers them.
const (
	rangeOpen   = int64(revocation.RangeOpen)
	rangeClosed = int64(revocation.RangeClosed)
	rangeFree   = int64(revocation.RangeFree)
	rangeLost   = int64(revocation.RangeLost)
)

// Reserve implements ca.RangeStore.
func (s *Store) Reserve(ctx context.Context, r ca.Reservation) (ca.Range, error) {
	const op = "reserve range"
	reserved := ca.Range{Issuer: r.Issuer, Epoch: r.Epoch, Nonce: r.Nonce, Owner: r.Owner}
	err := s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		if err := tx.QueryRowContext(ctx, `SELECT base_url FROM issuers WHERE id = ?`, r.Issuer[:]).Scan(&reserved.BaseURL); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		at, err := rangeTime(ctx, tx, now)
		if err != nil {
			return err
		}
		free, err := takeFree(ctx, tx, at, r, reserved.BaseURL)
		if err != nil {
			return err
		}
		if free == nil {
			if free, err = takeNext(ctx, tx, at, r, reserved.BaseURL); err != nil {
				return err
			}
		}
		reserved.From, reserved.To, reserved.KeyFrom = free.From, free.To, free.From
		return tx.QueryRowContext(ctx, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
			VALUES (?1, ?2, ?3, ?4, ?5, ?3, ?6, ?7, ?8, ?9, ?10) RETURNING id`,
			r.Issuer[:], int64(r.Epoch), int64(free.From), int64(free.To), rangeOpen, r.Nonce[:], r.Owner[:], reserved.BaseURL,
			now.Add(r.Lease).UnixMicro(), at).Scan(&reserved.ID)
	})
	if err != nil {
		return ca.Range{}, err
	}
	s.wakeRanges()
	return reserved, nil
}

// rangeTime returns the time for a change of ranges: now, but always later than every earlier change. Readers ask for
// changes after the last one that they saw, so the time must not go back when the clock is set back. It is read before
// a row is deleted, which may be the last one changed.
func rangeTime(ctx context.Context, tx *sql.Tx, now time.Time) (at int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT max(?, 1 + `+rangesChanged+`)`, now.UnixMicro()).Scan(&at)
	return at, err
}

// rangesChanged is the time of the last change of a range.
const rangesChanged = `(SELECT coalesce(max(changed_at), 0) FROM ranges)`

// takeFree takes indices that were given back; nil if there are none.
func takeFree(ctx context.Context, tx *sql.Tx, at int64, r ca.Reservation, baseURL string) (*ca.Run, error) {
	var id, from, to int64
	err := tx.QueryRowContext(ctx, `SELECT id, from_idx, to_idx FROM ranges WHERE issuer = ? AND epoch = ? AND state = ? AND base_url = ? ORDER BY from_idx LIMIT 1`,
		r.Issuer[:], int64(r.Epoch), rangeFree, baseURL).Scan(&id, &from, &to)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	end := min(to, from+int64(r.Count))
	if end == to {
		_, err = tx.ExecContext(ctx, `DELETE FROM ranges WHERE id = ?`, id)
	} else {
		_, err = tx.ExecContext(ctx, `UPDATE ranges SET from_idx = ?, changed_at = ? WHERE id = ?`, end, at, id)
	}
	return &ca.Run{From: uint64(from), To: uint64(end)}, err
}

// takeNext takes the next indices of the epoch, within one block. A block is one shard, whose list names one base URL.
// If another base URL is in use, a new block begins and the rest of the old one is lost, so that no certificate has a
// URL that its list does not yet name.
func takeNext(ctx context.Context, tx *sql.Tx, at int64, r ca.Reservation, baseURL string) (*ca.Run, error) {
	if err := beginEpoch(ctx, tx, at, r); err != nil {
		return nil, err
	}
	var next uint64
	if err := tx.QueryRowContext(ctx, `SELECT next_idx FROM epochs WHERE issuer = ? AND epoch = ?`, r.Issuer[:], int64(r.Epoch)).Scan(&next); err != nil {
		return nil, err
	}
	block := next / pki.BlockSize * pki.BlockSize
	lost, err := affected(tx.ExecContext(ctx, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
		SELECT ?1, ?2, ?3, ?4, ?5, ?3, ?6, ?7, '', ?8, ?8
		WHERE ?10 <> (SELECT base_url FROM ranges WHERE issuer = ?1 AND epoch = ?2 AND from_idx >= ?9 AND state <> ?5 ORDER BY from_idx DESC LIMIT 1)`,
		r.Issuer[:], int64(r.Epoch), int64(next), int64(block+pki.BlockSize), rangeLost, r.Nonce[:], r.Owner[:], at, int64(block), baseURL))
	if err != nil {
		return nil, err
	}
	if lost > 0 {
		block += pki.BlockSize
		next = block
	}
	end := min(next+r.Count, block+pki.BlockSize)
	if end > pki.MaxIndex+1 {
		return nil, pki.Errorf(pki.KindExhausted, "reserve range", "all indices of epoch %s are used", r.Epoch)
	}
	_, err = tx.ExecContext(ctx, `UPDATE epochs SET next_idx = ? WHERE issuer = ? AND epoch = ?`, int64(end), r.Issuer[:], int64(r.Epoch))
	return &ca.Run{From: next, To: end}, err
}

// beginEpoch creates the counter of an epoch if there is none. After a restore, the indices that a lost copy of this
// database issued in this week are lost.
func beginEpoch(ctx context.Context, tx *sql.Tx, at int64, r ca.Reservation) error {
	result, err := tx.ExecContext(ctx, `INSERT INTO epochs (issuer, epoch, next_idx) SELECT ?, ?, count * ? FROM restores WHERE true ON CONFLICT DO NOTHING`,
		r.Issuer[:], int64(r.Epoch), store.LostIndices)
	if err != nil {
		return err
	}
	if made, err := result.RowsAffected(); err != nil || made == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
		SELECT ?1, ?2, 0, count * ?3, 4, 0, ?4, ?5, '', ?6, ?6 FROM restores WHERE count > 0`,
		r.Issuer[:], int64(r.Epoch), store.LostIndices, r.Nonce[:], r.Owner[:], at)
	return err
}

// RenewLeases implements ca.RangeStore.
func (s *Store) RenewLeases(ctx context.Context, owner ca.OwnerID, lease time.Duration) (n int, err error) {
	err = s.inTx(ctx, "renew leases", func(tx *sql.Tx, now time.Time) error {
		result, err := tx.ExecContext(ctx, `UPDATE ranges SET lease_until = ? WHERE state = ? AND owner = ?`, now.Add(lease).UnixMicro(), rangeOpen, owner[:])
		if err != nil {
			return err
		}
		renewed, err := result.RowsAffected()
		n = int(renewed)
		return err
	})
	return n, err
}

// CloseRange implements ca.RangeStore.
func (s *Store) CloseRange(ctx context.Context, c ca.Closing) (voids int, err error) {
	const op = "close range"
	closed := false
	err = s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		r, lease, err := openRange(ctx, tx, c.Range)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.Owner != c.Closer && (lease > now.UnixMicro() || len(c.Unsigned) > 0) {
			return pki.Errorf(pki.KindFailedPrecondition, op, "the range is still in use by its owner").InField("range")
		}
		closed = true
		void, err := voidEntries(ctx, tx, now, r, c)
		if err != nil {
			return err
		}
		if err := cutRange(ctx, tx, now, r, c); err != nil {
			return err
		}
		if voids = len(void); voids == 0 {
			return nil
		}
		if _, err := appendLedger(ctx, tx, now, void); err != nil {
			return err
		}
		return appendAudit(ctx, tx, []audit.Event{c.Event})
	})
	if err != nil {
		return 0, err
	}
	if closed {
		s.wakeRanges()
	}
	return voids, nil
}

func openRange(ctx context.Context, tx *sql.Tx, id ca.RangeID) (r ca.Range, lease int64, err error) {
	row := tx.QueryRowContext(ctx, `SELECT id, issuer, epoch, from_idx, to_idx, key_from, nonce, owner, base_url, lease_until FROM ranges WHERE id = ? AND state = ?`, int64(id), rangeOpen)
	r, err = scanCARange(row.Scan, &lease)
	return r, lease, err
}

// voidEntries returns an entry for every index that is not unsigned, not recorded and not in the ledger.
func voidEntries(ctx context.Context, tx *sql.Tx, now time.Time, r ca.Range, c ca.Closing) ([]revocation.NewEntry, error) {
	// Usually all are recorded, and counting is much less work than examining each.
	if len(c.Unsigned) == 0 {
		var recorded uint64
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM certificates WHERE issuer = ? AND epoch = ? AND idx >= ? AND idx < ?`,
			r.Issuer[:], int64(r.Epoch), int64(r.From), int64(r.To)).Scan(&recorded); err != nil || recorded == r.To-r.From {
			return nil, err
		}
	}
	recorded, err := indices(ctx, tx, `SELECT idx FROM certificates WHERE issuer = ? AND epoch = ? AND idx >= ? AND idx < ?`, r)
	if err != nil {
		return nil, err
	}
	known, err := indices(ctx, tx, `SELECT idx FROM ledger WHERE issuer = ? AND epoch = ? AND idx >= ? AND idx < ?`, r)
	if err != nil {
		return nil, err
	}
	var void []revocation.NewEntry
	for index := r.From; index < r.To; index++ {
		unsigned := slices.ContainsFunc(c.Unsigned, func(run ca.Run) bool { return index >= run.From && index < run.To })
		if unsigned && recorded[index] {
			return nil, fmt.Errorf("index %d is said to be unsigned and is recorded", index)
		}
		if unsigned || recorded[index] || known[index] {
			continue
		}
		void = append(void, revocation.NewEntry{Entry: revocation.Entry{
			Issuer: r.Issuer, Serial: c.Serials[index-r.From], Position: pki.Position{Epoch: r.Epoch, Index: index},
			Kind: revocation.KindVoid, RevokedAt: now, Actor: c.Event.Actor,
		}})
	}
	return void, nil
}

func indices(ctx context.Context, tx *sql.Tx, query string, r ca.Range) (map[uint64]bool, error) {
	rows, err := tx.QueryContext(ctx, query, r.Issuer[:], int64(r.Epoch), int64(r.From), int64(r.To))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[uint64]bool)
	for rows.Next() {
		var index uint64
		if err := rows.Scan(&index); err != nil {
			return nil, err
		}
		found[index] = true
	}
	return found, rows.Err()
}

// cutRange closes the used part of a range and frees the part that was never signed.
func cutRange(ctx context.Context, tx *sql.Tx, now time.Time, r ca.Range, c ca.Closing) error {
	at, err := rangeTime(ctx, tx, now)
	if err != nil {
		return err
	}
	if len(c.Unsigned) == 0 {
		_, err := tx.ExecContext(ctx, `UPDATE ranges SET state = ?, range_key = ?, changed_at = ? WHERE id = ?`, rangeClosed, c.Key[:], at, int64(r.ID))
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM ranges WHERE id = ?`, int64(r.ID)); err != nil {
		return err
	}
	insert := func(from, to uint64, state int64, key []byte) error {
		if from == to {
			return nil
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, range_key, changed_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, r.Issuer[:], int64(r.Epoch), int64(from), int64(to), state, int64(r.KeyFrom), r.Nonce[:], r.Owner[:],
			r.BaseURL, at, key, at)
		return err
	}
	cursor := r.From
	for _, run := range append(slices.Clone(c.Unsigned), ca.Run{From: r.To, To: r.To}) {
		if err := insert(cursor, run.From, rangeClosed, c.Key[:]); err != nil {
			return err
		}
		if err := insert(run.From, run.To, rangeFree, nil); err != nil {
			return err
		}
		cursor = run.To
	}
	return nil
}

const openRanges = `SELECT id, issuer, epoch, from_idx, to_idx, key_from, nonce, owner, base_url FROM ranges WHERE state = ? AND `

// OpenRanges implements ca.RangeStore.
func (s *Store) OpenRanges(ctx context.Context, owner ca.OwnerID) ([]ca.Range, error) {
	return s.ranges(ctx, "find open ranges", openRanges+`owner = ? ORDER BY id`, rangeOpen, owner[:])
}

// ExpiredRanges implements ca.RangeStore.
func (s *Store) ExpiredRanges(ctx context.Context, after ca.RangeID, limit int) ([]ca.Range, error) {
	return s.ranges(ctx, "find expired ranges", openRanges+`lease_until <= ? AND id > ? ORDER BY id LIMIT ?`, rangeOpen, s.now().UnixMicro(), int64(after), limit)
}

func (s *Store) ranges(ctx context.Context, op, query string, args ...any) ([]ca.Range, error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var all []ca.Range
	for rows.Next() {
		r, err := scanCARange(rows.Scan)
		if err != nil {
			return nil, translate(op, err)
		}
		all = append(all, r)
	}
	return all, translate(op, rows.Err())
}

func scanCARange(scan func(...any) error, more ...any) (ca.Range, error) {
	var r ca.Range
	var issuer, nonce, owner []byte
	if err := scan(append([]any{&r.ID, &issuer, &r.Epoch, &r.From, &r.To, &r.KeyFrom, &nonce, &owner, &r.BaseURL}, more...)...); err != nil {
		return r, err
	}
	copy(r.Issuer[:], issuer)
	copy(r.Nonce[:], nonce)
	copy(r.Owner[:], owner)
	return r, nil
}
