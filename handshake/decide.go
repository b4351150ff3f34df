package handshake

import (
	"errors"
	"slices"

	"signet.example/signet/pki"
)

// judge turns the evidence about one certificate into a status and, with the policy, into an error or none.
func (c *Checker) judge(s *subject) CertificateResult {
	result := CertificateResult{Certificate: s.cert, Issuer: s.issuer, Evidence: s.evidence, Covered: s.covered}
	result.Policy = c.policyFor(s.config).effective(s.covered)
	result.Decisive = decisive(result.Evidence)
	if result.Decisive != nil {
		result.Status = result.Decisive.Status
	}
	result.Err = fault(&result)
	switch {
	case refuted(result.Status): // what the authority says comes before what the certificate demands
	case s.fault != nil:
		result.Status, result.Err = pki.StatusInvalid, s.fault
	case s.leaf && mustStaple(s.cert):
		result.Err = missingStaple(&result, s.resumed)
	}
	return result
}

// policyFor returns the policy for the certificates of an issuer, which is the zero Issuer if it is not configured.
func (c *Checker) policyFor(issuer Issuer) Policy {
	if issuer.Policy != policyUnset {
		return issuer.Policy
	}
	return c.config.Policy
}

// fault returns the error that the policy makes of a status: nil if it tolerates it.
func fault(result *CertificateResult) error {
	switch {
	case result.Status == pki.StatusGood || result.Status == pki.StatusExempt:
		return nil
	case refuted(result.Status):
		return &RevokedError{Certificate: result.Certificate, Evidence: *result.Decisive}
	case result.Policy == SoftFail:
		return nil
	case result.Status == pki.StatusStale:
		return &StaleError{Certificate: result.Certificate, Evidence: *result.Decisive}
	case result.Status == pki.StatusInvalid:
		return &EvidenceError{Certificate: result.Certificate, Evidence: *result.Decisive}
	}
	return &UnavailableError{Certificate: result.Certificate, Evidence: result.Evidence}
}

// missingStaple enforces RFC 7633, Section 4.2.3.1: a certificate that demands a stapled status is refused without a
// good staple, whatever the policy tolerates otherwise, because the authority and the server both promised one. A
// revoked certificate is refused as revoked. A resumed session has the staple of its first connection, which was
// accepted then: there it suffices that some source says good now.
func missingStaple(result *CertificateResult, resumed bool) error {
	var err error
	for _, e := range result.Evidence {
		switch {
		case e.Status == pki.StatusGood && (e.Source == SourceStaple || resumed):
			return nil
		case e.Source == SourceStaple && e.Err != nil:
			err = e.Err
		case e.Source == SourceStaple:
			err = errors.New("the staple says " + e.Status.String())
		}
	}
	return &MustStapleError{Certificate: result.Certificate, Err: err}
}

// decide makes the decision about the whole chain.
func (c *Checker) decide(r *Result) {
	r.decision, r.err = Refused, c.refusal(r)
	if r.err != nil {
		return
	}
	r.decision = Accepted
	for i := range r.Certificates {
		result := &r.Certificates[i]
		if result.Err != nil { // which ReportOnly let pass
			r.decision = AcceptedReportOnly
			return
		}
		if !result.Status.Conclusive() {
			r.decision = AcceptedUnproved
		}
	}
}

// refusal returns the error that prevents the connection: that the chain is not trusted, else the worst error of the
// certificates that the policy refuses.
func (c *Checker) refusal(r *Result) error {
	if r.Trust != nil {
		return r.Trust
	}
	return worst(r.Certificates, func(result *CertificateResult) bool { return result.Policy != ReportOnly })
}

// worst returns the error to report for a chain: a revocation anywhere in it, else the error nearest to the leaf.
func worst(certificates []CertificateResult, counts func(*CertificateResult) bool) error {
	var first error
	for i := range certificates {
		c := &certificates[i]
		if !counts(c) {
			continue
		}
		if _, revoked := errors.AsType[*RevokedError](c.Err); revoked {
			return c.Err
		}
		if first == nil {
			first = c.Err
		}
	}
	return first
}

// override consults the callback about a refusal. A revocation anywhere in the chain needs OverrideAcceptRevoked.
func (c *Checker) override(r *Result) {
	if r.decision != Refused || c.config.Override == nil {
		return
	}
	if answer := c.config.Override(r); answer == OverrideAcceptRevoked || answer == OverrideAccept && !r.revoked() {
		r.decision = AcceptedOverridden
	}
}

func (r *Result) revoked() bool {
	return slices.ContainsFunc(r.Certificates, func(result CertificateResult) bool { return refuted(result.Status) })
}

// Counts returns how many checks have ended in each Decision since New. Every Decision but Accepted and Refused is an
// acceptance without proof.
func (c *Checker) Counts() map[Decision]uint64 {
	counts := make(map[Decision]uint64, len(c.counts))
	for d := range c.counts {
		counts[Decision(d)] = c.counts[d].Load()
	}
	return counts
}

func (c *Checker) observe(r *Result) {
	c.counts[r.decision].Add(1)
	if c.config.Observe != nil {
		c.config.Observe(r)
	}
}
