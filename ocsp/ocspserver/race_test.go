package ocspserver_test

import (
	"context"
	"crypto"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// TestFirstReadAfterAcknowledgement: readers ask about certificates while these are revoked. A request that arrives
// after the revocation was acknowledged gets "revoked", whatever other requests are being answered at that moment.
func TestFirstReadAfterAcknowledgement(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db store.Store) {
		s := newSystem(t, db, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		const certificates = 6
		var acknowledged [certificates]atomic.Bool
		request := func(i int) []byte { return requestFor(t, s.one, crypto.SHA256, nil, s.closed.serial(uint64(i))) }
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i = (i + 1) % certificates {
					must := acknowledged[i].Load()
					reply := s.responder.Answer(context.Background(), "POST", path(s.one), request(i))
					response, err := ocsp.ParseResponse(reply.Body)
					if err != nil || response.Status != ocsp.Successful {
						t.Errorf("reply %+v, %v", reply, err)
						return
					}
					if got := response.Answers[0].Status; must && got != pki.StatusRevoked {
						t.Errorf("certificate %d is %s after its revocation was acknowledged", i, got)
						return
					}
				}
			})
		}
		for i := range certificates {
			s.revoke(t, s.one.id, s.closed.serial(uint64(i)), pki.KeyCompromise)
			acknowledged[i].Store(true)
			if r := s.verify(t, s.ask(t, s.one, crypto.SHA256, s.closed.serial(uint64(i))), s.one, s.closed.serial(uint64(i))); r.Status != pki.StatusRevoked {
				t.Errorf("certificate %d is %s on the first read", i, r.Status)
			}
		}
		cancel()
		wg.Wait()
	})
}

// TestWithoutFollowing: when nothing tells the responder of changes, kept answers are compared with the universe.
func TestWithoutFollowing(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	s.stopFollowing()
	serial, other := s.closed.serial(1), s.closed.serial(2)
	for range 2 {
		for _, serial := range []pki.Serial{serial, other} {
			if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial); r.Status != pki.StatusGood {
				t.Fatalf("%+v", r)
			}
		}
	}
	s.revoke(t, s.one.id, serial, pki.Superseded)
	if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial); r.Status != pki.StatusRevoked {
		t.Errorf("%+v", r)
	}
	kept := s.responder.Stats().Kept
	if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, other), s.one, other); r.Status != pki.StatusGood || s.responder.Stats().Kept != kept+1 {
		t.Errorf("the other certificate was not answered from memory: %+v", r)
	}
}

// TestAskedBeforeTheEventIsFollowed: an answer that was made after an event is kept when the event is followed.
func TestAskedBeforeTheEventIsFollowed(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	const certificates = 200 // the responder follows at once: a few of them are asked for before
	for i := range uint64(certificates) {
		s.revoke(t, s.one.id, s.closed.serial(i), pki.Superseded)
		s.ask(t, s.one, crypto.SHA1, s.closed.serial(i))
	}
	s.catchUp(t)
	if stats := s.responder.Stats(); stats.Answers != certificates {
		t.Errorf("%d answers are kept of %d: %+v", stats.Answers, certificates, stats)
	}
}

// slow is a Universe whose answers are held back after they were computed: a flight begun before an event ends after
// it.
type slow struct {
	ocspserver.Universe
	held    chan struct{} // closed when the first answer is held
	release chan struct{}
	first   atomic.Bool
}

