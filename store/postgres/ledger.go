package postgres

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

const ledgerColumns = `seq, issuer, epoch, idx, serial, kind, reason, revoked_at, invalidity_at, recorded_at, job, actor`

// LedgerHead implements revocation.LedgerReader.
func (s *Store) LedgerHead(ctx context.Context) (uint64, error) {
	var seq int64
	err := s.pool.QueryRow(ctx, `SELECT seq FROM ledger_head`).Scan(&seq)
	return uint64(seq), translate("read ledger head", err)
}

const ledgerEntriesAfter = `SELECT ` + ledgerColumns + ` FROM ledger WHERE seq > $1 ORDER BY seq LIMIT $2`

// LedgerEntries implements revocation.LedgerReader.
func (s *Store) LedgerEntries(ctx context.Context, after uint64, limit int) ([]revocation.Entry, error) {
	const op = "read ledger"
	rows, err := s.pool.Query(ctx, ledgerEntriesAfter, int64(after), limit)
	if err != nil {
		return nil, translate(op, err)
	}
	entries, err := collectEntries(rows)
	return entries, translate(op, err)
}

// LedgerScope implements revocation.LedgerReader.
func (s *Store) LedgerScope(ctx context.Context, scope revocation.Scope, after, upTo uint64) iter.Seq2[revocation.Entry, error] {
	if scope.Sharded {
		return s.shard(ctx, scope, after, upTo)
	}
	return s.inOrder(ctx, func(last revocation.Entry) (string, []any) {
		return `SELECT ` + ledgerColumns + ` FROM ledger WHERE seq > $1 AND seq <= $2 AND issuer = $3 ORDER BY seq LIMIT $4`,
			[]any{int64(max(after, last.Seq)), clamp(upTo), scope.Issuer[:], pageSize}
	})
}

// shard yields the entries of a shard with after < Seq <= upTo in order. It finds them by position and sorts them.
func (s *Store) shard(ctx context.Context, scope revocation.Scope, after, upTo uint64) iter.Seq2[revocation.Entry, error] {
	from := int64(scope.Shard.Block) * pki.BlockSize
	return paged(func(last revocation.Entry) ([]revocation.Entry, error) {
		rows, err := s.pool.Query(ctx, `SELECT `+ledgerColumns+` FROM ledger WHERE issuer = $1 AND epoch = $2 AND idx >= $3 AND idx < $4 AND seq > $5 AND seq <= $6 ORDER BY seq LIMIT $7`,
			scope.Issuer[:], int32(scope.Shard.Epoch), from, from+pki.BlockSize, int64(max(after, last.Seq)), clamp(upTo), pageSize)
		if err != nil {
			return nil, err
		}
		return collectEntries(rows)
	})
}

