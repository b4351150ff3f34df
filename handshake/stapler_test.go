package handshake_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/pki"
)

// events records what a Stapler reports.
type events struct {
	mu   sync.Mutex
	list []handshake.StapleEvent
}

func (e *events) observe(event handshake.StapleEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

func (e *events) last() handshake.StapleEventKind {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.list) == 0 {
		return 0
	}
	return e.list[len(e.list)-1].Kind
}

// newStapler makes a Stapler for a leaf, with a directory unless that is empty.
func newStapler(t *testing.T, p *handshaketest.PKI, name, dir string) (*handshake.Stapler, *events) {
	t.Helper()
	fetcher, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback, Now: p.Now, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	seen := &events{}
	stapler, err := handshake.NewStapler(handshake.StaplerConfig{Certificate: p.Cert(name).TLS(nil), Issuer: p.Cert(name).Issuer.Certificate, Fetcher: fetcher, Now: p.Now, Observe: seen.observe})
	if err != nil {
		t.Fatal(err)
	}
	return stapler, seen
}

func stapleOf(t *testing.T, s *handshake.Stapler) []byte {
	t.Helper()
	certificate, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.OCSPStaple
}

// TestStaplerThroughAnOutage: a good staple survives failures to its end, and a restart, and is then taken away.
func TestStaplerThroughAnOutage(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	dir := t.TempDir()
	stapler, seen := newStapler(t, p, "leaf", dir)
	next := stapler.Refresh(t.Context())
	if seen.last() != handshake.StapleFresh || stapleOf(t, stapler) == nil {
		t.Fatalf("no staple: %+v", seen.list)
	}
	if wait := next.Sub(p.Now()); wait < 29*time.Minute || wait > 31*time.Minute {
		t.Errorf("of a staple of an hour, the next attempt is in %s, not at half its life", wait)
	}
	for name, answer := range map[string]http.Handler{
		"off": http.NotFoundHandler(), "garbage": handshaketest.Bytes([]byte("garbage")), "another certificate's": handshaketest.Bytes(p.Cert("int").OCSP(handshaketest.OCSP{})),
		"unsigned tryLater": handshaketest.Bytes([]byte{0x30, 3, 0x0a, 1, 3}),
	} {
		p.Replace("/int.ocsp", answer)
		p.Advance(time.Minute)
		stapler.Refresh(t.Context())
		if seen.last() != handshake.StapleFailed || stapleOf(t, stapler) == nil {
			t.Errorf("%s: last event %d, staple %d octets", name, seen.last(), len(stapleOf(t, stapler)))
		}
	}
	restarted, _ := newStapler(t, p, "leaf", dir)
	if stapleOf(t, restarted) == nil {
		t.Error("a restart lost the staple")
	}
	p.Advance(time.Hour)
	if stapleOf(t, stapler) != nil {
		t.Error("a staple that has ended is still served")
	}
	if again, _ := newStapler(t, p, "leaf", dir); stapleOf(t, again) != nil {
		t.Error("a staple that has ended came back with a restart")
	}
}

// echoed returns the outcome of a connection to an echoing server, by a client that checks nothing.
func echoed(t *testing.T, address string, config *tls.Config) tls.ConnectionState {
	t.Helper()
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := handshaketest.Echo(conn); err != nil {
		t.Fatal(err)
	}
	return conn.ConnectionState()
}

// TestStaplerRevoked: on revocation the staple goes, the event comes, and tickets from before resume nothing.
func TestStaplerRevoked(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		p := handshaketest.New(t, "root -> int -> leaf")
		leaf := p.Cert("leaf")
		stapler, seen := newStapler(t, p, "leaf", "")
		stapler.Refresh(t.Context())
		address := p.Listen(stapler.Configure(&tls.Config{Time: p.Now}))
		// A client that checks nothing, so that what is seen is the server's doing.
		config := p.ClientConfig(leaf)
		config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		config.MinVersion, config.MaxVersion = version, version
		connect := func() tls.ConnectionState { return echoed(t, address, config) }
		if len(connect().OCSPResponse) == 0 {
			t.Error("no staple was sent")
		}
		if !connect().DidResume {
			t.Error("the session was not resumed")
		}
		leaf.Revoke(1)
		p.Advance(time.Minute)
		stapler.Refresh(t.Context())
		if seen.last() != handshake.StapleRevoked || stapleOf(t, stapler) != nil {
			t.Errorf("last event %d, staple %d octets", seen.last(), len(stapleOf(t, stapler)))
		}
		if connect().DidResume {
			t.Error("a session from before the revocation was resumed")
		}
		if !connect().DidResume {
			t.Error("a session from after it was not")
		}
	}
}

