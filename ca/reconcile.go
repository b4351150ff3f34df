package ca

import (
	"context"
	"errors"
	"sync"
	"time"

	"signet.example/signet/pki"
)

// Run renews leases, reconciles, and follows the changes of other instances until the context ends. Then it returns
// nil. It calls report, if not nil, with every error, possibly from several goroutines at once, and tries again in the
// next round.
func (a *Authority) Run(ctx context.Context, report func(error)) error {
	if report == nil {
		report = func(error) {}
	}
	var all sync.WaitGroup
	for _, duty := range []struct {
		do      func(context.Context) error
		every   time.Duration
		atStart bool
	}{ // each in its own goroutine: if a slow duty delayed the renewal of a lease, a range would be lost
		{a.ranges.renew, a.config.Lease / 3, false},
		{a.ranges.tick, a.config.Lease / 3, false},
		{a.reconcile, a.config.Lease / 3, true},
		{a.refresh, 2 * time.Second, false},
		{a.Sweep, time.Hour, false},
		{a.tellLeftOut, 2 * time.Second, true},
	} {
		all.Go(func() {
			ticker := time.NewTicker(duty.every)
			defer ticker.Stop()
			for round := 0; ctx.Err() == nil; round++ {
				if (round > 0 || duty.atStart) && !a.ranges.isHalted() {
					if err := duty.do(ctx); err != nil && ctx.Err() == nil {
						report(err)
					}
				}
				select {
				case <-ctx.Done():
				case <-ticker.C:
				}
			}
		})
	}
	all.Wait()
	return nil
}

// sweepBatch bounds what one transaction of a sweep removes.
const sweepBatch = 1000

// Sweep removes request ids older than a day, and the certificates of epochs that passed longer ago, by this clock and
// the database's, than they are to be kept: Config.KeepExpired, or the retention of the issuers of the epoch if that is
// longer. The ledger and the audit log are not changed. Run calls it every hour.
func (a *Authority) Sweep(ctx context.Context) error {
	for {
		n, err := a.config.Certificates.ForgetRequests(ctx, sweepBatch)
		if err != nil {
			return err
		}
		if n < sweepBatch {
			break
		}
	}
	if err := a.issuers.load(ctx); err != nil { // another instance may just have raised a retention
		return err
	}
	retain := make(map[pki.IssuerID]time.Duration)
	for _, issuer := range a.issuers.list() {
		retain[issuer.ID] = issuer.Retention.Keep
	}
	passed, err := a.config.Certificates.PassedEpochs(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range passed {
		keep := a.config.KeepExpired
		for _, issuer := range p.Issuers {
			keep = max(keep, retain[issuer])
		}
		if !p.Epoch.Passed(a.config.Now().Add(-keep).Unix()) {
			continue
		}
		if err := a.drop(ctx, p.Epoch, keep); pki.KindOf(err) != pki.KindFailedPrecondition { // else it is too early by the database's clock
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// drop removes an epoch, in as many transactions as the database needs.
func (a *Authority) drop(ctx context.Context, epoch pki.Epoch, keep time.Duration) error {
	const most = 10_000
	for range most {
		done, err := a.config.Certificates.DropEpoch(ctx, epoch, keep, sweepBatch)
		if done || err != nil {
			return err
		}
	}
	return nil
}

// Close returns every index that was reserved and not used, so that a clean stop leaves no void. From then on Issue
// fails. Certificates that are being issued are finished.
func (a *Authority) Close(ctx context.Context) error {
	err := a.ranges.stop(ctx)
	if a.ranges.isHalted() {
		return err
	}
	return errors.Join(err, a.tellLeftOut(ctx))
}

// Halt ends issuing without writing anything more. It is for a database that went back in time: there a range of this
// process may belong to another, and a void would take a sequence number that was used before.
func (a *Authority) Halt() { a.ranges.halt() }

// Owner returns the id of this process in the ranges it holds.
func (a *Authority) Owner() OwnerID { return a.ranges.owner }

// refresh reads what other instances may have changed: issuers and blocked keys. Blocked keys are checked again while
// recording. A disabled issuer may sign until the next refresh.
func (a *Authority) refresh(ctx context.Context) error {
	if err := a.issuers.load(ctx); err != nil {
		return err
	}
	a.mu.RLock()
	since := a.since
	a.mu.RUnlock()
	hashes, next, err := a.config.Certificates.KeysBlockedSince(ctx, since)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, hash := range hashes {
		a.blocked[hash] = true
	}
	a.since = next
	return nil
}

// Reconcile closes the ranges whose leases have passed, because their processes are gone. Indices that are not
// recorded become void, by serial. It returns the number of indices that became void. Run reconciles at the start and
// on a timer. Reconcile waits for keys to be opened. An issuer whose key cannot be opened is one error for all its
// ranges, and does not prevent the others.
func (a *Authority) Reconcile(ctx context.Context) (voids int, err error) {
	return a.closeExpired(ctx, a.issuers.open)
}

// reconcile is Reconcile for Run. It does not wait for keys to be opened.
func (a *Authority) reconcile(ctx context.Context) error {
	_, err := a.closeExpired(ctx, a.issuers.ready)
	return err
}

func (a *Authority) closeExpired(ctx context.Context, open func(context.Context, Issuer) (*issuerKey, error)) (voids int, err error) {
	const most = 100
	var failed []error
	away := make(map[pki.IssuerID]bool) // without K this instance cannot compute the serials; one that holds the key will
	for after := RangeID(0); ; {
		expired, err := a.config.Ranges.ExpiredRanges(ctx, after, most)
		if err != nil {
			return voids, errors.Join(append(failed, err)...)
		}
		for _, r := range expired {
			after = r.ID
			if r.Owner == a.ranges.owner || away[r.Issuer] {
				continue // an own lease was renewed late: the next renewal mends it, and only the owner knows what it has not signed
			}
			issuer, err := a.issuers.find(r.Issuer)
			var key *issuerKey
			if err == nil {
				key, err = open(ctx, issuer)
			}
			if err != nil {
				away[r.Issuer] = true
				failed = append(failed, err)
				continue
			}
			n, err := a.config.Ranges.CloseRange(ctx, closingOf(key, r, a.ranges.owner, rangeKey(key, r), a.config.Now()))
			// KindFailedPrecondition: its owner is back and renewed the lease, or another instance was first.
			if err != nil && pki.KindOf(err) != pki.KindFailedPrecondition {
				failed = append(failed, err)
			}
			voids += n
		}
		if len(expired) < most {
			return voids, errors.Join(failed...)
		}
	}
}
