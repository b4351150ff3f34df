package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/ca"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

const common = `lifetime: 30d
names: {min: 1, dns: {allow: [".example.com"]}}
key_usage: [digital_signature, key_encipherment]
extended_key_usage: [server_auth, 1.3.6.1.4.1.55555.1]
`

// withProfiles gives the town profiles of its own, by name.
func (w *town) withProfiles(t *testing.T, files map[string]string) *ca.Authority {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte("name: "+name+"\n"+common+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.profiles, err = profile.Open(dir); err != nil {
		t.Fatal(err)
	}
	return w.instance(w.store)
}

func extensionOf(c *x509.Certificate, oid ...int) string {
	for _, extension := range c.Extensions {
		if extension.Id.Equal(oid) {
			return fmt.Sprintf("%v %x", extension.Critical, extension.Value)
		}
	}
	return "absent"
}

func TestWhatAProfileWritesIsInTheCertificate(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	a := w.withProfiles(t, map[string]string{
		"full": `status: {must_staple: true, crl: complete}
policies: [1.3.6.1.4.1.55555.2]
csr_extensions: [1.3.6.1.4.1.55555.3]
subject: {common_name: first-name, take: [locality], set: {organization: [Example Inc], country: [DE]}}
`,
		"brief": "status: {no_rev_avail: true, issuer_url: \"no\"}\n",
	})
	asked := extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 3}, []byte{4, 2, 'h', 'i'})
	asked.ExtraExtensions = append(asked.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 4}, Value: []byte{5, 0}})
	request := ca.Request{Profile: "full", CSR: csrOf(t, newKey(t), asked), Subject: ca.Subject{Locality: []string{"Köln"}}}
	issued, err := w.issue(a, request)
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, issued.DER)
	for what, pair := range map[string][2]string{
		"subject":                  {c.Subject.String(), "CN=a.example.com,O=Example Inc,L=Köln,C=DE"},
		"subject in books":         {issued.Subject, "CN=a.example.com,O=Example Inc,L=Köln,C=DE"},
		"must-staple":              {extensionOf(c, 1, 3, 6, 1, 5, 5, 7, 1, 24), "false 3003020105"},
		"policies":                 {fmt.Sprint(c.Policies), "[1.3.6.1.4.1.55555.2]"},
		"copied":                   {extensionOf(c, 1, 3, 6, 1, 4, 1, 55555, 3), "false 04026869"},
		"not copied":               {extensionOf(c, 1, 3, 6, 1, 4, 1, 55555, 4), "absent"},
		"crl":                      {fmt.Sprint(c.CRLDistributionPoints), "[http://pki.test/crl/" + w.issuing.ID.String() + ".crl]"},
		"other usage":              {fmt.Sprint(c.UnknownExtKeyUsage), "[1.3.6.1.4.1.55555.1]"},
		"usage of an elliptic key": {fmt.Sprint(c.KeyUsage), fmt.Sprint(x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s, want %s", what, pair[0], pair[1])
		}
	}
	for _, locality := range []string{"K\u202elnö", "K\u009b2J", "K\u2028", "K\x1b[2J"} { // what a terminal would obey, or show as something else
		request.Subject.Locality[0] = locality
		if _, err := w.issue(a, request); pki.KindOf(err) != pki.KindRefused || !strings.Contains(err.Error(), "subject.locality") {
			t.Errorf("locality %q: %v", locality, err)
		}
	}
	request = server(t, "a.example.com")
	request.Profile = "brief"
	if issued, err = w.issue(a, request); err != nil {
		t.Fatal(err)
	}
	c = parse(t, issued.DER)
	if got := extensionOf(c, 2, 5, 29, 56); got != "false 0500" || len(c.CRLDistributionPoints)+len(c.OCSPServer)+len(c.IssuingCertificateURL) != 0 {
		t.Errorf("noRevAvail %s, pointers %v %v %v", got, c.CRLDistributionPoints, c.OCSPServer, c.IssuingCertificateURL)
	}
}