// LedgerLoad implements revocation.LedgerReader. It reads epoch by epoch, so passed epochs are not read at all.
func (s *Store) LedgerLoad(ctx context.Context, from pki.Epoch, upTo uint64) iter.Seq2[revocation.Entry, error] {
	return func(yield func(revocation.Entry, error) bool) {
		for e, err := range s.foreign(ctx, upTo) {
			if !yield(e, err) || err != nil {
				return
			}
		}
		for epoch := int32(from) - 1; ; {
			var next *int32
			if err := s.pool.QueryRow(ctx, `SELECT min(epoch) FROM ledger WHERE epoch > $1`, epoch).Scan(&next); err != nil {
				yield(revocation.Entry{}, translate("read ledger", err))
				return
			}
			if next == nil {
				return
			}
			epoch = *next
			for e, err := range s.week(ctx, epoch, upTo) {
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

// foreign yields the entries about imported and forged serials with Seq <= upTo, serial by serial.
func (s *Store) foreign(ctx context.Context, upTo uint64) iter.Seq2[revocation.Entry, error] {
	return s.inOrder(ctx, func(last revocation.Entry) (string, []any) {
		return `SELECT ` + ledgerColumns + ` FROM ledger WHERE epoch IS NULL AND (issuer, serial, seq) > ($1, $2, $3) AND seq <= $4
				ORDER BY issuer, serial, seq LIMIT $5`, []any{last.Issuer[:], last.Serial[:], int64(last.Seq), clamp(upTo), pageSize}
	})
}

// week yields the entries of one epoch with Seq <= upTo, certificate by certificate.
func (s *Store) week(ctx context.Context, epoch int32, upTo uint64) iter.Seq2[revocation.Entry, error] {
	return s.inOrder(ctx, func(last revocation.Entry) (string, []any) {
		return `SELECT ` + ledgerColumns + ` FROM ledger WHERE epoch = $1 AND (epoch, issuer, idx, seq) > ($1, $2, $3, $4) AND seq <= $5
				ORDER BY epoch, issuer, idx, seq LIMIT $6`, []any{epoch, last.Issuer[:], int64(last.Position.Index), int64(last.Seq), clamp(upTo), pageSize}
	})
}

// ListenLedger implements revocation.LedgerReader.
func (s *Store) ListenLedger(ctx context.Context, wake func(revocation.WakeUp)) error {
	return s.listen(ctx, "listen to ledger", []string{"signet_ledger", "signet_ranges"}, func(channel, payload string) {
		seq, err := strconv.ParseUint(payload, 10, 64)
		if err != nil {
			seq = revocation.UnknownSeq
		}
		wake(revocation.WakeUp{Ranges: channel != "signet_ledger", Seq: seq})
	})
}

// AppendLedger implements revocation.LedgerStore. It is one call and one transaction, so a client stopped at any point
// holds no lock.
func (s *Store) AppendLedger(ctx context.Context, read uint64, entries []revocation.NewEntry, events []audit.Event) (uint64, error) {
	var last int64
	err := s.pool.QueryRow(ctx, `SELECT signet_ledger_write($1, nullif($2::bigint, 0), $3)`, ledgerEntries(entries), int64(read), auditParam(events)).Scan(&last)
	return uint64(last), translate("append to ledger", err)
}

// ledgerEntries are a ledger_entry[] of the migrations.
type ledgerEntries []revocation.NewEntry

func (entries ledgerEntries) appendTo(b []byte, of *typeIDs) []byte {
	b = appendArray(b, of.ledgerEntry, len(entries))
	for i := range entries {
		e, row := &entries[i], 0
		b, row = beginRow(b, 11)
		restore := e.Kind == revocation.KindRestore // it is about no certificate
		b = appendBytesIf(b, !restore, e.Issuer[:])
		if restore || e.Foreign {
			b = appendNull(appendNull(b, pgtype.Int4OID), pgtype.Int8OID)
		} else {
			b = appendInt8(appendInt4(b, int32(e.Position.Epoch)), int64(e.Position.Index))
		}
		b = appendBytesIf(b, !restore, e.Serial[:])
		b = appendTime(appendInt2(appendInt2(b, int16(e.Kind)), int16(e.Reason)), e.RevokedAt)
		if e.InvalidityAt.IsZero() {
			b = appendNull(b, pgtype.TimestamptzOID)
		} else {
			b = appendTime(b, e.InvalidityAt)
		}
		b = appendBytesIf(b, e.Job != (revocation.JobID{}), e.Job[:])
		b = endRow(appendInt8(appendText(b, e.Actor), int64(e.Expected)), row)
	}
	return b
}

// pageSize is how many entries are read at once. A slow consumer holds no connection, and no statement takes long.
const pageSize = 16_000

// paged yields entries page by page. read returns the page after an entry; the zero entry stands before the first page.
func paged(read func(last revocation.Entry) ([]revocation.Entry, error)) iter.Seq2[revocation.Entry, error] {
	return func(yield func(revocation.Entry, error) bool) {
		last := revocation.Entry{}
		for {
			page, err := read(last)
			if err != nil {
				yield(revocation.Entry{}, translate("read ledger", err))
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
			last = page[len(page)-1]
		}
	}
}

// inOrder yields entries in the order of an index. next returns the query of the page after an entry. If the ledger has
// grown since it was last analysed, the planner expects few rows: for each page it would collect and sort everything
// that is left (a second for a million).
func (s *Store) inOrder(ctx context.Context, next func(last revocation.Entry) (query string, args []any)) iter.Seq2[revocation.Entry, error] {
	return paged(func(last revocation.Entry) ([]revocation.Entry, error) {
		tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
		if err != nil {
			return nil, err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // nothing was written
		if _, err := tx.Exec(ctx, `SET LOCAL enable_sort = off`); err != nil {
			return nil, err
		}
		query, args := next(last)
		rows, err := tx.Query(ctx, query, args...)
		if err != nil {
			return nil, err
		}
		return collectEntries(rows)
	})
}

// entryRow is a row of the ledger as scanned. Every field may be null, because of outer joins.
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

// entry converts a row that exists: seq is not null, nor are the columns that the table declares not null.
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

// collectEntries reads rows of ledgerColumns. Every instance reads every entry, so they are decoded in place from
// PostgreSQL's binary format, which takes a tenth of the time of scanning.
func collectEntries(rows pgx.Rows) (entries []revocation.Entry, err error) {
	defer rows.Close()
	binary, actor := false, ""
	for rows.Next() {
		if len(entries) == 0 {
			columns := rows.FieldDescriptions() // text is the same in both formats
			binary = !slices.ContainsFunc(columns[:len(columns)-1], func(f pgconn.FieldDescription) bool { return f.Format != pgx.BinaryFormatCode })
		}
		var e revocation.Entry
		if binary {
			e, err = decodeEntry(rows.RawValues(), actor)
		} else {
			e, err = scanEntry(rows)
		}
		if err != nil {
			return nil, err
		}
		actor = e.Actor
		if len(entries) == cap(entries) {
			entries = slices.Grow(entries, 32+7*len(entries)) // entries are large, and an answer has one row or thousands
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// decodeEntry decodes one row. actor is the actor of the row before, which is often the same.
func decodeEntry(raw [][]byte, actor string) (e revocation.Entry, err error) {
	for i, want := range [...]int{8, 10, 4, 8, 20, 2, 2, 8, 8, 8, 16} { // octets by column; a null column has none
		if n := len(raw[i]); n != want && raw[i] != nil {
			return e, fmt.Errorf("column %d of the ledger has %d octets, want %d", i, n, want)
		}
	}
	number := func(b []byte) (n uint64) {
		for _, octet := range b {
			n = n<<8 | uint64(octet)
		}
		return n
	}
	instant := func(b []byte) time.Time { return time.UnixMicro(int64(number(b)) + year2000).UTC() }
	e.Seq, e.Kind, e.Reason = number(raw[0]), revocation.Kind(number(raw[5])), pki.Reason(number(raw[6]))
	e.RevokedAt, e.RecordedAt = instant(raw[7]), instant(raw[9])
	copy(e.Issuer[:], raw[1])
	copy(e.Serial[:], raw[4])
	copy(e.Job[:], raw[10])
	if raw[2] != nil && raw[3] != nil {
		e.Position = pki.Position{Epoch: pki.Epoch(number(raw[2])), Index: number(raw[3])}
	} else {
		e.Foreign = e.Kind != revocation.KindRestore
	}
	if raw[8] != nil {
		e.InvalidityAt = instant(raw[8])
	}
	if e.Actor = actor; string(raw[11]) != actor {
		e.Actor = string(raw[11])
	}
	return e, nil
}

// year2000 is the epoch of PostgreSQL's times, in Unix microseconds.
const year2000 = 946_684_800_000_000

func scanEntry(row pgx.CollectableRow) (revocation.Entry, error) {
	var r entryRow
	if err := row.Scan(r.fields()...); err != nil {
		return revocation.Entry{}, err
	}
	return r.entry(), nil
}

// clamp limits "everything" (MaxUint64) to PostgreSQL's integers.
func clamp(seq uint64) int64 { return int64(min(seq, math.MaxInt64)) }

// CertificateFacts implements revocation.LedgerStore.
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
	rows, err := s.pool.Query(ctx, `SELECT o_not_after, o_account, (o_last).seq, (o_last).issuer, (o_last).epoch, (o_last).idx, (o_last).serial,
			(o_last).kind, (o_last).reason, (o_last).revoked_at, (o_last).invalidity_at, (o_last).recorded_at, (o_last).job, (o_last).actor
		FROM signet_certificate_facts($1, $2, $3, $4)`, issuer, serial, epoch, idx)
	if err != nil {
		return nil, translate(op, err)
	}
	facts, err := pgx.CollectRows(rows, scanFacts)
	return facts, translate(op, err)
}

func scanFacts(row pgx.CollectableRow) (revocation.Facts, error) {
	var f revocation.Facts
	var notAfter *time.Time
	var account *string
	var e entryRow
	err := row.Scan(append([]any{&notAfter, &account}, e.fields()...)...)
	if err != nil {
		return f, err
	}
	if notAfter != nil {
		f.Recorded, f.NotAfter, f.Account = true, notAfter.UTC(), *account
	}
	if e.seq != nil {
		f.Last = e.entry()
	}
	return f, nil
}
