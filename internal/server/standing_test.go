package server_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/internal/invariant"
	"signet.example/signet/internal/server"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// issuerCalled finds an issuer by its label.
func (s *site) issuerCalled(t *testing.T, label string) client.Issuer {
	t.Helper()
	issuers, err := s.api.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return issuers[slices.IndexFunc(issuers, func(i client.Issuer) bool { return i.Label == label })]
}

// believeItself connects as the commands on the server's machine do: they believe what the server signed itself.
func (s *site) believeItself(t *testing.T) {
	t.Helper()
	s.connect(t)
	text, err := os.ReadFile(filepath.Join(s.dir, "api.pem"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := client.ReadToken(filepath.Join(s.dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	s.roots.AppendCertsFromPEM(text)
	if s.api, err = client.New(client.Config{Address: s.addresses.API, Roots: s.roots, Token: token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.api.Close() })
}

func wantNotIssued(t *testing.T, s *site, why string) {
	t.Helper()
	_, err := s.api.Issue(t.Context(), client.IssueRequest{CSR: request(t), Profile: "server", Identifiers: []string{"host.example"}})
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindFailedPrecondition || e.Field != "issuer" || e.Hint == "" || !strings.Contains(e.Error(), why) {
		t.Errorf("issued, or refused for another reason: %v", err)
	}
}

// TestRevokedIssuer revokes the only issuing CA: no instance issues any more, and /readyz says why; what it issued can
// be revoked, and its lists and OCSP go on, through restarts too. Its successor is made through the API of a server
// that no issuer can certify, and ends that state.
func TestRevokedIssuer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		sites := []*site{s}
		if strings.HasPrefix(database, "postgres") {
			sites = append(sites, s.beside(t))
		}
		p := s.start(t)
		for _, each := range sites[1:] {
			each.start(t)
		}
		leaf, other := s.issue(t, "host.example"), s.issue(t, "other.example")
		system := invariant.System{API: s.api, Issued: [][]byte{leaf.DER, other.DER}}
		root, issuing := s.issuerCalled(t, "root"), s.issuerCalled(t, "issuing")
		// Returns when every instance has it.
		s.revoke(t, client.Certificate{DER: parsePEM(t, issuing.PEM)[0].Raw}, pki.CACompromise)
		for _, each := range sites {
			wantNotIssued(t, each, "is revoked (cACompromise)")
			if state, detail, ready := each.readiness(t, "issuer/issuing"); state != "warning" || !strings.Contains(detail, "signet issuer rollover issuing") || !ready {
				t.Errorf("/readyz says %q, %q, ready %v", state, detail, ready)
			}
		}
		s.revoke(t, leaf, pki.KeyCompromise)
		wantOCSP(t, leaf.DER, pki.StatusRevoked)
		wantOCSP(t, other.DER, pki.StatusGood)
		invariant.All(t, system)

		p.stop(t)
		s.start(t)
		wantOCSP(t, leaf.DER, pki.StatusRevoked)
		if _, err := s.api.Issuers(t.Context()); err == nil {
			t.Error("who trusts the root alone believes an API that no issuer certified")
		}
		if state, detail, ready := s.readiness(t, "api certificate"); state != "warning" || !strings.Contains(detail, "is revoked") || !ready {
			t.Errorf("/readyz says %q, %q, ready %v", state, detail, ready)
		}
		s.believeItself(t)
		system.API = s.api
		wantNotIssued(t, s, "is revoked (cACompromise)")
		s.revoke(t, other, pki.Superseded)
		invariant.All(t, system)

		if _, err := s.api.CreateIssuer(t.Context(), client.IssuerSpec{Label: "issuing-2", Subject: client.Subject{CommonName: "Issuing CA 2"}, Parent: root.ID, BaseURL: "http://" + s.addresses.Public}); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			s.connect(t)
			if _, err := s.api.Issuers(t.Context()); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the API never gets a certificate of the successor")
			}
		}
		if _, err := os.Stat(filepath.Join(s.dir, "api.pem")); err == nil {
			t.Error("api.pem is still there")
		}
		system.API = s.api
		system.Issued = append(system.Issued, s.issue(t, "third.example").DER) // whichever issuer stands is chosen
		invariant.All(t, system)
	})
}

