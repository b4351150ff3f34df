package handshake

import (
	"fmt"

	"signet.example/signet/pki"
)

// Policy decides about a certificate whose status could not be established. Only ReportOnly accepts a
// certificate that is known to be revoked.
//
// The zero Policy denies everything that is not proved good. A Config whose Policy is zero gets HardFailIfCovered.
type Policy uint8

// policyUnset denies. A decision that meets it is a mistake of this package.
const policyUnset Policy = 0

// The policies, from the strictest.
const (
	// HardFail accepts a chain only if every certificate of it is Good or Exempt.
	HardFail Policy = iota + 1

	// HardFailIfCovered is HardFail for issuers that Config.Issuers gives a source for, and SoftFail for all others. It
	// is the default: a configured source is required to work, and other issuers are checked as far as they can be.
	HardFailIfCovered

	// SoftFail accepts a certificate whose status no source could tell, and says so in the Result. It does not stop an
	// attacker who holds a revoked certificate and controls the network between the peers.
	SoftFail

	// ReportOnly accepts everything and says in the Result what would have been refused. It is for a roll-out.
	ReportOnly
)

var policyNames = [...]string{"unset", "hard-fail", "hard-fail-if-covered", "soft-fail", "report-only"}

// String returns the word that ParsePolicy reads.
func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return policyNames[policyUnset]
}

// ParsePolicy reads hard-fail, hard-fail-if-covered, soft-fail or report-only.
func ParsePolicy(text string) (Policy, error) {
	for p, name := range policyNames {
		if Policy(p) != policyUnset && name == text {
			return Policy(p), nil
		}
	}
	return policyUnset, &pki.Error{Kind: pki.KindInvalid, Op: "parse policy",
		Err: fmt.Errorf("%.64q: want hard-fail, hard-fail-if-covered, soft-fail or report-only", text)}
}

// valid reports whether a configuration may set this policy.
func (p Policy) valid() bool { return p > policyUnset && p <= ReportOnly }

// effective returns the policy for one certificate, given whether its issuer is covered.
func (p Policy) effective(covered bool) Policy {
	switch {
	case p != HardFailIfCovered:
		return p
	case covered:
		return HardFail
	}
	return SoftFail
}

// Override is consulted when the policy would refuse. It sees the whole Result; anything but a clear acceptance lets
// the refusal stand. It runs during the handshake, so a person has only as long as the peer will wait. If the chain is
// untrusted only because of its name or its dates, the Result holds what is known locally about its certificates, and a
// revoked one still needs OverrideAcceptRevoked. Accepted untrusted connections are not tracked: nothing is fetched
// for certificates that the peer may have made up.
type Override func(*Result) Answer

// Answer is the decision of an Override. Zero lets the refusal stand.
type Answer uint8

// The answers. Accepting a revoked certificate has an answer of its own, so that an Override that always answers
// OverrideAccept does not do it.
const (
	OverrideRefuse        Answer = iota
	OverrideAccept               // accept the connection, unless a certificate of the chain is revoked
	OverrideAcceptRevoked        // accept the connection although a certificate of the chain is revoked
)
