package handshake_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/pki"
)

// TestMustStaple: a certificate that demands a staple (RFC 7633) is refused without a good one, under SoftFail too,
// because authority and server promised one. The error tells what was wrong with a staple that came.
func TestMustStaple(t *testing.T) {
	for name, test := range map[string]struct {
		arrange func(p *handshaketest.PKI, leaf *handshaketest.Cert) (staple []byte)
		want    handshaketest.Outcome
		because string
	}{
		"no staple": {func(*handshaketest.PKI, *handshaketest.Cert) []byte { return nil }, handshaketest.MustStaple, ""},
		"no staple, and the list is not to be had": {func(p *handshaketest.PKI, _ *handshaketest.Cert) []byte {
			p.Off()
			return nil
		}, handshaketest.MustStaple, ""},
		"no staple, and revoked": {func(_ *handshaketest.PKI, leaf *handshaketest.Cert) []byte {
			leaf.Revoke(1)
			return nil
		}, handshaketest.RevokedOutcome, ""},
		"a staple that does not parse": {func(*handshaketest.PKI, *handshaketest.Cert) []byte { return []byte{1} }, handshaketest.MustStaple,
			"malformed OCSP message: response does not parse"},
		"an older staple that says hold": {func(p *handshaketest.PKI, leaf *handshaketest.Cert) []byte {
			leaf.Revoke(6)
			staple := leaf.OCSP(handshaketest.OCSP{Age: time.Hour, Life: 12 * time.Hour})
			leaf.Release()
			return staple
		}, handshaketest.MustStaple, "the staple says revoked"},
		"a good staple": {func(_ *handshaketest.PKI, leaf *handshaketest.Cert) []byte { return leaf.OCSP(handshaketest.OCSP{}) }, handshaketest.Accepted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.New(t, "root -> leaf noaia muststaple; root -> other noaia")
			leaf, checker := p.Cert("leaf"), p.Checker(func(c *handshake.Config) { c.Policy = handshake.SoftFail })
			staple := test.arrange(p, leaf)
			_, _ = checker.Check(t.Context(), p.Cert("other").Chain(), nil) // brings the list, which is younger than the staple
			_, err := checker.Check(t.Context(), leaf.Chain(), staple)
			if got := outcomeOf(t, err); got != test.want {
				t.Fatalf("%v", err)
			}
			missing, _ := errors.AsType[*handshake.MustStapleError](err)
			if missing != nil && (missing.Err != nil) != (test.because != "") || test.because != "" && missing.Err.Error() != test.because {
				t.Errorf("%v, want %q", missing, test.because)
			}
		})
	}
}

// TestMustStapleOfAnAuthority: the feature of an authority is a constraint on what it issues (RFC 7633, Section 4.2.2); its own status
// cannot be stapled.
func TestMustStapleOfAnAuthority(t *testing.T) {
	p := handshaketest.New(t, "root -> int muststaple -> leaf muststaple")
	leaf := p.Cert("leaf")
	if _, err := p.Checker(nil).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err != nil {
		t.Error(err)
	}
}

// TestMustStapleTracked: a connection over a certificate that demands a staple outlives every recheck, which brings no
// staple, even if no source tells a status any more. It does not outlive a revocation.
func TestMustStapleTracked(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf muststaple")
	leaf, checker := p.Cert("leaf"), p.Checker(nil)
	conn := tracked(t, p, checker, leaf, leaf.TLS(leaf.OCSP(handshaketest.OCSP{}))).(*tls.Conn)
	p.Off()
	checker.Recheck(t.Context())
	if err := handshaketest.Echo(conn); err != nil {
		t.Fatalf("nobody tells: %v", err)
	}
	p.On()
	checker.Recheck(t.Context())
	if err := handshaketest.Echo(conn); err != nil {
		t.Fatalf("the sources say good: %v", err)
	}
	leaf.Revoke(1)
	checker.Recheck(t.Context())
	if !closedSoon(conn) {
		t.Error("the connection lives on")
	}
}

