package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/protobuf/proto"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// RequestState is the state of a request that needs an approval. Zero is none; in a filter, any.
type RequestState uint8

// The states.
const (
	RequestNone RequestState = iota
	RequestPending
	RequestApproved // its certificate will be issued
	RequestIssued
	RequestDenied
	RequestRefused // approved, but against a rule when it was to be issued
	RequestExpired
)

var requestStates = [...]string{"none", "pending", "approved", "issued", "denied", "refused", "expired"}

// String is a lower-case word.
func (s RequestState) String() string {
	if int(s) < len(requestStates) {
		return requestStates[s]
	}
	return requestStates[RequestNone]
}

// Open reports whether the request may still lead to a certificate.
func (s RequestState) Open() bool { return s == RequestPending || s == RequestApproved }

// ParseRequestState reads the result of String, except "none"; "" is any.
func ParseRequestState(text string) (RequestState, error) {
	if text == "" {
		return RequestNone, nil
	}
	for s, name := range requestStates {
		if s > 0 && name == text {
			return RequestState(s), nil
		}
	}
	return RequestNone, fmt.Errorf("state %q: want pending, approved, issued, denied, refused or expired", text)
}

// Request is a request for a certificate whose profile needs an approval.
type Request struct {
	answer
	ID          string
	State       RequestState
	Profile     string
	Account     string
	Requester   string
	Subject     string // RFC 4514
	Identifiers []pki.Identifier
	KeyHash     pki.KeyHash
	Issuer      pki.IssuerID
	NotAfter    time.Time // of the certificate, had it been issued when the request was filed
	CSR         []byte    // DER; absent in lists
	FiledAt     time.Time
	ExpiresAt   time.Time
	DecidedAt   time.Time // zero: it is not decided
	DecidedBy   string
	Comment     string
	Serial      pki.Serial // of its certificate; zero unless it is issued
	Extensions  []Extension
	Delay       string    // why an approved one could not be issued so far
	NextTryAt   time.Time // when it is tried again, at the earliest
}

// Extension is an extension that a certificate takes unchanged from a certification request.
type Extension struct {
	OID      string // dotted
	Critical bool
	Value    string // DER, hexadecimal
}

// PendingError is wrapped by the error of Issue and Renew, and of an item of a Batch, if the request was filed and has
// no certificate yet. A caller that does not look for it sees an error, since there is no certificate.
type PendingError struct{ Request Request }

// Error names the request.
func (e *PendingError) Error() string { return "request " + e.Request.ID + " waits for an approval" }

func pendingError(op string, m *signetv1.CertificateRequest) error {
	request, err := requestFrom(m)
	if err != nil {
		return err
	}
	return (&pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Err: &PendingError{*request}}).WithHint("signet requests collect %s, once it is approved", request.ID)
}

// RequestFilter selects requests; every condition that is not zero must hold.
type RequestFilter struct {
	State   RequestState
	Profile string
	Account string
}

// Requests returns one page of the requests that match, newest first.
func (c *Client) Requests(ctx context.Context, f RequestFilter, p Page) (*List[Request], error) {
	a, err := invoke(ctx, c, "list requests", c.requests.ListRequests, signetv1.ListRequestsRequest_builder{
		State: signetv1.RequestState(f.State).Enum(), Profile: optional(f.Profile), Account: optional(f.Account), PageSize: p.size(), PageToken: optional(p.Token),
	}.Build())
	if err != nil {
		return nil, err
	}
	list := &List[Request]{answer: answer{a}, Next: a.GetNextPageToken()}
	for _, m := range a.GetRequests() {
		request, err := requestFrom(m)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, *request)
	}
	return list, nil
}

// AllRequests returns every request that matches, newest first. An error ends the sequence.
func (c *Client) AllRequests(ctx context.Context, f RequestFilter) iter.Seq2[Request, error] {
	return all(func(p Page) (*List[Request], error) { return c.Requests(ctx, f, p) })
}

// Decided is a request, with its certificate if it has one.
type Decided struct {
	answer
	Request Request
	Issued  *Issued
	Delay   error // why an approved one could not be issued at once
}

// Request returns one request, and its certificate once it is issued.
func (c *Client) Request(ctx context.Context, id string) (*Decided, error) {
	a, err := invoke(ctx, c, "get request", c.requests.GetRequest, signetv1.GetRequestRequest_builder{Request: &id}.Build())
	if err != nil {
		return nil, err
	}
	return decidedFrom(a, a.GetRequest(), a.GetIssued())
}

// ApproveRequest approves a request and has its certificate issued.
func (c *Client) ApproveRequest(ctx context.Context, id, comment string) (*Decided, error) {
	const op = "approve request"
	a, err := invoke(ctx, c, op, c.requests.ApproveRequest, signetv1.ApproveRequestRequest_builder{Request: &id, Comment: optional(comment)}.Build())
	if err != nil {
		return nil, err
	}
	d, err := decidedFrom(a, a.GetRequest(), a.GetIssued())
	if p := a.GetDelay(); p != nil && err == nil {
		d.Delay = problemError(op, p)
	}
	return d, err
}

// DenyRequest denies a request. The requester can read the reason.
func (c *Client) DenyRequest(ctx context.Context, id, reason string) (*Request, error) {
	a, err := invoke(ctx, c, "deny request", c.requests.DenyRequest, signetv1.DenyRequestRequest_builder{Request: &id, Reason: optional(reason)}.Build())
	if err != nil {
		return nil, err
	}
	return requestFrom(a.GetRequest())
}

func decidedFrom(a proto.Message, request *signetv1.CertificateRequest, issued *signetv1.IssueCertificateResponse) (*Decided, error) {
	r, err := requestFrom(request)
	if err != nil {
		return nil, err
	}
	d := &Decided{answer: answer{a}, Request: *r}
	if issued != nil {
		if d.Issued, err = issuedFrom("get request", issued); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func requestFrom(m *signetv1.CertificateRequest) (*Request, error) {
	r := &Request{
		answer: answer{m}, ID: m.GetRequest(), Profile: m.GetProfile(), Account: m.GetAccount(), Requester: m.GetRequester(), Subject: m.GetSubject(),
		NotAfter: instant(m.GetNotAfter()), CSR: m.GetCsrDer(), FiledAt: instant(m.GetFiledAt()),
		ExpiresAt: instant(m.GetExpiresAt()), DecidedAt: instant(m.GetDecidedAt()), DecidedBy: m.GetDecidedBy(), Comment: m.GetComment(),
		Delay: m.GetDelay(), NextTryAt: instant(m.GetNextTryAt()),
	}
	if s := m.GetState(); s > 0 && int(s) < len(requestStates) {
		r.State = RequestState(s)
	}
	for _, text := range m.GetIdentifiers() {
		if name, err := pki.ParseIdentifier(text); err == nil { // a type of name that this client does not know is left out
			r.Identifiers = append(r.Identifiers, name)
		}
	}
	for _, e := range m.GetExtensions() {
		r.Extensions = append(r.Extensions, Extension{e.GetOid(), e.GetCritical(), e.GetValue()})
	}
	var err error
	if r.KeyHash, err = given(m.GetKeyHash(), pki.ParseKeyHash); err != nil {
		return nil, err
	}
	if r.Issuer, err = given(m.GetIssuer(), pki.ParseIssuerID); err != nil {
		return nil, err
	}
	if r.Serial, err = given(m.GetSerial(), pki.ParseSerial); err != nil {
		return nil, err
	}
	return r, nil
}
