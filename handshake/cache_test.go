package handshake_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/pki"
)

// onDisk gives a Config a fetcher with a directory.
func onDisk(t *testing.T, p *handshaketest.PKI, dir string) func(*handshake.Config) {
	return func(c *handshake.Config) {
		fetcher, err := fetch.New(fetch.Config{Allow: handshaketest.Loopback, Now: p.Now, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		c.Fetcher = fetcher
	}
}

// TestDiskAcrossProcesses: objects that one process fetched serve another while the status service is off, verified
// again; spoiled ones do not.
func TestDiskAcrossProcesses(t *testing.T) {
	for _, source := range []string{"noaia", "nocdp"} {
		t.Run(source, func(t *testing.T) {
			p := handshaketest.New(t, "root -> int -> leaf "+source)
			chain, dir := p.Cert("leaf").Chain(), t.TempDir()
			first, second := p.Checker(onDisk(t, p, dir)), p.Checker(onDisk(t, p, dir))
			if _, err := first.Check(t.Context(), chain, nil); err != nil {
				t.Fatal(err)
			}
			idle(t, first)
			p.Off()
			result, err := second.Check(t.Context(), chain, nil)
			if err != nil || !result.Certificates[0].Decisive.Cached {
				t.Fatalf("another process: %v", err)
			}
			idle(t, second)
			spoil(t, dir)
			if _, err := p.Checker(onDisk(t, p, dir)).Check(t.Context(), chain, nil); err == nil {
				t.Fatal("spoiled objects were believed")
			}
		})
	}
}

// TestDiskAfterAnother: a list on disk that does not count for one certificate is still looked at for the next: for a
// leaf after the responder that signed its staple, and after a leaf in the scope of another list.
func TestDiskAfterAnother(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia hold; root -> other nocdp noaia; root -> responder delegate nocdp noaia")
	root, leaf, other, dir, place := p.Cert("root"), p.Cert("leaf"), p.Cert("other"), t.TempDir(), p.URL+"/root.crl"
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Extensions: []pkix.Extension{handshaketest.ScopeURL(place)}})))
	checker := func() *handshake.Checker {
		return p.Checker(func(c *handshake.Config) {
			onDisk(t, p, dir)(c)
			c.Policy, c.Issuers = handshake.SoftFail, []handshake.Issuer{{Certificate: root.Certificate, CRLs: []string{place}}}
		})
	}
	if _, err := checker().Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.RevokedOutcome {
		t.Fatal(err)
	}
	p.Off()
	good := handshaketest.OCSP{Force: true, Age: 10 * time.Minute}
	byDelegate := good
	byDelegate.Signer = p.Cert("responder")
	for name, staple := range map[string][]byte{"the authority's": leaf.OCSP(good), "a delegate's": leaf.OCSP(byDelegate)} {
		if _, err := checker().Check(t.Context(), leaf.Chain(), staple); outcomeOf(t, err) != handshaketest.RevokedOutcome {
			t.Errorf("with %s staple: %v", name, err)
		}
	}
	later := checker()
	if _, err := later.Check(t.Context(), other.Chain(), nil); err != nil {
		t.Errorf("another leaf: %v", err)
	}
	if _, err := later.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.RevokedOutcome {
		t.Errorf("after another leaf: %v", err)
	}
}

// TestDiskPEM: a list that is served as PEM counts in the next process too.
func TestDiskPEM(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> leaf noaia"), t.TempDir()
	p.Replace("/root.crl", handshaketest.Bytes(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: p.Cert("root").CRL(handshaketest.CRL{})})))
	if _, err := p.Checker(onDisk(t, p, dir)).Check(t.Context(), p.Cert("leaf").Chain(), nil); err != nil {
		t.Fatal(err)
	}
	p.Off()
	if _, err := p.Checker(onDisk(t, p, dir)).Check(t.Context(), p.Cert("leaf").Chain(), nil); err != nil {
		t.Errorf("another process: %v", err)
	}
}

// spoil changes the last octet of every object and the name it is found by, as a user who may write there could.
func spoil(t *testing.T, dir string) {
	t.Helper()
	objects, err := filepath.Glob(filepath.Join(dir, "objects", "*"))
	if err != nil || len(objects) == 0 {
		t.Fatal(objects, err)
	}
	for _, path := range objects {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		body[len(body)-1] ^= 1
		respell(t, dir, path, body)
	}
}

