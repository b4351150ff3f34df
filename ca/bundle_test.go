package ca_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// rollover is a town whose root has a successor, cross-signed in both directions:
//
//	root (years 0 to 20) -> issuing (0 to 10) -> leaf
//	root 2 (9 to 29), root 2 by root (9 to 20), root by root 2 (9 to 20)
//	issuing 2 below root 2 (9 to 19)
func rollover(t *testing.T) (w *town, second, issuing2 ca.Issuer, start time.Time) {
	w = newTown(t, testdb.SQLite(t))
	start = w.clock.Now()
	w.clock.advance(9 * 365 * 24 * time.Hour)
	second = w.create(ca.NewIssuer{Label: "root-2", Subject: ca.Subject{CommonName: "Test Root 2"}, BaseURL: "http://pki.test"})
	issuing2 = w.create(newIssuer("issuing-2", "Test Issuing CA 2", second))
	for _, pair := range [][2]pki.IssuerID{{second.ID, w.root.ID}, {w.root.ID, second.ID}} {
		if _, err := w.CrossSign(t.Context(), w.manage(), pair[0], pair[1], 0); err != nil {
			t.Fatal(err)
		}
	}
	return w, second, issuing2, start
}

func pool(t *testing.T, w *town) (all []*x509.Certificate) {
	for _, issuer := range w.Issuers() {
		for _, c := range issuer.Certificates {
			all = append(all, parse(t, c.DER))
			for _, der := range c.Chain {
				all = append(all, parse(t, der))
			}
		}
	}
	return all
}

