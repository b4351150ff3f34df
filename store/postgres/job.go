package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

const (
	jobWindow = 1 << 18          // indices that one chunk of a scan examines
	jobLease  = 10 * time.Second // how long a job is reserved for its runner after a chunk
)

// selectorArgs returns the parameters of a selector: $1 to $14 if a query has no others before them.
func selectorArgs(s revocation.Selector, at time.Time) []any {
	var issuers [][]byte
	for _, issuer := range s.Issuers() {
		issuers = append(issuers, issuer[:])
	}
	from, to := s.Weeks()
	var epochTo *int32
	if to != 0 {
		epochTo = new(int32(to))
	}
	var idxTo *int64
	if s.ToIndex != 0 {
		idxTo = new(int64(s.ToIndex))
	}
	var keys [][]byte
	for i := range s.Keys {
		keys = append(keys, s.Keys[i][:])
	}
	var names []string
	for _, name := range s.Names {
		names = append(names, inventory.ReversedName(name.Value))
	}
	return []any{issuers, max(int32(from), firstEpoch(at)), epochTo, int64(s.FromIndex), idxTo, nullText(s.Profile), nullText(s.Account),
		nullTime(s.IssuedFrom), nullTime(s.IssuedUntil), nullTime(s.ExpiresFrom), nullTime(s.ExpiresUntil), keys, names, s.Spared()}
}

// selected are the certificates c that a selector selects and that have not expired at $15; see selectorArgs. It is not
// for lists of serials.
const selected = `certificates c WHERE c.epoch >= $2 AND c.not_after > $15
		AND ($1::bytea[] IS NULL OR c.issuer = ANY ($1)) AND ($3::integer IS NULL OR c.epoch < $3) AND c.idx >= $4 AND ($5::bigint IS NULL OR c.idx < $5)
		AND ($6::text IS NULL OR c.profile = $6) AND ($7::text IS NULL OR c.account = $7)
		AND ($8::timestamptz IS NULL OR c.issued_at >= $8) AND ($9::timestamptz IS NULL OR c.issued_at < $9)
		AND ($10::timestamptz IS NULL OR c.not_after >= $10) AND ($11::timestamptz IS NULL OR c.not_after < $11)
		AND ($12::bytea[] IS NULL OR c.spki_hash = ANY ($12))
		AND ($13::text[] IS NULL OR EXISTS (SELECT 1 FROM certificate_names n
			WHERE n.reversed = ANY ($13) AND n.epoch = c.epoch AND n.issuer = c.issuer AND n.idx = c.idx))
		AND ($14::text[] IS NULL OR c.account <> 'system' AND c.profile <> ALL ($14))`

// CountSelected implements revocation.JobRunner.
func (s *Store) CountSelected(ctx context.Context, selector revocation.Selector, claims []revocation.Claim, at time.Time) (revocation.Estimate, error) {
	const op = "count selected certificates"
	from, args := selected, append(selectorArgs(selector, at), at)
	if selector.Serials {
		issuer, epoch, idx, serial := claimColumns(claims)
		from = `unnest($1::bytea[], $2::integer[], $3::bigint[], $4::bytea[]) AS s (issuer, epoch, idx, serial)
			JOIN certificates c ON c.issuer = s.issuer AND c.epoch = s.epoch AND c.idx = s.idx AND c.serial = s.serial WHERE c.not_after > $5`
		args = []any{issuer, epoch, idx, serial, at}
	}
	var estimate revocation.Estimate
	ctx = withTimeout(ctx, 10*time.Minute)
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// It may read every certificate, and locks nothing.
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = '10min'`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT c.issuer, c.epoch, c.idx / `+strconv.Itoa(pki.BlockSize)+` AS block, count(*),
				count(*) FILTER (WHERE (SELECT l.kind FROM ledger l WHERE l.epoch = c.epoch AND l.issuer = c.issuer AND l.idx = c.idx ORDER BY l.seq + 0 DESC LIMIT 1) IN (1, 2, 5))
			FROM `+from+` GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`, args...)
		if err != nil {
			return err
		}
		if estimate, err = collectEstimate(rows); err != nil || !selector.Serials {
			return err
		}
		rows, err = tx.Query(ctx, `SELECT count(*) OVER (), s.issuer, s.serial FROM unnest($1::bytea[], $2::integer[], $3::bigint[], $4::bytea[]) WITH ORDINALITY AS s (issuer, epoch, idx, serial, n)
			WHERE NOT EXISTS (SELECT FROM certificates c WHERE c.issuer = s.issuer AND c.epoch = s.epoch AND c.idx = s.idx AND c.serial = s.serial)
			ORDER BY s.n LIMIT $5`, append(args[:4:4], revocation.MostUnknown)...)
		if err != nil {
			return err
		}
		var issuer, serial []byte
		_, err = pgx.ForEachRow(rows, []any{&estimate.Unknown, &issuer, &serial}, func() error {
			estimate.UnknownCertificates = append(estimate.UnknownCertificates, revocation.Key{Issuer: pki.IssuerID(issuer), Serial: pki.Serial(serial)})
			return nil
		})
		return err
	})
	return estimate, translate(op, err)
}

