// Package ocsp is the format of the Online Certificate Status Protocol (RFC 6960, RFC 9654, RFC 9919): it reads and
// writes requests and responses and judges responses. It knows bytes and rules; no clock, no network, no store.
//
// Parsers take foreign bytes: they are bounded (MaxRequest, MaxResponse, MaxItems), never panic, and keep sub-slices
// of their input, which the caller therefore must not change. Serial numbers are compared by the raw content octets
// of their DER INTEGER, so that a negative or over-long one of another authority breaks nothing.
//
// Verify is the way to learn a status. Parsing alone proves nothing: a parsed Response says what somebody wrote.
package ocsp
