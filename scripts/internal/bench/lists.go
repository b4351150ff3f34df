package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store/postgres"
)

// listCosts measures the time and memory for making and reading a list of a million entries, and a shard of 8,000 after
// one revocation. Beside them it measures the hashing of the same octets.
func listCosts(_ context.Context, b *bench) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	template := crl.Template{Issuer: []byte{0x30, 0x0f, 0x31, 0x0d, 0x30, 0x0b, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x04, 'B', 'e', 'n', 'c'}, KeyID: make([]byte, 20), Number: 7,
		ThisUpdate: now, NextUpdate: now.AddDate(0, 0, 3)}
	revocation := func(i int) crl.Revocation {
		var serial pki.Serial
		binary.BigEndian.PutUint64(serial[12:], uint64(i)*0x9e3779b97f4a7c15)
		serial[0] = 0x41
		return crl.Revocation{Serial: serial, At: now, Reason: pki.Reason(i % 2)}
	}
	whole, shard := &crl.Arena{}, &crl.Arena{}
	for i := range million {
		whole.Add(uint64(i+1), revocation(i))
	}
	for i := range 8000 {
		shard.Add(uint64(i+1), revocation(i))
	}
	var der []byte
	sign := func() error { // the arena exists already, because a publisher keeps it
		entries, _ := whole.At(million)
		document, _, signed := template.Sign(entries, key)
		if err = signed; err == nil {
			der = document.Bytes()
		}
		return err
	}
	build, _ := timed(9, sign)
	built := allocated(sign)
	if err != nil {
		return err
	}
	hash, _ := timed(9, func() error { sha256.Sum256(der); return nil })
	var list *crl.List
	read, kept := timed(9, func() error { list, err = crl.Parse(der); return err })
	if err != nil {
		return err
	}
	runtime.KeepAlive(list)
	hashing := &limit{"SHA-256 of the list", milliseconds(hash[len(hash)/2])}
	b.addCost("crl/build-and-sign/1000000", build, built, 150, 150, hashing)
	b.addCost("crl/read/1000000", read, kept, 60, 50, hashing)

	seq := uint64(8000)
	one, _ := timed(99, func() error {
		seq++
		shard.Add(seq, revocation(int(seq)))
		entries, count := shard.At(seq)
		document, _, err := template.Sign(entries, key)
		if err != nil {
			return err
		}
		digest := shard.Digest()
		_, err = crl.Check(document, crl.Want{Template: template, Key: key.Public(), Count: count, Digest: &digest, Now: now})
		return err
	})
	b.addCost("crl/shard-after-one/8000", one, 0, 5, 0, nil)
	return nil
}

// timed runs do the given number of times and returns the times, and the largest growth of the heap by one run, in MB.
func timed(times int, do func() error) (all []time.Duration, kept float64) {
	for range times {
		before := heapMB()
		began := time.Now()
		if err := do(); err != nil {
			return nil, 0
		}
		all = append(all, time.Since(began))
		kept = max(kept, heapMB()-before)
	}
	return all, kept
}

// allocated returns the MB that a run allocates on the heap, kept or not.
func allocated(do func() error) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if do() != nil {
		return 0
	}
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc-before.TotalAlloc) / 1e6
}

func heapMB() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

// addCost reports a time and, if not 0, memory, each with its target.
func (b *bench) addCost(name string, times []time.Duration, memory, target, targetMemory float64, beside *limit) {
	before := len(b.report.Cases)
	b.addTimes(name, times, target, 0)
	if len(b.report.Cases) == before {
		return
	}
	if beside != nil {
		r := &b.report.Cases[before]
		r.Limit, r.Ratio = beside, r.Value/beside.Value
	}
	if targetMemory > 0 {
		b.add(result{Name: name + "/memory", Value: memory, Unit: "MB", Spread: [2]float64{memory, memory}, Target: targetMemory, Less: true})
	}
}

