// Package ceremony makes and uses the key of an off-line authority in front of witnesses: on a machine that needs neither
// database nor network, step by step, each step shown, written down durably before the next, and bound to the one before
// it by a digest. The record is kept twice: as JSON lines for programs, and as pages of fixed width for signatures.
//
// A directory holds what outlives one ceremony:
//
//	ceremony.json          what was signed and revoked, the last list number
//	root.pem               the certificate of the authority
//	keys/                  its key, encrypted, or with a token the secret beside the key
//	records/NAME.jsonl     one ceremony; NAME is its date, kind and number
//	records/NAME.txt       the same for paper
//	records/NAME.pem       what it signed: a certificate with those above it
//	records/NAME.crl       or a list, in DER
package ceremony
