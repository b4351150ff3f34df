package verify_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"signet.example/signet/handshake/verify"
)

// Points in which published corpora (of BoringSSL and of rustls' webpki) are particular, with cases of our own.

// TestSoftRefusesBad: the soft modes tolerate missing evidence, not bad evidence.
func TestSoftRefusesBad(t *testing.T) {
	old := func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Minute) }
	for _, tc := range []struct {
		name   string
		change func(q *verify.Case, root, int, leaf *entity)
		result verify.Verdict
		class  verify.Class
	}{
		{"nothing", func(q *verify.Case, root, int, leaf *entity) { q.CRLs = nil }, verify.Accept, ""},
		{"another's CRL", func(q *verify.Case, root, int, leaf *entity) { q.CRLs = q.CRLs[:1] }, verify.Accept, ""},
		{"another signature", func(q *verify.Case, root, int, leaf *entity) { q.CRLs[1][len(q.CRLs[1])-1] ^= 1 }, verify.Reject, verify.ClassBadSignature},
		{"an old CRL", func(q *verify.Case, root, int, leaf *entity) { q.CRLs[1] = int.list(t, old) }, verify.Reject, verify.ClassStale},
		{"an old CRL, ignored", func(q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1], q.CRLExpiration = int.list(t, old), "ignore"
		}, verify.Accept, ""},
		{"a response of another authority", func(q *verify.Case, root, int, leaf *entity) {
			q.CRLs, q.OCSPs = nil, []verify.DER{int.response(t, ocsp.Good, nil, nil)}
		}, verify.Accept, ""},
		{"a response with another signature", func(q *verify.Case, root, int, leaf *entity) {
			response := leaf.response(t, ocsp.Good, nil, nil)
			response[len(response)-1] ^= 1
			q.CRLs, q.OCSPs = nil, []verify.DER{response}
		}, verify.Reject, verify.ClassBadSignature},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, root, int, leaf := question(t)
			q.Revocation = verify.RevocationSoftLeaf
			tc.change(q, root, int, leaf)
			expect(t, q, tc.result, tc.class)
		})
	}
}

// TestOCSPOverSHA1: what a response says is asked of old ones too; a chain does not rely on them.
func TestOCSPOverSHA1(t *testing.T) {
	q, _, int, leaf := question(t)
	response := leaf.response(t, ocsp.Good, nil, func(r *ocsp.Response) { r.SignatureAlgorithm = x509.ECDSAWithSHA1 })
	expect(t, &verify.Case{Kind: verify.KindOCSP, OCSPs: []verify.DER{response}, Issuers: ders(int), Leaf: leaf.Raw, Time: q.Time}, verify.Good, "")
	q.CRLs, q.OCSPs, q.Revocation = nil, []verify.DER{response}, verify.RevocationHardLeaf
	expect(t, q, verify.Reject, verify.ClassBadSignature)
}

// TestOCSPUnparsedLeaf: a certificate that crypto/x509 does not parse can still be asked about, by its octets.
func TestOCSPUnparsedLeaf(t *testing.T) {
	q, _, int, _ := question(t)
	leaf := issue(t, "odd", int, false, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0x555555) })
	// Two octets too many.
	tbs := bytes.Replace(leaf.RawTBSCertificate, []byte{2, 3, 0x55, 0x55, 0x55}, []byte{2, 3, 0, 0, 0x55}, 1)
	odd := resign(t, tbs, leaf, int)
	if _, err := verify.ParseCertificate(odd); err == nil {
		t.Fatal("the certificate parses")
	}
	r := expect(t, &verify.Case{Kind: verify.KindOCSP, OCSPs: []verify.DER{leaf.response(t, ocsp.Good, nil, nil)}, Issuers: ders(int), Leaf: odd, Time: q.Time}, verify.Unknown, verify.ClassNoInformation)
	if r.PerCert[0].Serial != "55" {
		t.Errorf("the serial number is %s", r.PerCert[0].Serial)
	}
}

