// Package protocol reads the octets of TLS 1.2 and 1.3: the messages of a handshake, and protected records if their
// keys are known. It knows octets and rules, no connection and no clock. Everything in it is a pure function of its
// arguments, except for an Opener, which counts the records it has opened.
//
// It is for showing a handshake, not for running one: it checks the form of messages, not whether they make sense. All
// input is taken as hostile; no allocation is larger than a small multiple of the input.
package protocol
