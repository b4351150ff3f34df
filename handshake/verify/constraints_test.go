package verify_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake/verify"
)

// long is element for any length.
func long(t *testing.T, tag byte, content ...[]byte) []byte {
	t.Helper()
	der, err := asn1.Marshal(asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 0x1f), IsCompound: tag&0x20 != 0, Bytes: bytes.Join(content, nil)})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// limits is a name constraints extension; the names are DER of GeneralNames.
func limits(t *testing.T, permitted, excluded [][]byte) pkix.Extension {
	t.Helper()
	var fields [][]byte
	for i, names := range [][][]byte{permitted, excluded} {
		var trees [][]byte
		for _, name := range names {
			trees = append(trees, long(t, 0x30, name))
		}
		if trees != nil {
			fields = append(fields, long(t, 0xa0+byte(i), trees...))
		}
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: long(t, 0x30, fields...)}
}

func directory(t *testing.T, name pkix.Name) []byte {
	t.Helper()
	der, err := asn1.Marshal(name.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return long(t, 0xa4, der)
}

// TestNameConstraints: every form of name against constraints of the CA above, by RFC 5280, Section 4.2.1.10.
func TestNameConstraints(t *testing.T) {
	text := func(tag byte) func(string) []byte { return func(s string) []byte { return long(t, tag, []byte(s)) } }
	mail, dns, uri, ip := text(0x81), text(0x82), text(0x86), text(0x87)
	other := long(t, 0xa0, element(6, 1, 2, 3), element(0xa0, element(12, 'x')...))
	dir := func(name pkix.Name) []byte { return directory(t, name) }
	acme := pkix.Name{Country: []string{"AT"}, Organization: []string{"Acme  Corp"}}
	below := pkix.Name{Country: []string{"at"}, Organization: []string{"acme corp"}, CommonName: "leaf"}
	stranger := pkix.Name{Country: []string{"AT"}, Organization: []string{"Acme Corporation"}, CommonName: "leaf"}
	minimum := append(dns("example.com"), element(0x80, 1)...)
	names := func(list ...[]byte) [][]byte { return list }
	const class = verify.ClassPath
	for _, tt := range []struct {
		name                string
		permitted, excluded [][]byte
		subject             pkix.Name
		alternatives        [][]byte
		class               verify.Class // empty: accepted
	}{
		{"directory, permitted and spelt otherwise", names(dir(acme)), nil, below, nil, ""},
		{"directory, not permitted", names(dir(acme)), nil, stranger, nil, class},
		{"directory, shorter than the constraint", names(dir(acme)), nil, pkix.Name{Country: []string{"AT"}}, nil, class},
		{"directory, excluded", nil, names(dir(acme)), below, nil, class},
		{"directory, not excluded", nil, names(dir(acme)), stranger, nil, ""},
		{"directory, permitted and excluded", names(dir(acme)), names(dir(below)), below, nil, class},
		{"directory, one of two permitted", names(dir(stranger), dir(acme)), nil, below, nil, ""},
		{"directory, no subject", names(dir(acme)), nil, pkix.Name{}, names(dns("a.test")), ""},
		{"directory, in an alternative name", names(dir(acme)), nil, below, names(dns("a.test"), dir(stranger)), class},
		{"directory permitted, DNS excluded", names(dir(acme)), names(dns("test")), below, names(dns("a.test")), class},

		{"DNS, the host", names(dns("a.test"), dir(acme)), nil, below, names(dns("A.test")), ""},
		{"DNS, below the host", names(dns("a.test"), dir(acme)), nil, below, names(dns("b.a.test")), ""},
		{"DNS, another that ends like it", names(dns("a.test"), dir(acme)), nil, below, names(dns("ba.test")), class},
		{"DNS, one of two names", names(dns("a.test"), dir(acme)), nil, below, names(dns("a.test"), dns("b.test")), class},
		{"DNS, everything excluded", names(dir(acme)), names(dns("")), below, names(dns("a.test")), class},
		{"DNS, a wildcard that stands for an excluded host", names(dir(acme)), names(dns("a.test")), below, names(dns("*.test")), class},
		{"DNS, a wildcard beside an excluded host", names(dir(acme)), names(dns("b.a.test")), below, names(dns("*.test")), ""},
		{"DNS, a wildcard beyond what is permitted", names(dir(acme), dns("a.test")), nil, below, names(dns("*.test")), class},
		{"DNS, a leading period", names(dir(acme), dns(".test")), nil, below, names(dns("test")), class},
		{"DNS, an empty label", names(dir(acme)), names(dns("a.test")), below, names(dns("a.test.")), class},
		{"DNS, no such name", names(dir(acme), dns("a.test")), nil, below, nil, ""},

		{"address, the mailbox", names(mail("a@x.test")), nil, below, names(mail("a@X.test")), ""},
		{"address, another mailbox", names(mail("a@x.test")), nil, below, names(mail("A@x.test")), class},
		{"address, the host", names(mail("x.test")), nil, below, names(mail("a@x.test")), ""},
		{"address, below the host", names(mail("x.test")), nil, below, names(mail("a@b.x.test")), class},
		{"address, below the excluded host", nil, names(mail("x.test")), below, names(mail("a@b.x.test")), ""},
		{"address, the domain", names(mail(".x.test")), nil, below, names(mail("a@b.x.test")), ""},
		{"address, two hosts", names(mail("x.test")), nil, below, names(mail("a@b.test@x.test")), class},
		{"address, two hosts, the excluded one", nil, names(mail("b.test")), below, names(mail("a@b.test@x.test")), class},
		{"address, a quoted @", names(mail("x.test")), nil, below, names(mail(`"a@b.test"@x.test`)), ""},
		{"address, half a quotation", names(mail("x.test")), nil, below, names(mail(`"@x.test`)), class},
		{"address, an opened quotation", names(mail("x.test")), nil, below, names(mail(`"a@x.test`)), class},
		{"address, a closed quotation", names(mail("x.test")), nil, below, names(mail(`a"@x.test`)), class},
		{"address, nobody", names(mail("x.test")), nil, below, names(mail("@x.test")), class},
		{"address, not the domain itself", names(mail(".x.test")), nil, below, names(mail("a@x.test")), class},
		{"address, in the subject of before", nil, names(mail("x.test")), pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "a@x.test"},
		}}, nil, class},

		{"URI, the host", names(uri("x.test")), nil, below, names(uri("https://u@X.test:8443/a?b")), ""},
		{"URI, below the excluded host", nil, names(uri("x.test")), below, names(uri("https://b.x.test/")), ""},
		{"URI, the excluded domain", nil, names(uri(".x.test")), below, names(uri("https://b.x.test/")), class},
		{"URI, no host", nil, names(uri("x.test")), below, names(uri("urn:x.test")), class},
		{"URI, an address", nil, names(uri("x.test")), below, names(uri("https://192.0.2.1/")), class},
		{"URI, no host and no constraint on it", names(dir(acme)), nil, below, names(uri("urn:x.test")), ""},

		{"IP, inside", names(dir(acme), ip("\xc0\x00\x02\x00\xff\xff\xff\x00")), nil, below, names(ip("\xc0\x00\x02\x07")), ""},
		{"IP, outside", names(dir(acme), ip("\xc0\x00\x02\x00\xff\xff\xff\x00")), nil, below, names(ip("\xc0\x00\x03\x07")), class},
		{"IP, excluded", names(dir(acme)), names(ip("\xc0\x00\x02\x00\xff\xff\xff\x00")), below, names(ip("\xc0\x00\x02\x07")), class},
		{"IP, of the other length", names(dir(acme), ip("\xc0\x00\x02\x00\xff\xff\xff\x00")), nil, below, names(ip("\xc0\x00\x02\x07123456789abc")), class},

		{"other name, none there", nil, names(other), below, nil, ""},
		{"other name, one there", nil, names(other), below, names(dns("a.test"), other), verify.ClassUnsupported},
		{"a minimum, no such name", names(dir(acme), minimum), nil, below, nil, ""},
		{"a minimum", names(dir(acme), minimum), nil, below, names(dns("example.com")), verify.ClassUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := issue(t, "root", nil, true, nil)
			int := issue(t, "int", root, true, func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, limits(t, tt.permitted, tt.excluded))
			})
			leaf := issue(t, "leaf", int, false, func(c *x509.Certificate) {
				c.Subject, c.DNSNames = tt.subject, nil
				if tt.alternatives != nil {
					c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{
						Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: tt.subject.CommonName == "", Value: long(t, 0x30, tt.alternatives...),
					})
				}
			})
			expectPath(t, tt.class, leaf, []*entity{root}, int)
		})
	}
}

