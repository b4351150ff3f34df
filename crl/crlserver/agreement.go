package crlserver

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

const (
	sampled    = 16     // entries that CompareMemory examines
	compareRun = 10_000 // ledger entries that a comparison reads in one run

	// compareRest is the pause after a run, as a multiple of its length, at most restMax: to compare a list of a
	// million must not occupy a processor on a busy machine.
	compareRest = 9
)

// DisagreementError says that a list that is served differs from the ledger at the list's own sequence, or is not
// signed by its issuer.
type DisagreementError struct {
	Head Head
	Err  error
}

// Error names the list, its number and its ledger sequence.
func (e *DisagreementError) Error() string {
	return fmt.Sprintf("%s number %d at ledger entry %d: %v", e.Head.List, e.Head.Number, e.Head.Seq, e.Err)
}

// Unwrap returns the cause.
func (e *DisagreementError) Unwrap() error { return e.Err }

// Compare reads a list back from the octets that clients get, verifies its signature, and compares its entries,
// including reasons, times and the removals of a delta, with the ledger in the database. It trusts nothing that the
// list was made from. An imported list must have every certificate that the ledger revokes, but may have more entries
// and other reasons. Compare reads the whole ledger of the list's scope, with pauses, so that the database has nine
// tenths of its time for others. It takes about 70 octets of memory per entry. The error is a *DisagreementError, or
// says what prevented the comparison.
func (p *Publisher) Compare(ctx context.Context, list List) error {
	document, head, ok := p.Document(list)
	if !ok {
		return nil
	}
	p.mu.RLock()
	issuer := p.issuers[list.Issuer].issuer
	p.mu.RUnlock()
	if issuer.Key == (pki.KeyHash{}) { // no longer configured
		return nil
	}
	read, err := crl.Read(document.Reader(), document.Size())
	if err == nil {
		err = read.VerifyKey(issuer.Public, issuer.Key)
	}
	if err != nil {
		return &DisagreementError{head, err}
	}
	if issuer.Offline || head.imported() {
		return p.compareImported(ctx, read, head)
	}
	want, err := p.ledgerSet(ctx, head)
	if err != nil {
		return err
	}
	count, sum := 0, uint64(0)
	for entry := range read.Entries() {
		serial, err := pki.SerialFromBytes(entry.Serial)
		if err != nil {
			return &DisagreementError{head, err}
		}
		if entry.Reason == pki.RemoveFromCRL {
			entry.RevokedAt = time.Time{} // it is the time when the delta was made
		}
		count, sum = count+1, sum+entrySum(serial, entry.Reason, entry.RevokedAt, entry.InvalidityAt)
	}
	if count != want.count || sum != want.sum {
		return &DisagreementError{head, fmt.Errorf("it has %d entries and should have %d by the ledger, or their content differs", count, want.count)}
	}
	return nil
}

// CompareMemory compares some entries of a list, chosen at random, with the Universe, from which OCSP answers. It
// skips entries that have changed there since, those that the Universe has not reached yet, and those of weeks that
// have passed. It also skips lists of off-line issuers, which have no OCSP, and other imported lists. The error is a
// *DisagreementError, or says what prevented the comparison.
func (p *Publisher) CompareMemory(ctx context.Context, list List) error {
	document, head, ok := p.Document(list)
	p.mu.RLock()
	online := ok && p.issuers[list.Issuer].online()
	p.mu.RUnlock()
	if !online || head.imported() {
		return nil
	}
	read, err := crl.Read(document.Reader(), document.Size())
	if err != nil {
		return &DisagreementError{head, err}
	}
	for _, entry := range sampleOf(read) {
		serial, err := pki.SerialFromBytes(entry.Serial)
		if err != nil {
			return &DisagreementError{head, err}
		}
		answer, err := p.config.Universe.Lookup(ctx, head.List.Issuer, serial)
		if err != nil {
			return err
		}
		if answer.Seq < head.Seq || answer.EventSeq > head.Seq || answer.Issuance == revocation.CannotTell { // a week that has passed
			continue
		}
		revoked := answer.Status == pki.StatusRevoked
		switch {
		case entry.Reason == pki.RemoveFromCRL && !revoked:
		case revoked && answer.Reason == entry.Reason && answer.RevokedAt.Equal(entry.RevokedAt) && answer.InvalidityAt.Equal(entry.InvalidityAt):
		default:
			return &DisagreementError{head, fmt.Errorf("it has %s for %s, but OCSP answers %s, %s", entry.Reason, serial, answer.Status, answer.Reason)}
		}
	}
	return nil
}

// sampleOf draws at most sampled entries of a list, each with equal probability.
func sampleOf(list *crl.List) (sample []crl.Entry) {
	count := 0
	for entry := range list.Entries() {
		if count++; len(sample) < sampled {
			sample = append(sample, entry)
		} else if i := rand.IntN(count); i < sampled {
			sample[i] = entry
		}
	}
	return sample
}

