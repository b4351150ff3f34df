package ca_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/store"
)

// BenchmarkIssue is the whole pipeline: possession, policy, lint, signature, durable record with its audit event. It is
// for comparing; the databases of tests do not wait for the disk (scripts/bench does).
func BenchmarkIssue(b *testing.B) {
	for name, open := range map[string]func(b *testing.B) store.Store{
		"sqlite":   func(b *testing.B) store.Store { return testdb.SQLite(b) },
		"postgres": func(b *testing.B) store.Store { return testdb.Postgres(b) },
	} {
		for _, callers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/c%d", name, callers), func(b *testing.B) {
				w := newTown(b, open(b))
				requests := make([]ca.Request, 64)
				for i := range requests {
					requests[i] = server(b, fmt.Sprintf("a%d.example.com", i), fmt.Sprintf("b%d.example.com", i))
				}
				grant := w.grant(web, auth.ActionIssue, "server")
				var next atomic.Int64
				b.SetParallelism(callers / 2)
				if callers == 1 {
					b.ResetTimer()
					for i := range b.N {
						if _, err := w.Issue(b.Context(), grant, requests[i%64]); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := w.Issue(b.Context(), grant, requests[next.Add(1)%64]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
