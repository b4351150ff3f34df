package store

import (
	"context"

	"signet.example/signet/internal/audit"
)

// The distances by which Advance moves the books. A lost copy cannot have got further: a week of expiry gets fewer
// certificates than LostIndices between two backups, and no counter grows by LostSequences in that time.
const (
	LostIndices   = 1 << 18 // a multiple of pki.BlockSize, so that later certificates are in CRL shards of their own
	LostSequences = 1 << 32
)

// Recovery is for a database that went back: restored from a backup, promoted from an asynchronous standby, cloned.
type Recovery interface {
	// Advance moves the books past everything that the lost copy may have handed out, so that nothing is handed out
	// twice, in one transaction with the audit events. No other process may be using the database.
	//   - Every (issuer, epoch) moves to the multiple of LostIndices after its next free index. The indices that it
	//     skips, and
	// free ranges that the lost copy may have used, become lost: they are never issued.
	//   - Sequences of the ledger, CRL numbers and range ids grow by LostSequences. One restore entry in the ledger
	//     accounts for
	// the gap.
	//   - Requests that wait for an approval, or for their certificate, expire, because the lost copy may have issued
	//     it.
	Advance(ctx context.Context, actor string, events []audit.Event) (Advanced, error)

	// Witness reads, at one moment, the facts that a process has to remember to notice such a database (now), and the
	// head that the audit chain had after event seq (then): the zero hash if no batch ends there, or if seq is 0.
	Witness(ctx context.Context, seq uint64) (now Witness, then audit.Hash, err error)
}

// Witness shows how far a database has come. An older copy shows less of it or, if it has grown since, another head of
// the audit chain at the same event. Range ids are not needed: every use of a lost range is in the chain.
type Witness struct {
	Ledger uint64      // last sequence
	Audit  audit.Chain // end of the chain; every mutation of issuers, certificates and status is in it
	Lists  uint64      // number of CRL numbers that lists were published with, which are not in the audit log
}

// Advanced is the result of Advance.
type Advanced struct {
	Epochs uint64 // (issuer, epoch) pairs that were moved
	Ledger uint64 // sequence of the restore entry
	Before uint64 // last sequence before it
}
