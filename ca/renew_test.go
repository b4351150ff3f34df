package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// What renews a certificate asks for what that one is, and for nothing else.
func TestRenewalAsksForTheSame(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	subject := ca.Subject{CommonName: "b.example", Organization: []string{"Example"}, OrganizationalUnit: []string{"Web"}}
	old := w.mustIssue(ca.Request{Profile: "client", CSR: csr(t, newKey(t), "b.example", "a.example"), Subject: subject, Lifetime: 48 * time.Hour}).Certificate
	names := []pki.Identifier{{Type: pki.DNS, Value: "b.example"}, {Type: pki.DNS, Value: "a.example"}}
	named := func(common string, names ...string) []byte {
		return csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: common}, DNSNames: names})
	}
	authority := inventory.Certificate{Profile: "issuing-ca", Issuer: w.root.ID, DER: w.issuing.Certificates[0].DER}
	for what, test := range map[string]struct {
		old   inventory.Certificate
		csr   []byte
		kind  pki.Kind
		field string
	}{
		"no names":               {old, named(""), 0, ""},
		"the same names":         {old, named("b.example", "a.example", "B.example"), 0, ""},
		"one name less":          {old, named("", "a.example"), pki.KindRefused, "csr"},
		"another name":           {old, named("", "a.example", "c.example"), pki.KindRefused, "csr"},
		"one name more":          {old, named("", "a.example", "b.example", "c.example"), pki.KindRefused, "csr"},
		"another common name":    {old, named("a.example"), pki.KindRefused, "csr"},
		"a name that cannot be":  {old, named("", "a.example", "b example"), pki.KindRefused, "csr"},
		"nothing":                {old, nil, pki.KindInvalid, "csr"},
		"no request":             {old, []byte("x"), pki.KindInvalid, "csr"},
		"too much":               {old, make([]byte, ca.MaxCSR+1), pki.KindInvalid, "csr"},
		"of an authority":        {authority, named(""), pki.KindRefused, "certificate"},
		"under a profile before": {inventory.Certificate{Profile: "gone", DER: old.DER}, named(""), pki.KindNotFound, "profile"},
	} {
		t.Run(what, func(t *testing.T) {
			r, err := w.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "client"), test.old, test.csr, "again")
			if test.kind != 0 || err != nil {
				wantError(t, err, test.kind, test.field)
				return
			}
			if !slices.Equal(r.Names, names) || r.Subject.CommonName != "b.example" || !slices.Equal(r.Subject.Organization, subject.Organization) || !slices.Equal(r.Subject.OrganizationalUnit, subject.OrganizationalUnit) ||
				r.AtMost != 48*time.Hour || r.Lifetime != 0 || r.Issuer != w.issuing.ID || r.Profile != "client" || r.RequestID != "again" {
				t.Errorf("it asks for %+v", r)
			}
		})
	}

	request := server(t, "a.example")
	request.Lifetime = 397 * 24 * time.Hour // more than the profile gives unasked
	if r, err := w.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "client"), w.mustIssue(request).Certificate, named(""), ""); err != nil || r.Lifetime != 0 || r.AtMost != request.Lifetime {
		t.Errorf("of a long one: %s, %v", r.AtMost, err)
	}
}

// The extensions that a profile copies from requests are those of the old certificate: whoever renews brings a key.
func TestRenewalKeepsExtensions(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	a := w.withProfiles(t, map[string]string{"roles": "csr_extensions: [1.3.6.1.4.1.55555.3]\n"})
	role := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 3}
	asking := func(value string, critical bool) []byte {
		return csrOf(t, newKey(t), &x509.CertificateRequest{DNSNames: []string{"a.example.com"}, ExtraExtensions: []pkix.Extension{{Id: role, Critical: critical, Value: []byte(value)}}})
	}
	bare := func() []byte { return csrOf(t, newKey(t), &x509.CertificateRequest{}) }
	issue := func(csr []byte) inventory.Certificate {
		t.Helper()
		issued, err := w.issue(a, ca.Request{Profile: "roles", CSR: csr, Names: []pki.Identifier{{Type: pki.DNS, Value: "a.example.com"}}})
		if err != nil {
			t.Fatal(err)
		}
		return issued.Certificate
	}
	with, without := issue(asking("\x04\x01u", false)), issue(bare())
	for what, test := range map[string]struct {
		old  inventory.Certificate
		csr  []byte
		want string // of the new one; empty: refused
	}{
		"nothing asked":            {with, bare(), "false 040175"},
		"the same":                 {with, asking("\x04\x01u", false), "false 040175"},
		"another value":            {with, asking("\x04\x01a", false), ""},
		"critical":                 {with, asking("\x04\x01u", true), ""},
		"one that it did not have": {without, asking("\x04\x01u", false), ""},
		"none":                     {without, bare(), "absent"},
	} {
		r, err := a.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "client"), test.old, test.csr, "")
		if test.want == "" {
			if pki.KindOf(err) != pki.KindRefused {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		issued, err := w.issue(a, r)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got := extensionOf(parse(t, issued.DER), role...); got != test.want {
			t.Errorf("%s: the extension is %s, want %s", what, got, test.want)
		}
	}
}

