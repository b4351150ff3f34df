// Package ca issues certificates. Its files stand in the order a certificate is made: a Request is drafted from its
// profile, checked against policy, given an index of a reserved range, encoded, linted, ticketed, signed, recorded, and
// only then released.
//
// No certificate leaves before it is durably recorded, and none can exist that Signet cannot name: the range that an
// index falls in is durable before anything is signed, and with it the serials of the range are determined.
package ca
