package verify_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake/verify"
)

const (
	anyPolicy = "2.5.29.32.0"
	policyA   = "1.2.3.4"
	policyB   = "1.2.3.5"
)

// policies puts policies into a certificate, and mappings of one to the other.
func policies(t *testing.T, ids []string, mappings ...[2]string) func(*x509.Certificate) {
	t.Helper()
	parse := func(text string) asn1.ObjectIdentifier {
		oid, err := x509.ParseOID(text)
		if err != nil {
			t.Fatal(err)
		}
		id, _ := oidOf(oid)
		return id
	}
	return func(template *x509.Certificate) {
		for _, id := range ids {
			oid, err := x509.ParseOID(id)
			if err != nil {
				t.Fatal(err)
			}
			template.Policies = append(template.Policies, oid)
		}
		if len(mappings) == 0 {
			return
		}
		type mapping struct{ Issuer, Subject asn1.ObjectIdentifier }
		var list []mapping
		for _, m := range mappings {
			list = append(list, mapping{parse(m[0]), parse(m[1])})
		}
		value, err := asn1.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 33}, Critical: true, Value: value})
	}
}

// oidOf is the object identifier in the older form.
func oidOf(oid x509.OID) (asn1.ObjectIdentifier, error) {
	der, err := oid.MarshalBinary()
	if err != nil {
		return nil, err
	}
	var old asn1.ObjectIdentifier
	_, err = asn1.Unmarshal(append([]byte{asn1.TagOID, byte(len(der))}, der...), &old)
	return old, err
}

