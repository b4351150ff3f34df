package agent

import (
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// set stands for every combination of its values.
type set struct {
	files     []reading
	standing  []standing
	age       []age
	token     []bool
	hookFails []bool
	refused   []bool
}

func (s set) situations() []situation {
	var all []situation
	for _, files := range s.files {
		for _, standing := range s.standing {
			for _, age := range s.age {
				for _, token := range s.token {
					for _, hookFails := range s.hookFails {
						for _, refused := range s.refused {
							all = append(all, situation{files, standing, age, token, hookFails, refused})
						}
					}
				}
			}
		}
	}
	return all
}

// The test has the table of next, row by row, with every combination of what a row leaves open. Every situation belongs
// to one row. This test is internal: next is the heart of the package and has no other name outside.
func TestNext(t *testing.T) {
	no, yes, either := []bool{false}, []bool{true}, []bool{false, true}
	allFiles := []reading{unreadable, missing, ofOtherNames, inOrder}
	allStandings := []standing{unanswered, unasked, good, toBeReplaced, takenAway}
	inForce := []standing{unanswered, unasked, good}
	allAges := []age{early, due, late, expired}
	notLate, fromLate := allAges[:2], allAges[2:]

	rows := []struct {
		name string
		in   set
		want action
	}{
		{"the hook fails and a file cannot be read", set{allFiles[:2], allStandings, allAges, either, yes, either}, wait},
		{"the hook fails and there is time", set{allFiles[2:], []standing{unanswered, unasked, good, takenAway}, notLate, either, yes, either}, wait},
		{"the hook fails and it cannot be replaced", set{allFiles[2:], []standing{toBeReplaced}, notLate, no, yes, either}, wait},
		{"the hook fails, the names are others and it is revoked", set{[]reading{ofOtherNames}, []standing{toBeReplaced}, notLate, yes, yes, either}, issue},
		{"the hook fails and it is revoked", set{[]reading{inOrder}, []standing{toBeReplaced}, notLate, yes, yes, either}, replace},
		{"the hook fails and the names are others, late", set{[]reading{ofOtherNames}, allStandings, fromLate, either, yes, either}, issue},
		{"the hook fails and it was taken away, late", set{[]reading{inOrder}, []standing{takenAway}, fromLate, either, yes, either}, report},
		{"the hook fails and it is revoked, late, without a token", set{[]reading{inOrder}, []standing{toBeReplaced}, fromLate, no, yes, either}, report},
		{"the hook fails and it is revoked, late, with a token", set{[]reading{inOrder}, []standing{toBeReplaced}, fromLate, yes, yes, either}, replace},
		{"the hook fails, expired", set{[]reading{inOrder}, inForce, []age{expired}, either, yes, either}, issue},
		{"the hook fails, late", set{[]reading{inOrder}, inForce, []age{late}, either, yes, no}, renew},
		{"the hook fails, late, refused, without a token", set{[]reading{inOrder}, inForce, []age{late}, no, yes, yes}, report},
		{"the hook fails, late, refused, no answer", set{[]reading{inOrder}, []standing{unanswered}, []age{late}, yes, yes, yes}, report},
		{"the hook fails, late, refused, with a token", set{[]reading{inOrder}, []standing{unasked, good}, []age{late}, yes, yes, yes}, issue},

		{"a file cannot be read", set{[]reading{unreadable}, allStandings, allAges, either, no, either}, report},
		{"nothing is there", set{[]reading{missing}, inForce, allAges, either, no, either}, issue},
		{"the key is missing and it was taken away", set{[]reading{missing}, []standing{takenAway}, allAges, either, no, either}, report},
		{"the key is missing and it is revoked, without a token", set{[]reading{missing}, []standing{toBeReplaced}, allAges, no, no, either}, report},
		{"the key is missing and it is revoked, with a token", set{[]reading{missing}, []standing{toBeReplaced}, allAges, yes, no, either}, issue},
		{"the names are others", set{[]reading{ofOtherNames}, allStandings, allAges, either, no, either}, issue},
		{"taken away", set{[]reading{inOrder}, []standing{takenAway}, allAges, either, no, either}, report},
		{"revoked, without a token", set{[]reading{inOrder}, []standing{toBeReplaced}, allAges, no, no, either}, report},
		{"revoked, with a token", set{[]reading{inOrder}, []standing{toBeReplaced}, allAges, yes, no, either}, replace},
		{"expired", set{[]reading{inOrder}, inForce, []age{expired}, either, no, either}, issue},
		{"not due", set{[]reading{inOrder}, inForce, []age{early}, either, no, either}, nothing},
		{"due", set{[]reading{inOrder}, inForce, []age{due, late}, either, no, no}, renew},
		{"refused, without a token", set{[]reading{inOrder}, inForce, []age{due, late}, no, no, yes}, report},
		{"refused, no answer", set{[]reading{inOrder}, []standing{unanswered}, []age{due, late}, yes, no, yes}, report},
		{"refused, with a token", set{[]reading{inOrder}, []standing{unasked, good}, []age{due, late}, yes, no, yes}, issue},
	}
	seen := map[situation]string{}
	for _, row := range rows {
		for _, in := range row.in.situations() {
			if other, twice := seen[in]; twice {
				t.Errorf("%+v is of two rows: %s; %s", in, other, row.name)
			}
			seen[in] = row.name
			if got := next(in); got != row.want {
				t.Errorf("%s: %+v comes to %d, want %d", row.name, in, got, row.want)
			}
		}
	}
	if all := len(allFiles) * len(allStandings) * len(allAges) * 8; len(seen) != all {
		t.Errorf("the rows hold %d situations of %d", len(seen), all)
	}
}

// If the server refuses to renew, its word on the certificate counts more than the responder's.
func TestAfterRefusal(t *testing.T) {
	refusal := func(reason pki.Reason) error {
		return pki.Errorf(pki.KindUnauthenticated, "renew certificate", "%w", &pki.Revoked{Reason: reason, Err: errors.New("it is revoked")})
	}
	unknown := pki.Errorf(pki.KindUnauthenticated, "renew certificate", "its names are not given any more")
	for _, test := range []struct {
		err      error
		standing standing
		token    bool
		want     action
	}{
		{unknown, good, true, issue},
		{unknown, unasked, true, issue},
		{unknown, unanswered, true, report},
		{unknown, good, false, report},
		{refusal(pki.Superseded), good, true, replace},
		{refusal(pki.KeyCompromise), unanswered, true, replace},
		{refusal(pki.Superseded), good, false, report},
		{refusal(pki.CertificateHold), good, true, report},
		{refusal(pki.PrivilegeWithdrawn), unasked, true, report},
	} {
		in, said := situation{files: inOrder, standing: test.standing, age: due, token: test.token}.afterRefusal(test.err)
		if got := next(in); got != test.want || (said.Status == pki.StatusRevoked) != (test.err != unknown) {
			t.Errorf("%v, standing %d, token %t: action %d, want %d; said %s", test.err, test.standing, test.token, got, test.want, said.Status)
		}
	}
}

// The situation follows from the files and the responder's answer.
func TestSituation(t *testing.T) {
	begin := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	k := Certificate{RenewAt: 0.5}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: begin, NotAfter: begin.Add(100 * time.Hour)}
	responder, other := *leaf, *leaf
	responder.OCSPServer, other.DNSNames = []string{"http://ocsp.example"}, []string{"other.example"}
	is, revokedFor := ocsp.Result{Status: pki.StatusGood}, func(reason pki.Reason) ocsp.Result {
		return ocsp.Result{Status: pki.StatusRevoked, Reason: reason}
	}
	for _, test := range []struct {
		name string
		leaf *x509.Certificate
		err  error
		said ocsp.Result
		at   time.Duration // since it began
		want situation
	}{
		{"not there", nil, pki.Errorf(pki.KindNotFound, "read certificate", "there is no file"), ocsp.Result{}, 0, situation{files: missing}},
		{"unreadable", nil, pki.Errorf(pki.KindInvalid, "read certificate", "no certificate in PEM"), is, 0, situation{files: unreadable, standing: good}},
		{"no responder", leaf, nil, ocsp.Result{}, 0, situation{files: inOrder, standing: unasked}},
		{"no answer", &responder, nil, ocsp.Result{}, 0, situation{files: inOrder}},
		{"good", &responder, nil, is, 40 * time.Hour, situation{files: inOrder, standing: good}},
		{"other names", &other, nil, ocsp.Result{}, 0, situation{files: ofOtherNames, standing: unasked}},
		{"superseded", &responder, nil, revokedFor(pki.Superseded), 0, situation{files: inOrder, standing: toBeReplaced}},
		{"on hold", &responder, nil, revokedFor(pki.CertificateHold), 0, situation{files: inOrder, standing: takenAway}},
		{"due", leaf, nil, ocsp.Result{}, 60 * time.Hour, situation{files: inOrder, standing: unasked, age: due}},
		{"late", leaf, nil, ocsp.Result{}, 90 * time.Hour, situation{files: inOrder, standing: unasked, age: late}},
		{"expired", leaf, nil, ocsp.Result{}, 101 * time.Hour, situation{files: inOrder, standing: unasked, age: expired}},
	} {
		for _, file := range []string{"", "token"} {
			a := &Agent{config: Config{TokenFile: file}, now: func() time.Time { return begin.Add(test.at) }}
			test.want.token = file != ""
			if got := a.situation(k, &Pair{Leaf: test.leaf}, test.err, test.said); got != test.want {
				t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
			}
		}
	}
}
