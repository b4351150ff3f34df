package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/server"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

// runInstance opens and runs an instance in this process until the test ends.
func runInstance(t *testing.T, config *settings.Config, options server.Options) *server.Server {
	t.Helper()
	options.Passphrase, options.Unsafe = []byte("correct horse"), true
	instance, err := server.Open(t.Context(), config, options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- instance.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := instance.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return instance
}

// shortLists has lists live for an hour from the next start on, until what it returns is called.
func (s *site) shortLists(t *testing.T) (asUsual func()) {
	t.Helper()
	config := filepath.Join(s.dir, "signet.yaml")
	usual, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(config, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(slices.Concat(usual, []byte("\ncrl:\n  lifetime: 1h\n  interval: 10m\n")))
	return func() { t.Helper(); write(usual) }
}

// An instance without keys does not know whether the key of a retired issuer is gone or the instance with the key does
// not publish. It reports that it serves an expired list, and stays ready.
func TestRetiredAtAPublicInstance(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		asUsual := s.shortLists(t)
		p := s.start(t)
		old, err := s.api.CreateIssuer(t.Context(), client.IssuerSpec{Label: "old", Subject: client.Subject{CommonName: "old"}, Parent: s.issuerCalled(t, "root").ID,
			BaseURL: "http://" + s.addresses.Public})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is ready", s.ready)
		if _, err := s.api.SetIssuerState(t.Context(), old.ID, client.IssuerRetired); err != nil {
			t.Fatal(err)
		}
		list := `signet_crl_next_update_timestamp_seconds{list="` + old.ID.String() + `.crl"}`
		eventually(t, "its list", func() bool { next, _ := s.metric(t, list); return next > 0 })
		p.stop(t)
		asUsual()
		// The lists of the issuers in use are replaced, for 72 hours; that of the retired one has an hour left.
		if err := os.Rename(filepath.Join(s.dir, "keys/old.key"), filepath.Join(s.dir, "old.key")); err != nil {
			t.Fatal(err)
		}
		p = s.start(t)
		eventually(t, "the lists of those in use", func() bool {
			left, _ := s.until(t, `signet_crl_next_update_timestamp_seconds{list="`+s.issuerCalled(t, "issuing").ID.String()+`.crl"}`, time.Now())
			return left > 70*time.Hour
		})
		p.stop(t)

		runInstance(t, s.config(t), server.Options{Role: server.RolePublic, Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
		eventually(t, "it is ready", s.ready)
		var state, detail string
		eventually(t, "it is said that the list has ended", func() bool {
			state, detail, _ = s.readiness(t, "crl")
			return strings.Contains(detail, old.ID.String()+".crl ends at ")
		})
		if state != "warning" {
			t.Errorf("/readyz says %q, %q of the list of a retired issuer", state, detail)
		}
		if left, there := s.until(t, list, time.Now().Add(2*time.Hour)); !there || left > -3000*time.Second {
			t.Errorf("%s is %v (%t)", list, left, there)
		}
	})
}

// An issuer whose certificate has ended, and one that is retired, whose key is gone and whose list has ended, are no
// fault of an instance that starts afterwards: it gets ready, warns at most, and no metric makes an alarm of them for
// ever.
func TestIssuersThatAreOver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		asUsual := s.shortLists(t)
		p := s.start(t)
		succeed := func(before pki.IssuerID, label string, lifetime time.Duration) client.Issuer {
			t.Helper()
			i, err := s.api.CreateIssuer(t.Context(), client.IssuerSpec{Label: label, Subject: client.Subject{CommonName: label}, Parent: s.issuerCalled(t, "root").ID,
				BaseURL: "http://" + s.addresses.Public, Lifetime: lifetime, Succeeds: before})
			if err != nil {
				t.Fatal(err)
			}
			return *i
		}
		create := func(label string, lifetime time.Duration) client.Issuer {
			t.Helper()
			return succeed(pki.IssuerID{}, label, lifetime)
		}
		short, both, old := create("short", time.Hour), create("both", time.Hour), create("old", 0)
		// Both end soon after the two hours.
		asleep, replaced := create("asleep", 130*time.Minute), create("replaced", 130*time.Minute)
		succeed(replaced.ID, "successor", 0)
		for _, of := range []client.Issuer{asleep, replaced} {
			if _, err := s.api.SetIssuerState(t.Context(), of.ID, client.IssuerDisabled); err != nil {
				t.Fatal(err)
			}
		}
		for _, of := range []client.Issuer{both, old} {
			if _, err := s.api.SetIssuerState(t.Context(), of.ID, client.IssuerRetired); err != nil {
				t.Fatal(err)
			}
		}
		inUse := s.issuerCalled(t, "issuing").ID
		list := func(of pki.IssuerID) string {
			return `signet_crl_next_update_timestamp_seconds{list="` + of.String() + `.crl"}`
		}
		delegate := func(of pki.IssuerID) string {
			return `signet_ocsp_delegate_expiry_timestamp_seconds{issuer="` + of.String() + `"}`
		}
		for _, of := range []pki.IssuerID{short.ID, both.ID, old.ID} {
			eventually(t, "its list and its responder", func() bool {
				next, _ := s.metric(t, list(of))
				state, _, _ := s.readiness(t, "ocsp/"+of.String())
				return next > 0 && state == "ok"
			})
		}
		p.stop(t)
		asUsual()
		if err := os.Remove(filepath.Join(s.dir, "keys/old.key")); err != nil {
			t.Fatal(err)
		}

		log := &syncBuffer{}
		runInstance(t, s.config(t), server.Options{Log: slog.New(slog.NewTextHandler(log, nil)), Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("its log:\n%s", log)
			}
		})
		eventually(t, "it is ready", s.ready)
		eventually(t, "the lists of the others", func() bool { state, _, _ := s.readiness(t, "crl"); return state == "ok" })
		if state, detail, _ := s.readiness(t, "ocsp/"+short.ID.String()); state != "" {
			t.Errorf("/readyz has a responder of the issuer that has ended: %q, %q", state, detail)
		}
		if state, detail, _ := s.readiness(t, "issuer/short"); state != "warning" || !strings.Contains(detail, "has expired") || !strings.Contains(detail, "signet issuer state short retired") {
			t.Errorf("/readyz says %q, %q of the issuer that has ended", state, detail)
		}
		if state, detail, _ := s.readiness(t, "issuer/both"); state != "ok" {
			t.Errorf("/readyz says %q, %q of one that has ended and is retired", state, detail)
		}
		for label, want := range map[string]string{"replaced": "ok", "asleep": "warning"} {
			if state, detail, _ := s.readiness(t, "issuer/"+label); state != want {
				t.Errorf("/readyz says %q, %q of %s, which ends soon; want %s", state, detail, label, want)
			}
		}
		expiry := func(label string) string { return `signet_issuer_expiry_timestamp_seconds{issuer="` + label + `"}` }
		for label, least := range map[string]time.Duration{"asleep": time.Minute, "successor": 24 * time.Hour, "issuing": 24 * time.Hour, "root": 24 * time.Hour} {
			if left, there := s.until(t, expiry(label), time.Now().Add(2*time.Hour)); !there || left < least {
				t.Errorf("%s is %v (%t)", expiry(label), left, there)
			}
		}
		for _, name := range []string{delegate(short.ID), list(short.ID), delegate(old.ID), list(old.ID), expiry("short"), expiry("both"), expiry("old"), expiry("replaced")} {
			if value, there := s.metric(t, name); there {
				t.Errorf("%s is %v", name, value)
			}
		}
		if state, detail, _ := s.readiness(t, "ocsp/"+old.ID.String()); state != "ok" || !strings.Contains(detail, "until") {
			t.Errorf("/readyz says %q, %q of the responder of the retired issuer", state, detail)
		}
		if left, there := s.until(t, list(inUse), time.Now().Add(2*time.Hour)); !there || left < 60*time.Hour {
			t.Errorf("the list of the issuer in use has %v left", left)
		}
		if text := log.String(); strings.Contains(text, "level=ERROR") {
			t.Errorf("the log says:\n%s", text)
		}
	})
}

