package verify_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"

	"signet.example/signet/handshake/verify"
)

// raw is an extension by its identifier and DER.
func raw(critical bool, id asn1.ObjectIdentifier, value ...byte) pkix.Extension {
	return pkix.Extension{Id: id, Critical: critical, Value: value}
}

func extended(list ...pkix.Extension) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, list...) }
}

// TestForm: what a certificate says against the standards, where crypto/x509 does not mind. Every row is a chain root, int, leaf.
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

// TestVersions: extensions are of version 3 (RFC 5280, Section 4.1.2.9); crypto/x509 passes over those of older ones.
func TestVersions(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	leaf := issue(t, "leaf", root, false, nil)
	version := func(v byte) []byte { return []byte{0xa0, 3, 2, 1, v} }
	for v, class := range []verify.Class{verify.ClassParse, verify.ClassParse, ""} {
		tbs := bytes.Replace(leaf.RawTBSCertificate, version(2), version(byte(v)), 1)
		sum := sha256.Sum256(tbs)
		signature, err := root.key.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		ecdsaWithSHA256 := element(0x30, element(6, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2)...)
		cert, err := verify.ParseCertificate(long(t, 0x30, tbs, ecdsaWithSHA256, long(t, 3, []byte{0}, signature)))
		if err != nil {
			t.Fatal(err)
		}
		expectPath(t, class, &entity{Certificate: cert}, []*entity{root})
	}
}

// TestShortKeys: an RSA key that can be broken proves nothing, whoever has signed it.
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
