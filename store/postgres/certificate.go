package postgres

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// errRequestRace means that another transaction used a request id while this one waited. Nothing was written.
var errRequestRace = errors.New("a request id was used meanwhile")

// Record implements ca.CertificateStore. signet_record writes all entries or, if some cannot be recorded, none, and
// returns which. The others follow in a second call. That is rare; usually one call records all.
func (s *Store) Record(ctx context.Context, owner ca.OwnerID, entries []ca.Entry) ([]ca.Outcome, error) {
	const op = "record certificates"
	outcomes := make([]ca.Outcome, len(entries))
	left := make([]int, len(entries))
	for i := range left {
		left[i] = i
	}
	for len(left) > 0 {
		refused, err := s.recordAll(ctx, owner, entries, left)
		if errors.Is(err, errRequestRace) {
			continue // the other transaction has committed: the next call returns its answer
		}
		if err != nil {
			return nil, translate(op, err)
		}
		var rest []int
		for n, i := range left {
			if outcome, is := refused[n]; is {
				outcomes[i] = outcome
			} else if len(refused) > 0 {
				rest = append(rest, i)
			} else {
				outcomes[i] = ca.Recorded
			}
		}
		left = rest
	}
	return outcomes, nil
}

// recordAll calls signet_record for the entries that are left. The map holds the entries that it refuses.
func (s *Store) recordAll(ctx context.Context, owner ca.OwnerID, entries []ca.Entry, left []int) (map[int]ca.Outcome, error) {
	batch := make(issued, len(left))
	for n, i := range left {
		batch[n] = &entries[i]
	}
	used, asked := batch.used(), batch.asked()
	rows, err := s.pool.Query(ctx, `SELECT o_entry, o_outcome FROM signet_record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		owner[:], batch, issuedNames(batch), asked.hashes, asked.certified, asked.requests, asked.approvals, used.ranges, used.issuers, used.epochs, used.from, used.to,
		asked.judged, asked.footing, auditParam(asked.events))
	if err != nil {
		return nil, raceOr(err)
	}
	var refused map[int]ca.Outcome
	var entry int64
	var outcome int32
	_, err = pgx.ForEachRow(rows, []any{&entry, &outcome}, func() error {
		if refused == nil {
			refused = make(map[int]ca.Outcome)
		}
		refused[int(entry)-1] = ca.Outcome(outcome)
		return nil
	})
	return refused, raceOr(err)
}

func raceOr(err error) error {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == "SG912" {
		return errRequestRace
	}
	return err
}

// issued are the entries of a batch, with the columns of the type of this name.
type issued []*ca.Entry

func (batch issued) appendTo(b []byte, of *typeIDs) []byte {
	b = appendArray(b, of.issued, len(batch))
	for _, e := range batch {
		row := 0
		b, row = beginRow(b, 18)
		b = appendInt8(appendInt4(appendBytes(b, e.Issuer[:]), int32(e.Position.Epoch)), int64(e.Position.Index))
		b = appendInt8(appendBytes(b, e.Serial[:]), int64(e.Range))
		b = appendText(appendText(appendText(b, e.Profile), e.Account), e.Subject)
		b = appendBytes(b, e.KeyHash[:])
		b = appendTime(appendTime(appendTime(b, e.NotBefore), e.NotAfter), e.IssuedAt)
		b = appendBytes(appendBytes(b, e.DER), e.KeyMaterial[:])
		if e.RequestID == "" {
			b = appendNull(appendNull(b, pgtype.TextOID), pgtype.ByteaOID)
		} else {
			b = appendBytes(appendText(b, e.RequestID), e.Digest[:])
		}
		b = endRow(appendBool(appendBytesIf(b, !e.Approval.IsZero(), e.Approval[:]), e.Authority), row)
	}
	return b
}

// issuedNames are the names of a batch. A certificate may contain a name twice, also in different case; it is here
// once.
type issuedNames []*ca.Entry

func (batch issuedNames) appendTo(b []byte, of *typeIDs) []byte {
	type name struct {
		reversed string
		kind     pki.IdentifierType
	}
	var known []name
	count := 0
	begin := len(b)
	b = appendArray(b, of.issuedName, 1)
	for _, e := range batch {
		known = known[:0]
		for _, n := range e.Names {
			one := name{inventory.ReversedName(n.Value), n.Type}
			if slices.Contains(known, one) {
				continue
			}
			known = append(known, one)
			row := 0
			b, row = beginRow(b, 5)
			b = appendInt2(appendText(b, one.reversed), int16(one.kind))
			b = endRow(appendInt8(appendInt4(appendBytes(b, e.Issuer[:]), int32(e.Position.Epoch)), int64(e.Position.Index)), row)
			count++
		}
	}
	if count == 0 {
		return appendArray(b[:begin], of.issuedName, 0)
	}
	binary.BigEndian.PutUint32(b[begin+12:], uint32(count))
	return b
}

// asked holds the questions that are answered before a batch is written, and the batch's events.
type asked struct {
	hashes              [][]byte // of keys, as used for blocking
	certified           [][]byte // hashes of the keys of issuers that must exist
	judged              *int64   // the ledger sequence of the oldest footing
	footing             [][]byte // serials and key hashes of footings; nil: none is checked
	requests, approvals bool     // some entry has a request id, some entry needed an approval
	events              []audit.Event
}

func (batch issued) asked() (a asked) {
	for _, e := range batch {
		a.hashes = append(a.hashes, e.KeyHash[:], e.KeyMaterial[:])
		a.requests, a.approvals = a.requests || e.RequestID != "", a.approvals || !e.Approval.IsZero()
		if e.Certifies {
			a.certified = append(a.certified, e.KeyHash[:])
		}
		a.events = append(a.events, e.Event)
		a.stand(&e.Footing)
	}
	a.hashes = append(a.hashes, a.footing...)
	return a
}

func (a *asked) stand(f *ca.Footing) {
	if f.Key == (pki.KeyHash{}) {
		return
	}
	if seq := int64(f.Seq); a.judged == nil || seq < *a.judged {
		a.judged = &seq
	}
	has := func(fact []byte) bool {
		return slices.ContainsFunc(a.footing, func(known []byte) bool { return bytes.Equal(known, fact) })
	}
	if !has(f.Key[:]) {
		a.footing = append(a.footing, f.Key[:])
	}
	for i := range f.Serials {
		if serial := f.Serials[i][:]; !has(serial) {
			a.footing = append(a.footing, serial)
		}
	}
}

// usedRanges are ranges, in order of id, each with the lowest and highest index recorded in it.
type usedRanges struct {
	ranges, from, to []int64
	issuers          [][]byte
	epochs           []int32
}

func (batch issued) used() (u usedRanges) {
	ordered := slices.SortedFunc(slices.Values(batch), func(x, y *ca.Entry) int {
		return cmp.Or(cmp.Compare(x.Range, y.Range), bytes.Compare(x.Issuer[:], y.Issuer[:]), cmp.Compare(x.Position.Epoch, y.Position.Epoch), cmp.Compare(x.Position.Index, y.Position.Index))
	})
	for _, e := range ordered {
		last, epoch, index := len(u.ranges)-1, int32(e.Position.Epoch), int64(e.Position.Index)
		if last < 0 || u.ranges[last] != int64(e.Range) || u.epochs[last] != epoch || !bytes.Equal(u.issuers[last], e.Issuer[:]) {
			u.ranges, u.issuers, u.epochs = append(u.ranges, int64(e.Range)), append(u.issuers, e.Issuer[:]), append(u.epochs, epoch)
			u.from, u.to = append(u.from, index), append(u.to, index)
			continue
		}
		u.to[last] = index
	}
	return u
}

// FindRequest implements ca.CertificateStore.
func (s *Store) FindRequest(ctx context.Context, account, requestID string) (found ca.Answered, err error) {
	const op = "find request"
	var digest, approval, issuer []byte
	var epoch *int32
	var idx *int64
	err = s.pool.QueryRow(ctx, `SELECT digest, approval, issuer, epoch, idx FROM issue_requests
		WHERE account = $1 AND request_id = $2 AND expires_at > clock_timestamp()`, account, requestID).Scan(&digest, &approval, &issuer, &epoch, &idx)
	if err != nil {
		return found, translate(op, err)
	}
	copy(found.Digest[:], digest)
	copy(found.Approval[:], approval)
	if approval != nil {
		return found, nil
	}
	rows, err := s.pool.Query(ctx, `SELECT `+certificateColumns+` FROM certificates c WHERE c.issuer = $1 AND c.epoch = $2 AND c.idx = $3`, issuer, *epoch, *idx)
	if err != nil {
		return found, translate(op, err)
	}
	found.Certificate, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (inventory.Certificate, error) { return scanCertificate(row) })
	return found, translate(op, err)
}

// ForgetRequests implements ca.CertificateStore.
func (s *Store) ForgetRequests(ctx context.Context, limit int) (int, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM issue_requests WHERE (account, request_id) IN
		(SELECT account, request_id FROM issue_requests WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)`, limit)
	return int(tag.RowsAffected()), translate("forget requests", err)
}

