package lint_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	zlint "github.com/zmap/zlint/v3/lint"

	"signet.example/signet/ca/lint"
	"signet.example/signet/pki"
)

// TestShortKeys: whoever imports the lints goes on refusing RSA keys that crypto/rsa refuses.
func TestShortKeys(t *testing.T) {
	if _, err := rsa.GenerateKey(rand.Reader, 512); err == nil {
		t.Errorf("keys of 512 bits are allowed: GODEBUG is %q", os.Getenv("GODEBUG"))
	}
}

var ecdsaWithSHA256 = []byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02")

// sampler makes certificates good and bad, in values and in shape: several of each shape, with other values, since it
// is the second of a shape that a known shape could hide something of. The issuer's key signs all.
type sampler struct {
	t      testing.TB
	random *mathrand.Rand // decides about shape
	values *mathrand.Rand
	issuer *ecdsa.PrivateKey
	keys   []any
}

func newSampler(t testing.TB) *sampler {
	t.Helper()
	issuer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var seed uint64
	for _, c := range t.Name() {
		seed = seed*31 + uint64(c)
	}
	random := mathrand.New(mathrand.NewPCG(seed, 1))
	return &sampler{t, random, random, issuer, []any{issuer.Public(), rsaKey.Public()}}
}

// alike returns certificates of one shape.
func (s *sampler) alike() [][]byte {
	var all [][]byte
	seed := s.values.Uint64()
	for range 6 {
		s.random = mathrand.New(mathrand.NewPCG(seed, 2))
		if tbs := s.certificate(); tbs != nil {
			all = append(all, tbs)
		}
	}
	return all
}

func pick[T any](s *sampler, values ...T) T { return values[s.random.IntN(len(values))] }

// vary picks a value that makes no difference to the shape.
func vary[T any](s *sampler, values ...T) T { return values[s.values.IntN(len(values))] }

// certificate returns a TBSCertificate that is good in about half of the cases.
func (s *sampler) certificate() []byte {
	template := &x509.Certificate{
		SerialNumber: vary(s, big.NewInt(1<<40), big.NewInt(1<<40), new(big.Int).Lsh(big.NewInt(1), 170)),
		NotBefore:    time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     pick(s, time.Date(2027, 1, 1+vary(s, 0, 500), 0, 0, 0, 0, time.UTC), time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC)),
		KeyUsage:     pick(s, x509.KeyUsageDigitalSignature, x509.KeyUsageDigitalSignature, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, x509.KeyUsageKeyEncipherment),
		ExtKeyUsage:  pick(s, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}),
		Subject: pick(s, pkix.Name{}, pkix.Name{CommonName: vary(s, "www.example.com", strings.Repeat("x", 70))},
			pkix.Name{Country: []string{vary(s, "DE", "D")}, Organization: []string{vary(s, "Example", strings.Repeat("o", 80))}}),
		SubjectKeyId:          pick(s, []byte{1, 2, 3, 4}, nil),
		OCSPServer:            pick(s, nil, []string{"http://ocsp.example"}),
		CRLDistributionPoints: pick(s, nil, []string{vary(s, "http://crl.example/1.crl", "nonsense")}),
	}
	for range s.random.IntN(4) {
		template.DNSNames = append(template.DNSNames, vary(s, "www.example.com", "a.example", "*.example.com", strings.Repeat("a", 64)+".example", "xn--0.example", "a..example", "under_score.example", "-.example"))
	}
	if s.random.IntN(3) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)}
	}
	if s.random.IntN(4) == 0 {
		template.EmailAddresses = []string{vary(s, "a@example.com", "not an address")}
	}
	if s.random.IntN(4) == 0 {
		u, err := url.Parse(vary(s, "https://example.com/x", "spiffe://example/x", "https://not_fqdn/"))
		if err != nil {
			s.t.Fatal(err)
		}
		template.URIs = []*url.URL{u}
	}
	if s.random.IntN(4) == 0 {
		template.BasicConstraintsValid, template.IsCA, template.MaxPathLen = true, pick(s, true, false), -1
		if template.IsCA {
			template.MaxPathLen = pick(s, -1, 1)
		}
	}
	if s.random.IntN(3) == 0 {
		template.ExtraExtensions = append(template.ExtraExtensions, s.extension())
	}
	parent := &x509.Certificate{Subject: pick(s, pkix.Name{CommonName: "Issuer"}, pkix.Name{Country: []string{"DE"}, CommonName: "Issuer"}, pkix.Name{}), SubjectKeyId: pick(s, []byte{9, 9}, []byte{9, 9}, nil)}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pick(s, s.keys...), s.issuer)
	if err != nil {
		return nil // a combination that cannot be encoded
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	return c.RawTBSCertificate
}

