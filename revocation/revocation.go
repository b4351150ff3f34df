// Package revocation is the only writer of a certificate's status. Every change is an entry of one append-only, totally
// ordered ledger; what CRL and OCSP say are functions of (ledger prefix, clock).
//
//   - Ledger changes status: Revoke, ChangeReason, Hold, Release, Import, MergeCRL, AdoptCRL, BlockKey.
//   - Universe follows the ledger in memory and answers for serials: Lookup. Publishers read a Scope of it and are
//     woken by a Watch.
//   - Jobs revokes many certificates, in chunks that survive a crash.
package revocation

import (
	"encoding/hex"
	"fmt"
	"time"

	"signet.example/signet/pki"
)

// Kind is what an entry of the ledger does. Zero is no kind. The numbers are stored.
type Kind uint8

// The kinds.
const (
	KindNone         Kind = 0
	KindRevoke       Kind = 1
	KindReasonChange Kind = 2 // of a revoked certificate, to keyCompromise only
	KindHold         Kind = 3
	KindRelease      Kind = 4 // from hold
	KindVoid         Kind = 5 // an index that was reserved, perhaps signed, and never recorded
	KindRestore      Kind = 6 // the database was restored; accounts for a gap in the sequence, names no certificate
)

var kindNames = [...]string{"none", "revoke", "reason-change", "hold", "release", "void", "restore"}

// String returns a lower-case word for people and programs.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "none"
}

// Revokes reports whether a certificate whose last entry has this kind is revoked or on hold, and so is on CRLs. So is
// a void: if a certificate with that serial exists, Signet did not record it.
func (k Kind) Revokes() bool {
	switch k {
	case KindRevoke, KindReasonChange, KindHold, KindVoid:
		return true
	}
	return false
}

// Entry is one event of the ledger. The current status of a certificate is its last entry.
type Entry struct {
	Seq          uint64       // position in the total order, from 1; not always consecutive (restore)
	Issuer       pki.IssuerID //
	Serial       pki.Serial   //
	Position     pki.Position // the certificate's position among those of its issuer; zero if Foreign
	Foreign      bool         // imported or forged: known only by its octets, on complete CRLs only
	Kind         Kind         //
	Reason       pki.Reason   // of KindRevoke, KindReasonChange and KindHold; else Unspecified
	RevokedAt    time.Time    // UTC, seconds; of the revocation, kept by a reason change
	InvalidityAt time.Time    // UTC, seconds: the invalidity date; zero: not stated
	RecordedAt   time.Time    // UTC, microseconds, the database's clock
	Job          JobID        // zero: none
	Actor        string       // who did it: the principal's id
}

// Key names a certificate.
type Key struct {
	Issuer pki.IssuerID
	Serial pki.Serial
}

// Claim is a Key with the position that its serial claims. Certificates are stored by position, not by serial: the
// caller unmasks the serial first (Universe.Claim), and the store compares the serials.
type Claim struct {
	Key
	Position pki.Position
	Dense    bool // the serial claims a position at all
}

// Scope is what one CRL covers: a whole issuer, or one shard of it. Whole and OfShard make one. It is comparable.
type Scope struct {
	Issuer  pki.IssuerID
	Shard   pki.Shard
	Sharded bool // false: everything of the issuer, foreign serials included
}

// Whole returns the scope of everything of an issuer.
func Whole(issuer pki.IssuerID) Scope { return Scope{Issuer: issuer} }

// OfShard returns the scope of one shard of an issuer.
func OfShard(issuer pki.IssuerID, shard pki.Shard) Scope {
	return Scope{Issuer: issuer, Shard: shard, Sharded: true}
}

// Covers reports whether the entry belongs to the scope.
func (s Scope) Covers(e Entry) bool {
	if s.Issuer != e.Issuer || e.Kind == KindRestore {
		return false
	}
	return !s.Sharded || !e.Foreign && e.Position.Shard() == s.Shard
}

// Issuance says whether a certificate was issued, as far as it is known. Zero is CannotTell.
type Issuance uint8

// The values of Issuance.
const (
	CannotTell  Issuance = iota // issuer not ours, week passed, in an open range, or the database is needed and does not answer
	NeverIssued                 // as far as Signet knows, this issuer never issued a certificate with this serial
	Issued                      // it was issued, or is known to exist: imported or forged serials on the ledger
	NotCovered                  // Signet did not issue it, and its issuer has signed elsewhere too, so it cannot be known
)

var issuanceNames = [...]string{"cannot-tell", "never-issued", "issued", "not-covered"}

// String returns a lower-case word.
func (i Issuance) String() string {
	if int(i) < len(issuanceNames) {
		return issuanceNames[i]
	}
	return "cannot-tell"
}

// Answer is what a Universe says about a serial.
type Answer struct {
	Issuance     Issuance
	Status       pki.Status // Good, Revoked, NotIssued, or Unknown if it cannot tell
	Kind         Kind       // of the last entry; KindNone if there is none
	Reason       pki.Reason // if Revoked; CertificateHold means it may come back
	RevokedAt    time.Time  // if Revoked
	InvalidityAt time.Time  // if Revoked and stated
	EventSeq     uint64     // the last entry of this serial; 0: none
	Seq          uint64     // the answer follows from the ledger up to here
}

// JobID names a mass revocation. Zero is none.
type JobID [16]byte

// String returns lower-case hexadecimal, 32 digits.
func (id JobID) String() string { return hex.EncodeToString(id[:]) }

// ParseJobID reads 32 hexadecimal digits.
func ParseJobID(text string) (JobID, error) {
	octets, err := hex.DecodeString(text)
	if err != nil || len(octets) != len(JobID{}) {
		return JobID{}, fmt.Errorf("job %.64q: want 32 hexadecimal digits", text)
	}
	return JobID(octets), nil
}