// TestIndirectUnasked: an indirect list counts for one certificate only if that points to it as such.
func TestIndirectUnasked(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	for name, tc := range map[string]struct {
		points []byte
		want   verify.Verdict
	}{
		"the point names no CRL issuer": {uriPoint("http://crl.test/a", 0), verify.Unknown},
		"no point":                      {nil, verify.Good},
	} {
		t.Run(name, func(t *testing.T) {
			leaf := issue(t, "leaf", root, false, func(c *x509.Certificate) {
				if tc.points != nil {
					c.ExtraExtensions = append(c.ExtraExtensions, points(tc.points))
				}
			})
			list := root.list(t, with(scope(element(0x84, 0xff))))
			expect(t, &verify.Case{Kind: verify.KindCRL, CRLs: []verify.DER{list}, Issuers: ders(root), Leaf: leaf.Raw, Time: now.Format(time.RFC3339)}, tc.want, classOf(tc.want))
		})
	}
}

// TestKeyChange: of two issuers of one name, the one that signed the list counts, whichever comes first.
func TestKeyChange(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	old, renewed, stranger := issue(t, "int", root, true, nil), issue(t, "int", root, true, nil), issue(t, "int", nil, true, nil)
	leaf := issue(t, "leaf", old, false, nil)
	for _, issuers := range [][]*entity{{old, renewed}, {renewed, old}} {
		for _, signer := range issuers {
			q := &verify.Case{Kind: verify.KindCRL, CRLs: []verify.DER{signer.list(t, nil, leaf)}, Issuers: ders(issuers...), Leaf: leaf.Raw, Time: now.Format(time.RFC3339)}
			expect(t, q, verify.Revoked, verify.ClassRevoked)
			q.CRLs[0] = signer.list(t, nil)
			expect(t, q, verify.Good, "")
			q.CRLs[0] = stranger.list(t, nil)
			expect(t, q, verify.Unknown, verify.ClassBadSignature)
		}
	}
}

func classOf(v verify.Verdict) verify.Class {
	if v == verify.Good {
		return ""
	}
	return verify.ClassNoInformation
}

// TestBeyondX509: what RFC 5280 allows and crypto/x509 does not take (PKITS, sections 4.3 and 4.6): names that are the
// same and spelt otherwise, and self-issued certificates that do not count in a path length.
func TestBeyondX509(t *testing.T) {
	zero := func(c *x509.Certificate) { c.MaxPathLenZero = true }
	root := issue(t, "root", nil, true, nil)
	int := issue(t, "Int  CA", root, true, nil)
	alias := *int.Certificate
	alias.RawSubject = issue(t, "int ca", root, true, nil).RawSubject
	spelt := issue(t, "leaf", &entity{Certificate: &alias, key: int.key}, false, nil)
	bounded := issue(t, "bounded", root, true, zero)
	renewed := issue(t, "bounded", bounded, true, zero) // self-issued, with another key
	below := issue(t, "below", bounded, true, nil)
	belowRenewed := issue(t, "below", renewed, true, nil)
	for _, tc := range []struct {
		name          string
		leaf          *entity
		intermediates []*entity
		want          verify.Verdict
		class         verify.Class
	}{
		{"a name spelt otherwise", spelt, []*entity{int}, verify.Accept, ""},
		{"self-issued below path length 0", issue(t, "leaf", renewed, false, nil), []*entity{bounded, renewed}, verify.Accept, ""},
		{"another CA below path length 0", issue(t, "leaf", below, false, nil), []*entity{bounded, below}, verify.Reject, verify.ClassPath},
		{"another CA below a self-issued one", issue(t, "leaf", belowRenewed, false, nil), []*entity{bounded, renewed, belowRenewed}, verify.Reject, verify.ClassPath},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect(t, &verify.Case{Kind: verify.KindChain, Roots: ders(root), Intermediates: ders(tc.intermediates...), Leaf: tc.leaf.Raw, Time: now.Format(time.RFC3339), EKU: "any"}, tc.want, tc.class)
		})
	}
}

