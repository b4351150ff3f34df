package profile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

func TestBuiltInProfilesAreSound(t *testing.T) {
	set, err := profile.Open("")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range set.All() {
		names = append(names, p.Name)
		if p.CA != nil && p.MayUse(auth.RoleRequester, "anyone") {
			t.Errorf("%s: a requester may ask for a CA", p.Name)
		}
		if p.MayUse(auth.RoleNone, "anyone") || p.MayUse(auth.RoleAuditor, "anyone") {
			t.Errorf("%s: someone without a role may use it", p.Name)
		}
		if p.Internal && p.MayUse(auth.RoleAdmin, "admin") {
			t.Errorf("%s is internal and an administrator may ask for it", p.Name)
		}
	}
	if got, want := strings.Join(names, " "), "client code-signing email issuing-ca ocsp-responder root-ca server server-client short-lived sub-ca"; got != want {
		t.Errorf("built in: %s\nwant:     %s", got, want)
	}
}

const good = `name: web
lifetime: 90d
names:
  dns: {allow: [".example.com"]}
key_usage: [digital_signature]
extended_key_usage: [server_auth]
`

// Each case changes one line of the good profile; want is "line: field: part of the text".
func TestContradictionsAreFoundWhereTheyAre(t *testing.T) {
	tests := []struct{ name, replace, with, want string }{
		{"no name", "name: web", "name: ''", "1: name: want 1 to 64"},
		{"unknown field", "lifetime: 90d", "lifetme: 90d", "2: lifetme: there is no such field"},
		{"wrong type", "lifetime: 90d", "lifetime: [90d]", "2: lifetime: a list is not what belongs here"},
		{"wrong type in a list", `[".example.com"]`, `[".example.com", {a: b}]`, "4: names.dns.allow[1]: a mapping is not what belongs here"},
		{"wrong number", "names:", "names:\n  max: many", `4: names.max: "many" is not what belongs here`},
		{"text where fields belong", "key_usage:", "status: none\nkey_usage:", `5: status: "none" is not what belongs here`},
		{"unknown field, further in", `{allow: [".example.com"]}`, `{allowed: [".example.com"]}`, "4: names.dns.allowed: there is no such field"},
		{"bad duration", "lifetime: 90d", "lifetime: 90 days", "2: lifetime: "},
		{"maximum below default", "lifetime: 90d", "lifetime: 90d\nmax_lifetime: 30d", "3: max_lifetime: is shorter"},
		{"born expired", "lifetime: 90d", "lifetime: 1h\nbackdate: 1h", "3: backdate: is not shorter"},
		{"bad pattern", `".example.com"`, `"ex*mple.com"`, "4: names.dns.allow[0]: "},
		{"address as DNS name", `".example.com"`, `"10.0.0.1"`, "4: names.dns.allow[0]: "},
		{"bad prefix", "{allow: [\".example.com\"]}", "{allow: [\"*\"]}\n  ip: {allow: [\"10.0.0.1/8\"]}", "5: names.ip.allow[0]: "},
		{"wildcards", "allow: [", "wildcards: sometimes, allow: [", "4: names.dns.wildcards: want one of allow, deny"},
		{"minimum above maximum", "names:", "names:\n  min: 3\n  max: 2", "4: names.min: "},
		{"usage", "digital_signature", "signing", "5: key_usage[0]: want one of"},
		{"CA usage without CA", "[digital_signature]", "[digital_signature, key_cert_sign]", "5: key_usage: "},
		{"CA without CA usage", "key_usage:", "ca: {path_length: 0}\nkey_usage:", "6: key_usage: a CA needs"},
		{"path length", "key_usage:", "ca: {path_length: -1}\nkey_usage:", "5: ca.path_length: "},
		{"name constraint", "key_usage:", "ca: {permitted: {dns: [.a.example, ..b.example]}}\nkey_usage:", "5: ca.permitted.dns[1]: "},
		{"OCSP signing", "[server_auth]", "[server_auth, ocsp_signing]", "6: extended_key_usage[1]: only Signet"},
		{"any usage", "[server_auth]", "[2.5.29.37.0]", "6: extended_key_usage[0]: anyExtendedKeyUsage"},
		{"time stamping beside another", "[server_auth]", "[time_stamping, client_auth]", "6: extended_key_usage: time_stamping stands alone"},
		{"time stamping by a key for more", "[digital_signature]\nextended_key_usage: [server_auth]", "[digital_signature, key_encipherment]\nextended_key_usage: [time_stamping]", "5: key_usage: a time-stamping authority"},
		{"no extended usage", "extended_key_usage: [server_auth]", "", "1: extended_key_usage: is required"},
		{"must-staple without OCSP", "key_usage:", "status: {ocsp: no, must_staple: true}\nkey_usage:", "5: status.must_staple: "},
		{"noRevAvail with CRL", "key_usage:", "status: {no_rev_avail: true, crl: shard}\nkey_usage:", "5: status.no_rev_avail: "},
		{"nocheck for a server", "key_usage:", "status: {no_check: true}\nkey_usage:", "5: status.no_check: "},
		{"basicConstraints from the CSR", "key_usage:", "csr_extensions: [2.5.29.19]\nkey_usage:", "5: csr_extensions[0]: "},
		{"waiver without a reason", "key_usage:", "lint: {waive: [{lint: e_x}]}\nkey_usage:", "5: lint.waive[0].reason: "},
		{"approver issues", "key_usage:", "access: {roles: [requester, approver]}\nkey_usage:", "5: access.roles[1]: "},
		{"auditor issues", "key_usage:", "access: {roles: [auditor]}\nkey_usage:", "5: access.roles[0]: "},
		{"shorter than a minute", "lifetime: 90d", "lifetime: 59s", "2: lifetime: is shorter than a minute"},
		{"longer than a century", "lifetime: 90d", "lifetime: 36501d", "2: lifetime: "},
		{"longer than a century, added up", "lifetime: 90d", "lifetime: 36500d1s", "2: lifetime: "},
		{"backdated for long", "lifetime: 90d", "lifetime: 90d\nbackdate: 31d", "3: backdate: is longer than 30 days"},
		{"an attribute unheard of is taken", "names:", "subject: {take: [shoe_size]}\nnames:", "3: subject.take[0]: want one of"},
		{"an attribute unheard of is set", "names:", "subject: {set: {shoe_size: [x]}}\nnames:", "3: subject.set.shoe_size: want one of"},
		{"an attribute taken and set", "names:", "subject: {take: [country], set: {country: [NL]}}\nnames:", "3: subject.take[0]: is under set as well"},
		{"an empty attribute", "names:", "subject: {set: {organization: ['']}}\nnames:", "3: subject.set.organization[0]: is not a valid value"},
		{"a long attribute", "names:", "subject: {set: {organization: [" + strings.Repeat("x", 65) + "]}}\nnames:", "3: subject.set.organization[0]: is not a valid value"},
		{"a country of three", "names:", "subject: {set: {country: [NLD]}}\nnames:", "3: subject.set.country[0]: is not a valid value"},
		{"a country in small letters", "names:", "subject: {set: {country: [nl]}}\nnames:", "3: subject.set.country[0]: is not a valid value"},
		{"too many names", "names:", "names:\n  max: 1001", "4: names.max: want 1 to 1000"},
		{"fewer names than none", "names:", "names:\n  max: -1", "4: names.max: want 1 to 1000"},
		{"a minimum below none", "names:", "names:\n  min: -1", "4: names.min: "},
		{"a first name that need not be", "names:", "subject: {common_name: first-name}\nnames:", "subject.common_name: takes the first name"},
		{"a list that allows nothing", "{allow: [\".example.com\"]}", "{deny: [x.example]}", "4: names.dns: allows no name"},
		{"a domain as elsewhere", `".example.com"`, `"*.example.com"`, `4: names.dns.allow[0]: "*.example.com": write ".example.com"`},
		{"a wildcard below a domain", `".example.com"`, `".*.example.com"`, "4: names.dns.allow[0]: "},
		{"a prefix of half a host", "{allow: [\".example.com\"]}", "{allow: [\"*\"]}\n  uri: {allow: [\"https://www*\"]}", "5: names.uri.allow[0]: "},
		{"a prefix without a scheme", "{allow: [\".example.com\"]}", "{allow: [\"*\"]}\n  uri: {allow: [\"www/*\"]}", "5: names.uri.allow[0]: "},
		{"mail without an at", "{allow: [\".example.com\"]}", "{allow: [\"*\"]}\n  email: {allow: [\"example.com\"]}", "5: names.email.allow[0]: "},
		{"mail at no host", "{allow: [\".example.com\"]}", "{allow: [\"*\"]}\n  email: {allow: [\"@\"]}", "5: names.email.allow[0]: "},
		{"mail at a wildcard", "{allow: [\".example.com\"]}", "{allow: [\"*\"]}\n  email: {allow: [\"@*.example.com\"]}", "5: names.email.allow[0]: "},
		{"a path too long", "key_usage:", "ca: {path_length: 17}\nkey_usage:", "5: ca.path_length: "},
		{"a name constraint of a wildcard", "key_usage:", "ca: {permitted: {dns: [\"*.example\"]}}\nkey_usage:", "5: ca.permitted.dns[0]: "},
		{"a name constraint of wildcards below", "key_usage:", "ca: {permitted: {dns: [\".*.example\"]}}\nkey_usage:", "5: ca.permitted.dns[0]: "},
		{"a name constraint of a dot", "key_usage:", "ca: {permitted: {dns: [\".\"]}}\nkey_usage:", "5: ca.permitted.dns[0]: "},
		{"mail at a wildcard", "key_usage:", "ca: {permitted: {email: [\"*.example\"]}}\nkey_usage:", "5: ca.permitted.email[0]: "},
		{"URIs of a wildcard", "key_usage:", "ca: {excluded: {uri: [\".*.example\"]}}\nkey_usage:", "5: ca.excluded.uri[0]: "},
		{"a name constraint with bits beyond its prefix", "key_usage:", "ca: {permitted: {ip: [10.0.0.1/8]}}\nkey_usage:", "5: ca.permitted.ip[0]: "},
		{"a name constraint of no prefix", "key_usage:", "ca: {permitted: {ip: [ten]}}\nkey_usage:", "5: ca.permitted.ip[0]: "},
		{"a name constraint of no host", "key_usage:", "ca: {excluded: {uri: [\"a b\"]}}\nkey_usage:", "5: ca.excluded.uri[0]: "},
		{"a usage twice", "[server_auth]", "[server_auth, server_auth]", "6: extended_key_usage[1]: "},
		{"an identifier of one number", "[server_auth]", "['1']", "6: extended_key_usage[0]: "},
		{"an identifier that begins with 3", "[server_auth]", "[3.1.2]", "6: extended_key_usage[0]: "},
		{"an identifier that goes on with 40", "[server_auth]", "[1.40.2]", "6: extended_key_usage[0]: "},
		{"rules of nobody", "key_usage:", "lint: {sources: [RFC5280, RFC5820]}\nkey_usage:", "5: lint.sources[1]: there are no rules of \"RFC5820\": want one of"},
		{"a waiver of a lint unheard of", "key_usage:", "lint: {waive: [{lint: e_x, reason: because}]}\nkey_usage:", "5: lint.waive[0].lint: there is no lint \"e_x\""},
		{"a waiver of nothing", "key_usage:", "lint: {waive: [{reason: because}]}\nkey_usage:", "5: lint.waive[0]: names no lint"},
		{"a file too large", "name: web", "name: web # " + strings.Repeat("x", 1<<18), "is longer than"},
		{"a file of nothing", good, "# nothing", "is empty"},
		{"a key twice", "lifetime: 90d", "lifetime: 90d\nlifetime: 80d", "3: lifetime: stands here twice"},
		{"not YAML", "lifetime: 90d", "lifetime: {", "did not find expected"},
		{"two documents", "name: web", "name: web\n---\nname: other", "more than one document"},
	}
	if _, err := profile.Parse("web.yaml", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := profile.Parse("web.yaml", []byte(strings.Replace(good, test.replace, test.with, 1)))
			if err == nil {
				t.Fatal("accepted")
			}
			if pki.KindOf(err) != pki.KindInvalid {
				t.Errorf("kind %s", pki.KindOf(err))
			}
			if _, ok := errors.AsType[*profile.FileError](err); !ok {
				t.Errorf("no FileError in %v", err)
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "web.yaml") || strings.Contains(err.Error(), "profile.Config") {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// TestAccess: a list of accounts is who may ask; without one, everybody of the roles.
func TestAccess(t *testing.T) {
	for _, test := range []struct {
		access         string
		ours, stranger bool
	}{{"", true, true}, {"access: {accounts: [ours, other]}\n", true, false}, {"access: {roles: [admin], accounts: [ours]}\n", false, false}} {
		p, err := profile.Parse("web.yaml", []byte(good+test.access))
		if err != nil {
			t.Fatal(err)
		}
		if p.MayUse(auth.RoleRequester, "ours") != test.ours || p.MayUse(auth.RoleRequester, "stranger") != test.stranger {
			t.Errorf("%q: ours %t, a stranger %t", test.access, p.MayUse(auth.RoleRequester, "ours"), p.MayUse(auth.RoleRequester, "stranger"))
		}
	}
}

func TestAReloadIsWholeOrNot(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("web.yaml", good)
	set, err := profile.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	before, err := set.Get("web")
	if err != nil {
		t.Fatal(err)
	}
	write("web.yaml", strings.Replace(good, "90d", "30d", 1))
	write("bad.yaml", "name: bad\n")
	write("responder.yaml", strings.Replace(good, "name: web", "name: ocsp-responder", 1))
	err = set.Reload()
	for _, want := range []string{"bad.yaml:1: lifetime", "responder.yaml: name: ocsp-responder is Signet's own"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
	if now, _ := set.Get("web"); now != before {
		t.Error("a bad file changed the set")
	}
	for _, name := range []string{"bad.yaml", "responder.yaml"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Reload(); err != nil {
		t.Fatal(err)
	}
	if now, _ := set.Get("web"); now.Lifetime == before.Lifetime {
		t.Error("a good file did not take effect")
	}
	if _, err := set.Get("nothing"); pki.KindOf(err) != pki.KindNotFound || !strings.Contains(fmt.Sprint(err.(*pki.Error).Hint), "web") {
		t.Errorf("unknown profile: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(good + "ca: {path_length: 1, permitted: {ip: [10.0.0.0/8]}}\nstatus: {no_rev_avail: true}\n"))
	f.Add([]byte("name: [\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := profile.Parse("fuzz.yaml", text)
		if (p == nil) == (err == nil) {
			t.Errorf("%v, %v", p, err)
		}
		if p != nil && (p.MaxLifetime < p.Lifetime || p.Lifetime <= p.Backdate || p.KeyUsage == 0) {
			t.Errorf("a profile that contradicts itself: %+v", p)
		}
	})
}