// TestDelta: a revocation that only a delta has is found, and a delta without its base says nothing.
func TestDelta(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf noaia; int -> other noaia")
	int, leaf := p.Cert("int"), p.Cert("leaf")
	freshest := handshaketest.Freshest(p.URL + "/int-delta.crl")
	p.Replace("/int.crl", handshaketest.Bytes(int.CRL(handshaketest.CRL{Number: 5, Extensions: handshaketest.Extensions(freshest)})))
	leaf.Revoke(1)
	p.Replace("/int-delta.crl", handshaketest.Bytes(int.CRL(handshaketest.CRL{Number: 6, Extensions: handshaketest.Extensions(handshaketest.DeltaOf(5))})))
	_, err := p.Checker(nil).Check(t.Context(), leaf.Chain(), nil)
	revoked, ok := errors.AsType[*handshake.RevokedError](err)
	if !ok || revoked.Evidence.Source != handshake.SourceDelta || revoked.Evidence.Number.Int64() != 6 {
		t.Fatalf("%v", err)
	}
	if _, err := p.Checker(nil).Check(t.Context(), p.Cert("other").Chain(), nil); err != nil {
		t.Fatalf("the other certificate: %v", err)
	}
	p.Replace("/int.crl", http.NotFoundHandler())
	if _, err := p.Checker(nil).Check(t.Context(), p.Cert("other").Chain(), nil); err == nil {
		t.Fatal("a delta alone was taken for the whole")
	}
}

// TestConfiguredDelta: a delta may be configured beside its complete list, which does not point to it.
func TestConfiguredDelta(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> leaf nocdp noaia"), t.TempDir()
	root := p.Cert("root")
	issuer := handshake.Issuer{Certificate: root.Certificate}
	write := func(name string, list []byte) {
		issuer.CRLs = append(issuer.CRLs, filepath.Join(dir, name))
		if err := os.WriteFile(filepath.Join(dir, name), list, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("root.crl", root.CRL(handshaketest.CRL{Number: 5}))
	p.Cert("leaf").Revoke(1)
	write("delta.crl", root.CRL(handshaketest.CRL{Number: 6, Extensions: handshaketest.Extensions(handshaketest.DeltaOf(5))}))
	_, err := p.Checker(func(c *handshake.Config) { c.Issuers = []handshake.Issuer{issuer} }).Check(t.Context(), p.Cert("leaf").Chain(), nil)
	if outcome := outcomeOf(t, err); outcome != handshaketest.RevokedOutcome {
		t.Errorf("%s: %v", outcome, err)
	}
}

// TestDeltaThatFailed: a delta that was not available when its complete list came is asked for again long before half
// the life of that list, and at most once a minute.
func TestDeltaThatFailed(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	freshest := handshaketest.Extensions(handshaketest.Freshest(p.URL + "/root-delta.crl"))
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Number: 5, Extensions: freshest})))
	p.Replace("/root-delta.crl", http.NotFoundHandler())
	checker := p.Checker(nil)
	check := func() error { _, err := checker.Check(t.Context(), leaf.Chain(), nil); return err }
	if err := check(); err != nil {
		t.Fatal(err)
	}
	p.Advance(2 * time.Minute)
	second := p.Now()
	if err := check(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for ; p.Hits("/root-delta.crl") < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody asked for the delta a second time")
		}
	}
	leaf.Revoke(1)
	p.Replace("/root-delta.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Number: 6, Extensions: handshaketest.Extensions(handshaketest.DeltaOf(5))})))
	for ; check() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody asked for the delta again")
		}
		p.Advance(time.Second) // within the first half of the list's day
		if hits := p.Hits("/root.crl"); hits != 1 {
			t.Fatal("the complete list was asked for again, which proves nothing of the delta")
		}
	}
	if passed := p.Now().Sub(second); passed < time.Minute {
		t.Errorf("it was asked for again after %s", passed)
	}
	if outcome := outcomeOf(t, check()); outcome != handshaketest.RevokedOutcome {
		t.Errorf("%s", outcome)
	}
}

