package client

import (
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// kinds by the word that the server puts into ErrorInfo.reason and Problem.kind.
var kinds = func() map[string]pki.Kind {
	m := map[string]pki.Kind{}
	for k := pki.KindInternal; k <= pki.KindExhausted; k++ {
		m[k.String()] = k
	}
	return m
}()

// kindOfCode is for statuses without our details: those that gRPC itself makes.
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

// failure is domainError, for a call that may have failed because nobody is there.
func (c *Client) failure(op string, err error) error {
	if status.Code(err) != codes.Unavailable || c.reached.Load() {
		return domainError(op, err)
	}
	// gRPC wraps the cause in text of its own, which says nothing to a person.
	text := status.Convert(err).Message()
	text = strings.TrimSuffix(strings.TrimPrefix(text, "connection error: desc = \"transport: "), "\"")
	text = strings.ReplaceAll(strings.TrimPrefix(text, "Error while dialing: "), `\"`, `"`)
	hint := "does the server run, and are its address and root certificates right? on its machine `signet doctor` knows"
	if strings.Contains(text, "x509: certificate is ") { // valid for other names, or not valid for any
		hint = "call it by a name in its certificate, or add this one to api.names in its signet.yaml and start it again"
	}
	return pki.Errorf(pki.KindUnavailable, op, "%w: %s", ErrNotReached, text).WithHint("%s", hint)
}

// domainError turns a gRPC status into a *pki.Error.
func domainError(op string, err error) error {
	s := status.Convert(err)
	e := &pki.Error{Kind: kindOfCode(s.Code()), Op: op, Err: errors.New(s.Message())}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if kind, ok := kinds[d.GetReason()]; ok {
				e.Kind = kind
			}
			if text := d.GetMetadata()["op"]; text != "" {
				e.Op = text
			}
			if text := d.GetMetadata()["cause"]; text != "" {
				e.Err = errors.New(text)
			}
		case *errdetails.BadRequest:
			if v := d.GetFieldViolations(); len(v) > 0 {
				e.Field = v[0].GetField()
			}
		case *errdetails.LocalizedMessage:
			e.Hint = d.GetMessage()
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
