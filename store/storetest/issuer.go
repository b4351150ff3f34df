package storetest

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// testIssuer holds a store to ca.IssuerStore.
func testIssuer(t *testing.T, open func(t *testing.T) store.Store) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	event := audit.Event{At: at, Actor: "system:test", Action: "issuer.create", Target: "issuer", Outcome: audit.OK}
	issuer := func(n int) ca.Issuer {
		spki := []byte{0x30, 2, 5, byte(n)}
		key := pki.HashSPKI(spki)
		return ca.Issuer{
			ID: key.Issuer(), Label: fmt.Sprintf("issuer-%d", n), KeyURI: "softkey:x", Subject: []byte{0x30, 1, byte(n)}, SPKI: spki, KeyHash: key,
			Visibility: ca.Public, State: ca.IssuerPending, BaseURL: "http://pki.example", CSR: []byte{1, 2, 3}, CreatedAt: at.Add(time.Duration(n) * time.Second),
		}
	}
	certificate := func(n int, chosen bool) ca.IssuerCertificate {
		return ca.IssuerCertificate{DER: []byte{0x30, 2, 7, byte(n)}, Chain: [][]byte{{0x30, 1, 1}, {0x30, 2, 1, 2}}, NotAfter: at.Add(time.Hour), Chosen: chosen, AddedAt: at.Add(time.Duration(n) * time.Minute)}
	}
	create := func(t *testing.T, s store.Store, i ca.Issuer) {
		t.Helper()
		if err := s.CreateIssuer(t.Context(), i, event); err != nil {
			t.Fatal(err)
		}
	}
	all := func(t *testing.T, s store.Store) []ca.Issuer {
		t.Helper()
		issuers, err := s.Issuers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return issuers
	}
	wantKind := func(t *testing.T, err error, kind pki.Kind, field string) {
		t.Helper()
		e, ok := err.(*pki.Error)
		if !ok || e.Kind != kind || e.Field != field {
			t.Errorf("got %v, want %s in field %q", err, kind, field)
		}
	}
	events := func(t *testing.T, s store.Store) uint64 {
		t.Helper()
		head, err := s.AuditHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return head.Seq
	}

	t.Run("keeps every field, in order of creation", func(t *testing.T) {
		s := open(t)
		create(t, s, issuer(2))
		first := issuer(1)
		first.Succeeds = issuer(2).ID
		create(t, s, first)
		found := all(t, s)
		if len(found) != 2 || found[0].Label != "issuer-1" {
			t.Fatalf("found %+v", found)
		}
		for i, want := range []ca.Issuer{first, issuer(2)} {
			if got, want := fmt.Sprintf("%+v", found[i]), fmt.Sprintf("%+v", want); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
		if n := events(t, s); n != 2 {
			t.Errorf("%d audit events, want 2", n)
		}
	})

	t.Run("one label, one name, one key", func(t *testing.T) {
		s := open(t)
		create(t, s, issuer(1))
		same := issuer(2)
		same.Label = "issuer-1"
		wantKind(t, s.CreateIssuer(t.Context(), same, event), pki.KindConflict, "label")
		same = issuer(2)
		same.Subject = issuer(1).Subject
		wantKind(t, s.CreateIssuer(t.Context(), same, event), pki.KindConflict, "subject")
		same = issuer(1)
		same.Label, same.Subject = "other", []byte{9}
		wantKind(t, s.CreateIssuer(t.Context(), same, event), pki.KindConflict, "key")
		if n := events(t, s); len(all(t, s)) != 1 || n != 1 {
			t.Errorf("a refusal left something behind: %d events", n)
		}
	})

	t.Run("certificates: the first is chosen, a chosen one takes its place", func(t *testing.T) {
		s := open(t)
		create(t, s, issuer(1))
		id := issuer(1).ID
		add := func(c ca.IssuerCertificate) {
			t.Helper()
			if err := s.AddIssuerCertificate(t.Context(), id, c, event); err != nil {
				t.Fatal(err)
			}
		}
		wantKind(t, s.SetIssuerState(t.Context(), id, ca.IssuerActive, event), pki.KindFailedPrecondition, "state")
		add(certificate(1, false))
		found := all(t, s)[0]
		if found.State != ca.IssuerActive || found.CSR != nil || len(found.Certificates) != 1 || !found.Certificates[0].Chosen {
			t.Fatalf("after the first: %+v", found)
		}
		if got, want := fmt.Sprintf("%+v", found.Certificates[0]), fmt.Sprintf("%+v", certificate(1, true)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		add(certificate(2, false))
		add(certificate(3, true))
		add(certificate(3, false)) // a repetition takes nothing back
		if n := events(t, s); n != 5 {
			t.Errorf("%d audit events, want one for the issuer and one for each certificate that was added", n)
		}
		var order []byte
		for _, c := range all(t, s)[0].Certificates {
			order = append(order, c.DER[3])
			if c.Chosen != (c.DER[3] == 3) {
				t.Errorf("certificate %d: chosen is %v", c.DER[3], c.Chosen)
			}
		}
		if !bytes.Equal(order, []byte{3, 2, 1}) {
			t.Errorf("order %v: want the chosen one first, then the newest", order)
		}
		wantKind(t, s.AddIssuerCertificate(t.Context(), pki.IssuerID{9}, certificate(4, true), event), pki.KindNotFound, "issuer")

		if err := s.SetIssuerState(t.Context(), id, ca.IssuerDisabled, event); err != nil {
			t.Fatal(err)
		}
		longer := certificate(1, false)
		longer.Chain = longer.Chain[:1]
		add(longer)
		if found = all(t, s)[0]; found.State != ca.IssuerDisabled || len(found.Certificates) != 3 || len(found.Certificates[2].Chain) != 1 {
			t.Errorf("a certificate that comes again with another chain, for an issuer that is disabled: %+v", found)
		}
	})

	t.Run("another base URL", func(t *testing.T) {
		s := open(t)
		create(t, s, issuer(1))
		if err := s.UpdateIssuer(t.Context(), issuer(1).ID, ca.IssuerChange{BaseURL: new("http://new.example")}, event); err != nil {
			t.Fatal(err)
		}
		if got := all(t, s)[0].BaseURL; got != "http://new.example" || events(t, s) != 2 {
			t.Errorf("base URL %q after %d events", got, events(t, s))
		}
		wantKind(t, s.UpdateIssuer(t.Context(), pki.IssuerID{9}, ca.IssuerChange{BaseURL: new("http://new.example")}, event), pki.KindNotFound, "issuer")
	})

	t.Run("another succession, and never a circle", func(t *testing.T) {
		s := open(t)
		nobody := pki.IssuerID{}
		for n := range 4 {
			create(t, s, issuer(n))
		}
		succeed := func(n int, before pki.IssuerID) error {
			return s.UpdateIssuer(t.Context(), issuer(n).ID, ca.IssuerChange{Succeeds: &before}, event)
		}
		for n, before := range map[int]pki.IssuerID{1: issuer(2).ID, 2: issuer(0).ID, 0: issuer(3).ID} { // whoever was made first
			if err := succeed(n, before); err != nil {
				t.Fatal(err)
			}
		}
		seq := events(t, s)
		for _, before := range []int{0, 1, 2, 3} {
			wantKind(t, succeed(3, issuer(before).ID), pki.KindInvalid, "succeeds")
		}
		if events(t, s) != seq {
			t.Error("a refusal is in the audit log as a change")
		}
		if err := s.UpdateIssuer(t.Context(), issuer(1).ID, ca.IssuerChange{BaseURL: new("http://new.example")}, event); err != nil {
			t.Fatal(err)
		}
		if found := all(t, s); found[1].Succeeds != issuer(2).ID || found[2].Succeeds != issuer(0).ID || found[0].Succeeds != issuer(3).ID || found[3].Succeeds != nobody {
			t.Errorf("found %+v", found)
		}
		if err := succeed(2, nobody); err != nil {
			t.Fatal(err)
		}
		if err := succeed(3, issuer(1).ID); err != nil { // the circle is open
			t.Fatal(err)
		}
		if found := all(t, s); found[2].Succeeds != nobody || found[2].BaseURL != issuer(2).BaseURL || found[3].Succeeds != issuer(1).ID {
			t.Errorf("found %+v", found)
		}
	})

	t.Run("one that waits for its certificate is deleted, for good", func(t *testing.T) {
		s := open(t)
		for n := range 3 {
			create(t, s, issuer(n))
		}
		if err := s.AddIssuerCertificate(t.Context(), issuer(0).ID, certificate(1, true), event); err != nil {
			t.Fatal(err)
		}
		if err := s.UpdateIssuer(t.Context(), issuer(0).ID, ca.IssuerChange{Succeeds: new(issuer(1).ID)}, event); err != nil {
			t.Fatal(err)
		}
		foreign := issuer(3)
		foreign.Foreign = true
		create(t, s, foreign)
		seq := events(t, s)
		for _, n := range []int{0, 1, 3} { // it has a certificate; it is succeeded; it is being adopted
			wantKind(t, s.DeleteIssuer(t.Context(), issuer(n).ID, event), pki.KindFailedPrecondition, "issuer")
		}
		wantKind(t, s.DeleteIssuer(t.Context(), pki.IssuerID{9}, event), pki.KindNotFound, "issuer")
		if events(t, s) != seq {
			t.Error("a refusal is in the audit log as a deletion")
		}
		if err := s.DeleteIssuer(t.Context(), issuer(2).ID, event); err != nil {
			t.Fatal(err)
		}
		if found := all(t, s); len(found) != 3 || found[2].ID == issuer(2).ID || events(t, s) != seq+1 {
			t.Errorf("found %+v", found)
		}

		wantKind(t, s.CreateIssuer(t.Context(), issuer(2), event), pki.KindConflict, "key")
		again := issuer(4) // with another key
		again.Label, again.Subject = issuer(2).Label, issuer(2).Subject
		create(t, s, again)
		brought := issuer(2) // with its certificate
		brought.Label, brought.Subject, brought.Foreign = "brought", []byte{9}, true
		create(t, s, brought)
	})

	t.Run("one that began to issue, or whose key was certified, is not deleted", func(t *testing.T) {
		b := newBooks(t, open(t))
		reserved := b.reserve(1, 16, time.Minute)
		wantKind(t, b.s.DeleteIssuer(t.Context(), b.key.Issuer(), event), pki.KindFailedPrecondition, "issuer")

		create(t, b.s, issuer(2))
		certified := b.entry(reserved, 0)
		certified.KeyHash = issuer(2).KeyHash
		b.record(1, certified)
		wantKind(t, b.s.DeleteIssuer(t.Context(), issuer(2).ID, event), pki.KindFailedPrecondition, "issuer")
	})

	t.Run("retired is for ever", func(t *testing.T) {
		s := open(t)
		create(t, s, issuer(1))
		id := issuer(1).ID
		if err := s.AddIssuerCertificate(t.Context(), id, certificate(1, true), event); err != nil {
			t.Fatal(err)
		}
		before := events(t, s)
		for _, state := range []ca.IssuerState{ca.IssuerDisabled, ca.IssuerDisabled, ca.IssuerActive, ca.IssuerRetired} {
			if err := s.SetIssuerState(t.Context(), id, state, event); err != nil {
				t.Fatal(err)
			}
		}
		if n := events(t, s) - before; n != 3 {
			t.Errorf("%d events for three changes and one repetition", n)
		}
		wantKind(t, s.SetIssuerState(t.Context(), id, ca.IssuerActive, event), pki.KindFailedPrecondition, "state")
		wantKind(t, s.SetIssuerState(t.Context(), pki.IssuerID{9}, ca.IssuerActive, event), pki.KindNotFound, "issuer")
	})

	t.Run("retention only grows", func(t *testing.T) {
		b := newBooks(t, open(t))
		raise := func(keep time.Duration) pki.Retention {
			t.Helper()
			event := audit.Event{At: b.at, Actor: "token:web", Action: "issuer.retain", Target: "issuer", Outcome: audit.OK}
			if err := b.s.RaiseRetention(t.Context(), b.key.Issuer(), keep, event); err != nil {
				t.Fatal(err)
			}
			issuers, err := b.s.Issuers(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			keys, err := b.s.IssuerKeys(t.Context())
			if err != nil || keys[0].Retention != issuers[0].Retention {
				t.Fatalf("%+v and %+v, %v", keys[0].Retention, issuers[0].Retention, err)
			}
			return issuers[0].Retention
		}
		hour := raise(time.Hour)
		if age := time.Since(hour.Since); hour.Keep != time.Hour || age < -time.Minute || age > time.Minute {
			t.Errorf("%+v, want it to begin now", hour)
		}
		if again := raise(time.Minute); again != hour {
			t.Errorf("%+v after a shorter one, want %+v", again, hour)
		}
		if day := raise(24 * time.Hour); day.Keep != 24*time.Hour || !day.Since.Equal(hour.Since) {
			t.Errorf("%+v, want what the hour had promised and no more", day)
		}
		if head, err := b.s.AuditHead(t.Context()); err != nil || head.Seq != 3 {
			t.Errorf("%d audit events, want one for the issuer and two for the raises: %v", head.Seq, err)
		}
		if err := b.s.RaiseRetention(t.Context(), pki.IssuerID{1}, time.Hour, audit.Event{Actor: "a", Outcome: audit.OK}); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("an issuer that is not there: %v", err)
		}
	})
}
