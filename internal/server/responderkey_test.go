package server_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/internal/installation"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
)

// TestLostResponderKey revokes the certificate of a responder, and blocks the key of another: each instance, with keys
// of issuers and without, answers with a new key from then on, whatever it has kept in memory, and never again with the
// old one.
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
		askedOf := func(of *site) *x509.Certificate {
			asked := *leaf
			asked.OCSPServer = []string{strings.Replace(leaf.OCSPServer[0], s.addresses.Public, of.addresses.Public, 1)}
			return &asked
		}
		responder := func(of *site) *x509.Certificate {
			t.Helper()
			result := askOCSP(t, askedOf(of), issuer)
			if result.Status != pki.StatusGood {
				t.Errorf("OCSP says %s", result.Status)
			}
			return result.Responder.Certificate
		}
		id := "ocsp/" + pki.HashSPKI(issuer.RawSubjectPublicKeyInfo).Issuer().String()
		answers := func(of *site) func() bool {
			return func() bool { state, _, ready := of.readiness(t, id); return state == "ok" && ready }
		}
		replaced := func(of *site, old *x509.Certificate) {
			t.Helper()
			eventually(t, "it answers with another key", func() bool {
				result, err := tryOCSP(t, askedOf(of), issuer) // between the keys it has none
				return err == nil && !sameKey(result.Responder.Certificate, old)
			})
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
				key := pki.HashSPKI(old.RawSubjectPublicKeyInfo).String()
				page, err := s.api.AuditEvents(t.Context(), client.AuditFilter{Action: "responder.retire", Target: "key/" + key})
				if err != nil || len(page.Events) != 1 {
					t.Errorf("%d events say that the key was replaced, %v; want one", len(page.Events), err)
				}
				if log, err := os.ReadFile(filepath.Join(each.dir, "serve.log")); err != nil || !strings.Contains(string(log), "another is made\" key="+key) {
					t.Errorf("the log does not say that the key was replaced (%v):\n%s", err, log)
				}
				if each != s {
					continue
				}
				p.stop(t)
				s.putBack(t, old)
				p = s.start(t)
				eventually(t, "its responder, after the start", answers(s))
				if sameKey(responder(s), old) {
					t.Error("a restart brought the key back")
				}
			}
		}
	})
}

// TestOlderResponderCertificateRevoked: a responder has several certificates in force, a new one every day. One that is
// not the newest is revoked, and this process never had it: the key is replaced all the same, and stays away when it
// comes back from a backup.
func TestOlderResponderCertificateRevoked(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		p := s.start(t)
		leaf, issuer := withIssuer(t, s.issue(t, "host.example").DER)
		responder := func() *x509.Certificate { t.Helper(); return askOCSP(t, leaf, issuer).Responder.Certificate }
		older := responder()
		p.stop(t)
		s.askForResponder(t, issuer)
		s.start(t).stop(t) // certifies it
		p = s.start(t)
		newer := responder()
		if older.Equal(newer) || !sameKey(older, newer) {
			t.Fatalf("it answers with\n%+v, and before with\n%+v", newer, older)
		}
		s.revoke(t, client.Certificate{DER: older.Raw}, pki.KeyCompromise)
		eventually(t, "it answers with another key", func() bool {
			result, err := tryOCSP(t, leaf, issuer) // between the keys it has none
			return err == nil && !sameKey(result.Responder.Certificate, older)
		})
		p.stop(t)
		s.putBack(t, older)
		s.start(t)
		if sameKey(responder(), older) {
			t.Error("a restart brought the key back")
		}
	})
}

// askForResponder asks for another certificate of the responder's key, as is done every day. No instance runs.
func (s *site) askForResponder(t *testing.T, issuer *x509.Certificate) {
	t.Helper()
	config := s.config(t)
	files, err := softkey.New(softkey.Config{Dir: config.State().Keys(), Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	key, err := files.Open(t.Context(), files.URI("ocsp-responder"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "OCSP responder"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := pki.HashPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	db, err := installation.OpenDatabase(t.Context(), config, "test", true)
	if err != nil {
		t.Fatal(err)
	}
	request := ocspserver.ResponderRequest{Issuer: pki.HashSPKI(issuer.RawSubjectPublicKeyInfo).Issuer(), Key: hash, CSR: csr}
	if err := db.RequestResponder(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// putBack restores a key of the responder that was put away, as from a backup.
func (s *site) putBack(t *testing.T, of *x509.Certificate) {
	t.Helper()
	hash := pki.HashSPKI(of.RawSubjectPublicKeyInfo).String()
	text, err := os.ReadFile(filepath.Join(s.dir, "keys/ocsp-responder-retired-"+hash[:16]+".key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "keys/ocsp-responder.key"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func sameKey(a, b *x509.Certificate) bool {
	return string(a.RawSubjectPublicKeyInfo) == string(b.RawSubjectPublicKeyInfo)
}