// TestStaplerRevokedRestart: a good staple on disk does not come back with the next process.
func TestStaplerRevokedRestart(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> int -> leaf"), t.TempDir()
	before, _ := newStapler(t, p, "leaf", dir)
	before.Refresh(t.Context())
	if again, _ := newStapler(t, p, "leaf", dir); stapleOf(t, again) == nil {
		t.Fatal("a good staple was not kept")
	}
	p.Cert("leaf").Revoke(1)
	p.Advance(time.Minute)
	before.Refresh(t.Context())
	if after, _ := newStapler(t, p, "leaf", dir); stapleOf(t, after) != nil {
		t.Error("the staple from before the revocation is back")
	}
	p.Off()
	fetcher, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback, Now: p.Now, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	leaf := p.Cert("leaf")
	for range 2 { // within the time of the answer, and long after
		stapler, err := handshake.NewStapler(handshake.StaplerConfig{
			Certificate: leaf.TLS(nil), Issuer: leaf.Issuer.Certificate, Fetcher: fetcher, Now: p.Now, StopWhenRevoked: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		stapler.Refresh(t.Context())
		_, err = stapler.GetCertificate(nil)
		if revoked, ok := errors.AsType[*handshake.RevokedError](err); !ok || revoked.Evidence.Reason != pki.KeyCompromise || !revoked.Evidence.Final {
			t.Errorf("a certificate that is known to be revoked is served: %v", err)
		}
		p.Advance(48 * time.Hour)
	}
}

// TestStaplerClient: a client's staple reaches the server and satisfies it without the network.
func TestStaplerClient(t *testing.T) {
	p := handshaketest.New(t, "root -> server; root -> client nocdp muststaple")
	stapler, _ := newStapler(t, p, "client", "")
	checker := p.Checker(func(c *handshake.Config) { c.Network = handshake.NetworkNever })
	config := p.ServerConfig(p.Cert("server"), nil)
	config.ClientCAs, config.ClientAuth = p.Cert("server").Pool(), tls.RequireAndVerifyClientCert
	wrapped, err := checker.WrapServer(config)
	if err != nil {
		t.Fatal(err)
	}
	address := p.Listen(wrapped)
	connect := func() error {
		clientConfig := p.ClientConfig(p.Cert("server"))
		clientConfig.GetClientCertificate = stapler.GetClientCertificate
		conn, err := tls.Dial("tcp", address, clientConfig)
		if err != nil {
			return err
		}
		defer conn.Close()
		return handshaketest.Echo(conn)
	}
	if connect() == nil {
		t.Error("a client that must staple was accepted without a staple")
	}
	stapler.Refresh(t.Context())
	if err := connect(); err != nil {
		t.Errorf("with a staple: %v", err)
	}
}

// TestStaplerChosenConfig: a configuration chosen per client serves the stapled certificate as well, and stops with it.
func TestStaplerChosenConfig(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	leaf := p.Cert("leaf")
	fetcher, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback, Now: p.Now})
	if err != nil {
		t.Fatal(err)
	}
	stapler, err := handshake.NewStapler(handshake.StaplerConfig{
		Certificate: leaf.TLS(nil), Issuer: leaf.Issuer.Certificate, Fetcher: fetcher, Now: p.Now, StopWhenRevoked: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	stapler.Refresh(t.Context())
	chosen := p.ServerConfig(leaf, nil)
	address := p.Listen(stapler.Configure(&tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }}))
	connect := func() ([]byte, error) {
		conn, err := tls.Dial("tcp", address, p.ClientConfig(leaf))
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return conn.ConnectionState().OCSPResponse, nil
	}
	if staple, err := connect(); err != nil || staple == nil {
		t.Errorf("staple of %d octets, %v", len(staple), err)
	}
	leaf.Revoke(1)
	p.Advance(time.Minute)
	stapler.Refresh(t.Context())
	if _, err := connect(); err == nil {
		t.Error("a server that stops when revoked goes on")
	}
}