// universeLoad measures the reading of a universe, as at the start of an instance: 10,000,000 certificates in ranges of
// 4,096, of which 100,000 are revoked.
func universeLoad(ctx context.Context, b *bench) error {
	const name = "universe/load/10000000-of-which-100000-revoked"
	if !strings.Contains(name, b.only) {
		return nil
	}
	database, err := b.newDatabase(ctx, "universe")
	if err != nil {
		return err
	}
	s, err := postgres.Open(ctx, postgres.Config{URL: database})
	if err != nil {
		return err
	}
	defer s.Close()
	key := pki.KeyHash(sha256.Sum256([]byte("bench")))
	first, err := pki.EpochAt(time.Now().AddDate(0, 0, 28).Unix())
	if err != nil {
		return err
	}
	db, err := sql.Open("pgx", database)
	if err != nil {
		return err
	}
	defer db.Close()
	issuer := key.Issuer()
	for _, step := range []struct {
		statement string
		args      []any
	}{
		{`INSERT INTO issuers (id, label, key_uri, subject, spki, spki_hash, visibility, state, base_url, created_at) VALUES ($1, 'bench', '', 'bench', 'bench', $2, 0, 1, '', now())`, []any{issuer[:], key[:]}},
		{`INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, range_key, changed_at)
			SELECT $1, $2 + i % 12, i / 12 * 4096, (i / 12 + 1) * 4096, 2, 0, decode(repeat('00', 16), 'hex'), decode(repeat('00', 16), 'hex'), '', now(), $3, now() FROM generate_series(0::bigint, 10000000 / 4096) AS n (i)`,
			[]any{issuer[:], int64(first), key[:]}},
		{`INSERT INTO ledger (seq, issuer, epoch, idx, serial, kind, reason, revoked_at, recorded_at, actor)
			SELECT i, $1, $2 + i % 12, i / 12 * 100, '\x41'::bytea || substr(sha256(i::text::bytea), 1, 19), 1, 4, now(), now(), 'bench' FROM generate_series(1::bigint, 100000) AS n (i)`,
			[]any{issuer[:], int64(first)}},
		{`UPDATE ledger_head SET seq = 100000`, nil}, {`ANALYZE`, nil},
	} {
		if _, err := db.ExecContext(ctx, step.statement, step.args...); err != nil {
			return err
		}
	}
	var universe *revocation.Universe
	times, kept := timed(rounds, func() error {
		if universe, err = revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s}); err == nil {
			err = universe.Load(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	runtime.KeepAlive(universe)
	b.addCost(name, times, kept, 3000, 100, nil)
	return nil
}

// bareEntries measures the rows of the ledger a second that a PostgreSQL writes if it does nothing else: chunks of
// 5,000 from one connection, durable, with the ledger's two indexes.
func (b *bench) bareEntries(ctx context.Context) (*limit, error) {
	conn, err := pgx.Connect(ctx, b.database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	const chunk, chunks = 5_000, 40
	for _, statement := range []string{
		`CREATE TABLE bench_ledger (seq bigint PRIMARY KEY, issuer bytea, epoch integer, idx bigint, serial bytea, kind smallint, reason smallint, revoked_at timestamptz,
			invalidity_at timestamptz, recorded_at timestamptz, job bytea, actor text)`,
		`CREATE INDEX bench_position ON bench_ledger (epoch, issuer, idx, seq)`,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	for n := range chunks {
		if _, err := conn.Exec(ctx, `INSERT INTO bench_ledger SELECT i, '\x01020304050607080910', 400, i, '\x4102030405060708091011121314151617181920', 1, 4, now(), NULL, now(),
			'\x01020304050607080910111213141516', 'bench' FROM generate_series($1::bigint, $2::bigint) AS i`, n*chunk, (n+1)*chunk-1); err != nil {
			return nil, err
		}
	}
	rate := chunk * chunks / time.Since(began).Seconds()
	b.add(result{Name: "limit/pg-insert-select", Value: rate, Unit: "1/s", Spread: [2]float64{rate, rate}})
	_, err = conn.Exec(ctx, `DROP TABLE bench_ledger`)
	return &limit{"limit/pg-insert-select", rate}, err
}
