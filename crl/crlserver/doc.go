// Package crlserver publishes revocation lists: it follows the ledger, rebuilds the lists that new entries touch, signs
// them one publisher at a time, and serves them over HTTP from memory.
package crlserver