// TestStaplerRun: Run asks at once and stops when told.
func TestStaplerRun(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	stapler, seen := newStapler(t, p, "leaf", "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- stapler.Run(ctx) }()
	for seen.last() != handshake.StapleFresh && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestStaplerAsksInTurn: if two calls asked at once, one could replace the revocation that the other has just learnt
// with its good staple.
func TestStaplerAsksInTurn(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	stapler, seen := newStapler(t, p, "leaf", "")
	var asking, most atomic.Int32
	p.Before("/root.ocsp", func() {
		most.Store(max(most.Load(), asking.Add(1)))
		time.Sleep(time.Millisecond)
		asking.Add(-1)
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 4 {
				stapler.Refresh(t.Context())
			}
		})
	}
	wg.Wait()
	if seen.last() != handshake.StapleFresh || most.Load() != 1 {
		t.Errorf("%s, and %d asked at once", seen.last(), most.Load())
	}
}

// TestStaplerClocks: Run asks when half the life of the staple is over by the clock, even if timers stood still (the
// machine was suspended), and when the timer says so, even if the clock was set back.
func TestStaplerClocks(t *testing.T) {
	for name, test := range map[string]struct {
		jump, within time.Duration
		want         []handshake.StapleEventKind
	}{
		"neither":       {0, 30*time.Hour + time.Second, []handshake.StapleEventKind{handshake.StapleFailed}},
		"suspended":     {80 * time.Hour, time.Minute, []handshake.StapleEventKind{handshake.StapleExpired, handshake.StapleFailed}},
		"set back":      {-20 * time.Hour, 30*time.Hour + time.Second, []handshake.StapleEventKind{handshake.StapleFailed}},
		"before it all": {0, 29 * time.Hour, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf")
			dir := t.TempDir()
			p.Replace("/root.ocsp", handshaketest.Bytes(p.Cert("leaf").OCSP(handshaketest.OCSP{Life: 60 * time.Hour})))
			before, _ := newStapler(t, p, "leaf", dir)
			before.Refresh(t.Context())
			now := p.Now()
			synctest.Test(t, func(t *testing.T) {
				var jump atomic.Int64
				began := time.Now()
				clock := func() time.Time { return now.Add(time.Since(began) + time.Duration(jump.Load())) }
				fetcher, err := fetch.New(fetch.Config{Dir: dir, Now: clock}) // connects to public addresses only
				if err != nil {
					t.Fatal(err)
				}
				seen := &events{}
				stapler, err := handshake.NewStapler(handshake.StaplerConfig{
					Certificate: p.Cert("leaf").TLS(nil), Issuer: p.Cert("root").Certificate, Fetcher: fetcher, Responder: "http://127.0.0.1/", Now: clock, Observe: seen.observe,
				})
				if err != nil {
					t.Fatal(err)
				}
				if stapleOf(t, stapler) == nil {
					t.Fatal("the staple of before is not there")
				}
				go stapler.Run(t.Context())
				synctest.Wait()
				jump.Store(int64(test.jump))
				time.Sleep(test.within)
				synctest.Wait()
				var got []handshake.StapleEventKind
				for _, event := range seen.list {
					got = append(got, event.Kind)
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("reported %v, want %v", got, test.want)
				}
			})
		})
	}
}

