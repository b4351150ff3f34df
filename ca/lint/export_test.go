package lint

import (
	"fmt"
	"reflect"

	"github.com/zmap/zcrypto/x509"
)

// TestingOnlyCRLRules are all rules of ours for CRLs, in the order of the documents.
func TestingOnlyCRLRules() []Rule { return rulesOf(crlRules) }

// TestingOnlyOCSPRules: see TestingOnlyCRLRules.
func TestingOnlyOCSPRules() []Rule { return rulesOf(ocspRules) }

// TestingOnlyCertificateRules: see TestingOnlyCRLRules.
func TestingOnlyCertificateRules() []Rule { return rulesOf(certificateRules) }

func rulesOf[T any](checks []check[T]) (rules []Rule) {
	for _, c := range checks {
		rules = append(rules, c.Rule)
	}
	return rules
}

// TestingOnlyForget makes the next certificate run every lint.
func (r *Rules) TestingOnlyForget() { r.shapes.passed = nil }

// TestingOnlyShapes counts the shapes that are known to pass.
func (r *Rules) TestingOnlyShapes() int { return len(r.shapes.passed) }

// TestingOnlyDiffering counts the shapes whose pattern once gave something else than zcrypto.
func (r *Rules) TestingOnlyDiffering() (n int) {
	for _, s := range r.shapes.passed {
		if s.differs.Load() {
			n++
		}
	}
	return n
}

// TestingOnlyCompare parses a certificate by the pattern of another, and by zcrypto. used is false where the pattern does
// not fit; then there is nothing to compare.
func TestingOnlyCompare(like, tbs, algorithm []byte) (used bool, err error) {
	first, err := x509.ParseCertificate(assemble(like, algorithm))
	if err != nil {
		return false, nil
	}
	p := newPattern(first)
	if p == nil {
		return false, nil
	}
	der := assemble(tbs, algorithm)
	got, ok := p.parse(der, tbs)
	if !ok {
		return false, nil
	}
	want, err := x509.ParseCertificate(der)
	if err != nil {
		return true, fmt.Errorf("zcrypto does not parse what the pattern parsed: %w", err)
	}
	forgetFingerprints(want)
	for i := range reflect.TypeFor[x509.Certificate]().NumField() {
		field := reflect.TypeFor[x509.Certificate]().Field(i)
		if !field.IsExported() { // caches, filled by lints
			continue
		}
		if g, w := reflect.ValueOf(*got).Field(i).Interface(), reflect.ValueOf(*want).Field(i).Interface(); !reflect.DeepEqual(g, w) {
			return true, fmt.Errorf("%s: got %#v, zcrypto has %#v", field.Name, g, w)
		}
	}
	if !reflect.DeepEqual(got, want) {
		return true, fmt.Errorf("an unexported field differs")
	}
	return true, nil
}
