package server

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signet.example/signet/ca/approval"
	"signet.example/signet/ca/keys"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/revocation"
)

// collector turns the state of the components into metrics when a scrape asks for them.
type collector struct{ server *Server }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("signet_"+name, help, labels, nil)
}

// The metrics, as docs/OPERATIONS.md explains them.
var (
	metricLedger = describe("ledger_sequence", "Last entry of the ledger that this instance has applied.")
	metricAge    = describe("product_lag_seconds",
		"Age of the oldest ledger entry that a product of this instance does not show yet; 0 when it shows all.", "product")
	metricDisagreements = describe("product_disagreements_total",
		"Lists whose signature or entries were not those of the ledger at their sequence, or of what OCSP answers from. Anything but 0 is a bug or damage.")
	metricFallenBack = describe("database_went_back", "1 if the database shows less than this server saw before; nothing is issued or published.")
	metricWritable   = describe("database_writable",
		"0: the database does not answer, is read-only or its disk is full, and nothing is issued or revoked.")
	metricMirrorFailing = describe("mirror_failing_seconds", "For how long copying to a mirror has failed; 0: everything is there.", "mirror")
	metricClockSkew     = describe("clock_skew_seconds", "By how much this instance's clock is ahead of the database's.")

	metricCRLNext = describe("crl_next_update_timestamp_seconds",
		"nextUpdate of a list, or the earliest of the shards of a week; 0: one was never published. Absent once the last list of a week was made.", "list")
	metricCRLCount   = describe("crls", "Lists under this name: 1, or the shards of a week.", "list")
	metricCRLEntries = describe("crl_entries", "Entries of the lists under this name.", "list")
	metricCRLSize    = describe("crl_bytes", "Octets of the lists under this name.", "list")
	metricCRLFail    = describe("crl_failing", "Lists under this name whose last attempt to publish failed.", "list")

	metricOCSPReplies = describe("ocsp_replies_total", "Replies by the status they carry.", "status")
	metricOCSPSigned  = describe("ocsp_signatures_total", "Responses signed.")
	metricOCSPFailed  = describe("ocsp_failures_total",
		"Failures behind replies: of a signature; of a query that only the database can answer; of reading a change of the ledger, after which answers stay right and cost more.", "what")
	metricOCSPKept    = describe("ocsp_kept_responses", "Signed responses in memory.")
	metricOCSPWaiting = describe("ocsp_waiting", "Requests that wait for a signature.")
	metricDelegateEnd = describe("ocsp_delegate_expiry_timestamp_seconds",
		"When the responder's certificate expires; 0: there is none. Absent for the last one, which expires with its issuer, and for a retired issuer whose key is not at this issuing instance.", "issuer")

	metricRequestsOpen   = describe("requests_open", "Requests that wait: pending for a decision, approved for their certificate.", "state")
	metricRequestsOldest = describe("requests_oldest_pending_seconds", "Age of the oldest request that waits for a decision; 0: none does.")

	metricJobs         = describe("jobs", "Mass revocations that have begun and not ended, by state; at most 100 are counted.", "state")
	metricJobSelected  = describe("job_selected", "Certificates that a mass revocation selected.", "job")
	metricJobDone      = describe("job_done", "Certificates that a mass revocation has revoked or found revoked.", "job")
	metricJobRemaining = describe("job_remaining_seconds",
		"Estimated remaining time of a mass revocation; absent unless it runs and has made progress.", "job")

	metricProfilesRefused = describe("profiles_refused",
		"1 if this instance refused its profile files when it last read them, and the previous profiles are in effect.")
	metricLeftOut = describe("audit_left_out_total",
		"Failed requests for certificates that could not be written to the audit log; when it can be written again, one event says how many.")

	metricCeremonyNext   = describe("ceremony_list_next_update_timestamp_seconds", "nextUpdate of the list of an off-line issuer; 0: there is none.", "issuer")
	metricCeremonyWanted = describe("ceremony_wanted", "1: a ceremony is due for an off-line issuer.", "issuer")
	metricIssuerEnd      = describe("issuer_expiry_timestamp_seconds",
		"When an issuer's own certificate expires. Absent for an issuer that has expired, is retired, or is disabled and has a successor that issues.", "issuer")

	metricKeyUses      = describe("key_signatures_total", "Signatures made by a key.", "key", "provider", "purpose")
	metricKeyFailures  = describe("key_failures_total", "Signatures that a key did not make, or not in time.", "key", "provider", "purpose")
	metricKeyRefused   = describe("key_refused_total", "Signatures not tried because too many waited for the key.", "key", "provider", "purpose")
	metricKeyWait      = describe("key_wait_seconds", "Time that signatures waited for their turn at the key.", "key", "provider", "purpose")
	metricKeySign      = describe("key_sign_seconds", "Time that the key took for signatures.", "key", "provider", "purpose")
	metricKeyQueue     = describe("key_queue", "Signatures that wait for a key or are being made.", "key", "provider")
	metricKeyHanging   = describe("key_hanging_calls", "Calls to the device of a key that were abandoned and have not returned.", "key", "provider")
	metricKeyAbandoned = describe("key_abandoned_calls_total", "Calls to the device of a key that were abandoned.", "key", "provider")
	metricKeyFailing   = describe("key_failing_seconds", "For how long every signature of a key has failed; 0: the last one succeeded.", "key", "provider")
)

