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

// ListAuditEvents returns one page of events.
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
	events, next, err := auditPage(ctx, s.api.config.Audit, filter, min(m.GetAfterSequence(), math.MaxInt64), limit)
	if err != nil {
		return nil, err
	}
	b := signetv1.ListAuditEventsResponse_builder{}
	for _, event := range events {
		b.Events = append(b.Events, auditEventTo(event))
	}
	switch {
	case next == 0:
	case filter.Newest:
		b.NextBeforeSequence = &next
	default:
		b.NextAfterSequence = &next
	}
	return b.Build(), nil
}

// auditSpan is how many events are searched for one page if no index helps.
const auditSpan = 1_000_000

// auditPage returns at most limit events and the position to continue from; 0 if there are no more. A page that is not
// full may have a successor. Otherwise the search of a long log for events that it does not contain would time out
// without an answer.
func auditPage(ctx context.Context, log AuditLog, filter audit.Filter, after uint64, limit int) (events []audit.Event, next uint64, err error) {
	newest, err := log.AuditEvents(ctx, audit.Filter{Newest: true}, 0, 1)
	if err != nil || len(newest) == 0 {
		return nil, 0, err
	}
	end := newest[0].Seq + 1
	if filter.Before != 0 {
		end = min(end, filter.Before)
	}
	filter.Before = end
	switch {
	case filter.Target != "" || after >= end || end-after <= auditSpan: // targets have an index
	case filter.Newest:
		after = end - auditSpan
		next = after + 1
	default:
		filter.Before = after + auditSpan
		next = filter.Before - 1
	}
	if events, err = log.AuditEvents(ctx, filter, after, limit); len(events) == limit {
		next = events[limit-1].Seq
	}
	return events, next, err
}

// VerifyAuditLog verifies the chain. If it does not verify, the answer says so; a log that cannot be read is an error.
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
	if m.GetKnownHead() != "" {
		if kept, err = audit.ParseChain(m.GetKnownHead()); err != nil {
			return nil, pki.Errorf(pki.KindInvalid, "verify audit log", "%w", err).InField("known_head")
		}
	}
	var unread error
	chain, err := audit.Verify(untilError(s.api.config.Audit.AuditBatches(ctx, 0), &unread), kept)
	if unread != nil && pki.KindOf(unread) == pki.KindUnavailable {
		return nil, unread
	}
	if unread != nil {
		err = unread // this call exists to find a hole in the log
	}
	b := signetv1.VerifyAuditLogResponse_builder{Intact: new(err == nil), Events: &chain.Seq, Head: new(hex.EncodeToString(chain.Head[:]))}
	if err != nil {
		b.Finding = new(err.Error())
	}
	return b.Build(), nil
}

// untilError yields batches until reading fails, and then stores the error in failure.
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
