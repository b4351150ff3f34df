package revocation_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/sqlite"
)

// These run on databases that wait for the disk; scripts/bench revocation runs them.

// eachDurable runs a benchmark on both databases.
func eachDurable(b *testing.B, bench func(b *testing.B, s store.Store)) {
	b.Run("sqlite", func(b *testing.B) { bench(b, testdb.DurableSQLite(b)) })
	b.Run("postgres", func(b *testing.B) { bench(b, testdb.Open(b, testdb.Durable(b).URL(b))) })
}

// issued records n certificates in epoch through the store and returns their keys.
func issued(b *testing.B, i *issuer, n int) (keys []revocation.Key) {
	b.Helper()
	owner := ca.OwnerID{1}
	for len(keys) < n {
		r, err := i.store.Reserve(b.Context(), ca.Reservation{Issuer: i.id, Epoch: epoch, Count: 1000, Owner: owner, Lease: time.Hour})
		if err != nil {
			b.Fatal(err)
		}
		key := pki.NewRangeKey(i.k, r.Nonce, i.key, epoch, r.KeyFrom)
		var entries []ca.Entry
		for index := r.From; index < r.To; index++ {
			p := pki.Position{Epoch: epoch, Index: index}
			var number [8]byte
			binary.BigEndian.PutUint64(number[:], index)
			entries = append(entries, ca.Entry{Range: r.ID, KeyMaterial: sha256.Sum256(number[:]), Certificate: inventory.Certificate{Issuer: i.id, Position: p,
				Serial: pki.NewSerial(key, i.key, p), Profile: "server", Account: "alice", KeyHash: sha256.Sum256(number[1:]), NotBefore: now,
				NotAfter: time.Unix(epoch.Start()+3600, 0), IssuedAt: now, DER: make([]byte, 900)},
				Event: audit.Event{At: now, Actor: "token:alice", Action: "certificate.issue", Outcome: audit.OK}})
			keys = append(keys, revocation.Key{Issuer: i.id, Serial: entries[len(entries)-1].Serial})
		}
		if _, err := i.store.Record(b.Context(), owner, entries); err != nil {
			b.Fatal(err)
		}
	}
	return keys
}

// numbers is a query for $1, $1 + 1 ... $2 as i.
func numbers(s store.Store) string {
	if _, ok := s.(*sqlite.Store); ok {
		return `(WITH RECURSIVE n (i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM n WHERE i < $2) SELECT i FROM n) AS n`
	}
	return `(SELECT i FROM generate_series($1::bigint, $2::bigint) AS i) AS n`
}

// octets makes size octets out of i, in SQL.
func octets(s store.Store, size int) string {
	if _, ok := s.(*sqlite.Store); ok {
		return fmt.Sprintf(`CAST(printf('%%0%dd', i) AS BLOB)`, size)
	}
	return fmt.Sprintf(`substr(sha256(convert_to(i::text, 'UTF8')), 1, %d)`, size)
}

// revoked puts n revocations of certificates of another week on the ledger, past the store.
func revoked(b *testing.B, i *issuer, n, step int) {
	b.Helper()
	testdb.Exec(b, i.store, `INSERT INTO ledger (seq, issuer, epoch, idx, serial, kind, reason, revoked_at, recorded_at, actor)
		SELECT i, $3, $4, i * $5, `+octets(i.store, 20)+`, 1, 4, $6, $6, 'token:seed' FROM `+numbers(i.store),
		int64(1), int64(n), i.id[:], int64(epoch+1), int64(step), i.dbTime(now))
	testdb.Exec(b, i.store, `UPDATE ledger_head SET seq = $1`, int64(n))
	analyze(b, i.store)
}

// analyze lets PostgreSQL look at its tables, which it does by itself as time passes. SQLite never does, and Signet does not ask it to.
func analyze(b *testing.B, s store.Store) {
	b.Helper()
	if _, ok := s.(*sqlite.Store); !ok {
		testdb.Exec(b, s, `ANALYZE`)
	}
}

