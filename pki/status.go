package pki

// Status is what a source says about a certificate. Zero is StatusUnknown. Only StatusGood and StatusExempt let a
// certificate pass under every policy.
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
	StatusStale                     // the source has ended; it can no longer say good
	StatusUnreachable               // the source did not answer
	StatusInvalid                   // the source answered with something that does not count
)

var statusNames = [...]string{"unknown", "good", "revoked", "not-issued", "exempt", "too-new", "not-covered", "stale", "unreachable", "invalid"}

// String returns a lower-case word for people and programs.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "unknown"
}

// Conclusive reports whether the status settles the question without another source.
func (s Status) Conclusive() bool {
	switch s {
	case StatusGood, StatusRevoked, StatusNotIssued, StatusExempt:
		return true
	}
	return false
}
