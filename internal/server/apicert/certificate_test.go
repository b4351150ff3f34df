package apicert_test

import (
	"crypto/ecdsa"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/server/apicert"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// A certificate is renewed at half of its life, with a new key, while connections go on; before that it is left alone.
func TestRenewal(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newWorld(t, s)
		c := w.certificate(w.authority)
		if _, err := c.Get(nil); err == nil {
			t.Error("there is a certificate before one was made")
		}
		if state, _ := says(c); state != "" {
			t.Errorf("/readyz says %s of no certificate", state)
		}
		if err := c.Certify(t.Context()); err != nil {
			t.Fatal(err)
		}
		address := serve(t, c)
		before, first := w.dial(t, address, w.roots(t)), leaf(t, c)
		if life := first.NotAfter.Sub(w.now()); life < week-time.Hour || life > week {
			t.Errorf("it lives for %s", life)
		}
		if state, detail := says(c); state != "ok" || detail != "until "+first.NotAfter.UTC().Format(time.RFC3339) || w.published(t) != nil {
			t.Errorf("/readyz says %s, %s; api.pem has %v", state, detail, w.published(t))
		}

		w.later(first.NotBefore.Add(first.NotAfter.Sub(first.NotBefore)/2).Sub(w.now()) - time.Second)
		if tried := c.Look(t.Context(), time.Time{}); !tried.IsZero() || leaf(t, c) != first {
			t.Errorf("renewed at %s, before half of its life", tried)
		}
		w.later(time.Second)
		if tried := c.Look(t.Context(), w.now().Add(-59*time.Second)); leaf(t, c) != first || !tried.Before(w.now()) {
			t.Error("renewed within a minute of the last attempt")
		}
		if tried := c.Look(t.Context(), w.now().Add(-time.Minute)); !tried.Equal(w.now()) {
			t.Errorf("tried at %s", tried)
		}
		second := leaf(t, c)
		if second == first || second.PublicKey.(*ecdsa.PublicKey).Equal(first.PublicKey) || second.SerialNumber.Cmp(first.SerialNumber) == 0 {
			t.Errorf("certificate %s was not replaced by one with another key: %s", first.SerialNumber, second.SerialNumber)
		}
		echoes(t, before)
		if got := w.dial(t, address, w.roots(t)).ConnectionState().PeerCertificates[0]; !got.Equal(second) {
			t.Errorf("served is %s", got.SerialNumber)
		}
		if reports := w.reports(); len(reports) > 0 {
			t.Errorf("reported: %v", reports)
		}
	})
}

// Instances on one database each have a certificate and a key of their own.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newWorld(t, s)
		instances := []*apicert.Certificate{w.certificate(w.authority), w.certificate(w.newAuthority(t, s))}
		var certifying sync.WaitGroup
		for _, c := range instances {
			certifying.Go(func() {
				if err := c.Certify(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		certifying.Wait()
		for _, c := range instances {
			w.dial(t, serve(t, c), w.roots(t))
		}
		if one, other := leaf(t, instances[0]), leaf(t, instances[1]); one.SerialNumber.Cmp(other.SerialNumber) == 0 || one.PublicKey.(*ecdsa.PublicKey).Equal(other.PublicKey) {
			t.Error("two instances have the same certificate or key")
		}
	})
}

// While no root of client.root verifies what can be had, this machine alone is told of it, until there is something
// better.
func TestUnbelieved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdb.SQLite(t))
	other := w.create(t, ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other Root"}})
	w.trust(t, other)
	c := w.certified(t)
	local := leaf(t, c)
	if signsItself(local) || !local.Equal(w.published(t)) {
		t.Errorf("served is one of %s, and api.pem has %v", local.Issuer, w.published(t))
	}
	// Commands of other users read it.
	if info, err := os.Stat(w.settings.State().API()); err != nil || info.Mode() != 0o644 {
		t.Errorf("api.pem: %v, %v", info, err)
	}
	if state, detail := says(c); state != "warning" || !strings.Contains(detail, "only commands on this machine") || !strings.Contains(detail, "signet issuer bundle issuing --roots") {
		t.Errorf("/readyz says %s, %s", state, detail)
	}
	w.dial(t, serve(t, c), w.roots(t))
	w.later(time.Minute)
	if tried := c.Look(t.Context(), time.Time{}); !tried.IsZero() || leaf(t, c) != local {
		t.Error("replaced, though nothing better can be had")
	}
	err := c.Certify(t.Context())
	wantError(t, err, pki.KindFailedPrecondition)
	if leaf(t, c) != local || !strings.Contains(err.Error(), "has no root above issuer issuing") {
		t.Errorf("replaced before half of its life, or no word of why: %v", err)
	}
	w.later(week / 2)
	if err := c.Certify(t.Context()); err != nil || leaf(t, c) == local || !leaf(t, c).Equal(w.published(t)) {
		t.Errorf("not replaced after half of its life: %v", err)
	}
	local = leaf(t, c)
	w.trust(t, other, w.root)
	if c.Look(t.Context(), time.Time{}); leaf(t, c) == local || w.published(t) != nil {
		t.Error("not replaced by one that everybody believes, or api.pem is still there")
	}
	if state, _ := says(c); state != "ok" {
		t.Errorf("/readyz says %s", state)
	}

	// One that clients believe is kept while it lasts, and why it is not renewed is said once.
	believed := leaf(t, c)
	w.trust(t, other)
	for range 2 {
		w.later(week/2 - time.Hour)
		c.Look(t.Context(), time.Time{})
		c.Look(t.Context(), time.Time{})
		if !w.now().Before(believed.NotAfter) {
			break
		}
		if leaf(t, c) != believed {
			t.Error("one that clients believe was replaced by one that they do not")
		}
	}
	if state, detail := says(c); state != "warning" || !strings.Contains(detail, "it could not be replaced: ") || len(w.reports()) != 1 {
		t.Errorf("/readyz says %s, %s; reported: %v", state, detail, w.reports())
	}
	w.later(believed.NotAfter.Sub(w.now()))
	if c.Look(t.Context(), time.Time{}); leaf(t, c) == believed || !leaf(t, c).Equal(w.published(t)) {
		t.Error("one that has expired was not replaced")
	}
}

