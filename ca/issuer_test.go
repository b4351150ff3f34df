package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func (w *town) manage() auth.Grant { return w.grant(admin, auth.ActionManage, "") }

// wantError fails unless err is of a kind and blames a field.
func wantError(t *testing.T, err error, kind pki.Kind, field string) {
	t.Helper()
	e, ok := err.(*pki.Error)
	if !ok || e.Kind != kind || e.Field != field {
		t.Errorf("got %v, want %s of %q", err, kind, field)
	}
}

func newIssuer(label, name string, parent ca.Issuer) ca.NewIssuer {
	return ca.NewIssuer{Label: label, Subject: ca.Subject{CommonName: name}, BaseURL: "http://pki.test", Parent: parent.ID}
}

func TestIssuersAreCreatedOnce(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		ring := &keyring{opened: make(map[string]*keys.Key)}
		w := newTownWith(t, s, ring)
		elsewhere := w.instance(s)
		root, issuing := parse(t, w.root.Certificates[0].DER), parse(t, w.issuing.Certificates[0].DER)
		if err := issuing.CheckSignatureFrom(root); err != nil {
			t.Error(err)
		}
		if !root.IsCA || root.MaxPathLen != -1 || !issuing.IsCA || !issuing.MaxPathLenZero || issuing.CRLDistributionPoints[0] != "http://pki.test/crl/"+w.root.ID.String()+".crl" {
			t.Errorf("root %+v, issuing %+v", root.MaxPathLen, issuing.CRLDistributionPoints)
		}
		if w.root.State != ca.IssuerActive || w.issuing.ID != w.issuing.KeyHash.Issuer() || len(w.issuing.Chain()) != 1 {
			t.Errorf("issuing: %+v", w.issuing)
		}
		tests := []struct {
			name  string
			n     ca.NewIssuer
			kind  pki.Kind
			field string
		}{
			{"the same again", newIssuer("issuing", "Test Issuing CA", w.root), pki.KindConflict, "label"},
			{"the label again", newIssuer("issuing", "Other", w.root), pki.KindConflict, "label"},
			{"the name again", newIssuer("other", "Test Issuing CA", w.root), pki.KindConflict, "subject"},
			{"a bad label", newIssuer("../x", "Other", w.root), pki.KindInvalid, "name"},
			{"no name", newIssuer("other", "", w.root), pki.KindRefused, "subject.common_name"},
			{"no URL", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}}, pki.KindInvalid, "base_url"},
			{"a slash at the end", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x/"}, pki.KindInvalid, "base_url"},
			{"a URL of another kind", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "ftp://x"}, pki.KindInvalid, "base_url"},
			{"a URL that needs what it serves", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "https://x"}, pki.KindInvalid, "base_url"},
			{"a URL of no host", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http:///x"}, pki.KindInvalid, "base_url"},
			{"a URL with a query", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x?y"}, pki.KindInvalid, "base_url"},
			{"a URL with a fragment", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x#y"}, pki.KindInvalid, "base_url"},
			{"a URL with a user", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://y@x"}, pki.KindInvalid, "base_url"},
			{"a path length below none", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x", Parent: w.root.ID, PathLength: new(-1)}, pki.KindInvalid, "path_length"},
			{"a path length of 17", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x", Parent: w.root.ID, PathLength: new(17)}, pki.KindInvalid, "path_length"},
			{"no such parent", newIssuer("other", "Other", ca.Issuer{ID: pki.IssuerID{1}}), pki.KindNotFound, "issuer"},
			{"below path length 0", newIssuer("below", "Below", w.issuing), pki.KindRefused, "issuer"},
			{"longer than the root", ca.NewIssuer{Label: "long", Subject: ca.Subject{CommonName: "Long"}, BaseURL: "http://x", Parent: w.root.ID, Lifetime: 21 * 365 * 24 * time.Hour}, pki.KindRefused, "lifetime"},
			{"a root of more than 40 years", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x", Lifetime: 41 * 365 * 24 * time.Hour}, pki.KindRefused, "lifetime"},
			{"a root that has ended", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x", Lifetime: -time.Hour}, pki.KindRefused, "lifetime"},
			{"a root against a rule of zlint", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x", Permitted: profile.SubtreesConfig{URI: []string{"internal"}}}, pki.KindRefused, ""},
			{"a CA against a rule of zlint", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x", Parent: w.root.ID, Permitted: profile.SubtreesConfig{URI: []string{"internal"}}}, pki.KindRefused, ""},
			{"nobody to succeed", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x", Succeeds: pki.IssuerID{1}}, pki.KindNotFound, "succeeds"},
			{"no name, off-line", ca.NewIssuer{Label: "other", BaseURL: "http://x", Offline: true}, pki.KindRefused, "subject.common_name"},
			{"a bad constraint", ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://x", Permitted: profile.SubtreesConfig{DNS: []string{"*.x"}}}, pki.KindInvalid, "permitted"},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				_, err := w.CreateIssuer(t.Context(), w.manage(), test.n)
				wantError(t, err, test.kind, test.field)
				if left := w.Issuers(); len(left) != 2 || len(ring.opened) != 2 {
					t.Errorf("what was refused left something behind: %d issuers, %d keys; want 2", len(left), len(ring.opened))
				}
			})
		}
		if _, err := w.CreateIssuer(t.Context(), w.grant(web, auth.ActionIssue, "server"), newIssuer("other", "Other", w.root)); pki.KindOf(err) != pki.KindDenied {
			t.Errorf("a requester makes an issuer: %v", err)
		}

		middle := newIssuer("middle", "Middle", w.root)
		middle.PathLength, middle.Permitted.DNS = new(1), []string{"corp.example"}
		above, err := w.CreateIssuer(t.Context(), w.manage(), middle)
		if err != nil {
			t.Fatal(err)
		}
		_, err = elsewhere.CreateIssuer(t.Context(), w.manage(), newIssuer("unlike", "Middle", w.root)) // it has not heard of that one
		if wantError(t, err, pki.KindConflict, "subject"); len(ring.opened) != 3 {
			t.Errorf("another instance, which was refused, left a key behind: %d, want 3", len(ring.opened))
		}
		below := newIssuer("below", "Below", above)
		below.PathLength = new(1)
		_, err = w.CreateIssuer(t.Context(), w.manage(), below)
		wantError(t, err, pki.KindRefused, "profile")
		below.PathLength, below.Permitted.DNS = new(0), []string{"other.example"}
		_, err = w.CreateIssuer(t.Context(), w.manage(), below)
		if wantError(t, err, pki.KindRefused, "permitted"); len(ring.opened) != 3 {
			t.Errorf("outside what the CA above permits: %d keys, want 3", len(ring.opened))
		}
		below.Permitted.DNS = nil
		made, err := w.CreateIssuer(t.Context(), w.manage(), below)
		if err != nil {
			t.Fatalf("a path length of 0 below one of 1: %v", err)
		}
		own, chain := made.Certificates[0].DER, made.Certificates[0].Chain
		if len(chain) != 2 || !bytes.Equal(chain[0], above.Certificates[0].DER) || !bytes.Equal(chain[1], root.Raw) || !slices.EqualFunc(made.Chain(), [][]byte{own, chain[0]}, bytes.Equal) {
			t.Errorf("two below the root: a chain of %d, shown as %d", len(chain), len(made.Chain()))
		}

		events, err := s.AuditEvents(t.Context(), audit.Filter{Target: "profile/issuing-ca"}, 0, 1000)
		if err != nil || len(events) != 6 || events[1].Outcome != audit.Refused || !strings.Contains(events[1].Detail["error"], "path length is 0") {
			t.Errorf("of what was refused the audit log says %+v, %v", events, err)
		}
		if events, err = s.AuditEvents(t.Context(), audit.Filter{Action: "issuer.certificate"}, 0, 1000); err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(own); events[len(events)-1].Detail["fingerprint"] != hex.EncodeToString(sum[:]) {
			t.Errorf("of the certificate it says %+v", events[len(events)-1])
		}
	})
}

// Each verb of issuers wants the grant to manage, for all of them: no other, and none for one thing.
func TestIssuersAreManagedWithTheGrantForIt(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	for what, grant := range map[string]auth.Grant{
		"no grant": {}, "a grant to read": w.grant(admin, auth.ActionRead, ""), "a grant to manage one thing": w.grant(admin, auth.ActionManage, "issuing"),
	} {
		for verb, call := range map[string]func() error{
			"create": func() error {
				_, err := w.CreateIssuer(t.Context(), grant, newIssuer("other", "Other", w.root))
				return err
			},
			"state": func() error {
				_, err := w.SetIssuerState(t.Context(), grant, w.issuing.ID, ca.IssuerDisabled)
				return err
			},
			"delete": func() error { _, err := w.DeleteIssuer(t.Context(), grant, w.issuing.ID); return err },
			"URL": func() error {
				_, err := w.UpdateIssuer(t.Context(), grant, w.issuing.ID, ca.IssuerChange{BaseURL: new("http://x")})
				return err
			},
			"cross": func() error { _, err := w.CrossSign(t.Context(), grant, w.issuing.ID, w.root.ID, 0); return err },
			"renew": func() error { _, err := w.RenewIssuer(t.Context(), grant, w.issuing.ID, 0); return err },
			"choose": func() error {
				_, err := w.ChooseIssuerCertificate(t.Context(), grant, w.issuing.ID, sha256.Sum256(w.issuing.Certificates[0].DER))
				return err
			},
			"adopt": func() error {
				_, err := w.AdoptIssuer(t.Context(), grant, ca.Adoption{Label: "a", KeyURI: "memory:issuing", BaseURL: "http://x", DER: w.issuing.Certificates[0].DER})
				return err
			},
			"import": func() error {
				_, err := w.ImportIssuerCertificate(t.Context(), grant, ca.IssuerImport{DER: w.issuing.Certificates[0].DER})
				return err
			},
		} {
			if err := call(); pki.KindOf(err) != pki.KindDenied {
				t.Errorf("%s with %s: %v, want denied", verb, what, err)
			}
		}
	}
}

// A call that broke off after the key, or after the record, is taken up by the next.
func TestCreationIsTakenUpAgain(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	key, err := w.keys.Create(t.Context(), "second", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	made := w.create(newIssuer("second", "Second CA", w.root))
	if hash, err := pki.HashPublicKey(key.Public()); err != nil || made.KeyHash != hash {
		t.Error("the key that was there was not used")
	}
	if _, err := w.keys.Create(t.Context(), "other-kind", keys.Ed25519); err != nil {
		t.Fatal(err)
	}
	_, err = w.CreateIssuer(t.Context(), w.manage(), newIssuer("other-kind", "Other CA", w.root))
	wantError(t, err, pki.KindConflict, "name") // a key of another algorithm is not taken for what was asked
	pending, err := w.CreateIssuer(t.Context(), w.manage(), ca.NewIssuer{Label: "third", Subject: ca.Subject{CommonName: "Third CA"}, BaseURL: "http://pki.test", Offline: true})
	if err != nil || pending.State != ca.IssuerPending {
		t.Fatal(pending.State, err)
	}
	_, err = w.CreateIssuer(t.Context(), w.manage(), newIssuer("third", "Another CA", w.root))
	wantError(t, err, pki.KindConflict, "label")
	if made := w.create(newIssuer("third", "Third CA", w.root)); made.ID != pending.ID || made.State != ca.IssuerActive {
		t.Errorf("got %+v", made)
	}
}

// What has no certificate yet does nothing but wait for it.
func TestAPendingIssuer(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	description := newIssuer("third", "Third CA", ca.Issuer{})
	description.Offline = true
	pending := w.create(description)
	if pending.Chain() != nil || pending.CertificateFile() != nil || pending.CertificatesFile() != nil || pending.SelfSigned() {
		t.Errorf("it has certificates: %+v", pending)
	}
	system, err := auth.System("ocsp-delegation").Authorize(auth.ActionIssue, "ocsp-responder")
	if err != nil {
		t.Fatal(err)
	}
	request := server(t, "a.example.com")
	request.Issuer = pending.ID
	for what, test := range map[string]struct {
		call  func() error
		kind  pki.Kind
		field string
	}{
		"it issues": {func() error { _, err := w.issue(w.Authority, request); return err }, pki.KindFailedPrecondition, "issuer"},
		"it certifies a responder": {func() error {
			_, err := w.Issue(t.Context(), system, ca.Request{Profile: "ocsp-responder", Issuer: pending.ID, CSR: csr(t, newKey(t)), Subject: ca.Subject{CommonName: "OCSP"}})
			return err
		}, pki.KindFailedPrecondition, "issuer"},
		"it signs lists": {func() error { _, _, err := w.IssuerSigner(t.Context(), pending.ID); return err }, pki.KindFailedPrecondition, "issuer"},
		"it is renewed":  {func() error { _, err := w.RenewIssuer(t.Context(), w.manage(), pending.ID, 0); return err }, pki.KindFailedPrecondition, "issuer"},
		"it is said to be active": {func() error {
			_, err := w.SetIssuerState(t.Context(), w.manage(), pending.ID, ca.IssuerActive)
			return err
		}, pki.KindFailedPrecondition, "state"},
		"another becomes so": {func() error {
			_, err := w.SetIssuerState(t.Context(), w.manage(), w.issuing.ID, ca.IssuerPending)
			return err
		}, pki.KindFailedPrecondition, "state"},
		"it signs itself across": {func() error { _, err := w.CrossSign(t.Context(), w.manage(), pending.ID, pending.ID, 0); return err }, pki.KindInvalid, "parent"},
	} {
		t.Run(what, func(t *testing.T) { wantError(t, test.call(), test.kind, test.field) })
	}
}

// Where products are served is changed for what is to come, and the audit log says who changed it from what to what.
func TestTheURLOfAnIssuer(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	told := 0
	w.changed = func(context.Context) { told++ }
	w.Authority = w.instance(w.store)
	who := admin
	who.RequestID, who.Source = "r-17", "192.0.2.7"
	manage := w.grant(who, auth.ActionManage, "")
	_, err := w.UpdateIssuer(t.Context(), manage, w.issuing.ID, ca.IssuerChange{BaseURL: new("http://new.test/")})
	wantError(t, err, pki.KindInvalid, "base_url")
	if changed, err := w.UpdateIssuer(t.Context(), manage, w.issuing.ID, ca.IssuerChange{BaseURL: new("http://new.test")}); err != nil || changed.BaseURL != "http://new.test" || told != 1 {
		t.Errorf("%+v, %v; told %d times", changed, err, told)
	}
	events, err := w.store.AuditEvents(t.Context(), audit.Filter{Action: "issuer.update"}, 0, 10)
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	if e := events[0]; e.Detail["base_url"] != "http://new.test" || e.Detail["base_url_before"] != "http://pki.test" || e.RequestID != "r-17" || e.Source != "192.0.2.7" || e.Actor != admin.ID {
		t.Errorf("the audit log says %+v", e)
	}
}

// What an issuer signs besides certificates is counted, and has its turn, as lists do.
func TestListsAreSignedAsLists(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	_, signer, err := w.IssuerSigner(t.Context(), w.issuing.ID)
	if err != nil {
		t.Fatal(err)
	}
	ready, err := w.ReadySigner(t.Context(), w.issuing.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []crypto.Signer{signer, ready} {
		if _, err := s.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range w.keys.Usage() {
		if u.Key == w.issuing.KeyHash && (u.Purposes[keys.ForCRL].Signatures != 2 || u.Purposes[keys.ForCertificate].Signatures != 0) {
			t.Errorf("usage %+v", u)
		}
	}
}

// Constraints of every type, permitting or excluding alone, bind what is below, however far.
func TestNameConstraintsOfEveryType(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	all := profile.SubtreesConfig{DNS: []string{"corp.example"}, IP: []string{"10.0.0.0/8"}, Email: []string{"corp.example"}, URI: []string{".corp.example"}}
	inside := []pki.Identifier{{Type: pki.DNS, Value: "a.corp.example"}, {Type: pki.IP, Value: "10.1.2.3"}, {Type: pki.Email, Value: "a@corp.example"}, {Type: pki.URI, Value: "https://a.corp.example/"}}
	outside := []pki.Identifier{{Type: pki.DNS, Value: "a.example"}, {Type: pki.IP, Value: "192.0.2.1"}, {Type: pki.Email, Value: "a@example.com"}, {Type: pki.URI, Value: "https://a.example/"}}
	for label, sides := range map[string][2]profile.SubtreesConfig{"permitting": {all, {}}, "excluding": {{}, all}} {
		n := newIssuer(label, label+" CA", w.root)
		n.Permitted, n.Excluded, n.PathLength = sides[0], sides[1], new(1)
		above := w.create(n)
		below := w.create(newIssuer(label+"-below", label+" CA below", above))
		for _, issuer := range []ca.Issuer{above, below} {
			for i := range inside {
				for name, refused := range map[pki.Identifier]bool{inside[i]: label == "excluding", outside[i]: label == "permitting"} {
					request := ca.Request{Profile: "client", Issuer: issuer.ID, CSR: csr(t, newKey(t)), Names: []pki.Identifier{name}}
					if name.Type == pki.IP {
						request.Profile = "server"
					}
					if _, err := w.issue(w.Authority, request); refused {
						wantError(t, err, pki.KindRefused, "identifiers[0]")
					} else if err != nil {
						t.Errorf("%s, %s: %v", issuer.Label, name, err)
					}
				}
			}
		}
	}
}

func TestNameConstraintsBindBeforeSigning(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	n := newIssuer("corp", "Corp CA", w.root)
	n.Permitted, n.Excluded = profile.SubtreesConfig{DNS: []string{"corp.example"}, IP: []string{"10.0.0.0/8"}}, profile.SubtreesConfig{DNS: []string{"hr.corp.example"}}
	corp := w.create(n)
	c := parse(t, corp.Certificates[0].DER)
	if !c.PermittedDNSDomainsCritical || len(c.PermittedDNSDomains) != 1 || len(c.PermittedIPRanges) != 1 || len(c.ExcludedDNSDomains) != 1 {
		t.Fatalf("constraints %v %v %v", c.PermittedDNSDomains, c.PermittedIPRanges, c.ExcludedDNSDomains)
	}
	for name, field := range map[string]string{"www.corp.example": "", "www.example.com": "identifiers[0]", "x.hr.corp.example": "identifiers[0]"} {
		request := server(t, name)
		request.Issuer = corp.ID
		issued, err := w.issue(w.Authority, request)
		if field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			pool, middle := x509.NewCertPool(), x509.NewCertPool()
			pool.AddCert(parse(t, w.root.Certificates[0].DER))
			middle.AddCert(c)
			if _, err := parse(t, issued.DER).Verify(x509.VerifyOptions{Roots: pool, Intermediates: middle, DNSName: name, CurrentTime: w.clock.Now()}); err != nil {
				t.Errorf("crypto/x509: %v", err)
			}
			continue
		}
		wantError(t, err, pki.KindRefused, field)
	}
}

// Of several authorities those are no choice that cannot sign the names, or the authority, that is asked for: another one more is no reason
// to name one. Where none is left it is said why, of each.
func TestWhoCannotSignIsNoChoice(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	n := newIssuer("plant2", "Plant 2", w.root)
	n.Permitted.DNS, n.PathLength = []string{"plant.example"}, new(1)
	plant := w.create(n)
	if issued := w.mustIssue(server(t, "m2.example")); issued.Issuer != w.issuing.ID {
		t.Errorf("m2.example is from %s", issued.Issuer)
	}
	_, err := w.issue(w.Authority, server(t, "m2.plant.example")) // either could
	if wantError(t, err, pki.KindInvalid, "issuer"); err == nil || !strings.Contains(pki.Explain(err), "issuing") || !strings.Contains(pki.Explain(err), "plant2") {
		t.Errorf("both could sign: %s", pki.Explain(err))
	}
	sub := ca.Request{Profile: "sub-ca", CSR: csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Elsewhere"}})}
	if issued, err := w.Issue(t.Context(), w.grant(admin, auth.ActionIssue, "sub-ca"), sub); err != nil || issued.Issuer != plant.ID {
		t.Errorf("below the one that may have authorities below it: %+v, %v", issued, err)
	}

	renewal, err := w.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "server"), w.mustIssue(ca.Request{Profile: "server", Issuer: plant.ID, CSR: csr(t, newKey(t), "a.plant.example")}).Certificate, csr(t, newKey(t)), "")
	if err != nil || renewal.Issuer != plant.ID {
		t.Errorf("renewed by %s, %v; want the same", renewal.Issuer, err)
	}

	n = newIssuer("never", "Never", w.root)
	n.Excluded.DNS = []string{"plant.example"}
	w.create(n)
	if _, err := w.SetIssuerState(t.Context(), w.manage(), w.issuing.ID, ca.IssuerDisabled); err != nil {
		t.Fatal(err)
	}
	_, err = w.issue(w.Authority, server(t, "a.plant.example", "a.example"))
	wantError(t, err, pki.KindRefused, "issuer")
	for _, why := range []string{"plant2: CN=Plant 2 does not permit dns:a.example", "never: CN=Never excludes dns:a.plant.example"} {
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q in it", err, why)
		}
	}
	bad := server(t, "a_.example") // what cannot be read is the request's fault, not the issuers'
	_, err = w.issue(w.Authority, bad)
	wantError(t, err, pki.KindInvalid, "csr")

	w.clock.advance(11 * 365 * 24 * time.Hour) // ended is for an operator to mend, and no refusal
	_, err = w.issue(w.Authority, server(t, "a.example"))
	if wantError(t, err, pki.KindFailedPrecondition, "issuer"); err == nil || !strings.Contains(err.Error(), "plant2: issuer plant2 expired at") || !strings.Contains(err.Error(), "never: issuer never expired at") {
		t.Errorf("all have ended: %v", err)
	}
}

// An authority certifies its own key for itself only, and then whatever its path length: that is about others.
func TestTheKeyOfAnAuthorityItself(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	key, err := w.keys.Open(t.Context(), w.issuing.KeyURI)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.issue(w.Authority, ca.Request{Profile: "server", CSR: csr(t, key.Signer, "a.example.com")})
	wantError(t, err, pki.KindRefused, "csr")
	n := newIssuer("alone", "Alone", ca.Issuer{})
	n.PathLength = new(0)
	if renewed, err := w.RenewIssuer(t.Context(), w.manage(), w.create(n).ID, 0); err != nil {
		t.Errorf("a root of path length 0 is not renewed: %v", err)
	} else if c := parse(t, renewed.Certificates[0].DER); !c.MaxPathLenZero {
		t.Errorf("its path length became %d", c.MaxPathLen)
	}
}

func TestDisabledRetiredAndExpiredIssuersDoNotIssue(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		set := func(state ca.IssuerState) error {
			_, err := w.SetIssuerState(t.Context(), w.manage(), w.issuing.ID, state)
			return err
		}
		request := server(t, "a.example.com")
		request.Issuer = w.issuing.ID
		if err := set(ca.IssuerDisabled); err != nil {
			t.Fatal(err)
		}
		_, err := w.issue(w.Authority, request)
		wantError(t, err, pki.KindFailedPrecondition, "issuer")
		if _, _, err := w.IssuerSigner(t.Context(), w.issuing.ID); err != nil {
			t.Errorf("a disabled issuer cannot sign its CRL: %v", err)
		}
		system, err := auth.System("ocsp-delegation").Authorize(auth.ActionIssue, "ocsp-responder")
		if err != nil {
			t.Fatal(err)
		}
		responder := ca.Request{Profile: "ocsp-responder", Issuer: w.issuing.ID, CSR: csr(t, newKey(t)), Subject: ca.Subject{CommonName: "OCSP responder"}}
		if _, err := w.Issue(t.Context(), system, responder); err != nil {
			t.Errorf("a disabled issuer cannot certify its OCSP responder: %v", err)
		}
		if err := set(ca.IssuerActive); err != nil {
			t.Fatal(err)
		}
		if _, err := w.issue(w.Authority, request); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(-48 * time.Hour)
		_, err = w.issue(w.Authority, request)
		wantError(t, err, pki.KindFailedPrecondition, "issuer")
		w.clock.advance(11 * 365 * 24 * time.Hour)
		_, err = w.issue(w.Authority, request)
		wantError(t, err, pki.KindFailedPrecondition, "issuer")
		if err := set(ca.IssuerRetired); err != nil {
			t.Fatal(err)
		}
		wantError(t, set(ca.IssuerActive), pki.KindFailedPrecondition, "state")
		_, err = w.issue(w.Authority, request)
		wantError(t, err, pki.KindRefused, "issuer")
		for _, state := range []ca.IssuerState{ca.IssuerDisabled, ca.IssuerRetired} { // nor does a root go on by itself
			if _, err := w.SetIssuerState(t.Context(), w.manage(), w.root.ID, state); err != nil {
				t.Fatal(err)
			}
			_, err = w.RenewIssuer(t.Context(), w.manage(), w.root.ID, 0)
			wantError(t, err, pki.KindFailedPrecondition, "issuer")
		}
		events, err := s.AuditEvents(t.Context(), audit.Filter{Target: "issuer/" + w.issuing.ID.String()}, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var actions []string
		for _, e := range events {
			actions = append(actions, e.Action)
		}
		if want := []string{"issuer.create", "issuer.certificate", "issuer.disabled", "issuer.active", "issuer.retired"}; !slices.Equal(actions, want) {
			t.Errorf("the audit log has %v, want %v", actions, want)
		}
	})
}

// While an authority gives way to its successor, and back, requests that name no issuer are issued without a pause, by one or the
// other; where the successor is named it issues from the start.
func TestASuccessorTakesOverInOneStep(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		instances := []*ca.Authority{w.Authority, w.instance(s)}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all sync.WaitGroup
		for _, a := range instances {
			for range 3 {
				all.Go(func() {
					for ctx.Err() == nil {
						if _, err := w.issue(a, server(t, "app.example")); err != nil {
							t.Errorf("while it is rolled over: %v", err)
							return
						}
					}
				})
			}
		}
		by := func(when string, want ca.Issuer) {
			t.Helper()
			for i, a := range instances {
				if err := a.TestingOnlyRefresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				if issued, err := w.issue(a, server(t, "app.example")); err != nil || issued.Issuer != want.ID {
					t.Errorf("%s, instance %d: %+v, %v; want it from %s", when, i, issued, err, want.Label)
				}
			}
		}
		set := func(issuer ca.Issuer, state ca.IssuerState) {
			t.Helper()
			if _, err := w.SetIssuerState(t.Context(), w.manage(), issuer.ID, state); err != nil {
				t.Fatal(err)
			}
		}
		description := newIssuer("issuing-2", "Test Issuing CA 2", w.root)
		description.Succeeds = w.issuing.ID
		second := w.create(description)
		by("made", w.issuing)
		request := server(t, "app.example")
		request.Issuer = second.ID
		if issued := w.mustIssue(request); issued.Issuer != second.ID {
			t.Errorf("named: %+v", issued)
		}
		for range 10 {
			set(w.issuing, ca.IssuerDisabled)
			by("disabled", second)
			set(w.issuing, ca.IssuerActive)
			by("active again", w.issuing)
		}
		description = newIssuer("issuing-3", "Test Issuing CA 3", w.root)
		description.Succeeds = second.ID
		third := w.create(description)
		by("two wait", w.issuing)
		set(second, ca.IssuerDisabled)
		set(w.issuing, ca.IssuerDisabled)
		by("both are disabled", third)
		cancel()
		all.Wait()

		description = newIssuer("issuing-4", "Test Issuing CA 4", w.root)
		description.Succeeds = pki.IssuerID{1}
		_, err := w.CreateIssuer(t.Context(), w.manage(), description)
		wantError(t, err, pki.KindNotFound, "succeeds")

		// A call that broke off is taken up again by one that says the same.
		description.Succeeds, description.Parent, description.Offline = third.ID, pki.IssuerID{}, true
		fourth := w.create(description)
		if w.create(description).ID != fourth.ID {
			t.Error("the same again made another")
		}
		for _, other := range []pki.IssuerID{second.ID, {}} {
			description.Succeeds = other
			_, err := w.CreateIssuer(t.Context(), w.manage(), description)
			wantError(t, err, pki.KindConflict, "succeeds")
		}
		events, err := s.AuditEvents(t.Context(), audit.Filter{Action: "issuer.create"}, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if last := events[len(events)-1]; last.Detail["succeeds"] != third.ID.String() {
			t.Errorf("the audit log says %v", last.Detail)
		}
	})
}

// whenAsked is a ledger without entries, before whose first answer something happens.
type whenAsked struct{ first func() }

func (*whenAsked) Seq() uint64                   { return 0 }
func (*whenAsked) CatchUp(context.Context) error { return nil }
func (w *whenAsked) StatusOf(context.Context, pki.IssuerID, pki.Serial) (pki.Status, pki.Reason, error) {
	if do := w.first; do != nil {
		w.first = nil
		do()
	}
	return pki.StatusGood, pki.Unspecified, nil
}

// An authority that is disabled after it was chosen has been succeeded: the request goes on with its successor.
func TestAnAuthorityIsSucceededInTheMiddle(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	description := newIssuer("issuing-2", "Test Issuing CA 2", w.root)
	description.Succeeds = w.issuing.ID
	second := w.create(description)
	asked := &whenAsked{}
	w.status = asked
	w.Authority = w.instance(w.store)
	asked.first = func() {
		if _, err := w.SetIssuerState(t.Context(), w.manage(), w.issuing.ID, ca.IssuerDisabled); err != nil {
			t.Error(err)
		}
	}
	if issued := w.mustIssue(server(t, "app.example")); issued.Issuer != second.ID || asked.first != nil {
		t.Errorf("it is from %s", issued.Issuer)
	}
}

// An authority that has ended has given way to its successor, disabled or not.
func TestAnAuthorityThatEndedIsSucceeded(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	if _, err := w.SetIssuerState(t.Context(), w.manage(), w.issuing.ID, ca.IssuerDisabled); err != nil {
		t.Fatal(err)
	}
	description := newIssuer("short", "Short CA", w.root)
	description.Lifetime = 48 * time.Hour
	short := w.create(description)
	description = newIssuer("short-2", "Short CA 2", w.root)
	description.Succeeds = short.ID
	second := w.create(description)
	if issued := w.mustIssue(server(t, "app.example")); issued.Issuer != short.ID {
		t.Errorf("before its end: %s", issued.Issuer)
	}
	w.clock.advance(49 * time.Hour)
	if issued := w.mustIssue(server(t, "app.example")); issued.Issuer != second.ID {
		t.Errorf("after its end: %s", issued.Issuer)
	}
}

// An authority that was made beside another is named its successor later, whichever was made first.
func TestASuccessorIsNamedLater(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		second := w.create(newIssuer("issuing-2", "Test Issuing CA 2", w.root))
		elsewhere := w.instance(w.store) // knows what there was until here
		third := w.create(newIssuer("issuing-3", "Test Issuing CA 3", w.root))
		succeed := func(a *ca.Authority, issuer, before pki.IssuerID) (ca.Issuer, error) {
			return a.UpdateIssuer(t.Context(), w.manage(), issuer, ca.IssuerChange{Succeeds: &before})
		}
		_, err := w.issue(w.Authority, server(t, "app.example"))
		wantError(t, err, pki.KindInvalid, "issuer")

		changed, err := succeed(elsewhere, w.issuing.ID, third.ID)
		if err != nil || changed.Succeeds != third.ID || changed.BaseURL != w.issuing.BaseURL {
			t.Fatalf("%+v, %v", changed, err)
		}
		if _, err := succeed(w.Authority, third.ID, second.ID); err != nil {
			t.Fatal(err)
		}
		for _, before := range []ca.Issuer{second, third, w.issuing} {
			_, err = succeed(w.Authority, second.ID, before.ID)
			wantError(t, err, pki.KindInvalid, "succeeds")
		}
		_, err = succeed(w.Authority, second.ID, pki.IssuerID{1})
		wantError(t, err, pki.KindNotFound, "succeeds")
		_, err = w.UpdateIssuer(t.Context(), w.manage(), second.ID, ca.IssuerChange{})
		wantError(t, err, pki.KindInvalid, "base_url")

		for _, turn := range []ca.Issuer{second, third, w.issuing} {
			if issued := w.mustIssue(server(t, "app.example")); issued.Issuer != turn.ID {
				t.Errorf("it is from %s; want %s", issued.Issuer, turn.Label)
			}
			if _, err := w.SetIssuerState(t.Context(), w.manage(), turn.ID, ca.IssuerDisabled); err != nil {
				t.Fatal(err)
			}
		}

		if changed, err = succeed(w.Authority, w.issuing.ID, pki.IssuerID{}); err != nil || !changed.Succeeds.IsZero() {
			t.Errorf("nobody: %+v, %v", changed, err)
		}
		events, err := s.AuditEvents(t.Context(), audit.Filter{Action: "issuer.update"}, 0, 1000)
		if err != nil || len(events) != 3 {
			t.Fatalf("%d events, %v", len(events), err)
		}
		for i, want := range [][2]string{{third.ID.String(), "nobody"}, {second.ID.String(), "nobody"}, {"nobody", third.ID.String()}} {
			if got := events[i].Detail; got["succeeds"] != want[0] || got["succeeds_before"] != want[1] {
				t.Errorf("event %d says %v", i, got)
			}
		}
	})
}

// silentAbout cannot tell of one certificate.
type silentAbout struct{ serial pki.Serial }

func (silentAbout) Seq() uint64                   { return 0 }
func (silentAbout) CatchUp(context.Context) error { return nil }
func (s silentAbout) StatusOf(_ context.Context, _ pki.IssuerID, serial pki.Serial) (pki.Status, pki.Reason, error) {
	if serial == s.serial {
		return pki.StatusGood, pki.Unspecified, pki.Errorf(pki.KindUnavailable, "look up", "not now")
	}
	return pki.StatusGood, pki.Unspecified, nil
}

// An authority of which it cannot be told now whether it stands is not succeeded for that, nor said to be gone.
func TestAnAuthorityThatCannotBeToldOfIsNotSucceeded(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	description := newIssuer("issuing-2", "Test Issuing CA 2", w.root)
	description.Succeeds = w.issuing.ID
	w.create(description)
	serial, err := pki.SerialFromBig(parse(t, w.issuing.Certificates[0].DER).SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	w.status = silentAbout{serial}
	w.Authority = w.instance(w.store)
	_, err = w.issue(w.Authority, server(t, "app.example"))
	wantError(t, err, pki.KindUnavailable, "")
}

// To ask whether an issuer stands costs no parsing of its certificates, though it never signed here.
func TestTheChainIsReadOnce(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	for _, id := range []pki.IssuerID{w.issuing.ID, w.create(newIssuer("issuing-2", "Test Issuing CA 2", w.root)).ID} {
		allocations := testing.AllocsPerRun(20, func() {
			if err := w.Standing(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
		if allocations > 8 {
			t.Errorf("it takes %v allocations", allocations)
		}
	}
}

// An issuer that waits for its certificate is given up: name and, without its key, label are free, and nothing is made with that key again.
func TestAPendingIssuerIsGivenUp(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		ring := &keyring{opened: make(map[string]*keys.Key)}
		w := newTownWith(t, s, ring)
		description := ca.NewIssuer{Label: "bridge", Subject: ca.Subject{CommonName: "Bridge CA"}, BaseURL: "http://pki.test", Offline: true}
		pending := w.create(description)
		elsewhere := w.instance(w.store)

		_, err := w.SetIssuerState(t.Context(), w.manage(), pending.ID, ca.IssuerRetired)
		wantError(t, err, pki.KindFailedPrecondition, "state")
		if hint := err.(*pki.Error).Hint; !strings.Contains(hint, "signet issuer delete bridge") {
			t.Errorf("the hint is %q", hint)
		}
		_, err = w.DeleteIssuer(t.Context(), w.manage(), w.issuing.ID)
		wantError(t, err, pki.KindFailedPrecondition, "issuer")
		_, err = w.DeleteIssuer(t.Context(), w.manage(), pki.IssuerID{1})
		wantError(t, err, pki.KindNotFound, "issuer")
		if _, err := w.UpdateIssuer(t.Context(), w.manage(), w.issuing.ID, ca.IssuerChange{Succeeds: &pending.ID}); err != nil {
			t.Fatal(err)
		}
		_, err = w.DeleteIssuer(t.Context(), w.manage(), pending.ID)
		wantError(t, err, pki.KindFailedPrecondition, "issuer")
		if _, err := w.UpdateIssuer(t.Context(), w.manage(), w.issuing.ID, ca.IssuerChange{Succeeds: new(pki.IssuerID)}); err != nil {
			t.Fatal(err)
		}

		gone, err := elsewhere.DeleteIssuer(t.Context(), w.manage(), pending.ID)
		if err != nil || gone.KeyURI != "memory:bridge" {
			t.Fatalf("%+v, %v", gone, err)
		}
		if slices.ContainsFunc(elsewhere.Issuers(), func(i ca.Issuer) bool { return i.ID == pending.ID }) {
			t.Error("it is still there")
		}
		_, err = w.DeleteIssuer(t.Context(), w.manage(), pending.ID)
		wantError(t, err, pki.KindNotFound, "issuer")
		events, err := s.AuditEvents(t.Context(), audit.Filter{Action: "issuer.delete"}, 0, 1000)
		if err != nil || len(events) != 1 || events[0].Detail["label"] != "bridge" || events[0].Detail["key_uri"] != "memory:bridge" {
			t.Errorf("the audit log says %v, %v", events, err)
		}

		description.Offline, description.Parent = false, w.root.ID
		_, err = w.CreateIssuer(t.Context(), w.manage(), description)
		wantError(t, err, pki.KindConflict, "key")
		if hint := err.(*pki.Error).Hint; !strings.Contains(hint, "remove memory:bridge from the key store") {
			t.Errorf("the hint is %q", hint)
		}
		description.Label = "bridge-2"
		w.create(description) // its name is free
		delete(ring.opened, "memory:bridge")
		description.Label, description.Subject.CommonName = "bridge", "Bridge CA 2"
		if again := w.create(description); again.ID == pending.ID {
			t.Error("the old key came back")
		}
	})
}

// givingUp gives an issuer up once its certificate has been signed, before it is recorded.
type givingUp struct {
	store.Store
	giveUp func()
}

func (g *givingUp) Record(ctx context.Context, owner ca.OwnerID, entries []ca.Entry) ([]ca.Outcome, error) {
	g.giveUp()
	return g.Store.Record(ctx, owner, entries)
}

// An issuer that another administrator gave up meanwhile is not certified: what was signed for it is void, and revoked.
func TestAnIssuerIsGivenUpWhileItIsCertified(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		before, err := s.LedgerEntries(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		gone := 0
		here := w.instance(&givingUp{s, func() {
			elsewhere := w.instance(s)
			for _, issuer := range elsewhere.Issuers() {
				if issuer.Label == "bridge" {
					if _, err := elsewhere.DeleteIssuer(t.Context(), w.manage(), issuer.ID); err != nil {
						t.Error(err)
					}
					gone++
				}
			}
		}})
		_, err = here.CreateIssuer(t.Context(), w.manage(), ca.NewIssuer{Label: "bridge", Subject: ca.Subject{CommonName: "Bridge CA"}, BaseURL: "http://pki.test", Parent: w.root.ID})
		wantError(t, err, pki.KindFailedPrecondition, "issuer")
		page, err := w.List(t.Context(), w.grant(admin, auth.ActionRead, ""), inventory.Filter{Issuer: w.root.ID}, "", 10)
		if err != nil || gone != 1 || slices.ContainsFunc(page.Certificates, func(c inventory.Certificate) bool { return c.Subject == "CN=Bridge CA" }) {
			t.Errorf("%d given up, and there are %+v, %v", gone, page.Certificates, err)
		}
		after, err := s.LedgerEntries(t.Context(), 0, 100)
		if err != nil || len(after) != len(before)+1 || after[len(before)].Kind != revocation.KindVoid || after[len(before)].Issuer != w.root.ID {
			t.Errorf("the ledger goes on with %+v, %v; want what was signed", after[len(before):], err)
		}
	})
}

// An off-line root elsewhere signs our issuer: CSR out, certificate in; then a renewed and a cross-signed one.
func TestAnOfflineRoot(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		pending, err := w.CreateIssuer(t.Context(), w.manage(), ca.NewIssuer{Label: "off", Subject: ca.Subject{CommonName: "Off-line signed CA"}, BaseURL: "http://pki.test", Offline: true})
		if err != nil {
			t.Fatal(err)
		}
		request, err := x509.ParseCertificateRequest(pending.CSR)
		if err != nil {
			t.Fatal(err)
		}
		rootKey := newKey(t)
		self := func(name string, days int, parent *x509.Certificate, public, signer any, subject []byte, isCA bool) []byte {
			template := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: name}, RawSubject: subject, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().Add(time.Duration(days) * 24 * time.Hour),
				IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3, 4, 5}}
			if parent == nil {
				parent = template
			}
			der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
			if err != nil {
				t.Fatal(err)
			}
			return der
		}
		root := self("Off-line Root", 4000, nil, rootKey.Public(), rootKey, nil, true)
		parent := parse(t, root)
		good := self("", 2000, parent, request.PublicKey, rootKey, request.RawSubject, true)
		renamed := *parent
		renamed.RawSubject, renamed.Subject = nil, pkix.Name{CommonName: "Renamed"}
		lists, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(78), RawSubject: request.RawSubject, NotAfter: w.clock.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign},
			parent, request.PublicKey, rootKey)
		if err != nil {
			t.Fatal(err)
		}
		// What restricts those below it and is not enforced here, on the certificate or above it.
		strict := func(key crypto.PublicKey, subject []byte, parent *x509.Certificate, signer crypto.Signer) []byte {
			der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(78), Subject: pkix.Name{CommonName: "Strict"}, RawSubject: subject, NotBefore: w.clock.Now(), NotAfter: w.clock.Now().Add(time.Hour),
				IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtraExtensions: []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 55555, 1}, Critical: true, Value: []byte{5, 0}}}}, parent, key, signer)
			if err != nil {
				t.Fatal(err)
			}
			return der
		}
		// A CA whose lists verifiers would refuse.
		listless, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(79), RawSubject: request.RawSubject, NotAfter: w.clock.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign},
			parent, request.PublicKey, rootKey)
		if err != nil {
			t.Fatal(err)
		}
		between := newKey(t)
		above := strict(between.Public(), nil, parent, rootKey)
		tests := []struct {
			name  string
			der   []byte
			chain [][]byte
			kind  pki.Kind
			field string
		}{
			{"no chain", good, nil, pki.KindRefused, "chain"},
			{"another root", good, [][]byte{w.root.Certificates[0].DER}, pki.KindRefused, "chain"},
			{"no CA", self("", 2000, parent, request.PublicKey, rootKey, request.RawSubject, false), [][]byte{root}, pki.KindRefused, "certificate"},
			{"a CA that signs lists only", lists, [][]byte{root}, pki.KindRefused, "certificate"},
			{"a CA that signs no lists", listless, [][]byte{root}, pki.KindRefused, "certificate"},
			{"one that has ended", self("", -1, parent, request.PublicKey, rootKey, request.RawSubject, true), [][]byte{root}, pki.KindRefused, "certificate"},
			{"signed in another name", self("", 2000, &renamed, request.PublicKey, rootKey, request.RawSubject, true), [][]byte{root}, pki.KindRefused, "chain"},
			{"another name", self("Other", 2000, parent, request.PublicKey, rootKey, nil, true), [][]byte{root}, pki.KindRefused, "certificate"},
			{"another key", self("", 2000, parent, newKey(t).Public(), rootKey, request.RawSubject, true), [][]byte{root}, pki.KindRefused, "certificate"},
			{"a stranger", self("Stranger", 2000, parent, newKey(t).Public(), rootKey, nil, true), [][]byte{root}, pki.KindNotFound, "certificate"},
			{"garbage", []byte("x"), [][]byte{root}, pki.KindInvalid, "certificate"},
			{"a critical extension", strict(request.PublicKey, request.RawSubject, parent, rootKey), [][]byte{root}, pki.KindRefused, "certificate"},
			{"a critical extension above", self("", 2000, parse(t, above), request.PublicKey, between, request.RawSubject, true), [][]byte{above, root}, pki.KindRefused, "chain"},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				_, err := w.ImportIssuerCertificate(t.Context(), w.manage(), ca.IssuerImport{DER: test.der, Chain: test.chain})
				wantError(t, err, test.kind, test.field)
			})
		}
		imported, err := w.ImportIssuerCertificate(t.Context(), w.manage(), ca.IssuerImport{DER: good, Chain: [][]byte{root}})
		if err != nil || imported.State != ca.IssuerActive {
			t.Fatalf("%+v, %v", imported, err)
		}
		ask := server(t, "a.example.com")
		ask.Issuer = imported.ID
		issued := w.mustIssue(ask)
		leaf := parse(t, issued.DER)
		if err := leaf.CheckSignatureFrom(parse(t, good)); err != nil || !bytes.Equal(leaf.AuthorityKeyId, []byte{1, 2, 3, 4, 5}) {
			t.Errorf("%v; authority key id %x, want that of the imported certificate", err, leaf.AuthorityKeyId)
		}
		crossed, err := w.CrossSign(t.Context(), w.manage(), imported.ID, w.root.ID, 0)
		if err != nil || len(crossed.Certificates) != 2 || !bytes.Equal(crossed.Certificates[0].DER, good) {
			t.Fatalf("cross-signed: %d certificates, %v", len(crossed.Certificates), err)
		}
		cross := parse(t, crossed.Certificates[1].DER)
		if !bytes.Equal(cross.SubjectKeyId, []byte{1, 2, 3, 4, 5}) {
			t.Errorf("the cross certificate calls the key %x", cross.SubjectKeyId)
		}
		if err := leaf.CheckSignatureFrom(cross); err != nil {
			t.Errorf("the leaf under the cross certificate: %v", err)
		}
		if err := cross.CheckSignatureFrom(parse(t, w.root.Certificates[0].DER)); err != nil {
			t.Error(err)
		}
	})
}

