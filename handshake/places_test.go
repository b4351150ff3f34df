package handshake_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/pki"
)

// TestSeveralPlaces: if a distribution point names several places for one list, the next is asked when the first has
// none, or one that has ended or does not count; and no more than are needed.
func TestSeveralPlaces(t *testing.T) {
	for name, test := range map[string]struct {
		first        func(p *handshaketest.PKI) http.Handler
		once, mirror int // times asked
	}{
		"the list": {func(*handshaketest.PKI) http.Handler { return nil }, 1, 0},
		"nothing":  {func(*handshaketest.PKI) http.Handler { return http.NotFoundHandler() }, 1, 1},
		"garbage":  {func(*handshaketest.PKI) http.Handler { return handshaketest.Bytes([]byte("garbage")) }, 1, 1},
		"one that has ended": {func(p *handshaketest.PKI) http.Handler {
			return handshaketest.Bytes(p.Cert("root").CRL(handshaketest.CRL{Age: 48 * time.Hour}))
		}, 1, 1},
		"one without an end": {func(p *handshaketest.PKI) http.Handler {
			return handshaketest.Bytes(endless(t, p.Cert("root"), p.Cert("root").CRL(handshaketest.CRL{})))
		}, 1, 1},
		"one of another name": {func(p *handshaketest.PKI) http.Handler {
			return handshaketest.Bytes(p.Cert("foreign").CRL(handshaketest.CRL{}))
		}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf noaia mirror; foreign -> stranger")
			leaf, now := p.Cert("leaf"), p.Now()
			checker := p.Checker(func(c *handshake.Config) { c.Now = func() time.Time { return now } })
			p.Replace("/root.crl", test.first(p))
			for range 3 {
				if _, err := checker.Check(t.Context(), leaf.Chain(), nil); err != nil {
					t.Error(err)
				}
			}
			if first, mirror := p.Hits("/root.crl"), p.Hits("/root-mirror.crl"); first != test.once || mirror != test.mirror {
				t.Errorf("asked %d times, and the mirror %d times", first, mirror)
			}
		})
	}
}

// TestPlaceThatLags: of two places at hand the younger list counts, also in a round over connections.
func TestPlaceThatLags(t *testing.T) {
	for name, test := range map[string]struct {
		first, mirror int // reason for which the leaf is revoked in the list; -1: it is not
		want          handshaketest.Outcome
	}{
		"ended, and good":    {-1, -1, handshaketest.Accepted},
		"ended, and a hold":  {-1, int(pki.CertificateHold), handshaketest.RevokedOutcome},
		"a hold, and good":   {int(pki.CertificateHold), -1, handshaketest.Accepted},
		"revoked, and good":  {1, -1, handshaketest.Accepted}, // of two complete lists the younger counts
		"ended, and revoked": {-1, 1, handshaketest.RevokedOutcome},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf noaia mirror")
			leaf := p.Cert("leaf")
			say := func(path string, reason int, list handshaketest.CRL) {
				leaf.Release()
				if reason >= 0 {
					leaf.Revoke(reason)
				}
				p.Replace(path, handshaketest.Bytes(p.Cert("root").CRL(list)))
			}
			checker := p.Checker(nil)
			conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
			p.Advance(25 * time.Hour)
			say("/root.crl", test.first, handshaketest.CRL{Age: 25 * time.Hour})
			say("/root-mirror.crl", test.mirror, handshaketest.CRL{})
			checker.Recheck(t.Context())
			if err := handshaketest.Echo(conn.(*tls.Conn)); (err == nil) != (test.want == handshaketest.Accepted) {
				t.Errorf("the connection: %v", err)
			}
			another := p.Checker(nil)
			for range 2 { // the word of one list alone is not remembered
				if _, err := another.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != test.want {
					t.Errorf("a new checker: %v", err)
				}
			}
			p.Off()
			if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != test.want {
				t.Errorf("with what is at hand: %v", err)
			}
		})
	}
}