// extension is one that is critical where it must not be, empty, odd, or there twice.
func (s *sampler) extension() pkix.Extension {
	oid := func(parts ...int) asn1.ObjectIdentifier { return parts }
	return pick(s,
		pkix.Extension{Id: oid(2, 5, 29, 15), Critical: pick(s, true, false), Value: pick(s, []byte{3, 2, 7, 128}, []byte{3, 1, 0}, []byte{3, 3, 7, 128, 0}, []byte{3, 2, 0, 128})},
		pkix.Extension{Id: oid(2, 5, 29, 14), Critical: pick(s, true, false), Value: []byte{4, 2, 1, 1}},
		pkix.Extension{Id: oid(1, 3, 6, 1, 5, 5, 7, 1, 1), Critical: true, Value: []byte{0x30, 0}},
		pkix.Extension{Id: oid(2, 5, 29, 37), Critical: pick(s, true, false), Value: []byte{0x30, 0}},
		pkix.Extension{Id: oid(2, 5, 29, 36), Critical: pick(s, true, false), Value: pick(s, []byte{0x30, 0}, []byte{0x30, 3, 0x80, 1, 0})},
		pkix.Extension{Id: oid(2, 5, 29, 30), Critical: pick(s, true, false), Value: pick(s, []byte{0x30, 0}, []byte("\x30\x09\xa0\x07\x30\x05\x82\x03a.b"))},
		pkix.Extension{Id: oid(2, 5, 29, 54), Critical: pick(s, true, false), Value: []byte{2, 1, 0}},
		pkix.Extension{Id: oid(2, 5, 29, 19), Critical: pick(s, true, false), Value: pick(s, []byte{0x30, 0}, []byte{0x30, 3, 1, 1, 0xff}, []byte{0x30, 3, 1, 1, 1})},
		pkix.Extension{Id: oid(2, 5, 29, 18), Critical: pick(s, true, false), Value: pick(s, []byte{0x30, 0}, []byte("\x30\x05\x82\x03a.b"))},
		pkix.Extension{Id: oid(2, 5, 29, 32), Value: pick(s, []byte("\x30\x05\x30\x03\x06\x01\x2a"), []byte("\x30\x0a\x30\x03\x06\x01\x2a\x30\x03\x06\x01\x2a"))},
		pkix.Extension{Id: oid(2, 5, 29, 31), Value: pick(s, []byte{0x30, 0}, []byte("\x30\x02\x30\x00"))},
	)
}

func lints(err error) []string {
	failure, ok := errors.AsType[*lint.Failure](err)
	if !ok {
		return nil
	}
	var names []string
	for _, finding := range failure.Findings {
		names = append(names, finding.Lint) // details list usages in the order of a map
	}
	slices.Sort(names)
	return names
}