func expectPath(t *testing.T, class verify.Class, leaf *entity, roots []*entity, intermediates ...*entity) {
	t.Helper()
	want := verify.Accept
	if class != "" {
		want = verify.Reject
	}
	got := expect(t, &verify.Case{Kind: verify.KindChain, Roots: ders(roots...), Intermediates: ders(intermediates...), Leaf: leaf.Raw, Time: now.Format(time.RFC3339), EKU: "any"}, want, class)
	if strings.Contains(got.Detail, `\x`) {
		t.Errorf("the detail is not for people: %s", got.Detail)
	}
}

// TestWhomConstraintsBind: name constraints bind the certificates below the CA, except self-issued CAs (RFC 5280,
// Section 6.1.3), and signers of lists.
func TestWhomConstraintsBind(t *testing.T) {
	only := directory(t, pkix.Name{Organization: []string{"Acme"}})
	inAcme := func(c *x509.Certificate) { c.Subject.Organization = []string{"Acme"} }
	limit := func(critical bool) func(*x509.Certificate) {
		extension := limits(t, [][]byte{only}, nil)
		extension.Critical = critical
		return func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, extension) }
	}
	root := issue(t, "root", nil, true, nil)
	int := issue(t, "int", root, true, limit(true))
	noted := issue(t, "noted", root, true, limit(false))
	renewed := issue(t, "int", int, true, nil) // self-issued, and not of Acme
	under, outside := issue(t, "under", int, true, inAcme), issue(t, "outside", int, true, nil)
	strict := issue(t, "strict", nil, true, limit(true))

	expectPath(t, "", issue(t, "leaf", int, false, inAcme), []*entity{root}, int)
	expectPath(t, verify.ClassPath, issue(t, "leaf", noted, false, nil), []*entity{root}, noted)
	expectPath(t, "", issue(t, "leaf", renewed, false, inAcme), []*entity{root}, int, renewed)
	expectPath(t, verify.ClassPath, issue(t, "leaf", renewed, false, nil), []*entity{root}, int, renewed)
	expectPath(t, "", issue(t, "leaf", under, false, inAcme), []*entity{root}, int, under)
	expectPath(t, verify.ClassPath, issue(t, "leaf", under, false, nil), []*entity{root}, int, under)
	expectPath(t, verify.ClassPath, issue(t, "leaf", outside, false, inAcme), []*entity{root}, int, outside)
	expectPath(t, verify.ClassPath, issue(t, "leaf", strict, false, nil), []*entity{strict})
	expired := issue(t, "leaf", int, false, func(c *x509.Certificate) { inAcme(c); c.NotAfter = now.Add(-time.Hour) })
	expectPath(t, verify.ClassExpired, expired, []*entity{root}, int)

	// A list signed with a key of its own, certified below a constrained CA.
	for name, tt := range map[string]struct {
		subject func(*x509.Certificate)
		want    verify.Verdict
		class   verify.Class
	}{"of Acme": {inAcme, verify.Accept, ""}, "not of Acme": {nil, verify.Reject, verify.ClassBadSignature}} {
		t.Run("CRL signer "+name, func(t *testing.T) {
			ca := issue(t, "lister", root, true, tt.subject)
			signer := issue(t, "lister", int, false, func(c *x509.Certificate) {
				c.KeyUsage, c.DNSNames = x509.KeyUsageCRLSign, nil
				if tt.subject != nil {
					tt.subject(c)
				}
			})
			leaf := issue(t, "leaf", ca, false, nil)
			expect(t, &verify.Case{
				Kind: verify.KindChain, Roots: ders(root), Intermediates: ders(int, ca, signer), Leaf: leaf.Raw, Time: now.Format(time.RFC3339),
				Revocation: verify.RevocationHardLeaf, CRLs: []verify.DER{signer.list(t, nil)},
			}, tt.want, tt.class)
		})
	}
}

