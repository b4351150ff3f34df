package approval_test

import (
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func (o *office) disable(name string) {
	o.t.Helper()
	if _, err := o.store.DisableCredential(o.t.Context(), name, time.Now(), audit.Event{Actor: "token:admin", Action: "credential.disable", Outcome: audit.OK}); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) state(id ca.ApprovalID) approval.State {
	o.t.Helper()
	a, err := o.store.Application(o.t.Context(), id)
	if err != nil {
		o.t.Fatal(err)
	}
	return a.State
}

// What was filed with a credential that is disabled by now is neither approved nor, if it was approved before, issued; on no
// instance. It can be denied.
func TestTheCredentialWasDisabled(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s)
		_, second := o.instance(s)
		r := request(t, "a.example.com")
		r.RequestID = "order-1"
		pending, approved := o.ask(r), o.ask(request(t, "b.example.com"))
		o.decide(approved.ID, -time.Second) // by an instance that died before it issued
		o.disable("web")
		for _, d := range []*approval.Desk{o.Desk, second} {
			_, err := d.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), pending.ID, "")
			wantKind(t, "approved", err, pki.KindFailedPrecondition, "requester")
			if err := d.IssueClaimed(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if o.state(pending.ID) != approval.Pending || o.state(approved.ID) != approval.Refused || o.certificates() != 0 {
			t.Errorf("they are %s and %s, with %d certificates", o.state(pending.ID), o.state(approved.ID), o.certificates())
		}
		want := []string{"request.approve ok token:boss", "request.decide refused token:boss", "request.refuse ok system:approval", "request.decide refused token:boss"}
		if got := o.actions(); !slices.Equal(got[len(got)-4:], want) {
			t.Errorf("the audit log says %q, want %q", got, want)
		}
		if _, err := second.Deny(t.Context(), grantOf(t, boss, auth.ActionApprove), pending.ID, "they left"); err != nil {
			t.Error(err)
		}
	})
}

// A credential that ran out was good for what was asked with it; one that never was is not, nor whoever proved nothing.
func TestTheCredentialRanOut(t *testing.T) {
	o := newOffice(t, testdb.SQLite(t))
	short := auth.Credential{Name: "short", Kind: auth.KindToken, Role: auth.RoleRequester, Account: "short", Digest: auth.Digest{2}, ExpiresAt: time.Now().Add(-time.Second)}
	if err := o.store.CreateCredential(t.Context(), short, audit.Event{Actor: "token:admin", Action: "credential.create", Outcome: audit.OK}); err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]pki.Kind{"token:short": 0, "certificate:nobody": pki.KindFailedPrecondition, "renewal:": pki.KindFailedPrecondition, "visitor:short": pki.KindFailedPrecondition, "system:schedule": 0} {
		p := auth.Principal{ID: name, Account: "short", Role: auth.RoleRequester}
		answer, err := o.Desk.Issue(t.Context(), issueGrant(t, p), request(t, "a.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), answer.Filed.ID, "")
		if kind == 0 && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if kind != 0 {
			wantKind(t, name, err, kind, "requester")
		}
	}
}

// Whoever has the key of an issuer makes client certificates with serials that are in force. Once that issuer does not stand, what was
// filed with one is neither approved nor issued, not even by an instance that has not heard of it.
func TestTheIssuerOfTheCertificateDoesNotStand(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s, func(c *approval.Config) { c.Claim, c.Pause = time.Nanosecond, time.Nanosecond })
		elsewhere, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s})
		if err != nil {
			t.Fatal(err)
		}
		if err := elsewhere.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		ledger, err := revocation.NewLedger(revocation.LedgerConfig{Store: s, Universe: elsewhere, Keys: s})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := ledger.Close(); err != nil {
				t.Error(err)
			}
		})
		issuers, err := s.Issuers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		root, issuing := issuers[0], issuers[1]
		beside, err := o.CreateIssuer(t.Context(), grantOf(t, admin, auth.ActionManage), ca.NewIssuer{Label: "beside", Subject: ca.Subject{CommonName: "beside"}, BaseURL: "http://pki.test", Parent: root.ID})
		if err != nil {
			t.Fatal(err)
		}
		r := request(t, "a.example.com")
		r.Issuer = beside.ID
		answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), o.ask(r).ID, "")
		if err != nil || answer.Issued == nil {
			t.Fatalf("%+v, %v", answer, err)
		}
		serial := answer.Issued.Serial.String() // in force below beside; below issuing it need not even exist
		ask := func(by pki.IssuerID) ca.ApprovalID {
			t.Helper()
			p := auth.Principal{ID: "certificate:chief", Account: "chief", Role: auth.RoleRequester, Certificate: by.String() + "/" + serial}
			r := request(t, "b.example.com")
			r.Issuer = beside.ID
			answer, err := o.Desk.Issue(t.Context(), issueGrant(t, p), r)
			if err != nil || answer.Filed == nil {
				t.Fatalf("%+v, %v: want it filed", answer, err)
			}
			return answer.Filed.ID
		}
		forged, died, sound := ask(issuing.ID), ask(issuing.ID), ask(beside.ID)
		o.decide(died, -time.Second) // by an instance that died before it issued
		certificate, err := x509.ParseCertificate(issuing.Certificates[0].DER)
		if err != nil {
			t.Fatal(err)
		}
		own, err := pki.SerialFromBig(certificate.SerialNumber)
		if err != nil {
			t.Fatal(err)
		}
		revoke, err := admin.Authorize(auth.ActionRevoke, "")
		if err != nil {
			t.Fatal(err)
		}
		authority := revocation.Key{Issuer: root.ID, Serial: own}
		if _, err := ledger.Hold(t.Context(), revoke, revocation.Request{Key: authority}); err != nil {
			t.Fatal(err)
		}
		if err := o.IssueClaimed(t.Context()); !errors.Is(err, ca.ErrOnHold) || o.state(died) != approval.Approved {
			t.Errorf("its issuer is on hold: %s, %v", o.state(died), err)
		}
		if _, err := ledger.Revoke(t.Context(), revoke, revocation.Request{Key: authority, Reason: pki.CACompromise}); err != nil {
			t.Fatal(err)
		}
		_, err = o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), forged, "")
		wantKind(t, "its issuer is revoked", err, pki.KindFailedPrecondition, "requester")
		if err := o.IssueClaimed(t.Context()); err != nil {
			t.Error(err)
		}
		if o.state(forged) != approval.Pending || o.state(died) != approval.Refused {
			t.Errorf("they are %s and %s", o.state(forged), o.state(died))
		}
		if answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), sound, ""); err != nil || answer.Issued == nil {
			t.Errorf("another's: %+v, %v", answer, err)
		}
	})
}

