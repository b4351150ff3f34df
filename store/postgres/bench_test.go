package postgres_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store/postgres"
)

// BenchmarkRecord records batches of certificates durably. db-us/op is the processor time of PostgreSQL for one batch,
// which a busy machine hardly changes: the difference between batches of 1 and 32 tells what a transaction costs and
// what a certificate does.
func BenchmarkRecord(b *testing.B) {
	server := testdb.Durable(b)
	for _, size := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("batch%d", size), func(b *testing.B) {
			url := server.URL(b)
			s, err := postgres.Open(b.Context(), postgres.Config{URL: url})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			now, spki := time.Now().UTC(), []byte{0x30, 2, 5, 1}
			issuer := pki.HashSPKI(spki)
			if err := s.CreateIssuer(b.Context(), ca.Issuer{ID: issuer.Issuer(), Label: "one", Subject: []byte{0x30, 1, 1}, SPKI: spki, KeyHash: issuer, CreatedAt: now},
				audit.Event{At: now, Actor: "system:bench", Action: "issuer.create", Target: "issuer", Outcome: audit.OK}); err != nil {
				b.Fatal(err)
			}
			epoch, err := pki.EpochAt(now.Add(90 * 24 * time.Hour).Unix())
			if err != nil {
				b.Fatal(err)
			}
			owner := ca.OwnerID{1}
			var r ca.Range
			var next uint64
			entry := func() ca.Entry {
				if next == r.To {
					if r, err = s.Reserve(b.Context(), ca.Reservation{Issuer: issuer.Issuer(), Epoch: epoch, Count: 4096, Owner: owner, Lease: time.Hour}); err != nil {
						b.Fatal(err)
					}
					next = r.From
				}
				e := ca.Entry{Certificate: inventory.Certificate{Issuer: issuer.Issuer(), Position: pki.Position{Epoch: epoch, Index: next}, Profile: "server", Account: "web",
					NotBefore: now, NotAfter: now.Add(90 * 24 * time.Hour), IssuedAt: time.Now().UTC(), DER: make([]byte, 700)}, Range: r.ID,
					Names: []inventory.Name{{Type: pki.DNS, Value: fmt.Sprintf("host%d.example", next)}},
					Event: audit.Event{At: now, Actor: "token:web", Action: "certificate.issue", Target: fmt.Sprintf("issuer/%s/serial/%040x", issuer.Issuer(), next), Outcome: audit.OK,
						Detail: map[string]string{"profile": "server", "account": "web", "key": issuer.String(), "not_after": now.Format(time.RFC3339), "names": "1"}}}
				for i := range 4 { // as hashes are: anywhere in their index
					binary.BigEndian.PutUint64(e.KeyHash[8*i:], (next+1)*0x9e3779b97f4a7c15)
					binary.BigEndian.PutUint64(e.KeyMaterial[8*i:], (next+1)*0xc2b2ae3d27d4eb4f)
				}
				next++
				return e
			}
			before := databaseCPU(b, url)
			for b.Loop() {
				batch := make([]ca.Entry, size)
				for i := range batch {
					batch[i] = entry()
				}
				if _, err := s.Record(b.Context(), owner, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((databaseCPU(b, url)-before).Microseconds())/float64(b.N), "db-us/op")
		})
	}
}

// databaseCPU is what the processes of a PostgreSQL server have used so far, in ticks of 10 ms.
func databaseCPU(b *testing.B, url string) (total time.Duration) {
	b.Helper()
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
		for _, field := range strings.Fields(rest)[11:13] { // utime and stime
			ticks, err := strconv.Atoi(field)
			if err != nil {
				b.Fatal(err)
			}
			total += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return total
}
