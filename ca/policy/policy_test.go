package policy_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

func parse(t *testing.T, names string) *profile.Profile {
	t.Helper()
	p, err := profile.Parse("test.yaml", []byte("name: test\nlifetime: 1d\nkey_usage: [digital_signature]\nextended_key_usage: [server_auth]\nnames:\n"+names))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func identifiers(t *testing.T, texts ...string) []pki.Identifier {
	t.Helper()
	var ids []pki.Identifier
	for _, text := range texts {
		id, err := pki.ParseIdentifier(text)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// blame fails unless err is a refusal that names the field; an empty field means no error.
func blame(t *testing.T, err error, field string) {
	t.Helper()
	if field == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	e, ok := err.(*pki.Error)
	if !ok || e.Kind != pki.KindRefused || e.Field != field {
		t.Errorf("got %v, want a refusal of %s", err, field)
	}
}

func TestNames(t *testing.T) {
	inside := parse(t, `  max: 3
  dns: {allow: [".corp.example", "www.example.com"], deny: ["secret.corp.example", ".hr.corp.example"], wildcards: allow}
  ip: {allow: ["10.0.0.0/8", "2001:db8::1"], deny: ["10.9.0.0/16"]}
  uri: {allow: ["spiffe://corp.example/ns/*", "https://www.example.com/one"]}
  email: {allow: ["@example.com", "@.corp.example", "root@example.org"]}
`)
	most := parse(t, `  uri: {allow: ["*"], deny: ["https://corp.example/admin/*", "spiffe://corp.example/root"]}
  email: {allow: ["@corp.example"], deny: ["root@corp.example"]}
`)
	hosts := parse(t, `  uri: {allow: ["*"], deny: ["https://xn--exmple-cua.com/*", "https://10.0.0.1/*", "https://[2001:db8::1]/*"]}
`)
	strict := parse(t, "  min: 1\n  dns: {allow: [\"*\"]}\n")
	tests := []struct {
		profile *profile.Profile
		names   string
		field   string
	}{
		{inside, "a.corp.example", ""},
		{inside, "a.b.corp.example www.example.com", ""},
		{inside, "corp.example", "identifiers[0]"},
		{inside, "evilcorp.example", "identifiers[0]"},
		{inside, "www.example.com mail.example.com", "identifiers[1]"},
		{inside, "secret.corp.example", "identifiers[0]"},
		{inside, "x.hr.corp.example", "identifiers[0]"},
		{inside, "*.x.corp.example", ""},
		{inside, "*.corp.example", "identifiers[0]"},    // could be secret.corp.example
		{inside, "*.hr.corp.example", "identifiers[0]"}, // is below the denied domain
		{inside, "hr.corp.example", ""},                 // is not
		{inside, "*.example.com", "identifiers[0]"},     // one host of it is allowed
		{inside, "a.corp.example A.CORP.EXAMPLE", "identifiers[1]"},
		{inside, "a.corp.example b.corp.example c.corp.example d.corp.example", "identifiers"},
		{inside, "10.1.2.3 2001:db8::1", ""},
		{inside, "10.9.2.3", "identifiers[0]"},
		{inside, "11.1.2.3", "identifiers[0]"},
		{inside, "spiffe://corp.example/ns/web", ""},
		{inside, "spiffe://corp.example/ns/../root", "identifiers[0]"},
		{inside, "spiffe://corp.example/ns/%2e%2e/root", "identifiers[0]"},
		{inside, "spiffe://corp.example/ns/web/..", "identifiers[0]"},
		{inside, "spiffe://corp.example/ns/..%2froot", "identifiers[0]"},
		{inside, "spiffe://corp.example/ns/..?x", "identifiers[0]"},
		{inside, "spiffe://corp.example/ns/..#web", "identifiers[0]"},
		{inside, "spiffe://corp.example/ns/..#?/web", "identifiers[0]"},
		{inside, "spiffe://corp.example/ns/web?a/../b", ""}, // no path
		{inside, "spiffe://corp.example/ns/web#..", ""},
		{inside, "spiffe://corp.example.evil/ns/web", "identifiers[0]"},
		{inside, "https://www.example.com/one", ""},
		{inside, "https://www.example.com/one/more", "identifiers[0]"},
		{inside, "a@example.com root@example.org b@x.corp.example", ""},
		{inside, "a@sub.example.com", "identifiers[0]"},
		{inside, "a@corp.example", "identifiers[0]"},
		{inside, "other@example.org", "identifiers[0]"},
		{inside, `spiffe://corp.example/ns/..\root`, "identifiers[0]"},
		{most, "https://corp.example/adm spiffe://corp.example/root2 a@corp.example", ""},
		{most, "https://corp.example/admin/", "identifiers[0]"},
		{most, "https://corp.example/x/../admin/y", "identifiers[0]"},
		{most, "https://corp.example/admin/../admin/y", "identifiers[0]"},
		{most, "https://corp.example/%61dmin/y", "identifiers[0]"},
		{most, "https://corp.example//admin/y", "identifiers[0]"},
		{most, `https://corp.example/x/..\admin/y`, "identifiers[0]"},
		{most, "https://corp.example:443/admin/y", "identifiers[0]"},
		{most, "https://CORP.example./admin/y", "identifiers[0]"},
		{most, "https://corp.example:8443/admin/y", ""}, // another server
		{most, "spiffe://corp.example/%72oot", "identifiers[0]"},
		{hosts, "https://10.0.0.1/x", "identifiers[0]"},
		{hosts, "https://[2001:db8::1]/x", "identifiers[0]"},
		{hosts, "https://xn--exmple-cua.com./x", "identifiers[0]"},
		{hosts, "https://10.0.0.2/x", ""},
		{most, "root@corp.example", "identifiers[0]"},
		{most, "Root@corp.example", "identifiers[0]"},
		{strict, "", "identifiers"},
		{strict, "*.example.com", "identifiers[0]"},
		{strict, "10.1.2.3", "identifiers[0]"},
		{strict, "xn--bcher-kva.example bücher.example", "identifiers[1]"}, // one name in two forms
	}
	for _, test := range tests {
		t.Run(test.names, func(t *testing.T) {
			blame(t, policy.CheckNames(test.profile, identifiers(t, strings.Fields(test.names)...)), test.field)
		})
	}
}

func TestANameTwiceIsLeftOut(t *testing.T) {
	err := policy.CheckNames(parse(t, "  dns: {allow: [\"*\"]}\n"), identifiers(t, "a.example", "A.example"))
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Hint != "leave one of them out" {
		t.Errorf("%v; want a hint that helps, for no administrator can", err)
	}
}

func TestACommonNameThatLooksLikeAHostIsOneOfTheNames(t *testing.T) {
	names := identifiers(t, "www.example.com", "10.0.0.1")
	for name, field := range map[string]string{
		"": "", "Alice": "", "agent 7": "", "www.example.com": "", "10.0.0.1": "", "Example Inc. Web": "",
		"mail.example.com": "subject.common_name", "WWW2.Example.COM": "subject.common_name", "10.0.0.2": "subject.common_name",
		"www.example.com.": "subject.common_name", "*.example.com": "subject.common_name", "w*.example.com": "subject.common_name", "www.*.com": "subject.common_name",
		"my_host.example.com": "subject.common_name", "::ffff:10.0.0.1": "subject.common_name", "fe80::1%eth0": "subject.common_name", "Dr. Jo": "",
		"www。example。com": "", "a\u202eb": "subject.common_name", "a\u009b2J": "subject.common_name", "a\u200db": "", "a\ufeffb": "subject.common_name",
		"a\x00b": "subject.common_name", "a\x7fb": "subject.common_name", "a\xffb": "subject.common_name", strings.Repeat("x", 64): "", strings.Repeat("x", 65): "subject.common_name",
	} {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) { blame(t, policy.CheckCommonName(name, names), field) })
	}
}

func TestIssuerNameConstraints(t *testing.T) {
	subtrees := func(config profile.SubtreesConfig) profile.Subtrees {
		s, _, err := profile.ParseSubtrees(config)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	chain := []policy.Constraints{
		{Subject: "CN=Issuing", Permitted: subtrees(profile.SubtreesConfig{DNS: []string{"example.com", "one.example.net"}, IP: []string{"10.0.0.0/8"}, Email: []string{"example.com", ".mail.example.com", "who@example.net"}, URI: []string{".example.com"}})},
		{Subject: "CN=Root", Excluded: subtrees(profile.SubtreesConfig{DNS: []string{"bad.example.com"}, IP: []string{"10.1.0.0/16"}})},
	}
	for name, field := range map[string]string{
		"example.com": "", "a.example.com": "", "*.a.example.com": "", "notexample.com": "identifiers[0]", "example.org": "identifiers[0]",
		"bad.example.com": "identifiers[0]", "x.bad.example.com": "identifiers[0]", "*.example.com": "identifiers[0]",
		"10.2.0.1": "", "10.1.0.1": "identifiers[0]", "192.0.2.1": "identifiers[0]", "::1": "identifiers[0]",
		"*.example.net": "identifiers[0]", "who@example.net": "", "other@example.net": "identifiers[0]",
		"a@example.com": "", "a@x.mail.example.com": "", "a@mail.example.com": "identifiers[0]", "a@x.example.com": "identifiers[0]",
		"https://www.example.com/x": "", "https://example.com/x": "identifiers[0]", "https://10.2.0.1/": "identifiers[0]",
	} {
		t.Run(name, func(t *testing.T) { blame(t, policy.CheckConstraints(chain, identifiers(t, name)), field) })
	}
	excluded := []policy.Constraints{{Subject: "CN=Root", Excluded: subtrees(profile.SubtreesConfig{URI: []string{"bad.example"}})}, {Excluded: subtrees(profile.SubtreesConfig{DNS: []string{"bad.example"}})}}
	blame(t, policy.CheckConstraints(excluded, identifiers(t, "https://good.example/", "192.0.2.1")), "")
	blame(t, policy.CheckConstraints(excluded, identifiers(t, "https://bad.example/")), "identifiers[0]")
	blame(t, policy.CheckConstraints(excluded, identifiers(t, "https://192.0.2.1/")), "identifiers[0]") // may be that host
	blame(t, policy.CheckConstraints(excluded[1:], identifiers(t, "https://192.0.2.1/")), "")
	// Of a CA from elsewhere, as it wrote them.
	foreign := []policy.Constraints{{Subject: "CN=Elsewhere", Excluded: profile.Subtrees{Email: []string{".Bad.example", "root@Corp.example"}, URI: []string{".Bad.example", "Corp.example"}}}}
	for name, field := range map[string]string{
		"a@x.bad.example": "identifiers[0]", "ROOT@corp.example": "identifiers[0]", "root@corp.example": "identifiers[0]", "jo@corp.example": "",
		"https://x.bad.example/": "identifiers[0]", "https://corp.example./": "identifiers[0]", "https://x.bad.example./": "identifiers[0]", "https://www.corp.example/": "",
	} {
		t.Run(name, func(t *testing.T) { blame(t, policy.CheckConstraints(foreign, identifiers(t, name)), field) })
	}
	dotted := []policy.Constraints{{Subject: "CN=Elsewhere", Permitted: profile.Subtrees{DNS: []string{".corp.example"}}, Excluded: profile.Subtrees{DNS: []string{".bad.corp.example"}}}}
	for name, field := range map[string]string{
		"a.corp.example": "", "*.corp.example": "identifiers[0]", "*.a.corp.example": "", "corp.example": "identifiers[0]",
		"bad.corp.example": "identifiers[0]", "x.bad.corp.example": "identifiers[0]", "xbad.corp.example": "",
	} {
		t.Run("dotted "+name, func(t *testing.T) { blame(t, policy.CheckConstraints(dotted, identifiers(t, name)), field) })
	}
	for kind, name := range map[string]string{"DNS": "a.example", "email": "a@b.example", "URI": "https://a.example/"} { // as other programs say "none" and "any"
		all := profile.Subtrees{DNS: []string{""}, Email: []string{""}, URI: []string{""}}
		blame(t, policy.CheckConstraints([]policy.Constraints{{Subject: "CN=" + kind, Excluded: all}}, identifiers(t, name)), "identifiers[0]")
		blame(t, policy.CheckConstraints([]policy.Constraints{{Subject: "CN=" + kind, Permitted: all}}, identifiers(t, name)), "")
	}
	exact := []policy.Constraints{{Subject: "CN=Elsewhere", Permitted: profile.Subtrees{Email: []string{"Root@Corp.example"}}}}
	blame(t, policy.CheckConstraints(exact, identifiers(t, "Root@corp.example")), "")
	blame(t, policy.CheckConstraints(exact, identifiers(t, "root@corp.example")), "identifiers[0]")
	if err := policy.CheckConstraints(nil, identifiers(t, "anything.example")); err != nil {
		t.Errorf("without constraints: %v", err)
	}
}

// A CA below another is refused if nothing is left of what it is to permit, whatever spelling either side has.
func TestSubtreesOfACABelow(t *testing.T) {
	type side = profile.Subtrees
	prefixes := func(texts ...string) (s side) {
		for _, text := range texts {
			s.IP = append(s.IP, netip.MustParsePrefix(text))
		}
		return s
	}
	dns := func(names ...string) side { return side{DNS: names} }
	email := func(names ...string) side { return side{Email: names} }
	uri := func(names ...string) side { return side{URI: names} }
	for name, test := range map[string]struct {
		permitted, excluded       side // of the CA above
		ownPermitted, ownExcluded side
		want                      string // in the refusal; empty: there is none
	}{
		"nothing said":               {},
		"the CA above permits":       {permitted: dns("corp.example")},
		"the CA permits":             {ownPermitted: dns("corp.example")},
		"the same":                   {permitted: dns("corp.example"), ownPermitted: dns("Corp.example")},
		"within":                     {permitted: dns("corp.example"), ownPermitted: dns("a.corp.example")},
		"around":                     {permitted: dns("a.corp.example"), ownPermitted: dns("corp.example")},
		"one of two":                 {permitted: dns("other.example", "corp.example"), ownPermitted: dns("elsewhere.example", "a.corp.example")},
		"outside":                    {permitted: dns("corp.example"), ownPermitted: dns("other.example"), want: `DNS subtrees that it permits, ["other.example"]: CN=Above permits only ["corp.example"]`},
		"ends like it":               {permitted: dns("corp.example"), ownPermitted: dns("notcorp.example"), want: "permits only"},
		"another type":               {permitted: dns("corp.example"), ownPermitted: email("other.example")},
		"another type beside one":    {permitted: dns("corp.example"), ownPermitted: side{DNS: []string{"other.example"}, Email: []string{"other.example"}}, want: "DNS"},
		"dotted within":              {permitted: dns("corp.example"), ownPermitted: dns(".corp.example")},
		"dotted around":              {permitted: dns(".corp.example"), ownPermitted: dns("corp.example")},
		"dotted outside":             {permitted: dns(".corp.example"), ownPermitted: dns(".orp.example"), want: "permits only"},
		"everything above":           {permitted: dns(""), ownPermitted: dns("corp.example")},
		"excluded above":             {excluded: dns("corp.example"), ownPermitted: dns("a.corp.example"), want: `["a.corp.example"]: CN=Above excludes ["corp.example"]`},
		"excluded above, dotted":     {excluded: dns(".corp.example"), ownPermitted: dns("corp.example"), want: "CN=Above excludes"},
		"excluded itself":            {ownPermitted: dns("corp.example"), ownExcluded: dns("corp.example"), want: `it excludes ["corp.example"]`},
		"excluded in part":           {ownPermitted: dns("corp.example"), ownExcluded: dns("a.corp.example")},
		"one of two excluded":        {ownPermitted: dns("corp.example", "other.example"), ownExcluded: dns("corp.example")},
		"each excluded by another":   {excluded: dns("corp.example"), ownPermitted: dns("corp.example", "other.example"), ownExcluded: dns("other.example"), want: `it excludes ["other.example"]`},
		"what both permit excluded":  {permitted: dns("a.corp.example"), ownPermitted: dns("corp.example"), ownExcluded: dns("a.corp.example"), want: `it excludes ["a.corp.example"]`},
		"no names of the type":       {permitted: dns("corp.example"), ownExcluded: dns("corp.example")},
		"a prefix within":            {permitted: prefixes("10.0.0.0/8"), ownPermitted: prefixes("10.1.0.0/16")},
		"a prefix around":            {permitted: prefixes("10.1.0.0/16"), ownPermitted: prefixes("10.0.0.0/8")},
		"the same prefix":            {permitted: prefixes("10.0.0.0/8"), ownPermitted: prefixes("10.0.0.0/8")},
		"a prefix outside":           {permitted: prefixes("10.0.0.0/8"), ownPermitted: prefixes("192.168.0.0/16"), want: `IP subtrees that it permits, ["192.168.0.0/16"]: CN=Above permits only ["10.0.0.0/8"]`},
		"a prefix of the other kind": {permitted: prefixes("0.0.0.0/0"), ownPermitted: prefixes("::/0"), want: "permits only"},
		"a prefix excluded":          {excluded: prefixes("10.0.0.0/8"), ownPermitted: prefixes("10.1.0.0/16"), want: "CN=Above excludes"},
		"a prefix excluded in part":  {excluded: prefixes("10.1.0.0/16"), ownPermitted: prefixes("10.0.0.0/8")},
		"a host of mail within":      {permitted: email(".corp.example"), ownPermitted: email("Mail.corp.example")},
		"a mailbox within":           {permitted: email("corp.example"), ownPermitted: email("jo@Corp.example")},
		"a mailbox itself":           {permitted: email("jo@corp.example"), ownPermitted: email("jo@corp.example")},
		"around a mailbox":           {permitted: email("jo@corp.example"), ownPermitted: email("corp.example")},
		"another mailbox":            {permitted: email("jo@corp.example"), ownPermitted: email("Jo@corp.example"), want: "email"},
		"an excluded mailbox":        {excluded: email("jo@corp.example"), ownPermitted: email("Jo@corp.example"), want: "excludes"},
		"a host is not below itself": {permitted: email(".corp.example"), ownPermitted: email("corp.example"), want: "email"},
		"the hosts below are not it": {permitted: email("corp.example"), ownPermitted: email(".corp.example"), want: "email"},
		"a URI within":               {permitted: uri(".corp.example"), ownPermitted: uri("www.corp.example")},
		"a URI outside":              {permitted: uri("corp.example"), ownPermitted: uri("www.corp.example"), want: `URI subtrees that it permits, ["www.corp.example"]: CN=Above permits only ["corp.example"]`},
		"a URI excluded":             {excluded: uri(""), ownPermitted: uri("www.corp.example"), want: "excludes"},
	} {
		t.Run(name, func(t *testing.T) {
			above := policy.Constraints{Subject: "CN=Above", Permitted: test.permitted, Excluded: test.excluded}
			root := policy.Constraints{Subject: "CN=Root", Permitted: side{DNS: []string{"example"}}}
			err := policy.CheckSubtrees([]policy.Constraints{above, root}, &profile.CA{Permitted: test.ownPermitted, Excluded: test.ownExcluded})
			if test.want == "" {
				blame(t, err, "")
				return
			}
			if blame(t, err, "permitted"); err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v, want %s", err, test.want)
			}
		})
	}
	far := []policy.Constraints{{Subject: "CN=Above", Permitted: dns("a.example", "b.example")}, {Subject: "CN=Root", Permitted: dns("b.example")}}
	blame(t, policy.CheckSubtrees(far, &profile.CA{Permitted: dns("a.example")}), "permitted") // each CA above permits it or the other
	blame(t, policy.CheckSubtrees(far, &profile.CA{Permitted: dns("example"), Excluded: dns("b.example")}), "permitted")
	blame(t, policy.CheckSubtrees(far, &profile.CA{Permitted: dns("example"), Excluded: dns("a.example")}), "")
}

// What one CA may do beyond another is told by the letter, of each type of names.
func TestWhatIsWider(t *testing.T) {
	ip := func(texts ...string) (s profile.Subtrees) {
		for _, text := range texts {
			s.IP = append(s.IP, netip.MustParsePrefix(text))
		}
		return s
	}
	dns := func(names ...string) profile.Subtrees { return profile.Subtrees{DNS: names} }
	mail := func(names ...string) profile.Subtrees { return profile.Subtrees{Email: names} }
	uri := func(names ...string) profile.Subtrees { return profile.Subtrees{URI: names} }
	permits := func(s profile.Subtrees) profile.CA { return profile.CA{PathLength: -1, Permitted: s} }
	excludes := func(s profile.Subtrees) profile.CA { return profile.CA{PathLength: -1, Excluded: s} }
	length := func(n int) profile.CA { return profile.CA{PathLength: n} }
	for _, test := range []struct {
		given, asked profile.CA
		want         string
	}{
		{length(-1), length(-1), ""},
		{length(0), length(-1), ""},
		{length(0), length(0), ""},
		{length(0), length(1), ""},
		{length(-1), length(0), "it allows any number of authorities below it, but 0 were asked for"},
		{length(2), length(1), "it allows 2 authorities below it, but 1 were asked for"},
		{permits(dns("a.example")), permits(dns()), ""},
		{permits(dns("a.example")), permits(dns("b.example", "example")), ""},
		{permits(dns("a.example")), permits(dns("A.EXAMPLE")), ""},
		{permits(dns(".a.example")), permits(dns("a.example")), ""},
		{permits(dns("a.example")), permits(dns(".a.example")), `it permits the DNS subtree "a.example", but only [".a.example"] were asked for`},
		{permits(dns()), permits(dns("a.example")), `it permits any DNS names, but only ["a.example"] were asked for`},
		{permits(mail("a.example")), permits(dns("a.example")), `it permits any DNS names`},
		{permits(dns("a.example", "b.example")), permits(dns("a.example")), `it permits the DNS subtree "b.example"`},
		{permits(ip("10.1.0.0/16")), permits(ip("10.0.0.0/8")), ""},
		{permits(ip("10.0.0.0/8")), permits(ip("10.1.0.0/16")), `it permits the IP subtree "10.0.0.0/8"`},
		{permits(ip("10.0.0.0/8")), permits(ip("::/0")), `it permits the IP subtree`},
		{permits(mail("a@a.example", "a.example")), permits(mail("a.example")), ""},
		{permits(mail("a.example")), permits(mail("a@a.example")), `it permits the email subtree "a.example"`},
		{permits(uri("a.b.example")), permits(uri(".example")), ""},
		{permits(uri("a.example")), permits(uri("b.example")), `it permits the URI subtree "a.example"`},
		{excludes(dns("a.example")), permits(dns()), ""},
		{excludes(dns("example")), excludes(dns("a.example")), ""},
		{excludes(dns("a.example")), excludes(dns("example")), `it does not exclude the DNS subtree "example", as was asked for`},
		{excludes(dns(".a.example")), excludes(dns("a.example")), `it does not exclude the DNS subtree "a.example"`},
		{excludes(dns()), excludes(dns("a.example")), `it does not exclude the DNS subtree "a.example"`},
		{excludes(ip("10.0.0.0/8")), excludes(ip("10.1.0.0/16", "10.2.0.0/16")), ""},
		{excludes(ip("10.1.0.0/16")), excludes(ip("10.1.0.0/16", "10.2.0.0/16")), `it does not exclude the IP subtree "10.2.0.0/16"`},
		{excludes(mail("a@a.example")), excludes(mail("A@a.example")), `it does not exclude the email subtree "A@a.example"`},
		{excludes(uri("a.example")), excludes(uri(".example")), `it does not exclude the URI subtree ".example"`},
	} {
		if got := policy.Wider(&test.given, &test.asked); !strings.HasPrefix(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%+v beside %+v: it says %q, want %q", test.given, test.asked, got, test.want)
		}
	}
}

func TestKeyShapes(t *testing.T) {
	p := parse(t, "  max: 1\n")
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		key   crypto.PublicKey
		field string
	}{
		{"P-256", p256.Public(), ""},
		{"Ed25519", ed, ""},
		{"RSA", good.Public(), ""},
		{"P-224", p224.Public(), "csr"},
		{"exponent 1", &rsa.PublicKey{N: good.N, E: 1}, "csr"},
		{"exponent 3", &rsa.PublicKey{N: good.N, E: 3}, "csr"},
		{"even exponent", &rsa.PublicKey{N: good.N, E: 65538}, "csr"},
		{"even modulus", &rsa.PublicKey{N: new(big.Int).Lsh(good.N, 1), E: 65537}, "csr"},
		{"even modulus of a good size", &rsa.PublicKey{N: new(big.Int).SetBit(good.N, 0, 0), E: 65537}, "csr"},
		{"odd size", &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 2000, 1), E: 65537}, "csr"},
		{"no key", nil, "csr"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { blame(t, policy.CheckKeyShape(p, test.key), test.field) })
	}
	p = parse(t, "  max: 1\nkeys: {algorithms: [ecdsa-p256]}\n")
	blame(t, policy.CheckKeyShape(p, p256.Public()), "")
	blame(t, policy.CheckKeyShape(p, ed), "csr")
	blame(t, policy.CheckKeyShape(p, good.Public()), "csr")
	blame(t, policy.CheckKey(good.Public(), nil), "")
	blame(t, policy.CheckKey(ed, nil), "")
}

