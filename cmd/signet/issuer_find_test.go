package main

import (
	"strings"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

func TestChooseIssuer(t *testing.T) {
	id := func(text string) pki.IssuerID {
		parsed, err := pki.ParseIssuerID(text + strings.Repeat("0", 20-len(text)))
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	issuers := []client.Issuer{
		{ID: id("abcd1"), Label: "root", Subject: "CN=Example Root CA 1,O=Example"},
		{ID: id("abcd2"), Label: "root-2", Subject: `O=Example,CN=Example\, Root CA 2`},
		{ID: id("0f00"), Label: "issuing", Subject: "CN=Example Issuing CA 1"},
	}
	for name, want := range map[string]string{
		"root": "root", "root-": "root-2", "ROOT-2": "root-2", "i": "issuing", "Example Root CA 1": "root", "example root ca 1": "root", "Example, Root CA 2": "root-2",
		"abcd1": "root", "ABCD2": "root-2", "0f00": "issuing", "example issuing": "issuing", "CN=Example Issuing CA 1": "issuing",
		"abcd": "could be root (" + id("abcd1").String() + ") and root-2", "Example": "could be", "r": "could be", "0f0": "no issuer", "": "no issuer", "x": "no issuer",
	} {
		got, err := chooseIssuer(issuers, name)
		if err != nil {
			if !strings.Contains(err.Error(), want) || hintOf(err) == "" {
				t.Errorf("%q: %v, want %s", name, err, want)
			}
			continue
		}
		for _, i := range issuers {
			if i.ID == got && i.Label != want {
				t.Errorf("%q is %s, want %s", name, i.Label, want)
			}
		}
	}
}
