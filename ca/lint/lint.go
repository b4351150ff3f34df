// Package lint holds what is about to be signed against the rules of others: zlint's for certificates, and rules of our
// own, each named after the document and section it comes from, for what zlint does not know: ML-DSA in certificates,
// revocation lists and OCSP responses. It reads exactly the octets that will be signed, and refuses before the key is touched.
package lint

import (
	"fmt"
	"strings"
)

// Finding is one rule that a certificate, list or response breaks.
type Finding struct {
	Lint     string `json:"rule"`              // name of the rule: zlint's, or one of ours, which have "sg_" in them
	Source   string `json:"source"`            // "RFC5280"
	Citation string `json:"citation"`          // "RFC 5280: 4.1.2.6"
	Text     string `json:"text"`              // what the rule says
	Details  string `json:"details,omitempty"` // what is found; may be empty
	Warning  bool   `json:"warning,omitempty"` // the document says SHOULD, or the like: nothing is refused for it
}

// String names the rule and its document.
func (f Finding) String() string {
	text := fmt.Sprintf("%s (%s): %s", f.Lint, f.Citation, f.Text)
	if f.Details != "" {
		text += ": " + f.Details
	}
	return text
}

// Failure is the error of what breaks rules.
type Failure struct{ Findings []Finding }

// Error names every broken rule and its document.
func (f *Failure) Error() string {
	var texts []string
	for _, finding := range f.Findings {
		texts = append(texts, finding.String())
	}
	return strings.Join(texts, "; ")
}

// Refusal is a *Failure of the findings that are no warnings; nil if there are none.
func Refusal(findings []Finding) error {
	var errors []Finding
	for _, f := range findings {
		if !f.Warning {
			errors = append(errors, f)
		}
	}
	if errors == nil {
		return nil
	}
	return &Failure{errors}
}
