package client

import (
	"context"
	"time"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// Selector chooses unexpired certificates that are not revoked; every condition that is not zero must hold.
type Selector struct {
	Issuer       pki.IssuerID
	Epoch        *pki.Epoch // only together with Issuer
	IndexFrom    uint64     // only together with Epoch
	IndexTo      uint64     // exclusive; only together with Epoch
	Profile      string
	Account      string
	IssuedAfter  time.Time // inclusive
	IssuedBefore time.Time
	KeyHashes    []pki.KeyHash
	Identifiers  []string
	DNSSuffix    string
	Serials      []pki.Serial
}

// JobState is where a mass revocation stands.
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

// Ended reports whether nothing more will happen without a call.
func (s JobState) Ended() bool { return s == JobDone || s == JobCancelled || s == JobFailed }

// Job is a mass revocation.
type Job struct {
	answer
	ID           string
	State        JobState
	Reason       pki.Reason
	InvalidityAt time.Time
	Selected     uint64 // found by the plan
	Revoked      uint64 // by this job
	Skipped      uint64 // revoked by somebody else meanwhile
	CRLGrowth    uint64 // octets, estimated
	Remaining    time.Duration
	Sequence     uint64
	Actor        string
	PlannedAt    time.Time
	StartedAt    time.Time
	EndedAt      time.Time
	Failure      string
}

// JobPage is one page of a list.
type JobPage struct {
	answer
	Jobs []Job  // newest first
	Next string // token of the next page; empty at the end
}

// PlanJob counts what the selector finds and revokes nothing.
func (c *Client) PlanJob(ctx context.Context, s Selector, reason pki.Reason, invalidityAt time.Time) (*Job, error) {
	a, err := invoke(ctx, c, "plan job", c.jobs.PlanJob, signetv1.PlanJobRequest_builder{
		Selector: s.message(), Reason: new(signetv1.Reason(reason)), InvalidityAt: timestamp(invalidityAt)}.Build())
	if err != nil {
		return nil, err
	}
	return jobFrom(a.GetJob()), nil
}

// StartJob starts a planned job.
func (c *Client) StartJob(ctx context.Context, id string) (*Job, error) {
	a, err := invoke(ctx, c, "start job", c.jobs.StartJob, signetv1.StartJobRequest_builder{Job: &id}.Build())
	if err != nil {
		return nil, err
	}
	return jobFrom(a.GetJob()), nil
}

// PauseJob pauses a running job.
func (c *Client) PauseJob(ctx context.Context, id string) (*Job, error) {
	a, err := invoke(ctx, c, "pause job", c.jobs.PauseJob, signetv1.PauseJobRequest_builder{Job: &id}.Build())
	if err != nil {
		return nil, err
	}
	return jobFrom(a.GetJob()), nil
}

// ResumeJob goes on with a paused or failed job.
func (c *Client) ResumeJob(ctx context.Context, id string) (*Job, error) {
	a, err := invoke(ctx, c, "resume job", c.jobs.ResumeJob, signetv1.ResumeJobRequest_builder{Job: &id}.Build())
	if err != nil {
		return nil, err
	}
	return jobFrom(a.GetJob()), nil
}

// CancelJob ends a job for good.
func (c *Client) CancelJob(ctx context.Context, id string) (*Job, error) {
	a, err := invoke(ctx, c, "cancel job", c.jobs.CancelJob, signetv1.CancelJobRequest_builder{Job: &id}.Build())
	if err != nil {
		return nil, err
	}
	return jobFrom(a.GetJob()), nil
}

// Job returns one job.
func (c *Client) Job(ctx context.Context, id string) (*Job, error) {
	a, err := invoke(ctx, c, "get job", c.jobs.GetJob, signetv1.GetJobRequest_builder{Job: &id}.Build())
	if err != nil {
		return nil, err
	}
	return jobFrom(a.GetJob()), nil
}

// Jobs returns one page of jobs. A size of zero means 100.
func (c *Client) Jobs(ctx context.Context, size int, token string) (*JobPage, error) {
	a, err := invoke(ctx, c, "list jobs", c.jobs.ListJobs, signetv1.ListJobsRequest_builder{PageSize: new(uint32(size)), PageToken: optional(token)}.Build())
	if err != nil {
		return nil, err
	}
	page := &JobPage{answer: answer{a}, Next: a.GetNextPageToken()}
	for _, m := range a.GetJobs() {
		page.Jobs = append(page.Jobs, *jobFrom(m))
	}
	return page, nil
}

func (s Selector) message() *signetv1.Selector {
	m := signetv1.Selector_builder{
		Issuer:       issuerText(s.Issuer),
		Profile:      optional(s.Profile),
		Account:      optional(s.Account),
		IssuedAfter:  timestamp(s.IssuedAfter),
		IssuedBefore: timestamp(s.IssuedBefore),
		Identifiers:  s.Identifiers,
		DnsSuffix:    optional(s.DNSSuffix),
	}.Build()
	if s.Epoch != nil {
		m.SetEpoch(uint32(*s.Epoch))
	}
	if s.IndexFrom != 0 || s.IndexTo != 0 {
		m.SetIndexFrom(s.IndexFrom)
		m.SetIndexTo(s.IndexTo)
	}
	for _, h := range s.KeyHashes {
		m.SetKeyHashes(append(m.GetKeyHashes(), h.String()))
	}
	for _, serial := range s.Serials {
		m.SetSerials(append(m.GetSerials(), serial.String()))
	}
	return m
}

func jobFrom(m *signetv1.Job) *Job {
	j := &Job{
		answer:       answer{m},
		ID:           m.GetJob(),
		Reason:       pki.Reason(m.GetReason()),
		InvalidityAt: instant(m.GetInvalidityAt()),
		Selected:     m.GetSelected(),
		Revoked:      m.GetRevoked(),
		Skipped:      m.GetSkipped(),
		CRLGrowth:    m.GetCrlGrowth(),
		Remaining:    m.GetRemaining().AsDuration(),
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
