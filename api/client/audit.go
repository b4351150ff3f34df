package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"signet.example/signet/api/signetv1"
)

// AuditFilter selects events; every condition that is not zero must hold.
type AuditFilter struct {
	Actor    string
	Action   string
	Target   string
	From     time.Time // inclusive
	Until    time.Time // exclusive
	After    uint64    // only events after this position
	Before   uint64    // only events before this position; zero: any
	Newest   bool      // the newest first, instead of the oldest
	PageSize int       // 1 to 1000; zero: 100
}

// AuditEvent is one entry of the audit log.
type AuditEvent struct {
	answer
	Sequence  uint64
	At        time.Time
	Actor     string
	Action    string
	Target    string
	Outcome   string
	RequestID string
	Source    string
	Detail    map[string]string
}

// AuditPage is one page of the log.
type AuditPage struct {
	answer
	Events []AuditEvent // oldest first, unless the filter says Newest
	Next   uint64       // After of the next page, or its Before if the filter says Newest; 0 at the end
}

// AuditReport says whether the log is whole.
type AuditReport struct {
	answer
	Intact  bool
	Events  uint64
	Head    string // hexadecimal
	Finding string // what is wrong
}

// Kept returns what to keep of a report, elsewhere than in the log, for the next VerifyAudit.
func (r *AuditReport) Kept() string { return fmt.Sprintf("%d:%s", r.Events, r.Head) }

var outcomeNames = [...]string{"", "ok", "refused", "failed"}

// AuditEvents returns one page of the log.
func (c *Client) AuditEvents(ctx context.Context, f AuditFilter) (*AuditPage, error) {
	q := signetv1.ListAuditEventsRequest_builder{
		Actor:          optional(f.Actor),
		Action:         optional(f.Action),
		Target:         optional(f.Target),
		From:           timestamp(f.From),
		Until:          timestamp(f.Until),
		AfterSequence:  &f.After,
		BeforeSequence: &f.Before,
		NewestFirst:    &f.Newest,
		PageSize:       new(uint32(f.PageSize)),
	}.Build()
	a, err := invoke(ctx, c, "list audit events", c.audit.ListAuditEvents, q)
	if err != nil {
		return nil, err
	}
	page := &AuditPage{answer: answer{a}, Next: max(a.GetNextAfterSequence(), a.GetNextBeforeSequence())}
	for _, m := range a.GetEvents() {
		event := AuditEvent{answer{m}, m.GetSequence(), instant(m.GetAt()), m.GetActor(), m.GetAction(), m.GetTarget(), "", m.GetRequestId(), m.GetSource(), m.GetDetail()}
		if o := m.GetOutcome(); o > 0 && int(o) < len(outcomeNames) {
			event.Outcome = outcomeNames[o]
		}
		page.Events = append(page.Events, event)
	}
	return page, nil
}

// AllAuditEvents returns every event that matches. An error ends the sequence. What is written after its end is found
// with the Sequence of the last event as AuditFilter.After.
func (c *Client) AllAuditEvents(ctx context.Context, f AuditFilter) iter.Seq2[AuditEvent, error] {
	return func(yield func(AuditEvent, error) bool) {
		f := f // every use of the sequence begins where it was asked to
		next := &f.After
		if f.Newest {
			next = &f.Before
		}
		for {
			page, err := c.AuditEvents(ctx, f)
			if err != nil {
				yield(AuditEvent{}, err)
				return
			}
			for _, event := range page.Events {
				if !yield(event, nil) {
					return
				}
			}
			if *next = page.Next; page.Next == 0 {
				return
			}
		}
	}
}

// VerifyAudit has the server recompute the hash chain over the whole log. kept is AuditReport.Kept of an earlier
// report, which this log must continue; empty if there is none.
func (c *Client) VerifyAudit(ctx context.Context, kept string) (*AuditReport, error) {
	a, err := invoke(ctx, c, "verify audit log", c.audit.VerifyAuditLog, signetv1.VerifyAuditLogRequest_builder{KnownHead: optional(kept)}.Build())
	if err != nil {
		return nil, err
	}
	return &AuditReport{answer{a}, a.GetIntact(), a.GetEvents(), a.GetHead(), a.GetFinding()}, nil
}
