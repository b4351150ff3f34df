package ca_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// gold is a certificate policy.
var gold = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 2}

// limiting are extensions that limit what is below a CA: to two extended key usages and the policy gold, which is demanded.
var limiting = []pkix.Extension{
	{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte("\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03")},
	{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Value: []byte("\x30\x0d\x30\x0b\x06\x09\x2b\x06\x01\x04\x01\x83\xb2\x03\x02")},
	{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte("\x30\x06\x80\x01\x00\x81\x01\x01")},
	{Id: asn1.ObjectIdentifier{2, 5, 29, 54}, Critical: true, Value: []byte("\x02\x01\x00")},
}

// elsewhere is another program's CA, whose key was brought here.
type elsewhere struct {
	der []byte
	key *keys.Key
}

func bring(t *testing.T, w *town, ring *keyring, label string, parent *elsewhere, extensions ...pkix.Extension) *elsewhere {
	t.Helper()
	made := &elsewhere{key: &keys.Key{Signer: newKey(t), URI: ring.URI(label), Secret: pki.SerialSecret{1}}}
	ring.opened[made.key.URI] = made.key
	template := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: label}, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().Add(1000 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(label), ExtraExtensions: extensions}
	by, signer := template, made.key
	if parent != nil {
		by, signer = parse(t, parent.der), parent.key
	}
	var err error
	if made.der, err = x509.CreateCertificate(rand.Reader, template, by, made.key.Public(), signer.Signer); err != nil {
		t.Fatal(err)
	}
	return made
}

// wantLimits fails unless a certificate has the extensions of limiting, as they are.
func wantLimits(t *testing.T, what string, der []byte) {
	t.Helper()
	c := parse(t, der)
	for _, e := range limiting {
		if got, want := extensionOf(c, e.Id...), extensionOf(&x509.Certificate{Extensions: []pkix.Extension{e}}, e.Id...); got != want {
			t.Errorf("%s: %s is %s, want %s", what, e.Id, got, want)
		}
	}
}

