package handshake_test

import (
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/ocsp"
)

// TestUselessAnswers: an answer that does not count is not asked for by every handshake, but again after a moment. In
// between its evidence is the same, and says that no source was asked.
func TestUselessAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		drawing, path string
		answer        func(p *handshaketest.PKI) []byte
		want          handshaketest.Outcome
		atMost        int // times each time
	}{
		"a list that has ended": {"noaia", "/root.crl", func(p *handshaketest.PKI) []byte {
			return p.Cert("root").CRL(handshaketest.CRL{Age: 48 * time.Hour})
		}, handshaketest.Stale, 2}, // by the handshake and in the background
		"no list": {"noaia", "/root.crl", func(p *handshaketest.PKI) []byte { return []byte("garbage") }, handshaketest.BadEvidence, 1},
		"a list of another authority": {"noaia", "/root.crl", func(p *handshaketest.PKI) []byte {
			return p.Cert("foreign").CRL(handshaketest.CRL{})
		}, handshaketest.BadEvidence, 1},
		"an answer that has ended": {"nocdp", "/root.ocsp", func(p *handshaketest.PKI) []byte {
			return p.Cert("leaf").OCSP(handshaketest.OCSP{Age: 48 * time.Hour})
		}, handshaketest.Stale, 1},
		"no answer":      {"nocdp", "/root.ocsp", func(p *handshaketest.PKI) []byte { return []byte("garbage") }, handshaketest.BadEvidence, 1},
		"later":          {"nocdp", "/root.ocsp", func(*handshaketest.PKI) []byte { return ocsp.TryLater.Marshal() }, handshaketest.Unavailable, 1},
		"signed only":    {"nocdp", "/root.ocsp", func(*handshaketest.PKI) []byte { return ocsp.SigRequired.Marshal() }, handshaketest.Unavailable, 1},
		"an error":       {"nocdp", "/root.ocsp", func(*handshaketest.PKI) []byte { return ocsp.InternalError.Marshal() }, handshaketest.Unavailable, 2},
		"not understood": {"nocdp", "/root.ocsp", func(*handshaketest.PKI) []byte { return ocsp.MalformedRequest.Marshal() }, handshaketest.Unavailable, 2},
		"nobody of his":  {"nocdp", "/root.ocsp", func(*handshaketest.PKI) []byte { return ocsp.Unauthorized.Marshal() }, handshaketest.Unavailable, 2},
		"of another's":   {"nocdp", "/root.ocsp", func(p *handshaketest.PKI) []byte { return p.Cert("other").OCSP(handshaketest.OCSP{}) }, handshaketest.BadEvidence, 2},
		"not known (by either hash)": {"nocdp", "/root.ocsp", func(p *handshaketest.PKI) []byte {
			return p.Cert("leaf").OCSP(handshaketest.OCSP{Force: true, Status: xocsp.Unknown})
		}, handshaketest.Unavailable, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf "+test.drawing+"; root -> other; foreign -> stranger")
			now := p.Now()
			checker := p.Checker(func(c *handshake.Config) { c.Now = func() time.Time { return now } })
			p.Replace(test.path, handshaketest.Bytes(test.answer(p)))
			before := 0
			for round := range 2 {
				for try := range 10 {
					result, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil)
					if outcomeOf(t, err) != test.want {
						t.Fatalf("%v", err)
					}
					if cached := result.Certificates[0].Decisive.Cached; try > 0 && !cached || round+try == 0 && cached {
						t.Errorf("round %d, check %d: cached: %v", round, try, cached)
					}
				}
				hits := p.Hits(test.path)
				if asked := hits - before; asked == 0 || asked > test.atMost {
					t.Errorf("round %d: asked %d times", round, asked)
				}
				before = hits
				now = now.Add(10 * time.Second)
			}
			p.Replace(test.path, nil)
			if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); err != nil {
				t.Errorf("an answer that counts: %v", err)
			}
		})
	}
}