// BenchmarkRevoke: single revocations by 64 callers at once, acknowledged when durable and applied; revoked is how many
// stood on the ledger before.
func BenchmarkRevoke(b *testing.B) {
	for _, before := range []int{0, 1_000_000} {
		b.Run(fmt.Sprintf("revoked=%d", before), func(b *testing.B) {
			eachDurable(b, func(b *testing.B, s store.Store) {
				i := newIssuer(b, s, "one", false)
				keys := issued(b, i, b.N)
				if before > 0 {
					revoked(b, i, before, 1)
				}
				u := newUniverse(b, s)
				l := newLedger(b, s, u)
				g := admin(b)
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range 64 {
					wg.Go(func() {
						for n := next.Add(1) - 1; n < int64(b.N); n = next.Add(1) - 1 {
							if _, err := l.Revoke(b.Context(), g, revocation.Request{Key: keys[n], Reason: pki.Superseded}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "revocations/s")
			})
		})
	}
}

// BenchmarkRevokeAlone: one caller after the other's answer.
func BenchmarkRevokeAlone(b *testing.B) {
	eachDurable(b, func(b *testing.B, s store.Store) {
		i := newIssuer(b, s, "one", false)
		keys := issued(b, i, b.N)
		l := newLedger(b, s, newUniverse(b, s))
		g := admin(b)
		b.ResetTimer()
		for n := range b.N {
			if _, err := l.Revoke(b.Context(), g, revocation.Request{Key: keys[n], Reason: pki.Superseded}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkJob: one mass revocation of 200,000 certificates.
func BenchmarkJob(b *testing.B) {
	const n = 200_000
	eachDurable(b, func(b *testing.B, s store.Store) {
		i := newIssuer(b, s, "one", false)
		i.reserve(b, epoch, 0, n)
		testdb.Exec(b, s, `INSERT INTO certificates (issuer, epoch, idx, serial, range_id, profile, account, subject, spki_hash, not_before, not_after, issued_at, der)
			SELECT $3, $4, i, `+octets(s, 20)+`, 1, 'server', 'alice', '', `+octets(s, 32)+`, $5, $6, $5, $7 FROM `+numbers(s),
			int64(0), int64(n-1), i.id[:], int64(epoch), i.dbTime(now), i.dbTime(time.Unix(epoch.Start()+3600, 0)), make([]byte, 900))
		analyze(b, s)
		u := newUniverse(b, s)
		chunks, held := 0, time.Duration(0)
		b.ResetTimer()
		for range b.N {
			b.StopTimer()
			for _, table := range []string{"ledger", "jobs", "job_serials"} {
				if _, ok := s.(*sqlite.Store); ok {
					testdb.Exec(b, s, `DROP TRIGGER IF EXISTS ledger_no_delete`)
					testdb.Exec(b, s, `DELETE FROM `+table)
				} else {
					testdb.Exec(b, s, `ALTER TABLE ledger DISABLE TRIGGER append_only`)
					testdb.Exec(b, s, `TRUNCATE `+table+` CASCADE`)
				}
			}
			jobs, err := revocation.NewJobs(revocation.JobsConfig{Store: measured{s, &chunks, &held}, Runner: measured{s, &chunks, &held}, Universe: u, Instance: revocation.InstanceID{1}, Now: clock})
			if err != nil {
				b.Fatal(err)
			}
			g := grant(b, auth.RoleAdmin, "root", auth.ActionManage)
			job, estimate, err := jobs.Plan(b.Context(), g, revocation.JobRequest{Selector: revocation.Selector{Profile: "server"}, Reason: pki.Superseded})
			if err != nil || estimate.Selected != n {
				b.Fatal(estimate.Selected, err)
			}
			if _, err := jobs.Start(b.Context(), g, job.ID, 0); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			if err := jobs.RunOnce(b.Context()); err != nil {
				b.Fatal(err)
			}
			if done, err := s.Job(b.Context(), job.ID); err != nil || done.State != revocation.JobDone || done.Revoked != n {
				b.Fatalf("%+v, %v", done, err)
			}
		}
		b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "revocations/s")
		b.ReportMetric(float64(held.Milliseconds())/float64(chunks), "ms-held/chunk")
	})
}

// BenchmarkBlockKey: the compromise of a key that 1,008 certificates carry, over twelve weeks of expiry; by a store that has done it
// before, and by one that has not.
func BenchmarkBlockKey(b *testing.B) {
	const weeks, each = 12, 84
	block := func(b *testing.B, s store.Store, again func(b *testing.B) store.Store) {
		i := newIssuer(b, s, "one", false)
		for week := range pki.Epoch(weeks) {
			i.reserve(b, epoch+week, 0, uint64(b.N+1)*each)
			for k := range b.N + 1 {
				testdb.Exec(b, s, `INSERT INTO certificates (issuer, epoch, idx, serial, range_id, profile, account, subject, spki_hash, not_before, not_after, issued_at, der)
					SELECT $3, $4, i, `+octets(s, 20)+`, 1, 'server', 'alice', '', $5, $6, $7, $6, $8 FROM `+numbers(s), int64(k*each), int64(k*each+each-1),
					i.id[:], int64(epoch+week), benchKey(k), i.dbTime(now), i.dbTime(time.Unix((epoch+week).Start()+3600, 0)), make([]byte, 900))
			}
		}
		analyze(b, s)
		u := newUniverse(b, s)
		l := newLedger(b, s, u)
		g := grant(b, auth.RoleAdmin, "root", auth.ActionManage)
		for k := range b.N + 1 {
			if k == 1 {
				b.ResetTimer()
			}
			if again != nil && k > 0 {
				b.StopTimer()
				l = newLedger(b, again(b), u)
				time.Sleep(200 * time.Millisecond) // a server is not asked in its first moment
				b.StartTimer()
			}
			receipt, err := l.BlockKey(b.Context(), g, revocation.KeyBlock{SPKI: pki.KeyHash(benchKey(k)), Material: pki.KeyHash{1, byte(k), byte(k >> 8)}, Proof: revocation.ProofOfficer})
			if err != nil || receipt.Revoked != weeks*each {
				b.Fatal(receipt, err)
			}
		}
	}
	b.Run("sqlite", func(b *testing.B) { block(b, testdb.DurableSQLite(b), nil) })
	server := testdb.Durable(b)
	b.Run("postgres", func(b *testing.B) { block(b, testdb.Open(b, server.URL(b)), nil) })
	b.Run("postgres-first-call", func(b *testing.B) {
		url := server.URL(b)
		block(b, testdb.Open(b, url), func(b *testing.B) store.Store { return testdb.Open(b, url) })
	})
}

func benchKey(k int) []byte {
	hash := sha256.Sum256(fmt.Append(nil, "key ", k))
	return hash[:]
}

// BenchmarkLoad: a universe of 10,000,000 certificates in ranges of 4,096, 100,000 of them revoked, read at start.
func BenchmarkLoad(b *testing.B) {
	const certificates, gone = 10_000_000, 100_000
	eachDurable(b, func(b *testing.B, s store.Store) {
		i := newIssuer(b, s, "one", false)
		testdb.Exec(b, s, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, range_key, changed_at)
			SELECT $3, $4, i * 4096, (i + 1) * 4096, 2, 0, $5, $5, '', $6, $7, $6 FROM `+numbers(s),
			int64(0), int64(certificates/4096), i.id[:], int64(epoch+1), make([]byte, 16), i.dbTime(now), i.key[:])
		revoked(b, i, gone, certificates/gone)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.ResetTimer()
		var u *revocation.Universe
		for range b.N {
			u = newUniverse(b, s)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-held")
		runtime.KeepAlive(u)
	})
}

// BenchmarkLookup: a serial in a closed range, and one that is revoked.
func BenchmarkLookup(b *testing.B) {
	s := testdb.SQLite(b)
	i := newIssuer(b, s, "one", false)
	span := i.reserve(b, epoch, 0, 16)
	span.record(b, 0, 1)
	span.close(b, 2)
	u := newUniverse(b, s)
	l := newLedger(b, s, u)
	if _, err := l.Revoke(b.Context(), admin(b), revocation.Request{Key: span.claim(1).Key}); err != nil {
		b.Fatal(err)
	}
	for index, name := range []string{"good", "revoked"} {
		serial := span.serial(uint64(index))
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := u.Lookup(b.Context(), i.id, serial); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// measured adds up for how long chunks held the ledger.
type measured struct {
	store.Store
	chunks *int
	held   *time.Duration
}

func (m measured) RunChunk(ctx context.Context, job revocation.Job, runner revocation.InstanceID, limit int, at time.Time) (revocation.Chunk, error) {
	chunk, err := m.Store.RunChunk(ctx, job, runner, limit, at)
	*m.chunks++
	*m.held += chunk.Held
	return chunk, err
}
