// Package ocspserver answers OCSP requests (RFC 6960, RFC 9919) for Signet's issuers from what a revocation.Universe
// holds in memory, with keys that the issuers have delegated.
//
//   - Responder is the core. Answer takes method, path and body and returns status code, body and headers; it knows no
//     HTTP package. Responses are signed when they are first asked for and kept until the certificate's next event.
//   - Handler serves a Responder over net/http.
//   - Delegation keeps the responder's certificates fresh: it files requests, and on an instance that issues it has them
//     signed.
//
// Whoever asks after a revocation was acknowledged is never answered with what was true before: see cache.go.
package ocspserver
