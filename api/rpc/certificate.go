package rpc

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// streamItems is how many items of one stream are processed at once.
const streamItems = 64

// certificateService implements signetv1.CertificateServiceServer.
type certificateService struct {
	signetv1.UnimplementedCertificateServiceServer
	api *API
}

// IssueCertificate issues one certificate.
func (s *certificateService) IssueCertificate(ctx context.Context, m *signetv1.IssueCertificateRequest) (*signetv1.IssueCertificateResponse, error) {
	return s.issue(ctx, m)
}

func (s *certificateService) issue(ctx context.Context, m *signetv1.IssueCertificateRequest) (*signetv1.IssueCertificateResponse, error) {
	const op = "issue certificate"
	p := caller(ctx)
	request, err := issueRequestFrom(op, m)
	if err != nil {
		return nil, err
	}
	if request.Profile == "" && len(p.Profiles) == 1 {
		request.Profile = p.Profiles[0]
	}
	if request.Profile == "" {
		return nil, invalid(op, "profile", "which profile?")
	}
	grant, err := p.Authorize(auth.ActionIssue, request.Profile)
	if err != nil {
		return nil, err
	}
	answer, err := s.api.config.Requests.Issue(ctx, grant, request)
	if err != nil {
		return nil, audited{err}
	}
	if answer.Issued == nil {
		return signetv1.IssueCertificateResponse_builder{Pending: requestTo(answer.Filed)}.Build(), nil
	}
	return s.api.issued(ctx, answer.Issued)
}

// issued returns the response with a certificate and its status.
func (a *API) issued(ctx context.Context, issued *ca.Issued) (*signetv1.IssueCertificateResponse, error) {
	// Its serial is not known to anyone yet.
	status := revocation.Answer{Issuance: revocation.Issued, Status: pki.StatusGood}
	if issued.Repeated {
		var err error
		if status, err = a.config.Universe.Lookup(ctx, issued.Issuer, issued.Serial); err != nil {
			return nil, err
		}
	}
	return issuedTo(issued, status), nil
}

// IssueCertificates issues certificates for the items of a stream, several at once. Answers come in the order in which
// they are ready.
func (s *certificateService) IssueCertificates(stream signetv1.CertificateService_IssueCertificatesServer) error {
	ctx := stream.Context()
	var items sync.WaitGroup
	defer items.Wait() // nothing may use the stream after this function has returned
	room := make(chan struct{}, streamItems)
	out := &results{stream: stream}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			items.Wait()
			return out.failure()
		}
		switch status.Code(err) {
		case codes.OK:
		// The message is too long, malformed or compressed: its item is refused.
		case codes.ResourceExhausted, codes.InvalidArgument, codes.Unimplemented:
			return invalid("issue certificates", "", "an item cannot be read: %s", status.Convert(err).Message())
		default:
			return err
		}
		p, err := s.api.authenticate(ctx) // a stream may outlive its credential
		if err != nil {
			return err
		}
		if p.ID != caller(ctx).ID { // a client certificate may have been bound to another credential
			return pki.Errorf(pki.KindUnauthenticated, "issue certificates", "its credential is %s by now, and was %s", p.ID, caller(ctx).ID).
				WithHint("open another stream")
		}
		if err := s.api.rates.wait(ctx, caller(ctx).ID); err != nil {
			return pki.Errorf(pki.KindUnavailable, "issue certificates", "wait for the rate limit: %w", err)
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		items.Go(func() {
			defer func() { <-room }()
			out.send(s.item(ctx, m))
		})
	}
}

// item processes one item of a stream and returns its answer, whatever happens.
func (s *certificateService) item(ctx context.Context, m *signetv1.IssueCertificateRequest) (answer *signetv1.IssueCertificatesResponse) {
	ctx, cancel := context.WithTimeout(ctx, s.api.config.Timeout)
	defer cancel()
	id, requestID := m.GetRequestId(), caller(ctx).RequestID
	var err error
	defer func() {
		if err = s.api.note(ctx, signetv1.CertificateService_IssueCertificates_FullMethodName, requestID, recover(), err); err != nil {
			answer = signetv1.IssueCertificatesResponse_builder{RequestId: &id, Problem: problem(err, requestID)}.Build()
		}
	}()
	if err = checkTexts(m); err != nil {
		return nil
	}
	if id == "" {
		err = invalid("issue certificate", "request_id", "every item of a stream needs one: it names the item in the answer")
		return nil
	}
	var issued *signetv1.IssueCertificateResponse
	if issued, err = s.issue(ctx, m); err != nil {
		return nil
	}
	return signetv1.IssueCertificatesResponse_builder{RequestId: &id, Issued: issued}.Build()
}

// results sends answers, one at a time.
type results struct {
	stream signetv1.CertificateService_IssueCertificatesServer
	mu     sync.Mutex
	failed error
}

func (r *results) send(m *signetv1.IssueCertificatesResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = r.stream.Send(m)
	}
}

