//go:build go1.27

package lint_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca/lint"
	"signet.example/signet/pki"
)

// subjectOf makes a TBSCertificate of a server with a key, signed with the same kind of key, and its algorithm.
func subjectOf(t *testing.T, key crypto.Signer) (tbs, algorithm *node) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1 << 40), Subject: pkix.Name{CommonName: "a.example"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"a.example"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, SubjectKeyId: []byte{2},
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, SubjectKeyId: []byte{1}}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	tree := parseDER(t, der)[0]
	return tree.at(0), tree.at(1)
}

// TestMLDSARules breaks each rule of RFC 9881 in a certificate that keeps all.
func TestMLDSARules(t *testing.T) {
	rules, err := lint.Compile(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.MLDSA44.Generate()
	if err != nil {
		t.Fatal(err)
	}
	// version, serial, signature, issuer, validity, subject, key, extensions
	usage := func(tbs *node) *node { return tbs.at(7, 0).ext(t, "\x55\x1d\x0f") }
	examples := []struct {
		rule string
		slip func(tbs, algorithm *node)
	}{
		{"", func(_, _ *node) {}},
		{"e_sg_mldsa_signature_parameters", func(tbs, algorithm *node) {
			algorithm.insert(1, primitive(5))
			tbs.at(2).insert(1, primitive(5))
		}},
		{"e_sg_mldsa_key_parameters", func(tbs, _ *node) { tbs.at(6, 0).insert(1, primitive(5)) }},
		{"e_sg_mldsa_key_size", func(tbs, _ *node) { tbs.at(6, 1).content = tbs.at(6, 1).content[:1000] }},
		{"e_sg_mldsa_key_usage", func(tbs, _ *node) {
			e := usage(tbs)
			e.at(len(e.children) - 1).content = []byte{3, 2, 5, 0xa0}
		}},
	}
	shown := make(map[string]bool)
	for _, example := range examples {
		tbs, algorithm := subjectOf(t, key)
		example.slip(tbs, algorithm)
		err := rules.Certificate(tbs.bytes(), algorithm.bytes(), false)
		if example.rule == "" && err != nil || example.rule != "" && (err == nil || !strings.Contains(err.Error(), example.rule+" (RFC 9881: ")) {
			t.Errorf("%s: %v", example.rule, err)
		}
		shown[example.rule] = true
	}
	wantAll(t, lint.TestingOnlyCertificateRules(), shown)
}

// TestMLDSANotApplicable compares what zlint says of two certificates that differ in their keys only: the rules that are
// asked of a P-256 key and not of an ML-DSA key are those on the page with the reasons, and no others.
func TestMLDSANotApplicable(t *testing.T) {
	page, err := os.ReadFile("../../docs/decisions/1042-rules-of-our-own.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := lint.Compile([]string{"RFC3279", "RFC5280", "RFC5480", "RFC5891", "RFC8813", "CABF_BR", "Community", "Mozilla", "Apple"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := func(key crypto.Signer) (names []string) {
		tbs, algorithm := subjectOf(t, key)
		report, err := rules.Report(tbs.bytes(), algorithm.bytes(), false)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range report {
			if v.Outcome != lint.NotApplicable && !strings.HasPrefix(v.Lint, "e_sg_") {
				names = append(names, v.Lint)
			}
		}
		return names
	}
	post, err := pki.MLDSA44.Generate()
	if err != nil {
		t.Fatal(err)
	}
	classical := asked(newECDSA(t))
	ofMLDSA := asked(post)
	for _, name := range classical {
		onPage := strings.Contains(string(page), "`"+name+"`")
		if applies := slices.Contains(ofMLDSA, name); applies == onPage {
			t.Errorf("%s is asked of ML-DSA: %t; on the page of those that are not: %t", name, applies, onPage)
		}
	}
	for _, name := range ofMLDSA {
		if !slices.Contains(classical, name) {
			t.Errorf("%s is asked of ML-DSA only", name)
		}
	}
}

func newECDSA(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
