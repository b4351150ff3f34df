package crlserver

import "time"

// TestingOnlyEffort is the budget of builds.
type TestingOnlyEffort struct{ effort }

// Wait is wait.
func (e *TestingOnlyEffort) Wait(now time.Time) time.Duration { return e.wait(now) }

// Spend is spend.
func (e *TestingOnlyEffort) Spend(now time.Time, took time.Duration) { e.spend(now, took) }

// TestingOnlyUnheard sets how long a request waits for a list of which this instance has not heard. Call it before Handler is used.
func (p *Publisher) TestingOnlyUnheard(patience time.Duration) { p.unheard = patience }

// TestingOnlyCharge takes from what may be spent on lists.
func (p *Publisher) TestingOnlyCharge(cost time.Duration) { p.charge(cost) }

// TestingOnlyTakeTurnOfCompleteLists takes it, as one that takes long would.
func (p *Publisher) TestingOnlyTakeTurnOfCompleteLists() (release func()) {
	p.wholes.turn <- struct{}{}
	return p.wholes.turn.free
}

// TestingOnlyLook looks which shards are to be published now, as the schedule does; those run then.
func (p *Publisher) TestingOnlyLook() { p.due(&p.shards) }

// TestingOnlyRuns reports whether a series is being published.
func (p *Publisher) TestingOnlyRuns(series Series) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	state := p.issuers[series.Issuer].series[series]
	return state != nil && state.running
}

// Seq is the ledger sequence up to which lists can be built.
func (p *Publisher) Seq() uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.seq
}
