package handshake_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// sharing returns a Checker over a directory, as another process would have it.
func sharing(t *testing.T, p *handshaketest.PKI, dir string) *handshake.Checker {
	t.Helper()
	fetcher, err := fetch.New(fetch.Config{Dir: dir, Allow: handshaketest.Loopback, Now: p.Now})
	if err != nil {
		t.Fatal(err)
	}
	return p.Checker(func(c *handshake.Config) { c.Policy, c.Fetcher = handshake.SoftFail, fetcher })
}

// TestRevocationOutlivesProcess: a certificate that was seen revoked stays so, in later processes and in those that run
// already, although no source can be asked any more.
func TestRevocationOutlivesProcess(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp noaia; root -> other nocdp noaia")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	good := leaf.OCSP(handshaketest.OCSP{Life: 24 * time.Hour})
	running := sharing(t, p, dir)
	if _, err := running.Check(t.Context(), leaf.Chain(), good); err != nil {
		t.Fatal(err)
	}
	leaf.Revoke(1)
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); outcomeOf(t, err) != handshaketest.RevokedOutcome {
		t.Fatal(err)
	}
	p.Off()
	later := sharing(t, p, dir)
	p.Advance(2 * time.Second)
	for name, checker := range map[string]*handshake.Checker{"one that runs": running, "a later one": later} {
		r, err := checker.Check(t.Context(), leaf.Chain(), good) // a replay
		if outcomeOf(t, err) != handshaketest.RevokedOutcome {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := r.Certificates[0].Decisive; d.Source != handshake.SourceMemory || d.Reason != 1 || d.RevokedAt.IsZero() {
			t.Errorf("%s: the evidence is %+v", name, d)
		}
	}
	if _, err := later.Check(t.Context(), p.Cert("other").Chain(), nil); err != nil {
		t.Errorf("another certificate: %v", err)
	}
}

// TestOthersRevocationCuts: a revocation that another process has seen ends our connections too.
func TestOthersRevocationCuts(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp noaia")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	ours := sharing(t, p, dir)
	config, err := ours.WrapClient(p.ClientConfig(leaf))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", p.Listen(p.ServerConfig(leaf, nil)), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := ours.Track(conn); err != nil {
		t.Fatal(err)
	}
	leaf.Revoke(1)
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err == nil {
		t.Fatal("not revoked")
	}
	p.Advance(2 * time.Second)
	ours.Recheck(t.Context())
	if err := handshaketest.Echo(conn); err == nil {
		t.Error("the connection lives on")
	}
}

// closing is a connection that tells when it is closed.
type closing struct {
	net.Conn
	closed func()
}

func (c closing) Close() error {
	c.closed()
	return c.Conn.Close()
}

