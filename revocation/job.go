package revocation

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// JobState is the state of a job. Zero is no state. The numbers are stored.
type JobState uint8

// The states.
const (
	JobNone      JobState = 0
	JobPlanned   JobState = 1 // the dry run was made
	JobRunning   JobState = 2 // any instance works on it, one at a time
	JobPaused    JobState = 3
	JobDone      JobState = 4
	JobCancelled JobState = 5 // what was revoked stays revoked
	JobFailed    JobState = 6 // Failure says why; it may be resumed
)

var jobStateNames = [...]string{"none", "planned", "running", "paused", "done", "cancelled", "failed"}

// String returns a lower-case word.
func (s JobState) String() string {
	if int(s) < len(jobStateNames) {
		return jobStateNames[s]
	}
	return "none"
}

// Job is a mass revocation.
type Job struct {
	ID           JobID
	State        JobState
	Selector     Selector
	Reason       pki.Reason
	InvalidityAt time.Time
	Actor        string // who planned it; its ledger entries have this actor
	Comment      string
	Selected     uint64 // by the dry run
	Authorities  uint64 // of them, CA certificates, as last counted: certificates below them are then worth nothing, and the job revokes no CA certificate beyond these
	Revoked      uint64 // entries appended so far
	Skipped      uint64 // selected, but revoked earlier
	Examined     uint64 // indices, keys' certificates or list entries passed so far
	LastSeq      uint64 // of its entries
	Failure      string // of JobFailed
	CreatedAt    time.Time
	StartedAt    time.Time // zero: not started
	EndedAt      time.Time // zero: not ended

	Principal auth.Principal // for the audit event when the job is stored; not read back
}

// Remaining estimates the time to go from the time that the work so far took. It returns false unless the job runs, has
// done something and had a dry run that counted, which the job of a blocked key has not. A pause makes the estimate too
// long.
func (j Job) Remaining(now time.Time) (time.Duration, bool) {
	done, elapsed := j.Revoked+j.Skipped, now.Sub(j.StartedAt)
	if j.State != JobRunning || j.Selected == 0 || done == 0 || j.StartedAt.IsZero() || elapsed <= 0 {
		return 0, false
	}
	if done >= j.Selected {
		return 0, true
	}
	left := float64(elapsed) * float64(j.Selected-done) / float64(done)
	return time.Duration(min(left, 1<<62)).Truncate(time.Millisecond), true // 146 years say enough
}

// Estimate is the result of a dry run.
type Estimate struct {
	Selected            uint64        // certificates selected that have not expired
	Already             uint64        // of them, those revoked earlier: they are skipped, unless the reason becomes keyCompromise
	Shards              []ShardEffect // by issuer, epoch and block
	Expired             uint64        // of the certificates listed one by one: those that have expired, which are not revoked
	Unknown             uint64        // of the certificates listed one by one: those that are not known
	UnknownCertificates []Key         // the first of the unknown ones, in the order of the list; at most MostUnknown
	CRLBytes            uint64        // approximate growth of all shards together
	Takes               time.Duration // approximate duration, on PostgreSQL
}

// ShardEffect is how many entries one CRL shard will gain.
type ShardEffect struct {
	Scope   Scope
	Entries uint64
}

// MostUnknown bounds the unknown certificates that an Estimate names: enough to see what is wrong with a list.
const MostUnknown = 10

const (
	// crlEntryBytes is an entry with a serial of 20 octets, a UTCTime and a reason: 2 + 22 + 15 + 14 octets.
	crlEntryBytes = 53
	// jobRate is a conservative estimate of the certificates that a job revokes in a second on an otherwise idle
	// system.
	jobRate = 50_000
)

// Chunk is the result of one step of a job.
type Chunk struct {
	State   JobState // of the job afterwards
	Busy    bool     // another instance works on it; nothing was done
	Revoked int
	Skipped int
	Seq     uint64        // the job's last entry
	Held    time.Duration // for how long the ledger was locked
}

