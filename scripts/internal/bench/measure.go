package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// report is the one form of result; docs/BENCHMARKS.md is rendered from it.
type report struct {
	Bench   string   `json:"bench"`
	Commit  string   `json:"commit"`
	Machine machine  `json:"machine"`
	Cases   []result `json:"cases"`
}

// result is one case: the median of three runs.
type result struct {
	Name        string     `json:"name"` // door/store/cN, or what/size
	Value       float64    `json:"value"`
	Unit        string     `json:"unit"`
	Spread      [2]float64 `json:"spread"` // lowest and highest run
	P50         float64    `json:"p50_ms,omitempty"`
	P99         float64    `json:"p99_ms,omitempty"`
	ServerCPU   float64    `json:"server_cpu_us,omitempty"`   // of the process under test, per operation
	DatabaseCPU float64    `json:"database_cpu_us,omitempty"` // of PostgreSQL, per operation
	CallersCPU  float64    `json:"callers_cpu_us,omitempty"`  // of this process, per operation
	RSS         float64    `json:"rss_mb,omitempty"`          // of the process under test, at the end
	Target      float64    `json:"target,omitempty"`
	TargetP99   float64    `json:"target_p99_ms,omitempty"`
	Less        bool       `json:"less,omitempty"` // the target is a bound from above
	Limit       *limit     `json:"limit,omitempty"`
	Ratio       float64    `json:"ratio,omitempty"` // value / limit; of a comparison, the median of its rounds

	RatioSpread *[2]float64 `json:"ratio_spread,omitempty"` // of a comparison: the quartiles of its rounds
}

type limit struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// load is a case to be measured: operations of one kind, from a number of callers at once.
type load struct {
	name    string
	target  float64 // operations a second to reach; 0: none
	limit   *limit  // measured in the same run; nil: none
	callers int     // zero: 1
	pid     int     // of the process under test; 0: do not measure it
	ops     string  // address of its operators' listener, for profiles; empty: none are taken
	// do makes operation n, counted over all callers.
	do func(ctx context.Context, caller, n int) error
}

// rounds is the number of runs of a case after its warm-up; the median counts.
const rounds = 3

// measure warms up, runs the load three times, and adds the median to the report.
func (b *bench) measure(ctx context.Context, l load) (result, error) {
	if !strings.Contains(l.name, b.only) && !strings.HasPrefix(l.name, "limit/") {
		return result{Name: l.name}, nil
	}
	length := 10 * time.Second
	if b.quick {
		length = 2 * time.Second
	}
	if _, err := b.once(ctx, l, length/4); err != nil {
		return result{}, fmt.Errorf("%s: warm-up: %w", l.name, err)
	}
	var runs []result
	for round := range rounds {
		r, err := b.profiled(round, l, length, func() (result, error) { return b.once(ctx, l, length) })
		if err != nil {
			return result{}, fmt.Errorf("%s: %w", l.name, err)
		}
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(x, y result) int { return cmp.Compare(x.Value, y.Value) })
	r := runs[rounds/2]
	r.Spread = [2]float64{runs[0].Value, runs[rounds-1].Value}
	r.Target, r.Limit = l.target, l.limit
	if l.limit != nil && l.limit.Value > 0 {
		r.Ratio = r.Value / l.limit.Value
	}
	b.add(r)
	return r, nil
}