func (u *slow) Lookup(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (revocation.Answer, error) {
	answer, err := u.Universe.Lookup(ctx, issuer, serial)
	if !u.first.Swap(true) {
		close(u.held)
		<-u.release
	}
	return answer, err
}

// TestFlightBegunBeforeAnEvent: the answer goes to the caller that began the flight before the event. It is not given
// to later callers, and is not kept.
func TestFlightBegunBeforeAnEvent(t *testing.T) {
	u := &slow{held: make(chan struct{}), release: make(chan struct{})}
	s := newSystem(t, testdb.SQLite(t), func(c *ocspserver.Config, _ []ocspserver.Issuer) { u.Universe, c.Universe = c.Universe, u })
	serial := s.closed.serial(1)
	early := make(chan ocspserver.Reply)
	go func() { early <- s.ask(t, s.one, crypto.SHA1, serial) }()
	<-u.held
	s.revoke(t, s.one.id, serial, pki.KeyCompromise)
	s.catchUp(t)
	if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial); r.Status != pki.StatusRevoked {
		t.Errorf("during the flight: %+v", r)
	}
	close(u.release)
	if r := s.verify(t, <-early, s.one, serial); r.Status != pki.StatusGood {
		t.Errorf("who asked before: %+v", r)
	}
	if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial); r.Status != pki.StatusRevoked {
		t.Errorf("after the flight: %+v", r)
	}
}

// TestNobodyJoinsAnOlderFlight: a signature in progress is not shared with callers that ask after a later event.
func TestNobodyJoinsAnOlderFlight(t *testing.T) {
	d := stuck{entered: make(chan struct{}, 100), release: make(chan struct{})}
	s := newSystem(t, testdb.SQLite(t), func(c *ocspserver.Config, _ []ocspserver.Issuer) {
		c.Signatures = 2
		d.Delegates = c.Delegates
		c.Delegates = d
	})
	serial := s.closed.serial(1)
	early, late := make(chan ocspserver.Reply, 1), make(chan ocspserver.Reply, 1)
	go func() { early <- s.ask(t, s.one, crypto.SHA1, serial) }()
	<-d.entered
	s.revoke(t, s.one.id, serial, pki.KeyCompromise)
	go func() { late <- s.ask(t, s.one, crypto.SHA1, serial) }()
	<-d.entered // a signature of its own
	close(d.release)
	if r := s.verify(t, <-late, s.one, serial); r.Status != pki.StatusRevoked {
		t.Errorf("who asked after the event: %+v", r)
	}
	if r := s.verify(t, <-early, s.one, serial); r.Status != pki.StatusGood {
		t.Errorf("who asked before: %+v", r)
	}
	if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial); r.Status != pki.StatusRevoked {
		t.Errorf("after both: %+v", r)
	}
}

// unborn is a Universe to whose first question a certificate is not issued yet.
type unborn struct {
	ocspserver.Universe
	asked atomic.Bool
}

