package pki_test

import (
	"strings"
	"testing"

	"signet.example/signet/pki"
)

func TestNewIdentifier(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, tc := range []struct {
		name  string
		typ   pki.IdentifierType
		value string
		want  string // empty: refused
	}{
		{"plain", pki.DNS, "a.example", "a.example"},
		{"case", pki.DNS, "A.Example", "a.example"},
		{"one label", pki.DNS, "localhost", "localhost"},
		{"international", pki.DNS, "bücher.example", "xn--bcher-kva.example"},
		{"international, already encoded", pki.DNS, "xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"international, encoded in capitals", pki.DNS, "XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"sharp s stays itself", pki.DNS, "faß.example", "xn--fa-hia.example"},
		{"full-width letters", pki.DNS, "ＡＢＣ.example", "abc.example"},
		{"label that does not decode", pki.DNS, "xn--a-ecp.ru", ""},
		{"wildcard", pki.DNS, "*.a.example", "*.a.example"},
		{"wildcard, international", pki.DNS, "*.Bücher.example", "*.xn--bcher-kva.example"},
		{"wildcard inside", pki.DNS, "a.*.example", ""},
		{"wildcard, part of a label", pki.DNS, "w*.example", ""},
		{"wildcard, twice", pki.DNS, "*.*.example", ""},
		{"wildcard alone", pki.DNS, "*", ""},
		{"wildcard of nothing", pki.DNS, "*.", ""},
		{"empty", pki.DNS, "", ""},
		{"NUL", pki.DNS, "a.example\x00.evil.example", ""},
		{"space", pki.DNS, "a b.example", ""},
		{"leading space", pki.DNS, " a.example", ""},
		{"line break", pki.DNS, "a.example\n", ""},
		{"underscore", pki.DNS, "_acme.example", ""},
		{"hyphen first", pki.DNS, "-a.example", ""},
		{"hyphen last", pki.DNS, "a-.example", ""},
		{"empty label", pki.DNS, "a..example", ""},
		{"trailing dot", pki.DNS, "a.example.", ""},
		{"ideographic full stop", pki.DNS, "a。example", "a.example"},
		{"address", pki.DNS, "192.0.2.1", ""},
		{"address, IPv6", pki.DNS, "2001:db8::1", ""},
		{"address, short", pki.DNS, "192.0.2", ""},
		{"number at the end", pki.DNS, "a.1", ""},
		{"port", pki.DNS, "a.example:443", ""},
		{"slash", pki.DNS, "a.example/x", ""},
		{"longest label", pki.DNS, long + ".example", long + ".example"},
		{"label too long", pki.DNS, long + "a.example", ""},
		{"longest name", pki.DNS, strings.Repeat(long+".", 3) + strings.Repeat("a", 61), strings.Repeat(long+".", 3) + strings.Repeat("a", 61)},
		{"name too long", pki.DNS, strings.Repeat(long+".", 3) + strings.Repeat("a", 62), ""},
		{"name too long by its wildcard", pki.DNS, "*." + strings.Repeat(long+".", 3) + strings.Repeat("a", 61), ""},
		{"right to left, mixed", pki.DNS, "אa.example", ""},
		{"not UTF-8", pki.DNS, "a\xff.example", ""},

		{"IPv4", pki.IP, "192.0.2.1", "192.0.2.1"},
		{"IPv6", pki.IP, "2001:DB8:0:0::1", "2001:db8::1"},
		{"IPv4, leading zero", pki.IP, "192.0.02.1", ""},
		{"IPv4 in IPv6", pki.IP, "::ffff:192.0.2.1", ""},
		{"IPv6 with a zone", pki.IP, "fe80::1%eth0", ""},
		{"network", pki.IP, "192.0.2.0/24", ""},
		{"address with brackets", pki.IP, "[2001:db8::1]", ""},
		{"name as address", pki.IP, "a.example", ""},
		{"no address", pki.IP, "", ""},

		{"email", pki.Email, "Jane.Doe@Example.ORG", "Jane.Doe@example.org"},
		{"email, international domain", pki.Email, "jane@bücher.example", "jane@xn--bcher-kva.example"},
		{"email without domain", pki.Email, "jane@", ""},
		{"email without local part", pki.Email, "@a.example", ""},
		{"email, two signs", pki.Email, "jane@doe@a.example", ""},
		{"email, quoted", pki.Email, `"jane doe"@a.example`, ""},
		{"email, dot first", pki.Email, ".jane@a.example", ""},
		{"email, two dots", pki.Email, "ja..ne@a.example", ""},
		{"email, international local part", pki.Email, "jäne@a.example", ""},
		{"email, NUL", pki.Email, "jane\x00@a.example", ""},
		{"email, long local part", pki.Email, strings.Repeat("j", 65) + "@a.example", ""},
		{"email, wildcard", pki.Email, "jane@*.example", ""},
		{"email, address", pki.Email, "jane@192.0.2.1", ""},

		{"uri", pki.URI, "HTTPS://A.Example/Path?q", "https://a.example/Path?q"},
		{"spiffe", pki.URI, "spiffe://trust.example/billing", "spiffe://trust.example/billing"},
		{"uri, port", pki.URI, "https://a.example:8443/x", "https://a.example:8443/x"},
		{"uri, port zero", pki.URI, "https://a.example:0/x", "https://a.example:0/x"},
		{"uri, port with a zero before it", pki.URI, "https://a.example:0443/x", ""},
		{"uri, port of zeros", pki.URI, "https://a.example:00/x", ""},
		{"uri, port left empty", pki.URI, "https://a.example:/x", ""},
		{"uri, port of an address with a zero", pki.URI, "https://[2001:db8::1]:0443/x", ""},
		{"uri, underscore", pki.URI, "spiffe://a_b.example/x", "spiffe://a_b.example/x"},
		{"uri, dot of the root", pki.URI, "https://a.example./x", "https://a.example./x"},
		{"uri, empty last label", pki.URI, "https://a.example../x", ""},
		{"uri, empty label", pki.URI, "https://a..example/x", ""},
		{"uri, empty first label", pki.URI, "https://.a.example/x", ""},
		{"uri, nothing but a dot", pki.URI, "https://./x", ""},
		{"uri, international host", pki.URI, "https://ex%C3%A4mple.com/x", ""},
		{"uri, broken host", pki.URI, "https://ex%80mple.com/x", ""},
		{"uri, host in escapes", pki.URI, "https://%61.example/x", ""},
		{"uri, address in another spelling", pki.URI, "https://[2001:db8:0:0::1]/", ""},
		{"uri, address", pki.URI, "https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443/"},
		{"uri, address without port", pki.URI, "https://[2001:db8::1]/", "https://[2001:db8::1]/"},
		{"uri, mapped address", pki.URI, "https://[::ffff:10.0.0.1]/", ""},
		{"uri, mapped address in hexadecimal", pki.URI, "https://[::ffff:a00:1]/", ""},
		{"uri, relative", pki.URI, "/path", ""},
		{"uri, opaque", pki.URI, "urn:uuid:1", ""},
		{"uri, without host", pki.URI, "file:///etc/passwd", ""},
		{"uri, user", pki.URI, "https://jane:secret@a.example/", ""},
		{"uri, space", pki.URI, "https://a.example/a b", ""},
		{"uri, international", pki.URI, "https://a.example/ü", ""},
		{"uri, long", pki.URI, "https://a.example/" + strings.Repeat("a", 2048), ""},

		{"no type", 0, "a.example", ""},
		{"no such type", 9, "a.example", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := pki.NewIdentifier(tc.typ, tc.value)
			if tc.want == "" {
				if err == nil {
					t.Fatalf("%s %q became %s, want it refused", tc.typ, tc.value, id)
				}
				if len(err.Error()) > 300 || strings.ContainsAny(err.Error(), "\x00\n") {
					t.Errorf("the error carries foreign text unguarded: %q", err)
				}
				return
			}
			if err != nil || id.Value != tc.want || id.Type != tc.typ {
				t.Fatalf("%s %q = %v, %v; want %q", tc.typ, tc.value, id, err, tc.want)
			}
			if again, err := pki.ParseIdentifier(id.String()); err != nil || again != id {
				t.Errorf("%s reads back as %v, %v", id, again, err)
			}
		})
	}
}