// A renewal is cut short by the end of its issuer, as a new certificate is; and what was cut short is not short for ever.
func TestRenewalNearTheEndOfAnIssuer(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	const day = 24 * time.Hour
	short := w.create(ca.NewIssuer{Label: "short", Subject: ca.Subject{CommonName: "Short"}, BaseURL: "http://pki.test", Parent: w.root.ID, Lifetime: 40 * day})
	ends := short.Certificates[0].NotAfter
	request := server(t, "a.example.com")
	request.Issuer, request.Lifetime = short.ID, 30*day
	asked := w.mustIssue(request).Certificate
	request = server(t, "a.example.com")
	request.Issuer = short.ID
	cut := w.mustIssue(request).Certificate // the profile gives 90 days
	if !parse(t, cut.DER).NotAfter.Equal(ends) {
		t.Fatalf("it ends at %s", parse(t, cut.DER).NotAfter)
	}
	w.clock.advance(20 * day)
	renew := func(old inventory.Certificate) *x509.Certificate {
		t.Helper()
		r, err := w.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "client"), old, csrOf(t, newKey(t), &x509.CertificateRequest{}), "")
		if err != nil {
			t.Fatal(err)
		}
		issued, err := w.issue(w.Authority, r)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, issued.DER)
	}
	if c := renew(asked); !c.NotAfter.Equal(ends) {
		t.Errorf("of 30 days, with 20 left: %s", c.NotAfter)
	}
	if c := renew(cut); !c.NotAfter.Equal(ends) {
		t.Errorf("of one that was cut short: %s", c.NotAfter)
	}
	if _, err := w.SetIssuerState(t.Context(), w.manage(), short.ID, ca.IssuerRetired); err != nil {
		t.Fatal(err)
	}
	if c := renew(cut); c.NotAfter.Sub(w.clock.Now()) < 89*day {
		t.Errorf("by another issuer, of one that was cut short: %s", c.NotAfter)
	}
	if c := renew(asked); c.NotAfter.Sub(w.clock.Now()) > 30*day {
		t.Errorf("by another issuer, of 30 days: %s", c.NotAfter)
	}
}

// A renewal lives as long as the old certificate did, whatever the profile backdated by then and backdates by today.
func TestRenewalOfAShortLife(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	w.clock.advance(3 * time.Hour) // or backdating is cut short by where the issuer begins
	for _, backdate := range []string{"0s", "59m", "1h", "2h"} {
		for _, changed := range [][2]string{{"0s", backdate}, {backdate, "0s"}, {backdate, backdate}} {
			before := w.withProfiles(t, map[string]string{"brief": "backdate: " + changed[0] + "\n"})
			issued, err := w.issue(before, ca.Request{Profile: "brief", CSR: server(t, "a.example.com").CSR, Lifetime: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			after := w.withProfiles(t, map[string]string{"brief": "backdate: " + changed[1] + "\n"})
			for what, recorded := range map[string]time.Duration{"at once": 0, "after a while": 59 * time.Second} {
				old := issued.Certificate
				old.IssuedAt = old.NotAfter.Add(time.Second - time.Hour + recorded)
				want := time.Hour
				if changed[0] != changed[1] { // when it was drafted is not known any more
					want -= recorded
				}
				r, err := after.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "client"), old, csrOf(t, newKey(t), &x509.CertificateRequest{}), "")
				if err != nil || r.AtMost != want {
					t.Errorf("an hour, with a backdate of %s, recorded %s, renewed with one of %s: at most %s, want %s, %v", changed[0], what, changed[1], r.AtMost, want, err)
				}
			}
		}
	}
}

