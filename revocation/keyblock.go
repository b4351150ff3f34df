package revocation

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Proof is how the compromise of a key was shown. The API verifies the proof; the ledger records its kind.
type Proof string

// The proofs that are accepted.
const (
	ProofChallenge  Proof = "challenge"   // the key signed the time
	ProofCSR        Proof = "csr"         // the key signed a request whose common name states the compromise
	ProofPrivateKey Proof = "private-key" // the private key was presented; it is never kept
	ProofOfficer    Proof = "officer"     // an administrator stated it
)

// KeyBlock says which key must never be certified again, and why.
type KeyBlock struct {
	SPKI         pki.KeyHash // of the SubjectPublicKeyInfo
	Material     pki.KeyHash // of the key material, however it is encoded (pki.HashKeyMaterial)
	Proof        Proof
	Comment      string
	InvalidityAt time.Time // invalidity date of the revocations; zero: not stated
}

// BlockedKey is a key that was blocked, as it was the first time.
type BlockedKey struct {
	SPKI    pki.KeyHash
	Proof   Proof
	Comment string
	Actor   string    // principal
	At      time.Time // by the clock of the database
}

// BlockReceipt is the result of blocking a key.
type BlockReceipt struct {
	Already bool   // the key was already blocked
	Revoked int    // certificates revoked, or whose reason became keyCompromise, in the same transaction
	Seq     uint64 // the ledger reaches here
	Job     JobID  // not zero: there were too many certificates, and this job revokes them
}

// blockLimit is how many certificates are revoked in the transaction that blocks their key.
const blockLimit = 10_000

// BlockKey blocks a compromised key and revokes every certificate with it, of every issuer, with reason keyCompromise.
// Once it returns, no certificate with the key can be recorded. The grant is for auth.ActionManage, or for
// auth.ActionBlock of this key. Errors: KindInvalid, KindDenied, KindUnavailable (it may have happened: repeat).
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
		Principal: grant.Principal(), Comment: fmt.Sprintf("key %s is blocked", block.SPKI),
	}
	rand.Read(job.ID[:])
	var receipt BlockReceipt
	var news []Entry
	seen := l.config.Universe.Seq()
	defer l.config.Universe.writing()()
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