// What was filed with a client certificate, or as the renewal of a certificate, waits for its approval as every request does. What its
// requester proved is to have the key of a certificate in force: once that is revoked or on hold, on any instance, it is neither
// approved nor issued.
func TestTheCertificateWasRevoked(t *testing.T) {
	renewal := func(o *office, old *inventory.Certificate) (auth.Principal, ca.Request) {
		p := auth.Renewal(old.Issuer.String()+"/"+old.Serial.String(), old.Account, old.Profile)
		r, err := o.Renewal(o.t.Context(), grantOf(o.t, p, auth.ActionIssue), *old, request(o.t, "a.example.com").CSR, "")
		if err != nil {
			o.t.Fatal(err)
		}
		return p, r
	}
	mutual := func(o *office, old *inventory.Certificate) (auth.Principal, ca.Request) {
		return auth.Principal{ID: "certificate:chief", Account: "chief", Role: auth.RoleRequester, Certificate: old.Issuer.String() + "/" + old.Serial.String()}, request(o.t, "b.example.com")
	}
	t.Run("to be renewed", func(t *testing.T) { certificateWasRevoked(t, renewal) })
	t.Run("of a client", func(t *testing.T) { certificateWasRevoked(t, mutual) })
}

func certificateWasRevoked(t *testing.T, asking func(*office, *inventory.Certificate) (auth.Principal, ca.Request)) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s)
		ledger, err := revocation.NewLedger(revocation.LedgerConfig{Store: s, Universe: o.universe, Keys: s})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := ledger.Close(); err != nil {
				t.Error(err)
			}
		})
		first := o.ask(request(t, "a.example.com"))
		answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), first.ID, "")
		if err != nil || answer.Issued == nil {
			t.Fatalf("%+v, %v", answer, err)
		}
		old := answer.Issued.Certificate
		_, second := o.instance(s, func(c *approval.Config) { c.Claim, c.Pause = time.Nanosecond, time.Nanosecond })
		renew := func() ca.ApprovalID {
			t.Helper()
			p, r := asking(o, &old)
			answer, err := o.Desk.Issue(t.Context(), issueGrant(t, p), r)
			if err != nil || answer.Issued != nil || answer.Filed == nil {
				t.Fatalf("%+v, %v: want it filed", answer, err)
			}
			return answer.Filed.ID
		}
		change := func(what func(*revocation.Ledger) error) {
			t.Helper()
			if err := what(ledger); err != nil {
				t.Fatal(err)
			}
		}
		of := revocation.Request{Key: revocation.Key{Issuer: old.Issuer, Serial: old.Serial}, Reason: pki.Superseded}
		revoke, err := admin.Authorize(auth.ActionRevoke, "")
		if err != nil {
			t.Fatal(err)
		}

		waits, died, held, given := renew(), renew(), renew(), renew()
		o.decide(held, -time.Second) // by an instance that died before it issued
		o.decide(given, -time.Second)
		change(func(l *revocation.Ledger) error { _, err := l.Hold(t.Context(), revoke, of); return err })
		_, err = o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), waits, "")
		wantKind(t, "on hold", err, pki.KindFailedPrecondition, "requester")
		if err := second.IssueClaimed(t.Context()); !errors.Is(err, ca.ErrOnHold) || o.state(held) != approval.Approved {
			t.Errorf("approved, and on hold: %s, %v", o.state(held), err)
		}
		if a, err := o.Deny(t.Context(), grantOf(t, boss, auth.ActionApprove), given, "not worth the wait"); err != nil || a.State != approval.Denied {
			t.Errorf("approved, on hold, and denied: %+v, %v", a, err)
		}
		change(func(l *revocation.Ledger) error { _, err := l.Release(t.Context(), revoke, of); return err })
		if err := second.IssueClaimed(t.Context()); err != nil || o.state(held) != approval.Issued {
			t.Errorf("approved, and released: %s, %v", o.state(held), err)
		}
		if o.state(given) != approval.Denied {
			t.Errorf("denied, and released: %s", o.state(given))
		}
		answer, err = o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), waits, "")
		if err != nil || answer.Issued == nil || answer.Issued.Account != answer.Filed.Requester.Account || answer.Filed.Requester.Certificate == "" {
			t.Fatalf("released: %+v, %v", answer, err)
		}

		late := renew()
		o.decide(died, -time.Second) // by an instance that died before it issued
		change(func(l *revocation.Ledger) error { _, err := l.Revoke(t.Context(), revoke, of); return err })
		if err := second.IssueClaimed(t.Context()); err != nil {
			t.Error(err)
		}
		for _, d := range []*approval.Desk{o.Desk, second} {
			_, err = d.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), late, "")
			wantKind(t, "revoked", err, pki.KindFailedPrecondition, "requester")
		}
		if o.state(died) != approval.Refused || o.state(late) != approval.Pending || o.certificates() != 3 {
			t.Errorf("they are %s and %s, with %d certificates", o.state(died), o.state(late), o.certificates())
		}
	})
}