// A renewal goes to another issuer when its own does not stand, and not while that is disabled; and asked for again it is the same request, whatever has changed.
func TestRenewalOfAFallenIssuer(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		old := w.mustIssue(server(t, "a.example.com")).Certificate
		request := csrOf(t, newKey(t), &x509.CertificateRequest{})
		renew := func(id string) *ca.Issued {
			t.Helper()
			r, err := w.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "client"), old, request, id)
			if err != nil {
				t.Fatal(err)
			}
			issued, err := w.issue(w.Authority, r)
			if err != nil {
				t.Fatal(err)
			}
			return issued
		}
		first := renew("one")
		waiting, err := w.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "client"), old, csrOf(t, newKey(t), &x509.CertificateRequest{}), "")
		if err != nil || waiting.Issuer != w.issuing.ID {
			t.Fatalf("by %s, %v", waiting.Issuer, err)
		}
		other := w.create(ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other"}, BaseURL: "http://pki.test", Parent: w.root.ID})
		if _, err := w.SetIssuerState(t.Context(), w.manage(), w.issuing.ID, ca.IssuerDisabled); err != nil {
			t.Fatal(err)
		}
		if again := renew("one"); !again.Repeated || again.Serial != first.Serial {
			t.Errorf("asked again: %s, repeated %v", again.Serial, again.Repeated)
		}
		_, err = w.issue(w.Authority, waiting) // what the other signed would stay with it
		wantError(t, err, pki.KindFailedPrecondition, "issuer")
		if _, err := w.SetIssuerState(t.Context(), w.manage(), w.issuing.ID, ca.IssuerActive); err != nil {
			t.Fatal(err)
		}
		serial, err := pki.SerialFromBig(parse(t, w.issuing.Certificates[0].DER).SerialNumber)
		if err != nil {
			t.Fatal(err)
		}
		w.status = revokedSerials{serial: true}
		a := w.instance(s)
		r, err := a.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "client"), old, request, "")
		if err != nil {
			t.Fatal(err)
		}
		if trial, err := a.Check(t.Context(), w.grant(web, auth.ActionIssue, "server"), r); err != nil || trial.Issuer != other.ID {
			t.Errorf("of an issuer that was revoked: by %s, %v", trial.Issuer, err)
		}
		if late, err := w.issue(a, waiting); err != nil || late.Issuer != other.ID {
			t.Errorf("one that waited, of an issuer that was revoked meanwhile: %+v, %v", late, err)
		}
	})
}

