// Package pki holds the values that all packages of Signet share: serial numbers, issuers, identifiers, reasons,
// statuses and the one error type. It knows no context, no clock and no I/O: everything here is a pure function of its
// arguments and safe for concurrent use.
//
// Zero values are the safe answer: StatusUnknown is zero, and so is KindInternal.
package pki