func (r *results) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// GetCertificate returns one certificate.
func (s *certificateService) GetCertificate(ctx context.Context, m *signetv1.GetCertificateRequest) (*signetv1.GetCertificateResponse, error) {
	const op = "get certificate"
	key, err := keyFrom(op, m)
	if err != nil {
		return nil, err
	}
	grant, err := caller(ctx).AuthorizeOwn(auth.ActionRead)
	if err != nil {
		return nil, err
	}
	found, err := s.api.config.Authority.Get(ctx, grant, key.Issuer, key.Serial)
	if err != nil {
		return nil, err
	}
	answer, err := s.api.config.Universe.Lookup(ctx, key.Issuer, key.Serial)
	if err != nil {
		return nil, err
	}
	return signetv1.GetCertificateResponse_builder{
		Certificate: certificateTo(found.Certificate, answer),
		Pem:         new(pemTo(found.DER, found.Chain)),
	}.Build(), nil
}

// ListProfiles returns a page of the profiles that the caller may issue under; to callers that manage profiles it
// returns all, because those used by others matter too when an issuer is to be disabled.
func (s *certificateService) ListProfiles(ctx context.Context, m *signetv1.ListProfilesRequest) (*signetv1.ListProfilesResponse, error) {
	p := caller(ctx)
	instances, err := s.profileInstances(ctx, p)
	if err != nil {
		return nil, err
	}
	profiles := s.api.config.Rollout.Profiles()
	digest := profiles.Digest()
	b := signetv1.ListProfilesResponse_builder{Digest: new(hex.EncodeToString(digest[:])), Instances: instances}
	_, denied := p.Authorize(auth.ActionManage, "")
	shown := slices.DeleteFunc(profiles.All(), func(kind *profile.Profile) bool {
		_, err := p.Authorize(auth.ActionIssue, kind.Name)
		return denied != nil && (err != nil || !kind.MayUse(p.Role, p.Account))
	})
	shown, b.NextPageToken, err = pageOf("list profiles", shown, func(kind *profile.Profile) string { return kind.Name }, m)
	if err != nil {
		return nil, err
	}
	for _, profile := range shown {
		m := signetv1.Profile_builder{Profile: &profile.Name, Description: &profile.Description, Lifetime: durationpb.New(profile.Lifetime),
			MaxLifetime: durationpb.New(profile.MaxLifetime), Issuer: optional(profile.Issuer)}
		for _, algorithm := range profile.Algorithms {
			m.Algorithms = append(m.Algorithms, algorithm.String())
		}
		b.Profiles = append(b.Profiles, m.Build())
	}
	return b.Build(), nil
}

// ListCertificates returns one page of certificates.
func (s *certificateService) ListCertificates(ctx context.Context, m *signetv1.ListCertificatesRequest) (*signetv1.ListCertificatesResponse, error) {
	const op = "list certificates"
	limit, err := pageFrom(op, m.GetPageSize())
	if err != nil {
		return nil, err
	}
	filter, grant, err := s.selected(ctx, op, m)
	if err != nil {
		return nil, err
	}
	page, err := s.api.config.Authority.List(ctx, grant, filter, m.GetPageToken(), limit)
	if err != nil {
		return nil, err
	}
	answers, err := s.lookUp(ctx, page.Certificates)
	if err != nil {
		return nil, err
	}
	list := make([]*signetv1.Certificate, len(page.Certificates))
	for i, certificate := range page.Certificates {
		list[i] = certificateTo(certificate, answers[i])
	}
	return signetv1.ListCertificatesResponse_builder{Certificates: list, NextPageToken: optional(page.Next)}.Build(), nil
}

// CountCertificates counts what ListCertificates would list, page after page.
func (s *certificateService) CountCertificates(ctx context.Context, m *signetv1.ListCertificatesRequest) (*signetv1.CountCertificatesResponse, error) {
	const op = "count certificates"
	switch {
	case m.GetPageSize() != 0:
		return nil, invalid(op, "page_size", "a count has no pages")
	case m.GetPageToken() != "":
		return nil, invalid(op, "page_token", "a count has no pages")
	}
	filter, grant, err := s.selected(ctx, op, m)
	if err != nil {
		return nil, err
	}
	count, err := s.api.config.Authority.Count(ctx, grant, filter)
	if err != nil {
		return nil, err
	}
	return signetv1.CountCertificatesResponse_builder{Count: new(uint64(count.N)), Exact: &count.Exact}.Build(), nil
}

func (s *certificateService) selected(ctx context.Context, op string, m *signetv1.ListCertificatesRequest) (inventory.Filter, auth.Grant, error) {
	filter, err := filterFrom(op, m, s.api.config.Now())
	if err != nil {
		return filter, auth.Grant{}, err
	}
	grant, err := caller(ctx).AuthorizeOwn(auth.ActionRead)
	return filter, grant, err
}

// lookUp returns the status of several certificates: those in open ranges share one query to the database.
func (s *certificateService) lookUp(ctx context.Context, certificates []inventory.Certificate) ([]revocation.Answer, error) {
	answers := make([]revocation.Answer, len(certificates))
	failures := make([]error, len(certificates))
	var all sync.WaitGroup
	for i, c := range certificates {
		all.Go(func() { answers[i], failures[i] = s.api.config.Universe.Lookup(ctx, c.Issuer, c.Serial) })
	}
	all.Wait()
	return answers, errors.Join(failures...)
}