// TestConfiguredFile: a CRL in a file covers certificates that point nowhere, without the network, and is read again
// when it changes.
func TestConfiguredFile(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia nocdp")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	path := filepath.Join(t.TempDir(), "root.crl")
	write := func(scope ...pkix.Extension) {
		t.Helper()
		if err := os.WriteFile(path, root.CRL(handshaketest.CRL{Extensions: scope}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	checker := p.Checker(func(c *handshake.Config) {
		c.Policy, c.Network = 0, handshake.NetworkNever
		c.Issuers = []handshake.Issuer{{Certificate: root.Certificate, CRLs: []string{path}}}
	})
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.Unavailable || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before there is a file: %v", err)
	}
	if err := os.WriteFile(path, []byte("this is not a list of any kind"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.BadEvidence {
		t.Fatalf("a file of something else: %v", err)
	}
	write()
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Fatal(err)
	}
	leaf.Revoke(4)
	write(handshaketest.ScopeUserCerts()) // the owner of a file decides its content, unlike an attacker on the path of plain HTTP
	_, err := checker.Check(t.Context(), leaf.Chain(), nil)
	if revoked, ok := errors.AsType[*handshake.RevokedError](err); !ok || revoked.Evidence.Reason != pki.Superseded || revoked.Evidence.Location != path {
		t.Fatalf("after the file changed: %v", err)
	}
}

// TestConfiguredPEM: a file may be PEM.
func TestConfiguredPEM(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia nocdp")
	path := filepath.Join(t.TempDir(), "root.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: p.Cert("root").CRL(handshaketest.CRL{})})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	checker := p.Checker(func(c *handshake.Config) {
		c.Issuers = []handshake.Issuer{{Certificate: p.Cert("root").Certificate, CRLs: []string{path}}}
	})
	if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); err != nil {
		t.Error(err)
	}
}

// TestHoldAgainstGood: a hold can be taken back, so of a hold and a good the later one counts. A final revocation wins
// over any other answer.
func TestHoldAgainstGood(t *testing.T) {
	for _, tc := range []struct {
		name            string
		reason          int
		crlAge, goodAge time.Duration
		accepted        bool
	}{
		{"hold, then good", 6, 2 * time.Hour, time.Hour, true},
		{"good, then hold", 6, time.Hour, 2 * time.Hour, false},
		{"hold and good at once", 6, time.Hour, time.Hour, false},
		{"revoked, then good", 1, 2 * time.Hour, time.Hour, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf noaia; root -> other noaia")
			root, leaf := p.Cert("root"), p.Cert("leaf")
			now := p.Now() // both ages are counted from one instant
			frozen := func(c *handshake.Config) { c.Now = func() time.Time { return now } }
			good := leaf.OCSP(handshaketest.OCSP{Age: tc.goodAge, Life: 12 * time.Hour, At: now})
			leaf.Revoke(tc.reason)
			p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Age: tc.crlAge, At: now})))
			checker := p.Checker(frozen)
			if _, err := checker.Check(t.Context(), p.Cert("other").Chain(), nil); err != nil { // brings the CRL
				t.Fatal(err)
			}
			if _, err := checker.Check(t.Context(), leaf.Chain(), good); (err == nil) != tc.accepted {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestHoldBetweenOthers: of three sources the latest counts, in whatever order they are asked and even if the other two
// agree.
func TestHoldBetweenOthers(t *testing.T) {
	const hold, good = true, false
	for name, test := range map[string]struct {
		staple, list, answer bool // of these, the answer is neither the oldest nor the newest
		stapleAge, listAge   time.Duration
	}{
		"an old hold and a new one":                      {hold, hold, good, 3 * time.Hour, time.Hour},
		"an old good and a new one":                      {good, good, hold, 3 * time.Hour, time.Hour},
		"an old hold and a new one, the other way about": {hold, hold, good, time.Hour, 3 * time.Hour},
		"an old good and a new one, the other way about": {good, good, hold, time.Hour, 3 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf nocdp")
			root, leaf, now := p.Cert("root"), p.Cert("leaf"), p.Now()
			path := filepath.Join(t.TempDir(), "root.crl")
			checker := p.Checker(func(c *handshake.Config) {
				c.Policy, c.Now = handshake.HardFailIfCovered, func() time.Time { return now }
				c.Issuers = []handshake.Issuer{{Certificate: root.Certificate, CRLs: []string{path}}}
			})
			say := func(held bool) {
				leaf.Release()
				if held {
					leaf.Revoke(6)
				}
			}
			say(test.answer)
			p.Replace("/root.ocsp", handshaketest.Bytes(leaf.OCSP(handshaketest.OCSP{Age: 2 * time.Hour, Life: 12 * time.Hour, At: now})))
			if _, err := checker.Check(t.Context(), leaf.Chain(), nil); (err == nil) == test.answer {
				t.Fatalf("the answer of the responder: %v", err)
			}
			say(test.list)
			if err := os.WriteFile(path, root.CRL(handshaketest.CRL{Age: test.listAge, At: now}), 0o600); err != nil {
				t.Fatal(err)
			}
			say(test.staple)
			staple := leaf.OCSP(handshaketest.OCSP{Age: test.stapleAge, Life: 12 * time.Hour, At: now})
			if _, err := checker.Check(t.Context(), leaf.Chain(), staple); (err == nil) == test.staple {
				t.Errorf("all three: %v", err)
			}
		})
	}
}

// TestRefreshUnused: a round of Run refreshes what is past half its life, though no connection rests on it.
func TestRefreshUnused(t *testing.T) {
	p := handshaketest.New(t, "root -> int noaia -> leaf noaia")
	checker := p.Checker(nil)
	if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); err != nil {
		t.Fatal(err)
	}
	checker.Recheck(t.Context())
	if hits := p.Hits("/int.crl"); hits != 1 {
		t.Errorf("a young CRL was fetched %d times", hits)
	}
	p.Advance(13 * time.Hour)
	checker.Recheck(t.Context())
	if hits := p.Hits("/int.crl"); hits != 2 {
		t.Errorf("after half its life the CRL was fetched %d times", hits)
	}
	p.Off()
	p.Advance(12 * time.Hour)
	if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); err != nil {
		t.Errorf("with what was refreshed: %v", err)
	}
}