func TestARenewedIssuerIsTheSameIssuer(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		n := newIssuer("corp", "Corp CA", w.root)
		n.Permitted, n.PathLength = profile.SubtreesConfig{DNS: []string{"corp.example"}}, new(1)
		corp := w.create(n)
		request := server(t, "a.corp.example")
		request.Issuer = corp.ID
		before := w.mustIssue(request)
		w.clock.advance(30 * 24 * time.Hour)
		for _, issuer := range []ca.Issuer{corp, w.issuing, w.root} {
			renewed, err := w.RenewIssuer(t.Context(), w.manage(), issuer.ID, 0)
			if err != nil {
				t.Fatal(err)
			}
			old, now := parse(t, issuer.Certificates[0].DER), parse(t, renewed.Certificates[0].DER)
			if renewed.ID != issuer.ID || len(renewed.Certificates) != 2 || !now.NotAfter.After(old.NotAfter) && issuer.ID == w.root.ID ||
				now.MaxPathLen != old.MaxPathLen || len(now.PermittedDNSDomains) != len(old.PermittedDNSDomains) || !slices.Equal(now.CRLDistributionPoints, old.CRLDistributionPoints) || !bytes.Equal(now.SubjectKeyId, old.SubjectKeyId) {
				t.Errorf("%s: renewed %+v", issuer.Label, renewed.Certificates)
			}
			if err := parse(t, before.DER).CheckSignatureFrom(now); issuer.ID == corp.ID && err != nil {
				t.Errorf("what was issued before: %v", err)
			}
			if both := renewed.CertificatesFile(); !bytes.Contains(both, old.Raw) || !bytes.Contains(both, now.Raw) {
				t.Errorf("%s: the .p7c file lacks one of its certificates", issuer.Label)
			}
			chosen, err := w.ChooseIssuerCertificate(t.Context(), w.manage(), issuer.ID, sha256.Sum256(old.Raw))
			if err != nil || !bytes.Equal(chosen.CertificateFile(), old.Raw) {
				t.Errorf("choosing the old one: %v", err)
			}
		}
		if _, err := w.ChooseIssuerCertificate(t.Context(), w.manage(), corp.ID, [32]byte{}); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("choosing what is not there: %v", err)
		}
	})
}

