package verify_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

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

// TestInitialPolicyFlags: the initial flags of RFC 5280, Section 6.1.1, do what certificates of the path that say the same would.
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
		{"mapping is inhibited, of anyPolicy", policies(t, any, aToB), policies(t, b), func(c *verify.Case) { c.InhibitMapping = true }, verify.Reject, verify.ClassUnsupported},
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
