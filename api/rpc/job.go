package rpc

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// The limits of a selector and of the answer to a plan.
const (
	maxSelectorNames  = 1000
	maxSelectorKeys   = 10_000
	maxSelectorListed = 50_000
	maxShards         = 1000
)

// jobService implements signetv1.JobServiceServer.
type jobService struct {
	signetv1.UnimplementedJobServiceServer
	api *API
}

// PlanJob counts what a job would revoke, and stores the job.
func (s *jobService) PlanJob(ctx context.Context, m *signetv1.PlanJobRequest) (*signetv1.PlanJobResponse, error) {
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	request, err := s.jobRequestFrom("plan job", m)
	if err != nil {
		return nil, err
	}
	job, estimate, err := s.api.config.Jobs.Plan(ctx, grant, request)
	if err != nil {
		return nil, err
	}
	return planTo(job, estimate, s.api.config.Now()), nil
}

// StartJob starts a planned job.
func (s *jobService) StartJob(ctx context.Context, m *signetv1.StartJobRequest) (*signetv1.StartJobResponse, error) {
	job, err := s.steer(ctx, "start job", m.GetJob(), func(ctx context.Context, grant auth.Grant, id revocation.JobID) (revocation.Job, error) {
		return s.api.config.Jobs.Start(ctx, grant, id, m.GetConfirmedAuthorities())
	})
	if err != nil {
		return nil, err
	}
	return signetv1.StartJobResponse_builder{Job: job}.Build(), nil
}

// PauseJob pauses a running job.
func (s *jobService) PauseJob(ctx context.Context, m *signetv1.PauseJobRequest) (*signetv1.PauseJobResponse, error) {
	job, err := s.steer(ctx, "pause job", m.GetJob(), s.api.config.Jobs.Pause)
	if err != nil {
		return nil, err
	}
	return signetv1.PauseJobResponse_builder{Job: job}.Build(), nil
}

// ResumeJob resumes a job.
func (s *jobService) ResumeJob(ctx context.Context, m *signetv1.ResumeJobRequest) (*signetv1.ResumeJobResponse, error) {
	job, err := s.steer(ctx, "resume job", m.GetJob(), s.api.config.Jobs.Resume)
	if err != nil {
		return nil, err
	}
	return signetv1.ResumeJobResponse_builder{Job: job}.Build(), nil
}

// CancelJob cancels a job.
func (s *jobService) CancelJob(ctx context.Context, m *signetv1.CancelJobRequest) (*signetv1.CancelJobResponse, error) {
	job, err := s.steer(ctx, "cancel job", m.GetJob(), s.api.config.Jobs.Cancel)
	if err != nil {
		return nil, err
	}
	return signetv1.CancelJobResponse_builder{Job: job}.Build(), nil
}

// GetJob returns one job. If requested, it waits until the job's revocations are published.
func (s *jobService) GetJob(ctx context.Context, m *signetv1.GetJobRequest) (*signetv1.GetJobResponse, error) {
	const op = "get job"
	wait, err := s.api.waits(op, m.GetWaitFor())
	if err != nil {
		return nil, err
	}
	var issuers []pki.IssuerID
	job, err := s.steer(ctx, op, m.GetJob(), func(ctx context.Context, grant auth.Grant, id revocation.JobID) (revocation.Job, error) {
		job, err := s.api.config.Jobs.Get(ctx, grant, id)
		issuers = job.Selector.Issuers()
		return job, err
	})
	if err != nil || !wait {
		return signetv1.GetJobResponse_builder{Job: job}.Build(), err
	}
	return signetv1.GetJobResponse_builder{Job: job, PublishedAt: timestamp(s.api.published(ctx, issuers, job.GetSequence()))}.Build(), nil
}

// ListJobs returns one page of jobs. A page token is the last job of the page before.
func (s *jobService) ListJobs(ctx context.Context, m *signetv1.ListJobsRequest) (*signetv1.ListJobsResponse, error) {
	limit, err := pageFrom("list jobs", m.GetPageSize())
	if err != nil {
		return nil, err
	}
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	var after revocation.JobID
	if m.GetPageToken() != "" {
		if after, err = revocation.ParseJobID(m.GetPageToken()); err != nil {
			return nil, invalid("list jobs", "page_token", "this is no page token").WithHint("begin again without a page token")
		}
	}
	jobs, err := s.api.config.Jobs.List(ctx, grant, revocation.JobFilter{Started: m.GetStarted()}, after, limit)
	if err != nil {
		return nil, err
	}
	b := signetv1.ListJobsResponse_builder{}
	for _, job := range jobs {
		b.Jobs = append(b.Jobs, jobTo(job, s.api.config.Now()))
	}
	if len(jobs) == limit {
		b.NextPageToken = new(jobs[limit-1].ID.String())
	}
	return b.Build(), nil
}

func (s *jobService) steer(ctx context.Context, op, text string, verb func(context.Context, auth.Grant, revocation.JobID) (revocation.Job, error)) (*signetv1.Job, error) {
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	id, err := revocation.ParseJobID(text)
	if err != nil {
		return nil, invalid(op, "job", "%w", err).WithHint("signet job list shows them")
	}
	job, err := verb(ctx, grant, id)
	if err != nil {
		return nil, err
	}
	return jobTo(job, s.api.config.Now()), nil
}

