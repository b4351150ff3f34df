package rpc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// maxRequest is the largest message accepted, in octets, except for the methods in large, which package rest bounds.
const maxRequest = 512 << 10

// RequestIDHeader carries the id that connects an answer with log lines and audit events. A caller may choose it.
const RequestIDHeader = "x-request-id"

// strangersArriving is how many messages of callers without a credential may be arriving at once. Package rest holds at
// most 128 KiB of each, together 64 MiB.
const strangersArriving = 512

// open are the methods that require no credential: the health check, and renewal, whose proof is the old certificate.
var open = map[string]bool{healthv1.Health_Check_FullMethodName: true, "/signet.v1.CertificateService/RenewCertificate": true}

// large are the methods whose messages may be larger than maxRequest.
var large = map[string]bool{"/signet.v1.JobService/PlanJob": true, "/signet.v1.IssuerService/AdoptIssuer": true, "/signet.v1.IssuerService/ImportCrl": true}

// slow are the methods that may take longer than Config.Timeout, because they read everything.
var slow = map[string]time.Duration{"/signet.v1.AuditService/VerifyAuditLog": 10 * time.Minute}

// issuing are the methods that issue: an unreadable request is recorded in the audit log, like a request that the CA
// refuses.
var issuing = map[string]bool{signetv1.CertificateService_IssueCertificate_FullMethodName: true,
	signetv1.CertificateService_IssueCertificates_FullMethodName: true, signetv1.CertificateService_RenewCertificate_FullMethodName: true}

// principalKey is the context key of the caller.
type principalKey struct{}

// caller returns the principal of a call; outside a call the zero Principal, which may do nothing.
func caller(ctx context.Context) auth.Principal {
	p, _ := ctx.Value(principalKey{}).(auth.Principal)
	return p
}

// Unary is the interceptor of every unary call.
func (a *API) Unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	id := requestID(ctx)
	ctx, cancel := context.WithTimeout(ctx, max(a.config.Timeout, slow[info.FullMethod]))
	defer cancel()
	defer func() { err = a.finish(ctx, info.FullMethod, id, recover(), err) }()
	if err := grpc.SetHeader(ctx, metadata.Pairs(RequestIDHeader, id)); err != nil {
		return nil, err
	}
	ctx, release, err := a.admit(ctx, info.FullMethod, id, a.calls, a.running)
	if err != nil {
		return nil, err
	}
	defer release()
	if m, ok := request.(proto.Message); ok {
		if !large[info.FullMethod] && proto.Size(m) > maxRequest {
			return nil, pki.Errorf(pki.KindInvalid, "read request", "it has %d octets, more than %d", proto.Size(m), maxRequest).
				WithHint("send less in one call")
		}
		if err := checkTexts(m); err != nil {
			return nil, err
		}
	}
	return handler(ctx, request)
}

// Stream is the interceptor of every stream.
func (a *API) Stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	ctx := stream.Context()
	id := requestID(ctx)
	defer func() { err = a.finish(ctx, info.FullMethod, id, recover(), err) }()
	if err := stream.SetHeader(metadata.Pairs(RequestIDHeader, id)); err != nil {
		return err
	}
	admitted, release, err := a.admit(ctx, info.FullMethod, id, a.streams, a.held)
	if err != nil {
		return err
	}
	defer release()
	ctx = admitted
	if err := stream.SendHeader(nil); err != nil { // the caller learns that it was admitted without sending anything
		return err
	}
	return handler(service, &admittedStream{stream, admitted, a.config.Idle})
}

// admittedStream is a stream that its client must keep moving: callers share a small number of them.
type admittedStream struct {
	grpc.ServerStream
	ctx  context.Context
	idle time.Duration
}

func (s *admittedStream) Context() context.Context { return s.ctx }

// RecvMsg gives up if the client sends nothing.
func (s *admittedStream) RecvMsg(m any) error {
	return s.bounded("its client sent nothing", func() error { return s.ServerStream.RecvMsg(m) })
}

// SendMsg gives up if the client does not receive.
func (s *admittedStream) SendMsg(m any) error {
	return s.bounded("its client took nothing", func() error { return s.ServerStream.SendMsg(m) })
}

// bounded waits for do as long as a stream may be idle. If it gives up, do ends with the stream when the handler
// returns; a handler that gets an error must not use the stream again.
func (s *admittedStream) bounded(why string, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	timer := time.NewTimer(s.idle)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return pki.Errorf(pki.KindExhausted, "stream", "%s for %s", why, s.idle).WithHint("open another when there is something to send")
	}
}

