// Package ocsp implements the format of the Online Certificate Status Protocol (RFC 6960, RFC 9654, RFC 9919): it reads
// and writes requests and responses and judges responses. It has no clock, no network and no store.
//
// Parsers accept foreign bytes: they are bounded (MaxRequest, MaxResponse, MaxItems) and never panic. They keep
// sub-slices of their input, which the caller therefore must not change. Serial numbers are compared by the content
// octets of their DER INTEGER, so negative and over-long ones of other authorities are handled too.
//
// Use Verify to learn a status. Parsing alone proves nothing: anyone can make a Response.
package ocsp
