package rpc

import (
	"context"
	"encoding/hex"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/internal/auth"
)

// requestService implements signetv1.RequestServiceServer.
type requestService struct {
	signetv1.UnimplementedRequestServiceServer
	api *API
}

// viewer returns the grant to read requests: those that the caller may decide, or otherwise those of its account.
func viewer(ctx context.Context) (auth.Grant, error) {
	if grant, err := caller(ctx).AuthorizeProfiles(auth.ActionApprove); err == nil {
		return grant, nil
	}
	return caller(ctx).AuthorizeOwn(auth.ActionRead)
}

// ListRequests returns one page of requests.
func (s *requestService) ListRequests(ctx context.Context, m *signetv1.ListRequestsRequest) (*signetv1.ListRequestsResponse, error) {
	const op = "list requests"
	limit, err := pageFrom(op, m.GetPageSize())
	if err != nil {
		return nil, err
	}
	filter := approval.Filter{Account: m.GetAccount()}
	if m.GetProfile() != "" {
		filter.Profiles = []string{m.GetProfile()}
	}
	if filter.State, err = requestStateFrom(op, m.GetState()); err != nil {
		return nil, err
	}
	grant, err := viewer(ctx)
	if err != nil {
		return nil, err
	}
	if filter.Account == "" && !grant.All() && grant.Scopes() == nil {
		filter.Account = caller(ctx).Account
	}
	page, err := s.api.config.Requests.List(ctx, grant, filter, m.GetPageToken(), limit)
	if err != nil {
		return nil, err
	}
	b := signetv1.ListRequestsResponse_builder{NextPageToken: optional(page.Next)}
	for i := range page.Applications {
		request := requestTo(&page.Applications[i])
		request.ClearCsrDer()
		b.Requests = append(b.Requests, request)
	}
	return b.Build(), nil
}

// GetRequest returns one request, and its certificate.
func (s *requestService) GetRequest(ctx context.Context, m *signetv1.GetRequestRequest) (*signetv1.GetRequestResponse, error) {
	grant, id, err := askedFor(ctx, "get request", m.GetRequest())
	if err != nil {
		return nil, err
	}
	answer, err := s.api.config.Requests.Get(ctx, grant, id)
	if err != nil {
		return nil, err
	}
	issued, err := s.collected(ctx, answer)
	if err != nil {
		return nil, err
	}
	return signetv1.GetRequestResponse_builder{Request: requestTo(answer.Filed), Issued: issued}.Build(), nil
}

// ApproveRequest approves a request and has its certificate issued.
func (s *requestService) ApproveRequest(ctx context.Context, m *signetv1.ApproveRequestRequest) (*signetv1.ApproveRequestResponse, error) {
	grant, id, err := askedFor(ctx, "approve request", m.GetRequest())
	if err != nil {
		return nil, err
	}
	answer, err := s.api.config.Requests.Approve(ctx, grant, id, m.GetComment())
	if err != nil {
		return nil, audited{err}
	}
	issued, err := s.collected(ctx, answer)
	if err != nil {
		return nil, err
	}
	b := signetv1.ApproveRequestResponse_builder{Request: requestTo(answer.Filed), Issued: issued}
	if answer.Delay != nil {
		requestID := caller(ctx).RequestID
		s.api.config.Log.Warn("an approved request is not issued yet", "request", id.String(), "error", answer.Delay, "call", requestID)
		b.Delay = problem(answer.Delay, requestID)
	}
	return b.Build(), nil
}

// DenyRequest denies a request.
func (s *requestService) DenyRequest(ctx context.Context, m *signetv1.DenyRequestRequest) (*signetv1.DenyRequestResponse, error) {
	grant, id, err := askedFor(ctx, "deny request", m.GetRequest())
	if err != nil {
		return nil, err
	}
	denied, err := s.api.config.Requests.Deny(ctx, grant, id, m.GetReason())
	if err != nil {
		return nil, audited{err}
	}
	return signetv1.DenyRequestResponse_builder{Request: requestTo(&denied)}.Build(), nil
}

// askedFor returns the id of a request and the grant to see it. The desk checks whether the grant also allows deciding
// it.
func askedFor(ctx context.Context, op, text string) (auth.Grant, ca.ApprovalID, error) {
	id, err := ca.ParseApprovalID(text)
	if err != nil {
		return auth.Grant{}, id, invalid(op, "request", "%w", err).WithHint("list requests to see their ids")
	}
	grant, err := viewer(ctx)
	return grant, id, err
}

// collected returns the certificate of an answer, with its present status.
func (s *requestService) collected(ctx context.Context, answer approval.Answer) (*signetv1.IssueCertificateResponse, error) {
	if answer.Issued == nil {
		return nil, nil
	}
	status, err := s.api.config.Universe.Lookup(ctx, answer.Issued.Issuer, answer.Issued.Serial)
	if err != nil {
		return nil, err
	}
	return issuedTo(answer.Issued, status), nil
}

// requestTo converts a request to the form of the API.
func requestTo(a *approval.Application) *signetv1.CertificateRequest {
	b := signetv1.CertificateRequest_builder{
		Request: new(a.ID.String()), State: new(requestStateTo(a.State)), Profile: &a.Request.Profile, Account: &a.Requester.Account, Requester: &a.Requester.ID,
		Subject: &a.Trial.Subject, KeyHash: new(a.Trial.KeyHash.String()), Issuer: new(a.Trial.Issuer.String()), NotAfter: timestamp(a.Trial.NotAfter), CsrDer: a.Request.CSR,
		FiledAt: timestamp(a.FiledAt), ExpiresAt: timestamp(a.ExpiresAt), DecidedAt: timestamp(a.DecidedAt), DecidedBy: optional(a.DecidedBy), Comment: optional(a.Comment),
	}
	for _, name := range a.Trial.Names {
		b.Identifiers = append(b.Identifiers, name.String())
	}
	for _, e := range a.Trial.Extensions {
		b.Extensions = append(b.Extensions, signetv1.CopiedExtension_builder{Oid: new(e.Id.String()), Critical: &e.Critical, Value: new(hex.EncodeToString(e.Value))}.Build())
	}
	if a.State == approval.Approved {
		b.Delay, b.NextTryAt = optional(a.Delay), timestamp(a.NextTry)
	}
	if a.State == approval.Issued {
		b.Serial = new(a.Serial.String())
	}
	return b.Build()
}

// requestStates are the states of the API, in the order of the domain's.
var requestStates = [...]signetv1.RequestState{
	approval.StateNone: signetv1.RequestState_REQUEST_STATE_UNSPECIFIED, approval.Pending: signetv1.RequestState_REQUEST_STATE_PENDING,
	approval.Approved: signetv1.RequestState_REQUEST_STATE_APPROVED, approval.Issued: signetv1.RequestState_REQUEST_STATE_ISSUED,
	approval.Denied: signetv1.RequestState_REQUEST_STATE_DENIED, approval.Refused: signetv1.RequestState_REQUEST_STATE_REFUSED,
	approval.Expired: signetv1.RequestState_REQUEST_STATE_EXPIRED,
}

func requestStateTo(s approval.State) signetv1.RequestState { return requestStates[s] }

func requestStateFrom(op string, m signetv1.RequestState) (approval.State, error) {
	for state, message := range requestStates {
		if message == m {
			return approval.State(state), nil
		}
	}
	return approval.StateNone, invalid(op, "state", "%d is no state of a request", int32(m))
}
