package server_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

// TestLostResponderKey revokes the certificate of a responder, and blocks the key of another: each instance, with keys of issuers and without,
// answers with a new key from then on, whatever it has kept in memory, and never again with the old one.
func TestLostResponderKey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		sites := []*site{s}
		if strings.HasPrefix(database, "postgres") {
			sites = append(sites, s.beside(t))
		}
		p := s.start(t)
		if len(sites) > 1 {
			sites[1].start(t, "--role", "public")
		}
		issued := s.issue(t, "host.example")
		leaf, issuer := withIssuer(t, issued.DER)
		responder := func(of *site) *x509.Certificate {
			t.Helper()
			asked := *leaf
			asked.OCSPServer = []string{strings.Replace(leaf.OCSPServer[0], s.addresses.Public, of.addresses.Public, 1)}
			result := askOCSP(t, &asked, issuer)
			if result.Status != pki.StatusGood {
				t.Errorf("OCSP says %s", result.Status)
			}
			return result.Responder.Certificate
		}
		sameKey := func(a, b *x509.Certificate) bool {
			return string(a.RawSubjectPublicKeyInfo) == string(b.RawSubjectPublicKeyInfo)
		}
		id := "ocsp/" + pki.HashSPKI(issuer.RawSubjectPublicKeyInfo).Issuer().String()
		answers := func(of *site) func() bool {
			return func() bool { state, _, ready := of.readiness(t, id); return state == "ok" && ready }
		}
		replaced := func(of *site, old *x509.Certificate) {
			t.Helper()
			eventually(t, "it answers with another key", func() bool { return answers(of)() && !sameKey(responder(of), old) })
		}
		putBack := func(of *site, old *x509.Certificate) {
			t.Helper()
			hash := pki.HashSPKI(old.RawSubjectPublicKeyInfo).String()
			text, err := os.ReadFile(filepath.Join(of.dir, "keys/ocsp-responder-retired-"+hash[:16]+".key"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(of.dir, "keys/ocsp-responder.key"), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, lose := range []func(*x509.Certificate){
			func(cert *x509.Certificate) { s.revoke(t, client.Certificate{DER: cert.Raw}, pki.KeyCompromise) },
			func(cert *x509.Certificate) {
				if _, err := s.api.BlockKey(t.Context(), client.BlockRequest{SPKI: cert.RawSubjectPublicKeyInfo, Comment: "the disk was stolen"}); err != nil {
					t.Fatal(err)
				}
			},
		} {
			for _, each := range sites {
				eventually(t, "its responder", answers(each))
				old := responder(each)
				if !old.Equal(responder(each)) {
					t.Error("the answer is not kept")
				}
				lose(old)
				replaced(each, old)
				if each != s {
					continue
				}
				p.stop(t)
				putBack(s, old)
				p = s.start(t)
				eventually(t, "its responder, after the start", answers(s))
				if sameKey(responder(s), old) {
					t.Error("a restart brought the key back")
				}
			}
		}
	})
}
