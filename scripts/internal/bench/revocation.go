package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

const (
	// million is the number of certificates revoked before a measurement "at a million".
	million = 1_000_000

	// hardWeeks is the number of weeks of expiry over which they are spread: a million in certificates of up to three
	// months. manyWeeks is the same million in certificates of up to a year.
	hardWeeks, manyWeeks = 12, 52

	// nearlyAll is the number of certificates that are left where visibility is measured: of eleven ten are revoked, so
	// shards are as long as they get.
	nearlyAll = 100_000
)

// revocations measures revoking with CRL and OCSP on, and the time until each product of each instance shows it: with
// nothing revoked, and with a million.
func revocations(ctx context.Context, b *bench) error {
	for _, part := range []func(context.Context, *bench) error{listCosts, universeLoad, revocationsOnPostgres, visibleOverWeeks(hardWeeks, ""), visibleOverWeeks(manyWeeks, "-over-a-year"), revocationsOnSQLite} {
		if err := part(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// revocationsOnPostgres measures single revocations, key compromise, and a job.
func revocationsOnPostgres(ctx context.Context, b *bench) (err error) {
	if b.skips("limit/", "revoke/grpc/postgres/", "key-compromise/", "job/") {
		return nil
	}
	single := 600_000
	if b.quick {
		single = 110_000
	}
	w, err := b.newRevoking(ctx, "revocation", "postgres", hardWeeks, 4*single+million)
	if err != nil {
		return err
	}
	defer w.end(&err)
	w.each -= compromised * 1000
	inserts, err := durableInserts(16)(ctx, b)
	if err != nil {
		return err
	}
	if err := w.singles(ctx, b, "postgres/0-revoked", []int{1, 16, 64}, inserts); err != nil {
		return err
	}
	twin, err := w.twin(ctx, b.signet)
	if err != nil {
		return err
	}
	running := true
	defer func() {
		if running {
			err = errors.Join(err, twin.halt())
		}
	}()
	if err := w.singles(ctx, b, "postgres/two-instances/0-revoked", []int{1, 16, 64}, inserts); err != nil {
		return err
	}
	if err := w.compromise(ctx, b); err != nil {
		return err
	}
	running = false
	if err := errors.Join(twin.halt(), w.fillMillion(ctx, b)); err != nil {
		return err
	}
	if err := w.singles(ctx, b, "postgres/1000000-revoked", []int{1, 16, 64}, inserts); err != nil {
		return err
	}
	if err := twin.start(ctx, b.signet); err != nil {
		return err
	}
	running = true
	if err := w.singles(ctx, b, "postgres/two-instances/1000000-revoked", []int{1, 16, 64}, inserts); err != nil {
		return err
	}
	running = false
	if err := errors.Join(twin.halt(), w.jobAlone(ctx, b), twin.start(ctx, b.signet)); err != nil {
		return err
	}
	running = true
	return w.job(ctx, b, twin)
}

// visibleOverWeeks measures when two instances show a revocation, with the million spread over the given number of weeks.
func visibleOverWeeks(weeks int, how string) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) (err error) {
		if b.skips(visibles(how)...) {
			return nil
		}
		w, err := b.newRevoking(ctx, "revocation"+how+"-visible", "postgres", weeks, nearlyAll)
		if err != nil {
			return err
		}
		defer w.end(&err)
		if err := w.fillMillion(ctx, b); err != nil {
			return err
		}
		twin, err := w.twin(ctx, b.signet)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, twin.halt()) }()
		return w.visible(ctx, b, twin, how)
	}
}

// revocationsOnSQLite measures single revocations.
func revocationsOnSQLite(ctx context.Context, b *bench) (err error) {
	single := 500_000
	if b.quick {
		single = 170_000
	}
	if b.skips("revoke/grpc/sqlite/0-revoked/c16", "revoke/grpc/sqlite/0-revoked/c64", "revoke/grpc/sqlite/1000000-revoked/c16", "revoke/grpc/sqlite/1000000-revoked/c64") {
		return nil
	}
	w, err := b.newRevoking(ctx, "revocation-sqlite", "sqlite", hardWeeks, 2*single)
	if err != nil {
		return err
	}
	defer w.end(&err)
	syncs, err := durableWrites(ctx, b)
	if err != nil {
		return err
	}
	if err := w.singles(ctx, b, "sqlite/0-revoked", []int{16, 64}, syncs); err != nil {
		return err
	}
	if err := w.fillMillion(ctx, b); err != nil {
		return err
	}
	return w.singles(ctx, b, "sqlite/1000000-revoked", []int{16, 64}, syncs)
}

