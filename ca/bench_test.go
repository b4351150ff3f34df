package ca_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/store"
)

// BenchmarkIssue is the whole pipeline: possession, policy, lint, signature, durable record with its audit event. It is
// for comparing; the databases of tests do not wait for the disk (scripts/bench does). cpu-us/op is what this process
// used, SQLite included; db-us/op is what PostgreSQL's processes used. Unlike the wall clock they hardly mind a busy machine.
func BenchmarkIssue(b *testing.B) {
	for _, database := range []struct {
		name string
		open func(b *testing.B) (store.Store, string)
	}{
		{"sqlite", func(b *testing.B) (store.Store, string) { return testdb.SQLite(b), "" }},
		{"postgres", func(b *testing.B) (store.Store, string) { url := testdb.URL(b); return testdb.Open(b, url), url }},
	} {
		for _, callers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/c%d", database.name, callers), func(b *testing.B) {
				s, url := database.open(b)
				w := newTown(b, s)
				requests := make([]ca.Request, 64)
				for i := range requests {
					requests[i] = server(b, fmt.Sprintf("a%d.example.com", i), fmt.Sprintf("b%d.example.com", i))
				}
				grant := w.grant(web, auth.ActionIssue, "server")
				b.ReportAllocs()
				b.ResetTimer()
				before, databaseBefore := cpu(b), databaseCPU(b, url)
				var next atomic.Int64
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							if _, err := w.Issue(b.Context(), grant, requests[i%64]); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
				if url != "" {
					b.ReportMetric(float64((databaseCPU(b, url)-databaseBefore).Microseconds())/float64(b.N), "db-us/op")
				}
			})
		}
	}
}

// cpu is what this process has used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// databaseCPU is what the processes of a PostgreSQL server have used so far, in ticks of 10 ms.
func databaseCPU(b *testing.B, url string) (total time.Duration) {
	b.Helper()
	if url == "" {
		return 0
	}
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	rows, err := conn.Query(b.Context(), `SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()`)
	if err != nil {
		b.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		b.Fatal(err)
	}
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it ended meanwhile
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		for _, field := range fields[11:13] { // utime and stime
			ticks, err := strconv.Atoi(field)
			if err != nil {
				b.Fatal(err)
			}
			total += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return total
}
