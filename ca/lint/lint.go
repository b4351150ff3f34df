// Package lint checks certificates, CRLs and OCSP responses against published rules before they are signed. It runs
// zlint's rules for certificates, and rules of its own where zlint has none: for ML-DSA in certificates, for CRLs and
// for OCSP responses. Each rule of its own cites its document and section. It reads exactly the octets that will be
// signed.
package lint

import (
	"fmt"
	"strings"
)

// Finding is one rule that a certificate, list or response breaks.
type Finding struct {
	Lint     string `json:"rule"`              // name of the rule; this package's own contain "sg_"
	Source   string `json:"source"`            // such as "RFC5280"
	Citation string `json:"citation"`          // such as "RFC 5280: 4.1.2.6"
	Text     string `json:"text"`              // what the rule demands
	Details  string `json:"details,omitempty"` // what breaks it; may be empty
	Warning  bool   `json:"warning,omitempty"` // the document only says SHOULD or the like, so nothing is refused for it
}

// String returns the name of the rule, its citation, its text and the details.
func (f Finding) String() string {
	text := fmt.Sprintf("%s (%s): %s", f.Lint, f.Citation, f.Text)
	if f.Details != "" {
		text += ": " + f.Details
	}
	return text
}

// Failure is the error about broken rules.
type Failure struct{ Findings []Finding }

// Error lists the findings.
func (f *Failure) Error() string {
	var texts []string
	for _, finding := range f.Findings {
		texts = append(texts, finding.String())
	}
	return strings.Join(texts, "; ")
}

// Refusal returns a *Failure with the findings that are not warnings, or nil if there are none.
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