// TestRefreshForNobody: a list that was found on disk for an untrusted peer is not refreshed.
func TestRefreshForNobody(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> leaf noaia; root -> expired expired revoked noaia"), t.TempDir()
	leaf, expired := p.Cert("leaf"), p.Cert("expired")
	if _, err := p.Checker(onDisk(t, p, dir)).Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Fatal(err)
	}
	p.Advance(13 * time.Hour)
	later := p.Checker(func(c *handshake.Config) {
		onDisk(t, p, dir)(c)
		c.Override = func(*handshake.Result) handshake.Answer { return handshake.OverrideAccept }
	})
	result, err := dial(t, later, p.ClientConfig(expired), p.Listen(p.ServerConfig(expired, nil)))
	if err == nil || len(result.Certificates) == 0 || result.Certificates[0].Status != pki.StatusRevoked {
		t.Fatalf("not judged by the list on disk: %v", err)
	}
	later.Recheck(t.Context())
	if hits := p.Hits("/root.crl"); hits != 1 {
		t.Errorf("the list was fetched %d times", hits)
	}
}

// TestEndedJustNow: a list that ended within Skew is asked for again, and the first handshake after its end is not
// refused for it.
func TestEndedJustNow(t *testing.T) {
	p := handshaketest.New(t, "root -> int noaia -> leaf noaia")
	checker := p.Checker(nil)
	for range 2 {
		if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil); err != nil {
			t.Fatal(err)
		}
		p.Advance(24*time.Hour + time.Minute)
	}
}

// TestRefreshAhead: past half the life of a CRL a handshake has it refreshed, without waiting for it.
func TestRefreshAhead(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf noaia")
	leaf := p.Cert("leaf")
	checker := p.Checker(nil)
	check := func() error { _, err := checker.Check(t.Context(), leaf.Chain(), nil); return err }
	if err := check(); err != nil {
		t.Fatal(err)
	}
	p.Advance(13 * time.Hour)
	leaf.Revoke(1)
	if err := check(); err != nil {
		t.Fatalf("a CRL of half a day is still good: %v", err)
	}
	deadline := time.Now().Add(time.Minute)
	for check() == nil {
		if time.Now().After(deadline) {
			t.Fatal("the refresh in the background never came")
		}
		time.Sleep(time.Millisecond)
	}
	if hits := p.Hits("/int.crl"); hits != 2 {
		t.Errorf("the CRL was fetched %d times", hits)
	}
}

// TestNetworkNever: nothing is asked during a handshake, nor in the background, nor by a poll.
func TestNetworkNever(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	checker := p.Checker(func(c *handshake.Config) { c.Network = handshake.NetworkNever })
	_, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), p.Cert("leaf").OCSP(handshaketest.OCSP{}))
	lenient := p.Checker(func(c *handshake.Config) { c.Network, c.Policy = handshake.NetworkNever, handshake.SoftFail })
	dialer := &handshake.Dialer{Checker: lenient, TLS: p.ClientConfig(p.Cert("leaf")), Track: true}
	conn, _, dialErr := dialer.DialResult(t.Context(), "tcp", p.Listen(p.ServerConfig(p.Cert("leaf"), nil)))
	if dialErr != nil {
		t.Fatal(dialErr)
	}
	defer conn.Close()
	lenient.Recheck(t.Context())
	asked := p.Hits("/int.crl") + p.Hits("/int.ocsp") + p.Hits("/root.crl") + p.Hits("/root.ocsp")
	if outcomeOf(t, err) != handshaketest.Unavailable || asked != 0 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// TestPostOnly: a responder that knows no GET is asked by POST.
func TestPostOnly(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp")
	leaf := p.Cert("leaf")
	p.Replace("/root.ocsp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return
		}
		w.Write(leaf.OCSP(handshaketest.OCSP{}))
	}))
	if _, err := p.Checker(nil).Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Error(err)
	}
}

// TestNonce: an issuer whose answers must be live is not satisfied with one from a cache.
func TestNonce(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp")
	checker := p.Checker(func(c *handshake.Config) {
		c.Issuers = []handshake.Issuer{{Certificate: p.Cert("root").Certificate, DemandNonce: true}}
	})
	_, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil)
	if outcomeOf(t, err) != handshaketest.BadEvidence { // the honest responder of the tests knows no nonces
		t.Fatalf("%v", err)
	}
}

