package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// Certificate is an issued certificate with what the server knows about it.
type Certificate struct {
	answer
	Issuer      pki.IssuerID
	Serial      pki.Serial
	Status      Status
	Revocation  *Revocation // nil unless revoked or on hold
	Profile     string
	Account     string
	Subject     string // RFC 4514
	Identifiers []pki.Identifier
	NotBefore   time.Time
	NotAfter    time.Time
	IssuedAt    time.Time
	KeyHash     pki.KeyHash
	Fingerprint string // SHA-256 of DER, hexadecimal
	DER         []byte
}

// IssueRequest describes a certificate to issue.
type IssueRequest struct {
	CSR         []byte        // DER
	Profile     string        // empty: the only one the caller may use
	Identifiers []string      // "dns:...", "ip:...", or bare; empty: those of the CSR
	Subject     Subject       // zero: what the profile says
	Lifetime    time.Duration // zero: the profile's default
	NotAfter    time.Time     // instead of Lifetime
	Issuer      pki.IssuerID  // zero: the profile's
	RequestID   string        // empty: none; a repetition within 24 h returns the first answer
}

// Subject is a distinguished name in parts.
type Subject struct {
	CommonName         string
	Organization       []string
	OrganizationalUnit []string
	Country            []string
	Province           []string
	Locality           []string
	SerialNumber       string
}

func (s Subject) message() *signetv1.Subject {
	if s.CommonName == "" && s.SerialNumber == "" && len(s.Organization)+len(s.OrganizationalUnit)+len(s.Country)+len(s.Province)+len(s.Locality) == 0 {
		return nil
	}
	return signetv1.Subject_builder{
		CommonName:         optional(s.CommonName),
		Organization:       s.Organization,
		OrganizationalUnit: s.OrganizationalUnit,
		Country:            s.Country,
		Province:           s.Province,
		Locality:           s.Locality,
		SerialNumber:       optional(s.SerialNumber),
	}.Build()
}

// Issued is a certificate with its chain.
type Issued struct {
	answer
	Certificate Certificate
	PEM         []byte // the certificate and the issuing authorities without the root
	Repeated    bool   // the answer to an earlier request with the same RequestID
}

// Issue requests one certificate. Under a profile that needs an approval the request is filed, and the error wraps a
// *PendingError.
func (c *Client) Issue(ctx context.Context, q IssueRequest) (*Issued, error) {
	a, err := invoke(ctx, c, "issue certificate", c.certificates.IssueCertificate, q.message())
	if err != nil {
		return nil, err
	}
	return issuedFrom("issue certificate", a)
}

func (q IssueRequest) message() *signetv1.IssueCertificateRequest {
	m := signetv1.IssueCertificateRequest_builder{
		CsrDer:      q.CSR,
		Profile:     optional(q.Profile),
		Identifiers: q.Identifiers,
		Issuer:      issuerText(q.Issuer),
		RequestId:   optional(q.RequestID),
		NotAfter:    timestamp(q.NotAfter),
		Subject:     q.Subject.message(),
	}.Build()
	if q.Lifetime != 0 {
		m.SetLifetime(durationpb.New(q.Lifetime))
	}
	return m
}

func issuedFrom(op string, a *signetv1.IssueCertificateResponse) (*Issued, error) {
	if a.HasPending() {
		return nil, pendingError(op, a.GetPending())
	}
	certificate, err := certificateFrom(a.GetCertificate())
	if err != nil {
		return nil, err
	}
	return &Issued{answer{a}, certificate, []byte(a.GetPem()), a.GetRepeated()}, nil
}

// IssueResult is the answer to one item of a Batch.
type IssueResult struct {
	RequestID string
	Issued    *Issued // nil if Err is not
	Err       error   // *pki.Error: why this item failed; it wraps a *PendingError if the item was filed
}

// Batch issues certificates over one stream. One goroutine may call Send while another calls Receive.
type Batch struct {
	stream signetv1.CertificateService_IssueCertificatesClient
	cancel context.CancelFunc
	end    func() error // why its context ended; nil: it did not. That of the stream ends with the stream
}

// IssueBatch opens a stream. ctx bounds the whole stream; Close must be called.
func (c *Client) IssueBatch(ctx context.Context) (*Batch, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.certificates.IssueCertificates(ctx)
	if err != nil {
		err = c.failure("issue certificates", err, ctx.Err())
		cancel()
		return nil, err
	}
	return &Batch{stream, cancel, ctx.Err}, nil
}

// Send sends one item. Its RequestID is required and names the item in the answer. io.EOF means that the stream has
// ended: Receive returns why.
func (b *Batch) Send(q IssueRequest) error {
	err := b.stream.Send(q.message())
	if err != nil && !errors.Is(err, io.EOF) {
		return domainError("issue certificates", err, b.end())
	}
	return err
}

