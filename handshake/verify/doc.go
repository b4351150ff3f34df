// Package verify judges certificates off-line. Everything that it looks at is an argument, including the time: no
// network, no clock, no system roots, and no policy but the one in the question. `signet verify` runs it, for one case
// or tens of thousands in one process. It also holds the rules of trust that package handshake applies to the signers
// of CRLs.
//
// There are four questions (Kind): whether this chain may be accepted (verify); what these CRLs (crl-status) or OCSP
// responses (ocsp-status) say about this certificate; and whether an authorised responder signed this OCSP response
// (ocsp-verify). A Case is the question, Judge judges it, and Batch judges many of them as JSON lines.
//
// Path building and certificate policies are those of crypto/x509, except policies under the initial flags of RFC 5280,
// Section 6.1.1, for which it has no options. This package decides what crypto/x509 does not, or decides differently
// from RFC 5280: name constraints (Section 4.2.1.10), the path lengths of self-issued CAs, which CRLs count for which
// certificate and who may sign them (Section 6.3.3), which OCSP responders may answer for an issuer (RFC 6960, Section
// 4.2.2.2), and what to do about a certificate without evidence.
//
// Foreign input that does not parse is a rejection of class parse, never an error.
package verify