// An instance that starts and has no certificate of a retired issuer whose key is gone, since the last has ended or the
// responder's key is another, gets ready, raises no alarm, and tries to issue nothing: what is refused is in the audit
// log, which is never cut. One without keys warns.
func TestResponderOfARetiredIssuer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		p := s.start(t)
		old, err := s.api.CreateIssuer(t.Context(), client.IssuerSpec{Label: "old", Subject: client.Subject{CommonName: "old"}, Parent: s.issuerCalled(t, "root").ID, BaseURL: "http://" + s.addresses.Public})
		if err != nil {
			t.Fatal(err)
		}
		check := "ocsp/" + old.ID.String()
		eventually(t, "its responder", func() bool { state, _, _ := s.readiness(t, check); return state == "ok" })
		if _, err := s.api.SetIssuerState(t.Context(), old.ID, client.IssuerRetired); err != nil {
			t.Fatal(err)
		}
		p.stop(t)
		if err := errors.Join(os.Remove(filepath.Join(s.dir, "keys/old.key")), os.Remove(filepath.Join(s.dir, "keys/ocsp-responder.key"))); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			role  server.Role
			state string
		}{{server.RoleAll, "ok"}, {server.RolePublic, "warning"}} {
			t.Run(c.state, func(t *testing.T) {
				runInstance(t, s.config(t), server.Options{Role: c.role})
				eventually(t, "it is ready", s.ready)
				if state, detail, _ := s.readiness(t, check); state != c.state {
					t.Errorf("/readyz says %q, %q", state, detail)
				}
				if end, there := s.metric(t, `signet_ocsp_delegate_expiry_timestamp_seconds{issuer="`+old.ID.String()+`"}`); there != (c.role == server.RolePublic) {
					t.Errorf("its metric is %v (%t)", end, there)
				}
			})
		}
		db, err := installation.OpenDatabase(t.Context(), s.config(t), "test", true)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		events, err := db.AuditEvents(t.Context(), audit.Filter{Actor: "system:ocsp-delegation"}, 0, 1000)
		if err != nil || len(events) == 0 {
			t.Fatalf("%d events, %v", len(events), err)
		}
		for _, e := range events {
			if e.Outcome != audit.OK {
				t.Errorf("%+v", e)
			}
		}
	})
}

// An issuer is not over while one of its certificates holds, though it is not the one that is chosen: /readyz asks for
// another choice.
func TestTheChosenCertificateEnded(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	certificate := func(end time.Time) ca.IssuerCertificate {
		t.Helper()
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: end, IsCA: true, BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return ca.IssuerCertificate{DER: der, NotAfter: end}
	}
	issuer := ca.Issuer{Label: "issuing", KeyURI: "softkey:issuing", State: ca.IssuerActive, Certificates: []ca.IssuerCertificate{certificate(now.Add(time.Hour)), certificate(now.Add(3 * time.Hour))}}
	for _, c := range []struct {
		after time.Duration
		over  bool
		said  string
	}{{2 * time.Hour, false, "signet issuer choose issuing"}, {4 * time.Hour, true, "nothing it signed is valid any more"}} {
		over, said, err := server.TestingOnlyExpiry(issuer, now.Add(c.after))
		if err != nil || over != c.over || !strings.HasPrefix(said, "warning: ") || !strings.Contains(said, c.said) {
			t.Errorf("after %s: over %t, %q, %v", c.after, over, said, err)
		}
	}
}