// TestForged revokes what a thief signed with the key of an issuer. The administrator who revokes it is told what it
// means, and so is everyone who asks afterwards.
func TestForged(t *testing.T) {
	t.Parallel()
	s := found(t, "sqlite:signet.db")
	s.start(t)
	stolen, err := softkey.New(softkey.Config{Dir: filepath.Join(s.dir, "keys"), Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	key, err := stolen.Open(t.Context(), stolen.URI("issuing"))
	if err != nil {
		t.Fatal(err)
	}
	parent := parsePEM(t, s.issuerCalled(t, "issuing").PEM)[0]
	template := &x509.Certificate{SerialNumber: big.NewInt(77), NotBefore: time.Now(), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"evil.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Signer.Public(), key.Signer)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		der    []byte
		forged bool
	}{{"forged.pem", der, true}, {"good.pem", s.issue(t, "good.example").DER, false}} {
		path := filepath.Join(t.TempDir(), c.name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.der}), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, said := s.run(t, "revoke", path, "--reason", "superseded"); status != 0 || strings.Contains(said, "the key is in other hands") != c.forged {
			t.Errorf("%s is revoked with status %d: %s", c.name, status, said)
		}
		if status, said := s.run(t, "status", path); status != 10 || strings.Contains(said, "that key is in other hands") != c.forged {
			t.Errorf("%s: status %d: %s", c.name, status, said)
		}
	}
}

// TestTheKeyOfASuccessor rolls an authority over at one of two instances. The other lacks the new key: it says so
// before anything depends on it, the rollover asks, and what is refused there afterwards says why, until the key is
// brought, without a restart.
func TestTheKeyOfASuccessor(t *testing.T) {
	t.Parallel()
	one := found(t, testdb.EmptyURL(t))
	two := one.beside(t)
	remove(t, filepath.Join(two.dir, "keys/root.key")) // on purpose: a root is kept in one place
	one.start(t)
	two.start(t)
	code, out := one.run(t, "issuer", "rollover", "issuing", "--key-algorithm", "ecdsa-p256")
	if code != 3 || !strings.Contains(out, "not confirmed") {
		t.Errorf("exit status %d: %s", code, out)
	}
	old := one.issuerCalled(t, "issuing")
	if _, err := one.api.CreateIssuer(t.Context(), client.IssuerSpec{Label: "issuing-2", Subject: client.Subject{CommonName: "Signet Issuing CA 2"},
		Parent: one.issuerCalled(t, "root").ID, Succeeds: old.ID, BaseURL: "http://" + one.addresses.Public}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other instance warns", func() bool {
		state, detail, ready := two.readiness(t, "key/issuing-2")
		return state == "warning" && strings.Contains(detail, "not at this instance") && ready
	})
	for _, check := range []string{"key/issuing", "key/root"} {
		if state, _, _ := two.readiness(t, check); state != "ok" {
			t.Errorf("%s: %s", check, state)
		}
	}
	two.issue(t, "before.example") // by the old one
	if code, out = one.run(t, "issuer", "rollover", "issuing", "--plan"); code != 0 || !strings.Contains(out, "each of the 2 instances needs the key of issuing-2") {
		t.Errorf("exit status %d: %s", code, out)
	}
	if code, out = one.run(t, "issuer", "rollover", "issuing", "--yes", "--keys-are-there"); code != 0 {
		t.Errorf("exit status %d: %s", code, out)
	}
	one.issue(t, "after.example")
	eventually(t, "the other instance hears of it", func() bool { return two.issuerCalled(t, "issuing").State == client.IssuerDisabled })
	wantNotIssued(t, two, "the key of issuer issuing-2 is not at this instance")
	const key = "keys/issuing-2.key"
	text, err := os.ReadFile(filepath.Join(one.dir, key))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(two.dir, key), text, 0o600); err != nil {
		t.Fatal(err)
	}
	two.issue(t, "again.example")
	eventually(t, "the other instance is content", func() bool { state, _, _ := two.readiness(t, "key/issuing-2"); return state == "ok" })
}

