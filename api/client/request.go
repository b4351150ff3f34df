package client

import (
	"context"
	"fmt"
	"iter"
	"time"

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
	KeyHash     string
	Issuer      string
	NotAfter    time.Time // of the certificate, had it been issued when the request was filed
	CSR         []byte    // DER; absent in lists
	FiledAt     time.Time
	ExpiresAt   time.Time
	DecidedAt   time.Time // zero: it is not decided
	DecidedBy   string
	Comment     string
	Serial      string // of its certificate; empty unless it is issued
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
	request := requestFrom(m)
	return (&pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Err: &PendingError{request}}).WithHint("signet requests collect %s, once it is approved", request.ID)
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
		list.Items = append(list.Items, requestFrom(m))
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
	d := &Decided{answer: answer{a}, Request: requestFrom(a.GetRequest())}
	return d, d.collect(a.GetIssued())
}

// ApproveRequest approves a request and has its certificate issued.
func (c *Client) ApproveRequest(ctx context.Context, id, comment string) (*Decided, error) {
	const op = "approve request"
	a, err := invoke(ctx, c, op, c.requests.ApproveRequest, signetv1.ApproveRequestRequest_builder{Request: &id, Comment: optional(comment)}.Build())
	if err != nil {
		return nil, err
	}
	d := &Decided{answer: answer{a}, Request: requestFrom(a.GetRequest())}
	if p := a.GetDelay(); p != nil {
		d.Delay = problemError(op, p)
	}
	return d, d.collect(a.GetIssued())
}

// DenyRequest denies a request. The requester can read the reason.
func (c *Client) DenyRequest(ctx context.Context, id, reason string) (*Request, error) {
	a, err := invoke(ctx, c, "deny request", c.requests.DenyRequest, signetv1.DenyRequestRequest_builder{Request: &id, Reason: optional(reason)}.Build())
	if err != nil {
		return nil, err
	}
	return new(requestFrom(a.GetRequest())), nil
}

func (d *Decided) collect(m *signetv1.IssueCertificateResponse) (err error) {
	if m != nil {
		d.Issued, err = issuedFrom("get request", m)
	}
	return err
}

func requestFrom(m *signetv1.CertificateRequest) Request {
	r := Request{
		answer: answer{m}, ID: m.GetRequest(), Profile: m.GetProfile(), Account: m.GetAccount(), Requester: m.GetRequester(), Subject: m.GetSubject(),
		KeyHash: m.GetKeyHash(), Issuer: m.GetIssuer(), NotAfter: instant(m.GetNotAfter()), CSR: m.GetCsrDer(), FiledAt: instant(m.GetFiledAt()),
		ExpiresAt: instant(m.GetExpiresAt()), DecidedAt: instant(m.GetDecidedAt()), DecidedBy: m.GetDecidedBy(), Comment: m.GetComment(), Serial: m.GetSerial(),
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
	return r
}
