package crl

import (
	"crypto/x509"
	"time"
)

// Status is the outcome of Judge. Zero is Undetermined and is never to be read as good.
type Status uint8

// The three outcomes.
const (
	Undetermined Status = iota // the lists at hand do not settle it
	Unrevoked                  // every reason is covered by lists that are current and do not name it
	Revoked                    // a list that counts names it
)

// Target is what Judge needs of a certificate.
type Target struct {
	Serial  []byte              // content octets of the INTEGER
	Issuer  []byte              // DER of the issuer's Name
	Version int                 // 1, 2 or 3
	CA      bool                // basicConstraints with cA TRUE
	Points  []DistributionPoint // cRLDistributionPoints
	Fresh   []DistributionPoint // freshestCRL
}

// NewTarget reads a certificate. It takes the distribution points from the raw extensions, since crypto/x509 keeps
// only their first URLs.
func NewTarget(c *x509.Certificate) (Target, error) { return Target{}, nil }

// Rules are the conditions of one judgement.
type Rules struct {
	At               time.Time     // required
	MaxAge           time.Duration // a list whose thisUpdate is older is stale; 0: only nextUpdate counts
	IgnoreExpiration bool          // use lists past their nextUpdate (and MaxAge) too
	IgnoreDeltas     bool          // judge by complete lists alone
	RequireNumber    bool          // refuse version 2 lists without a CRL number (RFC 5280, Section 5.2.3)
	PointsOnly       bool          // if the certificate has distribution points, do not fall back on other lists of its issuer

	// Signers returns the certificates that may have signed a list: named as its issuer, and already validated to the
	// trust anchor of the target (RFC 5280, Section 6.3.3 (f)). Required. Judge checks cRLSign and the signature.
	Signers func(*List) []*x509.Certificate
}

// Judgement is the outcome and how it came about.
type Judgement struct {
	Status   Status
	Entry    Entry       // if Revoked
	List     *List       // the list that has the entry, a delta perhaps; if Unrevoked the first list that counted
	Used     []*List     // every list that counted, deltas included
	Covered  ReasonFlags // reasons for which the lists speak
	Rejected []Rejection // every list that did not count, and why
}

// Rejection says why a list did not count for one distribution point.
type Rejection struct {
	List  *List
	Point int // index into Target.Points; len(Target.Points) for the locally supplied one
	Cause Cause
	Err   error // details, for a person
}

// Cause is why a list did not count.
type Cause uint8

// The causes.
const (
	CauseNone      Cause = iota
	CauseIssuer          // its issuer is not the one that the distribution point names
	CauseScope           // its issuing distribution point does not cover the certificate
	CauseReasons         // it covers no reason that others do not cover
	CauseStale           // past its nextUpdate, or older than MaxAge, or without any end
	CauseNotYet          // its thisUpdate is in the future
	CauseCritical        // it has a critical extension that is not understood
	CauseMalformed       // an extension breaks the standard
	CauseSigner          // no certificate at hand may sign it
	CauseSignature       // no such certificate's key made its signature
	CauseDelta           // a delta that does not fit the complete list, or has none
	CauseNumber          // it has no CRL number, where one is required
)

// Judge decides whether a certificate is revoked: RFC 5280, Section 6.3.3, with lists in place of a cache.
func Judge(c Target, lists []*List, rules Rules) Judgement { return Judgement{} }
