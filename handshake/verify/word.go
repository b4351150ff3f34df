package verify

import (
	"slices"
	"time"

	"signet.example/signet/pki"
)

// Word is what one source says of a certificate, as far as it is weighed against others.
type Word struct {
	Status     pki.Status
	Final      bool      // a revocation that cannot be taken back: neither a hold nor an answer for a serial never issued
	ThisUpdate time.Time // when it was so; zero if the source does not say
}

// Outweighs decides between two words: a revocation that cannot be taken back counts before everything; of what says good or hold the later;
// else what explains most.
func (w Word) Outweighs(other Word) bool {
	if w.Final != other.Final {
		return w.Final
	}
	if w.says() && other.says() && !w.ThisUpdate.Equal(other.ThisUpdate) {
		// A hold, or an answer for a serial that was never issued, can be taken back: the later word counts, and of two
		// of the same moment the stricter one, which weighs more. Of two that agree too: a third must not come between them.
		return w.ThisUpdate.After(other.ThisUpdate)
	}
	return Weight(w.Status) > Weight(other.Status)
}

// says reports whether a word states good or revoked.
func (w Word) says() bool {
	return w.Status == pki.StatusGood || w.Status == pki.StatusRevoked || w.Status == pki.StatusNotIssued
}

// Weight orders what a status is worth when it is not contradicted, and what explains most when there is none.
func Weight(status pki.Status) int {
	order := [...]pki.Status{
		pki.StatusNotCovered, pki.StatusTooNew, pki.StatusUnreachable, pki.StatusUnknown, pki.StatusInvalid, pki.StatusStale,
		pki.StatusExempt, pki.StatusGood, pki.StatusNotIssued, pki.StatusRevoked,
	}
	return slices.Index(order[:], status)
}
