package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// jobWindow is how many indices one chunk of a scan examines.
const jobWindow = 1 << 18

// conditions returns what a selector requires of a certificate c that has not expired, and the arguments.
func conditions(s revocation.Selector, at time.Time) (where string, args []any) {
	and := func(condition string, values ...any) {
		where += " AND " + condition
		args = append(args, values...)
	}
	from, to := s.Weeks()
	where, args = `c.epoch >= ? AND c.not_after > ?`, []any{max(int64(from), firstEpoch(at)), at.UnixMicro()}
	if issuers := issuersOf(s); issuers != nil {
		and(in(`c.issuer`, len(issuers)), issuers...)
	}
	if to != 0 {
		and(`c.epoch < ?`, int64(to))
	}
	if s.FromIndex != 0 {
		and(`c.idx >= ?`, int64(s.FromIndex))
	}
	if s.ToIndex != 0 {
		and(`c.idx < ?`, int64(s.ToIndex))
	}
	if s.Profile != "" {
		and(`c.profile = ?`, s.Profile)
	}
	if s.Account != "" {
		and(`c.account = ?`, s.Account)
	}
	if !s.IssuedFrom.IsZero() {
		and(`c.issued_at >= ?`, s.IssuedFrom.UnixMicro())
	}
	if !s.IssuedUntil.IsZero() {
		and(`c.issued_at < ?`, s.IssuedUntil.UnixMicro())
	}
	if !s.ExpiresFrom.IsZero() {
		and(`c.not_after >= ?`, s.ExpiresFrom.UnixMicro())
	}
	if !s.ExpiresUntil.IsZero() {
		and(`c.not_after < ?`, s.ExpiresUntil.UnixMicro())
	}
	if len(s.Keys) > 0 {
		var keys []any
		for i := range s.Keys {
			keys = append(keys, s.Keys[i][:])
		}
		and(in(`c.spki_hash`, len(keys)), keys...)
	}
	if len(s.Names) > 0 {
		var names []any
		for _, name := range s.Names {
			names = append(names, inventory.ReversedName(name.Value))
		}
		and(`EXISTS (SELECT 1 FROM certificate_names n WHERE `+in(`n.reversed`, len(names))+` AND n.epoch = c.epoch AND n.issuer = c.issuer AND n.idx = c.idx)`, names...)
	}
	if spared := profilesOf(s.Spared()); spared != nil {
		and(`c.account <> 'system' AND NOT `+in(`c.profile`, len(spared)), spared...)
	}
	return where, args
}

// profilesOf returns names of profiles as arguments.
func profilesOf(names []string) (profiles []any) {
	for _, name := range names {
		profiles = append(profiles, name)
	}
	return profiles
}

// issuersOf returns the issuers that a selector is limited to, as arguments. Nil: it is not limited.
func issuersOf(s revocation.Selector) (issuers []any) {
	for _, issuer := range s.Issuers() {
		issuers = append(issuers, issuer[:])
	}
	return issuers
}

// lastKind is the kind of the last ledger entry about certificate c.
const lastKind = `(SELECT l.kind FROM ledger l WHERE l.issuer = c.issuer AND l.epoch = c.epoch AND l.idx = c.idx ORDER BY l.seq DESC LIMIT 1)`

// CountSelected implements revocation.JobRunner.
func (s *Store) CountSelected(ctx context.Context, selector revocation.Selector, claims []revocation.Claim, at time.Time) (estimate revocation.Estimate, err error) {
	const op = "count selected certificates"
	if selector.Serials {
		return s.countListed(ctx, claims, at)
	}
	where, args := conditions(selector, at)
	rows, err := s.read.QueryContext(ctx, `SELECT c.issuer, c.epoch, c.idx / `+strconv.Itoa(pki.BlockSize)+`, count(*), count(*) FILTER (WHERE `+lastKind+` IN (1, 2, 5))
		FROM certificates c WHERE `+where+` GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`, args...)
	if err != nil {
		return estimate, translate(op, err)
	}
	defer rows.Close()
	for rows.Next() {
		var issuer []byte
		var epoch, block, count, already int64
		if err := rows.Scan(&issuer, &epoch, &block, &count, &already); err != nil {
			return estimate, translate(op, err)
		}
		estimate.Selected += uint64(count)
		estimate.Already += uint64(already)
		scope := revocation.OfShard(pki.IssuerID(issuer), pki.Shard{Epoch: pki.Epoch(epoch), Block: uint32(block)})
		estimate.Shards = append(estimate.Shards, revocation.ShardEffect{Scope: scope, Entries: uint64(count - already)})
	}
	return estimate, translate(op, rows.Err())
}