// If client.root cannot be read, it is unknown what clients have, and a certificate made by an issuer is served to all.
func TestUnreadableRoots(t *testing.T) {
	t.Parallel()
	for what, spoil := range map[string]func(path string) error{
		"absent":         os.Remove,
		"no certificate": func(path string) error { return os.WriteFile(path, []byte("none\n"), 0o644) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testdb.SQLite(t))
			if err := spoil(w.settings.State().Root()); err != nil {
				t.Fatal(err)
			}
			c := w.certified(t)
			w.dial(t, serve(t, c), w.roots(t))
			if state, _ := says(c); state != "ok" || w.published(t) != nil {
				t.Errorf("/readyz says %s; api.pem has %v", state, w.published(t))
			}
		})
	}
}

// While no issuer can issue, the API signs itself; what is believed is kept until it has expired.
func TestNobodyCanIssue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdb.SQLite(t))
	c := w.certified(t)
	good := leaf(t, c)
	w.set(t, ca.IssuerDisabled)
	w.later(good.NotAfter.Sub(w.now()) - time.Second)
	for range 2 { // the cause is said once
		if c.Look(t.Context(), time.Time{}); leaf(t, c) != good {
			t.Fatal("replaced before it had expired")
		}
	}
	if state, detail := says(c); state != "warning" || !strings.Contains(detail, "it could not be replaced: ") || !strings.Contains(detail, "signet issuer state LABEL active") || len(w.reports()) != 1 {
		t.Errorf("/readyz says %s, %s; reported: %v", state, detail, w.reports())
	}
	w.later(time.Second)
	c.Look(t.Context(), time.Time{})
	own := leaf(t, c)
	if !signsItself(own) || !own.Equal(w.published(t)) || own.NotAfter.Sub(w.now()) != week && own.NotAfter.Sub(w.now()).Round(time.Second) != week {
		t.Fatalf("served is one of %s until %s", own.Issuer, own.NotAfter)
	}
	w.dial(t, serve(t, c), poolOf(own))
	if state, detail := says(c); state != "warning" || !strings.Contains(detail, "it signs itself: ") || strings.Contains(detail, "could not be replaced") {
		t.Errorf("/readyz says %s, %s", state, detail)
	}
	w.later(time.Minute)
	if c.Look(t.Context(), time.Time{}); leaf(t, c) != own {
		t.Error("replaced, though nobody can issue")
	}
	w.set(t, ca.IssuerActive)
	w.trust(t, w.create(t, ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other Root"}}))
	// Better than its own, though only this machine believes it.
	if err := c.Certify(t.Context()); err != nil || signsItself(leaf(t, c)) || !leaf(t, c).Equal(w.published(t)) {
		t.Errorf("not replaced by what an issuer issued: %v", err)
	}
	w.trust(t, w.root)
	if c.Look(t.Context(), time.Time{}); signsItself(leaf(t, c)) || w.published(t) != nil {
		t.Error("not replaced once an issuer can issue, or api.pem is still there")
	}
	if state, detail := says(c); state != "ok" {
		t.Errorf("/readyz says %s, %s", state, detail)
	}
}

// With the file of another key in the place of its issuer's, or none, the API signs itself, and the issuer is left
// alone for a while.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	for what, spoil := range map[string]func(w *world) error{
		"another's": func(w *world) error {
			text, err := os.ReadFile(w.keyFile("root"))
			if err != nil {
				return err
			}
			return os.WriteFile(w.keyFile("issuing"), text, 0o600)
		},
		"absent":           func(w *world) error { return os.Remove(w.keyFile("issuing")) },
		"readable for all": func(w *world) error { return os.Chmod(w.keyFile("issuing"), 0o644) },
		"unreadable":       func(w *world) error { return os.WriteFile(w.keyFile("issuing"), []byte("no key\n"), 0o600) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := testdb.SQLite(t)
			w := newWorld(t, s)
			right, err := os.ReadFile(w.keyFile("issuing"))
			if err != nil {
				t.Fatal(err)
			}
			if err := spoil(w); err != nil {
				t.Fatal(err)
			}
			c := w.certificate(w.newAuthority(t, s))
			if err := c.Certify(t.Context()); err != nil {
				t.Fatal(err)
			}
			own := leaf(t, c)
			if !signsItself(own) || len(w.reports()) != 1 || strings.Contains(w.reports()[0].Error(), "no issuing CA is active") {
				t.Fatalf("served is one of %s; reported: %v", own.Issuer, w.reports())
			}
			w.later(time.Minute)
			if c.Look(t.Context(), time.Time{}); leaf(t, c) != own {
				t.Error("replaced, though the key is not there")
			}
			if err := os.Remove(w.keyFile("issuing")); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if err := os.WriteFile(w.keyFile("issuing"), right, 0o600); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(time.Minute); signsItself(leaf(t, c)); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("never replaced, though the key is back")
				}
				w.later(time.Minute)
				c.Look(t.Context(), time.Time{})
			}
		})
	}
}

