package ca_test

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// fate is what has to become of the indices that a process says it is at when it is killed.
type fate string

const (
	isVoid     fate = "void"
	isRecorded fate = "recorded"
	isEither   fate = "recorded or void"
	isFree     fate = "free"
)

// steps are where a process is killed. It stays where it says it is, but for "in": there it goes on, and is killed when that is heard.
var steps = []struct {
	name     string
	othersGo bool // other callers are given certificates meanwhile
	fate     fate
}{
	{"after Reserve", true, isVoid},
	{"after the signature", true, isVoid},
	{"before Record", false, isVoid}, // one transaction at a time: the others wait behind it
	{"in Record", false, isEither},
	{"after Record", false, isRecorded},
	{"before CloseRange", true, isRecorded},
	{"in CloseRange", false, isRecorded},
	{"after CloseRange", true, isRecorded},
	{"stop, before CloseRange", false, isVoid},
	{"stop, after CloseRange", false, isFree},
}

const (
	load      = 60 // certificates that left a process before it comes to its step
	untilStep = -1 // of read

	fallsAsleep = "falls asleep before Record" // by SIGSTOP, and goes on after SIGCONT
)

// stepping is the store of a process that is to be killed at a step: it says so, once, with the serials that the step is about.
type stepping struct {
	store.Store
	step    string
	issued  atomic.Int64
	stopped atomic.Bool // callers are to come no more
	said    atomic.Bool

	output sync.Mutex

	mu       sync.Mutex
	reserved map[ca.RangeID]ca.Range // guarded by mu
}

func (s *stepping) say(line string) {
	s.output.Lock()
	defer s.output.Unlock()
	fmt.Println(line)
}

// reach stays at a step, if it is the one and there has been load.
func (s *stepping) reach(step string, about ...string) {
	if step != s.step || s.issued.Load() < load || !s.said.CompareAndSwap(false, true) {
		return
	}
	s.say("at " + strings.Join(about, " "))
	switch {
	case step == fallsAsleep:
		awake := make(chan os.Signal, 1)
		signal.Notify(awake, syscall.SIGCONT)
		if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
			panic(err)
		}
		<-awake // this thread may run on for a moment after another one has taken the signal
	case !strings.HasPrefix(step, "in "):
		select {}
	}
}

func (s *stepping) Reserve(ctx context.Context, r ca.Reservation) (ca.Range, error) {
	reserved, err := s.Store.Reserve(ctx, r)
	if err != nil {
		return reserved, err
	}
	s.mu.Lock()
	s.reserved[reserved.ID] = reserved
	s.mu.Unlock()
	var indices []string
	for index := reserved.From; index < reserved.To; index++ {
		indices = append(indices, fmt.Sprintf("%d/%d", reserved.Epoch, index))
	}
	s.reach("after Reserve", indices...)
	return reserved, nil
}

func (s *stepping) Record(ctx context.Context, owner ca.OwnerID, entries []ca.Entry) ([]ca.Outcome, error) {
	var serials []string
	for _, e := range entries {
		serials = append(serials, e.Serial.String())
	}
	s.reach(fallsAsleep, serials...)
	s.reach("before Record", serials...)
	s.reach("in Record", serials...)
	outcomes, err := s.Store.Record(ctx, owner, entries)
	s.reach("after Record", serials...)
	return outcomes, err
}

// CloseRange is called for a range that is used up, and for what a stop gives back.
func (s *stepping) CloseRange(ctx context.Context, c ca.Closing) (int, error) {
	s.mu.Lock()
	reserved, ours := s.reserved[c.Range]
	s.mu.Unlock()
	if !ours { // of a process that was killed before
		return s.Store.CloseRange(ctx, c)
	}
	when, serials := "", []string(nil)
	for _, run := range c.Unsigned {
		when = "stop, "
		for index := run.From; index < run.To; index++ {
			serials = append(serials, c.Serials[index-reserved.From].String())
		}
	}
	if when == "" {
		for _, serial := range c.Serials {
			serials = append(serials, serial.String())
		}
	}
	s.reach(when+"before CloseRange", serials...)
	s.reach("in "+when+"CloseRange", serials...)
	voids, err := s.Store.CloseRange(ctx, c)
	s.reach(when+"after CloseRange", serials...)
	return voids, err
}