// Who has no private key signs for a point of small order: R the neutral point, S zero, and a message that suits.
func TestPointsOfSmallOrderAreRefused(t *testing.T) {
	p := parse(t, "  min: 1\n  dns: {allow: [\"*\"]}\n")
	p.Algorithms = append(p.Algorithms, keys.Ed25519)
	forgery := make([]byte, ed25519.SignatureSize)
	forgery[0] = 1
	forged := 0
	for _, text := range policy.SmallOrders {
		y, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, sign := range []byte{0, 0x80} {
			key := ed25519.PublicKey(bytes.Clone(y))
			key[31] |= sign
			for i := range byte(200) {
				if ed25519.Verify(key, []byte{i}, forgery) {
					forged++
					break
				}
			}
			blame(t, policy.CheckKeyShape(p, key), "csr")
		}
	}
	if forged < 8 {
		t.Errorf("%d keys could be forged for: these are not the points", forged)
	}
	good, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	blame(t, policy.CheckKeyShape(p, good), "")
}

func TestBrokenRSAKeysAreRefused(t *testing.T) {
	prime := func(bits int) *big.Int {
		p, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	next := func(n *big.Int) *big.Int { // the next prime
		for n = new(big.Int).Add(n, big.NewInt(2)); !n.ProbablyPrime(20); n.Add(n, big.NewInt(2)) {
		}
		return n
	}
	p := prime(1024)
	roca := func() *big.Int { // primes of the broken generator: k*M + 65537^a mod M
		m := big.NewInt(1)
		for q := int64(2); q <= 701; q++ {
			if big.NewInt(q).ProbablyPrime(10) {
				m.Mul(m, big.NewInt(q))
			}
		}
		for {
			a, k := prime(62), prime(1024-m.BitLen())
			candidate := new(big.Int).Exp(big.NewInt(65537), a, m)
			if candidate.Add(candidate, k.Mul(k, m)).ProbablyPrime(20) {
				return candidate
			}
		}
	}
	tests := []struct {
		name, says string
		n          *big.Int
	}{
		{"close primes", "Fermat", new(big.Int).Mul(p, next(p))},
		{"a square", "Fermat", new(big.Int).Mul(p, p)},
		{"small factor", "small factor", new(big.Int).Mul(big.NewInt(7919), prime(2035))},
		{"ROCA", "ROCA", new(big.Int).Mul(roca(), roca())},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := policy.CheckKey(&rsa.PublicKey{N: test.n, E: 65537}, nil)
			blame(t, err, "csr")
			if err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("refused for another reason: %v", err)
			}
		})
	}
}

// TestPublishedKeys: the key of httptest's servers, and one that was made just now.
func TestPublishedKeys(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	err := policy.CheckKey(server.Certificate().PublicKey, nil)
	if pki.KindOf(err) != pki.KindRefused || !strings.Contains(err.Error(), "the private key is published: Go, net/http/internal/testcert") {
		t.Error(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := policy.CheckKey(key.Public(), nil); err != nil {
		t.Error(err)
	}
}

func TestWeakKeysAreListedBySPKIOrByMaterial(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	spki, err := pki.HashPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, hash := range []pki.KeyHash{spki, pki.HashKeyMaterial(key.Public())} {
		weak, err := policy.ReadWeakKeys(strings.NewReader("# keys\n\n" + hash.String() + "\tprinted in a manual\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = policy.CheckKey(key.Public(), weak)
		blame(t, err, "csr")
		if err != nil && !strings.Contains(err.Error(), "printed in a manual") {
			t.Errorf("the reason is missing: %v", err)
		}
	}
	if _, err := policy.ReadWeakKeys(strings.NewReader("# keys\nnonsense\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a bad line: %v", err)
	}
}