// What renews a certificate comes from its issuer; else from who succeeds that, however many others there are; else it waits for it, and where it
// has ended for one that could sign. Where a profile names the issuer it is that one.
func TestWhoRenews(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		profile := map[string]string{"brief": ""}
		a := w.withProfiles(t, profile)
		issued, err := w.issue(a, ca.Request{Profile: "brief", CSR: server(t, "a.example.com").CSR})
		if err != nil {
			t.Fatal(err)
		}
		renew := func(a *ca.Authority) (*ca.Issued, error) {
			t.Helper()
			r, err := a.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "client"), issued.Certificate, csrOf(t, newKey(t), &x509.CertificateRequest{}), "")
			if err != nil {
				t.Fatal(err)
			}
			return w.issue(a, r)
		}
		by := func(when string, a *ca.Authority, want ca.Issuer) {
			t.Helper()
			if err := a.TestingOnlyRefresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if renewed, err := renew(a); err != nil || renewed.Issuer != want.ID {
				t.Errorf("%s: %+v, %v; want it from %s", when, renewed, err, want.Label)
			}
		}
		waits := func(when string, a *ca.Authority, says ...string) {
			t.Helper()
			if err := a.TestingOnlyRefresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := renew(a)
			wantError(t, err, pki.KindFailedPrecondition, "issuer")
			for _, text := range says {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%s: %v, want %q in it", when, err, text)
				}
			}
		}
		set := func(issuer ca.Issuer, state ca.IssuerState) {
			t.Helper()
			if _, err := w.SetIssuerState(t.Context(), w.manage(), issuer.ID, state); err != nil {
				t.Fatal(err)
			}
		}
		succeeding := func(before ca.Issuer, label string, permitted ...string) ca.Issuer {
			t.Helper()
			n := newIssuer(label, label, w.root)
			n.Succeeds, n.Permitted.DNS = before.ID, permitted
			return w.create(n)
		}
		set(w.issuing, ca.IssuerDisabled)
		waits("it is alone", a, "issuer issuing is disabled")
		plant := succeeding(ca.Issuer{}, "plant", "plant.example")
		waits("the only other is for other names", a, "issuer issuing is disabled")
		bystander := succeeding(ca.Issuer{}, "bystander")
		waits("one other could", a, "issuer issuing is disabled")
		another := succeeding(ca.Issuer{}, "another")
		waits("two others could", a, "issuer issuing is disabled")

		narrow := succeeding(w.issuing, "narrow", "plant.example")
		waits("its successor is for other names", a, "issuer issuing is disabled")
		second := succeeding(w.issuing, "second")
		by("it is succeeded", a, second)
		third := succeeding(second, "third")
		by("its successor is succeeded", a, second)
		set(second, ca.IssuerDisabled)
		by("its successor is disabled", a, third)
		rival := succeeding(w.issuing, "rival")
		waits("two succeed it", a, "issuer issuing is disabled", "more than one issuer succeeds issuing and could sign this", "third", "rival")
		set(w.issuing, ca.IssuerActive)
		by("it is enabled", a, w.issuing)

		profile["brief"] = "issuer: third\n"
		by("the profile names another", w.withProfiles(t, profile), third)
		set(third, ca.IssuerDisabled)
		waits("the one that the profile names is disabled", w.withProfiles(t, profile), "issuer third is disabled")
		for _, issuer := range []ca.Issuer{plant, bystander, another, narrow, rival} {
			set(issuer, ca.IssuerDisabled)
		}
		profile["brief"] = ""
		a = w.withProfiles(t, profile)
		w.clock.advance(11 * 365 * 24 * time.Hour)
		waits("all have ended, and are disabled but for itself", a, "issuer issuing expired at")
	})
}

// Nobody waits for an issuer that is retired: what renews a certificate of it comes from who succeeds it, once that one issues; else from the only
// other that could sign; else it is refused.
func TestWhoRenewsForARetiredIssuer(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		ring := &keyring{opened: make(map[string]*keys.Key)}
		w := newTownWith(t, s, ring)
		top := bring(t, w, ring, "top", nil)
		if _, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "far", BaseURL: "http://pki.test", DER: bring(t, w, ring, "far", top).der, Chain: [][]byte{top.der}}); err != nil {
			t.Fatal(err) // its key is off-line: it issues nothing here
		}
		issued, err := w.issue(w.Authority, server(t, "a.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		renew := func() (*ca.Issued, error) {
			t.Helper()
			r, err := w.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "server"), issued.Certificate, csrOf(t, newKey(t), &x509.CertificateRequest{}), "")
			if err != nil {
				t.Fatal(err)
			}
			return w.issue(w.Authority, r)
		}
		fails := func(when string, kind pki.Kind, says string) {
			t.Helper()
			_, err := renew()
			if wantError(t, err, kind, "issuer"); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want %q in it", when, err, says)
			}
		}
		by := func(when string, want ca.Issuer) {
			t.Helper()
			if renewed, err := renew(); err != nil || renewed.Issuer != want.ID {
				t.Errorf("%s: %+v, %v; want it from %s", when, renewed, err, want.Label)
			}
		}
		set := func(state ca.IssuerState, issuers ...ca.Issuer) {
			t.Helper()
			for _, issuer := range issuers {
				if _, err := w.SetIssuerState(t.Context(), w.manage(), issuer.ID, state); err != nil {
					t.Fatal(err)
				}
			}
		}
		succeeding := func(before ca.Issuer, label string) ca.Issuer {
			t.Helper()
			n := newIssuer(label, label, w.root)
			n.Succeeds = before.ID
			return w.create(n)
		}
		set(ca.IssuerRetired, w.issuing)
		fails("it is alone", pki.KindRefused, "issuer issuing is retired, and no other issuer can sign it: no issuing CA is active")
		bystander := succeeding(ca.Issuer{}, "bystander")
		by("another could", bystander)
		set(ca.IssuerDisabled, bystander)
		fails("the other does not issue for now", pki.KindFailedPrecondition, "no issuing CA is active")
		set(ca.IssuerActive, bystander)
		first := succeeding(w.issuing, "first")
		set(ca.IssuerDisabled, first)
		fails("its successor does not issue for now, and one other could", pki.KindFailedPrecondition, "issuer first is disabled")
		set(ca.IssuerRetired, first)
		by("its successor is retired too", bystander)
		set(ca.IssuerActive, succeeding(ca.Issuer{}, "another"))
		fails("two others could", pki.KindRefused, "issuer issuing is retired, and no other issuer can sign it: more than one issuer could sign this")

		second := succeeding(w.issuing, "second")
		by("it is succeeded", second)
		set(ca.IssuerDisabled, second)
		fails("its successor does not issue for now", pki.KindFailedPrecondition, "choose issuer: issuer: issuer second is disabled")
		rival := succeeding(w.issuing, "rival")
		by("its other successor issues", rival)
		set(ca.IssuerActive, second)
		fails("two succeed it", pki.KindRefused, "issuer issuing is retired, and no other issuer can sign it: more than one issuer succeeds issuing and could sign this")
		set(ca.IssuerRetired, second)
		by("one of them is retired too", rival)
		w.clock.advance(11 * 365 * 24 * time.Hour)
		fails("all have ended", pki.KindFailedPrecondition, "issuer rival expired at")
	})
}

