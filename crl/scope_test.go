package crl_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// world is what the tables below draw on:
//
//	ca --------> leaf (serial 5)       lists named "Issuing CA"
//	ca (other key, same name)          a separate key for signing lists
//	other                              an indirect CRL issuer of another name
type world struct {
	ca, listKey, other authority
}

func newWorld(t testing.TB) world {
	return world{
		ca:      newAuthority(t, "Issuing CA", newKey(t)),
		listKey: newAuthority(t, "Issuing CA", newKey(t), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }),
		other:   newAuthority(t, "Indirect CRL Issuer", newKey(t)),
	}
}

// leaf makes the certificate in question with these raw extensions.
func (w world) leaf(t testing.TB, change func(*x509.Certificate), extensions ...extension) crl.Target {
	t.Helper()
	cert, err := crl.ParseCertificate(w.leafDER(t, change, extensions...))
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(w.ca.cert); err != nil {
		t.Fatal(err)
	}
	target, err := crl.NewTarget(cert)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func (w world) leafDER(t testing.TB, change func(*x509.Certificate), extensions ...extension) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0)}
	for _, e := range extensions {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: e.oid, Critical: e.critical, Value: e.value})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca.cert, newKey(t).Public(), w.ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func cdp(each ...[]byte) extension {
	return extension{oid: asn1.ObjectIdentifier{2, 5, 29, 31}, value: points(each...)}
}