func (s *jobService) jobRequestFrom(op string, m *signetv1.PlanJobRequest) (revocation.JobRequest, error) {
	r := revocation.JobRequest{Comment: m.GetComment()}
	var err error
	if len(r.Comment) > maxComment {
		return r, invalid(op, "comment", "at most %d characters", maxComment)
	}
	if r.Reason, err = reasonFrom(op, m.GetReason()); err != nil {
		return r, err
	}
	if r.Reason == pki.CertificateHold {
		return r, invalid(op, "reason", "a job revokes for good")
	}
	if r.InvalidityAt, err = timeFrom(op, "invalidity_at", m.GetInvalidityAt()); err != nil {
		return r, err
	}
	if r.InvalidityAt.After(s.api.config.Now()) {
		return r, invalid(op, "invalidity_at", "it is in the future")
	}
	if r.Selector, err = s.selectorFrom(op, m.GetSelector()); err != nil {
		return r, err
	}
	r.Serials, err = listedFrom(op, m.GetSelector().GetCertificates())
	return r, err
}

func (s *jobService) selectorFrom(op string, m *signetv1.Selector) (revocation.Selector, error) {
	if where := m.GetWhere(); where != "" {
		return whereFrom(op, m, s.family)
	}
	return fieldsFrom(op, m, s.family)
}

// family returns an issuer, by id or label, and the issuers below it: those whose chain contains its key.
func (s *jobService) family(name string) (pki.IssuerID, []pki.IssuerID, error) {
	all := s.api.config.Authority.Issuers()
	head := slices.IndexFunc(all, func(i ca.Issuer) bool { return i.Label == name || i.ID.String() == name })
	if head < 0 {
		return pki.IssuerID{}, nil, fmt.Errorf("there is no issuer %.64q", name)
	}
	var below []pki.IssuerID
	for i := range all {
		if i == head || len(all[i].Certificates) == 0 {
			continue
		}
		for _, der := range all[i].Certificates[0].Chain { // of the chosen certificate
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return pki.IssuerID{}, nil, err
			}
			if bytes.Equal(c.RawSubjectPublicKeyInfo, all[head].SPKI) {
				below = append(below, all[i].ID)
			}
		}
	}
	return all[head].ID, below, nil
}

// fieldsFrom converts conditions given as fields.
func fieldsFrom(op string, m *signetv1.Selector, family func(string) (pki.IssuerID, []pki.IssuerID, error)) (revocation.Selector, error) {
	s := revocation.Selector{Everything: m.GetEverything(), FromIndex: m.GetIndexFrom(), ToIndex: m.GetIndexTo(), Profile: m.GetProfile(), Account: m.GetAccount()}
	var err error
	if s.Issuer, err = optionalIssuerIDFrom(op, m.GetIssuer()); err != nil {
		return s, err
	}
	if m.GetUnder() != "" {
		if s.Under, s.Below, err = family(m.GetUnder()); err != nil {
			return s, invalid(op, "selector.under", "%w", err)
		}
	}
	for _, bound := range []struct {
		field string
		from  uint32
		to    *pki.Epoch
	}{{"selector.epoch_from", m.GetEpochFrom(), &s.FromEpoch}, {"selector.epoch_to", m.GetEpochTo(), &s.ToEpoch}} {
		if bound.from > uint32(pki.EpochForever) {
			return s, invalid(op, bound.field, "%d: weeks are counted up to %d", bound.from, pki.EpochForever)
		}
		*bound.to = pki.Epoch(bound.from)
	}
	if s.IssuedFrom, err = timeFrom(op, "selector.issued_from", m.GetIssuedFrom()); err != nil {
		return s, err
	}
	if s.IssuedUntil, err = timeFrom(op, "selector.issued_until", m.GetIssuedUntil()); err != nil {
		return s, err
	}
	if s.ExpiresFrom, err = timeFrom(op, "selector.expires_from", m.GetExpiresFrom()); err != nil {
		return s, err
	}
	if s.ExpiresUntil, err = timeFrom(op, "selector.expires_until", m.GetExpiresUntil()); err != nil {
		return s, err
	}
	if len(m.GetIdentifiers()) > maxSelectorNames {
		return s, invalid(op, "selector.identifiers", "%d names: at most %d", len(m.GetIdentifiers()), maxSelectorNames)
	}
	if s.Names, err = identifiersFrom(op, "selector.identifiers", m.GetIdentifiers()); err != nil {
		return s, err
	}
	if len(m.GetKeyHashes()) > maxSelectorKeys {
		return s, invalid(op, "selector.key_hashes", "%d keys: at most %d", len(m.GetKeyHashes()), maxSelectorKeys)
	}
	for i, text := range m.GetKeyHashes() {
		hash, err := keyHashFrom(op, indexed("selector.key_hashes", i), text)
		if err != nil {
			return s, err
		}
		s.Keys = append(s.Keys, hash)
	}
	return s, nil
}

