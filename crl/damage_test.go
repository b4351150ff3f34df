package crl_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"

	"signet.example/signet/crl"
	"signet.example/signet/internal/testder"
)

var listNames = testder.Names{
	"/SEQUENCE": "CertificateList", "CertificateList/SEQUENCE": "tbsCertList", "CertificateList/SEQUENCE#2": "signatureAlgorithm", "CertificateList/BIT STRING": "signatureValue BIT STRING",
	"tbsCertList/INTEGER": "version INTEGER", "tbsCertList/SEQUENCE": "signature", "tbsCertList/SEQUENCE#2": "Name", "tbsCertList/SEQUENCE#3": "revokedCertificates", "tbsCertList/{0}": "crlExtensions",
	"Name/SET": "RDN", "RDN/SEQUENCE": "Attribute", "revokedCertificates/SEQUENCE": "Entry", "Entry/SEQUENCE": "Extensions", "crlExtensions/SEQUENCE": "Extensions",
	"Extensions/SEQUENCE": "Extension", "551d14/INTEGER": "cRLNumber INTEGER", "551d1b/INTEGER": "deltaCRLIndicator INTEGER", "551d15/ENUMERATED": "reasonCode ENUMERATED",
	"551d18/GeneralizedTime": "invalidityDate GeneralizedTime", "551d3c/GeneralizedTime": "expiredCertsOnCRL GeneralizedTime",
	"551d23/SEQUENCE": "AuthorityKeyIdentifier", "AuthorityKeyIdentifier/[0]": "keyIdentifier",
	"551d1c/SEQUENCE": "IDP", "IDP/{0}": "distributionPoint", "IDP/[1]": "onlyContainsUserCerts BOOLEAN", "IDP/[2]": "onlyContainsCACerts BOOLEAN",
	"IDP/[3]": "onlySomeReasons BIT STRING", "IDP/[4]": "indirectCRL BOOLEAN", "distributionPoint/{0}": "GeneralNames", "distributionPoint/{1}": "RDN",
	"GeneralNames/{4}": "directoryName", "GeneralNames/[6]": "uniformResourceIdentifier", "directoryName/SEQUENCE": "Name", "551d1d/SEQUENCE": "GeneralNames",
	"2b06010401868d1f01/NULL": "unknown...", "551d2e/SEQUENCE": "CRLDistributionPoints", "CRLDistributionPoints/SEQUENCE": "DistributionPoint", "DistributionPoint/{0}": "distributionPoint",
}