// TestInitialPolicyFlags: the initial flags of RFC 5280, Section 6.1.1, do what certificates of the path that say the
// same would.
func TestInitialPolicyFlags(t *testing.T) {
	none, a, b, any := []string(nil), []string{policyA}, []string{policyB}, []string{anyPolicy}
	aToB := [2]string{policyA, policyB}
	for _, tt := range []struct {
		name      string
		int, leaf func(*x509.Certificate)
		change    func(*verify.Case)
		want      verify.Verdict
		class     verify.Class
	}{
		{"nothing asked, no policies", policies(t, none), policies(t, none), nil, verify.Accept, ""},
		{"explicit, no policies", policies(t, none), policies(t, none), func(c *verify.Case) { c.ExplicitPolicy = true }, verify.Reject, verify.ClassPolicy},
		{"explicit, lost on the way", policies(t, none), policies(t, a), func(c *verify.Case) { c.ExplicitPolicy = true }, verify.Reject, verify.ClassPolicy},
		{"explicit, lost at the end", policies(t, a), policies(t, b), func(c *verify.Case) { c.ExplicitPolicy = true }, verify.Reject, verify.ClassPolicy},
		{"explicit, kept", policies(t, a), policies(t, a), func(c *verify.Case) { c.ExplicitPolicy = true }, verify.Accept, ""},
		{"explicit, the one that is wanted", policies(t, a), policies(t, a), func(c *verify.Case) { c.ExplicitPolicy, c.Policies = true, a }, verify.Accept, ""},
		{"explicit, another one is wanted", policies(t, a), policies(t, a), func(c *verify.Case) { c.ExplicitPolicy, c.Policies = true, b }, verify.Reject, verify.ClassPolicy},
		{"explicit, any for one", policies(t, any), policies(t, a), func(c *verify.Case) { c.ExplicitPolicy = true }, verify.Accept, ""},
		{"any is inhibited in the CA", policies(t, any), policies(t, a), func(c *verify.Case) { c.ExplicitPolicy, c.InhibitAny = true, true }, verify.Reject, verify.ClassPolicy},
		{"any is inhibited in the leaf", policies(t, a), policies(t, any), func(c *verify.Case) { c.ExplicitPolicy, c.InhibitAny = true, true }, verify.Reject, verify.ClassPolicy},
		{"any is inhibited and not needed", policies(t, append(any, policyA)), policies(t, a), func(c *verify.Case) { c.ExplicitPolicy, c.InhibitAny = true, true }, verify.Accept, ""},
		{"any is inhibited and nobody demands", policies(t, any), policies(t, any), func(c *verify.Case) { c.InhibitAny = true }, verify.Accept, ""},
		{"mapped", policies(t, a, aToB), policies(t, b), func(c *verify.Case) { c.ExplicitPolicy = true }, verify.Accept, ""},
		{"mapping is inhibited", policies(t, a, aToB), policies(t, b), func(c *verify.Case) { c.ExplicitPolicy, c.InhibitMapping = true, true }, verify.Reject, verify.ClassPolicy},
		{"mapping is inhibited, what would be mapped is gone", policies(t, a, aToB), policies(t, a), func(c *verify.Case) { c.ExplicitPolicy, c.InhibitMapping = true, true }, verify.Reject, verify.ClassPolicy},
		{"mapping is inhibited, another policy stays", policies(t, append(a, "1.2.3.6"), aToB), policies(t, []string{"1.2.3.6"}), func(c *verify.Case) { c.ExplicitPolicy, c.InhibitMapping = true, true }, verify.Accept, ""},
		{"mapping is inhibited, of anyPolicy", policies(t, any, aToB), policies(t, b), func(c *verify.Case) { c.InhibitMapping, c.ExplicitPolicy = true, true }, verify.Accept, ""},
		{"mapping is inhibited, of anyPolicy, another is wanted", policies(t, any, aToB), policies(t, b), func(c *verify.Case) { c.InhibitMapping, c.ExplicitPolicy, c.Policies = true, true, a }, verify.Reject, verify.ClassPolicy},
		{"anyPolicy is mapped", policies(t, any, [2]string{anyPolicy, policyB}), policies(t, b), func(c *verify.Case) { c.InhibitAny = true }, verify.Reject, verify.ClassPolicy},
		{"mapped to anyPolicy", policies(t, any, [2]string{policyA, anyPolicy}), policies(t, b), func(c *verify.Case) { c.InhibitMapping = true }, verify.Reject, verify.ClassPolicy},
		{"any is mapped for the one that is wanted", policies(t, any, aToB), policies(t, b), func(c *verify.Case) { c.ExplicitPolicy, c.Policies = true, a }, verify.Accept, ""},
		{"any is mapped, and what it is mapped to is wanted", policies(t, any, aToB), policies(t, b), func(c *verify.Case) { c.ExplicitPolicy, c.Policies = true, b }, verify.Reject, verify.ClassPolicy},
		{"mapped to what one asks for by another name", policies(t, a, aToB), policies(t, b), func(c *verify.Case) { c.InhibitAny, c.ExplicitPolicy, c.Policies = true, true, a }, verify.Accept, ""},
		{"any at the end for one that is asked for", policies(t, any), policies(t, any), func(c *verify.Case) { c.ExplicitPolicy, c.Policies = true, a }, verify.Accept, ""},
		{"any of all, and one more, is asked for", policies(t, b), policies(t, b), func(c *verify.Case) { c.ExplicitPolicy, c.Policies = true, []string{policyA, anyPolicy} }, verify.Accept, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := issue(t, "root", nil, true, nil)
			int := issue(t, "int", root, true, tt.int)
			leaf := issue(t, "leaf", int, false, tt.leaf)
			question := verify.Case{Kind: verify.KindChain, Roots: ders(root), Intermediates: ders(int), Leaf: leaf.Raw, Time: now.Format("2006-01-02T15:04:05Z07:00"), EKU: "any"}
			if tt.change != nil {
				tt.change(&question)
			}
			if got := verify.Judge(&question); got.Result != tt.want || got.Class != tt.class {
				t.Errorf("%s %q (%s), want %s %q", got.Result, got.Class, got.Detail, tt.want, tt.class)
			}
		})
	}
}

