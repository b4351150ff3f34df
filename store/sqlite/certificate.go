package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// requestLife is how long a request id is remembered.
const requestLife = 24 * time.Hour

// Record implements ca.CertificateStore. It needs no locks: only one transaction writes at a time.
func (s *Store) Record(ctx context.Context, owner ca.OwnerID, entries []ca.Entry) ([]ca.Outcome, error) {
	const op = "record certificates"
	prepared, err := s.recordStatements(ctx)
	if err != nil {
		return nil, translate(op, err)
	}
	outcomes := make([]ca.Outcome, len(entries))
	err = s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		r, err := prepared.in(ctx, tx, owner, now)
		if err != nil {
			return err
		}
		var events []audit.Event
		for i := range entries {
			if outcomes[i], err = r.record(ctx, &entries[i]); err != nil {
				return err
			}
			if outcomes[i] == ca.Recorded {
				events = append(events, entries[i].Event)
			}
		}
		return r.audit.write(ctx, events)
	})
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

// recordStatements are the statements that record certificates. They are prepared once, on the one connection that
// writes: preparing them in every transaction costs more than running them.
type recordStatements struct {
	openRange, before, blocked, certified, news, request, approval, certificate, name *sql.Stmt
	audit                                                                             auditStatements
}

// recordStatements prepares the statements, outside a transaction, when they are first needed.
func (s *Store) recordStatements(ctx context.Context) (*recordStatements, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recording != nil {
		return s.recording, nil
	}
	var r recordStatements
	for _, statement := range []struct {
		dst  **sql.Stmt
		text string
	}{
		{&r.openRange, `SELECT issuer, epoch, from_idx, to_idx FROM ranges WHERE id = ? AND state = 1 AND owner = ?`},
		{&r.before, `SELECT EXISTS (SELECT 1 FROM blocked_keys), (SELECT coalesce(max(seq), 0) FROM ledger)`},
		{&r.blocked, `SELECT EXISTS (SELECT 1 FROM blocked_keys WHERE hash IN (?, ?))`},
		{&r.certified, `SELECT EXISTS (SELECT 1 FROM issuers WHERE spki_hash = ?)`},
		{&r.news, `SELECT EXISTS (SELECT 1 FROM ledger WHERE seq > ? AND serial = ?)`},
		{&r.request, `INSERT INTO issue_requests (account, request_id, digest, issuer, epoch, idx, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (account, request_id) DO UPDATE SET digest = excluded.digest, issuer = excluded.issuer, epoch = excluded.epoch, idx = excluded.idx, approval = NULL,
			expires_at = excluded.expires_at WHERE issue_requests.expires_at <= ?8`},
		{&r.approval, `UPDATE approvals SET state = 3, issuer = ?2, epoch = ?3, idx = ?4, serial = ?5 WHERE id = ?1 AND state = 2 AND expires_at > ?6`},
		{&r.certificate, `INSERT INTO certificates (issuer, epoch, idx, serial, range_id, profile, account, subject, spki_hash, not_before, not_after, issued_at, der, authority)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`},
		{&r.name, `INSERT INTO certificate_names (reversed, kind, issuer, epoch, idx) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&r.audit.head, auditHeadText}, {&r.audit.event, auditEventText}, {&r.audit.batch, auditBatchText}, {&r.audit.advance, auditAdvanceText},
	} {
		var err error
		if *statement.dst, err = s.write.PrepareContext(ctx, statement.text); err != nil {
			return nil, err
		}
	}
	s.recording = &r
	return s.recording, nil
}

// recording is a transaction that records certificates. No other transaction writes at the same time, so an answer
// stays true once it was read.
type recording struct {
	recordStatements
	owner      ca.OwnerID
	now        time.Time
	ranges     map[ca.RangeID]heldRange
	keyBlocked bool  // some key is blocked: check each
	ledgerEnd  int64 // the end of the ledger; a footing judged before it may be out of date
}

// heldRange is an open range of the owner; the zero value holds nothing.
type heldRange struct {
	issuer   []byte
	epoch    int64
	from, to int64
}

func (h heldRange) holds(e *ca.Entry) bool {
	index := int64(e.Position.Index)
	return bytes.Equal(h.issuer, e.Issuer[:]) && h.epoch == int64(e.Position.Epoch) && index >= h.from && index < h.to
}

func (p *recordStatements) in(ctx context.Context, tx *sql.Tx, owner ca.OwnerID, now time.Time) (recording, error) {
	of := func(statement *sql.Stmt) *sql.Stmt { return tx.StmtContext(ctx, statement) } // closed with the transaction
	r := recording{
		recordStatements: recordStatements{of(p.openRange), of(p.before), of(p.blocked), of(p.certified), of(p.news), of(p.request), of(p.approval), of(p.certificate), of(p.name),
			auditStatements{of(p.audit.head), of(p.audit.event), of(p.audit.batch), of(p.audit.advance)}},
		owner: owner, now: now, ranges: make(map[ca.RangeID]heldRange),
	}
	return r, r.before.QueryRowContext(ctx).Scan(&r.keyBlocked, &r.ledgerEnd)
}

// held reads a range, once per transaction.
func (r recording) held(ctx context.Context, id ca.RangeID) (heldRange, error) {
	h, known := r.ranges[id]
	if known {
		return h, nil
	}
	err := r.openRange.QueryRowContext(ctx, int64(id), r.owner[:]).Scan(&h.issuer, &h.epoch, &h.from, &h.to)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return h, err
	}
	r.ranges[id] = h
	return h, nil
}

func (r recording) isBlocked(ctx context.Context, key, material pki.KeyHash) (blocked bool, err error) {
	if r.keyBlocked {
		err = r.blocked.QueryRowContext(ctx, key[:], material[:]).Scan(&blocked)
	}
	return blocked, err
}

// hasNews reports whether the footing of an entry has to be judged again.
func (r recording) hasNews(ctx context.Context, f *ca.Footing) (news bool, err error) {
	if news, err = r.isBlocked(ctx, f.Key, f.Key); int64(f.Seq) >= r.ledgerEnd {
		return news, err
	}
	for i := 0; i < len(f.Serials) && err == nil && !news; i++ {
		err = r.news.QueryRowContext(ctx, int64(f.Seq), f.Serials[i][:]).Scan(&news)
	}
	return news, err
}

func (r recording) record(ctx context.Context, e *ca.Entry) (ca.Outcome, error) {
	issuer, epoch, index := e.Issuer[:], int64(e.Position.Epoch), int64(e.Position.Index)
	place, err := r.held(ctx, e.Range)
	if err != nil {
		return ca.OutcomeNone, err
	}
	if !place.holds(e) {
		return ca.RangeLost, nil
	}
	if blocked, err := r.isBlocked(ctx, e.KeyHash, e.KeyMaterial); err != nil || blocked {
		return ca.KeyBlocked, err
	}
	if e.Certifies {
		var there bool
		if err := r.certified.QueryRowContext(ctx, e.KeyHash[:]).Scan(&there); err != nil || !there {
			return ca.IssuerGone, err
		}
	}
	if news, err := r.hasNews(ctx, &e.Footing); err != nil || news {
		return ca.IssuerNews, err
	}
	if e.RequestID != "" {
		result, err := r.request.ExecContext(ctx, e.Account, e.RequestID, e.Digest[:], issuer, epoch, index, r.now.Add(requestLife).UnixMicro(), r.now.UnixMicro())
		if err != nil {
			return ca.OutcomeNone, err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return ca.RequestUsed, err
		}
	}
	if !e.Approval.IsZero() {
		n, err := affected(r.approval.ExecContext(ctx, e.Approval[:], issuer, epoch, index, e.Serial[:], r.now.UnixMicro()))
		if err != nil || n == 0 {
			return ca.ApprovalUsed, err
		}
	}
	if _, err := r.certificate.ExecContext(ctx, issuer, epoch, index, e.Serial[:], int64(e.Range), e.Profile, e.Account, e.Subject, e.KeyHash[:],
		e.NotBefore.UnixMicro(), e.NotAfter.UnixMicro(), e.IssuedAt.UnixMicro(), e.DER, e.Authority); err != nil {
		return ca.OutcomeNone, err
	}
	for _, name := range e.Names {
		if _, err := r.name.ExecContext(ctx, inventory.ReversedName(name.Value), int64(name.Type), issuer, epoch, index); err != nil {
			return ca.OutcomeNone, err
		}
	}
	return ca.Recorded, nil
}

// FindRequest implements ca.CertificateStore.
func (s *Store) FindRequest(ctx context.Context, account, requestID string) (found ca.Answered, err error) {
	const op = "find request"
	var digest, approval, issuer []byte
	var epoch, idx sql.NullInt64
	err = s.read.QueryRowContext(ctx, `SELECT digest, approval, issuer, epoch, idx FROM issue_requests
		WHERE account = ? AND request_id = ? AND expires_at > ?`, account, requestID, s.now().UnixMicro()).Scan(&digest, &approval, &issuer, &epoch, &idx)
	if err != nil {
		return found, translate(op, err)
	}
	copy(found.Digest[:], digest)
	copy(found.Approval[:], approval)
	if approval != nil {
		return found, nil
	}
	rows, err := s.read.QueryContext(ctx, `SELECT `+certificateColumns+` FROM certificates c WHERE c.issuer = ? AND c.epoch = ? AND c.idx = ?`, issuer, epoch.Int64, idx.Int64)
	if err != nil {
		return found, translate(op, err)
	}
	defer rows.Close()
	if !rows.Next() {
		return found, translate(op, errors.Join(rows.Err(), sql.ErrNoRows))
	}
	found.Certificate, err = scanCertificate(rows)
	return found, translate(op, err)
}

// ForgetRequests implements ca.CertificateStore.
func (s *Store) ForgetRequests(ctx context.Context, limit int) (n int, err error) {
	err = s.inTx(ctx, "forget requests", func(tx *sql.Tx, now time.Time) error {
		forgotten, err := affected(tx.ExecContext(ctx, `DELETE FROM issue_requests WHERE rowid IN
			(SELECT rowid FROM issue_requests WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)`, now.UnixMicro(), limit))
		n = int(forgotten)
		return err
	})
	return n, err
}

// KeysBlockedSince implements ca.CertificateStore.
func (s *Store) KeysBlockedSince(ctx context.Context, since time.Time) ([]pki.KeyHash, time.Time, error) {
	const op = "read blocked keys"
	next := s.now().Add(-time.Minute)
	rows, err := s.read.QueryContext(ctx, `SELECT hash FROM blocked_keys WHERE blocked_at >= ?`, since.UnixMicro())
	if err != nil {
		return nil, next, translate(op, err)
	}
	defer rows.Close()
	var hashes []pki.KeyHash
	for rows.Next() {
		var octets []byte
		if err := rows.Scan(&octets); err != nil {
			return nil, next, translate(op, err)
		}
		var hash pki.KeyHash
		copy(hash[:], octets)
		hashes = append(hashes, hash)
	}
	return hashes, next, translate(op, rows.Err())
}

// PassedEpochs implements ca.CertificateStore.
func (s *Store) PassedEpochs(ctx context.Context) ([]ca.PassedEpoch, error) {
	const op = "find passed epochs"
	rows, err := s.read.QueryContext(ctx, `SELECT p.epoch, e.issuer FROM (
			SELECT e.epoch FROM epochs e WHERE EXISTS (SELECT 1 FROM certificates c WHERE c.issuer = e.issuer AND c.epoch = e.epoch)
			UNION SELECT epoch FROM ranges WHERE state <> 1) p LEFT JOIN epochs e ON e.epoch = p.epoch ORDER BY p.epoch`)
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var passed []ca.PassedEpoch
	for rows.Next() {
		var epoch pki.Epoch
		var issuer []byte
		if err := rows.Scan(&epoch, &issuer); err != nil {
			return nil, translate(op, err)
		}
		if !epoch.Passed(s.now().Unix()) {
			continue
		}
		if n := len(passed); n == 0 || passed[n-1].Epoch != epoch {
			passed = append(passed, ca.PassedEpoch{Epoch: epoch})
		}
		if issuer != nil {
			last := &passed[len(passed)-1]
			last.Issuers = append(last.Issuers, pki.IssuerID(issuer))
		}
	}
	return passed, translate(op, rows.Err())
}

// DropEpoch implements ca.CertificateStore. One transaction removes at most limit certificates, so that writers wait
// only briefly.
func (s *Store) DropEpoch(ctx context.Context, epoch pki.Epoch, keep time.Duration, limit int) (done bool, err error) {
	const op = "drop epoch"
	now := s.now()
	if !epoch.Passed(now.Add(-keep).Unix()) {
		return false, pki.Errorf(pki.KindFailedPrecondition, op, "epoch %s has not passed, or is kept", epoch).InField("epoch")
	}
	logged, err := s.loggedUntilYesterday(ctx, now)
	if err != nil {
		return false, translate(op, err)
	}
	if end := time.Unix((epoch + 1).Start(), 0).Add(keep); logged.Before(end) {
		return true, nil
	}
	err = s.inTx(ctx, op, func(tx *sql.Tx, _ time.Time) error {
		if err := dropNames(ctx, tx, epoch, limit); err != nil {
			return err
		}
		n, err := affected(tx.ExecContext(ctx, `DELETE FROM certificates WHERE rowid IN
			(SELECT rowid FROM certificates WHERE epoch = ? ORDER BY issuer, idx LIMIT ?)`, int64(epoch), limit))
		if err != nil || n == int64(limit) {
			return err
		}
		done = true
		_, err = tx.ExecContext(ctx, `DELETE FROM ranges WHERE epoch = ? AND state <> 1`, int64(epoch))
		return err
	})
	return done, err
}

// loggedUntilYesterday returns the time of the last audit event that is more than a day old by its own time; 1970 if
// there is none. An epoch is dropped only if that time is after its end.
//
// The reason is that now comes from the caller's clock, and a machine that wakes up in a wrong year must not lose
// certificates in force. So the clock must have shown such a time for more than a day. Events from an earlier time when
// the clock was ahead and was set right again, however often and far, prove nothing.
//
// The query reads everything that was logged within the last day, which is as much as was issued. No writer waits for
// it, and it runs once an hour, not for each batch.
func (s *Store) loggedUntilYesterday(ctx context.Context, now time.Time) (time.Time, error) {
	s.mu.Lock()
	known := s.logged
	s.mu.Unlock()
	if age := now.Sub(known.read); 0 <= age && age < time.Hour {
		return known.until, nil
	}
	// The plus sign keeps SQLite from using an index on at: the events are read from the end of the log.
	var at int64
	err := s.read.QueryRowContext(ctx, `SELECT COALESCE((SELECT at FROM audit_events WHERE +at <= ? ORDER BY seq DESC LIMIT 1), 0)`,
		now.Add(-24*time.Hour).UnixMicro()).Scan(&at)
	if err != nil {
		return time.Time{}, err
	}
	known = logged{until: time.UnixMicro(at), read: now}
	s.mu.Lock()
	s.logged = known
	s.mu.Unlock()
	return known.until, nil
}

// dropNames removes the names of the certificates that are removed next. It reads the names from the certificates: an
// index for finding them would slow down every issuance.
func dropNames(ctx context.Context, tx *sql.Tx, epoch pki.Epoch, limit int) error {
	rows, err := tx.QueryContext(ctx, `SELECT issuer, idx, der FROM certificates WHERE epoch = ? ORDER BY issuer, idx LIMIT ?`, int64(epoch), limit)
	if err != nil {
		return err
	}
	defer rows.Close()
	type row struct {
		issuer []byte
		idx    int64
		names  []inventory.Name
	}
	var going []row
	for rows.Next() {
		var r row
		var der []byte
		if err := rows.Scan(&r.issuer, &r.idx, &der); err != nil {
			return err
		}
		if r.names, err = inventory.NamesOf(der); err != nil {
			return err
		}
		going = append(going, r)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, r := range going {
		for _, name := range r.names {
			if _, err := tx.ExecContext(ctx, `DELETE FROM certificate_names WHERE reversed = ? AND kind = ? AND issuer = ? AND epoch = ? AND idx = ?`,
				inventory.ReversedName(name.Value), int64(name.Type), r.issuer, int64(epoch), r.idx); err != nil {
				return err
			}
		}
	}
	return nil
}
