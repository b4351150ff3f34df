package ca_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/postgres"
	"signet.example/signet/store/sqlite"
)

// books reads everything that was ever decided about indices.
type books struct {
	recorded map[place]pki.Serial
	void     map[place]pki.Serial
	ranges   []revocation.Range
}

type place struct {
	issuer pki.IssuerID
	pki.Position
}

func readBooks(t *testing.T, s store.Store) books {
	t.Helper()
	b := books{recorded: make(map[place]pki.Serial), void: make(map[place]pki.Serial)}
	cursor := ""
	for {
		page, err := s.ListCertificates(t.Context(), inventory.Filter{}, cursor, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Certificates {
			b.recorded[place{c.Issuer, c.Position}] = c.Serial
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	var after uint64
	for {
		entries, err := s.LedgerEntries(t.Context(), after, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if after = e.Seq; e.Kind == revocation.KindVoid {
				b.void[place{e.Issuer, e.Position}] = e.Serial
			}
		}
		if len(entries) == 0 {
			break
		}
	}
	for r, err := range s.ChangedRanges(t.Context(), 0, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		b.ranges = append(b.ranges, r)
	}
	return b
}

// check demands of every index that was ever reserved and whose range is closed: recorded or void, not both, and with
// the serial that the range key gives. Free indices are neither.
func (b books) check(t *testing.T, issuers []ca.Issuer) {
	t.Helper()
	keys := make(map[pki.IssuerID]pki.KeyHash)
	for _, issuer := range issuers {
		keys[issuer.ID] = issuer.KeyHash
	}
	for _, r := range b.ranges {
		for index := r.From; index < r.To; index++ {
			at := place{r.Issuer, pki.Position{Epoch: r.Epoch, Index: index}}
			recorded, isRecorded := b.recorded[at]
			void, isVoid := b.void[at]
			switch {
			case isRecorded && isVoid:
				t.Errorf("%v is recorded and void", at)
			case r.State == revocation.RangeFree && (isRecorded || isVoid):
				t.Errorf("%v is free and recorded or void", at)
			case r.State == revocation.RangeClosed && !isRecorded && !isVoid:
				t.Errorf("%v is neither recorded nor void", at)
			case r.State == revocation.RangeClosed && isRecorded && !recorded.Matches(r.Key, keys[r.Issuer]),
				r.State == revocation.RangeClosed && isVoid && !void.Matches(r.Key, keys[r.Issuer]):
				t.Errorf("the serial of %v is not the one of its range key", at)
			}
		}
	}
}

// One certificate an hour for a week, over ten epochs of expiry, on three instances that restart every day, leaves no
// void index: clean stops give back what they did not use.
func TestAWeekOfOneCertificateAnHourLeavesNoVoid(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		request := server(t, "slow.example.com")
		grant := w.grant(web, auth.ActionIssue, "server")
		var instances []*ca.Authority
		for hour := range 7 * 24 {
			if hour%24 == 0 {
				for _, a := range instances {
					if err := a.Close(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				instances = []*ca.Authority{w.instance(s), w.instance(s), w.instance(s)}
			}
			request.Lifetime = time.Duration(hour%10*7+1) * 24 * time.Hour
			if _, err := instances[hour%3].Issue(t.Context(), grant, request); err != nil {
				t.Fatal(err)
			}
			w.clock.advance(time.Hour)
		}
		for _, a := range append(instances, w.Authority) {
			if err := a.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		b := readBooks(t, s)
		b.check(t, w.Issuers())
		if len(b.void) != 0 || len(b.recorded) != 7*24+2 {
			t.Errorf("%d recorded, %d void", len(b.recorded), len(b.void))
		}
		for _, r := range b.ranges {
			if r.State == revocation.RangeOpen {
				t.Errorf("a range is open: %+v", r)
			}
		}
	})
}

// The child issues as fast as it can and says which serials left it.
const childVariable = "SIGNET_TEST_ISSUE"

// work is what a child is to do.
type work struct {
	Database string
	KeyDir   string
	Lease    time.Duration
	Issuer   pki.IssuerID
	Step     string // at which it is to be killed, of steps; empty: anywhere
}

// childMain is the process that is killed.
func childMain(arguments string) error {
	var w work
	if err := json.Unmarshal([]byte(arguments), &w); err != nil {
		return err
	}
	ctx := context.Background()
	opened, err := openStore(ctx, w.Database)
	if err != nil {
		return err
	}
	s := &stepping{Store: opened, step: w.Step, reserved: make(map[ca.RangeID]ca.Range)}
	softkeys, err := softkey.New(softkey.Config{Dir: w.KeyDir, Passphrase: []byte("correct horse")})
	if err != nil {
		return err
	}
	profiles, err := profile.Open("")
	if err != nil {
		return err
	}
	a, err := ca.New(ctx, ca.Config{
		Profiles: profiles, Keys: &steppingKeys{softkeys, s}, Issuers: s, Ranges: s, Certificates: s, Inventory: s, Audit: s, Lease: w.Lease,
	})
	if err != nil {
		return err
	}
	go a.Run(ctx, nil)
	request, err := os.ReadFile(filepath.Join(w.KeyDir, "request.der"))
	if err != nil {
		return err
	}
	grant, err := web.Authorize(auth.ActionIssue, "server")
	if err != nil {
		return err
	}
	var callers sync.WaitGroup
	for i := range 8 {
		lifetime := time.Duration(1+i%2*7) * 24 * time.Hour // of two weeks: one goes on while a range of the other is waited for
		callers.Go(func() {
			for !s.stopped.Load() {
				issued, err := a.Issue(ctx, grant, ca.Request{Profile: "server", Issuer: w.Issuer, CSR: request, Lifetime: lifetime})
				if err != nil {
					s.say("error " + pki.KindOf(err).String())
				} else {
					s.say("issued " + issued.Serial.String())
					s.issued.Add(1)
				}
			}
		})
	}
	if strings.HasPrefix(w.Step, "stop") {
		for s.issued.Load() < load {
			time.Sleep(time.Millisecond)
		}
		s.stopped.Store(true)
		if err := a.Close(ctx); err != nil {
			return err
		}
	}
	callers.Wait()
	return nil
}

func openStore(ctx context.Context, database string) (store.Store, error) {
	if strings.HasSuffix(database, ".db") {
		return sqlite.Open(ctx, sqlite.Config{Path: database, Unsafe: true})
	}
	return postgres.Open(ctx, postgres.Config{URL: database, Unsafe: true, MaxConns: 8})
}

// child is a process that issues.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	out   map[pki.Serial]bool
	at    string // what it said last about the step at which it is to be killed
}

func startChild(t *testing.T, w work) *child {
	t.Helper()
	asked, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(asked))
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it is gone already, as a rule
	return &child{cmd: cmd, lines: bufio.NewScanner(stdout), out: make(map[pki.Serial]bool)}
}

// read reads what the child says until enough certificates have left it, or, with enough 0, until it is gone.
func (c *child) read(t *testing.T, enough int) {
	t.Helper()
	for c.lines.Scan() {
		if said, ok := strings.CutPrefix(c.lines.Text(), "at "); ok {
			if c.at = said; enough == untilStep {
				return
			}
		}
		if text, ok := strings.CutPrefix(c.lines.Text(), "issued "); ok {
			serial, err := pki.ParseSerial(text)
			if err != nil {
				return // the last line, cut off
			}
			c.out[serial] = true
		}
		if enough > 0 && len(c.out) >= enough {
			return
		}
	}
}

func (b books) checkReleased(t *testing.T, released map[pki.Serial]bool) {
	t.Helper()
	recorded := make(map[pki.Serial]bool)
	for _, serial := range b.recorded {
		recorded[serial] = true
	}
	for serial := range released {
		if !recorded[serial] {
			t.Errorf("%s left the process and is not recorded", serial)
		}
	}
}

// prepareTown makes the issuers and closes the database again, for a child to open.
func prepareTown(t *testing.T, database string) (child work, issuers []ca.Issuer, reopen func() (*town, store.Store)) {
	t.Helper()
	s, err := openStore(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	keyDir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(keyDir, 0o700); err != nil {
		t.Fatal(err)
	}
	softkeys, err := softkey.New(softkey.Config{Dir: keyDir, Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	w := newTownWith(t, s, softkeys)
	edwards := newIssuer("edwards", "Edwards", w.root)
	edwards.Algorithm = keys.Ed25519
	signs := w.create(edwards)
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(keyDir, "request.der"), csr(t, newKey(t), "a.example.com"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	child = work{Database: database, KeyDir: keyDir, Lease: 500 * time.Millisecond, Issuer: signs.ID}
	return child, w.Issuers(), func() (*town, store.Store) {
		s, err := openStore(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() }) // the test is over
		again := *w
		again.store = s
		again.Authority = again.instance(s)
		return &again, s
	}
}

// reconcileUntilClosed waits out the leases of processes that are gone.
func reconcileUntilClosed(t *testing.T, w *town, s store.Store) {
	t.Helper()
	for range 1200 {
		if _, err := w.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		open := 0
		for _, r := range readBooks(t, s).ranges {
			if r.State == revocation.RangeOpen {
				open++
			}
		}
		if open == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond) // a lease is counted by the database's clock, which no test moves
	}
	t.Fatal("the ranges of a killed process stay open")
}

func databases(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{"sqlite": filepath.Join(t.TempDir(), "signet.db"), "postgres": testdb.URL(t)}
}

// kill -9 while certificates are made: everything that left is recorded, and every index of the ranges that were open
// is recorded or void.
func TestKilledWhileIssuing(t *testing.T) {
	for name, database := range databases(t) {
		t.Run(name, func(t *testing.T) {
			work, issuers, reopen := prepareTown(t, database)
			released := make(map[pki.Serial]bool)
			for round := range 3 {
				c := startChild(t, work)
				c.read(t, 1+round*97)
				if err := c.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				c.read(t, 0)
				_ = c.cmd.Wait() // killed
				for serial := range c.out {
					released[serial] = true
				}
			}
			w, s := reopen()
			reconcileUntilClosed(t, w, s)
			b := readBooks(t, s)
			b.check(t, issuers)
			b.checkReleased(t, released)
			t.Logf("%d left, %d recorded, %d void", len(released), len(b.recorded), len(b.void))
			if _, err := w.issue(w.Authority, ca.Request{Profile: "server", Issuer: work.Issuer, CSR: csr(t, newKey(t), "after.example.com")}); err != nil {
				t.Errorf("after the crash: %v", err)
			}
		})
	}
}

// A process that stands still past its lease, with certificates signed and not recorded, and wakes up: it releases nothing from the ranges it
// lost, what it had signed is void, and it goes on with new ranges.
func TestStoppedPastItsLease(t *testing.T) {
	database := testdb.URL(t)
	work, issuers, reopen := prepareTown(t, database)
	w, s := reopen()
	work.Step = fallsAsleep
	c := startChild(t, work)
	c.read(t, untilStep)
	asleep := strings.Fields(c.at)
	reconcileUntilClosed(t, w, s)
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.read(t, len(c.out)+150)
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.read(t, 0)
	_ = c.cmd.Wait() // killed
	reconcileUntilClosed(t, w, s)
	b := readBooks(t, s)
	b.check(t, issuers)
	b.checkReleased(t, c.out)
	signs, err := w.Issuer(work.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	if len(asleep) == 0 {
		t.Error("nothing was signed when it fell asleep")
	}
	for _, serial := range asleep {
		if got := b.fateOf(t, signs, serial); got != isVoid {
			t.Errorf("%s was signed before the sleep, and is %q", serial, got)
		}
	}
}

// PostgreSQL loses its power under load. What was released is there when it is back; the rest is recorded or void, and
// issuing goes on without a restart.
func TestPostgresIsKilledWhileIssuing(t *testing.T) {
	database := testdb.Durable(t)
	s := testdb.Open(t, database.URL(t))
	w := newTown(t, s)
	request, grant := server(t, "a.example.com"), w.grant(web, auth.ActionIssue, "server")
	released := make(map[pki.Serial]bool)
	var mu sync.Mutex
	var wg sync.WaitGroup
	enough, done := make(chan struct{}), make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				issued, err := w.Issue(context.Background(), grant, request)
				mu.Lock()
				if err == nil {
					if released[issued.Serial] = true; len(released) == 60 {
						close(enough)
					}
				} else if kind := pki.KindOf(err); kind != pki.KindUnavailable {
					t.Errorf("while the database is away: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	database.Kill(t)
	close(done)
	wg.Wait()
	database.Start(t)
	issued, err := w.issue(w.Authority, request)
	for tries := 0; err != nil && tries < 50; tries++ { // dead connections are found one by one
		issued, err = w.issue(w.Authority, request)
	}
	if err != nil {
		t.Fatal(err)
	}
	released[issued.Serial] = true
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := readBooks(t, s)
	b.check(t, w.Issuers())
	b.checkReleased(t, released)
	t.Logf("%d left, %d recorded, %d void", len(released), len(b.recorded), len(b.void))
}
