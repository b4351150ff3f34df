package lint

import (
	"slices"
	"strings"
)

// defaultSources are the RFCs, whose rules apply to everyone. Every other source holds the rules of one community, and
// applies only if a profile names it.
var defaultSources = []string{"RFC3279", "RFC5280", "RFC5480", "RFC5891", "RFC8813"}

// Rule is one of this package's own rules. Its ID begins with "e_sg_" (an error) or "w_sg_" (a warning).
type Rule struct {
	ID       string
	Source   string // such as "RFC5280"; "CABF_BR": only for publicly trusted issuers
	Citation string // such as "RFC 5280: 5.2.3"
	Text     string // what the rule demands
}

// check is a rule and its implementation. broken returns what breaks the rule, or "".
type check[T any] struct {
	Rule
	broken func(T) string
}

// run checks a subject against rules. Those of the CA/Browser Forum apply only if public is set.
func run[T any](checks []check[T], subject T, public bool) (findings []Finding) {
	for _, c := range checks {
		if c.Source == "CABF_BR" && !public {
			continue
		}
		if details := c.broken(subject); details != "" {
			findings = append(findings, c.finding(details))
		}
	}
	return findings
}

func (r Rule) finding(details string) Finding {
	return Finding{Lint: r.ID, Source: r.Source, Citation: r.Citation, Text: r.Text, Details: details, Warning: strings.HasPrefix(r.ID, "w_")}
}

// unparsed returns the finding about input that cannot be parsed.
func unparsed(what, citation, details string) []Finding {
	return []Finding{{Lint: "parse", Source: "X.690", Citation: citation, Text: "the " + what + " can be read", Details: details}}
}

// Severe reports whether any finding is more than a warning.
func Severe(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return !f.Warning })
}

// verdictsOf returns the verdict of each rule, for a Report.
func verdictsOf[T any](checks []check[T], findings []Finding) (verdicts []Verdict) {
	for _, c := range checks {
		v := Verdict{Lint: c.ID, Source: c.Source, Citation: c.Citation, Outcome: Passed}
		for _, f := range findings {
			if f.Lint == c.ID {
				v.Outcome, v.Details = Failed, f.Details
			}
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}
