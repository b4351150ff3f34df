package pki

import (
	"fmt"
	"strings"
)

// Reason is a CRLReason of RFC 5280, Section 5.3.1, with the standard's numbers. Unspecified is encoded by omitting the
// extension.
type Reason uint8

// The reasons; 7 is not used by the standard.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	CACompromise         Reason = 2
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	CertificateHold      Reason = 6
	RemoveFromCRL        Reason = 8
	PrivilegeWithdrawn   Reason = 9
	AACompromise         Reason = 10
)

var reasonNames = [...]string{
	Unspecified: "unspecified", KeyCompromise: "keyCompromise", CACompromise: "cACompromise",
	AffiliationChanged: "affiliationChanged", Superseded: "superseded", CessationOfOperation: "cessationOfOperation",
	CertificateHold: "certificateHold", RemoveFromCRL: "removeFromCRL", PrivilegeWithdrawn: "privilegeWithdrawn",
	AACompromise: "aACompromise",
}

// Valid reports whether r is one of the standard's values.
func (r Reason) Valid() bool { return int(r) < len(reasonNames) && reasonNames[r] != "" }

// String returns the standard's identifier, such as "keyCompromise".
func (r Reason) String() string {
	if !r.Valid() {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return reasonNames[r]
}

// ParseReason reads the standard's identifier in any case, with or without hyphens and underscores between words.
func ParseReason(text string) (Reason, error) {
	plain := strings.NewReplacer("-", "", "_", "", " ", "").Replace(text)
	for r, name := range reasonNames {
		if name != "" && strings.EqualFold(name, plain) {
			return Reason(r), nil
		}
	}
	return 0, fmt.Errorf("reason %q: want one of unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, certificateHold, privilegeWithdrawn, aACompromise", clip(text))
}
