package store

import (
	"context"

	"signet.example/signet/internal/audit"
)

// The distances by which Advance moves the books. A copy that was lost can have reached no further: a week gets fewer
// certificates between two backups, and nothing counts to 2^32 in the meantime.
const (
	LostIndices   = 1 << 18 // a multiple of pki.BlockSize: what comes next is in CRL shards of its own
	LostSequences = 1 << 32
)

// Recovery is for a database that went back: restored from a backup, promoted from an asynchronous standby, cloned.
type Recovery interface {
	// Advance moves the books past everything that the lost copy may have handed out, so that nothing is handed out
	// twice. Every (issuer, epoch) moves to the multiple of LostIndices behind the next one that was free; what it skips,
	// and free ranges that the lost copy may have used, become lost: never issued. Sequences of the ledger, CRL numbers and
	// range ids grow by LostSequences, with one restore entry in the ledger that accounts for the gap. Requests that wait for
	// an approval, or for their certificate, expire: the lost copy may have issued it. One transaction, with the audit
	// events; nobody else may be using the database.
	Advance(ctx context.Context, actor string, events []audit.Event) (Advanced, error)

	// Witness reads, at one moment, what a process has to remember to notice such a database, and the head that the audit
	// chain had after event seq: the zero hash if no batch ends there, or if seq is 0.
	Witness(ctx context.Context, seq uint64) (now Witness, then audit.Hash, err error)
}

// Witness is how far a database has come. A copy that is older shows less of it, or another head of the audit chain at the
// same event; it may have grown since. Range ids say nothing more: what a lost range led to is in the chain.
type Witness struct {
	Ledger uint64      // last sequence
	Audit  audit.Chain // end of the chain; every mutation of issuers, certificates and status is in it
	Lists  uint64      // CRL numbers that something was published with, how many: those are not in the audit log
}

// Advanced says what Advance did.
type Advanced struct {
	Epochs uint64 // (issuer, epoch) pairs that were moved
	Ledger uint64 // sequence of the restore entry
	Before uint64 // last sequence before it
}
