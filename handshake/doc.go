// Package handshake adds revocation checking to crypto/tls: it checks whether the certificates of a peer are still in
// force, and refuses those that are not.
//
// It works with the certificates of any authority and needs no Signet server. It knows only crypto/tls and the formats
// of RFC 5280 and RFC 6960.
//
// # Getting started
//
// Make one Checker for the process and wrap what you have:
//
//	checker, err := handshake.New(handshake.Config{})
//	transport, err := checker.Transport(nil)                 // for an http.Client
//	config, err := checker.WrapClient(&tls.Config{...})      // for everything that takes a tls.Config
//	config, err := checker.WrapServer(&tls.Config{...})      // for servers that demand client certificates
//	listener, err := checker.NewListener(inner, config)      // the same, and connections are cut when their certificate is revoked
//	dialer := &handshake.Dialer{Checker: checker}            // shows the Result of every handshake
//
// Private addresses, such as those of an authority on a private network, must be allowed explicitly. A directory keeps
// what was learned beyond the end of the process:
//
//	fetcher, err := fetch.New(fetch.Config{Dir: "/var/cache/app/status", Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
//	checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail, Fetcher: fetcher})
//
// A Guard adds the Result and the tracking to connections that are made otherwise. Package grpccreds makes credentials
// for gRPC. A refused handshake fails with a typed error: *RevokedError, *UnavailableError, *StaleError,
// *EvidenceError, *MustStapleError, *ContradictionError, *UntrustedError. Find them with errors.As: net/http and other
// packages pass the error through.
//
// If connections live long, start Checker.Run in a goroutine: it closes them when a certificate of their peer becomes
// revoked, and refreshes CRLs ahead of use.
//
// # Which policy
//
// Usually no certificate is known to be revoked, and the question is what to do when a status is not known at all. A
// Policy answers it:
//
//   - HardFail refuses. It is the only policy that an attacker who holds a stolen key and controls the network between
//     you and the authority cannot pass by blocking the authority. Its price is that your service depends on the CRL
//     being published. With a cached CRL of days and a refresh at half its life, the price is small. Use it where you
//     run both ends.
//   - HardFailIfCovered, the default, is HardFail for the issuers listed in Config.Issuers with a source, and SoftFail
//     for all others. Use it in clients that talk to your own services and to others.
//   - SoftFail accepts and says so. It stops careless use of revoked certificates, not attacks.
//   - ReportOnly accepts and reports. Use it for a week, with Observe, before you use another.
//
// Only ReportOnly accepts a certificate that is known to be revoked. An Override may be consulted about refusals. It
// needs one answer to accept an untrusted chain or an unknown status, and another to accept a revoked certificate.
//
// # Where the answer comes from
//
// For every certificate of the chain but the root, the sources are consulted in order until one is conclusive:
// revocations that are remembered, exemptions that the certificate itself states (noRevAvail of RFC 9608,
// ocsp-nocheck), the stapled OCSP response, CRLs in memory, in files and on disk, and OCSP answers at hand; then, if
// Config.Network allows, the CRL distribution points and OCSP responders of the certificate, in parallel. What was
// fetched is kept, so that the next handshake needs no network, and is refreshed in the background from half its life
// on.
//
// An authentic revocation wins over any good, in whatever order and however old, except that of two complete lists the
// younger counts. It is remembered until the certificate has expired: by this process and, if the Fetcher has a directory, by
// others that share it and by later ones. Only holds, and answers for serials that were never issued, can be taken
// back.
//
// The Result names every source that was consulted, its answer, the age of that and, if it does not count, why. It has
// no boolean, because there are more than two answers; the zero Result refuses.
//
// # What the network can and cannot do
//
// Package fetch does the fetching: only http and https, private addresses only if allowed, bounded in time, size,
// redirects and repetitions. Nothing is fetched before the chain has verified, so a self-made certificate cannot cause
// a fetch. OCSP errors are not signed and count as silence. Package crl judges CRLs by RFC 5280, Section 6.3.3, with
// scopes, reasons, deltas, indirect lists and separate signing keys. An OCSP request tells the responder whom you talk
// to; CRLs and staples do not.
//
// # Resumption
//
// The hook is VerifyConnection, which crypto/tls calls on every handshake; it skips VerifyPeerCertificate when a
// session is resumed. On resumption crypto/tls passes the staple of the first connection, however old. It is judged by
// its own times, and the Dialer makes a full handshake when it has ended. InsecureSkipVerify is refused: without a
// verified chain there is nothing to check.
//
// # Stapling
//
// A Stapler keeps the OCSP response of the process's own certificate fresh and delivers it with the certificate, for
// servers and, in TLS 1.3, for clients. It keeps the last good one through an outage of the responder, and over
// restarts. A certificate that demands a staple (RFC 7633) is refused without a good one.
package handshake
