package revocation

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Proof is how the compromise of a key was shown. The front door verifies it; here it is written down.
type Proof string

// The proofs that are accepted.
const (
	ProofChallenge  Proof = "challenge"   // the key signed the time
	ProofCSR        Proof = "csr"         // the key signed a request with the common name that says so
	ProofPrivateKey Proof = "private-key" // the private key was shown; it is never kept
	ProofOfficer    Proof = "officer"     // an administrator's word
)

// KeyBlock says which key must never be certified again, and why.
type KeyBlock struct {
	SPKI         pki.KeyHash // of the SubjectPublicKeyInfo
	Material     pki.KeyHash // of the key material, however it is encoded (pki.HashKeyMaterial)
	Proof        Proof
	Comment      string
	InvalidityAt time.Time // since when the key must be doubted; zero: not stated
}

// BlockReceipt says what blocking a key came to.
type BlockReceipt struct {
	Already bool   // it was blocked before
	Revoked int    // certificates revoked, or whose reason became keyCompromise, in the same transaction
	Seq     uint64 // the ledger reaches here
	Job     JobID  // not zero: there were too many, and this job revokes them
}

// blockLimit is how many certificates are revoked in the transaction that blocks their key.
const blockLimit = 10_000

// KeyBooks is what the blocking of keys needs kept.
type KeyBooks interface {
	// BlockKey blocks both hashes and, unless more than limit certificates carry the key, revokes all that have not
	// expired, across issuers, in one transaction that excludes the recording of certificates; above it, job is stored,
	// running, in the same transaction. A key that is blocked already is swept again. Where it costs a round trip to
	// read back what was appended, it returns the first entries with Seq > after, in order, perhaps not all. ErrStale: try again.
	BlockKey(ctx context.Context, block KeyBlock, job Job, at time.Time, limit int, after uint64) (BlockReceipt, []Entry, error)

	// BlockedKeys returns those of the hashes that are blocked.
	BlockedKeys(ctx context.Context, hashes []pki.KeyHash) ([]pki.KeyHash, error)
}

// BlockKey blocks a compromised key and revokes every certificate that carries it, of every issuer, with reason
// keyCompromise. No certificate with the key can be recorded once it returns. The grant is for auth.ActionManage, or for auth.ActionBlock of this key.
// Errors: KindInvalid, KindDenied, KindUnavailable (it may have happened: repeat).
func (l *Ledger) BlockKey(ctx context.Context, grant auth.Grant, block KeyBlock) (BlockReceipt, error) {
	const op = "block key"
	switch {
	case !grant.Allows(auth.ActionManage, "") && !grant.Allows(auth.ActionBlock, block.SPKI.String()):
		return BlockReceipt{}, pki.Errorf(pki.KindDenied, op, "%s may not block keys", grant.Principal().ID)
	case l.config.Keys == nil:
		return BlockReceipt{}, pki.Errorf(pki.KindFailedPrecondition, op, "this ledger keeps no blocked keys")
	case block.SPKI == (pki.KeyHash{}) || block.Material == (pki.KeyHash{}):
		return BlockReceipt{}, pki.Errorf(pki.KindInvalid, op, "both hashes of the key are needed").InField("key")
	}
	switch block.Proof {
	case ProofChallenge, ProofCSR, ProofPrivateKey, ProofOfficer:
	default:
		return BlockReceipt{}, pki.Errorf(pki.KindInvalid, op, "%.32q is no proof of a compromise", block.Proof).InField("proof")
	}
	job := Job{
		State: JobRunning, Selector: Selector{Keys: []pki.KeyHash{block.SPKI, block.Material}}, Reason: pki.KeyCompromise, InvalidityAt: block.InvalidityAt,
		Principal: grant.Principal(), Actor: grant.Principal().ID, Comment: fmt.Sprintf("key %s is blocked", block.SPKI),
	}
	rand.Read(job.ID[:])
	var receipt BlockReceipt
	var news []Entry
	seen := l.config.Universe.Seq()
	err := unlessStale(func() (err error) {
		if err = l.mayWrite(op); err != nil {
			return err
		}
		receipt, news, err = l.config.Keys.BlockKey(ctx, block, job, l.config.Now(), blockLimit, seen)
		return err
	})
	if err == nil {
		err = l.config.Universe.notBack(seen, receipt.Seq-uint64(receipt.Revoked))
	}
	if err != nil {
		return BlockReceipt{}, err
	}
	return receipt, l.config.Universe.appended(ctx, news, receipt.Seq)
}
