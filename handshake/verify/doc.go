// Package verify judges certificates off-line: everything it looks at is given, the time included. No network, no
// clock, no roots of the system, no policy but the one in the question. It is what `signet verify` runs, one case or tens of
// thousands in one process, and it holds the rules of trust that package handshake applies to the signers of CRLs.
//
// There are four questions (Kind): may this chain be accepted (verify); what do these CRLs (crl-status) or OCSP
// responses (ocsp-status) say of this certificate; and was this OCSP response signed by somebody who may (ocsp-verify).
// A Case is the question, Judge the judgement, Batch many of them as JSON lines.
//
// Path building and certificate policies are those of crypto/x509, but for policies under the initial flags of RFC 5280, Section 6.1.1, which it
// has no options for. What is decided here is everything that crypto/x509
// has no opinion on, or one at odds with RFC 5280: name constraints (Section 4.2.1.10), the path lengths of self-issued CAs,
// which CRLs count for which certificate and who may sign them (Section 6.3.3), which OCSP responders speak for an issuer (RFC
// 6960, Section 4.2.2.2), and what becomes of a certificate that nobody speaks for.
//
// What others made and does not parse is a rejection of class parse, never an error of ours.
package verify
