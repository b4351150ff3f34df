package revocation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// What jobs and blocked keys append is decided in SQL, and in Go for SQLite: of every state of a certificate they make what the table of
// decide makes of it.
func TestStoresDecideAsTheTable(t *testing.T) {
	before, doubted := now.Add(-time.Hour), now.Add(-2*time.Hour)
	entry := func(kind revocation.Kind, reason pki.Reason, invalidityAt time.Time) revocation.Entry {
		return revocation.Entry{Kind: kind, Reason: reason, RevokedAt: before, InvalidityAt: invalidityAt, Actor: "token:first"}
	}
	superseded := entry(revocation.KindRevoke, pki.Superseded, time.Time{})
	hold := entry(revocation.KindHold, pki.CertificateHold, time.Time{})
	histories := [][]revocation.Entry{
		{},
		{superseded},
		{entry(revocation.KindRevoke, pki.Superseded, doubted)},
		{entry(revocation.KindRevoke, pki.KeyCompromise, time.Time{})},
		{entry(revocation.KindRevoke, pki.KeyCompromise, doubted)},
		{superseded, entry(revocation.KindReasonChange, pki.KeyCompromise, time.Time{})},
		{hold},
		{entry(revocation.KindHold, pki.CertificateHold, doubted)},
		{hold, entry(revocation.KindHold, pki.CertificateHold, doubted)}, // over that of another
		{hold, entry(revocation.KindRelease, 0, time.Time{})},
		{hold, superseded},
		{entry(revocation.KindVoid, 0, time.Time{})},
	}
	type way struct {
		by           string // what asks for it
		reason       pki.Reason
		invalidityAt time.Time
	}
	var ways []way
	for _, invalidityAt := range []time.Time{{}, now.Add(-time.Minute)} {
		for _, by := range []string{"condition", "list"} {
			for _, reason := range []pki.Reason{pki.Unspecified, pki.Superseded, pki.KeyCompromise} {
				ways = append(ways, way{by, reason, invalidityAt})
			}
		}
		ways = append(ways, way{"blocked key", pki.KeyCompromise, invalidityAt})
	}

	testdb.Each(t, func(t *testing.T, s store.Store) {
		spans := make([]span, len(ways))
		for n := range ways {
			i := newIssuer(t, s, fmt.Sprint("issuer ", n), false)
			spans[n] = i.reserve(t, epoch, 0, 16)
			for index, history := range histories {
				spans[n].record(t, uint64(index))
				for _, e := range history {
					claim := spans[n].claim(uint64(index))
					e.Issuer, e.Serial, e.Position = i.id, claim.Serial, claim.Position
					if _, err := s.AppendLedger(t.Context(), 0, []revocation.NewEntry{{Entry: e, Expected: lastOf(t, s, claim).Seq}}, nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			testdb.Exec(t, s, `UPDATE certificates SET spki_hash = $1 WHERE issuer = $2`, keyOf(uint64(n)), i.id[:])
		}
		u := newUniverse(t, s)
		l, jobs := newLedger(t, s, u), newJobs(t, s, u, 1)
		for n, w := range ways {
			var want []revocation.Entry
			var listed []revocation.Key
			for index := range histories {
				claim := spans[n].claim(uint64(index))
				listed = append(listed, claim.Key)
				if e, ok := revocation.DecideInJob(lastOf(t, s, claim), w.reason, w.invalidityAt, now); ok {
					want = append(want, revocation.Entry{Issuer: claim.Issuer, Serial: claim.Serial, Position: claim.Position,
						Kind: e.Kind, Reason: e.Reason, RevokedAt: e.RevokedAt, InvalidityAt: e.InvalidityAt})
				}
			}
			head, err := s.LedgerHead(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			request := revocation.JobRequest{Reason: w.reason, InvalidityAt: w.invalidityAt}
			switch w.by {
			case "condition":
				request.Selector.Issuer = spans[n].issuer.id
			case "list":
				request.Serials = listed
			case "blocked key":
				block := blockOf(uint64(n))
				block.InvalidityAt = w.invalidityAt
				if _, err := l.BlockKey(t.Context(), manager(t), block); err != nil {
					t.Fatal(err)
				}
			}
			if w.by != "blocked key" {
				job, _, err := jobs.Plan(t.Context(), manager(t), request)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := jobs.Start(t.Context(), manager(t), job.ID, 0); err != nil {
					t.Fatal(err)
				}
				runJobs(t, s, u)
			}
			entries, err := s.LedgerEntries(t.Context(), head, 100)
			if err != nil {
				t.Fatal(err)
			}
			var got []revocation.Entry
			for _, e := range entries {
				got = append(got, revocation.Entry{Issuer: e.Issuer, Serial: e.Serial, Position: e.Position, Kind: e.Kind, Reason: e.Reason, RevokedAt: e.RevokedAt, InvalidityAt: e.InvalidityAt})
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s, stated %t: the table and the store differ (-want +got):\n%s", w.by, w.reason, !w.invalidityAt.IsZero(), diff)
			}
		}
	})
}

// lastOf is the last entry of a certificate.
func lastOf(t *testing.T, s store.Store, claim revocation.Claim) revocation.Entry {
	t.Helper()
	facts, err := s.CertificateFacts(t.Context(), []revocation.Claim{claim})
	if err != nil {
		t.Fatal(err)
	}
	return facts[0].Last
}
