package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

// If it is not known whether a certificate was issued, the user is left with the very request that was sent, and told
// how to send it again: a new one for the same key would be another request.
func TestIssuedOrNot(t *testing.T) {
	lost := pki.Errorf(pki.KindUnavailable, "issue certificate", "no answer")
	names, err := parseNames([]string{"app.example"})
	if err != nil {
		t.Fatal(err)
	}
	for what, outcome := range map[string]struct {
		err         error
		kept, given bool // the key and its request; the key was there before
	}{
		"no answer":                {err: lost, kept: true},
		"no answer, own key":       {err: lost, kept: true, given: true},
		"something broke":          {err: pki.Errorf(pki.KindInternal, "issue certificate", "broken"), kept: true},
		"nobody was asked":         {err: pki.Errorf(pki.KindUnavailable, "issue certificate", "%w", client.ErrNotReached)},
		"refused":                  {err: pki.Errorf(pki.KindRefused, "issue certificate", "no")},
		"refused, for the own key": {err: pki.Errorf(pki.KindRefused, "issue certificate", "no"), given: true},
	} {
		stem := filepath.Join(t.TempDir(), "app.example")
		key, err := keyFlags{KeyAlgorithm: "ecdsa-p256"}.open(stem + ".key")
		if err != nil {
			t.Fatal(err)
		}
		key.made = !outcome.given
		request := client.IssueRequest{RequestID: "id-1"}
		if request.CSR, err = key.request("", names); err != nil {
			t.Fatal(err)
		}
		said := new(issueCmd).refused(outcome.err, key, stem, request)
		if !errors.Is(said, errors.Unwrap(outcome.err)) {
			t.Errorf("%s: the cause is lost: %v", what, said)
		}
		if missing(stem+".key") != (!outcome.kept && !outcome.given) {
			t.Errorf("%s: the key is missing: %t", what, missing(stem+".key"))
		}
		if missing(stem+".csr") == outcome.kept {
			t.Errorf("%s: the request is missing: %t", what, missing(stem+".csr"))
		}
		if !outcome.kept {
			continue
		}
		text, err := os.ReadFile(stem + ".csr")
		if err != nil {
			t.Fatal(err)
		}
		if block, _ := pem.Decode(text); block == nil || !bytes.Equal(block.Bytes, request.CSR) {
			t.Errorf("%s: another request was kept", what)
		}
		if hint := hintOf(said); !strings.Contains(hint, "--csr "+stem+".csr --request-id id-1") || strings.Contains(hint, "in place of --key") != outcome.given {
			t.Errorf("%s: the hint is %q", what, hint)
		}
	}
	// From standard input there is no other copy, and the first name may be taken.
	stem := filepath.Join(t.TempDir(), "piped")
	piped := &issueCmd{CSR: "-"}
	for n, der := range []string{"first", "second"} {
		hint := hintOf(piped.refused(lost, nil, stem, client.IssueRequest{CSR: []byte(der), RequestID: "team/3"}))
		_, rest, _ := strings.Cut(hint, "--csr ")
		path, rest, _ := strings.Cut(rest, " ")
		if !strings.HasPrefix(rest, "--request-id team/3 in place of --csr - ") || (path == stem+".csr") != (n == 0) || filepath.Dir(path) != filepath.Dir(stem) {
			t.Errorf("the %s from standard input: the hint is %q", der, hint)
		}
		text, err := os.ReadFile(path)
		if block, _ := pem.Decode(text); err != nil || block == nil || string(block.Bytes) != der {
			t.Errorf("the %s from standard input: %s was kept, %v", der, text, err)
		}
	}
	said := piped.refused(lost, nil, filepath.Join(stem, "no", "directory"), client.IssueRequest{RequestID: "id-4"})
	if !errors.Is(said, errors.Unwrap(lost)) || pki.KindOf(said) != pki.KindUnavailable || !strings.Contains(hintOf(said), "signet list") {
		t.Errorf("what cannot be kept: %v, %q", said, hintOf(said))
	}
	// A request that was made elsewhere is kept there; its id was drawn here, and has to be said.
	said = (&issueCmd{CSR: "own.csr"}).refused(lost, nil, "own", client.IssueRequest{RequestID: "id-2"})
	if hint := hintOf(said); !strings.Contains(hint, "--csr own.csr --request-id id-2") {
		t.Errorf("its own request: the hint is %q", hint)
	}
}