// TestPoliciesAgainstX509 asks crypto/x509 what it can be asked in other words: a CA above the path that asserts
// anyPolicy and says at once what the initial flags say.
func TestPoliciesAgainstX509(t *testing.T) {
	random := rand.New(rand.NewPCG(9618, 5280))
	some := func(of []string) (list []string) {
		for _, id := range of {
			if random.IntN(2) == 0 {
				list = append(list, id)
			}
		}
		return list
	}
	abc := []string{policyA, policyB, "1.2.3.6"}
	content := func() func(*x509.Certificate) {
		var mappings [][2]string
		for range random.IntN(3) {
			mappings = append(mappings, [2]string{abc[random.IntN(3)], abc[random.IntN(3)]})
		}
		asserted, bounds := policies(t, some(append(abc, anyPolicy)), mappings...), []int{-1, -1, -1}
		if random.IntN(3) == 0 {
			bounds[random.IntN(3)] = random.IntN(3)
		}
		return func(template *x509.Certificate) { asserted(template); policyBounds(t, bounds...)(template) }
	}
	verdicts := make(map[verify.Verdict]int)
	root := issue(t, "root", nil, true, nil)
	for i := range 400 {
		flags := random.IntN(7) + 1
		explicit, inhibitMapping, inhibitAny := flags&1 != 0, flags&2 != 0, flags&4 != 0
		bound := map[bool]int{true: 0, false: -1}
		top := issue(t, "top", root, true, func(template *x509.Certificate) {
			policies(t, []string{anyPolicy})(template)
			policyBounds(t, bound[explicit], bound[inhibitMapping], bound[inhibitAny])(template)
		})
		one := issue(t, "one", top, true, content())
		two := issue(t, []string{"one", "two"}[random.IntN(2)], one, true, content()) // may be self-issued
		leaf := issue(t, []string{two.Subject.CommonName, "leaf"}[random.IntN(2)], two, false, content())
		question := verify.Case{Kind: verify.KindChain, Roots: ders(top), Intermediates: ders(one, two), Leaf: leaf.Raw, Time: now.Format(time.RFC3339), EKU: "any",
			ExplicitPolicy: explicit, InhibitMapping: inhibitMapping, InhibitAny: inhibitAny, Policies: some(abc)}
		got := verify.Judge(&question)
		options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		options.Roots.AddCert(root.Certificate)
		for _, e := range []*entity{top, one, two} {
			options.Intermediates.AddCert(e.Certificate)
		}
		for _, id := range question.Policies {
			oid, err := x509.ParseOID(id)
			if err != nil {
				t.Fatal(err)
			}
			options.CertificatePolicies = append(options.CertificatePolicies, oid)
		}
		if _, err := leaf.Verify(options); (err == nil) != (got.Result == verify.Accept) || got.Result == verify.Reject && got.Class != verify.ClassPolicy {
			t.Errorf("case %d: explicit %v, inhibit mapping %v, any %v, asked for %v: %s %s (%s), and crypto/x509 says %v\n%s", i, explicit, inhibitMapping, inhibitAny, question.Policies,
				got.Result, got.Class, got.Detail, err, storyOf(one, two, leaf))
		}
		verdicts[got.Result]++
	}
	if verdicts[verify.Accept] < 50 || verdicts[verify.Reject] < 50 {
		t.Errorf("of little use: %v", verdicts)
	}
}

func storyOf(path ...*entity) string {
	var out strings.Builder
	for _, e := range path {
		fmt.Fprintf(&out, "%s: asserts %v, maps %v, explicit %d %v, mapping %d %v, any %d %v\n", e.Subject, e.Policies, e.PolicyMappings,
			e.RequireExplicitPolicy, e.RequireExplicitPolicyZero, e.InhibitPolicyMapping, e.InhibitPolicyMappingZero, e.InhibitAnyPolicy, e.InhibitAnyPolicyZero)
	}
	return out.String()
}

// policyBounds puts requireExplicitPolicy, inhibitPolicyMapping and inhibitAnyPolicy into a certificate, as far as they
// are not negative.
func policyBounds(t *testing.T, bounds ...int) func(*x509.Certificate) {
	t.Helper()
	marshal := func(value any, params string) []byte {
		der, err := asn1.MarshalWithParams(value, params)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	var constraints []byte
	for tag, bound := range bounds[:2] {
		if bound >= 0 {
			constraints = append(constraints, marshal(bound, fmt.Sprintf("tag:%d", tag))...)
		}
	}
	return func(template *x509.Certificate) {
		if constraints != nil {
			value := marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: constraints}, "")
			template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: value})
		}
		if bounds[2] >= 0 {
			template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 54}, Critical: true, Value: marshal(bounds[2], "")})
		}
	}
}

// TestWholeSeconds: a certificate is valid to the end of the second that it names.
func TestWholeSeconds(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	leaf := issue(t, "leaf", root, false, nil)
	for at, want := range map[string]verify.Verdict{
		leaf.NotAfter.Format("2006-01-02T15:04:05") + ".999Z":            verify.Accept,
		leaf.NotAfter.Add(1e9).Format("2006-01-02T15:04:05Z"):            verify.Reject,
		leaf.NotBefore.Add(-1e9).Format("2006-01-02T15:04:05") + ".999Z": verify.Reject,
		leaf.NotBefore.Format("2006-01-02T15:04:05Z"):                    verify.Accept,
	} {
		question := verify.Case{Kind: verify.KindChain, Roots: ders(root), Leaf: leaf.Raw, Time: at, EKU: "any"}
		if got := verify.Judge(&question); got.Result != want {
			t.Errorf("%s: %s (%s), want %s", at, got.Result, got.Detail, want)
		}
	}
}
