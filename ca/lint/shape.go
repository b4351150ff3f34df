package lint

import (
	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
)

type shapes struct{}

func (r *Rules) run(certificate *x509.Certificate, tbs []byte) error {
	var findings []Finding
	for _, l := range r.lints {
		if result := l.Execute(certificate, r.config); result.Status == lint.Error || result.Status == lint.Fatal {
			findings = append(findings, findingOf(l, result))
		}
	}
	if len(findings) > 0 {
		return &Failure{findings}
	}
	return nil
}
