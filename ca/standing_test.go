package ca_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// district is a town whose instances follow the ledger, each in its own memory.
type district struct {
	*town
	ledger    *revocation.Ledger
	universes []*revocation.Universe
	instances []*ca.Authority
}

func newDistrict(t *testing.T, s store.Store) *district {
	t.Helper()
	d := &district{town: newTown(t, s)}
	for range 2 {
		u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: d.clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.universes, d.status = append(d.universes, u), u
		d.instances = append(d.instances, d.instance(s))
	}
	var err error
	if d.ledger, err = revocation.NewLedger(revocation.LedgerConfig{Store: s, Universe: d.universes[0], Keys: s, Now: d.clock.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// change does something to a certificate of an authority. The second instance does not hear of it.
func (d *district) change(what func(*revocation.Ledger, context.Context, auth.Grant, revocation.Request) (revocation.Receipt, error), issuer ca.Issuer, der []byte, reason pki.Reason) {
	d.t.Helper()
	serial, err := pki.SerialFromBig(parse(d.t, der).SerialNumber)
	if err != nil {
		d.t.Fatal(err)
	}
	key := revocation.Key{Issuer: issuer.ID, Serial: serial}
	_, err = what(d.ledger, context.Background(), d.grant(admin, auth.ActionRevoke, ""), revocation.Request{Key: key, Reason: reason})
	if err != nil {
		d.t.Fatal(err)
	}
}

// want asks every instance for a certificate of an issuer; zero: whichever it chooses. Who is to refuse finds out by itself, when it
// records; who is to issue again has to have heard of it.
func (d *district) want(when string, issuer pki.IssuerID, refused bool) {
	d.t.Helper()
	if !refused {
		if err := d.universes[1].CatchUp(context.Background()); err != nil {
			d.t.Fatal(err)
		}
	}
	for i, a := range d.instances {
		request := server(d.t, "app.example")
		request.Issuer = issuer
		_, err := d.issue(a, request)
		_, checked := a.Check(context.Background(), d.grant(web, auth.ActionIssue, "server"), request)
		for what, err := range map[string]error{"issue": err, "check": checked} {
			e, _ := err.(*pki.Error)
			switch {
			case !refused && err != nil:
				d.t.Errorf("%s, instance %d: %s: %v", when, i, what, err)
			case refused && (e == nil || e.Kind != pki.KindFailedPrecondition || e.Field != "issuer" || e.Hint == ""):
				d.t.Errorf("%s, instance %d: %s: %v, want it refused for the issuer, with something to do", when, i, what, err)
			}
		}
	}
}

// An issuer whose certificate was revoked, or one above it, issues nothing more on any instance; what serves status goes on.
func TestARevokedIssuerIssuesNothing(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		d := newDistrict(t, s)
		reload := func() {
			t.Helper()
			for _, a := range d.instances {
				if err := a.TestingOnlyRefresh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		d.want("in force", d.issuing.ID, false)

		first := d.issuing.Certificates[0].DER
		d.change((*revocation.Ledger).Revoke, d.root, first, pki.Superseded)
		d.want("revoked", d.issuing.ID, true)
		d.want("revoked, and no other is there", pki.IssuerID{}, true)
		events, err := s.AuditEvents(t.Context(), audit.Filter{Action: "certificate.issue"}, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if last := events[len(events)-1]; last.Outcome != audit.Refused || !strings.Contains(last.Detail["error"], "superseded") {
			t.Errorf("the audit log says %+v", last)
		}
		system, err := auth.System("ocsp-delegation").Authorize(auth.ActionIssue, "ocsp-responder")
		if err != nil {
			t.Fatal(err)
		}
		responder := ca.Request{Profile: "ocsp-responder", Issuer: d.issuing.ID, CSR: csr(t, newKey(t)), Subject: ca.Subject{CommonName: "OCSP"}}
		if _, err := d.instances[1].Issue(t.Context(), system, responder); err != nil {
			t.Errorf("the responder of a revoked issuer: %v", err)
		}
		if _, _, err := d.instances[1].IssuerSigner(t.Context(), d.issuing.ID); err != nil {
			t.Errorf("the lists of a revoked issuer: %v", err)
		}
		renewed, err := d.instances[0].RenewIssuer(t.Context(), d.manage(), d.issuing.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		reload()
		d.want("certified anew", d.issuing.ID, false)

		second := renewed.Certificates[0].DER
		d.change((*revocation.Ledger).Hold, d.root, second, pki.Unspecified)
		d.want("on hold", d.issuing.ID, true)
		d.change((*revocation.Ledger).Release, d.root, second, pki.Unspecified)
		d.want("released", d.issuing.ID, false)

		// One key, two certificates: that it was compromised counts whichever of them says so.
		d.change((*revocation.Ledger).ChangeReason, d.root, first, pki.KeyCompromise)
		d.want("compromised", d.issuing.ID, true)

		successor, err := d.instances[0].CreateIssuer(t.Context(), d.manage(), newIssuer("issuing-2", "Test Issuing CA 2", d.root))
		if err != nil {
			t.Fatal(err)
		}
		reload()
		d.want("the successor, unasked", pki.IssuerID{}, false)

		// What stands above counts too: nothing below the root is certified or issued any more.
		d.change((*revocation.Ledger).Revoke, d.root, d.root.Certificates[0].DER, pki.CACompromise)
		d.want("below a revoked root", successor.ID, true)
		_, err = d.instances[1].CreateIssuer(t.Context(), d.manage(), newIssuer("issuing-3", "Test Issuing CA 3", d.root))
		wantError(t, err, pki.KindFailedPrecondition, "issuer")
	})
}

// An issuer whose key was reported as compromised issues nothing more, although its certificate is from elsewhere.
func TestAnIssuerWithABlockedKeyIssuesNothing(t *testing.T) {
	d := newDistrict(t, testdb.SQLite(t))
	key := parse(t, d.issuing.Certificates[0].DER).PublicKey
	hash, err := pki.HashPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := revocation.KeyBlock{SPKI: hash, Material: pki.HashKeyMaterial(key), Proof: revocation.ProofOfficer}
	d.status = nil // only the block will be known, and not until it is asked for
	d.instances = []*ca.Authority{d.instance(d.store)}
	if _, _, err := d.store.BlockKey(t.Context(), block, revocation.Job{ID: revocation.JobID{1}, Principal: admin}, time.Now(), 100, 0); err != nil {
		t.Fatal(err)
	}
	d.want("blocked", d.issuing.ID, true)
	if _, err := d.ChooseIssuerCertificate(t.Context(), d.manage(), d.issuing.ID, sha256.Sum256(d.issuing.Certificates[0].DER)); err != nil {
		t.Errorf("it can still be managed: %v", err)
	}
}

// Once a revocation of an issuer is acknowledged, nothing that is asked for afterwards is issued, on no instance, whenever that
// hears of it.
func TestARevocationRacesIssuance(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		d := newDistrict(t, s)
		var acknowledged atomic.Bool
		var going, all sync.WaitGroup
		for i, a := range d.instances {
			for range 3 {
				going.Add(1)
				all.Go(func() {
					for n := 0; ; n++ {
						after := acknowledged.Load()
						_, err := d.issue(a, server(t, "app.example"))
						if err != nil {
							wantError(t, err, pki.KindFailedPrecondition, "issuer")
							return
						}
						if after {
							t.Errorf("instance %d issued after the revocation was acknowledged", i)
							return
						}
						if n == 0 {
							going.Done()
						}
					}
				})
			}
		}
		going.Wait()
		d.change((*revocation.Ledger).Revoke, d.root, d.issuing.Certificates[0].DER, pki.KeyCompromise)
		acknowledged.Store(true)
		all.Wait()
	})
}
