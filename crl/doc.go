// Package crl knows the bytes and the rules of certificate revocation lists (RFC 5280, Section 5 and Section 6.3), and
// nothing else: no network, no clock, no files. It is made for an authority that publishes lists of a million entries
// and for a stranger that reads anybody's.
//
// # Writing
//
// An Arena keeps the entries of one list encoded, in the order they happened, so that the list as of any moment is a
// few slices of it. A Template holds everything else. Template.Sign makes a list, Template.Assemble makes the same
// bytes again from a signature that was kept. Check is the self-examination before a list is published.
//
// # Reading
//
// Parse and Read walk a list once, hash it on the way and keep an index of serial numbers; the list itself need not
// stay in memory. Serial numbers are matched by the content octets of their DER INTEGER, so the negative and over-long
// ones of other authorities are just octets.
//
// # Judging
//
// Judge is RFC 5280, Section 6.3.3: one certificate, any number of lists (complete, delta, indirect, partitioned by
// name, reason or kind), and one of three answers. Undetermined is the zero value and never means good.
package crl
