package ca

import (
	"context"
	"time"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
)

// OwnerID identifies a running process to the others. It is drawn at the start and is never a host name.
type OwnerID [16]byte

// RangeID identifies a reservation. It grows with every reservation and is never used twice.
type RangeID int64

// Range is a reservation [From, To) of the indices of (Issuer, Epoch) by Owner.
type Range struct {
	ID      RangeID
	Issuer  pki.IssuerID
	Epoch   pki.Epoch
	From    uint64 // first index
	To      uint64 // first index behind it
	KeyFrom uint64 // the index its range key is derived with
	Nonce   pki.RangeNonce
	Owner   OwnerID
	BaseURL string // of the issuer when it was reserved; names the shard in every CDP of the range
}

// Reservation asks for at most Count indices. The lease is counted by the database's clock.
type Reservation struct {
	Issuer pki.IssuerID
	Epoch  pki.Epoch
	Count  uint64
	Nonce  pki.RangeNonce
	Owner  OwnerID
	Lease  time.Duration
}

// Run is a run [From, To) of indices.
type Run struct{ From, To uint64 }

// Closing ends a range. An index that is neither recorded nor in Unsigned becomes void: an entry of the ledger with its
// serial.
type Closing struct {
	Range  RangeID
	Closer OwnerID      // closing a range of another owner is refused before its lease has passed
	Key    pki.RangeKey // goes into the row: from then on everyone can check serials of the range
	// Serials[i] is the serial of index From+i of the reservation.
	Serials []pki.Serial
	// Unsigned are indices that were never signed, in order; only the owner knows them. They can be reserved again.
	Unsigned []Run
	Event    audit.Event // written when something became void
}

// RangeStore keeps reservations. Every method is one durable transaction.
type RangeStore interface {
	// Reserve takes free indices first, then the next of the epoch, and creates what storing the epoch needs. A range
	// never crosses a block of pki.BlockSize, so that it is in one shard. The ranges of a block have one base URL, that
	// of the issuer now; if the block has another, the rest of it is lost and the next block begins.
	Reserve(ctx context.Context, r Reservation) (Range, error)
	// RenewLeases renews every open range of the owner in one statement and returns how many there are.
	RenewLeases(ctx context.Context, owner OwnerID, lease time.Duration) (int, error)
	// CloseRange returns how many indices became void. It does nothing to a range that is already closed.
	CloseRange(ctx context.Context, c Closing) (voids int, err error)
	// OpenRanges returns the open ranges of an owner, in order of id.
	OpenRanges(ctx context.Context, owner OwnerID) ([]Range, error)
	// ExpiredRanges returns at most limit open ranges whose lease has passed, in order of id, after one (zero: from the
	// first).
	ExpiredRanges(ctx context.Context, after RangeID, limit int) ([]Range, error)
	// RaiseRetention makes the issuer answer for certificates for keep after they have expired, from the database's
	// present time on. It never shortens the retention; if that is already as long, it does nothing and writes no
	// event.
	RaiseRetention(ctx context.Context, issuer pki.IssuerID, keep time.Duration, event audit.Event) error
}

// Entry is one certificate to record, with the proof that this process still holds its index, and what it must not
// collide with.
type Entry struct {
	inventory.Certificate
	Range       RangeID
	Names       []inventory.Name
	Authority   bool        // the certificate is an authority's
	Certifies   bool        // it certifies the key of an issuer here: recording needs that issuer to exist, and keeps it from being deleted
	KeyMaterial pki.KeyHash // SHA-256 of the key material; see pki.HashKeyMaterial
	RequestID   string      // empty: none
	Digest      [32]byte    // of the request, when RequestID is set
	Approval    ApprovalID  // zero: none was needed; else recording needs the request to be approved, and makes it issued
	Footing     Footing     // zero: it is recorded whatever the standing of its issuer
	Event       audit.Event // written if, and in the transaction in which, the certificate is recorded
}

// Footing is what a certificate depends on, and how far the ledger was read when that was judged.
type Footing struct {
	Seq     uint64       // of the ledger
	Serials []pki.Serial // of the issuer's certificates and of those above it
	Key     pki.KeyHash  // of the issuer
}

// Outcome is the result for one entry. Zero is no outcome.
type Outcome uint8

// The outcomes of recording. Every entry but a Recorded one is not issued, and its index becomes void when its range
// closes. If several apply to an entry, the first of RangeLost, KeyBlocked, IssuerGone, IssuerNews, RequestUsed,
// ApprovalUsed is returned.
const (
	OutcomeNone Outcome = iota
	Recorded
	KeyBlocked   // the key was blocked meanwhile
	RequestUsed  // another certificate was recorded for the same request id
	RangeLost    // the range is closed, or another's: this process was away longer than its lease
	ApprovalUsed // the request is not approved, or has its certificate
	IssuerNews   // the ledger has news about the Footing of this or another entry of the batch, or the issuer's key is blocked: judge again
	IssuerGone   // the issuer that it certifies was deleted
)

// Answered is the answer to a request id: either a Certificate or an Approval. A request that was filed for approval is
// answered by its approval, whatever the decision.
type Answered struct {
	Digest      [32]byte // of the request
	Certificate inventory.Certificate
	Approval    ApprovalID
}

