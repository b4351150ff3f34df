package ca_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/storetest"
)

// A range that could not be closed is no fault of whoever asks for the next index; it is closed later.
func TestRangeThatIsNotClosedFailsNobody(t *testing.T) {
	for _, fault := range storetest.Faults {
		t.Run(fault.String(), func(t *testing.T) {
			faulty := &storetest.Faulty{Store: testdb.SQLite(t)}
			w := newTown(t, faulty)
			request := server(t, "a.example.com")
			for range 16 {
				w.mustIssue(request)
			}
			faulty.Fail("CloseRange", fault)
			w.mustIssue(request)
			if faulty.Pending() {
				t.Fatal("no range was closed")
			}
			if err := w.TestingOnlyTick(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := w.shape(t); got != "0-16 closed 16-48 open " {
				t.Errorf("ranges: %q", got)
			}
		})
	}
}

// A range that was reserved although the answer says otherwise is given back, by a tick or by the stop: its lease is renewed with the
// others, and when nobody does any more everything in it would be void.
func TestReservationWithoutAnswer(t *testing.T) {
	for _, fault := range storetest.Faults {
		for what, end := range map[string]func(*testing.T, *ca.Authority) error{
			"tick": func(t *testing.T, a *ca.Authority) error { return a.TestingOnlyTick(t.Context()) },
			"stop": func(t *testing.T, a *ca.Authority) error { return a.Close(t.Context()) },
		} {
			t.Run(fault.String()+", "+what, func(t *testing.T) {
				testdb.Each(t, func(t *testing.T, s store.Store) {
					faulty := &storetest.Faulty{Store: s}
					w := newTown(t, faulty)
					request := server(t, "a.example.com")
					faulty.Fail("Reserve", fault)
					_, err := w.issue(w.Authority, request)
					wantError(t, err, pki.KindUnavailable, "")
					w.mustIssue(request)
					if err := end(t, w.Authority); err != nil {
						t.Fatal(err)
					}
					if err := w.Close(t.Context()); err != nil {
						t.Fatal(err)
					}
					want := "0-1 closed 1-16 free "
					if fault == storetest.FailAfter {
						want = "0-16 free 16-17 closed 17-32 free "
					}
					if got := w.shape(t); got != want {
						t.Errorf("ranges: %q, want %q", got, want)
					}
				})
			})
		}
	}
}

// frozen is a store whose database closes no range; whoever waited for it was told so when end came.
type frozen struct {
	store.Store
	end   func() // nil: it closes them
	calls int
}

func (f *frozen) CloseRange(ctx context.Context, c ca.Closing) (int, error) {
	if f.end == nil {
		return f.Store.CloseRange(ctx, c)
	}
	f.calls++
	f.end()
	return 0, &pki.Error{Kind: pki.KindUnavailable, Op: "close range", Err: context.DeadlineExceeded}
}

// A stop asks a database that is frozen to close no range after its time is over, and those that it leaves can be closed yet.
func TestStopWithADatabaseThatIsFrozen(t *testing.T) {
	for _, answered := range []bool{true, false} { // the reservations: there are ranges that could not be closed, or that are missing
		testdb.Each(t, func(t *testing.T, s store.Store) {
			faulty := &storetest.Faulty{Store: s}
			f := &frozen{Store: faulty}
			w := newTown(t, f)
			for _, label := range []string{"one", "two", "three"} {
				request := server(t, "a.example.com")
				request.Issuer = w.create(newIssuer(label, label, w.root)).ID
				if answered {
					w.mustIssue(request)
					continue
				}
				faulty.Fail("Reserve", storetest.FailAfter)
				_, err := w.issue(w.Authority, request)
				wantError(t, err, pki.KindUnavailable, "")
			}
			if answered {
				f.end = func() {}
				if err := w.Close(t.Context()); err == nil || f.calls < 3 {
					t.Fatalf("%d ranges could not be closed: %v", f.calls, err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			f.end, f.calls = cancel, 0
			if err := w.Close(ctx); err == nil || f.calls != 1 {
				t.Errorf("asked %d times, %v; want one, during which the time was over", f.calls, err)
			}
			f.end = nil
			if err := w.Close(t.Context()); err != nil {
				t.Error(err)
			}
			for r, err := range s.ChangedRanges(t.Context(), 0, time.Time{}) {
				if err != nil || r.State == revocation.RangeOpen {
					t.Errorf("%d-%d of %s is open: %v", r.From, r.To, r.Issuer, err)
				}
			}
		})
	}
}

// leaving is a store whose database goes on with a reservation although the caller is gone.
type leaving struct {
	store.Store
	leave func() // the caller goes away
}

func (l *leaving) Reserve(ctx context.Context, r ca.Reservation) (ca.Range, error) {
	l.leave()
	if err := ctx.Err(); err != nil {
		return ca.Range{}, err
	}
	return l.Store.Reserve(ctx, r)
}

// Whoever goes away while a range is reserved leaves it to those who come after; who is gone before has none reserved.
func TestCallersThatGoAwayWasteNoRange(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		ctx, leave := context.WithCancel(t.Context())
		a := w.instance(&leaving{s, leave})
		request := server(t, "a.example.com")
		grant := w.grant(web, auth.ActionIssue, request.Profile)
		for range 2 { // the second has gone before
			_, _ = a.Issue(ctx, grant, request) // nobody waits for the answer
			if got := w.shape(t); got != "0-16 open " {
				t.Errorf("ranges: %q", got)
			}
		}
		if err := w.instance(s).TestingOnlyTake(ctx, w.issuing); pki.KindOf(err) != pki.KindUnavailable {
			t.Errorf("an index for somebody who went away in the queue: %v", err)
		}
		if got := w.shape(t); got != "0-16 open " {
			t.Errorf("ranges: %q", got)
		}
	})
}

// forgetful is a store that gives out the id of the first range again, or one before it, as a database does that went back.
type forgetful struct {
	store.Store
	before ca.RangeID
	mu     sync.Mutex
	first  ca.RangeID
}

func (f *forgetful) Reserve(ctx context.Context, r ca.Reservation) (ca.Range, error) {
	got, err := f.Store.Reserve(ctx, r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == 0 {
		f.first = got.ID
		return got, err
	}
	got.ID = f.first - f.before
	return got, err
}

// An id that comes a second time, or after a later one, is a database that went back: nothing is signed in the range, and nothing after it.
func TestRangeIDGivenOutTwice(t *testing.T) {
	for before, want := range map[ca.RangeID]string{0: "range 3 is given out after range 3", 1: "range 2 is given out after range 3"} {
		s := testdb.SQLite(t)
		w := newTown(t, s)
		a := w.instance(&forgetful{Store: s, before: before})
		request := server(t, "a.example.com")
		for range 16 {
			if _, err := w.issue(a, request); err != nil {
				t.Fatal(err)
			}
		}
		_, err := w.issue(a, request)
		wantError(t, err, pki.KindFailedPrecondition, "")
		if !strings.Contains(err.Error(), "went back") || !strings.Contains(err.Error(), want) {
			t.Errorf("it says %v, want %q", err, want)
		}
		_, err = w.issue(a, request)
		wantError(t, err, pki.KindUnavailable, "")
	}
}

// busy is a store in which closing the ranges of others does not end, and which tells when leases were renewed.
type busy struct {
	store.Store
	closing, end chan struct{}
	renewed      chan struct{}
}

func (b *busy) ExpiredRanges(ctx context.Context, after ca.RangeID, limit int) ([]ca.Range, error) {
	close(b.closing)
	<-b.end
	return nil, nil
}

func (b *busy) RenewLeases(ctx context.Context, owner ca.OwnerID, lease time.Duration) (int, error) {
	<-b.closing
	select {
	case b.renewed <- struct{}{}:
	case <-ctx.Done():
	}
	return b.Store.RenewLeases(ctx, owner, lease)
}

// However long it takes to see to what others left, the leases of this process are renewed in time.
func TestLeasesWaitForNothing(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	b := &busy{Store: w.store, closing: make(chan struct{}), end: make(chan struct{}), renewed: make(chan struct{})}
	a, err := ca.New(t.Context(), ca.Config{Profiles: w.profiles, Keys: w.keys, Issuers: b, Ranges: b, Certificates: b, Inventory: b, Audit: b, Lease: 3 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx, nil) }()
	for range 3 {
		select {
		case <-b.renewed:
		case <-time.After(time.Minute):
			t.Fatal("no lease is renewed while the ranges of others are closed")
		}
	}
	cancel()
	close(b.end)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The rule on reused keys sees every certificate, however many the account itself has.
func TestReuseLooksBeyondManyCertificates(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	a := w.withProfiles(t, map[string]string{"own": "keys: {reuse: account}\n"})
	other := auth.Principal{ID: "token:other", Account: "other", Role: auth.RoleRequester}
	ask := func(who auth.Principal, profile string, request ca.Request) error {
		request.Profile = profile
		_, err := a.Issue(t.Context(), w.grant(who, auth.ActionIssue, profile), request)
		return err
	}
	first, last := server(t, "a.example.com"), server(t, "a.example.com")
	if err := ask(other, "server", first); err != nil {
		t.Fatal(err)
	}
	for range 101 {
		for _, request := range []ca.Request{first, last} {
			if err := ask(web, "server", request); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := ask(web, "own", last); err != nil {
		t.Errorf("a key that is the account's own: %v", err)
	}
	if err := ask(other, "server", last); err != nil {
		t.Fatal(err)
	}
	for _, request := range []ca.Request{first, last} {
		wantError(t, ask(web, "own", request), pki.KindRefused, "csr")
	}
}

// The path lengths of the whole chain count, also above an issuer whose own certificate has none.
func TestCAsBelow(t *testing.T) {
	key := newKey(t)
	certificate := func(subject, issuer string, length int) []byte {
		t.Helper()
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject}, IsCA: true, BasicConstraintsValid: true, MaxPathLen: length, MaxPathLenZero: length == 0}
		der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{Subject: pkix.Name{CommonName: issuer}}, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, test := range []struct {
		name  string
		chain [][]byte
		want  int
	}{
		{"none", [][]byte{certificate("a", "r", -1), certificate("r", "r", -1)}, -1},
		{"its own", [][]byte{certificate("a", "r", 0), certificate("r", "r", -1)}, 0},
		{"of the root, one above", [][]byte{certificate("a", "r", -1), certificate("r", "r", 1)}, 0},
		{"of the root, two above", [][]byte{certificate("b", "a", -1), certificate("a", "r", 5), certificate("r", "r", 4)}, 2},
		{"used up", [][]byte{certificate("b", "a", 3), certificate("a", "r", -1), certificate("r", "r", 1)}, 0},
		{"self-issued is not counted", [][]byte{certificate("b", "a", -1), certificate("a", "a", -1), certificate("a", "r", 2)}, 1},
		{"a root's own", [][]byte{certificate("r", "r", 3)}, 3},
	} {
		if got, err := ca.TestingOnlyCAsBelow(test.chain); err != nil || got != test.want {
			t.Errorf("%s: %d, %v; want %d", test.name, got, err, test.want)
		}
	}
}

// gated is a store whose recordings wait at a gate.
type gated struct {
	store.Store
	entered, gate chan struct{}
}

func (g *gated) Record(ctx context.Context, owner ca.OwnerID, entries []ca.Entry) ([]ca.Outcome, error) {
	g.entered <- struct{}{}
	<-g.gate
	return g.Store.Record(ctx, owner, entries)
}

// A range is not closed before what was signed in it is recorded, and then at once; what was not used is given back.
func TestRangeWaitsForWhatIsInFlight(t *testing.T) {
	s := testdb.SQLite(t)
	w := newTown(t, s)
	g := &gated{Store: s, entered: make(chan struct{}), gate: make(chan struct{})}
	a := w.instance(g)
	request := server(t, "a.example.com")
	issued := make(chan error, 1)
	go func() {
		_, err := w.issue(a, request)
		issued <- err
	}()
	<-g.entered
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.shape(t); got != "0-16 open " {
		t.Errorf("while a certificate is being recorded: %q", got)
	}
	close(g.gate)
	if err := <-issued; err != nil {
		t.Errorf("what was in flight: %v", err)
	}
	if got := w.shape(t); got != "0-1 closed 1-16 free " {
		t.Errorf("afterwards: %q", got)
	}
}

// Whoever halts for a database that went back leaves the ranges to others, and gives out nothing.
func TestHaltLeavesTheRanges(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	a := w.instance(w.store)
	request := server(t, "a.example.com")
	if _, err := w.issue(a, request); err != nil {
		t.Fatal(err)
	}
	a.Halt()
	_, err := w.issue(a, request)
	wantError(t, err, pki.KindUnavailable, "")
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.shape(t); got != "0-16 open " {
		t.Errorf("ranges: %q", got)
	}
}

// What was not signed is told exactly: an index between two of them was.
func TestRuns(t *testing.T) {
	for _, test := range []struct {
		sorted []uint64
		want   []ca.Run
	}{
		{nil, nil},
		{[]uint64{5}, []ca.Run{{From: 5, To: 6}}},
		{[]uint64{0, 1, 2, 4, 7, 8}, []ca.Run{{From: 0, To: 3}, {From: 4, To: 5}, {From: 7, To: 9}}},
	} {
		if got := ca.TestingOnlyRuns(test.sorted); !slices.Equal(got, test.want) {
			t.Errorf("%v: %v, want %v", test.sorted, got, test.want)
		}
	}
}
