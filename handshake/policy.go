package handshake

import (
	"fmt"

	"signet.example/signet/pki"
)

// Policy says what becomes of a certificate whose status could not be established. No policy but ReportOnly accepts
// a certificate that is known to be revoked.
//
// The zero Policy denies everything that is not proved good. A Config whose Policy is zero gets HardFailIfCovered.
type Policy uint8

// policyUnset denies. A decision that meets it is a mistake of this package.
const policyUnset Policy = 0

// The policies, from the strictest.
const (
	// HardFail accepts a chain only if every certificate of it is Good or Exempt.
	HardFail Policy = iota + 1

	// HardFailIfCovered is HardFail for issuers that Config.Issuers gives a source for, and SoftFail for all others.
	// It is the default: what one has taken the trouble to configure must work, and the rest of the world is asked.
	HardFailIfCovered

	// SoftFail accepts what nobody could tell the status of, and says so in the Result. An attacker who holds a revoked
	// certificate and the network between the peers passes it.
	SoftFail

	// ReportOnly accepts everything and says in the Result what would have been refused. It is for rolling out.
	ReportOnly
)

var policyNames = [...]string{"unset", "hard-fail", "hard-fail-if-covered", "soft-fail", "report-only"}

// String is the word that ParsePolicy reads.
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

// valid reports whether a person may ask for this policy.
func (p Policy) valid() bool { return p > policyUnset && p <= ReportOnly }

// effective is the policy that holds for one certificate, given whether its issuer is covered.
func (p Policy) effective(covered bool) Policy {
	switch {
	case p != HardFailIfCovered:
		return p
	case covered:
		return HardFail
	}
	return SoftFail
}

// Override is asked when the policy would refuse. It sees the whole Result and answers with an Answer; whatever is not
// a clear acceptance leaves the refusal as it is. It is called during the handshake: a person who is asked has as long
// as the peer's patience lasts. Of a peer that is not trusted for its name or its time only, the Result says what is known without asking of the
// certificates of its chain, and a revocation among it needs its own word. A connection to a peer that is not trusted is not tracked if it is accepted: nothing is fetched for it, since
// its certificates are whatever the peer made up.
type Override func(*Result) Answer

// Answer is what an Override decides. Zero keeps the refusal.
type Answer uint8

// The answers. There are two words for acceptance, so that nobody accepts a revoked certificate by accepting whatever
// is asked.
const (
	Refuse                   Answer = iota
	Accept                          // accept the connection, unless a certificate of the chain is revoked
	AcceptRevokedCertificate        // accept the connection although a certificate of the chain is revoked
)