// list makes a list of the CA: current, number 10, empty but for what change adds.
func (w world) list(t testing.TB, change func(*strange)) *crl.List {
	t.Helper()
	s := strange{version: 1, issuer: w.ca.cert.RawSubject, this: now.Add(-time.Hour), next: now.Add(time.Hour), signer: w.ca.key, extensions: []extension{numberExtension(10)}}
	if change != nil {
		change(&s)
	}
	l, err := crl.Parse(s.der(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The changes that the tables combine.
func revoking(s *strange) { s.entries = append(s.entries, strangeEntry{serial: []byte{5}}) }
func hold(s *strange) {
	s.entries = append(s.entries, strangeEntry{serial: []byte{5}, extensions: []extension{reasonExtension(6)}})
}
func removing(s *strange) {
	s.entries = append(s.entries, strangeEntry{serial: []byte{5}, extensions: []extension{reasonExtension(8)}})
}
func with(e ...extension) func(*strange) {
	return func(s *strange) { s.extensions = append(s.extensions, e...) }
}
func delta(base, number int64) func(*strange) {
	return func(s *strange) { s.extensions = []extension{numberExtension(number), deltaExtension(base)} }
}
func by(a authority) func(*strange) {
	return func(s *strange) { s.issuer, s.signer = a.cert.RawSubject, a.key }
}
func signed(key crypto.Signer) func(*strange) { return func(s *strange) { s.signer = key } }
func ended(s *strange)                        { s.next = now.Add(-time.Minute) }
func endless(s *strange)                      { s.next = time.Time{} }
func future(s *strange)                       { s.this = now.Add(time.Minute) }
func aged(d time.Duration) func(*strange)     { return func(s *strange) { s.this = now.Add(-d) } }

func all(changes ...func(*strange)) func(*strange) {
	return func(s *strange) {
		for _, change := range changes {
			change(s)
		}
	}
}

// signers is a path check for tests: these certificates are believed.
func signers(believed ...*x509.Certificate) func(*crl.List) []*x509.Certificate {
	return func(*crl.List) []*x509.Certificate { return believed }
}

// TestJudge has a table for every step of RFC 5280, Section 6.3.3.
func TestJudge(t *testing.T) {
	w := newWorld(t)
	here, there := uri("http://crl.example/here.crl"), uri("http://crl.example/there.crl")
	plain := pointName(here)
	ca := func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }
	const half, rest = crl.ReasonFlags(0x0fe), crl.ReasonFlags(0x100)

	for _, c := range []struct {
		name   string
		leaf   crl.Target
		lists  []func(*strange)
		change func(*crl.Rules)
		want   crl.Status
		causes []crl.Cause
	}{
		{"- no list at all", w.leaf(t, nil), nil, nil, crl.Undetermined, nil},
		{"- complete list, not on it", w.leaf(t, nil), lists(nil), nil, crl.Unrevoked, nil},
		{"- complete list, on it", w.leaf(t, nil), lists(revoking), nil, crl.Revoked, nil},
		{"- of two complete lists the younger counts, not on it", w.leaf(t, nil), lists(all(revoking, aged(2*time.Hour)), nil), nil, crl.Unrevoked, nil},
		{"- of two complete lists the younger counts, on it", w.leaf(t, nil), lists(aged(2*time.Hour), revoking), nil, crl.Revoked, nil},
		{"- every distribution point is considered", w.leaf(t, nil, cdp(pointName(there), pointName(here))), lists(all(with(idpExtension(pointName(here))), revoking)), nil, crl.Revoked, []crl.Cause{crl.CauseScope}},

		{"a past its nextUpdate", w.leaf(t, nil), lists(ended), nil, crl.Undetermined, []crl.Cause{crl.CauseStale}},
		{"a past its nextUpdate, and on it", w.leaf(t, nil), lists(all(ended, revoking)), nil, crl.Undetermined, []crl.Cause{crl.CauseStale}},
		{"a past its nextUpdate, which is ignored", w.leaf(t, nil), lists(ended), ignoreExpiration, crl.Unrevoked, nil},
		{"a past its nextUpdate, brought up to date by a delta", w.leaf(t, nil), lists(ended, delta(10, 11)), nil, crl.Unrevoked, nil},
		{"a without nextUpdate", w.leaf(t, nil), lists(endless), nil, crl.Undetermined, []crl.Cause{crl.CauseStale}},
		{"a without nextUpdate, and young", w.leaf(t, nil), lists(endless), maxAge(2 * time.Hour), crl.Unrevoked, nil},
		{"a older than the maximum age", w.leaf(t, nil), lists(nil), maxAge(time.Minute), crl.Undetermined, []crl.Cause{crl.CauseStale}},
		{"a from the future", w.leaf(t, nil), lists(future), nil, crl.Undetermined, []crl.Cause{crl.CauseNotYet}},
		{"a from the future, expiration ignored", w.leaf(t, nil), lists(future), ignoreExpiration, crl.Undetermined, []crl.Cause{crl.CauseNotYet}},

		{"a from the future, with a current delta", w.leaf(t, nil), lists(future, delta(10, 11)), nil, crl.Undetermined, []crl.Cause{crl.CauseNotYet, crl.CauseDelta}},

		{"b1 list of another issuer", w.leaf(t, nil), lists(by(w.other)), nil, crl.Undetermined, []crl.Cause{crl.CauseIssuer}},
		{"b1 issuer's name spelt otherwise", w.leaf(t, nil), lists(all(revoking, respelt)), believe(respelling(t, w)), crl.Revoked, nil},
		{"b1 point names another issuer, whose list is indirect", w.leaf(t, nil, cdp(cat(plain, cRLIssuer(w.other.cert.RawSubject)))),
			lists(all(by(w.other), with(idpExtension(plain, indirect)))), nil, crl.Unrevoked, nil},
		{"b1 point names another issuer, whose list is not indirect", w.leaf(t, nil, cdp(cat(plain, cRLIssuer(w.other.cert.RawSubject)))),
			lists(all(by(w.other), with(idpExtension(plain)))), nil, crl.Undetermined, []crl.Cause{crl.CauseScope, crl.CauseIssuer}},
		{"b1 point names another issuer, whose list has no scope", w.leaf(t, nil, cdp(cat(plain, cRLIssuer(w.other.cert.RawSubject)))),
			lists(by(w.other)), nil, crl.Undetermined, []crl.Cause{crl.CauseScope, crl.CauseIssuer}},
		{"b1 point names another issuer, and there is only the certificate issuer's list", w.leaf(t, nil, cdp(cat(plain, cRLIssuer(w.other.cert.RawSubject)))),
			lists(revoking), nil, crl.Revoked, []crl.Cause{crl.CauseIssuer}},
		{"b1 the same, and only lists of the points count", w.leaf(t, nil, cdp(cat(plain, cRLIssuer(w.other.cert.RawSubject)))),
			lists(nil), pointsOnly, crl.Undetermined, []crl.Cause{crl.CauseIssuer}},
		{"b1 only lists of the points count, and there is no point", w.leaf(t, nil), lists(nil), pointsOnly, crl.Unrevoked, nil},

		{"b2i names meet", w.leaf(t, nil, cdp(pointName(there, here))), lists(with(idpExtension(pointName(uri("http://x/"), here)))), nil, crl.Unrevoked, nil},
		{"b2i names do not meet", w.leaf(t, nil, cdp(plain)), lists(all(with(idpExtension(pointName(there))), revoking)), nil, crl.Undetermined, []crl.Cause{crl.CauseScope, crl.CauseScope}},
		{"b2i scope has a name, certificate has no point", w.leaf(t, nil), lists(with(idpExtension(plain))), nil, crl.Undetermined, []crl.Cause{crl.CauseScope}},
		{"b2i scope without a name", w.leaf(t, nil, cdp(plain)), lists(with(idpExtension(onlyUsers))), nil, crl.Unrevoked, nil},
		{"b2i both names are relative", w.leaf(t, nil, cdp(relative("list 1"))), lists(with(idpExtension(relative("List  1")))), nil, crl.Unrevoked, nil},
		{"b2i relative names differ", w.leaf(t, nil, cdp(relative("list 1"))), lists(with(idpExtension(relative("list 2")))), nil, crl.Undetermined, []crl.Cause{crl.CauseScope, crl.CauseScope}},
		{"b2i relative in the list, full in the point", w.leaf(t, nil, cdp(pointName(directory(w.under(t, "list 1"))))), lists(with(idpExtension(relative("list 1")))), nil, crl.Unrevoked, nil},
		{"b2i relative to the CRL issuer that the point names", w.leaf(t, nil, cdp(cat(relative("list 1"), cRLIssuer(w.other.cert.RawSubject)))),
			lists(all(by(w.other), with(idpExtension(relative("list 1"), indirect)))), nil, crl.Unrevoked, nil},
		{"b2i point without a name: the list's name is its issuer's", w.leaf(t, nil, cdp(cRLIssuer(w.other.cert.RawSubject))),
			lists(all(by(w.other), with(idpExtension(pointName(directory(w.other.cert.RawSubject)), indirect)))), nil, crl.Unrevoked, nil},
		{"b2i point without a name: the list has another", w.leaf(t, nil, cdp(cRLIssuer(w.other.cert.RawSubject))),
			lists(all(by(w.other), with(idpExtension(plain, indirect)))), nil, crl.Undetermined, []crl.Cause{crl.CauseScope, crl.CauseIssuer}},
		{"b2ii users only, authority", w.leaf(t, ca), lists(with(idpExtension(onlyUsers))), nil, crl.Undetermined, []crl.Cause{crl.CauseScope}},
		{"b2ii users only, user", w.leaf(t, nil), lists(with(idpExtension(onlyUsers))), nil, crl.Unrevoked, nil},
		{"b2iii authorities only, user", w.leaf(t, nil), lists(with(idpExtension(onlyCAs))), nil, crl.Undetermined, []crl.Cause{crl.CauseScope}},
		{"b2iii authorities only, authority", w.leaf(t, ca), lists(all(with(idpExtension(onlyCAs)), revoking)), nil, crl.Revoked, nil},
		{"b2iii users only, version 1", v1(w.leaf(t, nil)), lists(with(idpExtension(onlyUsers))), nil, crl.Undetermined, []crl.Cause{crl.CauseScope}},
		{"b2iv attributes only", w.leaf(t, nil), lists(with(idpExtension(onlyAttributes))), nil, crl.Undetermined, []crl.Cause{crl.CauseScope}},

		{"c delta begins at the base", w.leaf(t, nil), lists(nil, all(delta(10, 11), revoking)), nil, crl.Revoked, nil},
		{"c delta begins before the base", w.leaf(t, nil), lists(nil, all(delta(8, 11), revoking)), nil, crl.Revoked, nil},
		{"c delta begins after the base", w.leaf(t, nil), lists(nil, all(delta(11, 12), revoking)), nil, crl.Unrevoked, []crl.Cause{crl.CauseDelta}},
		{"c delta is not younger", w.leaf(t, nil), lists(nil, all(delta(9, 10), revoking)), nil, crl.Unrevoked, []crl.Cause{crl.CauseDelta}},
		{"c delta has another scope", w.leaf(t, nil), lists(nil, all(delta(10, 11), with(idpExtension(onlyUsers)), revoking)), nil, crl.Unrevoked, []crl.Cause{crl.CauseDelta}},
		{"c delta of another issuer", w.leaf(t, nil), lists(nil, all(delta(10, 11), revoking, by(w.other))), nil, crl.Unrevoked, []crl.Cause{crl.CauseDelta}},
		{"c delta without a number", w.leaf(t, nil), lists(nil, all(func(s *strange) { s.extensions = []extension{deltaExtension(10)} }, revoking)), nil, crl.Unrevoked, []crl.Cause{crl.CauseDelta}},
		{"c delta has no scope, and the base has one", w.leaf(t, nil), lists(with(idpExtension(onlyUsers)), all(delta(10, 11), revoking)), nil, crl.Unrevoked, []crl.Cause{crl.CauseDelta}},
		{"c delta has the same scope", w.leaf(t, nil), lists(with(idpExtension(onlyUsers)), all(delta(10, 11), with(idpExtension(onlyUsers)), revoking)), nil, crl.Revoked, nil},
		{"c delta names another key", w.leaf(t, nil), lists(nil, all(delta(10, 11), with(keyID("x")), revoking)), nil, crl.Unrevoked, []crl.Cause{crl.CauseDelta}},
		{"c base without a number", w.leaf(t, nil), lists(numberless, all(delta(10, 11), revoking)), nil, crl.Unrevoked, []crl.Cause{crl.CauseDelta}},
		{"c delta has ended", w.leaf(t, nil), lists(nil, all(delta(10, 11), ended, revoking)), nil, crl.Unrevoked, []crl.Cause{crl.CauseStale}},
		{"c of two deltas the younger counts", w.leaf(t, nil), lists(nil, all(delta(10, 11), hold), all(delta(10, 12), removing)), nil, crl.Unrevoked, nil},
		{"c deltas are not wanted", w.leaf(t, nil), lists(nil, all(delta(10, 11), revoking)), ignoreDeltas, crl.Unrevoked, nil},
		{"c delta without a base", w.leaf(t, nil), lists(all(delta(10, 11), revoking)), nil, crl.Undetermined, []crl.Cause{crl.CauseDelta}},

		{"d some reasons only, not on it", w.leaf(t, nil), lists(with(idpExtension(onlyReasons(half)))), nil, crl.Undetermined, nil},
		{"d some reasons only, on it", w.leaf(t, nil), lists(all(with(idpExtension(onlyReasons(half))), revoking)), nil, crl.Revoked, nil},
		{"d two lists share the reasons", w.leaf(t, nil), lists(with(idpExtension(onlyReasons(half))), with(idpExtension(onlyReasons(rest)))), nil, crl.Unrevoked, nil},
		{"d the second of two names it", w.leaf(t, nil), lists(with(idpExtension(onlyReasons(half))), all(with(idpExtension(onlyReasons(rest))), revoking)), nil, crl.Revoked, nil},
		{"d point for some reasons only", w.leaf(t, nil, cdp(cat(plain, pointReasons(half)))), lists(with(idpExtension(plain))), nil, crl.Undetermined, []crl.Cause{crl.CauseScope}},
		{"d two points share the reasons", w.leaf(t, nil, cdp(cat(plain, pointReasons(half)), cat(pointName(there), pointReasons(rest)))),
			lists(with(idpExtension(plain)), with(idpExtension(pointName(there)))), nil, crl.Unrevoked, []crl.Cause{crl.CauseScope, crl.CauseScope}},
		{"e nothing new", w.leaf(t, nil), lists(with(idpExtension(onlyReasons(half))), all(aged(2*time.Hour), with(idpExtension(onlyReasons(half&0x6))))), nil, crl.Undetermined, []crl.Cause{crl.CauseReasons}},

		{"e another series revokes", w.leaf(t, nil), lists(all(aged(2*time.Hour), users, revoking), nil), nil, crl.Revoked, nil},
		{"e another series of the same moment revokes, with a smaller number", w.leaf(t, nil), lists(all(users, numbered(5), revoking), nil), nil, crl.Revoked, nil},
		{"e another series of the same moment revokes, with a larger number", w.leaf(t, nil), lists(all(users, numbered(50), revoking), nil), nil, crl.Revoked, nil},
		{"e a complete list revokes, and a shard does not", w.leaf(t, nil), lists(all(aged(2*time.Hour), revoking), users), nil, crl.Revoked, nil},
		{"e a list for which there is no point revokes", w.leaf(t, nil, cdp(plain)), lists(all(aged(2*time.Hour), revoking), with(idpExtension(plain))), nil, crl.Revoked, nil},
		{"e the youngest of another series does not revoke", w.leaf(t, nil), lists(all(aged(3*time.Hour), users, revoking), all(aged(2*time.Hour), users), nil), nil, crl.Unrevoked, nil},
		{"e another series holds, and is older", w.leaf(t, nil), lists(all(aged(2*time.Hour), users, hold), nil), nil, crl.Unrevoked, nil},
		{"e another series holds, of the same moment", w.leaf(t, nil), lists(all(users, numbered(5), hold), nil), nil, crl.Revoked, nil},
		{"e another series holds, and a younger delta of it too", w.leaf(t, nil), lists(all(aged(2*time.Hour), users, hold), all(delta(10, 11), with(idpExtension(onlyUsers)), hold), nil), nil, crl.Revoked, []crl.Cause{crl.CauseDelta}},
		{"e another series has ended", w.leaf(t, nil), lists(all(users, ended, aged(2*time.Hour), revoking), nil), nil, crl.Unrevoked, []crl.Cause{crl.CauseStale}},
		{"e another series is signed by nobody", w.leaf(t, nil), lists(all(users, signed(newKey(t)), aged(2*time.Hour), revoking), nil), nil, crl.Unrevoked, nil},
		{"e an older one of the series has ended", w.leaf(t, nil), lists(all(ended, aged(2*time.Hour), revoking), nil), nil, crl.Unrevoked, nil},
		{"e two of one moment and number, one revokes", w.leaf(t, nil), lists(nil, revoking), nil, crl.Revoked, nil},
		{"e two of one moment and number, the other revokes", w.leaf(t, nil), lists(revoking, nil), nil, crl.Revoked, nil},
		{"e two of one moment, the larger number counts", w.leaf(t, nil), lists(revoking, numbered(11)), nil, crl.Unrevoked, nil},

		{"f separate key of the same name", w.leaf(t, nil), lists(all(signed(w.listKey.key), revoking)), nil, crl.Revoked, nil},
		{"f nobody is believed", w.leaf(t, nil), lists(nil), believe(), crl.Undetermined, []crl.Cause{crl.CauseSigner}},
		{"f key usage without cRLSign", w.leaf(t, nil), lists(nil), believe(newAuthority(t, "Issuing CA", w.ca.key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }).cert), crl.Undetermined, []crl.Cause{crl.CauseSigner}},
		{"f no key usage at all", w.leaf(t, nil), lists(nil), believe(newAuthority(t, "Issuing CA", w.ca.key, func(c *x509.Certificate) { c.KeyUsage = 0 }).cert), crl.Unrevoked, nil},
		{"f right key, other name", w.leaf(t, nil), lists(nil), believe(newAuthority(t, "Other CA", w.ca.key).cert), crl.Undetermined, []crl.Cause{crl.CauseSigner}},
		{"g wrong key", w.leaf(t, nil), lists(signed(newKey(t))), nil, crl.Undetermined, []crl.Cause{crl.CauseSignature}},
		{"h delta signed by another key than its base", w.leaf(t, nil), lists(nil, all(delta(10, 11), signed(w.listKey.key), revoking)), nil, crl.Unrevoked, []crl.Cause{crl.CauseSignature}},

		{"i delta before base: removed", w.leaf(t, nil), lists(hold, all(delta(10, 11), removing)), nil, crl.Unrevoked, nil},
		{"i delta is silent", w.leaf(t, nil), lists(hold, delta(10, 11)), nil, crl.Revoked, nil},
		{"j another serial", w.leaf(t, nil), lists(func(s *strange) { s.entries = []strangeEntry{{serial: []byte{6}}} }), nil, crl.Unrevoked, nil},
		{"j same serial of another issuer", w.leaf(t, nil), lists(all(with(idpExtension(indirect)), naming(w.other))), nil, crl.Unrevoked, nil},
		{"j same serial of this issuer on an indirect list", w.leaf(t, nil, cdp(cat(plain, cRLIssuer(w.other.cert.RawSubject)))),
			lists(all(by(w.other), with(idpExtension(plain, indirect)), naming(w.ca))), nil, crl.Revoked, nil},
		{"j same serial of the CRL issuer on an indirect list", w.leaf(t, nil, cdp(cat(plain, cRLIssuer(w.other.cert.RawSubject)))),
			lists(all(by(w.other), with(idpExtension(plain, indirect)), revoking)), nil, crl.Unrevoked, nil},
		{"k removed in a complete list", w.leaf(t, nil), lists(removing), nil, crl.Unrevoked, nil},

		{"5.2 unknown critical extension", w.leaf(t, nil), lists(all(with(unknownExtension(true)), revoking)), nil, crl.Undetermined, []crl.Cause{crl.CauseCritical}},
		{"5.2 unknown critical extension of a delta", w.leaf(t, nil), lists(nil, all(delta(10, 11), with(unknownExtension(true)), revoking)), nil, crl.Unrevoked, []crl.Cause{crl.CauseCritical}},
		{"5.3 unknown critical entry extension, on another entry", w.leaf(t, nil), lists(func(s *strange) {
			s.entries = []strangeEntry{{serial: []byte{9}, extensions: []extension{unknownExtension(true)}}}
		}), nil, crl.Undetermined, []crl.Cause{crl.CauseCritical}},
		{"5.2.3 no number", w.leaf(t, nil), lists(numberless), strict, crl.Undetermined, []crl.Cause{crl.CauseDeviation}},
		{"5.2.3 no number, not strict", w.leaf(t, nil), lists(numberless), nil, crl.Unrevoked, nil},
		{"5.1.2.5 no nextUpdate, strict", w.leaf(t, nil), lists(endless), all2(strict, maxAge(2*time.Hour)), crl.Undetermined, []crl.Cause{crl.CauseDeviation}},
		{"5.1.2.6 a certificate twice, strict", w.leaf(t, nil), lists(all(other, other)), strict, crl.Undetermined, []crl.Cause{crl.CauseDeviation}},
		{"5.1.2.6 a certificate twice, strict, and it is the one", w.leaf(t, nil), lists(all(revoking, revoking)), strict, crl.Revoked, nil},
		{"5.2.3 no number, strict, and it revokes", w.leaf(t, nil), lists(all(numberless, revoking)), strict, crl.Revoked, nil},
		{"5.2.3 no number, strict, and an older list has one", w.leaf(t, nil), lists(aged(2*time.Hour), numberless), strict, crl.Unrevoked, []crl.Cause{crl.CauseDeviation}},
		{"5.1.2.4 a delta with an early date, strict", w.leaf(t, nil), lists(nil, all(delta(10, 11), func(s *strange) { s.early = true })), strict, crl.Unrevoked, []crl.Cause{crl.CauseDeviation}},
		{"5.1.2.4 a delta with an early date, strict, and it revokes", w.leaf(t, nil), lists(nil, all(delta(10, 11), revoking, func(s *strange) { s.early = true })), strict, crl.Revoked, nil},
		{"5.1.2.4 a delta with an early date, strict, and it takes a hold back", w.leaf(t, nil), lists(hold, all(delta(10, 11), removing, func(s *strange) { s.early = true })), strict, crl.Revoked, []crl.Cause{crl.CauseDeviation}},
		{"5.1.2.6 a certificate twice, not strict", w.leaf(t, nil), lists(all(revoking, removing)), nil, crl.Revoked, nil},
		{"5.1.2.6 a certificate twice, the other way round", w.leaf(t, nil), lists(all(removing, revoking)), nil, crl.Revoked, nil},
		{"5.2.5 empty scope", w.leaf(t, nil), lists(with(idpExtension())), nil, crl.Undetermined, []crl.Cause{crl.CauseMalformed}},
		{"version 1 list", w.leaf(t, nil), lists(all(func(s *strange) { s.version, s.extensions = -1, nil }, revoking)), nil, crl.Revoked, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var pool []*crl.List
			for _, change := range c.lists {
				pool = append(pool, w.list(t, change))
			}
			rules := crl.Rules{At: now, Signers: signers(w.ca.cert, w.listKey.cert, w.other.cert)}
			if c.change != nil {
				c.change(&rules)
			}
			j := crl.Judge(c.leaf, pool, rules)
			if j.Status != c.want {
				t.Errorf("status is %s, want %s (covered %x)", j.Status, c.want, j.Covered)
			}
			var causes []crl.Cause
			for _, r := range j.Rejected {
				causes = append(causes, r.Cause)
			}
			if len(causes) != len(c.causes) {
				t.Fatalf("rejected for %v, want %v: %v", causes, c.causes, j.Rejected)
			}
			for i := range causes {
				if causes[i] != c.causes[i] {
					t.Errorf("rejected for %v, want %v", causes, c.causes)
				}
			}
			if j.Status != crl.Undetermined && j.List == nil {
				t.Error("no list is named")
			}
		})
	}
}

