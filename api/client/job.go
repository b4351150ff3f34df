package client

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/proto"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// CertificateName names a certificate.
type CertificateName struct {
	Issuer pki.IssuerID
	Serial pki.Serial
}

// String is ISSUER/SERIAL, as the commands of signet take it.
func (n CertificateName) String() string { return n.Issuer.String() + "/" + n.Serial.String() }

// Selector selects unexpired certificates: those that match every condition that is not zero. Where, KeyHashes and
// Certificates each select alone. The zero Selector is refused.
type Selector struct {
	Where        string // "profile=server and issued>=2026-11-01"
	Everything   bool
	Issuer       pki.IssuerID
	Under        pki.IssuerID // this issuer and those below it; not beside Issuer
	EpochFrom    pki.Epoch
	EpochTo      pki.Epoch // exclusive; zero: no bound
	IndexFrom    uint64
	IndexTo      uint64 // exclusive; zero: no bound
	Profile      string
	Account      string
	IssuedFrom   time.Time // inclusive
	IssuedUntil  time.Time // exclusive
	ExpiresFrom  time.Time // inclusive
	ExpiresUntil time.Time // exclusive
	Identifiers  []string  // any of them
	KeyHashes    []pki.KeyHash
	Certificates []CertificateName // at most 50,000
}

// JobState is the state of a mass revocation.
type JobState uint8

// The states.
const (
	JobUnknown JobState = iota
	JobPlanned
	JobRunning
	JobPaused
	JobDone
	JobCancelled
	JobFailed
)

var jobStates = [...]string{"unknown", "planned", "running", "paused", "done", "cancelled", "failed"}

// String is a lower-case word.
func (s JobState) String() string {
	if int(s) < len(jobStates) {
		return jobStates[s]
	}
	return jobStates[JobUnknown]
}

// Ended reports whether nothing more happens without a further call.
func (s JobState) Ended() bool { return s == JobDone || s == JobCancelled || s == JobFailed }

// Job is a mass revocation.
type Job struct {
	answer
	ID           string
	State        JobState
	Reason       pki.Reason
	InvalidityAt time.Time
	Comment      string
	Selected     uint64 // found by the plan
	Authorities  uint64 // of them, CA certificates: certificates below them are then worth nothing
	Revoked      uint64 // by this job
	Skipped      uint64 // revoked earlier
	Examined     uint64
	Remaining    time.Duration // estimate; zero: not known
	Sequence     uint64
	Actor        string
	PlannedAt    time.Time
	StartedAt    time.Time
	EndedAt      time.Time
	Failure      string
	PublishedAt  time.Time // zero unless waited for
}

// ShardEffect is what a job does to one CRL shard.
type ShardEffect struct {
	Issuer  pki.IssuerID
	Shard   string // "{epoch}-{block}"
	Entries uint64
}

// Plan is a job that has not been started, and what it would do.
type Plan struct {
	answer
	Job                 Job
	AlreadyRevoked      uint64            // of Job.Selected: they are skipped
	CRLGrowth           uint64            // in octets, approximate
	Takes               time.Duration     // approximate
	Shards              []ShardEffect     // those that grow most
	Expired             uint64            // of Selector.Certificates: expired, not revoked by the job
	Unknown             uint64            // of Selector.Certificates: not known to the server
	UnknownCertificates []CertificateName // the first of the unknown ones; at most 10
}

// JobRequest says what to revoke and why.
type JobRequest struct {
	Selector     Selector
	Reason       pki.Reason
	InvalidityAt time.Time // zero: not said
	Comment      string
}

// PlanJob counts what the selector finds and revokes nothing.
func (c *Client) PlanJob(ctx context.Context, q JobRequest) (*Plan, error) {
	a, err := invoke(ctx, c, "plan job", c.jobs.PlanJob, signetv1.PlanJobRequest_builder{
		Selector: q.Selector.message(), Reason: new(signetv1.Reason(q.Reason)), InvalidityAt: timestamp(q.InvalidityAt), Comment: optional(q.Comment)}.Build())
	if err != nil {
		return nil, err
	}
	plan := &Plan{answer: answer{a}, Job: *jobFrom(a.GetJob()), AlreadyRevoked: a.GetAlreadyRevoked(), CRLGrowth: a.GetCrlGrowthBytes(), Takes: a.GetEstimatedDuration().AsDuration(),
		Expired: a.GetExpired(), Unknown: a.GetUnknown()}
	for _, m := range a.GetShards() {
		issuer, err := pki.ParseIssuerID(m.GetIssuer())
		if err != nil {
			return nil, unreadable(err)
		}
		plan.Shards = append(plan.Shards, ShardEffect{issuer, m.GetShard(), m.GetEntries()})
	}
	for _, m := range a.GetUnknownCertificates() {
		issuer, serial, err := names(m)
		if err != nil {
			return nil, err
		}
		plan.UnknownCertificates = append(plan.UnknownCertificates, CertificateName{issuer, serial})
	}
	return plan, nil
}

// StartJob starts a planned job, which then runs on the server: Job returns how far it is. authorities is the number of
// CA certificates that it selects, which confirms that they are meant.
func (c *Client) StartJob(ctx context.Context, id string, authorities uint64) (*Job, error) {
	a, err := invoke(ctx, c, "start job", c.jobs.StartJob, signetv1.StartJobRequest_builder{Job: &id, ConfirmedAuthorities: &authorities}.Build())
	if err != nil {
		return nil, err
	}
	return answeredJob(a, a.GetJob()), nil
}