// What another program's CA says of extended key usages and policies binds what is issued below it, and whoever takes its place says the same:
// itself when it is renewed, its successor, and its name and key where others sign them.
func TestUsagesAndPoliciesOfAnAdoptedCA(t *testing.T) {
	ring := &keyring{opened: make(map[string]*keys.Key)}
	w := newTownWith(t, testdb.SQLite(t), ring)
	top := bring(t, w, ring, "top", nil)
	old := bring(t, w, ring, "old", top, limiting...)
	if _, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "top", KeyURI: top.key.URI, BaseURL: "http://pki.test", DER: top.der}); err != nil {
		t.Fatal(err)
	}
	adopted, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "old", KeyURI: old.key.URI, BaseURL: "http://pki.test", DER: old.der, Chain: [][]byte{top.der}})
	if err != nil {
		t.Fatal(err)
	}

	// Two authorities, of which this one can give neither that profile nor another usage.
	if issued := w.mustIssue(server(t, "a.example.com")); issued.Issuer != w.issuing.ID {
		t.Errorf("without a policy it is from %s", issued.Issuer)
	}
	a := w.withProfiles(t, map[string]string{"golden": "policies: [1.3.6.1.4.1.55555.2]\n"})
	for _, test := range []struct{ profile, says string }{
		{"server", "the chain of the issuer requires a certificate policy, and profile server gives none"},
		{"client", "CN=old does not allow the extended key usage client_auth, which profile client gives"},
		{"golden", "CN=old does not allow the extended key usage 1.3.6.1.4.1.55555.1, which profile golden gives"},
	} {
		_, err := w.issue(a, ca.Request{Profile: test.profile, Issuer: adopted.ID, CSR: csr(t, newKey(t), "a.example.com")})
		if wantError(t, err, pki.KindRefused, "profile"); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.profile, err)
		}
	}
	system, err := auth.System("ocsp-delegation").Authorize(auth.ActionIssue, "ocsp-responder")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Issue(t.Context(), system, ca.Request{Profile: "ocsp-responder", Issuer: adopted.ID, CSR: csr(t, newKey(t)), Subject: ca.Subject{CommonName: "OCSP"}}); err != nil {
		t.Errorf("its responder: %v", err)
	}

	w.clock.advance(time.Hour)
	renewed, err := w.RenewIssuer(t.Context(), w.manage(), adopted.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantLimits(t, "renewed", renewed.Certificates[0].DER)
	crossed, err := w.CrossSign(t.Context(), w.manage(), adopted.ID, w.root.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantLimits(t, "cross-signed", crossed.Certificates[len(crossed.Certificates)-1].DER)
	n := newIssuer("old-2", "old 2", w.root)
	n.Succeeds = adopted.ID
	wantLimits(t, "its successor", w.create(n).Certificates[0].DER)
	n = newIssuer("other", "other", w.root)
	if c := parse(t, w.create(n).Certificates[0].DER); len(c.ExtKeyUsage)+len(c.Policies) != 0 {
		t.Errorf("who succeeds nobody: %+v", c)
	}

	// An off-line parent is asked for the same, and what comes back is held against that.
	n = newIssuer("old-3", "old 3", ca.Issuer{})
	n.Succeeds, n.Offline = adopted.ID, true
	pending := w.create(n)
	if again := w.create(n); again.ID != pending.ID {
		t.Error("the same again made another")
	}
	offline, err := ca.NewOffline(ca.OfflineConfig{Profiles: w.profiles, Now: w.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	parent := ca.OfflineParent{Key: top.key, Certificate: top.der, BaseURL: "http://pki.test"}
	sign := func(p *ca.Proposal, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		der, err := p.Sign()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	proposal, err := offline.ProposeAuthority(parent, pending.CSR, ca.NewIssuer{})
	granted := sign(proposal, err)
	wantLimits(t, "granted", granted)
	if proposal.Narrowed || len(proposal.CA.Usages) != 2 || *proposal.CA.Policies.RequireExplicit != 0 {
		t.Errorf("proposed: %+v", proposal)
	}
	other := bring(t, w, ring, "other root", nil, limiting...)
	wantLimits(t, "a root that is cross-signed in a ceremony", sign(offline.ProposeCross(parent, other.der, 0)))
	request, err := x509.ParseCertificateRequest(pending.CSR)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range limiting { // each of them dropped
		template := parse(t, granted)
		template.ExtraExtensions, template.ExtKeyUsage, template.UnknownExtKeyUsage, template.Policies, template.PolicyIdentifiers = nil, nil, nil, nil, nil
		for j, kept := range limiting {
			if i != j {
				template.ExtraExtensions = append(template.ExtraExtensions, kept)
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parse(t, top.der), request.PublicKey, top.key.Signer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = w.ImportIssuerCertificate(t.Context(), w.manage(), ca.IssuerImport{DER: der, Chain: [][]byte{top.der}}); pki.KindOf(err) != pki.KindRefused || err == nil {
			t.Errorf("without %s: %v", e.Id, err)
		}
	}
	n = newIssuer("old-4", "old 4", w.root)
	n.Succeeds = pending.ID // which has no certificate yet, and so nothing to keep
	if c := parse(t, w.create(n).Certificates[0].DER); len(c.ExtKeyUsage)+len(c.Policies) != 0 {
		t.Errorf("who succeeds one without a certificate: %+v", c)
	}
	if imported, err := w.ImportIssuerCertificate(t.Context(), w.manage(), ca.IssuerImport{DER: granted, Chain: [][]byte{top.der}}); err != nil || imported.State != ca.IssuerActive {
		t.Errorf("as it was granted: %+v, %v", imported, err)
	}
}

// What cannot be written again is not taken for less than it is.
func TestPoliciesThatAreNotWrittenAreNotDropped(t *testing.T) {
	ring := &keyring{opened: make(map[string]*keys.Key)}
	w := newTownWith(t, testdb.SQLite(t), ring)
	policyMappings := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 33}, Value: []byte("\x30\x18\x30\x16\x06\x09\x2b\x06\x01\x04\x01\x83\xb2\x03\x02\x06\x09\x2b\x06\x01\x04\x01\x83\xb2\x03\x01")}
	largePolicy := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Value: []byte("\x30\x0a\x30\x08\x06\x06\x69\xff\xff\xff\xff\x7f")}
	for label, test := range map[string]struct {
		extension pkix.Extension
		says      string
	}{"maps": {policyMappings, "maps policies"}, "large": {largePolicy, "a certificate policy with a number above 31 bits"}} {
		root := bring(t, w, ring, label, nil, test.extension)
		adopted, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: label, KeyURI: root.key.URI, BaseURL: "http://pki.test", DER: root.der})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.RenewIssuer(t.Context(), w.manage(), adopted.ID, 0)
		if wantError(t, err, pki.KindFailedPrecondition, "issuer"); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("renewed: %v", err)
		}
		for _, offline := range []bool{false, true} {
			n := newIssuer(label+"-2", label+" 2", w.root)
			if n.Succeeds, n.Offline = adopted.ID, offline; offline {
				n.Parent = pki.IssuerID{}
			}
			_, err := w.CreateIssuer(t.Context(), w.manage(), n)
			if wantError(t, err, pki.KindFailedPrecondition, "issuer"); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("succeeded, off-line %t: %v", offline, err)
			}
			if _, err := ring.Open(t.Context(), ring.URI(n.Label)); pki.KindOf(err) != pki.KindNotFound {
				t.Errorf("it left a key: %v", err)
			}
		}
		_, err = askedOf(t, test.extension)
		if wantError(t, err, pki.KindRefused, "csr"); err == nil || !strings.Contains(err.Error(), "which Signet does not write") {
			t.Errorf("asked for: %v", err)
		}
	}
}

