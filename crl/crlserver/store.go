package crlserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// Kind says what a list covers. The zero value is none. The database stores the numbers.
type Kind uint8

// The kinds.
const (
	KindNone     Kind = 0
	KindShard    Kind = 1 // one shard, with an issuing distribution point
	KindComplete Kind = 2 // everything that an issuer revoked
	KindDelta    Kind = 3 // what changed since a complete list
)

// Series is a sequence of CRL numbers: of one shard, or of the complete list of an issuer and its deltas together (RFC
// 5280, Section 5.2.3). One publisher at a time works on a series.
type Series struct {
	Issuer  pki.IssuerID
	Shard   pki.Shard
	Sharded bool // false: complete list and delta
}

// List names one list.
type List struct {
	Series
	Kind Kind
}

// String returns the path below /crl/: "{issuer}.crl", "{issuer}/{epoch}-{block}.crl", "{issuer}/delta.crl".
func (l List) String() string {
	switch l.Kind {
	case KindShard:
		return l.Issuer.String() + "/" + l.Shard.String() + ".crl"
	case KindDelta:
		return l.Issuer.String() + "/delta.crl"
	}
	return l.Issuer.String() + ".crl"
}

// compare orders lists by issuer, and the shards of an issuer by week and block.
func (l List) compare(to List) int {
	return cmp.Or(bytes.Compare(l.Issuer[:], to.Issuer[:]), cmp.Compare(l.Shard.Epoch, to.Shard.Epoch),
		cmp.Compare(l.Shard.Block, to.Shard.Block), cmp.Compare(l.Kind, to.Kind))
}

// Head is a publication without its entries. With the ledger up to Seq, the same octets can be made from it again.
type Head struct {
	List       List
	Number     uint64            // CRL number
	Seq        uint64            // sequence up to which the list includes the ledger
	From       pki.Epoch         // of complete lists and deltas: the first week that is on it
	ThisUpdate time.Time         //
	NextUpdate time.Time         //
	Base       uint64            // of deltas: number of the complete list
	BaseSeq    uint64            // of deltas: its Seq
	BaseUpdate time.Time         // of deltas: its thisUpdate; else any time
	URLs       []string          // of the issuing distribution point
	Freshest   []string          // URLs of the delta
	Signature  crl.Signature     //
	Sum        [sha256.Size]byte // crl.Document.Sum
	Size       int64             // octets
	Entries    int               //
	Final      bool              // the week has passed, and this is its last list
	Expired    []pki.Serial      // of imported lists: revoked certificates that need not be on it
}

// imported reports whether the list was imported, by Import or TakeOver: then only its octets have its signature.
func (h *Head) imported() bool { return len(h.Signature.Value) == 0 }

// ErrFenced is returned by FinishPublication if another publisher has begun since, or has published something newer.
// Nothing was written.
var ErrFenced = errors.New("another publisher was faster")

// Publications stores published lists.
type Publications interface {
	// BeginPublication takes the next number of a series, and its lease. seen is the largest number of the series that
	// the caller has seen published, 0 for none. ok is false if a list with a larger one is published, which must be
	// read first, or if another owner holds the lease. An unused number is lost, which is harmless: numbers need only
	// grow.
	BeginPublication(ctx context.Context, series Series, owner revocation.InstanceID, seen uint64, lease time.Duration) (number uint64, ok bool, err error)

	// FinishPublication releases the lease, stores the heads of lists made with the number, all or none, and wakes the
	// listeners. The number is the fencing token: ErrFenced if a larger one was taken, or if a head is not newer in
	// number, or older in sequence, than the stored one. der holds the octets to store, by the index of their head.
	// Without heads it only releases the lease.
	FinishPublication(ctx context.Context, owner revocation.InstanceID, series Series, number uint64, heads []Head, der map[int][]byte) error

	// PublicationHeads returns the heads published at or after since, by the database's clock, and the present time of
	// that clock. What was published earlier may become visible later, by as long as a transaction takes to commit: at
	// most a minute. The zero time asks for all.
	PublicationHeads(ctx context.Context, since time.Time) (heads []Head, at time.Time, err error)

	// PublicationBytes returns the octets of a list if they were stored; KindNotFound if not, or if the list has
	// another number.
	PublicationBytes(ctx context.Context, list List, number uint64) ([]byte, error)

	// ForgetPublication removes a list for good, if it still has this number. The numbers of its series are kept.
	ForgetPublication(ctx context.Context, list List, number uint64) error

	// ListenPublications calls wake when it has begun to listen, and then after publications; wake must not block. It
	// returns when ctx ends or the connection breaks.
	ListenPublications(ctx context.Context, wake func()) error
}

// Imports stores imported lists.
type Imports interface {
	// AppendAudit writes events that belong to no mutation: refusals.
	AppendAudit(ctx context.Context, events []audit.Event) error
	// ImportPublication stores the list of an off-line issuer with its octets, under its own number, and the audit
	// event, in one transaction, and wakes the listeners. ErrFenced: its number is not larger than every earlier one,
	// or the stored list is of a later sequence; nothing was written.
	ImportPublication(ctx context.Context, head Head, der []byte, event audit.Event) error
}

// Bases reads which base URLs are in certificates.
type Bases interface {
	// ShardBases returns the base URLs of the ranges reserved or changed at or after since, by the database's clock,
	// less what a transaction may take to commit. Each is with its shard, oldest range first. It also returns the
	// present time of that clock. The zero time asks for all.
	ShardBases(ctx context.Context, since time.Time) (bases []ShardBase, at time.Time, err error)
}

// ShardBase is a base URL in certificates of a shard.
type ShardBase struct {
	Issuer pki.IssuerID
	Shard  pki.Shard
	URL    string
}

// Mirror is a place that lists are copied to, for other servers to serve. Every method may be called again after an
// error, and by several instances at once.
type Mirror interface {
	// Put stores a list under its name ("crl/{issuer}.crl"), unless the place has it with the same or a larger CRL
	// number.
	Put(ctx context.Context, name string, document crl.Document, number uint64) error

	// PutIndex calls of with the names that the place has in the folder of the index and below, and stores the result
	// unless it is already stored. It does not replace an index that was stored since it began, but begins again, so
	// that the names are never older than those they replace.
	PutIndex(ctx context.Context, name string, of func(names []string) ([]byte, error)) error

	// Names returns all names that the place has below "crl/", including those that other programs put there.
	Names(ctx context.Context) ([]string, error)

	// Remove removes a list. If there is none, it returns nil.
	Remove(ctx context.Context, name string) error

	// String returns the name of the place for the log.
	String() string
}