// PauseJob pauses a running job.
func (c *Client) PauseJob(ctx context.Context, id string) (*Job, error) {
	a, err := invoke(ctx, c, "pause job", c.jobs.PauseJob, signetv1.PauseJobRequest_builder{Job: &id}.Build())
	if err != nil {
		return nil, err
	}
	return answeredJob(a, a.GetJob()), nil
}

// ResumeJob resumes a paused or failed job.
func (c *Client) ResumeJob(ctx context.Context, id string) (*Job, error) {
	a, err := invoke(ctx, c, "resume job", c.jobs.ResumeJob, signetv1.ResumeJobRequest_builder{Job: &id}.Build())
	if err != nil {
		return nil, err
	}
	return answeredJob(a, a.GetJob()), nil
}

// CancelJob ends a job for good.
func (c *Client) CancelJob(ctx context.Context, id string) (*Job, error) {
	a, err := invoke(ctx, c, "cancel job", c.jobs.CancelJob, signetv1.CancelJobRequest_builder{Job: &id}.Build())
	if err != nil {
		return nil, err
	}
	return answeredJob(a, a.GetJob()), nil
}

// Job returns one job.
func (c *Client) Job(ctx context.Context, id string) (*Job, error) {
	a, err := invoke(ctx, c, "get job", c.jobs.GetJob, signetv1.GetJobRequest_builder{Job: &id}.Build())
	if err != nil {
		return nil, err
	}
	return answeredJob(a, a.GetJob()), nil
}

// AwaitJobPublished returns a job once every live instance has published what it has revoked so far. PublishedAt is zero if
// that takes longer than a call may.
func (c *Client) AwaitJobPublished(ctx context.Context, id string) (*Job, error) {
	a, err := invoke(ctx, c, "await job", c.jobs.GetJob, signetv1.GetJobRequest_builder{Job: &id, WaitFor: waitFor(true)}.Build())
	if err != nil {
		return nil, err
	}
	job := answeredJob(a, a.GetJob())
	job.PublishedAt = instant(a.GetPublishedAt())
	return job, nil
}

// JobFilter selects jobs; every condition that is not zero must hold.
type JobFilter struct {
	Started bool // no plans that nobody started, cancelled ones included
}

// Jobs returns one page of the jobs that match, newest first.
func (c *Client) Jobs(ctx context.Context, f JobFilter, p Page) (*List[Job], error) {
	a, err := invoke(ctx, c, "list jobs", c.jobs.ListJobs, signetv1.ListJobsRequest_builder{Started: &f.Started, PageSize: p.size(), PageToken: optional(p.Token)}.Build())
	if err != nil {
		return nil, err
	}
	list := &List[Job]{answer: answer{a}, Next: a.GetNextPageToken()}
	for _, m := range a.GetJobs() {
		list.Items = append(list.Items, *jobFrom(m))
	}
	return list, nil
}

// AllJobs returns every job that matches, newest first. An error ends the sequence.
func (c *Client) AllJobs(ctx context.Context, f JobFilter) iter.Seq2[Job, error] {
	return all(func(p Page) (*List[Job], error) { return c.Jobs(ctx, f, p) })
}

func (s Selector) message() *signetv1.Selector {
	b := signetv1.Selector_builder{
		Where:        optional(s.Where),
		Issuer:       issuerText(s.Issuer),
		Under:        issuerText(s.Under),
		ExpiresFrom:  timestamp(s.ExpiresFrom),
		ExpiresUntil: timestamp(s.ExpiresUntil),
		Profile:      optional(s.Profile),
		Account:      optional(s.Account),
		IssuedFrom:   timestamp(s.IssuedFrom),
		IssuedUntil:  timestamp(s.IssuedUntil),
		Identifiers:  s.Identifiers,
	}
	if s.Everything {
		b.Everything = &s.Everything
	}
	if s.EpochFrom != 0 {
		b.EpochFrom = new(uint32(s.EpochFrom))
	}
	if s.EpochTo != 0 {
		b.EpochTo = new(uint32(s.EpochTo))
	}
	if s.IndexFrom != 0 {
		b.IndexFrom = &s.IndexFrom
	}
	if s.IndexTo != 0 {
		b.IndexTo = &s.IndexTo
	}
	for _, h := range s.KeyHashes {
		b.KeyHashes = append(b.KeyHashes, h.String())
	}
	for _, name := range s.Certificates {
		b.Certificates = append(b.Certificates, signetv1.CertificateName_builder{Issuer: new(name.Issuer.String()), Serial: new(name.Serial.String())}.Build())
	}
	return b.Build()
}

// answeredJob is the job of an answer that has nothing else, and marshals to that answer.
func answeredJob(a proto.Message, m *signetv1.Job) *Job {
	job := jobFrom(m)
	job.answer = answer{a}
	return job
}

func jobFrom(m *signetv1.Job) *Job {
	j := &Job{
		answer:       answer{m},
		ID:           m.GetJob(),
		Reason:       pki.Reason(m.GetReason()),
		InvalidityAt: instant(m.GetInvalidityAt()),
		Selected:     m.GetSelected(),
		Authorities:  m.GetAuthorities(),
		Revoked:      m.GetRevoked(),
		Skipped:      m.GetSkipped(),
		Comment:      m.GetComment(),
		Examined:     m.GetExamined(),
		Remaining:    m.GetEstimatedRemaining().AsDuration(),
		Sequence:     m.GetSequence(),
		Actor:        m.GetActor(),
		PlannedAt:    instant(m.GetPlannedAt()),
		StartedAt:    instant(m.GetStartedAt()),
		EndedAt:      instant(m.GetEndedAt()),
		Failure:      m.GetFailure(),
	}
	if s := m.GetState(); s > 0 && int(s) < len(jobStates) {
		j.State = JobState(s)
	}
	return j
}