// guarded returns a client whose connection to a server with the leaf's certificate reports when it is closed.
func guarded(t *testing.T, p *handshaketest.PKI, checker *handshake.Checker, leaf *handshaketest.Cert, closed func()) *tls.Conn {
	t.Helper()
	raw, err := net.Dial("tcp", p.Listen(p.ServerConfig(leaf, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	guard := handshake.NewGuard(closing{raw, closed})
	config, err := checker.WrapClientConn(t.Context(), guard, p.ClientConfig(leaf))
	if err != nil {
		t.Fatal(err)
	}
	return tls.Client(guard, config)
}

// TestConnectionsBeforeTheDisk: connections over a revoked certificate are closed before the revocation is written for
// other processes, because a disk may be slow, or hang.
func TestConnectionsBeforeTheDisk(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp noaia")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	checker := sharing(t, p, dir)
	written := func() int {
		facts, err := os.ReadDir(filepath.Join(dir, "facts"))
		if err != nil {
			t.Error(err)
		}
		return len(facts)
	}
	closed, before := 0, 0
	client := guarded(t, p, checker, leaf, func() { closed++; before += written() })
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	leaf.Revoke(1)
	if _, err := checker.Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err == nil {
		t.Fatal("not revoked")
	}
	if closed != 1 || before != 0 || written() != 1 {
		t.Errorf("closed %d times, with %d facts written before and %d after", closed, before, written())
	}
}

// TestConnectionsBeforeTheList: connections are closed before the list or the answer that says revoked is written: by a
// round, by the check of another peer, and by the background refresh of a check.
func TestConnectionsBeforeTheList(t *testing.T) {
	for _, drawing := range []string{"root -> leaf noaia", "root -> leaf nocdp"} {
		for _, reason := range []int{1, int(pki.CertificateHold)} {
			for _, who := range []string{"round", "check", "refresh"} {
				if who != "round" && reason != 1 {
					continue // only a round closes for a hold
				}
				p := handshaketest.New(t, drawing)
				leaf, dir := p.Cert("leaf"), t.TempDir()
				checker := sharing(t, p, dir)
				written := func() int {
					objects, err := os.ReadDir(filepath.Join(dir, "objects"))
					if err != nil {
						t.Error(err)
					}
					return len(objects)
				}
				var closed, before atomic.Int64
				client := guarded(t, p, checker, leaf, func() { closed.Add(1); before.Add(int64(written())) })
				if who != "refresh" { // without cached status nothing is refreshed in the background
					p.Off()
				}
				if err := client.Handshake(); err != nil {
					t.Fatal(err)
				}
				p.On()
				idle(t, checker)
				had := written()
				leaf.Revoke(reason)
				p.Advance(13 * time.Hour) // past half the life of the cached status
				if who == "round" {
					checker.Recheck(t.Context())
				} else {
					_, _ = checker.Check(t.Context(), leaf.Chain(), nil) // the connections are looked at
					idle(t, checker)
				}
				if closed.Load() != 1 || before.Load() != int64(had) || written() != had+1 {
					t.Errorf("%s, reason %d, %s: closed %d times, with %d objects written at first, %d before and %d after", drawing, reason, who, closed.Load(), had, before.Load(), written())
				}
			}
		}
	}
}

// hangingDisk returns a Fetcher that hangs when it writes a revocation, a context that ends when it does, and what ends
// the hanging.
func hangingDisk(t *testing.T, p *handshaketest.PKI) (fetcher *fetch.Fetcher, writes context.Context, release func()) {
	t.Helper()
	hang := make(chan struct{})
	writes, reached := context.WithCancel(t.Context())
	var full atomic.Bool // of facts: another makes it count them
	fetcher, err := fetch.New(fetch.Config{Dir: t.TempDir(), MaxFacts: 1, Allow: handshaketest.Loopback, Now: func() time.Time {
		if full.Load() && strings.Contains(string(debug.Stack()), ".room(") {
			reached()
			<-hang
		}
		return p.Now()
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := fetcher.Remember(fetch.Fact{Name: "another", Until: p.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	p.Advance(2 * time.Minute) // it counts once a minute
	return fetcher, writes, sync.OnceFunc(func() { close(hang) })
}

// TestRunWhileDiskHangs: connections are watched while a round's revocations hang on their way to the disk: those of the
// same chain, and of others than the sixteen that are asked about at once.
func TestRunWhileDiskHangs(t *testing.T) {
	for name, drawing := range map[string]string{
		"the same chain": "root -> int -> leaf noaia",
		"other chains":   "root -> leaf noaia; root -> int",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			others := []string{"int"}
			if name == "other chains" {
				for i := range 16 {
					others = append(others, fmt.Sprintf("other%d", i))
					drawing += fmt.Sprintf("; root -> other%d noaia", i)
				}
			}
			p := handshaketest.New(t, drawing)
			fetcher, writes, release := hangingDisk(t, p)
			leaf := p.Cert("leaf")
			checker := p.Checker(func(c *handshake.Config) {
				c.Fetcher, c.Recheck = fetcher, 10*time.Millisecond
				if name == "the same chain" { // its intermediate closes nothing
					c.Issuers = []handshake.Issuer{{Certificate: p.Cert("root").Certificate, Policy: handshake.ReportOnly}}
				}
			})
			conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
			for _, other := range others {
				if other != "int" {
					tracked(t, p, checker, p.Cert(other), p.Cert(other).TLS(nil))
				}
				p.Cert(other).Revoke(1)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- checker.Run(ctx) }()
			t.Cleanup(func() {
				release()
				cancel()
				<-done
			})
			<-writes.Done()
			leaf.Revoke(1)
			if !closedSoon(conn) {
				t.Error("the connection lives on")
			}
		})
	}
}

// TestRoundWritesBesideItself: what a round has fetched is written by somebody else, and Recheck waits for that when all
// chains were judged.
func TestRoundWritesBesideItself(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	checker := sharing(t, p, dir)
	conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
	idle(t, checker)
	written := func() int {
		objects, err := filepath.Glob(filepath.Join(dir, "objects", "*"))
		if err != nil {
			t.Error(err)
		}
		return len(objects)
	}
	before := written()
	leaf.Revoke(1)
	release := checker.TestingOnlyHoldDisk()
	done := make(chan struct{})
	go func() { checker.Recheck(t.Context()); close(done) }()
	if !closedSoon(conn) {
		t.Error("the connection lives on")
	}
	for until := time.Now().Add(time.Minute); checker.TestingOnlyUnwritten() < 2 && time.Now().Before(until); { // the revocation, and the answer
		time.Sleep(time.Millisecond)
	}
	if n := written(); n != before {
		t.Errorf("%d objects are written, and not %d", n, before)
	}
	release()
	<-done
	if n := written(); n != before+1 {
		t.Errorf("%d objects were written, and not %d", n, before+1)
	}
}

// TestLateAnswerIsWritten: an answer that comes when its round or its check has ended with that of another responder is
// written too.
func TestLateAnswerIsWritten(t *testing.T) {
	for name, ask := range map[string]func(*handshake.Checker, []*x509.Certificate){
		"round": func(c *handshake.Checker, _ []*x509.Certificate) { c.Recheck(t.Context()) },
		"check": func(c *handshake.Checker, chain []*x509.Certificate) { _, _ = c.Check(t.Context(), chain, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			written := 0
			for try := 0; try < 10 && written != 2; try++ { // on a slow machine nobody waits for the late answer any more
				written = lateAnswers(t, ask)
			}
			if written != 2 {
				t.Errorf("%d answers are written", written)
			}
		})
	}
}

// lateAnswers asks two responders, of whom the first answers when ask has returned, and returns how many answers are on
// disk in the end.
func lateAnswers(t *testing.T, ask func(*handshake.Checker, []*x509.Certificate)) int {
	t.Helper()
	p := handshaketest.New(t, "root -> leaf nocdp noaia")
	leaf, dir, late := p.Cert("leaf"), t.TempDir(), make(chan struct{})
	good := leaf.OCSP(handshaketest.OCSP{})
	p.Replace("/1.ocsp", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-late
		_, _ = w.Write(good)
	}))
	p.Replace("/2.ocsp", handshaketest.Bytes(good))
	fetcher, err := fetch.New(fetch.Config{Dir: dir, Allow: handshaketest.Loopback, Now: p.Now})
	if err != nil {
		t.Fatal(err)
	}
	checker := p.Checker(func(c *handshake.Config) {
		c.Fetcher, c.Budget = fetcher, time.Minute
		c.Issuers = []handshake.Issuer{{Certificate: p.Cert("root").Certificate, OCSP: []string{p.URL + "/1.ocsp", p.URL + "/2.ocsp"}}}
	})
	trackedByHand(t, p, checker, leaf)
	ask(checker, leaf.Chain())
	close(late)
	idle(t, checker)
	refs, err := filepath.Glob(filepath.Join(dir, "refs", "*", "*"))
	if err != nil {
		t.Error(err)
	}
	return len(refs)
}

// TestDiskThatHangs: a revocation is believed before it is written for others, although the budget ends, or another
// responder answers, while the disk hangs.
func TestDiskThatHangs(t *testing.T) {
	for name, test := range map[string]struct {
		drawing string
		replay  bool // by a second responder, when the first has answered
	}{
		"a list":                {"root -> leaf noaia", false},
		"a responder":           {"root -> leaf nocdp", false},
		"one of two responders": {"root -> leaf nocdp", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := handshaketest.New(t, test.drawing)
			leaf := p.Cert("leaf")
			fetcher, writes, release := hangingDisk(t, p)
			issuer, ctx := handshake.Issuer{Certificate: p.Cert("root").Certificate}, writes
			if test.replay {
				good := leaf.OCSP(handshaketest.OCSP{})
				issuer.OCSP, ctx = []string{p.URL + "/root.ocsp", p.URL + "/2.ocsp"}, t.Context()
				p.Replace("/2.ocsp", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					<-writes.Done()
					_, _ = w.Write(good)
				}))
			}
			leaf.Revoke(1)
			checker := p.Checker(func(c *handshake.Config) {
				c.Policy, c.Fetcher, c.Issuers, c.Budget = handshake.SoftFail, fetcher, []handshake.Issuer{issuer}, time.Minute
			})
			t.Cleanup(func() { // the hanging writes still use the directory
				release()
				for until := time.Now().Add(time.Minute); !checker.TestingOnlyIdle(); time.Sleep(time.Millisecond) {
					if time.Now().After(until) {
						t.Fatal("it hangs on")
					}
				}
			})
			r, err := checker.Check(ctx, leaf.Chain(), nil)
			if outcomeOf(t, err) != handshaketest.RevokedOutcome {
				t.Errorf("%v: %v", err, r.Certificates[0].Evidence)
			}
			if writes.Err() == nil {
				t.Error("the disk was not reached")
			}
		})
	}
}

// TestHoldIsNotKept: a hold can be taken back, so it is not written to disk.
func TestHoldIsNotKept(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp noaia hold")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err == nil {
		t.Fatal("not on hold")
	}
	leaf.Release()
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err != nil {
		t.Error(err)
	}
}

