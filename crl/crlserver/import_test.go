package crlserver_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/sqlite"
)

// distributionPoint is an issuing distribution point (RFC 5280, Section 5.2.5).
type distributionPoint struct {
	Name struct {
		Full []asn1.RawValue `asn1:"optional,tag:0"`
	} `asn1:"optional,tag:0"`
	UserCerts      bool           `asn1:"optional,tag:1"`
	CACerts        bool           `asn1:"optional,tag:2"`
	SomeReasons    asn1.BitString `asn1:"optional,tag:3"`
	Indirect       bool           `asn1:"optional,tag:4"`
	AttributeCerts bool           `asn1:"optional,tag:5"`
}

// TestImport brings in the lists of an off-line root, good ones and bad ones.
func TestImport(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a, other := newAuthority(t, s, "Off-line Root"), newAuthority(t, s, "Other Root")
		offline := a.config()
		offline.Offline, offline.Signer, offline.Delta = true, nil, true
		now := &clock{}
		p := start(t, s, now, nil, offline)
		p.await(t, a.revoke(t, 1)) // does not wait for a ceremony
		if c := p.Ceremonies(); len(c) != 1 || !c[0].Due || !c[0].NextUpdate.IsZero() || p.Check() != nil {
			t.Fatalf("a root without a list: %+v, %v", c, p.Check())
		}
		ceremony := func(number uint64, signer *authority, change func(*crl.Template), indices ...uint64) []byte {
			template := crl.Template{Issuer: a.cert.RawSubject, KeyID: a.cert.SubjectKeyId, Number: number, ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().AddDate(0, 9, 0)}
			if change != nil {
				change(&template)
			}
			arena := &crl.Arena{}
			for i, index := range indices {
				arena.Add(uint64(i+1), crl.Revocation{Serial: serial(epoch, index), At: time.Now()})
			}
			entries, _ := arena.At(uint64(len(indices)))
			document, _, err := template.Sign(entries, signer.key)
			if err != nil {
				t.Fatal(err)
			}
			return document.Bytes()
		}
		admin, err := auth.Principal{ID: "token:admin", Role: auth.RoleAdmin}.Authorize(auth.ActionManage, "")
		if err != nil {
			t.Fatal(err)
		}
		refusals := 0
		refused := func(what string, der []byte, kind pki.Kind) {
			t.Helper()
			refusals++
			if _, err := p.Import(t.Context(), admin, a.issuer, der, nil); err == nil || pki.KindOf(err) != kind {
				t.Errorf("%s: %v, want %s", what, err, kind)
			}
		}
		if _, err := p.Import(t.Context(), auth.Grant{}, a.issuer, ceremony(1, a, nil, 1), nil); pki.KindOf(err) != pki.KindDenied {
			t.Errorf("without a grant: %v", err)
		}
		refused("no list", []byte{0x30}, pki.KindInvalid)
		refused("another name", ceremony(1, a, func(t *crl.Template) { t.Issuer = other.cert.RawSubject }, 1), pki.KindRefused)
		refused("another key", ceremony(1, other, nil, 1), pki.KindRefused)
		refused("a delta", ceremony(2, a, func(t *crl.Template) { t.Base = 1 }, 1), pki.KindRefused)
		refused("a shard", ceremony(1, a, func(t *crl.Template) { t.UserCerts = true }, 1), pki.KindRefused)
		refused("ended", ceremony(1, a, func(t *crl.Template) { t.NextUpdate = time.Now().Add(-time.Minute) }, 1), pki.KindRefused)
		refused("from the future", ceremony(1, a, func(t *crl.Template) { t.ThisUpdate = time.Now().Add(time.Hour) }, 1), pki.KindRefused)
		refused("narrowed", ceremony(1, a, func(t *crl.Template) {
			t.UserCerts, t.URLs = true, []string{base + "/crl/" + a.issuer.String() + ".crl"}
		}, 1), pki.KindRefused)
		refused("for another URL", ceremony(1, a, func(t *crl.Template) { t.URLs = []string{"http://other.example/x.crl"} }, 1), pki.KindRefused)
		url := base + "/crl/" + a.issuer.String() + ".crl"
		plain := func(number *big.Int, reason int, extensions ...pkix.Extension) []byte {
			octets := serial(epoch, 1)
			return must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
				Number: number, ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().AddDate(0, 9, 0), ExtraExtensions: extensions,
				RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: new(big.Int).SetBytes(octets[:]), RevocationTime: time.Now(), ReasonCode: reason}},
			}, a.cert, a.key))
		}
		one := big.NewInt(1)
		refused("no number that counts", plain(new(big.Int), 0), pki.KindRefused)
		refused("a number too large to keep", plain(new(big.Int).Lsh(one, 63), 0), pki.KindRefused)
		refused("a number of 80 bits", plain(new(big.Int).Lsh(one, 80), 0), pki.KindRefused)
		refused("what is revoked taken off", plain(one, int(pki.RemoveFromCRL)), pki.KindRefused)
		refused("an extension that nobody understands", plain(one, 0, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}), pki.KindRefused)
		for name, point := range map[string]distributionPoint{
			"for authorities only":       {CACerts: true},
			"for attribute certificates": {AttributeCerts: true},
			"of several issuers":         {Indirect: true},
			"for some reasons":           {SomeReasons: asn1.BitString{Bytes: []byte{0x40}, BitLength: 2}},
		} {
			point.Name.Full = []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(url)}}
			refused(name, plain(one, 0, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: must(asn1.Marshal(point))}), pki.KindRefused)
		}
		whole := distributionPoint{}
		whole.Name.Full = []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(url)}}
		if _, err := p.Examine(a.issuer, plain(one, 1, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: must(asn1.Marshal(whole))}), nil); err != nil {
			t.Errorf("a list that has none of these faults: %v", err)
		}
		revoker, err := auth.Principal{ID: "token:admin", Role: auth.RoleAdmin}.Authorize(auth.ActionRevoke, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Import(t.Context(), revoker, a.issuer, ceremony(1, a, nil, 1), nil); pki.KindOf(err) != pki.KindDenied {
			t.Errorf("with the right to revoke: %v", err)
		}
		if _, err := p.Import(t.Context(), admin, other.issuer, ceremony(1, other, nil, 1), nil); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("of an issuer that is not off-line here: %v", err)
		}
		_, err = p.Import(t.Context(), admin, a.issuer, ceremony(1, a, nil, 2), nil)
		if missing, ok := errors.AsType[*crlserver.MissingError](err); !ok || missing.Count != 1 || missing.Serials[0] != serial(epoch, 1) {
			t.Errorf("a list without what is revoked: %v", err)
		}
		h, err := p.Import(t.Context(), admin, a.issuer, ceremony(41, a, nil, 1), nil)
		if err != nil || h.Number != 41 {
			t.Fatal(h, err)
		}
		first := ceremony(42, a, nil, 1)
		if h, err = p.Import(t.Context(), admin, a.issuer, first, nil); err != nil || h.Number != 42 {
			t.Fatal(h, err)
		}
		if again, err := p.Import(t.Context(), admin, a.issuer, first, nil); err != nil || again.Number != 42 || again.Sum != h.Sum {
			t.Errorf("the same list again: %+v, %v", again, err)
		}
		refused("the same number", ceremony(41, a, nil, 1), pki.KindConflict)
		refused("a smaller number", ceremony(40, a, nil, 1), pki.KindConflict)
		if h, err = p.Import(t.Context(), admin, a.issuer, ceremony(1000, a, func(t *crl.Template) { t.URLs = []string{base + "/crl/" + a.issuer.String() + ".crl"} }, 1, 2), nil); err != nil {
			t.Fatal(err)
		}
		due := func(why string) {
			t.Helper()
			if c := p.Ceremonies(); len(c) != 1 || c[0].Due != (why != "") || !strings.Contains(c[0].Why, why) {
				t.Errorf("want %q: %+v", why, c)
			}
		}
		due("")
		p.await(t, a.revoke(t, 3))
		due("a revocation waits")
		if h, err = p.Import(t.Context(), admin, a.issuer, ceremony(1001, a, nil, 1, 2, 3), nil); err != nil {
			t.Fatal(err)
		}
		due("")
		now.move(time.Until(h.NextUpdate) - 31*24*time.Hour)
		due("") // of a life of months
		now.move(11 * 24 * time.Hour)
		due("its list ends at")
		now.move(21 * 24 * time.Hour)
		due("its list ended at")
		events, err := s.AuditEvents(t.Context(), audit.Filter{Action: "crl.import"}, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		outcomes := make(map[audit.Outcome]int)
		for _, e := range events {
			outcomes[e.Outcome]++
		}
		if outcomes[audit.OK] != 4 || outcomes[audit.Refused] != refusals+2 || events[len(events)-1].Detail["number"] != "1001" {
			t.Errorf("the audit log has %v", outcomes)
		}
		p.stop()
		p = start(t, s, &clock{}, nil, offline)
		if l := p.list(t, a, a.complete()); l.Number != crl.NumberOf(1001) || l.Len() != 3 || len(p.Lists()) != 1 {
			t.Fatalf("after a restart: %s, %d entries", l.Number, l.Len())
		}
	})
}

