package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// testCertificate holds a store to ca.CertificateStore.
func testCertificate(t *testing.T, open func(t *testing.T) store.Store) {
	events := func(b *books) uint64 {
		b.t.Helper()
		head, err := b.s.AuditHead(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		return head.Seq
	}
	block := func(b *books, key pki.KeyHash) {
		b.t.Helper()
		_, _, err := b.s.BlockKey(b.t.Context(), revocation.KeyBlock{SPKI: key, Material: pki.KeyHash{0xff, key[0]}},
			revocation.Job{ID: revocation.JobID{1}, Principal: auth.Principal{ID: "token:admin"}}, b.at, 100, 0)
		if err != nil {
			b.t.Fatal(err)
		}
	}

	t.Run("what is recorded is found again", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 16, time.Minute)
		want := b.entry(r, 3)
		if got := b.record(1, want); got[0] != ca.Recorded {
			t.Fatalf("outcome %v", got)
		}
		got, err := b.s.GetCertificate(t.Context(), r.Issuer, want.Serial, want.Position)
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want.Certificate) {
			t.Errorf("got  %+v (%v)\nwant %+v", got, err, want.Certificate)
		}
		page, err := b.s.ListCertificates(t.Context(), inventory.Filter{Name: "n3.example.com"}, "", 10)
		if err != nil || len(page.Certificates) != 1 {
			t.Errorf("by name: %+v, %v", page, err)
		}
		if n := events(b); n != 2 {
			t.Errorf("%d audit events, want 2", n)
		}
	})

	t.Run("a name that is there twice is found once", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 16, time.Minute)
		twice := b.entry(r, 0)
		twice.Names = []inventory.Name{{Type: pki.DNS, Value: "same.example"}, {Type: pki.DNS, Value: "SAME.example"}, {Type: pki.DNS, Value: "same.example"}, {Type: pki.Email, Value: "a@same.example"}}
		twice.DER = certificateWith(t, twice.Names)
		if got := b.record(1, twice, b.entry(r, 1)); got[0] != ca.Recorded || got[1] != ca.Recorded {
			t.Fatalf("outcomes %v", got)
		}
		page, err := b.s.ListCertificates(t.Context(), inventory.Filter{Name: "same.example"}, "", 10)
		if err != nil || len(page.Certificates) != 1 {
			t.Errorf("by name: %+v, %v", page, err)
		}
	})

	t.Run("an authority is known as one", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 16, time.Minute)
		subordinate := b.entry(r, 1)
		subordinate.Authority = true // whatever its profile is called
		if got := b.record(1, b.entry(r, 0), subordinate, b.entry(r, 2)); slices.ContainsFunc(got, func(o ca.Outcome) bool { return o != ca.Recorded }) {
			t.Fatalf("outcomes %v", got)
		}
		job, err := b.s.CreateJob(t.Context(), revocation.Job{ID: revocation.JobID{1}, State: revocation.JobPlanned, Selector: revocation.Selector{Profile: "server"}}, nil, b.at,
			audit.Event{At: b.at, Actor: "token:root", Action: "job.plan", Target: "job", Outcome: audit.OK})
		if err != nil || job.Authorities != 1 {
			t.Errorf("%d authorities, %v; want 1", job.Authorities, err)
		}
	})

	t.Run("every entry has its own outcome", func(t *testing.T) {
		b := newBooks(t, open(t))
		r, closed, others := b.reserve(1, 16, time.Minute), b.reserve(1, 4, time.Minute), b.reserve(2, 4, time.Minute)
		if _, err := b.close(closed, 1, ca.Run{From: closed.From, To: closed.To}); err != nil {
			t.Fatal(err)
		}
		bad, material := b.entry(r, 4), b.entry(r, 5)
		block(b, bad.KeyHash)
		block(b, material.KeyMaterial)
		used := b.entry(r, 6)
		used.RequestID = "r1"
		b.record(1, used)
		repeated := b.entry(r, 7)
		repeated.RequestID = "r1"
		otherAccount := b.entry(r, 8)
		otherAccount.RequestID, otherAccount.Account = "r1", "mail"
		outside := b.entry(r, 20)
		otherIssuer, otherEpoch := b.entry(r, 9), b.entry(r, 10)
		otherIssuer.Issuer[0] ^= 1
		otherEpoch.Position.Epoch++
		before := events(b)
		got := b.record(1, b.entry(r, 0), bad, b.entry(r, 1), b.entry(closed, closed.From), b.entry(others, others.From), repeated, material, otherAccount, outside, otherIssuer, otherEpoch)
		want := []ca.Outcome{ca.Recorded, ca.KeyBlocked, ca.Recorded, ca.RangeLost, ca.RangeLost, ca.RequestUsed, ca.KeyBlocked, ca.Recorded, ca.RangeLost, ca.RangeLost, ca.RangeLost}
		if !slices.Equal(got, want) {
			t.Errorf("outcomes %v, want %v", got, want)
		}
		if n := events(b) - before; n != 3 {
			t.Errorf("%d audit events for 3 recorded", n)
		}
		bad.RequestID = "r2" // nor does the id of a request that is refused count as used
		material.RequestID = "r2"
		for i, alone := range []ca.Entry{bad, b.entry(closed, closed.From), b.entry(others, others.From), repeated, material, outside, otherIssuer, otherEpoch, b.entry(r, 4), b.entry(r, 5)} {
			if i == 9 {
				alone.KeyMaterial = material.KeyMaterial
			}
			if i == 8 {
				alone.KeyHash = bad.KeyHash
			}
			want := []ca.Outcome{ca.KeyBlocked, ca.RangeLost, ca.RangeLost, ca.RequestUsed, ca.KeyBlocked, ca.RangeLost, ca.RangeLost, ca.RangeLost, ca.KeyBlocked, ca.KeyBlocked}[i]
			if got := b.record(1, alone); got[0] != want {
				t.Errorf("entry %d alone: %v, want %v", i, got[0], want)
			}
		}
	})

	t.Run("what an entry stands on is asked when it is recorded", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 16, time.Minute)
		issuer, above := pki.Serial{0x41, 1}, pki.Serial{0x41, 2}
		say := func(serial pki.Serial) uint64 {
			seq, err := b.s.AppendLedger(t.Context(), 0, []revocation.NewEntry{{Entry: revocation.Entry{Issuer: r.Issuer, Serial: serial, Foreign: true, Kind: revocation.KindRevoke,
				RevokedAt: b.at, Actor: "token:admin"}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return seq
		}
		index := uint64(0)
		want := func(what string, footing ca.Footing, want ca.Outcome) {
			t.Helper()
			entry := b.entry(r, index)
			entry.KeyHash[2], entry.Footing = 1, footing
			if got := b.record(1, entry); got[0] != want {
				t.Errorf("%s: outcome %d, want %d", what, got[0], want)
			}
			index++
		}
		standsOn := ca.Footing{Serials: []pki.Serial{issuer, above}, Key: b.key}
		want("an empty ledger", standsOn, ca.Recorded)
		standsOn.Seq = say(pki.Serial{0x41, 3})
		want("all was known", standsOn, ca.Recorded)
		say(pki.Serial{0x41, 4})
		want("news of others", standsOn, ca.Recorded)
		late := say(above)
		want("news of what stands above", standsOn, ca.IssuerNews)
		want("nothing is asked", ca.Footing{}, ca.Recorded)
		standsOn.Seq = late
		want("judged with the news", standsOn, ca.Recorded)
		before := events(b)
		stale := b.entry(r, index)
		stale.Footing = ca.Footing{Seq: late - 1, Serials: standsOn.Serials, Key: b.key}
		if got := b.record(1, b.entry(r, index+1), stale); got[1] != ca.IssuerNews {
			t.Errorf("in a batch: outcome %d", got[1])
		}
		if n := events(b) - before; n > 1 {
			t.Errorf("%d audit events of at most one that was recorded", n)
		}
		index += 2

		// Of several reasons one is told: an entry has all of them, and then one less each time.
		standsOn.Seq = late - 1
		all := b.entry(r, index)
		all.KeyHash[2], all.RequestID, all.Approval = 1, "used", ca.ApprovalID{1} // there is no such approval
		first := all
		first.Approval, first.Position.Index = ca.ApprovalID{}, index+1
		if got := b.record(1, first); got[0] != ca.Recorded {
			t.Fatalf("outcome %d", got[0])
		}
		all.Footing, all.KeyHash, all.Range = standsOn, pki.KeyHash{7, 7}, all.Range+1000
		block(b, all.KeyHash)
		for _, each := range []struct {
			want ca.Outcome
			less func()
		}{
			{ca.RangeLost, func() { all.Range = r.ID }},
			{ca.KeyBlocked, func() { all.KeyHash = pki.KeyHash{2} }},
			{ca.IssuerNews, func() { all.Footing.Seq = late }},
			{ca.RequestUsed, func() { all.RequestID = "" }},
			{ca.ApprovalUsed, func() { all.Approval = ca.ApprovalID{} }},
			{ca.Recorded, func() {}},
		} {
			if got := b.record(1, all); got[0] != each.want {
				t.Errorf("of several reasons: outcome %d, want %d", got[0], each.want)
			}
			each.less()
		}
		index += 2
		standsOn.Seq = late
		block(b, b.key)
		want("the issuer's key was blocked", standsOn, ca.IssuerNews)
		want("nothing is asked of a blocked key either", ca.Footing{}, ca.Recorded)
	})

	t.Run("an index outside of its range is not recorded, and is void", func(t *testing.T) {
		b := newBooks(t, open(t))
		first, second := b.reserve(1, 4, time.Minute), b.reserve(1, 4, time.Minute)
		for _, batch := range [][]ca.Entry{{b.entry(second, second.From), b.entry(second, second.From-1)}, {b.entry(first, first.From), b.entry(first, first.To)}} {
			if got := b.record(1, batch...); !slices.Equal(got, []ca.Outcome{ca.Recorded, ca.RangeLost}) {
				t.Errorf("outcomes %v", got)
			}
		}
		if voids, err := b.close(second, 1); err != nil || voids != 3 {
			t.Errorf("%d void of 4 of which 1 is recorded, %v", voids, err)
		}
	})

	t.Run("the primary key is the last fence", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 16, time.Minute)
		b.record(1, b.entry(r, 0))
		if _, err := b.s.Record(t.Context(), ownerID(1), []ca.Entry{b.entry(r, 1), b.entry(r, 0)}); pki.KindOf(err) != pki.KindConflict {
			t.Errorf("an index twice: %v", err)
		}
		if _, err := b.s.GetCertificate(t.Context(), r.Issuer, b.serial(r, 1), pki.Position{Epoch: r.Epoch, Index: 1}); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("half of a batch was recorded: %v", err)
		}
	})

	t.Run("a request id has one certificate, however many ask", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 64, time.Minute)
		const callers = 12
		outcomes := make([]ca.Outcome, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				first, second := b.entry(r, uint64(2*i)), b.entry(r, uint64(2*i+1))
				first.RequestID, second.RequestID, first.Digest = "same", fmt.Sprint("other ", i), [32]byte{byte(i)}
				outcomes[i] = b.record(1, first, second)[0]
			})
		}
		wg.Wait()
		winner := slices.Index(outcomes, ca.Recorded)
		for i, outcome := range outcomes {
			if i != winner && outcome != ca.RequestUsed {
				t.Errorf("caller %d: %v beside winner %d", i, outcome, winner)
			}
		}
		found, err := b.s.FindRequest(t.Context(), "web", "same")
		if err != nil || found.Certificate.Position.Index != uint64(2*winner) || found.Digest[0] != byte(winner) {
			t.Errorf("found %v of %d: %v", found.Certificate.Position, winner, err)
		}
		if _, err := b.s.FindRequest(t.Context(), "mail", "same"); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("another account's request: %v", err)
		}
		if n, err := b.s.ForgetRequests(t.Context(), 100); n != 0 || err != nil {
			t.Errorf("forgot %d requests of today: %v", n, err)
		}
	})

	// Reading the block list is not enough: a key that is blocked while its certificate is recorded must end either as
	// refused or as revoked. It fails without the key-blocks lock.
	t.Run("an issuer is certified or deleted", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 64, time.Minute)
		event := func(action string) audit.Event {
			return audit.Event{At: b.at, Actor: "token:root", Action: action, Target: "issuer", Outcome: audit.OK}
		}
		for i := range uint64(16) {
			key := pki.KeyHash{8, byte(i)}
			issuer := ca.Issuer{ID: key.Issuer(), Label: fmt.Sprint("below-", i), KeyURI: "softkey:below", Subject: []byte{0x30, 2, 8, byte(i)}, SPKI: []byte{0x30, 2, 9, byte(i)}, KeyHash: key,
				State: ca.IssuerPending, BaseURL: "http://pki.test", CreatedAt: b.at}
			if err := b.s.CreateIssuer(t.Context(), issuer, event("issuer.create")); err != nil {
				t.Fatal(err)
			}
			entry, beside := b.entry(r, 2*i), b.entry(r, 2*i+1)
			entry.KeyHash, entry.Certifies = key, true
			if i == 0 { // one after the other
				first := b.s.DeleteIssuer(t.Context(), issuer.ID, event("issuer.delete"))
				if outcomes := b.record(1, entry, beside); first != nil || outcomes[0] != ca.IssuerGone || outcomes[1] != ca.Recorded {
					t.Errorf("deleted (%v), and then recorded: outcomes %d", first, outcomes)
				}
				continue
			}
			var outcomes []ca.Outcome
			var deleted error
			var wg sync.WaitGroup
			wg.Go(func() { outcomes = b.record(1, entry, beside) })
			wg.Go(func() { deleted = b.s.DeleteIssuer(t.Context(), issuer.ID, event("issuer.delete")) })
			wg.Wait()
			if outcomes[1] != ca.Recorded || !(outcomes[0] == ca.Recorded && pki.KindOf(deleted) == pki.KindFailedPrecondition || outcomes[0] == ca.IssuerGone && deleted == nil) {
				t.Fatalf("round %d: outcomes %d, deleted: %v", i, outcomes, deleted)
			}
		}
	})

	t.Run("issue against block", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 64, time.Minute)
		for i := range uint64(16) {
			entry := b.entry(r, i)
			entry.NotAfter = b.at.Add(24 * time.Hour)
			entry.KeyHash = pki.KeyHash{9, byte(i)}
			var outcome ca.Outcome
			var receipt revocation.BlockReceipt
			var wg sync.WaitGroup
			wg.Go(func() { outcome = b.record(1, entry)[0] })
			wg.Go(func() {
				var err error
				job := revocation.Job{ID: revocation.JobID{2, byte(i)}, Principal: auth.Principal{ID: "token:admin"}}
				if receipt, _, err = b.s.BlockKey(t.Context(), revocation.KeyBlock{SPKI: entry.KeyHash, Material: entry.KeyMaterial}, job, b.at, 100, 0); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			if (outcome == ca.Recorded) != (receipt.Revoked == 1) {
				t.Fatalf("round %d: outcome %d, %d revoked", i, outcome, receipt.Revoked)
			}
		}
	})

	t.Run("who blocks a key is the actor of all that comes of it", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 16, time.Minute)
		entry := b.entry(r, 0)
		entry.NotAfter = b.at.Add(24 * time.Hour)
		b.record(1, entry)
		block(b, entry.KeyHash)
		entries, err := b.s.LedgerEntries(t.Context(), 0, 10)
		if err != nil || len(entries) != 1 || entries[0].Actor != "token:admin" {
			t.Errorf("entries %+v, %v", entries, err)
		}
		entry = b.entry(r, 1)
		entry.NotAfter = b.at.Add(24 * time.Hour)
		b.record(1, entry)
		many := revocation.Job{ID: revocation.JobID{2}, State: revocation.JobRunning, Reason: pki.KeyCompromise, Principal: auth.Principal{ID: "token:chief"}}
		if _, _, err := b.s.BlockKey(t.Context(), revocation.KeyBlock{SPKI: entry.KeyHash, Material: entry.KeyMaterial}, many, b.at, 0, 0); err != nil {
			t.Fatal(err)
		}
		if job, err := b.s.Job(t.Context(), many.ID); err != nil || job.Actor != "token:chief" {
			t.Errorf("job %+v, %v", job, err)
		}
		keys, err := b.s.ListBlockedKeys(t.Context(), pki.KeyHash{}, 10)
		if err != nil || len(keys) != 2 || keys[0].Actor != "token:admin" || keys[1].Actor != "token:chief" {
			t.Errorf("keys %+v, %v", keys, err)
		}
		events, err := b.s.AuditEvents(t.Context(), audit.Filter{Action: "key.block"}, 0, 10)
		if err != nil || len(events) != 2 || events[0].Actor != "token:admin" || events[1].Actor != "token:chief" {
			t.Errorf("events %+v, %v", events, err)
		}
	})

	t.Run("blocked keys are read from a time on", func(t *testing.T) {
		b := newBooks(t, open(t))
		hashes, next, err := b.s.KeysBlockedSince(t.Context(), time.Time{})
		if err != nil || len(hashes) != 0 {
			t.Fatalf("%v, %v", hashes, err)
		}
		block(b, pki.KeyHash{5})
		if hashes, _, err = b.s.KeysBlockedSince(t.Context(), next); err != nil || len(hashes) != 2 {
			t.Errorf("%v, %v: want the hash and the material", hashes, err)
		}
	})

	t.Run("blocked keys are listed once each, by hash", func(t *testing.T) {
		b := newBooks(t, open(t))
		for _, key := range []byte{7, 5, 6, 5} {
			block(b, pki.KeyHash{key})
		}
		for after, want := range map[byte][]byte{0: {5, 6}, 5: {6, 7}, 6: {7}, 7: nil} {
			keys, err := b.s.ListBlockedKeys(t.Context(), pki.KeyHash{after}, 2)
			var got []byte
			for _, key := range keys {
				got = append(got, key.SPKI[0])
				if key.Actor != "token:admin" || key.At.IsZero() {
					t.Errorf("%+v", key)
				}
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("behind %d: %d, %v; want %d", after, got, err, want)
			}
		}
	})

	t.Run("an epoch that has passed goes, and no other", func(t *testing.T) {
		b := newBooks(t, open(t))
		old := ca.Reservation{Issuer: b.key.Issuer(), Epoch: 10, Count: 8, Owner: ownerID(1), Lease: time.Minute}
		r, err := b.s.Reserve(t.Context(), old)
		if err != nil {
			t.Fatal(err)
		}
		now := b.reserve(1, 8, time.Minute)
		for i := range uint64(5) {
			b.record(1, b.entry(r, i), b.entry(now, i))
		}
		if _, err := b.close(r, 1, ca.Run{From: 5, To: 8}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.s.DropEpoch(t.Context(), pki.FirstEpoch(time.Now().Unix())+1, 0, 2); pki.KindOf(err) != pki.KindFailedPrecondition {
			t.Errorf("an epoch to come: %v", err)
		}
		if _, err := b.s.DropEpoch(t.Context(), 10, 50*365*24*time.Hour, 2); pki.KindOf(err) != pki.KindFailedPrecondition {
			t.Errorf("an epoch that is kept: %v", err)
		}
		if err := b.s.AppendAudit(t.Context(), []audit.Event{{At: time.Now().Add(-48 * time.Hour), Actor: "a", Action: "b.c", Target: "t", Outcome: audit.OK}}); err != nil {
			t.Fatal(err)
		}
		listed := func() bool {
			passed, err := b.s.PassedEpochs(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(passed, func(p ca.PassedEpoch) bool { return p.Epoch == 10 })
		}
		late, err := b.s.Reserve(t.Context(), old) // open while the epoch is dropped
		if err != nil || !listed() {
			t.Fatalf("%v, listed %t", err, listed())
		}
		for calls := 0; ; calls++ {
			done, err := b.s.DropEpoch(t.Context(), 10, 0, 2)
			if err != nil || calls > 5 {
				t.Fatalf("after %d calls: %v", calls, err)
			}
			if done {
				break
			}
		}
		count := func(f inventory.Filter) int64 {
			c, err := b.s.CountCertificates(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			return c.N
		}
		if n := count(inventory.Filter{}); n != 5 {
			t.Errorf("%d certificates are left, want 5", n)
		}
		if listed() {
			t.Error("an epoch of which only an open range is left is listed for ever")
		}
		if _, err := b.close(late, 1, ca.Run{From: late.From, To: late.To}); err != nil || !listed() {
			t.Errorf("the range was closed, and its row stays (%v)", err)
		}
		if done, err := b.s.DropEpoch(t.Context(), 10, 0, 2); err != nil || !done || listed() {
			t.Errorf("the row of the last range is left: %t, %v", done, err)
		}
		if n := count(inventory.Filter{NameSuffix: "example.com"}); n != 5 {
			t.Errorf("%d certificates are left by name, want 5", n)
		}
	})
}

// RequestIDEnds holds a store to this: the request id of a certificate is taken for 24 hours. pass makes time pass for what is kept.
func RequestIDEnds(t *testing.T, s store.Store, pass func(by time.Duration)) {
	b := newBooks(t, s)
	r := b.reserve(1, 16, time.Minute)
	first, second := b.entry(r, 0), b.entry(r, 1)
	first.RequestID, second.RequestID = "r1", "r1"
	b.record(1, first)
	pass(24*time.Hour - time.Minute)
	if got := b.record(1, second); got[0] != ca.RequestUsed {
		t.Errorf("after nearly a day: %v", got)
	}
	if found, err := s.FindRequest(t.Context(), "web", "r1"); err != nil || found.Certificate.Serial != first.Serial {
		t.Errorf("after nearly a day: %+v, %v", found, err)
	}
	pass(2 * time.Minute)
	if _, err := s.FindRequest(t.Context(), "web", "r1"); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("after a day: %v", err)
	}
	if got := b.record(1, second); got[0] != ca.Recorded {
		t.Errorf("after a day: %v", got)
	}
	if found, err := s.FindRequest(t.Context(), "web", "r1"); err != nil || found.Certificate.Serial != second.Serial {
		t.Errorf("used anew: %+v, %v", found, err)
	}
	if n, err := s.ForgetRequests(t.Context(), 10); err != nil || n != 0 {
		t.Errorf("forgot %d that are in use: %v", n, err)
	}
}
