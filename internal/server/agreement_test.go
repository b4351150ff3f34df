package server_test

import (
	"errors"
	"strings"
	"testing"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/server"
	"signet.example/signet/pki"
)

// A list that differs is counted each time, and warned of until it agrees or is not served any more.
func TestAgreement(t *testing.T) {
	one, two := crlserver.List{Series: crlserver.Series{Issuer: pki.IssuerID{1}}}, crlserver.List{Series: crlserver.Series{Issuer: pki.IssuerID{2}}}
	served := func(lists ...crlserver.List) (all []crlserver.ListStatus) {
		for _, l := range lists {
			all = append(all, crlserver.ListStatus{Head: crlserver.Head{List: l}})
		}
		return all
	}
	var a server.TestingOnlyAgreement
	for _, step := range []struct {
		name  string
		do    func()
		state string
		says  string
		count uint64
	}{
		{"nothing was compared", func() {}, "ok", "", 0},
		{"one agrees", func() { a.Note(one, nil) }, "ok", "", 0},
		{"two differs", func() { a.Note(two, errors.New("two is odd")) }, "warning", "1 published lists differ from the ledger, among them two is odd", 1},
		{"two differs otherwise", func() { a.Note(two, errors.New("two is even")) }, "warning", "1 published lists differ from the ledger, among them two is even", 2},
		{"one differs too", func() { a.Note(one, errors.New("one is odd")) }, "warning", "2 published lists differ from the ledger, among them one is odd", 3},
		{"one agrees again", func() { a.Note(one, nil) }, "warning", "1 published lists differ from the ledger, among them two is even", 3},
		{"both are served", func() { a.Forget(served(one, two)) }, "warning", "two is even", 3},
		{"two is served no more", func() { a.Forget(served(one)) }, "ok", "", 3},
	} {
		step.do()
		state, detail, count := a.Check()
		if state != step.state || !strings.Contains(detail, step.says) || (step.says == "") != (detail == "") || count != step.count {
			t.Errorf("%s: %s, %q, %d; want %s, %q, %d", step.name, state, detail, count, step.state, step.says, step.count)
		}
	}
}