// Admit is called before the message of a unary call is read, so that strangers cannot make the server hold what they
// send, and no caller gets more than a share. Call arrived when the message has arrived, or will not. known says that a
// credential was presented; the interceptors authenticate it again, from memory.
func (a *API) Admit(ctx context.Context, method string) (arrived func(), known bool, err error) {
	defer func() {
		if panicked := recover(); panicked != nil || err != nil {
			id := requestID(ctx)
			_ = grpc.SetHeader(ctx, metadata.Pairs(RequestIDHeader, id)) // over REST it is in the response
			err = a.finish(ctx, method, id, panicked, err)
		}
	}()
	// Otherwise strangers could make load balancers take the server out of service.
	if method == healthv1.Health_Check_FullMethodName {
		return func() {}, false, nil
	}
	if open[method] {
		arrived, err = a.strangers.enter(networkOf(sourceOf(ctx)))
		return arrived, false, err
	}
	leave, err := enter(a.calls)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	p, err := a.authenticate(ctx)
	if err != nil {
		return nil, false, err
	}
	arrived, err = a.arriving.enter(p.ID)
	return arrived, true, err
}

// enter takes one of all places, if one is free.
func enter(room chan struct{}) (leave func(), err error) {
	select {
	case room <- struct{}{}:
		return func() { <-room }, nil
	default:
		return nil, pki.Errorf(pki.KindExhausted, "accept call", "%d calls are being answered already", cap(room)).
			WithHint("try again in a moment")
	}
}

// admit admits a call if there is room for it, and its credential is valid and may have another call at once.
func (a *API) admit(ctx context.Context, method, id string, room chan struct{}, held *shares) (context.Context, func(), error) {
	leave, err := enter(room)
	if err != nil {
		return ctx, nil, err
	}
	if open[method] { // a principal without rights, which carries what the log needs
		return context.WithValue(ctx, principalKey{}, auth.Principal{Source: sourceOf(ctx), RequestID: id}), leave, nil
	}
	p, err := a.authenticate(ctx)
	if err == nil && !a.rates.allow(p.ID) {
		err = pki.Errorf(pki.KindExhausted, "accept call", "%s makes more calls than it may", p.ID).
			WithHint("slow down, or ask for a higher rate")
	}
	var part func()
	if err == nil {
		part, err = held.enter(p.ID)
	}
	if err != nil {
		leave()
		return ctx, nil, err
	}
	p.RequestID = id
	return context.WithValue(ctx, principalKey{}, p), func() { part(); leave() }, nil
}

// authenticate turns the caller's credential into a Principal. A bearer token comes before a client certificate, since
// it was sent with the call.
func (a *API) authenticate(ctx context.Context) (auth.Principal, error) {
	source := sourceOf(ctx)
	p, err := a.present(ctx)
	if err != nil {
		return auth.Principal{}, a.unproven(source, err)
	}
	p.Source = source
	return p, nil
}

// unproven bounds how often an address is told that its credential is wrong. Valid credentials always pass: others
// behind the same address must not be able to lock a caller out. Credentials cannot be guessed; the limit keeps
// strangers from filling the audit log.
func (a *API) unproven(source string, err error) error {
	if pki.KindOf(err) == pki.KindUnauthenticated && !a.failures.allow(networkOf(source)) {
		return pki.Errorf(pki.KindExhausted, "authenticate", "too many wrong credentials from %s", source).
			WithHint("send a good one; the last was not")
	}
	return err
}

func (a *API) present(ctx context.Context) (auth.Principal, error) {
	switch values := metadata.ValueFromIncomingContext(ctx, "authorization"); {
	case len(values) > 1:
		return auth.Principal{}, pki.Errorf(pki.KindUnauthenticated, "authenticate", "more than one authorization header")
	case len(values) == 1:
		scheme, token, _ := strings.Cut(values[0], " ")
		if !strings.EqualFold(scheme, "bearer") {
			return auth.Principal{}, pki.Errorf(pki.KindUnauthenticated, "authenticate", "the authorization header must be \"Bearer\" and a token").
				WithHint("Authorization: Bearer TOKEN")
		}
		return a.config.Authenticator.Token(ctx, strings.TrimSpace(token))
	}
	if from, ok := peer.FromContext(ctx); ok {
		if info, ok := from.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			return a.config.Authenticator.Certificate(ctx, info.State.PeerCertificates)
		}
	}
	return auth.Principal{}, pki.Errorf(pki.KindUnauthenticated, "authenticate", "no credential").
		WithHint("send a bearer token, or a TLS client certificate that an administrator has bound to a credential")
}