// TestStaplerConfiguration: a configuration that cannot work is refused at once.
func TestStaplerConfiguration(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf; int -> silent noaia; root -> other")
	alone := p.Cert("leaf").TLS(nil)
	alone.Certificate = alone.Certificate[:1]
	stranger := p.Cert("leaf").TLS(nil)
	stranger.Certificate = [][]byte{stranger.Certificate[0], p.Cert("other").Raw}
	for name, certificate := range map[string]tls.Certificate{
		"without the issuer": alone, "with a stranger for an issuer": stranger, "without a responder": p.Cert("silent").TLS(nil), "nothing": {},
	} {
		if _, err := handshake.NewStapler(handshake.StaplerConfig{Certificate: certificate}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := handshake.NewStapler(handshake.StaplerConfig{Issuer: p.Cert("int").Certificate}); err == nil {
		t.Error("an issuer and nothing: no error")
	}
}

// TestStapleIsReadable: a staple names the certificate by SHA-1, the only way that Java, NSS and curl find it, unless the
// responder knows it by SHA-256 only, or does not implement SHA-1.
func TestStapleIsReadable(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf; int -> other")
	hash := func() crypto.Hash {
		t.Helper()
		stapler, seen := newStapler(t, p, "leaf", "")
		stapler.Refresh(t.Context())
		if seen.last() != handshake.StapleFresh {
			t.Fatalf("no staple: %+v", seen.list)
		}
		response, err := ocsp.ParseResponse(stapleOf(t, stapler), nil)
		if err != nil {
			t.Fatal(err)
		}
		return response.IssuerHash
	}
	if got := hash(); got != crypto.SHA1 {
		t.Errorf("the staple names the certificate by %s", got)
	}
	for name, refusal := range notByThisHash(p) {
		p.Replace("/int.ocsp", knowingBy(t, p.Cert("leaf"), handshaketest.OCSP{Hash: crypto.SHA256}, refusal))
		if got := hash(); got != crypto.SHA256 {
			t.Errorf("of a responder that knows SHA-256 only (%s), the staple names the certificate by %s", name, got)
		}
	}
}

// TestResponderOfOneHash: a responder that knows certificates by SHA-1 only, or does not implement SHA-256, is
// understood, even if it says revoked in an answer that has ended.
func TestResponderOfOneHash(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp; root -> other")
	leaf := p.Cert("leaf")
	for name, refusal := range notByThisHash(p) {
		check := func(says handshaketest.OCSP, want handshaketest.Outcome) {
			t.Helper()
			p.Replace("/root.ocsp", knowingBy(t, leaf, says, refusal))
			if _, err := p.Checker(nil).Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != want {
				t.Errorf("%s: %v", name, err)
			}
		}
		check(handshaketest.OCSP{Hash: crypto.SHA1}, handshaketest.Accepted)
		leaf.Revoke(1)
		check(handshaketest.OCSP{Hash: crypto.SHA1, Age: 48 * time.Hour}, handshaketest.RevokedOutcome)
		leaf.Release()
	}
}

// notByThisHash are the answers of responders to a request that names leaf by a hash that they do not know or implement.
func notByThisHash(p *handshaketest.PKI) map[string][]byte {
	return map[string][]byte{
		"unknown":          p.Cert("leaf").OCSP(handshaketest.OCSP{Force: true, Status: ocsp.Unknown}),
		"of another's":     p.Cert("other").OCSP(handshaketest.OCSP{}),
		"unauthorized":     ocsp.UnauthorizedErrorResponse,
		"malformedRequest": ocsp.MalformedRequestErrorResponse,
		"internalError":    ocsp.InternalErrorErrorResponse,
	}
}

// knowingBy answers about a certificate that is named by the hash of the answer, and refuses others.
func knowingBy(t *testing.T, about *handshaketest.Cert, says handshaketest.OCSP, refusal []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, encoded, _ := strings.Cut(r.URL.Path, ".ocsp/")
		der, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Error(err)
		}
		if request, err := ocsp.ParseRequest(der); err != nil || request.HashAlgorithm != says.Hash {
			_, _ = w.Write(refusal)
			return
		}
		_, _ = w.Write(about.OCSP(says))
	})
}

// TestStaplerEnds: a staple is taken away for good at its end, or at that of the certificate if it comes first, and the
// attempts become more frequent towards it.
func TestStaplerEnds(t *testing.T) {
	for _, test := range []struct {
		drawing  string
		wait     time.Duration // until the next attempt, after a success and then after a failure
		retry    time.Duration
		good, to time.Duration // it is served until here, and not there
	}{
		{"root -> leaf", 30 * time.Minute, 28 * time.Minute, 58 * time.Minute, 61 * time.Minute},
		{"root -> leaf ends=20m", 10 * time.Minute, 8 * time.Minute, 18 * time.Minute, 21 * time.Minute},
	} {
		p := handshaketest.New(t, test.drawing)
		stapler, seen := newStapler(t, p, "leaf", "")
		start := p.Now()
		about := func(what string, next time.Time, want time.Duration) {
			t.Helper()
			if got := next.Sub(p.Now()); got < want-90*time.Second || got > want+90*time.Second {
				t.Errorf("%s: %s: the next attempt is in %s, want %s", test.drawing, what, got, want)
			}
		}
		about("fresh", stapler.Refresh(t.Context()), test.wait)
		p.Off()
		p.Advance(4 * time.Minute)
		about("failed", stapler.Refresh(t.Context()), test.retry)
		p.Advance(test.good - p.Now().Sub(start))
		if stapleOf(t, stapler) == nil {
			t.Errorf("%s: it is taken away too early", test.drawing)
		}
		p.Advance(test.to - p.Now().Sub(start))
		stapler.Refresh(t.Context())
		stapler.Refresh(t.Context())
		var kinds []handshake.StapleEventKind
		for _, event := range seen.list {
			kinds = append(kinds, event.Kind)
		}
		want := []handshake.StapleEventKind{
			handshake.StapleFresh, handshake.StapleFailed, handshake.StapleExpired, handshake.StapleFailed, handshake.StapleFailed,
		}
		if stapleOf(t, stapler) != nil || !slices.Equal(kinds, want) {
			t.Errorf("%s: a staple of %d octets, events %v", test.drawing, len(stapleOf(t, stapler)), kinds)
		}
		if failed := seen.list[1]; failed.Err == nil || failed.Evidence.Location != p.URL+"/root.ocsp" || !failed.Next.After(start) {
			t.Errorf("%s: the failure is told as %+v", test.drawing, failed)
		}
	}
}