// TestEndedListBesideSilence: a list that has ended and says revoked is enough to refuse, when the budget ends while the
// next place, or its delta, is silent.
func TestEndedListBesideSilence(t *testing.T) {
	for drawing, silent := range map[string]string{
		"root -> leaf noaia mirror": "/root-mirror.crl",
		"root -> leaf noaia":        "/root-delta.crl",
	} {
		t.Run(silent, func(t *testing.T) {
			t.Parallel()
			p, over := handshaketest.New(t, drawing), make(chan struct{})
			leaf := p.Cert("leaf")
			t.Cleanup(func() { close(over) })
			budget, spend := context.WithCancel(t.Context())
			p.Advance(25 * time.Hour)
			leaf.Revoke(1)
			list := handshaketest.CRL{Age: 25 * time.Hour}
			if silent == "/root-delta.crl" {
				list.Extensions = handshaketest.Extensions(handshaketest.Freshest(p.URL + silent))
			}
			p.Replace("/root.crl", handshaketest.Bytes(p.Cert("root").CRL(list)))
			p.Replace(silent, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				spend()
				<-over
			}))
			checker := p.Checker(func(c *handshake.Config) { c.Policy, c.Budget = handshake.SoftFail, time.Minute })
			for i := range 3 {
				if r, err := checker.Check(budget, leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.RevokedOutcome {
					t.Errorf("check %d: %v: %v", i, err, r.Certificates[0].Evidence)
				}
			}
			if budget.Err() == nil {
				t.Error("nobody was silent")
			}
		})
	}
}

// TestDeltaBesideSilence: what a delta at hand holds counts when the budget ends while another delta is silent.
func TestDeltaBesideSilence(t *testing.T) {
	p, over := handshaketest.New(t, "root -> leaf noaia"), make(chan struct{})
	leaf, root := p.Cert("leaf"), p.Cert("root")
	t.Cleanup(func() { close(over) })
	budget, spend := context.WithCancel(t.Context())
	both, second := handshaketest.Freshest(p.URL+"/a.crl"), handshaketest.Freshest(p.URL+"/b.crl").Value
	both.Value = slices.Concat([]byte{0x30, byte(len(both.Value) + len(second) - 4)}, both.Value[2:], second[2:])
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Number: 5, Extensions: handshaketest.Extensions(both)})))
	leaf.Revoke(int(pki.CertificateHold))
	delta := handshaketest.CRL{Number: 7, Extensions: handshaketest.Extensions(handshaketest.DeltaOf(5))}
	p.Replace("/a.crl", handshaketest.Bytes(root.CRL(delta)))
	leaf.Release()
	p.Replace("/b.crl", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		spend()
		<-over
	}))
	checker := p.Checker(func(c *handshake.Config) { c.Policy, c.Budget = handshake.HardFail, time.Minute })
	r, err := checker.Check(budget, leaf.Chain(), nil)
	if err == nil {
		t.Errorf("accepted: %v", r.Certificates[0].Evidence)
	}
	if budget.Err() == nil {
		t.Error("nobody was silent")
	}
}

// TestEndedListIsNotRemembered: what a list that has ended says of a certificate is not remembered when the budget ends,
// because the next place may still send a younger one that says good.
func TestEndedListIsNotRemembered(t *testing.T) {
	p, answer := handshaketest.New(t, "root -> leaf noaia mirror"), make(chan struct{})
	leaf, root := p.Cert("leaf"), p.Cert("root")
	p.Advance(25 * time.Hour)
	leaf.Revoke(1)
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Age: 25 * time.Hour})))
	leaf.Release()
	good := root.CRL(handshaketest.CRL{})
	budget, spend := context.WithCancel(t.Context())
	p.Replace("/root-mirror.crl", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		spend()
		<-answer
		_, _ = w.Write(good)
	}))
	checker := p.Checker(func(c *handshake.Config) { c.Budget = time.Minute })
	if _, err := checker.Check(budget, leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.RevokedOutcome {
		t.Errorf("before the mirror answered: %v", err)
	}
	close(answer)
	idle(t, checker)
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Errorf("after it answered: %v", err)
	}
}

