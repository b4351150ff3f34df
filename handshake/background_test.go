package handshake_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/handshake/handshaketest"
)

// TestRefreshWithoutAPlace: what is due while a host that does not answer has all the places is refreshed with the next use after that.
func TestRefreshWithoutAPlace(t *testing.T) {
	const places = 4
	for name, test := range map[string]struct {
		words, path string
		passed      time.Duration
		arrange     func(p *handshaketest.PKI)
	}{
		"list":   {"noaia", "/root.crl", 13 * time.Hour, func(*handshaketest.PKI) {}},
		"answer": {"nocdp", "/root.ocsp", 40 * time.Minute, func(*handshaketest.PKI) {}},
		"delta": {"noaia", "/delta.crl", 2 * time.Minute, func(p *handshaketest.PKI) {
			freshest := handshaketest.Extensions(handshaketest.Freshest(p.URL + "/delta.crl"))
			p.Replace("/root.crl", handshaketest.Bytes(p.Cert("root").CRL(handshaketest.CRL{Life: 48 * time.Hour, Extensions: freshest})))
			p.Replace("/delta.crl", http.NotFoundHandler())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var p *handshaketest.PKI
			var silent atomic.Bool
			asked, release := make(chan struct{}, places), make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if silent.Load() {
					asked <- struct{}{}
					<-release
				}
				_, _ = w.Write(p.Cert("far").CRL(handshaketest.CRL{Life: test.passed + time.Minute}))
			}))
			t.Cleanup(server.Close)
			var drawing strings.Builder
			for i := range places {
				fmt.Fprintf(&drawing, "far -> far%d noaia cdp=%s/%d.crl; ", i, server.URL, i)
			}
			p = handshaketest.New(t, drawing.String()+"root -> leaf "+test.words)
			test.arrange(p)
			checker := p.Checker(nil)
			check := func(name string) {
				t.Helper()
				if _, err := checker.Check(t.Context(), p.Cert(name).Chain(), nil); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			checkAll := func() {
				for i := range places {
					check(fmt.Sprintf("far%d", i))
				}
			}
			await := func(what string, done func() bool) {
				t.Helper()
				for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal(what)
					}
				}
			}
			checkAll()
			check("leaf")
			await("what came with the first handshake goes on", checker.TestingOnlyIdle)
			p.Advance(test.passed)
			silent.Store(true)
			checkAll()
			for range places {
				<-asked
			}
			check("leaf")
			if hits := p.Hits(test.path); hits != 1 {
				t.Errorf("it was asked for %d times, though every place is taken", hits)
			}
			close(release)
			await("the places are not given back", checker.TestingOnlyIdle)
			check("leaf")
			await("it was not refreshed", func() bool { return p.Hits(test.path) > 1 })
			for range 2 * places {
				check("leaf")
			}
			await("what is not due keeps a place", checker.TestingOnlyIdle)
		})
	}
}