// JobFilter says which jobs are wanted.
type JobFilter struct {
	State   JobState // JobNone: any
	Started bool     // none that nobody started: plans, and those that were cancelled
}

// JobsConfig configures Jobs.
type JobsConfig struct {
	Store    JobStore   // required
	Runner   JobRunner  // required
	Universe *Universe  // required
	Instance InstanceID // required: tells this process from others

	// Now is the clock. Zero: time.Now.
	Now func() time.Time
}

// Jobs plans, controls and runs mass revocations. It is safe for concurrent use.
type Jobs struct {
	config JobsConfig
	nudge  chan struct{} // wakes Run
}

const (
	opPlan        = "plan job"
	maxChunk      = 10_000
	minChunk      = 1_000                 // below that a chunk is mostly its own round trip and commit
	ledgerHeldFor = 20 * time.Millisecond // at most, about: single revocations wait meanwhile
)

// NewJobs makes Jobs. Its method Run does the work.
func NewJobs(config JobsConfig) (*Jobs, error) {
	if config.Store == nil || config.Runner == nil || config.Universe == nil || config.Instance == (InstanceID{}) {
		return nil, pki.Errorf(pki.KindInvalid, "make jobs", "Store, Runner, Universe and Instance are required")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Jobs{config: config, nudge: make(chan struct{}, 1)}, nil
}

// JobRequest describes a job to plan.
type JobRequest struct {
	Selector     Selector
	Serials      []Key // if Selector.Serials: at most 1,000,000
	Reason       pki.Reason
	InvalidityAt time.Time
	Comment      string
}

// Plan makes the dry run and stores the job in JobPlanned. Every method of Jobs that takes a grant demands one for
// auth.ActionManage.
func (j *Jobs) Plan(ctx context.Context, grant auth.Grant, request JobRequest) (Job, Estimate, error) {
	if err := manages(grant, opPlan); err != nil {
		return Job{}, Estimate{}, err
	}
	request.Selector.Serials = len(request.Serials) > 0
	if err := request.Selector.validate(); err != nil {
		return Job{}, Estimate{}, err
	}
	if err := j.reasonAllowed(request); err != nil {
		return Job{}, Estimate{}, err
	}
	claims, err := j.claims(ctx, request.Serials)
	if err != nil {
		return Job{}, Estimate{}, err
	}
	now := j.config.Now()
	estimate, err := j.config.Runner.CountSelected(ctx, request.Selector, claims, now)
	if err != nil {
		return Job{}, Estimate{}, err
	}
	if request.Selector.Serials {
		estimate.Expired = uint64(len(claims)) - estimate.Selected - estimate.Unknown
	}
	estimate.CRLBytes = estimate.Selected * crlEntryBytes
	estimate.Takes = time.Duration(estimate.Selected) * time.Second / jobRate
	job := Job{State: JobPlanned, Selector: request.Selector, Reason: request.Reason, InvalidityAt: request.InvalidityAt.UTC().Truncate(time.Second),
		Actor: grant.Principal().ID, Comment: request.Comment, Selected: estimate.Selected}
	rand.Read(job.ID[:])
	event := j.event(grant, job.ID, "job.plan")
	event.Detail = map[string]string{"selected": strconv.FormatUint(estimate.Selected, 10), "reason": job.Reason.String(), "comment": job.Comment}
	event.At = now
	job, err = j.config.Store.CreateJob(ctx, job, claims, now, event)
	return job, estimate, err
}

// Start starts a planned job if authorities is the number of CA certificates that it selects, which confirms that the
// caller knows it. They are counted again: if there are more by now, the job gets the new number and is not started.
func (j *Jobs) Start(ctx context.Context, grant auth.Grant, id JobID, authorities uint64) (Job, error) {
	const op = "start job"
	if err := manages(grant, op); err != nil {
		return Job{}, err
	}
	job, err := j.config.Runner.StartJob(ctx, id, authorities, j.config.Now(), j.event(grant, id, "job.start"))
	switch {
	case err != nil:
		return Job{}, err
	case job.State == JobPlanned:
		return Job{}, pki.Errorf(pki.KindFailedPrecondition, op, "%d of the certificates selected are those of authorities, and %d were agreed to: whatever is below them counts no more", job.Authorities, authorities).
			InField("confirmed_authorities").WithHint("nothing was revoked; look at the job, and start it with the number of authorities that is meant: confirmed_authorities: %d", job.Authorities)
	case job.State != JobRunning:
		return Job{}, pki.Errorf(pki.KindConflict, op, "job %s is %s", id, job.State)
	}
	j.wake()
	return job, nil
}

// Pause stops a job after its current chunk.
func (j *Jobs) Pause(ctx context.Context, grant auth.Grant, id JobID) (Job, error) {
	return j.move(ctx, grant, id, "job.pause", JobPaused, JobRunning)
}

// Resume continues a paused or failed job where it stopped.
func (j *Jobs) Resume(ctx context.Context, grant auth.Grant, id JobID) (Job, error) {
	return j.move(ctx, grant, id, "job.resume", JobRunning, JobPaused, JobFailed)
}

// Cancel ends a job for good; what it revoked stays revoked.
func (j *Jobs) Cancel(ctx context.Context, grant auth.Grant, id JobID) (Job, error) {
	return j.move(ctx, grant, id, "job.cancel", JobCancelled, JobPlanned, JobRunning, JobPaused, JobFailed)
}

// Get returns a job.
func (j *Jobs) Get(ctx context.Context, grant auth.Grant, id JobID) (Job, error) {
	if err := manages(grant, "get job"); err != nil {
		return Job{}, err
	}
	return j.config.Store.Job(ctx, id)
}

// List returns at most limit jobs (1 to 1,000), the newest first, that follow the job after (zero: from the newest).
func (j *Jobs) List(ctx context.Context, grant auth.Grant, filter JobFilter, after JobID, limit int) ([]Job, error) {
	if err := manages(grant, "list jobs"); err != nil {
		return nil, err
	}
	return j.config.Store.Jobs(ctx, filter, after, limit)
}

// Run works on running jobs until ctx ends, including those of other instances that stopped, and then leaves them to
// other runners, unless it ended with pki.ErrWentBack. report, if not nil, is called with every error.
func (j *Jobs) Run(ctx context.Context, report func(error)) {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		if err := j.RunOnce(ctx); err != nil && ctx.Err() == nil && report != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), pki.ErrWentBack) {
				return // another instance may not have seen it yet, and would go on with sequences that were used before
			}
			leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), silence)
			defer cancel()
			if err := j.config.Runner.LeaveJobs(leaving, j.config.Instance); err != nil && report != nil {
				report(err)
			}
			return
		case <-j.nudge:
		case <-poll.C:
		}
	}
}