func lists(changes ...func(*strange)) []func(*strange) { return changes }

func cat(fields ...[]byte) (all []byte) {
	for _, f := range fields {
		all = append(all, f...)
	}
	return all
}

func ignoreExpiration(r *crl.Rules) { r.IgnoreExpiration = true }
func ignoreDeltas(r *crl.Rules)     { r.IgnoreDeltas = true }
func pointsOnly(r *crl.Rules)       { r.PointsOnly = true }
func strict(r *crl.Rules)           { r.Strict = true }
func maxAge(d time.Duration) func(*crl.Rules) {
	return func(r *crl.Rules) { r.MaxAge = d }
}
func believe(certificates ...*x509.Certificate) func(*crl.Rules) {
	return func(r *crl.Rules) { r.Signers = signers(certificates...) }
}

func all2(a, b func(*crl.Rules)) func(*crl.Rules) { return func(r *crl.Rules) { a(r); b(r) } }

func other(s *strange) { s.entries = append(s.entries, strangeEntry{serial: []byte{9}}) }

func numbered(n int64) func(*strange) {
	return func(s *strange) { s.extensions[0] = numberExtension(n) }
}

func users(s *strange) { with(idpExtension(onlyUsers))(s) }

func numberless(s *strange) { s.extensions = nil }