// revoking revokes certificates, each once, and looks at their published status.
type revoking struct {
	*site
	*past
	issuer *x509.Certificate
	each   int // certificates of a week that pick gives
	next   atomic.Int64
}

func (b *bench) newRevoking(ctx context.Context, name, kind string, weeks, fresh int) (*revoking, error) {
	s, err := b.newSite(ctx, name, kind)
	if err != nil {
		return nil, err
	}
	leaf, issuing, err := s.issueOne(ctx)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	if err := s.halt(); err != nil {
		return nil, err
	}
	began := time.Now()
	p, err := newPast(s, pki.HashSPKI(issuing.RawSubjectPublicKeyInfo), leaf.Raw, weeks, fresh)
	if err != nil {
		return nil, err
	}
	if err := p.issue(ctx); err != nil {
		return nil, err
	}
	fmt.Printf("%s: loaded %d certificates in %s, %d shards\n", name, fresh, time.Since(began).Round(time.Second), weeks*p.shards())
	return &revoking{site: s, past: p, issuer: issuing, each: p.fresh}, s.start(ctx, b.signet)
}

// end stops the site. If fill left it stopped, that is no error.
func (w *revoking) end(err *error) {
	if failed := w.stop(); *err == nil {
		*err = failed
	}
}

// pick returns a certificate that was not revoked before: each week in turn, and evenly over the shards of a week.
// Steps of the golden section never crowd, and reach every certificate if they have no divisor in common with the
// whole.
func (w *revoking) pick() (pki.Serial, error) {
	step := w.each * 618 / 1000
	for gcd(step, w.each) > 1 {
		step++
	}
	n := int(w.next.Add(1)) - 1
	if n >= w.each*w.weeks {
		return pki.Serial{}, fmt.Errorf("all %d certificates are revoked: load more", n)
	}
	return w.serials[n%w.weeks*w.fresh+n/w.weeks*step%w.each], nil
}

func gcd(a, b int) int {
	for b > 0 {
		a, b = b, a%b
	}
	return a
}

func (w *revoking) revoke(ctx context.Context) (pki.Serial, error) {
	serial, err := w.pick()
	if err == nil {
		_, err = w.api.Revoke(ctx, client.RevokeRequest{Issuer: w.past.issuer, Serial: serial, Reason: pki.Superseded})
	}
	return serial, err
}

// singles measures revocations of one certificate each.
func (w *revoking) singles(ctx context.Context, b *bench, where string, callers []int, beside *limit) error {
	for _, n := range callers {
		l := load{name: fmt.Sprintf("revoke/grpc/%s/c%d", where, n), callers: n, pid: w.pid(), ops: w.addresses.Ops, limit: beside, do: func(ctx context.Context, _, _ int) error {
			_, err := w.revoke(ctx)
			return err
		}}
		if n > 1 {
			l.target = 5000
		}
		if _, err := b.measure(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// steadily revokes at the given rate a second until ctx ends, at most 64 at once.
func (w *revoking) steadily(ctx context.Context, rate int) {
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	slots := make(chan struct{}, 64)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			slots <- struct{}{}
			go func() {
				if _, err := w.revoke(ctx); err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, "bench: load beside:", err)
				}
				<-slots
			}()
		}
	}
}

// compromised is the number of compromised keys, of a thousand certificates each.
const compromised = 8

// compromise blocks keys that a thousand certificates each have.
func (w *revoking) compromise(ctx context.Context, b *bench) error {
	const name, each = "key-compromise/grpc/postgres/1000-certificates", 1000
	if b.skips(name) {
		return nil
	}
	var times []time.Duration
	for k := range compromised {
		spki, err := w.shareKey(ctx, k, each)
		if err != nil {
			return err
		}
		began := time.Now()
		blocked, err := w.api.BlockKey(ctx, client.BlockRequest{SPKI: spki, Comment: "benchmark"})
		if err != nil {
			return err
		}
		if blocked.Revoked != each {
			return fmt.Errorf("blocking a key revoked %d of %d", blocked.Revoked, each)
		}
		times = append(times, time.Since(began))
	}
	b.addTimes(name, times[1:], 10, 0)
	return nil
}

// product is a product of an instance that a client asks for.
type product struct {
	name string
	look func(*watcher) (bool, error)
	at   *site
}

func (w *revoking) products(twin *site) []product {
	return []product{{"ocsp-here", (*watcher).ocspSays, w.site}, {"ocsp-elsewhere", (*watcher).ocspSays, twin},
		{"shard-here", (*watcher).shardSays, w.site}, {"shard-elsewhere", (*watcher).shardSays, twin}}
}

// loaded is the part of a name for cases in which 500 other certificates are revoked every second.
const loaded = "/at-500-a-second"