// TestStaplerOlderAnswer: an older answer, from a cache on the way, does not replace a newer one, in memory or on disk.
func TestStaplerOlderAnswer(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> leaf"), t.TempDir()
	leaf, now := p.Cert("leaf"), p.Now()
	newer, older := leaf.OCSP(handshaketest.OCSP{At: now}), leaf.OCSP(handshaketest.OCSP{At: now, Age: 30 * time.Minute})
	stapler, _ := newStapler(t, p, "leaf", dir)
	for _, answer := range [][]byte{newer, older} {
		p.Replace("/root.ocsp", handshaketest.Bytes(answer))
		stapler.Refresh(t.Context())
		again, _ := newStapler(t, p, "leaf", dir)
		for name, s := range map[string]*handshake.Stapler{"this process": stapler, "a later one": again} {
			if got := stapleOf(t, s); !bytes.Equal(got, newer) {
				t.Errorf("%s staples the older answer, or none: %d octets", name, len(got))
			}
		}
	}
}

// TestStaplerOlderGood: a good answer from a cache on the way does not take back a final revocation, whatever its date,
// nor a hold unless it is later than the hold. This holds now and after the next start, and also for a hold that is
// older than a good answer.
func TestStaplerOlderGood(t *testing.T) {
	const hold, final, good = 6, 1, -1
	for name, test := range map[string]struct {
		first, then int           // reasons of revocations
		later       time.Duration // than the first is the answer after it
		stapled     bool          // at the end
	}{
		"revoked, an older good":  {final, good, -30 * time.Minute, false},
		"revoked, a later good":   {final, good, 30 * time.Minute, false},
		"revoked, a later hold":   {final, hold, 30 * time.Minute, false},
		"hold, an older good":     {hold, good, -30 * time.Minute, false},
		"hold, a good of then":    {hold, good, 0, false},
		"hold, a later good":      {hold, good, 30 * time.Minute, true},
		"good, an older hold":     {good, hold, -30 * time.Minute, true},
		"good, a later hold":      {good, hold, 30 * time.Minute, false},
		"good, revoked earlier":   {good, final, -30 * time.Minute, false},
		"good, revoked long ago":  {good, final, -3 * time.Hour, false}, // an answer whose time has passed
		"good, a hold long ago":   {good, hold, -3 * time.Hour, true},
		"good, an older good":     {good, good, -30 * time.Minute, true},
		"hold, revoked of then":   {hold, final, 0, false},
		"hold, revoked long ago":  {hold, final, -3 * time.Hour, false},
		"hold, a good long ago":   {hold, good, -3 * time.Hour, false},
		"revoked, good long ago":  {final, good, -3 * time.Hour, false},
		"revoked, a hold earlier": {final, hold, -30 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, dir := handshaketest.New(t, "root -> leaf"), t.TempDir()
			stapler, seen := newStapler(t, p, "leaf", dir)
			at := p.Now().Add(-time.Minute)
			p.Advance(time.Hour - 2*time.Minute)
			answer := func(reason int, age time.Duration) []byte {
				p.Cert("leaf").Release()
				if reason != good {
					p.Cert("leaf").Revoke(reason)
				}
				return p.Cert("leaf").OCSP(handshaketest.OCSP{At: at.Add(age)})
			}
			// Of good and hold, good is signed last: only its thisUpdate is to count.
			first, then := answer(test.first, 0), answer(test.then, test.later)
			if test.then == hold {
				first = answer(test.first, 0)
			}
			p.Replace("/root.ocsp", handshaketest.Bytes(first))
			stapler.Refresh(t.Context())
			if (stapleOf(t, stapler) != nil) != (test.first == good) {
				t.Fatalf("of the first answer a staple of %d octets", len(stapleOf(t, stapler)))
			}
			p.Replace("/root.ocsp", handshaketest.Bytes(then))
			stapler.Refresh(t.Context())
			again, of := newStapler(t, p, "leaf", dir)
			if got := stapleOf(t, stapler) != nil; got != test.stapled {
				t.Errorf("stapled: %v; last event %s", got, seen.last())
			}
			if got := stapleOf(t, again) != nil; got != test.stapled || !got && of.last() != handshake.StapleRevoked {
				t.Errorf("after a restart, stapled: %v; last event %q", got, of.last())
			}
			p.Off()
			again.Refresh(t.Context())
			if got := stapleOf(t, again) != nil; got != test.stapled {
				t.Errorf("after a restart and an outage, stapled: %v", got)
			}
		})
	}
}

