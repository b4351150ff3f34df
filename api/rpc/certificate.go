package rpc

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// streamItems is how many items of one stream are issued at once.
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
		return nil, err
	}
	if answer.Issued == nil {
		return signetv1.IssueCertificateResponse_builder{Pending: requestTo(answer.Filed)}.Build(), nil
	}
	return s.api.issued(ctx, answer.Issued)
}

// issued is the answer with a certificate and its status.
func (a *API) issued(ctx context.Context, issued *ca.Issued) (*signetv1.IssueCertificateResponse, error) {
	status := revocation.Answer{Issuance: revocation.Issued, Status: pki.StatusGood} // nobody else knows its serial yet
	if issued.Repeated {
		var err error
		if status, err = a.config.Universe.Lookup(ctx, issued.Issuer, issued.Serial); err != nil {
			return nil, err
		}
	}
	return issuedTo(issued, status), nil
}

// IssueCertificates issues the items of a stream, many at once. Answers come in the order they are ready.
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
		if err != nil {
			return err
		}
		p, err := s.api.authenticate(ctx) // a stream may outlive its credential
		if err != nil {
			return err
		}
		if p.ID != caller(ctx).ID { // a client certificate can be bound anew
			return pki.Errorf(pki.KindUnauthenticated, "issue certificates", "its credential is %s by now, and was %s", p.ID, caller(ctx).ID).WithHint("open another stream")
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

// item issues one item of a stream and turns whatever becomes of it into an answer.
func (s *certificateService) item(ctx context.Context, m *signetv1.IssueCertificateRequest) (answer *signetv1.IssueCertificatesResponse) {
	ctx, cancel := context.WithTimeout(ctx, s.api.config.Timeout)
	defer cancel()
	id, requestID := m.GetRequestId(), caller(ctx).RequestID
	var err error
	defer func() {
		if err = s.api.note(ctx, "IssueCertificates", requestID, recover(), err); err != nil {
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

// results sends answers one at a time.
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

// ListProfiles returns the profiles that the caller may issue under.
func (s *certificateService) ListProfiles(ctx context.Context, _ *signetv1.ListProfilesRequest) (*signetv1.ListProfilesResponse, error) {
	p := caller(ctx)
	instances, err := s.profileInstances(ctx, p)
	if err != nil {
		return nil, err
	}
	profiles := s.api.config.Rollout.Profiles()
	digest := profiles.Digest()
	b := signetv1.ListProfilesResponse_builder{Digest: new(hex.EncodeToString(digest[:])), Instances: instances}
	for _, profile := range profiles.All() {
		if _, err := p.Authorize(auth.ActionIssue, profile.Name); err != nil || !profile.MayUse(p.Role, p.Account) {
			continue
		}
		m := signetv1.Profile_builder{Profile: &profile.Name, Description: &profile.Description, Lifetime: durationpb.New(profile.Lifetime),
			MaxLifetime: durationpb.New(profile.MaxLifetime), Issuer: optional(profile.Issuer)}
		for _, algorithm := range profile.Algorithms {
			m.Algorithms = append(m.Algorithms, algorithm.String())
		}
		b.Profiles = append(b.Profiles, m.Build())
	}
	return b.Build(), nil
}

// ListCertificates returns one page.
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

// CountCertificates counts.
func (s *certificateService) CountCertificates(ctx context.Context, m *signetv1.CountCertificatesRequest) (*signetv1.CountCertificatesResponse, error) {
	filter, grant, err := s.selected(ctx, "count certificates", m)
	if err != nil {
		return nil, err
	}
	count, err := s.api.config.Authority.Count(ctx, grant, filter)
	if err != nil {
		return nil, err
	}
	return signetv1.CountCertificatesResponse_builder{Count: new(uint64(count.N)), Exact: &count.Exact}.Build(), nil
}

func (s *certificateService) selected(ctx context.Context, op string, m filtering) (inventory.Filter, auth.Grant, error) {
	filter, err := filterFrom(op, m, s.api.config.Now())
	if err != nil {
		return filter, auth.Grant{}, err
	}
	grant, err := caller(ctx).AuthorizeOwn(auth.ActionRead)
	return filter, grant, err
}

// lookUp asks for the status of many certificates at once: those of open ranges share one question to the database.
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

// RevokeCertificate revokes for good.
func (s *certificateService) RevokeCertificate(ctx context.Context, m *signetv1.RevokeCertificateRequest) (*signetv1.RevokeCertificateResponse, error) {
	const op = "revoke certificate"
	request, err := s.revocationFrom(ctx, op, m)
	if err != nil {
		return nil, err
	}
	receipt, published, err := s.change(ctx, op, m.GetWaitFor(), request, s.revoke)
	if err != nil {
		return nil, err
	}
	status, facts := entryTo(receipt.Entry)
	return signetv1.RevokeCertificateResponse_builder{
		Issuer:      new(request.Issuer.String()),
		Serial:      new(request.Serial.String()),
		Status:      &status,
		Revocation:  facts,
		Repeated:    &receipt.Repeated,
		PublishedAt: timestamp(published),
	}.Build(), nil
}

// revoke revokes, and for key compromise changes the reason of a certificate that is revoked for another one already.
func (s *certificateService) revoke(ctx context.Context, grant auth.Grant, request revocation.Request) (revocation.Receipt, error) {
	receipt, err := s.api.config.Ledger.Revoke(ctx, grant, request)
	if err != nil && pki.KindOf(err) == pki.KindConflict && request.Reason == pki.KeyCompromise {
		return s.api.config.Ledger.ChangeReason(ctx, grant, request)
	}
	if err != nil && pki.KindOf(err) == pki.KindNotFound {
		return s.revokeOffline(ctx, request, err)
	}
	return receipt, err
}

// revokeOffline revokes what an off-line issuer signed, which is in no inventory: an administrator says that it exists. Of
// any other serial the cause stands.
func (s *certificateService) revokeOffline(ctx context.Context, request revocation.Request, cause error) (revocation.Receipt, error) {
	issuer, err := s.api.config.Authority.Issuer(request.Issuer)
	if err != nil || issuer.KeyURI != "" {
		return revocation.Receipt{}, cause
	}
	manage, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return revocation.Receipt{}, cause
	}
	return s.api.config.Ledger.Import(ctx, manage, request)
}

// HoldCertificate puts on hold.
func (s *certificateService) HoldCertificate(ctx context.Context, m *signetv1.HoldCertificateRequest) (*signetv1.HoldCertificateResponse, error) {
	const op = "hold certificate"
	key, err := keyFrom(op, m)
	if err != nil {
		return nil, err
	}
	receipt, published, err := s.change(ctx, op, m.GetWaitFor(), revocation.Request{Key: key}, s.api.config.Ledger.Hold)
	if err != nil {
		return nil, err
	}
	status, facts := entryTo(receipt.Entry)
	return signetv1.HoldCertificateResponse_builder{
		Issuer:      new(key.Issuer.String()),
		Serial:      new(key.Serial.String()),
		Status:      &status,
		Revocation:  facts,
		Repeated:    &receipt.Repeated,
		PublishedAt: timestamp(published),
	}.Build(), nil
}

// ReleaseCertificate releases from hold.
func (s *certificateService) ReleaseCertificate(ctx context.Context, m *signetv1.ReleaseCertificateRequest) (*signetv1.ReleaseCertificateResponse, error) {
	const op = "release certificate"
	key, err := keyFrom(op, m)
	if err != nil {
		return nil, err
	}
	receipt, published, err := s.change(ctx, op, m.GetWaitFor(), revocation.Request{Key: key}, s.api.config.Ledger.Release)
	if err != nil {
		return nil, err
	}
	status, _ := entryTo(receipt.Entry)
	return signetv1.ReleaseCertificateResponse_builder{
		Issuer:      new(key.Issuer.String()),
		Serial:      new(key.Serial.String()),
		Status:      &status,
		Sequence:    &receipt.Entry.Seq,
		Repeated:    &receipt.Repeated,
		PublishedAt: timestamp(published),
	}.Build(), nil
}

// change obtains the grant, makes one change of status, and waits for its publication if that was asked for.
func (s *certificateService) change(ctx context.Context, op string, wait signetv1.WaitFor, request revocation.Request,
	verb func(context.Context, auth.Grant, revocation.Request) (revocation.Receipt, error)) (revocation.Receipt, time.Time, error) {
	published, err := s.api.waits(op, wait)
	if err != nil {
		return revocation.Receipt{}, time.Time{}, err
	}
	grant, err := caller(ctx).AuthorizeOwn(auth.ActionRevoke)
	if err != nil {
		return revocation.Receipt{}, time.Time{}, err
	}
	receipt, err := verb(ctx, grant, request)
	if err != nil || !published {
		return receipt, time.Time{}, err
	}
	return receipt, s.api.published(ctx, receipt.Entry.Seq), nil
}

// waits reports whether a call is to wait for publication.
func (a *API) waits(op string, wait signetv1.WaitFor) (bool, error) {
	published, err := waitFrom(op, wait)
	if err == nil && published && a.config.Publication == nil {
		return false, pki.Errorf(pki.KindFailedPrecondition, op, "this server does not follow publication").InField("wait_for")
	}
	return published, err
}

// published waits until a change is published, and returns the zero time if that takes too long: the change holds, and
// the caller must hear of it while it still listens.
func (a *API) published(ctx context.Context, seq uint64) time.Time {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-time.Second))
		defer cancel()
	}
	at, err := a.config.Publication.AwaitPublished(ctx, seq)
	if err != nil {
		a.config.Log.Warn("a change was not published everywhere while its caller waited", "sequence", seq, "error", err)
		return time.Time{}
	}
	return at
}