// TestRevokedResponder: a delegate that is known to be revoked vouches for no certificate.
func TestRevokedResponder(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia nocdp; root -> delegate delegate; root -> other noaia")
	checker := p.Checker(nil)
	staple := p.Cert("leaf").OCSP(handshaketest.OCSP{Signer: p.Cert("delegate")})
	if _, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), staple); err != nil {
		t.Fatal(err)
	}
	p.Cert("delegate").Revoke(1)
	checker = p.Checker(nil)
	if _, err := checker.Check(t.Context(), p.Cert("other").Chain(), nil); err != nil { // brings the CRL
		t.Fatal(err)
	}
	_, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), staple)
	if outcomeOf(t, err) != handshaketest.BadEvidence {
		t.Fatalf("%v", err)
	}
	// Nor does it revoke: the thief of its key could have every certificate refused for good.
	p.Cert("leaf").Revoke(1)
	_, err = checker.Check(t.Context(), p.Cert("leaf").Chain(), p.Cert("leaf").OCSP(handshaketest.OCSP{Signer: p.Cert("delegate")}))
	if outcomeOf(t, err) != handshaketest.BadEvidence {
		t.Fatalf("%v", err)
	}
}

// TestRevokedResponderAndOldAnswers: a revoked responder does not revoke with a date in the past either, in a staple or
// over the network.
func TestRevokedResponderAndOldAnswers(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp; root -> delegate delegate; root -> other noaia")
	leaf := p.Cert("leaf")
	p.Cert("delegate").Revoke(1)
	leaf.Revoke(1)
	forged := leaf.OCSP(handshaketest.OCSP{Signer: p.Cert("delegate"), Age: 2 * time.Hour})
	leaf.Release()
	for _, stapled := range []bool{true, false} {
		checker := p.Checker(nil)
		if _, err := checker.Check(t.Context(), p.Cert("other").Chain(), nil); err != nil { // brings the CRL
			t.Fatal(err)
		}
		p.Replace("/root.ocsp", handshaketest.Bytes(forged))
		staple := forged
		if !stapled {
			staple = nil
		}
		if _, err := checker.Check(t.Context(), leaf.Chain(), staple); outcomeOf(t, err) != handshaketest.BadEvidence {
			t.Errorf("forged, stapled %v: %v", stapled, err)
		}
		p.Replace("/root.ocsp", nil)
		if _, err := checker.Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err != nil {
			t.Errorf("honest afterwards, stapled %v: %v", stapled, err)
		}
	}
}

// TestMaxAge: evidence older than MaxAge is stale, whatever its nextUpdate says.
func TestMaxAge(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	p.Replace("/root.crl", handshaketest.Bytes(p.Cert("root").CRL(handshaketest.CRL{Age: 2 * time.Hour})))
	for maxAge, want := range map[time.Duration]handshaketest.Outcome{time.Hour: handshaketest.Stale, 3 * time.Hour: handshaketest.Accepted} {
		_, err := p.Checker(func(c *handshake.Config) { c.MaxAge = maxAge }).Check(t.Context(), p.Cert("leaf").Chain(), nil)
		if got := outcomeOf(t, err); got != want || got == handshaketest.Stale && !strings.Contains(err.Error(), "is longer ago than 1h0m0s") {
			t.Errorf("%s: %v", maxAge, err)
		}
	}
}

// TestEndedRevocationWins: a final revocation counts at any age, and so against an older list that has not ended; a
// hold does not.
func TestEndedRevocationWins(t *testing.T) {
	for reason, want := range map[int]handshaketest.Outcome{1: handshaketest.RevokedOutcome, 6: handshaketest.Accepted} {
		p := handshaketest.New(t, "root -> leaf noaia nocdp")
		root, leaf, dir := p.Cert("root"), p.Cert("leaf"), t.TempDir()
		write := func(name string, spec handshaketest.CRL) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, root.CRL(spec), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		current := write("current.crl", handshaketest.CRL{Age: 2 * time.Hour})
		leaf.Revoke(reason)
		ended := write("ended.crl", handshaketest.CRL{Age: time.Hour, Life: 30 * time.Minute})
		_, err := p.Checker(func(c *handshake.Config) {
			c.Issuers = []handshake.Issuer{{Certificate: root.Certificate, CRLs: []string{current, ended}}}
		}).Check(t.Context(), leaf.Chain(), nil)
		if outcomeOf(t, err) != want {
			t.Errorf("reason %d: %v, want %s", reason, err, want)
		}
	}
}

// TestSkew: clocks may differ by minutes, not by hours.
func TestSkew(t *testing.T) {
	for ahead, want := range map[time.Duration]handshaketest.Outcome{2 * time.Minute: handshaketest.Accepted, time.Hour: handshaketest.BadEvidence} {
		p := handshaketest.New(t, "root -> leaf noaia")
		p.Replace("/root.crl", handshaketest.Bytes(p.Cert("root").CRL(handshaketest.CRL{Age: -ahead})))
		_, err := p.Checker(nil).Check(t.Context(), p.Cert("leaf").Chain(), nil)
		if got := outcomeOf(t, err); got != want {
			t.Errorf("%s: %v", ahead, err)
		}
	}
}

