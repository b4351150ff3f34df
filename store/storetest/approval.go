package storetest

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// testApproval holds a store to approval.Store, and to what ca.CertificateStore says of approvals.
func testApproval(t *testing.T, open func(t *testing.T) store.Store) {
	wide := approval.Bounds{PerAccount: 100, Total: 1000}
	event := func(action string) audit.Event {
		return audit.Event{Actor: "token:test", Action: action, Outcome: audit.OK}
	}
	application := func(n byte) approval.Application {
		return approval.Application{
			ID: ca.ApprovalID{0, 0, 0, 0, 0, n, 9}, State: approval.Pending,
			Request: ca.Request{Profile: "code-signing", Issuer: pki.IssuerID{n}, CSR: []byte{0x30, n}, Names: []pki.Identifier{{Type: pki.DNS, Value: "a.example"}},
				Subject: ca.Subject{CommonName: "A", Organization: []string{"O\x00 ü"}}, Lifetime: time.Hour},
			Requester: auth.Principal{ID: "certificate:web", Account: "web", Role: auth.RoleRequester, Profiles: []string{"code-signing"}, Certificate: "issuer/serial"},
			Trial:     ca.Trial{Profile: "code-signing", Subject: "CN=A", KeyHash: pki.KeyHash{n}, NotAfter: time.Unix(1_800_000_000, 0).UTC(), Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 3}, Critical: true, Value: []byte{5, 0}}}},
		}
	}
	file := func(t *testing.T, s store.Store, a approval.Application, expires time.Duration) approval.Application {
		t.Helper()
		filed, err := s.File(t.Context(), a, expires, wide, event("request.file"))
		if err != nil {
			t.Fatal(err)
		}
		return filed
	}
	decide := func(s store.Store, id ca.ApprovalID, from, to approval.State) (approval.Application, error) {
		return s.Decide(t.Context(), approval.Decision{ID: id, From: from, To: to, By: "token:boss", Comment: "so be it", Expires: time.Hour, Event: event("request.decide")})
	}

	t.Run("what waits is counted", func(t *testing.T) {
		s := open(t)
		waiting := func(pending, approved int, oldest time.Time) {
			t.Helper()
			w, err := s.WaitingRequests(t.Context())
			if err != nil || w.Pending != pending || w.Approved != approved || !w.Oldest.Equal(oldest) {
				t.Errorf("%+v, %v; want %d pending since %s, %d approved", w, err, pending, oldest, approved)
			}
		}
		waiting(0, 0, time.Time{})
		first, second := file(t, s, application(1), time.Hour), file(t, s, application(2), time.Hour)
		file(t, s, application(3), time.Nanosecond) // has expired
		waiting(2, 0, first.FiledAt)
		if _, err := decide(s, first.ID, approval.Pending, approval.Approved); err != nil {
			t.Fatal(err)
		}
		waiting(1, 1, second.FiledAt)
		if _, err := decide(s, second.ID, approval.Pending, approval.Denied); err != nil {
			t.Fatal(err)
		}
		waiting(0, 1, time.Time{})
	})

	t.Run("what is filed is found again", func(t *testing.T) {
		s := open(t)
		want := application(1)
		filed := file(t, s, want, time.Hour)
		if filed.FiledAt.IsZero() || filed.ExpiresAt.Sub(filed.FiledAt).Round(time.Second) != time.Hour {
			t.Errorf("filed at %s, expires at %s", filed.FiledAt, filed.ExpiresAt)
		}
		want.FiledAt, want.ExpiresAt = filed.FiledAt, filed.ExpiresAt
		got, err := s.Application(t.Context(), want.ID)
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || got.Request.Digest() != want.Request.Digest() {
			t.Errorf("got  %+v (%v)\nwant %+v", got, err, want)
		}
		if _, err := s.Application(t.Context(), ca.ApprovalID{1}); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("one that is not there: %v", err)
		}
	})

	t.Run("only one decision counts, however many decide", func(t *testing.T) {
		s := open(t)
		file(t, s, application(1), time.Hour)
		var won, lost atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				to := []approval.State{approval.Approved, approval.Denied}[i%2]
				switch _, err := decide(s, application(1).ID, approval.Pending, to); pki.KindOf(err) {
				case pki.KindFailedPrecondition:
					lost.Add(1)
				default:
					if err != nil {
						t.Error(err)
					}
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || lost.Load() != 7 {
			t.Errorf("%d decided, %d were refused", won.Load(), lost.Load())
		}
		got, err := s.Application(t.Context(), application(1).ID)
		if err != nil || got.DecidedBy != "token:boss" || got.Comment != "so be it" || got.DecidedAt.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
		head, err := s.AuditHead(t.Context())
		if err != nil || head.Seq != 2 {
			t.Errorf("%d audit events, want one for filing and one for the decision (%v)", head.Seq, err)
		}
		if _, err := decide(s, ca.ApprovalID{1}, approval.Pending, approval.Approved); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("one that is not there: %v", err)
		}
	})

	t.Run("an expired one is decided no more", func(t *testing.T) {
		s := open(t)
		filed := file(t, s, application(1), -time.Second)
		if filed.State != approval.Expired {
			t.Errorf("state %s", filed.State)
		}
		if _, err := decide(s, filed.ID, approval.Pending, approval.Approved); pki.KindOf(err) != pki.KindFailedPrecondition {
			t.Errorf("approved: %v", err)
		}
	})

	t.Run("pending ones are bounded", func(t *testing.T) {
		s := open(t)
		for i := range byte(4) { // what has expired does not count
			file(t, s, application(i+100), -time.Second)
		}
		bounds := approval.Bounds{PerAccount: 3, Total: 5}
		var filed, full atomic.Int32
		var wg sync.WaitGroup
		for i := range byte(12) {
			wg.Go(func() {
				a := application(i + 1)
				a.Requester.Account = []string{"web", "mail"}[i%2]
				switch _, err := s.File(t.Context(), a, time.Hour, bounds, event("request.file")); pki.KindOf(err) {
				case pki.KindExhausted:
					full.Add(1)
				default:
					if err != nil {
						t.Error(err)
					}
					filed.Add(1)
				}
			})
		}
		wg.Wait()
		if filed.Load() != 5 || full.Load() != 7 {
			t.Errorf("%d filed, %d refused", filed.Load(), full.Load())
		}
		own, err := s.Applications(t.Context(), approval.Filter{Account: "web", State: approval.Pending}, ca.ApprovalID{}, 10)
		if err != nil || len(own) < 2 || len(own) > 3 {
			t.Errorf("%d of one account: %v", len(own), err)
		}
		if _, err := decide(s, own[0].ID, approval.Pending, approval.Denied); err != nil {
			t.Fatal(err)
		}
		if _, err := s.File(t.Context(), application(20), time.Hour, bounds, event("request.file")); err != nil {
			t.Errorf("after one was decided: %v", err)
		}
	})

	t.Run("lists are newest first, and their pages fit together", func(t *testing.T) {
		s := open(t)
		for i := range byte(7) {
			a := application(i + 1)
			if i%2 == 1 {
				a.Request.Profile = "server"
			}
			expires := time.Hour
			if i == 6 {
				expires = -time.Hour
			}
			file(t, s, a, expires)
		}
		if _, err := decide(s, application(3).ID, approval.Pending, approval.Approved); err != nil {
			t.Fatal(err)
		}
		numbers := func(f approval.Filter, before ca.ApprovalID, limit int) (list []byte) {
			t.Helper()
			found, err := s.Applications(t.Context(), f, before, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range found {
				list = append(list, a.ID[5])
			}
			return list
		}
		for _, c := range []struct {
			what   string
			filter approval.Filter
			before ca.ApprovalID
			limit  int
			want   []byte
		}{
			{"all", approval.Filter{}, ca.ApprovalID{}, 10, []byte{7, 6, 5, 4, 3, 2, 1}},
			{"first page", approval.Filter{}, ca.ApprovalID{}, 3, []byte{7, 6, 5}},
			{"second page", approval.Filter{}, application(5).ID, 3, []byte{4, 3, 2}},
			{"pending", approval.Filter{State: approval.Pending}, ca.ApprovalID{}, 10, []byte{6, 5, 4, 2, 1}},
			{"approved", approval.Filter{State: approval.Approved}, ca.ApprovalID{}, 10, []byte{3}},
			{"expired", approval.Filter{State: approval.Expired}, ca.ApprovalID{}, 10, []byte{7}},
			{"of a profile", approval.Filter{Profiles: []string{"server"}}, ca.ApprovalID{}, 10, []byte{6, 4, 2}},
			{"of two profiles", approval.Filter{Profiles: []string{"server", "code-signing"}}, ca.ApprovalID{}, 2, []byte{7, 6}},
			{"of another account", approval.Filter{Account: "mail"}, ca.ApprovalID{}, 10, nil},
		} {
			if got := numbers(c.filter, c.before, c.limit); !slices.Equal(got, c.want) {
				t.Errorf("%s: %v, want %v", c.what, got, c.want)
			}
		}
	})

	t.Run("a request id is used once", func(t *testing.T) {
		b := newBooks(t, open(t))
		a := application(1)
		a.Request.RequestID = "r1"
		file(t, b.s, a, time.Hour)
		found, err := b.s.FindRequest(t.Context(), "web", "r1")
		if err != nil || found.Approval != a.ID || found.Digest != a.Request.Digest() || found.Certificate.DER != nil {
			t.Errorf("%+v, %v", found, err)
		}
		again := application(2)
		again.Request.RequestID = "r1"
		if _, err := b.s.File(t.Context(), again, time.Hour, wide, event("request.file")); pki.KindOf(err) != pki.KindConflict {
			t.Errorf("filed twice: %v", err)
		}
		if _, err := b.s.Application(t.Context(), again.ID); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("what was refused is there: %v", err)
		}
		r := b.reserve(1, 16, time.Minute)
		direct := b.entry(r, 0)
		direct.RequestID = "r1"
		other := b.entry(r, 1)
		other.RequestID = "r2"
		if got := b.record(1, direct, other); got[0] != ca.RequestUsed || got[1] != ca.Recorded {
			t.Errorf("outcomes %v", got)
		}
		again.Request.RequestID = "r2"
		if _, err := b.s.File(t.Context(), again, time.Hour, wide, event("request.file")); pki.KindOf(err) != pki.KindConflict {
			t.Errorf("the id of a certificate: %v", err)
		}
		if n, err := b.s.ForgetRequests(t.Context(), 10); n != 0 || err != nil {
			t.Errorf("forgot %d, %v", n, err)
		}
	})

	t.Run("recording takes the approval, once", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 64, time.Minute)
		for i := range byte(3) {
			file(t, b.s, application(i+1), time.Hour)
		}
		approved := func(index uint64, id ca.ApprovalID) ca.Entry {
			e := b.entry(r, index)
			e.Approval = id
			return e
		}
		late := approval.Decision{ID: application(3).ID, From: approval.Pending, To: approval.Approved, By: "token:boss", Expires: -time.Second, Event: event("request.decide")}
		if _, err := b.s.Decide(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		if got := b.record(1, approved(3, late.ID)); got[0] != ca.ApprovalUsed {
			t.Errorf("approved, and not issued in time: %v", got)
		}
		if got := b.record(1, approved(0, application(1).ID), b.entry(r, 1), approved(2, ca.ApprovalID{5})); got[0] != ca.ApprovalUsed || got[1] != ca.Recorded || got[2] != ca.ApprovalUsed {
			t.Errorf("before the approval: %v", got)
		}
		for i := range byte(2) {
			if _, err := decide(b.s, application(i+1).ID, approval.Pending, approval.Approved); err != nil {
				t.Fatal(err)
			}
		}
		outcomes := make([]ca.Outcome, 12)
		var wg sync.WaitGroup
		for i := range outcomes {
			wg.Go(func() { outcomes[i] = b.record(1, approved(uint64(10+i), application(1).ID))[0] })
		}
		wg.Wait()
		winner := slices.Index(outcomes, ca.Recorded)
		for i, outcome := range outcomes {
			if i != winner && outcome != ca.ApprovalUsed {
				t.Errorf("caller %d: %v beside winner %d", i, outcome, winner)
			}
		}
		got, err := b.s.Application(t.Context(), application(1).ID)
		if err != nil || got.State != approval.Issued || got.Position != (pki.Position{Epoch: r.Epoch, Index: uint64(10 + winner)}) || got.Issuer != r.Issuer || got.Serial != b.serial(r, uint64(10+winner)) {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := decide(b.s, application(1).ID, approval.Approved, approval.Refused); pki.KindOf(err) != pki.KindFailedPrecondition {
			t.Errorf("refused after it was issued: %v", err)
		}
	})

	t.Run("after a restore what was open is expired", func(t *testing.T) {
		s := open(t)
		for i := range byte(3) {
			file(t, s, application(i+1), time.Hour)
		}
		for i, to := range []approval.State{approval.Approved, approval.Denied} {
			if _, err := decide(s, application(byte(i+1)).ID, approval.Pending, to); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Advance(t.Context(), "system:restore", []audit.Event{event("database.restore")}); err != nil {
			t.Fatal(err)
		}
		for i, want := range []approval.State{approval.Expired, approval.Denied, approval.Expired} {
			if a, err := s.Application(t.Context(), application(byte(i+1)).ID); err != nil || a.State != want {
				t.Errorf("request %d is %s, want %s: %v", i+1, a.State, want, err)
			}
		}
		if claimed, err := s.Claim(t.Context(), time.Minute, 10); err != nil || len(claimed) != 0 {
			t.Errorf("claimed %v, %v", claimed, err)
		}
	})

	t.Run("claims keep others away", func(t *testing.T) {
		s := open(t)
		for i := range byte(5) {
			file(t, s, application(i+1), 3*time.Hour)
		}
		for i := range byte(3) {
			a, err := decide(s, application(i+1).ID, approval.Pending, approval.Approved) // with a claim that has passed
			if err != nil || a.ExpiresAt.Sub(a.DecidedAt) != time.Hour {
				t.Fatalf("decided at %s, to be issued until %s, want an hour: %v", a.DecidedAt, a.ExpiresAt, err)
			}
		}
		if _, err := s.Decide(t.Context(), approval.Decision{ID: application(5).ID, From: approval.Pending, To: approval.Approved, By: "token:boss", Expires: time.Hour,
			Claim: time.Minute, Event: event("request.decide")}); err != nil { // whoever decided is issuing it
			t.Fatal(err)
		}
		var mu sync.Mutex
		var all []byte
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				claimed, err := s.Claim(t.Context(), time.Minute, 2)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, a := range claimed {
					all = append(all, a.ID[5])
				}
			})
		}
		wg.Wait()
		slices.Sort(all)
		if !slices.Equal(all, []byte{1, 2, 3}) {
			t.Errorf("claimed %v, want each approved one once", all)
		}
	})

	t.Run("what is postponed is not claimed before its time, and says why", func(t *testing.T) {
		s := open(t)
		for i := range byte(3) {
			file(t, s, application(i+1), 3*time.Hour)
			if i == 2 { // it is pending
				break
			}
			if _, err := decide(s, application(i+1).ID, approval.Pending, approval.Approved); err != nil { // with a claim that has passed
				t.Fatal(err)
			}
		}
		begun := time.Now()
		for i, pause := range []time.Duration{time.Hour, 0, 0} {
			id := application(byte(i + 1)).ID
			if err := s.Postpone(t.Context(), &approval.Application{ID: id}, "its issuer is disabled", pause); err != nil {
				t.Fatal(err)
			}
			a, err := s.Application(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if i == 2 {
				if a.State != approval.Pending || a.Delay != "" || !a.NextTry.IsZero() {
					t.Errorf("what is pending was postponed: %+v", a)
				}
				continue
			}
			if after, before := begun.Add(pause-time.Hour/2), time.Now().Add(pause+time.Hour/2); a.State != approval.Approved || a.Delay != "its issuer is disabled" || a.Pause != pause || a.NextTry.Before(after) || a.NextTry.After(before) {
				t.Errorf("postponed by %s: %+v", pause, a)
			}
		}
		claimed, err := s.Claim(t.Context(), time.Minute, 10)
		if err != nil || len(claimed) != 1 || claimed[0].ID != application(2).ID || claimed[0].Delay != "its issuer is disabled" {
			t.Errorf("claimed %+v, %v", claimed, err)
		}
		if a, err := decide(s, application(1).ID, approval.Approved, approval.Denied); err != nil || !a.NextTry.IsZero() {
			t.Errorf("denied: %+v, %v", a, err)
		}
	})

	t.Run("an issuer that becomes active ends what was postponed", func(t *testing.T) {
		s := open(t)
		for i := range byte(2) { // the second is being issued for the first time
			file(t, s, application(i+1), 3*time.Hour)
			if _, err := s.Decide(t.Context(), approval.Decision{ID: application(i + 1).ID, From: approval.Pending, To: approval.Approved, By: "token:boss", Expires: 2 * time.Hour,
				Claim: time.Hour, Event: event("request.decide")}); err != nil {
				t.Fatal(err)
			}
		}
		key := pki.KeyHash{8}
		issuer := ca.Issuer{ID: key.Issuer(), Label: "below", KeyURI: "softkey:below", Subject: []byte{0x30, 0}, SPKI: []byte{0x30, 0}, KeyHash: key, State: ca.IssuerPending,
			BaseURL: "http://pki.test", CreatedAt: time.Now()}
		certified := func(n byte) error {
			certificate := ca.IssuerCertificate{DER: []byte{0x30, 1, n}, NotAfter: time.Now().Add(time.Hour), AddedAt: time.Now()}
			return s.AddIssuerCertificate(t.Context(), issuer.ID, certificate, event("issuer.certificate"))
		}
		set := func(state ca.IssuerState) error {
			return s.SetIssuerState(t.Context(), issuer.ID, state, event("issuer.state"))
		}
		for _, step := range []struct {
			what  string
			do    func() error
			wakes bool
		}{
			{"it is made", func() error { return s.CreateIssuer(t.Context(), issuer, event("issuer.create")) }, false},
			{"its first certificate", func() error { return certified(1) }, true},
			{"another certificate", func() error { return certified(2) }, false},
			{"it is active already", func() error { return set(ca.IssuerActive) }, false},
			{"it is disabled", func() error { return set(ca.IssuerDisabled) }, false},
			{"a certificate of a disabled one", func() error { return certified(3) }, false},
			{"it is active again", func() error { return set(ca.IssuerActive) }, true},
		} {
			tried, err := s.Application(t.Context(), application(1).ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Postpone(t.Context(), &tried, "no issuing CA is active", time.Hour); err != nil {
				t.Fatal(err)
			}
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.what, err)
			}
			tried.Pause = time.Hour
			if err := s.Postpone(t.Context(), &tried, "as before", 2*time.Hour); err != nil { // of an attempt that began before
				t.Fatal(err)
			}
			pause := 2 * time.Hour
			if step.wakes {
				pause = 0
			}
			if tried, err = s.Application(t.Context(), tried.ID); err != nil || tried.Pause != pause || tried.Delay != "as before" {
				t.Errorf("%s: %+v, %v; want the pause %s", step.what, tried, err, pause)
			}
			claimed, err := s.Claim(t.Context(), time.Hour, 10)
			if woken := len(claimed) == 1 && claimed[0].ID == tried.ID; err != nil || woken != step.wakes || !woken && len(claimed) > 0 {
				t.Errorf("%s: claimed %+v, %v; want it claimed: %t", step.what, claimed, err, step.wakes)
			}
		}
	})

	t.Run("what ended long ago is forgotten, with its request id", func(t *testing.T) {
		s := open(t)
		for i, expires := range []time.Duration{-time.Hour, -3 * time.Hour, time.Hour, time.Hour} {
			a := application(byte(i + 1))
			a.Request.RequestID = fmt.Sprint("r", i+1)
			file(t, s, a, expires)
		}
		if _, err := decide(s, application(3).ID, approval.Pending, approval.Denied); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Forget(t.Context(), 2*time.Hour, 10); n != 1 || err != nil {
			t.Errorf("forgot %d, want the one that expired before the last two hours: %v", n, err)
		}
		if _, err := s.FindRequest(t.Context(), "web", "r2"); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("its request id is still used: %v", err)
		}
		if _, err := s.FindRequest(t.Context(), "web", "r1"); err != nil {
			t.Errorf("another's request id: %v", err)
		}
		for want := 1; want >= 0; want-- {
			if n, err := s.Forget(t.Context(), -time.Minute, 1); n != 1 || err != nil {
				t.Errorf("forgot %d in a bounded batch: %v", n, err)
			}
		}
		left, err := s.Applications(t.Context(), approval.Filter{}, ca.ApprovalID{}, 10)
		if err != nil || len(left) != 1 || left[0].ID != application(4).ID {
			t.Errorf("left %v, want the pending one: %v", left, err)
		}
	})
}