// countListed is CountSelected for a list of serials.
func (s *Store) countListed(ctx context.Context, claims []revocation.Claim, at time.Time) (estimate revocation.Estimate, err error) {
	const op = "count listed certificates"
	query, err := s.read.PrepareContext(ctx, `SELECT coalesce(`+lastKind+`, 0), c.not_after FROM certificates c
		WHERE c.issuer = ? AND c.epoch = ? AND c.idx = ? AND c.serial = ?`)
	if err != nil {
		return estimate, translate(op, err)
	}
	defer query.Close()
	shards := map[revocation.Scope]uint64{}
	for i := range claims {
		c := &claims[i]
		var kind revocation.Kind
		var end int64
		err := query.QueryRowContext(ctx, c.Issuer[:], int64(c.Position.Epoch), int64(c.Position.Index), c.Serial[:]).Scan(&kind, &end)
		if errors.Is(err, sql.ErrNoRows) {
			if estimate.Unknown++; estimate.Unknown <= revocation.MostUnknown {
				estimate.UnknownCertificates = append(estimate.UnknownCertificates, c.Key)
			}
			continue
		}
		if err != nil {
			return estimate, translate(op, err)
		}
		if end <= at.UnixMicro() {
			continue
		}
		estimate.Selected++
		scope := revocation.OfShard(c.Issuer, c.Position.Shard())
		switch kind {
		case revocation.KindRevoke, revocation.KindReasonChange, revocation.KindVoid:
			estimate.Already++
			shards[scope] += 0
		default:
			shards[scope]++
		}
	}
	for scope, entries := range shards {
		estimate.Shards = append(estimate.Shards, revocation.ShardEffect{Scope: scope, Entries: entries})
	}
	slices.SortFunc(estimate.Shards, func(a, b revocation.ShardEffect) int { return compareScopes(a.Scope, b.Scope) })
	return estimate, nil
}

func compareScopes(a, b revocation.Scope) int {
	if c := slices.Compare(a.Issuer[:], b.Issuer[:]); c != 0 {
		return c
	}
	if c := int(a.Shard.Epoch) - int(b.Shard.Epoch); c != 0 {
		return c
	}
	return int(a.Shard.Block) - int(b.Shard.Block)
}

// CreateJob implements revocation.JobStore.
func (s *Store) CreateJob(ctx context.Context, job revocation.Job, claims []revocation.Claim, at time.Time, event audit.Event) (revocation.Job, error) {
	err := s.inTx(ctx, "create job", func(tx *sql.Tx, now time.Time) error {
		job.CreatedAt = now
		if err := insertJob(ctx, tx, job, claims, now); err != nil {
			return err
		}
		var err error
		if job.Authorities, err = countAuthorities(ctx, tx, job, at); err != nil {
			return err
		}
		return appendAudit(ctx, tx, []audit.Event{event})
	})
	return job, err
}

// StartJob implements revocation.JobRunner.
func (s *Store) StartJob(ctx context.Context, id revocation.JobID, authorities uint64, at time.Time, event audit.Event) (job revocation.Job, err error) {
	err = s.inTx(ctx, "start job", func(tx *sql.Tx, now time.Time) error {
		if job, err = readJob(ctx, tx, id); err != nil || job.State != revocation.JobPlanned {
			return err
		}
		appeared, err := countAuthorities(ctx, tx, job, at)
		if job.Authorities += appeared; err != nil || job.Authorities != authorities {
			return err
		}
		job, err = moveJob(ctx, tx, id, revocation.JobRunning, "", event, now)
		return err
	})
	return job, err
}

