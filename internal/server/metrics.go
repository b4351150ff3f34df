package server

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signet.example/signet/ca/approval"
	"signet.example/signet/ca/keys"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/revocation"
)

// collector turns what the components say of themselves into metrics when they are asked for.
type collector struct{ server *Server }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("signet_"+name, help, labels, nil)
}

// metrics are in the order of docs/OPERATIONS.md.
var metrics = struct {
	ledger, lag, age, disagreements, fallenBack, writable      *prometheus.Desc
	mirrorFailing                                              *prometheus.Desc
	clockSkew                                                  *prometheus.Desc
	ocspReplies, ocspSigned, ocspFailed, ocspKept, ocspWaiting *prometheus.Desc
	crlNext, crlCount, crlEntries, crlSize, crlFail            *prometheus.Desc
	delegateEnd, issuerEnd, ceremonyDue, ceremonyWanted        *prometheus.Desc
	requestsOpen, requestsOldest                               *prometheus.Desc
	jobs, jobSelected, jobDone, jobRemaining                   *prometheus.Desc
	profilesRefused, leftOut                                   *prometheus.Desc
	keyUses, keyFailures, keyRefused                           *prometheus.Desc
	keyWait, keySign                                           *prometheus.Desc
	keyQueue, keyHanging, keyAbandoned, keyFailing             *prometheus.Desc
}{
	ledger:          describe("ledger_sequence", "Last entry of the ledger that this instance has applied."),
	lag:             describe("product_lag_entries", "Ledger entries that a product of this instance is behind.", "product"),
	age:             describe("product_lag_seconds", "Age of the oldest ledger entry that a product of this instance does not show yet; 0 when it shows all.", "product"),
	disagreements:   describe("product_disagreements_total", "Lists whose signature or entries were not those of the ledger at their sequence, or of what OCSP answers from. Anything but 0 is a bug or damage."),
	fallenBack:      describe("database_went_back", "1 if the database shows less than was seen before: nothing is issued or published."),
	writable:        describe("database_writable", "0: the database does not answer, can only be read, or its disk is full, and nothing is issued or revoked."),
	mirrorFailing:   describe("mirror_failing_seconds", "For how long copying to a place has failed; 0: everything is there.", "mirror"),
	clockSkew:       describe("clock_skew_seconds", "By how much this instance's clock is ahead of the database's."),
	ocspReplies:     describe("ocsp_replies_total", "Replies by the status they carry.", "status"),
	ocspSigned:      describe("ocsp_signatures_total", "Responses signed."),
	ocspFailed:      describe("ocsp_failures_total", "What went wrong behind replies: a signature; a question that only the database could answer; a change of the ledger that could not be read, after which answers stay right and cost more.", "what"),
	ocspKept:        describe("ocsp_kept_responses", "Signed responses in memory."),
	ocspWaiting:     describe("ocsp_waiting", "Requests that wait for a signature."),
	crlNext:         describe("crl_next_update_seconds", "Seconds until nextUpdate of a list, of the shards of a week the first; negative: it is stale. None once the last list of a week was made.", "list"),
	crlCount:        describe("crls", "Lists under this name: 1, or the shards of a week.", "list"),
	crlEntries:      describe("crl_entries", "Their entries.", "list"),
	crlSize:         describe("crl_bytes", "Their octets.", "list"),
	crlFail:         describe("crl_failing", "Of how many of them the last attempt to publish failed.", "list"),
	delegateEnd:     describe("ocsp_delegate_expiry_seconds", "Seconds until the responder's certificate ends; 0: there is none. None for the last one, which ends with its issuer, and of a retired issuer whose key is not at this issuing instance.", "issuer"),
	ceremonyDue:     describe("ceremony_due_seconds", "Seconds until the list of an off-line issuer ends; 0: it has ended, there is none, or a revocation is not on it.", "issuer"),
	ceremonyWanted:  describe("ceremony_wanted", "1: a ceremony is due for an off-line issuer.", "issuer"),
	issuerEnd:       describe("issuer_expiry_seconds", "Seconds until an issuer's own certificate ends. None of one that has ended, is retired, or is disabled and has a successor that issues.", "issuer"),
	requestsOpen:    describe("requests_open", "Requests that wait: pending for a decision, approved for their certificate.", "state"),
	requestsOldest:  describe("requests_oldest_pending_seconds", "Age of the oldest request that waits for a decision; 0: none does."),
	jobs:            describe("jobs", "Mass revocations that have begun and not ended, by state; at most 100 are counted.", "state"),
	jobSelected:     describe("job_selected", "Certificates that a mass revocation selected.", "job"),
	jobDone:         describe("job_done", "Certificates that a mass revocation has revoked, or found revoked.", "job"),
	jobRemaining:    describe("job_remaining_seconds", "Time that a mass revocation has to go, estimated; none unless it runs and has done something.", "job"),
	profilesRefused: describe("profiles_refused", "1 if this instance refused its profile files when it last read them, and the profiles of before are in effect."),
	leftOut:         describe("audit_left_out_total", "Failed requests for certificates that could not be written into the audit log; when it can be written, one event says how many."),
	keyUses:         describe("key_signatures_total", "Signatures made by a key.", "key", "provider", "purpose"),
	keyFailures:     describe("key_failures_total", "Signatures that a key did not make, or not in time.", "key", "provider", "purpose"),
	keyRefused:      describe("key_refused_total", "Signatures not tried, since too many waited for the key.", "key", "provider", "purpose"),
	keyWait:         describe("key_wait_seconds", "Time that signatures waited for their turn at the key.", "key", "provider", "purpose"),
	keySign:         describe("key_sign_seconds", "Time that the key took for signatures.", "key", "provider", "purpose"),
	keyQueue:        describe("key_queue", "Signatures that wait for a key or are being made.", "key", "provider"),
	keyHanging:      describe("key_hanging_calls", "Calls to the device of a key that were given up and have not returned.", "key", "provider"),
	keyAbandoned:    describe("key_abandoned_calls_total", "Calls to the device of a key that were given up.", "key", "provider"),
	keyFailing:      describe("key_failing_seconds", "For how long every signature of a key has failed; 0: the last was made.", "key", "provider"),
}

