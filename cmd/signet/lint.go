package main

import (
	"fmt"

	"signet.example/signet/ca/lint"
	"signet.example/signet/pki"
)

type lintCmd struct {
	Files  []string `arg:"" help:"Certificates, certificate requests, CRLs or OCSP responses, in DER or PEM; - is standard input."`
	Public bool     `help:"Add the rules of the CA/Browser Forum, for publicly trusted authorities."`
	Source []string `placeholder:"NAME" help:"Rules for certificates, as zlint names their sources, such as RFC5280 or CABF_BR (default: the RFCs)."`
}

func (lintCmd) Help() string {
	return `Checks certificates, CRLs and OCSP responses of any origin against the rules of the standards: zlint's for certificates, and
Signet's own for ML-DSA in certificates, for CRLs and for OCSP responses. Each finding names its rule and the section it comes
from. Whether to rely on the object is another question: see "signet verify", "signet crl verify" and "signet ocsp query".
The exit status is 10 if a rule is broken; warnings do not count.

Examples:
  signet lint app.pem
  signet lint --public https.crl
  openssl ocsp -issuer ca.pem -cert app.pem -url http://ocsp.example -respout answer.der; signet lint answer.der`
}

// lintReport is what `signet lint --output json` prints.
type lintReport struct {
	Broken bool         `json:"broken"` // a rule is broken, warnings aside
	Linted []lintedFile `json:"linted"`
}

// lintedFile is the result for one object in a file.
type lintedFile struct {
	File     string         `json:"file"`
	Part     int            `json:"part,omitempty"` // from 1, if the file has several
	Kind     string         `json:"kind,omitempty"`
	Findings []lint.Finding `json:"findings"`
}

// Run lints files.
func (c *lintCmd) Run(a *app) error {
	results := []lintedFile{}
	broken := false
	for _, path := range c.Files {
		data, err := a.readInput(path)
		if err != nil {
			return err
		}
		parts := derIn(data)
		if len(parts) == 0 && len(data) > 0 {
			parts = [][]byte{data} // not such an object; the linter says so
		}
		for i, der := range parts {
			kind, findings, err := lint.Foreign(der, c.Source, c.Public)
			if err != nil {
				return err
			}
			broken = broken || lint.Severe(findings)
			part := 0
			if len(parts) > 1 {
				part = i + 1
			}
			results = append(results, lintedFile{path, part, kind, append([]lint.Finding{}, findings...)})
		}
	}
	if len(results) == 0 {
		return pki.Errorf(pki.KindInvalid, "lint", "there is nothing in the files")
	}
	if err := a.show(lintReport{broken, results}, func(p *printer) { printLinted(p, results) }); err != nil {
		return err
	}
	if broken {
		return answerNo("a rule is broken")
	}
	return nil
}

func printLinted(p *printer, results []lintedFile) {
	for _, r := range results {
		what := r.File
		if r.Kind != "" {
			what += ", " + r.Kind
		}
		if r.Part > 0 {
			what += fmt.Sprintf(" %d of the file", r.Part)
		}
		if len(r.Findings) == 0 {
			p.line("%s: no rule is broken", what)
			continue
		}
		p.line("%s:", what)
		for _, f := range r.Findings {
			severity := "error  "
			if f.Warning {
				severity = "warning"
			}
			p.line("  %s %s", severity, f)
		}
	}
}