// TestStaplerResponders: if one responder of the certificate gives no answer that counts, the next is asked, and none
// after the first that does. The failure that is reported is the last one's.
func TestStaplerResponders(t *testing.T) {
	for name, test := range map[string]struct {
		first, second func(p *handshaketest.PKI) http.Handler
		want          handshake.StapleEventKind
		asked         [2]bool
	}{
		"the first":  {nil, nil, handshake.StapleFresh, [2]bool{true, false}},
		"the second": {nothing, nil, handshake.StapleFresh, [2]bool{true, true}},
		"the second, after an older answer": {func(p *handshaketest.PKI) http.Handler {
			return handshaketest.Bytes(p.Cert("leaf").OCSP(handshaketest.OCSP{Age: 48 * time.Hour}))
		}, nil, handshake.StapleFresh, [2]bool{true, true}},
		"nobody": {nothing, nothing, handshake.StapleFailed, [2]bool{true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf secondresponder")
			for path, answer := range map[string]func(*handshaketest.PKI) http.Handler{"/root.ocsp": test.first, "/root-mirror.ocsp": test.second} {
				if answer != nil {
					p.Replace(path, answer(p))
				}
			}
			stapler, seen := newStapler(t, p, "leaf", "")
			stapler.Refresh(t.Context())
			asked := [2]bool{p.Hits("/root.ocsp") > 0, p.Hits("/root-mirror.ocsp") > 0}
			if seen.last() != test.want || len(seen.list) != 1 || asked != test.asked {
				t.Errorf("asked %v, told %+v", asked, seen.list)
			}
			if place := seen.list[0].Evidence.Location; (place == p.URL+"/root-mirror.ocsp") != test.asked[1] {
				t.Errorf("it is told of %s", place)
			}
		})
	}
}

// TestStaplerBeforeTheDisk: an answer has its effect before it is written: a disk may hang.
func TestStaplerBeforeTheDisk(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> leaf"), t.TempDir()
	fetcher, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback, Now: p.Now, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	written := func() int {
		objects, err := os.ReadDir(filepath.Join(dir, "objects"))
		if err != nil {
			t.Error(err)
		}
		return len(objects)
	}
	var stapler *handshake.Stapler
	seen, before := &events{}, 0
	observe := func(event handshake.StapleEvent) {
		seen.observe(event)
		if stapled := stapleOf(t, stapler) != nil; stapled != (event.Kind == handshake.StapleFresh) || written() != before {
			t.Errorf("%s: stapled %t, with %d objects written", event.Kind, stapled, written())
		}
	}
	if stapler, err = handshake.NewStapler(handshake.StaplerConfig{
		Certificate: p.Cert("leaf").TLS(nil), Issuer: p.Cert("root").Certificate, Fetcher: fetcher, Now: p.Now, Observe: observe,
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []handshake.StapleEventKind{handshake.StapleFresh, handshake.StapleRevoked} {
		before = written()
		stapler.Refresh(t.Context())
		if seen.last() != want || written() != before+1 {
			t.Errorf("%s, want %s, and %d objects written", seen.last(), want, written()-before)
		}
		p.Cert("leaf").Revoke(1)
		p.Advance(time.Hour)
	}
}

// TestStaplerTurn: a Refresh that waits for another waits no longer than its context lasts, and asks no responder.
func TestStaplerTurn(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	told, release := make(chan struct{}), make(chan struct{})
	fetcher, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback, Now: p.Now})
	if err != nil {
		t.Fatal(err)
	}
	stapler, err := handshake.NewStapler(handshake.StaplerConfig{
		Certificate: p.Cert("leaf").TLS(nil), Issuer: p.Cert("root").Certificate, Fetcher: fetcher, Now: p.Now,
		Observe: func(handshake.StapleEvent) { told <- struct{}{}; <-release },
	})
	if err != nil {
		t.Fatal(err)
	}
	first, second := make(chan struct{}), make(chan time.Time, 1)
	go func() { stapler.Refresh(context.Background()); close(first) }()
	<-told
	asked, began := p.Hits("/root.ocsp"), p.Now()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	go func() { second <- stapler.Refresh(ended) }()
	select {
	case next := <-second:
		if pause := next.Sub(began); pause < time.Minute {
			t.Errorf("asks again %s later", pause)
		}
	case <-time.After(time.Minute):
		t.Error("it waits for the other")
	}
	close(release)
	<-first
	if n := p.Hits("/root.ocsp"); n != asked {
		t.Errorf("asked %d times in vain", n-asked)
	}
}

func nothing(*handshaketest.PKI) http.Handler { return http.NotFoundHandler() }