// TestMustStapleResumed: when a session is resumed, a server has the staple of the client's first connection. When that
// has ended, a list that says good suffices.
func TestMustStapleResumed(t *testing.T) {
	r := newResumption(t, tls.VersionTLS13, "server", "staple and CRL")
	for i, later := range []time.Duration{0, 2 * time.Hour} {
		r.p.Advance(later)
		if resumed, err := r.connect(t); err != nil || resumed != (i > 0) {
			t.Errorf("connection %d: resumed %v, %v", i, resumed, err)
		}
	}
	r.judged.Revoke(1)
	r.p.Advance(25 * time.Hour)
	if _, err := r.connect(t); err == nil {
		t.Error("a session was resumed though the list says revoked")
	}
}

// TestWorst: a revocation anywhere in the chain is reported before faults nearer to the leaf, and of other faults the
// one nearest to the leaf.
func TestWorst(t *testing.T) {
	for drawing, want := range map[string]struct {
		outcome handshaketest.Outcome
		name    string
	}{
		"root -> int revoked -> leaf noaia nocdp":     {handshaketest.RevokedOutcome, "int"},
		"root -> int noaia nocdp -> leaf noaia nocdp": {handshaketest.Unavailable, "leaf"},
		"root -> int noaia nocdp -> leaf revoked":     {handshaketest.RevokedOutcome, "leaf"},
	} {
		p := handshaketest.New(t, drawing)
		_, err := p.Checker(nil).Check(t.Context(), p.Cert("leaf").Chain(), nil)
		if got, named := outcomeOf(t, err), certificateOf(err); got != want.outcome || named == nil || !named.Equal(p.Cert(want.name).Certificate) {
			t.Errorf("%s: %v", drawing, err)
		}
	}
}

func certificateOf(err error) *x509.Certificate {
	if revoked, ok := errors.AsType[*handshake.RevokedError](err); ok {
		return revoked.Certificate
	}
	if unavailable, ok := errors.AsType[*handshake.UnavailableError](err); ok {
		return unavailable.Certificate
	}
	return nil
}

// TestDecisions: a fault that ReportOnly lets pass is reported before a status that is only not proved, wherever in the
// chain each is; and a certificate under another policy is refused.
func TestDecisions(t *testing.T) {
	for _, test := range []struct {
		drawing     string
		root, int   handshake.Policy // for what they issued
		want        handshake.Decision
		leaf, above pki.Status
	}{
		{"root -> int -> leaf", handshake.HardFail, handshake.HardFail, handshake.Accepted, pki.StatusGood, pki.StatusGood},
		{"root -> int -> leaf noaia nocdp", handshake.HardFail, handshake.SoftFail, handshake.AcceptedUnproved, pki.StatusUnknown, pki.StatusGood},
		{"root -> int noaia nocdp -> leaf", handshake.SoftFail, handshake.HardFail, handshake.AcceptedUnproved, pki.StatusGood, pki.StatusUnknown},
		{"root -> int noaia nocdp -> leaf revoked", handshake.SoftFail, handshake.ReportOnly, handshake.AcceptedReportOnly, pki.StatusRevoked, pki.StatusUnknown},
		{"root -> int noaia nocdp -> leaf noaia nocdp", handshake.ReportOnly, handshake.SoftFail, handshake.AcceptedReportOnly, pki.StatusUnknown, pki.StatusUnknown},
		{"root -> int noaia nocdp -> leaf", handshake.HardFail, handshake.ReportOnly, handshake.Refused, pki.StatusGood, pki.StatusUnknown},
		{"root -> int noaia nocdp -> leaf revoked", handshake.HardFail, handshake.ReportOnly, handshake.Refused, pki.StatusRevoked, pki.StatusUnknown},
	} {
		p := handshaketest.New(t, test.drawing)
		checker := p.Checker(func(c *handshake.Config) {
			c.Issuers = []handshake.Issuer{
				{Certificate: p.Cert("root").Certificate, Policy: test.root}, {Certificate: p.Cert("int").Certificate, Policy: test.int},
			}
		})
		result, err := checker.Check(t.Context(), p.Cert("leaf").Chain(), nil)
		if result.Decision() != test.want || (err == nil) != (test.want != handshake.Refused) {
			t.Errorf("%s, %s above %s: decision %s, %v", test.drawing, test.root, test.int, result.Decision(), err)
		}
		if leaf, above := result.Certificates[0].Status, result.Certificates[1].Status; leaf != test.leaf || above != test.above {
			t.Errorf("%s: the statuses are %s and %s", test.drawing, leaf, above)
		}
	}
}