// TestCachedIsWhatWasAtHand: the evidence of a list that cannot be fetched any more does not say that it came just now,
// though its place was asked.
func TestCachedIsWhatWasAtHand(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	checker := p.Checker(nil)
	check := func(want ...bool) {
		t.Helper()
		result, _ := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil)
		var cached []bool
		for _, e := range result.Certificates[0].Evidence {
			cached = append(cached, e.Cached)
		}
		if !slices.Equal(cached, want) {
			t.Errorf("cached: %v of %v", cached, result.Certificates[0].Evidence)
		}
	}
	check(false)
	check(true)
	p.Advance(25 * time.Hour)
	p.Replace("/root.crl", http.NotFoundHandler())
	check(true, false, true) // it has ended; nothing comes; so it has ended
}

// TestUselessForOneOnly: a list that does not count for one certificate is asked for by the next; a round always asks.
func TestUselessForOneOnly(t *testing.T) {
	for _, source := range []string{"noaia", "nocdp"} {
		p := handshaketest.New(t, "root -> leaf "+source+"; root -> other "+source)
		now, leaf, garbage := p.Now(), p.Cert("leaf"), handshaketest.Bytes([]byte("garbage"))
		checker := p.Checker(func(c *handshake.Config) {
			c.Policy, c.Now = handshake.SoftFail, func() time.Time { return now }
		})
		for _, path := range []string{"/root.crl", "/root.ocsp"} {
			p.Replace(path, garbage)
		}
		tracked(t, p, checker, leaf, leaf.TLS(nil))
		_, _ = checker.Check(t.Context(), leaf.Chain(), nil)
		hits := func() int { return p.Hits("/root.crl") + p.Hits("/root.ocsp") }
		for asked, step := range []func(){
			0: func() { _, _ = checker.Check(t.Context(), leaf.Chain(), nil) },
			1: func() { _, _ = checker.Check(t.Context(), p.Cert("other").Chain(), nil) },
			2: func() { checker.Recheck(t.Context()) },
			3: func() { checker.Recheck(t.Context()) },
		} {
			before := hits()
			step()
			if came := hits() - before; (came > 0) != (asked > 0) {
				t.Errorf("%s, step %d: asked %d times", source, asked, came)
			}
		}
	}
}

// TestUselessForAPeer: with the signer that another peer sends along, the same list counts at once.
func TestUselessForAPeer(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	now, root, leaf := p.Now(), p.Cert("root"), p.Cert("leaf")
	signer := crlSigner(t, root, root)
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Signer: signer})))
	checker := p.Checker(func(c *handshake.Config) { c.Now = func() time.Time { return now } })
	if _, err := dial(t, checker, p.ClientConfig(leaf), p.Listen(p.ServerConfig(leaf, nil))); outcomeOf(t, err) != handshaketest.BadEvidence {
		t.Fatalf("without the signer: %v", err)
	}
	bringing := p.ServerConfig(leaf, nil)
	bringing.Certificates[0].Certificate = append(bringing.Certificates[0].Certificate, signer.Raw)
	if _, err := dial(t, checker, p.ClientConfig(leaf), p.Listen(bringing)); err != nil {
		t.Errorf("with the signer: %v", err)
	}
}

// TestAbsentIsNotUseless: the Fetcher, and not the Checker, remembers that no answer came.
func TestAbsentIsNotUseless(t *testing.T) {
	for _, source := range []string{"noaia", "nocdp"} {
		p := handshaketest.New(t, "root -> leaf "+source)
		now := p.Now()
		checker := p.Checker(func(c *handshake.Config) { c.Now = func() time.Time { return now } })
		p.Replace("/root.crl", http.NotFoundHandler())
		p.Replace("/root.ocsp", http.NotFoundHandler())
		if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); outcomeOf(t, err) != handshaketest.Unavailable {
			t.Fatal(err)
		}
		p.On()
		p.Advance(time.Minute) // for the Fetcher, not for the Checker
		if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// TestEndedListIsLeftAlone: a list that had ended when it came is not asked for again at once, in the background either.
func TestEndedListIsLeftAlone(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	now := p.Now()
	checker := p.Checker(func(c *handshake.Config) { c.Now = func() time.Time { return now } })
	p.Replace("/root.crl", handshaketest.Bytes(p.Cert("root").CRL(handshaketest.CRL{Age: 48 * time.Hour})))
	for range 10 {
		if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); outcomeOf(t, err) != handshaketest.Stale {
			t.Fatal(err)
		}
		for !checker.TestingOnlyIdle() {
			time.Sleep(time.Millisecond)
		}
	}
	if hits := p.Hits("/root.crl"); hits != 1 {
		t.Errorf("asked %d times", hits)
	}
}

