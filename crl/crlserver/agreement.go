package crlserver

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

const (
	compareRun  = 10_000 // ledger entries that a comparison reads before it rests ...
	compareRest = 9      // ... this many times as long, at most restMax: a list of a million must not take a processor while all else is busy
)

// DisagreementError says that what is served as a list is not what the ledger says at the list's own sequence, or not signed by its issuer.
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

// Compare reads a list back from the octets that clients get, verifies its signature, and holds its entries against the
// ledger in the database: nothing of what it was made from is trusted. The list of an off-line issuer was made from other books and may
// say more than the ledger: what the ledger has must be on it. It reads the ledger of the list's scope, whatever its
// length, with rests, so that the database has nine tenths of its time for others, and takes about 40 octets an entry. The error
// is a *DisagreementError, or what kept it from comparing.
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
	if issuer.Offline {
		return p.compareImported(ctx, read, head)
	}
	want, err := p.ledgerSet(ctx, head)
	if err != nil {
		return err
	}
	var got revokedSet
	for entry := range read.Entries() {
		serial, err := pki.SerialFromBytes(entry.Serial)
		if err != nil {
			return &DisagreementError{head, err}
		}
		if entry.Reason != pki.RemoveFromCRL {
			got.count, got.sum = got.count+1, got.sum+serialSum(serial)
		}
	}
	if got.count != want.count || got.sum != want.sum {
		return &DisagreementError{head, fmt.Errorf("it revokes %d certificates and the ledger %d, and they are not the same", got.count, want.count)}
	}
	return nil
}

// compareImported is Compare for what Import brought in: holds of the ceremony, and serial numbers that no ledger entry could hold,
// are on such a list too.
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
func (p *Publisher) ledgerSet(ctx context.Context, head Head) (revokedSet, error) {
	set := revokedSet{shards: map[pki.Shard]*[pki.BlockSize / 64]uint64{}, foreign: map[pki.Serial]bool{}}
	for entry, err := range p.ledgerEntries(ctx, head) {
		if err != nil {
			return set, err
		}
		set.apply(&entry)
	}
	return set, nil
}

// ledgerEntries yields, in order and with rests, the ledger entries that make a list: up to its sequence, and for a delta from that of its
// base.
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

// revokedSet is a set of revoked certificates, folded from ledger entries in order: of the dense ones a bit each, and of all
// of them their number and a sum over their serials. Two sets with the same number and sum are the same, but for one chance
// in 2^64: it guards against our own mistakes, and a list of a million costs 125 kB.
type revokedSet struct {
	shards  map[pki.Shard]*[pki.BlockSize / 64]uint64 // bits by index
	foreign map[pki.Serial]bool
	count   int
	sum     uint64
}

// apply makes an entry the last of its certificate.
func (r *revokedSet) apply(e *revocation.Entry) {
	is := e.Kind.Revokes()
	if was := r.set(e, is); was == is {
		return
	}
	if is {
		r.count, r.sum = r.count+1, r.sum+serialSum(e.Serial)
	} else {
		r.count, r.sum = r.count-1, r.sum-serialSum(e.Serial)
	}
}

// set changes whether a certificate is revoked and returns whether it was.
func (r *revokedSet) set(e *revocation.Entry, is bool) (was bool) {
	if e.Foreign {
		was = r.foreign[e.Serial]
		r.foreign[e.Serial] = is
		return was
	}
	shard := r.shards[e.Position.Shard()]
	if shard == nil {
		shard = new([pki.BlockSize / 64]uint64)
		r.shards[e.Position.Shard()] = shard
	}
	word, bit := &shard[e.Position.Index%pki.BlockSize/64], uint64(1)<<(e.Position.Index%64)
	was = *word&bit != 0
	if *word &^= bit; is {
		*word |= bit
	}
	return was
}

func serialSum(s pki.Serial) uint64 {
	sum := sha256.Sum256(s[:])
	return binary.BigEndian.Uint64(sum[:])
}