func keyID(id string) extension {
	return extension{oid: asn1.ObjectIdentifier{2, 5, 29, 35}, value: tlv(0x30, tlv(0x80, []byte(id)))}
}

func naming(a authority) func(*strange) {
	return func(s *strange) {
		s.entries = []strangeEntry{{serial: []byte{5}, extensions: []extension{certificateIssuerExtension(a.cert.RawSubject)}}}
	}
}

func v1(t crl.Target) crl.Target { t.Version = 1; return t }

// respelt writes the issuer's name with other string types, case and spaces.
func respelt(s *strange) { s.issuer = respeltName }

var respeltName = tlv(0x30,
	tlv(0x31, tlv(0x30, []byte{6, 3, 0x55, 4, 10}, tlv(0x0c, []byte("signet   TESTS ")))),
	tlv(0x31, tlv(0x30, []byte{6, 3, 0x55, 4, 3}, tlv(0x1e, []byte("\x00i\x00S\x00s\x00u\x00i\x00n\x00g\x00 \x00C\x00A")))))

// respelling is the certificate that belongs to that spelling.
func respelling(t *testing.T, w world) *x509.Certificate {
	c := *w.ca.cert
	c.RawSubject = respeltName
	return &c
}

// under makes the name of the issuing CA with one more common name.
func (w world) under(t *testing.T, name string) []byte {
	t.Helper()
	var rdns []asn1.RawValue
	if _, err := asn1.Unmarshal(w.ca.cert.RawSubject, &rdns); err != nil {
		t.Fatal(err)
	}
	var content [][]byte
	for _, rdn := range rdns {
		content = append(content, rdn.FullBytes)
	}
	return tlv(0x30, append(content, tlv(0x31, tlv(0x30, []byte{6, 3, 0x55, 4, 3}, tlv(0x0c, []byte(name)))))...)
}