// TestUselessBeforeTheClockWasSetBack: the source is asked again after a fast clock was set right.
func TestUselessBeforeTheClockWasSetBack(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	now := p.Now()
	checker := p.Checker(func(c *handshake.Config) { c.Now = func() time.Time { return now } })
	p.Replace("/root.crl", handshaketest.Bytes([]byte("garbage")))
	for asked := range 2 {
		if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); outcomeOf(t, err) != handshaketest.BadEvidence || p.Hits("/root.crl") != asked+1 {
			t.Errorf("asked %d times: %v", p.Hits("/root.crl"), err)
		}
		now = now.Add(-time.Hour)
	}
}

// TestUselessForTheIssuer: a list that does not count for the certificate of an authority may count for the
// certificates below it, though it comes from the same place.
func TestUselessForTheIssuer(t *testing.T) {
	var body atomic.Pointer[[]byte]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(*body.Load()) }))
	t.Cleanup(server.Close)
	p := handshaketest.New(t, "root -> int noaia cdp="+server.URL+" -> leaf noaia cdp="+server.URL)
	now := p.Now()
	checker := p.Checker(func(c *handshake.Config) {
		c.Now = func() time.Time { return now }
		c.Issuers = []handshake.Issuer{{Certificate: p.Cert("root").Certificate, Policy: handshake.SoftFail}}
	})
	for range 2 {
		list := p.Cert("int").CRL(handshaketest.CRL{At: now, Life: 5 * time.Second})
		body.Store(&list)
		if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); err != nil {
			t.Error(err)
		}
		now = now.Add(6 * time.Second)
	}
}

// TestUselessOverOneChain: a list that does not count over one chain of a peer is asked for over the next, where it
// counts: its signer leads to the anchor of that chain only.
func TestUselessOverOneChain(t *testing.T) {
	p := handshaketest.New(t, "a -> int noaia nocdp -> leaf noaia; b -> other")
	a, b, inter, leaf := p.Cert("a"), p.Cert("b"), p.Cert("int"), p.Cert("leaf")
	crossed := *inter.Certificate
	crossed.AuthorityKeyId = nil
	crossCertificate, err := x509.CreateCertificate(rand.Reader, &crossed, b.Certificate, inter.Key.Public(), b.Key)
	if err != nil {
		t.Fatal(err)
	}
	signer := signerUnder(t, inter, b.Certificate, b)
	p.Replace("/int.crl", handshaketest.Bytes(inter.CRL(handshaketest.CRL{Signer: signer})))
	now := p.Now()
	checker := p.Checker(func(c *handshake.Config) {
		c.Now = func() time.Time { return now }
		c.Issuers = []handshake.Issuer{{Certificate: a.Certificate, Policy: handshake.SoftFail}, {Certificate: b.Certificate, Policy: handshake.SoftFail}}
	})
	server, client := p.ServerConfig(leaf, nil), p.ClientConfig(leaf)
	server.Certificates[0].Certificate = [][]byte{leaf.Raw, inter.Raw, crossCertificate, signer.Raw}
	client.RootCAs.AddCert(b.Certificate)
	if result, err := dial(t, checker, client, p.Listen(server)); err != nil || p.Hits("/int.crl") != 2 || !slices.ContainsFunc(result.Chain, b.Equal) {
		t.Errorf("asked %d times: %v", p.Hits("/int.crl"), err)
	}
}
