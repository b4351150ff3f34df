package handshake_test

import (
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
)

// signerIsRevoked returns a list that revokes the certificate of crlSigner, and that is older than the checker of
// revokedSigner accepts for good.
func signerIsRevoked(p *handshaketest.PKI) handshaketest.CRL {
	return handshaketest.CRL{Age: time.Hour, Only: []handshaketest.Revocation{{Serial: big.NewInt(4711), At: p.Now().Add(-2 * time.Hour), Reason: 1}}}
}

// revokedSigner returns a Checker that is configured with a list of root, which revokes a signer of CRLs, and with the
// certificate of that signer unless it is nil. Its MaxAge makes the list too old for the leaf, whose status is left to
// the list that is fetched.
func revokedSigner(t *testing.T, p *handshaketest.PKI, list []byte, signer *handshaketest.Cert) *handshake.Checker {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.crl")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return p.Checker(func(c *handshake.Config) {
		c.MaxAge = 30 * time.Minute
		c.Issuers = []handshake.Issuer{{Certificate: p.Cert("root").Certificate, CRLs: []string{path}}}
		if signer != nil {
			c.Issuers = append(c.Issuers, handshake.Issuer{Certificate: signer.Certificate})
		}
	})
}

// TestRevokedSignerAcquitsNobody: the thief of a revoked key that signs CRLs sends its certificate along and serves a
// list of his own, which counts for no certificate.
func TestRevokedSignerAcquitsNobody(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	signer := crlSigner(t, root, root)
	checker := revokedSigner(t, p, root.CRL(signerIsRevoked(p)), nil)
	leaf.Revoke(1)
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Signer: signer, Only: []handshaketest.Revocation{}})))
	server := p.ServerConfig(leaf, nil)
	server.Certificates[0].Certificate = append(server.Certificates[0].Certificate, signer.Raw)
	if _, err := dial(t, checker, p.ClientConfig(leaf), p.Listen(server)); outcomeOf(t, err) != handshaketest.Stale {
		t.Errorf("%v", err)
	}
	if _, err := dial(t, p.Checker(nil), p.ClientConfig(leaf), p.Listen(server)); err != nil {
		t.Errorf("the list does not even count for who knows nothing of the revocation: %v", err)
	}
}

// TestRevokedSignerAccusesNobody: nor does a list of the thief have a certificate refused for good.
func TestRevokedSignerAccusesNobody(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	signer := crlSigner(t, root, root)
	checker := revokedSigner(t, p, root.CRL(signerIsRevoked(p)), signer)
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{
		Signer: signer, Only: []handshaketest.Revocation{{Serial: leaf.SerialNumber, At: p.Now(), Reason: 1}},
	})))
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.Stale {
		t.Errorf("forged: %v", err)
	}
	if _, err := checker.Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err != nil {
		t.Errorf("honest afterwards: %v", err)
	}
}

// TestSignerRevokedByHisOwnList: a list says nothing about its own signer, also if it is in a file that is read for
// that question.
func TestSignerRevokedByHisOwnList(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	signer := crlSigner(t, root, root)
	spec := signerIsRevoked(p)
	spec.Signer = signer
	checker := revokedSigner(t, p, root.CRL(spec), signer)
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Signer: signer})))
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Error(err)
	}
}

// TestRevokedAboveSigner: an authority between the signer and the chain is asked about too.
//
//	root -> leaf
//	     -> sub revoked -> signer, in the name of root
func TestRevokedAboveSigner(t *testing.T) {
	for _, revoked := range []bool{false, true} {
		p := handshaketest.New(t, "root -> leaf noaia; root -> sub noaia -> unused")
		root, leaf, sub := p.Cert("root"), p.Cert("leaf"), p.Cert("sub")
		signer := crlSignerBelow(t, root, sub)
		if revoked {
			sub.Revoke(2)
		}
		path := filepath.Join(t.TempDir(), "root.crl")
		if err := os.WriteFile(path, root.CRL(handshaketest.CRL{Age: time.Hour}), 0o600); err != nil {
			t.Fatal(err)
		}
		p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Signer: signer, Only: []handshaketest.Revocation{}})))
		checker := p.Checker(func(c *handshake.Config) {
			c.MaxAge = 30 * time.Minute
			c.Issuers = []handshake.Issuer{{Certificate: root.Certificate, CRLs: []string{path}}, {Certificate: signer.Certificate}, {Certificate: sub.Certificate}}
		})
		want := map[bool]handshaketest.Outcome{false: handshaketest.Accepted, true: handshaketest.Stale}[revoked]
		if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != want {
			t.Errorf("revoked %v: %v", revoked, err)
		}
	}
}

// TestRevokedAboveSignerRemembered: an earlier answer of a responder about that authority counts as well.
func TestRevokedAboveSignerRemembered(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia; root -> sub nocdp revoked -> unused")
	root, leaf, sub := p.Cert("root"), p.Cert("leaf"), p.Cert("sub")
	signer := crlSignerBelow(t, root, sub)
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Signer: signer, Only: []handshaketest.Revocation{}})))
	checker := p.Checker(func(c *handshake.Config) {
		c.Issuers = []handshake.Issuer{{Certificate: signer.Certificate}, {Certificate: sub.Certificate}}
	})
	if _, err := checker.Check(t.Context(), p.Cert("unused").Chain(), nil); outcomeOf(t, err) != handshaketest.RevokedOutcome {
		t.Fatal(err)
	}
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.BadEvidence {
		t.Errorf("%v", err)
	}
}