func collectEstimate(rows pgx.Rows) (estimate revocation.Estimate, err error) {
	var issuer []byte
	var epoch int32
	var block, count, already int64
	_, err = pgx.ForEachRow(rows, []any{&issuer, &epoch, &block, &count, &already}, func() error {
		estimate.Selected += uint64(count)
		estimate.Already += uint64(already)
		scope := revocation.OfShard(pki.IssuerID(issuer), pki.Shard{Epoch: pki.Epoch(epoch), Block: uint32(block)})
		estimate.Shards = append(estimate.Shards, revocation.ShardEffect{Scope: scope, Entries: uint64(count - already)})
		return nil
	})
	return estimate, err
}

// CreateJob implements revocation.JobStore. It needs several calls, because the list is sent by COPY. Until the audit
// head at the end, it locks only rows that no other transaction can see.
func (s *Store) CreateJob(ctx context.Context, job revocation.Job, claims []revocation.Claim, at time.Time, event audit.Event) (revocation.Job, error) {
	const op = "create job"
	selector, err := json.Marshal(job.Selector)
	if err != nil {
		return job, translate(op, err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO jobs (id, state, selector, reason, invalidity_at, actor, comment, selected) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING created_at`,
			job.ID[:], int16(job.State), string(selector), int16(job.Reason), nullTime(job.InvalidityAt), plain(job.Actor), plain(job.Comment), int64(job.Selected)).Scan(&job.CreatedAt)
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"job_serials"}, []string{"job", "n", "issuer", "epoch", "idx", "serial"}, pgx.CopyFromSlice(len(claims), func(i int) ([]any, error) {
			c := &claims[i]
			return []any{job.ID[:], int64(i), c.Issuer[:], int32(c.Position.Epoch), int64(c.Position.Index), c.Serial[:]}, nil
		}))
		if err != nil {
			return err
		}
		if job.Authorities, err = countAuthorities(ctx, tx, job, at); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `SELECT signet_audit_append($1)`, auditParam([]audit.Event{event}))
		return err
	})
	job.CreatedAt = job.CreatedAt.UTC()
	return job, translate(op, err)
}

// StartJob implements revocation.JobRunner. Counting may take long, but locks only the job's row.
func (s *Store) StartJob(ctx context.Context, id revocation.JobID, authorities uint64, at time.Time, event audit.Event) (job revocation.Job, err error) {
	const op = "start job"
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+jobColumns+` FROM jobs WHERE id = $1 FOR UPDATE`, id[:])
		if err != nil {
			return err
		}
		if job, err = theJob(rows, id); err != nil || job.State != revocation.JobPlanned {
			return err
		}
		_, err = countAuthorities(ctx, tx, job, at)
		return err
	})
	if err != nil {
		return job, translate(op, err)
	}
	rows, err := s.pool.Query(ctx, `SELECT `+jobColumns+` FROM signet_start_job($1, $2, $3)`, id[:], int64(authorities), auditParam([]audit.Event{event}))
	if err != nil {
		return job, translate(op, err)
	}
	job, err = theJob(rows, id)
	return job, translate(op, err)
}

// countAuthorities stores with a job the CA certificates among those that it selects, and returns how many were not
// stored before.
func countAuthorities(ctx context.Context, tx pgx.Tx, job revocation.Job, at time.Time) (appeared uint64, err error) {
	from, args := selected, append(selectorArgs(job.Selector, at), at, job.ID[:])
	if job.Selector.Serials {
		from = `job_serials s JOIN certificates c ON c.issuer = s.issuer AND c.epoch = s.epoch AND c.idx = s.idx AND c.serial = s.serial
			WHERE s.job = $2 AND c.not_after > $1`
		args = []any{at, job.ID[:]}
	}
	err = tx.QueryRow(ctx, `WITH found AS (INSERT INTO job_authorities (job, issuer, epoch, idx)
			SELECT $`+strconv.Itoa(len(args))+`, c.issuer, c.epoch, c.idx FROM `+from+` AND c.authority ON CONFLICT DO NOTHING RETURNING 1)
		UPDATE jobs SET counted = true, authorities = authorities + (SELECT count(*) FROM found) WHERE id = $`+strconv.Itoa(len(args))+` RETURNING (SELECT count(*) FROM found)`, args...).Scan(&appeared)
	return appeared, err
}

const jobColumns = `id, state, selector, reason, invalidity_at, actor, comment, selected, authorities, revoked, skipped, examined, last_seq, failure, created_at, started_at, ended_at`

// MoveJob implements revocation.JobStore.
func (s *Store) MoveJob(ctx context.Context, id revocation.JobID, from []revocation.JobState, to revocation.JobState, failure string, event audit.Event) (revocation.Job, error) {
	const op = "move job"
	states := make([]int16, len(from))
	for i, state := range from {
		states[i] = int16(state)
	}
	var moved bool
	if err := s.pool.QueryRow(ctx, `SELECT signet_move_job($1, $2, $3, $4, $5)`, id[:], states, int16(to), plain(failure), auditParam([]audit.Event{event})).Scan(&moved); err != nil {
		return revocation.Job{}, translate(op, err)
	}
	job, err := s.Job(ctx, id)
	if err == nil && !moved && job.State != to {
		return job, pki.Errorf(pki.KindConflict, op, "job %s is %s", id, job.State)
	}
	return job, err
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
	rows, err := s.pool.Query(ctx, `SELECT `+jobColumns+` FROM jobs WHERE ($1 = 0 OR state = $1) AND (NOT $4 OR started_at IS NOT NULL)
		AND ($3::bytea IS NULL OR EXISTS (SELECT FROM jobs a WHERE a.id = $3 AND (jobs.created_at < a.created_at OR jobs.created_at = a.created_at AND jobs.id > a.id)))
		ORDER BY created_at DESC, id LIMIT $2`, int16(filter.State), limit, behind, filter.Started)
	if err != nil {
		return nil, translate(op, err)
	}
	jobs, err := pgx.CollectRows(rows, scanJob)
	return jobs, translate(op, err)
}

// Job implements revocation.JobStore.
func (s *Store) Job(ctx context.Context, id revocation.JobID) (revocation.Job, error) {
	const op = "read job"
	rows, err := s.pool.Query(ctx, `SELECT `+jobColumns+` FROM jobs WHERE id = $1`, id[:])
	if err != nil {
		return revocation.Job{}, translate(op, err)
	}
	job, err := theJob(rows, id)
	return job, translate(op, err)
}

// theJob reads the single row of a job.
func theJob(rows pgx.Rows, id revocation.JobID) (revocation.Job, error) {
	job, err := pgx.CollectExactlyOneRow(rows, scanJob)
	if errors.Is(err, pgx.ErrNoRows) {
		return job, pki.Errorf(pki.KindNotFound, "read job", "there is no job %s", id).InField("job")
	}
	return job, err
}

// RunChunk implements revocation.JobRunner. While one chunk is written, another connection chooses the next (decision
// 1080).
func (s *Store) RunChunk(ctx context.Context, job revocation.Job, runner revocation.InstanceID, limit int, at time.Time) (chunk revocation.Chunk, err error) {
	ahead := s.ahead.take(job.ID)
	var next *choice
	var choosing sync.WaitGroup
	if ahead != nil {
		choosing.Go(func() { next = s.choose(ctx, job, ahead, limit, at) })
	}
	var state int16
	var seq int64
	var taken bool
	args := append(selectorArgs(job.Selector, at), job.Selector.Serials, job.ID[:], runner[:], jobLease, limit, int64(jobWindow), at.UnixMicro(), ahead)
	err = s.pool.QueryRow(ctx, `SELECT state, busy, taken, revoked, skipped, seq, held FROM signet_job_chunk($16, $17, $18, $19, $20, $21, `+jobSelector+`, $22)`, args...).
		Scan(&state, &chunk.Busy, &taken, &chunk.Revoked, &chunk.Skipped, &seq, &chunk.Held)
	choosing.Wait()
	chunk.State, chunk.Seq = revocation.JobState(state), uint64(seq)
	if err != nil || chunk.Busy || chunk.State != revocation.JobRunning {
		return chunk, translate("run job", err)
	}
	if !taken {
		next = s.choose(ctx, job, &choice{}, limit, at)
	}
	s.ahead.put(job.ID, next)
	return chunk, nil
}

// choose chooses the certificates that a job examines after another choice or, if that is empty, from where the job
// stands. Nil means that nothing can be chosen ahead. In case of an error the next chunk chooses for itself and returns
// it.
func (s *Store) choose(ctx context.Context, job revocation.Job, after *choice, limit int, at time.Time) *choice {
	if job.Selector.Serials || len(job.Selector.Keys) > 0 {
		return nil // a chunk of these may depend on what the one before appended
	}
	args := append(selectorArgs(job.Selector, at), false, job.ID[:], limit, int64(jobWindow), at.UnixMicro(), after.epoch, after.issuer, after.upto)
	rows, err := s.pool.Query(ctx, `SELECT c.epoch, c.issuer, c.upto, c FROM signet_job_ahead($16, $17, $18, $19, `+jobSelector+`, $20, $21, $22) AS c WHERE c.upto IS NOT NULL`, args...)
	if err != nil {
		return nil
	}
	chosen, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (*choice, error) {
		c := &choice{octets: slices.Clone(row.RawValues()[3])}
		return c, row.Scan(&c.epoch, &c.issuer, &c.upto, nil)
	})
	if err != nil {
		return nil
	}
	return chosen
}

// jobSelector makes a job_selector from selectorArgs and Serials.
const jobSelector = `ROW($1::bytea[], $2::integer, $3::integer, $4::bigint, $5::bigint, $6::text, $7::text, $8::timestamptz, $9::timestamptz, $10::timestamptz, $11::timestamptz,
	$12::bytea[], $13::text[], $14::text[], $15::boolean)::job_selector`

// choice is the set of certificates that a job will examine when it stands at a certain place. It is a job_choice as
// received from the database, and is sent back unchanged. 10,000 certificates take 360 KB.
type choice struct {
	octets []byte
	epoch  *int32 // with issuer and upto, the place where the job stands afterwards
	issuer []byte
	upto   *int64
}

// appendTo implements argument.
func (c *choice) appendTo(b []byte, _ *typeIDs) []byte {
	if c == nil {
		return b
	}
	return append(b, c.octets...)
}

// lookahead holds the choice for the job that runs here; jobs run one after the other. It only saves time: a job that
// is not at the place of the choice chooses for itself.
type lookahead struct {
	mu     sync.Mutex
	job    revocation.JobID // guarded by mu
	choice *choice          // guarded by mu
}

// take returns the choice for a job and removes it.
func (l *lookahead) take(job revocation.JobID) (taken *choice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.job == job {
		taken, l.choice = l.choice, nil
	}
	return taken
}

func (l *lookahead) put(job revocation.JobID, made *choice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.job, l.choice = job, made
}

// LeaveJobs implements revocation.JobRunner.
func (s *Store) LeaveJobs(ctx context.Context, runner revocation.InstanceID) error {
	_, err := s.pool.Exec(ctx, `UPDATE jobs SET lease_until = NULL WHERE state = 2 AND runner = $1`, runner[:])
	return translate("leave jobs", err)
}

func scanJob(row pgx.CollectableRow) (job revocation.Job, err error) {
	var id []byte
	var state, reason int16
	var selector string
	var selected, authorities, revoked, skipped, examined, lastSeq int64
	var invalidityAt, startedAt, endedAt *time.Time
	err = row.Scan(&id, &state, &selector, &reason, &invalidityAt, &job.Actor, &job.Comment, &selected, &authorities, &revoked, &skipped, &examined, &lastSeq,
		&job.Failure, &job.CreatedAt, &startedAt, &endedAt)
	if err != nil {
		return job, err
	}
	copy(job.ID[:], id)
	job.State, job.Reason = revocation.JobState(state), pki.Reason(reason)
	job.Selected, job.Authorities, job.Revoked, job.Skipped, job.Examined, job.LastSeq = uint64(selected), uint64(authorities), uint64(revoked), uint64(skipped), uint64(examined), uint64(lastSeq)
	job.CreatedAt, job.InvalidityAt, job.StartedAt, job.EndedAt = job.CreatedAt.UTC(), timeOf(invalidityAt), timeOf(startedAt), timeOf(endedAt)
	return job, json.Unmarshal([]byte(selector), &job.Selector)
}

func claimColumns(claims []revocation.Claim) (issuer [][]byte, epoch []int32, idx []int64, serial [][]byte) {
	for i := range claims {
		c := &claims[i]
		issuer, epoch, idx, serial = append(issuer, c.Issuer[:]), append(epoch, int32(c.Position.Epoch)), append(idx, int64(c.Position.Index)), append(serial, c.Serial[:])
	}
	return issuer, epoch, idx, serial
}

// plain returns text in the form that PostgreSQL accepts: UTF-8 without NUL.
func plain(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

func nullText(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// timeOf returns the zero time for NULL.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