// compareImported is Compare for an imported list, which also has the holds of the ceremony and serial numbers that no
// ledger entry could have.
func (p *Publisher) compareImported(ctx context.Context, list *crl.List, head Head) error {
	revoked := make(map[pki.Serial]bool)
	for entry, err := range p.ledgerEntries(ctx, head) {
		if err != nil {
			return err
		}
		if revoked[entry.Serial] = true; !entry.Kind.Revokes() {
			delete(revoked, entry.Serial)
		}
	}
	if _, missing := missingFrom(list, maps.Keys(revoked), head.Expired); missing != nil {
		return &DisagreementError{head, missing}
	}
	return nil
}

// ledgerSet returns what a list must say according to the ledger.
func (p *Publisher) ledgerSet(ctx context.Context, head Head) (listedSet, error) {
	set := listedSet{delta: head.List.Kind == KindDelta, shards: map[pki.Shard]map[uint64]uint64{}, foreign: map[pki.Serial]uint64{}}
	for entry, err := range p.ledgerEntries(ctx, head) {
		if err != nil {
			return set, err
		}
		set.apply(&entry)
	}
	return set, nil
}

// ledgerEntries yields, in order and with pauses, the ledger entries that make a list: up to its sequence, and for a
// delta from that of its base.
func (p *Publisher) ledgerEntries(ctx context.Context, head Head) iter.Seq2[revocation.Entry, error] {
	scope := revocation.Whole(head.List.Issuer)
	if head.List.Sharded {
		scope = revocation.OfShard(head.List.Issuer, head.List.Shard)
	}
	return func(yield func(revocation.Entry, error) bool) {
		began, read := p.config.Now(), 0
		for entry, err := range p.config.Universe.Entries(ctx, scope, head.BaseSeq, head.Seq) {
			if err != nil {
				yield(entry, err)
				return
			}
			if read++; read%compareRun == 0 {
				select {
				case <-ctx.Done():
					yield(entry, ctx.Err())
					return
				case <-time.After(min(restMax, compareRest*p.config.Now().Sub(began))):
				}
				began = p.config.Now()
			}
			listed := head.List.Sharded || entry.Foreign || entry.Position.Epoch >= head.From
			if entry.Kind != revocation.KindRestore && listed && !yield(entry, nil) {
				return
			}
		}
	}
}

// listedSet is the content that a list must have, computed from ledger entries in order: a sum for each certificate on
// it, and the number and the sum of all. Two sets with the same number and sum are equal, except with probability
// 2^-64. That detects mistakes, not manipulation.
type listedSet struct {
	delta   bool                            // a release since the base is an entry with removeFromCRL
	shards  map[pki.Shard]map[uint64]uint64 // sums by index
	foreign map[pki.Serial]uint64
	count   int
	sum     uint64
}

// apply applies a ledger entry, which replaces earlier ones of its certificate.
func (l *listedSet) apply(e *revocation.Entry) {
	switch {
	case e.Kind.Revokes():
		l.set(e, entrySum(e.Serial, e.Reason, e.RevokedAt, e.InvalidityAt), 1)
	case l.delta:
		l.set(e, entrySum(e.Serial, pki.RemoveFromCRL, time.Time{}, time.Time{}), 1)
	default:
		l.set(e, 0, 0)
	}
}

// set replaces the sum of a certificate. entries is 1 if the certificate is on the list, else 0.
func (l *listedSet) set(e *revocation.Entry, sum uint64, entries int) {
	var was uint64
	var listed bool
	if e.Foreign {
		was, listed = replace(l.foreign, e.Serial, sum, entries > 0)
	} else {
		shard := l.shards[e.Position.Shard()]
		if shard == nil {
			shard = make(map[uint64]uint64)
			l.shards[e.Position.Shard()] = shard
		}
		was, listed = replace(shard, e.Position.Index, sum, entries > 0)
	}
	if l.count, l.sum = l.count+entries, l.sum+sum-was; listed {
		l.count--
	}
}

// replace stores or removes a value and returns the previous one.
func replace[K comparable](m map[K]uint64, key K, value uint64, there bool) (was uint64, listed bool) {
	was, listed = m[key]
	if delete(m, key); there {
		m[key] = value
	}
	return was, listed
}

// entrySum returns the sum of an entry of a list. Times count to the second, as in lists.
func entrySum(s pki.Serial, reason pki.Reason, revokedAt, invalidityAt time.Time) uint64 {
	text := append(s[:], byte(reason))
	for _, at := range []time.Time{revokedAt, invalidityAt} {
		text = binary.BigEndian.AppendUint64(text, uint64(at.Unix()))
	}
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:])
}