// A certificate that this machine could not be told of is not served, and not thrown away: each would be another in the
// inventory.
func TestUnwritable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdb.SQLite(t))
	other := w.create(t, ca.NewIssuer{Label: "other", Subject: ca.Subject{CommonName: "Other Root"}})
	w.trust(t, other)
	before := w.issued(t)
	inTheWay := filepath.Join(w.settings.State().API(), "directory")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	c := w.certificate(w.authority)
	for range 3 {
		wantError(t, c.Certify(t.Context()), pki.KindUnavailable)
	}
	if _, err := c.Get(nil); err == nil {
		t.Error("served, and nobody was told")
	}
	if issued := w.issued(t) - before; issued != 1 {
		t.Errorf("%d were issued", issued)
	}
	w.trust(t, w.root) // who believes the root needs no file; that it cannot be removed is said
	wantError(t, c.Certify(t.Context()), pki.KindUnavailable)
	w.dial(t, serve(t, c), w.roots(t))
	if err := os.RemoveAll(w.settings.State().API()); err != nil {
		t.Fatal(err)
	}
	if issued := w.issued(t) - before; issued != 1 {
		t.Errorf("%d were issued", issued)
	}
}

// What Certify refuses says what to do.
func TestRefusals(t *testing.T) {
	t.Parallel()
	t.Run("names", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, testdb.SQLite(t))
		w.settings.API.Names = []string{"no name"}
		err := w.certificate(w.authority).Certify(t.Context())
		wantError(t, err, pki.KindInvalid)
		if !strings.Contains(err.Error(), "no name") {
			t.Error(err)
		}
	})
	t.Run("no issuer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, testdb.SQLite(t))
		err := w.certificate(w.newAuthority(t, testdb.Postgres(t))).Certify(t.Context())
		wantError(t, err, pki.KindFailedPrecondition)
		if !strings.Contains(pki.Explain(err), "signet init") {
			t.Error(pki.Explain(err))
		}
	})
	t.Run("an issuer that waits", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, testdb.SQLite(t))
		w.authority = w.newAuthority(t, testdb.Postgres(t))
		w.create(t, ca.NewIssuer{Label: "below", Subject: ca.Subject{CommonName: "Waiting CA"}, Offline: true})
		err := w.certificate(w.authority).Certify(t.Context())
		wantError(t, err, pki.KindFailedPrecondition)
		if !strings.Contains(pki.Explain(err), "signet init --certificate FILE") {
			t.Error(pki.Explain(err))
		}
	})
}