// TestDamagedLists damages every node of lists in every way: each is refused, or one of the leniencies. The reader of streams says the same. None
// verifies, and what crypto/x509 reads as well says the same.
func TestDamagedLists(t *testing.T) {
	ca := newAuthority(t, "Damaged CA", newKey(t))
	good := strange{version: 1, issuer: ca.cert.RawSubject, this: now, next: now.AddDate(0, 0, 1), signer: ca.key}
	entries := func(l ...strangeEntry) strange {
		s := good
		s.entries = l
		return s
	}
	full := ca.template()
	full.URLs, full.UserCerts, full.Freshest, full.ExpiredSince = []string{"http://crl.example/x.crl", "http://crl.example/y.crl"}, true, []string{"http://crl.example/d.crl"}, now
	listed, _ := filled(3).At(3)
	ours, _, err := signBytes(full, listed, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	delta := entries(strangeEntry{serial: []byte{5}, extensions: []extension{reasonExtension(8), unknownExtension(false)}})
	delta.extensions = []extension{numberExtension(8), deltaExtension(7)}
	indirectly := entries(strangeEntry{serial: []byte{5}, extensions: []extension{certificateIssuerExtension(ca.cert.RawSubject), reasonExtension(3)}}, strangeEntry{serial: []byte{0x80}})
	indirectly.extensions = []extension{numberExtension(1 << 40), idpExtension(relative("x"), onlyReasons(6), indirect), unknownExtension(false)}
	empty := good
	empty.extensions = []extension{numberExtension(0), idpExtension(pointName(directory(ca.cert.RawSubject)), onlyCAs)}
	old := entries(strangeEntry{serial: []byte{5}})
	old.version = -1
	lenient := testder.Leniencies{
		{Kinds: "minus one, zero in front", Wheres: "Entry/INTEGER", Why: "other authorities have such serial numbers, which differ from those that were damaged"},
		{Kinds: "as GeneralizedTime", Wheres: "Entry/UTCTime, tbsCertList/UTCTime", Why: "a deviation (Section 5.1.2.4), and the time is plain"},
		{Kinds: "removed, after the next", Wheres: "tbsCertList/UTCTime", Why: "nextUpdate may be absent; a list that ends before it begins counts at no time"},
		{Kinds: "removed", Wheres: "Entry/Extensions, Extension/BOOLEAN, AuthorityKeyIdentifier/keyIdentifier, IDP/distributionPoint, IDP/onlyContainsUserCerts BOOLEAN, IDP/onlyContainsCACerts BOOLEAN, IDP/indirectCRL BOOLEAN, IDP/onlySomeReasons BIT STRING, tbsCertList/revokedCertificates, tbsCertList/crlExtensions", Why: "is optional"},
		{Kinds: "removed, twice, after the next", Wheres: "revokedCertificates/Entry", Why: "there may be any number, in any order; twice is a deviation, and none makes the list unusable"},
		{Kinds: "removed, after the next", Wheres: "Extensions/Extension", Why: "there may be any number, in any order"},
		{Kinds: "removed, twice, after the next, another tag", Wheres: "GeneralNames/directoryName, GeneralNames/uniformResourceIdentifier, CRLDistributionPoints/DistributionPoint", Why: "there may be any number from one, of any kind"},
		{Kinds: "removed, twice, after the next", Wheres: "Name/RDN, RDN/Attribute", Why: "a name of other parts is another name"},
		{Kinds: "another tag, another class, universal or context tag, constructed or not", Wheres: "Attribute/PrintableString, Attribute/UTF8String", Why: "values of attributes are of any type, and those that are no strings compared as octets"},
		{Kinds: "emptied", Wheres: "directoryName/Name, OCTET STRING/AuthorityKeyIdentifier", Why: "everything in it is optional"},
		{Kinds: "emptied", Wheres: "OCTET STRING/IDP, tbsCertList/revokedCertificates", Why: "makes the list unusable (TestUnusable)"},
		{Kinds: "another tag", Wheres: "IDP/indirectCRL BOOLEAN", Why: "says that it is of attribute certificates, then"},
		{Kinds: "false written out", Wheres: "Extensions/Extension, Extension/BOOLEAN, IDP/onlyContainsUserCerts BOOLEAN, IDP/onlyContainsCACerts BOOLEAN, IDP/indirectCRL BOOLEAN", Why: "a default that is written out is not DER, and common"},
		{Kinds: "*", Wheres: "OCTET STRING/unknown...", Why: "nobody looks into an unknown extension"},
		{Kinds: "emptied, an element at the end, an octet at the end", Wheres: "Extension/OCTET STRING", Why: "the same"},
	}
	for _, document := range []struct {
		name string
		der  []byte
	}{{"ours", ours}, {"delta", delta.der(t)}, {"indirect", indirectly.der(t)}, {"empty", empty.der(t)}, {"version 1", old.der(t)}} {
		if l, err := crl.Parse(document.der); err != nil || l.Verify(ca.cert) != nil {
			t.Fatalf("%s: %v", document.name, err)
		}
		for damage := range testder.Parse(document.der, listNames).Damages() {
			l, err := crl.Parse(damage.DER)
			_, streamed := crl.Read(bytes.NewReader(damage.DER), 1<<20)
			if (err == nil) != (streamed == nil) {
				t.Errorf("%s: %s: memory %v, stream %v", document.name, damage, err, streamed)
			}
			if err != nil {
				if _, ok := errors.AsType[*crl.ParseError](err); !ok {
					t.Errorf("%s: %s: refused with %v", document.name, damage, err)
				}
				continue
			}
			if !lenient.Allow(damage) {
				t.Errorf("%s: %s: accepted", document.name, damage)
			}
			if l.Verify(ca.cert) == nil {
				t.Errorf("%s: %s: verifies", document.name, damage)
			}
			if theirs, err := x509.ParseRevocationList(damage.DER); err == nil && (l.Len() != len(theirs.RevokedCertificateEntries) || !bytes.Equal(l.Issuer, theirs.RawIssuer) ||
				!l.ThisUpdate.Equal(theirs.ThisUpdate) || !l.NextUpdate.Equal(theirs.NextUpdate) || l.HasNumber && l.Number.String() != theirs.Number.String()) {
				t.Errorf("%s: %s: crypto/x509 reads another list", document.name, damage)
			}
		}
	}
	for _, unused := range lenient.Unused() {
		t.Errorf("nothing needs the leniency %+v", unused)
	}
}
