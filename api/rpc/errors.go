package rpc

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// errorDomain is the domain of every ErrorInfo: together with the reason, which is the kind, it identifies the error.
const errorDomain = "signet.v1"

var codeOf = map[pki.Kind]codes.Code{
	pki.KindInternal: codes.Internal,
	pki.KindInvalid:  codes.InvalidArgument,
	// The same request gets the same answer again; ErrorInfo tells the two kinds apart.
	pki.KindRefused:            codes.InvalidArgument,
	pki.KindNotFound:           codes.NotFound,
	pki.KindConflict:           codes.AlreadyExists,
	pki.KindUnauthenticated:    codes.Unauthenticated,
	pki.KindDenied:             codes.PermissionDenied,
	pki.KindFailedPrecondition: codes.FailedPrecondition,
	pki.KindUnavailable:        codes.Unavailable,
	pki.KindExhausted:          codes.ResourceExhausted,
}

// nextFor is what to do about an error without a hint of its own. Invalid input is described where the caller wrote it:
// REST and the command line say where.
var nextFor = map[pki.Kind]string{
	pki.KindDenied:   "use a credential that allows it, or ask an administrator",
	pki.KindNotFound: "list what there is, and check the name",
	pki.KindConflict: "look at what is there before trying again",
}

// disclosed returns what a caller is told about an error. The causes of internal errors and of failures to answer are
// for operators: they are logged with the request id. The exception is a full disk, since trying again does not help.
func disclosed(err error, requestID string) *pki.Error {
	e, ok := errors.AsType[*pki.Error](err)
	if !ok {
		e = &pki.Error{Op: "call", Err: err}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			e.Kind = pki.KindUnavailable
		}
	}
	told := &pki.Error{Kind: e.Kind, Op: e.Op, Field: e.Field, Hint: e.Hint, Err: e.Err}
	switch e.Kind {
	case pki.KindInternal:
		told.Err, told.Field = errors.New("something broke in the server"), ""
		told.Hint = "give the request id " + requestID + " to the operators of the server: its log says more"
	case pki.KindUnavailable:
		if errors.Is(err, pki.ErrDiskFull) {
			told.Err, told.Field = pki.ErrDiskFull, ""
			told.Hint = "tell the operators of the server: nothing is issued or revoked until there is space; then try again"
			break
		}
		if errors.Is(err, pki.ErrWentBack) {
			told = pki.WentBack(e.Op)
			break
		}
		told.Err, told.Field = errors.New("something that the server depends on does not answer, or took too long"), ""
		told.Hint = "try again; if it lasts, give the request id " + requestID + " to the operators of the server"
	}
	if told.Hint == "" {
		told.Hint = nextFor[told.Kind]
	}
	if told.Err != nil { // it may quote octets of a certificate that are not valid in a protobuf string
		told.Err = errors.New(strings.ToValidUTF8(told.Err.Error(), "\uFFFD"))
	}
	return told
}

// statusError returns the gRPC status of an error, with details that say what kind it is, which field is at fault and
// what to do (AIP-193).
func statusError(err error, requestID string) error {
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return err // made by gRPC itself, or by this function
	}
	told := disclosed(err, requestID)
	code := codeOf[told.Kind]
	if errors.Is(err, context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	facts := map[string]string{"op": told.Op, "cause": cause(told)}
	if revoked, ok := errors.AsType[*pki.Revoked](err); ok {
		facts["revoked"] = revoked.Reason.String()
	}
	if told.Hint != "" {
		facts["hint"] = told.Hint
	}
	details := []protoadapt.MessageV1{
		&errdetails.ErrorInfo{Reason: reasonOf(told.Kind), Domain: errorDomain, Metadata: facts},
		&errdetails.RequestInfo{RequestId: requestID},
	}
	if told.Field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: told.Field, Description: cause(told)}}})
	}
	s, detailErr := status.New(code, told.Error()).WithDetails(details...)
	if detailErr != nil {
		return status.Error(code, told.Error()) // details are optional; the error itself must arrive
	}
	return s.Err()
}

// reasonOf returns a kind in the spelling of AIP-193: FAILED_PRECONDITION.
func reasonOf(kind pki.Kind) string {
	return strings.ToUpper(strings.ReplaceAll(kind.String(), "-", "_"))
}

// problem is statusError for one item of a stream.
func problem(err error, requestID string) *signetv1.Problem {
	told := disclosed(err, requestID)
	return signetv1.Problem_builder{Kind: new(told.Kind.String()), Message: new(cause(told)), Field: optional(told.Field), Hint: optional(told.Hint)}.Build()
}

// cause returns the text of an error without its operation and field.
func cause(e *pki.Error) string {
	if e.Err == nil {
		return e.Op
	}
	return e.Err.Error()
}

// invalid returns an error about a field of a request.
func invalid(op, field, format string, args ...any) *pki.Error {
	return pki.Errorf(pki.KindInvalid, op, format, args...).InField(field)
}
