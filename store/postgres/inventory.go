package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/pki"
)

const certificateColumns = `c.issuer, c.epoch, c.idx, c.serial, c.profile, c.account, c.subject, c.spki_hash, c.not_before, c.not_after, c.issued_at, c.der`

// revoked is true of a certificate c if its last ledger entry revokes it or puts it on hold.
const revoked = `coalesce((SELECT l.kind IN (1, 2, 3) FROM ledger l WHERE l.issuer = c.issuer AND l.epoch = c.epoch AND l.idx = c.idx
	ORDER BY l.seq DESC LIMIT 1), false)`

// exactCount is the largest number that CountCertificates counts exactly.
const exactCount = 10_000

// GetCertificate implements ca.Inventory.
func (s *Store) GetCertificate(ctx context.Context, issuer pki.IssuerID, serial pki.Serial, position pki.Position) (inventory.Certificate, error) {
	const op = "get certificate"
	rows, err := s.pool.Query(ctx, `SELECT `+certificateColumns+` FROM certificates c WHERE c.issuer = $1 AND c.epoch = $2 AND c.idx = $3 AND c.serial = $4`,
		issuer[:], int32(position.Epoch), int64(position.Index), serial[:])
	if err != nil {
		return inventory.Certificate{}, translate(op, err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (inventory.Certificate, error) { return scanCertificate(row) })
	if pki.KindOf(translate(op, err)) == pki.KindNotFound {
		return c, pki.Errorf(pki.KindNotFound, op, "this issuer has recorded no certificate with serial %s", serial).InField("serial")
	}
	return c, translate(op, err)
}

// ListCertificates implements ca.Inventory.
func (s *Store) ListCertificates(ctx context.Context, filter inventory.Filter, cursor string, limit int) (inventory.Page, error) {
	const op = "list certificates"
	at, issuer, after, err := filter.From(cursor)
	if err != nil {
		return inventory.Page{}, err
	}
	q := &selection{limit: limit + 1}
	if after {
		q.after(filter.Order(), at, issuer)
	}
	if err := s.selectCertificates(ctx, q, filter); err != nil {
		return inventory.Page{}, translate(op, err)
	}
	rows, err := s.pool.Query(ctx, q.text(), q.args...)
	if err != nil {
		return inventory.Page{}, translate(op, err)
	}
	found, err := pgx.CollectRows(rows, scanListed)
	if err != nil {
		return inventory.Page{}, translate(op, err)
	}
	return inventory.Cut(filter, found, limit), nil
}

// CountCertificates implements ca.Inventory. Above exactCount it returns the planner's estimate from statistics.
func (s *Store) CountCertificates(ctx context.Context, filter inventory.Filter) (inventory.Count, error) {
	const op = "count certificates"
	q := &selection{limit: exactCount + 1}
	if err := s.selectCertificates(ctx, q, filter); err != nil {
		return inventory.Count{}, translate(op, err)
	}
	q.order = ""
	counted := `SELECT count(DISTINCT (issuer, epoch, idx)) FROM (` + q.text() + `) AS q`
	var n int64
	if err := s.pool.QueryRow(ctx, counted, q.args...).Scan(&n); err != nil {
		return inventory.Count{}, translate(op, err)
	}
	if n <= exactCount {
		return inventory.Count{N: n, Exact: true}, nil
	}
	q.limit = 0
	var plan []byte
	if err := s.pool.QueryRow(ctx, `EXPLAIN (FORMAT JSON) `+q.text(), q.args...).Scan(&plan); err != nil {
		return inventory.Count{}, translate(op, err)
	}
	var explained []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal(plan, &explained); err != nil || len(explained) != 1 {
		return inventory.Count{}, pki.Errorf(pki.KindInternal, op, "the plan cannot be read")
	}
	return inventory.Count{N: max(int64(explained[0].Plan.Rows), n)}, nil
}

// selection is a query over certificates c that conditions are added to.
type selection struct {
	lead  string // sequence, reversed name and kind of name, as the order requires
	from  string
	where []string
	order string
	limit int
	args  []any
}

func (q *selection) arg(value any) string {
	q.args = append(q.args, value)
	return "$" + strconv.Itoa(len(q.args))
}

func (q *selection) and(condition string, values ...any) {
	args := make([]any, len(values))
	for i, value := range values {
		args[i] = q.arg(value)
	}
	q.where = append(q.where, fmt.Sprintf(condition, args...))
}

func (q *selection) text() string {
	text := `SELECT ` + q.lead + `, ` + certificateColumns + ` FROM ` + q.from
	if len(q.where) > 0 {
		text += ` WHERE ` + strings.Join(q.where, ` AND `)
	}
	text += q.order
	if q.limit > 0 {
		text += ` LIMIT ` + strconv.Itoa(q.limit)
	}
	return text
}

// after continues after a cursor.
func (q *selection) after(order inventory.Order, at inventory.Cursor, issuer pki.IssuerID) {
	epoch, idx, when := int32(at.Epoch), int64(at.Index), time.UnixMicro(at.Micros)
	switch order {
	case inventory.ByIssuance:
		q.and(`(c.issued_at, c.issuer, c.epoch, c.idx) < (%s, %s, %s, %s)`, when, issuer[:], epoch, idx)
	case inventory.ByExpiry:
		q.and(`(c.not_after, c.issuer, c.epoch, c.idx) > (%s, %s, %s, %s)`, when, issuer[:], epoch, idx)
	case inventory.ByPosition, inventory.BySerial:
		q.and(`(c.epoch, c.idx) < (%s, %s)`, epoch, idx)
	case inventory.ByLedger:
		q.and(`l.seq < %s`, int64(at.Seq))
	case inventory.ByName:
		q.and(`(n.reversed, n.kind, n.issuer, n.epoch, n.idx) > (%s, %s, %s, %s, %s)`, at.Name, int16(at.Kind), issuer[:], epoch, idx)
	}
}

// selectCertificates completes the query with the order and the conditions of a filter.
func (s *Store) selectCertificates(ctx context.Context, q *selection, f inventory.Filter) error {
	q.lead, q.from = `0::bigint, '', 0::smallint`, `certificates c`
	switch f.Order() {
	case inventory.ByIssuance:
		q.order = ` ORDER BY c.issued_at DESC, c.issuer DESC, c.epoch DESC, c.idx DESC`
	case inventory.ByExpiry:
		q.order = ` ORDER BY c.not_after, c.issuer, c.epoch, c.idx`
	case inventory.ByPosition:
		q.order = ` ORDER BY c.epoch DESC, c.idx DESC`
	case inventory.ByLedger:
		q.lead, q.from = `l.seq, '', 0::smallint`, `ledger l JOIN certificates c ON c.issuer = l.issuer AND c.epoch = l.epoch AND c.idx = l.idx`
		q.and(`l.epoch IS NOT NULL AND l.kind IN (1, 2, 3) AND NOT EXISTS (SELECT FROM ledger m
			WHERE m.issuer = l.issuer AND m.epoch = l.epoch AND m.idx = l.idx AND m.seq > l.seq)`)
		q.order = ` ORDER BY l.seq DESC`
	case inventory.ByName:
		q.lead, q.from = `0::bigint, n.reversed, n.kind`, `certificate_names n JOIN certificates c ON c.issuer = n.issuer AND c.epoch = n.epoch AND c.idx = n.idx`
		from, to := f.NameRange()
		q.and(`n.reversed >= %s AND n.reversed < %s`, from, to)
		if f.Name == "" && !strings.HasPrefix(f.NameSuffix, "@") { // the name itself and the names below it
			q.and(`(n.reversed = %s OR substr(n.reversed, length(%s) + 1, 1) = '.')`, from, from)
		}
		if f.OfSubject {
			q.and(`n.kind = 0`)
		}
		q.order = ` ORDER BY n.reversed, n.kind, n.issuer, n.epoch, n.idx`
	case inventory.BySerial:
		if err := s.whereSerial(ctx, q, f.Serial); err != nil {
			return err
		}
		q.order = ` ORDER BY c.epoch DESC, c.idx DESC`
	}
	q.filter(f)
	return nil
}

// whereSerial selects the position that a serial claims under each issuer, because certificates are found by position.
func (s *Store) whereSerial(ctx context.Context, q *selection, serial pki.Serial) error {
	keys, err := s.IssuerKeys(ctx)
	if err != nil {
		return err
	}
	var issuers [][]byte
	var epochs []int32
	var indices []int64
	for _, key := range keys {
		if p, ok := serial.Unmask(key.Key); ok {
			id := key.Key.Issuer()
			issuers, epochs, indices = append(issuers, id[:]), append(epochs, int32(p.Epoch)), append(indices, int64(p.Index))
		}
	}
	q.and(`c.serial = %s AND (c.issuer, c.epoch, c.idx) IN (SELECT * FROM unnest(%s::bytea[], %s::integer[], %s::bigint[]))`, serial[:], issuers, epochs, indices)
	return nil
}

// filter adds the conditions that the order does not imply.
func (q *selection) filter(f inventory.Filter) {
	if !f.Issuer.IsZero() {
		q.and(`c.issuer = %s`, f.Issuer[:])
	}
	if f.KeyHash != (pki.KeyHash{}) {
		q.and(`c.spki_hash = %s`, f.KeyHash[:])
	}
	if f.Profile != "" {
		q.and(`c.profile = %s`, f.Profile)
	}
	if f.Account != "" {
		q.and(`c.account = %s`, f.Account)
	}
	if f.NotAccount != "" {
		q.and(`c.account <> %s`, f.NotAccount)
	}
	for _, bound := range []struct {
		condition string
		at        time.Time
	}{{`c.not_after >= %s`, f.ExpiresFrom}, {`c.not_after < %s`, f.ExpiresUntil}, {`c.issued_at >= %s`, f.IssuedFrom}, {`c.issued_at < %s`, f.IssuedUntil}} {
		if !bound.at.IsZero() {
			q.and(bound.condition, bound.at)
		}
	}
	switch f.Status {
	case inventory.StatusValid:
		q.and(`c.not_after >= %s AND NOT `+revoked, f.Now)
	case inventory.StatusExpired:
		q.and(`c.not_after < %s`, f.Now)
	case inventory.StatusRevoked:
		if f.Order() != inventory.ByLedger {
			q.and(revoked)
		}
	}
}

func scanListed(row pgx.CollectableRow) (listed inventory.Listed, err error) {
	var seq int64
	var kind int16
	listed.Certificate, err = scanCertificate(row, &seq, &listed.Name, &kind)
	listed.Seq, listed.Kind = uint64(seq), pki.IdentifierType(kind)
	return listed, err
}

// scanCertificate reads certificateColumns after other columns.
func scanCertificate(row pgx.CollectableRow, before ...any) (inventory.Certificate, error) {
	var c inventory.Certificate
	var issuer, serial, key []byte
	var epoch int32
	var idx int64
	err := row.Scan(append(before, &issuer, &epoch, &idx, &serial, &c.Profile, &c.Account, &c.Subject, &key, &c.NotBefore, &c.NotAfter, &c.IssuedAt, &c.DER)...)
	if err != nil {
		return c, err
	}
	copy(c.Issuer[:], issuer)
	copy(c.Serial[:], serial)
	copy(c.KeyHash[:], key)
	c.Position = pki.Position{Epoch: pki.Epoch(epoch), Index: uint64(idx)}
	c.NotBefore, c.NotAfter, c.IssuedAt = c.NotBefore.UTC(), c.NotAfter.UTC(), c.IssuedAt.UTC()
	return c, nil
}