// TestJudgeTells: reasons and dates reach the caller.
func TestJudgeTells(t *testing.T) {
	w := newWorld(t)
	j := crl.Judge(w.leaf(t, nil), []*crl.List{w.list(t, hold)}, crl.Rules{At: now, Signers: signers(w.ca.cert)})
	if j.Status != crl.Revoked || j.Entry.Reason != pki.CertificateHold || !j.Entry.RevokedAt.Equal(now.Add(-time.Hour)) || j.List != j.Used[0] {
		t.Fatalf("judgement is %+v", j)
	}
	base, silent, loud := w.list(t, revoking), w.list(t, delta(10, 11)), w.list(t, all(delta(10, 11), revoking))
	for want, lists := range map[*crl.List][]*crl.List{base: {base, silent}, loud: {w.list(t, nil), loud}} {
		if j := crl.Judge(w.leaf(t, nil), lists, crl.Rules{At: now, Signers: signers(w.ca.cert)}); j.Status != crl.Revoked || j.List != want {
			t.Errorf("the list that names it is not told: %+v", j)
		}
	}
	if j := crl.Judge(w.leaf(t, nil), []*crl.List{base, silent}, crl.Rules{At: now, Signers: signers(w.ca.cert)}); !slices.Equal(j.Used, []*crl.List{base, silent}) {
		t.Errorf("used are %+v", j.Used)
	}
	if j := crl.Judge(w.leaf(t, nil), []*crl.List{w.list(t, nil)}, crl.Rules{At: now}); j.Status != crl.Undetermined {
		t.Fatal("without Signers the zero value does not deny")
	}
}