// revocationFrom reads which certificate is meant, why, and since when.
func (s *certificateService) revocationFrom(ctx context.Context, op string, m *signetv1.RevokeCertificateRequest) (revocation.Request, error) {
	var request revocation.Request
	var err error
	if request.Key, err = s.named(ctx, op, m); err != nil {
		return request, err
	}
	if request.Reason, err = reasonFrom(op, m.GetReason()); err != nil {
		return request, err
	}
	if request.Reason == pki.CertificateHold {
		return request, invalid(op, "reason", "a hold is not a revocation").WithHint("put the certificate on hold instead")
	}
	if request.InvalidityAt, err = timeFrom(op, "invalidity_at", m.GetInvalidityAt()); err != nil {
		return request, err
	}
	if request.InvalidityAt.After(s.api.config.Now()) {
		return request, invalid(op, "invalidity_at", "it is in the future")
	}
	return request, nil
}

// named reads a certificate's name, from issuer and serial or from the certificate itself.
func (s *certificateService) named(ctx context.Context, op string, m *signetv1.RevokeCertificateRequest) (revocation.Key, error) {
	if !m.HasCertificate() {
		return keyFrom(op, m)
	}
	if m.GetIssuer() != "" || m.GetSerial() != "" {
		return revocation.Key{}, invalid(op, "issuer", "want either issuer and serial or the certificate")
	}
	certificate, err := certificateFrom(op, m)
	if err != nil {
		return revocation.Key{}, err
	}
	issuer, signed := signer(s.api.config.Authority.Issuers(), certificate)
	if !signed {
		return revocation.Key{}, pki.Errorf(pki.KindNotFound, op, "the certificate is not from an issuer of this server").InField("certificate")
	}
	return keyOf(op, issuer.ID, certificate)
}

func keyOf(op string, issuer pki.IssuerID, certificate *x509.Certificate) (revocation.Key, error) {
	serial, err := pki.SerialFromBig(certificate.SerialNumber)
	if err != nil {
		return revocation.Key{}, invalid(op, "certificate", "%w", err)
	}
	return revocation.Key{Issuer: issuer, Serial: serial}, nil
}

func keyFrom(op string, m interface {
	GetIssuer() string
	GetSerial() string
}) (key revocation.Key, err error) {
	if key.Issuer, err = issuerIDFrom(op, "issuer", m.GetIssuer()); err != nil {
		return key, err
	}
	key.Serial, err = serialFrom(op, m.GetSerial())
	return key, err
}

// entryTo is what the ledger says after an entry.
func entryTo(e revocation.Entry) (signetv1.CertificateStatus, *signetv1.Revocation) {
	answer := revocation.Answer{Status: pki.StatusGood, EventSeq: e.Seq}
	if e.Kind.Revokes() {
		answer.Status, answer.Reason, answer.RevokedAt, answer.InvalidityAt = pki.StatusRevoked, e.Reason, e.RevokedAt, e.InvalidityAt
	}
	return statusTo(answer)
}
