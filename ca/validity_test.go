package ca_test

import (
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// The validity that is asked for is had to the second, up to the end of the profile's and the issuer's, and not a second longer. That
// of the profile is cut short.
func TestValidityAtItsBounds(t *testing.T) {
	const day = 24 * time.Hour
	w := newTown(t, testdb.SQLite(t))
	w.clock.advance(300 * time.Millisecond) // clocks are not at whole seconds, certificates are
	n := newIssuer("soon", "Soon CA", w.root)
	n.Lifetime = 4 * day
	soon := w.create(n)
	end, begin := parse(t, soon.Certificates[0].DER).NotAfter, parse(t, soon.Certificates[0].DER).NotBefore
	a := w.withProfiles(t, map[string]string{
		"brief": "issuer: issuing\nmax_lifetime: 900h\n", // and the lifetime of all is 30 days
		"whole": "issuer: issuing\nmax_lifetime: 40d\n",
		"cut":   "issuer: soon\nmax_lifetime: 400d\nbackdate: 3h\n",
	})
	now := w.clock.Now().Truncate(time.Second)
	key := csr(t, newKey(t), "a.example.com")
	for what, test := range map[string]struct {
		request  ca.Request
		notAfter time.Time // zero: it is refused,
		field    string    // in this field,
		says     string    // for this reason
	}{
		"the profile's own":                   {request: ca.Request{Profile: "brief"}, notAfter: now.Add(30*day - time.Second)},
		"as long as the profile allows":       {request: ca.Request{Profile: "brief", NotAfter: now.Add(900 * time.Hour)}, notAfter: now.Add(900 * time.Hour)},
		"a second longer":                     {request: ca.Request{Profile: "brief", NotAfter: now.Add(900*time.Hour + time.Second)}, field: "not_after", says: "profile brief allows at most 900h0m0s"},
		"a lifetime that is longer":           {request: ca.Request{Profile: "whole", Lifetime: 40*day + 2*time.Second}, field: "lifetime", says: "profile whole allows at most 40 days"},
		"a second":                            {request: ca.Request{Profile: "brief", NotAfter: now.Add(time.Second)}, notAfter: now.Add(time.Second)},
		"nothing":                             {request: ca.Request{Profile: "brief", NotAfter: now}, field: "not_after", says: "before it begins"},
		"parts of a second":                   {request: ca.Request{Profile: "brief", NotAfter: now.Add(time.Hour + 700*time.Millisecond)}, notAfter: now.Add(time.Hour)},
		"the issuer's":                        {request: ca.Request{Profile: "cut", NotAfter: end}, notAfter: end},
		"a second longer than the issuer's":   {request: ca.Request{Profile: "cut", NotAfter: end.Add(time.Second)}, field: "not_after", says: "the issuer's own certificate ends"},
		"a lifetime longer than the issuer's": {request: ca.Request{Profile: "cut", Lifetime: end.Sub(now) + 2*time.Second}, field: "lifetime", says: "the issuer's own certificate ends"},
		"cut short":                           {request: ca.Request{Profile: "cut"}, notAfter: end},
	} {
		test.request.CSR = key
		issued, err := w.issue(a, test.request)
		if test.notAfter.IsZero() {
			if wantError(t, err, pki.KindRefused, test.field); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		c := parse(t, issued.DER)
		if !c.NotAfter.Equal(test.notAfter) || !issued.NotAfter.Equal(c.NotAfter) || !issued.NotBefore.Equal(c.NotBefore) {
			t.Errorf("%s: until %s, and in the books from %s to %s; want %s", what, c.NotAfter, issued.NotBefore, issued.NotAfter, test.notAfter)
		}
		if test.request.Profile == "cut" && !c.NotBefore.Equal(begin) {
			t.Errorf("%s: from %s, and the issuer's from %s", what, c.NotBefore, begin)
		}
	}

	// Both ends belong to a validity (RFC 5280, Section 4.1.2.5): in its last second the issuer still signs, and no later.
	w.clock.advance(end.Sub(w.clock.Now()))
	if issued, err := w.issue(a, ca.Request{Profile: "cut", CSR: key}); err != nil || !issued.NotAfter.Equal(end) {
		t.Errorf("in the issuer's last second: %v", err)
	}
	w.clock.advance(time.Nanosecond)
	_, err := w.issue(a, ca.Request{Profile: "cut", CSR: key})
	wantError(t, err, pki.KindFailedPrecondition, "issuer")
}