// TestAPICertificateIsBelieved rolls the root over, and then once more without cross-signing. With root.pem as it was,
// clients believe the API whenever the roots lead there; else only the commands on this machine do, until root.pem
// there has the new root.
func TestAPICertificateIsBelieved(t *testing.T) {
	t.Parallel()
	s := found(t, "sqlite:signet.db")
	p := s.start(t)
	create := func(label, name string, parent, succeeds pki.IssuerID) client.Issuer {
		t.Helper()
		i, err := s.api.CreateIssuer(t.Context(), client.IssuerSpec{Label: label, Subject: client.Subject{CommonName: name}, BaseURL: "http://" + s.addresses.Public, Parent: parent, Succeeds: succeeds})
		if err != nil {
			t.Fatal(err)
		}
		return *i
	}
	disable := func(i client.Issuer) {
		t.Helper()
		if _, err := s.api.SetIssuerState(t.Context(), i.ID, client.IssuerDisabled); err != nil {
			t.Fatal(err)
		}
	}
	restart := func() error {
		t.Helper()
		p.stop(t)
		p = s.start(t)
		s.connect(t)
		_, err := s.api.Issuers(t.Context())
		return err
	}
	local := func() bool { _, err := os.Stat(filepath.Join(s.dir, "api.pem")); return err == nil }

	root, issuing := s.issuerCalled(t, "root"), s.issuerCalled(t, "issuing")
	second := create("root-2", "Second Root", pki.IssuerID{}, pki.IssuerID{})
	if _, err := s.api.CrossSignIssuer(t.Context(), second.ID, root.ID, 0); err != nil {
		t.Fatal(err)
	}
	issuing2 := create("issuing-2", "Issuing CA 2", second.ID, issuing.ID)
	disable(issuing)
	if err := restart(); err != nil || local() {
		t.Errorf("below a root that the first has signed: %v; api.pem is there: %v", err, local())
	}

	third := create("root-3", "Third Root", pki.IssuerID{}, pki.IssuerID{})
	issuing3 := create("issuing-3", "Issuing CA 3", third.ID, issuing2.ID)
	if _, err := s.api.CrossSignIssuer(t.Context(), issuing2.ID, third.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := restart(); err != nil || local() { // the one that is believed certifies the API, whichever is the default
		t.Errorf("beside one that clients do not believe: %v; api.pem is there: %v", err, local())
	}
	disable(issuing2)
	if err := restart(); err == nil || !local() {
		t.Errorf("below a root that nobody has: %v; api.pem is there: %v", err, local())
	}
	if state, detail, ready := s.readiness(t, "api certificate"); state != "warning" || !strings.Contains(detail, "root.pem has no root above issuer issuing-3") || !ready {
		t.Errorf("/readyz says %q, %q, ready %v", state, detail, ready)
	}
	s.believeItself(t)
	if issued := s.issue(t, "third.example"); issued.Issuer != issuing3.ID {
		t.Errorf("issued by %s", issued.Issuer)
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "root.pem"), append(text, third.PEM...), 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); local(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("api.pem stays")
		}
	}
	s.connect(t)
	if _, err := s.api.Issuers(t.Context()); err != nil {
		t.Errorf("once root.pem has it: %v", err)
	}
}

