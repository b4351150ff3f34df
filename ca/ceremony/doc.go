// Package ceremony makes and uses the key of an off-line authority in front of witnesses. The machine needs neither
// database nor network. Each step is shown, and written durably before the next one begins. A digest binds it to the
// step before. The record is kept twice: as JSON lines for programs, and as pages of fixed width for signatures.
//
// A directory holds the state that outlives a ceremony:
//
//	ceremony.json          what was signed and revoked, and the last CRL number
//	root.pem               the certificate of the authority
//	keys/                  its encrypted key; for a key in a token, its serial secret
//	records/NAME.jsonl     one ceremony; NAME is its date, kind and number
//	records/NAME.txt       the same for paper
//	records/NAME.pem       what it signed: a certificate with those above it
//	records/NAME.crl       or a CRL in DER
package ceremony