// once runs the load for a while.
func (b *bench) once(ctx context.Context, l load, length time.Duration) (result, error) {
	callers := max(l.callers, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	serverCPU, callersCPU, databaseCPU := cpuOf(l.pid), cpuOf(os.Getpid()), cpuOfTree(b.postgresPID)
	times := make([][]time.Duration, callers)
	var count atomic.Int64
	var failed error
	var failure sync.Once
	var done sync.WaitGroup
	begin := time.Now()
	for caller := range callers {
		done.Go(func() {
			for time.Since(begin) < length && ctx.Err() == nil {
				started := time.Now()
				if err := l.do(ctx, caller, int(count.Add(1))); err != nil {
					failure.Do(func() { failed = err; cancel() })
					return
				}
				times[caller] = append(times[caller], time.Since(started))
			}
		})
	}
	done.Wait()
	elapsed := time.Since(begin)
	if failed != nil {
		return result{}, failed
	}
	all := slices.Concat(times...)
	if len(all) == 0 {
		return result{}, fmt.Errorf("no operation ended within %s", length)
	}
	slices.Sort(all)
	n := float64(len(all))
	r := result{Name: l.name, Unit: "1/s", Value: n / elapsed.Seconds(), P50: milliseconds(all[len(all)/2]), P99: milliseconds(all[len(all)*99/100])}
	if l.pid != 0 {
		r.ServerCPU = float64((cpuOf(l.pid) - serverCPU).Microseconds()) / n
		r.CallersCPU = float64((cpuOf(os.Getpid()) - callersCPU).Microseconds()) / n
		r.RSS = rssOf(l.pid)
	}
	r.DatabaseCPU = float64((cpuOfTree(b.postgresPID) - databaseCPU).Microseconds()) / n
	return r, nil
}

// rival is a load that is compared with another one.
type rival struct {
	load
	share float64 // of the rate of the other load, to reach; 0: none
}

// compare measures loads side by side. The load of every single operation is drawn at random, so that changes of the
// machine, and the effects of one load on the next, hit all alike. For each round it takes the ratio of the mean times,
// without the slowest quarter, which is due to the scheduler. It reports the median of the rounds, with their
// quartiles.
func (b *bench) compare(ctx context.Context, base load, rivals []rival) error {
	length, rounds := 2*time.Second, 21
	if b.quick {
		length, rounds = time.Second, 9
	}
	loads := []rival{{load: base}}
	for _, r := range rivals {
		if strings.Contains(r.name, b.only) {
			loads = append(loads, r)
		}
	}
	if len(loads) == 1 && !strings.Contains(base.name, b.only) {
		return nil
	}
	runs := make([][]result, len(loads))
	for n := range rounds + 1 {
		round, err := b.mixed(ctx, loads, length)
		if err != nil {
			return err
		}
		if n == 0 {
			continue // the warm-up
		}
		for i := range round {
			round[i].Ratio = round[i].Value / round[0].Value
			runs[i] = append(runs[i], round[i])
		}
	}
	for i, l := range loads {
		slices.SortFunc(runs[i], func(x, y result) int { return cmp.Compare(x.Ratio, y.Ratio) })
		quartiles := [2]float64{runs[i][rounds/4].Ratio, runs[i][rounds*3/4].Ratio}
		ratio := runs[i][rounds/2].Ratio
		slices.SortFunc(runs[i], func(x, y result) int { return cmp.Compare(x.Value, y.Value) })
		r := runs[i][rounds/2]
		r.Spread, r.Ratio = [2]float64{runs[i][0].Value, runs[i][rounds-1].Value}, 0
		if i > 0 {
			base := b.report.Cases[len(b.report.Cases)-i]
			r.Limit, r.Target, r.Ratio, r.RatioSpread = &limit{base.Name, base.Value}, l.share*base.Value, ratio, &quartiles
		}
		b.add(r)
	}
	return nil
}

// mixed runs one round of a comparison. The rate of a load is that which all callers would reach with it alone.
func (b *bench) mixed(ctx context.Context, loads []rival, length time.Duration) ([]result, error) {
	callers := max(loads[0].callers, 1)
	counts := make([]atomic.Int64, len(loads))
	times := make([][][]time.Duration, callers)
	failures := make([]error, callers)
	var done sync.WaitGroup
	begin := time.Now()
	for caller := range callers {
		times[caller] = make([][]time.Duration, len(loads))
		done.Go(func() {
			for time.Since(begin) < length && failures[caller] == nil {
				i := rand.IntN(len(loads))
				started := time.Now()
				if err := loads[i].do(ctx, caller, int(counts[i].Add(1))); err != nil {
					failures[caller] = fmt.Errorf("%s: %w", loads[i].name, err)
				}
				times[caller][i] = append(times[caller][i], time.Since(started))
			}
		})
	}
	done.Wait()
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	round := make([]result, len(loads))
	for i, l := range loads {
		var all []time.Duration
		for caller := range callers {
			all = append(all, times[caller][i]...)
		}
		if len(all) < 20 {
			return nil, fmt.Errorf("%s: %d operations in %s", l.name, len(all), length)
		}
		slices.Sort(all)
		var sum time.Duration
		kept := all[:len(all)*3/4]
		for _, t := range kept {
			sum += t
		}
		rate := float64(callers) * float64(len(kept)) / sum.Seconds()
		round[i] = result{Name: l.name, Unit: "1/s", Value: rate, P50: milliseconds(all[len(all)/2]), P99: milliseconds(all[len(all)*99/100])}
	}
	return round, nil
}

// add puts a finished result into the report and on the screen.
func (b *bench) add(r result) {
	b.report.Cases = append(b.report.Cases, r)
	r.print(os.Stdout)
}

func (r result) print(w io.Writer) {
	fmt.Fprintf(w, "%-44s %12s %s  (%s to %s)", r.Name, figure(r.Value), r.Unit, figure(r.Spread[0]), figure(r.Spread[1]))
	if r.P50 > 0 {
		fmt.Fprintf(w, "  p50 %.2f ms p99 %.2f ms", r.P50, r.P99)
	}
	if r.ServerCPU > 0 {
		fmt.Fprintf(w, "  server %.0f us, %.0f MB, callers %.0f us", r.ServerCPU, r.RSS, r.CallersCPU)
	}
	if r.DatabaseCPU >= 1 {
		fmt.Fprintf(w, "  database %.0f us", r.DatabaseCPU)
	}
	if r.Limit != nil {
		fmt.Fprintf(w, "  %.3f of %s (%.0f)", r.Ratio, r.Limit.Name, r.Limit.Value)
	}
	if r.RatioSpread != nil {
		fmt.Fprintf(w, ", quartiles %.3f to %.3f", r.RatioSpread[0], r.RatioSpread[1])
	}
	if r.Target > 0 {
		fmt.Fprintf(w, "  target %.0f", r.Target)
		if r.TargetP99 > 0 {
			fmt.Fprintf(w, " and %.0f", r.TargetP99)
		}
		fmt.Fprint(w, map[bool]string{true: ": met", false: ": MISSED"}[r.met()])
	}
	fmt.Fprintln(w)
}

// met reports whether the target is reached: by the rate, or by the time at the median and at the 99th percentile.
func (r result) met() bool {
	if !r.Less {
		return r.Value >= r.Target
	}
	return r.Value <= r.Target && (r.TargetP99 == 0 || r.P99 <= r.TargetP99)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