// TestStaplerSignerEnds: a delegate's answer is stapled no longer than its certificate lasts, also after a restart.
func TestStaplerSignerEnds(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> leaf; root -> delegate responder ends=20m"), t.TempDir()
	p.Replace("/root.ocsp", handshaketest.Bytes(p.Cert("leaf").OCSP(handshaketest.OCSP{Signer: p.Cert("delegate"), Life: 24 * time.Hour})))
	stapler, _ := newStapler(t, p, "leaf", dir)
	next := stapler.Refresh(t.Context())
	if wait := next.Sub(p.Now()); wait < 8*time.Minute || wait > 11*time.Minute {
		t.Errorf("the next attempt is in %s", wait)
	}
	for _, left := range []bool{true, false} {
		again, _ := newStapler(t, p, "leaf", dir)
		for name, s := range map[string]*handshake.Stapler{"this process": stapler, "a later one": again} {
			if staple := stapleOf(t, s); (staple != nil) != left {
				t.Errorf("%s: a staple of %d octets", name, len(staple))
			}
		}
		p.Advance(20 * time.Minute) // within the skew that verification allows
	}
}

// TestStaplerBacksOff: without a staple the pauses double, to ten minutes, and are short again after a success.
func TestStaplerBacksOff(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	now, pauses := p.Now(), []time.Duration{1, 2, 4, 8, 10, 10, 10}
	fetcher, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback, Now: p.Now})
	if err != nil {
		t.Fatal(err)
	}
	stapler, err := handshake.NewStapler(handshake.StaplerConfig{
		Certificate: p.Cert("leaf").TLS(nil), Issuer: p.Cert("root").Certificate, Fetcher: fetcher, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p.Off()
		for i, minutes := range pauses {
			if pause := stapler.Refresh(t.Context()).Sub(now); pause != minutes*time.Minute {
				t.Errorf("after failure %d it waits for %s", i+1, pause)
			}
		}
		p.Replace("/root.ocsp", handshaketest.Bytes(p.Cert("leaf").OCSP(handshaketest.OCSP{At: now})))
		stapler.Refresh(t.Context())
		now = now.Add(2 * time.Hour)
	}
}

// TestStaplerTakes: the issuer is the next certificate of the chain unless it is given. The responder is the configured
// one before that of the certificate. A staple that the certificate brings along is not served, since it was never
// checked.
func TestStaplerTakes(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf ocsp=http://127.0.0.1:1/nobody")
	fetcher, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback, Now: p.Now})
	if err != nil {
		t.Fatal(err)
	}
	stapler, err := handshake.NewStapler(handshake.StaplerConfig{
		Certificate: p.Cert("leaf").TLS([]byte("brought along")), Responder: p.URL + "/int.ocsp", Fetcher: fetcher, Now: p.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if staple := stapleOf(t, stapler); staple != nil {
		t.Errorf("the staple is %q", staple)
	}
	stapler.Refresh(t.Context())
	if stapleOf(t, stapler) == nil {
		t.Error("no staple of the responder that is configured")
	}
}

// TestStaplerConfigures: the result of Configure serves the certificate to both sides and nothing else. The
// configuration given, and the one chosen for a client, stay as they were.
func TestStaplerConfigures(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf; root -> other")
	stapler, _ := newStapler(t, p, "leaf", "")
	if bare := stapler.Configure(nil); bare.GetCertificate == nil {
		t.Error("of no configuration, one without a certificate")
	}
	var chosen *tls.Config
	failure := errors.New("nobody is served")
	given := p.ServerConfig(p.Cert("other"), nil)
	given.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if chosen == nil {
			return nil, failure
		}
		return chosen, nil
	}
	configured := stapler.Configure(given)
	if configured.Certificates != nil || configured.GetClientCertificate == nil || len(given.Certificates) != 1 || given.GetCertificate != nil || given.WrapSession != nil {
		t.Error("the configuration was changed, or not enough")
	}
	if got, err := configured.GetConfigForClient(nil); got != nil || err != failure {
		t.Errorf("a failure to choose is %v, %v", got, err)
	}
	chosen = p.ServerConfig(p.Cert("other"), nil)
	got, err := configured.GetConfigForClient(nil)
	if err != nil || got.Certificates != nil || got.GetCertificate == nil || got.WrapSession == nil || got.UnwrapSession == nil {
		t.Errorf("chosen %+v, %v", got, err)
	}
	if len(chosen.Certificates) != 1 || chosen.GetCertificate != nil || chosen.WrapSession != nil {
		t.Error("what was chosen was changed")
	}
	given.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }
	if got, err := stapler.Configure(given).GetConfigForClient(nil); got != nil || err != nil {
		t.Errorf("of no choice, %v, %v", got, err)
	}
}

