//go:build !windows

package lint

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/apple"
	_ "github.com/zmap/zlint/v3/lints/cabf_br"
	_ "github.com/zmap/zlint/v3/lints/cabf_cs_br"
	_ "github.com/zmap/zlint/v3/lints/cabf_smime_br"
	_ "github.com/zmap/zlint/v3/lints/chrome"
	_ "github.com/zmap/zlint/v3/lints/community"
	_ "github.com/zmap/zlint/v3/lints/mozilla"
	_ "github.com/zmap/zlint/v3/lints/rfc"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/pki"
)

// Importing zcrypto appends a setting to GODEBUG that allows the whole process RSA keys of less than 1024 bits, whose
// signatures can be forged. This removes it again.
func init() {
	if others, found := strings.CutSuffix(os.Getenv("GODEBUG"), "rsa1024min=0"); found {
		_ = os.Setenv("GODEBUG", strings.TrimSuffix(others, ","))
	}
}

// Rules are the rules of one profile. They are immutable and safe for concurrent use.
type Rules struct {
	byValue []*lint.CertificateLint
	byShape []*lint.CertificateLint
	config  lint.Configuration
	shapes  shapes
	waived  []Verdict
}

// CheckSource returns an error if there are no rules of a source with this name.
func CheckSource(name string) error {
	known := lint.GlobalRegistry().CertificateLints().Sources()
	if slices.Contains(known, lint.LintSource(name)) {
		return nil
	}
	var names []string
	for _, source := range known {
		names = append(names, string(source))
	}
	slices.Sort(names)
	return fmt.Errorf("there are no rules of %.64q: want one of %s", name, strings.Join(names, ", "))
}

// CheckWaivable returns an error if there is no lint with this name.
func CheckWaivable(name string) error {
	if lint.GlobalRegistry().CertificateLints().ByName(name) == nil {
		return fmt.Errorf("there is no lint %.64q to waive", name)
	}
	return nil
}

// Compile selects the rules of the sources (none: the RFCs) except the waived ones and those that only warn, as the
// names of zlint's rules tell. waivers maps names of lints to reasons. A source or lint that does not exist is an
// error of KindInvalid, because a waiver with a misspelled name would waive nothing.
func Compile(sources []string, waivers map[string]string) (*Rules, error) {
	const op = "select lint rules"
	if len(sources) == 0 {
		sources = defaultSources
	}
	for i, source := range sources {
		if err := CheckSource(source); err != nil {
			return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).InField(fmt.Sprintf("lint.sources[%d]", i))
		}
	}
	for name := range waivers {
		if err := CheckWaivable(name); err != nil {
			return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).InField("lint.waive")
		}
	}
	registry := lint.GlobalRegistry()
	rules, table := &Rules{config: registry.GetConfiguration()}, shapeLints()
	lints := slices.Clone(registry.CertificateLints().Lints()) // a clone, because the registry shares its slice
	slices.SortFunc(lints, func(a, b *lint.CertificateLint) int { return strings.Compare(a.Name, b.Name) })
	for _, l := range lints {
		reason, waived := waivers[l.Name]
		switch {
		case waived:
			rules.waived = append(rules.waived, Verdict{l.Name, string(l.Source), l.Citation, Waived, reason})
		case !slices.Contains(sources, string(l.Source)) || !strings.HasPrefix(l.Name, "e_"):
		case dependsOnShapeOnly(l, table):
			rules.byShape = append(rules.byShape, l)
		default:
			rules.byValue = append(rules.byValue, l)
		}
	}
	return rules, nil
}

// Certificate checks a TBSCertificate, with a signature algorithm (its DER AlgorithmIdentifier) and a throw-away
// signature in place of the real one. selfSigned says that the key inside will make the real one. If a rule is broken,
// the error is a *Failure. Warnings are not failures.
func (r *Rules) Certificate(tbs, algorithm []byte, selfSigned bool) error {
	err := r.run(assemble(tbs, algorithm), tbs, algorithm, selfSigned)
	own := Refusal(lintMLDSA(tbs, algorithm))
	if failure, ok := err.(*Failure); ok && own != nil {
		return &Failure{append(failure.Findings, own.(*Failure).Findings...)}
	}
	return cmp.Or(err, own)
}

func unreadable(err error) *Failure {
	return &Failure{[]Finding{{Lint: "parse", Source: "zcrypto", Citation: "X.690", Text: "the certificate can be parsed", Details: err.Error()}}}
}

// throwAway is the placeholder of the signature. No rule looks inside a signature.
var throwAway = make([]byte, 72)

func assemble(tbs, algorithm []byte) []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(algorithm)+len(throwAway)+16))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(throwAway)
	})
	return b.BytesOrPanic()
}

func findingOf(l *lint.CertificateLint, result *lint.LintResult) Finding {
	return Finding{Lint: l.Name, Source: string(l.Source), Citation: l.Citation, Text: l.Description, Details: result.Details}
}

// Report checks the same input as Certificate and returns the verdict of every rule, including those that do not
// apply.
func (r *Rules) Report(tbs, algorithm []byte, selfSigned bool) (Report, error) {
	certificate, err := x509.ParseCertificate(assemble(tbs, algorithm))
	if err != nil {
		return nil, pki.Errorf(pki.KindRefused, "lint certificate", "%w", err)
	}
	certificate.SelfSigned = selfSigned
	report := Report(slices.Clone(r.waived))
	for _, l := range slices.Concat(r.byValue, r.byShape) {
		result := l.Execute(certificate, r.config)
		report = append(report, Verdict{l.Name, string(l.Source), l.Citation, outcomeOf(result.Status), result.Details})
	}
	report = append(report, verdictsOf(certificateRules, lintMLDSA(tbs, algorithm))...)
	report.sort()
	return report, nil
}

// RevocationList checks a TBSCertList against zlint's rules of the RFCs, with a signature algorithm (its DER
// AlgorithmIdentifier) and a throw-away signature in place of the real one.
func RevocationList(tbs, algorithm []byte) (Report, error) {
	list, err := x509.ParseRevocationList(assemble(tbs, algorithm))
	if err != nil {
		return nil, pki.Errorf(pki.KindRefused, "lint revocation list", "%w", err)
	}
	registry := lint.GlobalRegistry()
	var report Report
	for _, l := range registry.RevocationListLints().Lints() {
		if !slices.Contains(defaultSources, string(l.Source)) || !strings.HasPrefix(l.Name, "e_") {
			continue
		}
		result := l.Execute(list, registry.GetConfiguration())
		report = append(report, Verdict{l.Name, string(l.Source), l.Citation, outcomeOf(result.Status), result.Details})
	}
	report.sort()
	return report, nil
}

func (r Report) sort() {
	slices.SortFunc(r, func(a, b Verdict) int { return strings.Compare(a.Lint, b.Lint) })
}

// outcomeOf translates the status of zlint. Warnings are not failures.
func outcomeOf(status lint.LintStatus) Outcome {
	switch status {
	case lint.NA:
		return NotApplicable
	case lint.NE:
		return NotEffective
	case lint.Pass, lint.Notice, lint.Warn:
		return Passed
	}
	return Failed
}
