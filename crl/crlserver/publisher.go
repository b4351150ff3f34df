package crlserver

import (
	"context"
	"crypto"
	"log/slog"
	"net/http"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// Issuer is an issuer whose lists are published.
type Issuer struct {
	Key     pki.KeyHash      //
	Subject []byte           // DER of its name
	KeyID   []byte           // its subject key identifier
	Public  crypto.PublicKey //
	BaseURL string           // where its lists are, without a trailing slash: "http://pki.example"
	Delta   bool             // publish deltas of the complete list too

	// Signer signs the lists; nil on an instance that has not the key: it serves what others publish.
	Signer crypto.Signer
}

// Config is what a Publisher needs.
type Config struct {
	Publications Publications         // required
	Bases        Bases                // required
	Universe     *revocation.Universe // required; loaded and running

	// Issuers returns what is to be published now. It is asked every second, so it must not block. Required.
	Issuers func() []Issuer

	Instance  revocation.InstanceID // of this process. Required.
	Interval  time.Duration         // every list is rebuilt at least so often. Zero: 6 hours.
	Validity  time.Duration         // from thisUpdate to nextUpdate. Zero: 72 hours.
	Large     time.Duration         // so often a complete list over 1 MiB is rebuilt, if it changed. Zero: 15 minutes.
	MaxAge    time.Duration         // longest time that HTTP caches may keep a list. Zero: 5 minutes.
	Directory string                // also write each list as a file below this folder. Zero: no.
	Log       *slog.Logger          // zero: nothing is logged
	Now       func() time.Time      // zero: time.Now
}

// ListStatus is what there is to know of one list.
type ListStatus struct {
	Head    Head
	Changed uint64    // the first ledger entry that is not on it, 0 if it is up to date
	Failure error     // of the last attempt to publish, nil if it succeeded
	FailAt  time.Time //
}

// Publisher publishes and serves the lists of every issuer. It is safe for concurrent use.
type Publisher struct{ config Config }

// New makes a publisher. Run publishes; Handler serves.
func New(config Config) (*Publisher, error) { return &Publisher{config: config}, nil }

// Load reads the ledger and what was published. Call it once, before anything else.
func (p *Publisher) Load(ctx context.Context) error { return nil }

// Run follows the ledger and publishes until ctx ends.
func (p *Publisher) Run(ctx context.Context) { <-ctx.Done() }

// Reached is the ledger sequence up to which every shard and delta, and every complete list that follows events, is
// served by this instance.
func (p *Publisher) Reached() uint64 { return 0 }

// Await returns when Reached is at least seq, or ctx ends.
func (p *Publisher) Await(ctx context.Context, seq uint64) error { return nil }

// Lists reports every list, in the order of their names.
func (p *Publisher) Lists() []ListStatus { return nil }

// Check reports what keeps lists from being published: the first list whose nextUpdate is close or has passed, or a
// database that went back.
func (p *Publisher) Check() error { return nil }

// Document returns the octets and head of a list as they are served now.
func (p *Publisher) Document(list List) (crl.Document, Head, bool) { return nil, Head{}, false }

// Handler serves GET and HEAD of /crl/{issuer}.crl, /crl/{issuer}/{epoch}-{block}.crl, /crl/{issuer}/delta.crl and
// /crl/{issuer}/index.json.
func (p *Publisher) Handler() http.Handler { return http.NotFoundHandler() }
