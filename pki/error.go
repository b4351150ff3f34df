package pki

import (
	"errors"
	"fmt"
)

// Kind says whose fault an error is and what a caller can do. Each edge (gRPC, REST, the command line) translates it
// once.
type Kind uint8

// The kinds. Zero is KindInternal: an unclassified error is a fault of Signet.
const (
	KindInternal           Kind = iota // a fault of Signet; the cause is for operators only
	KindInvalid                        // the request is malformed; Field says where
	KindRefused                        // well-formed, but against policy or profile
	KindNotFound                       // the named thing does not exist
	KindConflict                       // it already exists, or has changed meanwhile
	KindUnauthenticated                // no credential, or one that is not valid
	KindDenied                         // the credential does not allow this
	KindFailedPrecondition             // the state of the system does not allow it now
	KindUnavailable                    // a dependency does not answer; try again
	KindExhausted                      // a bound is reached; try again later
)

var kindNames = [...]string{"internal", "invalid", "refused", "not-found", "conflict", "unauthenticated", "denied", "failed-precondition", "unavailable", "exhausted"}

// String returns a lower-case word, stable enough for metrics and JSON.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "internal"
}

// Error is the one error type that crosses package boundaries.
type Error struct {
	Kind  Kind
	Op    string // what was attempted: "issue certificate"; also the metric label
	Field string // the field to blame, as the API names it ("csr", "identifiers[2]"); may be empty
	Hint  string // what to do next, one sentence; may be empty
	Err   error  // the cause
}

// Error returns "op: field: cause". The hint is separate, for those who print it.
func (e *Error) Error() string {
	text := e.Op
	if e.Field != "" {
		text += ": " + e.Field
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error whose cause is formatted as by fmt.Errorf.
func Errorf(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Err: fmt.Errorf(format, args...)}
}

// InField sets the field to blame and returns e.
func (e *Error) InField(field string) *Error { e.Field = field; return e }

// WithHint sets what to do next and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// ErrDiskFull is the cause of an error of KindUnavailable that waiting does not resolve and that callers are shown: the
// disk of the database has no room for what is to be stored.
var ErrDiskFull = errors.New("the disk of the database is full")

// ErrWentBack is the cause of an error of KindUnavailable that waiting does not resolve and that callers are shown: the
// database shows less than was read from it earlier, and nothing more is written to it.
var ErrWentBack = errors.New("the database went back")

// WentBack returns the error of an operation that would write to a database that went back.
func WentBack(op string) *Error {
	return (&Error{Kind: KindUnavailable, Op: op, Err: ErrWentBack}).WithHint("tell the operators of the server: nothing is issued or revoked until they moved it on, with signet restore")
}

// Explain returns the text of an error and, after it, the hint.
func Explain(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Hint != "" {
		return e.Error() + "; " + e.Hint
	}
	return err.Error()
}

// KindOf returns the kind of the first Error in the chain, KindInternal if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindInternal
}

// Revoked is wrapped by an error about a certificate that was revoked or is on hold: a caller can act on the reason.
type Revoked struct {
	Reason Reason
	Err    error // the text
}

// Error returns the text of Err.
func (r *Revoked) Error() string { return r.Err.Error() }
