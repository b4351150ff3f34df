package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
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
			r, err := w.Renewal(test.old, test.csr, "again")
			if test.kind != 0 || err != nil {
				wantError(t, err, test.kind, test.field)
				return
			}
			if !slices.Equal(r.Names, names) || r.Subject.CommonName != "b.example" || !slices.Equal(r.Subject.Organization, subject.Organization) || !slices.Equal(r.Subject.OrganizationalUnit, subject.OrganizationalUnit) ||
				r.Lifetime != 48*time.Hour || r.Issuer != w.issuing.ID || r.Profile != "client" || r.RequestID != "again" {
				t.Errorf("it asks for %+v", r)
			}
		})
	}

	request := server(t, "a.example")
	request.Lifetime = 397 * 24 * time.Hour // more than the profile gives unasked
	if r, err := w.Renewal(w.mustIssue(request).Certificate, named(""), ""); err != nil || r.Lifetime != 0 {
		t.Errorf("of a long one: %s, %v", r.Lifetime, err)
	}
	a := w.withProfiles(t, map[string]string{"bound": "issuer: issuing\n"})
	bound, err := a.Issue(t.Context(), w.grant(web, auth.ActionIssue, "bound"), ca.Request{Profile: "bound", CSR: csr(t, newKey(t), "a.example.com")})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := a.Renewal(bound.Certificate, named(""), ""); err != nil || !r.Issuer.IsZero() {
		t.Errorf("where the profile names the issuer: %s, %v", r.Issuer, err)
	}
	if _, err := w.SetIssuerState(t.Context(), w.manage(), w.issuing.ID, ca.IssuerDisabled); err != nil {
		t.Fatal(err)
	}
	if r, err := w.Renewal(old, named(""), ""); err != nil || !r.Issuer.IsZero() {
		t.Errorf("where the issuer does not issue any more: %s, %v", r.Issuer, err)
	}
}