// A database that answers with an error says nothing of who may ask: what was approved is issued when it answers again.
func TestWhetherTheyMayAskCannotBeTold(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s, func(c *approval.Config) { c.Claim, c.Pause = time.Nanosecond, time.Nanosecond })
		first, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), o.ask(request(t, "a.example.com")).ID, "")
		if err != nil || first.Issued == nil {
			t.Fatalf("%+v, %v", first, err)
		}
		p := auth.Principal{ID: "certificate:chief", Account: "chief", Role: auth.RoleRequester, Certificate: first.Issued.Issuer.String() + "/" + first.Issued.Serial.String()}
		second, err := o.Desk.Issue(t.Context(), issueGrant(t, p), request(t, "b.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		o.decide(second.Filed.ID, -time.Second) // by an instance that died before it issued
		testdb.Exec(t, s, `ALTER TABLE ledger RENAME TO away`)
		if err := o.IssueClaimed(t.Context()); pki.KindOf(err) != pki.KindUnavailable || o.state(second.Filed.ID) != approval.Approved {
			t.Errorf("it is %s, %v", o.state(second.Filed.ID), err)
		}
		testdb.Exec(t, s, `ALTER TABLE away RENAME TO ledger`)
		if err := o.IssueClaimed(t.Context()); err != nil || o.state(second.Filed.ID) != approval.Issued {
			t.Errorf("it answers again: %s, %v", o.state(second.Filed.ID), err)
		}
	})
}
