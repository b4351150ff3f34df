// Package rpc is the gRPC side of the API. It converts a message into domain values, obtains a Grant, makes one call,
// and converts the answer or the error back. Protobuf is used only below api. REST calls pass through the same
// interceptors (api/rest).
package rpc

import (
	"cmp"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/ca/profile/rollout"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// Config configures the API.
type Config struct {
	Authenticator *auth.Authenticator  // required
	Credentials   *auth.Credentials    // required
	Audit         AuditLog             // required
	Authority     *ca.Authority        // required
	Requests      *approval.Desk       // required; over the same authority
	Rollout       *rollout.Rollout     // required: the profiles
	Ledger        *revocation.Ledger   // required
	Universe      *revocation.Universe // required
	Jobs          *revocation.Jobs     // required
	BlockedKeys   BlockedKeys          // required
	CRLs          CRLs                 // nil: GetCrl fails
	Adoptions     Adoptions            // nil: no CA that ever signed a list can be adopted with its key
	Publication   Publication          // nil: waiting for publication fails

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // for causes that callers are not told; nil: not logged

	InFlight int // most calls at once, a quarter of them with one credential; zero: 1,024
	Streams  int // most streams at once, a quarter of them with one credential; zero: 64
	// Idle is how long a stream may wait for its client to send or receive one message. Zero: 10 min.
	Idle    time.Duration
	Timeout time.Duration // of a unary call; zero: 60 s
	// Rate is the largest number of calls and stream items a second with one credential, and at once. Zero: no limit.
	Rate float64
	// BadLogins is the largest number of wrong credentials a second from one address that are reported and audited.
	// Zero: 5.
	BadLogins float64
}

// API has every service and the interceptors. It is safe for concurrent use.
type API struct {
	config    Config
	health    *health.Server
	calls     chan struct{}
	streams   chan struct{}
	running   *shares       // calls, by principal
	held      *shares       // streams, by principal
	arriving  *shares       // calls whose message is arriving, by principal
	strangers *shares       // the same, without a credential, by network
	rates     *limits       // rates of calls and items, by principal
	failures  *limits       // wrong credentials, by network
	renewals  *limits       // renewals, by account and names
	proofs    *turns        // for verifying proofs of renewal
	verifying *turns        // for reading the whole audit log
	noise     *limits       // refusals that a principal may cause in the audit log
	anyone    *limits       // the same, for all callers without a credential
	unheard   atomic.Uint64 // refusals not written since the last one that was
}

// New returns an API.
func New(c Config) (*API, error) {
	for name, missing := range map[string]bool{
		"Authenticator": c.Authenticator == nil, "Credentials": c.Credentials == nil, "Audit": c.Audit == nil, "Authority": c.Authority == nil, "Requests": c.Requests == nil,
		"Rollout": c.Rollout == nil, "Ledger": c.Ledger == nil, "Universe": c.Universe == nil, "Jobs": c.Jobs == nil,
		"BlockedKeys": c.BlockedKeys == nil,
	} {
		if missing {
			return nil, pki.Errorf(pki.KindInternal, "make API", "no %s", name)
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.InFlight = cmp.Or(c.InFlight, 1024)
	c.Streams = cmp.Or(c.Streams, 64)
	c.Idle = cmp.Or(c.Idle, 10*time.Minute)
	c.Timeout = cmp.Or(c.Timeout, time.Minute)
	c.BadLogins = cmp.Or(c.BadLogins, 5)
	return &API{
		config:    c,
		health:    health.NewServer(),
		calls:     make(chan struct{}, c.InFlight),
		streams:   make(chan struct{}, c.Streams),
		running:   newShares(0, max(1, c.InFlight/4)),
		held:      newShares(0, max(1, c.Streams/4)),
		arriving:  newShares(0, max(1, c.InFlight/4)),
		strangers: newShares(strangersArriving, proofsWaiting),
		rates:     newLimits(c.Rate, 0, c.Now),
		failures:  newLimits(c.BadLogins, 0, c.Now),
		renewals:  newLimits(renewalRate, renewalBurst, c.Now),
		proofs:    newTurns(max(1, runtime.GOMAXPROCS(0)/2), proofsWaiting),
		verifying: newTurns(2, 2),
		noise:     newLimits(10, 50, c.Now),
		anyone:    newLimits(0.1, 50, c.Now),
	}, nil
}

// Register registers every service. The registrar must call Unary and Stream for every call.
func (a *API) Register(r grpc.ServiceRegistrar) {
	signetv1.RegisterCertificateServiceServer(r, &certificateService{api: a})
	signetv1.RegisterIssuerServiceServer(r, &issuerService{api: a})
	signetv1.RegisterRequestServiceServer(r, &requestService{api: a})
	signetv1.RegisterKeyServiceServer(r, &keyService{api: a})
	signetv1.RegisterJobServiceServer(r, &jobService{api: a})
	signetv1.RegisterCredentialServiceServer(r, &credentialService{api: a})
	signetv1.RegisterAuditServiceServer(r, &auditService{api: a})
	healthv1.RegisterHealthServer(r, a.health)
}

// Shutdown makes health checks report that no more calls should be sent here.
func (a *API) Shutdown() { a.health.Shutdown() }