// TestSerialOfVersion1: certificates of version 1 say no version, so that the serial number comes first.
func TestSerialOfVersion1(t *testing.T) {
	target, err := crl.NewTarget(&x509.Certificate{RawTBSCertificate: tlv(0x30, tlv(2, []byte{5}), tlv(0x30))})
	if err != nil || !bytes.Equal(target.Serial, []byte{5}) {
		t.Errorf("serial %x, %v", target.Serial, err)
	}
	if _, err := crl.NewTarget(&x509.Certificate{RawTBSCertificate: tlv(0x30)}); err == nil {
		t.Error("a certificate of nothing was read")
	}
}

// TestBadPoints: a certificate whose distribution points cannot be read has no status.
func TestBadPoints(t *testing.T) {
	w := newWorld(t)
	for name, value := range map[string][]byte{
		"no point":            points(),
		"point of nothing":    points([]byte{}),
		"reasons alone":       points(pointReasons(crl.AllReasons)),
		"fields out of order": points(cat(cRLIssuer(w.ca.cert.RawSubject), pointName(uri("http://x/")))),
		"trailing octets":     append(points(pointName(uri("http://x/"))), 0),
		"no name":             points(pointName()),
		"empty relative":      points(tlv(0xa0, tlv(0xa1))),
	} {
		if p, err := crl.ParseDistributionPoints(value); err == nil {
			t.Errorf("%s: read as %+v", name, p)
		}
	}
	many := make([][]byte, 1000)
	for i := range many {
		many[i] = pointName(uri("http://crl.example/here.crl"), directory(w.ca.cert.RawSubject), tlv(0x82, []byte("dns")))
	}
	p, err := crl.ParseDistributionPoints(points(many...))
	if err != nil || len(p) != 1000 || len(p[999].Names) != 3 || len(p[999].URLs()) != 1 || p[0].Reasons != crl.AllReasons {
		t.Fatalf("%d points, %v", len(p), err)
	}
}

