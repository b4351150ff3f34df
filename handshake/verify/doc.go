// Package verify judges certificates off-line: everything it looks at is given, the time included. No network, no
// clock, no roots of the system. It is what `signet verify` runs, case by case or tens of thousands in one process, and
// it holds the rules of trust that handshake applies to the signers of CRLs.
package verify
