package server_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/crl"
)

// oldCA is a CA that another program ran.
type oldCA struct {
	certificate *x509.Certificate
	key         *keys.Key
}

// newOldCA makes one, with its key in the key store of a site.
func newOldCA(t *testing.T, s *site) oldCA {
	t.Helper()
	store, err := softkey.New(softkey.Config{Dir: filepath.Join(s.dir, "keys"), Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	key, err := store.Create(t.Context(), "old", keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Old CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{7}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return oldCA{certificate, key}
}

// list is one that it signed; it has ended since.
func (o oldCA) list(t *testing.T, number *big.Int, entries ...x509.RevocationListEntry) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: number, ThisUpdate: time.Now().Add(-48 * time.Hour), NextUpdate: time.Now().Add(-time.Hour),
		RevokedCertificateEntries: entries}, o.certificate, o.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func keep(t *testing.T, name, kind string, der []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTheLastListOfAnAdoptedCA takes over a CA with its key: its lists go on with everything that was revoked or on
// hold, under larger numbers, and nothing is published for it before; what is missing, or cannot be kept, is refused
// and leaves nothing behind.
func TestTheLastListOfAnAdoptedCA(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		s.start(t)
		old := newOldCA(t, s)
		since := time.Now().AddDate(-1, 0, 0).Truncate(time.Second)
		revoked := []x509.RevocationListEntry{
			{SerialNumber: big.NewInt(0x1001), RevocationTime: since, ReasonCode: 4}, {SerialNumber: new(big.Int).Lsh(big.NewInt(0x41), 152), RevocationTime: since, ReasonCode: 1},
			{SerialNumber: big.NewInt(0x1003), RevocationTime: since, ReasonCode: 6},
		}
		certificate := keep(t, "old.pem", "CERTIFICATE", old.certificate.Raw)
		adopt := func(flags ...string) (int, string) {
			t.Helper()
			return s.run(t, append([]string{"issuer", "adopt", "old", certificate, "--key", "softkey:old", "--base-url", "http://" + s.addresses.Public}, flags...)...)
		}
		for what, flags := range map[string][]string{
			"the last list that it signed is missing": nil,
			"cannot be kept, and would be lost":       {"--crl", keep(t, "long.crl", "X509 CRL", old.list(t, big.NewInt(5000), x509.RevocationListEntry{SerialNumber: new(big.Int).Lsh(big.NewInt(1), 162), RevocationTime: since}))},
			"leaves no room for larger ones":          {"--crl", keep(t, "large.crl", "X509 CRL", old.list(t, new(big.Int).Lsh(big.NewInt(3), 61)))},
			"an off-line one are imported":            {"--key", "", "--crl", keep(t, "empty.crl", "X509 CRL", old.list(t, big.NewInt(1)))},
			"and that signed one":                     {"--no-crl", "--crl", keep(t, "both.crl", "X509 CRL", old.list(t, big.NewInt(1)))},
		} {
			if status, said := adopt(flags...); status == 0 || !strings.Contains(said, what) {
				t.Errorf("%q: status %d, %s", what, status, said)
			}
		}
		if status, said := s.run(t, "issuer", "show", "old"); status != 4 {
			t.Fatalf("what was refused left an issuer: %d, %s", status, said)
		}

		if status, said := adopt("--crl", keep(t, "old.crl", "X509 CRL", old.list(t, big.NewInt(5000), revoked...))); status != 0 {
			t.Fatalf("status %d: %s", status, said)
		}
		url := "http://" + s.addresses.Public + "/crl/" + s.issuerCalled(t, "old").ID.String() + ".crl"
		served := func() *crl.List {
			t.Helper()
			list, err := crl.Parse(get(t, url))
			if err != nil {
				t.Fatal(err)
			}
			if number, _ := list.Number.Uint64(); number < 5000 || list.Len() != len(revoked) {
				t.Fatalf("list %s has %d entries", list.Number, list.Len())
			}
			return list
		}
		var list *crl.List
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if list = served(); list.Number != crl.NumberOf(5000) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the last list of the old CA is never followed by one of ours")
			}
		}
		if err := list.Verify(old.certificate); err != nil || !list.NextUpdate.After(time.Now()) {
			t.Errorf("list %s until %s: %v", list.Number, list.NextUpdate, err)
		}
		for _, e := range revoked {
			if got, ok := list.Lookup(e.SerialNumber.Bytes(), list.Issuer); !ok || int(got.Reason) != e.ReasonCode || !got.RevokedAt.Equal(since) {
				t.Errorf("%x is listed as %+v", e.SerialNumber, got)
			}
		}
		// What it issued and did not revoke is not forged: this server cannot know.
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(0x2001), NotBefore: since, NotAfter: time.Now().AddDate(1, 0, 0)}, old.certificate, old.key.Public(), old.key)
		if status, said := s.run(t, "status", keep(t, "legacy.pem", "CERTIFICATE", der)); err != nil || status != 10 || !strings.Contains(said, "issued outside of this server") {
			t.Errorf("what it issued before: %d, %s, %v", status, said, err)
		}
		if status, said := s.run(t, "release", "old/1003"); status != 0 {
			t.Errorf("the hold never ends: %d, %s", status, said)
		}
		if status, said := adopt("--crl", keep(t, "again.crl", "X509 CRL", old.list(t, big.NewInt(5001)))); status != 5 {
			t.Errorf("adopted twice: %d, %s", status, said)
		}
	})
}