// Unread records why the message of an admitted call, or an item of a stream, could not be read, because nothing else
// sees it. It returns the id of the call.
func (a *API) Unread(ctx context.Context, method, why string) (id string) {
	id = requestID(ctx)
	if !open[method] {
		p, err := a.authenticate(ctx)
		if err != nil { // it was valid a moment ago; a call without a credential is ignored
			return id
		}
		ctx = context.WithValue(ctx, principalKey{}, p)
	}
	// The caller has its answer.
	_ = a.note(ctx, method, id, nil, pki.Errorf(pki.KindInvalid, "issue certificate", "%s", why))
	return id
}

// finish returns the status for the caller of a finished call. panicked is the result of recover.
func (a *API) finish(ctx context.Context, method, id string, panicked any, err error) error {
	err = a.note(ctx, method, id, panicked, err)
	if err == nil {
		return nil
	}
	return statusError(err, id)
}

// note turns a panic into an error, logs what callers are not told, and records refusals in the audit log.
func (a *API) note(ctx context.Context, method, id string, panicked any, err error) error {
	if panicked == nil && err == nil {
		return nil
	}
	log := a.config.Log.With("method", method, "request_id", id, "principal", caller(ctx).ID)
	if panicked != nil {
		log.Error("call panicked", "panic", panicked, "stack", string(debug.Stack()))
		return pki.Errorf(pki.KindInternal, "call", "panic")
	}
	switch pki.KindOf(err) {
	case pki.KindInternal, pki.KindUnavailable:
		switch {
		case errors.Is(err, context.Canceled): // the caller disconnected: no fault
		case errors.Is(ctx.Err(), context.Canceled): // probably for the same reason
			log.Info("call failed, and its caller is gone", "error", err)
		default:
			log.Error("call failed", "error", err)
		}
	}
	if _, known := errors.AsType[audited](err); known {
		return err
	}
	switch kind := pki.KindOf(err); {
	case kind == pki.KindUnauthenticated || kind == pki.KindDenied:
		a.auditRefusal(ctx, log, "api.call", method, id, err)
	case kind == pki.KindInvalid && issuing[method]:
		a.auditRefusal(ctx, log, "certificate.issue", method, id, err)
	}
	return err
}

// audited is a refusal that is in the audit log already, written by the authority or the desk for approvals.
type audited struct{ error }

// Unwrap returns the refusal.
func (e audited) Unwrap() error { return e.error }

// auditRefusal records the refusal of a call in the audit log. Each caller can cause only a limited number of events,
// strangers few, because events are kept for ever. The next event says how many were left out.
func (a *API) auditRefusal(ctx context.Context, log *slog.Logger, action, method, id string, err error) {
	p := caller(ctx)
	actor, source, noise := p.ID, sourceOf(ctx), a.noise
	if actor == "" {
		actor, noise = "anonymous", a.anyone
	}
	if !noise.allow(actor) {
		a.unheard.Add(1)
		log.Warn("refused, and not in the audit log: too many refusals", "source", source, "error", err)
		return
	}
	event := audit.Event{At: a.config.Now(), Actor: actor, Action: action, Target: method, Outcome: audit.Refused, RequestID: id, Source: source,
		Detail: map[string]string{"error": fmt.Sprintf("%.500s", err)}}
	left := a.unheard.Swap(0)
	if left > 0 {
		event.Detail["left_out"] = strconv.FormatUint(left, 10)
	}
	// The caller may be gone; its refusal is recorded nevertheless.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := a.config.Audit.AppendAudit(ctx, []audit.Event{event}); err != nil {
		a.unheard.Add(left + 1)
		log.Error("a refusal could not be written into the audit log", "error", err)
	}
}

// requestID returns the caller's id if it is fit for logs, otherwise a random one.
func requestID(ctx context.Context) string {
	if values := metadata.ValueFromIncomingContext(ctx, RequestIDHeader); len(values) == 1 && goodRequestID(values[0]) {
		return values[0]
	}
	var random [8]byte
	rand.Read(random[:]) // never fails since Go 1.24
	return hex.EncodeToString(random[:])
}

func goodRequestID(text string) bool {
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(text) > 0 && len(text) <= 64
}

// sourceOf returns the network address of the caller, without port.
func sourceOf(ctx context.Context) string {
	from, ok := peer.FromContext(ctx)
	if !ok || from.Addr == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(from.Addr.String())
	if err != nil {
		return from.Addr.String()
	}
	return host
}