// TestCheckNothing: no chain, no acceptance; and the zero Result refuses.
func TestCheckNothing(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	for _, chain := range [][]*x509.Certificate{nil, {}} {
		result, err := p.Checker(func(c *handshake.Config) { c.Policy = handshake.ReportOnly }).Check(t.Context(), chain, nil)
		if err == nil || result.Decision() != handshake.Refused {
			t.Errorf("%v: %v", chain, err)
		}
	}
	if (&handshake.Result{}).Err() == nil {
		t.Error("the zero Result accepts")
	}
}

// idle waits until nothing goes on in the background: a check ends when it knows enough, and later answers are kept all
// the same.
func idle(t *testing.T, checker *handshake.Checker) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !checker.TestingOnlyIdle(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what went on in the background did not end")
		}
	}
}

// respell replaces an object of the cache by other content under the digest of that, and follows up in the references,
// so that only a signature can tell.
func respell(t *testing.T, dir, path string, body []byte) {
	t.Helper()
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	if err := os.WriteFile(filepath.Join(dir, "objects", digest), body, 0o600); err != nil {
		t.Fatal(err)
	}
	refs, err := filepath.Glob(filepath.Join(dir, "refs", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		text, err := os.ReadFile(ref)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.ReplaceAll(string(text), filepath.Base(path), digest)
		if err := os.WriteFile(ref, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestResponderEnds: a delegate's answer counts no longer than its certificate, however often it was seen before.
func TestResponderEnds(t *testing.T) {
	for _, via := range []string{"staple", "network"} {
		t.Run(via, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf nocdp; root -> delegate responder ends=1h")
			leaf, checker := p.Cert("leaf"), p.Checker(nil)
			said := leaf.OCSP(handshaketest.OCSP{Signer: p.Cert("delegate"), Life: 24 * time.Hour})
			var staple []byte
			if via == "staple" {
				staple = said
			} else {
				p.Replace("/root.ocsp", handshaketest.Bytes(said))
			}
			if _, err := checker.Check(t.Context(), leaf.Chain(), staple); err != nil {
				t.Fatalf("before the end: %v", err)
			}
			p.Off()
			if _, err := checker.Check(t.Context(), leaf.Chain(), staple); err != nil {
				t.Fatalf("seen before: %v", err)
			}
			p.Advance(2 * time.Hour)
			if _, err := checker.Check(t.Context(), leaf.Chain(), staple); err == nil {
				t.Error("accepted on the word of a responder whose certificate has ended")
			}
		})
	}
}

// TestResponderRevokedLater: a delegate that becomes revoked vouches no more, not even by its earlier answers.
func TestResponderRevokedLater(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia nocdp; root -> delegate delegate; root -> other noaia")
	leaf, checker := p.Cert("leaf"), p.Checker(nil)
	staple := leaf.OCSP(handshaketest.OCSP{Signer: p.Cert("delegate")})
	if _, err := checker.Check(t.Context(), leaf.Chain(), staple); err != nil {
		t.Fatalf("before: %v", err)
	}
	p.Cert("delegate").Revoke(1)
	if _, err := checker.Check(t.Context(), p.Cert("other").Chain(), nil); err != nil { // brings the CRL
		t.Fatal(err)
	}
	if _, err := checker.Check(t.Context(), leaf.Chain(), staple); err == nil {
		t.Error("accepted on the word of a responder that is revoked by now")
	}
}

// TestRefusedFile: a configured list that does not count is judged again for every certificate, and read again only when
// the file changes.
func TestRefusedFile(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia nocdp; root -> int noaia nocdp -> below noaia nocdp; boot -> x")
	path := filepath.Join(t.TempDir(), "root.crl")
	checker := p.Checker(func(c *handshake.Config) {
		c.Issuers = []handshake.Issuer{{Certificate: p.Cert("root").Certificate, CRLs: []string{path}}}
	})
	stamp := time.Now().Add(-time.Hour)
	write := func(list []byte, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, list, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	status := func(name string) pki.Status {
		r, _ := checker.Check(t.Context(), p.Cert(name).Chain(), nil)
		return r.Certificates[0].Status
	}
	alien := p.Cert("boot").CRL(handshaketest.CRL{Number: 1})
	write(alien, stamp)
	if got := status("leaf"); got == pki.StatusGood {
		t.Fatal("a list of another issuer counts")
	}
	honest := p.Cert("root").CRL(handshaketest.CRL{Number: 1})
	for len(honest) != len(alien) { // the length of an ECDSA signature varies
		honest = p.Cert("root").CRL(handshaketest.CRL{Number: 1})
	}
	write(honest, stamp)
	if got := status("leaf"); got == pki.StatusGood {
		t.Error("a file that looked unchanged was read again")
	}
	scoped := p.Cert("root").CRL(handshaketest.CRL{Number: 1, Extensions: handshaketest.Extensions(handshaketest.ScopeCACerts())})
	write(scoped, stamp.Add(time.Minute))
	if got := status("leaf"); got == pki.StatusGood {
		t.Fatal("a list for CA certificates counts for a leaf")
	}
	if got := status("int"); got != pki.StatusGood {
		t.Errorf("a list that does not count for one certificate does not count for another: %s", got)
	}
	write(honest, stamp.Add(2*time.Minute))
	if got := status("leaf"); got != pki.StatusGood {
		t.Errorf("a file that changed was not read again: %s", got)
	}
}

// TestOlderListIsNotTaken: a list with a smaller number is older whatever its date, and a list with an earlier date
// whatever its number. Neither replaces the list seen before, and so neither decides once that has ended.
func TestOlderListIsNotTaken(t *testing.T) {
	for what, test := range map[string]struct {
		second handshaketest.CRL
		want   handshaketest.Outcome
	}{
		"a smaller number":              {handshaketest.CRL{Number: 9}, handshaketest.Stale},
		"an earlier date":               {handshaketest.CRL{Number: 11, Age: 3 * time.Hour}, handshaketest.Stale},
		"the same number, a later date": {handshaketest.CRL{Number: 10}, handshaketest.Accepted},
		"newer":                         {handshaketest.CRL{Number: 11}, handshaketest.Accepted},
	} {
		t.Run(what, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf noaia")
			root, leaf := p.Cert("root"), p.Cert("leaf")
			now := p.Now()
			checker := p.Checker(func(c *handshake.Config) { c.Now = func() time.Time { return now } })
			p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Number: 10, Age: 2 * time.Hour, Life: 3 * time.Hour})))
			if _, err := checker.Check(t.Context(), leaf.Chain(), nil); err != nil {
				t.Fatal(err)
			}
			now = now.Add(2 * time.Hour)
			p.Replace("/root.crl", handshaketest.Bytes(root.CRL(test.second)))
			if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != test.want {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
}

// TestListOfAnotherAuthority: an authority that is trusted too makes a certificate point to the place of another's
// lists, and an attacker on the path answers with its list. That list replaces no other, in memory or on disk:
// otherwise an older list of the other authority could come back.
func TestListOfAnotherAuthority(t *testing.T) {
	var body atomic.Pointer[[]byte]
	serve := func(list []byte) { body.Store(&list) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(*body.Load()) }))
	t.Cleanup(server.Close)
	cdp := " noaia cdp=" + server.URL + "/list.crl"
	p := handshaketest.New(t, "root -> other"+cdp+"; root -> held"+cdp+"; foreign -> stranger"+cdp)
	root, dir := p.Cert("root"), t.TempDir()
	before := root.CRL(handshaketest.CRL{Number: 5, Age: time.Hour})
	p.Cert("held").Revoke(6)
	now := root.CRL(handshaketest.CRL{Number: 9})
	checker := p.Checker(onDisk(t, p, dir))
	check := func(name string, want handshaketest.Outcome) {
		t.Helper()
		if _, err := checker.Check(t.Context(), p.Cert(name).Chain(), nil); outcomeOf(t, err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, foreign := range []bool{false, true} { // with an empty place on disk, and with one that was taken
		if foreign {
			dir = t.TempDir()
			checker = p.Checker(onDisk(t, p, dir))
			serve(p.Cert("foreign").CRL(handshaketest.CRL{Number: 1 << 40}))
			check("stranger", handshaketest.Accepted)
		}
		serve(now)
		check("other", handshaketest.Accepted)
		check("held", handshaketest.RevokedOutcome)
		serve(p.Cert("foreign").CRL(handshaketest.CRL{Number: 1 << 40}))
		check("stranger", handshaketest.Accepted)
		serve(before)
		check("held", handshaketest.RevokedOutcome)
		serve(nil) // to a later process
		checker = p.Checker(onDisk(t, p, dir))
		check("other", handshaketest.Accepted)
		check("held", handshaketest.RevokedOutcome)
	}
}

// TestListOfABroughtSigner: the list of a signer whose certificate only the peer presents counts if there is no other,
// but it does not replace the authority's list, in memory or on disk, nor keep out its next one.
func TestListOfABroughtSigner(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	signer, dir := crlSigner(t, root, root), t.TempDir()
	bringing := p.ServerConfig(leaf, nil)
	bringing.Certificates[0].Certificate = append(bringing.Certificates[0].Certificate, signer.Raw)
	address := p.Listen(bringing)
	step := func(checker *handshake.Checker, what string, list []byte, want handshaketest.Outcome) {
		t.Helper()
		p.Replace("/root.crl", handshaketest.Bytes(list))
		if _, err := dial(t, checker, p.ClientConfig(leaf), address); outcomeOf(t, err) != want {
			t.Errorf("%s: %v", what, err)
		}
		p.Advance(time.Hour)
	}
	theirs := func() []byte { return root.CRL(handshaketest.CRL{Number: 1 << 40, Signer: signer}) }
	own := func(number int64) []byte { return root.CRL(handshaketest.CRL{Number: number}) }
	impatient := func(c *handshake.Config) {
		onDisk(t, p, dir)(c)
		c.MaxAge = 30 * time.Minute
	}
	checker := p.Checker(impatient)
	step(checker, "his, where there is none", theirs(), handshaketest.Accepted)
	step(checker, "the authority's, of a smaller number", own(9), handshaketest.Accepted)
	step(checker, "his again", theirs(), handshaketest.Stale)
	step(checker, "the authority's before", own(8), handshaketest.Stale)
	step(checker, "the authority's next", own(10), handshaketest.Accepted)
	step(checker, "the authority's last", own(11), handshaketest.Accepted)
	p.Advance(-time.Hour)
	step(p.Checker(impatient), "the last, from disk", nil, handshaketest.Accepted)
	p.Advance(48 * time.Hour)
	step(checker, "his, when the authority's has ended", theirs(), handshaketest.Accepted)
}

// TestEndlessListAgainstABroughtSigner: a list without nextUpdate has not ended, and is not replaced by the list of a
// signer whose certificate the peer brought along.
func TestEndlessListAgainstABroughtSigner(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	signer := crlSigner(t, root, root)
	bringing := p.ServerConfig(leaf, nil)
	bringing.Certificates[0].Certificate = append(bringing.Certificates[0].Certificate, signer.Raw)
	address := p.Listen(bringing)
	checker := p.Checker(func(c *handshake.Config) { c.MaxAge = 30 * time.Minute })
	p.Replace("/root.crl", handshaketest.Bytes(endless(t, root, root.CRL(handshaketest.CRL{Number: 9}))))
	if _, err := dial(t, checker, p.ClientConfig(leaf), address); err != nil {
		t.Fatal(err)
	}
	p.Advance(time.Hour)
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Number: 10, Signer: signer})))
	if _, err := dial(t, checker, p.ClientConfig(leaf), address); outcomeOf(t, err) != handshaketest.Stale {
		t.Error(err)
	}
}