// TestManyConstraints: comparing everything with everything has an end.
func TestManyConstraints(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	int := issue(t, "int", root, true, func(c *x509.Certificate) {
		for i := range 2000 {
			c.ExcludedDNSDomains = append(c.ExcludedDNSDomains, fmt.Sprintf("x%d.test", i))
		}
	})
	leaf := issue(t, "leaf", int, false, func(c *x509.Certificate) {
		for i := range 2000 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("y%d.test", i))
		}
	})
	expectPath(t, verify.ClassUnsupported, leaf, []*entity{root}, int)
}

// TestKeysOfOthers: a key that crypto/x509 has no arithmetic for is not a fault of the certificate.
func TestKeysOfOthers(t *testing.T) {
	q, root, int, leaf := question(t)
	p256 := []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}
	brainpool := []byte{6, 8, 0x2b, 0x24, 3, 3, 2, 8, 1, 1}
	foreign := resign(t, bytes.Replace(leaf.RawTBSCertificate, p256, brainpool, 1), leaf, int)
	q.Leaf = foreign
	expect(t, q, verify.Reject, verify.ClassUnsupported)
	q.Leaf = leaf.Raw
	q.Intermediates = []verify.DER{resign(t, bytes.Replace(int.RawTBSCertificate, p256, brainpool, 1), int, root)}
	expect(t, q, verify.Reject, verify.ClassUnsupported)
	expect(t, &verify.Case{Kind: verify.KindCRL, CRLs: []verify.DER{int.list(t, nil)}, Issuers: ders(int), Leaf: foreign, Time: q.Time}, verify.Unknown, verify.ClassUnsupported)
}
