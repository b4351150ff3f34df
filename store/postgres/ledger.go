package postgres

import (
	"context"
	"iter"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

const ledgerColumns = `seq, issuer, epoch, idx, serial, kind, reason, revoked_at, invalidity_at, recorded_at, job, actor`

// LedgerHead implements revocation.Log.
func (s *Store) LedgerHead(ctx context.Context) (uint64, error) {
	var seq int64
	err := s.pool.QueryRow(ctx, `SELECT seq FROM ledger_head`).Scan(&seq)
	return uint64(seq), translate("read ledger head", err)
}

// LedgerEntries implements revocation.Log.
func (s *Store) LedgerEntries(ctx context.Context, after uint64, limit int) ([]revocation.Entry, error) {
	const op = "read ledger"
	rows, err := s.pool.Query(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE seq > $1 ORDER BY seq LIMIT $2`, int64(after), limit)
	if err != nil {
		return nil, translate(op, err)
	}
	entries, err := pgx.CollectRows(rows, scanEntry)
	return entries, translate(op, err)
}

// LedgerScope implements revocation.Log.
func (s *Store) LedgerScope(ctx context.Context, scope revocation.Scope, after, upTo uint64) iter.Seq2[revocation.Entry, error] {
	if !scope.Sharded {
		return s.entries(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE issuer = $1 AND seq > $2 AND seq <= $3 ORDER BY seq`,
			scope.Issuer[:], int64(after), clamp(upTo))
	}
	from := int64(scope.Shard.Block) * pki.BlockSize
	return s.entries(ctx, `SELECT `+ledgerColumns+` FROM ledger
		WHERE issuer = $1 AND epoch = $2 AND idx >= $3 AND idx < $4 AND seq > $5 AND seq <= $6 ORDER BY seq`,
		scope.Issuer[:], int32(scope.Shard.Epoch), from, from+pki.BlockSize, int64(after), clamp(upTo))
}

// LedgerLoad implements revocation.Log.
func (s *Store) LedgerLoad(ctx context.Context, from pki.Epoch, upTo uint64) iter.Seq2[revocation.Entry, error] {
	return s.entries(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE (epoch IS NULL OR epoch >= $1) AND seq <= $2 ORDER BY seq`,
		int32(from), clamp(upTo))
}

// LedgerHistory implements revocation.Log.
func (s *Store) LedgerHistory(ctx context.Context, claim revocation.Claim) ([]revocation.Entry, error) {
	const op = "read history"
	rows, err := s.pool.Query(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE epoch IS NULL AND issuer = $1 AND serial = $2
		UNION ALL SELECT `+ledgerColumns+` FROM ledger WHERE $3 AND issuer = $1 AND epoch = $4 AND idx = $5 AND serial = $2
		ORDER BY seq`,
		claim.Issuer[:], claim.Serial[:], claim.Dense, int32(claim.Position.Epoch), int64(claim.Position.Index))
	if err != nil {
		return nil, translate(op, err)
	}
	entries, err := pgx.CollectRows(rows, scanEntry)
	return entries, translate(op, err)
}

// ListenLedger implements revocation.Log.
func (s *Store) ListenLedger(ctx context.Context, wake func(ranges bool)) error {
	first := true
	return s.listen(ctx, "listen to ledger", `LISTEN signet_ledger; LISTEN signet_ranges`, func(channel string) {
		wake(first || channel == "signet_ranges")
		first = false
	})
}

// listen calls wake once it listens, with no channel, and then with the channel of each notification. It has a
// connection of its own: one of the pool would be lost to it.
func (s *Store) listen(ctx context.Context, op, statement string, wake func(channel string)) error {
	config := s.pool.Config().ConnConfig.Copy()
	config.RuntimeParams["application_name"] = "signet listener"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return translate(op, err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // nothing was written on it
	}()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return translate(op, err)
	}
	wake("")
	for {
		notification, err := conn.WaitForNotification(ctx)
		if err != nil {
			return translate(op, err)
		}
		wake(notification.Channel)
	}
}