// Describe sends nothing: the collector is unchecked, since lists and issuers come and go.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// instruments is the channel that values are sent to.
type instruments chan<- prometheus.Metric

func (out instruments) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func (out instruments) count(desc *prometheus.Desc, value uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
}

// Collect asks every component.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	s, now, out := c.server, c.server.options.Now(), instruments(metrics)
	c.collectLedger(out, now)
	for name, lists := range byWeek(append(s.publisher.Lists(), s.publisher.Missing()...)) {
		collectLists(out, name, lists)
	}
	c.collectOCSP(out)
	c.collectRequests(out, now)
	c.collectJobs(out, now)
	if s.profiles != nil {
		out.gauge(metricProfilesRefused, truth(s.profiles.Own().Failure != ""))
	}
	if s.authority != nil {
		out.count(metricLeftOut, s.authority.LeftOut())
	}
	c.collectIssuers(out, now)
	c.collectKeys(out, now)
}

// collectLedger reports how far the ledger is known and published, and the state of the database.
func (c *collector) collectLedger(out instruments, now time.Time) {
	s := c.server
	out.gauge(metricLedger, float64(s.universe.Seq()))
	for product, lag := range s.lags() {
		out.gauge(metricAge, lag.Seconds(), product)
	}
	out.count(metricDisagreements, s.agreement.count())
	out.gauge(metricFallenBack, truth(s.fallenBack.Load() != nil))
	out.gauge(metricWritable, truth(c.writable()))
	for _, m := range s.publisher.Mirrors() {
		failing := 0.0
		if m.Failure != nil {
			failing = max(now.Sub(m.Since).Seconds(), 0.001)
		}
		out.gauge(metricMirrorFailing, failing, m.Name)
	}
	out.gauge(metricClockSkew, s.publisher.Skew().Seconds())
}

// collectOCSP reports on the responder and on its certificates.
func (c *collector) collectOCSP(out instruments) {
	ocsp := c.server.responder.Stats()
	for status, n := range map[string]uint64{
		"successful": ocsp.Successful, "malformedRequest": ocsp.Malformed, "unauthorized": ocsp.Unauthorized, "tryLater": ocsp.TryLater, "internalError": ocsp.Internal, "http": ocsp.HTTP,
	} {
		out.count(metricOCSPReplies, n, status)
	}
	out.count(metricOCSPSigned, ocsp.Signed)
	for what, n := range map[string]uint64{"signature": ocsp.Failed, "database": ocsp.Unavailable, "ledger": ocsp.Lost} {
		out.count(metricOCSPFailed, n, what)
	}
	out.gauge(metricOCSPKept, float64(ocsp.Answers))
	out.gauge(metricOCSPWaiting, float64(ocsp.Waiting))
	for _, delegate := range c.server.delegates() {
		if !delegate.Last { // the last one is meant to expire
			out.gauge(metricDelegateEnd, timestamp(delegate.NotAfter), delegate.Issuer.String())
		}
	}
}

// collectIssuers reports when the certificates of issuers expire, and the lists of off-line issuers.
func (c *collector) collectIssuers(out instruments, now time.Time) {
	s := c.server
	for _, c := range s.publisher.Ceremonies() {
		out.gauge(metricCeremonyNext, timestamp(c.NextUpdate), s.labelOf(c.Issuer))
		out.gauge(metricCeremonyWanted, truth(c.Due), s.labelOf(c.Issuer))
	}
	for _, issuer := range *s.issuers.known.Load() {
		if len(issuer.Certificates) > 0 && !issuer.Ended(now) && !s.givenUp(issuer) {
			out.gauge(metricIssuerEnd, timestamp(issuer.Certificates[0].NotAfter), issuer.Label)
		}
	}
}

