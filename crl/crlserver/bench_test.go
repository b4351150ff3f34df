package crlserver_test

import (
	"fmt"
	"testing"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// BenchmarkPublished is a revocation from the call to the ledger until shard and complete list with it are served, one
// at a time, among many shards that are at rest.
func BenchmarkPublished(b *testing.B) {
	for _, shards := range []int{1, 1000} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			s := testdb.SQLite(b)
			a := newAuthority(b, s, "Benchmark CA")
			for i := range shards {
				a.reserve(b, epoch+pki.Epoch(i), 0, base)
			}
			p := start(b, s, &clock{}, nil, a.config())
			eventually(b, "every shard", func() bool { return len(p.Lists()) == shards+1 })
			index := uint64(0)
			for b.Loop() {
				index++
				p.await(b, a.append(b, a.event(epoch+pki.Epoch(index%uint64(shards)), index, revocation.KindRevoke, pki.KeyCompromise, 0)))
			}
		})
	}
}