// KeysBlockedSince implements ca.CertificateStore.
func (s *Store) KeysBlockedSince(ctx context.Context, since time.Time) ([]pki.KeyHash, time.Time, error) {
	const op = "read blocked keys"
	var next time.Time
	if err := s.pool.QueryRow(ctx, `SELECT clock_timestamp() - interval '1 minute'`).Scan(&next); err != nil {
		return nil, next, translate(op, err)
	}
	rows, err := s.pool.Query(ctx, `SELECT hash FROM blocked_keys WHERE blocked_at >= $1`, since)
	if err != nil {
		return nil, next, translate(op, err)
	}
	hashes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (hash pki.KeyHash, err error) {
		var octets []byte
		err = row.Scan(&octets)
		copy(hash[:], octets)
		return hash, err
	})
	return hashes, next, translate(op, err)
}

// PassedEpochs implements ca.CertificateStore.
func (s *Store) PassedEpochs(ctx context.Context) ([]ca.PassedEpoch, error) {
	const op = "find passed epochs"
	rows, err := s.pool.Query(ctx, `SELECT p.epoch, ARRAY(SELECT e.issuer FROM epochs e WHERE e.epoch = p.epoch)
		FROM (SELECT substring(c.relname FROM '[0-9]+$')::int AS epoch FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'certificates'::regclass
			UNION SELECT epoch FROM ranges WHERE state <> 1) AS p
		WHERE p.epoch < 65535 AND $1 + (p.epoch + 1) * $2::bigint + 86400 <= extract(epoch FROM clock_timestamp()) ORDER BY p.epoch`,
		pki.Epoch(0).Start(), pki.Epoch(1).Start()-pki.Epoch(0).Start())
	if err != nil {
		return nil, translate(op, err)
	}
	passed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (ca.PassedEpoch, error) {
		var p ca.PassedEpoch
		var issuers [][]byte
		err := row.Scan(&p.Epoch, &issuers)
		for _, issuer := range issuers {
			p.Issuers = append(p.Issuers, pki.IssuerID(issuer))
		}
		return p, err
	})
	return passed, translate(op, err)
}