// TestSignerRevokedByTheListBefore: the list held from a place says that the signer of the next list there is revoked,
// though the signer's certificate does not point there.
func TestSignerRevokedByTheListBefore(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	signer := crlSigner(t, root, root)
	checker := p.Checker(func(c *handshake.Config) { c.Issuers = []handshake.Issuer{{Certificate: signer.Certificate}} })
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(signerIsRevoked(p))))
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Fatal(err)
	}
	p.Advance(48 * time.Hour)
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{
		Signer: signer, Only: []handshaketest.Revocation{{Serial: leaf.SerialNumber, At: p.Now(), Reason: 1}},
	})))
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.Stale {
		t.Errorf("%v", err)
	}
}

// TestSignerRevokedByHisIssuer: a signer whose issuer is not in the chain is looked up in the lists configured for that
// issuer.
func TestSignerRevokedByHisIssuer(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia; root -> sub noaia -> unused")
	root, leaf, sub := p.Cert("root"), p.Cert("leaf"), p.Cert("sub")
	signer := crlSignerBelow(t, root, sub)
	path := filepath.Join(t.TempDir(), "sub.crl")
	if err := os.WriteFile(path, sub.CRL(signerIsRevoked(p)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Signer: signer, Only: []handshaketest.Revocation{}})))
	checker := p.Checker(func(c *handshake.Config) {
		c.Issuers = []handshake.Issuer{{Certificate: signer.Certificate}, {Certificate: sub.Certificate, CRLs: []string{path}}}
	})
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.BadEvidence {
		t.Errorf("%v", err)
	}
}

// TestSignerDoesNotAcquitHimself: a signer's list was taken in when the signer was not revoked, and is younger than the
// one that revokes him now, be that the authority's own or another signer's.
func TestSignerDoesNotAcquitHimself(t *testing.T) {
	for _, own := range []bool{true, false} {
		p := handshaketest.New(t, "root -> leaf noaia; root -> sub noaia -> unused")
		root, leaf, sub := p.Cert("root"), p.Cert("leaf"), p.Cert("sub")
		signer, other := crlSigner(t, root, root), crlSignerBelow(t, root, sub)
		path := filepath.Join(t.TempDir(), "root.crl")
		write := func(spec handshaketest.CRL) {
			t.Helper()
			if !own {
				spec.Signer = other
			}
			if err := os.WriteFile(path, root.CRL(spec), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(handshaketest.CRL{Age: 2 * time.Hour})
		p.Replace("/root.crl", handshaketest.Bytes(root.CRL(handshaketest.CRL{Signer: signer})))
		checker := p.Checker(func(c *handshake.Config) {
			c.MaxAge = 30 * time.Minute
			c.Issuers = []handshake.Issuer{{Certificate: root.Certificate, CRLs: []string{path}}}
			for _, beside := range []*handshaketest.Cert{signer, other, sub} {
				c.Issuers = append(c.Issuers, handshake.Issuer{Certificate: beside.Certificate})
			}
		})
		if _, err := checker.Check(t.Context(), leaf.Chain(), nil); err != nil {
			t.Fatal(err)
		}
		write(signerIsRevoked(p))
		if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.Stale {
			t.Errorf("the authority's own list %v: %v", own, err)
		}
	}
}

// TestSignersOfTheChainFirst: for lists that the chain signed, the certificates beside the chain are not looked at,
// however many there are. Looking at them would verify them, and that allocates.
func TestSignersOfTheChainFirst(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	allocated := func(beside int) float64 {
		checker := p.Checker(func(c *handshake.Config) {
			for range beside {
				c.Issuers = append(c.Issuers, handshake.Issuer{Certificate: crlSigner(t, root, leaf).Certificate})
			}
		})
		return testing.AllocsPerRun(20, func() {
			if _, err := checker.Check(t.Context(), leaf.Chain(), nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := allocated(0), allocated(50); many > few+1 {
		t.Errorf("%v allocations with nobody beside the chain, %v with fifty", few, many)
	}
}

// TestSignersDoNotAcquitEachOther: two signers do not acquit each other, if each is revoked by the list of the
// authority and good by the younger list of the other. The lists about the certificate in question are about the
// signers too, whatever they point to.
func TestSignersDoNotAcquitEachOther(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf noaia points=3")
	root, leaf := p.Cert("root"), p.Cert("leaf")
	first, second := crlSigner(t, root, root), crlSigner(t, root, root) // of one serial number, and of two keys
	serve := func(place string, spec handshaketest.CRL) {
		p.Replace("/nothing/"+place+".crl", handshaketest.Bytes(root.CRL(spec)))
	}
	serve("0", handshaketest.CRL{Age: 3 * time.Hour})
	serve("1", handshaketest.CRL{Age: time.Hour, Signer: second})
	serve("2", handshaketest.CRL{Signer: first})
	checker := p.Checker(func(c *handshake.Config) {
		c.MaxAge = 30 * time.Minute
		c.Issuers = []handshake.Issuer{{Certificate: first.Certificate}, {Certificate: second.Certificate}}
	})
	tracked(t, p, checker, leaf, leaf.TLS(nil))
	for _, place := range []string{"0", "1", "2"} {
		if p.Hits("/nothing/"+place+".crl") != 1 {
			t.Fatalf("list %s is not at hand", place)
		}
	}
	revoked := signerIsRevoked(p)
	revoked.Age = 2 * time.Hour
	serve("0", revoked)
	checker.Recheck(t.Context())
	if _, err := checker.Check(t.Context(), leaf.Chain(), nil); outcomeOf(t, err) != handshaketest.Stale {
		t.Errorf("%v", err)
	}
}
