package ca_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// An authority that issues no more certifies no authority either: none that it certified before, and none of another's.
func TestADisabledAuthorityCertifiesNone(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		other := w.create(newIssuer("other", "Other Root", ca.Issuer{}))
		if w.issuing.SelfSigned() || !w.root.SelfSigned() || (&ca.Issuer{}).SelfSigned() {
			t.Error("who is a root is not told from who is none")
		}
		for _, c := range []struct {
			state ca.IssuerState
			kind  pki.Kind
		}{{ca.IssuerDisabled, pki.KindFailedPrecondition}, {ca.IssuerRetired, pki.KindRefused}} {
			if _, err := w.SetIssuerState(t.Context(), w.manage(), w.root.ID, c.state); err != nil {
				t.Fatal(err)
			}
			_, err := w.RenewIssuer(t.Context(), w.manage(), w.issuing.ID, 0)
			wantError(t, err, c.kind, "issuer")
			_, err = w.CrossSign(t.Context(), w.manage(), other.ID, w.root.ID, 0)
			wantError(t, err, c.kind, "issuer")
			_, err = w.CreateIssuer(t.Context(), w.manage(), newIssuer("third", "Third", w.root))
			wantError(t, err, c.kind, "issuer")
		}
	})
}

// A root that is asked by name certifies an authority and its own responder, under whatever profile they have, and nothing else.
func TestWhatARootIsAskedForByName(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	system, err := auth.System("ocsp-delegation").Authorize(auth.ActionIssue, "ocsp-responder")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Issue(t.Context(), system, ca.Request{Profile: "ocsp-responder", Issuer: w.root.ID, CSR: csr(t, newKey(t)), Subject: ca.Subject{CommonName: "OCSP responder"}}); err != nil {
		t.Errorf("its responder: %v", err)
	}
	below := ca.Request{Profile: "sub-ca", Issuer: w.root.ID, CSR: csr(t, newKey(t)), Subject: ca.Subject{CommonName: "Below"}}
	if _, err := w.Issue(t.Context(), w.grant(admin, auth.ActionIssue, "sub-ca"), below); err != nil {
		t.Errorf("an authority: %v", err)
	}
	leaf := server(t, "a.example.com")
	leaf.Issuer = w.root.ID
	_, err = w.issue(w.Authority, leaf)
	wantError(t, err, pki.KindRefused, "issuer")
}

// Where there is one issuer only, it says itself why it does not issue.
func TestTheOnlyIssuerSaysWhy(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	w.clock.advance(11 * 365 * 24 * time.Hour)
	_, err := w.issue(w.Authority, server(t, "a.example.com"))
	if wantError(t, err, pki.KindFailedPrecondition, "issuer"); err == nil || strings.Contains(err.Error(), "no issuer could sign this") {
		t.Errorf("%v", err)
	}
}

// The bounds of what a new issuer may be.
func TestBoundsOfANewIssuer(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	for length, kind := range map[int]pki.Kind{-1: pki.KindInvalid, 0: 0, 16: 0, 17: pki.KindInvalid} {
		n := newIssuer("deep", "Deep", ca.Issuer{})
		n.PathLength, n.BaseURL = &length, "http://pki.test"
		if kind == 0 {
			n.Label, n.Subject.CommonName = fmt.Sprintf("deep-%d", length), fmt.Sprintf("Deep %d", length)
			w.create(n)
			continue
		}
		_, err := w.CreateIssuer(t.Context(), w.manage(), n)
		wantError(t, err, kind, "path_length")
	}
}

// What is begun belongs to who began it: a name that waits for its certificate under one label is not taken up under another, and an adoption not
// with another name.
func TestWhatIsBegunUnderOtherWords(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		ring := &keyring{opened: make(map[string]*keys.Key)}
		w := newTownWith(t, s, ring)
		n := newIssuer("begun", "Begun", ca.Issuer{})
		n.Offline = true
		w.create(n)
		n.Label = "other"
		_, err := w.CreateIssuer(t.Context(), w.manage(), n)
		wantError(t, err, pki.KindConflict, "subject")

		one := bring(t, w, ring, "one", nil)
		begun, err := w.BeginAdoption(t.Context(), w.manage(), ca.Adoption{Label: "one", KeyURI: one.key.URI, BaseURL: "http://pki.test", DER: one.der})
		if err != nil {
			t.Fatal(err)
		}
		template := parse(t, one.der)
		template.RawSubject, template.Subject = nil, pkix.Name{CommonName: "two"}
		two, err := x509.CreateCertificate(rand.Reader, template, template, one.key.Public(), one.key.Signer)
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.BeginAdoption(t.Context(), w.manage(), ca.Adoption{Label: "one", KeyURI: one.key.URI, BaseURL: "http://pki.test", DER: two})
		if pki.KindOf(err) != pki.KindConflict {
			t.Errorf("begun as %s, taken up as %s: %v", pki.NameText(begun.Subject), pki.NameText(got.Subject), err)
		}
	})
}

// A certificate that an issuer has already is imported without a trace.
func TestACertificateIsImportedOnce(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		renewed, err := w.RenewIssuer(t.Context(), w.manage(), w.issuing.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		before, err := s.AuditHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, has := range renewed.Certificates {
			imported, err := w.ImportIssuerCertificate(t.Context(), w.manage(), ca.IssuerImport{DER: has.DER, Chain: has.Chain})
			if err != nil || len(imported.Certificates) != 2 || string(imported.Certificates[0].DER) != string(renewed.Certificates[0].DER) {
				t.Errorf("%+v, %v", imported, err)
			}
		}
		if events, err := s.AuditEvents(t.Context(), audit.Filter{}, before.Seq, 10); err != nil || len(events) != 0 {
			t.Errorf("%+v, %v", events, err)
		}
	})
}
