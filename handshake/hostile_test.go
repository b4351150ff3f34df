package handshake_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/handshaketest"
)

// outcomeOf returns the outcome that an error of a handshake means.
func outcomeOf(t *testing.T, err error) handshaketest.Outcome {
	t.Helper()
	if err == nil {
		return handshaketest.Accepted
	}
	if _, ok := errors.AsType[*handshake.RevokedError](err); ok {
		return handshaketest.RevokedOutcome
	}
	if _, ok := errors.AsType[*handshake.StaleError](err); ok {
		return handshaketest.Stale
	}
	if _, ok := errors.AsType[*handshake.EvidenceError](err); ok {
		return handshaketest.BadEvidence
	}
	if _, ok := errors.AsType[*handshake.UnavailableError](err); ok {
		return handshaketest.Unavailable
	}
	if _, ok := errors.AsType[*handshake.UntrustedError](err); ok {
		return handshaketest.Untrusted
	}
	if _, ok := errors.AsType[*handshake.MustStapleError](err); ok {
		return handshaketest.MustStaple
	}
	if _, ok := errors.AsType[*handshake.ContradictionError](err); ok {
		return handshaketest.Contradiction
	}
	t.Errorf("an error of no type: %v", err)
	return 0
}

// attitudes are the policies, each with its outcome for a peer.
var attitudes = []struct {
	name   string
	change func(p *handshaketest.PKI, c *handshake.Config)
	want   func(handshaketest.Outcome) handshaketest.Outcome
}{
	{"hard-fail", func(p *handshaketest.PKI, c *handshake.Config) { c.Policy = handshake.HardFail }, hard},
	{"hard-fail-if-covered, covered", func(p *handshaketest.PKI, c *handshake.Config) {
		c.Policy = 0 // the default
		for _, name := range []string{"root", "int"} {
			if p.Has(name) { // a source without a status, so that only the sources of the certificate count
				c.Issuers = append(c.Issuers, handshake.Issuer{Certificate: p.Cert(name).Certificate, CRLs: []string{"/nonexistent/" + name + ".crl"}})
			}
		}
	}, hard},
	{"hard-fail-if-covered, not covered", func(p *handshaketest.PKI, c *handshake.Config) { c.Policy = handshake.HardFailIfCovered }, soft},
	{"soft-fail", func(p *handshaketest.PKI, c *handshake.Config) { c.Policy = handshake.SoftFail }, soft},
	{"report-only", func(p *handshaketest.PKI, c *handshake.Config) { c.Policy = handshake.ReportOnly }, reportOnly},
	{"soft-fail, hard for the issuer", func(p *handshaketest.PKI, c *handshake.Config) {
		c.Policy = handshake.SoftFail
		if p.Has("int") {
			c.Issuers = []handshake.Issuer{{Certificate: p.Cert("int").Certificate, Policy: handshake.HardFail}}
		}
	}, hard},
	{"hard-fail, everything overridden", func(p *handshaketest.PKI, c *handshake.Config) {
		c.Override = func(*handshake.Result) handshake.Answer { return handshake.OverrideAccept }
	}, overridden},
}

func hard(o handshaketest.Outcome) handshaketest.Outcome { return o }

func soft(o handshaketest.Outcome) handshaketest.Outcome {
	if o.Tolerated() {
		return handshaketest.Accepted
	}
	return o
}

// reportOnly lets everything pass except a chain that leads to no anchor.
func reportOnly(o handshaketest.Outcome) handshaketest.Outcome {
	if o == handshaketest.Untrusted {
		return o
	}
	return handshaketest.Accepted
}

// overridden lets everything pass except a revoked certificate, which needs an answer of its own.
func overridden(o handshaketest.Outcome) handshaketest.Outcome {
	if o == handshaketest.RevokedOutcome {
		return o
	}
	return handshaketest.Accepted
}

// patience bounds a handshake that its own budget should have ended long before.
const patience = 2 * time.Minute

// keptAway reports whether a place was not asked for its address.
func keptAway(result *handshake.Result) bool {
	for _, certificate := range result.Certificates {
		for _, e := range certificate.Evidence {
			if _, refused := errors.AsType[*fetch.AddressError](e.Err); refused {
				return true
			}
		}
	}
	return false
}

