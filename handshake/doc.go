// Package handshake adds to crypto/tls what crypto/tls leaves out: it asks whether the certificates of a peer are still in
// force, and refuses those that are not.
//
// It is a library for strangers. It works with the certificates of any authority, needs no server of ours, and knows
// only formats (RFC 5280, RFC 6960) and crypto/tls.
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
// An authority on a private network has private addresses, which are asked only if they are allowed; and what was learned outlives the process
// if there is a place for it:
//
//	fetcher, err := fetch.New(fetch.Config{Dir: "/var/cache/app/status", Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
//	checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail, Fetcher: fetcher})
//
// A Guard gives the Result and the tracking to connections that are made otherwise. Package grpccreds makes credentials for gRPC. A handshake that is refused fails with a typed error: *RevokedError,
// *UnavailableError, *StaleError, *EvidenceError, *MustStapleError, *ContradictionError, *UntrustedError. Find them with
// errors.As: the error passes through net/http and friends unharmed.
//
// Start Checker.Run in a goroutine if connections live long: it closes them when a certificate of theirs becomes revoked,
// and refreshes CRLs ahead of use.
//
// # Which policy
//
// Most of the time nothing is known to be wrong and the question is what to do when nothing is known at all. A Policy
// answers it:
//
//   - HardFail refuses. It is the only policy that an attacker who holds a stolen key and the network between you and the
//     authority cannot pass by blocking the authority. Its price is that your service depends on the CRL being
//     published; with a cached CRL of days and a refresh at half its life, the price is small. Use it wherever
//     you run both ends.
//   - HardFailIfCovered, the default, is HardFail for the issuers listed in Config.Issuers with a source, and SoftFail for the rest
//     of the world. Use it in clients that talk to your own services and to others.
//   - SoftFail accepts and says so. It stops careless use of revoked certificates, not attacks.
//   - ReportOnly accepts and reports. Use it for a week, with Observe, before you use another.
//
// No policy but ReportOnly accepts what is known to be revoked. An Override may be asked about refusals; it needs
// one word to accept a chain nobody trusts or a status nobody knows, and another to accept a revoked certificate.
//
// # Where the answer comes from
//
// For every certificate of the chain but the root, the sources are asked in order until one is conclusive: revocations
// that are remembered, exemptions that the certificate itself states (noRevAvail of RFC 9608, ocsp-nocheck), the stapled OCSP
// response, CRLs in memory, in files and on disk, OCSP answers on hand; then, if Config.Network allows, the CRL
// distribution points and OCSP responders of the certificate, side by side. What came over the network is kept, so
// that the next handshake touches none, and is refreshed in the background from half its life on.
//
// An authentic revocation wins over any good, whatever the order and age (but of two complete lists the younger counts), and is
// remembered until the certificate has expired: by this process and, if the Fetcher has a directory, by those that share it and by those that come later. Only
// holds, and answers for serials that were never issued, can be taken back.
//
// The Result names every source that was asked, what it said, how old that is and why it does not count if it does
// not. There is no boolean in it, since there are more than two answers; the zero Result refuses.
//
// # What the network can and cannot do
//
// Fetching is package fetch's: http and https only, never a private address unless allowed, bounded in time, size,
// redirects and repetitions. Nothing is fetched before the chain has verified, so a stranger cannot have you fetch anything with a
// self-made certificate. OCSP errors are not signed and count as silence. CRLs are judged by package crl: RFC 5280,
// Section 6.3.3 with scopes, reasons, deltas, indirect lists and separate signing keys. To ask a single
// responder is to tell it whom you talk to: CRLs and staples do not.
//
// # Resumption
//
// The hook is VerifyConnection, which crypto/tls calls on every handshake; VerifyPeerCertificate is skipped when a
// session is resumed. On resumption crypto/tls hands over the staple of the first connection, however old: it is judged by
// its own times, and the Dialer makes a full handshake when it has ended. InsecureSkipVerify is refused: without a verified
// chain there is nothing to check.
//
// # Stapling
//
// A Stapler keeps the OCSP response of one's own certificate fresh and hands it out with the certificate, for servers
// and, in TLS 1.3, for clients. It keeps the last good one through an outage of the responder, and over restarts. A
// certificate that demands a staple (RFC 7633) is refused without a good one.
package handshake
