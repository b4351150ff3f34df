package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

// A file of serial numbers is understood as a whole, or not at all.
func TestReadSerials(t *testing.T) {
	asked := map[string]int{}
	find := func(name string) (pki.IssuerID, error) {
		asked[name]++
		switch name {
		case "issuing":
			return pki.IssuerID{1}, nil
		case "other":
			return pki.IssuerID{2}, nil
		}
		return pki.IssuerID{}, pki.Errorf(pki.KindNotFound, "find issuer", "there is no issuer %q", name)
	}
	name := func(issuer, serial byte) client.CertificateName {
		return client.CertificateName{Issuer: pki.IssuerID{issuer}, Serial: pki.Serial{19: serial}}
	}
	for _, test := range []struct {
		what, text, alone string
		want              []client.CertificateName
		kind              pki.Kind // of the error, if want is nil
		says              string
	}{
		{"as people write them", "# of the incident\n\n0x01\n other/02 \r\nother/00:03\nA", "issuing", []client.CertificateName{name(1, 1), name(2, 2), name(2, 3), name(1, 10)}, 0, ""},
		{"as signet list --export csv writes them", "issuer,serial,status\nother,01,good,a/b\nissuing,02,revoked,\"CN=a, O=b\"\n", "", []client.CertificateName{name(2, 1), name(1, 2)}, 0, ""},
		{"two columns of a spreadsheet", "\ufeffissuer,serial\r\nother,01\r\n", "issuing", []client.CertificateName{name(2, 1)}, 0, ""},
		{"no issuer", "other/01\n02\n", "", nil, pki.KindInvalid, "line 2: it names no issuer"},
		{"another issuer", "\nnobody/01", "issuing", nil, pki.KindNotFound, `line 2: find issuer: there is no issuer "nobody"`},
		{"no serial number", "01\nissuing/x\n", "issuing", nil, pki.KindInvalid, "line 2: serial"},
		{"a header that is not the first line", "01\nissuer,serial\n", "issuing", nil, pki.KindInvalid, "line 2: serial"},
		{"nothing", "# none\n", "issuing", nil, pki.KindInvalid, "there are none"},
		{"too many", strings.Repeat("01\n", 50_001), "issuing", nil, pki.KindInvalid, "50001 serial numbers: a job takes 50000"},
	} {
		got, err := readSerials(test.text, test.alone, find)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.what, diff)
		}
		if (err == nil) != (test.want != nil) || err != nil && (pki.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v; want %s", test.what, err, test.says)
		}
	}
	clear(asked)
	if got, err := readSerials(strings.Repeat("01\nother/02\n", 25_000), "issuing", find); err != nil || len(got) != 50_000 || fmt.Sprint(asked) != "map[issuing:1 other:1]" {
		t.Errorf("a long list: %d, %v; asked %v", len(got), err, asked)
	}
}
