package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// errRequestRace says that another transaction took a request id while this one waited; nothing was written.
var errRequestRace = errors.New("a request id was used meanwhile")

// Record implements ca.CertificateStore. signet_record writes all entries or, if some cannot be recorded, none and says
// which; the others go in a second call. That is rare, and one call with all of them is the rule.
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
			continue // the id is taken and committed: the next call says so
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

// recordAll calls signet_record for the entries that are left. The map holds those that it refuses.
func (s *Store) recordAll(ctx context.Context, owner ca.OwnerID, entries []ca.Entry, left []int) (map[int]ca.Outcome, error) {
	columns := newRecordColumns(len(left))
	for n, i := range left {
		columns.add(n, &entries[i])
	}
	used := columns.used()
	rows, err := s.pool.Query(ctx, `SELECT o_entry, o_outcome FROM signet_record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)`,
		owner[:], columns.ranges, columns.issuers, columns.epochs, columns.indices, columns.serials, columns.profiles, columns.accounts, columns.subjects,
		columns.keys, columns.materials, columns.notBefore, columns.notAfter, columns.issuedAt, columns.ders, columns.requestsOrNil(), columns.digests, columns.approvals,
		columns.nameOf, columns.names, columns.kinds,
		used.ranges, used.issuers, used.epochs, used.from, used.to, columns.judged, columns.footing, auditParam(columns.events))
	if err != nil {
		return nil, raceOr(err)
	}
	refused := make(map[int]ca.Outcome)
	var entry int64
	var outcome int32
	_, err = pgx.ForEachRow(rows, []any{&entry, &outcome}, func() error {
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

// recordColumns are the entries of a batch, column by column.
type recordColumns struct {
	ranges, indices                                  []int64
	epochs, nameOf                                   []int32
	kinds                                            []int16
	issuers, serials, keys, materials, ders, digests [][]byte
	approvals                                        [][]byte // nil: nothing needed one
	judged                                           *int64   // of the footing that was judged first
	footing                                          [][]byte // serials and hashes of keys; nil: nothing is asked
	profiles, accounts, subjects, requests, names    []string
	notBefore, notAfter, issuedAt                    []time.Time
	events                                           []audit.Event
}

func newRecordColumns(n int) *recordColumns {
	return &recordColumns{
		ranges: make([]int64, n), indices: make([]int64, n), epochs: make([]int32, n),
		issuers: make([][]byte, n), serials: make([][]byte, n), keys: make([][]byte, n), materials: make([][]byte, n), ders: make([][]byte, n), digests: make([][]byte, n),
		profiles: make([]string, n), accounts: make([]string, n), subjects: make([]string, n), requests: make([]string, n),
		notBefore: make([]time.Time, n), notAfter: make([]time.Time, n), issuedAt: make([]time.Time, n), events: make([]audit.Event, n),
		names: []string{}, nameOf: []int32{}, kinds: []int16{},
	}
}

func (c *recordColumns) add(n int, e *ca.Entry) {
	c.ranges[n], c.epochs[n], c.indices[n] = int64(e.Range), int32(e.Position.Epoch), int64(e.Position.Index)
	c.issuers[n], c.serials[n], c.keys[n], c.materials[n], c.ders[n], c.digests[n] = e.Issuer[:], e.Serial[:], e.KeyHash[:], e.KeyMaterial[:], e.DER, e.Digest[:]
	c.profiles[n], c.accounts[n], c.subjects[n], c.requests[n] = e.Profile, e.Account, e.Subject, e.RequestID
	c.notBefore[n], c.notAfter[n], c.issuedAt[n], c.events[n] = e.NotBefore, e.NotAfter, e.IssuedAt, e.Event
	if !e.Approval.IsZero() {
		if c.approvals == nil {
			c.approvals = make([][]byte, len(c.ranges))
		}
		c.approvals[n] = e.Approval[:]
	}
	c.stand(&e.Footing)
	first := len(c.names)
	for _, name := range e.Names {
		reversed, kind := ca.ReversedName(name.Value), int16(name.Type)
		known := false // said twice, or in upper and lower case
		for i := first; i < len(c.names) && !known; i++ {
			known = c.names[i] == reversed && c.kinds[i] == kind
		}
		if !known {
			c.nameOf, c.names, c.kinds = append(c.nameOf, int32(n+1)), append(c.names, reversed), append(c.kinds, kind)
		}
	}
}

func (c *recordColumns) stand(f *ca.Footing) {
	if f.Key == (pki.KeyHash{}) {
		return
	}
	if seq := int64(f.Seq); c.judged == nil || seq < *c.judged {
		c.judged = &seq
	}
	has := func(fact []byte) bool {
		return slices.ContainsFunc(c.footing, func(known []byte) bool { return bytes.Equal(known, fact) })
	}
	if !has(f.Key[:]) {
		c.footing = append(c.footing, f.Key[:])
	}
	for i := range f.Serials {
		if serial := f.Serials[i][:]; !has(serial) {
			c.footing = append(c.footing, serial)
		}
	}
}

// usedRanges are ranges with the lowest and highest index that is recorded in each, column by column, in order of id.
type usedRanges struct {
	ranges, from, to []int64
	issuers          [][]byte
	epochs           []int32
}

func (c *recordColumns) used() (u usedRanges) {
	order := make([]int, len(c.ranges))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		return cmp.Or(cmp.Compare(c.ranges[i], c.ranges[j]), bytes.Compare(c.issuers[i], c.issuers[j]), cmp.Compare(c.epochs[i], c.epochs[j]), cmp.Compare(c.indices[i], c.indices[j]))
	})
	for _, i := range order {
		last := len(u.ranges) - 1
		if last < 0 || u.ranges[last] != c.ranges[i] || u.epochs[last] != c.epochs[i] || !bytes.Equal(u.issuers[last], c.issuers[i]) {
			u.ranges, u.issuers, u.epochs = append(u.ranges, c.ranges[i]), append(u.issuers, c.issuers[i]), append(u.epochs, c.epochs[i])
			u.from, u.to = append(u.from, c.indices[i]), append(u.to, c.indices[i])
			continue
		}
		u.to[last] = c.indices[i]
	}
	return u
}

// requestsOrNil is nil if no entry has a request id: most batches have none, and the database then asks nothing about them.
func (c *recordColumns) requestsOrNil() []string {
	for _, id := range c.requests {
		if id != "" {
			return c.requests
		}
	}
	return nil
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
	found.Certificate, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (ca.Certificate, error) { return scanCertificate(row) })
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

// DropEpoch implements ca.CertificateStore: the partitions are detached without waiting for readers and dropped whole.
// One instance does it at a time; the others leave it to that one. The advisory lock is "drop" in ASCII.
func (s *Store) DropEpoch(ctx context.Context, epoch pki.Epoch, _ int) (done bool, err error) {
	const op = "drop epoch"
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, translate(op, err)
	}
	defer conn.Release()
	var passed, mine bool
	err = conn.QueryRow(ctx, `SELECT extract(epoch FROM clock_timestamp()) >= $1, pg_try_advisory_lock(x'64726f70'::bigint)`, epochEnd(epoch)).Scan(&passed, &mine)
	if err != nil || !mine {
		return err == nil, translate(op, err)
	}
	defer func() {
		if _, unlockErr := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(x'64726f70'::bigint)`); err == nil {
			err = translate(op, unlockErr)
		}
	}()
	if !passed {
		return false, pki.Errorf(pki.KindFailedPrecondition, op, "epoch %s has not passed", epoch).InField("epoch")
	}
	for _, parent := range []string{"certificate_names", "certificates"} {
		if err := dropPartition(ctx, conn, parent, epoch); err != nil {
			return false, translate(op, err)
		}
	}
	_, err = conn.Exec(ctx, `DELETE FROM ranges WHERE epoch = $1 AND state <> 1`, int32(epoch))
	return err == nil, translate(op, err)
}

// dropPartition takes up what an earlier call left half done.
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

// epochEnd is when everything in a week has expired, a day of grace for slow clocks included.
func epochEnd(epoch pki.Epoch) int64 {
	if epoch == pki.EpochForever {
		return 1 << 60
	}
	return (epoch + 1).Start() + 24*60*60
}