// RunOnce takes every running job as far as it goes, and returns.
func (j *Jobs) RunOnce(ctx context.Context) error {
	running, err := j.config.Store.Jobs(ctx, JobFilter{State: JobRunning}, JobID{}, 100)
	if err != nil {
		return err
	}
	var failed error
	for _, job := range running {
		if err := j.run(ctx, job); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// run does chunk after chunk, sized so that the ledger is locked only briefly.
func (j *Jobs) run(ctx context.Context, job Job) error {
	if err := job.Selector.validate(); err != nil {
		return err // it would select what nobody planned
	}
	size := minChunk
	for {
		if err := j.config.Universe.Check(); err != nil {
			return err
		}
		var chunk Chunk
		err := unlessStale(func() (err error) { // a single revocation may come between
			chunk, err = j.config.Runner.RunChunk(ctx, job, j.config.Instance, size, j.config.Now())
			return err
		})
		switch {
		case err != nil && (pki.KindOf(err) == pki.KindUnavailable || ctx.Err() != nil):
			return err // the next round, or another instance, goes on
		case err != nil:
			return errors.Join(err, j.fail(ctx, job, err))
		}
		if chunk.Busy || chunk.State != JobRunning {
			return nil
		}
		size = nextSize(size, chunk)
	}
}

// nextSize returns the size of a chunk that locks the ledger for ledgerHeldFor. Certificates revoked earlier are part
// of a chunk but take none of that time, and the next chunk may have none of them.
func nextSize(size int, chunk Chunk) int {
	switch {
	case chunk.Held > ledgerHeldFor:
		return max(minChunk, size*2/3)
	case chunk.Revoked == 0 || chunk.Revoked+chunk.Skipped < size:
		return size // it says nothing about a larger one
	case chunk.Held*time.Duration(size)/time.Duration(chunk.Revoked) < ledgerHeldFor*3/4:
		return min(maxChunk, size*5/4)
	}
	return size
}

// fail stops a job that cannot go on.
func (j *Jobs) fail(ctx context.Context, job Job, cause error) error {
	grant, err := auth.System("jobs").Authorize(auth.ActionManage, "")
	if err != nil {
		return err
	}
	_, err = j.config.Store.MoveJob(ctx, job.ID, []JobState{JobRunning}, JobFailed, cause.Error(), j.event(grant, job.ID, "job.fail"))
	return err
}

func (j *Jobs) move(ctx context.Context, grant auth.Grant, id JobID, action string, to JobState, from ...JobState) (Job, error) {
	if err := manages(grant, action); err != nil {
		return Job{}, err
	}
	job, err := j.config.Store.MoveJob(ctx, id, from, to, "", j.event(grant, id, action))
	if err == nil && to == JobRunning {
		j.wake()
	}
	return job, err
}

func (j *Jobs) wake() {
	select {
	case j.nudge <- struct{}{}:
	default: // a nudge is pending
	}
}

// reasonAllowed judges the reason for every issuer that the selector may touch.
func (j *Jobs) reasonAllowed(request JobRequest) error {
	for _, issuer := range j.config.Universe.Issuers() {
		id := issuer.Key.Issuer()
		issuers := request.Selector.Issuers()
		touched := issuers == nil || slices.Contains(issuers, id)
		if request.Selector.Serials {
			touched = slices.ContainsFunc(request.Serials, func(key Key) bool { return key.Issuer == id })
		}
		if !touched {
			continue
		}
		if err := allowed(change{kind: KindRevoke, reason: request.Reason}, issuer.Public); err != nil {
			return err
		}
	}
	return allowed(change{kind: KindRevoke, reason: request.Reason}, false)
}

// claims unmasks a list of serials. A repeated one counts once, because a chunk appends one entry per certificate.
// Whether the certificate exists is for the database to say.
func (j *Jobs) claims(ctx context.Context, keys []Key) ([]Claim, error) {
	if len(keys) > maxSerials {
		return nil, pki.Errorf(pki.KindInvalid, opPlan, "%d serials: at most %d", len(keys), maxSerials).InField("serials")
	}
	claims := make([]Claim, 0, len(keys))
	listed := make(map[Key]bool, len(keys))
	for _, key := range keys {
		if listed[key] {
			continue
		}
		listed[key] = true
		claim, _, err := j.config.Universe.claim(ctx, key)
		if err != nil {
			return nil, err
		}
		claims = append(claims, claim)
	}
	return claims, nil
}

func (j *Jobs) event(grant auth.Grant, id JobID, action string) audit.Event {
	who := grant.Principal()
	return audit.Event{At: j.config.Now(), Actor: who.ID, Action: action, Target: "job/" + id.String(), Outcome: audit.OK, RequestID: who.RequestID, Source: who.Source}
}

func manages(grant auth.Grant, op string) error {
	if grant.Allows(auth.ActionManage, "") {
		return nil
	}
	return pki.Errorf(pki.KindDenied, op, "%s may not manage jobs", grant.Principal().ID)
}