// TestDiskIsLookedAtInPauses: a list that was not on disk may be there a moment later, or when the clock was set right,
// but not every handshake looks for it.
func TestDiskIsLookedAtInPauses(t *testing.T) {
	for _, source := range []string{"noaia", "nocdp"} {
		for _, later := range []time.Duration{10 * time.Second, -time.Minute} {
			p, dir := handshaketest.New(t, "root -> leaf "+source), t.TempDir()
			leaf, now := p.Cert("leaf"), p.Now()
			reader := p.Checker(func(c *handshake.Config) {
				onDisk(t, p, dir)(c)
				c.Now, c.Network = func() time.Time { return now }, handshake.NetworkNever
			})
			check := func(want handshaketest.Outcome) {
				t.Helper()
				if _, err := reader.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != want {
					t.Errorf("%s, %s: %v", source, later, err)
				}
			}
			check(handshaketest.Unavailable)
			if _, err := p.Checker(onDisk(t, p, dir)).Check(t.Context(), leaf.Chain(), nil); err != nil {
				t.Fatal(err)
			}
			check(handshaketest.Unavailable)
			now = now.Add(later)
			check(handshaketest.Accepted)
		}
	}
}

// TestRoundAsksOnePlace: a round asks a second place for no list that the first has.
func TestRoundAsksOnePlace(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia mirror")
	leaf, checker := p.Cert("leaf"), p.Checker(nil)
	tracked(t, p, checker, leaf, leaf.TLS(nil))
	checker.Recheck(t.Context())
	if first, mirror := p.Hits("/root.crl"), p.Hits("/root-mirror.crl"); first != 2 || mirror != 0 {
		t.Errorf("asked %d times, and the mirror %d times", first, mirror)
	}
}

// TestListOfTwoIssuers: a list that counts for the certificates of two issuers is in memory once, as long as one of
// them uses it.
func TestListOfTwoIssuers(t *testing.T) {
	var body atomic.Pointer[[]byte]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(*body.Load()) }))
	t.Cleanup(server.Close)
	drawing := "root -> leaf noaia cdp=" + server.URL + "/shared.crl"
	one, other := handshaketest.New(t, drawing), handshaketest.New(t, drawing) // of one name and two keys
	signer := crlSigner(t, one.Cert("root"), one.Cert("root"))
	certified, err := x509.CreateCertificate(rand.Reader, signer.Certificate, other.Cert("root").Certificate, signer.Key.Public(), other.Cert("root").Key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := x509.ParseCertificate(certified)
	if err != nil {
		t.Fatal(err)
	}
	checker := one.Checker(func(c *handshake.Config) {
		c.Issuers = []handshake.Issuer{{Certificate: signer.Certificate}, {Certificate: one.Cert("root").Certificate}, {Certificate: other.Cert("root").Certificate}}
	})
	bringing := func(p *handshaketest.PKI, c *x509.Certificate) string {
		config := p.ServerConfig(p.Cert("leaf"), nil)
		config.Certificates[0].Certificate = append(config.Certificates[0].Certificate, c.Raw)
		return p.Listen(config)
	}
	addresses := map[*handshaketest.PKI]string{one: bringing(one, signer.Certificate), other: bringing(other, again)}
	check := func(p *handshaketest.PKI, entries int) {
		t.Helper()
		if _, err := dial(t, checker, one.ClientConfig(p.Cert("leaf")), addresses[p]); err != nil {
			t.Error(err)
		}
		if n := checker.TestingOnlyEntries(); n != entries {
			t.Errorf("%d entries in memory, want %d", n, entries)
		}
	}
	list := func(entries int) {
		var revoked []handshaketest.Revocation
		for i := range entries {
			revoked = append(revoked, handshaketest.Revocation{Serial: big.NewInt(int64(100_000 + i)), At: one.Now(), Reason: 1})
		}
		der := one.Cert("root").CRL(handshaketest.CRL{Signer: signer, Only: revoked})
		body.Store(&der)
	}
	list(3)
	check(one, 3)
	check(other, 3)
	one.Advance(25 * time.Hour)
	list(5)
	check(one, 3+5)
	check(other, 5)
}

