package ca

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// leftOut counts the failed requests that could not be written to the audit log: the cause of the failure, such as a
// full disk, usually prevents the event too. It is safe for concurrent use.
type leftOut struct {
	all  atomic.Uint64 // since the start
	told atomic.Uint64 // of them, those that an event counts by now; changed by Run, and by Close after it
}

// tellPatience bounds the write of such an event, so that a stop does not wait longer.
const tellPatience = 5 * time.Second

// LeftOut returns the number of failed requests since the start that were not written to the audit log, for metrics.
func (a *Authority) LeftOut() uint64 { return a.leftOut.all.Load() }

// tellLeftOut writes one event with the number of failed requests that the audit log lacks, if it lacks any that no
// event counts yet.
func (a *Authority) tellLeftOut(ctx context.Context) error {
	all := a.leftOut.all.Load()
	missing := all - a.leftOut.told.Load()
	if missing == 0 {
		return nil
	}
	event := audit.Event{
		At: a.config.Now(), Actor: auth.System("issuance").ID, Action: "certificate.issue", Target: "instance", Outcome: audit.Failed,
		Detail: map[string]string{"left_out": strconv.FormatUint(missing, 10)},
	}
	// WithoutCancel: if a stop cancelled the write, it might be done all the same and the event would be written
	// twice.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellPatience)
	defer cancel()
	if err := a.config.Audit.AppendAudit(ctx, []audit.Event{event}); err != nil {
		return pki.Errorf(pki.KindOf(err), "write into the audit log", "failed requests are not in it yet: %w", err)
	}
	a.leftOut.told.Store(all)
	return nil
}