// TestNamesake: an end entity that has the name of a CRL issuer signs lists only if its certificate says so. An
// authority may be silent.
func TestNamesake(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	for _, tc := range []struct {
		name   string
		ca     bool
		usage  x509.KeyUsage
		result verify.Verdict
	}{
		{"end entity for lists", false, x509.KeyUsageCRLSign, verify.Accept},
		{"end entity for something else", false, x509.KeyUsageDigitalSignature, verify.Reject},
		{"end entity for nothing", false, 0, verify.Reject},
		{"end entity of version 1", false, 0, verify.Reject},
		{"authority for nothing", true, 0, verify.Accept},
		{"authority for certificates", true, x509.KeyUsageCertSign, verify.Reject},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lister := issue(t, "lister", root, tc.ca, func(c *x509.Certificate) { c.KeyUsage = tc.usage })
			if strings.HasSuffix(tc.name, "version 1") {
				lister = versionOne(t, lister)
			}
			cRLIssuer := element(0x30, element(0xa2, element(0xa4, lister.RawSubject...)...)...)
			leaf := issue(t, "leaf", root, false, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{points(cRLIssuer)} })
			signer := *lister.Certificate
			signer.KeyUsage, signer.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1} // so that crypto/x509 makes the list
			list := (&entity{Certificate: &signer, key: lister.key}).list(t, with(scope(element(0x84, 0xff))))
			q := &verify.Case{
				Kind: verify.KindChain, Roots: ders(root), Intermediates: ders(lister), Leaf: leaf.Raw, CRLs: []verify.DER{list}, Time: now.Format(time.RFC3339),
				EKU: "any", Revocation: verify.RevocationHardLeaf,
			}
			if got := verify.Judge(q); got.Result != tc.result {
				t.Errorf("%s (%s), want %s", got.Result, got.Detail, tc.result)
			}
		})
	}
}

// TestEndEntitiesVouchForNobody: the holder of the key of a version 1 certificate, or of the leaf itself, cannot make a
// signer for the lists of its CA.
func TestEndEntitiesVouchForNobody(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	old := versionOne(t, issue(t, "old", root, false, nil))
	leaf := issue(t, "leaf", root, false, nil)
	imposter := func(name string, issuer *entity) *entity {
		return issue(t, name, issuer, true, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	}
	namesake := issue(t, "root", root, false, func(c *x509.Certificate) { c.KeyUsage = 0 })
	for _, tc := range []struct {
		name         string
		leaf, signer *entity
		pool         []verify.DER
		result       verify.Verdict
	}{
		{"the CA", leaf, root, nil, verify.Accept},
		{"below a certificate of version 1", leaf, imposter("root", old), ders(old), verify.Reject},
		{"below a leaf of version 1", old, imposter("root", old), nil, verify.Reject},
		{"a leaf with the name of its CA", namesake, namesake, nil, verify.Reject},
	} {
		signer := *tc.signer.Certificate
		signer.KeyUsage = x509.KeyUsageCRLSign // so that crypto/x509 makes the list
		q := &verify.Case{
			Kind: verify.KindChain, Roots: ders(root), Intermediates: append(ders(tc.signer), tc.pool...), Leaf: tc.leaf.Raw,
			CRLs: []verify.DER{(&entity{Certificate: &signer, key: tc.signer.key}).list(t, nil)}, Time: now.Format(time.RFC3339), EKU: "any", Revocation: verify.RevocationHardLeaf,
		}
		if got := verify.Judge(q); got.Result != tc.result {
			t.Errorf("%s: %s (%s), want %s", tc.name, got.Result, got.Detail, tc.result)
		}
	}
}

// versionOne makes what it was before there were extensions, by the same issuer.
func versionOne(t *testing.T, e *entity) *entity {
	t.Helper()
	var parts []asn1.RawValue
	if _, err := asn1.Unmarshal(e.RawTBSCertificate, &parts); err != nil {
		t.Fatal(err)
	}
	tbs, err := asn1.Marshal(parts[1 : len(parts)-1]) // not the version, not the extensions
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(tbs)
	signature, err := e.issuer.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal([]asn1.RawValue{{FullBytes: tbs}, parts[2], {Tag: asn1.TagBitString, Bytes: append([]byte{0}, signature...)}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := verify.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &entity{Certificate: c, key: e.key, issuer: e.issuer}
}
