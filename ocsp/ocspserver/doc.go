// Package ocspserver answers OCSP requests (RFC 6960, RFC 9919) for Signet's issuers from the memory of a
// revocation.Universe, with keys that the issuers have delegated.
//
//   - Responder is the core. Answer takes method, path and body and returns status code, body and headers; it knows no
//     HTTP package. Responses are signed when they are first requested and kept until the certificate's next event.
//   - Handler serves a Responder over net/http.
//   - Delegation keeps the responder's certificates fresh: it files requests and, on an instance that issues, has them
//     signed.
//
// A request that arrives after a revocation was acknowledged is never answered with the status from before it: see
// cache.go.
package ocspserver
