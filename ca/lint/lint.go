// Package lint holds what is about to be signed against the rules of others: zlint's for certificates. It reads exactly
// the bytes that will be signed, and refuses before the key is touched.
package lint

import (
	"fmt"
	"strings"
)

// Finding is one rule that a certificate breaks.
type Finding struct {
	Lint     string // zlint's name of the rule
	Source   string // "RFC5280"
	Citation string // "RFC 5280: 4.1.2.6"
	Text     string // what the rule says
	Details  string // about this certificate; may be empty
}

// Failure is the error of a certificate that breaks rules.
type Failure struct{ Findings []Finding }

// Error names every broken rule and its document.
func (f *Failure) Error() string {
	var texts []string
	for _, finding := range f.Findings {
		text := fmt.Sprintf("%s (%s): %s", finding.Lint, finding.Citation, finding.Text)
		if finding.Details != "" {
			text += ": " + finding.Details
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}
