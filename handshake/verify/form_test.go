package verify_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake/verify"
)

// raw is an extension by its identifier and DER.
func raw(critical bool, id asn1.ObjectIdentifier, value ...byte) pkix.Extension {
	return pkix.Extension{Id: id, Critical: critical, Value: value}
}

func extended(list ...pkix.Extension) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, list...) }
}

// TestForm: what a certificate says against the standards, where crypto/x509 does not mind. Every row is a chain root,
// int, leaf.
func TestForm(t *testing.T) {
	extendedKeyUsage, keyUsage := asn1.ObjectIdentifier{2, 5, 29, 37}, asn1.ObjectIdentifier{2, 5, 29, 15}
	feature := func(values ...byte) func(*x509.Certificate) {
		var list []byte
		for _, value := range values {
			list = append(list, element(2, value)...)
		}
		return extended(raw(false, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, element(0x30, list...)...))
	}
	policy := func(critical bool, qualifier byte) func(*x509.Certificate) {
		qualified := element(0x30, append(element(6, 0x2b, 6, 1, 5, 5, 7, 2, qualifier), element(0x16, 'x')...)...)
		information := element(0x30, append(element(6, 0x55, 0x1d, 0x20, 0), element(0x30, qualified...)...)...)
		return extended(raw(critical, asn1.ObjectIdentifier{2, 5, 29, 32}, element(0x30, information...)...))
	}
	nameless := func(critical bool) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject, c.DNSNames = pkix.Name{}, nil
			c.ExtraExtensions = append(c.ExtraExtensions, raw(critical, asn1.ObjectIdentifier{2, 5, 29, 17}, element(0x30, element(0x82, 'a')...)...))
		}
	}
	noRevAvail := func(more ...pkix.Extension) func(*x509.Certificate) { // RFC 9608
		return extended(append(more, raw(false, asn1.ObjectIdentifier{2, 5, 29, 56}, 5, 0))...)
	}
	for _, tt := range []struct {
		name            string
		root, int, leaf func(*x509.Certificate)
		class           verify.Class // empty: accepted
	}{
		{"an extended key usage", nil, nil, extended(raw(false, extendedKeyUsage, element(0x30, element(6, 0x2b, 6, 1, 5, 5, 7, 3, 1)...)...)), ""},
		{"an extended key usage without any", nil, nil, extended(raw(false, extendedKeyUsage, 0x30, 0)), verify.ClassParse},
		{"the issuer's extended key usage without any", nil, extended(raw(false, extendedKeyUsage, 0x30, 0)), nil, verify.ClassParse},
		{"no distribution points in the extension", nil, nil, extended(points()), verify.ClassParse},
		{"an issuer's key usage without any", nil, extended(raw(true, keyUsage, 3, 1, 0)), nil, verify.ClassPath},
		{"name constraints in a leaf", nil, nil, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"leaf.test"} }, verify.ClassPath},
		{"an authority without a name", nameless(true), nil, nil, verify.ClassPath},
		{"no subject, critical alternatives", nil, nil, nameless(true), ""},
		{"no subject, other alternatives", nil, nil, nameless(false), verify.ClassPath},
		{"a critical policy with a CPS", nil, nil, policy(true, 1), ""},
		{"a critical policy with a notice", nil, nil, policy(true, 2), ""},
		{"a critical policy with a qualifier of others", nil, nil, policy(true, 9), verify.ClassUnsupported},
		{"a policy with a qualifier of others", nil, nil, policy(false, 9), ""},
		{"no revocation information", nil, nil, noRevAvail(), ""},
		{"no revocation information, and where it is", nil, nil, noRevAvail(points(uriPoint("http://crl.test/a", 0))), verify.ClassPath},
		{"no revocation information of an authority", nil, noRevAvail(), nil, verify.ClassPath},
		{"a feature of the issuer's", nil, feature(5), feature(17, 5), ""},
		{"a feature less than the issuer's", nil, feature(17, 5), feature(5), verify.ClassPath},
		{"no feature below an issuer's", nil, feature(5), nil, verify.ClassPath},
		{"no feature of an intermediate's", feature(5), nil, feature(5), verify.ClassPath},
		{"features that do not parse", nil, feature(5), extended(raw(false, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, 4, 0)), verify.ClassPath},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := issue(t, "root", nil, true, tt.root)
			int := issue(t, "int", root, true, tt.int)
			expectPath(t, tt.class, issue(t, "leaf", int, false, tt.leaf), []*entity{root}, int)
		})
	}
}