// PassedEpoch is an epoch whose certificates have all expired.
type PassedEpoch struct {
	Epoch   pki.Epoch
	Issuers []pki.IssuerID // that reserved indices in it
}

// CertificateStore stores what was signed.
type CertificateStore interface {
	// Record is one transaction: it locks the range rows, takes the key-blocks lock shared, and then reads blocked
	// keys, the end of the ledger, request ids and approvals in later statements. It returns the outcomes in the order
	// of the entries. An error leaves open whether any entry was recorded.
	Record(ctx context.Context, owner OwnerID, entries []Entry) ([]Outcome, error)
	// FindRequest returns what was recorded, or filed for approval, under a request id within 24 hours, or an error of
	// KindNotFound.
	FindRequest(ctx context.Context, account, requestID string) (Answered, error)
	// ForgetRequests removes at most limit request ids that are older than 24 hours and returns how many it removed.
	ForgetRequests(ctx context.Context, limit int) (int, error)
	// KeysBlockedSince returns the hashes, of SPKIs and of key material, that were blocked at or after a time by the
	// database's clock, less what a transaction may take to commit, and the time to ask from next. The zero time asks
	// for all.
	KeysBlockedSince(ctx context.Context, since time.Time) (hashes []pki.KeyHash, next time.Time, err error)
	// PassedEpochs returns the epochs that have passed and still hold certificates or closed ranges.
	PassedEpochs(ctx context.Context) ([]PassedEpoch, error)
	// DropEpoch removes the certificates and the ranges, except open ones, of an epoch that passed longer ago than keep
	// by the database's own clock; otherwise KindFailedPrecondition. If the database cannot drop them whole, it removes
	// at most limit rows in one transaction. done is true if nothing is left, if another instance is removing them, or
	// if the database has no clock of its own and its records do not confirm yet that the epoch has passed.
	DropEpoch(ctx context.Context, epoch pki.Epoch, keep time.Duration, limit int) (done bool, err error)
}

// AuditStore writes events that belong to no other mutation, such as refusals.
type AuditStore interface {
	AppendAudit(ctx context.Context, events []audit.Event) error
}

// Statuses knows the status of the certificates of the issuers here. It is asked for every certificate, and must
// usually answer from memory.
type Statuses interface {
	// Seq returns the sequence of the ledger up to which everything is known.
	Seq() uint64
	// CatchUp reads the ledger up to its present end.
	CatchUp(ctx context.Context) error
	// StatusOf returns the status of a certificate and, if it is revoked or on hold, the reason. An error means that
	// the status is not known now.
	StatusOf(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (pki.Status, pki.Reason, error)
}

// IssuerChange describes a change of an issuer. A nil field stays as it is.
type IssuerChange struct {
	BaseURL  *string
	Succeeds *pki.IssuerID // the zero ID: none
}

// IssuerStore stores issuers.
type IssuerStore interface {
	// CreateIssuer refuses (KindConflict) a label, subject name or key that is already known, and the key of a deleted
	// issuer, unless the new issuer is foreign: a foreign one brings its certificate.
	CreateIssuer(ctx context.Context, issuer Issuer, event audit.Event) error
	// AddIssuerCertificate adds a certificate of the issuer's name and key; a chosen one replaces the one chosen
	// before. It makes a pending issuer active.
	AddIssuerCertificate(ctx context.Context, issuer pki.IssuerID, certificate IssuerCertificate, event audit.Event) error
	// SetIssuerState moves an issuer between active, disabled and retired; retired is final.
	SetIssuerState(ctx context.Context, issuer pki.IssuerID, state IssuerState, event audit.Event) error
	// UpdateIssuer changes an issuer. A base URL holds for ranges reserved from now on. An issuer that would succeed
	// itself, directly or through others, is KindInvalid, even if only two concurrent changes together would make it
	// so.
	UpdateIssuer(ctx context.Context, issuer pki.IssuerID, change IssuerChange, event audit.Event) error
	// DeleteIssuer deletes a pending issuer. It refuses (KindFailedPrecondition) any other, one that is being adopted,
	// one whose key was certified or which reserved indices, and one that another succeeds. From then on CreateIssuer
	// refuses its key (KindConflict).
	DeleteIssuer(ctx context.Context, issuer pki.IssuerID, event audit.Event) error
	// Issuers returns every issuer with its certificates, the chosen one first, in order of creation.
	Issuers(ctx context.Context) ([]Issuer, error)
}

// Inventory answers questions about issued certificates.
type Inventory interface {
	// GetCertificate returns KindNotFound if no certificate with this serial is recorded there.
	GetCertificate(ctx context.Context, issuer pki.IssuerID, serial pki.Serial, position pki.Position) (inventory.Certificate, error)
	// ListCertificates returns at most limit certificates after the cursor, in the order that the filter implies.
	ListCertificates(ctx context.Context, filter inventory.Filter, cursor string, limit int) (inventory.Page, error)
	// CountCertificates counts up to a bound, and estimates beyond it.
	CountCertificates(ctx context.Context, filter inventory.Filter) (inventory.Count, error)
}