// EndOfItems tells the server that no more items follow. Outstanding answers can still be received.
func (b *Batch) EndOfItems() error { return b.stream.CloseSend() }

// Receive waits for the next answer, to any item. It returns io.EOF after the last.
func (b *Batch) Receive() (IssueResult, error) {
	a, err := b.stream.Recv()
	if errors.Is(err, io.EOF) {
		return IssueResult{}, io.EOF
	}
	if err != nil {
		return IssueResult{}, domainError("issue certificates", err, b.end())
	}
	r := IssueResult{RequestID: a.GetRequestId()}
	if p := a.GetProblem(); p != nil {
		r.Err = problemError("issue certificate", p)
		return r, nil
	}
	if pending := a.GetIssued().GetPending(); pending != nil {
		r.Err = pendingError("issue certificate", pending)
		return r, nil
	}
	r.Issued, err = issuedFrom("issue certificate", a.GetIssued())
	return r, err
}

// Close ends the stream, finished or not.
func (b *Batch) Close() { b.cancel() }

// Certificate returns a certificate with its chain.
func (c *Client) Certificate(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (*Issued, error) {
	a, err := invoke(ctx, c, "get certificate", c.certificates.GetCertificate,
		signetv1.GetCertificateRequest_builder{Issuer: new(issuer.String()), Serial: new(serial.String())}.Build())
	if err != nil {
		return nil, err
	}
	certificate, err := certificateFrom(a.GetCertificate())
	if err != nil {
		return nil, err
	}
	return &Issued{answer{a}, certificate, []byte(a.GetPem()), false}, nil
}

// AccountSystem is the account of Signet's own certificates: those of OCSP responders, of the API, and of the
// authorities that `signet init` makes.
const AccountSystem = "system"

// CertificateFilter selects certificates; every condition that is not zero must hold.
type CertificateFilter struct {
	Identifier   string // exactly this name, "dns:..." or bare
	DNSSuffix    string // this DNS name or one below it; "@domain": the mailboxes there
	CommonName   string // exactly this common name, in any case; not with Identifier or DNSSuffix
	Serial       pki.Serial
	KeyHash      pki.KeyHash
	Issuer       pki.IssuerID
	Profile      string
	Account      string
	NotAccount   string // of any account except this
	Standing     Standing
	ExpiresFrom  time.Time // inclusive
	ExpiresUntil time.Time // exclusive
	IssuedFrom   time.Time // inclusive
	IssuedUntil  time.Time // exclusive
}

// Certificates returns one page of the certificates that match, in the order that the filter implies.
func (c *Client) Certificates(ctx context.Context, f CertificateFilter, p Page) (*List[Certificate], error) {
	q := f.message()
	q.SetPageSize(uint32(p.Size))
	q.SetPageToken(p.Token)
	a, err := invoke(ctx, c, "list certificates", c.certificates.ListCertificates, q)
	if err != nil {
		return nil, err
	}
	list := &List[Certificate]{answer: answer{a}, Next: a.GetNextPageToken()}
	for _, m := range a.GetCertificates() {
		certificate, err := certificateFrom(m)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, certificate)
	}
	return list, nil
}

// AllCertificates returns every certificate that matches, asking for pages as they are needed. An error ends the sequence.
func (c *Client) AllCertificates(ctx context.Context, f CertificateFilter) iter.Seq2[Certificate, error] {
	return all(func(p Page) (*List[Certificate], error) { return c.Certificates(ctx, f, p) })
}

func (f CertificateFilter) message() *signetv1.ListCertificatesRequest {
	return signetv1.ListCertificatesRequest_builder{
		Identifier:   optional(f.Identifier),
		DnsSuffix:    optional(f.DNSSuffix),
		CommonName:   optional(f.CommonName),
		Serial:       serialText(f.Serial),
		KeyHash:      keyHashText(f.KeyHash),
		Issuer:       issuerText(f.Issuer),
		Profile:      optional(f.Profile),
		Account:      optional(f.Account),
		NotAccount:   optional(f.NotAccount),
		Standing:     new(signetv1.Standing(f.Standing)),
		ExpiresFrom:  timestamp(f.ExpiresFrom),
		ExpiresUntil: timestamp(f.ExpiresUntil),
		IssuedFrom:   timestamp(f.IssuedFrom),
		IssuedUntil:  timestamp(f.IssuedUntil),
	}.Build()
}

// Count is a number of certificates.
type Count struct {
	answer
	Count uint64
	Exact bool // otherwise an estimate
}

// CountCertificates counts the certificates that match.
func (c *Client) CountCertificates(ctx context.Context, f CertificateFilter) (*Count, error) {
	a, err := invoke(ctx, c, "count certificates", c.certificates.CountCertificates, f.message())
	if err != nil {
		return nil, err
	}
	return &Count{answer{a}, a.GetCount(), a.GetExact()}, nil
}