// TestManyNames: names are compared before any signature is looked at, and a list and a certificate may have thousands. The work grows with their
// number, not with its square: for each of the 4,000,000 pairs there would be an octet of memory at least.
func TestManyNames(t *testing.T) {
	w := newWorld(t)
	const many = 2000
	urls := func(host string) (names [][]byte) {
		for i := range many {
			names = append(names, uri(host+strconv.Itoa(i)))
		}
		return names
	}
	directories := func(text string) (names [][]byte) {
		for i := range many {
			names = append(names, directory(named(text+strconv.Itoa(i))))
		}
		return names
	}
	for _, tt := range []struct {
		name           string
		wanted, issued [][]byte
		want           crl.Status
	}{
		{"URLs", urls("http://a/"), urls("http://b/"), crl.Undetermined},
		{"URLs of which the last is shared", append(urls("http://a/"), uri("http://c/")), append(urls("http://b/"), uri("http://c/")), crl.Unrevoked},
		{"directory names", directories("a"), directories("b"), crl.Undetermined},
		{"directory names of which the last is shared", append(directories("a"), directory(named("c"))), append(directories("b"), directory(named("C "))), crl.Unrevoked},
	} {
		target := w.leaf(t, nil, cdp(pointName(tt.wanted...)))
		list := w.list(t, with(idpExtension(pointName(tt.issued...))))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		j := crl.Judge(target, []*crl.List{list}, crl.Rules{At: now, PointsOnly: true, Signers: signers(w.ca.cert)})
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 4_000_000 {
			t.Errorf("%s: took %d octets of memory", tt.name, took)
		}
		if j.Status != tt.want {
			t.Errorf("%s: %s, want %s: %v", tt.name, j.Status, tt.want, j.Rejected)
		}
	}
}

// named is a name of one attribute.
func named(commonName string) []byte {
	return tlv(0x30, tlv(0x31, tlv(0x30, []byte{6, 3, 0x55, 4, 3}, tlv(0x0c, []byte(commonName)))))
}

// TestManyPoints: every list at hand is looked at for every distribution point, so there is an end of them.
func TestManyPoints(t *testing.T) {
	for n, ok := range map[int]bool{1024: true, 1025: false} {
		each := make([][]byte, n)
		for i := range each {
			each[i] = pointName(uri("http://crl.example/" + strconv.Itoa(i)))
		}
		if read, err := crl.ParseDistributionPoints(points(each...)); (err == nil) != ok || ok && len(read) != n {
			t.Errorf("%d points: %d are read, %v", n, len(read), err)
		}
	}
}