// A CA that another program ran is taken over with its key; what it issues from now on is in the books.
func TestACAIsAdopted(t *testing.T) {
	ring := &keyring{opened: make(map[string]*keys.Key)}
	w := newTownWith(t, testdb.SQLite(t), ring)
	signer := newKey(t)
	ring.opened["memory:old"] = &keys.Key{Signer: signer, URI: "memory:old", Secret: pki.SerialSecret{1}}
	template := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "Old CA"}, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().Add(1000 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{7, 7}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "old", KeyURI: w.issuing.KeyURI, BaseURL: "http://pki.test", DER: der})
	wantError(t, err, pki.KindRefused, "key")
	adopted, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "old", KeyURI: "memory:old", BaseURL: "http://pki.test", DER: der})
	if err != nil || !adopted.Foreign || adopted.State != ca.IssuerActive {
		t.Fatalf("%+v, %v", adopted, err)
	}
	request := server(t, "a.example.com")
	request.Issuer = adopted.ID
	_, err = w.issue(w.Authority, request) // a root certifies others only where a profile names it
	wantError(t, err, pki.KindRefused, "issuer")
	single := ca.Request{Profile: "single", CSR: request.CSR, Issuer: adopted.ID}
	if issued, err := w.issue(w.withProfiles(t, map[string]string{"single": "issuer: old\n"}), single); err != nil {
		t.Error(err)
	} else if err := parse(t, issued.DER).CheckSignatureFrom(parse(t, der)); err != nil {
		t.Error(err)
	}
	// Below it stand one that has name constraints, written as other programs do, and one whose key is off-line.
	below := func(label string, permitted ...string) ([]byte, *ecdsa.PrivateKey) {
		t.Helper()
		key, child := newKey(t), *template
		child.Subject, child.SubjectKeyId, child.PermittedDNSDomains = pkix.Name{CommonName: label}, []byte(label), permitted
		der, err := x509.CreateCertificate(rand.Reader, &child, template, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		return der, key
	}
	narrow, key := below("narrow", ".Example.COM")
	ring.opened["memory:narrow"] = &keys.Key{Signer: key, URI: "memory:narrow", Secret: pki.SerialSecret{2}}
	taken, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "narrow", KeyURI: "memory:narrow", BaseURL: "http://pki.test", DER: narrow, Chain: [][]byte{der}})
	if err != nil {
		t.Fatal(err)
	}
	for name, field := range map[string]string{"a.example.com": "", "a.example.org": "identifiers[0]", "example.com": "identifiers[0]"} {
		request := server(t, name)
		request.Issuer = taken.ID
		if _, err := w.issue(w.Authority, request); field != "" {
			wantError(t, err, pki.KindRefused, field)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.SetIssuerState(t.Context(), w.manage(), taken.ID, ca.IssuerDisabled); err != nil {
		t.Fatal(err)
	}
	offline, _ := below("off-line")
	_, err = w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "Off Line", BaseURL: "http://pki.test", DER: offline, Chain: [][]byte{der}})
	wantError(t, err, pki.KindInvalid, "name")
	if taken, err = w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "off-line", BaseURL: "http://pki.test", DER: offline, Chain: [][]byte{der}}); err != nil || taken.State != ca.IssuerActive {
		t.Fatalf("%+v, %v", taken, err)
	}
	if issued := w.mustIssue(server(t, "a.example.com")); issued.Issuer != w.issuing.ID {
		t.Errorf("beside one whose key is off-line it is from %s", issued.Issuer)
	}
	request.Issuer = taken.ID
	_, err = w.issue(w.Authority, request)
	if wantError(t, err, pki.KindFailedPrecondition, "issuer"); err == nil || !strings.Contains(err.Error(), "off-line") {
		t.Errorf("from it: %v", err)
	}
	_, err = w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "again", KeyURI: "memory:old", BaseURL: "http://pki.test", DER: der})
	if pki.KindOf(err) != pki.KindConflict {
		t.Errorf("adopted twice: %v", err)
	}
}

