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
	compareRun  = 10_000 // ledger entries that a comparison reads before it rests ...
	sampled     = 16     // entries of a list that are that CompareMemory looks at
	compareRest = 9      // ... this many times as long, at most restMax: a list of a million must not occupy a processor on a busy machine
)

// DisagreementError says that a list that is served differs from the ledger at the list's own sequence, or is not
// signed by its issuer.
type DisagreementError struct {
	Head Head
	Err  error
}

// Error names the list.
func (e *DisagreementError) Error() string {
	return fmt.Sprintf("%s number %d at ledger entry %d: %v", e.Head.List, e.Head.Number, e.Head.Seq, e.Err)
}

// Unwrap returns the cause.
func (e *DisagreementError) Unwrap() error { return e.Err }

// Compare reads a list back from the octets that clients get, verifies its signature, and compares its entries, with
// reasons, times and what a delta removes, with the ledger in the database: it trusts nothing that the list was made
// from. An imported list may have more entries than the ledger, and other reasons: it must have those of the ledger.
// Compare reads the whole ledger of the list's scope, with pauses, so that the database has nine tenths of its time for
// others, and takes about 70 octets an entry. The error is a *DisagreementError, or what prevented the comparison.
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
			entry.RevokedAt = time.Time{} // when the delta was made
		}
		count, sum = count+1, sum+entrySum(serial, entry.Reason, entry.RevokedAt, entry.InvalidityAt)
	}
	if count != want.count || sum != want.sum {
		return &DisagreementError{head, fmt.Errorf("it has %d entries and should have %d by the ledger, or they do not say the same", count, want.count)}
	}
	return nil
}

// CompareMemory compares some entries of a list, chosen at random, with what OCSP answers from, unless that has
// advanced since. The error is a *DisagreementError, or what prevented the comparison. It skips lists of off-line
// issuers, which have no OCSP, and other imported lists.
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
			return &DisagreementError{head, fmt.Errorf("it has %s for %s, and in memory, for OCSP, it is %s, %s", entry.Reason, serial, answer.Status, answer.Reason)}
		}
	}
	return nil
}

// sampleOf draws entries of a list, each with the same chance.
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

// ledgerSet folds the ledger of a list's scope.
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

// listedSet is what a list must say, folded from ledger entries in order: a sum for each certificate on it, and the
// number and the sum of all of them. Two sets with the same number and sum are equal, except with probability 2^-64: it
// detects mistakes, not manipulation.
type listedSet struct {
	delta   bool                            // what was released since the base is taken off
	shards  map[pki.Shard]map[uint64]uint64 // sums by index
	foreign map[pki.Serial]uint64
	count   int
	sum     uint64
}

// apply makes an entry the last of its certificate.
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

// set replaces what a list says about a certificate.
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

// entrySum is a sum over an entry of a list. Times are to the second, as lists have them.
func entrySum(s pki.Serial, reason pki.Reason, revokedAt, invalidityAt time.Time) uint64 {
	text := append(s[:], byte(reason))
	for _, at := range []time.Time{revokedAt, invalidityAt} {
		text = binary.BigEndian.AppendUint64(text, uint64(at.Unix()))
	}
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:])
}