// Describe sends nothing: the collector is unchecked, since lists and issuers come and go.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect asks every component.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	count := func(desc *prometheus.Desc, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	s, now := c.server, c.server.options.Now()
	seq := s.universe.Seq()
	gauge(metrics.ledger, float64(seq))
	for product, reached := range s.products() {
		gauge(metrics.lag, float64(seq-min(seq, reached())), product)
	}
	for product, lag := range s.lags() {
		gauge(metrics.age, lag.Seconds(), product)
	}
	count(metrics.disagreements, s.agreement.count())
	gauge(metrics.fallenBack, truth(s.fallenBack.Load() != nil))
	gauge(metrics.writable, truth(c.writable()))
	for _, m := range s.publisher.Mirrors() {
		failing := 0.0
		if m.Failure != nil {
			failing = max(now.Sub(m.Since).Seconds(), 0.001)
		}
		gauge(metrics.mirrorFailing, failing, m.Name)
	}
	gauge(metrics.clockSkew, s.publisher.Skew().Seconds())

	ocsp := s.responder.Stats()
	for status, n := range map[string]uint64{
		"successful": ocsp.Successful, "malformedRequest": ocsp.Malformed, "unauthorized": ocsp.Unauthorized, "tryLater": ocsp.TryLater, "internalError": ocsp.Internal, "http": ocsp.HTTP,
	} {
		count(metrics.ocspReplies, n, status)
	}
	count(metrics.ocspSigned, ocsp.Signed)
	for what, n := range map[string]uint64{"signature": ocsp.Failed, "database": ocsp.Unavailable, "ledger": ocsp.Lost} {
		count(metrics.ocspFailed, n, what)
	}
	gauge(metrics.ocspKept, float64(ocsp.Answers))
	gauge(metrics.ocspWaiting, float64(ocsp.Waiting))

	for name, lists := range byWeek(append(s.publisher.Lists(), s.publisher.Missing()...)) {
		collectLists(gauge, name, lists, now)
	}
	for _, delegate := range s.delegates() {
		if !delegate.Last { // that one shall end
			gauge(metrics.delegateEnd, max(0, delegate.NotAfter.Sub(now).Seconds()), delegate.Issuer.String())
		}
	}
	c.collectRequests(gauge, now)
	c.collectJobs(gauge, now)
	if s.profiles != nil {
		gauge(metrics.profilesRefused, truth(s.profiles.Own().Failure != ""))
	}
	if s.authority != nil {
		count(metrics.leftOut, s.authority.LeftOut())
	}
	c.collectKeys(out, now)
	for _, c := range s.publisher.Ceremonies() {
		left := max(0, c.NextUpdate.Sub(now).Seconds())
		if c.Waiting {
			left = 0
		}
		gauge(metrics.ceremonyDue, left, s.labelOf(c.Issuer))
		gauge(metrics.ceremonyWanted, truth(c.Due), s.labelOf(c.Issuer))
	}
	for _, issuer := range *s.issuers.known.Load() {
		if len(issuer.Certificates) > 0 && !issuer.Ended(now) && !s.givenUp(issuer) {
			gauge(metrics.issuerEnd, issuer.Certificates[0].NotAfter.Sub(now).Seconds(), issuer.Label)
		}
	}
}

// truth is 1 for what is so.
func truth(so bool) float64 {
	if so {
		return 1
	}
	return 0
}

// writable asks the database, as /readyz does.
func (c *collector) writable() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return c.server.store.Ping(ctx) == nil
}

// collectRequests asks the database, the only thing that knows; while it does not answer there are no such metrics.
func (c *collector) collectRequests(gauge func(*prometheus.Desc, float64, ...string), now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w, err := c.server.store.WaitingRequests(ctx)
	if err != nil {
		return
	}
	gauge(metrics.requestsOpen, float64(w.Pending), approval.Pending.String())
	gauge(metrics.requestsOpen, float64(w.Approved), approval.Approved.String())
	age := 0.0
	if !w.Oldest.IsZero() {
		age = max(0, now.Sub(w.Oldest).Seconds())
	}
	gauge(metrics.requestsOldest, age)
}