// TestFactsOnDisk: a revocation is kept until its certificate ends, and damage or a file under another's name is not
// believed.
func TestFactsOnDisk(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp noaia revoked; root -> other nocdp noaia")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err == nil {
		t.Fatal("not revoked")
	}
	files, err := filepath.Glob(filepath.Join(dir, "facts", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d facts, %v", len(files), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(dir, "facts", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	if err := os.Rename(files[0], moved); err != nil {
		t.Fatal(err)
	}
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Errorf("under another name: %v", err)
	}
	if err := os.WriteFile(files[0], text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Errorf("damaged: %v", err)
	}
	if err := os.WriteFile(files[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), nil); err == nil {
		t.Error("whole again: accepted")
	}
	p.Advance(60 * 24 * time.Hour) // the certificate has expired
	sharing(t, p, dir)
	if _, err := os.Stat(files[0]); !os.IsNotExist(err) {
		t.Errorf("after the end of the certificate: %v, want %v", err, fs.ErrNotExist)
	}
}

// TestWhichAnswerCounts: of two answers of a responder the later one counts, in this process and in a later one; but a
// hold that was signed later, or at the same time, is not taken for the older answer because of its early thisUpdate.
func TestWhichAnswerCounts(t *testing.T) {
	type answer struct {
		status               pki.Status
		produced, thisUpdate time.Duration
	}
	good := func(produced, thisUpdate time.Duration) answer { return answer{pki.StatusGood, produced, thisUpdate} }
	hold := func(produced, thisUpdate time.Duration) answer {
		return answer{pki.StatusRevoked, produced, thisUpdate}
	}
	for name, test := range map[string]struct {
		first, second answer
		want          handshaketest.Outcome
	}{
		"a hold, signed later, dated before":   {good(0, 0), hold(time.Minute, -5*time.Minute), handshaketest.RevokedOutcome},
		"a hold of the same second":            {good(0, 0), hold(0, 0), handshaketest.RevokedOutcome},
		"a hold, replayed":                     {good(time.Minute, time.Minute), hold(0, 0), handshaketest.Accepted},
		"a good of the same second":            {hold(0, 0), good(0, 0), handshaketest.RevokedOutcome},
		"a good, signed later, dated before":   {hold(0, 0), good(time.Minute, -5*time.Minute), handshaketest.RevokedOutcome},
		"a good, dated later, signed before":   {hold(2*time.Minute, 0), good(time.Minute, time.Minute), handshaketest.RevokedOutcome},
		"a release":                            {hold(0, 0), good(time.Minute, time.Minute), handshaketest.Accepted},
		"a good that follows one":              {good(0, 0), good(time.Minute, time.Minute), handshaketest.Accepted},
		"a hold after a good that came before": {good(0, 0), hold(time.Minute, time.Minute), handshaketest.RevokedOutcome},
		"a hold, signed before, dated later":   {good(9*time.Minute, 0), hold(5*time.Minute, 5*time.Minute), handshaketest.RevokedOutcome},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf nocdp")
			leaf, root, dir := p.Cert("leaf"), p.Cert("root"), t.TempDir()
			signer, err := ocsp.NewSigner(root.Key, root.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			issuer, err := ocsp.IssuerOf(root.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			serial, err := ocsp.SerialOf(leaf.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			base := p.Now().Add(-10 * time.Minute).UTC().Truncate(time.Second)
			says := func(a answer) {
				thisUpdate := base.Add(a.thisUpdate)
				said := ocsp.SingleResponse{ID: issuer.CertID(crypto.SHA256, serial), Status: a.status, ThisUpdate: thisUpdate, NextUpdate: thisUpdate.Add(time.Hour)}
				if a.status == pki.StatusRevoked {
					said.Reason, said.RevokedAt = pki.CertificateHold, thisUpdate.Add(-time.Minute)
				}
				der, err := signer.Sign(ocsp.ResponseData{ProducedAt: base.Add(a.produced), Answers: []ocsp.SingleResponse{said}})
				if err != nil {
					t.Fatal(err)
				}
				p.Replace("/root.ocsp", handshaketest.Bytes(der))
			}
			checker := sharing(t, p, dir)
			trackedByHand(t, p, checker, leaf)
			says(test.first)
			_, _ = checker.Check(t.Context(), leaf.Chain(), nil) // whatever comes of it
			says(test.second)
			checker.Recheck(t.Context())
			p.Off()
			for name, checker := range map[string]*handshake.Checker{"this process": checker, "a later one": sharing(t, p, dir)} {
				if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != test.want {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// TestAnswersOfSeveralResponders: of the answers of several responders the later one counts after a restart too,
// whichever responder is asked first.
func TestAnswersOfSeveralResponders(t *testing.T) {
	for name, holdFirst := range map[string]bool{"the first said good, then the second hold": false, "the first said hold, then the second good": true} {
		t.Run(name, func(t *testing.T) {
			p, dir := handshaketest.New(t, "root -> leaf nocdp"), t.TempDir()
			leaf, now := p.Cert("leaf"), p.Now()
			good := leaf.OCSP(handshaketest.OCSP{At: now, Age: 10 * time.Minute})
			leaf.Revoke(6)
			hold := leaf.OCSP(handshaketest.OCSP{At: now, Age: 10 * time.Minute})
			later := handshaketest.OCSP{At: now}
			want := handshaketest.RevokedOutcome
			first, second := good, leaf.OCSP(later)
			if holdFirst {
				later.Force = true // good is zero
				first, second, want = hold, leaf.OCSP(later), handshaketest.Accepted
			}
			checker := func() *handshake.Checker {
				return p.Checker(func(c *handshake.Config) {
					onDisk(t, p, dir)(c)
					c.Policy, c.Issuers = handshake.SoftFail, []handshake.Issuer{{Certificate: p.Cert("root").Certificate, OCSP: []string{p.URL + "/first.ocsp"}}}
				})
			}
			p.Replace("/first.ocsp", handshaketest.Bytes(first))
			running := checker()
			conn, err := tls.Dial("tcp", p.Listen(p.ServerConfig(leaf, nil)), p.ClientConfig(leaf))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = running.Check(t.Context(), leaf.Chain(), nil) // whatever comes of it
			if _, err := running.Track(conn); err != nil {
				t.Fatal(err)
			}
			p.Replace("/first.ocsp", http.NotFoundHandler())
			p.Replace("/root.ocsp", handshaketest.Bytes(second))
			running.Recheck(t.Context())
			p.Off()
			for name, checker := range map[string]*handshake.Checker{"this process": running, "a later one": checker()} {
				if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != want {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// TestOthersRevocationCutsAtOnce: a revocation that another process has seen ends our connections with the next check
// of any chain, not only with the next round.
func TestOthersRevocationCutsAtOnce(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp noaia; root -> other nocdp noaia")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	ours := sharing(t, p, dir)
	conn := tracked(t, p, ours, leaf, leaf.TLS(nil))
	leaf.Revoke(1)
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err == nil {
		t.Fatal("not revoked")
	}
	p.Advance(2 * time.Second)
	if _, err := ours.Check(t.Context(), p.Cert("other").Chain(), nil); err != nil {
		t.Fatal(err)
	}
	if !closedSoon(conn) {
		t.Error("the connection lives on")
	}
}

// TestWhoseRevocation: a revocation is remembered for one serial number under one name and one key, and for no similar
// certificate.
func TestWhoseRevocation(t *testing.T) {
	p, namesake := handshaketest.New(t, "root -> leaf revoked"), handshaketest.New(t, "root -> leaf") // the same names and serial numbers
	leaf, root := p.Cert("leaf"), p.Cert("root")
	checker := p.Checker(func(c *handshake.Config) { c.Policy, c.Network = handshake.SoftFail, handshake.NetworkNever })
	if _, err := checker.Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); outcomeOf(t, err) != handshaketest.RevokedOutcome {
		t.Fatal(err)
	}
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.RevokedOutcome {
		t.Errorf("the certificate itself: %v", err)
	}
	renamed, negative := *root.Certificate, *leaf.Certificate
	renamed.RawSubject = leaf.RawSubject
	negative.SerialNumber = new(big.Int).Neg(leaf.SerialNumber)
	for name, chain := range map[string][]*x509.Certificate{
		"the same name and another key":   namesake.Cert("leaf").Chain(),
		"the same key and another name":   {leaf.Certificate, &renamed},
		"the same number below zero":      {&negative, root.Certificate},
		"the certificate of its issuer's": {root.Certificate, root.Certificate},
	} {
		if _, err := checker.Check(t.Context(), chain, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFactsThatAreNone: in the directory, which others write to, a fact counts only if it is a final revocation of a
// certificate that has not expired.
func TestFactsThatAreNone(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> leaf nocdp noaia revoked"), t.TempDir()
	leaf := p.Cert("leaf")
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err == nil {
		t.Fatal("not revoked")
	}
	reader, err := fetch.New(fetch.Config{Dir: dir, Now: p.Now})
	if err != nil {
		t.Fatal(err)
	}
	facts, err := reader.Recollect().Next()
	if err != nil || len(facts) != 1 {
		t.Fatalf("%d facts, %v", len(facts), err)
	}
	for name, test := range map[string]struct {
		change  func(*fetch.Fact)
		revoked bool
	}{
		"as it was":                   {func(*fetch.Fact) {}, true},
		"of another kind":             {func(f *fetch.Fact) { f.Name = "pinned" + strings.TrimPrefix(f.Name, "revoked") }, false},
		"of no certificate":           {func(f *fetch.Fact) { f.Name += "z" }, false},
		"of more than a certificate":  {func(f *fetch.Fact) { f.Name += "00" }, false},
		"that does not parse":         {func(f *fetch.Fact) { f.Body = f.Body[1:] }, false},
		"with a field of later times": {func(f *fetch.Fact) { f.Body = append([]byte(`{"later":1,`), f.Body[1:]...) }, true},
		"of a hold":                   {func(f *fetch.Fact) { f.Body = bytes.Replace(f.Body, []byte(`"reason":1`), []byte(`"reason":6`), 1) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			fact, dir := facts[0], t.TempDir()
			fact.Body = slices.Clone(fact.Body)
			test.change(&fact)
			writer, err := fetch.New(fetch.Config{Dir: dir, Now: p.Now})
			if err != nil {
				t.Fatal(err)
			}
			if err := writer.Remember(fact); err != nil {
				t.Fatal(err)
			}
			if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), nil); (err != nil) != test.revoked {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestHoldIsAskedAboutAgain: a hold that the responder dated a week ahead ends soon after it was taken back, not with
// the week, because the responder is asked about it once a minute.
func TestHoldIsAskedAboutAgain(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp hold")
	leaf, checker := p.Cert("leaf"), p.Checker(nil)
	check := func() error {
		_, err := checker.Check(t.Context(), leaf.Chain(), nil)
		return err
	}
	p.Replace("/root.ocsp", handshaketest.Bytes(leaf.OCSP(handshaketest.OCSP{Life: 7 * 24 * time.Hour})))
	refused := func(asked int) {
		t.Helper()
		for range 10 {
			if err := check(); outcomeOf(t, err) != handshaketest.RevokedOutcome {
				t.Fatalf("%v", err)
			}
		}
		for deadline := time.Now().Add(time.Minute); (p.Hits("/root.ocsp") < asked || !checker.TestingOnlyIdle()) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if hits := p.Hits("/root.ocsp"); hits != asked {
			t.Fatalf("asked %d times, want %d", hits, asked)
		}
	}
	refused(1)
	for asked := range 2 {
		p.Advance(2 * time.Minute)
		refused(2 + asked)
	}
	leaf.Release()
	p.Replace("/root.ocsp", nil)
	p.Advance(2 * time.Minute)
	err := check()
	for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); err = check() {
		time.Sleep(time.Millisecond)
	}
	if hits := p.Hits("/root.ocsp"); err != nil || hits != 4 {
		t.Errorf("asked %d times: %v", hits, err)
	}
}

// TestMoreThanAreRemembered: of more revocations than can be remembered the last ones are kept, and expired ones go
// first.
func TestMoreThanAreRemembered(t *testing.T) {
	const most, more = 1 << 16, 1000
	p := handshaketest.New(t, "root -> leaf")
	checker := p.Checker(nil)
	expired, living := p.Now().Add(-time.Hour), p.Now().Add(time.Hour)
	for n := range uint64(most) {
		until := living
		if n%2 == 1 {
			until = expired
		}
		checker.TestingOnlyRemember(n, until)
	}
	for n := range uint64(more) {
		checker.TestingOnlyRemember(most+n, living)
		if !checker.TestingOnlyRecalls(most + n) {
			t.Fatalf("number %d more is not remembered", n)
		}
	}
	kept, lost := 0, 0
	for n := range uint64(most + more) {
		if checker.TestingOnlyRecalls(n) {
			kept++
		} else if n%2 == 0 || n >= most {
			lost++
		}
	}
	if kept > most || lost > 0 {
		t.Errorf("%d are remembered; %d were forgotten that have not expired", kept, lost)
	}
	for n := range uint64(most) { // and of those that live some make room
		checker.TestingOnlyRemember(2*most+n, living)
	}
	kept = 0
	for n := range uint64(3 * most) {
		if checker.TestingOnlyRecalls(n) {
			kept++
		}
	}
	if kept > most || kept < most-100 || !checker.TestingOnlyRecalls(3*most-1) {
		t.Errorf("%d are remembered, want %d or nearly, with the last one", kept, most)
	}
}
