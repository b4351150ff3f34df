// Package protocol reads the octets of TLS 1.2 and 1.3: the messages of a handshake, and protected records when one has
// their keys. It knows bytes and rules, no connection and no clock; everything in it is a pure function of its arguments,
// except for an Opener, which counts the records it has opened.
//
// It is for showing a handshake, not for running one: what it reads is not checked for sense, only for form. All input
// is taken as hostile; nothing allocated is larger than a small multiple of the input.
package protocol