func TestWhatRequestsAskForOfUsagesAndPolicies(t *testing.T) {
	asked, err := askedOf(t, limiting...)
	want := profile.CA{PathLength: -1, Usages: []asn1.ObjectIdentifier{profile.ServerAuth, profile.CodeSigning},
		Policies: profile.Policies{Only: []asn1.ObjectIdentifier{gold}, RequireExplicit: new(0), InhibitMapping: new(1), InhibitAny: new(0)}}
	if err != nil || !reflect.DeepEqual(asked, want) {
		t.Errorf("%+v, %v", asked, err)
	}
	_, err = askedOf(t, pkix.Extension{Id: limiting[0].Id, Value: []byte("x")})
	wantError(t, err, pki.KindRefused, "csr")

	for _, rules := range []profile.Policies{{RequireExplicit: new(3)}, {InhibitMapping: new(0)}, {InhibitAny: new(2)}} { // each alone
		extensions, err := ca.TestingOnlyCAExtensions(&profile.CA{PathLength: -1, Policies: rules})
		if err != nil {
			t.Fatal(err)
		}
		if asked, err := askedOf(t, extensions...); err != nil || !reflect.DeepEqual(asked.Policies, rules) {
			t.Errorf("%+v, %v; want %+v", asked.Policies, err, rules)
		}
	}
}

