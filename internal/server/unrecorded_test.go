package server_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca"
	"signet.example/signet/ca/profile"
	"signet.example/signet/crl"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/invariant"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// stalling is the store of a process that stands still between signing and recording.
type stalling struct {
	store.Store
	signed chan []byte   // what is to be recorded
	wakes  chan struct{} // closed: the process goes on
}

func (s *stalling) Record(ctx context.Context, owner ca.OwnerID, entries []ca.Entry) ([]ca.Outcome, error) {
	for _, e := range entries {
		s.signed <- e.DER
	}
	<-s.wakes
	return s.Store.Record(context.WithoutCancel(ctx), owner, entries) // it has been asleep, and its deadline with it
}

// stalls makes a certificate with the site's own keys and database, and stands still before recording it, past a short
// lease. What comes of issuing it is heard once goOn was called.
func (s *site) stalls(t *testing.T) (leaf *x509.Certificate, db store.Store, goOn func() error) {
	t.Helper()
	config := s.config(t)
	db, err := installation.OpenDatabase(t.Context(), config, "a test", true)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := installation.OpenKeys(config.KeyStores(), config.State().Keys(), []byte("correct horse"), nil)
	if err != nil {
		t.Fatal(err)
	}
	profiles, err := profile.Open(config.ProfilesDir())
	if err != nil {
		t.Fatal(err)
	}
	stalled := &stalling{Store: db, signed: make(chan []byte, 1), wakes: make(chan struct{})}
	authority, err := ca.New(t.Context(), ca.Config{
		Profiles: profiles, Keys: keys, Issuers: db, Ranges: db, Certificates: stalled, Inventory: db, Audit: db, Lease: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	requester := auth.Principal{ID: "token:web", Account: "web", Role: auth.RoleRequester}
	grant, err := requester.Authorize(auth.ActionIssue, "server")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	name, err := pki.NewIdentifier(pki.DNS, "stalled.example")
	if err != nil {
		t.Fatal(err)
	}
	asked := ca.Request{Profile: "server", CSR: request(t), Names: []pki.Identifier{name}}
	go func() {
		_, err := authority.Issue(context.Background(), grant, asked)
		ended <- err
	}()
	select {
	case der := <-stalled.signed:
		return parseDER(t, der), db, func() error { close(stalled.wakes); return <-ended }
	case err := <-ended:
		t.Fatalf("nothing was signed: %v", err)
		return nil, nil, nil
	}
}

func parseDER(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// TestSignedAndNotRecorded has a certificate whose maker died, or slept past its lease, between signing and recording
// it: every product tells its holder that it is revoked.
func TestSignedAndNotRecorded(t *testing.T) {
	t.Parallel()
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(t *testing.T, database string) {
			s := found(t, database)
			leaf, db, goOn := s.stalls(t)
			if err := db.Close(); err != nil { // nothing of that process reaches the database any more
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = goOn() })
			s.start(t)
			s.revokedEverywhere(t, leaf)
		})
	})
	t.Run("stalled", func(t *testing.T) { // of two instances, one of which reconciles what the other left
		t.Parallel()
		s := found(t, testdb.EmptyURL(t))
		s.start(t)
		leaf, db, goOn := s.stalls(t)
		defer db.Close()
		s.revokedEverywhere(t, leaf)
		if err := goOn(); pki.KindOf(err) != pki.KindUnavailable {
			t.Errorf("when it wakes up: %v", err)
		}
		s.revokedEverywhere(t, leaf)
	})
}

// revokedEverywhere waits until a certificate is known to be revoked, and then wants it from OCSP, from its shard, from
// the complete list, from the API and from `signet status`.
func (s *site) revokedEverywhere(t *testing.T, leaf *x509.Certificate) {
	t.Helper()
	var check *client.Check
	eventually(t, "the certificate is revoked", func() bool {
		var err error
		if check, err = s.api.CheckCertificate(t.Context(), leaf.Raw, time.Time{}); err != nil {
			t.Fatal(err)
		}
		return check.Verdict == client.VerdictRevoked
	})
	issuers, err := s.api.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, issuer := range issuers {
		by := parseDER(t, issuer.Certificates[0])
		if leaf.CheckSignatureFrom(by) != nil {
			continue
		}
		if result := askOCSP(t, leaf, by); result.Status != pki.StatusRevoked {
			t.Errorf("OCSP says %s", result.Status)
		}
		for _, url := range append(leaf.CRLDistributionPoints, issuer.BaseURL+"/crl/"+issuer.ID.String()+".crl") {
			eventually(t, url+" names it", func() bool { return names(t, url, leaf, by) })
		}
		file := filepath.Join(t.TempDir(), "leaf.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, said := s.run(t, "status", file); status != 10 {
			t.Errorf("signet status ends with %d: %s", status, said)
		}
		invariant.All(t, invariant.System{API: s.api})
		return
	}
	t.Error("nobody here signed it")
}

// names reports whether a list, which has to be its issuer's, revokes a certificate.
func names(t *testing.T, url string, leaf, by *x509.Certificate) bool {
	t.Helper()
	list, err := crl.Parse(get(t, url))
	if err != nil {
		t.Fatal(err)
	}
	if err := list.Verify(by); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	serial, err := ocsp.SerialOf(leaf)
	if err != nil {
		t.Fatal(err)
	}
	_, listed := list.Lookup(serial, leaf.RawIssuer)
	return listed
}
