package pki

// Status is what a source says of a certificate. Zero is Unknown, and only Good and Exempt let a certificate pass
// without a policy's word.
type Status uint8

// The statuses that a source can give.
const (
	StatusUnknown     Status = iota // nothing is known; never to be read as good
	StatusGood                      // the issuer states: issued, and not revoked as of the evidence
	StatusRevoked                   // the issuer states: revoked, or on hold
	StatusNotIssued                 // the issuer states: no such certificate was ever issued
	StatusExempt                    // no status exists by design: noRevAvail (RFC 9608) or ocsp-nocheck (RFC 6960)
	StatusTooNew                    // the source is older than the certificate
	StatusNotCovered                // the source says nothing about this certificate
	StatusStale                     // the source's time has passed; what it says can no longer count as good
	StatusUnreachable               // the source did not answer
	StatusInvalid                   // the source answered with something that must not be believed
)

var statusNames = [...]string{"unknown", "good", "revoked", "not-issued", "exempt", "too-new", "not-covered", "stale", "unreachable", "invalid"}

// String is a lower-case word for people and programs.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "unknown"
}

// Conclusive reports whether the status settles the question without asking another source.
func (s Status) Conclusive() bool {
	switch s {
	case StatusGood, StatusRevoked, StatusNotIssued, StatusExempt:
		return true
	}
	return false
}