func TestParseIdentifier(t *testing.T) {
	for in, want := range map[string]string{
		"a.example": "dns:a.example", "dns:a.example": "dns:a.example", "*.a.example": "dns:*.a.example",
		"192.0.2.1": "ip:192.0.2.1", "2001:db8::1": "ip:2001:db8::1", "ip:2001:db8::1": "ip:2001:db8::1",
		"jane@a.example": "email:jane@a.example", "https://a.example/": "uri:https://a.example/", "uri:spiffe://a.example/w": "uri:spiffe://a.example/w",
	} {
		id, err := pki.ParseIdentifier(in)
		if err != nil || id.String() != want {
			t.Errorf("ParseIdentifier(%q) = %v, %v; want %s", in, id, err, want)
		}
	}
	for _, in := range []string{"", "dns:", "tel:123", "192.0.2.1:443", "dns:192.0.2.1", "ip:a.example"} {
		if id, err := pki.ParseIdentifier(in); err == nil {
			t.Errorf("ParseIdentifier(%q) = %s, want an error", in, id)
		}
	}
	if id, _ := pki.ParseIdentifier("*.a.example"); !id.Wildcard() {
		t.Error("a wildcard is not one")
	}
}

// What is wrong with two names in one is said in words, not in code points.
func TestSeveralNamesInOne(t *testing.T) {
	for in, want := range map[string]string{
		"a.example b.example": "there is a space in it", "a.example,b.example": "there is a comma in it; give several names one by one",
	} {
		if _, err := pki.ParseIdentifier(in); err == nil || !strings.HasSuffix(err.Error(), "not a host name: "+want) {
			t.Errorf("ParseIdentifier(%q): %v, want %q", in, err, want)
		}
	}
}

func TestParseIdentifierType(t *testing.T) {
	for _, typ := range []pki.IdentifierType{pki.DNS, pki.IP, pki.Email, pki.URI} {
		if got, err := pki.ParseIdentifierType(typ.String()); err != nil || got != typ {
			t.Errorf("%s reads back as %v, %v", typ, got, err)
		}
	}
	for _, text := range []string{"", "DNS", "x"} {
		if got, err := pki.ParseIdentifierType(text); err == nil {
			t.Errorf("ParseIdentifierType(%q) = %v, want an error", text, got)
		}
	}
}

// FuzzIdentifier: whatever is accepted is canonical, so parsing what was printed changes nothing, and it is safe to
// put into a certificate, a log line and an IA5String.
func FuzzIdentifier(f *testing.F) {
	for _, seed := range []string{"a.example", "*.Bücher.example", "192.0.2.1", "::1", "Jane@A.example", "https://A.example/%zz", "xn--a", "a\x00b", "אa.example"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := pki.ParseIdentifier(text)
		if err != nil {
			return
		}
		again, err := pki.ParseIdentifier(id.String())
		if err != nil || again != id {
			t.Errorf("%q is %s, which is %s (%v)", text, id, again, err)
		}
		for _, c := range []byte(id.Value) {
			if c <= ' ' || c >= 0x7f {
				t.Errorf("%q is %q, with octet %#x", text, id.Value, c)
			}
		}
	})
}