func (u *unborn) Lookup(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (revocation.Answer, error) {
	answer, err := u.Universe.Lookup(ctx, issuer, serial)
	if !u.asked.Swap(true) {
		answer.Issuance, answer.Status = revocation.NeverIssued, pki.StatusUnknown
	}
	return answer, err
}

// TestNobodyJoinsAFlightOfBeforeIssuance: "never issued" in progress is not given to callers that ask when the serial
// has been issued.
func TestNobodyJoinsAFlightOfBeforeIssuance(t *testing.T) {
	d := stuck{entered: make(chan struct{}, 100), release: make(chan struct{})}
	s := newSystem(t, testdb.SQLite(t), func(c *ocspserver.Config, issuers []ocspserver.Issuer) {
		issuers[0].Public = false
		c.Signatures = 2
		c.Universe = &unborn{Universe: c.Universe}
		d.Delegates = c.Delegates
		c.Delegates = d
	})
	serial := s.closed.serial(1)
	early, late := make(chan ocspserver.Reply, 1), make(chan ocspserver.Reply, 1)
	go func() { early <- s.ask(t, s.one, crypto.SHA1, serial) }()
	<-d.entered
	go func() { late <- s.ask(t, s.one, crypto.SHA1, serial) }()
	select {
	case <-d.entered: // a signature of its own
		close(d.release)
	case <-time.After(time.Minute):
		close(d.release)
		t.Error("it joined the flight")
	}
	if r := s.verify(t, <-late, s.one, serial); r.Status != pki.StatusGood {
		t.Errorf("who asked when it was issued: %+v", r)
	}
	if r := s.verify(t, <-early, s.one, serial); r.Status != pki.StatusRevoked {
		t.Errorf("who asked before: %+v", r)
	}
}

// crashing is Delegates that panic once they are let go.
type crashing struct{ stuck }

func (d crashing) Current(pki.IssuerID) (*ocspserver.Delegate, error) {
	d.entered <- struct{}{}
	<-d.release
	panic("a fault in the signer")
}

// TestCrashInTheSigner: callers that waited for a signature that ended in a panic are answered, and its place is free
// again.
func TestCrashInTheSigner(t *testing.T) {
	d := crashing{stuck{entered: make(chan struct{}, 100), release: make(chan struct{})}}
	s := newSystem(t, testdb.SQLite(t), func(c *ocspserver.Config, _ []ocspserver.Issuer) {
		c.Signatures = 1
		c.Delegates = d
	})
	serial := s.closed.serial(1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	replies := make(chan ocspserver.Reply, 2)
	ask := func() {
		defer func() {
			if recover() != nil {
				replies <- ocspserver.Reply{}
			}
		}()
		replies <- s.responder.Answer(ctx, "POST", path(s.one), requestFor(t, s.one, crypto.SHA1, nil, serial))
	}
	go ask()
	<-d.entered
	go ask()
	time.Sleep(50 * time.Millisecond) // to join; if it comes later it crashes alone, and nothing is shown
	close(d.release)
	for range 2 {
		if r := <-replies; r.Body != nil && outcome(t, r) != ocsp.InternalError {
			t.Errorf("who waited was answered %s", outcome(t, r))
		}
	}
	if ctx.Err() != nil {
		t.Error("who waited was not answered")
	}
}

// TestOnlyHotAnswersAreMadeAgain: of what an event names, only what was in demand is signed at once.
func TestOnlyHotAnswersAreMadeAgain(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	hot, cold, never := s.closed.serial(1), s.closed.serial(2), s.closed.serial(3)
	for range 3 {
		s.ask(t, s.one, crypto.SHA256, hot)
	}
	s.ask(t, s.one, crypto.SHA256, cold)
	for _, serial := range []pki.Serial{hot, cold, never} {
		s.revoke(t, s.one.id, serial, pki.Superseded)
	}
	s.catchUp(t)
	eventually(t, "the hot answer is there again", func() bool { return s.responder.Stats().Refreshed == 1 })
	if stats := s.responder.Stats(); stats.Signed != 3 || stats.Answers != 1 {
		t.Errorf("stats %+v", stats)
	}
	if r := s.verify(t, s.ask(t, s.one, crypto.SHA256, hot), s.one, hot); r.Status != pki.StatusRevoked || s.responder.Stats().Signed != 3 {
		t.Errorf("hot: %+v", r)
	}
}

// TestBoundedMemory: the cache stays within its bound however many certificates are asked for.
func TestBoundedMemory(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), func(c *ocspserver.Config, _ []ocspserver.Issuer) { c.Answers = 128 })
	for i := range uint64(1000) {
		s.ask(t, s.one, crypto.SHA1, s.closed.serial(i))
	}
	if n := s.responder.Stats().Answers; n > 128 || n < 64 {
		t.Errorf("%d answers are kept, want at most 128", n)
	}
}

// stuck is a Delegates that does not come back until released.
type stuck struct {
	ocspserver.Delegates
	entered chan struct{}
	release chan struct{}
}

func (d stuck) Current(issuer pki.IssuerID) (*ocspserver.Delegate, error) {
	d.entered <- struct{}{}
	<-d.release
	return d.Delegates.Current(issuer)
}

