// Package laboratory shows why a leaked key matters, by experiment: it records sessions on the loopback network as an
// eavesdropper would, and attacks the recordings with the server's private key.
//
// A session of TLS 1.2 with RSA key transport falls: the recording holds the session's secret, encrypted to that key. A
// session of TLS 1.3 does not: its secret was never sent, and the keys that made it are gone. There the leaked key only
// allows posing as the server from now on, until its certificate is revoked and clients check.
//
// Nothing here is a weapon: an attacker who has a server's key needs no help from this package.
package laboratory