// DropEpoch implements ca.CertificateStore. It detaches the partitions without waiting for readers and then drops them.
// Only one instance does this at a time; the others do nothing. The advisory lock is "drop" in ASCII.
func (s *Store) DropEpoch(ctx context.Context, epoch pki.Epoch, keep time.Duration, _ int) (done bool, err error) {
	const op = "drop epoch"
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, translate(op, err)
	}
	defer conn.Release()
	var passed, mine bool
	err = conn.QueryRow(ctx, `SELECT extract(epoch FROM clock_timestamp()) >= $1, pg_try_advisory_lock(x'64726f70'::bigint)`, epochEnd(epoch)+int64(keep.Seconds())).Scan(&passed, &mine)
	if err != nil || !mine {
		return err == nil, translate(op, err)
	}
	defer func() {
		if _, unlockErr := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(x'64726f70'::bigint)`); err == nil {
			err = translate(op, unlockErr)
		}
	}()
	if !passed {
		return false, pki.Errorf(pki.KindFailedPrecondition, op, "epoch %s has not passed by the clock of the database, or is kept", epoch).InField("epoch")
	}
	for _, parent := range []string{"certificate_names", "certificates"} {
		if err := dropPartition(ctx, conn, parent, epoch); err != nil {
			return false, translate(op, err)
		}
	}
	_, err = conn.Exec(ctx, `DELETE FROM ranges WHERE epoch = $1 AND state <> 1`, int32(epoch))
	return err == nil, translate(op, err)
}

// dropPartition completes what an earlier call left unfinished.
func dropPartition(ctx context.Context, conn *pgxpool.Conn, parent string, epoch pki.Epoch) error {
	partition := fmt.Sprintf("%s_%d", parent, epoch)
	var attached, pending bool
	err := conn.QueryRow(ctx, `SELECT count(*) > 0, coalesce(bool_or(inhdetachpending), false) FROM pg_inherits
		WHERE inhrelid = to_regclass($1) AND inhparent = $2::regclass`, partition, parent).Scan(&attached, &pending)
	if err != nil {
		return err
	}
	if attached {
		how := "CONCURRENTLY"
		if pending {
			how = "FINALIZE"
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s %s`, parent, partition, how)); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, `DROP TABLE IF EXISTS `+partition)
	return err
}

// epochEnd returns the time at which every certificate of a week has expired, including a day of grace for slow clocks.
func epochEnd(epoch pki.Epoch) int64 {
	if epoch == pki.EpochForever {
		return 1 << 60
	}
	return (epoch + 1).Start() + 24*60*60
}