// A list that was brought in may say more than the ledger, holds and serial numbers of 21 octets, and agrees with it for as long as everything that
// was revoked here by then, and has not left the lists with its week since, is on it.
func TestCompareImported(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Off-line Root")
		offline := a.config()
		offline.Offline, offline.Signer = true, nil
		now := &clock{}
		p := start(t, s, now, nil, offline)
		held := a.append(t, a.event(epoch, 2, revocation.KindHold, pki.CertificateHold, 0))
		p.await(t, a.append(t, a.event(epoch, 1, revocation.KindRevoke, pki.Superseded, 0), a.event(epoch, 2, revocation.KindRelease, 0, held)))
		entry := func(serial []byte, reason pki.Reason) x509.RevocationListEntry {
			return x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(serial), RevocationTime: time.Now(), ReasonCode: int(reason)}
		}
		one, two := serial(epoch, 1), serial(epoch, 2)
		bring := func(number int64, entries ...x509.RevocationListEntry) {
			t.Helper()
			der := must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Hour),
				NextUpdate: time.Now().AddDate(2, 0, 0), RevokedCertificateEntries: entries}, a.cert, a.key))
			admin := must(auth.Principal{ID: "token:admin", Role: auth.RoleAdmin}.Authorize(auth.ActionManage, ""))
			if _, err := p.Import(t.Context(), admin, a.issuer, der, nil); err != nil {
				t.Fatal(err)
			}
		}
		agrees := func(what string) {
			t.Helper()
			if err := p.Compare(t.Context(), a.complete()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		bring(1, entry(one[:], pki.Superseded), entry(two[:], pki.CertificateHold), entry(append([]byte{0x11}, one[:]...), pki.Unspecified))
		agrees("with more than the ledger has")
		p.await(t, a.revoke(t, 3))
		agrees("with less than was revoked since")

		if _, ok := s.(*sqlite.Store); ok {
			testdb.Exec(t, s, `DROP TRIGGER ledger_no_update`)
		} else {
			testdb.Exec(t, s, `ALTER TABLE ledger DISABLE TRIGGER append_only`)
		}
		odd := serial(epoch, 77)
		testdb.Exec(t, s, `UPDATE ledger SET serial = $1 WHERE idx = 1`, odd[:])
		err := p.Compare(t.Context(), a.complete())
		if missing, ok := errors.AsType[*crlserver.MissingError](err); !ok || missing.Count != 1 || missing.Serials[0] != odd {
			t.Errorf("without what the ledger has: %v", err)
		}
		if _, ok := errors.AsType[*crlserver.DisagreementError](err); !ok {
			t.Errorf("%v is no disagreement", err)
		}

		now.move(time.Until(time.Unix((epoch+1).Start(), 0)) + 25*time.Hour) // the week has passed
		bring(2)
		agrees("without what left the lists with its week")
	})
}

