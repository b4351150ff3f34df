package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

func testCredential(t *testing.T, open func(t *testing.T) store.Store) {
	at := time.Date(2026, 11, 21, 1, 2, 3, 456789000, time.UTC)
	event := func(action string) audit.Event {
		return audit.Event{At: at, Actor: "system:test", Action: action, Target: "credential", Outcome: audit.OK}
	}
	issuer, key := pki.IssuerID{1, 2}, pki.KeyHash{3, 4}
	name := pki.Identifier{Type: pki.DNS, Value: "agent.example"}
	token := auth.Credential{Name: "ci", Kind: auth.KindToken, Role: auth.RoleRequester, Account: "web", Profiles: []string{"server", "client"},
		Digest: auth.DigestToken("t"), CreatedAt: at, CreatedBy: "system:test", ExpiresAt: at.Add(time.Hour)}
	byName := auth.Credential{Name: "agent", Kind: auth.KindCertificateName, Role: auth.RoleAuditor, Account: "agent", Issuer: issuer, Identifier: name, CreatedAt: at, CreatedBy: "system:test"}
	byKey := auth.Credential{Name: "Root-admin", Kind: auth.KindCertificateKey, Role: auth.RoleAdmin, Account: "ops", Issuer: issuer, KeyHash: key, CreatedAt: at, CreatedBy: "system:test"}
	all := []auth.Credential{byKey, byName, token} // in the order of their octets

	fill := func(t *testing.T) store.Store {
		s := open(t)
		for _, c := range all {
			if err := s.CreateCredential(t.Context(), c, event("credential.create")); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	events := func(t *testing.T, s store.Store, want uint64) {
		t.Helper()
		chain, err := audit.Verify(s.AuditBatches(t.Context(), 0), audit.Chain{})
		if err != nil || chain.Seq != want {
			t.Errorf("the log verifies up to event %d (%v), want %d", chain.Seq, err, want)
		}
	}

	t.Run("reads back every field", func(t *testing.T) {
		s := fill(t)
		for _, want := range all {
			got, err := s.Credential(t.Context(), want.Name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s differs (-want +got):\n%s", want.Name, diff)
			}
		}
		got, err := s.TokenCredential(t.Context(), token.Digest)
		if err != nil || got.Name != token.Name {
			t.Errorf("by digest: %q, %v", got.Name, err)
		}
		events(t, s, 3)
	})

	t.Run("pages in the order of octets", func(t *testing.T) {
		s := fill(t)
		first, err := s.Credentials(t.Context(), "", 2)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := s.Credentials(t.Context(), first[1].Name, 2)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(all, append(first, rest...)); diff != "" {
			t.Errorf("pages differ (-want +got):\n%s", diff)
		}
	})

	t.Run("finds what a certificate is bound to", func(t *testing.T) {
		s := fill(t)
		other := pki.Identifier{Type: pki.DNS, Value: "other.example"}
		for _, test := range []struct {
			what   string
			issuer pki.IssuerID
			key    pki.KeyHash
			names  []pki.Identifier
			want   []string
		}{
			{"key and name", issuer, key, []pki.Identifier{other, name}, []string{"Root-admin", "agent"}},
			{"key", issuer, key, nil, []string{"Root-admin"}},
			{"name", issuer, pki.KeyHash{9}, []pki.Identifier{name}, []string{"agent"}},
			{"name of another type", issuer, pki.KeyHash{9}, []pki.Identifier{{Type: pki.Email, Value: name.Value}}, nil},
			{"nothing", issuer, pki.KeyHash{}, []pki.Identifier{other}, nil},
			{"another issuer", pki.IssuerID{9}, key, []pki.Identifier{name}, nil},
		} {
			found, err := s.CertificateCredentials(t.Context(), test.issuer, test.key, test.names)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range found {
				got = append(got, c.Name)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.what, diff)
			}
		}
	})

	t.Run("refuses what is there, and writes no event of it", func(t *testing.T) {
		s := fill(t)
		for what, change := range map[string]func(c *auth.Credential){
			"name":             func(c *auth.Credential) { *c = token; c.Digest = auth.DigestToken("u") },
			"digest":           func(c *auth.Credential) { *c = token; c.Name = "ci2" },
			"name binding":     func(c *auth.Credential) { *c = byName; c.Name = "agent2" },
			"key binding":      func(c *auth.Credential) { *c = byKey; c.Name = "root2" },
			"name of another":  func(c *auth.Credential) { *c = byKey; c.Name = "ci"; c.KeyHash = pki.KeyHash{8} },
			"name of disabled": func(c *auth.Credential) { *c = token; c.Digest = auth.DigestToken("v") },
		} {
			var c auth.Credential
			change(&c)
			if err := s.CreateCredential(t.Context(), c, event("credential.create")); pki.KindOf(err) != pki.KindConflict {
				t.Errorf("the same %s again: %v, want a conflict", what, err)
			}
		}
		events(t, s, 3)
	})

	t.Run("disables once and for good", func(t *testing.T) {
		s := fill(t)
		for i := range 2 {
			got, err := s.DisableCredential(t.Context(), byName.Name, at.Add(time.Duration(i)*time.Minute), event("credential.disable"))
			if err != nil {
				t.Fatal(err)
			}
			want := byName
			want.DisabledAt = at
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("disabled time %d (-want +got):\n%s", i, diff)
			}
		}
		events(t, s, 4)
		if _, err := s.DisableCredential(t.Context(), "nobody", at, event("credential.disable")); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("disabling nobody: %v, want not found", err)
		}
		events(t, s, 4)
		again := byName
		again.Name = "agent2"
		if err := s.CreateCredential(t.Context(), again, event("credential.create")); err != nil {
			t.Errorf("the certificate of a disabled credential cannot be bound again: %v", err)
		}
		if _, err := s.DisableCredential(t.Context(), byKey.Name, at, event("credential.disable")); err != nil {
			t.Fatal(err)
		}
		again = byKey
		again.Name = "root2"
		if err := s.CreateCredential(t.Context(), again, event("credential.create")); err != nil {
			t.Errorf("the key of a disabled credential cannot be bound again: %v", err)
		}
	})

	t.Run("says what is absent", func(t *testing.T) {
		s := open(t)
		if _, err := s.Credential(t.Context(), "nobody"); pki.KindOf(err) != pki.KindNotFound || err == nil {
			t.Errorf("by name: %v", err)
		}
		if _, err := s.TokenCredential(t.Context(), auth.Digest{1}); pki.KindOf(err) != pki.KindNotFound || err == nil {
			t.Errorf("by digest: %v", err)
		}
		if found, err := s.Credentials(t.Context(), "", 10); err != nil || len(found) != 0 {
			t.Errorf("all: %v, %v", found, err)
		}
	})
}
