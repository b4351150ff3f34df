package rpc

import (
	"context"
	"encoding/hex"
	"iter"
	"math"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// auditService implements signetv1.AuditServiceServer.
type auditService struct {
	signetv1.UnimplementedAuditServiceServer
	api *API
}

// ListAuditEvents returns one page.
func (s *auditService) ListAuditEvents(ctx context.Context, m *signetv1.ListAuditEventsRequest) (*signetv1.ListAuditEventsResponse, error) {
	const op = "list audit events"
	if _, err := caller(ctx).Authorize(auth.ActionAudit, ""); err != nil {
		return nil, err
	}
	limit, err := pageFrom(op, m.GetPageSize())
	if err != nil {
		return nil, err
	}
	filter := audit.Filter{Actor: m.GetActor(), Action: m.GetAction(), Target: m.GetTarget(), Before: min(m.GetBeforeSequence(), math.MaxInt64), Newest: m.GetNewestFirst()}
	if filter.From, err = timeFrom(op, "from", m.GetFrom()); err != nil {
		return nil, err
	}
	if filter.Until, err = timeFrom(op, "until", m.GetUntil()); err != nil {
		return nil, err
	}
	events, err := s.api.config.Audit.AuditEvents(ctx, filter, min(m.GetAfterSequence(), math.MaxInt64), limit)
	if err != nil {
		return nil, err
	}
	b := signetv1.ListAuditEventsResponse_builder{}
	for _, event := range events {
		b.Events = append(b.Events, auditEventTo(event))
	}
	switch {
	case len(events) < limit:
	case filter.Newest:
		b.NextBeforeSequence = &events[limit-1].Seq
	default:
		b.NextAfterSequence = &events[limit-1].Seq
	}
	return b.Build(), nil
}

// VerifyAuditLog recomputes the chain. A log that does not verify is an answer; one that cannot be read is an error.
func (s *auditService) VerifyAuditLog(ctx context.Context, m *signetv1.VerifyAuditLogRequest) (*signetv1.VerifyAuditLogResponse, error) {
	if _, err := caller(ctx).Authorize(auth.ActionAudit, ""); err != nil {
		return nil, err
	}
	leave, err := s.api.verifying.take(ctx, caller(ctx).ID)
	if err != nil {
		return nil, err
	}
	defer leave()
	var kept audit.Chain
	if m.GetKept() != "" {
		if kept, err = audit.ParseChain(m.GetKept()); err != nil {
			return nil, pki.Errorf(pki.KindInvalid, "verify audit log", "%w", err).InField("kept")
		}
	}
	var unread error
	chain, err := audit.Verify(untilError(s.api.config.Audit.AuditBatches(ctx, 0), &unread), kept)
	if unread != nil && pki.KindOf(unread) == pki.KindUnavailable {
		return nil, unread
	}
	if unread != nil {
		err = unread // a hole in the log is what this call is there to find
	}
	b := signetv1.VerifyAuditLogResponse_builder{Intact: new(err == nil), Events: &chain.Seq, Head: new(hex.EncodeToString(chain.Head[:]))}
	if err != nil {
		b.Finding = new(err.Error())
	}
	return b.Build(), nil
}

// untilError ends where reading fails, and leaves the error in failure.
func untilError(batches iter.Seq2[audit.Batch, error], failure *error) iter.Seq2[audit.Batch, error] {
	return func(yield func(audit.Batch, error) bool) {
		for batch, err := range batches {
			if err != nil {
				*failure = err
				return
			}
			if !yield(batch, nil) {
				return
			}
		}
	}
}