// AppendLedger implements revocation.Books. One call, one transaction: a client stopped at any point holds no lock.
func (s *Store) AppendLedger(ctx context.Context, entries []revocation.NewEntry, events []audit.Event) (uint64, error) {
	n := len(entries)
	issuer, serial, job := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	epoch, idx := make([]*int32, n), make([]*int64, n)
	kind, reason := make([]int16, n), make([]int16, n)
	revokedAt, invalidityAt := make([]time.Time, n), make([]*time.Time, n)
	actor, expected := make([]string, n), make([]int64, n)
	for i := range entries {
		e := &entries[i]
		if e.Kind != revocation.KindRestore {
			issuer[i], serial[i] = e.Issuer[:], e.Serial[:]
		}
		if !e.Foreign && e.Kind != revocation.KindRestore {
			epoch[i], idx[i] = new(int32(e.Position.Epoch)), new(int64(e.Position.Index))
		}
		if e.Job != (revocation.JobID{}) {
			job[i] = e.Job[:]
		}
		kind[i], reason[i] = int16(e.Kind), int16(e.Reason)
		revokedAt[i], invalidityAt[i] = e.RevokedAt, nullTime(e.InvalidityAt)
		actor[i], expected[i] = e.Actor, int64(e.Expected)
	}
	var last int64
	err := s.pool.QueryRow(ctx, `SELECT signet_ledger_write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		issuer, epoch, idx, serial, kind, reason, revokedAt, invalidityAt, job, actor, expected, auditParam(events)).Scan(&last)
	return uint64(last), translate("append to ledger", err)
}

// entries streams the rows of a query.
func (s *Store) entries(ctx context.Context, query string, args ...any) iter.Seq2[revocation.Entry, error] {
	const op = "read ledger"
	return func(yield func(revocation.Entry, error) bool) {
		rows, err := s.pool.Query(ctx, query, args...)
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
	seq, idx                            *int64
	issuer, serial, job                 []byte
	epoch                               *int32
	kind, reason                        *int16
	revokedAt, invalidityAt, recordedAt *time.Time
	actor                               *string
}

func (r *entryRow) fields() []any {
	return []any{&r.seq, &r.issuer, &r.epoch, &r.idx, &r.serial, &r.kind, &r.reason, &r.revokedAt, &r.invalidityAt, &r.recordedAt, &r.job, &r.actor}
}

// entry converts a row that is there: seq is not null, and so is what the table says cannot be.
func (r *entryRow) entry() revocation.Entry {
	e := revocation.Entry{
		Seq: uint64(*r.seq), Kind: revocation.Kind(*r.kind), Reason: pki.Reason(*r.reason),
		RevokedAt: r.revokedAt.UTC(), RecordedAt: r.recordedAt.UTC(), Actor: *r.actor,
	}
	copy(e.Issuer[:], r.issuer)
	copy(e.Serial[:], r.serial)
	copy(e.Job[:], r.job)
	if r.epoch != nil && r.idx != nil {
		e.Position = pki.Position{Epoch: pki.Epoch(*r.epoch), Index: uint64(*r.idx)}
	} else {
		e.Foreign = e.Kind != revocation.KindRestore
	}
	if r.invalidityAt != nil {
		e.InvalidityAt = r.invalidityAt.UTC()
	}
	return e
}

func scanEntry(row pgx.CollectableRow) (revocation.Entry, error) {
	var r entryRow
	if err := row.Scan(r.fields()...); err != nil {
		return revocation.Entry{}, err
	}
	return r.entry(), nil
}

// clamp keeps "everything" (MaxUint64) within PostgreSQL's integers.
func clamp(seq uint64) int64 { return int64(min(seq, math.MaxInt64)) }

// CertificateFacts implements revocation.Books.
func (s *Store) CertificateFacts(ctx context.Context, claims []revocation.Claim) ([]revocation.Facts, error) {
	const op = "read certificates"
	n := len(claims)
	issuer, serial, epoch, idx := make([][]byte, n), make([][]byte, n), make([]*int32, n), make([]*int64, n)
	for i := range claims {
		c := &claims[i]
		issuer[i], serial[i] = c.Issuer[:], c.Serial[:]
		if c.Dense {
			epoch[i], idx[i] = new(int32(c.Position.Epoch)), new(int64(c.Position.Index))
		}
	}
	rows, err := s.pool.Query(ctx, `SELECT c.not_after, c.profile, c.account,
			l.seq, l.issuer, l.epoch, l.idx, l.serial, l.kind, l.reason, l.revoked_at, l.invalidity_at, l.recorded_at, l.job, l.actor
		FROM unnest($1::bytea[], $2::bytea[], $3::integer[], $4::bigint[]) WITH ORDINALITY AS k (issuer, serial, epoch, idx, n)
		LEFT JOIN LATERAL (SELECT not_after, profile, account FROM certificates c
			WHERE c.issuer = k.issuer AND c.epoch = k.epoch AND c.idx = k.idx AND c.serial = k.serial) c ON true
		LEFT JOIN LATERAL (SELECT * FROM (
			(SELECT * FROM ledger d WHERE d.epoch = k.epoch AND d.issuer = k.issuer AND d.idx = k.idx AND d.serial = k.serial ORDER BY d.seq DESC LIMIT 1)
			UNION ALL
			(SELECT * FROM ledger f WHERE f.epoch IS NULL AND f.issuer = k.issuer AND f.serial = k.serial ORDER BY f.seq DESC LIMIT 1)) u
			ORDER BY u.seq DESC LIMIT 1) l ON true
		ORDER BY k.n`, issuer, serial, epoch, idx)
	if err != nil {
		return nil, translate(op, err)
	}
	facts, err := pgx.CollectRows(rows, scanFacts)
	return facts, translate(op, err)
}

func scanFacts(row pgx.CollectableRow) (revocation.Facts, error) {
	var f revocation.Facts
	var notAfter *time.Time
	var profile, account *string
	var e entryRow
	err := row.Scan(append([]any{&notAfter, &profile, &account}, e.fields()...)...)
	if err != nil {
		return f, err
	}
	if notAfter != nil {
		f.Recorded, f.NotAfter, f.Profile, f.Account = true, notAfter.UTC(), *profile, *account
	}
	if e.seq != nil {
		f.Last = e.entry()
	}
	return f, nil
}