// The successor of a CA that another program made has the same name constraints, in a spelling that is refused of anybody else.
func TestASuccessorHasTheSameConstraints(t *testing.T) {
	ring := &keyring{opened: make(map[string]*keys.Key)}
	w := newTownWith(t, testdb.SQLite(t), ring)
	signer := newKey(t)
	const quoted = `"old root"@example.com` // nobody else may have such a mailbox
	ring.opened["memory:narrow"] = &keys.Key{Signer: signer, URI: "memory:narrow", Secret: pki.SerialSecret{1}}
	network := func(text string) []*net.IPNet {
		_, n, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		return []*net.IPNet{n}
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "Narrow"}, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().Add(1000 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{7, 7},
		PermittedDNSDomains: []string{".Example.COM", "example.net"}, PermittedIPRanges: network("10.0.0.0/8"), PermittedEmailAddresses: []string{"Root@example.com", quoted}, PermittedURIDomains: []string{".example.com"},
		ExcludedDNSDomains: []string{".bad.Example.COM"}, ExcludedIPRanges: network("10.1.0.0/16"), ExcludedEmailAddresses: []string{"example.net"}, ExcludedURIDomains: []string{"bad.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "narrow", KeyURI: "memory:narrow", BaseURL: "http://pki.test", DER: der}); err != nil {
		t.Fatal(err)
	}
	like := func() ca.NewIssuer {
		n := newIssuer("narrow-2", "Narrow 2", w.root)
		n.Permitted = profile.SubtreesConfig{DNS: []string{".Example.COM", "example.net"}, IP: []string{"10.0.0.0/8"}, Email: []string{"Root@example.com", quoted}, URI: []string{".example.com"}}
		n.Excluded = profile.SubtreesConfig{DNS: []string{".bad.Example.COM"}, IP: []string{"10.1.0.0/16"}, Email: []string{"example.net"}, URI: []string{"bad.example.com"}}
		return n
	}
	for what, change := range map[string]func(*ca.NewIssuer){
		"less":                      func(n *ca.NewIssuer) { n.Excluded = profile.SubtreesConfig{} },
		"another permitted host":    func(n *ca.NewIssuer) { n.Permitted.DNS[1] = "example.org" },
		"another permitted address": func(n *ca.NewIssuer) { n.Permitted.IP[0] = "10.0.0.0/7" },
		"another permitted mailbox": func(n *ca.NewIssuer) { n.Permitted.Email[0] = "root@example.com" },
		"another permitted URI":     func(n *ca.NewIssuer) { n.Permitted.URI[0] = "example.com" },
		"one excluded host more":    func(n *ca.NewIssuer) { n.Excluded.DNS = append(n.Excluded.DNS, "example.org") },
		"one excluded address less": func(n *ca.NewIssuer) { n.Excluded.IP = nil },
		"another excluded mailbox":  func(n *ca.NewIssuer) { n.Excluded.Email[0] = ".example.net" },
		"another excluded URI":      func(n *ca.NewIssuer) { n.Excluded.URI[0] = "example.com" },
	} {
		n := like()
		change(&n)
		_, err := w.CreateIssuer(t.Context(), w.manage(), n)
		t.Run(what, func(t *testing.T) { wantError(t, err, pki.KindInvalid, "permitted") })
	}
	for _, parent := range []ca.Issuer{w.root, {}} { // below another, and a root
		n := like()
		n.Parent = parent.ID
		n.Label, n.Subject.CommonName = n.Label+parent.Label, n.Subject.CommonName+parent.Label
		c := parse(t, w.create(n).Certificates[0].DER)
		if !c.PermittedDNSDomainsCritical || !slices.Equal(c.PermittedDNSDomains, template.PermittedDNSDomains) || !slices.Equal(c.PermittedEmailAddresses, template.PermittedEmailAddresses) ||
			!slices.Equal(c.PermittedURIDomains, template.PermittedURIDomains) || len(c.PermittedIPRanges) != 1 || c.PermittedIPRanges[0].String() != "10.0.0.0/8" ||
			!slices.Equal(c.ExcludedDNSDomains, template.ExcludedDNSDomains) || !slices.Equal(c.ExcludedEmailAddresses, template.ExcludedEmailAddresses) ||
			!slices.Equal(c.ExcludedURIDomains, template.ExcludedURIDomains) || len(c.ExcludedIPRanges) != 1 || c.ExcludedIPRanges[0].String() != "10.1.0.0/16" {
			t.Errorf("permitted %v %v %v %v, excluded %v %v %v %v", c.PermittedDNSDomains, c.PermittedIPRanges, c.PermittedEmailAddresses, c.PermittedURIDomains,
				c.ExcludedDNSDomains, c.ExcludedIPRanges, c.ExcludedEmailAddresses, c.ExcludedURIDomains)
		}
	}
}

// An adoption that broke off goes on with the same words, and ends in no other way: what the CA revoked may not be known yet.
func TestAnAdoptionGoesOn(t *testing.T) {
	ring := &keyring{opened: make(map[string]*keys.Key)}
	w := newTownWith(t, testdb.SQLite(t), ring)
	signer := newKey(t)
	ring.opened["memory:old"] = &keys.Key{Signer: signer, URI: "memory:old", Secret: pki.SerialSecret{1}}
	name := []byte("\x30\x11\x31\x0f\x30\x0d\x06\x03\x55\x04\x03\x0c\x06Old CA") // CN=Old CA, as it is encoded here
	template := &x509.Certificate{SerialNumber: big.NewInt(5), RawSubject: name, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().Add(1000 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{7, 7}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	adoption := ca.Adoption{Label: "old", KeyURI: "memory:old", BaseURL: "http://pki.test", DER: der}
	begun, err := w.BeginAdoption(t.Context(), w.manage(), adoption)
	if err != nil || begun.State != ca.IssuerPending || len(begun.Certificates) != 0 || !begun.Foreign {
		t.Fatalf("%+v, %v", begun, err)
	}
	_, err = w.ImportIssuerCertificate(t.Context(), w.manage(), ca.IssuerImport{DER: der})
	wantError(t, err, pki.KindFailedPrecondition, "certificate")
	_, err = w.CrossSign(t.Context(), w.manage(), begun.ID, w.root.ID, 0)
	wantError(t, err, pki.KindFailedPrecondition, "issuer")
	for _, created := range []ca.NewIssuer{{}, {Parent: w.root.ID}, {Offline: true}} {
		created.Label, created.Subject, created.BaseURL = "old", ca.Subject{CommonName: "Old CA"}, "http://pki.test"
		_, err = w.CreateIssuer(t.Context(), w.manage(), created)
		wantError(t, err, pki.KindConflict, "label")
	}
	for what, other := range map[string]ca.Adoption{
		"label": {Label: "older", KeyURI: "memory:old", BaseURL: "http://pki.test", DER: der}, "URL": {Label: "old", KeyURI: "memory:old", BaseURL: "http://other.test", DER: der},
		"key": {Label: "old", BaseURL: "http://pki.test", DER: der},
	} {
		if _, err := w.BeginAdoption(t.Context(), w.manage(), other); pki.KindOf(err) != pki.KindConflict {
			t.Errorf("with another %s: %v", what, err)
		}
	}
	again, err := w.BeginAdoption(t.Context(), w.manage(), adoption)
	if err != nil || again.ID != begun.ID {
		t.Fatalf("%+v, %v", again, err)
	}
	if _, err := w.FinishAdoption(t.Context(), auth.Grant{}, again, adoption); pki.KindOf(err) != pki.KindDenied {
		t.Errorf("without a grant: %v", err)
	}
	if ended, err := w.FinishAdoption(t.Context(), w.manage(), again, adoption); err != nil || ended.State != ca.IssuerActive {
		t.Fatalf("%+v, %v", ended, err)
	}
	if _, err := w.BeginAdoption(t.Context(), w.manage(), adoption); pki.KindOf(err) != pki.KindConflict {
		t.Errorf("adopted twice: %v", err)
	}
}