// collectJobs asks the database how far mass revocations are, as collectRequests does.
func (c *collector) collectJobs(gauge func(*prometheus.Desc, float64, ...string), now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	seen := make(map[revocation.JobID]bool) // one may change its state in between
	for _, state := range []revocation.JobState{revocation.JobRunning, revocation.JobPaused, revocation.JobFailed} {
		jobs, err := c.server.store.Jobs(ctx, state, revocation.JobID{}, 100)
		if err != nil {
			return
		}
		gauge(metrics.jobs, float64(len(jobs)), state.String())
		for _, job := range jobs {
			if seen[job.ID] {
				continue
			}
			seen[job.ID] = true
			gauge(metrics.jobSelected, float64(job.Selected), job.ID.String())
			gauge(metrics.jobDone, float64(job.Revoked+job.Skipped), job.ID.String())
			if left, ok := job.Remaining(now); ok {
				gauge(metrics.jobRemaining, left.Seconds(), job.ID.String())
			}
		}
	}
}

// lags tells, by product, how old the oldest ledger entry is that the product does not show: "ocsp", which answers from the
// universe, and those of the publisher.
func (s *Server) lags() map[string]time.Duration {
	unread := s.universe.Lag()
	all := map[string]time.Duration{"ocsp": unread}
	for product, lag := range s.publisher.Lags() {
		all[product] = max(lag, unread)
	}
	return all
}

// byWeek puts the shards of an issuer that belong to one week together: there may be thousands of them, and one that is late is
// what counts.
func byWeek(lists []crlserver.ListStatus) map[string][]crlserver.ListStatus {
	weeks := make(map[string][]crlserver.ListStatus)
	for _, list := range lists {
		name := list.Head.List.String()
		if list.Head.List.Sharded {
			name = list.Head.List.Issuer.String() + "/" + list.Head.List.Shard.Epoch.String()
		}
		weeks[name] = append(weeks[name], list)
	}
	return weeks
}

// collectLists tells of lists under one name: when the first of them ends (now, if one was never published), what they hold together,
// and whether one fails.
func collectLists(gauge func(*prometheus.Desc, float64, ...string), name string, lists []crlserver.ListStatus, now time.Time) {
	next, published, entries, size, failing := math.Inf(1), 0, 0, int64(0), 0
	for _, list := range lists {
		switch {
		case list.Head.Number == 0:
			next = min(next, 0)
		case !list.Ending: // that one shall end
			next = min(next, list.Head.NextUpdate.Sub(now).Seconds())
		}
		if list.Head.Number > 0 {
			published++
		}
		entries, size = entries+list.Head.Entries, size+list.Head.Size
		if list.Failure != nil {
			failing++
		}
	}
	if !math.IsInf(next, 1) {
		gauge(metrics.crlNext, next, name)
	}
	gauge(metrics.crlCount, float64(published), name)
	gauge(metrics.crlEntries, float64(entries), name)
	gauge(metrics.crlSize, float64(size), name)
	gauge(metrics.crlFail, float64(failing), name)
}

// collectKeys tells of every key that was opened, under the label of its issuer, and of each purpose it was used for.
func (c *collector) collectKeys(out chan<- prometheus.Metric, now time.Time) {
	for _, u := range c.server.keyUsage() {
		labels := []string{c.server.keyLabel(u), u.Provider}
		gauge := func(desc *prometheus.Desc, value float64) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
		}
		gauge(metrics.keyQueue, float64(u.Queued))
		gauge(metrics.keyHanging, float64(u.Hanging))
		out <- prometheus.MustNewConstMetric(metrics.keyAbandoned, prometheus.CounterValue, float64(u.Abandoned), labels...)
		failing := 0.0
		if u.Failing != nil {
			failing = max(now.Sub(u.Failing.Since).Seconds(), 0.001)
		}
		gauge(metrics.keyFailing, failing)
		for _, p := range keys.Purposes() {
			use, labels := u.Purposes[p], append(slices.Clip(labels), p.String())
			if use.Wait.Count+use.Refused == 0 {
				continue
			}
			for desc, n := range map[*prometheus.Desc]uint64{metrics.keyUses: use.Signatures, metrics.keyFailures: use.Failures, metrics.keyRefused: use.Refused} {
				out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
			}
			out <- histogram(metrics.keyWait, use.Wait, labels)
			out <- histogram(metrics.keySign, use.Sign, labels)
		}
	}
}

func histogram(desc *prometheus.Desc, t keys.Timing, labels []string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(t.Within))
	for i, bound := range keys.TimingBounds() {
		buckets[bound.Seconds()] = t.Within[i]
	}
	return prometheus.MustNewConstHistogram(desc, t.Count, t.Sum.Seconds(), buckets, labels...)
}