// steppingKeys opens keys that know the step after a signature.
type steppingKeys struct {
	keys.Store
	steps *stepping
}

func (k *steppingKeys) Open(ctx context.Context, uri string) (*keys.Key, error) {
	key, err := k.Store.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	return &keys.Key{Signer: steppingKey{key.Signer, k.steps}, URI: key.URI, Secret: key.Secret}, nil
}

type steppingKey struct {
	crypto.Signer
	steps *stepping
}

// Sign is asked with the whole TBSCertificate by whoever signs with Ed25519, so it can tell the serial.
func (k steppingKey) Sign(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := k.Signer.Sign(random, message, opts)
	if err != nil {
		return nil, err
	}
	tbs, serial, number := cryptobyte.String(message), cryptobyte.String(nil), cryptobyte.String(nil)
	if tbs.ReadASN1(&serial, asn1.SEQUENCE) && serial.SkipOptionalASN1(asn1.Tag(0).Constructed().ContextSpecific()) && serial.ReadASN1(&number, asn1.INTEGER) {
		if named, err := pki.SerialFromBytes(number); err == nil {
			k.steps.reach("after the signature", named.String())
		}
	}
	return signature, nil
}

// kill -9 at each step of issuing and of stopping, under load: what was signed and not recorded is void, by its serial; what was recorded is
// not; and what was reserved for nothing is void, or free if it was given back.
func TestKilledAtEachStep(t *testing.T) {
	for name, database := range databases(t) {
		t.Run(name, func(t *testing.T) {
			work, issuers, reopen := prepareTown(t, database)
			released, about := make(map[pki.Serial]bool), make(map[string]string)
			for _, step := range steps {
				work.Step = step.name
				c := startChild(t, work)
				c.read(t, untilStep)
				if step.othersGo {
					c.read(t, len(c.out)+20)
				}
				if err := c.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				c.read(t, 0)
				_ = c.cmd.Wait() // killed
				if c.at == "" {
					t.Fatalf("the process never came to its step %q", step.name)
				}
				about[step.name] = c.at
				for serial := range c.out {
					if released[serial] = true; strings.Contains(c.at, serial.String()) && strings.HasSuffix(step.name, "Record") && step.name != "in Record" {
						t.Errorf("%s: %s left the process", step.name, serial)
					}
				}
			}
			w, s := reopen()
			signs, err := w.Issuer(work.Issuer)
			if err != nil {
				t.Fatal(err)
			}
			reconcileUntilClosed(t, w, s)
			b := readBooks(t, s)
			b.check(t, issuers)
			b.checkReleased(t, released)
			for _, step := range steps {
				for _, index := range strings.Fields(about[step.name]) {
					if got := b.fateOf(t, signs, index); got != step.fate && (step.fate != isEither || got != isVoid && got != isRecorded) {
						t.Errorf("%s: %s is %q, want %q", step.name, index, got, step.fate)
					}
				}
			}
			if _, err := w.issue(w.Authority, ca.Request{Profile: "server", Issuer: signs.ID, CSR: csr(t, newKey(t), "after.example.com")}); err != nil {
				t.Errorf("after the kills: %v", err)
			}
		})
	}
}

// fateOf finds an index of an issuer by "epoch/index", or by its serial.
func (b books) fateOf(t *testing.T, issuer ca.Issuer, index string) fate {
	t.Helper()
	at := place{issuer: issuer.ID}
	if _, err := fmt.Sscanf(index, "%d/%d", &at.Epoch, &at.Index); err != nil {
		serial, err := pki.ParseSerial(index)
		if err != nil {
			t.Fatal(err)
		}
		at.Position, _ = serial.Unmask(issuer.KeyHash)
		for _, named := range []map[place]pki.Serial{b.recorded, b.void} {
			if is, ok := named[at]; ok && is != serial {
				t.Errorf("%s is in the books as %s", serial, is)
			}
		}
	}
	if _, ok := b.recorded[at]; ok {
		return isRecorded
	}
	if _, ok := b.void[at]; ok {
		return isVoid
	}
	for _, r := range b.ranges {
		if r.Issuer == issuer.ID && r.Epoch == at.Epoch && r.From <= at.Index && at.Index < r.To && r.State == revocation.RangeFree {
			return isFree
		}
	}
	return ""
}