// TestPlaceThatWasAway: a place that failed at the one handshake that needed it is asked again while the list of
// another place, which lags behind, lasts. If its own list was the younger one, it is asked as often as any place that
// fails, otherwise within an hour.
func TestPlaceThatWasAway(t *testing.T) {
	const day = 24 * time.Hour
	older, younger := handshaketest.CRL{Age: 8 * day, Life: 7 * day}, handshaketest.CRL{Age: 2 * day, Life: 28 * day}
	for name, test := range map[string]struct {
		first, mirror handshaketest.CRL
		away, within  time.Duration
	}{
		"its list is older":           {older, younger, time.Minute, time.Minute},
		"its list is older, for long": {older, younger, 2 * day, time.Hour},
		"its list is younger": {
			handshaketest.CRL{Age: 2 * day, Life: day}, handshaketest.CRL{Age: 8 * day, Life: 22 * day}, 40 * time.Minute, 6 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf noaia mirror")
			leaf, root := p.Cert("leaf"), p.Cert("root")
			checker := p.Checker(nil)
			check := func(want handshaketest.Outcome) {
				t.Helper()
				if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != want {
					t.Fatal(err)
				}
				for !checker.TestingOnlyIdle() {
					time.Sleep(time.Millisecond)
				}
			}
			p.Replace("/root.crl", handshaketest.Bytes(root.CRL(test.first)))
			p.Replace("/root-mirror.crl", http.NotFoundHandler())
			check(handshaketest.Stale)
			p.Replace("/root.crl", http.NotFoundHandler())
			p.Replace("/root-mirror.crl", handshaketest.Bytes(root.CRL(test.mirror)))
			p.Advance(time.Hour)
			check(handshaketest.Accepted)
			for range 60 {
				p.Advance(test.away / 60)
				check(handshaketest.Accepted)
			}
			leaf.Revoke(1)
			p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{})))
			p.Advance(test.within)
			check(handshaketest.Accepted) // by what is at hand
			check(handshaketest.RevokedOutcome)
		})
	}
}

// TestPlaceThatHadNone: a place that had no list when another was asked is asked again, once an hour, while the other's
// list lasts; a place after it is not.
func TestPlaceThatHadNone(t *testing.T) {
	for name, empty := range map[string]http.Handler{"nothing": http.NotFoundHandler(), "garbage": handshaketest.Bytes([]byte("garbage"))} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf noaia mirror")
			leaf, checker := p.Cert("leaf"), p.Checker(nil)
			check := func(want handshaketest.Outcome, first, mirror int) {
				t.Helper()
				if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != want {
					t.Error(err)
				}
				for !checker.TestingOnlyIdle() {
					time.Sleep(time.Millisecond)
				}
				if f, m := p.Hits("/root.crl"), p.Hits("/root-mirror.crl"); f != first || m != mirror {
					t.Errorf("asked %d times, and the mirror %d times; want %d and %d", f, m, first, mirror)
				}
			}
			p.Replace("/root.crl", empty)
			check(handshaketest.Accepted, 1, 1)
			p.Advance(30 * time.Minute)
			check(handshaketest.Accepted, 1, 1)
			p.Advance(30 * time.Minute)
			check(handshaketest.Accepted, 2, 1)
			check(handshaketest.Accepted, 2, 1)
			leaf.Revoke(1)
			p.Replace("/root.crl", handshaketest.Bytes(p.Cert("root").CRL(handshaketest.CRL{})))
			p.Replace("/root-mirror.crl", http.NotFoundHandler())
			p.Advance(time.Hour)
			check(handshaketest.Accepted, 3, 1) // by what is at hand
			check(handshaketest.RevokedOutcome, 3, 1)
		})
	}
}