// whereFrom converts conditions given as text, and refuses conditions in fields beside them.
func whereFrom(op string, m *signetv1.Selector, family func(string) (pki.IssuerID, []pki.IssuerID, error)) (revocation.Selector, error) {
	others := proto.Clone(m).(*signetv1.Selector)
	others.ClearWhere()
	if proto.Size(others) > 0 {
		return revocation.Selector{}, invalid(op, "selector.where", "conditions as text stand alone")
	}
	return revocation.ParseSelector(m.GetWhere(), family)
}

// listedFrom converts certificates given individually.
func listedFrom(op string, names []*signetv1.CertificateName) ([]revocation.Key, error) {
	const field = "selector.certificates"
	if len(names) > maxSelectorListed {
		return nil, invalid(op, field, "%d certificates: at most %d", len(names), maxSelectorListed)
	}
	var keys []revocation.Key
	for i, name := range names {
		key, err := keyFrom(op, name)
		if err != nil {
			return nil, invalid(op, indexed(field, i), "%w", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

var jobStates = map[revocation.JobState]signetv1.JobState{
	revocation.JobPlanned:   signetv1.JobState_JOB_STATE_PLANNED,
	revocation.JobRunning:   signetv1.JobState_JOB_STATE_RUNNING,
	revocation.JobPaused:    signetv1.JobState_JOB_STATE_PAUSED,
	revocation.JobDone:      signetv1.JobState_JOB_STATE_DONE,
	revocation.JobCancelled: signetv1.JobState_JOB_STATE_CANCELLED,
	revocation.JobFailed:    signetv1.JobState_JOB_STATE_FAILED,
}

func jobTo(j revocation.Job, now time.Time) *signetv1.Job {
	b := signetv1.Job_builder{
		Job:          new(j.ID.String()),
		State:        new(jobStates[j.State]),
		Selector:     selectorTo(j.Selector),
		Reason:       new(signetv1.Reason(j.Reason)),
		InvalidityAt: timestamp(j.InvalidityAt),
		Comment:      &j.Comment,
		Selected:     &j.Selected,
		Authorities:  &j.Authorities,
		Revoked:      &j.Revoked,
		Skipped:      &j.Skipped,
		Examined:     &j.Examined,
		Sequence:     &j.LastSeq,
		Actor:        &j.Actor,
		PlannedAt:    timestamp(j.CreatedAt),
		StartedAt:    timestamp(j.StartedAt),
		EndedAt:      timestamp(j.EndedAt),
		Failure:      optional(j.Failure),
	}
	if left, ok := j.Remaining(now); ok {
		b.EstimatedRemaining = durationpb.New(left)
	}
	return b.Build()
}

func selectorTo(s revocation.Selector) *signetv1.Selector {
	b := signetv1.Selector_builder{
		Profile:      optional(s.Profile),
		Account:      optional(s.Account),
		IssuedFrom:   timestamp(s.IssuedFrom),
		IssuedUntil:  timestamp(s.IssuedUntil),
		ExpiresFrom:  timestamp(s.ExpiresFrom),
		ExpiresUntil: timestamp(s.ExpiresUntil),
	}
	if s.Everything {
		b.Everything = &s.Everything
	}
	if !s.Issuer.IsZero() {
		b.Issuer = new(s.Issuer.String())
	}
	if !s.Under.IsZero() {
		b.Under = new(s.Under.String())
	}
	if s.FromEpoch != 0 || s.ToEpoch != 0 {
		b.EpochFrom, b.EpochTo = new(uint32(s.FromEpoch)), new(uint32(s.ToEpoch))
	}
	if s.FromIndex != 0 || s.ToIndex != 0 {
		b.IndexFrom, b.IndexTo = &s.FromIndex, &s.ToIndex
	}
	for _, name := range s.Names {
		b.Identifiers = append(b.Identifiers, name.String())
	}
	for _, key := range s.Keys {
		b.KeyHashes = append(b.KeyHashes, key.String())
	}
	return b.Build()
}

func planTo(j revocation.Job, e revocation.Estimate, now time.Time) *signetv1.PlanJobResponse {
	shards := slices.SortedFunc(slices.Values(e.Shards), func(a, b revocation.ShardEffect) int { return cmp.Compare(b.Entries, a.Entries) })
	b := signetv1.PlanJobResponse_builder{Job: jobTo(j, now), AlreadyRevoked: &e.Already, CrlGrowthBytes: &e.CRLBytes, EstimatedDuration: durationpb.New(e.Takes),
		Expired: &e.Expired, Unknown: &e.Unknown}
	for _, key := range e.UnknownCertificates {
		b.UnknownCertificates = append(b.UnknownCertificates, signetv1.CertificateName_builder{Issuer: new(key.Issuer.String()), Serial: new(key.Serial.String())}.Build())
	}
	for _, shard := range shards[:min(len(shards), maxShards)] {
		b.Shards = append(b.Shards, signetv1.ShardEffect_builder{
			Issuer: new(shard.Scope.Issuer.String()), Shard: new(shard.Scope.Shard.String()), Entries: &shard.Entries}.Build())
	}
	return b.Build()
}