// TestAPICertificateStays has the API certified below a root that root.pem lacks, while an issuer below root.pem's
// stands that may not certify its names: one certificate is issued, not one with every look, and none is served that
// the commands on this machine cannot find.
func TestAPICertificateStays(t *testing.T) {
	t.Parallel()
	s := found(t, "sqlite:signet.db")
	p := s.start(t)
	create := func(n client.IssuerSpec) *client.Issuer {
		t.Helper()
		n.BaseURL = "http://" + s.addresses.Public
		i, err := s.api.CreateIssuer(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	create(client.IssuerSpec{Label: "plant", Subject: client.Subject{CommonName: "Plant CA"}, Parent: s.issuerCalled(t, "root").ID, Permitted: client.NameConstraints{DNS: []string{"plant.example"}}})
	other := create(client.IssuerSpec{Label: "root-2", Subject: client.Subject{CommonName: "Second Root"}}).ID
	certificate := parsePEM(t, create(client.IssuerSpec{Label: "issuing-2", Subject: client.Subject{CommonName: "Issuing CA 2"}, Parent: other}).PEM)[0]
	if _, err := s.api.SetIssuerState(t.Context(), s.issuerCalled(t, "issuing").ID, client.IssuerDisabled); err != nil {
		t.Fatal(err)
	}
	p.stop(t)

	now := time.Now()
	instance, err := server.Open(t.Context(), s.config(t), server.Options{Passphrase: []byte("correct horse"), Unsafe: true, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := instance.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	var tried time.Time
	var said string
	look := func(later time.Duration, wantTried bool) *x509.Certificate {
		t.Helper()
		now = now.Add(later)
		var served *x509.Certificate
		if tried, served, said = instance.TestingOnlyLookAtAPICertificate(t.Context(), tried); tried.Equal(now) != wantTried {
			t.Errorf("after %s more: tried at %s, and it is %s", later, tried, now)
		}
		return served
	}
	api := filepath.Join(s.dir, "api.pem")
	same := func(served *x509.Certificate) {
		t.Helper()
		if text, err := os.ReadFile(api); err != nil || !parsePEM(t, text)[0].Equal(served) {
			t.Errorf("api.pem is not what is served: %v", err)
		}
	}
	first := look(0, false) // opening it did
	same(first)
	if first.Issuer.CommonName != "Issuing CA 2" {
		t.Errorf("it is of %s", first.Issuer)
	}
	// The issuer that fails is asked again after one minute, two, four, ... and after an hour.
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if !look(pause*time.Minute-time.Second, false).Equal(first) || !look(time.Second, true).Equal(first) {
			t.Error("issued again")
		}
	}
	if !strings.HasPrefix(said, "warning: ") || !strings.Contains(said, "only commands on this machine reach the API") || !strings.Contains(said, "could not be replaced: ") || !strings.Contains(said, "Plant CA") {
		t.Errorf("/readyz says %q", said)
	}
	second := look(4*24*time.Hour, true)
	if same(second); second.Equal(first) {
		t.Error("it is not renewed")
	}
	if err := os.Remove(api); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(api, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 { // what is issued first waits for api.pem
		if !look(4*24*time.Hour/3, true).Equal(second) {
			t.Error("one is served that api.pem does not have")
		}
	}
	if err := os.RemoveAll(api); err != nil {
		t.Fatal(err)
	}
	third := look(time.Minute, true)
	if same(third); third.Equal(second) {
		t.Error("it is not renewed once it can be")
	}
	if age := third.NotBefore.Sub(second.NotBefore); age != 4*24*time.Hour {
		t.Errorf("it was issued %s after the one before", age)
	}
	// One that was issued and waits for api.pem is not served once its issuer was revoked.
	if err := os.Remove(api); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(api, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if !look(4*24*time.Hour, true).Equal(third) {
		t.Error("one is served that api.pem does not have")
	}
	if err := os.RemoveAll(api); err != nil {
		t.Fatal(err)
	}
	if err := instance.TestingOnlyRevoke(t.Context(), other, certificate); err != nil {
		t.Fatal(err)
	}
	if !look(time.Minute, true).Equal(third) {
		t.Error("its issuer was revoked, and it is served")
	}
}