// TestPlaceThatHadNoneForMany: that a place had no list is not forgotten, however many certificates another place tells
// the status of.
func TestPlaceThatHadNoneForMany(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia mirror")
	leaf, checker := p.Cert("leaf"), p.Checker(nil)
	check := func(serial int64) {
		one := *leaf.Certificate
		one.SerialNumber = big.NewInt(serial)
		if _, err := checker.Check(t.Context(), []*x509.Certificate{&one, leaf.Issuer.Certificate}, nil); err != nil {
			t.Fatal(err)
		}
	}
	p.Replace("/root.crl", http.NotFoundHandler())
	check(1_000_000)
	p.Advance(30 * time.Minute)
	for serial := range int64(30_000) { // some times as many as are remembered of anything
		check(2_000_000 + serial)
	}
	for !checker.TestingOnlyIdle() {
		time.Sleep(time.Millisecond)
	}
	if first, mirror := p.Hits("/root.crl"), p.Hits("/root-mirror.crl"); first != 1 || mirror != 1 {
		t.Errorf("asked %d times, and the mirror %d times; want once each", first, mirror)
	}
}

// TestAbandonedPlace: a second place was asked once while the first was down, and its list has ended. Once the first is
// back, the second is asked more and more seldom; in the end its list is forgotten.
func TestAbandonedPlace(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia mirror; root -> other")
	leaf, root := p.Cert("leaf"), p.Cert("root")
	p.Cert("other").Revoke(1)
	p.Replace("/root-mirror.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Age: 48 * time.Hour})))
	p.Cert("other").Release()
	p.Replace("/root.crl", http.NotFoundHandler())
	checker := p.Checker(nil)
	check := func(want handshaketest.Outcome) {
		t.Helper()
		if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != want {
			t.Fatal(err)
		}
		for !checker.TestingOnlyIdle() {
			time.Sleep(time.Millisecond)
		}
	}
	check(handshaketest.Stale)
	p.Replace("/root.crl", nil)
	p.Advance(10 * time.Minute)
	check(handshaketest.Accepted)
	before := p.Hits("/root-mirror.crl")
	for range 120 {
		p.Advance(30 * time.Second)
		check(handshaketest.Accepted)
		checker.Recheck(t.Context())
	}
	if asked := p.Hits("/root-mirror.crl") - before; asked < 3 || asked > 8 {
		t.Errorf("asked %d times in an hour", asked)
	}
	if n := checker.TestingOnlyEntries(); n != 1 {
		t.Fatalf("%d entries in memory, want that of the second place", n)
	}
	for range 3 {
		p.Advance(11 * time.Hour)
		check(handshaketest.Accepted)
		checker.Recheck(t.Context())
	}
	if n := checker.TestingOnlyEntries(); n != 0 {
		t.Errorf("%d entries in memory", n)
	}
}

// TestPlaceNearMaxAge: a list that MaxAge still allows by the clock counts: its second place is asked neither by a
// handshake nor in a round.
func TestPlaceNearMaxAge(t *testing.T) {
	young := handshaketest.CRL{Age: 20 * time.Minute}
	for name, list := range map[string]func(root *handshaketest.Cert) []byte{
		"with nextUpdate":    func(root *handshaketest.Cert) []byte { return root.CRL(young) },
		"without nextUpdate": func(root *handshaketest.Cert) []byte { return endless(t, root, root.CRL(young)) },
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf noaia mirror")
			leaf := p.Cert("leaf")
			p.Replace("/root.crl", handshaketest.Bytes(list(p.Cert("root"))))
			checker := p.Checker(func(c *handshake.Config) { c.MaxAge, c.Skew = time.Hour, 50*time.Minute })
			tracked(t, p, checker, leaf, leaf.TLS(nil))
			for range 3 {
				checker.Recheck(t.Context())
			}
			if first, mirror := p.Hits("/root.crl"), p.Hits("/root-mirror.crl"); first != 4 || mirror != 0 {
				t.Errorf("asked %d times, and the mirror %d times", first, mirror)
			}
			p.Advance(41 * time.Minute)
			if _, err := checker.Check(t.Context(), leaf.Chain(), nil); err != nil || p.Hits("/root-mirror.crl") != 1 {
				t.Errorf("once it is too old, the mirror was asked %d times: %v", p.Hits("/root-mirror.crl"), err)
			}
		})
	}
}