// RFC 3161, Section 2.3: what signs time stamps has that extended key usage alone, and critical.
func TestATimeStampingAuthority(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	dir := t.TempDir()
	text := "name: tsa\nlifetime: 30d\nsubject: {common_name: required}\nkey_usage: [digital_signature, content_commitment]\nextended_key_usage: [time_stamping]\n"
	if err := os.WriteFile(filepath.Join(dir, "tsa.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.profiles, err = profile.Open(dir); err != nil {
		t.Fatal(err)
	}
	a := w.instance(w.store)
	issued, err := w.issue(a, ca.Request{Profile: "tsa", CSR: csr(t, newKey(t)), Subject: ca.Subject{CommonName: "Time"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := extensionOf(parse(t, issued.DER), 2, 5, 29, 37); got != "true 300a06082b06010505070308" {
		t.Errorf("extended key usage: %s", got)
	}
	leaf, chain := writePEM(t, dir, "leaf.pem", issued.DER), writePEM(t, dir, "chain.pem", issued.Chain...)
	root := writePEM(t, dir, "root.pem", w.root.Certificates[0].DER)
	if out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "timestampsign", "-CAfile", root, "-untrusted", chain, leaf).CombinedOutput(); err != nil {
		t.Errorf("openssl: %v: %s", err, out)
	}
}

func TestWhoMayUseAProfileAndWhichKeys(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	a := w.withProfiles(t, map[string]string{
		"fresh":    "keys: {reuse: deny}\n",
		"own":      "keys: {reuse: account}\n",
		"mail":     "access: {accounts: [mail]}\n",
		"admins":   "access: {roles: [admin]}\n",
		"approved": "approval: required\n",
		"pinned":   "issuer: root\n",
		"nowhere":  "issuer: gone\n",
		"rsa":      "keys: {algorithms: [rsa-3072]}\n",
	})
	other := auth.Principal{ID: "token:other", Account: "other", Role: auth.RoleRequester}
	request := server(t, "a.example.com")
	ask := func(who auth.Principal, profile string, issuer pki.IssuerID) (*ca.Issued, error) {
		request.Profile, request.Issuer = profile, issuer
		return a.Issue(t.Context(), w.grant(who, auth.ActionIssue, profile), request)
	}
	tests := []struct {
		who     auth.Principal
		profile string
		issuer  pki.IssuerID
		kind    pki.Kind
		field   string
	}{
		{web, "fresh", pki.IssuerID{}, 0, ""},
		{web, "fresh", pki.IssuerID{}, pki.KindRefused, "csr"},
		{web, "own", pki.IssuerID{}, 0, ""},
		{other, "own", pki.IssuerID{}, pki.KindRefused, "csr"},
		{web, "mail", pki.IssuerID{}, pki.KindDenied, "profile"},
		{web, "admins", pki.IssuerID{}, pki.KindDenied, "profile"},
		{admin, "admins", pki.IssuerID{}, 0, ""},
		{web, "approved", pki.IssuerID{}, pki.KindFailedPrecondition, "profile"},
		{web, "pinned", pki.IssuerID{}, 0, ""},
		{web, "pinned", w.issuing.ID, pki.KindRefused, "issuer"},
		{web, "nowhere", pki.IssuerID{}, pki.KindFailedPrecondition, "profile"},
		{web, "rsa", pki.IssuerID{}, pki.KindRefused, "csr"},
	}
	for i, test := range tests {
		t.Run(fmt.Sprintf("%d %s %s", i, test.who.Account, test.profile), func(t *testing.T) {
			issued, err := ask(test.who, test.profile, test.issuer)
			if test.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				if test.profile == "pinned" && issued.Issuer != w.root.ID {
					t.Error("signed by another issuer")
				}
				return
			}
			wantError(t, err, test.kind, test.field)
		})
	}
	zero := ca.Request{Profile: "server", CSR: request.CSR}
	if _, err := a.Issue(t.Context(), auth.Grant{}, zero); pki.KindOf(err) != pki.KindDenied {
		t.Errorf("without a grant: %v", err)
	}
	if _, err := a.Issue(t.Context(), w.grant(web, auth.ActionIssue, "client"), zero); pki.KindOf(err) != pki.KindDenied {
		t.Errorf("with a grant for another profile: %v", err)
	}
}
