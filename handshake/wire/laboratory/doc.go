// Package laboratory shows why a leaked key matters, by experiment: it records sessions on the loopback network as an
// eavesdropper would, and attacks the recordings with the server's private key.
//
// A session of TLS 1.2 with RSA key transport falls: the session's secret stands in the recording, encrypted to that key.
// A session of TLS 1.3 does not: its secret was never sent, and the keys that made it are forgotten. The key is good for
// one thing there, to pose as the server from now on, until its certificate is revoked and people look.
//
// Nothing here is a weapon: whoever has a server's key needs no help of ours.
package laboratory