// A profile that makes authorities gives them its usages and policies, once.
func TestUsagesAndPoliciesOfAnAuthoritysProfile(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	n := newIssuer("above", "Above", w.root)
	n.PathLength = new(1)
	above := w.create(n)
	dir := t.TempDir()
	text := "name: below\nlifetime: 1y\nsubject: {common_name: required}\nkey_usage: [key_cert_sign, crl_sign]\nca: {path_length: 0}\nextended_key_usage: [server_auth, time_stamping]\npolicies: [1.3.6.1.4.1.55555.2]\n"
	if err := os.WriteFile(filepath.Join(dir, "below.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.profiles, err = profile.Open(dir); err != nil {
		t.Fatal(err)
	}
	request := ca.Request{Profile: "below", Issuer: above.ID, CSR: csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Below"}})}
	issued, err := w.instance(w.store).Issue(t.Context(), w.grant(admin, auth.ActionIssue, "below"), request)
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, issued.DER) // which refuses an extension that is there twice
	if got := extensionOf(c, 2, 5, 29, 37); got != "false 301406082b0601050507030106082b06010505070308" || len(c.PolicyIdentifiers) != 1 || !c.PolicyIdentifiers[0].Equal(gold) {
		t.Errorf("extended key usage %s, policies %v", got, c.PolicyIdentifiers)
	}
}

// A CSR that asks for an authority that may do less than the profile gives, or one thing more that would be left out, is refused: whoever made
// it would take what it gets for what was asked.
func TestARequestForLessThanAnAuthoritysProfileGives(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	n := newIssuer("above", "Above", w.root)
	n.PathLength = new(2)
	above := w.create(n)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"below": "ca: {path_length: 0}\nextended_key_usage: [server_auth, code_signing]\npolicies: [1.3.6.1.4.1.55555.2]\n",
		"plant": "ca: {path_length: 1, permitted: {dns: [plant.example]}, excluded: {dns: [office.plant.example]}}\n",
	} {
		text = "name: " + name + "\nlifetime: 1y\nsubject: {common_name: required}\nkey_usage: [key_cert_sign, crl_sign]\n" + text
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.profiles, err = profile.Open(dir); err != nil {
		t.Fatal(err)
	}
	a := w.instance(w.store)
	usages := func(oids ...string) pkix.Extension {
		return pkix.Extension{Id: limiting[0].Id, Value: fmt.Appendf(nil, "\x30%c%s", len(strings.Join(oids, "")), strings.Join(oids, ""))}
	}
	path := func(length string) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte("\x30\x06\x01\x01\xff\x02\x01" + length)}
	}
	names := func(side, subtree string) pkix.Extension {
		base := fmt.Sprintf("\x30%c\x82%c%s", len(subtree)+2, len(subtree), subtree)
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: fmt.Appendf(nil, "\x30%c%s%c%s", len(base)+2, side, len(base), base)}
	}
	permitted := func(subtree string) pkix.Extension { return names("\xa0", subtree) }
	excluded := func(subtree string) pkix.Extension { return names("\xa1", subtree) }
	const serverAuth, codeSigning, ocspSigning = "\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01", "\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03", "\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x09"
	for what, test := range map[string]struct {
		profile   string
		extension pkix.Extension
		refused   bool
	}{
		"one usage, given any":         {"sub-ca", usages(codeSigning), true},
		"OCSP alone, given any":        {"sub-ca", usages(ocspSigning), true},
		"any usage, given any":         {"sub-ca", usages("\x06\x04\x55\x1d\x25\x00"), false},
		"a policy, given any":          {"sub-ca", limiting[1], true},
		"that policies are demanded":   {"sub-ca", limiting[2], true},
		"a usage that cannot be read":  {"sub-ca", pkix.Extension{Id: limiting[0].Id, Value: []byte("x")}, true},
		"one usage, given two":         {"below", usages(codeSigning), true},
		"both usages":                  {"below", usages(codeSigning, serverAuth), false},
		"both usages, and OCSP":        {"below", usages(codeSigning, serverAuth, ocspSigning), true},
		"the policy":                   {"below", limiting[1], false},
		"a longer path than is given":  {"below", path("\x03"), false},
		"a path as short as is given":  {"below", path("\x00"), false},
		"a shorter path than is given": {"plant", path("\x00"), true},
		"names, given any":             {"below", permitted("plant.example"), true},
		"the names":                    {"plant", permitted("plant.example"), false},
		"more names":                   {"plant", permitted("example"), false},
		"fewer names":                  {"plant", permitted("a.plant.example"), true},
		"names excluded, given any":    {"below", excluded("plant.example"), true},
		"the names excluded":           {"plant", excluded("office.plant.example"), false},
	} {
		request := ca.Request{Profile: test.profile, Issuer: above.ID, CSR: csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Below"}, ExtraExtensions: []pkix.Extension{test.extension}})}
		_, err := a.Issue(t.Context(), w.grant(admin, auth.ActionIssue, test.profile), request)
		if test.refused {
			wantError(t, err, pki.KindRefused, "csr")
		}
		if test.refused != (err != nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
