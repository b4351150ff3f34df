package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store/sqlite"
)

// authority is root -> issuing -> clients, for what an Authenticator sees of the CA.
type authority struct {
	root, issuing *x509.Certificate
	rootKey, key  crypto.Signer
	status        map[pki.Serial]pki.Status
	statusErr     error
	serial        int64
	asked         int // for the certificates that count
}

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{rootKey: newKey(t), key: newKey(t), status: map[pki.Serial]pki.Status{}, serial: 100}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: start.Add(-time.Hour), NotAfter: start.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.root = sign(t, root, root, a.rootKey.Public(), a.rootKey)
	issuing := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "issuing"}, NotBefore: start.Add(-time.Hour), NotAfter: start.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.issuing = sign(t, issuing, a.root, a.key.Public(), a.rootKey)
	return a
}

func (a *authority) IssuerCertificates(context.Context) ([]*x509.Certificate, error) {
	a.asked++
	return []*x509.Certificate{a.root, a.issuing}, nil
}

func (a *authority) CertificateStatus(_ context.Context, issuer pki.IssuerID, serial pki.Serial) (pki.Status, error) {
	if issuer != a.id() {
		return pki.StatusNotIssued, nil
	}
	return a.status[serial], a.statusErr
}

func (a *authority) id() pki.IssuerID {
	return pki.HashSPKI(a.issuing.RawSubjectPublicKeyInfo).Issuer()
}