// visibles are the names of the cases of visible.
func visibles(how string) (names []string) {
	for _, p := range (&revoking{}).products(nil) {
		names = append(names, "visible/"+p.name+"/1000000-revoked"+how, "visible/"+p.name+"/1000000-revoked"+how+loaded)
	}
	return names
}

// visible reports the time from the acknowledgement of a revocation until each product of each instance shows it: one
// at a time, and while 500 other certificates a second are revoked.
func (w *revoking) visible(ctx context.Context, b *bench, twin *site, how string) error {
	samples := 300
	if b.quick {
		samples = 60
	}
	if err := w.visibleAfter(ctx, b, twin, how, samples, 10, 100); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var loading sync.WaitGroup
	defer loading.Wait()
	defer stop()
	if !b.skips("visible/ocsp-here/1000000-revoked"+how+loaded, "visible/shard-here/1000000-revoked"+how+loaded) {
		loading.Go(func() { w.steadily(ctx, 500) })
	}
	return w.visibleAfter(ctx, b, twin, how+loaded, samples, 500, 2000)
}

// visibleAfter revokes one certificate at a time and looks until every product shows it.
func (w *revoking) visibleAfter(ctx context.Context, b *bench, twin *site, how string, samples int, p50, p99 float64) error {
	products := w.products(twin)
	var names []string
	for _, p := range products {
		names = append(names, "visible/"+p.name+"/1000000-revoked"+how)
	}
	if b.skips(names...) {
		return nil
	}
	times := make([][]time.Duration, len(products))
	warm := 2 * w.weeks * w.shards()
	for n := range samples + warm {
		if n == warm { // until here every shard was read once
			times = make([][]time.Duration, len(products))
		}
		serial, err := w.revoke(ctx)
		if err != nil {
			return err
		}
		acknowledged := time.Now()
		if said, err := (&watcher{revoking: w, at: w.site, serial: serial}).ocspSays(); err != nil || !said {
			return fmt.Errorf("OCSP of the same instance does not say revoked on the first read: %w", err)
		}
		times[0] = append(times[0], time.Since(acknowledged))
		var looking sync.WaitGroup
		watchers, failed := make([]*watcher, len(products)), make([]error, len(products))
		for i, p := range products[1:] {
			watchers[i+1] = &watcher{revoking: w, at: p.at, serial: serial}
			looking.Go(func() {
				failed[i] = w.until(ctx, watchers[i+1], p.look)
				times[i+1] = append(times[i+1], time.Since(acknowledged))
			})
		}
		looking.Wait()
		for _, at := range watchers[1:] {
			failed = append(failed, at.verify()) // outside of the time that counts
		}
		if err := errors.Join(failed...); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	for i, name := range names {
		b.addTimes(name, times[i], p50, p99)
	}
	return nil
}

// until looks again and again, for a minute: every half of a millisecond, and later every twentieth of the time that
// has passed, so that looking does not become the load.
func (w *revoking) until(ctx context.Context, at *watcher, look func(*watcher) (bool, error)) error {
	for began := time.Now(); ; time.Sleep(max(500*time.Microsecond, time.Since(began)/20)) {
		said, err := look(at)
		if err != nil || said {
			return err
		}
		if time.Since(began) > time.Minute || ctx.Err() != nil {
			return errors.New("a revocation does not become visible")
		}
	}
}

// jobAlone revokes a quarter of the weeks, with one instance and no other load.
func (w *revoking) jobAlone(ctx context.Context, b *bench) error {
	if b.skips("job/postgres/one-instance/") {
		return nil
	}
	serverCPU, databaseCPU := cpuOf(w.pid()), cpuOfTree(b.postgresPID)
	count, ran, _, err := w.runJob(ctx, client.Selector{Profile: "server", EpochTo: w.fourth()}, nil)
	if err != nil {
		return err
	}
	serverCPU, databaseCPU = cpuOf(w.pid())-serverCPU, cpuOfTree(b.postgresPID)-databaseCPU
	inserts, err := b.bareEntries(ctx)
	if err != nil {
		return err
	}
	b.addJob(fmt.Sprintf("job/postgres/one-instance/%d", count), count, ran, inserts, serverCPU, databaseCPU, rssOf(w.pid()))
	return nil
}

// fourth is the first week that jobAlone does not revoke.
func (w *revoking) fourth() pki.Epoch { return w.first + pki.Epoch(w.weeks/4) }

// job revokes the rest, with a second instance that follows and single revocations beside it, and waits until every
// product of both instances shows it.
func (w *revoking) job(ctx context.Context, b *bench, twin *site) error {
	if b.skips("job/postgres/two-instances/", "job/visible-everywhere/", "revoke/grpc/postgres/beside-a-job") {
		return nil
	}
	singles := make([]pki.Serial, 2000) // set apart for the calls beside
	for i := range singles {
		var err error
		if singles[i], err = w.pick(); err != nil {
			return err
		}
	}
	serverCPU, databaseCPU := cpuOf(w.pid())+cpuOf(twin.pid()), cpuOfTree(b.postgresPID)
	began := time.Now()
	count, ran, beside, err := w.runJob(ctx, client.Selector{Profile: "server", EpochFrom: w.fourth()}, singles)
	if err != nil {
		return err
	}
	for i := range w.weeks * w.shards() { // of every shard the last certificate, which the job reaches last
		for _, at := range []*site{w.site, twin} {
			for _, look := range []func(*watcher) (bool, error){(*watcher).ocspSays, (*watcher).shardSays} {
				tags.Clear() // the shard may have been read for another certificate, and not changed since
				watched := &watcher{revoking: w, at: at, serial: w.last(i/w.shards(), i%w.shards())}
				if err := errors.Join(w.until(ctx, watched, look), watched.verify()); err != nil {
					return err
				}
			}
		}
	}
	all := time.Since(began)
	serverCPU, databaseCPU = cpuOf(w.pid())+cpuOf(twin.pid())-serverCPU, cpuOfTree(b.postgresPID)-databaseCPU
	inserts, err := b.bareEntries(ctx)
	if err != nil {
		return err
	}
	b.addJob(fmt.Sprintf("job/postgres/two-instances/%d", count), count, ran, inserts, serverCPU, databaseCPU, rssOf(w.pid()))
	visible := result{Name: fmt.Sprintf("job/visible-everywhere/%d", count), Value: all.Seconds(), Unit: "s", Spread: [2]float64{all.Seconds(), all.Seconds()}}
	visible.Target, visible.Less = 20*float64(count)/million, true
	b.add(visible)
	b.addTimes("revoke/grpc/postgres/beside-a-job", beside, 0, 0)
	return nil
}

// runJob plans a job and runs it, and returns the number of certificates it revoked and its time. beside holds the
// times of single revocations, made one after the other until the job ends.
func (w *revoking) runJob(ctx context.Context, selector client.Selector, singles []pki.Serial) (count int, ran time.Duration, beside []time.Duration, err error) {
	plan, err := w.api.PlanJob(ctx, client.JobRequest{Selector: selector, Reason: pki.CessationOfOperation})
	if err != nil {
		return 0, 0, nil, err
	}
	began := time.Now()
	if _, err := w.api.StartJob(ctx, plan.Job.ID, 0); err != nil {
		return 0, 0, nil, err
	}
	for i := 0; ; i++ {
		asked := time.Now()
		if i < len(singles) {
			_, err := w.api.Revoke(ctx, client.RevokeRequest{Issuer: w.past.issuer, Serial: singles[i], Reason: pki.Superseded})
			if err == nil {
				beside = append(beside, time.Since(asked))
			} else if pki.KindOf(err) != pki.KindConflict { // the job was there first
				return 0, 0, nil, err
			}
		}
		job, err := w.api.Job(ctx, plan.Job.ID)
		if err != nil {
			return 0, 0, nil, err
		}
		if job.State.Ended() {
			if job.State != client.JobDone {
				err = fmt.Errorf("the job is %s: %s", job.State, job.Failure)
			}
			return int(plan.Job.Selected - plan.AlreadyRevoked), time.Since(began), beside, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (b *bench) addJob(name string, count int, ran time.Duration, inserts *limit, server, database time.Duration, rss float64) {
	rate, each := float64(count)/ran.Seconds(), float64(time.Microsecond)*float64(count)
	b.add(result{Name: name, Value: rate, Unit: "1/s", Spread: [2]float64{rate, rate}, Target: 100_000, Limit: inserts, Ratio: rate / inserts.Value,
		ServerCPU: float64(server) / each, DatabaseCPU: float64(database) / each, RSS: rss})
}

// skips reports whether none of the named cases is to be measured.
func (b *bench) skips(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, b.only) })
}

// addTimes reports the median of times, in milliseconds, with targets for it and for the 99th percentile; 0: none.
func (b *bench) addTimes(name string, times []time.Duration, p50, p99 float64) {
	if len(times) == 0 || !strings.Contains(name, b.only) {
		return
	}
	slices.Sort(times)
	median := milliseconds(times[len(times)/2])
	b.add(result{Name: name, Value: median, Unit: "ms", Spread: [2]float64{milliseconds(times[0]), milliseconds(times[len(times)-1])},
		P50: median, P99: milliseconds(times[len(times)*99/100]), Target: p50, TargetP99: p99, Less: true})
}