// TestOverload: beyond the queue every caller gets tryLater at once, callers that wait for one certificate share one
// signature, and answers in memory are still given.
func TestOverload(t *testing.T) {
	d := stuck{entered: make(chan struct{}, 100), release: make(chan struct{})}
	s := newSystem(t, testdb.SQLite(t), func(c *ocspserver.Config, _ []ocspserver.Issuer) {
		c.Signatures, c.Queue, c.Patience, c.RetryAfter = 1, 3, time.Minute, 1500*time.Millisecond
		d.Delegates = c.Delegates
		c.Delegates = d
	})
	go func() { <-d.entered; d.release <- struct{}{} }()
	kept := s.closed.serial(0)
	s.ask(t, s.one, crypto.SHA1, kept)

	var wg sync.WaitGroup
	ask := func(serial pki.Serial) {
		wg.Go(func() {
			if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial); r.Status != pki.StatusGood {
				t.Errorf("%+v", r)
			}
		})
	}
	ask(s.closed.serial(1))
	<-d.entered // it holds the only place
	for i := range uint64(3) {
		ask(s.closed.serial(2 + i))
	}
	eventually(t, "a full queue", func() bool { return s.responder.Stats().Waiting == 3 })
	for range 5 {
		ask(s.closed.serial(1)) // joins the flight: needs no place
	}
	reply := s.ask(t, s.one, crypto.SHA1, s.closed.serial(9))
	if outcome(t, reply) != ocsp.TryLater || reply.RetryAfter != "2" {
		t.Errorf("past the queue: %+v", reply)
	}
	if got := outcome(t, s.ask(t, s.one, crypto.SHA1, s.closed.serial(10), s.closed.serial(11))); got != ocsp.TryLater {
		t.Errorf("several past the queue: %s", got)
	}
	if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, kept), s.one, kept); r.Status != pki.StatusGood {
		t.Errorf("kept, under overload: %+v", r)
	}
	close(d.release)
	wg.Wait()
	if stats := s.responder.Stats(); stats.Signed != 5 || stats.TryLater != 2 || stats.Waiting != 0 {
		t.Errorf("stats %+v", stats)
	}
}

// broken is a Universe whose database does not answer: only what needs no database is known.
type broken struct {
	ocspserver.Universe
	down atomic.Bool
	open pki.Serial // of a range that is open
}

func (u *broken) Lookup(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (revocation.Answer, error) {
	if u.down.Load() && serial == u.open {
		return revocation.Answer{}, pki.Errorf(pki.KindUnavailable, "look up certificate", "the database does not answer")
	}
	return u.Universe.Lookup(ctx, issuer, serial)
}

// TestDatabaseDown: answers go on from memory, dated by when the database last answered, until they would end.
func TestDatabaseDown(t *testing.T) {
	u := new(broken)
	s := newSystem(t, testdb.SQLite(t), func(c *ocspserver.Config, _ []ocspserver.Issuer) { u.Universe, c.Universe = c.Universe, u })
	u.open = s.open.serial(1000)
	known, asked := s.closed.serial(1), s.closed.serial(2)
	for _, serial := range []pki.Serial{u.open, asked} {
		s.ask(t, s.one, crypto.SHA1, serial)
	}
	s.advance(time.Minute)
	s.silent.Store(int64(time.Minute))
	u.down.Store(true)
	s.advance(20 * time.Minute)
	for name, serial := range map[string]pki.Serial{"kept, of an open range": u.open, "kept": asked, "not asked for before": known} {
		if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial); r.Status != pki.StatusGood || r.ThisUpdate.After(start.Add(time.Minute)) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if got := outcome(t, s.ask(t, s.one, crypto.SHA256, u.open)); got != ocsp.TryLater {
		t.Errorf("what only the database can tell: %s", got)
	}
	s.advance(40*time.Minute - time.Second)
	for name, serial := range map[string]pki.Serial{"kept, of an open range": u.open, "kept": asked, "another": s.closed.serial(3)} {
		if got := outcome(t, s.ask(t, s.one, crypto.SHA1, serial)); got != ocsp.TryLater {
			t.Errorf("%s, after its end: %s", name, got)
		}
	}
	u.down.Store(false)
	s.silent.Store(0)
	if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, u.open), s.one, u.open); r.Status != pki.StatusGood || !r.ThisUpdate.Equal(s.now()) {
		t.Errorf("with the database back: %+v", r)
	}
}