// TestVersions: unique identifiers are of version 2, extensions of version 3, and nothing follows (RFC 5280, Sections
// 4.1, 4.1.2.8 and 4.1.2.9); crypto/x509 passes over what is there too much.
func TestVersions(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	leaf := issue(t, "leaf", root, false, nil)
	// Without tag and length.
	upToKey, extensions, _ := bytes.Cut(leaf.RawTBSCertificate[4:], leaf.RawSubjectPublicKeyInfo)
	upToKey = append(upToKey[len(version(2)):len(upToKey):len(upToKey)], leaf.RawSubjectPublicKeyInfo...)
	byIssuer, bySubject := element(0x81, 0, 0x55), element(0x82, 0, 0x55)
	const tooMuch = "has something that no certificate has"
	for _, tt := range []struct {
		name    string
		version byte
		rest    [][]byte
		detail  string
	}{
		{"1", 0, nil, ""},
		{"1 with an identifier of the issuer", 0, [][]byte{byIssuer}, "has unique identifiers, and is of version 1"},
		{"1 with an identifier of the subject", 0, [][]byte{bySubject}, "has unique identifiers, and is of version 1"},
		{"1 with extensions", 0, [][]byte{extensions}, "has extensions, and is of version 1"},
		{"1 with something", 0, [][]byte{{5, 0}}, tooMuch},
		{"2", 1, nil, ""},
		{"2 with identifiers", 1, [][]byte{byIssuer, bySubject}, ""},
		{"2 with one identifier", 1, [][]byte{bySubject}, ""},
		{"2 with extensions", 1, [][]byte{bySubject, extensions}, "has extensions, and is of version 2"},
		{"2 with identifiers in the wrong order", 1, [][]byte{bySubject, byIssuer}, tooMuch},
		{"3", 2, [][]byte{extensions}, ""},
		{"3 with identifiers", 2, [][]byte{byIssuer, bySubject, extensions}, ""},
		{"3 with extensions twice", 2, [][]byte{extensions, extensions}, tooMuch},
		{"3 with something", 2, [][]byte{extensions, {5, 0}}, tooMuch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tbs := long(t, 0x30, version(tt.version), upToKey, bytes.Join(tt.rest, nil))
			cert, err := verify.ParseCertificate(resign(t, tbs, leaf, root))
			if err != nil {
				t.Fatal(err)
			}
			q := &verify.Case{Kind: verify.KindChain, Roots: ders(root), Leaf: cert.Raw, Time: now.Format(time.RFC3339), EKU: "any"}
			if tt.detail == "" {
				expect(t, q, verify.Accept, "")
				return
			}
			if got := expect(t, q, verify.Reject, verify.ClassParse); !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("%s, want %s", got.Detail, tt.detail)
			}
		})
	}
}

// version is the field of a certificate; that of version 1 is written out, against DER, and read all the same.
func version(v byte) []byte { return []byte{0xa0, 3, 2, 1, v} }

// TestShortKeys: an RSA key that can be broken proves nothing, whatever signed it.
func TestShortKeys(t *testing.T) {
	q, _, signer, leaf := question(t)
	for bits, class := range map[int]verify.Class{1023: verify.ClassPath, 1024: ""} {
		want := verify.Accept
		if class != "" {
			want = verify.Reject
		}
		modulus := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
		template := *leaf.Certificate
		der, err := x509.CreateCertificate(rand.Reader, &template, signer.Certificate, crypto.PublicKey(&rsa.PublicKey{N: modulus, E: 65537}), signer.key)
		if err != nil {
			t.Fatal(err)
		}
		q.Leaf = der
		expect(t, q, want, class)
	}
}
