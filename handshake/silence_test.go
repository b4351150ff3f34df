package handshake_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
)

// TestSilentPlaces: a place that accepts the request and never answers does not use up the time of the others.
func TestSilentPlaces(t *testing.T) {
	for name, test := range map[string]struct {
		drawing string
		silent  []string
		change  func(p *handshaketest.PKI, issuer *handshake.Issuer)
	}{
		"the first of a distribution point": {drawing: "noaia mirror", silent: []string{"/root.crl"}},
		"a list that is configured": {"noaia", []string{"/silent.crl"}, func(p *handshaketest.PKI, issuer *handshake.Issuer) {
			issuer.CRLs = []string{p.URL + "/silent.crl"}
		}},
		"responders": {"nocdp", []string{"/1.ocsp", "/2.ocsp", "/3.ocsp"}, func(p *handshaketest.PKI, issuer *handshake.Issuer) {
			issuer.OCSP = []string{p.URL + "/1.ocsp", p.URL + "/2.ocsp", p.URL + "/3.ocsp"}
		}},
		"a delta": {"noaia", []string{"/root-delta.crl"}, func(p *handshaketest.PKI, _ *handshake.Issuer) {
			p.Replace("/root.crl", handshaketest.Bytes(p.Cert("root").CRL(handshaketest.CRL{
				Extensions: handshaketest.Extensions(handshaketest.Freshest(p.URL + "/root-delta.crl")),
			})))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := handshaketest.New(t, "root -> leaf "+test.drawing)
			issuer := handshake.Issuer{Certificate: p.Cert("root").Certificate}
			if test.change != nil {
				test.change(p, &issuer)
			}
			checker := p.Checker(func(c *handshake.Config) {
				c.Issuers = []handshake.Issuer{issuer}
				c.Budget = 9 * time.Second // three responders are silent for as long, one after the other
			})
			for _, path := range test.silent {
				p.Replace(path, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
			}
			if result, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); err != nil {
				t.Errorf("%v: %v", err, result.Certificates[0].Evidence)
			}
			for _, path := range test.silent {
				if p.Hits(path) != 1 {
					t.Errorf("%s was asked %d times", path, p.Hits(path))
				}
			}
		})
	}
}

// lateRevocation is a leaf that is revoked by the list of the first place, which comes when the test lets it through,
// and good by the second's.
func lateRevocation(t *testing.T) (p *handshaketest.PKI, leaf *handshaketest.Cert, through chan struct{}) {
	p = handshaketest.New(t, "root -> leaf noaia mirror")
	leaf, through = p.Cert("leaf"), make(chan struct{})
	p.Replace("/root-mirror.crl", handshaketest.Bytes(p.Cert("root").CRL(handshaketest.CRL{Age: time.Hour})))
	leaf.Revoke(1)
	p.Before("/root.crl", func() { <-through })
	return p, leaf, through
}

// TestLatePlace: an answer of the first place that comes after the second was believed counts from then on.
func TestLatePlace(t *testing.T) {
	p, leaf, through := lateRevocation(t)
	checker := p.Checker(nil)
	_, err := checker.Check(t.Context(), leaf.Chain(), nil)
	close(through)
	if err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(time.Minute); outcomeOf(t, err) != handshaketest.RevokedOutcome; _, err = checker.Check(t.Context(), leaf.Chain(), nil) {
		if time.Now().After(until) {
			t.Fatal("what came late was not kept")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestLateListClosesConnections: a revocation closes connections even if its list came after the handshake went on with
// the list of another place.
func TestLateListClosesConnections(t *testing.T) {
	p, leaf, through := lateRevocation(t)
	conn := tracked(t, p, p.Checker(nil), leaf, leaf.TLS(nil))
	close(through)
	if !closedSoon(conn) {
		t.Error("the connection is open")
	}
}

// TestTurns: places are asked in turn: the next at once when one has not said enough, and when one has been silent for
// its share of the time.
func TestTurns(t *testing.T) {
	type place struct {
		after int // seconds
		says  string
	}
	const never = 3600
	for name, test := range map[string]struct {
		places []place
		said   []string // "yes" is enough
		took   int      // seconds of 12
	}{
		"nobody":                   {},
		"one":                      {[]place{{11, "no"}}, []string{"no"}, 11},
		"the first":                {[]place{{1, "yes"}, {1, "yes"}}, []string{"yes"}, 1},
		"the second at once":       {[]place{{1, "no"}, {1, "yes"}, {1, "yes"}}, []string{"no", "yes"}, 2},
		"the second beside":        {[]place{{never, ""}, {1, "yes"}}, []string{"yes"}, 4 + 1},
		"the first after all":      {[]place{{5, "yes"}, {never, ""}}, []string{"yes"}, 5},
		"in the order of places":   {[]place{{5, "first"}, {1, "second"}, {3, "yes"}}, []string{"first", "second", "yes"}, 3 + 1 + 3},
		"the last, as one says no": {[]place{{never, ""}, {1, "no"}, {1, "yes"}}, []string{"no", "yes"}, 3 + 1 + 1},
		"the last, as all wait":    {[]place{{never, ""}, {never, ""}, {1, "yes"}}, []string{"yes"}, 3 + 3 + 1},
		"everybody says no":        {[]place{{1, "no"}, {1, "no"}}, []string{"no", "no"}, 2},
		"not beyond the time":      {[]place{{never, ""}, {1, "no"}}, []string{"no"}, 12},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				checker, err := handshake.New(handshake.Config{})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
				defer cancel()
				began := time.Now()
				said := checker.TestingOnlyInTurn(ctx, 12*time.Second, len(test.places), func(ctx context.Context, i int) []string {
					select {
					case <-time.After(time.Duration(test.places[i].after) * time.Second):
						return []string{test.places[i].says}
					case <-ctx.Done():
						return []string{"given up"}
					}
				})
				if took := time.Since(began); !slices.Equal(said, test.said) || took != time.Duration(test.took)*time.Second {
					t.Errorf("%q after %s", said, took)
				}
				time.Sleep(never * time.Second) // it outlives the question
			})
		})
	}
}

// TestLateRevocation: a revocation that comes after the handshake that asked was given up closes connections all the
// same.
func TestLateRevocation(t *testing.T) {
	for drawing, path := range map[string]string{"noaia": "/root.crl", "nocdp": "/root.ocsp"} {
		p := handshaketest.New(t, "root -> leaf "+drawing)
		leaf, asked, givenUp := p.Cert("leaf"), make(chan struct{}), make(chan struct{})
		checker := p.Checker(func(c *handshake.Config) { c.Policy = handshake.SoftFail })
		p.Replace(path, http.NotFoundHandler())
		conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
		p.Advance(time.Hour)
		leaf.Revoke(1)
		p.Before(path, func() { close(asked); <-givenUp })
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		result, _ := checker.Check(ctx, leaf.Chain(), nil)
		close(givenUp)
		if result.Decision() != handshake.AcceptedUnproved {
			t.Fatalf("%s: %s", path, result.Decision())
		}
		if !closedSoon(conn) {
			t.Errorf("%s: the connection is open", path)
		}
	}
}
