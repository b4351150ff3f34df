package revocation

import (
	"context"
	"iter"
	"time"

	"signet.example/signet/pki"
)

// UniverseConfig says what a Universe follows.
type UniverseConfig struct {
	Log    Log    // required
	Ranges Ranges // required

	// Now is the clock that tells which weeks have passed. Zero: time.Now.
	Now func() time.Time
}

// Universe holds, in memory, what was issued and what was revoked, as of one prefix of the ledger. It is safe for
// concurrent use.
type Universe struct {
	config UniverseConfig
}

// NewUniverse makes a universe. Load fills it; Run keeps it up to date.
func NewUniverse(config UniverseConfig) (*Universe, error) { return &Universe{config}, nil }

// Load reads ranges and ledger of the epochs that have not passed.
func (u *Universe) Load(ctx context.Context) error { return nil }

// Run follows the ledger until ctx ends: listens, reads when woken, and polls every second in case a wake-up was lost.
// While the database does not answer, the universe keeps what it has.
func (u *Universe) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Seq is the sequence up to which every entry is applied.
func (u *Universe) Seq() uint64 { return 0 }

// Await returns when every entry up to seq is applied.
func (u *Universe) Await(ctx context.Context, seq uint64) error { return nil }

// Lookup answers for a serial. The database is asked only for an index in a range that is open or that this instance
// has not seen, many callers at once, at most every 50 ms. If it must be asked and does not answer, the answer is
// CannotTell with an error of KindUnavailable.
func (u *Universe) Lookup(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (Answer, error) {
	return Answer{}, nil
}

// Entries yields the entries of a scope with after < Seq <= upTo, in ledger order: what a publisher folds into its
// list, last entry of a serial wins. Voids are included (Kind.Revokes). upTo must not be above Seq.
func (u *Universe) Entries(ctx context.Context, scope Scope, after, upTo uint64) iter.Seq2[Entry, error] {
	return func(func(Entry, error) bool) {}
}

// Shards returns the shards of an issuer that exist: those of ranges reserved in weeks that have not passed, whether or
// not anything was issued, in order.
func (u *Universe) Shards(issuer pki.IssuerID) []pki.Shard { return nil }

// Issuers returns the issuers that the universe covers.
func (u *Universe) Issuers() []IssuerKey { return nil }