// client issues a client certificate that is good; change may make it worse.
func (a *authority) client(t *testing.T, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	a.serial++
	template := &x509.Certificate{SerialNumber: big.NewInt(a.serial), DNSNames: []string{"agent.example"}, NotBefore: start.Add(-time.Minute), NotAfter: start.Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if change != nil {
		change(template)
	}
	leaf := sign(t, template, a.issuing, newKey(t).Public(), a.key)
	serial, err := pki.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	a.status[serial] = pki.StatusGood
	return leaf
}

// house is an Authenticator and Credentials over a real store, with a clock that tests turn.
type house struct {
	*auth.Authenticator
	*auth.Credentials
	store *sqlite.Store
	ca    *authority
	now   time.Time
	admin auth.Grant
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{store: testdb.SQLite(t), ca: newAuthority(t), now: start}
	now := func() time.Time { return h.now }
	var err error
	if h.Authenticator, err = auth.NewAuthenticator(auth.AuthenticatorConfig{Store: h.store, Issuers: h.ca, Status: h.ca, Now: now}); err != nil {
		t.Fatal(err)
	}
	if h.Credentials, err = auth.NewCredentials(auth.CredentialsConfig{Store: h.store, Now: now, Changed: h.Forget}); err != nil {
		t.Fatal(err)
	}
	if h.admin, err = auth.System("test").Authorize(auth.ActionManage, ""); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) token(t *testing.T, spec auth.Spec) string {
	t.Helper()
	_, token, err := h.CreateToken(t.Context(), h.admin, spec)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (h *house) bind(t *testing.T, spec auth.Spec) {
	t.Helper()
	if _, err := h.BindCertificate(t.Context(), h.admin, spec); err != nil {
		t.Fatal(err)
	}
}

func wantUnauthenticated(t *testing.T, what string, p auth.Principal, err error, say string) {
	t.Helper()
	if pki.KindOf(err) != pki.KindUnauthenticated {
		t.Errorf("%s: %v (principal %+v), want an error of kind unauthenticated", what, err, p)
		return
	}
	if !strings.Contains(err.Error(), say) {
		t.Errorf("%s: %v, want it to say %q", what, err, say)
	}
	if p.Role != auth.RoleNone {
		t.Errorf("%s: refused, and yet the principal is %+v", what, p)
	}
}

func TestToken(t *testing.T) {
	h := newHouse(t)
	token := h.token(t, auth.Spec{Name: "ci", Role: auth.RoleRequester, Account: "web", Profiles: []string{"server"}, Lifetime: time.Hour})
	p, err := h.Token(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if p.ID != "token:ci" || p.Account != "web" || p.Role != auth.RoleRequester || len(p.Profiles) != 1 {
		t.Errorf("principal %+v", p)
	}

	wrong := []byte(token)
	wrong[len(wrong)-5] ^= 1
	for what, text := range map[string]string{"wrong": string(wrong), "empty": "", "short": token[:20], "without prefix": "x" + token[1:], "long": token + "A", "huge": strings.Repeat("A", 1<<20)} {
		p, err := h.Token(t.Context(), text)
		wantUnauthenticated(t, what+" token", p, err, "token")
		if err != nil && text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s token: the error repeats it", what)
		}
	}

	h.now = start.Add(time.Hour - time.Microsecond)
	if _, err := h.Token(t.Context(), token); err != nil {
		t.Errorf("just before its end: %v", err)
	}
	h.now = start.Add(time.Hour)
	p, err = h.Token(t.Context(), token)
	wantUnauthenticated(t, "expired token, remembered", p, err, "expired")
	h.now = start.Add(2 * time.Hour)
	p, err = h.Token(t.Context(), token)
	wantUnauthenticated(t, "expired token", p, err, "expired")
}

func TestDisabledAtOnce(t *testing.T) {
	h := newHouse(t)
	token := h.token(t, auth.Spec{Name: "ci", Role: auth.RoleAdmin})
	if _, err := h.Token(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Disable(t.Context(), h.admin, "ci"); err != nil {
		t.Fatal(err)
	}
	p, err := h.Token(t.Context(), token)
	wantUnauthenticated(t, "disabled token", p, err, "disabled")
}

// slowStore lets something happen between what the store read and what it answers.
type slowStore struct {
	auth.Store
	meanwhile func()
}

func (s slowStore) TokenCredential(ctx context.Context, digest auth.Digest) (auth.Credential, error) {
	credential, err := s.Store.TokenCredential(ctx, digest)
	s.meanwhile()
	return credential, err
}

// A credential that is disabled while a call reads it is accepted by that call at most: what was read is not
// remembered.
func TestDisabledMeanwhile(t *testing.T) {
	h := newHouse(t)
	token := h.token(t, auth.Spec{Name: "ci", Role: auth.RoleAdmin})
	var slow *auth.Authenticator
	disable := sync.OnceFunc(func() {
		if _, err := h.Disable(t.Context(), h.admin, "ci"); err != nil {
			t.Error(err)
		}
		slow.Forget("ci")
	})
	slow, err := auth.NewAuthenticator(auth.AuthenticatorConfig{Store: slowStore{h.store, disable}, Now: func() time.Time { return h.now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Token(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	p, err := slow.Token(t.Context(), token)
	wantUnauthenticated(t, "disabled meanwhile", p, err, "disabled")
	p, err = slow.Certificate(t.Context(), []*x509.Certificate{h.ca.client(t, nil)})
	wantUnauthenticated(t, "a certificate where none is taken", p, err, "no client certificates")
}

// Another instance learns of it when what it remembers has aged.
func TestDisabledElsewhere(t *testing.T) {
	h := newHouse(t)
	token := h.token(t, auth.Spec{Name: "ci", Role: auth.RoleAdmin})
	if _, err := h.Token(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	other, err := auth.NewCredentials(auth.CredentialsConfig{Store: h.store, Now: func() time.Time { return h.now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Disable(t.Context(), h.admin, "ci"); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(time.Second)
	p, err := h.Token(t.Context(), token)
	wantUnauthenticated(t, "token disabled elsewhere a second ago", p, err, "disabled")
}

func TestClientCertificate(t *testing.T) {
	h := newHouse(t)
	h.bind(t, auth.Spec{Name: "agent", Role: auth.RoleRequester, Issuer: h.ca.id(), Identifier: pki.Identifier{Type: pki.DNS, Value: "agent.example"}})
	leaf := h.ca.client(t, nil)
	p, err := h.Certificate(t.Context(), []*x509.Certificate{leaf})
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.Certificate(t.Context(), []*x509.Certificate{leaf}) // from memory
	if err != nil {
		t.Fatal(err)
	}
	serial, err := pki.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []auth.Principal{p, again} {
		if p.ID != "certificate:agent" || p.Account != "agent" || p.Role != auth.RoleRequester || p.Certificate != h.ca.id().String()+"/"+serial.String() {
			t.Errorf("principal %+v", p)
		}
	}

	stranger := newAuthority(t)
	for _, test := range []struct {
		what string
		leaf *x509.Certificate
		say  string
	}{
		{"expired", h.ca.client(t, func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Second) }), "not valid now"},
		{"not yet valid", h.ca.client(t, func(c *x509.Certificate) { c.NotBefore = start.Add(time.Hour) }), "not valid now"},
		{"server", h.ca.client(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "does not verify"},
		{"without usage", h.ca.client(t, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), "not for TLS clients"},
		{"any usage", h.ca.client(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), "not for TLS clients"},
		{"authority", h.ca.client(t, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), "not for TLS clients"},
		{"another name", h.ca.client(t, func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} }), "no credential"},
		{"no name", h.ca.client(t, func(c *x509.Certificate) { c.DNSNames = nil }), "no credential"},
		{"common name only", h.ca.client(t, func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, "agent.example" }), "no credential"},
		{"wildcard", h.ca.client(t, func(c *x509.Certificate) { c.DNSNames = []string{"*.example"} }), "no credential"},
		{"another authority", stranger.client(t, nil), "does not verify"},
		{"self-signed root", stranger.root, "does not verify"},
	} {
		p, err := h.Certificate(t.Context(), []*x509.Certificate{test.leaf})
		wantUnauthenticated(t, test.what, p, err, test.say)
		// A client cannot bring its own authorities.
		p, err = h.Certificate(t.Context(), []*x509.Certificate{test.leaf, stranger.issuing, stranger.root})
		wantUnauthenticated(t, test.what+" with a chain", p, err, test.say)
	}
	p, err = h.Certificate(t.Context(), nil)
	wantUnauthenticated(t, "none", p, err, "no client certificate")

	// Accepted before, and remembered: what happens to it afterwards counts with the next call all the same.
	serial, err = pki.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	for status, say := range map[pki.Status]string{pki.StatusRevoked: "revoked", pki.StatusUnknown: "unknown", pki.StatusNotIssued: "not-issued", pki.StatusTooNew: "too-new"} {
		h.ca.status[serial] = status
		p, err = h.Certificate(t.Context(), []*x509.Certificate{leaf})
		wantUnauthenticated(t, status.String(), p, err, say)
	}
	h.ca.status[serial], h.ca.statusErr = pki.StatusGood, errors.New("no answer")
	if _, err = h.Certificate(t.Context(), []*x509.Certificate{leaf}); err == nil {
		t.Error("accepted although its status cannot be told")
	}
	h.ca.statusErr = nil
	h.now = leaf.NotAfter
	if _, err = h.Certificate(t.Context(), []*x509.Certificate{leaf}); err != nil {
		t.Errorf("at its end: %v", err)
	}
	h.now = leaf.NotAfter.Add(time.Second - 1)
	p, err = h.Certificate(t.Context(), []*x509.Certificate{leaf})
	wantUnauthenticated(t, "expired and still remembered", p, err, "expired at")
	h.now = leaf.NotAfter.Add(time.Second)
	p, err = h.Certificate(t.Context(), []*x509.Certificate{leaf})
	wantUnauthenticated(t, "expired meanwhile", p, err, "not valid now")

	// The credential ends between two calls with a certificate that goes on.
	h.now = start
	h.bind(t, auth.Spec{Name: "brief", Role: auth.RoleRequester, Issuer: h.ca.id(), Identifier: pki.Identifier{Type: pki.DNS, Value: "brief.example"}, Lifetime: time.Minute})
	brief := h.ca.client(t, func(c *x509.Certificate) { c.DNSNames = []string{"brief.example"} })
	h.now = start.Add(time.Minute - time.Millisecond)
	if _, err = h.Certificate(t.Context(), []*x509.Certificate{brief}); err != nil {
		t.Errorf("before the end of its credential: %v", err)
	}
	h.now = start.Add(time.Minute)
	p, err = h.Certificate(t.Context(), []*x509.Certificate{brief})
	wantUnauthenticated(t, "remembered, and its credential has ended", p, err, "expired at")
}

// TestStrangerIsRemembered: a refused caller has its signatures verified once a second, however often it calls, and is
// admitted at once when its credential is created.
func TestStrangerIsRemembered(t *testing.T) {
	h := newHouse(t)
	leaf := h.ca.client(t, nil)
	for range 3 {
		p, err := h.Certificate(t.Context(), []*x509.Certificate{leaf})
		wantUnauthenticated(t, "a stranger", p, err, "no credential")
	}
	if h.ca.asked != 1 {
		t.Errorf("verified %d times", h.ca.asked)
	}
	h.now = h.now.Add(time.Second)
	p, err := h.Certificate(t.Context(), []*x509.Certificate{leaf})
	wantUnauthenticated(t, "a stranger a second later", p, err, "no credential")
	if h.ca.asked != 2 {
		t.Errorf("verified %d times, a second later", h.ca.asked)
	}
	h.bind(t, auth.Spec{Name: "agent", Role: auth.RoleRequester, Issuer: h.ca.id(), Identifier: pki.Identifier{Type: pki.DNS, Value: "agent.example"}})
	if _, err := h.Certificate(t.Context(), []*x509.Certificate{leaf}); err != nil {
		t.Errorf("bound meanwhile: %v", err)
	}
}

// Only a self-signed certificate is an anchor: a CA whose root is not known certifies no client.
func TestAnchors(t *testing.T) {
	h := newHouse(t)
	h.bind(t, auth.Spec{Name: "agent", Role: auth.RoleRequester, Issuer: h.ca.id(), Identifier: pki.Identifier{Type: pki.DNS, Value: "agent.example"}})
	rootless := &authority{root: h.ca.issuing, issuing: h.ca.issuing, status: h.ca.status}
	a, err := auth.NewAuthenticator(auth.AuthenticatorConfig{Store: h.store, Issuers: rootless, Status: rootless, Now: func() time.Time { return h.now }})
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Certificate(t.Context(), []*x509.Certificate{h.ca.client(t, nil)})
	wantUnauthenticated(t, "without the root", p, err, "does not verify")
}

func TestClientCertificateByKey(t *testing.T) {
	h := newHouse(t)
	leaf := h.ca.client(t, func(c *x509.Certificate) { c.DNSNames = []string{"a.example", "b.example"} })
	h.bind(t, auth.Spec{Name: "a", Role: auth.RoleAuditor, Issuer: h.ca.id(), Identifier: pki.Identifier{Type: pki.DNS, Value: "a.example"}})
	h.bind(t, auth.Spec{Name: "b", Role: auth.RoleAdmin, Issuer: h.ca.id(), Identifier: pki.Identifier{Type: pki.DNS, Value: "b.example"}})
	p, err := h.Certificate(t.Context(), []*x509.Certificate{leaf})
	wantUnauthenticated(t, "bound by two names", p, err, "2 credentials")

	h.bind(t, auth.Spec{Name: "key", Role: auth.RoleRequester, Issuer: h.ca.id(), KeyHash: pki.HashSPKI(leaf.RawSubjectPublicKeyInfo)})
	if p, err = h.Certificate(t.Context(), []*x509.Certificate{leaf}); err != nil || p.ID != "certificate:key" {
		t.Errorf("bound by its key: %+v, %v", p, err)
	}
	if _, err := h.Disable(t.Context(), h.admin, "key"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Disable(t.Context(), h.admin, "b"); err != nil {
		t.Fatal(err)
	}
	if p, err = h.Certificate(t.Context(), []*x509.Certificate{leaf}); err != nil || p.ID != "certificate:a" {
		t.Errorf("the only binding in use: %+v, %v", p, err)
	}
}

func TestBadSpecs(t *testing.T) {
	h := newHouse(t)
	good := auth.Spec{Name: "ci", Role: auth.RoleRequester}
	for field, change := range map[string]func(s *auth.Spec){
		"credential": func(s *auth.Spec) { s.Name = "a b" },
		"account":    func(s *auth.Spec) { s.Account = "system" },
		"role":       func(s *auth.Spec) { s.Role = auth.RoleNone },
		"profiles":   func(s *auth.Spec) { s.Role, s.Profiles = auth.RoleAdmin, []string{"server"} },
		"lifetime":   func(s *auth.Spec) { s.Lifetime = -time.Second },
		"issuer":     func(s *auth.Spec) { s.Issuer = h.ca.id() },

		"account, not a name":       func(s *auth.Spec) { s.Account = "a/b" },
		"role, unheard of":          func(s *auth.Spec) { s.Role = auth.RoleApprover + 1 },
		"profiles, too many":        func(s *auth.Spec) { s.Profiles = slices.Repeat([]string{"server"}, 101) },
		"profiles, not a name":      func(s *auth.Spec) { s.Profiles = []string{"server", "a b"} },
		"lifetime, too long":        func(s *auth.Spec) { s.Lifetime = auth.MaxLifetime + 1 },
		"issuer, and an identifier": func(s *auth.Spec) { s.Identifier = pki.Identifier{Type: pki.DNS, Value: "agent.example"} },
		"issuer, and a key":         func(s *auth.Spec) { s.KeyHash = pki.KeyHash{1} },
	} {
		field, _, _ = strings.Cut(field, ",")
		spec := good
		change(&spec)
		_, _, err := h.CreateToken(t.Context(), h.admin, spec)
		if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindInvalid || e.Field != field {
			t.Errorf("bad %s: %v, want an invalid field %s", field, err, field)
		}
	}
	for _, limit := range []int{-1, 0, 1001} {
		if _, err := h.List(t.Context(), h.admin, "", limit); pki.KindOf(err) != pki.KindInvalid {
			t.Errorf("%d credentials at once: %v, want invalid", limit, err)
		}
	}
	dns := pki.Identifier{Type: pki.DNS, Value: "agent.example"}
	reader, err := auth.System("test").Authorize(auth.ActionRead, "")
	if err != nil {
		t.Fatal(err)
	}
	for what, grant := range map[string]auth.Grant{"no grant": {}, "a grant to read": reader} {
		for verb, call := range map[string]func() error{
			"create": func() error { _, _, err := h.CreateToken(t.Context(), grant, good); return err },
			"bind": func() error {
				_, err := h.BindCertificate(t.Context(), grant, auth.Spec{Name: "a", Role: auth.RoleAdmin, Issuer: h.ca.id(), Identifier: dns})
				return err
			},
			"get":     func() error { _, err := h.Get(t.Context(), grant, "a"); return err },
			"list":    func() error { _, err := h.List(t.Context(), grant, "", 10); return err },
			"disable": func() error { _, err := h.Disable(t.Context(), grant, "a"); return err },
		} {
			if err := call(); pki.KindOf(err) != pki.KindDenied {
				t.Errorf("%s with %s: %v, want denied", verb, what, err)
			}
		}
	}
	for what, spec := range map[string]auth.Spec{
		"neither":  {Name: "a", Role: auth.RoleAdmin, Issuer: h.ca.id()},
		"both":     {Name: "a", Role: auth.RoleAdmin, Issuer: h.ca.id(), Identifier: dns, KeyHash: pki.KeyHash{1}},
		"wildcard": {Name: "a", Role: auth.RoleAdmin, Issuer: h.ca.id(), Identifier: pki.Identifier{Type: pki.DNS, Value: "*.example"}},
		"issuer":   {Name: "a", Role: auth.RoleAdmin, Identifier: dns},
	} {
		if _, err := h.BindCertificate(t.Context(), h.admin, spec); pki.KindOf(err) != pki.KindInvalid {
			t.Errorf("binding with %s: %v, want invalid", what, err)
		}
	}
	if chain, err := h.store.AuditHead(t.Context()); err != nil || chain.Seq != 0 {
		t.Errorf("refusals left %d events of creation (%v)", chain.Seq, err)
	}
}

func TestCredentialAudit(t *testing.T) {
	h := newHouse(t)
	token := h.token(t, auth.Spec{Name: "ci", Role: auth.RoleRequester, Profiles: []string{"server"}})
	if _, err := h.Disable(t.Context(), h.admin, "ci"); err != nil {
		t.Fatal(err)
	}
	events, err := h.store.AuditEvents(t.Context(), audit.Filter{Target: "credential/ci"}, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if events[0].Detail["expires"] != start.Add(auth.DefaultTokenLifetime).Format(time.RFC3339) {
		t.Errorf("a token of no lifetime in particular is good until %s", events[0].Detail["expires"])
	}
	if len(events) != 2 || events[0].Action != "credential.create" || events[1].Action != "credential.disable" || events[0].Actor != "system:test" || events[0].Detail["profiles"] != "server" {
		t.Errorf("events %+v", events)
	}
	for _, e := range events {
		if strings.Contains(e.DetailJSON(), token) {
			t.Error("the token is in the audit log")
		}
	}
}