// A root renews where a profile names it, and not what it issued when one did.
func TestARootRenewsWhereItIsNamed(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	named := w.withProfiles(t, map[string]string{"brief": "issuer: root\n"})
	issued, err := w.issue(named, ca.Request{Profile: "brief", CSR: server(t, "a.example.com").CSR})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		a    *ca.Authority
		want ca.Issuer
	}{{named, w.root}, {w.withProfiles(t, map[string]string{"brief": ""}), w.issuing}} {
		r, err := test.a.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "brief"), issued.Certificate, csrOf(t, newKey(t), &x509.CertificateRequest{}), "")
		if err != nil {
			t.Fatal(err)
		}
		if renewed, err := w.issue(test.a, r); err != nil || renewed.Issuer != test.want.ID {
			t.Errorf("%+v, %v; want it from %s", renewed, err, test.want.Label)
		}
	}
}

// What the old issuer itself may not give any more is refused: it is not for that one that a renewal waits.
func TestARenewalThatItsIssuerMayNotGive(t *testing.T) {
	ring := &keyring{opened: make(map[string]*keys.Key)}
	w := newTownWith(t, testdb.SQLite(t), ring)
	top := bring(t, w, ring, "top", nil)
	limited := bring(t, w, ring, "limited", top, limiting[1])
	adopted, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "limited", KeyURI: limited.key.URI, BaseURL: "http://pki.test", DER: limited.der, Chain: [][]byte{top.der}})
	if err != nil {
		t.Fatal(err)
	}
	w.create(newIssuer("another", "Another", w.root))
	before := w.withProfiles(t, map[string]string{"brief": "policies: [1.3.6.1.4.1.55555.2]\n"})
	issued, err := w.issue(before, ca.Request{Profile: "brief", Issuer: adopted.ID, CSR: server(t, "a.example.com").CSR})
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []ca.IssuerState{ca.IssuerActive, ca.IssuerDisabled} {
		if _, err := w.SetIssuerState(t.Context(), w.manage(), adopted.ID, state); err != nil {
			t.Fatal(err)
		}
		after := w.withProfiles(t, map[string]string{"brief": "policies: [1.3.6.1.4.1.55555.1]\n"})
		r, err := after.Renewal(t.Context(), w.grant(web, auth.ActionIssue, "client"), issued.Certificate, csrOf(t, newKey(t), &x509.CertificateRequest{}), "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.issue(after, r)
		wantError(t, err, pki.KindInvalid, "issuer") // as of a new request: two others could sign
	}
}