// countAuthorities stores with a job the CA certificates among those that it selects, and returns how many were not
// stored before.
func countAuthorities(ctx context.Context, tx *sql.Tx, job revocation.Job, at time.Time) (appeared uint64, err error) {
	where, args := conditions(job.Selector, at)
	// There are few of them. By default SQLite would read everything that is selected, while every writer waits.
	from := `certificates c INDEXED BY certificates_authorities WHERE ` + where + ` AND c.authority`
	if job.Selector.Serials {
		from = `job_serials s JOIN certificates c ON c.issuer = s.issuer AND c.epoch = s.epoch AND c.idx = s.idx AND c.serial = s.serial
			WHERE s.job = ? AND c.authority AND c.not_after > ?`
		args = []any{job.ID[:], at.UnixMicro()}
	}
	n, err := affected(tx.ExecContext(ctx, `INSERT INTO job_authorities (job, issuer, epoch, idx) SELECT ?, c.issuer, c.epoch, c.idx FROM `+from+` ON CONFLICT DO NOTHING`,
		append([]any{job.ID[:]}, args...)...))
	if err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE jobs SET counted = 1, authorities = authorities + ? WHERE id = ?`, n, job.ID[:])
	return uint64(n), err
}

// meant is a condition on a certificate c, with the id of a job twice: if the job has counted CA certificates, it
// leaves those alone that it did not count.
const meant = `(NOT c.authority OR NOT (SELECT counted FROM jobs WHERE id = ?)
	OR EXISTS (SELECT 1 FROM job_authorities a WHERE a.job = ? AND a.issuer = c.issuer AND a.epoch = c.epoch AND a.idx = c.idx))`

func insertJob(ctx context.Context, tx *sql.Tx, job revocation.Job, claims []revocation.Claim, now time.Time) error {
	selector, err := json.Marshal(job.Selector)
	if err != nil {
		return err
	}
	var startedAt any
	if job.State == revocation.JobRunning {
		startedAt = now.UnixMicro()
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO jobs (id, state, selector, reason, invalidity_at, actor, comment, selected, created_at, started_at, sweeps_from)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, `+rangesChanged+`)`,
		job.ID[:], int64(job.State), string(selector), int64(job.Reason), nullMicros(job.InvalidityAt), job.Actor, job.Comment, int64(job.Selected), now.UnixMicro(), startedAt)
	if err != nil || len(claims) == 0 {
		return err
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO job_serials (job, n, issuer, epoch, idx, serial) VALUES (?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for i := range claims {
		c := &claims[i]
		if _, err := insert.ExecContext(ctx, job.ID[:], i, c.Issuer[:], int64(c.Position.Epoch), int64(c.Position.Index), c.Serial[:]); err != nil {
			return err
		}
	}
	return nil
}

const jobColumns = `id, state, selector, reason, invalidity_at, actor, comment, selected, authorities, revoked, skipped, examined, last_seq, failure, created_at, started_at, ended_at`

// MoveJob implements revocation.JobStore.
func (s *Store) MoveJob(ctx context.Context, id revocation.JobID, from []revocation.JobState, to revocation.JobState, failure string, event audit.Event) (job revocation.Job, err error) {
	const op = "move job"
	err = s.inTx(ctx, op, func(tx *sql.Tx, now time.Time) error {
		if job, err = readJob(ctx, tx, id); err != nil || job.State == to {
			return err
		}
		if !slices.Contains(from, job.State) {
			return pki.Errorf(pki.KindConflict, op, "job %s is %s", id, job.State)
		}
		job, err = moveJob(ctx, tx, id, to, failure, event, now)
		return err
	})
	return job, err
}

// moveJob moves a job to another state and returns it.
func moveJob(ctx context.Context, tx *sql.Tx, id revocation.JobID, to revocation.JobState, failure string, event audit.Event, now time.Time) (job revocation.Job, err error) {
	var ended any
	switch to {
	case revocation.JobDone, revocation.JobCancelled, revocation.JobFailed:
		ended = now.UnixMicro()
	}
	_, err = tx.ExecContext(ctx, `UPDATE jobs SET state = ?2, failure = ?3, ended_at = ?4,
		sweeps_from = CASE WHEN ?2 = 2 AND started_at IS NULL THEN `+rangesChanged+` ELSE sweeps_from END,
		started_at = CASE WHEN ?2 = 2 THEN coalesce(started_at, ?5) ELSE started_at END WHERE id = ?1`, id[:], int64(to), failure, ended, now.UnixMicro())
	if err != nil {
		return job, err
	}
	if job, err = readJob(ctx, tx, id); err != nil {
		return job, err
	}
	return job, appendAudit(ctx, tx, []audit.Event{event})
}

// Jobs implements revocation.JobStore.
func (s *Store) Jobs(ctx context.Context, filter revocation.JobFilter, after revocation.JobID, limit int) ([]revocation.Job, error) {
	const op = "read jobs"
	if limit < 1 || limit > 1000 {
		return nil, pki.Errorf(pki.KindInvalid, op, "a limit of %d: want 1 to 1,000", limit).InField("limit")
	}
	var behind []byte
	if after != (revocation.JobID{}) {
		behind = after[:]
	}
	rows, err := s.read.QueryContext(ctx, `SELECT `+jobColumns+` FROM jobs WHERE (?1 = 0 OR state = ?1) AND (NOT ?4 OR started_at IS NOT NULL)
		AND (?3 IS NULL OR EXISTS (SELECT 1 FROM jobs a WHERE a.id = ?3 AND (jobs.created_at < a.created_at OR jobs.created_at = a.created_at AND jobs.id > a.id)))
		ORDER BY created_at DESC, id LIMIT ?2`, int64(filter.State), limit, behind, filter.Started)
	if err != nil {
		return nil, translate(op, err)
	}
	defer rows.Close()
	var jobs []revocation.Job
	for rows.Next() {
		job, err := scanJob(rows)
		if err != nil {
			return nil, translate(op, err)
		}
		jobs = append(jobs, job)
	}
	return jobs, translate(op, rows.Err())
}

// Job implements revocation.JobStore.
func (s *Store) Job(ctx context.Context, id revocation.JobID) (revocation.Job, error) {
	job, err := readJob(ctx, s.read, id)
	return job, translate("read job", err)
}

func readJob(ctx context.Context, q queryer, id revocation.JobID) (revocation.Job, error) {
	job, err := scanJob(q.QueryRowContext(ctx, `SELECT `+jobColumns+` FROM jobs WHERE id = ?`, id[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return job, pki.Errorf(pki.KindNotFound, "read job", "there is no job %s", id).InField("job")
	}
	return job, err
}

// LeaveJobs implements revocation.JobRunner. There is only one instance, so there is no job to leave to others.
func (s *Store) LeaveJobs(context.Context, revocation.InstanceID) error { return nil }

// RunChunk implements revocation.JobRunner. There is only one instance, so there is no other runner.
func (s *Store) RunChunk(ctx context.Context, job revocation.Job, _ revocation.InstanceID, limit int, at time.Time) (chunk revocation.Chunk, err error) {
	var begun time.Time
	err = s.inTx(ctx, "run job", func(tx *sql.Tx, now time.Time) error {
		begun = s.now()
		current, err := readJob(ctx, tx, job.ID)
		if err != nil {
			return err
		}
		chunk = revocation.Chunk{State: current.State, Seq: current.LastSeq}
		if current.State != revocation.JobRunning {
			return nil
		}
		var from cursor
		if err := tx.QueryRowContext(ctx, `SELECT sweeps, cursor_epoch, cursor_issuer, cursor_idx FROM jobs WHERE id = ?`, job.ID[:]).
			Scan(&from.sweeps, &from.epoch, &from.issuer, &from.idx); err != nil {
			return err
		}
		chosen, next, examined, last, err := chooseChunk(ctx, tx, current, from, limit, at)
		if err != nil {
			return err
		}
		done := last && (from.sweeps || current.Selector.Serials)
		switch {
		case done:
			chunk.State = revocation.JobDone
		case last:
			next = cursor{sweeps: true, epoch: -1, idx: -1}
		}
		entries, err := judge(ctx, tx, chosen, current, at)
		if err != nil {
			return err
		}
		chunk.Revoked, chunk.Skipped = len(entries), len(chosen)-len(entries)
		if from.sweeps { // the sweep finds again what the scan has done
			chunk.Skipped, examined = 0, 0
		}
		if len(entries) > 0 {
			if chunk.Seq, err = appendLedger(ctx, tx, now, entries); err != nil {
				return err
			}
		}
		var ended any
		if done {
			ended = now.UnixMicro()
		}
		// The driver stores empty octets as NULL.
		_, err = tx.ExecContext(ctx, `UPDATE jobs SET state = ?, revoked = revoked + ?, skipped = skipped + ?, examined = examined + ?, last_seq = ?, sweeps = ?,
			cursor_epoch = ?, cursor_issuer = coalesce(?, x''), cursor_idx = ?, ended_at = ? WHERE id = ?`,
			int64(chunk.State), chunk.Revoked, chunk.Skipped, examined, int64(chunk.Seq), next.sweeps, next.epoch, next.issuer, next.idx, ended, job.ID[:])
		if err != nil || chunk.Revoked == 0 && !done {
			return err
		}
		return appendAudit(ctx, tx, []audit.Event{chunkEvent(current, chunk, entries, at)})
	})
	if err != nil {
		return revocation.Chunk{}, err
	}
	chunk.Held = s.now().Sub(begun)
	if chunk.Revoked > 0 {
		s.wakeLedger(chunk.Seq)
	}
	return chunk, nil
}

func chunkEvent(job revocation.Job, chunk revocation.Chunk, entries []revocation.NewEntry, at time.Time) audit.Event {
	action, list := "job.chunk", ""
	if chunk.State == revocation.JobDone {
		action = "job.finish"
	}
	if len(entries) > 0 {
		h := sha256.New()
		for i := range entries {
			h.Write(entries[i].Serial[:])
		}
		list = hex.EncodeToString(h.Sum(nil))
	}
	return audit.Event{At: at, Actor: job.Actor, Action: action, Target: "job/" + job.ID.String(), Outcome: audit.OK, Detail: map[string]string{
		"revoked": strconv.Itoa(chunk.Revoked), "skipped": strconv.Itoa(chunk.Skipped), "last": strconv.FormatUint(chunk.Seq, 10), "serials_sha256": list}}
}

// cursor is the place up to which a job is done.
type cursor struct {
	sweeps bool // the scan is over
	epoch  int64
	issuer []byte
	idx    int64
}

// chooseChunk returns the next certificates of a job, the cursor after them, how many were examined, and whether the
// scan or sweep ends there.
func chooseChunk(ctx context.Context, tx *sql.Tx, job revocation.Job, at cursor, limit int, now time.Time) (chosen []candidate, next cursor, examined int64, ended bool, err error) {
	switch {
	case job.Selector.Serials:
		chosen, err = choose(ctx, tx, `SELECT s.n, c.issuer, c.epoch, c.idx, c.serial
			FROM (SELECT * FROM job_serials WHERE job = ? AND n > ? ORDER BY n LIMIT ?) s
			LEFT JOIN certificates c ON c.issuer = s.issuer AND c.epoch = s.epoch AND c.idx = s.idx AND c.serial = s.serial AND c.not_after > ? AND `+meant+`
			ORDER BY s.n`, job.ID[:], at.idx, limit, now.UnixMicro(), job.ID[:], job.ID[:])
		next = at
		if len(chosen) > 0 {
			next.idx = chosen[len(chosen)-1].place
		}
		return chosen, next, int64(len(chosen)), len(chosen) < limit, err

	case len(job.Selector.Keys) > 0:
		where, args := conditions(job.Selector, now)
		chosen, err = choose(ctx, tx, `SELECT c.idx, c.issuer, c.epoch, c.idx, c.serial FROM certificates c WHERE `+where+`
			AND (c.epoch, c.issuer, c.idx) > (?, ?, ?) AND `+meant+` ORDER BY c.epoch, c.issuer, c.idx LIMIT ?`, append(args, at.epoch, at.issuer, at.idx, job.ID[:], job.ID[:], limit)...)
		next = at
		if len(chosen) > 0 {
			last := chosen[len(chosen)-1]
			next = cursor{at.sweeps, int64(last.position.Epoch), last.issuer[:], int64(last.position.Index)}
		}
		return chosen, next, int64(len(chosen)), len(chosen) < limit, err
	}
	group, to, err := nextStretch(ctx, tx, job, at, now)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, at, 0, true, nil
	}
	if err != nil {
		return nil, at, 0, false, err
	}
	from := group.idx
	to = min(to, from+jobWindow)
	where, args := conditions(job.Selector, now)
	chosen, err = choose(ctx, tx, `SELECT c.idx, c.issuer, c.epoch, c.idx, c.serial FROM certificates c WHERE `+where+`
		AND c.epoch = ? AND c.issuer = ? AND c.idx >= ? AND c.idx < ? AND `+meant+` ORDER BY c.idx LIMIT ?`, append(args, group.epoch, group.issuer, from, to, job.ID[:], job.ID[:], limit)...)
	next = cursor{at.sweeps, group.epoch, group.issuer, to - 1}
	if len(chosen) == limit {
		next.idx = chosen[limit-1].place
	}
	return chosen, next, next.idx + 1 - from, false, err
}

// nextStretch returns the issuer, epoch and first index of the next stretch, and the index at which it ends. A scan
// goes through everything reserved. A certificate recorded behind the scan is in a range that was open after the job
// started: the sweep goes through these ranges.
func nextStretch(ctx context.Context, tx *sql.Tx, job revocation.Job, at cursor, now time.Time) (group cursor, to int64, err error) {
	s := job.Selector
	fromWeek, toWeek := s.Weeks()
	args := []any{nil, int64(s.FromIndex), at.epoch, at.issuer, at.idx, max(int64(fromWeek), firstEpoch(now)), nil}
	if s.ToIndex != 0 {
		args[0] = int64(s.ToIndex)
	}
	if toWeek != 0 {
		args[6] = int64(toWeek)
	}
	places := `(SELECT epoch, issuer, 0 AS start, next_idx AS stop FROM epochs)`
	if at.sweeps {
		places = `(SELECT epoch, issuer, from_idx AS start, to_idx AS stop FROM ranges WHERE state = 1
			UNION ALL SELECT epoch, issuer, from_idx, to_idx FROM ranges WHERE state = 2 AND changed_at >= (SELECT sweeps_from FROM jobs WHERE id = ?8))`
		args = append(args, job.ID[:])
	}
	narrowed := ""
	if issuers := issuersOf(s); issuers != nil {
		narrowed, args = ` AND `+in(`e.issuer`, len(issuers)), append(args, issuers...)
	}
	err = tx.QueryRowContext(ctx, `SELECT epoch, issuer, from_idx, to_idx FROM
		(SELECT e.epoch, e.issuer, min(e.stop, coalesce(?1, e.stop)) AS to_idx,
			max(e.start, ?2, CASE WHEN e.epoch = ?3 AND e.issuer = ?4 THEN ?5 + 1 ELSE 0 END) AS from_idx
		FROM `+places+` e WHERE (e.epoch, e.issuer) >= (?3, ?4) AND e.epoch >= ?6 AND (?7 IS NULL OR e.epoch < ?7)`+narrowed+`)
		WHERE from_idx < to_idx ORDER BY epoch, issuer, from_idx LIMIT 1`, args...).
		Scan(&group.epoch, &group.issuer, &group.idx, &to)
	return group, to, err
}

// row is a *sql.Row or *sql.Rows.
type row interface{ Scan(...any) error }

func scanJob(row row) (job revocation.Job, err error) {
	var id []byte
	var state, reason, selected, authorities, revoked, skipped, examined, lastSeq, createdAt int64
	var selector string
	var invalidityAt, startedAt, endedAt sql.NullInt64
	err = row.Scan(&id, &state, &selector, &reason, &invalidityAt, &job.Actor, &job.Comment, &selected, &authorities, &revoked, &skipped, &examined, &lastSeq,
		&job.Failure, &createdAt, &startedAt, &endedAt)
	if err != nil {
		return job, err
	}
	copy(job.ID[:], id)
	job.State, job.Reason = revocation.JobState(state), pki.Reason(reason)
	job.Selected, job.Authorities, job.Revoked, job.Skipped, job.Examined, job.LastSeq = uint64(selected), uint64(authorities), uint64(revoked), uint64(skipped), uint64(examined), uint64(lastSeq)
	job.CreatedAt, job.InvalidityAt, job.StartedAt, job.EndedAt = time.UnixMicro(createdAt).UTC(), timeOf(invalidityAt), timeOf(startedAt), timeOf(endedAt)
	return job, json.Unmarshal([]byte(selector), &job.Selector)
}

// nullMicros returns NULL for the zero time.
func nullMicros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// timeOf returns the zero time for NULL.
func timeOf(micros sql.NullInt64) time.Time {
	if !micros.Valid {
		return time.Time{}
	}
	return time.UnixMicro(micros.Int64).UTC()
}
