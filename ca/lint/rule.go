package lint

import (
	"slices"
	"strings"
)

// defaultSources are the RFCs: rules for everyone. The rest are rules of one community each, for profiles to name.
var defaultSources = []string{"RFC3279", "RFC5280", "RFC5480", "RFC5891", "RFC8813"}

// Rule is one rule of ours. Its identifier begins with e_ (an error) or w_ (a warning), then sg_.
type Rule struct {
	ID       string
	Source   string // "RFC5280"; "CABF_BR": only for publicly trusted issuers
	Citation string // "RFC 5280: 5.2.3"
	Text     string // what holds
}

// check is a rule with what it looks at: it returns what breaks it, or nothing.
type check[T any] struct {
	Rule
	broken func(T) string
}

// run holds something against rules; public says whether those of the CA/Browser Forum count.
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

// unparsed is the finding about what does not parse at all.
func unparsed(what, citation, details string) []Finding {
	return []Finding{{Lint: "parse", Source: "X.690", Citation: citation, Text: "the " + what + " can be read", Details: details}}
}

// Severe reports whether any finding is more than a warning.
func Severe(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return !f.Warning })
}

// verdictsOf says what each of our rules said, for a Report.
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
