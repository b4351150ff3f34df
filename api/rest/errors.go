package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"signet.example/signet/api/signetv1"
)

// problem is the JSON of every error (RFC 9457): the members of the standard, and field, hint, kind and requestId.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Kind      string `json:"kind"`
	Op        string `json:"op,omitempty"`
	Field     string `json:"field,omitempty"`
	Hint      string `json:"hint,omitempty"`
	RequestID string `json:"requestId,omitempty"`
}

// blame returns what is wrong, with the name of the field.
func (p problem) blame() string {
	if p.Field == "" {
		return p.Detail
	}
	return p.Field + ": " + p.Detail
}

// statusOf is the HTTP status of each kind of error.
var statusOf = map[string]int{
	"internal":            http.StatusInternalServerError,
	"invalid":             http.StatusBadRequest,
	"refused":             http.StatusUnprocessableEntity,
	"not-found":           http.StatusNotFound,
	"conflict":            http.StatusConflict,
	"unauthenticated":     http.StatusUnauthorized,
	"denied":              http.StatusForbidden,
	"failed-precondition": http.StatusConflict,
	"unavailable":         http.StatusServiceUnavailable,
	"exhausted":           http.StatusTooManyRequests,
}

// kindOf returns the kind for a status that gRPC or the gateway made, which carries none.
func kindOf(c codes.Code) string {
	switch c {
	case codes.InvalidArgument, codes.OutOfRange:
		return "invalid"
	case codes.NotFound, codes.Unimplemented:
		return "not-found"
	case codes.Unauthenticated:
		return "unauthenticated"
	case codes.PermissionDenied:
		return "denied"
	case codes.ResourceExhausted:
		return "exhausted"
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return "unavailable"
	}
	return "internal"
}

// writeError is called by the gateway for every call that failed.
func writeError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	e := exchangeOf(r.Context())
	if e.failure == nil {
		e.failure = queryProblem(r.Form)
	}
	p := problemOf(status.Convert(err))
	if e.failure != nil {
		p = *e.failure
	}
	if md, ok := runtime.ServerMetadataFromContext(ctx); ok && p.RequestID == "" {
		if ids := md.HeaderMD.Get(requestIDHeader); len(ids) > 0 {
			p.RequestID = ids[0]
		}
	}
	writeProblem(w, r, p)
}

// problemOf reads the details of a gRPC status.
func problemOf(s *status.Status) problem {
	p := problem{Kind: kindOf(s.Code()), Detail: s.Message()}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			p.Kind = strings.ReplaceAll(strings.ToLower(d.GetReason()), "_", "-")
			p.Op, p.Hint = d.GetMetadata()["op"], d.GetMetadata()["hint"]
		case *errdetails.BadRequest:
			if v := d.GetFieldViolations(); len(v) > 0 {
				p.Field = v[0].GetField()
			}
		case *errdetails.RequestInfo:
			p.RequestID = d.GetRequestId()
		}
	}
	if p.Kind == "invalid" && p.Hint == "" {
		p.Hint = "correct the field that it names; GET /openapi.json describes every field"
	}
	p.Status = statusOf[p.Kind]
	if p.Status == 0 {
		p.Status = http.StatusInternalServerError
	}
	if s.Code() == codes.DeadlineExceeded {
		p.Status = http.StatusGatewayTimeout
	}
	return p
}

func writeProblem(w http.ResponseWriter, r *http.Request, p problem) {
	p.Type = "urn:signet:error:" + p.Kind
	p.Title = http.StatusText(p.Status)
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	if p.RequestID != "" {
		header.Set(requestIDHeader, p.RequestID)
	}
	switch p.Status {
	case http.StatusUnauthorized: // RFC 9110, Section 11.6.1: a 401 response says how to authenticate
		header.Set("WWW-Authenticate", `Bearer realm="signet"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		header.Set("Retry-After", "1")
	}
	text, err := json.Marshal(p)
	if err != nil {
		panic("rest: strings and numbers always encode: " + err.Error())
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(text, '\n')) // the client may have disconnected
}

// streamProblem returns a problem as an item of a stream.
func streamProblem(p problem) *signetv1.Problem {
	m := signetv1.Problem_builder{Kind: &p.Kind, Message: &p.Detail}
	if p.Field != "" {
		m.Field = &p.Field
	}
	if p.Hint != "" {
		m.Hint = &p.Hint
	}
	return m.Build()
}

func octets(n int64) string { return fmt.Sprintf("%d octets", n) }
