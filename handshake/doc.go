// Package handshake adds to crypto/tls what crypto/tls leaves out: it asks whether a certificate is still in force.
//
// It is a library for strangers. It works with the certificates of any authority, needs no server of ours, and knows
// only formats (RFC 5280, RFC 6960) and crypto/tls.
package handshake