// What has expired may leave a list when its serial number is named (RFC 5280, Section 3.3), which is audited, and then need not be on later
// lists, here and after a restart. A name does not excuse what is revoked only afterwards.
func TestImportWithoutExpired(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Off-line Root")
		offline := a.config()
		offline.Offline, offline.Signer = true, nil
		p := start(t, s, &clock{}, nil, offline)
		for index := range uint64(4) {
			p.await(t, a.revoke(t, index))
		}
		admin := must(auth.Principal{ID: "token:admin", Role: auth.RoleAdmin}.Authorize(auth.ActionManage, ""))
		bring := func(number int64, expired []pki.Serial, indices ...uint64) (crlserver.Head, error) {
			template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().AddDate(1, 0, 0)}
			for _, index := range indices {
				octets := serial(epoch, index)
				template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(octets[:]), RevocationTime: time.Now()})
			}
			return p.Import(t.Context(), admin, a.issuer, must(x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)), expired)
		}
		lacks := func(what string, err error, index uint64) {
			t.Helper()
			if missing, ok := errors.AsType[*crlserver.MissingError](err); !ok || missing.Count != 1 || missing.Serials[0] != serial(epoch, index) {
				t.Errorf("%s: %v", what, err)
			}
		}
		zero, one, two, five := serial(epoch, 0), serial(epoch, 1), serial(epoch, 2), serial(epoch, 5)
		_, err := bring(1, []pki.Serial{one}, 2, 3)
		lacks("one of two is named", err, 0)
		if _, err := bring(1, []pki.Serial{one, two, five, zero, one}, 2, 3); err != nil {
			t.Fatal(err)
		}
		if err := p.Compare(t.Context(), a.complete()); err != nil {
			t.Error(err)
		}
		events := must(s.AuditEvents(t.Context(), audit.Filter{Action: "crl.import"}, 0, 100))
		named := events[len(events)-1].Detail["expired"]
		if !strings.Contains(named, zero.String()) || !strings.Contains(named, one.String()) || strings.Contains(named, two.String()) || strings.Contains(named, five.String()) {
			t.Errorf("the audit log names %q", named)
		}
		p.stop()
		p = start(t, s, &clock{}, nil, offline)
		_, err = bring(2, nil, 3)
		lacks("what was named and still on the list", err, 2)
		h, err := bring(2, nil, 0, 2, 3)
		if err != nil || len(h.Expired) != 1 || h.Expired[0] != one {
			t.Errorf("%+v, %v", h, err)
		}
		if err := p.Compare(t.Context(), a.complete()); err != nil {
			t.Error(err)
		}
		p.await(t, a.revoke(t, 5))
		_, err = bring(3, nil, 0, 2, 3)
		lacks("what was revoked after it was named", err, 5)
	})
}
