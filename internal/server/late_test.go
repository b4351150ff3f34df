package server_test

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/server"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// metric is the value of a metric with its labels as /metrics writes them; NaN is not told from absent.
func (s *site) metric(t *testing.T, name string) (float64, bool) {
	t.Helper()
	text := string(get(t, "http://"+s.addresses.Ops+"/metrics"))
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		return 0, false
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value, true
}

// until is what is left, at a time, of what a metric says the end of.
func (s *site) until(t *testing.T, name string, now time.Time) (left time.Duration, ok bool) {
	t.Helper()
	end, ok := s.metric(t, name)
	return time.Unix(int64(end), 0).Sub(now), ok
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Whatever becomes late is seen from outside, in /metrics and /readyz: an instance without keys, whose clock is moved,
// beside a ledger that goes on and issuing instances that are gone.
func TestLate(t *testing.T) {
	url := testdb.EmptyURL(t)
	s := found(t, url)
	p := s.start(t)
	issued := s.issue(t, "late.example")
	issuer := s.issuerCalled(t, "issuing")
	s.revoke(t, s.issue(t, "early.example"), pki.Superseded)
	p.stop(t)

	var ahead atomic.Int64
	log := &syncBuffer{}
	instance := runInstance(t, s.config(t), server.Options{Role: server.RolePublic, Log: slog.New(slog.NewTextHandler(log, nil)),
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	eventually := func(what string, happened func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("never: %s; /metrics has\n%s\nthe log:\n%s", what, get(t, "http://"+s.addresses.Ops+"/metrics"), log.String())
			}
		}
	}
	// The database is damaged: published lists are compared with it, and the result is reported.
	db := testdb.Open(t, url)
	swap := func() {
		testdb.Exec(t, db, `ALTER TABLE ledger DISABLE TRIGGER append_only`)
		testdb.Exec(t, db, `UPDATE ledger SET serial = overlay(serial placing set_byte(substring(serial from 20), 0, 255 - get_byte(serial, 19)) from 20) WHERE seq = 1`)
		testdb.Exec(t, db, `ALTER TABLE ledger ENABLE TRIGGER append_only`)
		instance.TestingOnlyCompare(t.Context())
	}
	disagreements := func() float64 { n, _ := s.metric(t, "signet_product_disagreements_total"); return n }
	eventually("it answers", func() bool { state, _, _ := s.readiness(t, "products"); return state == "ok" })

	certificate, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		t.Fatal(err)
	}
	shard := strings.TrimPrefix(certificate.CRLDistributionPoints[0], "http://"+s.addresses.Public+"/crl/")
	week, _, _ := strings.Cut(shard, "-")
	late := `signet_product_lag_seconds{product="shard"}`
	if lag, ok := s.metric(t, late); !ok || lag > 1 {
		t.Errorf("%s is %v before anything is late", late, lag)
	}
	next := `signet_crl_next_update_timestamp_seconds{list="` + week + `"}`
	if left, ok := s.until(t, next, time.Now()); !ok || left < 71*time.Hour || left > 72*time.Hour {
		t.Errorf("%v to nextUpdate of %s", left, shard)
	}

	if n := disagreements(); n != 0 {
		t.Errorf("%v disagreements of a database that is whole", n)
	}
	swap()
	state, detail, ready := s.readiness(t, "agreement")
	if n := disagreements(); n < 1 || state != "warning" || !ready || !strings.Contains(detail, "differ from the ledger, among them "+issued.Issuer.String()) || !strings.Contains(detail, "report it") {
		t.Errorf("%v disagreements; /readyz says %q, %q", n, state, detail)
	}
	if !strings.Contains(log.String(), `msg="a published list disagrees with the ledger, or with OCSP" list=`+shard) {
		t.Errorf("the log says:\n%s", log.String())
	}
	n := disagreements()
	swap() // and back: what was is counted, and nothing differs now
	if state, detail, _ := s.readiness(t, "agreement"); state != "ok" || disagreements() != n {
		t.Errorf("mended: %v disagreements after %v; /readyz says %q, %q", disagreements(), n, state, detail)
	}

	// No instance is there to publish new revocations.
	position, ok := issued.Serial.Unmask(pki.HashSPKI(parsePEM(t, []byte(issuer.PEM))[0].RawSubjectPublicKeyInfo))
	if !ok {
		t.Fatal("the serial number has no position")
	}
	entry := revocation.Entry{Issuer: issued.Issuer, Serial: issued.Serial, Position: position, Kind: revocation.KindRevoke, Reason: pki.Superseded, RevokedAt: time.Now().UTC().Truncate(time.Second), Actor: "test"}
	seq, err := db.AppendLedger(t.Context(), 0, []revocation.NewEntry{{Entry: entry}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually("the entry is read", func() bool { at, _ := s.metric(t, "signet_ledger_sequence"); return uint64(at) == seq })
	ahead.Store(int64(5 * time.Minute))
	eventually("the lag and the clock are seen", func() bool {
		lag, _ := s.metric(t, late)
		skew, _ := s.metric(t, "signet_clock_skew_seconds")
		return lag >= 300 && lag < 400 && skew > 290 && skew < 310
	})
	if lag, ok := s.metric(t, `signet_product_lag_seconds{product="ocsp"}`); !ok || lag > 60 {
		t.Errorf("OCSP, which answers from memory, is %v seconds behind", lag)
	}
	says := func(check, state, text string) {
		t.Helper()
		if got, detail, _ := s.readiness(t, check); got != state || !strings.Contains(detail, text) {
			t.Errorf("/readyz says %q, %q of %s; want %s and %q", got, detail, check, state, text)
		}
	}
	says("products", "warning", "shard by 5m")
	says("clock", "warning", "ahead of the database's")
	says("crl", "ok", "issuing: 4, until ") // two shards, the complete list and its delta

	// Nor does any instance work on a job; its progress can be seen all the same.
	job := revocation.Job{ID: revocation.JobID{7}, State: revocation.JobRunning, Reason: pki.Superseded, Actor: "test", Selected: 4, Selector: revocation.Selector{Profile: "server"}}
	if _, err := db.CreateJob(t.Context(), job, nil, time.Now(), audit.Event{At: time.Now(), Actor: "test", Action: "job.plan", Target: "job", Outcome: audit.OK}); err != nil {
		t.Fatal(err)
	}
	of := `{job="` + job.ID.String() + `"}`
	if left, ok := s.metric(t, "signet_job_remaining_seconds"+of); ok {
		t.Errorf("a job that did nothing takes %v seconds more", left)
	}
	testdb.Exec(t, db, `UPDATE jobs SET revoked = 2, skipped = 1, started_at = now() - interval '3 hours'`)
	for name, want := range map[string]float64{`signet_jobs{state="running"}`: 1, `signet_jobs{state="paused"}`: 0, `signet_jobs{state="failed"}`: 0, "signet_job_selected" + of: 4, "signet_job_done" + of: 3} {
		if got, ok := s.metric(t, name); !ok || got != want {
			t.Errorf("%s is %v (%t), want %v", name, got, ok, want)
		}
	}
	// The clock here is ahead.
	if left, ok := s.metric(t, "signet_job_remaining_seconds"+of); !ok || left < 3600 || left > 4200 {
		t.Errorf("the job takes %v seconds more", left)
	}
	testdb.Exec(t, db, `UPDATE jobs SET state = 6`)
	if failed, _ := s.metric(t, `signet_jobs{state="failed"}`); failed != 1 {
		t.Errorf("%v jobs failed", failed)
	}

	// No instance renews anything.
	ahead.Store(int64(90 * time.Hour))
	if left, _ := s.until(t, next, time.Now().Add(90*time.Hour)); left > -17*time.Hour || left < -19*time.Hour {
		t.Errorf("%v to nextUpdate of %s, which ended 18 hours ago", left, shard)
	}
	says("crl", "warning", shard+" ends at")
	says("ocsp/"+issued.Issuer.String(), "warning", "was not renewed")
	if left, _ := s.until(t, `signet_ocsp_delegate_expiry_timestamp_seconds{issuer="`+issued.Issuer.String()+`"}`, time.Now().Add(90*time.Hour)); left > 302400*time.Second || left < 200000*time.Second {
		t.Errorf("%v until the responder's certificate ends", left)
	}
	told := func(text string) (lines []string) {
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, text) {
				lines = append(lines, line)
			}
		}
		return lines
	}
	alarmed := func(what string) []string {
		return told(`msg="what clients rely on is not being renewed" what=` + what + " ")
	}
	over := func(what string) []string { return told(`msg="an alarm is over" what=` + what + "\n") }
	instance.TestingOnlyTellFreshness()
	instance.TestingOnlyTellFreshness()
	if lines := alarmed("crl/issuing"); len(lines) != 1 {
		t.Errorf("the log says %d times that lists are late", len(lines))
	} else if line := lines[0]; !strings.Contains(line, "level=WARN") || !strings.Contains(line, shard+" ends at") || !strings.Contains(line, `next="start an instance that has the issuer's key`) {
		t.Errorf("the log says %s", line)
	}
	if lines := alarmed("issuer/issuing"); len(lines) != 0 {
		t.Errorf("the log says %s", lines)
	}
	ahead.Store(int64(3600 * 24 * time.Hour))
	instance.TestingOnlyTellFreshness()
	if lines := alarmed("issuer/issuing"); len(lines) != 1 {
		t.Errorf("the log says %d times that the issuer ends", len(lines))
	}
	if left, _ := s.until(t, `signet_issuer_expiry_timestamp_seconds{issuer="issuing"}`, time.Now().Add(3600*24*time.Hour)); left > 90*24*time.Hour {
		t.Errorf("%v until the issuer ends", left)
	}
	if state, detail, _ := s.readiness(t, "issuer/issuing"); state == "ok" || state == "" {
		t.Errorf("/readyz says %q, %q of the issuer", state, detail)
	}

	ahead.Store(0)
	instance.TestingOnlyTellFreshness()
	for _, what := range []string{"crl/issuing", "ocsp/issuing", "issuer/issuing"} {
		if began, ended := len(alarmed(what)), len(over(what)); began != 1 || ended != 1 {
			t.Errorf("%s began %d times and ended %d times in the log", what, began, ended)
		}
	}

	// A week that is not published.
	testdb.Exec(t, db, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
		VALUES ($1, 1000, 0, 100, 1, 0, $2, $2, 'http://pki.example', now(), now())`, issued.Issuer[:], make([]byte, 16))
	never := issued.Issuer.String() + "/1000"
	eventually("the week is missing", func() bool {
		next, ok := s.metric(t, `signet_crl_next_update_timestamp_seconds{list="`+never+`"}`)
		return ok && next == 0
	})
	if count, ok := s.metric(t, `signet_crls{list="`+never+`"}`); !ok || count != 0 {
		t.Errorf("%v lists of it are served", count)
	}
}

// A start goes on beside keys that are elsewhere and what does not answer, and hides nothing else behind them.
func TestWhatAStartGoesOnBeside(t *testing.T) {
	elsewhere := pki.Errorf(pki.KindFailedPrecondition, "open issuer", "the key is %w", ca.ErrKeyElsewhere)
	away, fault := pki.Errorf(pki.KindUnavailable, "open token", "it is away"), errors.New("wrong")
	for _, test := range []struct {
		err  error
		want bool
	}{
		{elsewhere, true},
		{errors.Join(elsewhere, away), true},
		{errors.Join(elsewhere, fault), false},
		{errors.Join(away, fault), false},
		{fault, false},
	} {
		if got := server.TestingOnlyCanWait(test.err); got != test.want {
			t.Errorf("%v: %t", test.err, got)
		}
	}
}