// TestHostile takes every hostile peer through every policy.
func TestHostile(t *testing.T) {
	for _, attitude := range attitudes {
		t.Run(attitude.name, func(t *testing.T) {
			for _, hostile := range handshaketest.Corpus() {
				t.Run(hostile.Name, func(t *testing.T) {
					t.Parallel()
					p := handshaketest.New(t, hostile.Drawing)
					checker := p.Checker(func(c *handshake.Config) {
						c.Budget = time.Minute // no outcome depends on how busy the machine is
						if hostile.Stalls {
							c.Budget = 100 * time.Millisecond
						}
						attitude.change(p, c)
					})
					_, address, config := hostile.Peer(p)
					dialer := &handshake.Dialer{Checker: checker, TLS: config}
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					if hostile.Turn != nil {
						conn, _, err := dialer.DialResult(ctx, "tcp", address)
						if err != nil {
							t.Fatalf("before the turn: %v", err)
						}
						conn.Close()
						hostile.Turn(p)
						p.Advance(hostile.Later)
					}
					conn, result, err := dialer.DialResult(ctx, "tcp", address)
					if hostile.Turn != nil && p.Hits("/int.crl") < 2 {
						t.Error("the list was not asked for again")
					}
					if ctx.Err() != nil {
						t.Errorf("it was kept waiting for %s", patience)
					}
					if want, got := attitude.want(hostile.Want), outcomeOf(t, err); got != want {
						t.Fatalf("outcome %d, want %d: %v", got, want, err)
					}
					if err != nil && !strings.Contains(err.Error(), "certificate \"") {
						t.Errorf("the error names no certificate: %v", err)
					}
					if hostile.Guarded && !keptAway(result) {
						t.Error("nobody says that an address is not allowed")
					}
					if err == nil {
						defer conn.Close()
						honest(t, hostile.Want, result)
					}
				})
			}
		})
	}
}

// honest checks that an acceptance states how much it is worth.
func honest(t *testing.T, want handshaketest.Outcome, result *handshake.Result) {
	t.Helper()
	if proved := result.Decision() == handshake.Accepted; proved != (want == handshaketest.Accepted) {
		t.Errorf("decision %s for a peer of outcome %d", result.Decision(), want)
	}
	if want != handshaketest.Accepted && result.Decision() != handshake.AcceptedUnproved && result.Objection() == nil {
		t.Errorf("decision %s and no objection", result.Decision())
	}
}

// TestThousandPoints: however many places a certificate names, few are asked.
func TestThousandPoints(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf noaia points=1000")
	leaf := p.Cert("leaf")
	_, _ = dial(t, p.Checker(nil), p.ClientConfig(leaf), p.Listen(p.ServerConfig(leaf, nil)))
	asked := 0
	for i := range 1000 {
		asked += p.Hits("/nothing/" + strconv.Itoa(i) + ".crl")
	}
	if asked == 0 || asked > 16 {
		t.Errorf("%d of 1000 distribution points were asked", asked)
	}
}

// TestManySigners: a peer that sends many certificates with the name of the CRL's issuer does not prevent the
// configured one from being found.
func TestManySigners(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	signer, imposter := crlSigner(t, root, root), crlSigner(t, root, leaf)
	leaf.Revoke(1)
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Signer: signer})))
	server := p.ServerConfig(leaf, nil)
	for range 100 {
		server.Certificates[0].Certificate = append(server.Certificates[0].Certificate, imposter.Raw)
	}
	checker := p.Checker(func(c *handshake.Config) {
		c.Policy, c.Issuers = handshake.SoftFail, []handshake.Issuer{{Certificate: signer.Certificate}}
	})
	if _, err := dial(t, checker, p.ClientConfig(leaf), p.Listen(server)); outcomeOf(t, err) != handshaketest.RevokedOutcome {
		t.Errorf("%v", err)
	}
}

// crlSigner makes a key that may sign CRLs in the name of root, by a certificate that another key has signed.
func crlSigner(t *testing.T, root, by *handshaketest.Cert) *handshaketest.Cert {
	t.Helper()
	parent := *root.Certificate
	parent.PublicKey = by.Key.Public()
	return signerUnder(t, root, &parent, by)
}

// crlSignerBelow makes such a key whose certificate another authority issued.
func crlSignerBelow(t *testing.T, root, issuer *handshaketest.Cert) *handshaketest.Cert {
	t.Helper()
	return signerUnder(t, root, issuer.Certificate, issuer)
}

func signerUnder(t *testing.T, root *handshaketest.Cert, parent *x509.Certificate, by *handshaketest.Cert) *handshaketest.Cert {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: root.Name}, SubjectKeyId: []byte("signer"), KeyUsage: x509.KeyUsageCRLSign,
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by.Key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &handshaketest.Cert{Certificate: certificate, Name: root.Name, Key: key}
}

// TestRebindingLeadsSomewhere: the name that moves leads to the status service first; otherwise the later refusal would
// prove nothing.
func TestRebindingLeadsSomewhere(t *testing.T) {
	for _, hostile := range handshaketest.Corpus() {
		if hostile.Slug() != "dns-rebinding" {
			continue
		}
		p := handshaketest.New(t, hostile.Drawing)
		_, address, config := hostile.Peer(p)
		if _, err := dial(t, p.Checker(nil), config, address); outcomeOf(t, err) != handshaketest.Unavailable || p.Hits("/int.crl") != 1 {
			t.Errorf("asked %d times: %v", p.Hits("/int.crl"), err)
		}
		return
	}
	t.Error("nobody rebinds")
}
