package handshake

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"

	"signet.example/signet/crl"
	"signet.example/signet/handshake/verify"
	"signet.example/signet/pki"
)

// admit takes a list into memory if it counts for the certificate at hand: its signer is authorised, it is about the
// certificate's issuer, and the certificate is in its scope. An attacker on the path of a plain HTTP fetch can offer
// any bytes, even another genuine list: a complete list in a place that only deltas lead to would displace the deltas
// for as long as it lasts.
func (c *Checker) admit(s *subject, target crl.Target, h *heldList) error {
	if !leadsTo(target, h.location) && (h.list.Delta || !h.configured) {
		return c.admitDelta(h, s)
	}
	if rejection := c.rejection(s, target, h); rejection != nil {
		return rejection
	}
	return c.put(h, s)
}

// rejection returns why a complete list does not count for a certificate, whatever the age of the list.
func (c *Checker) rejection(s *subject, target crl.Target, h *heldList) *ListError {
	rules := c.rules(s, []*heldList{h})
	rules.IgnoreExpiration, rules.MaxAge = true, 0
	judgement := crl.Judge(target, []*crl.List{h.list}, rules)
	if len(judgement.Used) > 0 {
		return nil
	}
	return firstRejection(judgement)
}

// leadsTo reports whether a distribution point of the certificate, which leads to complete lists, is at a location.
func leadsTo(target crl.Target, location string) bool {
	return slices.ContainsFunc(target.Points, func(p crl.DistributionPoint) bool { return slices.Contains(p.URLs(), location) })
}

// own returns the list at hand from a location. A list of another scope does not count if the certificate's own
// distribution point leads to the location: such a list may have been configured, or admitted for another certificate.
// It is then fetched again.
func (c *Checker) own(s *subject, target crl.Target, location string, configured bool) *heldList {
	h := c.atHand(s, target, location, configured)
	if h == nil || !leadsTo(target, location) {
		return h
	}
	if rejection := c.rejection(s, target, h); rejection != nil && (h.list.Delta || statusOfCause(rejection.Cause) == pki.StatusNotCovered) {
		return nil
	}
	return h
}

// admitForAny admits a configured list, which a round asks for once, for the first certificate of the round that it
// counts for: the certificate that happens to ask first may be in the scope of another list, and the one that the last
// list from there was admitted for may have no connection now. A list that a distribution point leads to must count for
// the certificate that asks; otherwise the list of one shard would displace another's.
func (c *Checker) admitForAny(ctx context.Context, s *subject, target crl.Target, h *heldList) error {
	err := c.admit(s, target, h)
	failed, ok := errors.AsType[*ListError](err)
	if s.round == nil || !h.configured || !ok || statusOfCause(failed.Cause) != pki.StatusNotCovered {
		return err
	}
	admit := func(other *subject) bool {
		target, err := crl.NewTarget(other.cert)
		return err == nil && c.admit(other, target, h) == nil
	}
	if sponsor := c.lists.sponsorOf(s.place(h.location), s.at); sponsor != nil && admit(sponsor) {
		return nil
	}
	for _, in := range s.round.chains {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, other := range c.subjects(in, s.at) {
			if other.key != s.key && other.issuerKey == s.issuerKey && admit(other) {
				return nil
			}
		}
	}
	return err
}

// admitDelta admits a delta that is signed. Whether it fits a complete list is decided when the two are judged
// together.
func (c *Checker) admitDelta(h *heldList, s *subject) error {
	if !h.list.Delta {
		return errors.New("a complete list came where a delta is to be had")
	}
	err := errors.New("nobody at hand may sign this delta")
	for _, signer := range c.rules(s, []*heldList{h}).Signers(h.list) {
		if err = h.list.Verify(signer); err == nil {
			return c.put(h, s)
		}
	}
	return err
}

// put records whether a list is vouched for, and keeps it if it may replace what is held in its place.
func (c *Checker) put(h *heldList, s *subject) error {
	signed := func(signer *x509.Certificate) bool { return h.list.Verify(signer) == nil }
	h.vouched = slices.ContainsFunc(s.chain, signed) || slices.ContainsFunc(c.config.Issuers, func(i Issuer) bool { return signed(i.Certificate) })
	return c.lists.put(h, s, c.ended(h, s.at))
}

// ListError says why a CRL does not count for a certificate: the list is to blame, not the certificate.
type ListError struct {
	Cause crl.Cause
	Err   error
}

// Error returns the cause and its explanation.
func (e *ListError) Error() string {
	return "the CRL does not count (" + e.Cause.String() + "): " + e.Err.Error()
}

// Unwrap returns the error of package crl.
func (e *ListError) Unwrap() error { return e.Err }

func firstRejection(j crl.Judgement) *ListError {
	if len(j.Rejected) == 0 {
		return &ListError{Cause: crl.CauseScope, Err: errors.New("it does not cover the certificate")}
	}
	best := j.Rejected[0]
	for _, r := range j.Rejected {
		if verify.Weight(statusOfCause(r.Cause)) > verify.Weight(statusOfCause(best.Cause)) {
			best = r
		}
	}
	return &ListError{Cause: best.Cause, Err: best.Err}
}