// A set of rules that has seen many certificates, and therefore skips lints for shapes it knows, must find in each what
// a set that never saw any finds. Every source takes part.
func TestKnownShapesHideNothing(t *testing.T) {
	everything := []string{"RFC3279", "RFC5280", "RFC5480", "RFC5891", "RFC8813", "CABF_BR", "Community", "Mozilla", "Apple"}
	seasoned, err := lint.Compile(everything, nil)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := lint.Compile(everything, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newSampler(t)
	found := make(map[string]int)
	for i := range 200 {
		for _, tbs := range s.alike() {
			selfSigned := i%7 == 0
			fresh.TestingOnlyForget()
			want := lints(fresh.Certificate(tbs, ecdsaWithSHA256, selfSigned))
			got := lints(seasoned.Certificate(tbs, ecdsaWithSHA256, selfSigned))
			if !slices.Equal(got, want) {
				t.Fatalf("certificate %d:\ngot  %q\nwant %q\n%x", i, got, want, tbs)
			}
			for _, name := range want {
				found[name]++
			}
		}
	}
	t.Logf("%d different lints failed; %d shapes known", len(found), seasoned.TestingOnlyShapes())
	if len(found) < 40 || seasoned.TestingOnlyShapes() < 20 {
		t.Error("the sample is too tame to say anything")
	}
}

// Every lint that the table puts in the class of shapes exists, and every other is on the page with the reasons.
func TestTheTableIsComplete(t *testing.T) {
	text, err := os.ReadFile("shape.txt")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/decisions/0401-lint-classes.md")
	if err != nil {
		t.Fatal(err)
	}
	all := zlint.GlobalRegistry().CertificateLints()
	inTable := strings.Fields(string(text))
	for _, name := range inTable {
		if all.ByName(name) == nil {
			t.Errorf("%s does not exist", name)
		}
	}
	for _, l := range all.Lints() {
		if !strings.HasPrefix(string(l.Source), "RFC") || !strings.HasPrefix(l.Name, "e_") {
			continue
		}
		class := "value"
		if slices.Contains(inTable, l.Name) {
			class = "shape"
		}
		if !strings.Contains(string(page), fmt.Sprintf("| `%s` | %s |", l.Name, class)) {
			t.Errorf("docs/decisions/0401-lint-classes.md does not say that %s is of class %s", l.Name, class)
		}
	}
}

func TestAFailureNamesRuleAndDocument(t *testing.T) {
	rules, err := lint.Compile(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	waived, err := lint.Compile(nil, map[string]string{"e_subject_common_name_max_length": "a test"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1 << 40), Subject: pkix.Name{CommonName: strings.Repeat("x", 65)},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a.example"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		&x509.Certificate{Subject: pkix.Name{CommonName: "x"}, SubjectKeyId: []byte{1}}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	err = rules.Certificate(c.RawTBSCertificate, ecdsaWithSHA256, false)
	if err == nil || !strings.Contains(err.Error(), "e_subject_common_name_max_length (RFC 5280") {
		t.Errorf("got %v", err)
	}
	if err := waived.Certificate(c.RawTBSCertificate, ecdsaWithSHA256, false); err != nil {
		t.Errorf("waived: %v", err)
	}
	if err := rules.Certificate([]byte{0x30, 0}, ecdsaWithSHA256, false); err == nil {
		t.Error("an empty certificate passed")
	}
}

func TestSlipsOfThePenAreFound(t *testing.T) {
	for field, compile := range map[string]func() (*lint.Rules, error){
		"lint.sources[1]": func() (*lint.Rules, error) { return lint.Compile([]string{"RFC5280", "RFC5820"}, nil) },
		"lint.waive":      func() (*lint.Rules, error) { return lint.Compile(nil, map[string]string{"e_nothing": "why not"}) },
	} {
		_, err := compile()
		if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindInvalid || e.Field != field {
			t.Errorf("got %v, want %s", err, field)
		}
	}
}

func BenchmarkCertificate(b *testing.B) {
	rules, err := lint.Compile(nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	s := newSampler(b)
	tbs := s.certificate()
	for tbs == nil || rules.Certificate(tbs, ecdsaWithSHA256, false) != nil {
		tbs = s.certificate()
	}
	for name, forget := range map[string]bool{"known-shape": false, "new-shape": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if forget {
					rules.TestingOnlyForget()
				}
				if err := rules.Certificate(tbs, ecdsaWithSHA256, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
