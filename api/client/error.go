package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// kinds by the word that the server puts into Problem.kind, and in capitals into ErrorInfo.reason.
var kinds = func() map[string]pki.Kind {
	m := map[string]pki.Kind{}
	for k := pki.KindInternal; k <= pki.KindExhausted; k++ {
		m[k.String()] = k
	}
	return m
}()

// kindOfCode translates statuses without our details, which gRPC itself makes.
func kindOfCode(c codes.Code) pki.Kind {
	switch c {
	case codes.InvalidArgument, codes.OutOfRange:
		return pki.KindInvalid
	case codes.NotFound, codes.Unimplemented:
		return pki.KindNotFound
	case codes.AlreadyExists, codes.Aborted:
		return pki.KindConflict
	case codes.Unauthenticated:
		return pki.KindUnauthenticated
	case codes.PermissionDenied:
		return pki.KindDenied
	case codes.FailedPrecondition:
		return pki.KindFailedPrecondition
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return pki.KindUnavailable
	case codes.ResourceExhausted:
		return pki.KindExhausted
	}
	return pki.KindInternal
}

// failure is domainError for a call that may have failed because no server, or another server, answered.
func (c *Client) failure(op string, err, end error) error {
	if status.Code(err) != codes.Unavailable || c.made.once.Load() {
		return domainError(op, err, end)
	}
	if failed := c.made.failed.Load(); failed != nil {
		if e := c.unbelieved(op, *failed); e != nil {
			return e
		}
	}
	// gRPC wraps the cause in text of its own, which does not help a person.
	text := status.Convert(err).Message()
	text = strings.TrimSuffix(strings.TrimPrefix(text, "connection error: desc = \"transport: "), "\"")
	text = strings.ReplaceAll(strings.TrimPrefix(text, "Error while dialing: "), `\"`, `"`)
	return pki.Errorf(pki.KindUnavailable, op, "%w: %s", ErrNotReached, text).
		WithHint("does the server run, and is its address right? on its machine `signet doctor` knows")
}

// unbelieved returns the error of a call to a server whose certificate does not verify, so that nothing was sent and a
// repetition does not help. It returns nil if the handshake failed for another reason.
func (c *Client) unbelieved(op string, failed error) error {
	if _, ok := errors.AsType[tls.RecordHeaderError](failed); ok {
		return pki.Errorf(pki.KindFailedPrecondition, op, "%s answers, and not with TLS", c.address).
			WithHint("is that the port of CRL and OCSP? the API is where api.listen says, port 8443 unless that was changed")
	}
	unverified, ok := errors.AsType[*tls.CertificateVerificationError](failed)
	if !ok {
		return nil
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](failed); ok {
		return pki.Errorf(pki.KindFailedPrecondition, op, "the server answers, and its certificate does not verify by %s", c.rootsFrom).
			WithHint("copy root.pem from the server again: `openssl x509 -noout -fingerprint -sha256 -in root.pem` prints the same there and here")
	}
	e := pki.Errorf(pki.KindFailedPrecondition, op, "the server answers, and its certificate does not verify by %s: %w", c.rootsFrom, unverified.Err)
	if strings.Contains(unverified.Err.Error(), "x509: certificate is ") { // valid for other names, or not valid for any
		return e.WithHint("call it by a name in its certificate, or add this one to api.names in its signet.yaml and start it again")
	}
	return e.WithHint("compare the clocks of the two machines; on that of the server `signet doctor` knows more")
}

// over is the cause of an error of a call whose context has ended: the text of gRPC and, for errors.Is, the end.
type over struct {
	text string
	end  error // context.Canceled or context.DeadlineExceeded
}

// Error is the text.
func (o over) Error() string { return o.text }

// Unwrap returns the end.
func (o over) Unwrap() error { return o.end }

// domainError turns a gRPC status into a *pki.Error. end is why the context of the call ended; nil: it did not.
func domainError(op string, err, end error) error {
	s := status.Convert(err)
	e := &pki.Error{Kind: kindOfCode(s.Code()), Op: op, Err: errors.New(s.Message())}
	if end != nil && (s.Code() == codes.Canceled || s.Code() == codes.DeadlineExceeded) {
		e.Err = over{s.Message(), end}
	}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if kind, ok := kinds[strings.ReplaceAll(strings.ToLower(d.GetReason()), "_", "-")]; ok {
				e.Kind = kind
			}
			if text := d.GetMetadata()["op"]; text != "" {
				e.Op = text
			}
			if text := d.GetMetadata()["cause"]; text != "" {
				e.Err = errors.New(text)
			}
			e.Hint = d.GetMetadata()["hint"]
			if reason, err := pki.ParseReason(d.GetMetadata()["revoked"]); err == nil {
				e.Err = &pki.Revoked{Reason: reason, Err: e.Err}
			}
		case *errdetails.BadRequest:
			if v := d.GetFieldViolations(); len(v) > 0 {
				e.Field = v[0].GetField()
			}
		}
	}
	if e.Hint == "" && s.Code() == codes.Unavailable {
		e.Hint = "check that the server runs, and that its address and root certificates are right"
	}
	return e
}

func problemError(op string, p *signetv1.Problem) error {
	return &pki.Error{Kind: kinds[p.GetKind()], Op: op, Field: p.GetField(), Hint: p.GetHint(), Err: errors.New(p.GetMessage())}
}