// timestamp returns a time in seconds since 1970; 0 for the zero time.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// truth returns 1 for true and 0 for false.
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

// collectRequests asks the database, the only place that knows. While it does not answer, these metrics are absent.
func (c *collector) collectRequests(out instruments, now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w, err := c.server.store.WaitingRequests(ctx)
	if err != nil {
		return
	}
	out.gauge(metricRequestsOpen, float64(w.Pending), approval.Pending.String())
	out.gauge(metricRequestsOpen, float64(w.Approved), approval.Approved.String())
	age := 0.0
	if !w.Oldest.IsZero() {
		age = max(0, now.Sub(w.Oldest).Seconds())
	}
	out.gauge(metricRequestsOldest, age)
}

// collectJobs asks the database for the progress of mass revocations. While it does not answer, these metrics are
// absent.
func (c *collector) collectJobs(out instruments, now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	seen := make(map[revocation.JobID]bool) // one may change its state between two queries
	for _, state := range []revocation.JobState{revocation.JobRunning, revocation.JobPaused, revocation.JobFailed} {
		jobs, err := c.server.store.Jobs(ctx, revocation.JobFilter{State: state}, revocation.JobID{}, 100)
		if err != nil {
			return
		}
		out.gauge(metricJobs, float64(len(jobs)), state.String())
		for _, job := range jobs {
			if seen[job.ID] {
				continue
			}
			seen[job.ID] = true
			out.gauge(metricJobSelected, float64(job.Selected), job.ID.String())
			out.gauge(metricJobDone, float64(job.Revoked+job.Skipped), job.ID.String())
			if left, ok := job.Remaining(now); ok {
				out.gauge(metricJobRemaining, left.Seconds(), job.ID.String())
			}
		}
	}
}

// lags returns, by product, the age of the oldest ledger entry that the product does not include: "ocsp", which answers
// from the universe, and the publisher's products.
func (s *Server) lags() map[string]time.Duration {
	unread := s.universe.Lag()
	all := map[string]time.Duration{"ocsp": unread}
	for product, lag := range s.publisher.Lags() {
		all[product] = max(lag, unread)
	}
	return all
}

// byWeek groups the shards of an issuer by week. There may be thousands, and one that is late is what matters.
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

// collectLists reports on lists under one name: when the first of them expires, how many entries they have together,
// and how many fail.
func collectLists(out instruments, name string, lists []crlserver.ListStatus) {
	published, entries, size, failing := 0, 0, int64(0), 0
	for _, list := range lists {
		if list.Head.Number > 0 {
			published++
		}
		entries, size = entries+list.Head.Entries, size+list.Head.Size
		if list.Failure != nil {
			failing++
		}
	}
	if end, ok := firstEnd(lists); ok {
		out.gauge(metricCRLNext, end, name)
	}
	out.gauge(metricCRLCount, float64(published), name)
	out.gauge(metricCRLEntries, float64(entries), name)
	out.gauge(metricCRLSize, float64(size), name)
	out.gauge(metricCRLFail, float64(failing), name)
}

// firstEnd returns the earliest nextUpdate, as a timestamp, of lists that will have a successor; false if there are
// none.
func firstEnd(lists []crlserver.ListStatus) (end float64, ok bool) {
	for _, list := range lists {
		if next := timestamp(list.Head.NextUpdate); !list.Ending && (!ok || next < end) {
			end, ok = next, true
		}
	}
	return end, ok
}

// collectKeys reports on every open key, under the label of its issuer, and on each purpose it was used for.
func (c *collector) collectKeys(out instruments, now time.Time) {
	for _, u := range c.server.keyUsage() {
		labels := []string{c.server.keyLabel(u), u.Provider}
		out.gauge(metricKeyQueue, float64(u.Queued), labels...)
		out.gauge(metricKeyHanging, float64(u.Hanging), labels...)
		out.count(metricKeyAbandoned, u.Abandoned, labels...)
		failing := 0.0
		if u.Failing != nil {
			failing = max(now.Sub(u.Failing.Since).Seconds(), 0.001)
		}
		out.gauge(metricKeyFailing, failing, labels...)
		for _, p := range keys.Purposes() {
			use, labels := u.Purposes[p], append(slices.Clip(labels), p.String())
			if use.Wait.Count+use.Refused == 0 {
				continue
			}
			out.count(metricKeyUses, use.Signatures, labels...)
			out.count(metricKeyFailures, use.Failures, labels...)
			out.count(metricKeyRefused, use.Refused, labels...)
			out <- histogram(metricKeyWait, use.Wait, labels)
			out <- histogram(metricKeySign, use.Sign, labels)
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