// Who trusts one root only, the old or the new, verifies what either issuing CA issued, at every date at which a bundle
// says so, and openssl agrees.
func TestBundlesOfARollover(t *testing.T) {
	w, second, issuing2, start := rollover(t)
	all := pool(t, w)
	year := func(n float64) time.Time { return start.Add(time.Duration(n * float64(365*24*time.Hour))) }
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	oldRoot, newRoot := parse(t, w.root.Certificates[0].DER), parse(t, second.Certificates[0].DER)
	for _, test := range []struct {
		issuer     ca.Issuer
		at         time.Time
		paths      int // that hold
		roots      int
		old, young bool // who trusts this root only verifies
	}{
		{w.issuing, year(5), 1, 1, true, false}, // before
		{w.issuing, year(9.5), 2, 2, true, true},
		{issuing2, year(9.5), 2, 2, true, true}, // the overlap
		{issuing2, year(15), 2, 2, true, true},
		{w.issuing, year(15), 0, 0, false, false}, // the old issuing CA has ended
		{issuing2, year(20.5), 0, 0, false, false},
		{issuing2, year(5), 0, 0, false, false},
	} {
		bundle := ca.BundleAt(ca.Paths(test.issuer, all), test.at)
		holding := 0
		for _, p := range bundle.Paths {
			if p.ValidAt(test.at) {
				holding++
			}
		}
		if holding != test.paths || len(bundle.Roots) != test.roots {
			t.Errorf("%s in year %.1f: %d paths and %d roots, want %d and %d", test.issuer.Label, test.at.Sub(start).Hours()/8760, holding, len(bundle.Roots), test.paths, test.roots)
		}
		chain := file("chain.pem", ca.PEM(bundle.Chain))
		authority := file("issuer.pem", ca.PEM([]*x509.Certificate{parse(t, test.issuer.Certificates[0].DER)}))
		for root, want := range map[*x509.Certificate]bool{oldRoot: test.old, newRoot: test.young} {
			trusted := file("root.pem", ca.PEM([]*x509.Certificate{root}))
			out, err := exec.Command("openssl", "verify", "-attime", strconv.FormatInt(test.at.Unix(), 10), "-CAfile", trusted, "-untrusted", chain, authority).CombinedOutput()
			if (err == nil) != want {
				t.Errorf("%s in year %.1f under %s: openssl says %v, want %v\n%s", test.issuer.Label, test.at.Sub(start).Hours()/8760, root.Subject, err == nil, want, out)
			}
		}
	}
	before, after := ca.Paths(w.issuing, all), ca.Paths(issuing2, all)
	if len(before) != 2 || len(after) != 2 || !after[0].Until.Equal(after[1].Until) || !before[0].From.Equal(parse(t, w.issuing.Certificates[0].DER).NotBefore) {
		t.Errorf("paths: %+v, %+v", before, after)
	}
	way := before[0]
	if way.ValidAt(way.From.Add(-time.Second)) || !way.ValidAt(way.From) || !way.ValidAt(way.Until) || way.ValidAt(way.Until.Add(time.Second)) {
		t.Error("both ends of a way belong to it, and nothing more")
	}
	key := newKey(t)
	template := &x509.Certificate{RawSubject: w.issuing.Subject, SerialNumber: big.NewInt(1), NotBefore: year(0), NotAfter: year(20), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ways := ca.Paths(w.issuing, append(all, parse(t, der))); len(ways) != 2 {
		t.Errorf("with a certificate of another key with its name, %d ways", len(ways))
	}
	text := string(ca.PEM(ca.BundleAt(after, year(9.5)).Chain))
	if first := strings.Index(text, "BEGIN"); first < 0 || !strings.HasPrefix(text, string(ca.PEM([]*x509.Certificate{parse(t, issuing2.Certificates[0].DER)}))) {
		t.Error("the issuer's own certificate is not the first of the chain")
	}
}

// revokedSerials is a ledger in which some certificates are revoked.
type revokedSerials map[pki.Serial]bool

func (revokedSerials) Seq() uint64                   { return 0 }
func (revokedSerials) CatchUp(context.Context) error { return nil }
func (r revokedSerials) StatusOf(_ context.Context, _ pki.IssuerID, serial pki.Serial) (pki.Status, pki.Reason, error) {
	if r[serial] {
		return pki.StatusRevoked, pki.Superseded, nil
	}
	return pki.StatusGood, pki.Unspecified, nil
}

// What is sent behind a certificate leads to the root and to those that signed it, while they do.
func TestChainsOfARollover(t *testing.T) {
	w, second, issuing2, _ := rollover(t)
	revoked := make(revokedSerials)
	w.status = revoked
	w.Authority = w.instance(w.store)
	sent := func(when string, issuer ca.Issuer, want ...[]byte) {
		t.Helper()
		request := server(t, "app.example")
		request.Issuer = issuer.ID
		if chain := w.mustIssue(request).Chain; !slices.EqualFunc(chain, want, bytes.Equal) {
			t.Errorf("%s: %d certificates behind one of %s, want %d", when, len(chain), issuer.Label, len(want))
		}
	}
	certificates := func(issuer ca.Issuer) (own, cross []byte) {
		t.Helper()
		known, err := w.Issuer(issuer.ID)
		if err != nil || len(known.Certificates) != 2 {
			t.Fatal(len(known.Certificates), err)
		}
		return known.Certificates[0].DER, known.Certificates[1].DER
	}
	_, oldByNew := certificates(w.root)
	_, newByOld := certificates(second)
	first, next := w.issuing.Certificates[0].DER, issuing2.Certificates[0].DER
	sent("in between", w.issuing, first, oldByNew)
	sent("in between", issuing2, next, newByOld)

	serial, err := pki.SerialFromBig(parse(t, newByOld).SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	revoked[serial] = true
	sent("when the old root revoked what it signed", issuing2, next)
	delete(revoked, serial)

	if _, err := w.SetIssuerState(t.Context(), w.manage(), w.root.ID, ca.IssuerRetired); err != nil {
		t.Fatal(err)
	}
	sent("when the old root is retired", issuing2, next)
	sent("when the old root is retired", w.issuing, first, oldByNew)

	w.clock.advance(5 * 24 * time.Hour * 365)
	if _, err := w.RenewIssuer(t.Context(), w.manage(), second.ID, 0); err != nil {
		t.Fatal(err)
	}
	sent("when the new root has another certificate of its own", issuing2, next)
}

// A cross-certificate is sent as long as it lasts.
func TestCrossCertificatesEnd(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	second := w.create(newIssuer("root-2", "Test Root 2", ca.Issuer{}))
	if _, err := w.CrossSign(t.Context(), w.manage(), w.root.ID, second.ID, 48*time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{2, 1} {
		if chain := w.mustIssue(server(t, "app.example")).Chain; len(chain) != want {
			t.Errorf("%d certificates are sent, want %d", len(chain), want)
		}
		w.clock.advance(49 * time.Hour)
		if err := w.TestingOnlyRefresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A cross-certificate ends with what it certifies: the key of a root that was to end is not trusted beyond that.
func TestCrossCertificatesEndWithTheirSubject(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	const day = 24 * time.Hour
	old := w.create(ca.NewIssuer{Label: "old", Subject: ca.Subject{CommonName: "Old Root"}, BaseURL: "http://pki.test", Lifetime: 400 * day})
	for _, lifetime := range []time.Duration{0, 399 * day} {
		crossed, err := w.CrossSign(t.Context(), w.manage(), old.ID, w.root.ID, lifetime)
		if err != nil {
			t.Fatal(err)
		}
		if last := crossed.Certificates[len(crossed.Certificates)-1]; last.NotAfter.After(old.Certificates[0].NotAfter) {
			t.Errorf("for %s it ends at %s, and the root at %s", lifetime, last.NotAfter, old.Certificates[0].NotAfter)
		}
	}
	_, err := w.CrossSign(t.Context(), w.manage(), old.ID, w.root.ID, 401*day)
	wantError(t, err, pki.KindRefused, "lifetime")
	w.clock.advance(401 * day)
	_, err = w.CrossSign(t.Context(), w.manage(), old.ID, w.root.ID, 0)
	wantError(t, err, pki.KindRefused, "issuer")
}

// Roots that all cross-sign each other have more paths than anybody wants; the search ends.
func TestPathsAreBounded(t *testing.T) {
	const roots = 9
	var all []*x509.Certificate
	var signers []*ecdsa.PrivateKey
	certify := func(subject, by int) {
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(len(all) + 1)), Subject: pkix.Name{CommonName: "R" + strconv.Itoa(subject)}, NotBefore: time.Now(),
			NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		parent := &x509.Certificate{Subject: pkix.Name{CommonName: "R" + strconv.Itoa(by)}}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, signers[subject].Public(), signers[by])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parse(t, der))
	}
	for range roots {
		signers = append(signers, newKey(t))
	}
	for i := range roots {
		for j := range roots {
			certify(i, j)
		}
	}
	paths := ca.Paths(ca.Issuer{Subject: all[0].RawSubject, SPKI: all[0].RawSubjectPublicKeyInfo}, all)
	if len(paths) != 64 {
		t.Errorf("%d paths", len(paths))
	}
	for _, p := range paths {
		if len(p.Certificates) > 8 {
			t.Errorf("a path of %d", len(p.Certificates))
		}
	}
}