// endless is a list of an authority without its nextUpdate, which crypto/x509 demands.
func endless(t *testing.T, issuer *handshaketest.Cert, der []byte) []byte {
	t.Helper()
	var list struct {
		TBS struct { // RFC 5280, Section 5.1
			Version                int
			Signature              pkix.AlgorithmIdentifier
			Issuer                 pkix.RDNSequence
			ThisUpdate, NextUpdate time.Time        `asn1:"optional"`
			Revoked                []asn1.RawValue  `asn1:"optional"`
			Extensions             []pkix.Extension `asn1:"tag:0,optional,explicit"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &list); err != nil {
		t.Fatal(err)
	}
	list.TBS.NextUpdate = time.Time{}
	tbs, err := asn1.Marshal(list.TBS)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(tbs)
	signature, err := issuer.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	list.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	if der, err = asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, list.Algorithm, list.Signature}); err != nil {
		t.Fatal(err)
	}
	return der
}

// TestDiskForManyAtOnce: handshakes that come while a list is read from disk wait for it, even if the network may not
// be asked.
func TestDiskForManyAtOnce(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> leaf noaia"), t.TempDir()
	root, leaf := p.Cert("root"), p.Cert("leaf")
	others := make([]handshaketest.Revocation, 50_000) // so that reading takes a while
	for i := range others {
		others[i] = handshaketest.Revocation{Serial: big.NewInt(int64(1_000_000 + i)), At: p.Now(), Reason: 1}
	}
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Only: others})))
	if _, err := p.Checker(onDisk(t, p, dir)).Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Fatal(err)
	}
	later := p.Checker(func(c *handshake.Config) {
		onDisk(t, p, dir)(c)
		c.Network = handshake.NetworkNever
	})
	var refused atomic.Int32
	var handshakes sync.WaitGroup
	begin := make(chan struct{})
	for range 50 {
		handshakes.Go(func() {
			<-begin
			if _, err := later.Check(t.Context(), leaf.Chain(), nil); err != nil {
				refused.Add(1)
			}
		})
	}
	close(begin)
	handshakes.Wait()
	if n := refused.Load(); n > 0 {
		t.Errorf("%d of 50 were refused", n)
	}
}
