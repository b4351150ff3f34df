package verify

import (
	"slices"
	"time"

	"signet.example/signet/pki"
)

// Word is the part of one source's statement about a certificate that is weighed against other sources.
type Word struct {
	Status     pki.Status
	Final      bool      // a revocation for ever: neither a hold nor the answer for a serial never issued
	ThisUpdate time.Time // when the status was so; zero if the source does not say
}

// Outweighs reports whether w counts and other does not. A revocation that cannot be taken back comes first. Otherwise,
// between good and hold, the later word counts. Otherwise, the word that explains most counts.
func (w Word) Outweighs(other Word) bool {
	if w.Final != other.Final {
		return w.Final
	}
	if w.says() && other.says() && !w.ThisUpdate.Equal(other.ThisUpdate) {
		// A hold, or the answer for a serial that was never issued, can be taken back: the later word counts. Of two
		// words of the same moment the stricter counts, since its weight is larger. This holds for two words that
		// agree, too: if the older were kept, a third word from between them could outweigh it.
		return w.ThisUpdate.After(other.ThisUpdate)
	}
	return Weight(w.Status) > Weight(other.Status)
}

// says reports whether a word states good or revoked.
func (w Word) says() bool {
	return w.Status == pki.StatusGood || w.Status == pki.StatusRevoked || w.Status == pki.StatusNotIssued
}

// Weight orders statuses by how much they count if nothing contradicts them. The statuses without a statement are in
// the order of how much they explain.
func Weight(status pki.Status) int {
	order := [...]pki.Status{
		pki.StatusNotCovered, pki.StatusTooNew, pki.StatusUnreachable, pki.StatusUnknown, pki.StatusInvalid, pki.StatusStale,
		pki.StatusExempt, pki.StatusGood, pki.StatusNotIssued, pki.StatusRevoked,
	}
	return slices.Index(order[:], status)
}