// TestStaplerSharedTickets: processes that share ticket keys resume each other's sessions, whenever the keys were set,
// but not those of before a revocation.
func TestStaplerSharedTickets(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	leaf := p.Cert("leaf")
	client := p.ClientConfig(leaf)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	resumed := func(refresh bool) bool {
		t.Helper()
		stapler, _ := newStapler(t, p, "leaf", "")
		if refresh {
			stapler.Refresh(t.Context())
		}
		config := &tls.Config{Time: p.Now}
		configured := stapler.Configure(config)
		config.SetSessionTicketKeys([][32]byte{{7}})
		conn, err := tls.Dial("tcp", p.Listen(configured), client)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := handshaketest.Echo(conn); err != nil {
			t.Fatal(err)
		}
		return conn.ConnectionState().DidResume
	}
	if resumed(false) || !resumed(false) {
		t.Error("a session of another process is not resumed")
	}
	leaf.Revoke(1)
	if resumed(true) {
		t.Error("a session of before the revocation is resumed")
	}
	if !resumed(true) {
		t.Error("a session of after the revocation is not resumed")
	}
}

// TestStaplerTicketsOfAChosenConfig: the ticket hooks of the configuration that is chosen for a client are called, and
// no others; a revocation ends its sessions all the same.
func TestStaplerTicketsOfAChosenConfig(t *testing.T) {
	for name, hooks := range map[string]struct{ wrap, unwrap bool }{"both": {true, true}, "none": {}, "one that wraps": {true, false}, "one that unwraps": {false, true}} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf")
			leaf := p.Cert("leaf")
			stapler, _ := newStapler(t, p, "leaf", "")
			var wrapped, unwrapped atomic.Int32
			outer, chosen := &tls.Config{Time: p.Now}, p.ServerConfig(leaf, nil)
			outer.WrapSession = func(tls.ConnectionState, *tls.SessionState) ([]byte, error) {
				t.Error("a hook of the configuration that chooses is called")
				return nil, errors.New("not chosen")
			}
			if hooks.wrap {
				chosen.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
					wrapped.Add(1)
					return outer.EncryptTicket(state, session)
				}
			}
			if hooks.unwrap {
				chosen.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
					unwrapped.Add(1)
					return outer.DecryptTicket(ticket, state)
				}
			}
			outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }
			address, client := p.Listen(stapler.Configure(outer)), p.ClientConfig(leaf)
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			resumed := func() bool { return echoed(t, address, client).DidResume }
			if resumed() || !resumed() {
				t.Error("the session is not resumed")
			}
			if (wrapped.Load() > 0) != hooks.wrap || (unwrapped.Load() > 0) != hooks.unwrap {
				t.Errorf("wrapped %d times, unwrapped %d times", wrapped.Load(), unwrapped.Load())
			}
			leaf.Revoke(1)
			stapler.Refresh(t.Context())
			if resumed() {
				t.Error("a session of before the revocation is resumed")
			}
		})
	}
}

// TestStaplerForeignTickets: a configuration with its own tickets keeps them, in its form, and reads them without any
// addition of ours.
func TestStaplerForeignTickets(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	leaf := p.Cert("leaf")
	stapler, _ := newStapler(t, p, "leaf", "")
	own := &tls.Config{Time: p.Now}
	var wrapped, unwrapped atomic.Int32
	own.WrapSession = func(_ tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		wrapped.Add(1)
		session.Extra = append(session.Extra, []byte("his"))
		return session.Bytes()
	}
	own.UnwrapSession = func(ticket []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
		unwrapped.Add(1)
		return tls.ParseSessionState(ticket)
	}
	configured := stapler.Configure(own)
	unwrap := configured.UnwrapSession
	configured.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		session, err := unwrap(ticket, state)
		if session != nil && (len(session.Extra) != 1 || string(session.Extra[0]) != "his") {
			t.Errorf("the session has %q", session.Extra)
		}
		return session, err
	}
	address, client := p.Listen(configured), p.ClientConfig(leaf)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		if resumed := echoed(t, address, client).DidResume; resumed != (i > 0) {
			t.Errorf("connection %d: resumed %v", i, resumed)
		}
	}
	if wrapped.Load() == 0 || unwrapped.Load() != 1 {
		t.Errorf("wrapped %d times, unwrapped %d times", wrapped.Load(), unwrapped.Load())
	}
	if session, err := unwrap([]byte("no ticket"), tls.ConnectionState{}); session != nil || err == nil {
		t.Errorf("of no ticket, %v, %v", session, err)
	}
}
