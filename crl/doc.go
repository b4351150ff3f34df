// Package crl implements the format and the rules of certificate revocation lists (RFC 5280, Section 5 and Section
// 6.3), and nothing else: no network, no clock, no files. It serves an authority that publishes lists of a million
// entries, and clients that read the lists of any authority.
//
// # Writing
//
// An Arena keeps the entries of one list encoded, in the order in which they were made, so that the list as of any
// moment consists of a few slices of it. A Template holds everything else. Template.Sign makes a list;
// Template.Assemble makes the same bytes again from a signature that was kept. Check examines a list before it is
// published.
//
// # Reading
//
// Parse and Read go through a list once, hash it at the same time and keep an index of serial numbers; the list itself
// need not stay in memory. Serial numbers are compared by the content octets of their DER INTEGER, so negative and
// over-long ones of other authorities need no special case.
//
// # Judging
//
// Judge implements RFC 5280, Section 6.3.3: it takes one certificate and any number of lists (complete, delta,
// indirect, partitioned by name, reason or kind), and gives one of three answers. Undetermined is the zero value and
// never means good.
package crl
